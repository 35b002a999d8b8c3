// selfspan eval: several models on the same examples, one table.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/commands.h"
#include "commands/eval.h"
#include "commands/interrupt.h"
#include "common/memory.h"
#include "data/store.h"

ss_status eval_parse_operators(const char *text, int64_t *low, int64_t *high, ss_error *error) {
  *low = 0;
  *high = EVAL_N_GROUP - 1;
  if (text == NULL)
    return SS_OK;
  char first[32];
  const char *dash = strchr(text, '-');
  size_t length = dash == NULL ? strlen(text) : (size_t)(dash - text);
  if (length >= sizeof first)
    length = sizeof first - 1;
  memcpy(first, text, length);
  first[length] = '\0';
  SS_TRY(ss_parse_int(first, 0, EVAL_N_GROUP - 1, low, "--operators", error));
  *high = *low;
  if (dash != NULL)
    SS_TRY(ss_parse_int(dash + 1, *low, EVAL_N_GROUP - 1, high, "--operators", error));
  return SS_OK;
}

// --- a store ---

static ss_status evaluate_on_store(void *user, const eval_request *request, eval_result *result,
                                   json_t *extra, ss_error *error) {
  (void)extra;
  return evaluate_store(request, user, result, error);
}

ss_status eval_store_command(const eval_options *options, ss_error *error) {
  store *data = NULL;
  ss_device *device = NULL;
  eval_report report = {.against = options->against, .stop = interrupt_catch()};
  ss_status status = store_open(&data, options->data, true, error);
  const eval_task *task = status == SS_OK ? eval_task_find(store_task(data), error) : NULL;
  if (status == SS_OK && task == NULL)
    status = error != NULL ? error->status : SS_ERROR_USAGE;
  if (status == SS_OK && options->against != NULL && task->n_metric == 0)
    status = ss_fail(error, SS_ERROR_USAGE, "--against: task %s has no metrics to compare", task->name);
  if (status == SS_OK)
    status = eval_check_against(options, error);
  if (status == SS_OK)
    status = device_options_open(&device, &options->device, error);
  size_t said = status == SS_OK && !options->quiet && options->models.count > 0 ? device_say(device) : 0;
  if (status == SS_OK && options->out != NULL)
    status = eval_report_folder(&report, options->out, options->force, error);
  if (status == SS_OK)
    snprintf(report.source, sizeof report.source, "%016llx", (unsigned long long)store_content_hash(data));
  if (status == SS_OK)
    status = eval_all_baselines(options, task, data, &report, error);
  if (status == SS_OK)
    status = eval_all_models(options, device, task, evaluate_on_store, data, &report, error);
  if (said > 0)
    device_say_more(device, said);
  if (status == SS_OK && options->samples > 0)
    status = eval_write_samples(data, &report, error);
  if (status == SS_OK) {
    json_t *head = json_pack("{s:s, s:s, s:s, s:s}", "data", options->data, "task", store_task(data), "split",
                             store_split(data), "device", device->description);
    status = eval_report_finish(&report, head, options->json, error);
    json_decref(head);
  }
  status = eval_report_end(&report, status, error);
  eval_report_free(&report);
  interrupt_release();
  ss_device_close(device);
  store_close(data);
  return status;
}

// --- the command line ---

static const char examples[] =
    "  selfspan eval --model runs/span/model.h5 --data data/test.h5\n"
    "  selfspan eval --label base=base/model.h5 --model base/model.h5 --model runs/dense/model.h5 \\\n"
    "      --model runs/span/model.h5 --data data/test.h5 --operators 4-8 --out runs/eval\n"
    "  selfspan eval --model runs/span/model.h5 --data data/test.h5 --controls oracle,recency,random,window\n"
    "  selfspan eval --model runs/span/model.h5 --data data/test.h5 --device cuda --ceiling\n"
    "  selfspan eval --model runs/dense/model.h5 --model runs/span/model.h5 --data news/test.h5 \\\n"
    "      --baselines lead3,oracle --out runs/eval --samples 10\n"
    "  selfspan eval --model runs/span/model.h5 --expressions expressions.txt --set "
    "arithmetic.division_decimals=10\n"
    "  selfspan eval score --data data/test.h5 --predictions answers.jsonl\n";

static ss_status resolve(eval_options *options, const ss_key_group *groups, ss_error *error) {
  SS_TRY(ss_cli_config(groups, NULL, &options->assignments, error));
  if (options->constrain)
    options->decode.constrain = true;
  if (options->models.count == 0 && options->baselines == NULL)
    return ss_fail(error, SS_ERROR_USAGE,
                   "--model is missing: the file of a trained model, e.g. RUN/model.h5");
  if ((options->data == NULL) == (options->expressions == NULL))
    return ss_fail(error, SS_ERROR_USAGE,
                   "give either --data (a dataset) or --expressions (a list, one a line)");
  if (options->items < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--items: %lld is negative", (long long)options->items);
  if (options->samples < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--samples: %lld is negative", (long long)options->samples);
  if (options->samples > 0 && (options->out == NULL || options->data == NULL))
    return ss_fail(error, SS_ERROR_USAGE, "--samples needs --out, the folder to leave them in, and --data");
  if (options->baselines != NULL && options->data == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--baselines needs --data");
  if (options->against != NULL && options->data == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--against needs --data");
  SS_TRY(device_options_check(&options->device, error));
  return eval_parse_operators(options->operators, &options->group_low, &options->group_high, error);
}

static ss_status parse_and_run(eval_options *options, int argc, char **argv, ss_error *error) {
  const ss_key_group groups[] = {{decode_keys, &options->decode},
                                 {span_policy_keys, &options->span},
                                 {arithmetic_keys, &options->arithmetic},
                                 {NULL, NULL}};
  const ss_option table[] = {
      {"model", SS_OPTION_LIST, &options->models, "FILE",
       "a trained model (repeatable: the arms of the table)"},
      {"data", SS_OPTION_STRING, &options->data, "FILE", "dataset to evaluate on (test.h5)"},
      {"expressions", SS_OPTION_STRING, &options->expressions, "FILE",
       "or a list of expressions, one a line, answers worked out exactly"},
      {"label", SS_OPTION_LIST, &options->labels, "NAME=FILE",
       "name of a model in the table (default: its arm)"},
      {"arm", SS_OPTION_STRING, &options->arm, "ARM", "auto (the model's), dense, annotated or span"},
      {"controls", SS_OPTION_STRING, &options->controls, "LIST",
       "also run span models with oracle,recency,random,window"},
      {"baselines", SS_OPTION_STRING, &options->baselines, "LIST",
       "also score extracts of the task, as cnndm's lead3,oracle"},
      {"against", SS_OPTION_STRING, &options->against, "ARM",
       "compare the task's metrics item by item with this arm (default: dense)"},
      {"constrain", SS_OPTION_FLAG, &options->constrain, NULL, "forbid malformed headers (decode.constrain)"},
      {"random-anchors", SS_OPTION_FLAG, &options->random_anchors, NULL,
       "count anchor ids from a random offset instead of 0"},
      {"items", SS_OPTION_INT, &options->items, "N", "at most so many examples (0: all)"},
      {"samples", SS_OPTION_INT, &options->samples, "N",
       "leave what all arms wrote for the first N examples in OUT/samples.txt"},
      {"operators", SS_OPTION_STRING, &options->operators, "LOW-HIGH",
       "only examples of this group (arithmetic: number of operators)"},
      {"ceiling", SS_OPTION_FLAG, &options->ceiling, NULL,
       "measure the device's rates and show what each arm could reach"},
      {"out", SS_OPTION_STRING, &options->out, "DIR",
       "leave summary.json, results.h5, items-ARM.jsonl there; interrupted, the same command goes on"},
      {"force", SS_OPTION_FLAG, &options->force, NULL, "replace an earlier evaluation in the folder"},
      {"set", SS_OPTION_LIST, &options->assignments, "KEY=VALUE", "override one key (repeatable)"},
      DEVICE_OPTIONS(options->device),
      {"json", SS_OPTION_FLAG, &options->json, NULL, "print the summary as JSON"},
      {"quiet", SS_OPTION_FLAG, &options->quiet, NULL, "no progress"},
      {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"eval",
       "Measures accuracy, references, attended rows and speed of models on the same examples.\n"
       "`selfspan eval score --help` explains the scoring of other systems' outputs, `selfspan eval rouge "
       "--help`\n"
       "the scoring of summaries.",
       "selfspan eval --model FILE [--model FILE]... (--data FILE | --expressions FILE) [options]",
       table,
       groups,
       examples};
  bool help = false;
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  SS_TRY(resolve(options, groups, error));
  return options->data != NULL ? eval_store_command(options, error)
                               : eval_expressions_command(options, error);
}

ss_status ss_command_eval(int argc, char **argv, ss_error *error) {
  if (argc > 1 && strcmp(argv[1], "score") == 0)
    return eval_score_command(argc - 1, argv + 1, error);
  if (argc > 1 && strcmp(argv[1], "rouge") == 0)
    return eval_rouge_command(argc - 1, argv + 1, error);
  eval_options *options = NULL;
  SS_TRY(ss_allocate(&options, 1, sizeof *options, "options", error));
  options->arm = "auto";
  options->device = (device_options)DEVICE_DEFAULTS;
  ss_status status = parse_and_run(options, argc, argv, error);
  ss_string_list_free(&options->models);
  ss_string_list_free(&options->labels);
  ss_string_list_free(&options->assignments);
  free(options);
  return status;
}
