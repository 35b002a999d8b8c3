"""PyTorch peers of `selfspan bench attention` on CUDA: FlexAttention under the same mask, and SDPA (cuDNN,
FlashAttention) where the mask is plain causal rows. bf16, random inputs, times by CUDA events.

usage: torch_attention.py MASK_JSON ROW_TOKENS N_HEAD N_KV_HEAD HEAD_DIM REPEATS WARMUP
Prints one JSON object on its last line: {"engines": [{"engine", "forward", "backward", "both", "error"}, ...]}
"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

mask_path = sys.argv[1]
row_tokens, n_head, n_kv_head, head_dim, repeats, warmup = map(int, sys.argv[2:8])
mask = json.load(open(mask_path))
n = mask["n_row"]
views = torch.tensor(mask["views"], dtype=torch.int64).view(-1, 5)  # q_first, n_query, self_first, range_first, n_range
ranges = torch.tensor(mask["ranges"], dtype=torch.int64).view(-1, 2)
views = views[views[:, 0].argsort()]

# Rows of the peer: whole documents (views that see each other) packed up to row_tokens.
first_key = torch.minimum(views[:, 2], torch.tensor([ranges[v[3], 0].item() if v[4] > 0 else v[2].item()
                                                     for v in views]))
starts = []  # a document begins where no later view reads before it
lowest = n
for i in range(len(views) - 1, -1, -1):
    lowest = min(lowest, int(first_key[i]))
    if lowest == int(views[i, 0]):
        starts.append(int(views[i, 0]))
        lowest = n
starts = sorted(starts) + [n]
rows, row_first = [], starts[0]
for a, b in zip(starts, starts[1:]):
    if b - row_first > row_tokens:
        rows.append((row_first, a))
        row_first = a
rows.append((row_first, n))
B, T = len(rows), (max(b - a for a, b in rows) + 127) // 128 * 128

# Elementary key intervals and views as table look-ups: visible[b, view_of_query, part_of_key] and k <= q.
dev = "cuda"
view_of = torch.zeros(B, T, dtype=torch.int32)
part_of = torch.zeros(B, T, dtype=torch.int32)
tables = []
causal = True
for b, (first, end) in enumerate(rows):
    own = [v for v in views.tolist() if first <= v[0] < end]
    causal = causal and len(own) == 1 and end - first == T
    cuts = sorted({first, end} | {v[2] for v in own} | {v[0] for v in own} | {v[0] + v[1] for v in own} |
                  {int(x) for v in own for x in ranges[v[3]:v[3] + v[4]].flatten()})
    edges = torch.tensor(cuts)
    part_of[b, :end - first] = torch.bucketize(torch.arange(first, end), edges, right=True).int() - 1
    part_of[b, end - first:] = len(cuts)
    table = torch.zeros(len(own) + 1, len(cuts) + 1, dtype=torch.bool)
    index = {c: i for i, c in enumerate(cuts)}
    for j, v in enumerate(own):
        view_of[b, v[0] - first:v[0] + v[1] - first] = j
        table[j, index[v[2]]:index[v[0] + v[1]]] = True
        for r in ranges[v[3]:v[3] + v[4]].tolist():
            table[j, index[r[0]]:index[r[1]]] = True
    view_of[b, end - first:] = len(own)
    table[len(own), len(cuts)] = True  # padding sees padding
    tables.append(table)
height, width = max(t.shape[0] for t in tables), max(t.shape[1] for t in tables)
visible = torch.zeros(B, height, width, dtype=torch.bool)
for b, t in enumerate(tables):
    visible[b, :t.shape[0], :t.shape[1]] = t
view_of, part_of, visible = view_of.to(dev), part_of.to(dev), visible.to(dev)


def visible_pair(b, h, q, k):
    return visible[b, view_of[b, q], part_of[b, k]] & (k <= q)


torch.manual_seed(1)


def inputs(copies):
    sets = []
    for _ in range(copies):
        q = torch.randn(B, n_head, T, head_dim, device=dev, dtype=torch.bfloat16, requires_grad=True)
        k = torch.randn(B, n_kv_head, T, head_dim, device=dev, dtype=torch.bfloat16, requires_grad=True)
        v = torch.randn(B, n_kv_head, T, head_dim, device=dev, dtype=torch.bfloat16, requires_grad=True)
        sets.append((q, k, v, torch.randn_like(q)))
    return sets


flush = torch.empty(512 << 20, dtype=torch.uint8, device=dev)  # cleared before every timed call: cold L2, launches hidden
sets = inputs(max(1, (256 << 20) // (B * T * head_dim * (3 * n_head + 2 * n_kv_head) * 2) + 1))


def time_engine(name, function):
    times = {"forward": [], "backward": [], "both": []}
    try:
        for step in range(-warmup, repeats):
            q, k, v, dout = sets[step % len(sets)]
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
            q.grad = k.grad = v.grad = None
            flush.zero_()
            marks[0].record()
            out = function(q, k, v)
            marks[1].record()
            out.backward(dout)
            marks[2].record()
            torch.cuda.synchronize()
            if step >= 0:
                times["forward"].append(marks[0].elapsed_time(marks[1]) * 1e-3)
                times["backward"].append(marks[1].elapsed_time(marks[2]) * 1e-3)
                times["both"].append(marks[0].elapsed_time(marks[2]) * 1e-3)
    except Exception as error:  # an engine that cannot serve the shape is reported, not fatal
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return {"engine": name, **{key: {"median_seconds": statistics.median(value)} for key, value in times.items()}}


def graph_engine(name, function):
    """Forward and backward as CUDA graphs: no launch gaps, as our single launches have none."""
    try:
        q, k, v, dout = sets[0]
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                function(q, k, v).backward(dout)
        torch.cuda.synchronize()
        graphs, results = [], {}
        for s in sets:
            q, k, v, dout = s
            forward, both = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(forward):
                function(q, k, v)
            q.grad = k.grad = v.grad = None
            with torch.cuda.graph(both):
                function(q, k, v).backward(dout)
            graphs.append((forward, both))
        for key, which in (("forward", 0), ("both", 1)):
            seconds = []
            for step in range(-warmup, repeats):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                flush.zero_()
                begin.record()
                graphs[step % len(graphs)][which].replay()
                end.record()
                torch.cuda.synchronize()
                if step >= 0:
                    seconds.append(begin.elapsed_time(end) * 1e-3)
            results[key] = {"median_seconds": statistics.median(seconds)}
        results["backward"] = {"median_seconds": results["both"]["median_seconds"] -
                               results["forward"]["median_seconds"]}
        return {"engine": name + ", graph", **results}
    except Exception as error:
        print(f"{name}, graph: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None


gqa = n_head != n_kv_head
engines = []
if causal:
    for name, backend in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FlashAttention-2", SDPBackend.FLASH_ATTENTION)):
        def sdpa(q, k, v, backend=backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)
        engines.append(graph_engine(f"PyTorch {torch.__version__} SDPA {name}", sdpa) or
                       time_engine(f"PyTorch {torch.__version__} SDPA {name}", sdpa))
block_mask = create_block_mask(visible_pair, B, None, T, T, device=dev, _compile=True)
compiled = torch.compile(flex_attention, dynamic=False)
engines.append(time_engine(f"PyTorch {torch.__version__} FlexAttention",
                           lambda q, k, v: compiled(q, k, v, block_mask=block_mask, enable_gqa=gqa)))
print(json.dumps({"rows": B, "row_tokens": T, "block_sparsity_percent": float(block_mask.sparsity()),
                  "engines": [e for e in engines if e]}))
