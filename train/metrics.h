// The learning curve: metrics.csv, one row every log_every steps and at every validation. Losses, accuracies,
// tokens_per_second and attended_rows_per_token are means since the row before; gradient_norm and learning_rate
// are the last step's; the others count from the run's start. Empty cells: not measured.
#ifndef SELFSPAN_TRAIN_METRICS_H
#define SELFSPAN_TRAIN_METRICS_H

#include <stdint.h>

#include "common/error.h"

typedef struct {
  int64_t step, examples, tokens, targets;
  double train_loss, train_token_accuracy, learning_rate, gradient_norm;
  int64_t skipped;
  double seconds, tokens_per_second, attended_rows_per_token;
  double validation_loss, validation_accuracy, validation_score;  // NaN: an empty cell
} metrics_row;

typedef struct metrics metrics;

// Opens PATH for appending. Rows after `last_step` (of an interrupted run) and an incomplete last line are dropped
// first; -1 starts the file anew. A file with other columns is refused.
ss_status metrics_open(metrics **out, const char *path, int64_t last_step, ss_error *error);
// Appends a row, which readers see at once.
ss_status metrics_append(metrics *metrics, const metrics_row *row, ss_error *error);
// Forces the rows to disk: a checkpoint must not outlive the rows before it.
ss_status metrics_sync(metrics *metrics, ss_error *error);
// Closes the file; NULL is allowed.
void metrics_close(metrics *metrics);

#endif
