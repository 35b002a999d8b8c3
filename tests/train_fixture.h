// A tiny training run for the trainer's tests: a set of random examples, a model of a few thousand weights, and a
// device whose loss op can be made to fail or to raise the stop flag at a chosen call.
#ifndef SELFSPAN_TESTS_TRAIN_FIXTURE_H
#define SELFSPAN_TESTS_TRAIN_FIXTURE_H

#include <signal.h>

#include "helpers.h"
#include "train/trainer.h"

// What the device's loss op does to the passes whose results train the model. Counted from 1; 0: never.
typedef struct {
  int64_t calls;                // backward passes so far
  int64_t nan_first, nan_last;  // passes whose losses (nan_gradient: gradients) become NaN
  bool nan_gradient;
  int64_t stop_at;  // the pass that raises `stop`
  volatile sig_atomic_t stop;
} train_sabotage;

typedef struct {
  char data[TEST_PATH], out[TEST_PATH];
  train_config config;
  gpt_config model;
  span_keys span;
  ss_device *device;
  train_sabotage sabotage;
  // validation by generation, as far as the trainer sees it
  int64_t scored;         // calls so far
  int64_t stop_at_score;  // the call that raises the stop flag
  int64_t interrupt_at;   // the call that is itself interrupted
  const double *scores;   // by call; NULL: a function of the weights, so that a resumed run finds the same
  char notices[2048];     // all notices, a line each
  const char *const *unknown;  // keys that the configuration does not have yet, NULL last; NULL: it has all
  bool resume, overwrite;
} train_fixture;

// A run into the scratch folder `name` of `steps` steps, two micro-batches each, on `threads` threads. The set is
// written once a scratch folder. Free with train_fixture_close.
void train_fixture_open(train_fixture *fixture, const char *name, int64_t steps, int threads);
void train_fixture_close(train_fixture *fixture);

// Runs the trainer; flags and counters of the sabotage start anew.
ss_status train_fixture_run(train_fixture *fixture, train_outcome *outcome, ss_error *error);
// Runs it to its end, and gives the hash of the final weights.
void train_fixture_finish(train_fixture *fixture, train_outcome *outcome);

// path = a file of the run.
const char *train_fixture_path(const train_fixture *fixture, const char *name, char path[2 * TEST_PATH]);
// metrics.csv without the columns that hold times; the caller frees it.
char *train_fixture_metrics(const train_fixture *fixture);
// Checkpoints present.
int train_fixture_checkpoints(const train_fixture *fixture);

#endif
