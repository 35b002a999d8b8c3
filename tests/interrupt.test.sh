#!/usr/bin/env bash
# Writers of one folder (data, eval): one at a time; SIGINT and SIGTERM leave what was there and, of eval, what it goes on
# from; what a killed one left is removed by the next.
. "$(dirname "$0")/shell_checks.sh"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf "$work"' EXIT

make_data() {
  "$selfspan" data arithmetic --quiet --set data.validation=0 --set data.n_anchor=32 \
    --set arithmetic.operators_low=1 --set arithmetic.operators_high=4 --set arithmetic.leaf_high=9 "$@"
}
small=(--set data.train=50 --set data.test=600)
endless=(--set data.train=100000000 --set data.test=0)  # minutes

if ! make_data "${small[@]}" --out data >out 2>err || ! tiny_model dense dense >out 2>err || ! tiny_model span span >out 2>err; then
  not_ok set-up
  exit 1
fi
dense=(eval --model dense/model.h5 --data data/test.h5 --items 20 --set decode.max_tokens=20 --quiet)
# Six arms of seconds each.
long=(eval --model dense/model.h5 --model span/model.h5 --data data/test.h5 --controls oracle,recency,random,window --quiet)

content() { (cd "$1" && find . -type f -not -path './.resume/*' -exec cksum {} + | sort -k 3); }

# begin FOLDER NAME COMMAND...: starts the command and waits until it has made FOLDER/.partial-PID/NAME (a pattern).
begin() {
  local pattern=./$1/.partial- name=$2
  shift 2
  "$@" >/dev/null 2>said &
  child=$!
  pattern+="$child/$name"
  for _ in $(seq 3000); do
    [ -n "$(find . -path "$pattern" 2>/dev/null)" ] && return 0
    kill -0 $child 2>/dev/null || break
    sleep 0.02
  done
  not_ok "$pattern never came"
}

# finish SIGNAL: $status = the exit status of what was begun.
finish() {
  kill -"$1" $child
  wait $child 2>/dev/null
  status=$?
  child=
}

# stopped NAME PART...: the status of an interruption, and one line that has every part.
stopped() {
  local name=$1 part good=1
  shift
  cp said err
  [ $status -eq 8 ] && [ "$(wc -l <err)" -eq 1 ] || good=0
  for part; do grep -qF -- "$part" err || good=0; done
  [ $good -eq 1 ] && ok "$name" || not_ok "$name (status $status)"
}
hidden() { find "$1" -mindepth 1 -name '.*' -not -name .resume | wc -l; }
# Nothing of an evaluation is there but what it goes on from.
unfinished() { [ -z "$(find "$1" -mindepth 1 -maxdepth 1 -not -name .resume 2>/dev/null)" ]; }

# --- data ---

# make_data is a function: the background process would be a shell.
data=("$selfspan" data arithmetic --quiet --set data.validation=0 --set data.n_anchor=32 "${endless[@]}")
begin fresh '*' "${data[@]}" --out fresh
refused data-locked 4 "fresh: another process is writing in this folder" make_data "${small[@]}" --out fresh --force
refused data-locked-eval 4 "fresh: another process is writing in this folder" "$selfspan" "${dense[@]}" --out fresh
refused data-locked-train 4 "fresh: another process is writing in this folder" tiny_model dense fresh
finish KILL
[ "$(find fresh -path '*/.partial-*/*' | wc -l)" -gt 0 ] && ok data-killed || not_ok data-killed
mkdir "fresh/.partial-$$"
: >"fresh/.partial-$$/mine"
: >"fresh/.x.tmp-$$"
check data-after-kill make_data "${small[@]}" --out fresh
[ -f fresh/card.json ] && [ "$(hidden fresh)" -eq 2 ] && [ -f "fresh/.partial-$$/mine" ] && [ -f "fresh/.x.tmp-$$" ] &&
  ok data-leftovers-of-the-dead || not_ok "data-leftovers-of-the-dead: $(ls -A fresh)"

for signal in INT TERM; do
  begin new '*' "${data[@]}" --out new
  finish $signal
  stopped data-$signal "new: interrupted after" "examples of train; nothing is kept; the same command starts again"
  [ ! -e new ] && ok data-$signal-leaves-nothing || not_ok data-$signal-leaves-nothing
done
before=$(content data)
begin data '*' "${data[@]}" --out data --force
finish TERM
stopped data-force "the dataset that was there is as it was"
[ "$(content data)" = "$before" ] && [ "$(hidden data)" -eq 0 ] && ok data-force-keeps || not_ok data-force-keeps

# --- eval ---

check eval "$selfspan" "${dense[@]}" --model span/model.h5 --samples 2 --out result
before=$(content result)
begin result '.items-span.jsonl.tmp-*' "$selfspan" "${long[@]}" --out result --force
refused eval-locked 4 "result: another process is writing in this folder" "$selfspan" "${dense[@]}" --out result --force
refused eval-score-locked 4 "result: another process is writing in this folder" "$selfspan" eval score --data data/test.h5 \
  --predictions result/items-dense.jsonl --out result --force
finish KILL
[ "$(hidden result)" -gt 0 ] && ok eval-killed || not_ok eval-killed
rm -r result/.resume
begin result '.items-span.jsonl.tmp-*' "$selfspan" "${long[@]}" --out result --force
[ "$(find result -maxdepth 1 -name '.partial-*' | wc -l)" -eq 1 ] && ok eval-leftovers || not_ok eval-leftovers
finish INT
stopped eval-INT "result: interrupted; finished: dense," "examples of span; the same command goes on; the evaluation that was there is as it was"
[ "$(content result)" = "$before" ] && [ "$(hidden result)" -eq 0 ] && ok eval-INT-keeps || not_ok eval-INT-keeps
begin fresh-result '.items-*' "$selfspan" "${long[@]}" --out fresh-result
finish TERM
stopped eval-TERM "fresh-result: interrupted" "the same command goes on"
unfinished fresh-result && ok eval-TERM-leaves-nothing || not_ok eval-TERM-leaves-nothing

# A replacement is whole: nothing of the old evaluation stays, and nothing of others goes.
: >result/notes.txt
check eval-replaces "$selfspan" "${dense[@]}" --out result --force
ls -A result >out
[ "$(tr '\n' ' ' <out)" = "items-dense.jsonl notes.txt results.h5 results.h5.xxh128 summary.json " ] && ok eval-replaces-all || not_ok eval-replaces-all
for k in $(seq 20000); do echo "$((k % 10))+$((k % 7))*$((k % 9))"; done >list.txt
begin list '.items-span.jsonl.tmp-*' "$selfspan" eval --model span/model.h5 --expressions list.txt --quiet --out list
finish TERM
stopped eval-expressions-TERM "list: interrupted; finished: no arm"
unfinished list && ok eval-expressions-TERM-leaves-nothing || not_ok eval-expressions-TERM-leaves-nothing
