"""FlashInfer beside our decode attention: one layer, bf16, B sequences of ROWS rows, all of them read or VISIBLE of them in
scattered, unaligned runs of RUN rows. Scattered rows are given as pages of one row, which reads exactly them, and as
pages of 16, which reads whole pages and more than was asked for.

usage: flashinfer_decode.py N_HEAD N_KV_HEAD HEAD_DIM BATCH ROWS VISIBLE RUN[,RUN...]
Prints a line for each case and one JSON object on its last line. GB/s counts the rows that were asked for. Needs a GPU,
PyTorch and FlashInfer (pip install flashinfer-python).
"""
import json
import random
import statistics
import sys

try:
    import torch
except ImportError:
    sys.exit("flashinfer_decode.py: PyTorch is not installed")
try:
    import flashinfer
except ImportError:
    sys.exit("flashinfer_decode.py: FlashInfer is not installed (pip install flashinfer-python)")
if not torch.cuda.is_available():
    sys.exit("flashinfer_decode.py: no GPU")

n_head, n_kv_head, head_dim, batch, rows, visible = map(int, sys.argv[1:7])
runs = [int(text) for text in sys.argv[7].split(",")]
repeats, calls = 20, 8
torch.manual_seed(1)
torch.set_grad_enabled(False)
flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
workspace = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
set_bytes = 2 * batch * rows * n_kv_head * head_dim * 2
n_set = max(2, min(calls, (2 << 30) // set_bytes))
q = torch.randn(batch, n_head, head_dim, device="cuda", dtype=torch.bfloat16)
sets = [tuple(torch.randn(batch * rows, n_kv_head, head_dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        for _ in range(n_set)]


def visible_rows(run):
    """Rows that a sequence reads, ascending: gaps between its runs are drawn at random."""
    n_run, spare, at, listed = max(1, visible // run), rows - max(1, visible // run) * run, 0, []
    for left in range(n_run, 0, -1):
        gap = random.randint(0, min(spare, 2 * spare // left))
        spare -= gap
        at += gap
        listed += range(at, at + run)
        at += run
    return listed


def reference(listed):
    """Of the first sequence, whose rows are the cache's first."""
    index = torch.tensor(listed, device="cuda")
    k, v = (rows_of[index].float().repeat_interleave(n_head // n_kv_head, 1) for rows_of in sets[0])
    weights = torch.softmax(torch.einsum("hd,rhd->hr", q[0].float(), k) * head_dim ** -0.5, -1)
    return torch.einsum("hr,rhd->hd", weights, v)


def measure(listed, page, exact):
    """Seconds of a call over the pages that hold the listed rows; the last page of a sequence may be cut short."""
    pages = [sorted({(b * rows + row) // page for row in one}) for b, one in enumerate(listed)]
    ends = [0]
    for one in pages:
        ends.append(ends[-1] + len(one))
    last = [(b * rows + one[-1]) % page + 1 for b, one in enumerate(listed)]
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=n_head // n_kv_head >= 4)
    numbers = [torch.tensor(values, dtype=torch.int32, device="cuda") for values in (ends, sum(pages, []), last)]
    wrapper.plan(*numbers, n_head, n_kv_head, head_dim, page, q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16)
    caches = [tuple(rows_of.view(-1, page, n_kv_head, head_dim) for rows_of in one) for one in sets]
    out = wrapper.run(q, caches[0])[0].float()
    if exact:
        want = reference(listed[0])
        difference = ((out - want).square().sum() / want.square().sum()).item()
        if not difference <= 1e-4:
            raise RuntimeError(f"wrong result, NMSE {difference:.3g}")
    marks = []
    for repeat in range(repeats + 3):
        flush.zero_()
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for call in range(calls):
            wrapper.run(q, caches[(repeat * calls + call) % n_set])
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) * 1e-3 / calls for begin, end in marks[3:])


cases = [("dense", [list(range(rows))] * batch, 16, True)]
for run in runs:
    random.seed(run)
    listed = [visible_rows(run) for _ in range(batch)]
    cases += [(f"runs of {run}", listed, 1, True), (f"runs of {run}, whole pages of 16", listed, 16, False)]
engines = []
for name, listed, page, exact in cases:
    kv_bytes = sum(len(one) for one in listed) * 2 * n_kv_head * head_dim * 2
    try:
        seconds = measure(listed, page, exact)
    except Exception as error:
        print(f"flashinfer_decode.py: {name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", file=sys.stderr)
        continue
    engines.append({"visible": name, "page": page, "median_seconds": seconds, "kv_bytes": kv_bytes,
                    "kv_gigabytes_per_second": kv_bytes / seconds * 1e-9})
    print(f"FlashInfer {name:32} {1e3 * seconds:8.4f} ms  {kv_bytes / seconds * 1e-9:6.0f} GB/s")
print(json.dumps({"engine": f"FlashInfer {flashinfer.__version__}, {torch.cuda.get_device_name()}", "batch": batch, "rows": rows,
                  "attention_engines": engines}))
