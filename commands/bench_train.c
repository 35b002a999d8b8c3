// selfspan bench train: one optimizer step (forward, backward, clipping, AdamW) of a GPT shape on random tokens or on
// packed rows of a dataset, planning included.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/bench_batch.h"
#include "common/cli.h"
#include "common/memory.h"
#include "common/table.h"
#include "model/gpt.h"
#include "train/optimizer.h"

typedef struct {
  bench_batch_options batch;
  int64_t repeats, warmup;
  gpt_config model;
} train_options;

typedef struct {
  gpt *model;
  optimizer *optimizer;
  const gpt_batch *batch;
  int64_t step;
  double first_loss, last_loss;
} train_work;

// As the trainer does it: the next batch is staged while the device works on this one.
static ss_status one_step(void *user, ss_error *error) {
  train_work *work = user;
  ss_device *device = gpt_device(work->model);
  gpt_loss loss;
  double norm;
  bool skipped;
  // Matrix products are tuned in the first step: a profiler looks at the others.
  device->ops->range_push(device, work->step == 0 ? "first step" : "step");
  if (!gpt_is_staged(work->model))
    SS_TRY(gpt_stage(work->model, work->batch, true, error));
  double scale = 1.0 / (double)gpt_staged_targets(work->model);
  SS_TRY(gpt_zero_gradients(work->model, error));
  SS_TRY(gpt_run(work->model, 1.0, error));
  SS_TRY(optimizer_enqueue(work->optimizer, 3e-4, ++work->step, scale, 1.0, error));
  SS_TRY(gpt_stage(work->model, work->batch, true, error));
  SS_TRY(gpt_collect(work->model, &loss, error));
  SS_TRY(optimizer_collect(work->optimizer, &norm, &skipped, error));
  device->ops->range_pop(device);
  if (skipped)
    return ss_fail(error, SS_ERROR_NUMERIC, "a gradient of the benchmark is not finite");
  work->last_loss = loss.loss_sum / (double)loss.n_target;
  if (work->step == 1)
    work->first_loss = work->last_loss;
  return SS_OK;
}

static json_t *make_report(ss_device *device, const train_work *work, const bench_batch *batch,
                           const bench_timing *timing, const bench_ceiling *ceiling, size_t used_bytes) {
  double tokens = (double)work->batch->n_row, attended = (double)batch->attended / tokens;
  double flops = tokens * gpt_train_flops_per_token(work->model, attended) / timing->median;
  return json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "engine",
                   "selfspan", "device", device->description, "batch", batch->description, "parameters",
                   (json_int_t)gpt_n_parameter(work->model), "tokens", (json_int_t)work->batch->n_row,
                   "attended_rows_per_token", attended, "first_loss", work->first_loss, "last_loss",
                   work->last_loss, "tokens_per_second", tokens / timing->median, "gflops_per_second",
                   flops * 1e-9, "gemm_gflops_per_second", ceiling->gemm_flops * 1e-9, "percent_of_gemm",
                   100 * flops / ceiling->gemm_flops, "used_bytes", (json_int_t)used_bytes, "timing",
                   bench_timing_json(timing));
}

static ss_status run_ours(ss_device *device, const train_options *options, const bench_batch *batch,
                          json_t **report, ss_error *error) {
  train_work work = {.batch = &batch->batch};
  bench_timing timing;
  bench_ceiling ceiling;
  size_t free_before = 0, free_after = 0, total = 0;
  SS_TRY(bench_measure_ceiling(device, &ceiling, error));
  SS_OP(device, error, memory_free, &free_before, &total);
  ss_status status = gpt_create(&work.model, device, &options->model, true, error);
  if (status == SS_OK)
    status = gpt_initialize(work.model, 1, error);
  if (status == SS_OK)
    status = optimizer_create(&work.optimizer, work.model, 0.1, 0.9, 0.95, 1e-8, error);
  if (status == SS_OK)
    status = bench_time(one_step, &work, options->warmup, options->repeats, &timing, error);
  // The check inside the benchmark: repeating one batch must lower its loss.
  if (status == SS_OK && !(work.last_loss < work.first_loss))
    status = ss_fail(error, SS_ERROR_NUMERIC, "the loss of a repeated batch did not fall: %g to %g",
                     work.first_loss, work.last_loss);
  if (status == SS_OK && device->ops->memory_free(device, &free_after, &total) != SS_OK)
    status = ss_device_error(device, error);
  if (status == SS_OK)
    *report = make_report(device, &work, batch, &timing, &ceiling,
                          free_before > free_after ? free_before - free_after : 0);
  optimizer_free(work.optimizer);
  gpt_free(work.model);
  return status;
}

static ss_status run_peer(const char *python, const train_options *options, const device_options *device,
                          json_t **report, ss_error *error) {
  char text[9][32];
  const int64_t values[9] = {options->model.n_layer,    options->model.n_embd, options->model.n_head,
                             options->model.vocab_size, options->batch.rows,   options->batch.row_tokens,
                             options->repeats,          options->warmup,       device->threads};
  char *arguments[11] = {0};
  for (int k = 0; k < 9; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)values[k]);
    arguments[k] = text[k];
  }
  arguments[9] = (char *)device->name;
  return bench_peer(python, "tests/peers/torch_train.py", arguments, report, error);
}

static ss_status print_report(const json_t *ours, const json_t *peer, const train_options *options,
                              ss_error *error) {
  static const char *const columns[] = {"engine", "tokens/s", "GFLOP/s", "s/step (median)",
                                        "p10",    "p90",      "ratio"};
  ss_table *table = NULL;
  printf("train step, %lld layers, %lld wide, %lld heads, vocabulary %lld, B=%lld T=%lld, %s, %.1f rows "
         "attended "
         "a token\n%s\n",
         (long long)options->model.n_layer, (long long)options->model.n_embd,
         (long long)options->model.n_head, (long long)options->model.vocab_size,
         (long long)options->batch.rows, (long long)options->batch.row_tokens,
         json_string_value(json_object_get(ours, "batch")),
         json_number_value(json_object_get(ours, "attended_rows_per_token")),
         json_string_value(json_object_get(ours, "device")));
  SS_TRY(ss_table_create(&table, columns, 7, error));
  double own_rate = json_real_value(json_object_get(ours, "tokens_per_second"));
  double flops = json_real_value(json_object_get(ours, "gflops_per_second"));
  const json_t *reports[2] = {ours, peer};
  for (int k = 0; k < 2 && reports[k] != NULL; ++k) {
    const json_t *timing = json_object_get(reports[k], "timing");
    double rate = json_number_value(json_object_get(reports[k], "tokens_per_second"));
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(json_object_get(reports[k], "engine")));
    ss_table_cell(table, error, "%.0f", rate);
    ss_table_cell(table, error, "%.1f", flops * rate / own_rate);
    ss_table_cell(table, error, "%.4f", json_number_value(json_object_get(timing, "median_seconds")));
    ss_table_cell(table, error, "%.4f", json_number_value(json_object_get(timing, "p10_seconds")));
    ss_table_cell(table, error, "%.4f", json_number_value(json_object_get(timing, "p90_seconds")));
    ss_table_cell(table, error, "%.2f", own_rate / rate);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  printf("%.1f%% of the measured GEMM rate (%.0f GFLOP/s); %.2f GB used\n",
         json_number_value(json_object_get(ours, "percent_of_gemm")),
         json_number_value(json_object_get(ours, "gemm_gflops_per_second")),
         1e-9 * json_number_value(json_object_get(ours, "used_bytes")));
  return error->status;
}

ss_status bench_train_command(int argc, char **argv, ss_error *error) {
  train_options options = {.batch = {.rows = 8, .row_tokens = 512, .arm = "span", .mask = "arm"},
                           .repeats = 20,
                           .warmup = 3};
  device_options on = DEVICE_DEFAULTS;
  const char *peer_python = NULL;
  bool json = false, help = false;
  ss_key_group groups[] = {{gpt_config_keys, &options.model}, {NULL, NULL}};
  ss_string_list assignments = {0};
  const ss_option table[] =
      {BENCH_BATCH_OPTIONS(options.batch),
       {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE",
        "a model.* key (below); default: 6 layers, 384 wide, 6 heads"},
       {"repeats", SS_OPTION_INT, &options.repeats, "N", "timed steps (20)"},
       {"warmup", SS_OPTION_INT, &options.warmup, "N", "untimed steps before (3)"},
       DEVICE_OPTIONS(on),
       {"peer", SS_OPTION_STRING, &peer_python, "PYTHON",
        "also run PyTorch, causal rows only, with this interpreter (it must have torch)"},
       {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the table"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"bench train",
       "Times optimizer steps of a GPT shape, planning included.",
       "selfspan bench train [options]",
       table,
       groups,
       "  selfspan bench train --device cpu --peer python3\n"
       "  selfspan bench train --set model.n_layer=12 --set model.n_embd=768 --set model.n_head=12 \\\n"
       "      --set model.vocab_size=50304 --device cuda --rows 64 --row-tokens 1024 --peer python3\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  SS_TRY(bench_batch_options_check(&options.batch, error));
  if (options.repeats < 1 || options.warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--repeats must be positive, --warmup not negative");
  options.model.n_positions = options.batch.row_tokens;
  SS_TRY(gpt_config_resolve(&options.model, error));
  options.batch.vocab_size = options.model.vocab_size;
  if (peer_python != NULL && (options.batch.segment > 0 || options.batch.data != NULL))
    return ss_fail(error, SS_ERROR_USAGE, "--peer measures causal rows; leave --segment and --data out");
  ss_device *device = NULL;
  bench_batch batch;
  json_t *ours = NULL, *peer = NULL;
  SS_TRY(bench_batch_make(&batch, &options.batch, error));
  status = device_options_open(&device, &on, error);
  if (status == SS_OK)
    status = run_ours(device, &options, &batch, &ours, error);
  ss_device_close(device);
  bench_batch_free(&batch);
  if (status == SS_OK && peer_python != NULL)
    status = run_peer(peer_python, &options, &on, &peer, error);
  if (status == SS_OK && json) {
    json_t *all = json_pack("{s:O, s:o?}", "selfspan", ours, "peer", json_incref(peer));
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(all);
  } else if (status == SS_OK) {
    status = print_report(ours, peer, &options, error);
  }
  json_decref(ours);
  json_decref(peer);
  return status;
}
