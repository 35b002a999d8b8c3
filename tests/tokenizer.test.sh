#!/usr/bin/env bash
# Token ids against tiktoken's (GPT-2's files below SELFSPAN_TEST_DATA), against Hugging Face's (a tokenizer.json at
# SELFSPAN_TOKENIZER_JSON; a GGUF file at SELFSPAN_GGUF, which needs transformers with torch and gguf; folders that we wrote) and against
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

# written NAME PATH: a vocabulary over the tokenizer at PATH, written for transformers.
written() {
  local folder=$work/$1
  if [ -e "$2" ] && [ -z "${SELFSPAN_TEST_SANITIZED:-}" ]; then
    "$build/tests/test_tokenizer_write" "$2" "$folder" || echo "not ok $1: cannot be written"
  fi
  compare "$1" transformers folder "$folder"
}

compare tiktoken tiktoken gpt2 "$data/gpt2/vocab.bpe" "$data/gpt2/encoder.json"
compare tokenizers tokenizers json "${SELFSPAN_TOKENIZER_JSON:-/nonexistent}"
compare gguf transformers,torch,gguf gguf "$gguf"
compare llama2.c json scores "$data/stories260K/tok512.bin"
written written_gpt2 "$data/gpt2"
written written_gguf "$gguf"
