"""Compares the metrics of `selfspan eval` on summaries with rouge-score and with n-grams, sets and a bootstrap written here.

    summary_metrics.py EVALUATION DATA.jsonl

EVALUATION is the folder that `selfspan eval --out` left; DATA.jsonl the dataset by `selfspan export jsonl`. Prints the largest
differences; the exit status is 1 when one is above 1e-6, or an interval's bound is further from numpy's bootstrap than
the noise of 1,000 samples allows. Needs rouge-score 0.1.2, which brings numpy.
"""

import json
import math
import pathlib
import re
import sys

import numpy
from rouge_score.rouge_scorer import RougeScorer

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SCORER = RougeScorer(TYPES, use_stemmer=True)


BLANKS = " \t\n\v\f\r"


def lines_of(sentences):
    """One sentence a line, without the blanks around it."""
    return "\n".join(s for s in (s.strip(BLANKS).replace("\n", " ") for s in sentences) if s)


def tokens_of(text):
    return re.findall("[a-z0-9]+", text.lower())


def grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def share(part, whole):
    return part / whole if whole else None


def harmony(right, gold, written):
    return share(2 * right, gold + written)


def selection(row, item):
    """The article sentences that the written headers name against those that gold's name."""
    contexts = [k for k, s in enumerate(row["segments"]) if s["kind"] == "context"]
    gold = [s.get("references", []) for s in row["segments"] if s["kind"] == "step"]
    written = item["references"]
    gold_set = {r for g in gold for r in g} & set(contexts)
    written_set = {r for w in written for r in w} & set(contexts)
    both = len(gold_set & written_set)
    return {
        "selected_precision": share(both, len(written_set)),
        "selected_recall": share(both, len(gold_set)),
        "selected_f": harmony(both, len(gold_set), len(written_set)),
    }


def measure(row, item):
    whole = (row.get("answers") or [None])[0]
    gold = whole.split("\n") if whole else [s["text"] for s in row["segments"] if s["kind"] == "step"]
    article = "".join(s["text"] for s in row["segments"] if s["kind"] == "context")
    written = lines_of(item["steps"])
    values = {kind: s.fmeasure for kind, s in SCORER.score(lines_of(gold), written).items()}
    values["words"] = len(re.findall(f"[^{BLANKS}]+", written))
    values["sentences"] = len([line for line in written.split("\n") if line])
    sentences = [tokens_of(line) for line in written.split("\n")]
    source = tokens_of(article)
    trigrams = [g for s in sentences for g in grams(s, 3)]
    values["repeated_3grams"] = share(len(trigrams) - len(set(trigrams)), len(trigrams))
    for n in range(1, 5):
        own = {g for s in sentences for g in grams(s, n)}
        values[f"novel_{n}grams"] = share(len(own - set(grams(source, n))), len(own))
    names = ["selected_precision", "selected_recall", "selected_f"]
    values.update(selection(row, item) if "references" in item else dict.fromkeys(names))
    return values


def read_lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def compare_items(rows, items):
    """The item's own numbers, and the largest difference to selfspan's."""
    worst, found = 0.0, []
    for item in items:
        values = measure(rows[item["id"]], item)
        assert values.keys() == item["metrics"].keys(), (values.keys(), item["metrics"].keys())
        for name, value in values.items():
            theirs = item["metrics"][name]
            if (value is None) != (theirs is None):
                sys.exit(f"{item['id']}: {name} is {theirs}, expected {value}")
            if value is not None:
                worst = max(worst, abs(value - theirs))
        found.append(values)
    return worst, found


def check_interval(name, values, stated, noise):
    """Mean and bounds of a percentile bootstrap with another generator."""
    values = numpy.array([v for v in values if v is not None])
    if len(values) != stated["items"]:
        sys.exit(f"{name}: {stated['items']} items, expected {len(values)}")
    if len(values) == 0:
        return
    means = numpy.random.default_rng(1).choice(values, (4000, len(values))).mean(1)
    low, high = numpy.percentile(means, [2.5, 97.5])
    spread = means.std() + 1e-9
    noise.append(max(abs(low - stated["low"]), abs(high - stated["high"])) / spread)
    if not math.isclose(values.mean(), stated["mean"], abs_tol=1e-9) or noise[-1] > 0.5:
        sys.exit(f"{name}: {stated}, expected {values.mean()} ({low} to {high})")


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = {row["id"]: row for row in read_lines(sys.argv[2])}
    arms = json.load(open(folder / "summary.json", encoding="utf-8"))["arms"]
    worst, noise, count, measured = 0.0, [], 0, {}
    for arm in arms:
        items = read_lines(folder / f"items-{arm['arm'].replace('/', '-')}.jsonl")
        difference, values = compare_items(rows, items)
        worst, count = max(worst, difference), count + len(items)
        measured[arm["arm"]] = {item["id"]: v for item, v in zip(items, values)}
        for name, stated in arm["metrics"].items():
            check_interval(f"{arm['arm']} {name}", [v[name] for v in values], stated, noise)
    for arm in arms:
        own, other = measured[arm["arm"]], measured.get(arm.get("against"), {})
        for name, stated in arm.get("differences", {}).items():
            pairs = [(v[name], other[k][name]) for k, v in own.items() if k in other]
            check_interval(f"{arm['arm']} less {arm['against']} {name}",
                           [a - b for a, b in pairs if a is not None and b is not None], stated, noise)
    print(f"{count} items of {len(arms)} arms, largest difference {worst:g}; "
          f"{len(noise)} intervals, bounds within {max(noise):.2f} standard errors")
    sys.exit(worst > 1e-6 or count == 0)


main()
