// selfspan bench decode: decoding steps over a long context, dense and at a visible fraction, on random weights.
// Planning, attention, the rest of the model and greedy sampling are all inside the measured step.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/device_options.h"
#include "common/cli.h"
#include "common/memory.h"
#include "common/random.h"
#include "common/table.h"
#include "infer/sampler.h"
#include "model/gpt.h"

typedef struct {
  int64_t batch, context, run_length, steps, warmup;
  double visible;
  gpt_config model;
} decode_bench_options;

typedef struct {
  const decode_bench_options *options;
  gpt *model;
  gpt_cache *cache;
  sampler *sampler;
  int32_t *tokens, *positions, *cache_rows, *logit_rows;
  ss_attention_view *views;
  span_range *ranges;
  int64_t slot_rows, n_range;
  int64_t step;
  int64_t visible_rows;  // context rows of the first sequence's ranges
  float *logits;
} decode_work;

static ss_status allocate_work(decode_work *work, ss_error *error) {
  const decode_bench_options *o = work->options;
  int64_t runs = o->context / o->run_length + 2;
  SS_TRY(ss_allocate(&work->tokens, o->batch, sizeof(int32_t), "tokens", error));
  SS_TRY(ss_allocate(&work->positions, o->batch, sizeof(int32_t), "positions", error));
  SS_TRY(ss_allocate(&work->cache_rows, o->batch, sizeof(int32_t), "cache rows", error));
  SS_TRY(ss_allocate(&work->logit_rows, o->batch, sizeof(int32_t), "logit rows", error));
  SS_TRY(ss_allocate(&work->views, o->batch, sizeof *work->views, "views", error));
  SS_TRY(ss_allocate(&work->ranges, o->batch * runs, sizeof *work->ranges, "ranges", error));
  SS_TRY(ss_allocate(&work->logits, o->batch * o->model.vocab_size, sizeof(float), "logits", error));
  SS_TRY(sampler_create(&work->sampler, (int32_t)o->model.vocab_size, 0, 0, 1, error));
  return gpt_cache_create(&work->cache, work->model, o->batch, work->slot_rows, error);
}

static void free_work(decode_work *work) {
  gpt_cache_free(work->cache);
  sampler_free(work->sampler);
  free(work->tokens);
  free(work->positions);
  free(work->cache_rows);
  free(work->logit_rows);
  free(work->views);
  free(work->ranges);
  free(work->logits);
}

// Scattered runs that add up to `visible` of the context: gaps are drawn at random, so runs lie unaligned. A fraction
// of 1 is the dense arm: no ranges, everything from the slot's first row.
static void make_ranges(decode_work *work, double visible) {
  const decode_bench_options *o = work->options;
  ss_random random = ss_random_seed(2, 0);
  work->n_range = 0;
  for (int64_t b = 0; b < o->batch; ++b) {
    ss_attention_view *view = &work->views[b];
    int32_t base = (int32_t)(b * work->slot_rows);
    view->q_first = (int32_t)b;
    view->n_query = 1;
    view->self_first = base + (visible < 1 ? (int32_t)o->context : 0);
    view->range_first = (int32_t)work->n_range;
    view->n_range = 0;
    if (visible >= 1)
      continue;
    int64_t wanted = (int64_t)llround(visible * (double)o->context);
    int64_t n_run = (wanted + o->run_length - 1) / o->run_length;
    int64_t free_rows = o->context - wanted, row = 0, left = wanted;
    for (int64_t k = 0; k < n_run; ++k) {
      int64_t most = 2 * free_rows / (n_run - k + 1);
      int64_t gap = ss_random_range(&random, most > 0 ? 1 : 0, most > 1 ? most : (most > 0 ? 1 : 0));
      int64_t length = left < o->run_length ? left : o->run_length;
      row += gap;
      free_rows -= gap;
      span_append_range(work->ranges + view->range_first, &view->n_range, base + (int32_t)row,
                        base + (int32_t)(row + length));
      row += length;
      left -= length;
    }
    work->n_range += view->n_range;
  }
  work->visible_rows = 0;
  for (int32_t k = 0; k < work->views[0].n_range; ++k)
    work->visible_rows += work->ranges[k].end - work->ranges[k].first;
  if (visible >= 1)
    work->visible_rows = o->context;
}

// One token for every sequence, at row context + step.
static ss_status one_step(void *user, ss_error *error) {
  decode_work *work = user;
  const decode_bench_options *o = work->options;
  int32_t row = (int32_t)(o->context + work->step++);
  for (int64_t b = 0; b < o->batch; ++b) {
    work->positions[b] = row;
    work->cache_rows[b] = work->views[b].self_last = (int32_t)(b * work->slot_rows) + row;
    work->logit_rows[b] = (int32_t)b;
  }
  gpt_inference_batch batch = {o->batch, work->tokens, work->positions, work->cache_rows, work->views,
                               o->batch, work->ranges, work->n_range,   work->logit_rows, o->batch};
  SS_TRY(gpt_infer(work->model, work->cache, &batch, work->logits, error));
  for (int64_t b = 0; b < o->batch; ++b)
    work->tokens[b] = sampler_choose(work->sampler, work->logits + b * o->model.vocab_size, NULL, NULL, NULL);
  return SS_OK;
}

// The check inside the benchmark: rows that are not selected hold NaN, and the logits must be finite and the same.
static ss_status check_selection(decode_work *work, ss_error *error) {
  const decode_bench_options *o = work->options;
  int64_t n = o->batch * o->model.vocab_size;
  float *clean = NULL;
  SS_TRY(ss_allocate(&clean, n, sizeof *clean, "logits", error));
  work->step = 0;
  memset(work->tokens, 0, (size_t)o->batch * sizeof *work->tokens);
  ss_status status = one_step(work, error);
  memcpy(clean, work->logits, (size_t)n * sizeof *clean);
  for (int64_t b = 0; b < o->batch && status == SS_OK; ++b) {
    int32_t base = (int32_t)(b * work->slot_rows), row = base;
    const ss_attention_view *view = &work->views[b];
    for (int32_t k = 0; k <= view->n_range && status == SS_OK; ++k) {
      int32_t end = k < view->n_range ? work->ranges[view->range_first + k].first : view->self_first;
      if (end > row)
        status = gpt_cache_fill(work->cache, row, end - row, NAN, error);
      if (k < view->n_range)
        row = work->ranges[view->range_first + k].end;
    }
  }
  work->step = 0;
  memset(work->tokens, 0, (size_t)o->batch * sizeof *work->tokens);
  if (status == SS_OK)
    status = one_step(work, error);
  for (int64_t i = 0; i < n && status == SS_OK; ++i)
    if (!(work->logits[i] == clean[i]))
      status = ss_fail(error, SS_ERROR_INTERNAL, "decoding read a row that was not selected");
  free(clean);
  return status;
}

static ss_status measure(decode_work *work, double visible, json_t **report, ss_error *error) {
  const decode_bench_options *o = work->options;
  make_ranges(work, visible);
  SS_TRY(gpt_cache_fill(work->cache, 0, o->batch * work->slot_rows, 0.03f, error));
  if (visible < 1) {
    SS_TRY(check_selection(work, error));
    SS_TRY(gpt_cache_fill(work->cache, 0, o->batch * work->slot_rows, 0.03f, error));
  }
  bench_timing timing;
  work->step = 0;
  memset(work->tokens, 0, (size_t)o->batch * sizeof *work->tokens);
  SS_TRY(bench_time(one_step, work, o->warmup, o->steps, &timing, error));
  double bytes = (double)gpt_cache_bytes_per_row(work->cache) * (double)o->batch *
                 ((double)work->visible_rows + (double)o->warmup + 0.5 * (double)o->steps);
  *report = json_pack("{s:s, s:f, s:I, s:f, s:f, s:o}", "engine",
                      visible < 1 ? "selfspan span" : "selfspan dense", "visible", visible, "visible_rows",
                      (json_int_t)work->visible_rows, "tokens_per_second", (double)o->batch / timing.median,
                      "kv_gigabytes_per_second", bytes / timing.median * 1e-9, "timing",
                      bench_timing_json(&timing));
  return SS_OK;
}

static ss_status run_peer(const char *python, const decode_bench_options *o, int64_t threads, json_t **report,
                          ss_error *error) {
  const int64_t values[9] = {
      o->model.n_layer, o->model.n_embd, o->model.n_head, o->model.vocab_size, o->model.n_positions, o->batch,
      o->context,       o->steps,        threads};
  char text[9][32];
  char *arguments[10] = {0};
  for (int k = 0; k < 9; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)values[k]);
    arguments[k] = text[k];
  }
  return bench_peer(python, "tests/peers/hf_generate.py", arguments, report, error);
}

static ss_status print_report(const json_t *reports, ss_error *error) {
  static const char *const columns[] = {"engine", "visible rows", "tokens/s", "ms/step (median)",
                                        "p10",    "p90",          "KV GB/s",  "x dense"};
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, 8, error));
  double dense = json_number_value(json_object_get(json_array_get(reports, 0), "tokens_per_second"));
  size_t index;
  json_t *report;
  json_array_foreach((json_t *)reports, index, report) {
    const json_t *timing = json_object_get(report, "timing");
    const json_t *rows = json_object_get(report, "visible_rows");
    const json_t *bandwidth = json_object_get(report, "kv_gigabytes_per_second");
    double rate = json_number_value(json_object_get(report, "tokens_per_second"));
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(json_object_get(report, "engine")));
    if (rows != NULL)
      ss_table_cell(table, error, "%lld", (long long)json_integer_value(rows));
    else
      ss_table_cell(table, error, "all");
    ss_table_cell(table, error, "%.1f", rate);
    ss_table_cell(table, error, "%.2f", 1e3 * json_number_value(json_object_get(timing, "median_seconds")));
    ss_table_cell(table, error, "%.2f", 1e3 * json_number_value(json_object_get(timing, "p10_seconds")));
    ss_table_cell(table, error, "%.2f", 1e3 * json_number_value(json_object_get(timing, "p90_seconds")));
    if (bandwidth != NULL)
      ss_table_cell(table, error, "%.1f", json_number_value(bandwidth));
    else
      ss_table_cell(table, error, "-");
    ss_table_cell(table, error, "%.2f", rate / dense);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

static ss_status run_all(const decode_bench_options *options, ss_device *device, const char *peer_python,
                         int64_t threads, json_t *reports, ss_error *error) {
  decode_work work = {.options = options};
  work.slot_rows = options->context + options->warmup + options->steps + 1;
  json_t *report = NULL;
  ss_status status = gpt_create(&work.model, device, &options->model, false, error);
  if (status == SS_OK)
    status = gpt_initialize(work.model, 1, error);
  if (status == SS_OK)
    status = allocate_work(&work, error);
  const double fractions[2] = {1, options->visible};
  for (int k = 0; k < 2 && status == SS_OK; ++k) {
    status = measure(&work, fractions[k], &report, error);
    if (status == SS_OK)
      json_array_append_new(reports, report);
  }
  free_work(&work);
  gpt_free(work.model);
  if (status == SS_OK && peer_python != NULL) {
    status = run_peer(peer_python, options, threads, &report, error);
    if (status == SS_OK)
      json_array_append_new(reports, report);
  }
  return status;
}

ss_status bench_decode_command(int argc, char **argv, ss_error *error) {
  decode_bench_options options =
      {.batch = 8, .context = 2048, .run_length = 16, .steps = 64, .warmup = 8, .visible = 0.1};
  device_options on = DEVICE_DEFAULTS;
  const char *peer_python = NULL;
  bool json = false, help = false;
  ss_key_group groups[] = {{gpt_config_keys, &options.model}, {NULL, NULL}};
  ss_string_list assignments = {0};
  const ss_option table[] =
      {{"batch", SS_OPTION_INT, &options.batch, "N", "sequences (8)"},
       {"context", SS_OPTION_INT, &options.context, "ROWS", "rows already in every cache slab (2048)"},
       {"visible", SS_OPTION_REAL, &options.visible, "F",
        "fraction of the context that the span arm reads (0.1)"},
       {"run-length", SS_OPTION_INT, &options.run_length, "ROWS", "rows of a contiguous visible run (16)"},
       {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE",
        "a model.* key (below); default: 6 layers, 384 wide, 6 heads"},
       {"steps", SS_OPTION_INT, &options.steps, "N", "timed steps (64)"},
       {"warmup", SS_OPTION_INT, &options.warmup, "N", "untimed steps before (8)"},
       DEVICE_OPTIONS(on),
       {"peer", SS_OPTION_STRING, &peer_python, "PYTHON",
        "also run Hugging Face generate with this interpreter (it must have torch and transformers)"},
       {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the table"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"bench decode",
                                "Times decoding steps over a long context.",
                                "selfspan bench decode [options]",
                                table,
                                groups,
                                "  selfspan bench decode --device cpu\n"
                                "  selfspan bench decode --visible 0.25 --run-length 64 --peer python3\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  if (options.batch < 1 || options.context < 1 || options.run_length < 1 || options.steps < 1 ||
      options.warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--batch, --context, --run-length and --steps must be positive");
  if (!(options.visible > 0 && options.visible < 1))
    return ss_fail(error, SS_ERROR_USAGE, "--visible must lie between 0 and 1, both excluded");
  if (options.context + options.warmup + options.steps >= options.model.n_positions)
    return ss_fail(error, SS_ERROR_LIMIT, "context %lld + %lld steps do not fit model.n_positions %lld",
                   (long long)options.context, (long long)(options.warmup + options.steps),
                   (long long)options.model.n_positions);
  SS_TRY(gpt_config_resolve(&options.model, error));
  ss_device *device = NULL;
  SS_TRY(device_options_open(&device, &on, error));
  json_t *reports = json_array();
  status = run_all(&options, device, peer_python, on.threads, reports, error);
  if (status == SS_OK && json) {
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:O}", "device", device->description, "batch",
                            (json_int_t)options.batch, "context", (json_int_t)options.context, "run_length",
                            (json_int_t)options.run_length, "results", reports);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(all);
  } else if (status == SS_OK) {
    printf(
        "decode step, %lld layers, %lld wide, %lld heads, batch %lld, context %lld rows, runs of %lld\n%s\n",
        (long long)options.model.n_layer, (long long)options.model.n_embd, (long long)options.model.n_head,
        (long long)options.batch, (long long)options.context, (long long)options.run_length,
        device->description);
    status = print_report(reports, error);
  }
  ss_device_close(device);
  json_decref(reports);
  return status;
}
