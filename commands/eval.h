// What the ways of evaluating share: the options, the arms' results under construction, and the report.
#ifndef SELFSPAN_COMMANDS_EVAL_H
#define SELFSPAN_COMMANDS_EVAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands/device_options.h"
#include "commands/output_folder.h"
#include "common/cli.h"
#include "data/span_keys.h"
#include "data/tasks/arithmetic.h"
#include "eval/evaluate.h"
#include "eval/items.h"
#include "infer/decoder.h"
#include "kernels/kernels.h"

typedef struct {
  ss_string_list models, labels, assignments;
  const char *data, *expressions;  // one of them
  const char *arm, *controls, *operators, *out;
  const char *baselines, *against;  // may be NULL
  int64_t items, samples;
  device_options device;
  bool constrain, random_anchors, ceiling, force, json, quiet;
  // resolved from the above
  decode_options decode;
  span_keys span;  // only to check --set; a model's own policy is the starting point
  arithmetic_config arithmetic;
  int64_t group_low, group_high;
} eval_options;

// "4-8" or "4" -> bounds; NULL gives 0 and 64.
ss_status eval_parse_operators(const char *text, int64_t *low, int64_t *high, ss_error *error);

// Results in the order of evaluation, and what each adds to its JSON object (an object, may be empty). Zeroed: empty.
typedef struct {
  output_folder output;               // where the files are made; output.partial is NULL without --out
  bool replaces;                      // an evaluation that stands in the folder
  char source[33];                    // a hash of the data
  const volatile sig_atomic_t *stop;  // of signals
  int64_t n_complete;                 // results that are finished
  eval_result *results;
  json_t **extras;
  int64_t count, capacity, extra_capacity;
  json_t *notes;        // list of sentences
  const char *against;  // the arm that metrics are compared with (eval/metrics.h); may be NULL
} eval_report;

// Opens the folder that takes the report. One that has an evaluation already is refused without `force`.
ss_status eval_report_folder(eval_report *report, const char *out, bool force, ss_error *error);

// A zeroed result and an empty extra at the report's end; valid until the next call.
ss_status eval_report_add(eval_report *report, eval_result **result, json_t **extra, ss_error *error);
// Measures the task's metrics, adds the comparison's sentences, writes summary.json and results.h5 and moves all files of
// the evaluation to their names when the report has a folder, prints tables (or JSON). `head` becomes the start of the
// summary; it is the caller's.
ss_status eval_report_finish(eval_report *report, const json_t *head, bool as_json, ss_error *error);
// For an interrupted evaluation (SS_ERROR_INTERRUPTED), makes the message say what was finished and how to go on. Returns
// `status`.
ss_status eval_report_end(const eval_report *report, ss_status status, ss_error *error);
// Removes the files that are not complete, unlocks the folder.
void eval_report_free(eval_report *report);

// Evaluates one arm of one model: the request is complete, `extra` takes what is special to the source.
typedef ss_status (*eval_subject)(void *user, const eval_request *request, eval_result *result, json_t *extra,
                                  ss_error *error);
// Opens every model of the options, of which there may be none, and calls `subject` for its arm and then for each control (span arms only).
ss_status eval_all_models(const eval_options *options, ss_device *device, const eval_task *task,
                          eval_subject subject, void *user, eval_report *report, ss_error *error);

// SS_ERROR_USAGE when --against names an arm that the evaluation will not have. Reads what the models' files say about
// themselves, no weights.
ss_status eval_check_against(const eval_options *options, ss_error *error);

// Scores the extracts of the options, a result each.
ss_status eval_all_baselines(const eval_options *options, const eval_task *task, store *data,
                             eval_report *report, ss_error *error);

// Leaves what every result wrote for its first examples in OUT/samples.txt (eval/samples.h).
ss_status eval_write_samples(store *data, const eval_report *report, ss_error *error);

// What the request decodes with, as --set takes it.
json_t *eval_settings_json(const eval_request *request);
// Opens what an interrupted evaluation of the same work left of the request's arm, or begins to keep it. A file about other
// work is refused, and replaced with --force.
ss_status eval_resume_open(const eval_report *report, const eval_options *options,
                           const eval_request *request, const char *model_path, eval_kept *kept,
                           ss_error *error);

// Opens OUT/items-LABEL.jsonl.
ss_status eval_open_items(const eval_report *report, const char *label, eval_items_file *items,
                          ss_error *error);

// selfspan eval --data, --expressions, `selfspan eval score` and `selfspan eval rouge`.
ss_status eval_store_command(const eval_options *options, ss_error *error);
ss_status eval_expressions_command(const eval_options *options, ss_error *error);
ss_status eval_score_command(int argc, char **argv, ss_error *error);
ss_status eval_rouge_command(int argc, char **argv, ss_error *error);

#endif
