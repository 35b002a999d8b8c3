#!/usr/bin/env bash
# `selfspan train` from the outside: help, a run's files, and every refusal: one line, its status, nothing left behind.
. "$(dirname "$0")/shell_checks.sh"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
mounted=
trap '[ -n "$mounted" ] && umount "$work/disk"; rm -rf "$work"' EXIT

# absent NAME PATH: nothing was left there.
absent() { if [ -e "$2" ]; then not_ok "$1"; else ok "$1"; fi; }

cat >train.yaml <<'YAML'
train:
  data: data
  batch_examples: 4
  row_tokens: 256
  steps: 6
  warmup: 1
  validate_every: 3
  validate_examples: 8
  generate_examples: 2
  checkpoint_every: 2
  log_every: 1
model:
  n_layer: 1
  n_head: 2
  n_embd: 16
  n_positions: 256
YAML
make_data() {
  "$selfspan" data arithmetic --out "$1" --quiet --set data.train=100 --set data.validation=10 --set data.test=0 \
    --set arithmetic.operators_high=4 --set arithmetic.operators=+- --set data.n_anchor="$2"
}
if ! make_data data 32 >out 2>err || ! make_data other 33 >>out 2>>err; then
  not_ok "set-up"
  exit 1
fi
train=("$selfspan" train --config train.yaml --threads 1)

# --- what works ---

check "help" "$selfspan" train --help
grep -q "train.learning_rate" out && grep -q "examples:" out && grep -q "model.n_layer" out && grep -q "span.choose" out ||
  not_ok "help: keys and examples"
check "train" "${train[@]}" --out run --json
grep -q '"parameters_hash": "[0-9a-f]\{32\}"' out && grep -q '"steps": 6' out && ok "json outcome" || not_ok "json outcome"
refused "own base" 2 "lies in the run folder" "${train[@]}" --out run --force --set train.base=run/model.h5
[ -f run/model.h5 ] && ok "own base kept" || not_ok "own base kept"
head -n 1 run/metrics.csv | grep -qx "step,examples,tokens,targets,train_loss,train_token_accuracy,learning_rate,gradient_norm,skipped,seconds,tokens_per_second,attended_rows_per_token,validation_loss,validation_accuracy,validation_score" &&
  [ "$(wc -l <run/metrics.csv)" = 7 ] && [ "$(grep -c ',$' run/metrics.csv)" = 4 ] && ok "metrics" || not_ok "metrics"
ls run run/checkpoints >out
[ "$(tr '\n' ' ' <out)" = "run: checkpoints config.json metrics.csv model.h5 model.h5.xxh128 train.json  run/checkpoints: step_00000002.h5 step_00000002.h5.xxh128 step_00000004.h5 step_00000004.h5.xxh128 step_00000006.h5 step_00000006.h5.xxh128 " ] &&
  ok "files of a run" || not_ok "files of a run"
if command -v xxhsum >/dev/null; then
  (cd run && xxhsum -c model.h5.xxh128) >out 2>err && ok "xxhsum -c" || not_ok "xxhsum -c"
else
  echo "skip xxhsum -c: xxhsum not found"
fi
check "quiet" "${train[@]}" --out quiet --quiet
[ -s out ] || [ -s err ] && not_ok "quiet says nothing"
check "fine-tune" "${train[@]}" --set train.base=run/model.h5 --set train.arm=annotated --out tuned --quiet
check "resume of a finished run" "${train[@]}" --out run --resume --json
check "force" "${train[@]}" --out tuned --force --quiet

# --- command line and configuration ---

refused "unknown option" 2 "unknown option '--confg'; did you mean '--config'?" "$selfspan" train --confg train.yaml
refused "unknown key in the file" 2 "bad.yaml:2" bash -c 'printf "train:\n  lerning_rate: 1\n" >bad.yaml; "$0" train --config bad.yaml --out bad' "$selfspan"
grep -q "train.learning_rate" err && ok "unknown key has a suggestion" || not_ok "unknown key has a suggestion"
refused "unknown key in --set" 2 "train.learning_rate" "${train[@]}" --set train.learningrate=1 --out bad
refused "wrong type" 2 "train.steps" "${train[@]}" --set train.steps=many --out bad
refused "out of range" 2 "train.beta1" "${train[@]}" --set train.beta1=1.5 --out bad
refused "unknown arm" 2 "train.arm" "${train[@]}" --set train.arm=spam --out bad
refused "no such config" 4 "absent.yaml" "$selfspan" train --config absent.yaml --out bad
refused "no run folder" 2 "train.out is empty" "${train[@]}"
refused "no data folder" 2 "train.data is empty" "${train[@]}" --set train.data= --out bad
refused "resume and force" 2 "--resume and --force" "${train[@]}" --out bad --resume --force
refused "patience without validation" 2 "train.patience" "${train[@]}" --set train.patience=2 --set train.validate_every=0 --out bad
refused "heads do not divide the width" 2 "model.n_embd" "${train[@]}" --set model.n_head=3 --out badhead
refused "no such device" 2 "tpu" "${train[@]}" --device tpu --out bad
refused "no such precision" 2 "did you mean bf16" "${train[@]}" --precision bf17 --out bad
absent "refusals leave no folder" bad

# --- data and models ---

refused "missing data" 4 "nowhere/validation.h5: no such file; train.data must name" "${train[@]}" --set train.data=nowhere --out bad
refused "missing data, no validation" 4 "nowhere/train.h5: no such file" "${train[@]}" --set train.data=nowhere --out bad --set train.generate_examples=0
mkdir junk && echo junk >junk/train.h5
refused "data of another kind" 3 "junk/train.h5" "${train[@]}" --set train.data=junk --out bad --set train.generate_examples=0
cp -r data flipped && printf '\377' | dd of=flipped/train.h5 bs=1 seek=3000 conv=notrunc status=none
refused "damaged data" 3 "flipped/train.h5" "${train[@]}" --set train.data=flipped --out bad
refused "rows too short for an example" 6 "row_tokens" "${train[@]}" --set train.row_tokens=20 --out bad
refused "positions too few for an example" 6 "model.n_positions" "${train[@]}" --set model.n_positions=16 --out badpositions
absent "bad data leaves no folder" bad
refused "missing base" 4 "nowhere.h5" "${train[@]}" --set train.base=nowhere.h5 --out badbase
refused "base of another kind" 3 "train.yaml" "${train[@]}" --set train.base=train.yaml --out badbase
refused "base is a dataset" 3 "data/train.h5" "${train[@]}" --set train.base=data/train.h5 --out badbase
refused "vocabulary of the base" 3 "run/model.h5: its vocabulary" "${train[@]}" --set train.data=other --set train.base=run/model.h5 --out badbase
refused "shape of the base" 2 "run/model.h5: has model.n_layer = 1" "${train[@]}" --set train.base=run/model.h5 --set model.n_layer=2 --out badbase
head -c 4000 run/model.h5 >short.h5 && cp run/model.h5.xxh128 short.h5.xxh128
refused "truncated base" 3 "short.h5" "${train[@]}" --set train.base=short.h5 --out badbase
find bad* -name '*.h5' 2>/dev/null | grep -q . && not_ok "refusals write no model"

# --- run folders ---

refused "earlier run" 2 "run/metrics.csv: exists" "${train[@]}" --out run
refused "resume with another arm" 2 "train.arm is \"dense\" now" "${train[@]}" --out run --resume --set train.arm=dense
refused "resume with another batch" 2 "train.batch_examples" "${train[@]}" --out run --resume --set train.batch_examples=5
refused "resume with another model" 2 "model.n_layer" "${train[@]}" --out run --resume --set model.n_layer=2
refused "resume with other data" 2 "train.h5 in train.data" "${train[@]}" --out run --resume --set train.data=other
for file in run/checkpoints/*.h5; do printf '\377' | dd of="$file" bs=1 seek=2500 conv=notrunc status=none; done
refused "all checkpoints damaged" 3 "none of the 3 checkpoints is whole" "${train[@]}" --out run --resume
grep -q "passed over: run/checkpoints/step_00000004.h5" err && ok "damaged checkpoints are named" || not_ok "damaged checkpoints are named"
refused "unwritable folder" 4 "/proc/run" "${train[@]}" --out /proc/run
refused "a file in the folder's place" 4 "train.yaml" "${train[@]}" --out train.yaml
if [ "$(id -u)" != 0 ]; then
  mkdir locked && chmod 555 locked
  refused "read-only folder" 4 "locked" "${train[@]}" --out locked
else
  echo "skip read-only folder: root may write anywhere"
fi

# --- a full disk: an error that names the file, and the checkpoints before it are whole ---

mkdir disk
if mount -t tmpfs -o size=160k tmpfs disk 2>/dev/null; then
  mounted=1
  refused "full disk" 4 "disk/run" "${train[@]}" --out disk/run --set train.keep=100 --set train.steps=60 --set train.validate_every=0
  last=$(ls disk/run/checkpoints/*.h5 | tail -n 1)
  [ -n "$last" ] && [ ! -e disk/run/model.h5 ] && ok "full disk keeps checkpoints" || not_ok "full disk keeps checkpoints"
  mkdir room && cp -r disk/run room/run
  check "resume after a full disk" "${train[@]}" --out room/run --resume --set train.keep=100 --set train.steps=60 --set train.validate_every=0
  check "undisturbed" "${train[@]}" --out room/whole --set train.keep=1 --set train.steps=60 --set train.validate_every=0
  grep -h parameters_hash room/*/train.json | uniq | wc -l | grep -qx 1 && ok "same weights after a full disk" || not_ok "same weights after a full disk"
else
  echo "skip full disk: no permission to mount a small one"
fi
