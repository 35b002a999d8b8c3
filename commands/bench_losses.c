// selfspan bench losses: the losses of a run from random weights, beside PyTorch's in fp32 and in bf16 from the same
// weights on the same tokens: does reduced precision cost us more than it costs PyTorch?
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/bench_batch.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/table.h"
#include "train/optimizer.h"

typedef struct {
  int64_t rows, row_tokens, steps;
  const char *out;
  gpt_config model;
} losses_options;

#define LEARNING_RATE 6e-4
#define WARMUP 10

static ss_status write_numbers(const char *folder, const char *name, const void *data, size_t bytes,
                               ss_error *error) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return ss_write_file(path, data, bytes, error);
}

// What the peer needs: the shape, the parameter table in order, every number of the start.
static ss_status write_start(const losses_options *options, gpt *model, ss_error *error) {
  ss_device *device = gpt_device(model);
  int64_t count = gpt_n_parameter(model);
  float *host = NULL;
  SS_TRY(ss_allocate(&host, count, sizeof *host, "parameters", error));
  ss_status status = device->ops->download(device, host, gpt_parameters(model),
                                           (size_t)count * sizeof *host) == SS_OK
                         ? SS_OK
                         : ss_device_error(device, error);
  if (status == SS_OK)
    status = write_numbers(options->out, "parameters.f32", host, (size_t)count * sizeof *host, error);
  free(host);
  SS_TRY(status);
  json_t *table = json_array();
  for (int32_t k = 0; k < gpt_n_parameter_tensor(model); ++k) {
    const gpt_parameter *parameter = &gpt_parameter_table(model)[k];
    json_array_append_new(table, json_pack("{s:s, s:I, s:I, s:b}", "name", parameter->name, "rows",
                                           (json_int_t)parameter->rows, "cols", (json_int_t)parameter->cols,
                                           "decay", parameter->decay));
  }
  const gpt_config *config = gpt_get_config(model);
  json_t *shape = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:o}", "n_layer",
                            (json_int_t)config->n_layer, "n_embd", (json_int_t)config->n_embd, "n_head",
                            (json_int_t)config->n_head, "vocab_size", (json_int_t)config->vocab_size, "rows",
                            (json_int_t)options->rows, "row_tokens", (json_int_t)options->row_tokens, "steps",
                            (json_int_t)options->steps, "learning_rate", LEARNING_RATE, "norm_epsilon",
                            config->norm_epsilon, "warmup", (json_int_t)WARMUP, "parameters", table);
  char *text = shape == NULL ? NULL : json_dumps(shape, JSON_INDENT(1));
  json_decref(shape);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the shape");
  status = write_numbers(options->out, "shape.json", text, strlen(text), error);
  free(text);
  return status;
}

static ss_status make_tokens(const losses_options *options, int32_t **out, ss_error *error) {
  int64_t n = options->steps * options->rows, length = options->row_tokens + 1;
  SS_TRY(ss_allocate(out, n * length, sizeof **out, "tokens", error));
  for (int64_t row = 0; row < n; ++row)
    bench_tokens(*out + row * length, length, options->model.vocab_size, 5, (uint64_t)row);
  return write_numbers(options->out, "tokens.i32", *out, (size_t)(n * length) * sizeof **out, error);
}

static ss_status train(const losses_options *options, gpt *model, const int32_t *tokens, double *losses,
                       ss_error *error) {
  bench_batch batch = {0};
  bench_batch_options shape = {.rows = options->rows,
                               .row_tokens = options->row_tokens,
                               .mask = "arm",
                               .vocab_size = options->model.vocab_size};
  optimizer *adamw = NULL;
  int64_t T = options->row_tokens;
  SS_TRY(bench_batch_make(&batch, &shape, error));
  ss_status status = optimizer_create(&adamw, model, 0.1, 0.9, 0.95, 1e-8, error);
  for (int64_t step = 0; step < options->steps && status == SS_OK; ++step) {
    for (int64_t i = 0; i < options->rows * T; ++i) {
      const int32_t *row = tokens + (step * options->rows + i / T) * (T + 1);
      batch.tokens[i] = row[i % T];
      batch.targets[i] = row[i % T + 1];
    }
    gpt_loss loss;
    double norm, rate = schedule_rate(SCHEDULE_CONSTANT, LEARNING_RATE, 1, WARMUP, options->steps, step);
    bool skipped = false;
    status = gpt_zero_gradients(model, error);
    if (status == SS_OK)
      status = gpt_train_step(model, &batch.batch, true, 1.0, &loss, error);
    if (status == SS_OK)
      status = optimizer_step(adamw, rate, step + 1, 1.0 / (double)loss.n_target, 1.0, &norm, &skipped,
                              error);
    if (status == SS_OK && skipped)
      status = ss_fail(error, SS_ERROR_NUMERIC, "step %lld: the gradient is not finite", (long long)step + 1);
    if (status == SS_OK)
      losses[step] = loss.loss_sum / (double)loss.n_target;
  }
  optimizer_free(adamw);
  bench_batch_free(&batch);
  return status;
}

static ss_status run_ours(ss_device *device, const losses_options *options, double *losses, ss_error *error) {
  gpt *model = NULL;
  int32_t *tokens = NULL;
  ss_status status = gpt_create(&model, device, &options->model, true, error);
  if (status == SS_OK)
    status = gpt_initialize(model, 1, error);
  if (status == SS_OK)
    status = write_start(options, model, error);
  if (status == SS_OK)
    status = make_tokens(options, &tokens, error);
  if (status == SS_OK)
    status = train(options, model, tokens, losses, error);
  free(tokens);
  gpt_free(model);
  return status;
}

// Largest and mean absolute difference of two series.
static void compare(const double *a, const json_t *b, int64_t n, double *largest, double *mean) {
  *largest = *mean = 0;
  for (int64_t i = 0; i < n; ++i) {
    double difference = fabs(a[i] - json_number_value(json_array_get(b, (size_t)i)));
    *largest = !(difference <= *largest) ? difference : *largest;
    *mean += difference / (double)n;
  }
}

static ss_status report(const losses_options *options, const double *losses, const json_t *peer,
                        const char *description, bool as_json, ss_error *error) {
  static const char *const columns[] = {"run", "first", "last", "largest difference", "mean difference"};
  const json_t *fp32 = json_object_get(peer, "fp32"), *bf16 = json_object_get(peer, "bf16");
  int64_t n = options->steps;
  double ours[2], theirs[2], *peer_losses = NULL;
  SS_TRY(ss_allocate(&peer_losses, n, sizeof *peer_losses, "losses", error));
  for (int64_t i = 0; i < n; ++i)
    peer_losses[i] = json_number_value(json_array_get(bf16, (size_t)i));
  compare(losses, fp32, n, &ours[0], &ours[1]);
  compare(peer_losses, fp32, n, &theirs[0], &theirs[1]);
  if (as_json) {
    json_t *all = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "device", description, "largest", ours[0],
                            "mean", ours[1], "peer_largest", theirs[0], "peer_mean", theirs[1], "ratio",
                            ours[0] / theirs[0]);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(all);
  } else {
    ss_table *table = NULL;
    SS_TRY(ss_table_create(&table, columns, 5, error));
    printf("losses of %lld steps, B=%lld T=%lld, against PyTorch in fp32\n%s\n", (long long)n,
           (long long)options->rows, (long long)options->row_tokens, description);
    const double *series[2] = {losses, peer_losses}, *differences[2] = {ours, theirs};
    for (int k = 0; k < 2; ++k) {
      ss_table_row(table, error);
      ss_table_cell(table, error, "%s", k == 0 ? "selfspan" : "PyTorch bf16 autocast");
      ss_table_cell(table, error, "%.5f", series[k][0]);
      ss_table_cell(table, error, "%.5f", series[k][n - 1]);
      ss_table_cell(table, error, "%.5f", differences[k][0]);
      ss_table_cell(table, error, "%.5f", differences[k][1]);
    }
    ss_table_print(table, stdout);
    ss_table_free(table);
    printf("ratio of the largest differences: %.2f (expected at most 2)\n", ours[0] / theirs[0]);
  }
  free(peer_losses);
  if (!(ours[0] <= 2 * theirs[0]))
    return ss_fail(error, SS_ERROR_NUMERIC, "losses differ from PyTorch fp32 by up to %g, PyTorch bf16 by %g",
                   ours[0], theirs[0]);
  return error->status;
}

ss_status bench_losses_command(int argc, char **argv, ss_error *error) {
  losses_options options = {.rows = 8, .row_tokens = 1024, .steps = 100, .out = NULL};
  device_options on = DEVICE_DEFAULTS;
  const char *peer_python = NULL;
  bool json = false, help = false;
  ss_key_group groups[] = {{gpt_config_keys, &options.model}, {NULL, NULL}};
  ss_string_list assignments = {0};
  const ss_option table[] = {{"rows", SS_OPTION_INT, &options.rows, "B", "rows a step (8)"},
                             {"row-tokens", SS_OPTION_INT, &options.row_tokens, "T", "tokens a row (1024)"},
                             {"steps", SS_OPTION_INT, &options.steps, "N", "optimizer steps (100)"},
                             {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE", "a model.* key (below)"},
                             {"out", SS_OPTION_STRING, &options.out, "DIR",
                              "folder for the start, the tokens and both series"},
                             DEVICE_OPTIONS(on),
                             {"peer", SS_OPTION_STRING, &peer_python, "PYTHON", "interpreter with torch"},
                             {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the table"},
                             {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"bench losses",
       "Compares training losses with PyTorch's in fp32 and bf16 on the same start and data.",
       "selfspan bench losses --out DIR --peer PYTHON [options]",
       table,
       groups,
       "  selfspan bench losses --device cuda --out runs/losses --peer python3\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  if (options.out == NULL || peer_python == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "expected --out DIR and --peer PYTHON");
  if (options.rows < 1 || options.row_tokens < 1 || options.steps < 1)
    return ss_fail(error, SS_ERROR_USAGE, "--rows, --row-tokens and --steps must be positive");
  options.model.n_positions = options.row_tokens;
  SS_TRY(gpt_config_resolve(&options.model, error));
  SS_TRY(ss_make_directories(options.out, error));
  double *losses = NULL;
  ss_device *device = NULL;
  json_t *peer = NULL;
  char description[sizeof device->description] = "";
  SS_TRY(ss_allocate(&losses, options.steps, sizeof *losses, "losses", error));
  status = device_options_open(&device, &on, error);
  if (status == SS_OK) {
    status = run_ours(device, &options, losses, error);
    snprintf(description, sizeof description, "%s", device->description);
  }
  ss_device_close(device);
  char *arguments[] = {(char *)options.out, (char *)on.name, NULL};
  if (status == SS_OK)
    status = bench_peer(peer_python, "tests/peers/torch_losses.py", arguments, &peer, error);
  if (status == SS_OK)
    status = report(&options, losses, peer, description, json, error);
  json_decref(peer);
  free(losses);
  return status;
}
