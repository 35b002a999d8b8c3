// What `selfspan bench decode` says: JSON for each arm, and its tables.
#include <stdio.h>
#include <string.h>

#include "commands/bench_decode.h"

// --- JSON ---
// What both kinds of steps say; `seconds` of one.
static json_t *arm_json(const decode_work *work, const char *engine, int64_t visible_rows, int64_t run_length,
                        double seconds, const bench_ceiling *rates) {
  const decode_bench_options *o = work->options;
  decode_costs costs = decode_count_costs(work->model, o->batch);
  double rows = decode_mean_rows(work), kv_bytes = rows * costs.kv_row_bytes;
  double bytes = costs.weight_bytes + kv_bytes + costs.logit_bytes;
  double flops = costs.weight_flops + rows * costs.attention_flops;
  double by_bytes = bytes / rates->copy_bytes, by_flops = flops / rates->gemm_flops;
  double floor_seconds = by_bytes > by_flops ? by_bytes : by_flops;
  json_t *report = json_pack("{s:s, s:f, s:I, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:s}, s:f}", "engine",
                             engine, "visible", (double)work->listed_rows / (double)(o->batch * o->context),
                             "visible_rows", (json_int_t)visible_rows, "rows_per_token",
                             rows / (double)o->batch, "tokens_per_second", (double)o->batch / seconds,
                             "kv_bytes_per_step", kv_bytes, "kv_gigabytes_per_second",
                             kv_bytes / seconds * 1e-9, "floor", "bytes", bytes, "flops", flops, "seconds",
                             floor_seconds, "bound", by_bytes > by_flops ? "copy rate" : "product rate",
                             "percent_of_ceiling", 100 * floor_seconds / seconds);
  if (run_length > 0)
    json_object_set_new(report, "run_length", json_integer((json_int_t)run_length));
  return report;
}

// One layer's attention over `rows` key rows. times_floor: its time over what copying takes for as many bytes.
static void add_attention(json_t *report, const decode_work *work, const bench_timing *timing, double rows,
                          const bench_ceiling *rates) {
  decode_costs costs = decode_count_costs(work->model, work->options->batch);
  double bytes = rows * costs.kv_row_bytes / (double)work->options->model.n_layer;
  double rate = bytes / timing->median;
  json_object_set_new(report, "attention",
                      json_pack("{s:o, s:f, s:f, s:f, s:f}", "timing", bench_timing_json(timing), "kv_bytes",
                                bytes, "kv_gigabytes_per_second", rate * 1e-9, "percent_of_copy",
                                100 * rate / rates->copy_bytes, "times_floor", rates->copy_bytes / rate));
}

// The host's share: where the device runs beside it, what a step takes longer than the device's part; on the CPU, which
// does both, planning and sampling.
json_t *decode_host_json(const decode_work *work, const char *engine, int64_t visible_rows,
                         int64_t run_length, const decode_timings *timings, const bench_ceiling *rates) {
  double step = timings->step.median;
  bool synchronous = work->device->synchronous;
  double host = synchronous ? timings->plan.median + timings->sample.median : step - timings->device.median;
  json_t *report = arm_json(work, engine, visible_rows, run_length, step, rates);
  json_object_set_new(report, "host_share", json_real(host / step));
  json_object_set_new(report, "timing", bench_timing_json(&timings->step));
  if (!synchronous) {
    json_object_set_new(report, "device_timing", bench_timing_json(&timings->device));
    json_object_set_new(report, "enqueue", bench_timing_json(&timings->enqueue));
    json_object_set_new(report, "download", bench_timing_json(&timings->download));
  }
  json_object_set_new(report, "plan", bench_timing_json(&timings->plan));
  json_object_set_new(report, "sample", bench_timing_json(&timings->sample));
  add_attention(report, work, &timings->attention, timings->attention_rows, rates);
  return report;
}

json_t *decode_resident_json(const decode_work *work, const char *engine, int64_t visible_rows,
                             int64_t run_length, const decode_resident_timings *timings,
                             const bench_ceiling *rates) {
  double step = timings->step.median, device = timings->device.median;
  double attention = timings->attention.median * (double)work->options->model.n_layer;
  double rest = device - attention - timings->choose.median - timings->advance.median;
  json_t *report = arm_json(work, engine, visible_rows, run_length, step, rates);
  json_object_set_new(report, "host_share", json_real((step - device) / step));
  json_object_set_new(report, "timing", bench_timing_json(&timings->step));
  json_object_set_new(report, "device_timing", bench_timing_json(&timings->device));
  json_object_set_new(report, "enqueue", bench_timing_json(&timings->enqueue));
  json_object_set_new(report, "choose", bench_timing_json(&timings->choose));
  json_object_set_new(report, "advance", bench_timing_json(&timings->advance));
  json_object_set_new(report, "shares",
                      json_pack("{s:f, s:f, s:f, s:f}", "attention", attention / device, "choose",
                                timings->choose.median / device, "advance", timings->advance.median / device,
                                "rest", rest / device));
  json_object_set_new(report, "rest_seconds", json_real(rest));
  json_object_set_new(report, "nmse_to_host_path", json_real(timings->nmse));
  add_attention(report, work, &timings->attention, timings->attention_rows, rates);
  return report;
}

// --- tables ---
void decode_number_cell(ss_table *table, const char *format, double scale, const json_t *object,
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
    decode_number_cell(table, "%.0f", 1, report, "rows_per_token", error);
    decode_number_cell(table, "%.1f", 1, report, "tokens_per_second", error);
    decode_number_cell(table, "%.3f", 1e3, timing, "median_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, timing, "p10_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, timing, "p90_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "device_timing"), "median_seconds", error);
    decode_number_cell(table, "%.1f", 1, report, "kv_gigabytes_per_second", error);
    decode_number_cell(table, "%.1f", 1, report, "percent_of_ceiling", error);
    decode_number_cell(table, "%.1f", 100, report, "host_share", error);
    decode_number_cell(table, "%.2f", 1 / dense, report, "tokens_per_second", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

// A report is in the table when it has `needed`; a peer's when `peers` and it has attention measured alone.
static bool is_wanted(const json_t *report, const char *needed, bool peers) {
  bool peer = json_object_get(report, "host_share") == NULL;
  return json_object_get(report, peer ? "attention" : needed) != NULL && (!peer || peers);
}

static void attention_cells(ss_table *table, const json_t *report, ss_error *error) {
  const json_t *attention = json_object_get(report, "attention");
  const json_t *name = json_object_get(attention, "engine");
  ss_table_row(table, error);
  ss_table_cell(table, error, "%s", json_string_value(name ? name : json_object_get(report, "engine")));
  decode_number_cell(table, "%.4f", 1e3, json_object_get(attention, "timing"), "median_seconds", error);
  decode_number_cell(table, "%.0f", 1, attention, "kv_gigabytes_per_second", error);
  decode_number_cell(table, "%.1f", 1, attention, "percent_of_copy", error);
}

static ss_status print_host_parts(const json_t *reports, bool peers, ss_error *error) {
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
    if (!is_wanted(report, "plan", peers))
      continue;
    attention_cells(table, report, error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "floor"), "seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "plan"), "median_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "enqueue"), "median_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "download"), "median_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "sample"), "median_seconds", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

static ss_status print_resident_parts(const json_t *reports, ss_error *error) {
  static const char *const columns[12] = {"steps on the device",
                                          "attention ms a layer",
                                          "KV GB/s",
                                          "% of copy",
                                          "x bytes/copy",
                                          "all layers % of step",
                                          "choose us",
                                          "advance us",
                                          "advance % of step",
                                          "rest us",
                                          "launch us",
                                          "floor ms"};
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, 12, error));
  size_t index;
  json_t *report;
  json_array_foreach((json_t *)reports, index, report) {
    const json_t *shares = json_object_get(report, "shares");
    if (!is_wanted(report, "advance", true))
      continue;
    attention_cells(table, report, error);
    decode_number_cell(table, "%.2f", 1, json_object_get(report, "attention"), "times_floor", error);
    decode_number_cell(table, "%.1f", 100, shares, "attention", error);
    decode_number_cell(table, "%.1f", 1e6, json_object_get(report, "choose"), "median_seconds", error);
    decode_number_cell(table, "%.1f", 1e6, json_object_get(report, "advance"), "median_seconds", error);
    decode_number_cell(table, "%.2f", 100, shares, "advance", error);
    decode_number_cell(table, "%.1f", 1e6, report, "rest_seconds", error);
    decode_number_cell(table, "%.1f", 1e6, json_object_get(report, "enqueue"), "median_seconds", error);
    decode_number_cell(table, "%.3f", 1e3, json_object_get(report, "floor"), "seconds", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  return error->status;
}

ss_status decode_print(const json_t *all, const decode_bench_options *o, ss_error *error) {
  const json_t *reports = json_object_get(all, "results");
  bool resident = json_object_get(json_array_get(reports, 0), "advance") != NULL;
  printf("decode step, %lld layers, %lld wide, %lld heads, batch %lld, context %lld rows, runs of %lld",
         (long long)o->model.n_layer, (long long)o->model.n_embd, (long long)o->model.n_head,
         (long long)o->batch, (long long)o->context, (long long)o->run_lengths[0]);
  for (int k = 1; k < o->n_run_length; ++k)
    printf(", %lld", (long long)o->run_lengths[k]);
  printf(", %s cache\n%s\n", json_string_value(json_object_get(all, "cache_dtype")),
         json_string_value(json_object_get(all, "device")));
  SS_TRY(print_steps(reports, error));
  printf("\n");
  if (resident) {
    SS_TRY(print_resident_parts(reports, error));
    printf("\n");
  }
  SS_TRY(print_host_parts(reports, !resident, error));
  printf("\nceiling: the step at its floor (above 100%%: weights or rows stay in caches, or reading is "
         "faster than "
         "copying); %.2f MB of weights, %.0f bytes of cache a row; copy %.1f GB/s, products %.2f TFLOP/s\n",
         1e-6 * json_number_value(json_object_get(all, "weight_bytes")),
         json_number_value(json_object_get(all, "kv_bytes_per_row")),
         1e-9 * json_number_value(json_object_get(all, "copy_bytes_per_second")),
         1e-12 * json_number_value(json_object_get(all, "gemm_flops_per_second")));
  return error->status;
}
