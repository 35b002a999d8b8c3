// What several arms wrote for the same examples, to be read side by side.
#ifndef SELFSPAN_EVAL_SAMPLES_H
#define SELFSPAN_EVAL_SAMPLES_H

#include <stdio.h>

#include "common/error.h"
#include "data/store.h"
#include "eval/evaluate.h"

// For every example that any of results [count] has a sample of, in the order of the data: its id, its context segments with
// their numbers, the gold steps and answer with the segments that they refer to, then each result's, headed by its
// compared metrics and the rows that it read. Plain text.
ss_status eval_print_samples(FILE *file, store *data, const eval_result *results, int64_t count,
                             ss_error *error);

#endif
