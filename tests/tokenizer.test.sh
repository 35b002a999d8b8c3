#!/usr/bin/env bash
# Token ids against tiktoken's, with GPT-2's files below SELFSPAN_TEST_DATA; against Hugging Face's tokenizers, with a
# tokenizer.json at SELFSPAN_TOKENIZER_JSON. PYTHON is a Python that has them. Skips what is not there.
program=$(cd "${BUILD:-build}" && pwd)/tests/test_tokenizer
. "$(dirname "$0")/shell_checks.sh"
peer=$repository/tests/peers/tokenizer_ids.py
python=${PYTHON:-python3}
strings=100000

gpt2=${SELFSPAN_TEST_DATA:-/nonexistent}/gpt2
if [ -n "${SELFSPAN_TEST_SANITIZED:-}" ]; then
  echo "skip tiktoken: minutes under a sanitizer, and the unit tests run there"
elif ! [ -f "$gpt2/vocab.bpe" ] || ! "$python" -c 'import tiktoken' 2>/dev/null; then
  echo "skip tiktoken: no tiktoken or no gpt2/vocab.bpe in SELFSPAN_TEST_DATA"
else
  check tiktoken "$python" "$peer" "$program" gpt2 "$gpt2/vocab.bpe" "$gpt2/encoder.json" "$strings"
fi

json=${SELFSPAN_TOKENIZER_JSON:-/nonexistent}
if [ -n "${SELFSPAN_TEST_SANITIZED:-}" ]; then
  echo "skip tokenizers: minutes under a sanitizer, and the unit tests run there"
elif ! [ -f "$json" ] || ! "$python" -c 'import tokenizers' 2>/dev/null; then
  echo "skip tokenizers: no tokenizers or no SELFSPAN_TOKENIZER_JSON"
else
  check tokenizers env TOKENIZERS_PARALLELISM=false "$python" "$peer" "$program" json "$json" "$strings"
fi
