"""Hugging Face generate as the peer of `selfspan bench decode`: GPT-2 of the same shape, random weights, fp32,
greedy, static count of new tokens after a prompt of the same length; the prompt's pass is measured apart and left out.

usage: hf_generate.py N_LAYER N_EMBD N_HEAD VOCAB N_POSITIONS BATCH CONTEXT STEPS THREADS
Prints one JSON object on its last line.
"""
import json
import sys
import time

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

n_layer, n_embd, n_head, vocab, n_positions, batch, context, steps, threads = map(int, sys.argv[1:10])
if threads > 0:
    torch.set_num_threads(threads)
torch.manual_seed(1)
config = GPT2Config(vocab_size=vocab, n_positions=n_positions, n_embd=n_embd, n_layer=n_layer, n_head=n_head,
                    bos_token_id=0, eos_token_id=None, pad_token_id=0)
model = GPT2LMHeadModel(config).eval()
prompt = torch.randint(vocab, (batch, context))


def seconds_of(new_tokens):
    start = time.perf_counter()
    with torch.no_grad():
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens,
                       min_new_tokens=new_tokens, do_sample=False, use_cache=True)
    return time.perf_counter() - start


seconds_of(2)
prefill = min(seconds_of(1) for _ in range(2))
runs = sorted((seconds_of(1 + steps) - prefill) / steps for _ in range(3))
print(json.dumps({
    "engine": f"transformers {transformers.__version__} generate, {torch.get_num_threads()} threads",
    "tokens_per_second": batch / runs[1],
    "timing": {"median_seconds": runs[1], "p10_seconds": runs[0], "p90_seconds": runs[2], "repeats": 3},
}))
