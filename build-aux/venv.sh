#!/usr/bin/env bash
# `make venv`: .venv with the packages of build-aux/requirements.txt; nothing when it is up to date.
set -u
cd "$(dirname "$0")/.." || exit 1
stamp=.venv/requirements.txt
if cmp -s build-aux/requirements.txt $stamp; then
  echo "venv: up to date"
  exit 0
fi
PYTHON=1 bash build-aux/deps.sh || exit $?
# --clear: a half-made environment is not repaired but made anew.
[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv --clear .venv || exit 1
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r build-aux/requirements.txt || exit 1
cp build-aux/requirements.txt $stamp
echo "venv: ready"
