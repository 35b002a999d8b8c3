#!/usr/bin/env bash
# `selfspan bench`: the benchmarks run, check themselves, and report.
. "$(dirname "$0")/shell_checks.sh"

small=(--set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2 --set model.vocab_size=64)
check train "$selfspan" bench train "${small[@]}" --rows 2 --row-tokens 40 --repeats 3 --warmup 1
check train-span "$selfspan" bench train "${small[@]}" --rows 2 --row-tokens 40 --segment 7 --repeats 3 --json
python train-report 'import json; r = json.load(open("out"))["selfspan"]; assert r["tokens_per_second"] > 0
assert r["last_loss"] < r["first_loss"]; assert 7 < r["attended_rows_per_token"] < 20.5'
refused unknown 2 "did you mean 'train'" "$selfspan" bench trian
refused no-cuda 9 cuda "$selfspan" bench train --device cuda
refused no-peer 4 "cannot start the peer" "$selfspan" bench train "${small[@]}" --rows 1 --row-tokens 8 --repeats 1 \
  --peer ./no-such-python
