#!/usr/bin/env bash
# `selfspan data cnndm` and `inspect --text` from outside: the documented configuration, the forms of rows, the card, arrows
# between article and summary. References beside the Python package rouge-score where there is one (ROUGE_PYTHON, default
# python3). SELFSPAN_NEWS: a folder of *.jsonl.gz with "article" and "highlights", annotated and compared as well.
. "$(dirname "$0")/shell_checks.sh"
peer=${ROUGE_PYTHON:-python3}
config=$repository/configs/cnndm/data.yaml

article='HOLM, Norland (CNN) -- The old mill of Holm burned down on Friday night. Sgt. Ada Reed of the fire watch said nobody was in it. "We saw the smoke from the river," she said. The mill had stood for 200 years. Its owner, J. K. Fell, wants to build it again by May.'
mkdir stories
for k in 1 2 3; do
  printf '{"id": "m%d", "article": "%s", "highlights": "Mill of Holm burns down .\\nOwner wants to build mill again", "url": null}\n' \
    $k "${article//\"/\\\"}" >>rows.jsonl
  printf '%s\n\n@highlight\n\nMill of Holm burns down\n\n@highlight\n\nOwner wants to build mill again\n' "$article" >stories/m$k.story
done
{
  echo 'id,article,highlights'
  for k in 1 2 3; do printf 'm%d,"%s","Mill of Holm burns down .\nOwner wants to build mill again"\n' $k "${article//\"/\"\"}"; done
} >rows.csv
gzip -k rows.csv

check jsonl "$selfspan" data cnndm --config "$config" --set cnndm.train=rows.jsonl --out jsonl
grep -q '^article: sentences  *5.00' out && grep -q 'cleaned by rule dateline, places in all *3' out && ok report || not_ok report
grep -q '^| novel 2-grams of the summary, % | ' jsonl/card.md && ok card || not_ok card
check csv "$selfspan" data cnndm --config "$config" --set cnndm.train=rows.csv.gz --out csv --quiet
check stories "$selfspan" data cnndm --config "$config" --set cnndm.train=stories/ --out story --quiet
for form in jsonl csv story; do
  check "export-$form" "$selfspan" export jsonl --data $form/train.h5 --out $form.jsonl --quiet
done
cmp -s jsonl.jsonl csv.jsonl && ok csv-equals-jsonl || not_ok csv-equals-jsonl
# The rule for endings has more to do where published rows have " .".
sed 's/"meta":.*//' jsonl.jsonl >a && sed 's/"meta":.*//' story.jsonl >b
cmp -s a b && ok stories-equal-jsonl || not_ok stories-equal-jsonl

# On a terminal, as that is where a bar shows soon: 100 MB of rows, of which one is wanted.
head -1 rows.jsonl | sed 's/"url": null/"url": "'"$(printf 'x%.0s' {1..3000})"'"/' >long.jsonl
for _ in {1..15}; do cat long.jsonl long.jsonl >longer.jsonl && mv longer.jsonl long.jsonl; done
on_terminal() { python3 -c 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) != 0)' "$@"; }
check scan on_terminal "$selfspan" data cnndm --config "$config" --set cnndm.train=long.jsonl --set data.train=1 --out scan
tr '\r' '\n' <out | grep -q '^reading train \[=* *\]  *[0-9][0-9]% [0-9]*/[0-9]' && grep -q 'reading train .*100%' out && ok scan-bar || not_ok scan-bar
check scan-quiet on_terminal "$selfspan" data cnndm --config "$config" --set cnndm.train=long.jsonl --set data.train=1 --out scan --force --quiet
grep -q reading out && not_ok scan-quiet-shows-none || ok scan-quiet-shows-none
rm long.jsonl

check text "$selfspan" inspect jsonl/train.h5 --index 1 --text
grep -q '^#0  *o  *The old mill of Holm burned down on Friday night\.$' out && grep -q '^#5  *>|  *Mill of Holm burns down\.$' out &&
  grep -q 'reads #4$' out && ! grep -q "$(printf '\033')" out && ok text-content || not_ok text-content
check text-json "$selfspan" inspect jsonl/train.h5 --index 1 --text --json
python text-json-content 'import json
shown = json.load(open("out"))
segments = shown["segments"]
assert [s["kind"] for s in segments] == ["context"] * 5 + ["step"] * 2
assert segments[5]["references"] == [0] and segments[0]["read_by"] == [5] and segments[3]["read_by"] == []
assert segments[1]["text"] == " Sgt. Ada Reed of the fire watch said nobody was in it."
assert shown["meta"]["article"]["sentences"] == 5'
refused text-of-a-file 2 "--index" "$selfspan" inspect jsonl/train.h5 --text
refused unknown-rule 2 "cnndm.clean" "$selfspan" data cnndm --config "$config" --set cnndm.train=rows.jsonl --set cnndm.clean=dates --out refused --quiet
[ ! -e refused ] && ok refused-leaves-nothing || not_ok refused-leaves-nothing
refused absent-tokenizer 4 "absent.json" "$selfspan" data cnndm --config "$config" --set cnndm.train=rows.jsonl --set cnndm.tokenizer=absent.json \
  --out refused --quiet

if ! "$peer" -c 'import rouge_score' 2>/dev/null; then
  echo "skip oracle: $peer has no rouge-score"
  exit 0
fi
check oracle "$peer" "$repository/tests/peers/greedy_oracle.py" jsonl.jsonl
if [ -z "${SELFSPAN_NEWS:-}" ]; then
  echo "skip oracle-news: SELFSPAN_NEWS is not set"
else
  for rows in "$SELFSPAN_NEWS"/*.jsonl.gz; do
    name=$(basename "$rows" .jsonl.gz)
    check "news-$name" "$selfspan" data cnndm --config "$config" --set cnndm.context_tokens=4000 --set "cnndm.train=$rows" --out "$name" --quiet
    check "news-export-$name" "$selfspan" export jsonl --data "$name/train.h5" --out "$name.jsonl" --quiet
    check "oracle-news-$name" "$peer" "$repository/tests/peers/greedy_oracle.py" "$name.jsonl" --most "${ROUGE_ITEMS:-100}"
  done
fi
