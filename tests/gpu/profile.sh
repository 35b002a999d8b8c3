#!/usr/bin/env bash
# Profiles the CUDA kernels with Nsight Compute; without ncu or a GPU it prints the commands. A part is
# stopped after 5 minutes.
#
# usage: tests/gpu/profile.sh [--print] [PART...]      default: step step-span
#   step        every kernel of one training step (GPT-2 124M, 64 x 1024 tokens) with its time, as a table
#   step-span   the same under a span mask (segments of 32 tokens)
#   attention   all sections of the attention kernels over tiles, causal and under a span mask
#   norm        ... of the norm kernels     classifier  ... of the kernel between the classifier's products
#   adamw       ... of AdamW and the gradient norm
#   decode      DRAM bytes that decode attention reads over those it claims: 256 sequences, 128 of 1,024 rows in runs of 16
#   all         all of these
#   SELFSPAN=./selfspan        the binary      TESTS=build/gpu-tests   decode_kernel (made by `make gpu-tests`)
#   NCU=ncu                    Nsight Compute; it needs the right to read performance counters
#   PYTHON=python3             for the table
#   RESULTS=runs/gpu/profile   NAME.csv; NAME.ncu-rep (for ncu-ui) and NAME.txt, its sections
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
selfspan=${SELFSPAN:-./selfspan}
tests=${TESTS:-build/gpu-tests}
ncu=${NCU:-ncu}
python=${PYTHON:-python3}
results=${RESULTS:-runs/gpu/profile}
limit=290  # seconds a part
failed=0

gpt2=(--set model.n_layer=12 --set model.n_embd=768 --set model.n_head=12 --set model.vocab_size=50304)
# Clocks as in use. A child that is the program started again (for OpenBLAS) is looked at too.
common=(--clock-control none --target-processes all)

# run NAME COMMAND...: prints the command; runs it unless only asked to print.
run() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  printf '%q ' "$@"
  echo
  [ $print = 1 ] && return
  local left=$((deadline - SECONDS))
  timeout -k 5 $((left > 1 ? left : 1)) "$@" >"$results/$name.log" 2>&1 && return
  echo "profile: $name failed:" >&2
  tail -qn 4 "$results/$name.log" "$results/$name.csv" >&2 2>/dev/null
  failed=1
  return 1
}

# step NAME OPTIONS...: times of all kernels of the second step; the first tunes matrix products, undisturbed.
step() {
  local name=$1
  shift
  run "$name" "$ncu" "${common[@]}" --cache-control none --metrics gpu__time_duration.sum --print-units base --csv \
    --log-file "$results/$name.csv" --nvtx --nvtx-include step/ "$selfspan" bench train --device cuda "${gpt2[@]}" \
    "$@" --repeats 1 --warmup 1 || return
  [ $print = 1 ] || "$python" tests/gpu/kernels.py "$results/$name.csv" || failed=1
}

# sections NAME KERNEL COMMAND...: all sections of the kernel's second launch.
sections() {
  local name=$1 kernel=$2
  shift 2
  run "$name" "$ncu" "${common[@]}" --set full --kernel-name "$kernel" --launch-skip 1 --launch-count 1 \
    --force-overwrite --export "$results/$name" "$@" || return
  [ $print = 1 ] && return
  "$ncu" --import "$results/$name.ncu-rep" --page details >"$results/$name.txt" 2>&1 || failed=1
  grep -E ' Duration|(SM\)|DRAM|L2 Cache) Throughput|Achieved Occupancy|Registers Per' "$results/$name.txt"
}

train=("$selfspan" bench train --device cuda "${gpt2[@]}" --rows 16 --row-tokens 1024 --repeats 1 --warmup 1)
attention=("$selfspan" bench attention --device cuda --attention tiled --no-check --repeats 1 --warmup 1)

part_step() { step step --rows 64 --row-tokens 1024; }
part_step-span() { step step-span --rows 64 --row-tokens 1024 --segment 32; }
part_attention() {
  local kernel
  for kernel in forward backward_q backward_kv; do
    sections "attention-causal-$kernel" "attention_${kernel}_kernel" "${attention[@]}"
    sections "attention-span-$kernel" "attention_${kernel}_kernel" "${attention[@]}" --segment 32
  done
}
part_norm() {
  local kernel
  for kernel in forward backward reduce; do
    sections "norm-$kernel" "norm_${kernel}_kernel" "${train[@]}"
  done
}
part_classifier() { sections classifier classifier_rows "${train[@]}"; }
part_adamw() {
  sections adamw adamw_kernel "${train[@]}"
  sections gradient-norm squares_kernel "${train[@]}"
}

# The second launch: the first is checked against the other kernel. ncu empties the caches before it.
part_decode() {
  local runs name
  for runs in 16 8 64; do
    name=decode-runs-$runs
    run "$name" "$ncu" "${common[@]}" --kernel-name regex:decode_kernel --launch-skip 1 --launch-count 1 \
      --metrics dram__bytes_read.sum,gpu__time_duration.sum --print-units base --csv --log-file "$results/$name.csv" \
      "$tests/decode_kernel" --runs $runs || continue
    [ $print = 1 ] || "$python" tests/gpu/dram.py "$results/$name.csv" "$results/$name.log" || failed=1
  done
}

print=0
parts=()
for argument in "$@"; do
  case $argument in
  -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
  --print) print=1 ;;
  all) parts+=(step step-span attention norm classifier adamw decode) ;;
  *)
    declare -F "part_$argument" >/dev/null || {
      echo "profile: unknown part '$argument'; --help lists them" >&2
      exit 2
    }
    parts+=("$argument")
    ;;
  esac
done
if [ $print = 0 ] && ! command -v "$ncu" >/dev/null; then
  echo "profile: Nsight Compute (ncu) not found; these are the commands:"
  print=1
elif [ $print = 0 ] && ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  echo "profile: no GPU; these are the commands:"
  print=1
fi
[ $print = 1 ] || mkdir -p "$results"
[ ${#parts[@]} -gt 0 ] || parts=(step step-span)
for part in "${parts[@]}"; do
  deadline=$((SECONDS + limit))
  "part_$part"
done
exit $failed
