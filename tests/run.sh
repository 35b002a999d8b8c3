#!/usr/bin/env bash
# Runs test programs (cmocka) and shell tests, two at a time, and prints a table and a last line
# "N passed, N failed, N skipped".
#   run.sh PROGRAM_OR_SCRIPT...     skip:NAME counts a test that could not be built
# Reads BUILD (folder for logs), SELFSPAN (the binary), SELFSPAN_TEST_TIMEOUT (seconds a program, 900).
# Shell tests print "ok NAME", "not ok NAME" or "skip NAME" lines.
set -u
BUILD=${BUILD:-build}
logs=$BUILD/test-logs
limit=${SELFSPAN_TEST_TIMEOUT:-900}
rm -rf "$logs" && mkdir -p "$logs" || exit 1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
jobs=$((cores >= 2 ? 2 : 1))
# At least two threads, so that races can show; passive waiting keeps two programs on two cores apart.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / jobs >= 2 ? cores / jobs : 2))}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} OPENBLAS_NUM_THREADS=1
export SELFSPAN BUILD
if [ "${BUILD##*/}" = asan ]; then
  export SELFSPAN_TEST_SANITIZED=1 # tests may shrink their sizes
  # Leak detection needs ptrace, which some containers forbid.
  leaks=0
  echo 'int main(void) { return 0; }' >"$scratch/leak.c"
  ${CC:-cc} -fsanitize=address "$scratch/leak.c" -o "$scratch/leak" && ASAN_OPTIONS=detect_leaks=1 "$scratch/leak" >/dev/null 2>&1 && leaks=1
  [ $leaks = 1 ] || echo "asan: leak detection does not work here"
  export ASAN_OPTIONS="detect_leaks=$leaks:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
  export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
fi

name_of() {
  local name=${1##*/}
  [[ $1 == */gpu-tests/* ]] && name=gpu_$name # beside its twin on the emulator
  name=${name#skip:}
  echo "${name%.test.sh}"
}

# run_one PATH: leaves NAME.log, NAME.status, NAME.seconds.
run_one() {
  local name start rc
  name=$(name_of "$1")
  if [[ $1 == skip:* ]]; then
    echo "skip $name" >"$logs/$name.log"
    echo 0 >"$logs/$name.status"
    echo 0.0 >"$logs/$name.seconds"
    return
  fi
  start=$(date +%s.%N)
  mkdir -p "$scratch/$name"
  if [[ $1 == *.test.sh ]]; then
    TMPDIR=$scratch/$name timeout -k 10 "$limit" bash "$1" >"$logs/$name.log" 2>&1 </dev/null
  else
    TMPDIR=$scratch/$name timeout -k 10 "$limit" "$1" >"$logs/$name.log" 2>&1 </dev/null
  fi
  rc=$?
  rm -rf "${scratch:?}/$name"
  echo $rc >"$logs/$name.status"
  awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f\n", b - a }' >"$logs/$name.seconds"
}

# count LOG KIND: prints "passed failed skipped".
count() {
  if [ "$2" = shell ]; then
    awk '/^ok /{p++} /^not ok /{f++} /^skip /{s++} END {print p+0, f+0, s+0}' "$1"
  else
    # Only the line that closes a [ RUN ] counts: cmocka repeats failures in its own summary.
    awk '/\[ RUN +\]/ { if (open) f++; open = 1; next }
         open && /\[ +OK \]/ { p++; open = 0 }
         open && /\[ +SKIPPED \]/ { s++; open = 0 }
         open && /\[ +(FAILED|ERROR) +\]/ { f++; open = 0 }
         END { print p+0, f+open, s+0 }' "$1"
  fi
}

width=4
for test in "$@"; do
  name=$(name_of "$test")
  ((${#name} > width)) && width=${#name}
done

total_passed=0 total_failed=0 total_skipped=0
report() {
  local name kind=cmocka rc passed failed skipped why=
  name=$(name_of "$1")
  [[ $1 == *.test.sh || $1 == skip:* ]] && kind=shell
  rc=$(cat "$logs/$name.status" 2>/dev/null || echo 255)
  read -r passed failed skipped <<<"$(count "$logs/$name.log" $kind)"
  if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
    why="ran past $limit seconds or was killed"
  elif [ "$rc" -ge 128 ]; then
    why="crashed, signal $((rc - 128))"
  elif [ "$rc" != 0 ]; then
    why="exit status $rc"
  elif [ $((passed + failed + skipped)) = 0 ]; then
    why="ran no test"
  fi
  [ -n "$why" ] && [ "$failed" = 0 ] && failed=1
  printf "%-${width}s  %6d  %6d  %7d  %7s  %s\n" "$name" "$passed" "$failed" "$skipped" "$(cat "$logs/$name.seconds" 2>/dev/null)" "$why"
  if [ "$failed" != 0 ]; then
    sed 's/^/    | /' "$logs/$name.log" | tail -n 200
  fi
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  total_skipped=$((total_skipped + skipped))
}

printf "%-${width}s  %6s  %6s  %7s  %7s\n" test passed failed skipped seconds
running=0
for test in "$@"; do
  if [ $running = $jobs ]; then
    wait -n
    running=$((running - 1))
  fi
  run_one "$test" &
  running=$((running + 1))
done
wait
for test in "$@"; do report "$test"; done

if [ $# = 0 ]; then
  echo "no tests found"
  total_failed=1
fi
echo "$total_passed passed, $total_failed failed, $total_skipped skipped"
[ $total_failed = 0 ]
