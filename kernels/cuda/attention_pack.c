// Greedy packing: a few tiles are open at a time; an item joins the one where it costs least. Headers of successive
// segments read nearly the same rows, bodies read few: they end up in tiles of their own.
#include "kernels/cuda/attention_pack.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

// Costs in units of a column read by one strip of 16 rows. Gathering a column from the second-level cache, once a tile,
// takes about as long.
#define COST_LOAD 20
#define COST_STRIP 16
#define COST_TILE (40 * COST_LOAD)

// Where an item would go.
typedef struct {
  int lane;  // -1: a new tile
  int32_t row;
  int64_t cost;
} pack_place;

static int32_t minimum(int32_t a, int32_t b) {
  return a < b ? a : b;
}

static int64_t append_range(span_range *out, int64_t n, int32_t first, int32_t end) {
  if (first >= end)
    return n;
  if (n > 0 && first <= out[n - 1].end && first >= out[n - 1].first) {
    out[n - 1].end = end > out[n - 1].end ? end : out[n - 1].end;
    return n;
  }
  out[n] = (span_range){first, end};
  return n + 1;
}

// The columns that rows [first, first + n_row) of the item see.
static int64_t item_columns(const packer *packer, const pack_item *item, int32_t first, int32_t n_row,
                            span_range *out) {
  int64_t n = 0;
  if (!packer->key_list) {
    const ss_attention_view *view = item->view;
    for (int32_t r = 0; r < view->n_range; ++r)
      out[n++] = packer->ranges[view->range_first + r];
    return append_range(out, n, view->self_first, view->self_last + first + n_row);
  }
  int32_t key = item->row_first + first;
  for (int64_t i = 0; i < item->n_reader; ++i) {
    const ss_attention_view *view = &packer->views[item->readers[i]];
    int32_t skipped = key >= view->self_first && key > view->self_last ? key - view->self_last : 0;
    n = append_range(out, n, view->q_first + skipped, view->q_first + view->n_query);
  }
  return n;
}

static int64_t item_range_count(const packer *packer, const pack_item *item) {
  return packer->key_list ? item->n_reader : item->view->n_range + 1;
}

// --- sets ---
// Bits of each byte, in the byte.
static inline uint64_t count_in_bytes(uint64_t x) {
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}

static inline int64_t sum_of_bytes(uint64_t x) {
  x = (x & 0x00ff00ff00ff00ffu) + (x >> 8 & 0x00ff00ff00ff00ffu);
  return (int64_t)(x * 0x0001000100010001u >> 48);
}

// Elements of set - without, in the words [first, end). Written so that compilers use vectors.
static int64_t count_missing(const uint64_t *set, const uint64_t *without, int32_t first, int32_t end) {
  int64_t sum = 0;
  for (int32_t begin = first; begin < end; begin += 31) {  // a byte holds 31 times 8
    int32_t stop = minimum(begin + 31, end);
    uint64_t bytes = 0;
    for (int32_t word = begin; word < stop; ++word)
      bytes += count_in_bytes(set[word] & ~without[word]);
    sum += sum_of_bytes(bytes);
  }
  return sum;
}

static inline void add_range(uint64_t *set, int32_t first, int32_t end) {
  uint32_t word = (uint32_t)first >> 6, last = (uint32_t)(end - 1) >> 6;
  uint64_t head = ~(uint64_t)0 << (first & 63), tail = ~(uint64_t)0 >> (63 - ((end - 1) & 63));
  if (word == last) {
    set[word] |= head & tail;
    return;
  }
  set[word++] |= head;
  while (word < last)
    set[word++] = ~(uint64_t)0;
  set[last] |= tail;
}

// Ranges, their set, and the words that it lies in.
typedef struct {
  const span_range *ranges;
  int64_t n_range;
  uint64_t *set;
  int32_t word_first, word_end;
} column_set;

static column_set make_set(uint64_t *set, const span_range *ranges, int64_t n_range) {
  column_set made = {ranges, n_range, set, INT32_MAX, 0};
  int32_t first = INT32_MAX,
          end = 0;  // ranges ascend, unless views have their queries and keys in different orders
  for (int64_t r = 0; r < n_range; ++r) {
    add_range(set, ranges[r].first, ranges[r].end);
    first = minimum(first, ranges[r].first);
    end = ranges[r].end > end ? ranges[r].end : end;
  }
  if (n_range > 0) {
    made.word_first = first / 64;
    made.word_end = (end + 63) / 64;
  }
  return made;
}

static void clear_set(column_set *set) {
  if (set->word_end > set->word_first)
    memset(set->set + set->word_first, 0, (size_t)(set->word_end - set->word_first) * sizeof(uint64_t));
}

// --- tiles ---
static ss_status reserve_tile(const packer *packer, pack_output *out, int64_t n_column, ss_error *error) {
  void *rows[] = {&out->rows, &out->row_value, &out->row_slot};
  void *columns[] = {&out->columns, &out->column_value, &out->column_bits};
  SS_TRY(ss_grow(&out->tile_columns, &out->tile_capacity, out->n_tile + 1, 4, "attention tiles", error));
  for (int i = 0; i < 3; ++i) {
    SS_TRY(ss_grow(rows[i], &out->row_capacity[i], (out->n_tile + 1) * packer->tile_rows, 4,
                   "attention tiles", error));
    SS_TRY(
        ss_grow(columns[i], &out->column_capacity[i], out->n_column + n_column, 4, "attention tiles", error));
  }
  return SS_OK;
}

// Columns in the order of first need; returns their number.
static int32_t place_columns(const packer *packer, const pack_lane *lane, int32_t *columns, uint32_t *bits) {
  int32_t *position = packer->position, n_column = 0;
  for (int32_t slot = 0; slot < lane->n_slot; ++slot) {
    uint32_t bit = (uint32_t)1 << slot;
    for (int64_t r = lane->slot_ranges[slot]; r < lane->slot_ranges[slot + 1]; ++r)
      for (int32_t column = lane->ranges[r].first; column < lane->ranges[r].end; ++column) {
        int32_t at = position[column];
        if (at >= 0) {
          bits[at] |= bit;
          continue;
        }
        position[column] = n_column;
        columns[n_column] = column;
        bits[n_column++] = bit;
      }
  }
  for (int32_t c = 0; c < n_column; ++c)
    position[columns[c]] = -1;
  return n_column;
}

static ss_status close_lane(packer *packer, pack_lane *lane, ss_error *error) {
  pack_output *out = packer->output;
  int64_t padded = (lane->n_seen + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
  padded = padded > 0 ? padded : TILE_COLUMNS;
  SS_TRY(reserve_tile(packer, out, padded, error));
  int64_t first_row = out->n_tile * packer->tile_rows;
  for (; lane->n_row < packer->tile_rows; ++lane->n_row)
    lane->rows[lane->n_row] = -1;
  uint32_t strip_slots[TILE_ROWS_LARGE / PACK_STRIP] = {0};
  for (int32_t r = 0; r < packer->tile_rows; ++r) {
    bool real = lane->rows[r] >= 0;
    out->rows[first_row + r] = lane->rows[r];
    out->row_value[first_row + r] = real ? lane->row_value[r] : packer->key_list ? INT32_MAX : -1;
    out->row_slot[first_row + r] = real ? lane->row_slot[r] : 0;
    strip_slots[r / PACK_STRIP] |= real ? (uint32_t)1 << lane->row_slot[r] : 0;
    out->n_row += real;
  }
  int32_t *columns = out->columns + out->n_column, *values = out->column_value + out->n_column;
  uint32_t *bits = out->column_bits + out->n_column;
  int32_t n_column = place_columns(packer, lane, columns, bits);
  for (int32_t c = 0; c < n_column; ++c)
    values[c] = packer->key_list ? packer->limits[columns[c]] : columns[c];
  for (int64_t c = n_column; c < padded; ++c) {
    columns[c] = -1;
    values[c] = 0;
    bits[c] = 0;
  }
  for (int64_t first = 0; first < padded; first += TILE_GROUP) {
    uint32_t any = 0;
    for (int64_t c = first; c < first + TILE_GROUP; ++c)
      any |= bits[c];
    for (int32_t s = 0; s < packer->tile_rows / PACK_STRIP; ++s)
      out->n_pair_tiled += (any & strip_slots[s]) != 0 ? PACK_STRIP * TILE_GROUP : 0;
  }
  out->tile_columns[out->n_tile++] = (int32_t)padded;
  out->n_column += padded;
  if (lane->word_end > lane->word_first) {
    size_t bytes = (size_t)(lane->word_end - lane->word_first) * sizeof(uint64_t);
    memset(lane->seen + lane->word_first, 0, bytes);
    memset(lane->strip_seen + lane->word_first, 0, bytes);
  }
  lane->open = false;
  return SS_OK;
}

static void open_lane(const packer *packer, pack_lane *lane) {
  lane->open = true;
  lane->n_row = lane->n_slot = 0;
  lane->n_seen = lane->n_strip_seen = lane->n_range = 0;
  lane->word_first = (int32_t)packer->n_word;
  lane->word_end = 0;
}

static int32_t pieces(int32_t row, int32_t n_row) {
  return (row + n_row + PACK_STRIP - 1) / PACK_STRIP - row / PACK_STRIP;
}

// What it costs to put `n_row` rows that see `n_column` columns, `added` of them new to the tile and `strip_added` new to
// the strip that `row` lies in, at `row` of an open tile. Empty rows cost their share of what the strip reads; every row
// takes its share of what the tile reads; rows that do not fit need the columns once more, elsewhere.
static int64_t place_cost(const packer *packer, const pack_lane *lane, int32_t row, int32_t n_row,
                          int64_t n_column, int64_t added, int64_t strip_added) {
  int32_t placed = minimum(n_row, packer->tile_rows - row);
  int64_t fresh = pieces(row, placed) - (row % PACK_STRIP != 0);
  int64_t cost = COST_LOAD * added + COST_STRIP * fresh * n_column;
  cost += row % PACK_STRIP != 0 ? COST_STRIP * strip_added : 0;
  cost += COST_STRIP * (row - lane->n_row) * lane->n_strip_seen / PACK_STRIP;
  cost += COST_LOAD * (placed + row - lane->n_row) * (lane->n_seen + added) / packer->tile_rows;
  if (placed < n_row)
    cost += COST_LOAD * n_column + COST_STRIP * n_column * pieces(0, n_row - placed);
  return cost;
}

static pack_place choose_place(const packer *packer, int32_t n_row, const column_set *set) {
  int64_t n_column = count_missing(set->set, packer->empty_set, set->word_first, set->word_end);
  pack_place best = {-1, 0, COST_TILE + COST_LOAD * n_column + COST_STRIP * n_column * pieces(0, n_row)};
  for (int l = 0; l < PACK_LANES; ++l) {
    const pack_lane *lane = &packer->lanes[l];
    if (!lane->open)
      continue;
    int64_t added = count_missing(set->set, lane->seen, set->word_first, set->word_end);
    if (n_column > 0 && added == n_column)
      continue;  // nothing in common: other documents stay apart
    int64_t strip_added = count_missing(set->set, lane->strip_seen, set->word_first, set->word_end);
    int32_t aligned = (lane->n_row + PACK_STRIP - 1) / PACK_STRIP * PACK_STRIP;
    for (int32_t row = lane->n_row; row <= aligned && row < packer->tile_rows;
         row = row < aligned ? aligned : row + 1) {
      if (lane->n_slot + pieces(row, minimum(n_row, packer->tile_rows - row)) > TILE_SLOTS)
        continue;
      int64_t cost = place_cost(packer, lane, row, n_row, n_column, added, strip_added);
      if (cost < best.cost)
        best = (pack_place){l, row, cost};
    }
  }
  return best;
}

// A free lane, or the one that was not used for longest, closed.
static ss_status take_lane(packer *packer, int *taken, ss_error *error) {
  int oldest = 0;
  for (int l = 0; l < PACK_LANES; ++l) {
    if (!packer->lanes[l].open) {
      *taken = l;
      return SS_OK;
    }
    if (packer->lanes[l].last_use < packer->lanes[oldest].last_use)
      oldest = l;
  }
  *taken = oldest;
  return close_lane(packer, &packer->lanes[oldest], error);
}

// Gives the next `n_row` rows of the item, which lie in one strip, a slot.
static ss_status put_piece(packer *packer, pack_lane *lane, const pack_item *item, int32_t first,
                           int32_t n_row, const column_set *set, ss_error *error) {
  if (lane->n_row % PACK_STRIP == 0 && lane->n_strip_seen > 0)
    memset(lane->strip_seen + lane->word_first, 0,
           (size_t)(lane->word_end - lane->word_first) * sizeof(uint64_t));
  SS_TRY(ss_grow(&lane->ranges, &lane->range_capacity, lane->n_range + set->n_range, sizeof *lane->ranges,
                 "attention ranges", error));
  if (set->n_range > 0)
    memcpy(lane->ranges + lane->n_range, set->ranges, (size_t)set->n_range * sizeof *set->ranges);
  lane->word_first = minimum(lane->word_first, set->word_first);
  lane->word_end = set->word_end > lane->word_end ? set->word_end : lane->word_end;
  for (int32_t word = set->word_first; word < set->word_end; ++word) {
    lane->seen[word] |= set->set[word];
    lane->strip_seen[word] |= set->set[word];
  }
  lane->n_strip_seen = count_missing(lane->strip_seen, packer->empty_set, lane->word_first, lane->word_end);
  for (int32_t r = 0; r < n_row; ++r) {
    int32_t row = item->row_first + first + r;
    lane->rows[lane->n_row] = row;
    lane->row_value[lane->n_row] = packer->key_list ? row : pack_limit(item->view, first + r);
    lane->row_slot[lane->n_row++] = lane->n_slot;
  }
  lane->slot_ranges[lane->n_slot++] = lane->n_range;
  lane->n_range += set->n_range;
  lane->slot_ranges[lane->n_slot] = lane->n_range;
  return SS_OK;
}

// Puts rows [first, first + n_row) of the item into the tile; `whole` is what they see together.
static ss_status put(packer *packer, pack_lane *lane, const pack_item *item, int32_t first, int32_t n_row,
                     column_set *whole, ss_error *error) {
  if (pieces(lane->n_row, n_row) == 1) {
    SS_TRY(put_piece(packer, lane, item, first, n_row, whole, error));
    clear_set(whole);
  } else {
    clear_set(whole);
    for (int32_t end = first + n_row; first < end;) {
      int32_t n = minimum(end - first, PACK_STRIP - lane->n_row % PACK_STRIP);
      int64_t n_range = item_columns(packer, item, first, n, packer->item_ranges);
      column_set piece = make_set(packer->item_set, packer->item_ranges, n_range);
      SS_TRY(put_piece(packer, lane, item, first, n, &piece, error));
      clear_set(&piece);
      first += n;
    }
  }
  lane->n_seen = count_missing(lane->seen, packer->empty_set, lane->word_first, lane->word_end);
  lane->last_use = ++packer->clock;
  return SS_OK;
}

ss_status packer_add(packer *packer, const pack_item *item, ss_error *error) {
  SS_TRY(ss_grow(&packer->item_ranges, &packer->item_capacity, item_range_count(packer, item),
                 sizeof *packer->item_ranges, "attention ranges", error));
  for (int32_t first = 0; first < item->n_row;) {
    int32_t n_row = minimum(item->n_row - first, packer->tile_rows);
    int64_t n_range = item_columns(packer, item, first, n_row, packer->item_ranges);
    column_set whole = make_set(packer->item_set, packer->item_ranges, n_range);
    pack_place place = choose_place(packer, n_row, &whole);
    if (place.lane < 0) {
      SS_TRY(take_lane(packer, &place.lane, error));
      open_lane(packer, &packer->lanes[place.lane]);
    }
    pack_lane *lane = &packer->lanes[place.lane];
    while (lane->n_row < place.row)
      lane->rows[lane->n_row++] = -1;
    int32_t placed = minimum(n_row, packer->tile_rows - place.row);
    if (placed < n_row) {  // fewer rows may see less
      clear_set(&whole);
      n_range = item_columns(packer, item, first, placed, packer->item_ranges);
      whole = make_set(packer->item_set, packer->item_ranges, n_range);
    }
    SS_TRY(put(packer, lane, item, first, placed, &whole, error));
    first += placed;
    if (lane->n_row == packer->tile_rows || lane->n_slot == TILE_SLOTS)
      SS_TRY(close_lane(packer, lane, error));
  }
  return SS_OK;
}

ss_status packer_finish(packer *packer, ss_error *error) {
  for (int l = 0; l < PACK_LANES; ++l)
    if (packer->lanes[l].open)
      SS_TRY(close_lane(packer, &packer->lanes[l], error));
  return SS_OK;
}

ss_status packer_reserve(packer *packer, int64_t n_axis, ss_error *error) {
  int64_t n_word = n_axis / 64 + 1;
  if (n_word <= packer->n_word)
    return SS_OK;
  packer_free(packer);
  SS_TRY(ss_allocate(&packer->sets, (2 * PACK_LANES + 2) * n_word, sizeof *packer->sets, "attention sets",
                     error));
  SS_TRY(ss_allocate(&packer->position, n_word * 64, sizeof *packer->position, "attention columns", error));
  memset(packer->position, -1, (size_t)(n_word * 64) * sizeof *packer->position);
  packer->n_word = n_word;
  packer->item_set = packer->sets + 2 * PACK_LANES * n_word;
  packer->empty_set = packer->item_set + n_word;
  for (int l = 0; l < PACK_LANES; ++l) {
    packer->lanes[l].seen = packer->sets + 2 * l * n_word;
    packer->lanes[l].strip_seen = packer->sets + (2 * l + 1) * n_word;
  }
  return SS_OK;
}

void packer_free(packer *packer) {
  for (int l = 0; l < PACK_LANES; ++l)
    free(packer->lanes[l].ranges);
  free(packer->sets);
  free(packer->position);
  free(packer->item_ranges);
  memset(packer, 0, sizeof *packer);
}

void pack_output_free(pack_output *output) {
  void *owned[] = {output->tile_columns, output->rows,         output->row_value,  output->row_slot,
                   output->columns,      output->column_value, output->column_bits};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
    free(owned[i]);
  memset(output, 0, sizeof *output);
}
