#!/usr/bin/env bash
# `selfspan bench`: the benchmarks run, check themselves, and report.
. "$(dirname "$0")/shell_checks.sh"

small=(--set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2 --set model.vocab_size=64)
check train "$selfspan" bench train "${small[@]}" --rows 2 --row-tokens 40 --repeats 3 --warmup 1
check train-span "$selfspan" bench train "${small[@]}" --rows 2 --row-tokens 40 --segment 7 --repeats 3 --json
python train-report 'import json; r = json.load(open("out"))["selfspan"]; assert r["tokens_per_second"] > 0
assert r["last_loss"] < r["first_loss"]; assert 7 < r["attended_rows_per_token"] < 20.5'
check decode "$selfspan" bench decode "${small[@]}" --batch 3 --context 100 --visible 0.2 --steps 5 --warmup 1 --json
python decode-report 'import json; r = json.load(open("out"))["results"]
assert [x["visible_rows"] for x in r] == [100, 20]; assert all(x["tokens_per_second"] > 0 for x in r)'
check decode-mixed "$selfspan" bench decode "${small[@]}" --batch 4 --context 100 --visible-rows 20 --steps 5 \
  --warmup 1 --mixed --json
python decode-mixed-report 'import json; r = json.load(open("out")); assert r["cache_dtype"] == "fp32"
assert [x["rows_per_token"] for x in r["results"]] == [104, 64, 24]
for x in r["results"]:
  assert x["kv_bytes_per_step"] == 4 * x["rows_per_token"] * r["kv_bytes_per_row"] == 4 * x["rows_per_token"] * 256
  assert x["floor"]["bytes"] == r["weight_bytes"] + x["kv_bytes_per_step"] + 4 * 64 * 4
  assert x["percent_of_ceiling"] > 0 and x["attention"]["kv_gigabytes_per_second"] > 0'
refused decode-visible 2 "give one of them" "$selfspan" bench decode --visible 0.5 --visible-rows 20
refused decode-limit 6 "do not fit model.n_positions" "$selfspan" bench decode --context 5000
refused decode-fraction 2 "--visible" "$selfspan" bench decode --visible 1.5
refused unknown 2 "did you mean 'train'" "$selfspan" bench trian
refused no-cuda 9 cuda "$selfspan" bench train --device cuda
refused no-peer 4 "cannot start the peer" "$selfspan" bench train "${small[@]}" --rows 1 --row-tokens 8 --repeats 1 \
  --peer ./no-such-python
