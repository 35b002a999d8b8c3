// The training loop: batches from a reader, gradient accumulation, AdamW, validation by loss and by generation,
// metrics appended to CSV, checkpoints, resume bit for bit.
//
// A run folder holds
//   config.json            the resolved configuration
//   metrics.csv            a row every log_every steps and at every validation (train/metrics.h)
//   checkpoints/step_N.h5  the last K whole states: weights, moments, counters
//   best.h5                the best weights by validation loss or score, when patience > 0
//   model.h5, train.json   at the end: weights alone, and the outcome
// A run is a pure function of (data, base, config), whatever the threads, interruptions and resumes, as long as
// max_seconds is 0; only the columns and fields that hold times differ.
#ifndef SELFSPAN_TRAIN_TRAINER_H
#define SELFSPAN_TRAIN_TRAINER_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "data/render.h"
#include "data/span_keys.h"
#include "model/gpt.h"
#include "train/optimizer.h"

// What tells the best weights: the lowest validation loss, or the highest score by generation.
typedef enum { TRAIN_BEST_LOSS, TRAIN_BEST_SCORE } train_best_metric;

// What learns: everything; all but the embedding's rows of text tokens; nothing but its rows of span tokens.
typedef enum { TRAIN_LEARN_ALL, TRAIN_LEARN_KEEP_TEXT, TRAIN_LEARN_SPAN_TOKENS } train_learn;

// A run's config, keys "train.*"; the model's and span's keys are their rooms'.
typedef struct {
  // data
  char data[SS_CONFIG_STRING];  // folder of train.h5, validation.h5
  char base[SS_CONFIG_STRING];  // checkpoint to start from ("" = random initialisation by model.*)
  char out[SS_CONFIG_STRING];   // run folder
  int arm;                      // arm
  // batches
  int64_t batch_rows, row_tokens;  // rows packed to row_tokens; or
  int64_t batch_examples;          // > 0: exactly so many examples a micro-batch
  int64_t accumulate;              // micro-batches a step
  bool random_anchor_offset;
  int64_t seed;
  bool recompute;  // less memory, the same gradients
  int learn;       // train_learn
  // optimisation
  int64_t steps;
  double max_seconds;  // 0: no limit; measured training time, validation and checkpoints excluded
  double learning_rate, final_ratio;
  double span_tokens_rate;  // multiplies the learning rate of the embedding's rows of span tokens
  int schedule;             // schedule_kind
  int64_t warmup;
  double weight_decay, beta1, beta2, epsilon, clip;
  int64_t max_skipped;  // non-finite steps in a row before stopping with the last good checkpoint
  // validation
  int64_t validate_every;     // steps; 0: only at the end
  int64_t validate_examples;  // for the loss; 0: none
  int64_t generate_examples;  // for accuracy and score by generation; 0: none
  int64_t generate_tokens;    // at most so many an example; 0: as many as fit
  bool generate_constrain;    // as decode.constrain
  int best_metric;            // train_best_metric
  int64_t patience;           // validations without improvement before stopping; 0: off
  // checkpoints
  int64_t checkpoint_every;  // steps; 0: only at the end
  int64_t keep;              // last K
  int64_t log_every;
} train_config;
extern const ss_key train_config_keys[];

// Checks what ranges of single keys cannot: required and mutually dependent keys.
ss_status train_config_check(const train_config *config, ss_error *error);

// Whether a resumed run may have another value of this key than the run it continues.
bool train_key_may_change(const train_config *config, const char *name);

// What validation by generation finds; NaN: the task has no such number.
typedef struct {
  double accuracy;  // share of the examples that are right
  double score;     // mean of the task's own number, the higher the better
  int64_t items;
} train_generated;

// Scores generated examples: evaluation's job, given to the trainer by its caller so that training knows no task.
// `model` is the current model. May return SS_ERROR_INTERRUPTED when the stop flag is set: the validation is then done
// again by the resumed run.
typedef ss_status (*train_generate_score)(void *user, gpt *model, train_generated *found, ss_error *error);

// Receives one-line notices during the run: a damaged checkpoint passed over, a step skipped.
typedef void (*train_notice)(void *user, const char *message);

typedef struct {
  int64_t steps, examples, tokens, targets;  // done in all, earlier parts of a resumed run included
  int64_t skipped;                           // of the steps, those not finite
  double train_seconds;
  double train_loss, validation_loss, validation_accuracy, validation_score;  // last; NaN when never measured
  double best_validation_loss, best_validation_score;                         // at the best step
  int64_t best_step;                                                          // -1: none
  int64_t n_parameter;
  char parameters_hash[33];  // XXH3-128 of the final weights: equal for bit-equal runs
  bool stopped_early, interrupted;
} train_outcome;

typedef struct {
  const train_config *config;
  const gpt_config *model;    // shape for random initialisation; vocab_size 0: the dataset's
  const span_policy *policy;  // the span arm's; other arms run without a mask
  const json_t *resolved;     // full resolved configuration, stored in checkpoints
  ss_device *device;
  bool resume;     // continue from the newest good checkpoint of the run folder (none at all: start)
  bool overwrite;  // an existing run in the folder is removed; without it and resume it is an error
  bool quiet;
  const volatile sig_atomic_t *stop;    // set by a signal handler: save and return; may be NULL
  train_generate_score generate_score;  // NULL: no validation by generation
  void *generate_user;
  train_notice notice;  // may be NULL
  void *notice_user;
} train_request;

// Runs or resumes training. Returns SS_ERROR_INTERRUPTED, with outcome filled and a checkpoint written, when the
// stop flag ended it. `resolved` must be what ss_config_json gives for groups with "train.*" and "model.*" keys.
ss_status trainer_run(const train_request *request, train_outcome *outcome, ss_error *error);

// The outcome as JSON (train.json); times are in fields ending in "seconds". Caller owns it.
json_t *train_outcome_json(const train_outcome *outcome);

#endif
