// How the visible rows of a batch of views are cut into items: the arithmetic, for the plan that the host makes
// (attention_decode_plan.c) and the one that a kernel makes (sequences_advance.cu). attention_decode.h explains items.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_ITEMS_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_ITEMS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define DECODE_ITEM_FUNCTION static inline __host__ __device__
#else
#define DECODE_ITEM_FUNCTION static inline
#endif

#define DECODE_ROWS_LEAST 128  // rows of an item: powers of two from here
#define DECODE_ROWS_MOST 1024  // to here
#define DECODE_ROWS_SIZES 4    // of them
#define DECODE_ITEM_ROUND 16   // items of a view, but for the last, have a multiple of this

// Items of a view of `rows` visible rows, before they are rounded.
DECODE_ITEM_FUNCTION int32_t attention_decode_count(int32_t rows, int32_t item_rows) {
  return rows > 0 ? (rows - 1) / item_rows + 1 : 1;
}

// Whether `count` items of that size, each read by `heads` blocks, are enough: a block for every multiprocessor, since one
// has enough loads in flight for a multiprocessor's share of the memory's speed. The largest size is chosen that gives so
// many, for items of a view must be merged; DECODE_ROWS_LEAST when none does: smaller ones would be read hardly faster.
DECODE_ITEM_FUNCTION bool attention_decode_enough(int64_t count, int64_t heads, int32_t n_multiprocessor) {
  return count * heads >= n_multiprocessor;
}

// A view's items: rows of each but the last, and how many.
typedef struct {
  int32_t each, count;
} attention_decode_split;

DECODE_ITEM_FUNCTION attention_decode_split attention_decode_split_of(int32_t rows, int32_t item_rows) {
  attention_decode_split split = {0, 1};
  if (rows <= 0)
    return split;
  int32_t even = (rows - 1) / attention_decode_count(rows, item_rows) + 1;
  split.each = (even - 1) / DECODE_ITEM_ROUND * DECODE_ITEM_ROUND + DECODE_ITEM_ROUND;
  split.count = (rows - 1) / split.each + 1;  // rounding up may leave nothing for the last ones
  return split;
}

// Items that n_view views of at most view_rows rows can have, at the size that is chosen for them. Where that is not the
// largest, the size above it was not enough, and half a size has at most twice as many items.
DECODE_ITEM_FUNCTION int64_t attention_decode_most_items(int64_t n_view, int32_t view_rows, int64_t heads,
                                                         int32_t n_multiprocessor) {
  int64_t largest = n_view * attention_decode_count(view_rows, DECODE_ROWS_MOST);
  int64_t smallest = n_view * attention_decode_count(view_rows, DECODE_ROWS_LEAST);
  int64_t halved = 2 * ((n_multiprocessor - 1) / heads), most = largest > halved ? largest : halved;
  return most < smallest ? most : smallest;
}

#endif
