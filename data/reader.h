// Training batches from a store: seeded shuffling, an arm's rendering, packing of several examples into rows, with
// one I/O thread that stays ahead of the trainer. Memory is flat: blocks of examples are shuffled by block order and
// within a window of blocks. The sequence of batches is a pure function of (store, options), and `reader_seek`
// restores any point of it, so that a resumed run sees the same batches.
#ifndef SELFSPAN_DATA_READER_H
#define SELFSPAN_DATA_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/render.h"
#include "data/store.h"

typedef struct {
  arm arm;
  span_policy policy;
  int32_t n_row;       // packed rows a batch (B)
  int32_t row_tokens;  // tokens a row (T); examples are never cut: a longer one is an error at open
  int32_t
      examples_a_batch;  // 0: rows are filled greedily; > 0: exactly so many examples a batch (equal examples
                         // across arms), rows as many as it takes
  uint64_t seed;
  bool shuffle;
  bool random_anchor_offset;  // uniform in [0, n_anchor - segments], by (seed, epoch, example); else 0
} reader_options;

// One batch, packed without padding between examples: rows of the batch are rows of the model's input.
typedef struct {
  int64_t n_row;                          // tokens in all (= inputs); each example gives n_token - 1 inputs
  int32_t *tokens, *targets, *positions;  // [n_row]; targets -1 where there is no loss
  span_view *views;                       // batch row numbers; covering every row once
  int64_t n_view;
  span_range *ranges;  // batch row numbers
  int64_t n_range;
  int64_t *examples;  // [n_example] their numbers in the store, in the order of their rows
  int64_t n_example, n_target;
  int64_t attended_rows;  // sum of |V(i)| over all rows
  int64_t capacity_row, capacity_view, capacity_range, capacity_positions, capacity_targets, capacity_example;
} reader_batch;

typedef struct reader reader;
// The store belongs to the reader until reader_close: only its const getters may be called meanwhile. The thread
// starts with the first reader_next.
ss_status reader_open(reader **out, store *store, const reader_options *options, ss_error *error);
// The next batch; valid until the next call. The set is repeated for ever, each epoch in another order. An error of
// the thread comes after the batches before it, and again at every call until reader_seek.
ss_status reader_next(reader *reader, const reader_batch **batch, ss_error *error);
// Position: batches delivered since the start. Seeking replays the order and, for rows that are filled, the packing
// from the examples' lengths; it does not read the examples.
int64_t reader_position(const reader *reader);
ss_status reader_seek(reader *reader, int64_t position, ss_error *error);
double reader_epoch(const reader *reader);  // epochs completed, fractional
int64_t reader_examples_seen(const reader *reader);
// Stops the thread. The store stays open and is the caller's again. NULL is allowed.
void reader_close(reader *reader);

#endif
