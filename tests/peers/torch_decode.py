"""PyTorch peer of `selfspan bench decode --device cuda`: GPT-2 of the same shape, bf16, random weights, a static KV
cache [B, H, ROWS, D] in which every step reads all rows, greedy sampling on the device; compiled and eager, each step
one CUDA graph. And decode attention alone, for each of SDPA's backends. On the CPU (to try the script) eager fp32.

usage: torch_decode.py N_LAYER N_EMBD N_HEAD VOCAB BATCH ROWS STEPS WARMUP THREADS [cuda|cpu]
Prints one JSON object on its last line. An engine that fails is named on stderr and left out.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

n_layer, n_embd, n_head, vocab, batch, rows, steps, warmup, threads = map(int, sys.argv[1:10])
device = sys.argv[10] if len(sys.argv) > 10 else "cuda"
cuda = device == "cuda"
dtype = torch.bfloat16 if cuda else torch.float32
head_dim = n_embd // n_head
repeats, calls = 20, 8
if threads > 0:
    torch.set_num_threads(threads)
torch.manual_seed(1)
torch.set_grad_enabled(False)
flush = torch.empty((256 << 20) if cuda else 1, dtype=torch.uint8, device=device)


def failed(name, error):
    print(f"torch_decode.py: {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", file=sys.stderr)


def summary(seconds):
    seconds = sorted(seconds)
    return {"median_seconds": statistics.median(seconds), "p10_seconds": seconds[int(0.1 * (len(seconds) - 1))],
            "p90_seconds": seconds[-1 - int(0.1 * (len(seconds) - 1))], "repeats": len(seconds)}


def captured(function):
    """The function as a CUDA graph, warmed up on a side stream as capture asks for; on the CPU itself."""
    if not cuda:
        function()
        return function
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def times(function, repeats, empty_caches):
    """Seconds of single runs: by events on the device, none of them waited for before the last is enqueued."""
    if not cuda:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        return seconds
    marks = []
    flush.zero_()
    for _ in range(repeats):
        if empty_caches:
            flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) * 1e-3 for begin, end in marks]


# --- decode attention alone: one layer, different keys and values in every call, cold caches ---
set_bytes = 2 * batch * n_head * rows * head_dim * dtype.itemsize
n_set = max(2, min(calls, (1 << 30) // set_bytes))
backends = [("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FlashAttention-2", SDPBackend.FLASH_ATTENTION),
            ("memory-efficient", SDPBackend.EFFICIENT_ATTENTION)] if cuda else [("math", SDPBackend.MATH)]


def time_attention(backend, sets, q, reference):
    def attend(index):
        k, v = sets[index % n_set]
        return F.scaled_dot_product_attention(q, k, v)

    with sdpa_kernel(backend):
        difference = (attend(0).float() - reference).square().sum() / reference.square().sum()
        if not difference.item() <= 1e-4:
            raise RuntimeError(f"wrong result, NMSE {difference.item():.3g}")
        run = captured(lambda: [attend(i) for i in range(calls)])
        times(run, 3, True)
        return [t / calls for t in times(run, repeats, True)]


def measure_attention():
    engines = []
    q = torch.randn(batch, n_head, 1, head_dim, device=device, dtype=dtype)
    sets = [tuple(torch.randn(batch, n_head, rows, head_dim, device=device, dtype=dtype) for _ in range(2))
            for _ in range(n_set)]
    weights = torch.softmax((q.float() @ sets[0][0].float().transpose(-1, -2)) * head_dim ** -0.5, -1)
    reference = weights @ sets[0][1].float()
    for name, backend in backends:
        try:
            timing = summary(time_attention(backend, sets, q, reference))
            engines.append({"engine": f"SDPA {name}", "backend": name, "timing": timing, "kv_bytes": set_bytes,
                            "kv_gigabytes_per_second": set_bytes / timing["median_seconds"] * 1e-9})
        except Exception as error:
            failed(f"SDPA {name}", error)
    return sorted(engines, key=lambda engine: engine["timing"]["median_seconds"])


# --- the step ---
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(n_embd)
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.projection = nn.Linear(n_embd, n_embd)
        self.norm2 = nn.LayerNorm(n_embd)
        self.up = nn.Linear(n_embd, 4 * n_embd)
        self.down = nn.Linear(4 * n_embd, n_embd)
        self.register_buffer("k", torch.randn(batch, n_head, rows, head_dim))
        self.register_buffer("v", torch.randn(batch, n_head, rows, head_dim))

    def forward(self, x, place):  # x: [B, C], place: [1]
        q, k, v = self.qkv(self.norm1(x)).view(batch, 3, n_head, 1, head_dim).unbind(1)
        self.k.index_copy_(2, place, k)
        self.v.index_copy_(2, place, v)
        y = F.scaled_dot_product_attention(q, self.k, self.v)
        x = x + self.projection(y.reshape(batch, n_embd))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(vocab, n_embd)
        self.wpe = nn.Embedding(rows, n_embd)
        self.blocks = nn.ModuleList(Block() for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, place):  # tokens: [B], place: [1]
        x = self.wte(tokens) + self.wpe(place)
        for block in self.blocks:
            x = block(x, place)
        return (self.norm(x) @ self.wte.weight.T).argmax(-1)


def time_steps(model, backend, compiled):
    tokens = torch.zeros(batch, dtype=torch.int64, device=device)
    place = torch.full((1,), rows // 2, dtype=torch.int64, device=device)
    run = torch.compile(model, dynamic=False, fullgraph=True) if compiled else model

    def step():
        tokens.copy_(run(tokens, place))
        place.add_(1).remainder_(rows)

    with sdpa_kernel(backend):
        step()
        replay = captured(step)
        times(replay, max(warmup, 1), False)
        seconds = times(replay, steps, False)
    if not (0 <= int(tokens.min()) and int(tokens.max()) < vocab):
        raise RuntimeError("sampled tokens outside of the vocabulary")
    return seconds


def measure_steps(order):
    """Compiled and eager, fastest first, each with the backend that is fastest alone, or the next where that fails."""
    with torch.device(device):
        model = GPT().to(dtype).eval()
    engines = []
    for compiled in ([True, False] if cuda else [False]):
        for name in order:
            how = f"{'compile' if compiled else 'eager'}{' + CUDA graph' if cuda else ''}, SDPA {name}"
            try:
                torch.compiler.reset()
                engines.append((how, summary(time_steps(model, dict(backends)[name], compiled))))
                break
            except Exception as error:
                failed(how, error)
    return sorted(engines, key=lambda engine: engine[1]["median_seconds"])


try:
    attention = measure_attention()
except Exception as error:  # out of memory, most likely
    failed("attention", error)
    attention = []
if cuda:
    torch.cuda.empty_cache()
engines = measure_steps([engine["backend"] for engine in attention] or [name for name, _ in backends])
best = engines[0] if engines else None
name = f"PyTorch {torch.__version__}"
kind = "bf16, " + torch.cuda.get_device_name() if cuda else f"fp32, {torch.get_num_threads()} threads"
report = {"engine": f"{name} {best[0] if best else 'failed'}, {kind}", "rows_per_token": rows}
if best:
    kv_bytes = n_layer * set_bytes
    report.update({"tokens_per_second": batch / best[1]["median_seconds"], "kv_bytes_per_step": kv_bytes,
                   "kv_gigabytes_per_second": kv_bytes / best[1]["median_seconds"] * 1e-9, "timing": best[1],
                   "engines": [{"engine": how, "timing": timing} for how, timing in engines]})
if attention:
    report["attention"] = {**attention[0], "engine": f"{name} {attention[0]['engine']}"}
    report["attention_engines"] = attention
if cuda:
    report["peak_bytes"] = torch.cuda.max_memory_allocated()
print(json.dumps(report))
