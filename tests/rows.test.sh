#!/usr/bin/env bash
# `selfspan export rows` and `import --rows`: a base whose added tokens were trained comes back from its rows, bit for bit.
. "$(dirname "$0")/shell_checks.sh"
export GOMP_SPINCOUNT=1000

# A random llama2.c model, SEED.bin, and tokenizer.json: byte-level BPE of 290 of its 300 tokens that lacks 13 bytes.
make_base() {
  python3 - "$1" <<'PYTHON'
import json, random, struct, sys
random.seed(int(sys.argv[1]))
dim, hidden, layers, heads, kv, vocabulary, positions = 16, 24, 2, 4, 2, 300, 256
head = dim // heads
n = vocabulary * dim + layers * (2 * dim + 2 * dim * dim + 2 * kv * head * dim + 3 * dim * hidden) + dim + positions * head
with open(sys.argv[1] + ".bin", "wb") as file:
    file.write(struct.pack("<7i", dim, hidden, layers, heads, kv, vocabulary, positions))
    file.write(struct.pack(f"<{n}f", *(random.gauss(0, 0.3) for _ in range(n))))
printable = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
others = iter(range(256, 512))
printable = [c or chr(next(others)) for c in printable]
kept = [printable[b] for b in range(256) if b not in (0xc0, 0xc1) and b < 0xf5]
pairs = [(a, b) for a in "abcdefgh" for b in "abcdefgh"][:290 - len(kept)]
vocab = {text: i for i, text in enumerate(kept + [a + b for a, b in pairs])}
with open("tokenizer.json", "w") as file:
    json.dump({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
               "model": {"type": "BPE", "vocab": vocab, "merges": [a + " " + b for a, b in pairs]}}, file)
PYTHON
}

if ! command -v python3 >/dev/null; then
  echo "skip rows: python3 not found"
  exit 0
fi
for k in 1 2 3 4; do
  printf '{"id": "%s", "article": "The bridge of Town%s is closed. A boat will run. No one was hurt.", ' "$k" "$k"
  printf '"highlights": "A boat will run .\\nThe bridge is closed ."}\n'
done >train.jsonl
printf 'The bridge of Place is closed. A boat will run until June. No one was hurt.' >article.txt
cat >rows.yaml <<'YAML'
train:
  data: data
  base: base.h5
  arm: span
  learn: span_tokens
  learning_rate: 1.0e-2
  batch_rows: 1
  row_tokens: 256
  steps: 3
  warmup: 1
  validate_every: 0
  validate_examples: 0
  generate_examples: 0
span:
  choose: all
  lead: 2
  max_header: 12
YAML
import() { "$selfspan" import --from "$1.bin" --tokenizer tokenizer.json --quiet "${@:2}"; }
if ! { make_base 1 && make_base 2 && import 1 --out base.h5 --anchors 24 &&
  "$selfspan" data cnndm --set cnndm.train=train.jsonl --set cnndm.tokenizer=tokenizer.json --set data.n_anchor=24 --set data.max_header=12 \
    --out data --quiet && "$selfspan" train --config rows.yaml --out run --quiet; } >out 2>err; then
  not_ok set-up
  exit 1
fi

# --- there and back ---
check export "$selfspan" export rows --model run/model.h5 --out rows.safetensors
grep -q 'rows 290 to 332 of 16, F32, arm span, learnt on base [0-9a-f]\{32\}$' out && ok export-says || not_ok export-says
[ "$(wc -c <rows.safetensors)" -lt 4000 ] && ok export-small || not_ok export-small
check import-rows import 1 --rows rows.safetensors --out again.h5
grep -q '^learnt .*rows 290 to 332, arm span, policy .*"span.lead": 2' out && grep -q '(13 single bytes, 30 span tokens, 24 of them anchors)' out &&
  ok import-says || not_ok import-says
for name in run/model again; do "$selfspan" export hf --model $name.h5 --out "hf-${name##*/}" --quiet; done >out 2>err
cmp hf-model/model.safetensors hf-again/model.safetensors >out 2>err && ok same-weights || not_ok same-weights
check export-again "$selfspan" export rows --model again.h5 --out again.safetensors
cmp rows.safetensors again.safetensors >out 2>err && ok same-rows || not_ok same-rows
"$selfspan" export rows --model base.h5 --out initial.safetensors >out 2>err
tail -c 2752 initial.safetensors >initial.rows
tail -c 2752 rows.safetensors | cmp -s - initial.rows && not_ok rows-were-trained || ok rows-were-trained
for name in run/model again; do
  "$selfspan" generate --model $name.h5 --text article.txt --json --set decode.max_tokens=30 >"${name##*/}.json" 2>err
done
[ -s model.json ] && cmp model.json again.json >out 2>err && ok same-summary || not_ok same-summary
check seed-does-not-matter import 1 --rows rows.safetensors --out seed.h5 --seed 7 --anchors 24 --task cnndm
"$selfspan" export rows --model seed.h5 --out seed.safetensors >out 2>err
cmp rows.safetensors seed.safetensors >out 2>err && ok seed-same-rows || not_ok seed-same-rows
check bf16 "$selfspan" export rows --model run/model.h5 --out bf16.safetensors --dtype bf16
check bf16-import import 1 --rows bf16.safetensors --out bf16.h5 --json
python bf16-json 'import json; assert json.load(open("out"))["rows"] == "bf16.safetensors"'
check bf16-again "$selfspan" export rows --model bf16.h5 --out bf16-again.safetensors --dtype bf16
cmp bf16.safetensors bf16-again.safetensors >out 2>err && ok bf16-same-rows || not_ok bf16-same-rows
# Notes of the import outlast a second training and a resumed one.
check further "$selfspan" train --config rows.yaml --out further --quiet --set train.base=run/model.h5 --set train.checkpoint_every=2
rm further/model.h5 further/checkpoints/step_00000003.h5
check resumed "$selfspan" train --config rows.yaml --out further --quiet --set train.base=run/model.h5 --set train.checkpoint_every=2 --resume
check further-export "$selfspan" export rows --model further/model.h5 --out further.safetensors

# --- a vocabulary that came back has no new rows: its span tokens' are learnt ---
check hf-base "$selfspan" import --from hf-model --out back.h5 --anchors 24 --quiet
check hf-export "$selfspan" export rows --model back.h5 --out back.safetensors
grep -q 'rows 303 to 332' out && ok hf-rows || not_ok hf-rows
check hf-import "$selfspan" import --from hf-model --rows back.safetensors --out back-again.h5 --quiet

# --- refusals ---
refused other-base 3 "rows.safetensors: its rows were learnt on another base: base_xxh128 is " import 2 --rows rows.safetensors --out x.h5
refused other-tokens 3 "learnt on another base: first is 303, that of 1.bin 290" import 1 --rows back.safetensors --out x.h5
refused other-task 2 "--task multihop: the rows of rows.safetensors are of task cnndm" \
  import 1 --rows rows.safetensors --task multihop --out x.h5
refused other-anchors 2 "--anchors 25: the rows of rows.safetensors are of 24 anchors" \
  import 1 --rows rows.safetensors --anchors 25 --out x.h5
refused no-anchors 2 "--anchors 0, expected 1..65536" import 1 --anchors 0 --out x.h5
refused no-rows 4 "absent.safetensors" import 1 --rows absent.safetensors --out x.h5
refused not-rows 3 "format in its metadata is not selfspan-rows" import 1 --rows hf-model/model.safetensors --out x.h5
sed 's/span\.lead/span.lean/' rows.safetensors >policy.safetensors
refused policy 3 "policy.safetensors: unknown key 'span.lean'" import 1 --rows policy.safetensors --out x.h5
[ ! -e x.h5 ] && ok import-leaves-nothing || not_ok import-leaves-nothing
refused exists 2 "--force replaces it" "$selfspan" export rows --model run/model.h5 --out rows.safetensors
check force "$selfspan" export rows --model run/model.h5 --out rows.safetensors --force
refused dtype 2 "expected f32 or bf16" "$selfspan" export rows --model run/model.h5 --out y --dtype f16
refused needed 2 "--model and --out are needed" "$selfspan" export rows --model run/model.h5
"$selfspan" train --config rows.yaml --out all --quiet --set train.learn=all >out 2>err
refused learnt-all 3 "was trained with train.learn=all" "$selfspan" export rows --model all/model.h5 --out y
tiny_model span random >out 2>err
refused not-imported 3 "does not say which rows an import added" "$selfspan" export rows --model random/model.h5 --out y
[ ! -e y ] && ok export-leaves-nothing || not_ok export-leaves-nothing
