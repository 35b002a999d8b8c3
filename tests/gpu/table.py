"""One aligned table from the benchmarks' JSON reports: what was measured, ours, the best peer, and their ratio.

usage: table.py REPORT.json...
"""
import json
import os
import sys


def milliseconds(timing):
    return f"{1e3 * timing['median_seconds']:.3f}" if timing else "-"


def thousands(rate):
    return f"{rate / 1e3:.2f}K tok/s" if rate else "-"


def decode_rows(name, report):
    """A row for each arm, beside the peer's dense step."""
    arms = [r for r in report["results"] if r["engine"].startswith("selfspan")]
    peer = next((r for r in report["results"] if not r["engine"].startswith("selfspan")), {})
    other = peer.get("tokens_per_second")
    rows = []
    for arm in arms:
        rate, attention, device = arm["tokens_per_second"], arm["attention"], arm.get("device_timing")
        detail = (f"{arm['rows_per_token']:.0f} rows, {rate / arms[0]['tokens_per_second']:.2f}x dense, step "
                  f"{milliseconds(arm['timing'])} ms, on the device {milliseconds(device)}, floor "
                  f"{1e3 * arm['floor']['seconds']:.3f} ({arm['percent_of_ceiling']:.0f}% reached), host "
                  f"{100 * arm['host_share']:.0f}% (plan {milliseconds(arm['plan'])}, enqueue "
                  f"{milliseconds(arm.get('enqueue'))}, download {milliseconds(arm.get('download'))}, sample {milliseconds(arm['sample'])}); attention "
                  f"{attention['kv_gigabytes_per_second']:.0f} GB/s, {attention['percent_of_copy']:.0f}% of copy")
        rows.append((f"{name} {arm['engine'].split()[-1]}", thousands(rate), thousands(other),
                     f"{rate / other:.2f}" if other else "-", detail))
    if rows and peer:
        alone = peer.get("attention")
        rows[0] = rows[0][:4] + (rows[0][4] + f". Peer: {peer['engine']}, step {milliseconds(peer.get('timing'))} ms" +
                                 (f"; {alone['engine']} {alone['kv_gigabytes_per_second']:.0f} GB/s" if alone else ""),)
    return rows


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
            name, report = os.path.basename(path)[:-5], json.load(file)
        made = decode_rows(name, report) if "results" in report else [row(name, report)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        made = [(os.path.basename(path), "unreadable", "-", "-", f"{type(error).__name__}: {error}")]
    rows += [r or (os.path.basename(path), "no report", "-", "-", "neither attention, training, decoding nor losses")
             for r in made]
widths = [max(len(r[i]) for r in rows) for i in range(4)]
for r in rows:
    print("  ".join(cell.ljust(w) for cell, w in zip(r, widths)) + "  " + r[4])
