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
static int count_bits(uint64_t x) {
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return (int)(x * 0x0101010101010101u >> 56);
}

// Adds [first, end) and returns how many were new.
static int64_t add_range(uint64_t *set, int32_t first, int32_t end) {
  int64_t added = 0;
  int32_t last = (end - 1) / 64;
  for (int32_t word = first / 64; word <= last; ++word) {
    uint64_t mask = ~(uint64_t)0;
    if (word == first / 64)
      mask &= ~(uint64_t)0 << first % 64;
    if (word == last)
      mask &= ~(uint64_t)0 >> (63 - (end - 1) % 64);
    added += count_bits(mask & ~set[word]);
    set[word] |= mask;
  }
  return added;
}

static int64_t add_ranges(uint64_t *set, const span_range *ranges, int64_t n_range) {
  int64_t added = 0;
  for (int64_t r = 0; r < n_range; ++r)
    added += add_range(set, ranges[r].first, ranges[r].end);
  return added;
}

// Elements of `set` that neither a nor b has: *missing_a, *missing_b.
static void count_missing(const uint64_t *set, const uint64_t *a, const uint64_t *b, int32_t first,
                          int32_t end, int64_t *missing_a, int64_t *missing_b) {
  int64_t sum_a = 0, sum_b = 0;
  for (int32_t word = first; word < end; ++word) {
    sum_a += count_bits(set[word] & ~a[word]);
    sum_b += count_bits(set[word] & ~b[word]);
  }
  *missing_a = sum_a;
  *missing_b = sum_b;
}

// --- tiles ---
static ss_status close_lane(packer *packer, pack_lane *lane, ss_error *error) {
  pack_output *out = packer->output;
  int64_t padded = (lane->n_seen + TILE_COLUMNS - 1) / TILE_COLUMNS * TILE_COLUMNS;
  padded = padded > 0 ? padded : TILE_COLUMNS;
  SS_TRY(ss_grow(&out->tile_columns, &out->tile_capacity, out->n_tile + 1, sizeof *out->tile_columns,
                 "attention tiles", error));
  SS_TRY(ss_grow(&out->rows, &out->row_capacity, (out->n_tile + 1) * packer->tile_rows, sizeof *out->rows,
                 "attention tiles", error));
  SS_TRY(ss_grow(&out->columns, &out->column_capacity, out->n_column + padded, sizeof *out->columns,
                 "attention tiles", error));
  SS_TRY(ss_grow(&out->groups, &out->group_capacity, (out->n_column + padded) / TILE_GROUP,
                 sizeof *out->groups, "attention tiles", error));
  pack_row *rows = out->rows + out->n_tile * packer->tile_rows;
  pack_column *columns = out->columns + out->n_column;
  attention_group *groups = out->groups + out->n_column / TILE_GROUP;
  out->tile_columns[out->n_tile++] = (int32_t)padded;
  out->n_column += padded;

  uint32_t strip_slots[TILE_ROWS_LARGE / PACK_STRIP] = {0};
  for (int32_t r = 0; r < packer->tile_rows; ++r) {
    if (r < lane->n_row && lane->rows[r].index >= 0) {
      rows[r] = lane->rows[r];
      strip_slots[r / PACK_STRIP] |= (uint32_t)1 << rows[r].slot;
      ++out->n_row;
    } else {
      rows[r] = (pack_row){-1, packer->key_list ? INT32_MAX : -1, 0};
    }
  }
  // Columns in the order of first need.
  int32_t *position = packer->position, n_column = 0;
  for (int32_t slot = 0; slot < lane->n_slot; ++slot) {
    uint32_t bit = (uint32_t)1 << slot;
    for (int64_t r = lane->slot_ranges[slot]; r < lane->slot_ranges[slot + 1]; ++r)
      for (int32_t column = lane->ranges[r].first; column < lane->ranges[r].end; ++column) {
        if (position[column] < 0) {
          position[column] = n_column;
          columns[n_column++] = (pack_column){column, packer->key_list ? packer->limits[column] : column,
                                              bit};
        } else {
          columns[position[column]].bits |= bit;
        }
      }
  }
  for (int32_t c = 0; c < n_column; ++c)
    position[columns[c].index] = -1;
  for (int64_t c = n_column; c < padded; ++c)
    columns[c] = (pack_column){-1, 0, 0};
  for (int64_t g = 0; g < padded / TILE_GROUP; ++g) {
    attention_group group = {0, ~(uint32_t)0, 0, 0};
    for (int64_t c = g * TILE_GROUP; c < (g + 1) * TILE_GROUP; ++c) {
      group.any |= columns[c].bits;
      group.all &= columns[c].bits;
      int32_t value = columns[c].value;
      if (c < n_column &&
          (c == g * TILE_GROUP || (packer->key_list ? value < group.extreme : value > group.extreme)))
        group.extreme = value;
    }
    groups[g] = group;
    for (int32_t s = 0; s < packer->tile_rows / PACK_STRIP; ++s)
      out->n_pair_tiled += (group.any & strip_slots[s]) != 0 ? PACK_STRIP * TILE_GROUP : 0;
  }
  size_t bytes = (size_t)(lane->word_end - lane->word_first) * sizeof(uint64_t);
  if (lane->word_end > lane->word_first) {
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

static pack_place choose_place(const packer *packer, int32_t n_row, int64_t n_column, int32_t word_first,
                               int32_t word_end) {
  pack_place best = {-1, 0, COST_TILE + COST_LOAD * n_column + COST_STRIP * n_column * pieces(0, n_row)};
  for (int l = 0; l < PACK_LANES; ++l) {
    const pack_lane *lane = &packer->lanes[l];
    if (!lane->open)
      continue;
    int64_t added, strip_added;
    count_missing(packer->item_set, lane->seen, lane->strip_seen, word_first, word_end, &added, &strip_added);
    if (n_column > 0 && added == n_column)
      continue;  // nothing in common: other documents stay apart
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

// Puts rows [first, first + n_row) of the item into the tile, a slot for each strip.
static ss_status put(packer *packer, pack_lane *lane, const pack_item *item, int32_t first, int32_t n_row,
                     ss_error *error) {
  while (n_row > 0) {
    int32_t in_strip = lane->n_row % PACK_STRIP, n = minimum(n_row, PACK_STRIP - in_strip);
    if (in_strip == 0) {
      if (lane->n_strip_seen > 0)
        memset(lane->strip_seen + lane->word_first, 0,
               (size_t)(lane->word_end - lane->word_first) * sizeof(uint64_t));
      lane->n_strip_seen = 0;
    }
    SS_TRY(ss_grow(&lane->ranges, &lane->range_capacity, lane->n_range + item_range_count(packer, item),
                   sizeof *lane->ranges, "attention ranges", error));
    span_range *ranges = lane->ranges + lane->n_range;
    int64_t n_range = item_columns(packer, item, first, n, ranges);
    if (n_range > 0) {
      // Ranges ascend, except those of views whose queries are not in order with their keys.
      for (int64_t r = 0; r < n_range; ++r) {
        int32_t begin = ranges[r].first / 64, end = (ranges[r].end + 63) / 64;
        lane->word_first = begin < lane->word_first ? begin : lane->word_first;
        lane->word_end = end > lane->word_end ? end : lane->word_end;
      }
      lane->n_seen += add_ranges(lane->seen, ranges, n_range);
      lane->n_strip_seen += add_ranges(lane->strip_seen, ranges, n_range);
    }
    for (int32_t r = 0; r < n; ++r) {
      int32_t row = item->row_first + first + r;
      int32_t value = packer->key_list ? row : pack_limit(item->view, first + r);
      lane->rows[lane->n_row++] = (pack_row){row, value, lane->n_slot};
    }
    lane->slot_ranges[lane->n_slot++] = lane->n_range;
    lane->n_range += n_range;
    lane->slot_ranges[lane->n_slot] = lane->n_range;
    first += n;
    n_row -= n;
  }
  lane->last_use = ++packer->clock;
  return SS_OK;
}

ss_status packer_add(packer *packer, const pack_item *item, ss_error *error) {
  SS_TRY(ss_grow(&packer->item_ranges, &packer->item_capacity, item_range_count(packer, item),
                 sizeof *packer->item_ranges, "attention ranges", error));
  for (int32_t first = 0; first < item->n_row;) {
    int32_t n_row = minimum(item->n_row - first, packer->tile_rows);
    int64_t n_range = item_columns(packer, item, first, n_row, packer->item_ranges);
    int64_t n_column = add_ranges(packer->item_set, packer->item_ranges, n_range);
    int32_t word_first = INT32_MAX, word_end = 0;
    for (int64_t r = 0; r < n_range; ++r) {
      word_first = minimum(word_first, packer->item_ranges[r].first / 64);
      int32_t end = (packer->item_ranges[r].end + 63) / 64;
      word_end = end > word_end ? end : word_end;
    }
    pack_place place = choose_place(packer, n_row, n_column, word_first, word_end);
    if (word_end > word_first)
      memset(packer->item_set + word_first, 0, (size_t)(word_end - word_first) * sizeof(uint64_t));
    if (place.lane < 0) {
      SS_TRY(take_lane(packer, &place.lane, error));
      open_lane(packer, &packer->lanes[place.lane]);
    }
    pack_lane *lane = &packer->lanes[place.lane];
    while (lane->n_row < place.row)
      lane->rows[lane->n_row++] = (pack_row){-1, 0, 0};
    int32_t placed = minimum(n_row, packer->tile_rows - place.row);
    SS_TRY(put(packer, lane, item, first, placed, error));
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
  SS_TRY(ss_allocate(&packer->sets, (2 * PACK_LANES + 1) * n_word, sizeof *packer->sets, "attention sets",
                     error));
  SS_TRY(ss_allocate(&packer->position, n_word * 64, sizeof *packer->position, "attention columns", error));
  memset(packer->position, -1, (size_t)(n_word * 64) * sizeof *packer->position);
  packer->n_word = n_word;
  packer->item_set = packer->sets + 2 * PACK_LANES * n_word;
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
  free(output->tile_columns);
  free(output->rows);
  free(output->columns);
  free(output->groups);
  memset(output, 0, sizeof *output);
}
