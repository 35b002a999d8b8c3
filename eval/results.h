// What an evaluation leaves: rates, tables, JSON, HDF5, and the comparison in words.
#ifndef SELFSPAN_EVAL_RESULTS_H
#define SELFSPAN_EVAL_RESULTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "eval/evaluate.h"

// Rates of one arm or group. NaN where nothing was measured (no items, no headers, references that were forced).
typedef struct {
  double accuracy, accuracy_low, accuracy_high;  // 95% Wilson interval
  double score;                                  // mean of the task's own number
  double step_accuracy, derivation_accuracy;
  double reference_precision, reference_recall, reference_f, reference_exact;
  double malformed;  // share of items
  double tokens_per_example, rows_per_example, rows_per_token;
  double prefill_rows_per_example;
} eval_rates;

// `counts` is the result's `all` or one of its groups.
eval_rates eval_rates_of(const eval_result *result, const eval_counts *counts);

// Speed of an arm: the decoder's time, prompts read and answers scored outside it. NaN when nothing was decoded.
typedef struct {
  double examples_per_second;    // over prefill and decode together
  double tokens_per_second;      // generated tokens over the decode time
  double megabytes_per_example;  // K and V read while decoding
} eval_speed;
eval_speed eval_speed_of(const eval_result *result);

// One row an arm; then accuracy by group, one column an arm (nothing when all items share one group, or the task is
// open-ended).
ss_status eval_print_arms(const eval_result *results, int count, FILE *file, ss_error *error);
ss_status eval_print_groups(const eval_result *results, int count, FILE *file, ss_error *error);

// After eval_measure: the task's metrics, one row an arm, and below it the paired differences to the arm that they are
// compared with. Nothing for a task without metrics.
ss_status eval_print_metrics(const eval_result *results, int count, FILE *file, ss_error *error);

// The arms as a JSON list: every rate, counts, speed, malformed kinds, groups (docs/FORMATS.md, "summary.json").
// What was not measured is null. The caller owns it.
json_t *eval_arms_json(const eval_result *results, int count);

// results.h5: the arms' numbers, and every kept item as one array a quantity. `summary` is stored whole.
ss_status eval_write_hdf5(const char *path, const eval_result *results, int count, const json_t *summary,
                          ss_error *error);

// A label as a part of a file name or array name: '/' becomes '-'.
void eval_file_label(const char *label, char *out, size_t size);

// Plain sentences on how the arms "dense" and "span" compare, each from the numbers: a JSON list of strings, empty
// unless both are there. Where dense is not below span they say what the numbers offer as the reason.
json_t *eval_explain(const eval_result *results, int count);

#endif
