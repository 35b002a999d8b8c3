// selfspan bench decode: decoding steps over a long context, dense and at a visible fraction, on random weights.
// Planning, attention, the rest of the model and greedy sampling are all inside the measured step. Beside each step
// stand its floor (bytes over the measured copy rate, or FLOPs over the measured rate of products) and its parts.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/bench_decode.h"
#include "commands/device_options.h"
#include "common/cli.h"
#include "common/table.h"
#include "model/gpt.h"

// What every arm's step has in common.
typedef struct {
  double weight_bytes, weight_flops;  // read once; of all sequences' products
  double logit_bytes;                 // written
  double kv_row_bytes;                // K and V of a row, all layers
  double attention_flops;             // of a key row, all layers
} step_costs;

// Matrix products read every parameter but the table of positions once; the tied embedding is the classifier's matrix.
static step_costs count_costs(const decode_work *work) {
  const gpt_config *config = &work->options->model;
  const gpt_parameter *table = gpt_parameter_table(work->model);
  double batch = (double)work->options->batch;
  step_costs costs = {.logit_bytes = batch * (double)config->vocab_size * sizeof(float),
                      .kv_row_bytes = (double)gpt_cache_bytes_per_row(work->cache),
                      .attention_flops = 4.0 * (double)config->n_layer * (double)config->n_embd};
  for (int32_t k = 0; k < gpt_n_parameter_tensor(work->model); ++k) {
    double count = (double)table[k].rows * (double)table[k].cols;
    if (strcmp(table[k].name, "wpe") == 0)
      continue;
    costs.weight_bytes += count * (double)ss_dtype_size(work->device->compute);
    costs.weight_flops += table[k].rows > 1 ? 2 * batch * count : 0;
  }
  return costs;
}

// The host's share: where the device runs beside it, what a step takes longer than the device's part; on the CPU, which
// does both, planning and sampling.
static json_t *step_json(const decode_work *work, const decode_timings *timings, const step_costs *costs,
                         const bench_ceiling *rates) {
  double rows = decode_mean_rows(work), kv_bytes = rows * costs->kv_row_bytes;
  double bytes = costs->weight_bytes + kv_bytes + costs->logit_bytes;
  double flops = costs->weight_flops + rows * costs->attention_flops;
  double by_bytes = bytes / rates->copy_bytes, by_flops = flops / rates->gemm_flops;
  double floor_seconds = by_bytes > by_flops ? by_bytes : by_flops, step = timings->step.median;
  bool synchronous = work->device->synchronous;
  double host = synchronous ? timings->plan.median + timings->sample.median : step - timings->device.median;
  return json_pack("{s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:s}, s:f, s:f, s:o, s:o?, s:o?, s:o?, s:o, s:o}",
                   "rows_per_token", rows / (double)work->options->batch, "tokens_per_second",
                   (double)work->options->batch / step, "kv_bytes_per_step", kv_bytes,
                   "kv_gigabytes_per_second", kv_bytes / step * 1e-9, "floor", "bytes", bytes, "flops", flops,
                   "seconds", floor_seconds, "bound", by_bytes > by_flops ? "copy rate" : "product rate",
                   "percent_of_ceiling", 100 * floor_seconds / step, "host_share", host / step, "timing",
                   bench_timing_json(&timings->step), "device_timing",
                   synchronous ? NULL : bench_timing_json(&timings->device), "enqueue",
                   synchronous ? NULL : bench_timing_json(&timings->enqueue), "download",
                   synchronous ? NULL : bench_timing_json(&timings->download), "plan",
                   bench_timing_json(&timings->plan), "sample", bench_timing_json(&timings->sample));
}

static ss_status measure(decode_work *work, decode_arm arm, const bench_ceiling *rates, json_t **report,
                         ss_error *error) {
  static const char *const engines[] = {"selfspan dense", "selfspan mixed", "selfspan span"};
  const decode_bench_options *o = work->options;
  decode_timings timings = {0};
  decode_make_views(work, arm);
  SS_TRY(decode_time_steps(work, &timings, error));
  SS_TRY(decode_time_parts(work, &timings, error));
  SS_TRY(decode_check(work, error));
  step_costs costs = count_costs(work);
  double layer_bytes = timings.attention_rows * costs.kv_row_bytes / (double)o->model.n_layer;
  double rate = layer_bytes / timings.attention.median;
  *report = json_pack("{s:s, s:f, s:I}", "engine", engines[arm], "visible",
                      (double)work->listed_rows / (double)(o->batch * o->context), "visible_rows",
                      (json_int_t)(arm == DECODE_ARM_SPAN ? o->visible_rows : work->listed_rows / o->batch));
  json_t *step = step_json(work, &timings, &costs, rates);
  json_object_update(*report, step);
  json_decref(step);
  json_object_set_new(*report, "attention",
                      json_pack("{s:o, s:f, s:f, s:f}", "timing", bench_timing_json(&timings.attention),
                                "kv_bytes", layer_bytes, "kv_gigabytes_per_second", rate * 1e-9,
                                "percent_of_copy", 100 * rate / rates->copy_bytes));
  return SS_OK;
}

// CPU: Hugging Face generate. CUDA: PyTorch, compiled, over as many rows as the dense arm's steps read on average.
static ss_status run_peer(const char *python, const decode_bench_options *o, const device_options *on,
                          json_t **report, ss_error *error) {
  bool cpu = strcmp(on->name, "cpu") == 0;
  const gpt_config *m = &o->model;
  const int64_t rows = o->context + o->warmup + (o->steps + 1) / 2;
  const int64_t generate[9] = {m->n_layer, m->n_embd,  m->n_head, m->vocab_size, m->n_positions,
                               o->batch,   o->context, o->steps,  on->threads};
  const int64_t compiled[9] = {m->n_layer, m->n_embd, m->n_head, m->vocab_size, o->batch,
                               rows,       o->steps,  o->warmup, on->threads};
  char text[9][32];
  char *arguments[11] = {0};
  for (int k = 0; k < 9; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)(cpu ? generate[k] : compiled[k]));
    arguments[k] = text[k];
  }
  arguments[9] = cpu ? NULL : (char *)on->name;
  return bench_peer(python, cpu ? "tests/peers/hf_generate.py" : "tests/peers/torch_decode.py", arguments,
                    report, error);
}

// A cell with a number that a report may lack: `scale` times the number under `name` in `object`.
static void number_cell(ss_table *table, const char *format, double scale, const json_t *object,
                        const char *name, ss_error *error) {
  const json_t *value = json_object_get(object, name);
  char text[32] = "-";
  if (json_is_number(value))
    snprintf(text, sizeof text, format, scale * json_number_value(value));
  ss_table_cell(table, error, "%s", text);
}

static ss_status print_steps(const json_t *reports, ss_error *error) {
  static const char *const columns[11] = {"engine",       "rows/token", "tokens/s",  "ms/step (median)",
                                          "p10",          "p90",        "device ms", "KV GB/s",
                                          "% of ceiling", "host %",     "x dense"};
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, 11, error));
  double dense = json_number_value(json_object_get(json_array_get(reports, 0), "tokens_per_second"));
  size_t index;
  json_t *report;
  json_array_foreach((json_t *)reports, index, report) {
    const json_t *timing = json_object_get(report, "timing");
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(json_object_get(report, "engine")));
    number_cell(table, "%.0f", 1, report, "rows_per_token", error);
    number_cell(table, "%.1f", 1, report, "tokens_per_second", error);
    number_cell(table, "%.3f", 1e3, timing, "median_seconds", error);
    number_cell(table, "%.3f", 1e3, timing, "p10_seconds", error);
    number_cell(table, "%.3f", 1e3, timing, "p90_seconds", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "device_timing"), "median_seconds", error);
    number_cell(table, "%.1f", 1, report, "kv_gigabytes_per_second", error);
    number_cell(table, "%.1f", 1, report, "percent_of_ceiling", error);
    number_cell(table, "%.1f", 100, report, "host_share", error);
    number_cell(table, "%.2f", 1 / dense, report, "tokens_per_second", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

static ss_status print_parts(const json_t *reports, ss_error *error) {
  static const char *const columns[9] = {"apart from the step",
                                         "attention ms a layer",
                                         "KV GB/s",
                                         "% of copy",
                                         "floor ms",
                                         "plan, upload ms",
                                         "enqueue",
                                         "download",
                                         "sample"};
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, 9, error));
  size_t index;
  json_t *report;
  json_array_foreach((json_t *)reports, index, report) {
    const json_t *attention = json_object_get(report, "attention");
    if (attention == NULL)
      continue;
    const json_t *name = json_object_get(attention, "engine");
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(name ? name : json_object_get(report, "engine")));
    number_cell(table, "%.4f", 1e3, json_object_get(attention, "timing"), "median_seconds", error);
    number_cell(table, "%.0f", 1, attention, "kv_gigabytes_per_second", error);
    number_cell(table, "%.1f", 1, attention, "percent_of_copy", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "floor"), "seconds", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "plan"), "median_seconds", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "enqueue"), "median_seconds", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "download"), "median_seconds", error);
    number_cell(table, "%.3f", 1e3, json_object_get(report, "sample"), "median_seconds", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

static ss_status print_report(const json_t *all, const decode_bench_options *o, ss_error *error) {
  const json_t *reports = json_object_get(all, "results");
  printf("decode step, %lld layers, %lld wide, %lld heads, batch %lld, context %lld rows, runs of %lld, %s "
         "cache\n%s\n",
         (long long)o->model.n_layer, (long long)o->model.n_embd, (long long)o->model.n_head,
         (long long)o->batch, (long long)o->context, (long long)o->run_length,
         json_string_value(json_object_get(all, "cache_dtype")),
         json_string_value(json_object_get(all, "device")));
  SS_TRY(print_steps(reports, error));
  printf("\n");
  SS_TRY(print_parts(reports, error));
  printf("\nceiling: the step at its floor (above 100%%: weights or rows stay in caches, or reading is "
         "faster than "
         "copying); %.2f MB of weights, %.0f bytes of cache a row; copy %.1f GB/s, products %.2f TFLOP/s\n",
         1e-6 * json_number_value(json_object_get(all, "weight_bytes")),
         json_number_value(json_object_get(all, "kv_bytes_per_row")),
         1e-9 * json_number_value(json_object_get(all, "copy_bytes_per_second")),
         1e-12 * json_number_value(json_object_get(all, "gemm_flops_per_second")));
  return error->status;
}

static ss_status run_all(const decode_bench_options *options, ss_device *device, json_t *all,
                         ss_error *error) {
  decode_work work = {.options = options, .device = device};
  bench_ceiling rates;
  json_t *reports = json_array(), *report = NULL;
  ss_status status = bench_measure_ceiling(device, &rates, error);
  if (status == SS_OK)
    status = gpt_create(&work.model, device, &options->model, false, error);
  if (status == SS_OK)
    status = gpt_initialize(work.model, 1, error);
  if (status == SS_OK)
    status = decode_work_create(&work, error);
  // The checks leave NaN in the rows that an arm does not select: the arm that reads the fewest comes last.
  const decode_arm arms[3] = {DECODE_ARM_DENSE, DECODE_ARM_MIXED, DECODE_ARM_SPAN};
  for (int k = 0; k < 3 && status == SS_OK; ++k) {
    if (arms[k] == DECODE_ARM_MIXED && !options->mixed)
      continue;
    status = measure(&work, arms[k], &rates, &report, error);
    if (status == SS_OK)
      json_array_append_new(reports, report);
  }
  if (status == SS_OK) {
    step_costs costs = count_costs(&work);
    json_t *about = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f}", "device", device->description,
                              "cache_dtype", device->compute == SS_BF16 ? "bf16" : "fp32", "parameters",
                              (json_int_t)gpt_n_parameter(work.model), "weight_bytes", costs.weight_bytes,
                              "kv_bytes_per_row", costs.kv_row_bytes, "copy_bytes_per_second",
                              rates.copy_bytes, "gemm_flops_per_second", rates.gemm_flops);
    json_object_update(all, about);
    json_decref(about);
  }
  json_object_set_new(all, "results", reports);
  decode_work_free(&work);
  gpt_free(work.model);
  return status;
}

static ss_status check_options(decode_bench_options *o, const char *peer, ss_error *error) {
  if (o->batch < 1 || o->context < 1 || o->run_length < 1 || o->steps < 1 || o->warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--batch, --context, --run-length and --steps must be positive");
  if (o->visible_rows != 0 && !isnan(o->visible))
    return ss_fail(error, SS_ERROR_USAGE, "--visible and --visible-rows say the same; give one of them");
  if (o->visible_rows == 0) {
    o->visible = isnan(o->visible) ? 0.1 : o->visible;
    if (!(o->visible > 0 && o->visible < 1))
      return ss_fail(error, SS_ERROR_USAGE, "--visible must lie between 0 and 1, both excluded");
    o->visible_rows = llround(o->visible * (double)o->context);
  } else if (o->visible_rows < 1 || o->visible_rows >= o->context) {
    return ss_fail(error, SS_ERROR_USAGE, "--visible-rows must lie between 1 and --context - 1, %lld",
                   (long long)o->context - 1);
  }
  if (o->mixed && o->batch < 2)
    return ss_fail(error, SS_ERROR_USAGE, "--mixed needs a --batch of 2 or more");
  if (o->context + o->warmup + o->steps >= o->model.n_positions)
    return ss_fail(error, SS_ERROR_LIMIT, "context %lld + %lld steps do not fit model.n_positions %lld",
                   (long long)o->context, (long long)(o->warmup + o->steps), (long long)o->model.n_positions);
  SS_TRY(gpt_config_resolve(&o->model, error));
  const gpt_config *m = &o->model;
  if (peer != NULL &&
      (m->n_kv_head != m->n_head || m->n_ff != 4 * m->n_embd || m->norm != SS_NORM_LAYER ||
       m->position != GPT_POSITION_LEARNED || m->activation != SS_ACTIVATION_GELU || !m->bias))
    return ss_fail(error, SS_ERROR_USAGE,
                   "--peer measures GPT-2's block; leave other model keys than n_layer, "
                   "n_embd, n_head, vocab_size and n_positions out");
  return SS_OK;
}

ss_status bench_decode_command(int argc, char **argv, ss_error *error) {
  decode_bench_options options =
      {.batch = 8, .context = 2048, .run_length = 16, .steps = 64, .warmup = 8, .visible = NAN};
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
       {"visible-rows", SS_OPTION_INT, &options.visible_rows, "N", "the same as a number of rows"},
       {"run-length", SS_OPTION_INT, &options.run_length, "ROWS", "rows of a contiguous visible run (16)"},
       {"mixed", SS_OPTION_FLAG, &options.mixed, NULL, "also a batch of which half is dense"},
       {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE",
        "a model.* key (below); default: 6 layers, 384 wide, 6 heads"},
       {"steps", SS_OPTION_INT, &options.steps, "N", "timed steps (64)"},
       {"warmup", SS_OPTION_INT, &options.warmup, "N", "untimed steps before (8)"},
       DEVICE_OPTIONS(on),
       {"peer", SS_OPTION_STRING, &peer_python, "PYTHON",
        "also run, with this interpreter, Hugging Face generate (CPU; needs torch and transformers) or "
        "PyTorch "
        "compiled into a CUDA graph (CUDA; needs torch)"},
       {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the tables"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"bench decode",
                                "Times decoding steps over a long context.",
                                "selfspan bench decode [options]",
                                table,
                                groups,
                                "  selfspan bench decode --device cpu\n"
                                "  selfspan bench decode --visible 0.25 --run-length 64 --peer python3\n"
                                "  selfspan bench decode --device cuda --batch 256 --context 1024 "
                                "--visible-rows 128 --mixed\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  SS_TRY(check_options(&options, peer_python, error));
  ss_device *device = NULL;
  SS_TRY(device_options_open(&device, &on, error));
  json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "device", device->description, "batch",
                          (json_int_t)options.batch, "context", (json_int_t)options.context, "run_length",
                          (json_int_t)options.run_length, "steps", (json_int_t)options.steps, "warmup",
                          (json_int_t)options.warmup);
  status = run_all(&options, device, all, error);
  ss_device_close(device);
  bool measured = status == SS_OK;
  if (measured && peer_python != NULL) {
    json_t *peer = NULL;
    status = run_peer(peer_python, &options, &on, &peer, error);
    if (status == SS_OK)
      json_array_append_new(json_object_get(all, "results"), peer);
  }
  // Our figures are printed though the peer failed.
  ss_error printing = {0};
  if (measured && json) {
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
  } else if (measured) {
    ss_status printed = print_report(all, &options, &printing);
    if (status == SS_OK && printed != SS_OK)
      *error = printing, status = printed;
  }
  json_decref(all);
  return status;
}
