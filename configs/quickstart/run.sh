#!/usr/bin/env bash
# Generates a small dataset, fine-tunes the shipped base model into the three arms, evaluates them on the same held-out
# expressions and prints the tables. Finished parts are kept: run it again after an interruption and it goes on.
#
# usage: configs/quickstart/run.sh [RUN]      (default runs/quickstart; DEVICE=cuda trains and decodes on the GPU)
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:-runs/quickstart}
selfspan=${SELFSPAN:-./selfspan}
device=${DEVICE:-cpu}
started=$(date +%s)

# OpenMP's default is to spin while a thread waits: the fastest on an idle machine, and many times slower as soon as
# anything else wants a core. A short spin costs a fifth at worst and keeps the pace on a shared machine.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}

step() { printf '\n== %s\n' "$*"; }

step "data: arithmetic expressions of 1-8 operators -> $run/data"
if [ -f "$run/data/card.json" ]; then
  echo "already there"
else
  "$selfspan" data arithmetic --config configs/quickstart/data.yaml --out "$run/data"
fi

for arm in dense annotated span; do
  step "fine-tune: $arm arm of base/base.h5 -> $run/$arm"
  if [ -f "$run/$arm/model.h5" ]; then
    echo "already trained"
    continue
  fi
  resume=()
  [ -d "$run/$arm" ] && resume=(--resume)
  "$selfspan" train --config configs/quickstart/train.yaml --set "train.arm=$arm" --set "train.data=$run/data" \
    --device "$device" --out "$run/$arm" "${resume[@]}" || {
    status=$?
    echo "quickstart: stopped; \`make quickstart\` goes on from here" >&2
    exit $status
  }
done

step "evaluate: base before, the arms after, and what the span arm's choices are worth"
"$selfspan" eval --model base/base.h5 --label base=base/base.h5 --model "$run/dense/model.h5" \
  --model "$run/annotated/model.h5" --model "$run/span/model.h5" --controls oracle,recency,random,window \
  --data "$run/data/test.h5" --operators 4-8 --set decode.max_tokens=160 --device "$device" \
  --out "$run" --force

printf '\n%s s. Look closer:\n' "$(($(date +%s) - started))"
cat <<NEXT
  $selfspan generate --model $run/span/model.h5 --expression "((3+4)*(2-(5*1)))" --show-spans
  $selfspan inspect $run/data/test.h5 --index 3 --arm span
  make notebook        # notebooks-export/quickstart.ipynb: table, learning curves, a span map
NEXT
