"""PyTorch peer of `selfspan bench train`: the same GPT-2-style shape, SDPA, AdamW, clipping. On the CPU eager fp32; on
CUDA compiled, bf16 autocast, fused AdamW.

usage: torch_train.py N_LAYER N_EMBD N_HEAD VOCAB ROWS ROW_TOKENS REPEATS WARMUP THREADS [cpu|cuda]
Prints one JSON object on its last line.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

n_layer, n_embd, n_head, vocab, rows, length, repeats, warmup, threads = map(int, sys.argv[1:10])
device = sys.argv[10] if len(sys.argv) > 10 else "cpu"
cuda = device == "cuda"
if threads > 0:
    torch.set_num_threads(threads)
torch.manual_seed(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.projection = nn.Linear(n_embd, n_embd)
        self.norm2 = nn.LayerNorm(n_embd)
        self.up = nn.Linear(n_embd, 4 * n_embd)
        self.down = nn.Linear(4 * n_embd, n_embd)

    def forward(self, x):  # x: [B, T, C]
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, n_head, c // n_head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(vocab, n_embd)
        self.wpe = nn.Embedding(length, n_embd)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy((self.norm(x) @ self.wte.weight.T).view(-1, vocab), targets.view(-1))


torch.set_float32_matmul_precision("high" if cuda else "highest")
model = GPT().to(device)
run = torch.compile(model) if cuda else model
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=cuda)
tokens = torch.randint(vocab, (rows, length), device=device)
targets = torch.randint(vocab, (rows, length), device=device)
seconds = []
for step in range(-warmup, repeats):
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=cuda):
        loss = run(tokens, targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if cuda:
        torch.cuda.synchronize()
    if step >= 0:
        seconds.append(time.perf_counter() - start)
seconds.sort()
median = statistics.median(seconds)
engine = "compile, bf16, " + torch.cuda.get_device_name() if cuda else f"eager, {torch.get_num_threads()} threads"
report = {
    "engine": f"PyTorch {torch.__version__} {engine}",
    "tokens_per_second": rows * length / median,
    "timing": {"median_seconds": median, "p10_seconds": seconds[int(0.1 * (repeats - 1))],
               "p90_seconds": seconds[-1 - int(0.1 * (repeats - 1))], "repeats": repeats},
}
if cuda:
    report["peak_bytes"] = torch.cuda.max_memory_allocated()
print(json.dumps(report))
