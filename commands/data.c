// selfspan data TASK: writes a dataset, one HDF5 file a split and a card.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/commands.h"
#include "commands/data_output.h"
#include "commands/data_report.h"
#include "commands/interrupt.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/table.h"
#include "data/card.h"
#include "data/generate.h"
#include "data/statistics.h"
#include "data/store.h"

typedef enum { DISTINCT_EVALUATION, DISTINCT_ALL, DISTINCT_NONE } distinct_choice;

typedef struct {
  int64_t seed;
  int64_t count[DATA_N_SPLIT];
  int64_t n_anchor, max_header;
  int distinct;  // distinct_choice
} data_config;

static const ss_key data_keys[] =
    {SS_CONFIG_INT(data_config, seed, "data.seed", "1", 0, 9007199254740991.0, "of generation"),
     SS_CONFIG_INT(data_config, count[DATA_TRAIN], "data.train", "-1", -1, 1e12,
                   "training examples; -1: all that a file has"),
     SS_CONFIG_INT(data_config, count[DATA_VALIDATION], "data.validation", "-1", -1, 1e12,
                   "validation examples"),
     SS_CONFIG_INT(data_config, count[DATA_TEST], "data.test", "-1", -1, 1e12, "test examples"),
     SS_CONFIG_INT(data_config, n_anchor, "data.n_anchor", "256", 1, 65536,
                   "anchor tokens; no example has more segments"),
     SS_CONFIG_INT(data_config, max_header, "data.max_header", "16", 4, 65536,
                   "tokens of the longest header; a longer one is an error"),
     SS_CONFIG_CHOICE(
         data_config, distinct, "data.distinct", "evaluation", "evaluation|all|none",
         "generators: splits without repeated contexts (all: train too, 16 to 32 bytes an example)"),
     {0}};

typedef struct {
  const char *config, *out, *exclude;
  ss_string_list assignments;
  int64_t threads;
  bool force, json, quiet;
} data_options;

// One run of the command.
typedef struct {
  const data_options *options;
  const data_task *task;
  data_config *config;
  void *state;  // of the task
  vocabulary *vocabulary;
  json_t *resolved;  // configuration, without paths
  json_t *card;
  output_folder output;
  const volatile sig_atomic_t *stop;
  bool replaces;  // a dataset that stands in the folder
  bool output_opened;
  // The split under way, for the message of an interruption.
  data_split split;
  int64_t examples;
} data_run;

// What the takers of one split share.
typedef struct {
  store_writer *writer;
  const vocabulary *vocabulary;
  const data_task *task;
  void *tally;  // of the task, or NULL
  dataset_statistics statistics;
  ss_progress progress;
} split_run;

static ss_status take_example(void *user, const example *example, const rendering *annotated,
                              ss_error *error) {
  split_run *run = user;
  SS_TRY(store_writer_add(run->writer, example, annotated, error));
  SS_TRY(statistics_add(&run->statistics, annotated, run->vocabulary, error));
  if (run->tally != NULL)
    SS_TRY(run->task->tally_add(run->tally, example, error));
  if ((run->statistics.examples & 255) == 0)
    ss_progress_update(&run->progress, run->statistics.examples, NULL);
  return SS_OK;
}

// Paths would make equal datasets differ by where their sources lay: the last component stays. Keys of tasks that are
// texts and end so are paths (data.train and its like are numbers).
static bool is_path(const char *key) {
  static const char *const ends[] = {".path", ".train", ".validation", ".test", ".tokenizer"};
  for (size_t k = 0; k < sizeof ends / sizeof *ends; k++)
    if (strlen(key) >= strlen(ends[k]) && strcmp(key + strlen(key) - strlen(ends[k]), ends[k]) == 0)
      return true;
  return false;
}

static ss_status strip_paths(json_t *resolved, ss_error *error) {
  const char *name;
  json_t *value;
  json_object_foreach(resolved, name, value) {
    const char *text = json_string_value(value);
    if (text == NULL || !is_path(name))
      continue;
    size_t end = strlen(text), first = 0;
    while (end > 1 && text[end - 1] == '/')
      end--;
    for (size_t k = 0; k < end; k++)
      if (text[k] == '/')
        first = k + 1;
    char *last = strndup(text + first, end - first);  // setting the value frees the text
    int failed = last == NULL || json_string_set(value, last) != 0;
    free(last);
    if (failed)
      return ss_fail(error, SS_ERROR_MEMORY, "configuration: out of memory");
  }
  return SS_OK;
}

static ss_status split_card(data_run *run, data_split split, const char *path, const split_run *made,
                            const generate_outcome *outcome, ss_error *error) {
  char hash[33], file[32];
  SS_TRY(ss_hash_file(path, hash, error));
  snprintf(file, sizeof file, "%s.h5", data_split_name(split));
  json_t *object = json_pack("{s:s, s:s, s:I, s:I}", "file", file, "xxh128", hash, "skipped",
                             (json_int_t)outcome->skipped, "duplicates", (json_int_t)outcome->duplicates);
  json_t *statistics = statistics_json(&made->statistics);
  int failed = object == NULL || statistics == NULL || json_object_update(object, statistics) != 0;
  json_decref(statistics);
  ss_status status = failed ? SS_OK : data_report_add(object, run->task, made->tally, outcome, error);
  failed |= json_object_set_new(json_object_get(run->card, "splits"), data_split_name(split), object) != 0;
  return failed ? ss_fail(error, SS_ERROR_MEMORY, "card: out of memory") : status;
}

static ss_status write_split(data_run *run, data_split split, const char *path, ss_error *error) {
  const data_config *config = run->config;
  int64_t available = run->task->count(run->state, split), wanted = config->count[split];
  bool generator = available < 0;
  if (generator && wanted < 0)
    return ss_fail(error, SS_ERROR_USAGE, "data.%s is not set, expected a number of examples",
                   data_split_name(split));
  if (wanted == 0 || available == 0) {
    if (wanted > 0)
      return ss_fail(error, SS_ERROR_USAGE, "data.%s = %lld, but the task has no %s examples",
                     data_split_name(split), (long long)wanted, data_split_name(split));
    return SS_OK;
  }
  generate_request request = {.task = run->task,
                              .state = run->state,
                              .vocabulary = run->vocabulary,
                              .split = split,
                              .count = wanted,
                              .distinct = generator &&
                                          (config->distinct == DISTINCT_ALL ||
                                           (config->distinct == DISTINCT_EVALUATION && split != DATA_TRAIN)),
                              .max_header = (int32_t)config->max_header,
                              .n_thread = (int32_t)run->options->threads,
                              .stop = run->stop};
  split_run made = {.vocabulary = run->vocabulary, .task = run->task};
  generate_outcome outcome;
  if (run->task->tally_create != NULL)
    SS_TRY(run->task->tally_create(&made.tally, error));
  ss_status status = store_writer_open(&made.writer, path, run->vocabulary, run->task->name,
                                       data_split_name(split), (uint64_t)config->seed, run->resolved, error);
  if (status == SS_OK) {
    ss_progress_start(&made.progress, data_split_name(split), "examples", 0, wanted >= 0 ? wanted : available,
                      run->options->quiet);
    run->split = split;
    status = generate_examples(&request, take_example, &made, &outcome, error);
    run->examples = made.statistics.examples;
    if (status == SS_OK)
      status = store_writer_close(made.writer, error);
    else
      store_writer_abandon(made.writer);
  }
  if (status == SS_OK) {
    ss_progress_finish(&made.progress, made.statistics.examples, NULL);
    status = split_card(run, split, path, &made, &outcome, error);
  }
  if (made.tally != NULL)
    run->task->tally_free(made.tally);
  return status;
}

static ss_status start_card(data_run *run, ss_error *error) {
  char *notes = NULL, vocabulary_digits[17], hash[33];
  const char *excluded_path = run->options->exclude;
  if (excluded_path != NULL)
    SS_TRY(ss_hash_file(excluded_path, hash, error));
  if (run->task->notes != NULL)
    SS_TRY(run->task->notes(run->state, &notes, error));
  json_t *excluded = json_null();
  if (excluded_path != NULL) {
    const char *slash = strrchr(excluded_path, '/');
    excluded = json_pack("{s:s, s:s}", "file", slash == NULL ? excluded_path : slash + 1, "xxh128", hash);
  }
  if (notes != NULL && !run->options->quiet)
    fprintf(stderr, "%s\n", notes);
  snprintf(vocabulary_digits, sizeof vocabulary_digits, "%016llx",
           (unsigned long long)vocabulary_hash(run->vocabulary));
  run->card = json_pack("{s:s, s:i, s:s, s:s, s:I, s:O, s:o, s:s, s:o, s:s?, s:i, s:{}}", "format",
                        "selfspan-card", "schema_version", 1, "task", run->task->name, "summary",
                        run->task->summary, "seed", (json_int_t)run->config->seed, "config", run->resolved,
                        "vocabulary", vocabulary_summary_json(run->vocabulary), "vocabulary_hash",
                        vocabulary_digits, "excluded", excluded, "notes", notes, "attended_rows_sample",
                        STATISTICS_SAMPLE, "splits");
  free(notes);
  return run->card == NULL ? ss_fail(error, SS_ERROR_MEMORY, "card: out of memory") : SS_OK;
}

static ss_status write_all(data_run *run, ss_error *error) {
  for (int split = 0; split < DATA_N_SPLIT; split++) {
    char *path = NULL;
    SS_TRY(ss_format(&path, error, "%s/%s.h5", run->output.partial, data_split_name((data_split)split)));
    ss_status status = write_split(run, (data_split)split, path, error);
    free(path);
    SS_TRY(status);
  }
  if (json_object_size(json_object_get(run->card, "splits")) == 0)
    return ss_fail(error, SS_ERROR_USAGE,
                   "no examples asked for: data.train, data.validation and data.test are 0");
  return card_write(run->output.partial, run->card, error);
}

static ss_status print_summary(const data_run *run, ss_error *error) {
  static const char *const columns[] = {"split", "examples",   "tokens, annotated", "tokens, dense",
                                        "steps", "references", "repeats left out"};
  if (run->options->json) {
    char *text = json_dumps(run->card, JSON_INDENT(2));
    if (text == NULL)
      return ss_fail(error, SS_ERROR_MEMORY, "card: out of memory");
    printf("%s\n", text);
    free(text);
    return SS_OK;
  }
  if (run->options->quiet)
    return SS_OK;
  ss_table *table = NULL;
  const char *name;
  json_t *split;
  ss_status status = ss_table_create(&table, columns, 7, error);
  json_object_foreach(json_object_get(run->card, "splits"), name, split) {
    const char *paths[][2] = {{NULL, "examples"},   {"tokens", "annotated"}, {"tokens", "dense"},
                              {"segments", "step"}, {NULL, "references"},    {NULL, "duplicates"}};
    if (status == SS_OK)
      status = ss_table_row(table, error);
    if (status == SS_OK)
      status = ss_table_cell(table, error, "%s", name);
    for (size_t k = 0; status == SS_OK && k < sizeof paths / sizeof paths[0]; k++) {
      const json_t *object = paths[k][0] == NULL ? split : json_object_get(split, paths[k][0]);
      status = ss_table_cell(table, error, "%lld",
                             (long long)json_integer_value(json_object_get(object, paths[k][1])));
    }
  }
  if (status == SS_OK) {
    ss_table_print(table, stdout);
    status = data_report_print(json_object_get(run->card, "splits"), stdout, error);
    printf("\nwritten to %s (card.md describes it)\n", run->options->out);
  }
  ss_table_free(table);
  return status;
}

static ss_status run_task(data_run *run, const void *task_config, ss_error *error) {
  const data_options *options = run->options;
  SS_TRY(run->task->open(&run->state, task_config, (uint64_t)run->config->seed, options->exclude,
                         &(data_opening){options->quiet, run->stop}, error));
  SS_TRY(run->task->vocabulary(run->state, (int32_t)run->config->n_anchor, &run->vocabulary, error));
  SS_TRY(start_card(run, error));
  if (*run->stop)
    return SS_ERROR_INTERRUPTED;
  SS_TRY(data_output_open(&run->output, options->out, options->force, &run->replaces, error));
  run->output_opened = true;
  SS_TRY(write_all(run, error));
  return *run->stop ? SS_ERROR_INTERRUPTED : data_output_commit(&run->output, error);
}

// A dataset is whole or absent, so what was made until now is gone.
static void say_interrupted(const data_run *run, ss_error *error) {
  char until[96] = "before the first example";
  if (run->output_opened)
    snprintf(until, sizeof until, "after %lld examples of %s", (long long)run->examples,
             data_split_name(run->split));
  ss_error_clear(error);
  ss_fail(error, SS_ERROR_INTERRUPTED, "%s: interrupted %s; nothing is kept%s; the same command starts again",
          run->options->out, until, run->replaces ? ", the dataset that was there is as it was" : "");
}

static ss_status run_command(const data_options *options, const data_task *task, const ss_key_group *groups,
                             data_config *config, const void *task_config, ss_error *error) {
  data_run run = {.options = options, .task = task, .config = config};
  if (options->out == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "data: --out DIR is missing");
  if (options->threads < 0 || options->threads > 1024)
    return ss_fail(error, SS_ERROR_USAGE, "--threads: %lld is out of range [0, 1024]",
                   (long long)options->threads);
  SS_TRY(ss_cli_config(groups, options->config, &options->assignments, error));
  run.resolved = ss_config_json(groups);
  if (run.resolved == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "configuration: out of memory");
  ss_status status = strip_paths(run.resolved, error);
  if (status == SS_OK) {
    run.stop = interrupt_catch();
    status = run_task(&run, task_config, error);
    output_folder_abandon(&run.output);
    if (status == SS_ERROR_INTERRUPTED)
      say_interrupted(&run, error);
    interrupt_release();
  }
  if (status == SS_OK)
    status = print_summary(&run, error);
  if (run.state != NULL)
    task->close(run.state);
  vocabulary_free(run.vocabulary);
  json_decref(run.resolved);
  json_decref(run.card);
  return status;
}

static const char examples[] =
    "  selfspan data arithmetic --config configs/quickstart/data.yaml --out runs/data\n"
    "  selfspan data arithmetic --config configs/arithmetic-wide.yaml --out runs/wide --set "
    "data.train=1000\n"
    "  selfspan data arithmetic --config FILE --out runs/data --exclude test-expressions.txt\n"
    "  selfspan data cnndm --config configs/cnndm/data.yaml --set cnndm.train=train.jsonl.gz --out "
    "runs/news\n"
    "  selfspan data jsonl --set jsonl.path=rows.jsonl --out runs/rows --set jsonl.on_error=skip\n"
    "  selfspan data arithmetic --help    (the task's keys)\n";

// What --help says first: every task with what it writes.
static ss_status describe(char **out, ss_error *error) {
  SS_TRY(ss_format(out, error, "Writes a span-annotated dataset. Tasks:"));
  for (const data_task *const *task = data_tasks; *task != NULL; task++) {
    char *longer = NULL;
    ss_status status = ss_format(&longer, error, "%s\n  %-12s%s", *out, (*task)->name, (*task)->summary);
    free(*out);
    *out = longer;
    SS_TRY(status);
  }
  return SS_OK;
}

ss_status ss_command_data(int argc, char **argv, ss_error *error) {
  data_options options;
  memset(&options, 0, sizeof options);
  data_config config;
  memset(&config, 0, sizeof config);
  // The task comes first: its keys are a part of the command's.
  const data_task *task = NULL;
  void *task_config = NULL;
  if (argc > 1 && argv[1][0] != '-') {
    task = data_task_find(argv[1], error);
    if (task == NULL)
      return SS_ERROR_USAGE;
    SS_TRY(ss_allocate(&task_config, 1, task->config_size, "task configuration", error));
    argc--;
    argv++;
  }
  const ss_key_group groups[] = {{data_keys, &config},
                                 {task == NULL ? NULL : task->keys, task_config},
                                 {NULL, NULL}};
  const ss_option table[] =
      {{"config", SS_OPTION_STRING, &options.config, "FILE", "YAML file of data.* and the task's keys"},
       {"set", SS_OPTION_LIST, &options.assignments, "KEY=VALUE", "override one key (repeatable)"},
       {"out", SS_OPTION_STRING, &options.out, "DIR",
        "folder for train.h5, validation.h5, test.h5, card.json, card.md"},
       {"exclude", SS_OPTION_STRING, &options.exclude, "FILE",
        "contents to keep out, one a line (expressions, contexts, ids of news)"},
       {"threads", SS_OPTION_INT, &options.threads, "N", "threads; 0: all (the bytes do not depend on it)"},
       {"force", SS_OPTION_FLAG, &options.force, NULL, "replace a dataset that stands there"},
       {"json", SS_OPTION_FLAG, &options.json, NULL, "print the card as JSON"},
       {"quiet", SS_OPTION_FLAG, &options.quiet, NULL, "no progress, no summary"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  char *description = NULL;
  ss_status status = describe(&description, error);
  const ss_command_line line = {"data",
                                description,
                                "selfspan data TASK [--config FILE] [--set KEY=VALUE]... --out DIR [options]",
                                table,
                                groups,
                                examples};
  bool help = false;
  if (status == SS_OK)
    status = ss_cli_parse(&line, argc, argv, NULL, &help, error);
  if (status == SS_OK && !help && task == NULL)
    status = ss_fail(error, SS_ERROR_USAGE,
                     "data: expected a task first: selfspan data TASK --out DIR (see --help)");
  if (status == SS_OK && !help)
    status = run_command(&options, task, groups, &config, task_config, error);
  ss_string_list_free(&options.assignments);
  free(description);
  free(task_config);
  return status;
}
