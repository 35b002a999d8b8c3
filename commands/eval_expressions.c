// selfspan eval --expressions: a plain list of expressions, answers worked out exactly.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "commands/interrupt.h"
#include "common/file.h"
#include "common/memory.h"
#include "eval/expressions.h"
#include "eval/intervals.h"
#include "eval/results.h"

#define NAMED_LINES 3  // skipped lines that the sentence names; the summary has all

typedef struct {
  const eval_options *options;
  json_t *notes;
} expressions_run;

static void note(json_t *notes, const char *format, ...) SS_PRINTF(2, 3);
static void note(json_t *notes, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  json_array_append_new(notes, json_string(text));
}

static int64_t count_kind(const json_t *skipped, const char *kind) {
  int64_t count = 0;
  size_t k;
  const json_t *entry;
  json_array_foreach(skipped, k, entry) {
    count += strcmp(json_string_value(json_object_get(entry, "kind")), kind) == 0;
  }
  return count;
}

// Strict and rounded accuracy, and what the lines that could not be asked do to them.
static void say_accuracy(json_t *notes, const eval_result *result, int64_t decimals, const json_t *skipped) {
  int64_t items = result->all.items, right = (int64_t)(result->all.score_sum + 0.5);
  int64_t unasked = count_kind(skipped, "cannot ask"), worthless = count_kind(skipped, "no value");
  double low, high;
  wilson_interval(right, items, &low, &high);
  note(notes,
       "%s: %lld expressions; right digit for digit (quotients to %lld decimals) %.1f%%; the exact value "
       "after rounding half away from zero to two decimals %.1f%% (%.1f-%.1f).",
       result->label, (long long)items, (long long)decimals,
       100.0 * (double)result->all.correct / (double)items, 100.0 * (double)right / (double)items, 100 * low,
       100 * high);
  if (unasked > 0)
    note(notes, "%s: %lld lines could not be asked; counted as wrong they make it %.1f%% and %.1f%% of %lld.",
         result->label, (long long)unasked, 100.0 * (double)result->all.correct / (double)(items + unasked),
         100.0 * (double)right / (double)(items + unasked), (long long)(items + unasked));
  if (worthless > 0)
    note(notes, "%s: %lld lines have no value and are left out.", result->label, (long long)worthless);
  for (size_t k = 0; k < json_array_size(skipped) && k < NAMED_LINES; k++)
    note(notes, "  %s", json_string_value(json_object_get(json_array_get(skipped, k), "reason")));
  if (json_array_size(skipped) > NAMED_LINES)
    note(notes, "  ... and %zu more (summary.json, --json)", json_array_size(skipped) - NAMED_LINES);
}

static ss_status evaluate_list(void *user, const eval_request *request, eval_result *result, json_t *extra,
                               ss_error *error) {
  expressions_run *run = user;
  const eval_options *options = run->options;
  expression_list *list = NULL;
  SS_TRY(expression_list_open(&list, options->expressions, &options->arithmetic, request->vocabulary,
                              request->arm, request->policy.max_header,
                              gpt_get_config(request->model)->n_positions, error));
  ss_status status = evaluate_examples(request, expression_list_next, list, options->items, result, error);
  json_t *skipped = expression_list_skipped(list);
  if (status == SS_OK && result->all.items == 0) {
    const char *reason = json_string_value(json_object_get(json_array_get(skipped, 0), "reason"));
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no line can be asked of %s%s%s", options->expressions,
                     request->label, reason == NULL ? "" : ": ", reason == NULL ? "" : reason);
  }
  if (status == SS_OK) {
    say_accuracy(run->notes, result, options->arithmetic.division_decimals, skipped);
    json_object_set(extra, "skipped", skipped);
  }
  json_decref(skipped);
  expression_list_close(list);
  return status;
}

ss_status eval_expressions_command(const eval_options *options, ss_error *error) {
  ss_device *device = NULL;
  eval_report report = {.notes = json_array(), .stop = interrupt_catch()};
  expressions_run run = {options, report.notes};
  const eval_task *task = eval_task_find("arithmetic", error);
  ss_status status = task == NULL ? SS_ERROR_INTERNAL : device_options_open(&device, &options->device, error);
  size_t said = status == SS_OK && !options->quiet ? device_say(device) : 0;
  if (status == SS_OK && options->out != NULL)
    status = eval_report_folder(&report, options->out, options->force, error);
  if (status == SS_OK)
    status = ss_hash_file(options->expressions, report.source, error);
  if (status == SS_OK)
    status = eval_all_models(options, device, task, evaluate_list, &run, &report, error);
  if (said > 0)
    device_say_more(device, said);
  if (status == SS_OK) {
    json_t *head = json_pack("{s:s, s:s, s:s}", "expressions", options->expressions, "task", task->name,
                             "device", device->description);
    status = eval_report_finish(&report, head, options->json, error);
    json_decref(head);
  }
  status = eval_report_end(&report, status, error);
  eval_report_free(&report);
  interrupt_release();
  ss_device_close(device);
  return status;
}
