// Scoring of other systems' outputs: a JSONL file of predictions against a store's examples, with the same metrics.
#ifndef SELFSPAN_EVAL_SCORE_FILE_H
#define SELFSPAN_EVAL_SCORE_FILE_H

#include <stdint.h>

#include "common/error.h"
#include "data/store.h"
#include "eval/evaluate.h"
#include "eval/task.h"

typedef struct {
  int64_t predictions;  // lines read
  int64_t missing;      // examples without a prediction: they count as wrong
} eval_score_file_counts;

// One line a prediction: {"id": "...", "steps": ["...", ...], "answer": "..." or null}; "references", a list of one
// list of segment indices a step and then the answer's, is optional; other keys are ignored. An id that the data
// lacks, or that comes twice, is an error. Examples outside group_low..group_high are passed over. Free *result
// with eval_result_free, after a failure too.
ss_status eval_score_file(const char *path, store *data, const eval_task *task, int64_t group_low,
                          int64_t group_high, eval_result *result, eval_score_file_counts *counts,
                          ss_error *error);

#endif
