// The models of an evaluation: labels, arms, policies, controls, and a file of items for each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/decode_floor.h"
#include "commands/eval.h"
#include "common/memory.h"
#include "data/span_keys.h"
#include "eval/items.h"
#include "eval/results.h"
#include "model/checkpoint.h"
#include "train/model_file.h"

#define N_CONTROL 4

static const char *const control_names[N_CONTROL] = {"oracle", "recency", "random", "window"};
static const decode_control control_values[N_CONTROL] = {DECODE_ORACLE, DECODE_RECENCY, DECODE_RANDOM,
                                                         DECODE_WINDOW};

// --- options ---

static ss_status parse_controls(const char *text, bool wanted[N_CONTROL], ss_error *error) {
  while (text != NULL && *text != '\0') {
    size_t length = strcspn(text, ",");
    int found = -1;
    for (int k = 0; k < N_CONTROL; k++)
      if (strlen(control_names[k]) == length && strncmp(control_names[k], text, length) == 0)
        found = k;
    if (found < 0)
      return ss_fail(error, SS_ERROR_USAGE,
                     "--controls: \"%.*s\", expected oracle, recency, random or window", (int)length, text);
    wanted[found] = true;
    text += length + (text[length] == ',');
  }
  return SS_OK;
}

static ss_status choose_arm(const char *name, arm trained, arm *out, ss_error *error) {
  *out = trained;
  if (strcmp(name, "auto") == 0)
    return SS_OK;
  for (int k = 0; k < N_ARM; k++)
    if (strcmp(name, arm_name((arm)k)) == 0) {
      *out = (arm)k;
      return SS_OK;
    }
  return ss_fail(error, SS_ERROR_USAGE, "--arm: \"%s\", expected auto, dense, annotated or span", name);
}

// The model's own policy under the span keys of --set.
static ss_status choose_policy(const eval_options *options, const model_file *file, arm arm, span_policy *out,
                               ss_error *error) {
  span_keys keys = span_keys_of(&file->policy);
  const ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  for (int k = 0; k < options->assignments.count; k++)
    if (strncmp(options->assignments.items[k], "span.", 5) == 0)
      SS_TRY(ss_config_set(groups, options->assignments.items[k], "--set", error));
  span_policy policy = span_keys_policy(&keys);
  *out = arm_policy(arm, &policy);
  return SS_OK;
}

static bool label_taken(const eval_report *report, const char *label) {
  for (int64_t k = 0; k < report->count; k++)
    if (strcmp(report->results[k].label, label) == 0)
      return true;
  return false;
}

static const char label_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";

static ss_status given_label(const char *option, const char *path, char *out, size_t size, bool *found,
                             ss_error *error) {
  const char *equals = strchr(option, '=');
  if (equals == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--label %s: expected NAME=FILE, FILE being one of --model",
                   option);
  if (strcmp(equals + 1, path) != 0)
    return SS_OK;
  size_t length = (size_t)(equals - option);
  if (length == 0 || length >= size || strspn(option, label_characters) < length)
    return ss_fail(error, SS_ERROR_USAGE, "--label %s: a name has 1 to %zu letters, digits or any of _ . + -",
                   option, size - 1);
  snprintf(out, size, "%.*s", (int)length, option);
  *found = true;
  return SS_OK;
}

// The last 9 bytes of a label stay free for "/recency" or a number.
static ss_status choose_label(const eval_options *options, const eval_report *report, const char *path,
                              arm arm, char *out, size_t size, ss_error *error) {
  bool found = false;
  for (int k = 0; k < options->labels.count && !found; k++)
    SS_TRY(given_label(options->labels.items[k], path, out, size - 9, &found, error));
  if (found)
    return label_taken(report, out) ? ss_fail(error, SS_ERROR_USAGE, "--label: two models are called %s", out)
                                    : SS_OK;
  snprintf(out, size, "%s", arm_name(arm));
  for (int n = 2; label_taken(report, out); n++)
    snprintf(out, size, "%s-%d", arm_name(arm), n);
  return SS_OK;
}

// "LABEL/oracle" in `out`, which has a label's size.
static void control_label(const char *label, int control, char *out, size_t size) {
  snprintf(out, size, "%.*s/%s", (int)(size - 9), label, control_names[control]);
}

// A label for a file that is not among the models is a misspelling.
static ss_status check_labels(const eval_options *options, ss_error *error) {
  for (int k = 0; k < options->labels.count; k++) {
    const char *equals = strchr(options->labels.items[k], '=');
    bool known = false;
    for (int m = 0; equals != NULL && m < options->models.count; m++)
      known = known || strcmp(equals + 1, options->models.items[m]) == 0;
    if (!known)
      return ss_fail(error, SS_ERROR_USAGE, "--label %s: expected NAME=FILE, FILE being one of --model",
                     options->labels.items[k]);
  }
  return SS_OK;
}

// --- the arms to come ---

static ss_status plan_arm(eval_report *plan, const char *label, ss_error *error) {
  eval_result *result;
  json_t *extra;
  SS_TRY(eval_report_add(plan, &result, &extra, error));
  snprintf(result->label, sizeof result->label, "%s", label);
  return SS_OK;
}

static ss_status plan_model(const eval_options *options, const char *path, const bool wanted[N_CONTROL],
                            eval_report *plan, ss_error *error) {
  char label[sizeof plan->results->label], name[sizeof label];
  checkpoint_meta meta;
  span_policy policy;
  arm arm;
  SS_TRY(checkpoint_read_meta(path, &meta, error));
  ss_status status = span_policy_parse(meta.policy, path, &arm, &policy, error);
  checkpoint_meta_free(&meta);
  SS_TRY(status);
  SS_TRY(choose_arm(options->arm, arm, &arm, error));
  SS_TRY(choose_label(options, plan, path, arm, label, sizeof label, error));
  SS_TRY(plan_arm(plan, label, error));
  for (int k = 0; k < N_CONTROL && arm == ARM_SPAN; k++) {
    control_label(label, k, name, sizeof name);
    if (wanted[k])
      SS_TRY(plan_arm(plan, name, error));
  }
  return SS_OK;
}

static ss_status plan_all(const eval_options *options, eval_report *plan, ss_error *error) {
  bool wanted[N_CONTROL] = {false};
  SS_TRY(parse_controls(options->controls, wanted, error));
  SS_TRY(check_labels(options, error));
  for (const char *name = options->baselines; name != NULL;) {
    char label[sizeof plan->results->label];
    snprintf(label, sizeof label, "%.*s", (int)strcspn(name, ","), name);
    SS_TRY(plan_arm(plan, label, error));
    name = strchr(name, ',');
    name += name != NULL;
  }
  for (int m = 0; m < options->models.count; m++)
    SS_TRY(plan_model(options, options->models.items[m], wanted, plan, error));
  return SS_OK;
}

ss_status eval_check_against(const eval_options *options, ss_error *error) {
  eval_report plan = {0};
  if (options->against == NULL)
    return SS_OK;
  ss_status status = plan_all(options, &plan, error);
  if (status == SS_OK && !label_taken(&plan, options->against))
    status = ss_fail(error, SS_ERROR_USAGE, "--against: no arm is called \"%s\"", options->against);
  eval_report_free(&plan);
  return status;
}

// --- one arm, one control ---

typedef struct {
  const eval_options *options;
  const eval_task *task;
  eval_subject subject;
  void *user;
  eval_report *report;
  bench_ceiling rates;  // zeros unless wanted
} model_run;

ss_status eval_open_items(const eval_report *report, const char *label, eval_items_file *items,
                          ss_error *error) {
  char name[64], *path = NULL;
  eval_file_label(label, name, sizeof name);
  SS_TRY(ss_format(&path, error, "%s/items-%s.jsonl", report->output.partial, name));
  ss_status status = eval_items_open(items, path, error);
  free(path);
  return status;
}

// A group without keys ends the list, so only arms with a span name its keys.
json_t *eval_settings_json(const eval_request *request) {
  decode_options decode = request->decode;
  span_keys span = span_keys_of(&request->policy);
  const ss_key_group groups[] = {{decode_keys, &decode},
                                 {request->arm == ARM_SPAN ? span_policy_keys : NULL, &span},
                                 {NULL, NULL}};
  return ss_config_json(groups);
}

static ss_status run_once(const model_run *run, const model_file *file, const char *path, arm arm,
                          const span_policy *policy, const char *label, decode_control control,
                          ss_error *error) {
  const eval_options *options = run->options;
  eval_items_file items = {0};
  eval_kept kept = {0};
  eval_request request = {.model = file->model,
                          .vocabulary = file->vocabulary,
                          .arm = arm,
                          .label = label,
                          .policy = *policy,
                          .decode = options->decode,
                          .task = run->task,
                          .max_items = options->items,
                          .group_low = options->group_low,
                          .group_high = options->group_high,
                          .random_anchor_offset = options->random_anchors,
                          .keep_items = options->out != NULL,
                          .n_sample = options->samples,
                          .quiet = options->quiet || options->json,
                          .stop = run->report->stop};
  if (control != DECODE_SELF)
    request.decode.control = control;
  if (options->out != NULL)
    SS_TRY(eval_open_items(run->report, label, &items, error));
  request.items = items.file;
  eval_result *result = NULL;
  json_t *extra = NULL;
  ss_status status = eval_report_add(run->report, &result, &extra, error);
  if (status == SS_OK) {
    json_object_set_new(extra, "settings", eval_settings_json(&request));
    if (options->out != NULL) {
      status = eval_resume_open(run->report, options, &request, path, &kept, error);
      request.kept = &kept;
    }
  }
  if (status == SS_OK)
    status = run->subject(run->user, &request, result, extra, error);
  if (status == SS_OK) {
    result->train_seconds = file->train_seconds;
    if (options->ceiling)
      result->ceiling_examples_per_second =
          decode_floor_of(file->model, result->slots, &result->speed, &run->rates).examples_per_second;
    if (!request.quiet && !gpt_device(file->model)->synchronous)
      fprintf(stderr, "selfspan: %s: %s\n", label, result->decoder);
    if (options->out != NULL)
      status = eval_items_commit(&items, error);
    run->report->n_complete += status == SS_OK;
  }
  eval_items_abandon(&items);
  eval_kept_close(&kept);
  return status;
}

static ss_status run_model(const model_run *run, const model_file *file, const char *path,
                           const bool wanted[N_CONTROL], ss_error *error) {
  char label[sizeof run->report->results->label], name[sizeof label];
  arm arm;
  span_policy policy;
  SS_TRY(choose_arm(run->options->arm, file->arm, &arm, error));
  SS_TRY(choose_policy(run->options, file, arm, &policy, error));
  SS_TRY(choose_label(run->options, run->report, path, arm, label, sizeof label, error));
  SS_TRY(run_once(run, file, path, arm, &policy, label, DECODE_SELF, error));
  for (int k = 0; k < N_CONTROL && arm == ARM_SPAN; k++) {
    if (!wanted[k])
      continue;
    control_label(label, k, name, sizeof name);
    SS_TRY(run_once(run, file, path, arm, &policy, name, control_values[k], error));
  }
  return SS_OK;
}

ss_status eval_all_models(const eval_options *options, ss_device *device, const eval_task *task,
                          eval_subject subject, void *user, eval_report *report, ss_error *error) {
  bool wanted[N_CONTROL] = {false};
  SS_TRY(parse_controls(options->controls, wanted, error));
  SS_TRY(check_labels(options, error));
  model_run run = {options, task, subject, user, report, {0, 0}};
  if (options->ceiling)
    SS_TRY(bench_measure_ceiling(device, &run.rates, error));
  for (int m = 0; m < options->models.count; m++) {
    model_file file;
    SS_TRY(model_file_open(&file, options->models.items[m], device, error));
    ss_status status = run_model(&run, &file, options->models.items[m], wanted, error);
    model_file_close(&file);
    SS_TRY(status);
  }
  return SS_OK;
}
