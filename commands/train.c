// selfspan train: a config, a run folder, one trainer run.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/commands.h"
#include "commands/device_options.h"
#include "commands/interrupt.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/memory.h"
#include "eval/evaluate.h"
#include "train/trainer.h"

typedef struct {
  const char *config, *out;
  device_options device;
  ss_string_list assignments;
  bool resume, force, json, quiet;
} train_options;

typedef struct {
  train_config train;
  gpt_config model;
  span_keys span;
} train_settings;

// Everything that validation by generation needs, opened once.
typedef struct {
  store *data;
  eval_request request;
  const volatile sig_atomic_t *stop;
} generation;

static ss_status open_generation(generation *generation, const train_settings *settings,
                                 const span_policy *policy, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/validation.h5", settings->train.data));
  ss_status status = SS_OK;
  if (!ss_file_exists(path))
    status = ss_fail(error, SS_ERROR_IO, "%s: no such file; train.data must name a dataset's folder", path);
  else
    status = store_open(&generation->data, path, true, error);
  free(path);
  SS_TRY(status);
  eval_request *request = &generation->request;
  request->vocabulary = store_vocabulary(generation->data);
  request->arm = (arm)settings->train.arm;
  request->label = arm_name(request->arm);
  request->policy = *policy;
  ss_key_group groups[] = {{decode_keys, &request->decode}, {NULL, NULL}};
  SS_TRY(ss_config_defaults(groups, error));
  request->task = eval_task_find(store_task(generation->data), error);
  if (request->task == NULL)
    return error->status;
  request->max_items = settings->train.generate_examples;
  request->decode.max_tokens = settings->train.generate_tokens;
  request->decode.constrain = settings->train.generate_constrain;
  request->group_high = 64;
  request->quiet = true;
  return SS_OK;
}

static ss_status score(void *user, gpt *model, train_generated *found, ss_error *error) {
  generation *generation = user;
  if (*generation->stop)
    return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted before validation by generation");
  eval_result *result = NULL;  // too large for the stack
  SS_TRY(ss_allocate(&result, 1, sizeof *result, "evaluation", error));
  generation->request.model = model;
  ss_status status = evaluate_store(&generation->request, generation->data, result, error);
  double items = (double)result->all.items;
  found->items = result->all.items;
  found->accuracy = generation->request.task->open_ended ? NAN
                    : items > 0                          ? (double)result->all.correct / items
                                                         : 0;
  found->score = items > 0 ? result->all.score_sum / items : 0;
  eval_result_free(result);
  free(result);
  return status;
}

static void print_notice(void *user, const char *message) {
  (void)user;
  // On a terminal the progress bar stands in this line.
  fprintf(stderr, "%sselfspan: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", message);
}

static void print_outcome(const train_settings *settings, const train_outcome *outcome) {
  printf("%s: %lld steps, %lld examples, %.2fM tokens in %.1f s", settings->train.out,
         (long long)outcome->steps, (long long)outcome->examples, 1e-6 * (double)outcome->tokens,
         outcome->train_seconds);
  printf("; training loss %.4f", outcome->train_loss);
  if (outcome->validation_loss == outcome->validation_loss)
    printf(", validation loss %.4f", outcome->validation_loss);
  if (outcome->validation_accuracy == outcome->validation_accuracy)
    printf(", accuracy %.1f%%", 100 * outcome->validation_accuracy);
  else if (outcome->validation_score == outcome->validation_score)
    printf(", score %.4f", outcome->validation_score);
  if (outcome->skipped > 0)
    printf(", %lld steps skipped", (long long)outcome->skipped);
  printf("%s\n", outcome->stopped_early ? ", stopped early" : "");
}

static ss_status print_json(const train_settings *settings, const train_outcome *outcome, ss_error *error) {
  json_t *object = train_outcome_json(outcome);
  if (object == NULL || json_object_set_new(object, "run", json_string(settings->train.out)) != 0) {
    json_decref(object);
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the outcome");
  }
  json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  printf("\n");
  json_decref(object);
  return SS_OK;
}

static ss_status run(const train_options *options, const ss_key_group *groups, train_settings *settings,
                     ss_error *error) {
  span_policy policy = span_keys_policy(&settings->span);
  generation generation;
  memset(&generation, 0, sizeof generation);
  train_request request;
  memset(&request, 0, sizeof request);
  request.config = &settings->train;
  request.model = &settings->model;
  request.policy = &policy;
  request.resume = options->resume;
  request.overwrite = options->force;
  request.quiet = options->quiet;
  request.notice = print_notice;
  json_t *resolved = ss_config_json(groups);
  ss_device *device = NULL;
  ss_status status = resolved != NULL
                         ? train_config_check(&settings->train, error)
                         : ss_fail(error, SS_ERROR_MEMORY, "out of memory for the configuration");
  request.resolved = resolved;
  if (status == SS_OK)
    status = device_options_open(&device, &options->device, error);
  request.device = device;
  if (status == SS_OK && settings->train.generate_examples > 0) {
    status = open_generation(&generation, settings, &policy, error);
    request.generate_score = score;
    request.generate_user = &generation;
  }
  train_outcome outcome;
  if (status == SS_OK) {
    request.stop = generation.stop = interrupt_catch();
    status = trainer_run(&request, &outcome, error);
    interrupt_release();
  }
  if (options->json && (status == SS_OK || (status == SS_ERROR_INTERRUPTED && outcome.steps > 0))) {
    if (print_json(settings, &outcome, status == SS_OK ? error : NULL) != SS_OK && status == SS_OK)
      status = SS_ERROR_MEMORY;
  } else if (status == SS_OK && !options->quiet) {
    print_outcome(settings, &outcome);
  }
  if (generation.data != NULL)
    store_close(generation.data);
  if (device != NULL)
    ss_device_close(device);
  json_decref(resolved);
  return status;
}

static const char examples[] =
    "  selfspan train --config configs/quickstart/train.yaml --set train.arm=span --out runs/span\n"
    "  selfspan train --config configs/quickstart/train.yaml --set train.arm=span --out runs/span --resume\n"
    "  selfspan train --config configs/base/train.yaml --set train.steps=100 --out runs/trial --force "
    "--json\n";

ss_status ss_command_train(int argc, char **argv, ss_error *error) {
  train_options options;
  memset(&options, 0, sizeof options);
  options.device = (device_options)DEVICE_DEFAULTS;
  train_settings *settings = NULL;
  SS_TRY(ss_allocate(&settings, 1, sizeof *settings, "settings", error));
  const ss_key_group groups[] = {{train_config_keys, &settings->train},
                                 {gpt_config_keys, &settings->model},
                                 {span_policy_keys, &settings->span},
                                 {NULL, NULL}};
  const ss_option table[] =
      {{"config", SS_OPTION_STRING, &options.config, "FILE", "YAML file of train.*, model.* and span.* keys"},
       {"set", SS_OPTION_LIST, &options.assignments, "KEY=VALUE", "override one key (repeatable)"},
       {"out", SS_OPTION_STRING, &options.out, "DIR", "run folder (train.out)"},
       {"resume", SS_OPTION_FLAG, &options.resume, NULL, "continue from the run's newest good checkpoint"},
       {"force", SS_OPTION_FLAG, &options.force, NULL, "replace an earlier run in the folder"},
       DEVICE_OPTIONS(options.device),
       {"json", SS_OPTION_FLAG, &options.json, NULL, "print the outcome as JSON"},
       {"quiet", SS_OPTION_FLAG, &options.quiet, NULL, "no progress, no summary"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"train",
       "Trains a model from scratch or from a base, for one arm, with resumable checkpoints.",
       "selfspan train --config FILE [--set KEY=VALUE]... [--out DIR] [options]",
       table,
       groups,
       examples};
  bool help = false;
  ss_status status = ss_cli_parse(&line, argc, argv, NULL, &help, error);
  if (status == SS_OK && !help) {
    if (options.resume && options.force)
      status = ss_fail(error, SS_ERROR_USAGE, "--resume and --force exclude each other");
    else
      status = device_options_check(&options.device, error);
    if (status == SS_OK)
      status = ss_cli_config(groups, options.config, &options.assignments, error);
    if (status == SS_OK && options.out != NULL) {
      int length = snprintf(settings->train.out, sizeof settings->train.out, "%s", options.out);
      if (length >= (int)sizeof settings->train.out)
        status = ss_fail(error, SS_ERROR_USAGE, "--out: longer than %d bytes", SS_CONFIG_STRING - 1);
      // ss_config_json reads the field, so the resolved configuration names the folder that is used.
    }
    if (status == SS_OK)
      status = run(&options, groups, settings, error);
  }
  ss_string_list_free(&options.assignments);
  free(settings);
  return status;
}
