# %% [markdown]
# # Self-selected attention spans: one run
#
# Written by `selfspan export notebook`. Every figure is drawn from the run's own files: `summary.json` and
# `results.h5` (evaluation), `ARM/metrics.csv` (training) and `span_map.json` (what each token of one example
# reads). Run the cells again to redraw them.

# %%
import csv
import json
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

run = Path(RUN)
summary = json.loads((run / "summary.json").read_text())
arms = [arm["arm"] for arm in summary["arms"]]
color = {arm: f"C{k}" for k, arm in enumerate(arms)}

# %% [markdown]
# ## The arms
#
# `dense` is trained on steps without headers and reads everything; `annotated` writes the headers and still reads
# everything; `span` reads only what its own headers select. Intervals are Wilson's at 95%.

# %%
def cell(value, form):
    return "-" if value is None else format(value, form)


columns = [("arm", "s"), ("items", "d"), ("accuracy", ".3f"), ("accuracy_low", ".3f"), ("accuracy_high", ".3f"),
           ("step_accuracy", ".3f"), ("reference_exact", ".3f"), ("generated_tokens", "d"),
           ("attended_rows_per_example", ".0f"), ("attended_rows_per_token", ".1f"),
           ("examples_per_second", ".1f"), ("tokens_per_second", ".0f"), ("train_seconds", ".0f")]
rows = [[name for name, _ in columns]]
rows += [[cell(arm[name], form) for name, form in columns] for arm in summary["arms"]]
widths = [max(len(row[k]) for row in rows) for k in range(len(columns))]
for row in rows:
    print("  ".join(text.rjust(width) if k else text.ljust(width) for k, (text, width) in enumerate(zip(row, widths))))

# %% [markdown]
# ## Accuracy against what is read

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for arm in summary["arms"]:
    error = [[max(0, arm["accuracy"] - arm["accuracy_low"])], [max(0, arm["accuracy_high"] - arm["accuracy"])]]
    axes[0].errorbar(arm["attended_rows_per_example"], arm["accuracy"], yerr=error, fmt="o", capsize=3,
                     color=color[arm["arm"]], label=arm["arm"])
axes[0].set(xlabel="attended rows per example", ylabel="answer accuracy", ylim=(-0.02, 1.02), xlim=(0, None))
with h5py.File(run / "results.h5") as results:
    for arm in arms:
        group = results["items"][arm.replace("/", "-")]
        operators, correct = group["group"][:], group["correct"][:]
        values = np.unique(operators)
        axes[1].plot(values, [correct[operators == v].mean() for v in values], "o-", color=color[arm])
axes[1].set(xlabel="operators", ylabel="answer accuracy", ylim=(-0.02, 1.02), xticks=values)
figure.legend(loc="outside right upper")
plt.show()

# %% [markdown]
# ## Learning curves

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")


def number(text):
    return float(text) if text not in ("", "nan") else np.nan


for arm in arms:
    path = run / arm / "metrics.csv"
    if not path.exists():
        continue
    with path.open() as file:
        records = list(csv.DictReader(file))
    steps = np.array([number(r["step"]) for r in records])
    loss = np.array([number(r["train_loss"]) for r in records])
    accuracy = np.array([number(r["validation_accuracy"]) for r in records])
    axes[0].plot(steps[np.isfinite(loss)], loss[np.isfinite(loss)], color=color[arm], label=arm)
    axes[1].plot(steps[np.isfinite(accuracy)], accuracy[np.isfinite(accuracy)], "o-", color=color[arm], label=arm)
axes[0].set(xlabel="step", ylabel="training loss (nats per target)", yscale="log")
axes[1].set(xlabel="step", ylabel="validation accuracy by generation", ylim=(0, 1.02))
for axis in axes:
    axis.legend()
plt.show()

# %% [markdown]
# ## One example's span map
#
# Row i shows what the query at token i reads. Segments are separated by lines; header queries choose among headers
# and anchors, body queries read the segments that the header named.

# %%
span_map = json.loads((run / "span_map.json").read_text())
n = len(span_map["tokens"])
image = np.zeros((n, n))
for row in span_map["rows"]:
    for first, end in row["ranges"]:
        image[row["row"], first:end] = 2 if row["header"] else 1
visible = (image > 0).sum()
figure, axis = plt.subplots(figsize=(9, 9), layout="constrained")
axis.imshow(image, cmap=plt.matplotlib.colors.ListedColormap(["white", "C0", "C1"]), interpolation="nearest")
for segment in span_map["segments"]:
    axis.axhline(segment["first"] - 0.5, color="0.8", linewidth=0.6)
    axis.axvline(segment["first"] - 0.5, color="0.8", linewidth=0.6)
size = 7 if n <= 120 else 4
axis.set_xticks(range(n), span_map["tokens"], rotation=90, fontsize=size)
axis.set_yticks(range(n), span_map["tokens"], fontsize=size)
axis.set(title=f"{visible} of {n * (n + 1) // 2} causal pairs are read "
               f"(orange: header queries, blue: the others)", xlabel="row read", ylabel="query")
plt.show()
