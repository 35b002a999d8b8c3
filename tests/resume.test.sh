#!/usr/bin/env bash
# kill -9 during training, again and again: every resumed run ends with the weights and the metrics of an undisturbed
# one. 3 kills; 20 with SELFSPAN_SLOW=1. DEVICE=cuda: in deterministic mode, heads wide enough for the tensor cores.
set -u
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
selfspan=${SELFSPAN:?path of the binary}
work=$(mktemp -d "${TMPDIR:-/tmp}/resume.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
width=16
device=(--threads 2)
[ "${DEVICE:-cpu}" = cuda ] && width=128 device=(--device cuda --deterministic)
kills=3
[ "${SELFSPAN_SLOW:-0}" = 1 ] && kills=20
failed=0
ok() { echo "ok $1"; }
not_ok() {
  echo "not ok $1"
  failed=1
}

cat >"$work/train.yaml" <<YAML
train:
  data: $work/data
  arm: span
  batch_examples: 4
  accumulate: 2
  row_tokens: 256
  steps: 90
  warmup: 10
  learning_rate: 3.0e-3
  validate_every: 30
  validate_examples: 8
  generate_examples: 2
  checkpoint_every: 4
  keep: 2
  log_every: 3
model:
  n_layer: 1
  n_head: 2
  n_embd: $width
  n_positions: 256
YAML
if ! "$selfspan" data arithmetic --set data.train=400 --set data.validation=20 --set data.test=0 \
  --set arithmetic.operators_high=4 --set arithmetic.operators=+- --set data.n_anchor=32 --out "$work/data" --quiet; then
  not_ok "resume: data"
  exit 1
fi

hash_of() { sed -n 's/.*"parameters_hash": "\([0-9a-f]*\)".*/\1/p' "$1/train.json"; }
# metrics.csv without seconds and tokens_per_second
curve_of() { cut -d, -f1-9,12- "$1/metrics.csv"; }
train() { "$selfspan" train --config "$work/train.yaml" "${device[@]}" --quiet "$@"; }

started=$(date +%s%N)
train --out "$work/whole" || not_ok "resume: undisturbed run"
took=$((($(date +%s%N) - started) / 1000000))
expected=$(hash_of "$work/whole")
if [ ${#expected} != 32 ]; then
  not_ok "resume: parameters_hash of the undisturbed run"
  exit 1
fi
RANDOM=7

n=0 round=0 landed=0
while [ $n -lt $kills ] && [ $failed = 0 ] && [ $round -lt 50 ]; do
  round=$((round + 1))
  run=$work/run$round
  while :; do
    "$selfspan" train --config "$work/train.yaml" "${device[@]}" --quiet --resume --out "$run" 2>>"$work/log" &
    child=$!
    if [ $n -lt $kills ]; then
      # Anywhere from before the first step to the end, however slow the machine is.
      sleep "$(awk -v r=$RANDOM -v t="$took" 'BEGIN { printf "%.3f", 0.02 + r / 32768 * 0.6 * t / 1000 }')"
      kill -9 "$child" 2>/dev/null
    fi
    wait "$child" 2>/dev/null
    status=$?
    [ $status = 0 ] && break
    if [ $status != 137 ]; then
      not_ok "resume: status $status after $n kills: $(tail -n 1 "$work/log")"
      break 2
    fi
    n=$((n + 1))
    [ -n "$(ls "$run/checkpoints" 2>/dev/null)" ] && landed=$((landed + 1))
  done
  [ "$(hash_of "$run")" = "$expected" ] || not_ok "resume: run $round, killed until $n, ended with other weights"
  cmp -s <(curve_of "$run") <(curve_of "$work/whole") || not_ok "resume: run $round, killed until $n, has other metrics"
  [ "$(ls "$run/checkpoints"/*.h5 | wc -l)" = 2 ] || not_ok "resume: run $round keeps $(ls "$run/checkpoints")"
  [ -z "$(find "$run" -name '.*.tmp-*')" ] || not_ok "resume: run $round left temporary files"
done
[ $failed = 0 ] && ok "resume: $n kills ($landed with checkpoints behind them) over $round runs, weights and metrics as undisturbed"

# SIGTERM and SIGINT: the state is saved, the exit status says so, and the run goes on from there.
for signal in TERM INT; do
  run=$work/$signal
  # A background job of a script ignores SIGINT.
  env --default-signal=INT "$selfspan" train --config "$work/train.yaml" "${device[@]}" --quiet --out "$run" 2>"$work/log" &
  child=$!
  for _ in $(seq 400); do
    [ "$(wc -l 2>/dev/null <"$run/metrics.csv" || echo 0)" -gt 2 ] && break
    sleep 0.02
  done
  kill -"$signal" $child
  wait $child
  status=$?
  if [ $status = 0 ]; then
    echo "skip resume: SIG$signal came after the end"
    continue
  fi
  [ $status = 8 ] && grep -q "interrupted after step .*--resume continues" "$work/log" ||
    not_ok "resume: SIG$signal: status $status: $(cat "$work/log")"
  if ! train --resume --out "$run"; then
    not_ok "resume: after SIG$signal"
    continue
  fi
  [ "$(hash_of "$run")" = "$expected" ] && ok "resume: SIG$signal saves and resumes" || not_ok "resume: SIG$signal: other weights"
done
exit $failed
