#!/usr/bin/env bash
# Builds, tests and measures on a machine with an NVIDIA GPU, in parts of under 10 minutes each, and prints one table.
#
# usage: tests/gpu/run.sh PART...     parts: build test resume attention train decode decode-sweep decode-kernel replay
#        losses data prototype quickstart engines (after quickstart) sanitize table
#   SELFSPAN=./selfspan   the binary          TESTS=build/gpu-tests   the test programs (both made by `build`)
#   PYTHON=python3        for the peers (PyTorch); PEER=0 leaves them out
#   RESULTS=runs/gpu      JSON reports, logs and datasets; an existing one is added to
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
selfspan=${SELFSPAN:-./selfspan}
tests=${TESTS:-build/gpu-tests}
python=${PYTHON:-python3}
results=${RESULTS:-runs/gpu}
mkdir -p "$results"
failed=0
failures=()

peer=()
[ "${PEER:-1}" = 1 ] && peer=(--peer "$python")
gpt2=(--set model.n_layer=12 --set model.n_embd=768 --set model.n_head=12 --set model.vocab_size=50304)

note() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

# failure NAME [LOG]: says so now and at the end, with where to look.
failure() {
  failed=1
  failures+=("$1${2:+, see $2}")
  echo "FAILED $1${2:+, see $2}"
}

# report NAME COMMAND...: runs a benchmark with --json, keeps its report, goes on after a failure.
report() {
  local name=$1
  shift
  note "$name: $*"
  if "$@" --json >"$results/$name.json" 2>"$results/$name.log"; then
    "$python" tests/gpu/table.py "$results/$name.json"
  else
    tail -n 3 "$results/$name.log"
    # A peer that fails leaves our figures.
    if [ -s "$results/$name.json" ]; then
      "$python" tests/gpu/table.py "$results/$name.json"
    else
      rm -f "$results/$name.json"
    fi
    failure "$name" "$results/$name.log"
  fi
}

data() {  # data NAME CONFIG ARGUMENTS...: a dataset, once
  local folder=$results/$1 config=$2
  shift 2
  [ -f "$folder/card.json" ] || "$selfspan" data arithmetic --config "$config" --out "$folder" --quiet "$@" ||
    failure "dataset $folder"
}

datasets() {
  data wide configs/arithmetic-wide.yaml --set data.train=4000 --set data.validation=50 --set data.test=50
  data short configs/prototype/data.yaml --set data.train=20000 --set data.validation=50 --set data.test=50
}

part_build() {
  make -j"$(nproc)" all gpu-tests || failure build
}

part_test() {
  local passed=0 total=0 program log status
  for program in "$tests"/test_cuda_*; do
    [ -x "$program" ] || continue
    total=$((total + 1))
    note "$program"
    log=$results/$(basename "$program").log
    "$program" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
      passed=$((passed + 1))
      grep -c '\[       OK \]' "$log" | sed 's/$/ tests passed/'
    elif ! grep -E 'FAILED|[Ee]rror|ERROR|NMSE|nmse' "$log" | head -n 20 | grep .; then
      tail -n 5 "$log"  # it ended without a word of its own: a signal, or a library that is missing
    fi
    [ $status = 0 ] || failure "$(basename "$program") (status $status)" "$log"
  done
  echo "$passed of $total test programs passed"
  [ "$total" -gt 0 ] || failure "test: no programs in $tests (part build makes them)"
}

part_resume() {
  note "resume: killed and resumed runs end with the same bits"
  DEVICE=cuda SELFSPAN=$(realpath "$selfspan") bash tests/resume.test.sh || failure resume
}

part_attention() {
  datasets
  report attention-causal "$selfspan" bench attention --device cuda "${peer[@]}"
  report attention-causal-tiled "$selfspan" bench attention --device cuda --attention tiled
  report attention-span32 "$selfspan" bench attention --device cuda --segment 32 "${peer[@]}"
  report attention-wide-span "$selfspan" bench attention --device cuda --data "$results/wide" --rows 16 \
    --row-tokens 2048 "${peer[@]}"
  report attention-wide-document "$selfspan" bench attention --device cuda --data "$results/wide" --rows 16 \
    --row-tokens 2048 --mask document "${peer[@]}"
  report attention-short-span "$selfspan" bench attention --device cuda --data "$results/short" --rows 16 \
    --row-tokens 1024 "${peer[@]}"
  report attention-short-document "$selfspan" bench attention --device cuda --data "$results/short" --rows 16 \
    --row-tokens 1024 --mask document "${peer[@]}"
  report attention-d128 "$selfspan" bench attention --device cuda --heads 16 --kv-heads 4 --head-dim 128 --rows 4 \
    --row-tokens 2048 --segment 32
}

part_train() {
  datasets
  report train-124m-b32 "$selfspan" bench train --device cuda "${gpt2[@]}" --rows 32 --row-tokens 1024 "${peer[@]}"
  report train-124m-b64 "$selfspan" bench train --device cuda "${gpt2[@]}" --rows 64 --row-tokens 1024 "${peer[@]}"
  report train-wide-span "$selfspan" bench train --device cuda "${gpt2[@]}" --rows 16 --row-tokens 2048 \
    --data "$results/wide"
  report train-wide-document "$selfspan" bench train --device cuda "${gpt2[@]}" --rows 16 --row-tokens 2048 \
    --data "$results/wide" --mask document
}

# decode NAME ARGUMENTS...: 1,024 rows a dense query on average, the context and half of the steps.
decode() {
  local name=$1
  shift
  report "$name" "$selfspan" bench decode --device cuda "${gpt2[@]}" --set model.n_positions=1056 --context 1000 \
    --steps 40 --warmup 4 "$@"
}

part_decode() {
  decode decode-124m-b1 --batch 1 --visible-rows 128 --run-length 16 "${peer[@]}"
  decode decode-124m-b64 --batch 64 --visible-rows 128 --run-length 16 --mixed "${peer[@]}"
  decode decode-124m-b256 --batch 256 --visible-rows 128 --run-length 16 --mixed "${peer[@]}"
}

# Run lengths against time: 256 rows, so that the longest is one run.
part_decode-sweep() {
  decode decode-sweep-b64 --batch 64 --visible-rows 256 --run-length 8,16,32,64,128,256
  decode decode-sweep-b256 --batch 256 --visible-rows 256 --run-length 8,16,32,64,128,256
}

part_decode-kernel() {
  note "decode attention alone: $tests/decode_kernel"
  "$tests/decode_kernel" 2>&1 | tee "$results/decode_kernel.log"
  [ "${PIPESTATUS[0]}" = 0 ] || failure decode_kernel "$results/decode_kernel.log"
  [ ${#peer[@]} -gt 0 ] && "$python" -c 'import flashinfer' 2>/dev/null || return 0
  note "the same rows: FlashInfer"
  "$python" tests/peers/flashinfer_decode.py 12 12 64 256 1024 128 8,16,32,64,128 2>&1 | tee "$results/flashinfer.log" ||
    failure flashinfer "$results/flashinfer.log"
}

# Derivations of 64 operators; REPLAY_EXAMPLES of them, in slots as many as fit beside each other (REPLAY_BATCH). The peer
# decodes them all, or stops after REPLAY_SECONDS and has then no examples a second to compare.
part_replay() {
  local examples=${REPLAY_EXAMPLES:-4096}
  data replay configs/arithmetic-wide.yaml --set data.train=0 --set data.validation=0 --set "data.test=$examples"
  report replay-124m "$selfspan" bench decode --device cuda "${gpt2[@]}" --replay "$results/replay" --examples "$examples" \
    --arms "${REPLAY_ARMS:-dense,annotated,span}" ${REPLAY_BATCH:+--batch "$REPLAY_BATCH"} "${peer[@]}"
}

part_losses() {
  report losses-124m "$selfspan" bench losses --device cuda "${gpt2[@]}" --set model.norm_epsilon=1e-5 \
    --out "$results/losses" --peer "$python"
}

part_prototype() {
  note "prototype"
  DEVICE=cuda SELFSPAN=$selfspan bash configs/prototype/run.sh "$results/prototype" || failure prototype
}

part_quickstart() {
  note "quickstart"
  DEVICE=cuda SELFSPAN=$selfspan bash configs/quickstart/run.sh "$results/quickstart" || failure quickstart
}

# The GPU by itself, and beside it the host's trackers, sampler and planner: the same tokens and rows for every example,
# free, constrained and sampled. Wants the models of part quickstart.
part_engines() {
  local out=$results/engines models=() arm way engine file same
  data engines configs/quickstart/data.yaml --set data.train=0 --set data.validation=0 \
    --set "data.test=${ENGINE_EXAMPLES:-1200}"
  for arm in dense annotated span; do models+=(--model "$results/quickstart/$arm/model.h5"); done
  for way in decode.constrain=no decode.constrain=yes decode.temperature=0.7; do
    for engine in device host; do
      note "engines: $way, $engine"
      "$selfspan" eval "${models[@]}" --data "$out/test.h5" --device cuda --set "$way" --set "decode.engine=$engine" \
        --set decode.max_tokens=160 --ceiling --quiet --force --out "$out/$way-$engine" | head -n 5 ||
        failure "engines $way $engine"
    done
    for file in "$out/$way-device"/items-*.jsonl; do
      same="$out/$way-host/$(basename "$file")"
      cmp "$file" "$same" && echo "the same $(wc -l <"$file") items: $way, $(basename "$file" .jsonl)" ||
        failure "engines differ: $way, $(basename "$file")"
    done
  done
}

# One test of one program under one tool.
sanitize_one() { # TOOL PROGRAM TEST
  local log own=0
  log=$results/$1-$(basename "$2").${3//[?(),]/_}.log
  # initcheck does not see what cuBLAS writes through TMA: there, products are our own.
  [ "$1" = initcheck ] && own=1
  SELFSPAN_TEST=$3 SELFSPAN_SMALL=1 SELFSPAN_OWN_PRODUCTS=$own timeout "${SANITIZE_SECONDS:-540}" compute-sanitizer --tool "$1" \
    --report-api-errors no --error-exitcode 9 "$2" >"$log" 2>&1
  echo "exit status $?" >>"$log"
}

# Test by test, many at once: the GPU is shared, the checking is done by the host.
part_sanitize() {
  local tool program name log clean
  export -f sanitize_one
  export results
  # A space in a test's name is any character of a pattern.
  for program in "$tests"/test_cuda_*; do
    SELFSPAN_SMALL=1 "$program" 2>&1 | sed -n 's/^\[ RUN      \] //p' | tr ' ' '?' | while read -r name; do
      for tool in ${SANITIZE_TOOLS:-memcheck racecheck initcheck}; do
        echo "$tool $program $name"
      done
    done
  done | grep -E "${SANITIZE_TESTS:-.}" | xargs -r -P "${SANITIZE_JOBS:-$(nproc)}" -L 1 bash -c 'sanitize_one "$@"' sanitize
  note "sanitizers"
  compgen -G "$results/*check-test_cuda_*.log" >/dev/null || failure "sanitize: no test in $tests is called ${SANITIZE_TESTS:-anything}"
  for program in "$tests"/test_cuda_*; do
    for tool in memcheck racecheck initcheck; do
      clean=0
      for log in "$results/$tool-$(basename "$program")".*.log; do
        [ -f "$log" ] || continue
        if grep -qE 'SUMMARY: 0 (errors|hazards)' "$log" && [ "$(tail -n 1 "$log")" = "exit status 0" ]; then
          clean=$((clean + 1))
        elif grep -q 'terminated before first instrumented API call' "$log" && ! grep -qE 'FAILED|Running 0' "$log"; then
          echo "none   $(basename "$log" .log): nothing in it runs on the GPU"
        else
          grep -E '=========|FAILED|ERROR' "$log" | head -n 6 | grep . || tail -n 3 "$log"
          failure "$(basename "$log" .log)" "$log"
        fi
      done
      [ "$clean" = 0 ] || echo "clean  $tool $(basename "$program"), $clean tests"
    done
  done
}

part_table() {
  note "table"
  "$python" tests/gpu/table.py "$results"/*.json
}

[ $# -gt 0 ] || set -- build test resume attention train decode decode-sweep decode-kernel replay losses table
for part in "$@"; do
  if [ "$part" = data ]; then
    datasets
  elif declare -F "part_$part" >/dev/null; then
    "part_$part"
  else
    echo "run.sh: unknown part '$part'" >&2
    exit 2
  fi
done
[ $failed = 0 ] || printf '\n== failed\n'
[ $failed = 0 ] || printf '%s\n' "${failures[@]}"
exit $failed
