"""PyTorch peer of `selfspan bench losses`: the same start, tokens, AdamW and schedule, once in fp32 and once under bf16
autocast. Prints {"fp32": [...], "bf16": [...]} on its last line.

usage: torch_losses.py FOLDER [cpu|cuda]
"""
import json
import sys

import numpy
import torch
import torch.nn.functional as F

folder, device = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cpu"
shape = json.load(open(f"{folder}/shape.json"))
start = numpy.fromfile(f"{folder}/parameters.f32", dtype=numpy.float32)
B, T, steps, C, H = (shape[k] for k in ("rows", "row_tokens", "steps", "n_embd", "n_head"))
tokens = torch.from_numpy(numpy.fromfile(f"{folder}/tokens.i32", dtype=numpy.int32).astype(numpy.int64))
tokens = tokens.view(steps, B, T + 1)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def load():
    parameters, at = {}, 0
    for row in shape["parameters"]:
        count = row["rows"] * row["cols"]
        value = torch.from_numpy(start[at:at + count].copy()).view(row["rows"], row["cols"])
        if row["rows"] == 1 and row["name"] not in ("wte", "wpe"):
            value = value.view(-1)
        parameters[row["name"]] = value.to(device).requires_grad_(True)
        at += count
    return parameters


def loss_of(p, x, y):
    h = F.embedding(x, p["wte"]) + p["wpe"][:T]
    for i in range(shape["n_layer"]):
        def get(name):
            return p[f"block.{i}.{name}"]
        a = F.layer_norm(h, (C,), get("norm1.weight"), get("norm1.bias"), shape["norm_epsilon"])
        q, k, v = F.linear(a, get("attention.qkv.weight"), get("attention.qkv.bias")).view(B, T, 3, H, C // H).permute(
            2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        h = h + F.linear(a, get("attention.proj.weight"), get("attention.proj.bias"))
        a = F.layer_norm(h, (C,), get("norm2.weight"), get("norm2.bias"), shape["norm_epsilon"])
        a = F.gelu(F.linear(a, get("mlp.up.weight"), get("mlp.up.bias")), approximate="tanh")
        h = h + F.linear(a, get("mlp.down.weight"), get("mlp.down.bias"))
    h = F.layer_norm(h, (C,), p["norm.weight"], p["norm.bias"], shape["norm_epsilon"])
    return F.cross_entropy(F.linear(h, p["wte"]).float().view(B * T, -1), y.reshape(-1))


def run(autocast):
    p = load()
    decay = {row["name"]: row["decay"] for row in shape["parameters"]}
    optimizer = torch.optim.AdamW([{"params": [p[n] for n in p if decay[n]], "weight_decay": 0.1},
                                   {"params": [p[n] for n in p if not decay[n]], "weight_decay": 0.0}],
                                  lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(steps):
        rate = shape["learning_rate"] * min(1.0, (step + 1) / shape["warmup"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = tokens[step, :, :-1].to(device), tokens[step, :, 1:].to(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            loss = loss_of(p, x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return [float(x) for x in losses]


print(json.dumps({"fp32": run(False), "bf16": run(True)}))
