#!/usr/bin/env bash
# The multihop task from outside: invented and imported sets, training, decoding and scoring of both, HotpotQA's own rows
# made into ours, and the scorer beside HotpotQA's metrics in Python. MULTIHOP_ITEMS and MULTIHOP_SEED: how many, which.
. "$(dirname "$0")/shell_checks.sh"
items=${MULTIHOP_ITEMS:-3000}
configs=$repository/configs/multihop

# --- an invented set ---
data() { "$selfspan" data multihop --config "$configs/data.yaml" --set "multihop.tokenizer=$configs/tokenizer.json" --quiet "$@"; }
few=(--set data.train=60 --set data.validation=12 --set data.test=20)
check data data "${few[@]}" --out data
check data-again data "${few[@]}" --threads 1 --out again
cmp -s data/test.h5 again/test.h5 && cmp -s data/train.h5 again/train.h5 && ok data-same-bytes || not_ok data-same-bytes
check data-bytes "$selfspan" data multihop "${few[@]}" --quiet --out bytes
# A word of the invented sentences is one token of the tokenizer: 6 and 8 make a sentence with its anchor.
python words-are-tokens '
import json
card, by_byte = (json.load(open(name + "/card.json"))["splits"]["train"] for name in ("data", "bytes"))
people = (card["segments"]["context"] - card["examples"]) // 2
assert card["tokens"]["dense"] == card["examples"] * (2 + 6 + 6 + 8 + 4) + people * 14, card["tokens"]
assert by_byte["tokens"]["dense"] > 2 * card["tokens"]["dense"]'
for arm in dense span; do check "train-$arm" tiny_model $arm $arm; done
check eval "$selfspan" eval --model dense/model.h5 --model span/model.h5 --data data/test.h5 --set decode.max_tokens=40 --out run --json
python eval-metrics '
import json
arms = {arm["arm"]: arm for arm in json.load(open("run/summary.json"))["arms"]}
assert set(arms["span"]["metrics"]) == {"f1", "facts_exact", "facts_f1"}
assert arms["span"]["metrics"]["facts_f1"]["items"] == 20 and arms["dense"]["metrics"]["facts_f1"]["items"] == 0'
# The gold derivations, written out, are right in everything.
"$selfspan" export jsonl --data data/test.h5 --out gold.jsonl >out 2>err
python gold '
import json
with open("gold.predictions", "w") as file:
    for row in map(json.loads, open("gold.jsonl")):
        steps = [s for s in row["segments"] if s["kind"] != "context"]
        print(json.dumps({"id": row["id"], "steps": [s["text"] for s in steps[:-1]], "answer": steps[-1]["text"],
                          "references": [s["references"] for s in steps]}), file=file)'
if [ -s gold.predictions ]; then
  check gold-score "$selfspan" eval score --data data/test.h5 --predictions gold.predictions --json
  python gold-right 'import json; arm = json.load(open("out"))["arms"][0]; assert arm["accuracy"] == arm["step_accuracy"] == arm["metrics"]["facts_f1"]["mean"] == arm["metrics"]["f1"]["mean"] == 1'
  # The same rows imported: the same set of questions, under this task's name.
  check import "$selfspan" data multihop --set multihop.path=gold.jsonl --set "multihop.tokenizer=$configs/tokenizer.json" --quiet --out imported
  check import-score "$selfspan" eval score --data imported/test.h5 --predictions gold.predictions --json
fi

refused no-tokenizer 4 "absent.json" "$selfspan" data multihop "${few[@]}" --set multihop.tokenizer=absent.json --out none
refused people 2 "people_low" "$selfspan" data multihop "${few[@]}" --set multihop.people_low=9 --out none
printf '{"id":"x","split":"test","segments":[{"kind":"context","text":"Who?"},{"kind":"step","text":"s"}],"answers":["s"]}\n' >broken.jsonl
refused row 3 'id "x", lacks a question and a sentence' "$selfspan" data multihop --set multihop.path=broken.jsonl --out none
[ ! -e none ] && ok nothing-left || not_ok nothing-left

# --- rows from HotpotQA's format ---
cat >hotpot.json <<'JSON'
[{"_id": "5a", "question": "In which country is the town where Ann Example was born?", "answer": "Utopia", "type": "bridge",
  "supporting_facts": [["Ann Example", 1], ["Sample Town", 0], ["Sample Town", 9]],
  "context": [["Sample Town", ["Sample Town is a town in Utopia.", " It has a  mill."]],
              ["Ann Example", ["Ann Example is a painter.", " She was born in Sample Town.", ""]]]},
 {"_id": "5b", "question": "Who?", "answer": "nobody", "supporting_facts": [["Nowhere", 0]], "context": [["Sample Town", ["A."]]]}]
JSON
if ! command -v python3 >/dev/null; then
  echo "skip hotpotqa: python3 not found"
else
  python3 "$configs/hotpotqa.py" test hotpot.json >hotpot.jsonl 2>err
  check hotpotqa "$selfspan" data multihop --set multihop.path=hotpot.jsonl --quiet --out hotpot
  check hotpotqa-inspect "$selfspan" inspect hotpot/test.h5 --index 0 --json
  python hotpotqa-rows '
import json
[row] = map(json.loads, open("hotpot.jsonl"))
texts = [segment["text"] for segment in row["segments"]]
assert texts[1:3] == [" Sample Town: Sample Town is a town in Utopia.", " It has a mill."], texts
assert texts[5:] == [" She was born in Sample Town.", " Sample Town: Sample Town is a town in Utopia.", " Utopia"], texts
assert [segment.get("references") for segment in row["segments"][5:]] == [[4], [1], [5, 6]]'
fi

# --- beside HotpotQA's metrics ---
if ! command -v python3 >/dev/null; then
  echo "skip peer: python3 not found"
else
  seed=${MULTIHOP_SEED:-$RANDOM}
  echo "seed $seed"
  peer=$repository/tests/peers/hotpot_metric.py
  check peer-make python3 "$peer" make rows.jsonl predictions.jsonl "$items" "$seed"
  check peer-import "$selfspan" data multihop --set multihop.path=rows.jsonl --quiet --out peer
  check peer-score "$selfspan" eval score --data peer/test.h5 --predictions predictions.jsonl --json
  cp out summary.json
  check peer-agrees python3 "$peer" score rows.jsonl predictions.jsonl summary.json
  tail -n 1 out
fi
