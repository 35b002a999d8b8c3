#!/usr/bin/env bash
# Invents two-hop questions, trains the three arms, evaluates them on questions that training never answered and prints the
# tables. Finished parts are kept: run it again after an interruption and it goes on.
#
# usage: configs/multihop/run.sh [RUN]      (default runs/multihop; DEVICE=cuda, ARMS="dense span", STEPS=20000)
#   PRETRAINED=stories260K.bin TOKENIZER=tok512.bin   fine-tune that model (whatever `selfspan import` reads) instead of
#                                                     training from random weights
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:-runs/multihop}
selfspan=${SELFSPAN:-./selfspan}
device=${DEVICE:-cpu}
arms=${ARMS:-dense annotated span}
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
data=() train=(${STEPS:+--set "train.steps=$STEPS"})

step() { printf '\n== %s\n' "$*"; }

if [ -n "${PRETRAINED:-}" ]; then
  data+=(--set "multihop.tokenizer=${TOKENIZER:?the tokenizer of $PRETRAINED}")
  train+=(--set "train.base=$run/base.h5" --set train.row_tokens=256 --set train.learning_rate=2e-3)
  step "import: $PRETRAINED -> $run/base.h5"
  mkdir -p "$run"
  [ -f "$run/base.h5" ] && echo "already there" ||
    "$selfspan" import --from "$PRETRAINED" --tokenizer "$TOKENIZER" --task multihop --anchors 16 --out "$run/base.h5"
fi

step "data: two-hop questions -> $run/data"
if [ -f "$run/data/card.json" ]; then
  echo "already there"
else
  "$selfspan" data multihop --config configs/multihop/data.yaml "${data[@]}" --out "$run/data"
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
  "$selfspan" train --config configs/multihop/train.yaml --set "train.arm=$arm" --set "train.data=$run/data" "${train[@]}" \
    --device "$device" --out "$run/$arm" "${resume[@]}"
done

# Headers that see only anchors: learnt from the span arm, whose headers see everything.
if [ -f "$run/span/model.h5" ]; then
  step "train: span arm with span.choose=index from $run/span -> $run/index"
  models+=(--model "$run/index/model.h5" --label "index=$run/index/model.h5")
  if [ -f "$run/index/model.h5" ]; then
    echo "already trained"
  else
    resume=()
    [ -d "$run/index" ] && resume=(--resume)
    "$selfspan" train --config configs/multihop/train.yaml --set train.arm=span --set "train.data=$run/data" "${train[@]}" \
      --set span.choose=index --set "train.base=$run/span/model.h5" --set "train.steps=$((${STEPS:-8000} * 5 / 16))" \
      --device "$device" --out "$run/index" "${resume[@]}"
  fi
fi

step "evaluate: exact match, F1, supporting facts, and what the span arm's choices are worth"
"$selfspan" eval "${models[@]}" --controls oracle,recency,random,window --data "$run/data/test.h5" \
  --set decode.max_tokens=80 --device "$device" --out "$run" --force
