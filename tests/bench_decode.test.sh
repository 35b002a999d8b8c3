#!/usr/bin/env bash
# `selfspan bench decode`: steps over a synthetic context, and derivations replayed.
. "$(dirname "$0")/shell_checks.sh"

small=(--set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2 --set model.vocab_size=64)
decode=("$selfspan" bench decode "${small[@]}" --context 100 --steps 5 --warmup 1)
check decode "${decode[@]}" --batch 3 --visible 0.2 --json
python decode-report 'import json; r = json.load(open("out"))["results"]
assert [x["visible_rows"] for x in r] == [100, 20]; assert all(x["tokens_per_second"] > 0 for x in r)'
check decode-mixed "${decode[@]}" --batch 4 --visible-rows 20 --mixed --json
python decode-mixed-report 'import json; r = json.load(open("out")); assert r["cache_dtype"] == "fp32"
assert [x["rows_per_token"] for x in r["results"]] == [104, 64, 24]
for x in r["results"]:
  assert x["kv_bytes_per_step"] == 4 * x["rows_per_token"] * r["kv_bytes_per_row"] == 4 * x["rows_per_token"] * 256
  assert x["floor"]["bytes"] == r["weight_bytes"] + x["kv_bytes_per_step"] + 4 * 64 * 4
  assert x["percent_of_ceiling"] > 0 and x["attention"]["kv_gigabytes_per_second"] > 0'
check decode-runs "${decode[@]}" --batch 2 --visible-rows 32 --run-length 8,16,32 --json
python decode-runs-report 'import json; r = json.load(open("out"))["results"]
assert [x.get("run_length") for x in r] == [None, 8, 16, 32]
assert all(x["visible_rows"] == 32 and x["rows_per_token"] == 36 for x in r[1:])'
check decode-tables "${decode[@]}" --batch 2 --run-length 8,16
refused decode-run-length 2 "--run-length" "${decode[@]}" --run-length 8,,16
refused decode-run-lengths 2 "--run-length" "${decode[@]}" --run-length 8,0
refused decode-visible 2 "give one of them" "$selfspan" bench decode --visible 0.5 --visible-rows 20
refused decode-limit 6 "do not fit model.n_positions" "$selfspan" bench decode --context 5000
refused decode-fraction 2 "--visible" "$selfspan" bench decode --visible 1.5
refused decode-batch 2 "must be positive" "$selfspan" bench decode --batch 0

# Every example has 8 operators; the arms force the same derivations.
"$selfspan" data arithmetic --out data --quiet --set data.train=0 --set data.validation=0 --set data.test=12 \
  --set data.n_anchor=32 --set arithmetic.operators_low=8 --set arithmetic.operators_high=8 2>/dev/null ||
  echo "not ok data"
replay=("$selfspan" bench decode --replay data --set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2)
check replay "${replay[@]}" --examples 10 --batch 4 --json
python replay-report 'import json; r = json.load(open("out")); a = r["replay"]
assert [x["engine"] for x in a] == ["selfspan dense", "selfspan annotated", "selfspan span"]
assert r["examples"] == 10 and r["batch"] == 4 and all(x["examples"] == 10 for x in a)
assert a[0]["generated_tokens"] < a[1]["generated_tokens"] == a[2]["generated_tokens"]
assert a[1]["rows_per_token"] > 2 * a[2]["rows_per_token"] and a[1]["kv_bytes_read"] > 2 * a[2]["kv_bytes_read"]
assert all(x["percent_of_ceiling"] > 0 and 0.5 < x["slots_filled"] <= 1 and x["examples_per_second"] > 0 for x in a)
assert all(x["kv_bytes_read"] == round(x["rows_per_token"] * x["generated_tokens"]) * 256 for x in a)'
check replay-table "${replay[@]}" --arms span
check replay-larger "${replay[@]}" --arms dense,span --set model.vocab_size=500 --json
python replay-larger-report 'import json; r = json.load(open("out")); assert r["vocab_size"] == 500
assert [x["engine"] for x in r["replay"]] == ["selfspan dense", "selfspan span"]'
refused replay-examples 3 "holds 12 examples" "${replay[@]}" --examples 13
refused replay-vocabulary 2 "is less than the dataset" "${replay[@]}" --set model.vocab_size=8
refused replay-arm 2 "spam" "${replay[@]}" --arms dense,spam
refused replay-no-arm 2 "arm" "${replay[@]}" --arms ""
refused replay-steps 2 "--steps is not for --replay" "${replay[@]}" --steps 3
refused replay-runs 2 "--run-length is not for --replay" "${replay[@]}" --run-length=8
refused decode-arms 2 "needs --replay" "${decode[@]}" --arms span
refused replay-folder 4 "no-such" "${replay[@]/data/no-such}"
