#!/usr/bin/env bash
# Trains a 10.6M-parameter GPT from random weights on expressions of 2-16 operators, in the dense and the span arm, and
# evaluates both on the same held-out expressions. Made for a GPU. Finished parts are kept.
#
# usage: configs/prototype/run.sh [RUN]      (default runs/prototype; DEVICE=cpu, ARMS="span")
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:-runs/prototype}
selfspan=${SELFSPAN:-./selfspan}
device=${DEVICE:-cuda}
arms=${ARMS:-dense span}

step() { printf '\n== %s\n' "$*"; }

step "data: arithmetic expressions of 2-16 operators -> $run/data"
if [ -f "$run/data/card.json" ]; then
  echo "already there"
else
  "$selfspan" data arithmetic --config configs/prototype/data.yaml --out "$run/data"
fi

models=()
for arm in $arms; do
  step "train: $arm arm -> $run/$arm"
  models+=(--model "$run/$arm/model.h5")
  if [ -f "$run/$arm/model.h5" ]; then
    echo "already trained"
    continue
  fi
  resume=()
  [ -d "$run/$arm" ] && resume=(--resume)
  "$selfspan" train --config configs/prototype/train.yaml --set "train.arm=$arm" --set "train.data=$run/data" \
    --device "$device" --out "$run/$arm" "${resume[@]}"
done

for operators in 2-8 9-16; do
  step "evaluate: $operators operators"
  "$selfspan" eval "${models[@]}" --data "$run/data/test.h5" --operators "$operators" --items "${ITEMS:-512}" \
    --set decode.max_batch=256 --device "$device" --out "$run/eval-$operators" --force
done
