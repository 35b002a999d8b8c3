// The CPU backend's attention plan.
#ifndef SELFSPAN_KERNELS_CPU_ATTENTION_H
#define SELFSPAN_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

// Pieces of one long single-query view, merged in order: items [item_first, item_first + n_item), whose partial
// results lie at partials [partial_first, ...).
typedef struct {
  int64_t item_first, n_item;
} cpu_attention_merge;

// Views whose key rows are connected through overlapping hulls: backward_items [item_first, item_end). One task
// owns the group's dk and dv.
typedef struct {
  int64_t item_first, item_end;
  int64_t pairs;  // query-key pairs, to start with the largest
} cpu_attention_group;

// Small tiles [first, end) that make one task with all their heads, so that a row's heads are read together.
typedef struct {
  int64_t first, end;
} cpu_attention_batch;

struct ss_attention_plan {
  int64_t n_key_row, n_query_end;  // key rows of the call; one past the last query row
  span_range *ranges;
  cpu_attention_item *tiles;       // views of several queries, in pieces of query rows
  cpu_attention_item *rows;        // views of one query, long ones in pieces of key rows; split ones first
  int64_t n_tile, n_row, n_split;  // rows [0, n_split) are pieces that merges joins
  cpu_attention_merge *merges;
  int64_t n_merge;
  int64_t n_large;               // tiles [0, n_large): a task for each and each kv head
  cpu_attention_batch *batches;  // the tiles behind them
  int64_t n_batch;
  bool backward;
  cpu_attention_item *backward_items;
  cpu_attention_group *groups;
  int64_t n_group;
  int64_t range_capacity, tile_capacity, row_capacity, merge_capacity, backward_capacity, group_capacity;
  int64_t batch_capacity;
};

#endif
