// What the benchmarks share: repeated timing, a peer run in the same call, and the report.
#ifndef SELFSPAN_COMMANDS_BENCH_H
#define SELFSPAN_COMMANDS_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands/device_options.h"
#include "common/cli.h"
#include "common/error.h"
#include "model/gpt.h"

// Seconds of repeated runs of the same work.
typedef struct {
  double median, low, high;  // low, high: 10th and 90th percentile
  int64_t repeats;
} bench_timing;

// One repeat of the work to be timed.
typedef ss_status (*bench_work)(void *user, ss_error *error);

// Runs `work` `warmup` times untimed, then `repeats` times.
ss_status bench_time(bench_work work, void *user, int64_t warmup, int64_t repeats, bench_timing *timing,
                     ss_error *error);

// Median and percentiles of `n` times, which are sorted in place.
void bench_summarize(double *seconds, int64_t n, bench_timing *timing);

json_t *bench_timing_json(const bench_timing *timing);

// Runs `python script arguments...` and reads the JSON object on the last line of its output. The peer's stderr goes
// through. *out belongs to the caller.
ss_status bench_peer(const char *python, const char *script, char *const *arguments, json_t **out,
                     ss_error *error);

// Parses the line: model keys start from a GPT-2 block of 6 layers, 384 wide, 6 heads, vocabulary 512, 2,560 positions, then
// --set (`assignments`, freed here) is applied. line->groups[0] must be the model's.
ss_status bench_parse(const ss_command_line *line, int argc, char **argv, gpt_config *model,
                      ss_string_list *assignments, bool *help, ss_error *error);

// What the device reaches on a large matrix product in its compute dtype, and on a large copy (bytes read + written).
typedef struct {
  double gemm_flops, copy_bytes;  // a second
} bench_ceiling;
ss_status bench_measure_ceiling(ss_device *device, bench_ceiling *out, ss_error *error);

ss_status bench_attention_command(int argc, char **argv, ss_error *error);
ss_status bench_losses_command(int argc, char **argv, ss_error *error);
ss_status bench_train_command(int argc, char **argv, ss_error *error);
ss_status bench_decode_command(int argc, char **argv, ss_error *error);

#endif
