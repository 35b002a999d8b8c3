#!/usr/bin/env bash
# `selfspan export`: a dataset as JSON lines and back, a run as a notebook.
. "$(dirname "$0")/shell_checks.sh"

make_data() {
  "$selfspan" data arithmetic --out data --quiet --set data.train=60 --set data.validation=5 --set data.test=30 \
    --set arithmetic.operators_high=4 --set data.n_anchor=32
}
if ! { make_data && tiny_model span run/span; } >out 2>err; then
  not_ok set-up
  exit 1
fi
mkdir -p run && cp -r data run/data

check jsonl "$selfspan" export jsonl --data data/test.h5 --out test.jsonl --quiet
[ "$(wc -l <test.jsonl)" -eq 30 ] && ok jsonl-lines || not_ok jsonl-lines
# Reading them back as the jsonl task gives the same segments and references.
check jsonl-read-back "$selfspan" data jsonl --out again --quiet --set jsonl.path=test.jsonl --set data.n_anchor=32
if [ -f again/test.h5 ] && "$selfspan" export jsonl --data again/test.h5 --out again.jsonl --quiet >out 2>err; then
  cmp -s test.jsonl again.jsonl && ok jsonl-round-trip || { diff test.jsonl again.jsonl >out; not_ok jsonl-round-trip; }
else
  not_ok jsonl-round-trip
fi
refused jsonl-exists 2 "--force replaces it" "$selfspan" export jsonl --data data/test.h5 --out test.jsonl
check jsonl-force "$selfspan" export jsonl --data data/test.h5 --out test.jsonl --quiet --force
refused jsonl-itself 2 "is the dataset itself" "$selfspan" export jsonl --data data/test.h5 --out data/test.h5 --force
refused jsonl-folder 2 "is a folder" "$selfspan" export jsonl --data data/test.h5 --out data
refused jsonl-missing 4 nothing.h5 "$selfspan" export jsonl --data nothing.h5 --out x.jsonl
refused jsonl-foreign 3 tiny.yaml "$selfspan" export jsonl --data tiny.yaml --out x.jsonl
refused what 2 "did you mean 'notebook'" "$selfspan" export notebok

check notebook "$selfspan" export notebook --run run --out run.ipynb --no-execute --index 3 \
  --template "$repository/notebooks-export/report.py"
python notebook-format 'import json, sys
notebook = json.load(open(sys.argv[1]))
assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
kinds = {cell["cell_type"] for cell in notebook["cells"]}
assert kinds == {"code", "markdown"}, kinds
assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
assert notebook["cells"][0]["source"] == ["RUN = \"run\""]
for cell in notebook["cells"]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        compile(text, cell["id"], "exec")
    else:
        assert not text.startswith("# %%"), text
span_map = json.load(open(sys.argv[2]))
rows = span_map["rows"]
assert [row["row"] for row in rows] == list(range(len(span_map["tokens"])))
for row in rows:
    assert row["ranges"][-1][1] == row["row"] + 1
    assert all(a[1] < b[0] for a, b in zip(row["ranges"], row["ranges"][1:]))
assert any(len(row["ranges"]) > 1 for row in rows)' run.ipynb run/span_map.json
refused notebook-index 2 "has examples 0 to 29" "$selfspan" export notebook --run run --index 30
refused notebook-run 4 nowhere/span/model.h5 "$selfspan" export notebook --run nowhere
printf 'x = 1\n' >plain.py
refused notebook-template 3 "no cells" "$selfspan" export notebook --run run --out y.ipynb --no-execute --template plain.py
[ ! -e y.ipynb ] && ok notebook-nothing-left || not_ok notebook-nothing-left
refused notebook-python 4 "make venv" "$selfspan" export notebook --run run --out z.ipynb --python ./no-such-python \
  --template "$repository/notebooks-export/report.py"
[ ! -e z.ipynb ] && [ ! -e z.ipynb.new ] && ok notebook-nothing-partial || not_ok notebook-nothing-partial
