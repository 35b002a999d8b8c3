// The stream of batches that a reader delivers, without threads: the place in the shuffled order, the data of the
// window around it, rendering and packing.
#ifndef SELFSPAN_DATA_READER_STREAM_H
#define SELFSPAN_DATA_READER_STREAM_H

#include "data/reader_batch.h"
#include "data/reader_order.h"
#include "data/store_private.h"

typedef struct {
  store *store;
  reader_options options;
  span_policy policy;  // the arm's
  int64_t n_example;
  reader_order order;
  reader_window_order window;  // the current window; window.size == 0 before the first
  int64_t within;              // next entry of the window
  int64_t examples;            // delivered since the start of the first epoch
  store_read_part loaded;      // how much of the window's blocks is in memory
  store_block blocks[READER_WINDOW_BLOCKS];
  rendering rendered;  // scratch
  int64_t *filled;     // [n_row] tokens placed in each row of the batch
} reader_stream;

// Checks the options against the store. `stream` is freed by reader_stream_free, also on failure.
ss_status reader_stream_init(reader_stream *stream, store *store, const reader_options *options,
                             ss_error *error);
void reader_stream_free(reader_stream *stream);

// Fills the next batch.
ss_status reader_stream_next(reader_stream *stream, reader_batch *batch, ss_error *error);
// Goes to batch `position` of the stream. Only lengths of examples are read, and nothing with examples_a_batch.
ss_status reader_stream_seek(reader_stream *stream, int64_t position, ss_error *error);

#endif
