"""The kernels of a profile as an aligned table, the most expensive first: calls, milliseconds, share of the whole.

usage: kernels.py [--width N] PROFILE.csv      from ncu --csv --metrics gpu__time_duration.sum
"""
import argparse
import collections
import csv
import re

METRIC = "gpu__time_duration.sum"
UNITS = {"s": 1e3, "second": 1e3, "ms": 1.0, "msecond": 1.0, "us": 1e-3, "usecond": 1e-3, "ns": 1e-6, "nsecond": 1e-6}


def strip_arguments(name):
    """Drops the parameter list: the last parenthesis that is not inside template brackets."""
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0 and not name.startswith("(anonymous", i):
            return name[:i]
    return name


def shorten(name, width):
    name = re.sub(r"\((int|bool|unsigned int|long)\)", "", name)
    name = strip_arguments(re.sub(r"^(static )?void ", "", name))
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|\b(\w+::)+(?=\w)", "", name)
    name = name.replace("__nv_bfloat16", "bf16").replace(", ", ",")
    return name if len(name) <= width else name[: width - 12] + ".." + name[-10:]


def number(text):
    return float(text.replace(",", ""))


def launches(lines):
    """(kernel, milliseconds) of every launch, from the details page (a metric a line) or the raw page (a launch a line)."""
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise ValueError("no table of kernels in it; its last line: " + (lines[-1].strip() if lines else "(empty)"))
    rows = csv.DictReader(line for line in lines[start:] if not line.startswith("=="))
    unit = None
    for row in rows:
        if METRIC in row:
            if not row["ID"]:  # the line of units
                unit = row[METRIC]
            else:
                yield row["Kernel Name"], number(row[METRIC]) * UNITS[unit]
        elif row.get("Metric Name") == METRIC:
            yield row["Kernel Name"], number(row["Metric Value"]) * UNITS[row["Metric Unit"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--width", type=int, default=72, help="of a kernel's name (72)")
    options = parser.parse_args()
    sums = collections.defaultdict(lambda: [0, 0.0])
    try:
        with open(options.profile) as file:
            for name, milliseconds in launches(file.readlines()):
                entry = sums[shorten(name, options.width)]
                entry[0] += 1
                entry[1] += milliseconds
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"kernels.py: {options.profile}: {error}")
    if not sums:
        raise SystemExit(f"kernels.py: {options.profile}: no kernel was profiled")
    whole = sum(milliseconds for _, milliseconds in sums.values())
    calls = sum(n for n, _ in sums.values())
    rows = [(name, str(n), f"{ms:.3f}", f"{ms / n * 1e3:.1f}", f"{100 * ms / whole:.1f}%")
            for name, (n, ms) in sorted(sums.items(), key=lambda item: -item[1][1])]
    rows = [("kernel", "calls", "ms", "us a call", "share")] + rows + [("all", str(calls), f"{whole:.3f}", "", "100.0%")]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print((row[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))).rstrip())


if __name__ == "__main__":
    main()
