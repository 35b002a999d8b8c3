#!/usr/bin/env bash
# Trains the base model that the repository ships, from nothing: base/base.h5. An hour or two on two CPU cores; goes on
# where it was stopped.
#
# usage: configs/base/run.sh [RUN]      (default runs/base)
set -euo pipefail
cd "$(dirname "$0")/../.."
run=${1:-runs/base}
selfspan=${SELFSPAN:-./selfspan}

[ -f "$run/data/card.json" ] || "$selfspan" data arithmetic --config configs/base/data.yaml --out "$run/data"
if [ ! -f "$run/train/model.h5" ]; then
  resume=()
  [ -d "$run/train" ] && resume=(--resume)
  "$selfspan" train --config configs/base/train.yaml --set "train.data=$run/data" --out "$run/train" "${resume[@]}"
fi
mkdir -p base
cp "$run/train/model.h5" base/base.h5
(cd base && cp "../$run/train/model.h5.xxh128" base.h5.xxh128 && sed -i 's/model\.h5/base.h5/' base.h5.xxh128)
echo "base/base.h5"
