// selfspan eval score: other systems' outputs, scored like the models'.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "commands/interrupt.h"
#include "common/memory.h"
#include "data/store.h"
#include "eval/score_file.h"

typedef struct {
  const char *task, *data, *predictions, *operators, *label, *out;
  bool force, json;
} score_options;

static const char examples[] =
    "  selfspan eval score --data data/test.h5 --predictions answers.jsonl\n"
    "  selfspan eval score --task arithmetic --data data/test.h5 --predictions runs/eval/items-span.jsonl "
    "--json\n"
    "\n"
    "  A line of the predictions: {\"id\": \"...\", \"steps\": [\"12+7=19\", ...], \"answer\": \"19\"}\n";

static ss_status score_store(const score_options *options, store *data, eval_report *report,
                             ss_error *error) {
  const eval_task *task = eval_task_find(options->task != NULL ? options->task : store_task(data), error);
  if (task == NULL)
    return error != NULL ? error->status : SS_ERROR_USAGE;
  int64_t low, high;
  SS_TRY(eval_parse_operators(options->operators, &low, &high, error));
  eval_result *result = NULL;
  json_t *extra = NULL;
  SS_TRY(eval_report_add(report, &result, &extra, error));
  eval_score_file_counts counts;
  SS_TRY(eval_score_file(options->predictions, data, task, low, high, result, &counts, error));
  snprintf(result->label, sizeof result->label, "%s", options->label);
  report->n_complete = 1;
  json_object_set_new(extra, "predictions", json_integer(counts.predictions));
  json_object_set_new(extra, "missing", json_integer(counts.missing));
  report->notes = json_array();
  if (counts.missing > 0) {
    char note[160];
    snprintf(note, sizeof note, "%lld of %lld examples have no prediction; they count as wrong.",
             (long long)counts.missing, (long long)result->all.items);
    json_array_append_new(report->notes, json_string(note));
  }
  json_t *head = json_pack("{s:s, s:s, s:s}", "data", options->data, "task", task->name, "split",
                           store_split(data));
  ss_status status = SS_OK;
  if (options->out != NULL)
    status = eval_report_folder(report, options->out, options->force, error);
  if (status == SS_OK)
    status = eval_report_finish(report, head, options->json, error);
  json_decref(head);
  return status;
}

ss_status eval_score_command(int argc, char **argv, ss_error *error) {
  score_options options = {.label = "predictions"};
  const ss_option table[] =
      {{"data", SS_OPTION_STRING, &options.data, "FILE", "dataset with the gold derivations (test.h5)"},
       {"predictions", SS_OPTION_STRING, &options.predictions, "FILE",
        "JSONL, one prediction a line, matched by id"},
       {"task", SS_OPTION_STRING, &options.task, "NAME",
        "scorer: a task's name (default: the dataset's task)"},
       {"operators", SS_OPTION_STRING, &options.operators, "LOW-HIGH", "only examples of this group"},
       {"label", SS_OPTION_STRING, &options.label, "NAME", "name in the table"},
       {"out", SS_OPTION_STRING, &options.out, "DIR", "leave summary.json and results.h5 there"},
       {"force", SS_OPTION_FLAG, &options.force, NULL, "replace an earlier evaluation in the folder"},
       {"json", SS_OPTION_FLAG, &options.json, NULL, "print the summary as JSON"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"eval score",
                                "Scores the outputs of another system against a dataset.",
                                "selfspan eval score --data FILE --predictions FILE [options]",
                                table,
                                NULL,
                                examples};
  bool help = false;
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  if (options.data == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--data is missing: a dataset file, e.g. data/test.h5");
  if (options.predictions == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--predictions is missing: a JSONL file, one prediction a line");
  store *data = NULL;
  eval_report report = {.stop = interrupt_catch()};
  ss_status status = store_open(&data, options.data, true, error);
  if (status == SS_OK)
    status = score_store(&options, data, &report, error);
  status = eval_report_end(&report, status, error);
  eval_report_free(&report);
  interrupt_release();
  store_close(data);
  return status;
}
