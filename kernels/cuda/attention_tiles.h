// Views -> tiles: the plan that the tensor-core attention kernels run on, made on the host, without CUDA.
//
// Two lists of the same form. The *query* list (forward, dq): a tile's rows are queries, its columns the key rows
// that any of them reads. The *key* list (dk, dv): rows are key rows, columns the queries that read any of them.
// Rows and columns are gathered by index, so a tile holds only what is visible, whatever the alignment. Rows that
// share a visible set share a slot (at most 32 a tile), and every column carries the slots that see it:
//
//   visible(row r, column c) = (column_bits[c] >> row_slot[r] & 1) and key <= limit
//
// where (query list) key = columns[c], limit = row_value[r]; (key list) key = row_value[r], limit = column_value[c].
// A query's limit is the last row of its causal part (of its ranges, when it has none). Nothing of size T x T exists.
//
// A warp owns 16 consecutive rows of a tile and skips the groups of 16 columns that none of its rows sees. A view's
// rows in different warps have different slots, each with the columns up to its own last row, so that the bits alone
// tell the groups of the causal triangle too.
//
// Columns stand in the order in which the rows come to need them, not ascending: what one warp reads lies together.
// Padding rows (index -1) may stand anywhere in a tile: a warp is left part empty when that saves columns.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_TILES_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TILE_SLOTS 32
#define TILE_COLUMNS 64      // a tile's columns are padded to a multiple of this with -1
#define TILE_GROUP 16        // columns of a group
#define TILE_ROWS_SMALL 64   // rows of a tile: short views
#define TILE_ROWS_LARGE 128  // long views (documents without spans)

// One tile: rows [index * tile_rows, ...) of row_*; columns [column_first, column_first + n_column) padded.
typedef struct {
  int32_t column_first;  // a multiple of TILE_COLUMNS
  int32_t n_column;      // padded: a multiple of TILE_COLUMNS, never 0
} attention_tile;

// Tiles are sorted by falling work, so that the longest start first.
typedef struct {
  int32_t tile_rows;  // TILE_ROWS_SMALL or TILE_ROWS_LARGE
  int64_t n_tile, n_column;
  int64_t n_row;          // rows that are not padding
  attention_tile *tiles;  // [n_tile]
  int32_t *rows;          // [n_tile * tile_rows] index into q/out (query list) or k/v (key list); -1: none
  int32_t *row_value;     // [n_tile * tile_rows] limit (query list) or the key row (key list)
  int32_t *row_slot;      // [n_tile * tile_rows]
  int32_t *columns;       // [n_column] key row (query list) or query (key list); -1: padding
  int32_t *column_value;  // [n_column] key row (query list) or the query's limit (key list)
  uint32_t *column_bits;  // [n_column]; 0 for padding
} attention_tile_list;

typedef struct {
  attention_tile_list queries, keys;  // `keys` is empty unless the plan is for a backward
  // Key rows that no query reads and query rows that no view covers are in no tile.
  int64_t n_pair;        // visible query-key pairs
  int64_t n_pair_tiled;  // pairs that the query list multiplies: 256 for each group that a warp does not skip
  unsigned char *block;  // all arrays of both lists, so that one copy moves them
  size_t block_bytes, block_capacity;
  void *work;  // storage of the builder
} attention_tiles;

// Fills `tiles` (zero-initialised at first, reused afterwards) from views and ranges as attention_plan receives
// them. The result depends on the input alone, not on the number of threads. Fails with SS_ERROR_MEMORY, or
// SS_ERROR_INTERNAL on views that do not fit n_key_row.
ss_status attention_tiles_build(attention_tiles *tiles, const ss_attention_view *views, int64_t n_view,
                                const span_range *ranges, int64_t n_range, int64_t n_key_row, bool backward,
                                ss_error *error);
void attention_tiles_free(attention_tiles *tiles);

#ifdef __cplusplus
}
#endif

#endif
