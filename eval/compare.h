// A written derivation against gold: step texts, answer, and what the headers reference.
#ifndef SELFSPAN_EVAL_COMPARE_H
#define SELFSPAN_EVAL_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/example.h"
#include "eval/evaluate.h"
#include "eval/task.h"
#include "eval/written.h"

// The group that an item is selected and tabulated by: the task's, with everything beyond the last group in it.
int32_t eval_group(const eval_task *task, const example *gold);

// Scores `written` against `gold` into the item's id, group, score, steps, references and headers. The k-th
// written header is held against the k-th gold one; it is exact when it names the same set and nothing besides
// (an unknown or a duplicate reference spoils it). Gold headers that were not written are not exact.
ss_status eval_compare(const example *gold, const eval_written *written, const eval_task *task,
                       eval_item *item, ss_error *error);

#endif
