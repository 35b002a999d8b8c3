#!/usr/bin/env bash
# Turns news articles with summaries into span-annotated data, fine-tunes a pre-trained base in the arms dense, annotated and
# span, and in the span arm whose headers read the index alone, each with every learning rate and seed; takes of each arm the
# run with the best score on the validation rows, and evaluates those once on the test rows beside lead-3, the greedy oracle
# and the controls. Finished parts are kept: run it again after an interruption and it goes on.
#
# usage: configs/cnndm/run.sh TRAIN VALIDATION TEST [RUN]      (rows: docs/FORMATS.md; default runs/cnndm)
#   BASE=models/smollm2.h5              the base, and what its tokenizer was read from (both by `make smollm2`):
#   TOKENIZER=models/SmolLM2-135M-Instruct.Q4_1.gguf
#   ANCHORS=256                         of the base's vocabulary (selfspan import --anchors)
#   For GPT-2 124M: selfspan import --from gpt2/ --out models/gpt2.h5, BASE=models/gpt2.h5 TOKENIZER=gpt2/
#   CONFIG=configs/cnndm/train.yaml     DEVICE=cuda      ARMS="dense annotated span index"      DATA="--set cnndm.references=1"
#   RATES="1e-4 2e-4 3e-4"  SEEDS="1 2"      24 runs of 15 s on an H100; a run leaves 0.5 GB, while it lasts 2.7 GB
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -lt 3 ]; then
  sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"
  exit 2
fi
run=${4:-runs/cnndm}
selfspan=${SELFSPAN:-./selfspan}
base=${BASE:-models/smollm2.h5}
tokenizer=${TOKENIZER:-models/SmolLM2-135M-Instruct.Q4_1.gguf}
config=${CONFIG:-configs/cnndm/train.yaml}
device=${DEVICE:-cuda}
arms=${ARMS:-dense annotated span index}
rates=${RATES:-1e-4 2e-4 3e-4}
seeds=${SEEDS:-1 2}
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}

step() { printf '\n== %s\n' "$*"; }

step "data: $1, $2, $3 -> $run/data"
if [ -f "$run/data/card.json" ]; then
  echo "already there"
else
  # shellcheck disable=SC2086
  "$selfspan" data cnndm --config configs/cnndm/data.yaml --out "$run/data" --set "data.n_anchor=${ANCHORS:-256}" \
    --set "cnndm.train=$1" --set "cnndm.validation=$2" --set "cnndm.test=$3" --set "cnndm.tokenizer=$tokenizer" ${DATA:-}
fi

# The best score of a run on the validation rows, -1 where there is none.
best_score() {
  awk -F, 'BEGIN { best = -1 } NR == 1 { for (k = 1; k <= NF; k++) if ($k == "validation_score") column = k; next }
           $column != "" && $column + 0 > best { best = $column + 0 } END { print best }' "$1/metrics.csv"
}

chosen=()
for name in $arms; do
  arm=$name policy=()
  if [ "$name" = index ]; then
    arm=span policy=(--set span.choose=index)
  fi
  best='' best_of=-1
  for rate in $rates; do
    for seed in $seeds; do
      out=$run/$name-$rate-$seed
      step "train: $name, learning rate $rate, seed $seed -> $out"
      if [ -f "$out/model.h5" ]; then
        echo "already trained"
      else
        resume=()
        [ -d "$out" ] && resume=(--resume)
        "$selfspan" train --config "$config" --set "train.base=$base" --set "train.data=$run/data" --set "train.arm=$arm" \
          --set "train.learning_rate=$rate" --set "train.seed=$seed" "${policy[@]}" --device "$device" --out "$out" "${resume[@]}"
      fi
      rm -rf "$out/checkpoints" "$out/best.h5"
      score=$(best_score "$out")
      echo "validation score $score"
      if awk "BEGIN { exit !($score > $best_of) }"; then
        best=$out best_of=$score
      fi
    done
  done
  [ -n "$best" ] || { echo "$name: no run has a validation score" >&2; exit 1; }
  chosen+=(--model "$best/model.h5" --label "$name=$best/model.h5")
  printf '\n%s: %s, validation score %s\n' "$name" "$best" "$best_of"
done

step "evaluate: ROUGE, what the summaries are like, rows read, speed; samples in $run/test/samples.txt"
"$selfspan" eval "${chosen[@]}" --data "$run/data/test.h5" --baselines lead3,oracle --controls oracle,recency,random,window \
  --samples 20 --set decode.max_tokens=160 --set decode.constrain=yes --ceiling --device "$device" --out "$run/test" --force
