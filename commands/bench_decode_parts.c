// What `selfspan bench decode` measures apart from the step: planning with its uploads, the logits'
// download, and one layer's attention.
#include <stdlib.h>

#include "commands/bench_decode.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"

enum { REPEATS = 20, WARMUP = 3, SETS_MOST = 8, CALLS = 8 };
#define SETS_BYTES ((size_t)1 << 30)  // enough sets to be larger than any cache

typedef struct {
  decode_work *work;
  ss_attention_plan *own;         // made here
  const ss_attention_plan *plan;  // that attention reads
  ss_attention_shape shape;
  int64_t n_row, q_cols, kv_cols;           // n_row: of a cache slab, as in the step
  int64_t n_set;                            // slabs of K and V: calls in a row read different ones
  void *data, *q, *out, *uploads, *logits;  // data: K and V of every set
} decode_parts;

static ss_status allocate(decode_parts *parts, ss_error *error) {
  decode_work *work = parts->work;
  ss_device *device = work->device;
  const gpt_config *model = &work->options->model;
  int64_t batch = work->options->batch;
  parts->shape = gpt_attention_shape(work->model);
  parts->n_row = batch * work->slot_rows;
  parts->q_cols = model->n_embd;
  parts->kv_cols = model->n_kv_head * parts->shape.head_dim;
  size_t element = ss_dtype_size(device->compute), free_bytes = 0, total_bytes = 0;
  size_t set_bytes = 2 * (size_t)(parts->n_row * parts->kv_cols) * element;
  size_t q_bytes = (size_t)(batch * parts->q_cols) * element;
  SS_OP(device, error, memory_free, &free_bytes, &total_bytes);
  size_t wanted = SETS_BYTES / set_bytes < 2 ? 2 : SETS_BYTES / set_bytes,
         fitting = free_bytes / 2 / set_bytes;
  fitting = fitting < wanted ? fitting : wanted;
  parts->n_set = fitting < 1 ? 1 : fitting > SETS_MOST ? SETS_MOST : (int64_t)fitting;
  SS_OP(device, error, allocate, &parts->data, (size_t)parts->n_set * set_bytes, "keys and values");
  SS_OP(device, error, allocate, &parts->q, q_bytes, "queries");
  SS_OP(device, error, allocate, &parts->out, q_bytes, "the attention's output");
  SS_OP(device, error, allocate, &parts->uploads, (size_t)batch * 4 * sizeof(int32_t), "uploads");
  return SS_OK;
}

static void release(decode_parts *parts) {
  ss_device *device = parts->work->device;
  void *owned[] = {parts->data, parts->q, parts->out, parts->uploads, parts->logits};
  for (size_t k = 0; k < sizeof owned / sizeof *owned; ++k)
    if (owned[k] != NULL)
      device->ops->release(device, owned[k]);
  if (parts->own != NULL)
    device->ops->attention_plan_free(device, parts->own);
}

// Random values, the same ones in pieces of up to 2^20: the first piece is made here, the others are its copies.
static ss_status fill(ss_device *device, void *data, int64_t count, ss_error *error) {
  int64_t piece = count < (1 << 20) ? count : (1 << 20);
  size_t element = ss_dtype_size(device->compute);
  float *host = NULL;
  void *staging = NULL;
  SS_TRY(ss_allocate(&host, piece, sizeof *host, "random rows", error));
  ss_random random = ss_random_seed(5, 0);
  for (int64_t i = 0; i < piece; ++i)
    host[i] = (float)ss_random_normal(&random);
  ss_status status = SS_OK;
  if (device->ops->allocate(device, &staging, (size_t)piece * sizeof *host, "random rows") != SS_OK ||
      device->ops->upload(device, staging, host, (size_t)piece * sizeof *host) != SS_OK)
    status = ss_device_error(device, error);
  for (int64_t done = 0; done < count && status == SS_OK; done += piece) {
    int64_t cols = count - done < piece ? count - done : piece;
    if (device->ops->convert(device,
                             ss_matrix_of((char *)data + (size_t)done * element, 1, cols, device->compute),
                             ss_matrix(staging, 1, cols)) != SS_OK)
      status = ss_device_error(device, error);
  }
  if (staging != NULL)
    device->ops->release(device, staging);
  free(host);
  return status;
}

static ss_status attend(decode_parts *parts, int64_t index, ss_error *error) {
  ss_device *device = parts->work->device;
  int64_t batch = parts->work->options->batch, count = parts->n_row * parts->kv_cols;
  size_t slab_bytes = (size_t)count * ss_dtype_size(device->compute);
  char *k = (char *)parts->data + (size_t)(index % parts->n_set) * 2 * slab_bytes;
  SS_OP(device, error, attention_forward, parts->plan, parts->shape,
        ss_matrix_of(parts->out, batch, parts->q_cols, device->compute), (ss_tensor){0},
        ss_matrix_of(parts->q, batch, parts->q_cols, device->compute),
        ss_matrix_of(k, parts->n_row, parts->kv_cols, device->compute),
        ss_matrix_of(k + slab_bytes, parts->n_row, parts->kv_cols, device->compute));
  return SS_OK;
}

static ss_status plan(decode_parts *parts, ss_error *error) {
  decode_work *work = parts->work;
  int64_t batch = work->options->batch;
  SS_OP(work->device, error, attention_plan, &parts->own, work->views, batch, work->ranges, work->n_range,
        parts->n_row, false);
  parts->plan = parts->own;
  return SS_OK;
}

// A plan that has run once is refilled, as in every step but the first.
static ss_status time_plan(decode_parts *parts, bench_timing *timing, ss_error *error) {
  decode_work *work = parts->work;
  const int32_t *arrays[4] = {work->tokens, work->positions, work->cache_rows, work->logit_rows};
  int64_t batch = work->options->batch;
  double seconds[REPEATS];
  for (int k = -WARMUP; k < REPEATS; ++k) {
    SS_TRY(decode_wait(work, error));
    double start = ss_seconds();
    SS_TRY(plan(parts, error));
    for (int i = 0; i < 4; ++i)
      SS_OP(work->device, error, upload, (int32_t *)parts->uploads + i * batch, arrays[i],
            (size_t)batch * sizeof(int32_t));
    if (k >= 0)
      seconds[k] = ss_seconds() - start;
  }
  bench_summarize(seconds, REPEATS, timing);
  return SS_OK;
}

// Logits on their way to the host, which samples.
static ss_status time_download(decode_parts *parts, bench_timing *timing, ss_error *error) {
  decode_work *work = parts->work;
  size_t bytes = (size_t)(work->options->batch * work->options->model.vocab_size) * sizeof(float);
  double seconds[REPEATS];
  SS_OP(work->device, error, allocate, &parts->logits, bytes, "logits");
  for (int k = -WARMUP; k < REPEATS; ++k) {
    SS_TRY(decode_wait(work, error));
    double start = ss_seconds();
    SS_OP(work->device, error, download, work->logits, parts->logits, bytes);
    if (k >= 0)
      seconds[k] = ss_seconds() - start;
  }
  bench_summarize(seconds, REPEATS, timing);
  return SS_OK;
}

// Several calls on different slabs after the caches were emptied, which also hides their launches.
static ss_status time_attention(decode_parts *parts, bench_timing *timing, ss_error *error) {
  ss_device *device = parts->work->device;
  double seconds[REPEATS];
  for (int k = -WARMUP; k < REPEATS; ++k) {
    double one = 0;
    SS_TRY(decode_flush(parts->work, 2, error));
    SS_OP(device, error, stamp, 0);
    for (int i = 0; i < CALLS; ++i)
      SS_TRY(attend(parts, (int64_t)(k + WARMUP) * CALLS + i, error));
    SS_OP(device, error, stamp, 1);
    SS_OP(device, error, stamp_seconds, 0, 1, &one);
    if (k >= 0)
      seconds[k] = one / CALLS;
  }
  bench_summarize(seconds, REPEATS, timing);
  return SS_OK;
}

// Queries and rows to attend over.
static ss_status prepare(decode_parts *parts, ss_error *error) {
  decode_work *work = parts->work;
  SS_TRY(allocate(parts, error));
  SS_TRY(fill(work->device, parts->data, 2 * parts->n_set * parts->n_row * parts->kv_cols, error));
  return fill(work->device, parts->q, work->options->batch * parts->q_cols, error);
}

ss_status decode_time_parts(decode_work *work, decode_timings *timings, ss_error *error) {
  decode_parts parts = {.work = work};
  decode_set_step(work, work->options->warmup + work->options->steps / 2);
  timings->attention_rows = (double)(work->listed_rows + work->options->batch * (work->step + 1));
  ss_status status = prepare(&parts, error);
  if (status == SS_OK)
    status = plan(&parts, error);
  if (status == SS_OK)
    status = attend(&parts, 0, error);
  if (status == SS_OK)
    status = time_plan(&parts, &timings->plan, error);
  if (status == SS_OK)
    status = time_attention(&parts, &timings->attention, error);
  if (status == SS_OK && !work->device->synchronous)
    status = time_download(&parts, &timings->download, error);
  release(&parts);
  return status;
}

ss_status decode_time_attention(decode_work *work, const ss_attention_plan *plan, bench_timing *timing,
                                ss_error *error) {
  decode_parts parts = {.work = work, .plan = plan};
  ss_status status = prepare(&parts, error);
  if (status == SS_OK)
    status = time_attention(&parts, timing, error);
  release(&parts);
  return status;
}
