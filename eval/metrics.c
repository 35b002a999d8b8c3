#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/results.h"

static ss_status mean_of(const double *values, int64_t n, eval_metric_mean *out, ss_error *error) {
  out->items = n;
  out->interval = (bootstrap_interval){NAN, NAN, NAN};
  // The seed is the same for every metric, so that all of them see the same draws where all items have them.
  return n == 0 ? SS_OK
                : bootstrap_means(values, n, 1, EVAL_BOOTSTRAP_SAMPLES, EVAL_CONFIDENCE, 0, &out->interval,
                                  error);
}

static ss_status measure_arm(eval_result *result, double *values, ss_error *error) {
  for (int64_t m = 0; m < result->task->n_metric; m++) {
    int64_t n = 0;
    for (int64_t i = 0; i < result->n_item; i++)
      if (!isnan(result->items[i].metrics[m]))
        values[n++] = result->items[i].metrics[m];
    SS_TRY(mean_of(values, n, &result->metrics[m], error));
  }
  return SS_OK;
}

// Items are in the order of their index in both.
static int64_t pair_up(const eval_result *result, const eval_result *other, int64_t metric, double *values) {
  int64_t n = 0;
  for (int64_t i = 0, k = 0; i < result->n_item && k < other->n_item;) {
    const eval_item *a = &result->items[i], *b = &other->items[k];
    if (a->index == b->index && !isnan(a->metrics[metric]) && !isnan(b->metrics[metric]))
      values[n++] = a->metrics[metric] - b->metrics[metric];
    i += a->index <= b->index;
    k += b->index <= a->index;
  }
  return n;
}

static ss_status compare_arms(eval_result *result, const eval_result *other, double *values,
                              ss_error *error) {
  memcpy(result->against, other->label, sizeof result->against);
  eval_rates own = eval_rates_of(result, &result->all), theirs = eval_rates_of(other, &other->all);
  result->rows_ratio = theirs.rows_per_example > 0 ? own.rows_per_example / theirs.rows_per_example : NAN;
  for (int64_t m = 0; m < result->task->n_metric; m++)
    SS_TRY(mean_of(values, pair_up(result, other, m, values), &result->differences[m], error));
  return SS_OK;
}

static bool has_metrics(const eval_result *result) {
  return result->task != NULL && result->task->n_metric > 0 && result->n_item > 0;
}

static ss_status measure_all(eval_result *results, int count, const eval_result *against, double *values,
                             ss_error *error) {
  for (int k = 0; k < count; k++) {
    if (!has_metrics(&results[k]))
      continue;
    SS_TRY(measure_arm(&results[k], values, error));
    if (against != NULL && against != &results[k] && results[k].task == against->task)
      SS_TRY(compare_arms(&results[k], against, values, error));
  }
  return SS_OK;
}

ss_status eval_measure(eval_result *results, int count, const char *against, ss_error *error) {
  const char *name = against != NULL ? against : EVAL_DEFAULT_AGAINST;
  const eval_result *other = NULL;
  int64_t most = 0;
  for (int k = 0; k < count; k++) {
    results[k].rows_ratio = NAN;
    if (results[k].n_item > most)
      most = results[k].n_item;
    if (strcmp(results[k].label, name) == 0)
      other = &results[k];
  }
  bool unknown = other == NULL && against != NULL;
  if (other != NULL && !has_metrics(other))
    other = NULL;
  double *values = NULL;
  SS_TRY(ss_allocate(&values, most, sizeof *values, "metrics", error));
  ss_status status = measure_all(results, count, other, values, error);
  free(values);
  if (status == SS_OK && unknown)
    status = ss_fail(error, SS_ERROR_USAGE, "--against: no arm is called \"%s\"", against);
  return status;
}
