// What an evaluation scores beside its models, and what it leaves to read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "common/memory.h"
#include "eval/baseline.h"
#include "eval/samples.h"

static ss_status run_baseline(const eval_options *options, const eval_baseline *baseline,
                              const eval_task *task, store *data, eval_report *report, ss_error *error) {
  eval_items_file items = {0};
  eval_result *result = NULL;
  json_t *extra = NULL;
  for (int64_t k = 0; k < report->count; k++)
    if (strcmp(report->results[k].label, baseline->name) == 0)
      return ss_fail(error, SS_ERROR_USAGE, "--baselines: %s is named twice", baseline->name);
  SS_TRY(eval_report_add(report, &result, &extra, error));
  if (options->out != NULL)
    SS_TRY(eval_open_items(report, baseline->name, &items, error));
  eval_request request = {.label = baseline->name,
                          .task = task,
                          .max_items = options->items,
                          .group_low = options->group_low,
                          .group_high = options->group_high,
                          .items = items.file,
                          .n_sample = options->samples,
                          .stop = report->stop};
  ss_status status = evaluate_baseline(&request, baseline, data, result, error);
  if (status == SS_OK && result->all.items == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: none of the %lld examples has %lld to %lld %s",
                     baseline->name, (long long)store_n_example(data), (long long)options->group_low,
                     (long long)options->group_high, task->group_name);
  if (status == SS_OK && options->out != NULL)
    status = eval_items_commit(&items, error);
  report->n_complete += status == SS_OK;
  eval_items_abandon(&items);
  return status;
}

ss_status eval_all_baselines(const eval_options *options, const eval_task *task, store *data,
                             eval_report *report, ss_error *error) {
  const char *text = options->baselines;
  if (text == NULL)
    return SS_OK;
  for (bool more = true; more;) {
    char name[sizeof report->results->label];
    size_t length = strcspn(text, ",");
    snprintf(name, sizeof name, "%.*s", (int)length, text);
    const eval_baseline *baseline = eval_baseline_find(task, name, error);
    if (baseline == NULL)
      return SS_ERROR_USAGE;
    SS_TRY(run_baseline(options, baseline, task, data, report, error));
    more = text[length] == ',';
    text += length + more;
  }
  return SS_OK;
}

ss_status eval_write_samples(store *data, const eval_report *report, ss_error *error) {
  char *path = NULL;
  eval_items_file file = {0};
  SS_TRY(ss_format(&path, error, "%s/samples.txt", report->output.partial));
  ss_status status = eval_items_open(&file, path, error);
  if (status == SS_OK)
    status = eval_print_samples(file.file, data, report->results, report->count, error);
  if (status == SS_OK)
    status = eval_items_commit(&file, error);
  eval_items_abandon(&file);
  free(path);
  return status;
}
