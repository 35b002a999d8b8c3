#!/usr/bin/env bash
# An evaluation that was interrupted or killed goes on: it decodes what is missing, and ends with the same files.
. "$(dirname "$0")/shell_checks.sh"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf "$work"' EXIT

if ! "$selfspan" data arithmetic --quiet --set data.validation=0 --set data.n_anchor=32 --set arithmetic.operators_low=1 \
  --set arithmetic.operators_high=4 --set arithmetic.leaf_high=9 --set data.train=50 --set data.test=1500 --out data >out 2>err ||
  ! tiny_model dense dense >out 2>err || ! tiny_model span span >out 2>err; then
  not_ok set-up
  exit 1
fi
both=(eval --model dense/model.h5 --model span/model.h5 --data data/test.h5 --controls recency --samples 3 --set decode.max_tokens=40
  --set decode.temperature=0.9)

# stop SIGNAL LINES FILE COMMAND...: ends the command once FILE has so many lines. $status, and its words in `err`.
stop() {
  local signal=$1 lines=$2 file=$3
  shift 3
  "$@" >out 2>err &
  child=$!
  for _ in $(seq 3000); do
    [ "$(cat "$file" 2>/dev/null | wc -l)" -ge "$lines" ] && break
    kill -0 $child 2>/dev/null || break
    sleep 0.01
  done
  kill -"$signal" $child
  wait $child 2>/dev/null
  status=$?
  child=
}
kept() { cat "$1/.resume/"*.jsonl 2>/dev/null | grep -c '"tokens"'; }

# same NAME FOLDER: everything but times is what the whole evaluation left.
same() {
  local name=$1 file
  for file in items-dense.jsonl items-span.jsonl items-span-recency.jsonl samples.txt; do
    cmp whole/$file "$2/$file" >out 2>err || not_ok "$name: $file"
  done
  python "$name" '
import json, sys
def counts(path):
    arms = json.load(open(path + "/summary.json"))["arms"]
    return [{k: v for k, v in arm.items() if "second" not in k and k not in ("decoder", "kv_megabytes_per_example")} for arm in arms]
assert counts(sys.argv[1]) == counts(sys.argv[2]), "the summaries differ"
' whole "$2"
}

check whole "$selfspan" "${both[@]}" --quiet --out whole
stop INT 100 parts/.resume/span.jsonl "$selfspan" "${both[@]}" --quiet --out parts
[ $status -eq 8 ] && grep -q "parts: interrupted; finished: dense, .* examples of span; the same command goes on" err &&
  ok interrupted || not_ok "interrupted (status $status)"
before=$(kept parts)
stop KILL 50 parts/.resume/span-recency.jsonl "$selfspan" "${both[@]}" --out parts
grep -q "parts: dense goes on after 1500 examples" err && [ "$(kept parts)" -gt "$before" ] && ok killed || not_ok killed
# The last line is cut off, as by a machine that stopped.
printf '{"index":599,"stop":0,"rows":1' >>parts/.resume/span-recency.jsonl
killed=$(kept parts)
refused other-settings 2 'parts/.resume/dense.jsonl: an interrupted evaluation of dense has another "decode.temperature"; --force begins anew' \
  "$selfspan" "${both[@]}" --quiet --out parts --set decode.temperature=0.8
[ "$(kept parts)" -eq "$killed" ] && ok other-settings-keeps || not_ok other-settings-keeps
check goes-on "$selfspan" "${both[@]}" --out parts
grep -q "span/recency: .* of its 1500 examples were decoded by a run that was killed" out && ok untimed || not_ok untimed
grep -q "span:.* decoded by a run that was killed" out && not_ok timed || ok timed
same same-results parts
[ ! -e parts/.resume ] && ok forgotten || not_ok forgotten

# A file that says something else is named, with the line; --force takes another evaluation's place.
stop INT 100 broken/.resume/dense.jsonl "$selfspan" "${both[@]}" --quiet --out broken
sed -i '3s/"stop":[0-9]*/"stop":"soon"/' broken/.resume/dense.jsonl
refused damaged 3 "broken/.resume/dense.jsonl:3: expected stop" "$selfspan" "${both[@]}" --quiet --out broken
sed -i '3s/"stop":"soon"/"stop":0/; 3s/"tokens":\[[0-9]*/"tokens":[99999/' broken/.resume/dense.jsonl
refused stray-token 3 "token 99999 was kept of it" "$selfspan" "${both[@]}" --quiet --out broken
sed -i '3s/"tokens":\[.*\]/"tokens":[1,1000000000000]/' broken/.resume/dense.jsonl
refused large-token 3 "broken/.resume/dense.jsonl:3: expected tokens" "$selfspan" "${both[@]}" --quiet --out broken
check force "$selfspan" "${both[@]}" --quiet --out parts --force
same force-same parts
stop INT 100 parts/.resume/dense.jsonl "$selfspan" "${both[@]}" --quiet --out parts --force --set decode.temperature=0.8
check force-anew "$selfspan" "${both[@]}" --quiet --out parts --force
grep -q 'begins anew, for the interrupted evaluation has another "decode.temperature"' err && ok force-anew-said || not_ok force-anew-said
same force-anew-same parts

# Expressions.
for k in $(seq 2000); do echo "$((k % 10))+$((k % 7))*$((k % 9))"; done >list.txt
list=(eval --model span/model.h5 --expressions list.txt --quiet --set decode.max_tokens=40)
check list-whole "$selfspan" "${list[@]}" --out list-whole
stop TERM 100 list/.resume/span.jsonl "$selfspan" "${list[@]}" --out list
[ "$(kept list)" -ge 99 ] && check list-goes-on "$selfspan" "${list[@]}" --out list || not_ok list-goes-on
cmp -s list-whole/items-span.jsonl list/items-span.jsonl && ok list-same || not_ok list-same
stop TERM 100 changed/.resume/span.jsonl "$selfspan" "${list[@]}" --out changed
echo "1+1" >>list.txt
refused list-changed 2 'has another "data"' "$selfspan" "${list[@]}" --out changed
