#!/usr/bin/env bash
# selfspan data and inspect from outside: interruption leaves nothing, what inspect shows, what it refuses.
set -u
selfspan=${SELFSPAN:-./selfspan}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
check() { # check NAME CONDITION...
  local name=$1
  shift
  if "$@"; then echo "ok data_$name"; else
    echo "not ok data_$name"
    failed=1
  fi
}
quick=(--config configs/quickstart/data.yaml --quiet)

# A run that would take minutes, stopped by SIGNAL once it has begun to write.
interrupt() {
  rm -rf "$work/stopped"
  "$selfspan" data arithmetic "${quick[@]}" --set data.train=100000000 --out "$work/stopped" 2>"$work/errors" &
  local process=$!
  for _ in $(seq 100); do
    [ -n "$(find "$work/stopped" -size +0 -name '*.tmp-*' 2>/dev/null)" ] && break
    sleep 0.1
  done
  sleep 0.3
  kill -"$1" $process
  wait $process
  status=$?
}
interrupt INT
check interrupted_status [ $status -ne 0 ]
check interrupted_message grep -q interrupted "$work/errors"
check interrupted_leaves_nothing [ ! -e "$work/stopped" ]
interrupt KILL
check killed_leaves_no_final_name [ -z "$(ls "$work/stopped")" ]

"$selfspan" data arithmetic "${quick[@]}" --set data.train=50 --set data.validation=10 --set data.test=0 --out "$work/set" ||
  failed=1
set_file=$work/set/train.h5
check summary eval '"$selfspan" inspect "$set_file" | grep -q "examples *50"'
check example eval '"$selfspan" inspect "$set_file" --index 3 | grep -q "Span map"'
check example_tokens eval '"$selfspan" inspect "$set_file" --index 3 --tokens | grep -q "reads 0-1$"'
check no_colours_in_a_pipe eval '! "$selfspan" inspect "$set_file" --index 3 | grep -q $(printf "\033")'
if command -v python3 >/dev/null; then
  check json eval '"$selfspan" inspect "$set_file" --index 3 --arm dense --json | python3 -c "
import json, sys
shown = json.load(sys.stdin)
tokens = shown[\"tokens\"]
assert [t[\"row\"] for t in tokens] == list(range(shown[\"n_token\"]))
assert all(t[\"reads\"] == [[0, t[\"row\"] + 1]] and t[\"n_row\"] == t[\"row\"] + 1 for t in tokens)
" 2>/dev/null'
else
  echo "skip json: python3 not found"
fi
check index_out_of_range eval '! "$selfspan" inspect "$set_file" --index 50 2>"$work/errors" && grep -q "out of range \[0, 49\]" "$work/errors"'
check unknown_arm eval '! "$selfspan" inspect "$set_file" --index 1 --arm sparse 2>"$work/errors" && grep -q "expected dense, annotated or span" "$work/errors"'
check absent_file eval '! "$selfspan" inspect "$work/none.h5" 2>"$work/errors" && grep -q none.h5 "$work/errors"'
printf 'x' | dd of="$set_file" bs=1 seek=3000 conv=notrunc 2>/dev/null
check damaged_file eval '! "$selfspan" inspect "$set_file" 2>"$work/errors" && grep -q damaged "$work/errors"'
exit $failed
