# Sourced by the command-line tests: a scratch folder, and checks that print `ok` and `not ok` lines.
set -u
selfspan=${SELFSPAN:?the binary to test}
repository=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

ok() { echo "ok $1"; }
not_ok() {
  echo "not ok $1"
  sed 's/^/  /' out err 2>/dev/null | head -20
}

# check NAME COMMAND...: the command succeeds.
check() {
  local name=$1
  shift
  if "$@" >out 2>err; then ok "$name"; else not_ok "$name"; fi
}

# refused NAME STATUS PART COMMAND...: exits with the status and one line that contains PART.
refused() {
  local name=$1 status=$2 part=$3 rc
  shift 3
  "$@" >out 2>err
  rc=$?
  if [ $rc -eq "$status" ] && grep -qF -- "$part" err && [ "$(grep -c 'error:' err)" -eq 1 ]; then
    ok "$name"
  else
    echo "  exit status $rc, expected $status and \"$part\""
    not_ok "$name"
  fi
}

# python NAME CODE [ARGUMENT...]: the Python code passes; skipped where there is no python3.
python() {
  local name=$1 code=$2
  shift 2
  if ! command -v python3 >/dev/null; then
    echo "skip $name: python3 not found"
  elif python3 -c "$code" "$@" 2>err; then
    ok "$name"
  else
    not_ok "$name"
  fi
}

# tiny_model ARM OUT: two steps of a small model on the data set in ./data.
tiny_model() {
  "$selfspan" train --config tiny.yaml --set "train.arm=$1" --out "$2" --quiet
}

cat >tiny.yaml <<'YAML'
train:
  data: data
  batch_rows: 2
  row_tokens: 256
  steps: 2
  warmup: 1
  validate_every: 0
  validate_examples: 0
  generate_examples: 0
model:
  n_layer: 1
  n_head: 2
  n_embd: 32
  n_positions: 256
YAML
