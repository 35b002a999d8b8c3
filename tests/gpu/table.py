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


def microseconds(timing):
    return f"{1e6 * timing['median_seconds']:.1f}" if timing else "-"


def step_detail(arm, dense):
    """What a step consists of: on the device alone, or planned and sampled by the host."""
    attention = arm["attention"]
    start = (f"{arm['rows_per_token']:.0f} rows, {arm['tokens_per_second'] / dense:.2f}x dense, step {milliseconds(arm['timing'])} ms, "
             f"on the device {milliseconds(arm.get('device_timing'))}, floor {1e3 * arm['floor']['seconds']:.3f} "
             f"({arm['percent_of_ceiling']:.0f}% reached), host {100 * arm['host_share']:.1f}%")
    speed = (f"attention {microseconds(attention['timing'])} us a layer, {attention['kv_gigabytes_per_second']:.0f} GB/s, "
             f"{attention['percent_of_copy']:.0f}% of copy, {attention['times_floor']:.2f}x bytes / copy")
    if "advance" in arm:
        return (f"{start}; {speed}; advance {microseconds(arm['advance'])} us ({100 * arm['shares']['advance']:.1f}%), choose "
                f"{microseconds(arm['choose'])}, rest {1e6 * arm['rest_seconds']:.0f}, launch {microseconds(arm['enqueue'])}")
    return (f"{start} (plan {milliseconds(arm['plan'])}, enqueue {milliseconds(arm.get('enqueue'))}, download "
            f"{milliseconds(arm.get('download'))}, sample {milliseconds(arm['sample'])}); {speed}")


def decode_rows(name, report):
    """A row for each arm, beside the peer's dense step."""
    arms = [r for r in report["results"] if r["engine"].startswith("selfspan")]
    peer = next((r for r in report["results"] if not r["engine"].startswith("selfspan")), {})
    other = peer.get("tokens_per_second")
    rows = []
    for arm in arms:
        rate = arm["tokens_per_second"]
        rows.append((f"{name} {arm['engine'].removeprefix('selfspan ')}", thousands(rate), thousands(other),
                     f"{rate / other:.2f}" if other else "-", step_detail(arm, arms[0]["tokens_per_second"])))
    if rows and peer:
        alone = peer.get("attention")
        rows[0] = rows[0][:4] + (rows[0][4] + f". Peer: {peer['engine']}, step {milliseconds(peer.get('timing'))} ms" +
                                 (f"; {alone['engine']} {alone['kv_gigabytes_per_second']:.0f} GB/s" if alone else ""),)
    return rows


def replay_rows(name, report):
    """Examples a second of each arm; the peer decodes the dense arm's streams."""
    arms = [r for r in report["replay"] if r["engine"].startswith("selfspan")]
    peer = next((r for r in report["replay"] if not r["engine"].startswith("selfspan")), {})
    first, rows = arms[0]["examples_per_second"], []
    other = peer.get("examples_per_second")  # not of a peer that was cut: its slots did not run empty
    for arm in arms:
        rate = arm["examples_per_second"]
        detail = (f"{rate / first:.2f}x {arms[0]['engine'].split()[-1]}, {arm['rows_per_token']:.0f} rows, "
                  f"{arm['tokens_per_second'] / 1e3:.1f}K tok/s, decode {arm['decode_seconds']:.2f} s, prefill "
                  f"{arm['prefill_seconds']:.2f} s, host {100 * arm['host_share']:.1f}%, ceiling "
                  f"{arm['floor']['examples_per_second']:.1f} ex/s ({arm['percent_of_ceiling']:.0f}% reached, decoding alone "
                  f"{arm['decode_percent_of_ceiling']:.0f}%, slots {100 * arm['slots_filled']:.0f}% full), "
                  f"{report['examples']} examples, {arm['decoder']}")
        same = peer and arm["engine"].endswith("dense")
        rows.append((f"{name} {arm['engine'].removeprefix('selfspan ')}", f"{rate:.2f} ex/s",
                     f"{other:.2f} ex/s" if same and other else "-", f"{rate / other:.2f}" if same and other else "-",
                     detail + (f". Peer: {peer['engine']}, {peer['tokens_per_second'] / 1e3:.1f}K tok/s, decode "
                               f"{peer['decode_seconds']:.2f} s, prefill {peer['prefill_seconds']:.2f} s, slots "
                               f"{100 * peer['slots_filled']:.0f}% full, {peer['examples_done']} done" if same else "")))
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
        made = (decode_rows(name, report) if "results" in report else
                replay_rows(name, report) if "replay" in report else [row(name, report)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        made = [(os.path.basename(path), "unreadable", "-", "-", f"{type(error).__name__}: {error}")]
    rows += [r or (os.path.basename(path), "no report", "-", "-", "neither attention, training, decoding, replay nor losses")
             for r in made]
widths = [max(len(r[i]) for r in rows) for i in range(4)]
for r in rows:
    print("  ".join(cell.ljust(w) for cell, w in zip(r, widths)) + "  " + r[4])
