// Where a run stands, apart from weights and moments: everything that a checkpoint must hold for a resumed run to
// be bit-equal to an undisturbed one. Random choices (initialisation, order, anchor offsets) are functions of the
// seed and the reader's position, so those two are the whole generator state.
#ifndef SELFSPAN_TRAIN_STATE_H
#define SELFSPAN_TRAIN_STATE_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"

typedef struct {
  int64_t step;             // steps done, skipped ones included
  int64_t reported_step;    // the last step whose validation and metrics row are done
  int64_t skipped;          // steps not finite: no update
  int64_t skipped_in_row;   // of them, since the last update
  int64_t reader_position;  // micro-batches consumed
  int64_t examples, tokens, targets;
  double train_seconds;
  double train_loss, train_accuracy;                              // last, NaN: never
  double validation_loss, validation_accuracy, validation_score;  // last, NaN: never
  double gradient_norm, learning_rate;                            // of the last step
  // early stopping
  double best_validation_loss,
      best_validation_score;  // of the best step; before any: infinite, the worst there is
  int64_t best_step;          // -1: none
  int64_t without_improvement;
  // sums since the last row of metrics
  double interval_loss, interval_seconds;
  int64_t interval_targets, interval_correct, interval_tokens, interval_attended_rows;
  // the data, by content
  uint64_t train_hash, validation_hash;
} train_state;

// A run's start.
train_state train_state_initial(void);

// To and from JSON; doubles survive bit for bit. `where` names the origin in messages.
json_t *train_state_json(const train_state *state);
ss_status train_state_from_json(train_state *state, const json_t *json, const char *where, ss_error *error);

#endif
