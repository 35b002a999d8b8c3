// Decoding: views of one query each over row ranges of a KV cache -> work items, made on the host without CUDA, and
// what runs on them.
//
// The rows that each view reads (its ranges, and the rows of its own segment as one more) are put one after the other,
// view by view, and counted through: *visible rows*. Ranges carry the visible row at which they start, a prefix sum over
// the whole batch, so visible row j of range r is key row r.first + (j - r.start), and an item is no more than
// [start, start + n_row) of them. A view's rows are cut evenly into items of at most `item_rows`, whose number depends
// on the batch as a whole: a long view among short ones becomes many items. A view that reads nothing is one item of no
// rows.
//
// A *resident* plan is filled on the device, step by step, at addresses that stay (sequences_advance.cu). A view's ranges
// then have room of their own, and count visible rows from the view's first; items are the same, but for that and for the
// index of a range.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "kernels/cuda/attention_decode_items.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DECODE_WARPS 4  // of a block, which takes an item and a kv head, or several
// Ranges are read this many at a time: so many entries {0, INT32_MAX} end a list among others.
#define DECODE_RANGES_AFTER 33

typedef struct {
  int32_t first;  // key row
  int32_t start;  // visible row: the range goes on to the next one's start
} attention_decode_range;

typedef struct {
  int32_t start, n_row;        // visible rows
  int32_t range;               // that holds the first of them
  int32_t query;               // row of q and out
  int32_t view;                // its counter, where items of a view are merged
  int32_t item_first, n_item;  // the items of its view
  int32_t unused;              // two pieces of 16 bytes
} attention_decode_item;

// Who takes an item's heads: by default what is faster.
typedef enum { DECODE_CHOSEN_UNITS, DECODE_BLOCK_UNITS, DECODE_WARP_UNITS } attention_decode_units;

// Zero-initialised at first, refilled afterwards.
typedef struct {
  attention_decode_units units;    // for tests and measurements
  int64_t n_view, n_range, n_row;  // n_row: visible rows
  int32_t *queries;                // [n_view] row of q, ascending
  int32_t *view_row;               // [n_view + 1] visible rows before a view
  int32_t *view_range;             // [n_view + 1] ranges before a view
  int64_t view_capacity[3];
  // One copy moves both: the ranges, then at item_offset the items.
  unsigned char *block;
  int64_t block_bytes, block_capacity, item_offset;
  int64_t n_item;
  int32_t item_rows;  // 0: not cut into items yet
  bool merges;        // some view has several items
  int64_t heads;      // units of each item that it was cut for
  // On the device (attention_decode.cu).
  void *device_block;
  int64_t device_bytes;
  void *device_counters;  // i32 [n_view, heads] items of a view that are done; zeros between calls
  int64_t counter_bytes;
  // Resident: the block holds view_ranges ranges a view, then room for n_item items, the most that there can be.
  bool resident;
  ss_attention_shape shape;
  ss_dtype dtype;
  int64_t view_ranges;
  int64_t expected_rows;  // of a view
  void *device_n_unit;  // u32: units of all items (attention_decode.cu): what its blocks or their warps take
  void *device_partials;  // what merged items leave
} attention_decode;

static inline attention_decode_range *attention_decode_ranges(const attention_decode *plan) {
  return (attention_decode_range *)(void *)plan->block;
}
static inline attention_decode_item *attention_decode_items(const attention_decode *plan) {
  return (attention_decode_item *)(void *)(plan->block + plan->item_offset);
}

// Fills the ranges from views and ranges as attention_plan receives them. *serves is false, and nothing is made, when
// some view has more than one query, queries do not ascend or the visible rows are more than 31 bits count. Fails on
// views that do not fit n_key_row.
ss_status attention_decode_list(attention_decode *plan, const ss_attention_view *views, int64_t n_view,
                                const span_range *ranges, int64_t n_range, int64_t n_key_row, bool *serves,
                                ss_error *error);
// Cuts the visible rows into items, each of which `heads` blocks are going to read a part of, for a GPU of
// n_multiprocessor. item_rows > 0 sets the size instead (a multiple of DECODE_ITEM_ROUND, at most DECODE_ROWS_MOST).
ss_status attention_decode_cut(attention_decode *plan, int64_t heads, int32_t n_multiprocessor,
                               int32_t item_rows, ss_error *error);
// Views [n_view] and ranges [n_range] that mean the same as those that attention_decode_list was given.
void attention_decode_views(const attention_decode *plan, ss_attention_view *views, span_range *ranges);
void attention_decode_free_host(attention_decode *plan);

// --- attention_decode.cu ---
// Whether the kernels serve a call: aligned rows, head_dim 16, 32, 64 or 128.
bool attention_decode_serves(const ss_tensor *tensors, int n_tensor, ss_attention_shape shape);
// Lists the views and, when a call has told the number of heads before, cuts and uploads.
ss_status attention_decode_plan(ss_device *device, attention_decode *plan, const ss_attention_view *views,
                                int64_t n_view, const span_range *ranges, int64_t n_range, int64_t n_key_row,
                                bool *serves);
// Cuts anew and uploads with a given size of items: for measurements.
ss_status attention_decode_recut(ss_device *device, attention_decode *plan, ss_attention_shape shape,
                                 ss_dtype dtype, int32_t item_rows);
// Makes an empty plan resident: n_view views (view i is query i) of at most view_rows rows, in at most view_ranges
// entries each. expected_rows, of a view, chooses how the kernel is launched. Fails when it does not serve the shape.
ss_status attention_decode_reside(ss_device *device, attention_decode *plan, ss_attention_shape shape,
                                  ss_dtype dtype, int64_t n_view, int64_t view_rows, int64_t view_ranges,
                                  int64_t expected_rows);
// log_sum_exp.data may be NULL.
ss_status attention_decode_forward(ss_device *device, attention_decode *plan, ss_attention_shape shape,
                                   ss_tensor out, ss_tensor log_sum_exp, ss_tensor q, ss_tensor k,
                                   ss_tensor v);
void attention_decode_free(ss_device *device, attention_decode *plan);

// --- attention_decode_baseline.cu: what the kernel is compared with, in benchmarks alone ---
// One block a view and head, never split, which reads every aligned block of 64 key rows that holds a visible row, and
// masks inside. With all rows of a sequence visible, the usual dense kernel; with some, the block-skipping one. BF16,
// head_dim 64 or 128.
typedef struct {
  void *device_block;
  int64_t n_view, n_block;
} attention_decode_blocks;
ss_status attention_decode_baseline_plan(ss_device *device, attention_decode_blocks *blocks,
                                         const attention_decode *plan);
ss_status attention_decode_baseline_forward(ss_device *device, const attention_decode_blocks *blocks,
                                            ss_attention_shape shape, ss_tensor out, ss_tensor q, ss_tensor k,
                                            ss_tensor v);
void attention_decode_baseline_free(ss_device *device, attention_decode_blocks *blocks);

#ifdef __cplusplus
}
#endif

#endif
