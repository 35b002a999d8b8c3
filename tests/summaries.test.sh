#!/usr/bin/env bash
# Summaries from articles to table: extracts and tiny models on made-up news, samples to read, early stopping by ROUGE; every
# number beside rouge-score where there is one (ROUGE_PYTHON, default python3). SELFSPAN_NEWS: a folder of *.jsonl.gz with
# "article" and "highlights", whose extracts are compared as well.
. "$(dirname "$0")/shell_checks.sh"
peer=${ROUGE_PYTHON:-python3}

article() { # ID TOWN RIVER
  printf '{"id": "%s", "article": "%s (CNN) -- The bridge of %s was closed on Monday. ' "$1" "$2" "$2"
  printf 'Engineers found cracks in two of its pillars. Mayor Ada Quill said the %s had risen by a metre. ' "$3"
  printf 'Nobody was hurt. Ferries will carry people across the %s until June. ' "$3"
  printf 'Shops near the water stay open, their owners said.", '
  printf '"highlights": "NEW: Ferries cross the %s until June .\\nThe bridge of %s is closed after cracks were found ."}\n' "$3" "$2"
}
for k in 1 2 3 4 5 6; do article "train-$k" "Town$k" "River$k"; done >train.jsonl
for k in 1 2 3; do article "test-$k" "Place$k" "Brook$k"; done >test.jsonl
if ! "$selfspan" data cnndm --set cnndm.train=train.jsonl --set cnndm.validation=test.jsonl --set cnndm.test=test.jsonl \
  --set data.n_anchor=64 --out data --quiet >out 2>err; then
  not_ok set-up-data
  exit 1
fi
sed 's/n_positions: 256/n_positions: 1024/; s/row_tokens: 256/row_tokens: 1024/' tiny.yaml >news.yaml
for arm in dense span; do
  if ! "$selfspan" train --config news.yaml --set train.arm=$arm --out $arm --quiet >out 2>err; then
    not_ok set-up-$arm
    exit 1
  fi
done

check eval "$selfspan" eval --model dense/model.h5 --model span/model.h5 --data data/test.h5 --set decode.max_tokens=40 \
  --baselines lead3,oracle --out eval --samples 2 --set decode.no_repeat_ngram=3
grep -q '^less dense, item by item' out && grep -q '^oracle  *3 ' out && grep -q 'rows% of dense' out && ! grep -q accuracy out &&
  ok eval-tables || not_ok eval-tables
missing=0
for file in summary.json results.h5 samples.txt items-lead3.jsonl items-oracle.jsonl items-dense.jsonl items-span.jsonl; do
  [ -s "eval/$file" ] || missing=1
done
[ $missing -eq 0 ] && ok eval-files || not_ok eval-files
grep -q '"accuracy": null' eval/summary.json && ! grep -q '"accuracy": 0' eval/summary.json && ok eval-judges-nothing || not_ok eval-judges-nothing
grep -A 3 '^gold' eval/samples.txt | grep -q '^   1  Ferries cross' && [ "$(grep -c '^lead3  R1 ' eval/samples.txt)" -eq 2 ] &&
  [ "$(grep -c '^span  R1 ' eval/samples.txt)" -eq 2 ] && ok samples || not_ok samples
check replay "$selfspan" eval --model span/model.h5 --data data/test.h5 --set decode.control=replay --json
grep -A 1 '"selected_f": {' out | grep -q '"mean": 1.0' && grep -A 1 '"rouge2": {' out | grep -q '"mean": 1.0' && ok replay-perfect ||
  not_ok replay-perfect
check extracts-alone "$selfspan" eval --data data/test.h5 --baselines lead3 --quiet
check score-again "$selfspan" eval score --data data/test.h5 --predictions eval/items-oracle.jsonl --json
python score-agrees 'import json
a = json.load(open("eval/summary.json"))["arms"]; b = json.load(open("out"))["arms"][0]
assert b["metrics"] == next(x for x in a if x["arm"] == "oracle")["metrics"]'

printf 'PLACE (CNN) -- The bridge of Place was closed. Nobody was hurt.\nFerries will carry people until June.' >article.txt
check text "$selfspan" generate --model span/model.h5 --text article.txt --text article.txt --show-spans --set decode.max_tokens=30
[ "$(grep -c '^article.txt: 3 sentences, ' out)" -eq 2 ] && grep -q '^30 tokens read ' out && grep -q 'tokens/s' out && ok text-content ||
  not_ok text-content
check text-json "$selfspan" generate --model dense/model.h5 --text article.txt --json --set decode.max_tokens=9
grep -q '"text": "The bridge of Place was closed."' out && ok text-cleaned || not_ok text-cleaned
seq -s ' Another sentence of an article that never ends. ' 300 >endless.txt
check text-long "$selfspan" generate --model span/model.h5 --text endless.txt --set decode.max_tokens=9
grep -q 'more at the end did not fit' out && ok text-cut || not_ok text-cut
head -c 5000 /dev/urandom | tr -d '\n' >noise.bin
check text-noise "$selfspan" generate --model span/model.h5 --text noise.bin --set decode.max_tokens=9 --show-spans
printf ' \n' >blank.txt
refused text-blank 3 "blank.txt: no text is left" "$selfspan" generate --model span/model.h5 --text blank.txt
refused text-absent 4 "absent.txt" "$selfspan" generate --model span/model.h5 --text absent.txt
refused text-settings 2 "cnndm.summary_tokens" "$selfspan" generate --model span/model.h5 --text article.txt --set cnndm.context_tokens=200 --set cnndm.summary_tokens=256
"$selfspan" data arithmetic --out sums --quiet --set data.train=4 --set data.validation=0 --set data.test=0 --set data.n_anchor=32 >out 2>err
"$selfspan" train --config tiny.yaml --set train.data=sums --out sums-span --quiet >out 2>err
refused text-other-task 2 "trained for task arithmetic" "$selfspan" generate --model sums-span/model.h5 --text article.txt

check by-score "$selfspan" train --config news.yaml --set train.arm=dense --set train.steps=9 --set train.validate_every=1 \
  --set train.generate_examples=2 --set train.generate_tokens=12 --set train.best_metric=score --set train.patience=2 --out stopped --json
grep -q '"stopped_early": true' out && grep -q '"best_validation_score": 0' out && grep -q '"validation_accuracy": null' out &&
  ok by-score-stops || not_ok by-score-stops

refused no-model 2 "--model is missing" "$selfspan" eval --data data/test.h5
refused baseline 2 "expected of task cnndm: lead3, oracle" "$selfspan" eval --data data/test.h5 --baselines lead
refused twice 2 "named twice" "$selfspan" eval --data data/test.h5 --baselines lead3,lead3
refused against 2 'no arm is called "dense"' "$selfspan" eval --data data/test.h5 --baselines lead3 --against dense --out kept
refused against-model 2 'no arm is called "sparse"' "$selfspan" eval --data data/test.h5 --model dense/model.h5 --model span/model.h5 --baselines lead3 \
  --controls oracle --against sparse --out kept
[ ! -e kept ] && ! grep -q examples err && ok against-before-decoding || not_ok against-before-decoding
check against-control "$selfspan" eval --data data/test.h5 --model dense/model.h5 --model span/model.h5 --label mine=span/model.h5 --controls recency \
  --against mine/recency --set decode.max_tokens=3 --items 2
grep -q '^less mine/recency, item by item' out && ok against-control-content || not_ok against-control-content
refused against-no-metrics 2 "task arithmetic has no metrics" "$selfspan" eval --data sums/train.h5 --model sums-span/model.h5 --against span
refused samples 2 "--samples needs --out" "$selfspan" eval --data data/test.h5 --baselines lead3 --samples 2
refused patience 2 "train.generate_examples" "$selfspan" train --config news.yaml --set train.best_metric=score \
  --set train.patience=2 --set train.validate_every=1 --out bad

# compare NAME FOLDER DATASET: every number of every item and arm.
compare() {
  "$selfspan" export jsonl --data "$3" --out rows.jsonl --force --quiet >out 2>err &&
    "$peer" "$repository/tests/peers/summary_metrics.py" "$2" rows.jsonl >out 2>err && ok "$1" || not_ok "$1"
  cat out >&2
}
if ! "$peer" -c 'import rouge_score' 2>/dev/null; then
  echo "skip live: $peer has no rouge-score"
else
  compare live eval data/test.h5
  if [ -z "${SELFSPAN_NEWS:-}" ]; then
    echo "skip live-news: SELFSPAN_NEWS is not set"
  else
    for rows in "$SELFSPAN_NEWS"/*.jsonl.gz; do
      name=$(basename "$rows" .jsonl.gz)
      "$selfspan" data cnndm --set cnndm.test="$rows" --set data.n_anchor=256 --set cnndm.context_tokens=4096 --out "$name" --quiet \
        >out 2>err &&
        "$selfspan" eval --data "$name/test.h5" --baselines lead3,oracle --against lead3 --out "eval-$name" --quiet >out 2>err ||
        not_ok "live-$name-eval"
      compare "live-$name" "eval-$name" "$name/test.h5"
    done
  fi
fi
