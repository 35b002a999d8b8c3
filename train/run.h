// Shared by train/*.c only: one run and what it holds.
#ifndef SELFSPAN_TRAIN_RUN_H
#define SELFSPAN_TRAIN_RUN_H

#include "common/progress.h"
#include "data/reader.h"
#include "data/store.h"
#include "train/feed.h"
#include "train/folder.h"
#include "train/metrics.h"
#include "train/state.h"
#include "train/trainer.h"
#include "train/validate.h"

// The micro-batch after those consumed, fetched while the device works.
typedef struct {
  bool fetched, fed;
  gpt_batch rows;  // when fed; borrows from the reader and the feed
  const reader_batch *batch;
} train_ahead;

typedef struct {
  const train_request *request;
  const train_config *config;  // the request's
  train_folder *folder;
  store *train_data, *validation_data;  // validation_data is NULL when nothing validates
  const vocabulary *vocabulary;         // train_data's
  json_t *resolved;                     // the request's, model.* replaced by the actual shape
  gpt *model;
  optimizer *optimizer;
  reader *reader;
  validator *validator;  // NULL: no validation loss
  metrics *metrics;
  train_feed feed;
  train_ahead ahead;
  train_state state;
  int64_t saved_step;  // the newest checkpoint that is known to be good; -1: none
  size_t described;    // characters of the device's description that a notice has shown
  ss_progress progress;
} train_run;

// Opens data, folder, model and reader, at the start or where the newest good checkpoint left off. What was opened
// before a failure is released by train_run_close.
ss_status train_run_open(train_run *run, const train_request *request, ss_error *error);
void train_run_close(train_run *run);

// True when the stop flag is set.
static inline bool train_run_stopping(const train_run *run) {
  return run->request->stop != NULL && *run->request->stop != 0;
}

// Passes a one-line notice to the request's receiver.
void train_run_notice(const train_run *run, const char *format, ...) SS_PRINTF(2, 3);

// --- checkpoints.c ---
// Saves the whole state under its step and removes the oldest beyond `keep`. A step already saved is not saved again.
ss_status train_checkpoint_save(train_run *run, ss_error *error);
// Saves the weights alone to `path`, with vocabulary, arm, policy, configuration and counters.
ss_status train_weights_save(train_run *run, const char *path, ss_error *error);
// Puts the weights of best.h5 into the model.
ss_status train_best_restore(train_run *run, ss_error *error);
// Finds the newest checkpoint that is whole, checks that it continues this run's configuration and data, and takes
// model, moments and state from it; newer damaged ones are reported and removed. *found is false when there is none
// at all; when all are damaged that is an error.
ss_status train_checkpoint_resume(train_run *run, bool *found, ss_error *error);
// The model that training starts from: the base's weights, or a random initialisation.
ss_status train_model_start(train_run *run, ss_error *error);
// Makes the run's optimizer over its model, for the part of it that learns (train.learn).
ss_status train_optimizer_start(train_run *run, ss_error *error);
// XXH3-128 of the weights.
ss_status train_weights_hash(const gpt *model, char out[33], ss_error *error);

// --- compatible.c ---
// Refuses to resume under a configuration that would not continue the stored one, naming the first key.
ss_status train_config_continues(const train_run *run, const json_t *stored, const char *path,
                                 ss_error *error);
// Refuses a model of another shape than model.* asks for; beside a base only keys that differ from their defaults
// ask for anything.
ss_status train_shape_fits(const train_run *run, const gpt_config *actual, const char *path, ss_error *error);
// Puts the actual shape into the resolved configuration.
ss_status train_shape_record(train_run *run, const gpt_config *actual, ss_error *error);

#endif
