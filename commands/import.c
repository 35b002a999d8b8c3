// selfspan import: another program's pre-trained model becomes a model file, its vocabulary grown by the span tokens.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands/commands.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/utf8.h"
#include "data/span_keys.h"
#include "data/tokenizer.h"
#include "data/vocabulary.h"
#include "kernels/kernels.h"
#include "model/import.h"
#include "model/new_rows.h"
#include "train/model_file.h"

// Embeddings are padded with rows that no token has; more than this many speak of another tokenizer.
enum { MOST_PADDING = 511 };

#define DEFAULT_TASK "cnndm"
#define DEFAULT_ANCHORS 256
#define NOT_GIVEN INT64_MIN

typedef struct {
  const char *from, *out, *tokenizer, *rows;
  const char *task;  // NULL: the rows', or DEFAULT_TASK
  int64_t n_anchor;  // NOT_GIVEN: the rows', or DEFAULT_ANCHORS
  int64_t n_positions, seed;
  double deviation;
  bool force, quiet, json;
} import_command;

typedef struct {
  const import_command *options;
  model_import *import;
  char *tokenizer_path;
  tokenizer *tokenizer;
  vocabulary *vocabulary;
  int64_t n_keep, n_text, n_dropped;  // rows: kept, of text tokens, without a token
  int64_t *like;                      // [vocabulary - n_keep]
  gpt *model;
  new_rows rows;  // of --rows, else zeros
  const char *task;
  int64_t n_anchor;
  arm arm;
  span_policy policy;
} import_run;

// --- learnt rows -------------------------------------------------------------------------------------------

static ss_status read_rows(import_run *run, ss_error *error) {
  const import_command *options = run->options;
  const char *path = options->rows;
  if (path == NULL)
    return SS_OK;
  SS_TRY(new_rows_read(&run->rows, path, error));
  if (options->task != NULL && strcmp(options->task, run->rows.task) != 0)
    return ss_fail(error, SS_ERROR_USAGE, "--task %s: the rows of %s are of task %s", options->task, path,
                   run->rows.task);
  if (options->n_anchor != NOT_GIVEN && options->n_anchor != run->rows.n_anchor)
    return ss_fail(error, SS_ERROR_USAGE, "--anchors %" PRId64 ": the rows of %s are of %" PRId64 " anchors",
                   options->n_anchor, path, run->rows.n_anchor);
  run->task = run->rows.task;
  run->n_anchor = run->rows.n_anchor;
  ss_status status = span_policy_parse(run->rows.policy, path, &run->arm, &run->policy, error);
  return status == SS_ERROR_USAGE ? error->status = SS_ERROR_INPUT : status;  // the file is at fault
}

// The first row that the import makes; where a vocabulary comes back with its span tokens, theirs.
static int64_t first_new_row(const import_run *run) {
  return run->n_keep < run->n_text ? run->n_keep : run->n_text;
}

static ss_status put_rows(import_run *run, ss_error *error) {
  const import_command *options = run->options;
  if (options->rows == NULL)
    return SS_OK;
  if (run->rows.first != first_new_row(run))
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: its rows were learnt on another base: first is %" PRId64 ", that of %s %" PRId64,
                   options->rows, run->rows.first, options->from, first_new_row(run));
  return new_rows_put(&run->rows, run->model, options->rows, options->from, error);
}

// --- the vocabulary ----------------------------------------------------------------------------------------

// The model's own: in the GGUF file or the folder; llama2.c's lies beside the model.
static ss_status tokenizer_path(import_run *run, ss_error *error) {
  const import_command *options = run->options;
  if (options->tokenizer != NULL)
    return ss_format(&run->tokenizer_path, error, "%s", options->tokenizer);
  if (!ss_ends_in(options->from, ".bin"))
    return ss_format(&run->tokenizer_path, error, "%s", options->from);
  const char *slash = strrchr(options->from, '/');
  SS_TRY(ss_format(&run->tokenizer_path, error, "%.*stokenizer.bin",
                   slash == NULL ? 0 : (int)(slash + 1 - options->from), options->from));
  if (!ss_file_exists(run->tokenizer_path))
    return ss_fail(error, SS_ERROR_USAGE, "%s: no such file; --tokenizer names the model's tokenizer",
                   run->tokenizer_path);
  return SS_OK;
}

static ss_status check_sizes(import_run *run, ss_error *error) {
  int64_t rows = import_get_about(run->import)->model.vocab_size, size = tokenizer_size(run->tokenizer);
  if (size > rows || rows - size > MOST_PADDING)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: %" PRId64 " tokens, the embedding in %s has %" PRId64
                   " rows: not this model's tokenizer",
                   run->tokenizer_path, size, run->options->from, rows);
  run->n_keep = size;
  run->n_dropped = rows - size;
  return SS_OK;
}

// An id of the file's, -1 when its row was left out: another token has that id now.
static int64_t kept_id(const import_run *run, int64_t id) {
  return id < run->n_keep ? id : -1;
}

// <bos> and <eos> begin as the model's own; the others as nobody.
static ss_status choose_rows(import_run *run, ss_error *error) {
  const import_about *about = import_get_about(run->import);
  int64_t n_new = vocabulary_size(run->vocabulary) - run->n_keep;
  SS_TRY(ss_allocate(&run->like, n_new, sizeof *run->like, "new tokens", error));
  for (int64_t i = 0; i < n_new; ++i)
    run->like[i] = -1;
  int64_t bos = vocabulary_bos(run->vocabulary) - run->n_keep;
  int64_t eos = vocabulary_span_tokens(run->vocabulary)->eos - run->n_keep;
  if (bos >= 0)
    run->like[bos] = kept_id(run, about->bos);
  if (eos >= 0)
    run->like[eos] = kept_id(run, about->eos);
  return SS_OK;
}

static ss_status build_vocabulary(import_run *run, ss_error *error) {
  SS_TRY(tokenizer_path(run, error));
  SS_TRY(tokenizer_open(&run->tokenizer, run->tokenizer_path, error));
  SS_TRY(check_sizes(run, error));
  SS_TRY(vocabulary_create_tokenizer(&run->vocabulary, run->tokenizer, run->task, (int32_t)run->n_anchor,
                                     error));
  run->n_text = vocabulary_n_text(run->vocabulary);
  return choose_rows(run, error);
}

// None where the tokenizer is a vocabulary that comes back: its text tokens are fewer than its tokens.
static int64_t bytes_added(const import_run *run) {
  return run->n_text > run->n_keep ? run->n_text - run->n_keep : 0;
}

// --- what is said ------------------------------------------------------------------------------------------

static json_t *config_json(const import_run *run) {
  const import_about *about = import_get_about(run->import);
  return json_pack("{s:{s:s, s:s, s:I, s:I, s:b, s:I, s:f, s:I}}", "import", "format", about->format,
                   "architecture", about->architecture, "bos", (json_int_t)kept_id(run, about->bos), "eos",
                   (json_int_t)kept_id(run, about->eos), "add_bos", about->add_bos, "seed",
                   (json_int_t)run->options->seed, "deviation", run->options->deviation, "tokens",
                   (json_int_t)run->n_keep);
}

static const char *positions_name(const gpt_config *config) {
  return config->position == GPT_POSITION_ROTARY ? "rotary" : "learned";
}

static void print_about(const import_run *run) {
  const import_about *about = import_get_about(run->import);
  const gpt_config *config = gpt_get_config(run->model);
  int64_t size = vocabulary_size(run->vocabulary);
  printf("%s: %s, %s, %" PRId64 " tensors (%s), %" PRId64 " parameters\n", run->options->from,
         about->architecture, about->format, about->n_tensor, about->types, about->n_parameter);
  printf("shape        %" PRId64 " layers, width %" PRId64 ", %" PRId64 " heads (%" PRId64
         " for keys and values), MLP %" PRId64 ", %" PRId64 " positions (%s)\n",
         config->n_layer, config->n_embd, config->n_head, config->n_kv_head, config->n_ff,
         config->n_positions, positions_name(config));
  printf("tokenizer    %s: %" PRId64 " tokens\n", run->tokenizer_path, run->n_keep);
  printf("vocabulary   %" PRId64 ": %" PRId64 " rows added", size, size - run->n_keep);
  if (size > run->n_keep)
    printf(" (%" PRId64 " single bytes, %" PRId64 " span tokens, %" PRId64 " of them anchors)",
           bytes_added(run), size - run->n_text, run->n_anchor);
  if (run->n_dropped > 0)
    printf(", %" PRId64 " rows without a token left out", run->n_dropped);
  printf("\n");
  if (run->options->rows != NULL)
    printf("learnt       %s: rows %" PRId64 " to %" PRId64 ", arm %s, policy %s\n", run->options->rows,
           run->rows.first, size - 1, arm_name(run->arm), run->rows.policy);
  for (int64_t i = 0; i < about->n_note; ++i)
    printf("not used     %s: %s\n", about->notes[i].name, about->notes[i].reason);
  printf("%s: %" PRId64 " parameters\n", run->options->out, gpt_n_parameter(run->model));
}

static ss_status print_json(const import_run *run, ss_error *error) {
  const import_about *about = import_get_about(run->import);
  const gpt_config *config = gpt_get_config(run->model);
  json_t *notes = json_array();
  for (int64_t i = 0; i < about->n_note; ++i)
    json_array_append_new(notes, json_pack("{s:s, s:s}", "name", about->notes[i].name, "reason",
                                           about->notes[i].reason));
  json_t *shape = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f}", "n_layer",
                            (json_int_t)config->n_layer, "n_embd", (json_int_t)config->n_embd, "n_head",
                            (json_int_t)config->n_head, "n_kv_head", (json_int_t)config->n_kv_head, "n_ff",
                            (json_int_t)config->n_ff, "n_positions", (json_int_t)config->n_positions,
                            "vocab_size", (json_int_t)config->vocab_size, "position", positions_name(config),
                            "norm_epsilon", config->norm_epsilon, "rotary_theta", config->rotary_theta);
  json_t *object = json_pack(
      "{s:o, s:o, s:s, s:s, s:I, s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "from",
      ss_utf8_json(run->options->from), "out", ss_utf8_json(run->options->out), "architecture",
      about->architecture, "format", about->format, "tensors", (json_int_t)about->n_tensor, "types",
      about->types, "parameters_read", (json_int_t)about->n_parameter, "parameters",
      (json_int_t)gpt_n_parameter(run->model), "model", shape, "tokenizer", ss_utf8_json(run->tokenizer_path),
      "tokens", (json_int_t)run->n_keep, "bytes_added", (json_int_t)bytes_added(run), "span_tokens",
      (json_int_t)(vocabulary_size(run->vocabulary) - run->n_text), "anchors", (json_int_t)run->n_anchor,
      "rows_dropped", (json_int_t)run->n_dropped, "rows",
      run->options->rows == NULL ? json_null() : ss_utf8_json(run->options->rows), "not_used", notes);
  if (object == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the report");
  json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
  printf("\n");
  json_decref(object);
  return SS_OK;
}

// --- running -----------------------------------------------------------------------------------------------

static ss_status check_target(const import_command *options, ss_error *error) {
  struct stat about;
  if (stat(options->out, &about) != 0)
    return SS_OK;
  if (S_ISDIR(about.st_mode))
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: is a folder, expected the name of a file", options->out);
  if (!options->force)
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: exists; --force replaces it", options->out);
  return SS_OK;
}

static ss_status load(import_run *run, ss_device *device, ss_error *error) {
  const import_command *options = run->options;
  ss_progress progress;
  const import_options how = {.n_positions = options->n_positions,
                              .vocab_size = vocabulary_size(run->vocabulary),
                              .n_keep = run->n_keep,
                              .like = run->like,
                              .deviation = options->deviation,
                              .seed = (uint64_t)options->seed,
                              .progress = ss_progress_show,
                              .user = &progress};
  ss_progress_start(&progress, "import", "tensors", 0, 0, options->quiet || options->json);
  SS_TRY(import_model(run->import, device, &how, &run->model, error));
  ss_progress_finish(&progress, progress.total, NULL);
  return SS_OK;
}

static ss_status run_all(import_run *run, ss_error *error) {
  const ss_device_options plain = {0};
  ss_device *device = NULL;
  SS_TRY(check_target(run->options, error));
  SS_TRY(read_rows(run, error));
  SS_TRY(import_open(&run->import, run->options->from, error));
  SS_TRY(build_vocabulary(run, error));
  SS_TRY(ss_device_open(&device, "cpu", &plain, error));
  ss_status status = load(run, device, error);
  if (status == SS_OK)
    status = put_rows(run, error);
  json_t *config = config_json(run);
  if (status == SS_OK && config == NULL)
    status = ss_fail(error, SS_ERROR_MEMORY, "out of memory for a model's description");
  if (status == SS_OK)
    status = model_file_write(run->options->out, run->model, run->vocabulary, run->arm, &run->policy, config,
                              error);
  json_decref(config);
  if (status == SS_OK && run->options->json)
    status = print_json(run, error);
  else if (status == SS_OK)
    print_about(run);
  if (run->model != NULL)
    gpt_free(run->model);
  ss_device_close(device);
  return status;
}

static ss_status check_options(const import_command *options, ss_error *error) {
  if (options->from == NULL || options->out == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--from and --out are needed");
  if (options->n_anchor != NOT_GIVEN && (options->n_anchor < 1 || options->n_anchor > 65536))
    return ss_fail(error, SS_ERROR_USAGE, "--anchors %" PRId64 ", expected 1..65536", options->n_anchor);
  if (options->n_positions < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--positions %" PRId64 ", expected 1 or more",
                   options->n_positions);
  if (!(options->deviation >= 0 && options->deviation <= 10))
    return ss_fail(error, SS_ERROR_USAGE, "--deviation %g, expected 0..10", options->deviation);
  return SS_OK;
}

ss_status ss_command_import(int argc, char **argv, ss_error *error) {
  import_command options = {.n_anchor = NOT_GIVEN, .deviation = IMPORT_DEFAULT_DEVIATION};
  bool help = false;
  const ss_option table[] = {
      {"from", SS_OPTION_STRING, &options.from, "PATH",
       "a folder with config.json and safetensors, a .gguf file, or llama2.c's .bin"},
      {"out", SS_OPTION_STRING, &options.out, "FILE", "the model file to write"},
      {"tokenizer", SS_OPTION_STRING, &options.tokenizer, "PATH",
       "the model's tokenizer: a file or a folder; default: in --from, tokenizer.bin beside a .bin"},
      {"rows", SS_OPTION_STRING, &options.rows, "FILE",
       "learnt rows of the added tokens (selfspan export rows); task, anchors, arm and policy are theirs"},
      {"task", SS_OPTION_STRING, &options.task, "NAME", "the task whose marker the vocabulary has (cnndm)"},
      {"anchors", SS_OPTION_INT, &options.n_anchor, "N", "anchors of the vocabulary, as data.n_anchor (256)"},
      {"positions", SS_OPTION_INT, &options.n_positions, "N", "longest sequence; default: the model's own"},
      {"seed", SS_OPTION_INT, &options.seed, "N", "of the noise in new rows of the embedding (0)"},
      {"deviation", SS_OPTION_REAL, &options.deviation, "X",
       "of that noise, in standard deviations of the embedding's dimensions (0.5)"},
      {"force", SS_OPTION_FLAG, &options.force, NULL, "replace an existing file"},
      {"quiet", SS_OPTION_FLAG, &options.quiet, NULL, "no progress"},
      {"json", SS_OPTION_FLAG, &options.json, NULL, "print a JSON object"},
      {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"import",
       "Turns a pre-trained GPT-2 or Llama-style model into a model file to fine-tune (train.base) or to "
       "hear\n"
       "(generate --prompt). Span tokens are added to the vocabulary: <bos> and <eos> start as the model's "
       "own,\n"
       "the others at the mean of its embeddings, with noise; or --rows has what they learnt.",
       "selfspan import --from PATH --out FILE [options]",
       table,
       NULL,
       "  selfspan import --from SmolLM2-135M-Instruct.Q4_1.gguf --out models/smollm2.h5\n"
       "  selfspan import --from gpt2/ --out models/gpt2.h5 --positions 1024\n"
       "  selfspan import --from stories260K.bin --tokenizer tok512.bin --out models/stories.h5\n"
       "  selfspan import --from SmolLM2-135M-Instruct.Q4_1.gguf --rows "
       "configs/cnndm/smollm2-summarize.safetensors "
       "--out models/smollm2-summarize.h5\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  SS_TRY(check_options(&options, error));
  import_run run = {.options = &options,
                    .task = options.task != NULL ? options.task : DEFAULT_TASK,
                    .n_anchor = options.n_anchor != NOT_GIVEN ? options.n_anchor : DEFAULT_ANCHORS,
                    .arm = ARM_DENSE,
                    .policy = span_policy_default()};
  ss_status status = run_all(&run, error);
  import_close(run.import);
  if (run.vocabulary != NULL)
    vocabulary_free(run.vocabulary);
  tokenizer_free(run.tokenizer);
  free(run.tokenizer_path);
  free(run.like);
  new_rows_free(&run.rows);
  return status;
}
