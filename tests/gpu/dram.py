"""DRAM bytes that a profiled kernel read, over the bytes that its program claims.

usage: dram.py PROFILE.csv PROGRAM.log      from ncu --csv --print-units base --metrics dram__bytes_read.sum,...; the log has
a line "claimed N bytes"
"""
import csv
import re
import sys


def measured(lines):
    """Metrics of the first launch, from the details page (a metric a line) or the raw page (a launch a line)."""
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise ValueError("no table of kernels in it; its last line: " + (lines[-1].strip() if lines else "(empty)"))
    values = {}
    for row in csv.DictReader(line for line in lines[start:] if not line.startswith("==")):
        if not row["ID"]:  # the line of units
            continue
        values.setdefault("name", row["Kernel Name"])
        if "Metric Name" in row:
            values.setdefault(row["Metric Name"], float(row["Metric Value"].replace(",", "")))
        else:
            values.update({k: float(v.replace(",", "")) for k, v in row.items() if k and "__" in k and k not in values})
    return values


try:
    with open(sys.argv[1]) as file:
        values = measured(file.readlines())
    with open(sys.argv[2]) as file:
        claimed = float(re.search(r"claimed (\d+) bytes", file.read()).group(1))
    read, nanoseconds = values["dram__bytes_read.sum"], values["gpu__time_duration.sum"]
except (OSError, ValueError, KeyError, AttributeError) as error:
    sys.exit(f"dram.py: {sys.argv[1]}: {type(error).__name__}: {error}")
print(f"{values['name'].split('(')[0][-48:]}: {1e-6 * read:.2f} MB read from DRAM, {1e-6 * claimed:.2f} MB claimed: "
      f"{read / claimed:.3f}x; {1e-3 * nanoseconds:.1f} us under the profiler")
