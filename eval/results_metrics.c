// The task's own metrics as tables.
#include <math.h>

#include "common/table.h"
#include "eval/results.h"

static ss_status mean_cell(ss_table *table, const eval_metric *metric, const eval_metric_mean *mean,
                           bool difference, ss_error *error) {
  const bootstrap_interval *of = &mean->interval;
  int decimals = metric->decimals;
  if (mean->items == 0 || isnan(of->mean))
    return ss_table_cell(table, error, "%s", "");
  if (difference)
    return ss_table_cell(table, error, "%+.*f (%+.*f..%+.*f)", decimals, metric->scale * of->mean, decimals,
                         metric->scale * of->low, decimals, metric->scale * of->high);
  if (metric->compared)
    return ss_table_cell(table, error, "%.*f (%.*f-%.*f)", decimals, metric->scale * of->mean, decimals,
                         metric->scale * of->low, decimals, metric->scale * of->high);
  return ss_table_cell(table, error, "%.*f", decimals, metric->scale * of->mean);
}

static bool is_shown(const eval_metric *metric, bool differences) {
  return metric->heading != NULL && (metric->compared || !differences);
}

static ss_status add_row(ss_table *table, const eval_result *result, bool differences, ss_error *error) {
  const eval_task *task = result->task;
  SS_TRY(ss_table_row(table, error));
  SS_TRY(ss_table_cell(table, error, "%s", result->label));
  SS_TRY(ss_table_cell(table, error, "%lld",
                       (long long)(differences ? result->differences[0].items : result->all.items)));
  for (int64_t m = 0; m < task->n_metric; m++)
    if (is_shown(&task->metrics[m], differences))
      SS_TRY(mean_cell(table, &task->metrics[m], differences ? &result->differences[m] : &result->metrics[m],
                       differences, error));
  return SS_OK;
}

static ss_status print_table(const eval_result *results, int count, bool differences, FILE *file,
                             ss_error *error) {
  const eval_task *task = results[0].task;
  const char *columns[EVAL_MAX_METRIC + 2] = {"arm", "items"};
  int n = 2;
  for (int64_t m = 0; m < task->n_metric; m++)
    if (is_shown(&task->metrics[m], differences))
      columns[n++] = task->metrics[m].heading;
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, n, error));
  ss_status status = SS_OK;
  for (int k = 0; k < count && status == SS_OK; k++)
    if (results[k].task == task && (!differences || results[k].against[0] != '\0'))
      status = add_row(table, &results[k], differences, error);
  if (status == SS_OK)
    ss_table_print(table, file);
  ss_table_free(table);
  return status;
}

ss_status eval_print_metrics(const eval_result *results, int count, FILE *file, ss_error *error) {
  const eval_task *task = results[0].task;
  const eval_result *compared = NULL;
  if (task == NULL || task->n_metric == 0)
    return SS_OK;
  fprintf(file, "means (95%% bootstrap interval)\n");
  SS_TRY(print_table(results, count, false, file, error));
  for (int k = 0; k < count; k++)
    if (results[k].against[0] != '\0')
      compared = &results[k];
  if (compared == NULL)
    return SS_OK;
  fprintf(file, "\nless %s, item by item (95%% bootstrap interval of the paired differences)\n",
          compared->against);
  return print_table(results, count, true, file, error);
}
