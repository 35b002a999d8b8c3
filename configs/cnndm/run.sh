#!/usr/bin/env bash
# Turns news articles with summaries into span-annotated data, fine-tunes a pre-trained base in the arms dense, annotated and
# span, and in the span arm whose headers read the index alone, and evaluates all on the test split beside lead-3 and
# the greedy oracle. Finished parts are kept: run it again after an interruption and it goes on.
#
# usage: configs/cnndm/run.sh TRAIN VALIDATION TEST [RUN]      (rows: docs/FORMATS.md; default runs/cnndm)
#   BASE=models/smollm2.h5              the base, and what its tokenizer was read from (both by `make smollm2`):
#   TOKENIZER=models/SmolLM2-135M-Instruct.Q4_1.gguf
#   ANCHORS=256                         of the base's vocabulary (selfspan import --anchors)
#   CONFIG=configs/cnndm/train.yaml     DEVICE=cuda      ARMS="dense annotated span index"      DATA="--set cnndm.references=1"
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

models=()
for name in $arms; do
  arm=$name policy=()
  if [ "$name" = index ]; then
    arm=span policy=(--set span.choose=index)
  fi
  step "train: $name -> $run/$name"
  models+=(--model "$run/$name/model.h5" --label "$name=$run/$name/model.h5")
  if [ -f "$run/$name/model.h5" ]; then
    echo "already trained"
    continue
  fi
  resume=()
  [ -d "$run/$name" ] && resume=(--resume)
  "$selfspan" train --config "$config" --set "train.base=$base" --set "train.data=$run/data" --set "train.arm=$arm" \
    "${policy[@]}" --device "$device" --out "$run/$name" "${resume[@]}"
done

step "evaluate: ROUGE, what the summaries are like, rows read, speed; samples in $run/test/samples.txt"
"$selfspan" eval "${models[@]}" --data "$run/data/test.h5" --baselines lead3,oracle --controls oracle,recency,random,window \
  --samples 20 --set decode.max_tokens=160 --device "$device" --out "$run/test" --force
