#!/usr/bin/env python3
"""PyTorch's causal attention, forward and backward, as the peer of ours: times, and cuDNN's own log of the graph.

    python3 tests/gpu/cudnn_log.py [folder for the logs, default /tmp]

Needs PyTorch with CUDA. The log names every descriptor that PyTorch's cuDNN path builds (tensors, nodes, engine),
to be read beside kernels/cuda/attention_cudnn_graph.c.
"""

import os
import statistics
import sys

folder = sys.argv[1] if len(sys.argv) > 1 else "/tmp"
if os.environ.get("SELFSPAN_LOGGED") != "1":
    # The libraries read these when they are loaded; the timed process runs without them.
    os.environ["SELFSPAN_LOGGED"] = "1"
    logged = dict(
        os.environ,
        CUDNN_LOGLEVEL_DBG="3",
        CUDNN_LOGDEST_DBG=os.path.join(folder, "cudnn_backend.log"),
        CUDNN_FRONTEND_LOG_INFO="1",
        CUDNN_FRONTEND_LOG_FILE=os.path.join(folder, "cudnn_frontend.log"),
        SELFSPAN_ONCE="1",
    )
    import subprocess

    subprocess.run([sys.executable, __file__, folder], env=logged, check=False)

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


def tensors(batch, heads, length, width):
    """q, k, v as columns of one [B, T, 3C] matrix, seen as [B, H, T, D]."""
    torch.manual_seed(1)
    qkv = torch.randn(batch, length, 3, heads, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    dout = torch.randn(batch, length, heads, width, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
    return qkv, q, k, v, dout


def median(work, repetitions=30):
    """Milliseconds of `work`, captured in a CUDA graph where that succeeds."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    run, how = work, "eager"
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        run, how = graph.replay, "graph"
    except RuntimeError as error:
        print("  not captured:", str(error).splitlines()[0])
        torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repetitions + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:])), how


def main():
    print(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    once = os.environ.get("SELFSPAN_ONCE") == "1"
    shapes = [(16, 12, 1024, 64)] if once else [(16, 12, 1024, 64), (4, 16, 2048, 128)]
    backends = [SDPBackend.CUDNN_ATTENTION] if once else [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    for shape in shapes:
        for backend in backends:
            qkv, q, k, v, dout = tensors(*shape)
            label = f"B {shape[0]} H {shape[1]} T {shape[2]} D {shape[3]} {backend.name}"
            try:
                with sdpa_kernel(backend):
                    out = scaled_dot_product_attention(q, k, v, is_causal=True)
                    out.backward(dout)
                    torch.cuda.synchronize()
                    if once:
                        print(label, "logged in", folder)
                        continue
                    pieces = [t.detach().requires_grad_() for t in (q, k, v)]
                    with torch.no_grad():
                        forward, how = median(lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
                    out = scaled_dot_product_attention(*pieces, is_causal=True)
                    backward, how_backward = median(
                        lambda: torch.autograd.grad(out, pieces, dout, retain_graph=True))
                    print(f"{label}: forward {forward:.4f} ms ({how}), backward {backward:.4f} ms ({how_backward})")
            except RuntimeError as error:
                print(label, "failed:", str(error).splitlines()[0])


main()
