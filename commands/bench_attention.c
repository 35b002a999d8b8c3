// selfspan bench attention: one attention call, forward and backward, under a causal, span or dataset mask. Planning
// is timed on its own (the trainer does it while the device works); results are checked against the CPU op.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/bench.h"
#include "commands/bench_batch.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"
#include "common/table.h"

#define COLD_BYTES ((int64_t)256 << 20)  // inputs rotate over so many bytes, several times an L2 cache
// Cleared before every timed call: it empties the L2 cache, and keeps the device at work while the host enqueues the
// call, so that no launch is waited for.
#define FLUSH_BYTES ((size_t)512 << 20)

typedef struct {
  bench_batch_options batch;
  ss_attention_shape shape;
  int64_t repeats, warmup;
  bool forward_only, check;
} attention_options;

// q, k, v stand side by side as in a model: [n, (n_head + 2 n_kv_head) head_dim].
typedef struct {
  ss_tensor qkv, dqkv, out, dout, log_sum_exp;
} attention_set;

typedef struct {
  ss_device *device;
  const attention_options *options;
  const bench_batch *batch;
  ss_attention_plan *plan;
  attention_set *sets;
  int64_t n_set;
  void *data, *flush;
  float *qkv, *dout;  // host, rounded to the device's dtype
} attention_work;

typedef struct {
  bench_timing plan, forward, backward, both;
  double nmse[4];  // out, dq, dk, dv
} attention_result;

static int64_t q_cols(const ss_attention_shape *shape) {
  return (int64_t)shape->n_head * shape->head_dim;
}
static int64_t kv_cols(const ss_attention_shape *shape) {
  return (int64_t)shape->n_kv_head * shape->head_dim;
}
static ss_tensor part(const ss_attention_shape *shape, ss_tensor qkv, int which) {
  int64_t q = q_cols(shape), kv = kv_cols(shape);
  return which == 0 ? ss_columns(qkv, 0, q) : ss_columns(qkv, which == 1 ? q : q + kv, kv);
}

// To the nearest bf16, so that both devices start from the same numbers.
static float rounded(float x, ss_dtype dtype) {
  if (dtype == SS_F32)
    return x;
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1)) & 0xffff0000u;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static ss_status random_host(float **out, int64_t count, uint64_t stream, ss_dtype dtype, ss_error *error) {
  SS_TRY(ss_allocate(out, count, sizeof **out, "random values", error));
  ss_random random = ss_random_seed(4, stream);
  for (int64_t i = 0; i < count; ++i)
    (*out)[i] = rounded((float)(3.4 * ss_random_uniform(&random) - 1.7), dtype);  // variance 1, nearly
  return SS_OK;
}

static ss_status upload(ss_device *device, ss_tensor out, const float *host, void *staging, ss_error *error) {
  SS_OP(device, error, upload, staging, host, (size_t)(out.rows * out.cols) * sizeof(float));
  SS_OP(device, error, convert, out, ss_matrix(staging, out.rows, out.cols));
  return SS_OK;
}

static ss_status allocate_sets(attention_work *work, ss_error *error) {
  const attention_options *options = work->options;
  ss_device *device = work->device;
  ss_dtype dtype = device->compute;
  int64_t n = work->batch->batch.n_row, q = q_cols(&options->shape), all = q + 2 * kv_cols(&options->shape);
  int64_t set_bytes = n * (2 * all + 2 * q) * (int64_t)ss_dtype_size(dtype) + n * options->shape.n_head * 4;
  set_bytes = (set_bytes + 1023) / 256 * 256 + 4 * 256;
  work->n_set = (COLD_BYTES + set_bytes - 1) / set_bytes;
  SS_TRY(ss_allocate(&work->sets, work->n_set, sizeof *work->sets, "tensor sets", error));
  SS_OP(device, error, allocate, &work->data, (size_t)(work->n_set * set_bytes), "attention tensors");
  SS_OP(device, error, allocate, &work->flush, FLUSH_BYTES, "what empties the cache");
  SS_TRY(random_host(&work->qkv, n * all, 0, dtype, error));
  SS_TRY(random_host(&work->dout, n * q, 1, dtype, error));
  void *staging = NULL;
  SS_OP(device, error, allocate, &staging, (size_t)(n * all) * sizeof(float), "staging");
  ss_status status = SS_OK;
  for (int64_t k = 0; k < work->n_set && status == SS_OK; ++k) {
    char *base = (char *)work->data + k * set_bytes;
    const int64_t cols[5] = {all, all, q, q, options->shape.n_head};
    ss_tensor *tensors[5] = {&work->sets[k].qkv, &work->sets[k].dqkv, &work->sets[k].out, &work->sets[k].dout,
                             &work->sets[k].log_sum_exp};
    for (int t = 0; t < 5; ++t) {
      *tensors[t] = ss_matrix_of(base, n, cols[t], t == 4 ? SS_F32 : dtype);
      base += ((size_t)(n * cols[t]) * ss_dtype_size(tensors[t]->dtype) + 255) / 256 * 256;
    }
    status = upload(device, work->sets[k].qkv, work->qkv, staging, error);
    if (status == SS_OK)
      status = upload(device, work->sets[k].dout, work->dout, staging, error);
  }
  device->ops->release(device, staging);
  return status;
}

static ss_status forward(ss_device *device, const attention_options *options, const ss_attention_plan *plan,
                         const attention_set *set, ss_error *error) {
  const ss_attention_shape *shape = &options->shape;
  SS_OP(device, error, attention_forward, plan, *shape, set->out, set->log_sum_exp, part(shape, set->qkv, 0),
        part(shape, set->qkv, 1), part(shape, set->qkv, 2));
  return SS_OK;
}

static ss_status backward(ss_device *device, const attention_options *options, const ss_attention_plan *plan,
                          const attention_set *set, ss_error *error) {
  const ss_attention_shape *shape = &options->shape;
  SS_OP(device, error, attention_backward, plan, *shape, part(shape, set->dqkv, 0), part(shape, set->dqkv, 1),
        part(shape, set->dqkv, 2), set->dout, set->out, set->log_sum_exp, part(shape, set->qkv, 0),
        part(shape, set->qkv, 1), part(shape, set->qkv, 2));
  return SS_OK;
}

static ss_status make_plan(attention_work *work, ss_error *error) {
  const gpt_batch *batch = &work->batch->batch;
  SS_OP(work->device, error, attention_plan, &work->plan, batch->views, batch->n_view, batch->ranges,
        batch->n_range, batch->n_row, !work->options->forward_only);
  return SS_OK;
}

static ss_status time_plan(attention_work *work, attention_result *result, ss_error *error) {
  double seconds[20];
  for (int k = -2; k < 20; ++k) {
    double start = ss_seconds();
    SS_TRY(make_plan(work, error));
    if (k >= 0)
      seconds[k] = ss_seconds() - start;
    if (work->device->ops->synchronize(work->device) != SS_OK)
      return ss_device_error(work->device, error);
  }
  bench_summarize(seconds, 20, &result->plan);
  return SS_OK;
}

static ss_status time_kernels(attention_work *work, attention_result *result, ss_error *error) {
  const attention_options *options = work->options;
  ss_device *device = work->device;
  double *seconds = NULL;  // [3, repeats]
  SS_TRY(ss_allocate(&seconds, 3 * options->repeats, sizeof *seconds, "timings", error));
  ss_status status = SS_OK;
  for (int64_t k = -options->warmup; k < options->repeats && status == SS_OK; ++k) {
    const attention_set *set = &work->sets[(k + options->warmup) % work->n_set];
    double one[3] = {0, 0, 0};
    if (device->ops->zero(device, work->flush, FLUSH_BYTES) != SS_OK ||
        device->ops->stamp(device, 0) != SS_OK)
      status = ss_device_error(device, error);
    if (status == SS_OK)
      status = forward(device, options, work->plan, set, error);
    if (status == SS_OK && device->ops->stamp(device, 1) != SS_OK)
      status = ss_device_error(device, error);
    if (status == SS_OK && !options->forward_only)
      status = backward(device, options, work->plan, set, error);
    if (status == SS_OK && device->ops->stamp(device, 2) != SS_OK)
      status = ss_device_error(device, error);
    for (int t = 0; t < 3 && status == SS_OK; ++t)
      if (device->ops->stamp_seconds(device, t == 1, t == 0 ? 1 : 2, &one[t]) != SS_OK)
        status = ss_device_error(device, error);
    for (int t = 0; t < 3 && k >= 0; ++t)
      seconds[t * options->repeats + k] = one[t];
  }
  if (status == SS_OK) {
    bench_summarize(seconds, options->repeats, &result->forward);
    bench_summarize(seconds + options->repeats, options->repeats, &result->backward);
    bench_summarize(seconds + 2 * options->repeats, options->repeats, &result->both);
  }
  free(seconds);
  return status;
}

// One key-value head's columns of a host matrix, as a tensor of the CPU device.
static ss_tensor host_columns(float *data, int64_t rows, int64_t stride, int64_t first, int64_t cols) {
  ss_tensor tensor = ss_matrix(data + first, rows, cols);
  tensor.stride = stride;
  return tensor;
}

static double nmse(const float *got, ss_tensor want) {
  const float *expected = want.data;
  double difference = 0, scale = 0;
  for (int64_t row = 0; row < want.rows; ++row)
    for (int64_t c = 0; c < want.cols; ++c) {
      double a = (double)got[row * want.stride + c], b = (double)expected[row * want.stride + c];
      difference += (a - b) * (a - b);
      scale += b * b;
    }
  return difference == 0 ? 0 : difference / scale;  // gradients of rows that read one row alone are all 0
}

static ss_status download(ss_device *device, ss_tensor from, float *host, ss_error *error) {
  void *staging = NULL;
  size_t bytes = (size_t)(from.rows * from.cols) * sizeof(float);
  SS_OP(device, error, allocate, &staging, bytes, "staging");
  ss_status status = SS_OK;
  if (device->ops->convert(device, ss_matrix(staging, from.rows, from.cols), from) != SS_OK ||
      device->ops->download(device, host, staging, bytes) != SS_OK)
    status = ss_device_error(device, error);
  device->ops->release(device, staging);
  return status;
}

// The first group of heads, with its one key-value head, by the CPU. host: out [n, q], dqkv [n, all], statistics.
static ss_status compute_on(ss_device *cpu, ss_attention_plan **plan, const attention_work *work, float *host,
                            const float *got, attention_result *result, ss_error *error) {
  const attention_options *options = work->options;
  const ss_attention_shape *shape = &options->shape;
  int64_t n = work->batch->batch.n_row, q = q_cols(shape), kv = kv_cols(shape), all = q + 2 * kv;
  attention_options one = *options;
  one.shape.n_head = shape->n_head / shape->n_kv_head;
  one.shape.n_kv_head = 1;
  int64_t cols = q_cols(&one.shape), dim = shape->head_dim;
  const gpt_batch *batch = &work->batch->batch;
  ss_tensor out = host_columns(host, n, q, 0, cols),
            lse = ss_matrix(host + n * (q + all), n, one.shape.n_head);
  ss_tensor Q = host_columns(work->qkv, n, all, 0, cols), K = host_columns(work->qkv, n, all, q, dim);
  ss_tensor V = host_columns(work->qkv, n, all, q + kv, dim);
  ss_tensor dQ = host_columns(host + n * q, n, all, 0, cols), dK = host_columns(host + n * q, n, all, q, dim);
  ss_tensor dV = host_columns(host + n * q, n, all, q + kv, dim);
  SS_OP(cpu, error, attention_plan, plan, batch->views, batch->n_view, batch->ranges, batch->n_range, n,
        !options->forward_only);
  SS_OP(cpu, error, attention_forward, *plan, one.shape, out, lse, Q, K, V);
  if (!options->forward_only)
    SS_OP(cpu, error, attention_backward, *plan, one.shape, dQ, dK, dV,
          host_columns(work->dout, n, q, 0, cols), out, lse, Q, K, V);
  result->nmse[0] = nmse(got, out);
  if (!options->forward_only) {
    result->nmse[1] = nmse(got + n * q, dQ);
    result->nmse[2] = nmse(got + n * q + q, dK);
    result->nmse[3] = nmse(got + n * q + q + kv, dV);
  }
  return SS_OK;
}

// Compares with the CPU in fp32 from the same rounded inputs.
static ss_status check(attention_work *work, attention_result *result, ss_error *error) {
  const attention_options *options = work->options;
  const attention_set *set = &work->sets[0];
  int64_t n = work->batch->batch.n_row, q = q_cols(&options->shape), all = q + 2 * kv_cols(&options->shape);
  SS_TRY(forward(work->device, options, work->plan, set, error));
  if (!options->forward_only)
    SS_TRY(backward(work->device, options, work->plan, set, error));
  float *host = NULL, *got = NULL;  // got: out [n, q], dqkv [n, all]
  ss_device *cpu = NULL;
  ss_attention_plan *plan = NULL;
  ss_device_options cpu_options = {0};
  ss_status status = ss_allocate(&host, n * (q + all + options->shape.n_head), sizeof *host,
                                 "the CPU's results", error);
  if (status == SS_OK)
    status = ss_allocate(&got, n * (q + all), sizeof *got, "the device's results", error);
  if (status == SS_OK)
    status = download(work->device, set->out, got, error);
  if (status == SS_OK)
    status = download(work->device, set->dqkv, got + n * q, error);
  if (status == SS_OK)
    status = ss_device_open(&cpu, "cpu", &cpu_options, error);
  if (status == SS_OK)
    status = compute_on(cpu, &plan, work, host, got, result, error);
  if (plan != NULL)
    cpu->ops->attention_plan_free(cpu, plan);
  ss_device_close(cpu);
  free(host);
  free(got);
  SS_TRY(status);
  double bound = work->device->compute == SS_BF16 ? 1e-4 : 1e-8;
  for (int k = 0; k < 4; ++k)
    if (!(result->nmse[k] <= bound))
      return ss_fail(error, SS_ERROR_NUMERIC, "the %s differs from the CPU's: NMSE %g, expected at most %g",
                     (const char *const[]){"output", "gradient of q", "gradient of k", "gradient of v"}[k],
                     result->nmse[k], bound);
  return SS_OK;
}

static json_t *report_json(const attention_work *work, const attention_result *result,
                           const bench_ceiling *ceiling) {
  const attention_options *options = work->options;
  const ss_attention_shape *shape = &options->shape;
  double flops = 4.0 * (double)work->batch->attended * shape->head_dim * shape->n_head;
  double total = options->forward_only ? flops : 3.5 * flops;
  return json_pack(
      "{s:s, s:s, s:s, s:[i,i,i], s:I, s:f, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:[f,f,f,f]}", "engine",
      "selfspan", "device", work->device->description, "mask", work->batch->description, "heads_kv_dim",
      shape->n_head, shape->n_kv_head, shape->head_dim, "tokens", (json_int_t)work->batch->batch.n_row,
      "attended_rows_per_token", (double)work->batch->attended / (double)work->batch->batch.n_row, "plan",
      bench_timing_json(&result->plan), "forward", bench_timing_json(&result->forward), "backward",
      bench_timing_json(&result->backward), "both", bench_timing_json(&result->both),
      "visible_flops_per_second", total / result->both.median, "percent_of_gemm",
      100 * total / result->both.median / ceiling->gemm_flops, "gemm_flops_per_second", ceiling->gemm_flops,
      "copy_bytes_per_second", ceiling->copy_bytes, "nmse", result->nmse[0], result->nmse[1], result->nmse[2],
      result->nmse[3]);
}

static ss_status run_ours(ss_device *device, const attention_options *options, const bench_batch *batch,
                          json_t **report, ss_error *error) {
  attention_work work = {.device = device, .options = options, .batch = batch};
  attention_result result = {0};
  bench_ceiling ceiling = {0};
  ss_status status = bench_measure_ceiling(device, &ceiling, error);
  if (status == SS_OK)
    status = allocate_sets(&work, error);
  if (status == SS_OK)
    status = time_plan(&work, &result, error);
  if (status == SS_OK && options->check)
    status = check(&work, &result, error);
  if (status == SS_OK)
    status = time_kernels(&work, &result, error);
  if (status == SS_OK)
    *report = report_json(&work, &result, &ceiling);
  if (work.plan != NULL)
    device->ops->attention_plan_free(device, work.plan);
  if (work.data != NULL)
    device->ops->release(device, work.data);
  if (work.flush != NULL)
    device->ops->release(device, work.flush);
  free(work.sets);
  free(work.qkv);
  free(work.dout);
  return status;
}

static ss_status run_peer(const char *python, const attention_options *options, const bench_batch *batch,
                          json_t **report, ss_error *error) {
  char mask[] = "/tmp/selfspan-mask-XXXXXX", text[6][32];
  int descriptor = mkstemp(mask);
  if (descriptor < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s", mask);
  close(descriptor);
  const int64_t values[6] = {options->batch.row_tokens, options->shape.n_head, options->shape.n_kv_head,
                             options->shape.head_dim,   options->repeats,      options->warmup};
  char *arguments[8] = {mask};
  for (int k = 0; k < 6; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)values[k]);
    arguments[k + 1] = text[k];
  }
  ss_status status = bench_batch_write_mask(batch, mask, error);
  if (status == SS_OK)
    status = bench_peer(python, "tests/peers/torch_attention.py", arguments, report, error);
  unlink(mask);
  return status;
}

static void timing_cells(ss_table *table, const json_t *report, ss_error *error) {
  static const char *const names[] = {"forward", "backward", "both"};
  for (int k = 0; k < 3; ++k)
    ss_table_cell(table, error, "%.3f",
                  1e3 * json_number_value(
                            json_object_get(json_object_get(report, names[k]), "median_seconds")));
}

static ss_status print_report(const json_t *ours, const json_t *peer, ss_error *error) {
  static const char *const columns[] = {"engine", "forward ms", "backward ms", "both ms", "ratio"};
  ss_table *table = NULL;
  const json_t *shape = json_object_get(ours, "heads_kv_dim"), *errors = json_object_get(ours, "nmse");
  printf("attention, %s, %lld tokens, %lld heads (%lld key-value) of %lld, %.1f rows attended a token\n%s\n",
         json_string_value(json_object_get(ours, "mask")),
         (long long)json_integer_value(json_object_get(ours, "tokens")),
         (long long)json_integer_value(json_array_get(shape, 0)),
         (long long)json_integer_value(json_array_get(shape, 1)),
         (long long)json_integer_value(json_array_get(shape, 2)),
         json_number_value(json_object_get(ours, "attended_rows_per_token")),
         json_string_value(json_object_get(ours, "device")));
  SS_TRY(ss_table_create(&table, columns, 5, error));
  double own = json_number_value(json_object_get(json_object_get(ours, "both"), "median_seconds"));
  ss_table_row(table, error);
  ss_table_cell(table, error, "selfspan");
  timing_cells(table, ours, error);
  ss_table_cell(table, error, "1.00");
  size_t index;
  const json_t *engine;
  json_array_foreach(json_object_get(peer, "engines"), index, engine) {
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(json_object_get(engine, "engine")));
    timing_cells(table, engine, error);
    ss_table_cell(table, error, "%.2f",
                  json_number_value(json_object_get(json_object_get(engine, "both"), "median_seconds")) /
                      own);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  printf(
      "planning %.3f ms on the host (once for all layers, overlapped in training); %.1f TFLOP/s of visible "
      "pairs, %.1f%% of the GEMM rate (%.0f TFLOP/s); copy %.0f GB/s; NMSE to the CPU: out %.1e, dq %.1e, dk "
      "%.1e, dv %.1e\n",
      1e3 * json_number_value(json_object_get(json_object_get(ours, "plan"), "median_seconds")),
      1e-12 * json_number_value(json_object_get(ours, "visible_flops_per_second")),
      json_number_value(json_object_get(ours, "percent_of_gemm")),
      1e-12 * json_number_value(json_object_get(ours, "gemm_flops_per_second")),
      1e-9 * json_number_value(json_object_get(ours, "copy_bytes_per_second")),
      json_number_value(json_array_get(errors, 0)), json_number_value(json_array_get(errors, 1)),
      json_number_value(json_array_get(errors, 2)), json_number_value(json_array_get(errors, 3)));
  return error->status;
}

static ss_status parse(int argc, char **argv, attention_options *options, device_options *device,
                       const char **peer, bool *json, bool *help, ss_error *error) {
  int64_t n_head = 12, n_kv_head = 0, head_dim = 64;
  bool no_check = false;
  const ss_option table[] =
      {BENCH_BATCH_OPTIONS(options->batch),
       {"heads", SS_OPTION_INT, &n_head, "N", "query heads (12)"},
       {"kv-heads", SS_OPTION_INT, &n_kv_head, "N", "key-value heads; 0 (default): as many"},
       {"head-dim", SS_OPTION_INT, &head_dim, "N", "columns of a head (64)"},
       {"forward", SS_OPTION_FLAG, &options->forward_only, NULL, "the forward alone"},
       {"no-check", SS_OPTION_FLAG, &no_check, NULL, "leave out the comparison with the CPU"},
       {"repeats", SS_OPTION_INT, &options->repeats, "N", "timed calls (30)"},
       {"warmup", SS_OPTION_INT, &options->warmup, "N", "untimed calls before (5)"},
       DEVICE_OPTIONS(*device),
       {"peer", SS_OPTION_STRING, peer, "PYTHON",
        "also run PyTorch's attention under the same mask with this interpreter (CUDA)"},
       {"json", SS_OPTION_FLAG, json, NULL, "one JSON object instead of the table"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"bench attention",
       "Times one attention call, forward and backward, and checks it against the CPU.",
       "selfspan bench attention [options]",
       table,
       NULL,
       "  selfspan bench attention --device cuda                 # B16 H12 T1024 D64, causal\n"
       "  selfspan bench attention --device cuda --segment 32 --peer python3\n"
       "  selfspan bench attention --device cuda --data runs/wide --row-tokens 2048 --mask document\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, help, error));
  if (*help)
    return SS_OK;
  SS_TRY(bench_batch_options_check(&options->batch, error));
  n_kv_head = n_kv_head == 0 ? n_head : n_kv_head;
  if (n_head < 1 || n_kv_head < 1 || n_head % n_kv_head != 0 || head_dim < 1 || options->repeats < 1 ||
      options->warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE,
                   "--heads, --head-dim and --repeats must be positive, --heads a multiple of --kv-heads");
  options->shape = (ss_attention_shape){(int32_t)n_head, (int32_t)n_kv_head, (int32_t)head_dim,
                                        (float)(1 / sqrt((double)head_dim))};
  options->check = !no_check;
  return SS_OK;
}

ss_status bench_attention_command(int argc, char **argv, ss_error *error) {
  attention_options options =
      {.batch = {.rows = 16, .row_tokens = 1024, .arm = "span", .mask = "arm", .vocab_size = 1 << 20},
       .repeats = 30,
       .warmup = 5};
  device_options on = DEVICE_DEFAULTS;
  const char *peer_python = NULL;
  bool json = false, help = false;
  SS_TRY(parse(argc, argv, &options, &on, &peer_python, &json, &help, error));
  if (help)
    return SS_OK;
  ss_device *device = NULL;
  bench_batch batch;
  json_t *ours = NULL, *peer = NULL;
  SS_TRY(bench_batch_make(&batch, &options.batch, error));
  ss_status status = device_options_open(&device, &on, error);
  if (status == SS_OK)
    status = run_ours(device, &options, &batch, &ours, error);
  ss_device_close(device);
  if (status == SS_OK && peer_python != NULL)
    status = run_peer(peer_python, &options, &batch, &peer, error);
  if (status == SS_OK && json) {
    json_t *both = json_pack("{s:O, s:o?}", "selfspan", ours, "peer", json_incref(peer));
    json_dumpf(both, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(both);
  } else if (status == SS_OK) {
    status = print_report(ours, peer, error);
  }
  json_decref(ours);
  json_decref(peer);
  bench_batch_free(&batch);
  return status;
}
