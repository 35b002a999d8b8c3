// The parts of `selfspan bench decode`: the work of a step (bench_decode_work.c) and what is measured apart from it
// (bench_decode_parts.c); the command and its report are bench_decode.c.
#ifndef SELFSPAN_COMMANDS_BENCH_DECODE_H
#define SELFSPAN_COMMANDS_BENCH_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "commands/bench.h"
#include "infer/sampler.h"
#include "model/gpt.h"

typedef struct {
  int64_t batch, context, run_length, steps, warmup;
  int64_t visible_rows;  // of the context, for a pruned sequence
  double visible;        // the same as a fraction
  bool mixed;
  gpt_config model;
} decode_bench_options;

typedef enum { DECODE_ARM_DENSE, DECODE_ARM_MIXED, DECODE_ARM_SPAN } decode_arm;

typedef struct {
  const decode_bench_options *options;
  ss_device *device;
  gpt *model;
  gpt_cache *cache;
  sampler *sampler;
  int32_t *tokens, *positions, *cache_rows, *logit_rows;  // [batch]
  ss_attention_view *views;                               // [batch]
  span_range *ranges;
  int64_t slot_rows, n_range;
  int64_t step;
  int64_t listed_rows;     // context rows of all ranges, or of all of the context, summed over the batch
  float *logits;           // [batch, V]
  double *sample_seconds;  // [warmup + steps]
  void *flush;             // device memory: zeroing it empties the caches
  size_t flush_bytes;
} decode_work;

// Medians of what a step consists of. Zero where the device is synchronous: device, enqueue, download.
typedef struct {
  bench_timing step;       // wall time: planning to the sampled tokens
  bench_timing device;     // by the device's stamps, launches hidden: uploads to the downloaded logits
  bench_timing plan;       // host: planning the attention and uploading what a step needs
  bench_timing enqueue;    // host: a step up to the last layer's keys and values, planning included
  bench_timing download;   // the logits, to the host: a part of `device`
  bench_timing sample;     // host
  bench_timing attention;  // one layer's attention alone, on the device, cold
  double attention_rows;   // that it reads
} decode_timings;

ss_status decode_work_create(decode_work *work, ss_error *error);
void decode_work_free(decode_work *work);

// Views and ranges of an arm.
void decode_make_views(decode_work *work, decode_arm arm);
// Points the views at step `step`: the token at row context + step.
void decode_set_step(decode_work *work, int64_t step);
// Key rows that all queries of a step read together, on average over the timed steps.
double decode_mean_rows(const decode_work *work);
// The check inside the benchmark: rows that are not selected are overwritten with NaN, and the logits must be finite
// and stay the same.
ss_status decode_check(decode_work *work, ss_error *error);
ss_status decode_time_steps(decode_work *work, decode_timings *timings, ss_error *error);

// Planning, uploads, the download and one layer's attention, on buffers of their own.
ss_status decode_time_parts(decode_work *work, decode_timings *timings, ss_error *error);
// Empties the device's caches and keeps it busy for `times` times the time that takes.
ss_status decode_flush(decode_work *work, int times, ss_error *error);
// Waits until the device has done everything.
ss_status decode_wait(decode_work *work, ss_error *error);

#endif
