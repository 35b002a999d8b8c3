#!/usr/bin/env bash
# `selfspan eval rouge`: its output and refusals, and its scores beside the Python package rouge-score where there is one
# (ROUGE_PYTHON, default python3). SELFSPAN_NEWS: a folder of *.jsonl.gz with "article" and "highlights", scored as well.
. "$(dirname "$0")/shell_checks.sh"
peer=${ROUGE_PYTHON:-python3}
items=${ROUGE_ITEMS:-300}

printf 'The cats were playing.\nA second line\n' >p.txt
printf 'the cat played\na second line\n' >r.txt
printf '["nothing", "The cats were playing"]\n"second"\n' >more.jsonl
check table "$selfspan" eval rouge --predictions p.txt --references r.txt
grep -q '^rouge1 .*62.50 (' out && grep -q '^2 pairs, not stemmed; 95% bootstrap intervals of 1000 samples' out && ok table-content || not_ok table-content
check stemmed "$selfspan" eval rouge --predictions p.txt --references r.txt --stem --samples 0
grep -q '^rouge1 *87.50 *100.00' out && ok stemmed-content || not_ok stemmed-content
check several "$selfspan" eval rouge --predictions p.txt --references r.txt --references more.jsonl --json --pairs pairs.jsonl
[ "$(wc -l <pairs.jsonl)" -eq 2 ] && grep -q '^{"rouge1":{"precision":1.0' pairs.jsonl && ok several-content || not_ok several-content
python json-keys 'import json; d = json.load(open("out")); assert d["pairs"] == 2 and d["rougeLsum"]["f"]["low"] <= d["rougeLsum"]["f"]["mean"] == 1.0'
OMP_NUM_THREADS=1 "$selfspan" eval rouge --predictions p.txt --references r.txt --json >one
OMP_NUM_THREADS=3 "$selfspan" eval rouge --predictions p.txt --references r.txt --json >three
cmp -s one three && ok threads || not_ok threads
check help "$selfspan" eval rouge --help
grep -q 'line-break' out && grep -q 'examples:' out && ok help-content || not_ok help-content

refused no-predictions 2 "--predictions is missing" "$selfspan" eval rouge --references r.txt
refused no-references 2 "--references is missing" "$selfspan" eval rouge --predictions p.txt
refused absent 4 "absent.txt" "$selfspan" eval rouge --predictions absent.txt --references r.txt
refused lines 3 "expected 2 as in p.txt" "$selfspan" eval rouge --predictions p.txt --references "$repository/LICENSE"
refused samples 2 "--samples" "$selfspan" eval rouge --predictions p.txt --references r.txt --samples -1
refused confidence 2 "--confidence" "$selfspan" eval rouge --predictions p.txt --references r.txt --confidence 95
refused unwritable 4 "absent/pairs.jsonl" "$selfspan" eval rouge --predictions p.txt --references r.txt --pairs absent/pairs.jsonl

# compare NAME FILE: every number of every item, with and without the stemmer.
compare() {
  "$selfspan" eval rouge --predictions "$2" --references "$2" --samples 0 --pairs plain.jsonl >out 2>err &&
    "$selfspan" eval rouge --predictions "$2" --references "$2" --samples 0 --stem --pairs stemmed.jsonl >out 2>err &&
    "$peer" - "$2" >out 2>err <<'PYTHON' && ok "$1" || not_ok "$1"
import json, sys
worst, n = 0.0, 0
for name in ("plain", "stemmed"):
    for known, own in zip(open(sys.argv[1]), open(name + ".jsonl"), strict=True):
        known, own = json.loads(known)[name], json.loads(own)
        for kind, numbers in zip(("rouge1", "rouge2", "rougeL", "rougeLsum"), known, strict=True):
            for key, number in zip(("precision", "recall", "f"), numbers, strict=True):
                worst = max(worst, abs(own[kind][key] - number))
        n += 1
print(f"{n} scores of items, largest difference {worst:g}")
assert n > 0 and worst <= 1e-6
PYTHON
  cat out >&2
}

if ! "$peer" -c 'import rouge_score' 2>/dev/null; then
  echo "skip live: $peer has no rouge-score"
else
  seed=${ROUGE_SEED:-$RANDOM}
  echo "seed $seed"
  "$peer" "$repository/tests/golden/make_rouge.py" --live "$items" "$seed" >live.jsonl 2>err
  compare live-fuzzed live.jsonl
  if [ -z "${SELFSPAN_NEWS:-}" ]; then
    echo "skip live-news: SELFSPAN_NEWS is not set"
  else
    "$peer" "$repository/tests/golden/make_rouge.py" --news "$SELFSPAN_NEWS" >news.jsonl 2>err
    compare live-news news.jsonl
  fi
fi
