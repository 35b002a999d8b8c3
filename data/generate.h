// Makes the examples of a split: many threads generate and render blocks of indices, one at a time hands them over in
// the order of the indices. What is handed over does not depend on the number of threads.
#ifndef SELFSPAN_DATA_GENERATE_H
#define SELFSPAN_DATA_GENERATE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/render.h"
#include "data/task.h"

typedef struct {
  const data_task *task;
  void *state;  // opened by the caller
  const vocabulary *vocabulary;
  data_split split;
  int64_t count;  // examples wanted; -1: all that the task has
  bool distinct;  // leave out examples whose context text was handed over before
  int32_t max_header;
  int32_t n_thread;                   // 0: all
  const volatile sig_atomic_t *stop;  // not zero: stop with SS_ERROR_INTERRUPTED; may be NULL
} generate_request;

#define GENERATE_MOST_REASONS 8
#define GENERATE_MOST_NAMED 10

typedef struct {
  int64_t examples;
  int64_t skipped;     // indices that yielded nothing
  int64_t duplicates;  // left out because of `distinct`
  // Of a reader's rows that were skipped: why, and the first ones. Reasons are the task's static strings.
  struct {
    const char *reason;
    int64_t n;
  } reasons[GENERATE_MOST_REASONS];
  int32_t n_reason;
  struct {
    char id[64];
    const char *reason;
  } named[GENERATE_MOST_NAMED];
  int32_t n_named;
} generate_outcome;

// Called in the order of the indices, never by two threads at once.
typedef ss_status (*generate_take)(void *user, const example *example, const rendering *annotated,
                                   ss_error *error);

// Hands over request->count examples. A generator that finds no new example for long fails, saying how many there are
// (SS_ERROR_LIMIT), and so does a reader with fewer than that; one that skips all its rows is SS_ERROR_INPUT.
ss_status generate_examples(const generate_request *request, generate_take take, void *user,
                            generate_outcome *outcome, ss_error *error);

#endif
