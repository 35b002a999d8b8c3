// selfspan bench train: one optimizer step (forward, backward, clipping, AdamW) of a GPT shape on random tokens.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "common/cli.h"
#include "common/memory.h"
#include "common/random.h"
#include "common/table.h"
#include "model/gpt.h"
#include "train/optimizer.h"

typedef struct {
  int64_t rows, row_tokens, repeats, warmup, segment;
  double visible;  // measured from the views
  gpt_config model;
} train_options;

typedef struct {
  gpt *model;
  optimizer *optimizer;
  gpt_batch batch;
  int32_t *tokens, *targets, *positions;
  ss_attention_view *views;
  span_range *ranges;
  int64_t step;
  double first_loss, last_loss;
} train_work;

// Dense: one causal view a row. With `segment` > 0: the mask of segments of that many tokens, each reading itself, the
// row's first segment and two random earlier ones.
static ss_status make_views(train_work *work, const train_options *options, ss_random *random,
                            int64_t *attended, ss_error *error) {
  int64_t n_row = options->rows, n_token = options->row_tokens;
  int64_t length = options->segment > 0 ? options->segment : n_token;
  int64_t n_segment = (n_token + length - 1) / length;
  SS_TRY(ss_allocate(&work->views, n_row * n_segment, sizeof *work->views, "views", error));
  SS_TRY(ss_allocate(&work->ranges, n_row * n_segment * 3, sizeof *work->ranges, "ranges", error));
  int32_t n_range = 0;
  *attended = 0;
  for (int64_t row = 0; row < n_row; ++row)
    for (int64_t s = 0; s < n_segment; ++s) {
      ss_attention_view *view = &work->views[row * n_segment + s];
      int32_t base = (int32_t)(row * n_token);
      view->q_first = view->self_first = view->self_last = base + (int32_t)(s * length);
      view->n_query = (int32_t)((s + 1) * length > n_token ? n_token - s * length : length);
      view->range_first = n_range;
      view->n_range = 0;
      int64_t read[3] = {0, 0, 0};
      if (s > 0)
        for (int k = 1; k < 3; ++k)
          read[k] = ss_random_range(random, 0, s - 1);
      if (read[1] > read[2]) {
        int64_t other = read[1];
        read[1] = read[2];
        read[2] = other;
      }
      int64_t rows = 0;
      for (int k = 0; k < 3 && s > 0; ++k)
        span_append_range(work->ranges + view->range_first, &view->n_range,
                          base + (int32_t)(read[k] * length), base + (int32_t)((read[k] + 1) * length));
      for (int k = 0; k < view->n_range; ++k) {
        const span_range *range = &work->ranges[view->range_first + k];
        rows += range->end - range->first;
      }
      n_range += view->n_range;
      *attended += rows * view->n_query + (int64_t)view->n_query * (view->n_query + 1) / 2;
    }
  work->batch.views = work->views;
  work->batch.n_view = n_row * n_segment;
  work->batch.ranges = work->ranges;
  work->batch.n_range = n_range;
  return SS_OK;
}

static ss_status make_batch(train_work *work, const train_options *options, int64_t *attended,
                            ss_error *error) {
  int64_t n = options->rows * options->row_tokens;
  ss_random random = ss_random_seed(1, 0);
  SS_TRY(ss_allocate(&work->tokens, n, sizeof(int32_t), "tokens", error));
  SS_TRY(ss_allocate(&work->targets, n, sizeof(int32_t), "targets", error));
  SS_TRY(ss_allocate(&work->positions, n, sizeof(int32_t), "positions", error));
  for (int64_t i = 0; i < n; ++i) {
    work->tokens[i] = (int32_t)ss_random_below(&random, (uint64_t)options->model.vocab_size);
    work->targets[i] = (int32_t)ss_random_below(&random, (uint64_t)options->model.vocab_size);
    work->positions[i] = (int32_t)(i % options->row_tokens);
  }
  work->batch.n_row = n;
  work->batch.tokens = work->tokens;
  work->batch.targets = work->targets;
  work->batch.positions = work->positions;
  return make_views(work, options, &random, attended, error);
}

static ss_status one_step(void *user, ss_error *error) {
  train_work *work = user;
  gpt_loss loss;
  double norm;
  bool skipped;
  SS_TRY(gpt_zero_gradients(work->model, error));
  SS_TRY(gpt_train_step(work->model, &work->batch, true, 1.0, &loss, error));
  SS_TRY(optimizer_step(work->optimizer, 3e-4, ++work->step, 1.0 / (double)loss.n_target, 1.0, &norm,
                        &skipped, error));
  if (skipped)
    return ss_fail(error, SS_ERROR_NUMERIC, "a gradient of the benchmark is not finite");
  work->last_loss = loss.loss_sum / (double)loss.n_target;
  if (work->step == 1)
    work->first_loss = work->last_loss;
  return SS_OK;
}

static ss_status run_ours(ss_device *device, const train_options *options, json_t **report, ss_error *error) {
  train_work work = {0};
  int64_t attended = 0;
  bench_timing timing;
  ss_status status = gpt_create(&work.model, device, &options->model, true, error);
  if (status == SS_OK)
    status = gpt_initialize(work.model, 1, error);
  if (status == SS_OK)
    status = optimizer_create(&work.optimizer, work.model, 0.1, 0.9, 0.95, 1e-8, error);
  if (status == SS_OK)
    status = make_batch(&work, options, &attended, error);
  if (status == SS_OK)
    status = bench_time(one_step, &work, options->warmup, options->repeats, &timing, error);
  // The check inside the benchmark: repeating one batch must lower its loss.
  if (status == SS_OK && !(work.last_loss < work.first_loss))
    status = ss_fail(error, SS_ERROR_NUMERIC, "the loss of a repeated batch did not fall: %g to %g",
                     work.first_loss, work.last_loss);
  if (status == SS_OK) {
    double tokens = (double)work.batch.n_row;
    double flops = tokens * gpt_train_flops_per_token(work.model, (double)attended / tokens);
    *report = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "engine", "selfspan", "device",
                        device->description, "parameters", (json_int_t)gpt_n_parameter(work.model),
                        "attended_rows_per_token", (double)attended / tokens, "first_loss", work.first_loss,
                        "last_loss", work.last_loss, "tokens_per_second", tokens / timing.median,
                        "gflops_per_second", flops / timing.median * 1e-9, "timing",
                        bench_timing_json(&timing));
  }
  optimizer_free(work.optimizer);
  gpt_free(work.model);
  free(work.tokens);
  free(work.targets);
  free(work.positions);
  free(work.views);
  free(work.ranges);
  return status;
}

static ss_status run_peer(const char *python, const train_options *options, int64_t threads, json_t **report,
                          ss_error *error) {
  char text[9][32];
  const int64_t values[9] = {options->model.n_layer,    options->model.n_embd, options->model.n_head,
                             options->model.vocab_size, options->rows,         options->row_tokens,
                             options->repeats,          options->warmup,       threads};
  char *arguments[10] = {0};
  for (int k = 0; k < 9; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)values[k]);
    arguments[k] = text[k];
  }
  return bench_peer(python, "tests/peers/torch_train.py", arguments, report, error);
}

static ss_status print_report(const json_t *ours, const json_t *peer, const train_options *options,
                              ss_error *error) {
  static const char *const columns[] = {"engine", "tokens/s", "GFLOP/s", "s/step (median)",
                                        "p10",    "p90",      "ratio"};
  ss_table *table = NULL;
  printf("train step, %lld layers, %lld wide, %lld heads, vocabulary %lld, B=%lld T=%lld\n%s\n",
         (long long)options->model.n_layer, (long long)options->model.n_embd,
         (long long)options->model.n_head, (long long)options->model.vocab_size, (long long)options->rows,
         (long long)options->row_tokens, json_string_value(json_object_get(ours, "device")));
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
  return error->status;
}

ss_status bench_train_command(int argc, char **argv, ss_error *error) {
  train_options options = {.rows = 8, .row_tokens = 512, .repeats = 20, .warmup = 3};
  const char *device_name = "cpu", *peer_python = NULL;
  int64_t threads = 0;
  bool json = false, help = false;
  ss_key_group groups[] = {{gpt_config_keys, &options.model}, {NULL, NULL}};
  ss_string_list assignments = {0};
  const ss_option table[] =
      {{"rows", SS_OPTION_INT, &options.rows, "B", "rows a step (8)"},
       {"row-tokens", SS_OPTION_INT, &options.row_tokens, "T", "tokens a row (512)"},
       {"segment", SS_OPTION_INT, &options.segment, "N",
        "span mask of N-token segments; 0 (default): dense causal"},
       {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE",
        "a model.* key (below); default: 6 layers, 384 wide, 6 heads"},
       {"repeats", SS_OPTION_INT, &options.repeats, "N", "timed steps (20)"},
       {"warmup", SS_OPTION_INT, &options.warmup, "N", "untimed steps before (3)"},
       {"device", SS_OPTION_STRING, &device_name, "NAME", "cpu or cuda (cpu)"},
       {"threads", SS_OPTION_INT, &threads, "N", "CPU threads; 0: all"},
       {"peer", SS_OPTION_STRING, &peer_python, "PYTHON",
        "also run PyTorch eager, dense only, with this interpreter (it must have torch)"},
       {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the table"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"bench train",
       "Times optimizer steps of a GPT shape.",
       "selfspan bench train [options]",
       table,
       groups,
       "  selfspan bench train --device cpu --peer python3\n"
       "  selfspan bench train --set model.n_layer=12 --set model.n_embd=768 --set model.n_head=12 \\\n"
       "      --set model.vocab_size=50257 --rows 4 --row-tokens 64\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  if (options.rows < 1 || options.row_tokens < 1 || options.repeats < 1 || options.warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--rows, --row-tokens and --repeats must be positive");
  options.model.n_positions = options.row_tokens;
  SS_TRY(gpt_config_resolve(&options.model, error));
  if (peer_python != NULL && options.segment > 0)
    return ss_fail(error, SS_ERROR_USAGE, "--peer measures the dense mask; leave --segment out");
  ss_device *device = NULL;
  json_t *ours = NULL, *peer = NULL;
  SS_TRY(ss_device_open(&device, device_name, &(ss_device_options){.n_thread = (int)threads}, error));
  status = run_ours(device, &options, &ours, error);
  ss_device_close(device);
  if (status == SS_OK && peer_python != NULL)
    status = run_peer(peer_python, &options, threads, &peer, error);
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
