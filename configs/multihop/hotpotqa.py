"""Makes rows of the multihop task from HotpotQA's files (hotpot_train_v1.1.json, hotpot_dev_distractor_v1.json).

usage: hotpotqa.py SPLIT HOTPOT.json > rows.jsonl      SPLIT: train, validation or test
       selfspan data multihop --set multihop.path=rows.jsonl --set data.n_anchor=256 --out DIR

The question comes first, then every paragraph's sentences, the first behind its title. Each supporting fact is a step
that repeats the sentence and references it; the answer references the steps. HotpotQA does not say in which order its
facts are needed: they stand as it lists them. Facts that name no sentence are left out; questions without any are, too.
"""
import json
import sys

split, path = sys.argv[1:]
lost = 0
for question in json.load(open(path, encoding="utf-8")):
    segments = [{"kind": "context", "text": question["question"].strip()}]
    place = {}
    for title, sentences in question["context"]:
        for k, sentence in enumerate(sentences):
            text = " ".join(([title + ":"] if k == 0 else []) + sentence.split())
            if text:
                place[title, k] = len(segments)
                segments.append({"kind": "context", "text": " " + text})
    facts = list(dict.fromkeys((title, k) for title, k in question["supporting_facts"] if (title, k) in place))
    if not facts or not question["answer"].strip() or not segments[0]["text"]:
        lost += 1
        continue
    first_step = len(segments)
    for fact in facts:
        segments.append({"kind": "step", "text": segments[place[fact]]["text"], "references": [place[fact]]})
    segments.append({"kind": "answer", "text": " " + question["answer"].strip(), "references": list(range(first_step, len(segments)))})
    print(json.dumps({"id": question["_id"], "split": split, "segments": segments, "answers": [question["answer"]],
                      "meta": {"type": question.get("type"), "level": question.get("level")}}))
if lost:
    print(f"{lost} questions without facts or an answer left out", file=sys.stderr)
