// Progress of long work on stderr: a bar with rate and ETA on a terminal, plain lines every few
// seconds otherwise; silent when `quiet`.
#ifndef SELFSPAN_COMMON_PROGRESS_H
#define SELFSPAN_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef struct {
  const char *label;  // "train"
  const char *unit;   // "examples"
  int64_t total;      // 0 when unknown
  bool quiet;
  bool terminal;
  double start, last;  // seconds, monotonic
  int64_t first, last_done;
  double rate;  // smoothed, units per second
} ss_progress;

// Starts the clock. `first`: units already done (a resumed run). `label` and `unit` must outlive it.
void ss_progress_start(ss_progress *progress, const char *label, const char *unit, int64_t first,
                       int64_t total, bool quiet);

// `note` is a short text after the bar ("loss 0.123"), may be NULL. Cheap: prints at most a few times a second.
void ss_progress_update(ss_progress *progress, int64_t done, const char *note);

// The same for libraries that call back with an amount and how many there are in all; `progress` is an ss_progress.
void ss_progress_show(void *progress, int64_t done, int64_t total);

// Prints the last line, with the mean rate.
void ss_progress_finish(ss_progress *progress, int64_t done, const char *note);

// Seconds on the monotonic clock.
double ss_seconds(void);

#endif
