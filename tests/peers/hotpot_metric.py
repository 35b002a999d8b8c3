"""HotpotQA's metrics of answers and supporting facts, written from their definition (Yang et al. 2018, arXiv 1809.09600;
answers as SQuAD's, Rajpurkar et al. 2016), to hold eval/tasks/multihop.c against; and rows with predictions to score.

usage: hotpot_metric.py make ROWS PREDICTIONS COUNT SEED     writes JSONL rows and made-up predictions of them
       hotpot_metric.py score ROWS PREDICTIONS SUMMARY       exits 1 where `selfspan eval score --json` says something else
"""
import collections
import json
import random
import re
import string
import sys
import unicodedata


def normalise(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1_of_words(written, gold):
    written, gold = normalise(written), normalise(gold)
    verdicts = ("yes", "no", "noanswer")
    if written != gold and (written in verdicts or gold in verdicts):
        return 0.0
    common = sum((collections.Counter(written.split()) & collections.Counter(gold.split())).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(written.split()), common / len(gold.split())
    return 2 * precision * recall / (precision + recall)


def facts_of(lists, n_context):
    # The first context is the question.
    return {fact for references in lists for fact in references if 1 <= fact < n_context}


def compare_facts(written, gold):
    right = len(written & gold)
    precision = right / len(written) if written else 0.0
    recall = right / len(gold) if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return float(written == gold), f1


def score_item(row, prediction):
    answers, answer = row["answers"], prediction.get("answer")
    exact = answer is not None and any(normalise(answer) == normalise(gold) for gold in answers)
    f1 = max(f1_of_words(answer, gold) for gold in answers) if answer is not None else 0.0
    n_context = sum(segment["kind"] == "context" for segment in row["segments"])
    gold = facts_of([segment.get("references", []) for segment in row["segments"]], n_context)
    facts_exact, facts_f1 = compare_facts(facts_of(prediction["references"], n_context), gold)
    return {"accuracy": float(exact), "f1": f1, "facts_exact": facts_exact, "facts_f1": facts_f1}


# --- made-up rows ---

WORDS = ("a an the A An THE theory ant another yes no noanswer Yes NO old mill red barn Old Mill. barn, U.S.A. "
         "rock-n-roll it's 'a' \"the\" (an) a–b –the— “the” \u00e9t\u00e9 \u00c9T\u00c9 \u0130stanbul \u03a3\u0391\u03a3 \u1e9e "
         "x² ½a Ⅷ 3rd 1,000 the_end _a a\u0301 \u4e2d\u6587 \U0001f600 a\U0001f600the").split(" ")
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\u00a0", "\u2003", "\u2028", "\u3000", "\x1f", "\u200b", "-", ""]


def any_character(draw):
    # Characters of Unicode 3.2: what newer versions added may differ between two programs' tables.
    while True:
        c = chr(draw.randrange(32, 0x110000))
        if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co"):
            return c


def make_text(draw):
    words = [draw.choice(WORDS) if draw.random() < 0.85 else "".join(any_character(draw) for _ in range(draw.randint(1, 4)))
             for _ in range(draw.randint(1, 6))]
    return "".join(word + draw.choice(SPACES) for word in words)


def disturb(draw, text):
    if draw.random() < 0.3:
        return make_text(draw)
    words = text.split(" ")
    for _ in range(draw.randint(0, 2)):
        place = draw.randrange(len(words))
        words[place] = draw.choice([words[place].upper(), words[place].lower(), words[place] + ".", "the " + words[place],
                                    "", draw.choice(WORDS), words[place]])
    if draw.random() < 0.2:
        draw.shuffle(words)
    return " ".join(words)


def make(path_rows, path_predictions, count, seed):
    draw = random.Random(seed)
    with open(path_rows, "w") as rows, open(path_predictions, "w") as predictions:
        for k in range(count):
            n_context, n_step = draw.randint(2, 9), draw.randint(1, 3)
            segments = [{"kind": "context", "text": f"text {s}"} for s in range(n_context)]
            for hop in range(n_step + 1):
                known = n_context + hop
                references = sorted(draw.sample(range(known), draw.randint(1, min(3, known))))
                segments.append({"kind": "step" if hop < n_step else "answer", "text": f"hop {hop}", "references": references})
            answers = [make_text(draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
            rows.write(json.dumps({"id": f"q{k}", "split": "test", "segments": segments, "answers": answers, "meta": {}}) + "\n")
            lists = [[r if draw.random() < 0.7 else draw.randint(-1, n_context + 3) for r in s["references"] * draw.choice([1, 1, 2])]
                     for s in segments if "references" in s]
            answer = None if draw.random() < 0.05 else disturb(draw, draw.choice(answers))
            predictions.write(json.dumps({"id": f"q{k}", "steps": [], "answer": answer,
                                          "references": lists[:draw.randint(0, len(lists))]}) + "\n")


def score(path_rows, path_predictions, path_summary):
    predictions = {p["id"]: p for p in map(json.loads, open(path_predictions))}
    items = [score_item(row, predictions[row["id"]]) for row in map(json.loads, open(path_rows))]
    arm = json.load(open(path_summary))["arms"][0]
    own = {"accuracy": arm["accuracy"], **{name: metric["mean"] for name, metric in arm["metrics"].items()}}
    worst = 0.0
    for name in items[0]:
        known = sum(item[name] for item in items) / len(items)
        worst = max(worst, abs(known - own[name]))
        print(f"{name}: {known:.9f}, selfspan {own[name]:.9f}")
    print(f"{len(items)} items, largest difference of a mean {worst:.3g}")
    sys.exit(0 if worst <= 1e-9 else 1)


if __name__ == "__main__":
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "make":
        make(rest[0], rest[1], int(rest[2]), int(rest[3]))
    else:
        score(*rest)
