#include "eval/results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/table.h"

// A number of `decimals` decimals; what was not measured is left empty, which prints as "-".
static ss_status number_cell(ss_table *table, double value, int decimals, ss_error *error) {
  return isnan(value) ? ss_table_cell(table, error, "%s", "")
                      : ss_table_cell(table, error, "%.*f", decimals, value);
}

static ss_status percent_cell(ss_table *table, double value, ss_error *error) {
  return number_cell(table, 100 * value, 1, error);
}

static ss_status interval_cell(ss_table *table, const eval_rates *rates, ss_error *error) {
  if (isnan(rates->accuracy))
    return ss_table_cell(table, error, "%s", "");
  return ss_table_cell(table, error, "%.1f-%.1f", 100 * rates->accuracy_low, 100 * rates->accuracy_high);
}

// The task's own number is shown where it says something else than accuracy.
static bool shows_score(const eval_result *results, int count) {
  for (int k = 0; k < count; k++)
    if (fabs(results[k].all.score_sum - (double)results[k].all.correct) > 1e-9)
      return true;
  return false;
}

static bool shows_ceiling(const eval_result *results, int count) {
  for (int k = 0; k < count; k++)
    if (results[k].ceiling_examples_per_second > 0)
      return true;
  return false;
}

static bool open_ended(const eval_result *results) {
  return results[0].task != NULL && results[0].task->open_ended;
}

static ss_status accuracy_cells(ss_table *table, const eval_rates *rates, bool score, ss_error *error) {
  SS_TRY(percent_cell(table, rates->accuracy, error));
  SS_TRY(interval_cell(table, rates, error));
  if (score)
    SS_TRY(percent_cell(table, rates->score, error));
  return percent_cell(table, rates->step_accuracy, error);
}

static ss_status arm_row(ss_table *table, const eval_result *result, bool score, bool ceiling,
                         ss_error *error) {
  eval_rates rates = eval_rates_of(result, &result->all);
  eval_speed speed = eval_speed_of(result);
  SS_TRY(ss_table_row(table, error));
  SS_TRY(ss_table_cell(table, error, "%s", result->label));
  SS_TRY(ss_table_cell(table, error, "%lld", (long long)result->all.items));
  if (!open_ended(result))
    SS_TRY(accuracy_cells(table, &rates, score, error));
  SS_TRY(percent_cell(table, rates.reference_precision, error));
  SS_TRY(percent_cell(table, rates.reference_recall, error));
  if (open_ended(result))
    SS_TRY(percent_cell(table, rates.reference_f, error));
  SS_TRY(percent_cell(table, rates.reference_exact, error));
  SS_TRY(percent_cell(table, rates.malformed, error));
  SS_TRY(number_cell(table, rates.tokens_per_example, 1, error));
  SS_TRY(number_cell(table, rates.rows_per_example, 0, error));
  if (open_ended(result))
    SS_TRY(percent_cell(table, result->against[0] != '\0' ? result->rows_ratio : NAN, error));
  SS_TRY(number_cell(table, rates.rows_per_token, 1, error));
  SS_TRY(number_cell(table, speed.megabytes_per_example, 2, error));
  SS_TRY(number_cell(table, result->decoded ? result->speed.prefill_seconds : NAN, 2, error));
  SS_TRY(number_cell(table, result->decoded ? result->speed.decode_seconds : NAN, 2, error));
  SS_TRY(number_cell(table, speed.examples_per_second, 1, error));
  if (ceiling) {
    double best = result->ceiling_examples_per_second;
    SS_TRY(number_cell(table, best > 0 ? best : NAN, 1, error));
    SS_TRY(number_cell(table, best > 0 ? 100 * speed.examples_per_second / best : NAN, 1, error));
  }
  SS_TRY(number_cell(table, speed.tokens_per_second, 0, error));
  return number_cell(table, result->train_seconds > 0 ? result->train_seconds : NAN, 0, error);
}

#define MOST_COLUMNS 24

static int add_columns(const char *columns[MOST_COLUMNS], int n, const char *const *more, size_t count) {
  for (size_t k = 0; k < count; k++)
    columns[n++] = more[k];
  return n;
}

// The arm that the others are compared with, by what one of them says.
static const char *compared_with(const eval_result *results, int count) {
  for (int k = 0; k < count; k++)
    if (results[k].against[0] != '\0')
      return results[k].against;
  return "";
}

ss_status eval_print_arms(const eval_result *results, int count, FILE *file, ss_error *error) {
  static const char *const first[] = {"arm", "items"}, *const accuracy[] = {"accuracy%", "95%"},
                           *const references[] = {"ref prec%", "ref rec%"},
                           *const tokens[] = {"ref exact%", "malformed%", "tokens/ex", "rows/ex"},
                           *const speed[] = {"rows/tok", "MB/ex", "prefill s", "decode s", "ex/s"},
                           *const limits[] = {"ceiling ex/s", "% of it"},
                           *const last[] = {"tok/s", "train s"};
  const char *columns[MOST_COLUMNS];
  char rows[sizeof results->against + 16];
  bool score = shows_score(results, count), ceiling = shows_ceiling(results, count);
  snprintf(rows, sizeof rows, "rows%% of %s", compared_with(results, count));
  int n = add_columns(columns, 0, first, 2);
  if (!open_ended(results)) {
    n = add_columns(columns, n, accuracy, 2);
    if (score)
      columns[n++] = results[0].score_name;
    columns[n++] = "step%";
  }
  n = add_columns(columns, n, references, 2);
  if (open_ended(results))
    columns[n++] = "ref F%";
  n = add_columns(columns, n, tokens, sizeof tokens / sizeof *tokens);
  if (open_ended(results))
    columns[n++] = *compared_with(results, count) != '\0' ? rows : "rows%";
  n = add_columns(columns, n, speed, sizeof speed / sizeof *speed);
  n = add_columns(columns, n, limits, ceiling ? 2 : 0);
  n = add_columns(columns, n, last, 2);
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, n, error));
  ss_status status = SS_OK;
  for (int k = 0; k < count && status == SS_OK; k++)
    status = arm_row(table, &results[k], score, ceiling, error);
  if (status == SS_OK)
    ss_table_print(table, file);
  ss_table_free(table);
  return status;
}

static ss_status group_row(ss_table *table, const eval_result *results, int count, int group,
                           ss_error *error) {
  int64_t items = 0;
  for (int k = 0; k < count; k++)
    if (results[k].groups[group].items > items)
      items = results[k].groups[group].items;
  if (items == 0)
    return SS_OK;
  SS_TRY(ss_table_row(table, error));
  SS_TRY(ss_table_cell(table, error, "%d", group));
  SS_TRY(ss_table_cell(table, error, "%lld", (long long)items));
  for (int k = 0; k < count; k++) {
    eval_rates rates = eval_rates_of(&results[k], &results[k].groups[group]);
    if (isnan(rates.accuracy))
      SS_TRY(ss_table_cell(table, error, "%s", ""));
    else
      SS_TRY(ss_table_cell(table, error, "%.1f (%.1f-%.1f)", 100 * rates.accuracy, 100 * rates.accuracy_low,
                           100 * rates.accuracy_high));
  }
  return SS_OK;
}

ss_status eval_print_groups(const eval_result *results, int count, FILE *file, ss_error *error) {
  int used = 0;
  for (int g = 0; g < EVAL_N_GROUP; g++) {
    bool any = false;
    for (int k = 0; k < count; k++)
      any = any || results[k].groups[g].items > 0;
    used += any;
  }
  if (used < 2 || open_ended(results))
    return SS_OK;
  const char **columns = NULL;
  SS_TRY(ss_allocate(&columns, count + 2, sizeof *columns, "columns", error));
  columns[0] = results[0].group_name;
  columns[1] = "items";
  for (int k = 0; k < count; k++)
    columns[k + 2] = results[k].label;
  ss_table *table = NULL;
  ss_status status = ss_table_create(&table, columns, count + 2, error);
  for (int g = 0; g < EVAL_N_GROUP && status == SS_OK; g++)
    status = group_row(table, results, count, g, error);
  if (status == SS_OK) {
    fprintf(file, "\naccuracy%% (95%%) by %s\n", results[0].group_name);
    ss_table_print(table, file);
  }
  ss_table_free(table);
  free(columns);
  return status;
}

void eval_file_label(const char *label, char *out, size_t size) {
  snprintf(out, size, "%s", label);
  for (char *c = out; *c != '\0'; c++)
    if (*c == '/')
      *c = '-';
}
