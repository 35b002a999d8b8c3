#!/usr/bin/env bash
# Every harness over its seeds and then a second of its own inputs: smoke.sh PROGRAM... What a harness finds is left in the
# folder of its program. Exits 1 at the first finding.
set -u
cd "$(dirname "$0")/../.." || exit 1
export ASAN_OPTIONS=allocator_may_return_null=1:${ASAN_OPTIONS:-} UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for program in "$@"; do
  name=${program##*/}
  mkdir -p "$scratch/$name"
  seeds=tests/fuzz/seeds/$name
  [ -d "$seeds" ] || { echo "fuzz $name: no seeds in $seeds"; exit 1; }
  if "$program" -max_total_time=1 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -artifact_prefix="${program%/*}/$name-" \
    "$scratch/$name" "$seeds" >"$scratch/log" 2>&1; then
    echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log") inputs, nothing found"
  else
    cat "$scratch/log"
    echo "fuzz $name: failed"
    exit 1
  fi
done
