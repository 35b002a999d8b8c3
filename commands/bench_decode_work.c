// The step that `selfspan bench decode` times: views, a filled cache, one token for every sequence, planned and sampled
// by the host.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench_decode.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"

#define FLUSH_BYTES ((size_t)256 << 20)
#define FLUSHES_MOST 32

// --- the cache's content ---
// Every slab as a prefill of random tokens leaves it: constants could run faster than real rows. On the CPU, where a
// prefill takes long and values do not change the time, a constant.
ss_status decode_fill_cache(decode_work *work, ss_error *error) {
  const decode_bench_options *o = work->options;
  if (work->device->synchronous)
    return gpt_cache_fill(work->cache, 0, o->batch * work->slot_rows, 0.03f, error);
  int32_t *rows = NULL;  // tokens, positions, cache rows: [3, context]
  SS_TRY(ss_allocate(&rows, 3 * o->context, sizeof *rows, "a prompt", error));
  ss_random random = ss_random_seed(4, 0);
  ss_status status = SS_OK;
  for (int64_t b = 0; b < o->batch && status == SS_OK; ++b) {
    int32_t base = (int32_t)(b * work->slot_rows);
    for (int64_t i = 0; i < o->context; ++i) {
      rows[i] = (int32_t)ss_random_below(&random, (uint64_t)o->model.vocab_size);
      rows[o->context + i] = (int32_t)i;
      rows[2 * o->context + i] = base + (int32_t)i;
    }
    ss_attention_view view = {0, (int32_t)o->context, base, base, 0, 0};
    gpt_inference_batch batch = {.n_row = o->context,
                                 .tokens = rows,
                                 .positions = rows + o->context,
                                 .cache_rows = rows + 2 * o->context,
                                 .views = &view,
                                 .n_view = 1};
    status = gpt_infer(work->model, work->cache, &batch, NULL, error);
  }
  free(rows);
  return status;
}

ss_status decode_work_create(decode_work *work, ss_error *error) {
  const decode_bench_options *o = work->options;
  int64_t runs = 0;
  for (int k = 0; k < o->n_run_length; ++k) {
    int64_t n = (o->visible_rows + o->run_lengths[k] - 1) / o->run_lengths[k];
    runs = n > runs ? n : runs;
  }
  work->slot_rows = o->context + o->warmup + o->steps + 2;
  SS_TRY(ss_allocate(&work->tokens, o->batch, sizeof(int32_t), "tokens", error));
  SS_TRY(ss_allocate(&work->positions, o->batch, sizeof(int32_t), "positions", error));
  SS_TRY(ss_allocate(&work->cache_rows, o->batch, sizeof(int32_t), "cache rows", error));
  SS_TRY(ss_allocate(&work->logit_rows, o->batch, sizeof(int32_t), "logit rows", error));
  SS_TRY(ss_allocate(&work->views, o->batch, sizeof *work->views, "views", error));
  SS_TRY(ss_allocate(&work->ranges, o->batch * runs, sizeof *work->ranges, "ranges", error));
  SS_TRY(ss_allocate(&work->logits, o->batch * o->model.vocab_size, sizeof(float), "logits", error));
  SS_TRY(ss_allocate(&work->sample_seconds, o->warmup + o->steps, sizeof(double), "timings", error));
  SS_TRY(sampler_create(&work->sampler, (int32_t)o->model.vocab_size, 0, 0, 1, error));
  SS_TRY(gpt_cache_create(&work->cache, work->model, o->batch, work->slot_rows, error));
  size_t free_bytes = 0, total_bytes = 0;
  SS_OP(work->device, error, memory_free, &free_bytes, &total_bytes);
  // A part of the memory: more than its caches hold, and not long on the emulator.
  work->flush_bytes = total_bytes / 256 < FLUSH_BYTES ? total_bytes / 256 : FLUSH_BYTES;
  SS_OP(work->device, error, allocate, &work->flush, work->flush_bytes, "memory to empty the caches");
  return decode_fill_cache(work, error);
}

void decode_work_free(decode_work *work) {
  if (work->flush != NULL)
    work->device->ops->release(work->device, work->flush);
  gpt_cache_free(work->cache);
  sampler_free(work->sampler);
  free(work->tokens);
  free(work->positions);
  free(work->cache_rows);
  free(work->logit_rows);
  free(work->views);
  free(work->ranges);
  free(work->logits);
  free(work->sample_seconds);
}

// --- what is visible ---
// Scattered runs that add up to visible_rows of the context: gaps are drawn at random, so runs lie unaligned. A
// sequence's runs are the same in every arm.
static void make_runs(decode_work *work, int64_t b) {
  const decode_bench_options *o = work->options;
  ss_attention_view *view = &work->views[b];
  ss_random random = ss_random_seed(2, (uint64_t)b);
  int64_t n_run = (o->visible_rows + work->run_length - 1) / work->run_length;
  int64_t free_rows = o->context - o->visible_rows, row = 0, left = o->visible_rows;
  int32_t base = (int32_t)(b * work->slot_rows);
  for (int64_t k = 0; k < n_run; ++k) {
    int64_t most = 2 * free_rows / (n_run - k + 1);
    int64_t gap = ss_random_range(&random, most > 0 ? 1 : 0, most > 1 ? most : (most > 0 ? 1 : 0));
    int64_t length = left < work->run_length ? left : work->run_length;
    row += gap;
    free_rows -= gap;
    span_append_range(work->ranges + view->range_first, &view->n_range, base + (int32_t)row,
                      base + (int32_t)(row + length));
    row += length;
    left -= length;
  }
}

// A dense sequence has no ranges: everything from its slot's first row.
void decode_make_views(decode_work *work, decode_arm arm, int64_t run_length) {
  const decode_bench_options *o = work->options;
  work->run_length = run_length;
  work->n_range = 0;
  work->listed_rows = 0;
  for (int64_t b = 0; b < o->batch; ++b) {
    bool pruned = arm == DECODE_ARM_SPAN || (arm == DECODE_ARM_MIXED && b % 2 == 1);
    int32_t base = (int32_t)(b * work->slot_rows);
    work->views[b] = (ss_attention_view){.q_first = (int32_t)b,
                                         .n_query = 1,
                                         .self_first = base + (pruned ? (int32_t)o->context : 0),
                                         .range_first = (int32_t)work->n_range};
    work->logit_rows[b] = (int32_t)b;
    work->listed_rows += pruned ? o->visible_rows : o->context;
    if (pruned)
      make_runs(work, b);
    work->n_range += work->views[b].n_range;
  }
}

double decode_mean_rows(const decode_work *work) {
  const decode_bench_options *o = work->options;
  double own = (double)o->warmup + 0.5 * (double)(o->steps - 1) + 1;
  return (double)work->listed_rows + (double)o->batch * own;
}

// --- steps ---
void decode_set_step(decode_work *work, int64_t step) {
  int32_t row = (int32_t)(work->options->context + step);
  for (int64_t b = 0; b < work->options->batch; ++b) {
    work->positions[b] = row;
    work->cache_rows[b] = work->views[b].self_last = (int32_t)(b * work->slot_rows) + row;
  }
  work->step = step;
}

static ss_status infer(decode_work *work, int64_t n_logit_row, ss_error *error) {
  int64_t n = work->options->batch;
  gpt_inference_batch batch = {n, work->tokens, work->positions, work->cache_rows, work->views,
                               n, work->ranges, work->n_range,   work->logit_rows, n_logit_row};
  return gpt_infer(work->model, work->cache, &batch, work->logits, error);
}

// One token for every sequence, at row context + step.
static ss_status one_step(void *user, ss_error *error) {
  decode_work *work = user;
  const decode_bench_options *o = work->options;
  decode_set_step(work, work->step);
  SS_TRY(infer(work, o->batch, error));
  double start = ss_seconds();
  for (int64_t b = 0; b < o->batch; ++b)
    work->tokens[b] = sampler_choose(work->sampler, work->logits + b * o->model.vocab_size, NULL, NULL, NULL);
  work->sample_seconds[work->step++] = ss_seconds() - start;
  return SS_OK;
}

static void restart(decode_work *work) {
  work->step = 0;
  memset(work->tokens, 0, (size_t)work->options->batch * sizeof *work->tokens);
}

ss_status decode_wait(decode_work *work, ss_error *error) {
  return work->device->ops->synchronize(work->device) == SS_OK ? SS_OK : ss_device_error(work->device, error);
}

// Host: what it takes to enqueue a step. Without logits gpt_infer returns before the device is done; the last layer's
// attention and MLP, and the logits, are left out.
static ss_status time_enqueue(decode_work *work, bench_timing *timing, double *seconds, ss_error *error) {
  const decode_bench_options *o = work->options;
  for (int64_t k = -2; k < o->steps; ++k) {
    decode_set_step(work, o->warmup + (k < 0 ? 0 : k));
    SS_TRY(decode_wait(work, error));
    double start = ss_seconds();
    SS_TRY(infer(work, 0, error));
    if (k >= 0)
      seconds[k] = ss_seconds() - start;
  }
  SS_TRY(decode_wait(work, error));
  bench_summarize(seconds, o->steps, timing);
  return SS_OK;
}

ss_status decode_flush(decode_work *work, int times, ss_error *error) {
  for (int k = 0; k < times; ++k)
    SS_OP(work->device, error, zero, work->flush, work->flush_bytes);
  return SS_OK;
}

// The device's part of a step: it is kept busy until the host has enqueued everything.
static ss_status time_device(decode_work *work, double enqueue_seconds, bench_timing *timing, double *seconds,
                             ss_error *error) {
  const decode_bench_options *o = work->options;
  ss_device *device = work->device;
  double one = 0;
  for (int k = 0; k < 2; ++k) {
    SS_OP(device, error, stamp, 0);
    SS_TRY(decode_flush(work, 4, error));
    SS_OP(device, error, stamp, 1);
    SS_OP(device, error, stamp_seconds, 0, 1, &one);
  }
  double wanted = 1.5 * enqueue_seconds / (one / 4) + 1;
  int times = wanted < FLUSHES_MOST ? (int)ceil(wanted) : FLUSHES_MOST;
  for (int64_t k = -2; k < o->steps; ++k) {
    decode_set_step(work, o->warmup + (k < 0 ? 0 : k));
    SS_TRY(decode_flush(work, times, error));
    SS_OP(device, error, stamp, 0);
    SS_TRY(infer(work, o->batch, error));
    SS_OP(device, error, stamp, 1);
    SS_OP(device, error, stamp_seconds, 0, 1, &one);
    if (k >= 0)
      seconds[k] = one;
  }
  bench_summarize(seconds, o->steps, timing);
  return SS_OK;
}

ss_status decode_time_steps(decode_work *work, decode_timings *timings, ss_error *error) {
  const decode_bench_options *o = work->options;
  restart(work);
  SS_TRY(bench_time(one_step, work, o->warmup, o->steps, &timings->step, error));
  bench_summarize(work->sample_seconds + o->warmup, o->steps, &timings->sample);
  if (work->device->synchronous)
    return SS_OK;
  double *seconds = NULL;
  SS_TRY(ss_allocate(&seconds, o->steps, sizeof *seconds, "timings", error));
  ss_status status = time_enqueue(work, &timings->enqueue, seconds, error);
  if (status == SS_OK)
    status = time_device(work, timings->enqueue.median, &timings->device, seconds, error);
  free(seconds);
  return status;
}

// --- the check ---
ss_status decode_poison(decode_work *work, ss_error *error) {
  for (int64_t b = 0; b < work->options->batch; ++b) {
    const ss_attention_view *view = &work->views[b];
    int32_t row = (int32_t)(b * work->slot_rows);
    for (int32_t k = 0; k <= view->n_range; ++k) {
      int32_t end = k < view->n_range ? work->ranges[view->range_first + k].first : view->self_first;
      if (end > row)
        SS_TRY(gpt_cache_fill(work->cache, row, end - row, NAN, error));
      if (k < view->n_range)
        row = work->ranges[view->range_first + k].end;
    }
  }
  return SS_OK;
}

ss_status decode_first_step(decode_work *work, ss_error *error) {
  restart(work);
  return one_step(work, error);
}

ss_status decode_compare(decode_work *work, const float *clean, const float *poisoned, ss_error *error) {
  int64_t n = work->options->batch * work->options->model.vocab_size;
  for (int64_t i = 0; i < n; ++i) {
    if (!isfinite(clean[i]))
      return ss_fail(error, SS_ERROR_NUMERIC, "logit %lld of a decoding step is not finite", (long long)i);
    if (!(poisoned[i] == clean[i]))
      return ss_fail(error, SS_ERROR_INTERNAL, "decoding read a row that was not selected");
  }
  return SS_OK;
}

ss_status decode_check(decode_work *work, ss_error *error) {
  int64_t n = work->options->batch * work->options->model.vocab_size;
  float *clean = NULL;
  SS_TRY(ss_allocate(&clean, n, sizeof *clean, "logits", error));
  ss_status status = decode_first_step(work, error);
  memcpy(clean, work->logits, (size_t)n * sizeof *clean);
  if (status == SS_OK)
    status = decode_poison(work, error);
  if (status == SS_OK)
    status = decode_first_step(work, error);
  if (status == SS_OK)
    status = decode_compare(work, clean, work->logits, error);
  free(clean);
  return status;
}
