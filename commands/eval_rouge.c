// selfspan eval rouge: summaries against references.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/table.h"
#include "eval/bootstrap.h"
#include "eval/rouge.h"
#include "eval/rouge_files.h"

#define N_NUMBER (3 * ROUGE_N_TYPE)

typedef struct {
  const char *predictions, *pairs;
  ss_string_list references;
  rouge_file_options files;
  int64_t samples, seed;
  double confidence;
  bool stem, json;
} rouge_options;

static const char examples[] =
    "  selfspan eval rouge --predictions summaries.txt --references gold.txt --stem\n"
    "  selfspan eval rouge --predictions out.jsonl --prediction-field summary --references test.jsonl \\\n"
    "      --reference-field highlights --json\n"
    "  selfspan eval rouge --predictions out.txt --references first.txt --references second.txt\n"
    "  selfspan eval rouge --predictions out.txt --references gold.txt --line-break '<n>' --pairs "
    "pairs.jsonl\n"
    "\n"
    "  Line k of one file belongs to line k of the others. A file called *.jsonl has a JSON string a line, "
    "or\n"
    "  an object with the text in a field; several references of one line are an array of strings. For Lsum\n"
    "  the sentences are the lines of a text: \\n in JSON, --line-break in plain text.\n";

static json_t *score_json(rouge_score score) {
  return json_pack("{s:f, s:f, s:f}", "precision", score.precision, "recall", score.recall, "f", score.f);
}

static ss_status write_pairs(const char *path, const rouge_scores *scores, int64_t n, ss_error *error) {
  char *temporary = NULL;
  SS_TRY(ss_temporary_path(path, &temporary, error));
  FILE *file = fopen(temporary, "w");
  ss_status status = SS_OK;
  if (file == NULL)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  for (int64_t k = 0; k < n && status == SS_OK; k++) {
    json_t *row = json_object();
    for (int t = 0; t < ROUGE_N_TYPE; t++)
      json_object_set_new(row, rouge_type_name((rouge_type)t), score_json(scores[k].of[t]));
    if (json_dumpf(row, file, JSON_COMPACT) != 0 || fputc('\n', file) == EOF)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
    json_decref(row);
  }
  if (file != NULL && fclose(file) != 0 && status == SS_OK)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  if (status == SS_OK)
    status = ss_commit_file(temporary, path, error);
  else
    remove(temporary);
  free(temporary);
  return status;
}

static void print_json(const rouge_options *options, const bootstrap_interval *numbers, int64_t pairs) {
  static const char *const keys[3] = {"precision", "recall", "f"};
  json_t *head = json_pack("{s:I, s:b, s:I, s:f, s:I}", "pairs", (json_int_t)pairs, "stem", options->stem,
                           "samples", (json_int_t)options->samples, "confidence", options->confidence, "seed",
                           (json_int_t)options->seed);
  for (int t = 0; t < ROUGE_N_TYPE; t++) {
    json_t *type = json_object();
    for (int k = 0; k < 3; k++) {
      const bootstrap_interval *number = &numbers[3 * t + k];
      json_object_set_new(type, keys[k],
                          json_pack("{s:f, s:f, s:f}", "mean", number->mean, "low", number->low, "high",
                                    number->high));
    }
    json_object_set_new(head, rouge_type_name((rouge_type)t), type);
  }
  json_dumpf(head, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
  printf("\n");
  json_decref(head);
}

static ss_status print_table(const rouge_options *options, const bootstrap_interval *numbers, int64_t pairs,
                             ss_error *error) {
  const char *const columns[] = {"type", "precision", "recall", "F"};
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, 4, error));
  ss_status status = SS_OK;
  for (int t = 0; t < ROUGE_N_TYPE && status == SS_OK; t++) {
    status = ss_table_row(table, error);
    if (status == SS_OK)
      status = ss_table_cell(table, error, "%s", rouge_type_name((rouge_type)t));
    for (int k = 0; k < 3 && status == SS_OK; k++) {
      const bootstrap_interval *number = &numbers[3 * t + k];
      status = options->samples == 0 ? ss_table_cell(table, error, "%.2f", 100 * number->mean)
                                     : ss_table_cell(table, error, "%.2f (%.2f-%.2f)", 100 * number->mean,
                                                     100 * number->low, 100 * number->high);
    }
  }
  if (status == SS_OK) {
    ss_table_print(table, stdout);
    printf("\n%lld pairs, %s", (long long)pairs, options->stem ? "stemmed" : "not stemmed");
    if (options->samples > 0)
      printf("; %g%% bootstrap intervals of %lld samples", 100 * options->confidence,
             (long long)options->samples);
    printf("\n");
  }
  ss_table_free(table);
  return status;
}

static ss_status score_corpus(const rouge_options *options, const rouge_corpus *corpus, ss_error *error) {
  rouge_scores *scores = NULL;
  bootstrap_interval numbers[N_NUMBER];
  SS_TRY(ss_allocate(&scores, corpus->count, sizeof *scores, "scores", error));
  ss_status status = rouge_score_items(corpus->items, corpus->count, options->stem, scores, error);
  if (status == SS_OK)
    status = bootstrap_means(&scores[0].of[0].precision, corpus->count, N_NUMBER, options->samples,
                             options->confidence, (uint64_t)options->seed, numbers, error);
  if (status == SS_OK && options->pairs != NULL)
    status = write_pairs(options->pairs, scores, corpus->count, error);
  if (status == SS_OK && options->json)
    print_json(options, numbers, corpus->count);
  else if (status == SS_OK)
    status = print_table(options, numbers, corpus->count, error);
  free(scores);
  return status;
}

static ss_status check(const rouge_options *options, ss_error *error) {
  if (options->predictions == NULL)
    return ss_fail(error, SS_ERROR_USAGE,
                   "--predictions is missing: a file with one text a line, or *.jsonl");
  if (options->references.count == 0)
    return ss_fail(error, SS_ERROR_USAGE, "--references is missing: a file with one text a line, or *.jsonl");
  if (options->samples < 0 || options->samples > 1000000)
    return ss_fail(error, SS_ERROR_USAGE, "--samples: %lld, expected 0 to 1000000",
                   (long long)options->samples);
  if (!(options->confidence > 0 && options->confidence < 1))
    return ss_fail(error, SS_ERROR_USAGE, "--confidence: %g, expected a number between 0 and 1",
                   options->confidence);
  return SS_OK;
}

static ss_status parse_and_run(rouge_options *options, int argc, char **argv, ss_error *error) {
  const ss_option table[] =
      {{"predictions", SS_OPTION_STRING, &options->predictions, "FILE",
        "the texts to score, one a line or JSONL"},
       {"references", SS_OPTION_LIST, &options->references, "FILE",
        "what they are compared with (repeatable: several references each)"},
       {"prediction-field", SS_OPTION_STRING, &options->files.prediction_field, "NAME",
        "field of JSONL's objects (prediction)"},
       {"reference-field", SS_OPTION_STRING, &options->files.reference_field, "NAME",
        "field of JSONL's objects (reference): a string or an array"},
       {"line-break", SS_OPTION_STRING, &options->files.line_break, "TEXT",
        "what stands for a newline in plain text, e.g. '<n>'"},
       {"stem", SS_OPTION_FLAG, &options->stem, NULL, "stem tokens (rouge-score's use_stemmer)"},
       {"samples", SS_OPTION_INT, &options->samples, "N", "bootstrap samples (1000; 0: no intervals)"},
       {"confidence", SS_OPTION_REAL, &options->confidence, "P", "of the intervals (0.95)"},
       {"seed", SS_OPTION_INT, &options->seed, "N", "of the bootstrap (1)"},
       {"pairs", SS_OPTION_STRING, &options->pairs, "FILE", "leave every pair's scores there, JSONL"},
       {"json", SS_OPTION_FLAG, &options->json, NULL, "print JSON (numbers in 0..1)"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"eval rouge",
       "ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum of texts, in per cent.\n"
       "Equal to the Python package rouge-score; of several references the best counts.",
       "selfspan eval rouge --predictions FILE --references FILE [options]",
       table,
       NULL,
       examples};
  bool help = false;
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  SS_TRY(check(options, error));
  rouge_corpus corpus = {0};
  ss_status status = rouge_corpus_read(&corpus, options->predictions, options->references.items,
                                       options->references.count, &options->files, error);
  if (status == SS_OK)
    status = score_corpus(options, &corpus, error);
  rouge_corpus_free(&corpus);
  return status;
}

ss_status eval_rouge_command(int argc, char **argv, ss_error *error) {
  rouge_options options = {.files = {.prediction_field = "prediction", .reference_field = "reference"},
                           .samples = 1000,
                           .seed = 1,
                           .confidence = 0.95};
  ss_status status = parse_and_run(&options, argc, argv, error);
  ss_string_list_free(&options.references);
  return status;
}
