#!/usr/bin/env bash
# `selfspan eval`, `eval score` and `generate` on tiny models: what they leave, what they refuse.
. "$(dirname "$0")/shell_checks.sh"

make_data() {
  "$selfspan" data arithmetic --out "$1" --quiet --set data.train=50 --set data.validation=5 --set data.test=40 \
    --set arithmetic.operators_low=1 --set arithmetic.operators_high=4 --set arithmetic.leaf_high=9 \
    --set data.n_anchor="$2"
}

if ! make_data data 32 >out 2>err || ! make_data other 33 >>out 2>>err; then
  not_ok set-up-data
  exit 1
fi
for arm in dense annotated span; do
  if ! "$selfspan" train --config tiny.yaml --set train.arm=$arm --out $arm --quiet >out 2>err; then
    not_ok set-up-$arm
    exit 1
  fi
done
models="--model dense/model.h5 --model annotated/model.h5 --model span/model.h5"
limit="--set decode.max_tokens=40"

# shellcheck disable=SC2086
check eval-writes "$selfspan" eval $models --data data/test.h5 $limit --controls oracle,recency,random,window \
  --items 6 --out eval --label base=dense/model.h5
missing=0
for file in summary.json results.h5 results.h5.xxh128 items-base.jsonl items-annotated.jsonl items-span.jsonl \
  items-span-oracle.jsonl items-span-recency.jsonl items-span-random.jsonl items-span-window.jsonl; do
  [ -s "eval/$file" ] || missing=1
done
[ "$(find eval -name '.*' -type f | wc -l)" -eq 0 ] || missing=1
[ $missing -eq 0 ] && ok eval-files || not_ok eval-files
python eval-settings 'import json
of = {arm["arm"]: arm["settings"] for arm in json.load(open("eval/summary.json"))["arms"]}
assert of["span"]["decode.max_tokens"] == of["base"]["decode.max_tokens"] == 40
assert "span.pin" in of["span"] and "span.pin" not in of["base"] and of["span/window"]["decode.control"] == "window"'
if grep -q '^base .* 6 ' out && grep -q '^span/window ' out && grep -q 'by operators' out; then
  ok eval-tables
else
  not_ok eval-tables
fi

# Forced gold: every arm is perfect, and dense is not below span.
# shellcheck disable=SC2086
check eval-replay "$selfspan" eval $models --data data/test.h5 --set decode.control=replay --operators 2-4 --out replay
if grep -q '^dense is not below span: 100.0%' out && grep -q 'span reads .* rows an example' out; then
  ok eval-says-why
else
  not_ok eval-says-why
fi
check score-items "$selfspan" eval score --data data/test.h5 --operators 2-4 --predictions replay/items-span.jsonl
grep -q '^predictions .* 100.0 ' out && ok score-agrees || not_ok score-agrees
check score-json "$selfspan" eval score --data data/test.h5 --predictions replay/items-dense.jsonl --json
grep -q '"missing": [1-9]' out && ok score-missing || not_ok score-missing

check shipped-base "$selfspan" generate --model "$repository/base/base.h5" --expression "(3+4)"
grep -q 'exact answer 7' out && ok shipped-base-answers || not_ok shipped-base-answers

printf '1+2*3=\n4*(5-7)\n\n7/2+\nspam\n1/0\n' >list.txt
check expressions "$selfspan" eval --model span/model.h5 --expressions list.txt --set decode.control=replay --json
if grep -q '"items": 2' out && [ "$(grep -c '"kind": "no value"' out)" -eq 3 ]; then
  ok expressions-skipped
else
  not_ok expressions-skipped
fi

check generate "$selfspan" generate --model span/model.h5 --expression '((1+2)*3)' --show-spans $limit
grep -q 'exact answer 9' out && ok generate-answer || not_ok generate-answer
check generate-json "$selfspan" generate --model dense/model.h5 --expression '1+2' --expression '3*4' --json $limit
[ "$(grep -c '"exact_answer"' out)" -eq 2 ] && ok generate-json-list || not_ok generate-json-list
check help-eval "$selfspan" eval --help
grep -q 'decode.temperature' out && grep -q 'examples:' out && ok help-keys || not_ok help-keys
check help-score "$selfspan" eval score --help
check help-generate "$selfspan" generate --help

refused no-model 2 "--model is missing" "$selfspan" eval --data data/test.h5
refused no-data 2 "either --data" "$selfspan" eval --model span/model.h5
refused twice 2 "--force replaces it" "$selfspan" eval --model span/model.h5 --data data/test.h5 --out eval $limit
refused absent 4 "absent.h5" "$selfspan" eval --model absent.h5 --data data/test.h5
refused wrong-kind 3 "selfspan-dataset" "$selfspan" eval --model data/test.h5 --data data/test.h5
refused wrong-kind-data 3 "selfspan-checkpoint" "$selfspan" eval --model span/model.h5 --data span/model.h5
refused vocabulary 3 "33 anchors" "$selfspan" eval --model span/model.h5 --data other/test.h5 --quiet --out bad
[ ! -e bad/summary.json ] && [ -z "$(find bad -type f)" ] && ok nothing-left || not_ok nothing-left
refused no-items 3 "9 to 9 operators" "$selfspan" eval --model span/model.h5 --data data/test.h5 --operators 9 --quiet
refused control 2 "expected oracle" "$selfspan" eval --model span/model.h5 --data data/test.h5 --controls orakle
refused label 2 "NAME=FILE" "$selfspan" eval --model span/model.h5 --data data/test.h5 --label x=y
refused arm 2 "expected auto" "$selfspan" eval --model span/model.h5 --data data/test.h5 --arm sparse
refused option 2 "--model" "$selfspan" eval --modle span/model.h5
refused key 2 "decode." "$selfspan" eval --model span/model.h5 --data data/test.h5 --set decode.temprature=1
refused expression 3 "column 3" "$selfspan" generate --model span/model.h5 --expression '1+a'
refused division 3 "division by zero" "$selfspan" generate --model span/model.h5 --expression '1/(2-2)'
# Counted before it is worked out: the product takes seconds and a gigabyte.
product=$(printf '9876543210987654321*%.0s' $(seq 5000))9
refused expression-anchors 6 "expression-2: 5000 operators, but the vocabulary has 32 anchors" "$selfspan" generate --model span/model.h5 \
  --expression '1+2' --expression "$product"
printf 'one\nt\0wo\n' >zero.txt
refused prompt-file-zero 3 "zero.txt:2: a zero byte" "$selfspan" generate --model span/model.h5 --prompt-file zero.txt
printf '{}\n\0{}\n' >zero.jsonl
refused jsonl-zero 3 "zero.jsonl:2: a zero byte" "$selfspan" generate --model span/model.h5 --jsonl zero.jsonl
refused no-prompt 2 "no prompt" "$selfspan" generate --model span/model.h5
dd if=span/model.h5 of=cut.h5 bs=1000 count=3 2>/dev/null
cp span/model.h5.xxh128 cut.h5.xxh128
refused truncated 3 "cut.h5" "$selfspan" generate --model cut.h5 --expression '1+2'
printf '{"id":"nobody"}\n' >p.jsonl
refused unknown-id 3 "nobody" "$selfspan" eval score --data data/test.h5 --predictions p.jsonl
refused no-predictions 2 "--predictions is missing" "$selfspan" eval score --data data/test.h5

# Items beyond the last group are counted in it, never dropped; what cannot be asked is named, not called valueless.
"$selfspan" data arithmetic --out long --quiet --set data.train=4 --set data.validation=0 --set data.test=0 \
  --set data.n_anchor=256 >out 2>err
sed 's/n_positions: 256/n_positions: 4096/; s/row_tokens: 256/row_tokens: 4096/; s/  data: data/  data: long/' tiny.yaml >long.yaml
"$selfspan" train --config long.yaml --set train.arm=span --out long-span --quiet >out 2>err
sum_of_ones() { local s=1; for _ in $(seq "$1"); do s="$s+1"; done; echo "$s"; }
{ echo '1+2'; sum_of_ones 65; sum_of_ones 64; sum_of_ones 400; echo '1+'; } >long.txt
"$selfspan" eval --expressions long.txt --model long-span/model.h5 --set decode.max_tokens=4 --json >out 2>err
if grep -q '"items": 3' out && grep -q 'operators, but the vocabulary has 256 anchors' out; then
  ok eval-beyond-last-group
else
  not_ok eval-beyond-last-group
fi
