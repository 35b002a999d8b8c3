#!/usr/bin/env bash
# Token ids against tiktoken's (GPT-2's files below SELFSPAN_TEST_DATA), against Hugging Face's (a tokenizer.json at
# SELFSPAN_TOKENIZER_JSON; a GGUF file at SELFSPAN_GGUF, which needs transformers with torch and gguf; folders that we write) and against
# llama2.c's algorithm. PYTHON is a Python that has them. Skips what is not there.
build=$(cd "${BUILD:-build}" && pwd)
. "$(dirname "$0")/shell_checks.sh"
peer=$repository/tests/peers/tokenizer_ids.py
python=${PYTHON:-python3}
strings=100000
data=${SELFSPAN_TEST_DATA:-/nonexistent}
gguf=${SELFSPAN_GGUF:-/nonexistent}
export TOKENIZERS_PARALLELISM=false

# compare NAME MODULES KIND PATH... : MODULES by comma are what the peer imports.
compare() {
  local name=$1 modules=$2 kind=$3
  shift 3
  if [ -n "${SELFSPAN_TEST_SANITIZED:-}" ]; then
    echo "skip $name: minutes under a sanitizer, and the unit tests run there"
  elif ! [ -e "$1" ]; then
    echo "skip $name: no $kind file is named"
  elif ! "$python" -c "import $modules" 2>/dev/null; then
    echo "skip $name: Python lacks one of $modules"
  else
    check "$name" "$python" "$peer" "$build/tests/test_tokenizer" "$kind" "$@" "$strings"
  fi
}

compare tiktoken tiktoken gpt2 "$data/gpt2/vocab.bpe" "$data/gpt2/encoder.json"
compare tokenizers tokenizers json "${SELFSPAN_TOKENIZER_JSON:-/nonexistent}"
compare gguf transformers,torch,gguf gguf "$gguf"
compare llama2.c json scores "$data/stories260K/tok512.bin"
compare written_gpt2 transformers written "$data/gpt2" "$work/gpt2"
compare written_gguf transformers written "$gguf" "$work/gguf"
compare written_llama2.c transformers written "$data/stories260K/tok512.bin" "$work/llama2.c"
