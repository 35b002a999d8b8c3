"""Checks the references of a cnndm dataset against rouge-score: every step of the greedy oracle, and ties.

  selfspan export jsonl --data DATA.h5 --out rows.jsonl
  python greedy_oracle.py rows.jsonl [--cap 2] [--most 500]

Needs the package rouge-score. Picks are redone with its scores of the picked sentences, joined in the order of the
article; sentences whose scores differ by less than 1e-9 are ties, of which the earliest must have been picked. Prints the
number of steps that were compared; exits 1 at the first difference."""

import argparse
import json
import sys

from rouge_score import rouge_scorer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--cap", type=int, default=2)
    parser.add_argument("--most", type=int, default=10**9, help="examples")
    options = parser.parse_args()
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2"], use_stemmer=False)
    compared = 0
    for number, line in zip(range(options.most), open(options.rows, encoding="utf-8")):
        row = json.loads(line)
        contexts = [s["text"] for s in row["segments"] if s["kind"] == "context"]
        for step in row["segments"]:
            if step["kind"] != "step":
                continue
            picked, best = [], 0.0
            while len(picked) < options.cap:
                chosen = None
                for k in range(len(contexts)):
                    if k in picked:
                        continue
                    text = " ".join(contexts[j] for j in sorted(picked + [k]))
                    scores = scorer.score(step["text"], text)
                    score = scores["rouge1"].fmeasure + scores["rouge2"].fmeasure
                    if score > best + 1e-9:
                        chosen, best = k, score
                if chosen is None:
                    break
                picked.append(chosen)
            compared += 1
            if sorted(picked) != step.get("references", []):
                print(f"example {number} ({row['id']}), {step['text']!r}: {sorted(picked)}, not {step['references']}")
                sys.exit(1)
    print(f"{compared} steps have the references that rouge-score's picks give")


main()
