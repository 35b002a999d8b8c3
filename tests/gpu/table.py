"""One aligned table from the benchmarks' JSON reports: what was measured, ours, the best peer, and their ratio.

usage: table.py REPORT.json...
"""
import json
import os
import sys


def milliseconds(timing):
    return f"{1e3 * timing['median_seconds']:.3f}" if timing else "-"


def row(name, report):
    ours, peer = report.get("selfspan") or report, report.get("peer") or {}
    if "both" in ours:  # attention
        engines = {e["engine"]: e["both"]["median_seconds"] * 1e3 for e in peer.get("engines", [])}
        best = min(engines.items(), key=lambda item: item[1]) if engines else None
        others = "; ".join(f"{k.replace('PyTorch ', '')} {v:.3f}" for k, v in engines.items())
        detail = (f"fwd {milliseconds(ours['forward'])}, bwd {milliseconds(ours['backward'])}, plan "
                  f"{milliseconds(ours['plan'])}, {ours['attended_rows_per_token']:.0f} rows, nmse "
                  f"{max(ours['nmse']):.0e}. {others}")
        value = ours["both"]["median_seconds"] * 1e3
        return name, f"{value:.3f} ms", f"{best[1]:.3f} ms" if best else "-", f"{best[1] / value:.2f}" if best else "-", detail
    if "tokens_per_second" in ours:  # training
        rate, other = ours["tokens_per_second"], peer.get("tokens_per_second")
        detail = (f"{1e-3 * ours['gflops_per_second']:.0f} TFLOP/s, {ours['percent_of_gemm']:.1f}% of GEMM, "
                  f"{1e-9 * ours['used_bytes']:.2f} GB, {ours['attended_rows_per_token']:.0f} rows, "
                  f"{ours['device']}")
        return (name, f"{rate / 1e3:.1f}K tok/s", f"{other / 1e3:.1f}K tok/s" if other else "-",
                f"{rate / other:.2f}" if other else "-", detail)
    if "peer_largest" in ours:
        return (name, f"{ours['largest']:.5f}", f"{ours['peer_largest']:.5f}", f"{ours['ratio']:.2f}",
                "largest loss difference to PyTorch fp32; peer: PyTorch bf16")
    return None


rows = [("what", "selfspan", "best peer", "ratio", "detail")]
for path in sys.argv[1:]:
    try:
        with open(path) as file:
            made = row(os.path.basename(path)[:-5], json.load(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        made = (os.path.basename(path), "unreadable", "-", "-", f"{type(error).__name__}: {error}")
    rows.append(made or (os.path.basename(path), "no report", "-", "-", "neither attention, training nor losses"))
widths = [max(len(r[i]) for r in rows) for i in range(4)]
for r in rows:
    print("  ".join(cell.ljust(w) for cell, w in zip(r, widths)) + "  " + r[4])
