// The parts of `selfspan bench decode`:
//   bench_decode.c           the command and its arms
//   bench_decode_report.c    JSON and tables
//   bench_decode_work.c      the work: views, a filled cache, steps that the host plans and samples
//   bench_decode_resident.c  the same steps on the device alone, as graphs
//   bench_decode_parts.c     what is measured apart from the step
//   bench_decode_replay.c    real derivations, their gold tokens forced
#ifndef SELFSPAN_COMMANDS_BENCH_DECODE_H
#define SELFSPAN_COMMANDS_BENCH_DECODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands/bench.h"
#include "commands/decode_floor.h"
#include "common/table.h"
#include "data/span_keys.h"
#include "infer/sampler.h"
#include "model/gpt.h"

#define DECODE_RUN_LENGTHS_MOST 16

typedef struct {
  int64_t batch, context, steps, warmup;
  int64_t run_lengths[DECODE_RUN_LENGTHS_MOST];  // the span arm once for each
  int n_run_length;
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
  int64_t run_length;      // of the arm that the views stand for
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

// The same of a step that the device takes alone.
typedef struct {
  bench_timing step;       // wall time of a run of steps, over their number
  bench_timing device;     // the same by the device's stamps
  bench_timing enqueue;    // host: launching the graph
  bench_timing choose;     // a token for every sequence, from the logits
  bench_timing advance;    // tracker, lists of visible rows and the attention's plan
  bench_timing attention;  // one layer's attention alone, through that plan, cold
  double attention_rows;   // that it reads
  double nmse;             // of its logits to the host path's
} decode_resident_timings;

// --- bench_decode_work.c ---
ss_status decode_work_create(decode_work *work, ss_error *error);
void decode_work_free(decode_work *work);
// Fills the cache anew, after a check.
ss_status decode_fill_cache(decode_work *work, ss_error *error);

// Views and ranges of an arm.
void decode_make_views(decode_work *work, decode_arm arm, int64_t run_length);
// Points the views at step `step`: the token at row context + step.
void decode_set_step(decode_work *work, int64_t step);
// Key rows that all queries of a step read together, on average over the timed steps.
double decode_mean_rows(const decode_work *work);
// The first step's logits of the host path, in work->logits.
ss_status decode_first_step(decode_work *work, ss_error *error);
// Overwrites the rows that are not selected with NaN.
ss_status decode_poison(decode_work *work, ss_error *error);
// The check inside the benchmark: logits must be finite, and the same after decode_poison.
ss_status decode_compare(decode_work *work, const float *clean, const float *poisoned, ss_error *error);
ss_status decode_check(decode_work *work, ss_error *error);
ss_status decode_time_steps(decode_work *work, decode_timings *timings, ss_error *error);
// Empties the device's caches and keeps it busy for `times` times the time that takes.
ss_status decode_flush(decode_work *work, int times, ss_error *error);
// Waits until the device has done everything.
ss_status decode_wait(decode_work *work, ss_error *error);

// --- bench_decode_resident.c ---
// Whether the device takes the work's steps alone.
bool decode_resident_serves(decode_work *work);
// Measures the arm of the work's views, and checks it; rows that are not selected are left as NaN.
ss_status decode_measure_resident(decode_work *work, decode_resident_timings *timings, ss_error *error);

// --- bench_decode_parts.c ---
// Planning, uploads, the download and one layer's attention, on buffers of their own.
ss_status decode_time_parts(decode_work *work, decode_timings *timings, ss_error *error);
// One layer's attention through a plan that reads rows of a cache like the work's.
ss_status decode_time_attention(decode_work *work, const ss_attention_plan *plan, bench_timing *timing,
                                ss_error *error);

// --- bench_decode_report.c ---
// What an arm's report says, whoever takes the steps; `run_length` 0: none.
json_t *decode_host_json(const decode_work *work, const char *engine, int64_t visible_rows,
                         int64_t run_length, const decode_timings *timings, const bench_ceiling *rates);
json_t *decode_resident_json(const decode_work *work, const char *engine, int64_t visible_rows,
                             int64_t run_length, const decode_resident_timings *timings,
                             const bench_ceiling *rates);
// A cell with a number that a report may lack: `scale` times the number under `name` in `object`.
void decode_number_cell(ss_table *table, const char *format, double scale, const json_t *object,
                        const char *name, ss_error *error);
ss_status decode_print(const json_t *all, const decode_bench_options *options, ss_error *error);

// --- bench_decode_replay.c ---
typedef struct {
  const char *folder;  // test.h5 in it
  int64_t examples;    // 0: all
  int64_t batch;       // 0: the largest that fits every arm
  const char *arms;    // "dense,annotated,span"
  span_policy policy;
  gpt_config model;  // n_positions is the data's; so is a vocab_size of 0
  const device_options *on;
  const char *peer;  // interpreter, or NULL
  bool json;
} decode_replay_options;
ss_status decode_replay(const decode_replay_options *options, ss_error *error);

// --- bench_decode.c ---
// Refuses blocks that the peers do not have.
ss_status decode_check_block(const gpt_config *model, ss_error *error);

#endif
