// The order in which a reader goes through a store: a pure function of (number of examples, options, epoch), so
// that any point of it can be found again without reading data.
//
// Examples lie in blocks of consecutive ones. An epoch shuffles the blocks, takes them in windows of a few, and
// shuffles the examples within each window: random enough for training, sequential enough for disks, and only one
// window is ever in memory.
#ifndef SELFSPAN_DATA_READER_ORDER_H
#define SELFSPAN_DATA_READER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define READER_WINDOW_BLOCKS 4

typedef struct {
  int64_t n_example, block_examples, n_block, n_window;
  uint64_t seed;
  bool shuffle;
  int64_t epoch;    // whose block order stands in blocks; -1: none yet
  int64_t *blocks;  // [n_block]
} reader_order;

// A window's blocks and the order of its examples: entry e is example e % block_examples of the window's block
// e / block_examples.
typedef struct {
  int64_t epoch, window;
  int64_t n_block;
  int64_t blocks[READER_WINDOW_BLOCKS];  // block numbers
  int64_t size;
  int32_t *entries;  // [size]
  int64_t capacity;
} reader_window_order;

// Examples a block holds: about a million tokens, at most 4096 examples.
int64_t reader_block_examples(int64_t n_example, int64_t n_token);

ss_status reader_order_init(reader_order *order, int64_t n_example, int64_t block_examples, uint64_t seed,
                            bool shuffle, ss_error *error);
void reader_order_free(reader_order *order);

// Fills `out` (zero-initialised once, reused; entries freed with free) for window 0 <= window < n_window of an epoch.
ss_status reader_order_window(reader_order *order, int64_t epoch, int64_t window, reader_window_order *out,
                              ss_error *error);
// Examples in block `block`: block_examples, except in the last one.
int64_t reader_order_block_size(const reader_order *order, int64_t block);
// The window that holds the epoch's example number `place` (0 <= place < n_example), and its place there.
ss_status reader_order_find(reader_order *order, int64_t epoch, int64_t place, int64_t *window,
                            int64_t *within, ss_error *error);

#endif
