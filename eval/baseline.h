// Extracts on the same examples as the models, scored alike (eval/task.h, eval_baseline).
#ifndef SELFSPAN_EVAL_BASELINE_H
#define SELFSPAN_EVAL_BASELINE_H

#include "common/error.h"
#include "data/store.h"
#include "eval/evaluate.h"
#include "eval/task.h"

// The task's baseline of that name, or NULL with an error that names the known ones.
const eval_baseline *eval_baseline_find(const eval_task *task, const char *name, ss_error *error);

// Scores the baseline on the store's examples. Of the request count task, label, max_items, group_low, group_high, items
// and n_sample. *result is overwritten; free it with eval_result_free, after a failure too.
ss_status evaluate_baseline(const eval_request *request, const eval_baseline *baseline, store *data,
                            eval_result *result, ss_error *error);

// The extract of one example: a step for each selected segment, whose header names it.
ss_status eval_baseline_write(const eval_baseline *baseline, const example *gold, eval_written *written,
                              ss_error *error);

#endif
