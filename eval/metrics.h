// A task's own metrics over the items of arms: means with bootstrap intervals, and how far an arm lies from another on the
// same items.
#ifndef SELFSPAN_EVAL_METRICS_H
#define SELFSPAN_EVAL_METRICS_H

#include "common/error.h"
#include "eval/evaluate.h"

#define EVAL_CONFIDENCE 0.95
#define EVAL_BOOTSTRAP_SAMPLES 1000
#define EVAL_DEFAULT_AGAINST "dense"

// Fills `metrics`, `against`, `differences` and `rows_ratio` of results [count]: the mean of every metric over the items
// that have it, and, where an arm is called `against`, the mean over the items that it and the other arm both have of
// their paired differences, each with its 95% interval by the percentile bootstrap (items drawn with replacement). Results
// without a task, or without kept items, get none. `against` NULL is EVAL_DEFAULT_AGAINST, and may be missing; another
// name that no arm has is SS_ERROR_USAGE, all but the differences being filled in.
ss_status eval_measure(eval_result *results, int count, const char *against, ss_error *error);

#endif
