// AdamW over the parameter table, gradient clipping, learning-rate schedules.
#ifndef SELFSPAN_TRAIN_OPTIMIZER_H
#define SELFSPAN_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "model/gpt.h"

typedef enum { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT } schedule_kind;

// Learning rate at `step` (0-based): linear warm-up over `warmup` steps (step warmup - 1 has the peak), then decay
// from `peak` to `peak * final_ratio` at `steps`.
double schedule_rate(schedule_kind kind, double peak, double final_ratio, int64_t warmup, int64_t steps,
                     int64_t step);

typedef struct optimizer optimizer;

// AdamW for a trainable model, moments zero. Weight decay acts on the parameters whose table row says so.
ss_status optimizer_create(optimizer **out, gpt *model, double weight_decay, double beta1, double beta2,
                           double epsilon, ss_error *error);
// Multiplies the learning rate of the elements [first, end) of the flat parameter buffer by `rate`. 0 leaves them as they
// are from now on: no update, no decay, no part in the gradient's norm.
ss_status optimizer_set_rate(optimizer *optimizer, int64_t first, int64_t end, double rate, ss_error *error);
// Frees the moments; NULL is allowed. The model must still live.
void optimizer_free(optimizer *optimizer);

// Device addresses of the moments (flat, like the parameters), for checkpoints.
float *optimizer_first_moment(optimizer *optimizer);
float *optimizer_second_moment(optimizer *optimizer);

// Scales gradients by `scale`, clips their global norm to `clip` (0: off), updates. `step` is the number of this
// update, from 1 (bias correction). *norm receives the norm after scaling and before clipping. A norm that is not
// finite updates nothing, moments included, and sets *skipped.
ss_status optimizer_step(optimizer *optimizer, double learning_rate, int64_t step, double scale, double clip,
                         double *norm, bool *skipped, ss_error *error);

// The same in two parts: enqueue lets the device work and returns; collect waits, and gives norm and *skipped.
ss_status optimizer_enqueue(optimizer *optimizer, double learning_rate, int64_t step, double scale,
                            double clip, ss_error *error);
ss_status optimizer_collect(optimizer *optimizer, double *norm, bool *skipped, ss_error *error);

// Bytes of device memory that the moments take.
size_t optimizer_bytes(const optimizer *optimizer);

// *norm = the norm of all weights; not finite when one of them is not.
ss_status optimizer_weight_norm(optimizer *optimizer, double *norm, ss_error *error);

#endif
