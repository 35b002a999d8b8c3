#!/usr/bin/env bash
# `selfspan import`, `export hf`, `generate --prompt`. Logits beside transformers' where PYTHON (default python3) has torch and
# transformers: of random models, and of the GGUF file SELFSPAN_GGUF (a Llama, e.g. SmolLM2). llama2.c's stories260K below
# SELFSPAN_TEST_DATA tells its published story.
program=$(cd "${BUILD:-build}" && pwd)/tests/test_import_logits
. "$(dirname "$0")/shell_checks.sh"
peer=$repository/tests/peers/hf_logits.py
interpreter=${PYTHON:-python3}
export GOMP_SPINCOUNT=1000

# A random llama2.c model of 300 tokens, and its tokenizer.
make_model() {
  "$interpreter" - <<'PYTHON'
import json, random, struct
random.seed(5)
dim, hidden, layers, heads, kv, vocabulary, positions = 16, 24, 2, 4, 2, 300, 32
head = dim // heads
n = vocabulary * dim + layers * (2 * dim + 2 * dim * dim + 2 * kv * head * dim + 3 * dim * hidden) + dim + positions * head
with open("model.bin", "wb") as file:
    file.write(struct.pack("<7i", dim, hidden, layers, heads, kv, vocabulary, positions))
    file.write(struct.pack(f"<{n}f", *(random.gauss(0, 0.3) for _ in range(n))))
tokens = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [b"<0x%02X>" % b for b in range(256)]
tokens += [b" "] + [bytes([c]) for c in range(97, 123)] + [b"th", b"he", b" a"]
tokens += [b"q%d" % i for i in range(vocabulary - len(tokens))]
with open("tokenizer.bin", "wb") as file:
    file.write(struct.pack("<i", 8))
    for i, token in enumerate(tokens):
        file.write(struct.pack("<fi", -float(i), len(token)) + token)
# Byte-level BPE of as many tokens, and the model that a vocabulary over it comes back to.
printable = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
others = iter(range(256, 512))
printable = [c or chr(next(others)) for c in printable]
pairs = [(a, b) for a in "abcdefg" for b in "abcdefg"][:vocabulary - 256]
vocab = {text: i for i, text in enumerate(printable + [a + b for a, b in pairs])}
with open("tokenizer.json", "w") as file:
    json.dump({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
               "model": {"type": "BPE", "vocab": vocab, "merges": [a + " " + b for a, b in pairs]}}, file)
with open("few.bin", "wb") as file:  # another vocabulary
    file.write(struct.pack("<i", 8))
    for i, token in enumerate(tokens + [b"one more"]):
        file.write(struct.pack("<fi", -float(i), len(token)) + token)
PYTHON
}

if ! command -v "$interpreter" >/dev/null; then
  echo "skip import: $interpreter not found"
elif ! make_model >out 2>err; then
  not_ok set-up
else
  check import "$selfspan" import --from model.bin --out model.h5 --anchors 8 --quiet
  grep -qF "LlamaForCausalLM, llama2.c" out && grep -qF "freq_cis_real: rotary angles, computed" out &&
    grep -qF "2 layers, width 16, 4 heads (2 for keys and values), MLP 24, 32 positions (rotary)" out &&
    ok import-says || not_ok import-says
  check import-json "$selfspan" import --from model.bin --out again.h5 --anchors 8 --json
  cp out report
  python import-json-keys 'import json; r = json.load(open("report")); assert r["model"]["vocab_size"] == 314
assert r["tokens"] == 300 and r["span_tokens"] == 14 and r["rows_dropped"] == 0 and len(r["not_used"]) == 2'
  cmp -s model.h5 again.h5 && ok import-same-bytes || not_ok import-same-bytes
  refused import-exists 2 "--force replaces it" "$selfspan" import --from model.bin --out model.h5
  check import-force "$selfspan" import --from model.bin --out model.h5 --anchors 8 --quiet --force
  refused import-missing 4 "nothing.gguf: cannot open" "$selfspan" import --from nothing.gguf --out x.h5
  refused import-kind 2 "expected a folder with config.json" "$selfspan" import --from tiny.yaml --out x.h5
  refused import-tokenizer 3 "301 tokens, the embedding in model.bin has 300 rows" \
    "$selfspan" import --from model.bin --out x.h5 --tokenizer few.bin
  refused import-positions 2 "33 positions, the model has 32" \
    "$selfspan" import --from model.bin --out x.h5 --positions 33 --quiet
  refused import-options 2 "--from and --out are needed" "$selfspan" import --from model.bin
  [ ! -e x.h5 ] && ok import-leaves-nothing || not_ok import-leaves-nothing

  check plain "$selfspan" generate --model model.h5 --prompt "the" --set decode.max_tokens=6
  grep -q "^the" out && ok plain-prompt || not_ok plain-prompt
  check plain-json "$selfspan" generate --model model.h5 --prompt "" --set decode.max_tokens=5 --json
  python plain-json-keys 'import json; r = json.load(open("out")); assert r["prompt_tokens"] == 1 and r["ids"][0] == 1
assert r["tokens"] <= 5 and max(r["ids"]) < 300'
  refused plain-long 6 "tokens, the model has 32 positions" "$selfspan" generate --model model.h5 \
    --prompt "the theatre has a thousand other things that they gathered"
  refused plain-spans 2 "--prompt knows no spans" "$selfspan" generate --model model.h5 --prompt a --show-spans

  check export "$selfspan" export hf --model model.h5 --out exported --quiet
  python export-config 'import json; c = json.load(open("exported/config.json")); assert c["vocab_size"] == 314
assert c["architectures"] == ["LlamaForCausalLM"] and c["tie_word_embeddings"] is True and c["num_key_value_heads"] == 2'
  refused export-exists 2 "has a config.json; --force replaces it" "$selfspan" export hf --model model.h5 --out exported
  check again-import "$selfspan" import --from model.bin --tokenizer tokenizer.json --out bpe.h5 --anchors 8 --quiet
  check again-export "$selfspan" export hf --model bpe.h5 --out again --quiet
  check again "$selfspan" import --from again --out back.h5 --anchors 8 --quiet
  grep -q "^vocabulary   314: 0 rows added$" out && ok again-says || not_ok again-says
  check again-export-back "$selfspan" export hf --model back.h5 --out back --quiet
  cmp -s again/model.safetensors back/model.safetensors && ok again-weights || not_ok again-weights

  # What begins a text, as transformers reads it from a folder.
  begins() { # NAME TOKENS: how many tokens --prompt ab has of a model that comes from folder again
    check "$1-import" "$selfspan" import --from again --out begins.h5 --anchors 8 --quiet --force
    check "$1" "$selfspan" generate --model begins.h5 --prompt ab --set decode.max_tokens=2 --json
    python "$1-tokens" "import json; r = json.load(open('out')); assert r['prompt_tokens'] == $2, r['prompt_tokens']"
  }
  begins begin-export 1
  python begin-template 'import json
t = json.load(open("again/tokenizer.json"))
t["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
  "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
  "special_tokens": {"<bos>": {"id": "<bos>", "ids": [299], "tokens": ["<bos>"]}}}]}
json.dump(t, open("again/tokenizer.json", "w"))
c = json.load(open("again/tokenizer_config.json")); c["add_bos_token"] = False
json.dump(c, open("again/tokenizer_config.json", "w"))'
  begins begin-by-template 2
  python begin-pair 'import json
t = json.load(open("tokenizer.json"))["model"]
json.dump({**t["vocab"], **{"<%d>" % i: i for i in range(300, 314)}}, open("again/vocab.json", "w"))
open("again/merges.txt", "w").write("\n".join(t["merges"]) + "\n")'
  rm again/tokenizer.json
  begins begin-pair-without 1
  echo '{"add_bos_token": true}' >again/tokenizer_config.json
  begins begin-pair 2
  echo '[]' >again/tokenizer_config.json
  refused begin-damaged 3 "again/tokenizer_config.json:1: expected a JSON object" "$selfspan" import --from again --out x.h5
  refused export-dtype 2 "expected f32 or bf16" "$selfspan" export hf --model model.h5 --out y --dtype f16
fi

if [ -n "${SELFSPAN_TEST_SANITIZED:-}" ]; then
  echo "skip logits: the unit tests run under the sanitizer"
elif ! "$interpreter" -c 'import torch, transformers' 2>/dev/null; then
  echo "skip logits: no torch or no transformers"
else
  check logits "$interpreter" "$peer" "$selfspan" "$program"
  if [ -f "${SELFSPAN_GGUF:-}" ] && "$interpreter" -c 'import gguf' 2>/dev/null; then
    check logits-gguf "$interpreter" "$peer" "$selfspan" "$program" --gguf "$SELFSPAN_GGUF"
  else
    echo "skip logits-gguf: no SELFSPAN_GGUF or no gguf"
  fi
fi

stories=${SELFSPAN_TEST_DATA:-/nonexistent}/stories260K
published="Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
if ! [ -f "$stories/stories260K.bin" ]; then
  echo "skip stories: no stories260K in SELFSPAN_TEST_DATA"
else
  check stories-import "$selfspan" import --from "$stories/stories260K.bin" --tokenizer "$stories/tok512.bin" \
    --out stories.h5 --quiet
  check stories "$selfspan" generate --model stories.h5 --prompt "" --set decode.max_tokens=80
  case $(cat out) in "$published"*) ok stories-published ;; *) not_ok stories-published ;; esac
fi
