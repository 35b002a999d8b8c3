// The dataset card: card.json for machines and card.md for people, beside a dataset's files. Content depends on the
// dataset alone: no dates, hosts, paths or thread counts.
#ifndef SELFSPAN_DATA_CARD_H
#define SELFSPAN_DATA_CARD_H

#include <jansson.h>

#include "common/error.h"

// Writes FOLDER/card.json and FOLDER/card.md. `card` is an object:
//   {"format": "selfspan-card", "schema_version": 1, "task", "summary", "seed", "config": {...}, "vocabulary": {...},
//    "vocabulary_hash", "excluded": {"file", "xxh128"} | null, "notes": text | null,
//    "splits": {"train": {"file", "xxh128", "skipped", "duplicates", ...statistics_json,
//                         "content": numbers of the task's own, "skipped_reasons": {reason: rows},
//                         "skipped_first": ["id: reason", ...]}, ...}}; the last three where there are any
ss_status card_write(const char *folder, const json_t *card, ss_error *error);

#endif
