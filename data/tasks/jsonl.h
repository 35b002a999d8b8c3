// The jsonl task: any task's content as segments and references, one JSON object a line:
//
//   {"id": "a1", "split": "train",
//    "segments": [{"kind": "context", "text": "..."},
//                 {"kind": "step", "text": "...", "references": [0]},
//                 {"kind": "answer", "text": "...", "references": [1]}],
//    "answers": ["..."], "meta": {}}
//
// kind is context, step or answer, in this order; references are indices of earlier segments, ascending. "id",
// "split" (train, validation, test) and "segments" must be there. The file is plain or gzip (data/rows.h). The vocabulary
// is bytes.
#ifndef SELFSPAN_DATA_TASKS_JSONL_H
#define SELFSPAN_DATA_TASKS_JSONL_H

#include "common/config.h"
#include "data/task.h"

typedef enum { JSONL_FAIL, JSONL_SKIP } jsonl_on_error;

typedef struct {
  char path[SS_CONFIG_STRING];
  int on_error;  // jsonl_on_error: what a broken row does
} jsonl_config;

extern const ss_key jsonl_keys[];  // "jsonl.*" over a jsonl_config
extern const data_task jsonl_task;

// Makes an example of one row. Unknown, missing and mistyped fields are named.
ss_status jsonl_take_row(const json_t *row, example *out, data_split *split, ss_error *error);

// The same from a row's n bytes; `where` names the origin in messages.
ss_status jsonl_parse_row(const char *text, int64_t n, const char *where, example *out, data_split *split,
                          ss_error *error);

// "context", "step", "answer".
const char *jsonl_kind_name(int32_t kind);

#endif
