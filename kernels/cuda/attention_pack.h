// Packing items into tiles: an item is a run of rows that share a visible set. Private to attention_tiles.c and
// attention_pack.c; contracts in attention_tiles.h.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_PACK_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_PACK_H

#include "kernels/cuda/attention_tiles.h"

#define PACK_STRIP 16  // rows of a warp
#define PACK_LANES 4   // open tiles

// The tiles of one chunk of the work, in the order in which they were closed; storage is kept between calls.
typedef struct {
  int64_t n_tile, n_column, n_row;
  int32_t *tile_columns;                 // [n_tile] padded
  int32_t *rows, *row_value, *row_slot;  // [n_tile * tile_rows]
  int32_t *columns, *column_value;       // [n_column]
  uint32_t *column_bits;
  int64_t tile_capacity, row_capacity[3], column_capacity[3];
  int64_t n_pair, n_pair_tiled;
} pack_output;

// Rows [row_first, row_first + n_row) of a list. Query list: queries of `view`. Key list: key rows, read by
// views[readers[0]], views[readers[1]], ..., in the order of their queries, each by its ranges or by its causal part.
typedef struct {
  int32_t row_first, n_row;
  const ss_attention_view *view;
  const int32_t *readers;
  int64_t n_reader;
} pack_item;

// An open tile.
typedef struct {
  bool open;
  int32_t n_row, n_slot;
  int64_t last_use;
  int64_t n_seen, n_strip_seen;  // columns in all; those of the strip that is being filled
  int32_t word_first, word_end;  // words of `seen` in use
  uint64_t *seen, *strip_seen;   // sets of columns
  span_range *ranges;            // of all slots, one after the other
  int64_t n_range, range_capacity;
  int64_t slot_ranges[TILE_SLOTS + 1];  // where each slot's begin
  int32_t rows[TILE_ROWS_LARGE], row_value[TILE_ROWS_LARGE], row_slot[TILE_ROWS_LARGE];
} pack_lane;

// One thread's packer.
typedef struct {
  // Set before use.
  const ss_attention_view *views;
  const span_range *ranges;
  const int32_t *limits;  // [queries] the last key row that a query may see
  bool key_list;
  int32_t tile_rows;
  pack_output *output;
  // Storage: n_word words a set; position[column], -1 outside pack_close.
  int64_t n_word;
  uint64_t *sets, *item_set, *empty_set;
  int32_t *position;
  span_range *item_ranges;
  int64_t item_capacity;
  int64_t clock;
  pack_lane lanes[PACK_LANES];
} packer;

// Columns lie in [0, n_axis).
ss_status packer_reserve(packer *packer, int64_t n_axis, ss_error *error);
ss_status packer_add(packer *packer, const pack_item *item, ss_error *error);
// Closes all open tiles.
ss_status packer_finish(packer *packer, ss_error *error);
// After a failure: forgets open tiles.
void packer_free(packer *packer);
void pack_output_free(pack_output *output);

// The last key row that query `query` of a view may see: that of its causal part, else the end of its ranges.
static inline int32_t pack_limit(const ss_attention_view *view, int32_t query) {
  int32_t limit = view->self_last + query;
  return limit >= view->self_first ? limit : view->self_first - 1;
}

#endif
