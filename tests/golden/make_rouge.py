"""Writes tests/golden/rouge.json: made-up texts and their ROUGE by the Python package rouge-score, for tests/test_rouge.c.

    python3 -m venv /tmp/rouge && /tmp/rouge/bin/pip install rouge-score==0.1.2
    /tmp/rouge/bin/python tests/golden/make_rouge.py                 writes the file
    /tmp/rouge/bin/python tests/golden/make_rouge.py --live N SEED   N fuzzed items to stdout, JSONL, scored as well
                                                                     (tests/rouge.test.sh compares them)
    /tmp/rouge/bin/python tests/golden/make_rouge.py --news FOLDER   the same of *.jsonl.gz with "article", "highlights":
                                                                     first lines against highlights, and against others'

Not run by `make test`: the file is committed. Made with rouge-score 0.1.2, NLTK 3.10.4 (its PorterStemmer), Python 3.11.
An item: {"prediction": text, "reference": [texts], "plain": scores, "stemmed": scores}; scores is the best of the
references (score_multi), [precision, recall, f] of rouge1, rouge2, rougeL, rougeLsum in that order.
"stems" holds words with their stems.
"""

import gzip
import json
import pathlib
import random
import sys

from rouge_score.rouge_scorer import RougeScorer

TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SCORERS = {"plain": RougeScorer(TYPES), "stemmed": RougeScorer(TYPES, use_stemmer=True)}

PAIRS = [
    ("The quick brown fox jumped over the lazy dog.", ["A quick brown dog jumps over the lazy foxes!"]),
    ("", ["something"]), ("something", [""]), ("", [""]), ("... !!", ["?"]), ("one", ["one"]),
    ("a a a a b", ["a a b b b"]), ("b a", ["a b"]), ("x y z", ["x y z"]),
    ("They were happily playing all day.\nThe skies cleared on Monday.",
     ["On Monday, skies cleared.\nThey played happily.", "She died. They enjoyed it"]),
    ("police say\nthe gunman fled\npolice say", ["police say the gunman fled\nthe gunman, police say, fled"]),
    ("\n\n\nline\n\n", ["line\nline"]), ("tab\tand\vfeed\fand\x00zero\x85next\u2028line", ["tab and zero next line"]),
    ("\u212aelvin \u212a \u0130stanbul \u0130\u0130 STRASSE", ["kelvin k i stanbul i i stra\u00dfe"]),
    ("caf\u00e9 na\u00efve \ufb01ne \u65e5\u672c \U0001f600 \u0661\u0662", ["caf na ve ne 12"]),
    ("2015 2015th 3.14 1,000 a1b2", ["2015 3 14 1 000 a1b2"]), ("foo_bar foo-bar don't", ["foo bar don t"]),
    ("has gas", ["ha ga"]), ("a b c d", ["a", "a b x y z w"]), ("a b c d", ["a b x y z w", "a"]),
    ("w " * 70 + "end", ["w " * 65 + "\n" + "end w " * 80]),
]

STEMS = """sky skies dying lying tying news innings inning outings cannings howe proceed exceed succeed flies dies cries
ties spied died tied agreed feed bleed used using aged iced owing trekking revved happy enjoy enjoyed saying spy flying
relational relationally conditional conditionally rational valency hesitancy digitizer conformably nationally radically theology geology apology
hopefully carefully probably nobly vilely generalizations oscillators adoption motion nation oats trouble yyyed ayying
controlling rolling falling hissing fizzed hopping filing failing sized xyyed a11ed replacement adjustment dependent
electricity sensibility hopefulness callousness feudalism triplicate formative probate rate cease syzygy ings eeded
logics alli ally equally finally basically really""".split()

WORDS = ("the cat cats sat mat dying news happily played playing plays nationally theology skies 2015 a3b \u0130stanbul "
         "\u212aelvin na\u00efve \ufb01ne Stra\u00dfe \u65e5\u672c").split()


def text(source):
    kinds = source.choice([3, 6, len(WORDS)])
    separators = [" "] * source.choice([2, 6, 30]) + ["\n", ", ", "\r\n", "\u2028", "\x85", "-", "\n\n"]
    length = source.choice([0, 1, 3, 10, 40, 100, 200])
    return "".join(source.choice(WORDS[:kinds]) + source.choice(separators) for _ in range(length))


def fuzzed(source):
    references = [text(source) for _ in range(source.choice([1, 1, 1, 2, 3]))]
    prediction = text(source)
    if source.random() < 0.4:  # close to the reference
        letters = list(references[0])
        for _ in range(source.randint(0, 8)):
            if letters:
                letters[source.randrange(len(letters))] = source.choice("a \nk\u0130")
        prediction = "".join(letters)
    return prediction, references


def item(prediction, references):
    row = {"prediction": prediction, "reference": references}
    for name, scorer in SCORERS.items():
        best = scorer.score_multi(references, prediction)
        row[name] = [list(best[kind]) for kind in TYPES]
    return row


if len(sys.argv) == 4 and sys.argv[1] == "--live":
    source = random.Random(int(sys.argv[3]))
    for _ in range(int(sys.argv[2])):
        print(json.dumps(item(*fuzzed(source))))
elif len(sys.argv) == 3 and sys.argv[1] == "--news":
    for name in sorted(pathlib.Path(sys.argv[2]).glob("*.jsonl.gz")):
        with gzip.open(name, "rt") as file:
            rows = [json.loads(line) for line in file]
        for k, row in enumerate(rows):
            first = "\n".join(row["article"].split(". ")[: 3 + k % 5])
            print(json.dumps(item(first, [row["highlights"]])))
            print(json.dumps(item(rows[k - 1]["highlights"], [row["highlights"], row["article"][:800]])))
else:
    source = random.Random(1)
    rows = [item(*pair) for pair in PAIRS] + [item(*fuzzed(source)) for _ in range(30)]
    stemmer = SCORERS["stemmed"]._tokenizer._stemmer
    content = {"items": rows, "stems": {word: stemmer.stem(word) for word in STEMS}}
    path = pathlib.Path(__file__).parent / "rouge.json"
    path.write_text("{\"items\": [\n" + ",\n".join(json.dumps(row) for row in rows) + "\n],\n\"stems\": "
                    + json.dumps(content["stems"]) + "}\n")
