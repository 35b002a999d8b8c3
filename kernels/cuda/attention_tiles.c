// Views -> tiles: cuts the work into chunks that do not depend on the number of threads, packs each (attention_pack.c)
// and puts the tiles in order.
#include "kernels/cuda/attention_tiles.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "kernels/cuda/attention_pack.h"

#define LONG_VIEW 256         // mean queries a view from which tiles are large
#define CHUNK_ROWS 1024       // rows from which a chunk ends with its document
#define CHUNK_ROWS_MOST 4096  // and rows from which it ends anyway
#define WINDOW_KEYS 2048      // key rows of a piece of a longer chunk
#define ALIGNMENT 256         // of the arrays in the block

// Views [view_first, view_end) in the order of their queries. Key list: the part of their key rows that is packed.
typedef struct {
  bool key_list;
  int64_t view_first, view_end;
  int32_t key_first, key_end;
} tile_chunk;

// Key rows cut where some view's range or causal part begins or ends.
typedef struct {
  uint64_t cuts[CHUNK_ROWS_MOST / 64];
  int32_t starts[CHUNK_ROWS_MOST + 1];
  int32_t interval_at[CHUNK_ROWS_MOST];  // at an interval's first row
  int64_t reader_first[CHUNK_ROWS_MOST + 1], n_reader[CHUNK_ROWS_MOST];
  int32_t n_interval;
  int32_t *readers;
  int64_t reader_capacity;
} key_intervals;

typedef struct {
  packer packer;
  key_intervals keys;
} tile_thread;

typedef struct {
  int64_t chunk, tile, column;  // where a tile lies in the output of its chunk
} tile_source;

typedef struct {
  ss_attention_view *views;  // sorted by their queries
  int32_t *limits;           // [queries]
  span_range *hulls;         // [n_view] the key rows that a view reads lie in; empty: INT32_MAX to 0
  int32_t *later_first;      // [n_view + 1] the smallest first row of the hulls from a view on
  tile_chunk *chunks;
  pack_output *outputs;  // [n_chunk]
  tile_thread *threads;
  tile_source *sources;
  int64_t *counts;
  int64_t n_chunk, n_output, n_thread;
  int64_t view_capacity, limit_capacity, hull_capacity, later_capacity, chunk_capacity, source_capacity;
  int64_t count_capacity;
} tiles_work;

static int32_t minimum(int32_t a, int32_t b) {
  return a < b ? a : b;
}

static int32_t maximum(int32_t a, int32_t b) {
  return a > b ? a : b;
}

// --- views ---
static ss_status check_views(const ss_attention_view *views, int64_t n_view, const span_range *ranges,
                             int64_t n_range, int64_t n_key_row, ss_error *error) {
  int64_t bad = n_view;
#pragma omp parallel for schedule(static) reduction(min : bad) if (n_range > 20000)
  for (int64_t i = 0; i < n_view; ++i)
    if (!ss_attention_view_fits(&views[i], ranges, n_range, n_key_row))
      bad = i < bad ? i : bad;
  if (n_key_row > INT32_MAX)
    return ss_fail(error, SS_ERROR_INTERNAL, "attention_plan: %lld key rows", (long long)n_key_row);
  if (bad < n_view)
    return ss_fail(error, SS_ERROR_INTERNAL,
                   "attention_plan: view %lld (queries %d + %d, self %d to %d) does not fit %lld key rows",
                   (long long)bad, views[bad].q_first, views[bad].n_query, views[bad].self_first,
                   views[bad].self_last, (long long)n_key_row);
  return SS_OK;
}

static int compare_views(const void *a, const void *b) {
  const ss_attention_view *x = a, *y = b;
  return x->q_first < y->q_first ? -1 : x->q_first > y->q_first;
}

// Copies the views in the order of their queries, and what is asked of them often.
static ss_status sort_views(tiles_work *work, const ss_attention_view *views, int64_t n_view,
                            const span_range *ranges, ss_error *error) {
  SS_TRY(
      ss_grow(&work->views, &work->view_capacity, n_view + 1, sizeof *work->views, "attention views", error));
  SS_TRY(
      ss_grow(&work->hulls, &work->hull_capacity, n_view + 1, sizeof *work->hulls, "attention views", error));
  SS_TRY(ss_grow(&work->later_first, &work->later_capacity, n_view + 1, sizeof *work->later_first,
                 "attention views", error));
  bool sorted = true;
  for (int64_t i = 0; i < n_view; ++i) {
    work->views[i] = views[i];
    sorted = sorted && (i == 0 || views[i - 1].q_first < views[i].q_first);
  }
  if (!sorted)
    qsort(work->views, (size_t)n_view, sizeof *work->views, compare_views);
  for (int64_t i = 1; i < n_view; ++i)
    if (work->views[i - 1].q_first + work->views[i - 1].n_query > work->views[i].q_first)
      return ss_fail(error, SS_ERROR_INTERNAL, "attention_plan: two views cover query row %d",
                     work->views[i].q_first);
  const ss_attention_view *last = n_view > 0 ? &work->views[n_view - 1] : NULL;
  int64_t n_query = last ? (int64_t)last->q_first + last->n_query : 0;
  SS_TRY(ss_grow(&work->limits, &work->limit_capacity, n_query + 1, sizeof *work->limits, "attention limits",
                 error));
  work->later_first[n_view] = INT32_MAX;
  for (int64_t i = n_view - 1; i >= 0; --i) {
    const ss_attention_view *view = &work->views[i];
    span_range hull = {INT32_MAX, 0};
    if (view->self_last + view->n_query > view->self_first)
      hull = (span_range){view->self_first, view->self_last + view->n_query};
    if (view->n_range > 0) {
      hull.first = ranges[view->range_first].first;
      hull.end = maximum(hull.end, ranges[view->range_first + view->n_range - 1].end);
    }
    work->hulls[i] = hull;
    work->later_first[i] = minimum(work->later_first[i + 1], hull.first);
    for (int32_t q = 0; q < view->n_query; ++q)
      work->limits[view->q_first + q] = pack_limit(view, q);
  }
  return SS_OK;
}

// --- chunks ---
static ss_status add_chunk(tiles_work *work, tile_chunk chunk, ss_error *error) {
  SS_TRY(ss_grow(&work->chunks, &work->chunk_capacity, work->n_chunk + 1, sizeof chunk, "attention chunks",
                 error));
  work->chunks[work->n_chunk++] = chunk;
  return SS_OK;
}

static ss_status cut_queries(tiles_work *work, int64_t n_view, ss_error *error) {
  int32_t reach = 0;
  int64_t rows = 0;
  for (int64_t first = 0, i = 0; i < n_view; ++i) {
    reach = maximum(reach, work->hulls[i].end);
    rows += work->views[i].n_query;
    bool document_ends = reach <= work->later_first[i + 1];
    if (i + 1 < n_view && !(rows >= CHUNK_ROWS && document_ends) && rows < CHUNK_ROWS_MOST)
      continue;
    SS_TRY(add_chunk(work, (tile_chunk){false, first, i + 1, 0, 0}, error));
    first = i + 1;
    rows = 0;
  }
  return SS_OK;
}

static ss_status cut_keys(tiles_work *work, int64_t n_view, ss_error *error) {
  int32_t reach = 0;
  for (int64_t first = 0, i = 0; i < n_view; ++i) {
    reach = maximum(reach, work->hulls[i].end);
    int32_t begin = work->later_first[first];
    if (reach > work->later_first[i + 1] || (i + 1 < n_view && reach - begin < CHUNK_ROWS))
      continue;
    int32_t window = begin < reach && reach - begin > CHUNK_ROWS_MOST ? WINDOW_KEYS : CHUNK_ROWS_MOST;
    for (int64_t key = begin; key < reach; key += window) {
      int32_t end = key + window < reach ? (int32_t)key + window : reach;
      SS_TRY(add_chunk(work, (tile_chunk){true, first, i + 1, (int32_t)key, end}, error));
    }
    first = i + 1;
  }
  return SS_OK;
}

static ss_status pack_queries(const tiles_work *work, tile_thread *thread, const tile_chunk *chunk) {
  packer *packer = &thread->packer;
  for (int64_t i = chunk->view_first; i < chunk->view_end; ++i) {
    const ss_attention_view *view = &work->views[i];
    pack_item item = {.row_first = view->q_first, .n_row = view->n_query, .view = view};
    SS_TRY(packer_add(packer, &item, NULL));
    int64_t shared = 0;
    for (int32_t r = 0; r < view->n_range; ++r)
      shared += packer->ranges[view->range_first + r].end - packer->ranges[view->range_first + r].first;
    // Query j reads the shared rows and max(0, first + j) of the causal part.
    int64_t first = (int64_t)view->self_last + 1 - view->self_first, last = first + view->n_query - 1;
    int64_t low = first > 1 ? first : 1;
    packer->output->n_pair += shared * view->n_query +
                              (last >= low ? (low + last) * (last - low + 1) / 2 : 0);
  }
  return packer_finish(packer, NULL);
}

// --- key intervals ---
static void cut_at(key_intervals *keys, const tile_chunk *chunk, int32_t key) {
  if (key >= chunk->key_first && key < chunk->key_end)
    keys->cuts[(key - chunk->key_first) / 64] |= (uint64_t)1 << (key - chunk->key_first) % 64;
}

// The view's part [index] that touches the chunk's window: its ranges, then its causal part. False behind the last.
static bool next_part(const tiles_work *work, const span_range *ranges, const tile_chunk *chunk,
                      int64_t view_index, int32_t *index, span_range *part) {
  const ss_attention_view *view = &work->views[view_index];
  while (*index <= view->n_range) {
    int32_t r = (*index)++;
    *part = r < view->n_range ? ranges[view->range_first + r]
                              : (span_range){view->self_first, view->self_last + view->n_query};
    part->first = maximum(part->first, chunk->key_first);
    part->end = minimum(part->end, chunk->key_end);
    if (part->first < part->end)
      return true;
  }
  return false;
}

// The first range that ends behind the window's begin.
static int32_t first_part(const tiles_work *work, const span_range *ranges, const tile_chunk *chunk,
                          int64_t view_index) {
  const ss_attention_view *view = &work->views[view_index];
  int32_t low = 0, high = view->n_range;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (ranges[view->range_first + middle].end > chunk->key_first)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// Who reads which interval: a pass that counts, and one that writes.
static ss_status find_readers(const tiles_work *work, const span_range *ranges, const tile_chunk *chunk,
                              key_intervals *keys) {
  memset(keys->n_reader, 0, (size_t)keys->n_interval * sizeof *keys->n_reader);
  for (int write = 0; write <= 1; ++write) {
    for (int64_t i = chunk->view_first; i < chunk->view_end; ++i) {
      if (work->hulls[i].end <= chunk->key_first || work->hulls[i].first >= chunk->key_end)
        continue;
      int32_t index = first_part(work, ranges, chunk, i);
      for (span_range part; next_part(work, ranges, chunk, i, &index, &part);)
        for (int32_t k = keys->interval_at[part.first - chunk->key_first];
             k < keys->n_interval && keys->starts[k] < part.end; ++k) {
          if (write)
            keys->readers[keys->reader_first[k] + keys->n_reader[k]] = (int32_t)i;
          ++keys->n_reader[k];
        }
    }
    if (write)
      break;
    int64_t total = 0;
    for (int32_t k = 0; k < keys->n_interval; ++k) {
      keys->reader_first[k] = total;
      total += keys->n_reader[k];
      keys->n_reader[k] = 0;
    }
    SS_TRY(ss_grow(&keys->readers, &keys->reader_capacity, total + 1, sizeof *keys->readers,
                   "attention readers", NULL));
  }
  return SS_OK;
}

static ss_status pack_keys(const tiles_work *work, tile_thread *thread, const tile_chunk *chunk) {
  packer *packer = &thread->packer;
  key_intervals *keys = &thread->keys;
  int32_t n_key = chunk->key_end - chunk->key_first;
  memset(keys->cuts, 0, sizeof keys->cuts);
  cut_at(keys, chunk, chunk->key_first);
  for (int64_t i = chunk->view_first; i < chunk->view_end; ++i) {
    if (work->hulls[i].end <= chunk->key_first || work->hulls[i].first >= chunk->key_end)
      continue;
    int32_t index = first_part(work, packer->ranges, chunk, i);
    for (span_range part; next_part(work, packer->ranges, chunk, i, &index, &part);) {
      cut_at(keys, chunk, part.first);
      cut_at(keys, chunk, part.end);
    }
  }
  keys->n_interval = 0;
  for (int32_t word = 0; word <= (n_key - 1) / 64; ++word)
    for (uint64_t bits = keys->cuts[word]; bits != 0; bits &= bits - 1) {
      int32_t offset = word * 64 + __builtin_ctzll(bits);
      keys->interval_at[offset] = keys->n_interval;
      keys->starts[keys->n_interval++] = chunk->key_first + offset;
    }
  keys->starts[keys->n_interval] = chunk->key_end;
  SS_TRY(find_readers(work, packer->ranges, chunk, keys));
  for (int32_t k = 0; k < keys->n_interval; ++k) {
    pack_item item = {.row_first = keys->starts[k],
                      .n_row = keys->starts[k + 1] - keys->starts[k],
                      .readers = keys->readers + keys->reader_first[k],
                      .n_reader = keys->n_reader[k]};
    if (item.n_reader > 0)
      SS_TRY(packer_add(packer, &item, NULL));
  }
  return packer_finish(packer, NULL);
}

// --- all chunks ---
static ss_status reserve_storage(tiles_work *work, int64_t n_thread, int64_t n_axis, ss_error *error) {
  if (work->n_output < work->n_chunk) {
    int64_t n_output = work->n_chunk + work->n_chunk / 2;
    pack_output *outputs;
    SS_TRY(ss_allocate(&outputs, n_output, sizeof *outputs, "attention chunks", error));
    if (work->n_output > 0)
      memcpy(outputs, work->outputs, (size_t)work->n_output * sizeof *outputs);
    free(work->outputs);
    work->outputs = outputs;
    work->n_output = n_output;
  }
  if (work->n_thread < n_thread) {
    tile_thread *threads;
    SS_TRY(ss_allocate(&threads, n_thread, sizeof *threads, "attention threads", error));
    if (work->n_thread > 0)
      memcpy(threads, work->threads, (size_t)work->n_thread * sizeof *threads);
    free(work->threads);
    work->threads = threads;
    work->n_thread = n_thread;
  }
  for (int64_t t = 0; t < n_thread; ++t)
    SS_TRY(packer_reserve(&work->threads[t].packer, n_axis, error));
  return SS_OK;
}

static ss_status pack_chunks(tiles_work *work, const span_range *ranges, int32_t tile_rows, int n_thread,
                             ss_error *error) {
  int64_t n_failed = 0;
#pragma omp parallel for num_threads(n_thread) schedule(dynamic, 1) reduction(+ : n_failed) if (n_thread > 1)
  for (int64_t c = 0; c < work->n_chunk; ++c) {
    tile_thread *thread = &work->threads[omp_get_thread_num()];
    const tile_chunk *chunk = &work->chunks[c];
    pack_output *output = &work->outputs[c];
    output->n_tile = output->n_column = output->n_row = output->n_pair = output->n_pair_tiled = 0;
    packer *packer = &thread->packer;
    packer->views = work->views;
    packer->ranges = ranges;
    packer->limits = work->limits;
    packer->key_list = chunk->key_list;
    packer->tile_rows = tile_rows;
    packer->output = output;
    n_failed += (chunk->key_list ? pack_keys(work, thread, chunk) : pack_queries(work, thread, chunk)) !=
                SS_OK;
  }
  if (n_failed > 0)
    return ss_fail(error, SS_ERROR_MEMORY, "no memory for the attention plan");
  return SS_OK;
}

// --- assembly ---
static size_t take(size_t *offset, int64_t count, size_t size) {
  size_t at = *offset;
  *offset = (at + (size_t)count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

// Places the arrays of a list behind `offset`; with a block it also sets their addresses.
static void lay_out(attention_tile_list *list, unsigned char *block, size_t *offset) {
  int64_t n_row = list->n_tile * list->tile_rows;
  size_t tiles = take(offset, list->n_tile, sizeof *list->tiles), rows = take(offset, n_row, 4);
  size_t row_value = take(offset, n_row, 4), row_slot = take(offset, n_row, 4);
  size_t columns = take(offset, list->n_column, 4), column_value = take(offset, list->n_column, 4);
  size_t column_bits = take(offset, list->n_column, 4);
  if (!block)
    return;
  list->tiles = (attention_tile *)(block + tiles);
  list->rows = (int32_t *)(block + rows);
  list->row_value = (int32_t *)(block + row_value);
  list->row_slot = (int32_t *)(block + row_slot);
  list->columns = (int32_t *)(block + columns);
  list->column_value = (int32_t *)(block + column_value);
  list->column_bits = (uint32_t *)(block + column_bits);
}

// The list's tiles from `source` on, by falling number of columns, else in the order of the chunks.
static ss_status sort_tiles(tiles_work *work, attention_tile_list *list, bool key_list, tile_source *source,
                            ss_error *error) {
  int64_t most = 0;
  for (int64_t c = 0; c < work->n_chunk; ++c)
    for (int64_t t = 0; work->chunks[c].key_list == key_list && t < work->outputs[c].n_tile; ++t)
      most = work->outputs[c].tile_columns[t] > most ? work->outputs[c].tile_columns[t] : most;
  most /= TILE_COLUMNS;
  SS_TRY(ss_grow(&work->counts, &work->count_capacity, most + 2, sizeof *work->counts, "attention tiles",
                 error));
  memset(work->counts, 0, (size_t)(most + 2) * sizeof *work->counts);
  for (int pass = 0; pass <= 1; ++pass) {
    for (int64_t c = 0; c < work->n_chunk; ++c) {
      const pack_output *output = &work->outputs[c];
      int64_t column = 0;
      for (int64_t t = 0; work->chunks[c].key_list == key_list && t < output->n_tile; ++t) {
        int64_t *count = &work->counts[most - output->tile_columns[t] / TILE_COLUMNS + 1];
        if (pass)
          source[count[-1]++] = (tile_source){c, t, column};
        else
          ++*count;
        column += output->tile_columns[t];
      }
    }
    for (int64_t w = 1; pass == 0 && w <= most; ++w)
      work->counts[w] += work->counts[w - 1];
  }
  int64_t column = 0;
  for (int64_t t = 0; t < list->n_tile; ++t) {
    int32_t n_column = work->outputs[source[t].chunk].tile_columns[source[t].tile];
    list->tiles[t] = (attention_tile){(int32_t)column, n_column};
    column += n_column;
  }
  return SS_OK;
}

static void fill_tile(const tiles_work *work, attention_tile_list *list, int64_t t, tile_source source) {
  const pack_output *output = &work->outputs[source.chunk];
  int64_t from = source.tile * list->tile_rows, to = t * list->tile_rows;
  size_t bytes = (size_t)list->tile_rows * 4;
  memcpy(list->rows + to, output->rows + from, bytes);
  memcpy(list->row_value + to, output->row_value + from, bytes);
  memcpy(list->row_slot + to, output->row_slot + from, bytes);
  from = source.column, to = list->tiles[t].column_first;
  bytes = (size_t)list->tiles[t].n_column * 4;
  memcpy(list->columns + to, output->columns + from, bytes);
  memcpy(list->column_value + to, output->column_value + from, bytes);
  memcpy(list->column_bits + to, output->column_bits + from, bytes);
}

static ss_status assemble(attention_tiles *tiles, tiles_work *work, int n_thread, ss_error *error) {
  attention_tile_list *lists[2] = {&tiles->queries, &tiles->keys};
  for (int64_t c = 0; c < work->n_chunk; ++c) {
    attention_tile_list *list = lists[work->chunks[c].key_list];
    list->n_tile += work->outputs[c].n_tile;
    list->n_column += work->outputs[c].n_column;
    list->n_row += work->outputs[c].n_row;
    tiles->n_pair += work->outputs[c].n_pair;
    tiles->n_pair_tiled += work->chunks[c].key_list ? 0 : work->outputs[c].n_pair_tiled;
  }
  if (tiles->queries.n_column > INT32_MAX || tiles->keys.n_column > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "an attention plan of more than %d columns: fewer or shorter rows",
                   INT32_MAX);
  size_t bytes = 0;
  for (int l = 0; l <= 1; ++l)
    lay_out(lists[l], NULL, &bytes);
  if (bytes > tiles->block_capacity) {
    free(tiles->block);
    tiles->block = NULL;
    tiles->block_capacity = 0;
    SS_TRY(ss_allocate(&tiles->block, (int64_t)(bytes + bytes / 4), 1, "attention tiles", error));
    tiles->block_capacity = bytes + bytes / 4;
  }
  tiles->block_bytes = bytes;
  int64_t n_source = tiles->queries.n_tile + tiles->keys.n_tile;
  SS_TRY(ss_grow(&work->sources, &work->source_capacity, n_source + 1, sizeof *work->sources,
                 "attention tiles", error));
  size_t offset = 0;
  for (int l = 0; l <= 1; ++l) {
    lay_out(lists[l], tiles->block, &offset);
    SS_TRY(sort_tiles(work, lists[l], l == 1, work->sources + (l ? tiles->queries.n_tile : 0), error));
  }
#pragma omp parallel for num_threads(n_thread) schedule(dynamic, 16) if (n_thread > 1)
  for (int64_t s = 0; s < n_source; ++s) {
    bool key_list = s >= tiles->queries.n_tile;
    fill_tile(work, lists[key_list], key_list ? s - tiles->queries.n_tile : s, work->sources[s]);
  }
  return SS_OK;
}

static void free_work(tiles_work *work) {
  if (!work)
    return;
  for (int64_t i = 0; i < work->n_output; ++i)
    pack_output_free(&work->outputs[i]);
  for (int64_t i = 0; i < work->n_thread; ++i) {
    packer_free(&work->threads[i].packer);
    free(work->threads[i].keys.readers);
  }
  void *owned[] = {work->views,   work->limits,  work->hulls,   work->later_first, work->chunks,
                   work->outputs, work->threads, work->sources, work->counts};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
    free(owned[i]);
  free(work);
}

static ss_status build(attention_tiles *tiles, const ss_attention_view *views, int64_t n_view,
                       const span_range *ranges, int64_t n_range, int64_t n_key_row, bool backward,
                       ss_error *error) {
  SS_TRY(check_views(views, n_view, ranges, n_range, n_key_row, error));
  tiles_work *work = tiles->work;
  SS_TRY(sort_views(work, views, n_view, ranges, error));
  int64_t n_query = 0, n_axis = n_key_row;
  for (int64_t i = 0; i < n_view; ++i)
    n_query += work->views[i].n_query;
  if (n_view > 0 && work->views[n_view - 1].q_first + work->views[n_view - 1].n_query > n_axis)
    n_axis = work->views[n_view - 1].q_first + work->views[n_view - 1].n_query;
  int32_t tile_rows = n_query >= LONG_VIEW * n_view ? TILE_ROWS_LARGE : TILE_ROWS_SMALL;
  tiles->queries.tile_rows = tiles->keys.tile_rows = tile_rows;
  work->n_chunk = 0;
  SS_TRY(cut_queries(work, n_view, error));
  if (backward)
    SS_TRY(cut_keys(work, n_view, error));
  int n_thread = omp_get_max_threads();
  n_thread = n_thread < work->n_chunk ? n_thread : (int)work->n_chunk;
  SS_TRY(reserve_storage(work, n_thread > 0 ? n_thread : 1, n_axis, error));
  SS_TRY(pack_chunks(work, ranges, tile_rows, n_thread > 0 ? n_thread : 1, error));
  return assemble(tiles, work, n_thread > 0 ? n_thread : 1, error);
}

ss_status attention_tiles_build(attention_tiles *tiles, const ss_attention_view *views, int64_t n_view,
                                const span_range *ranges, int64_t n_range, int64_t n_key_row, bool backward,
                                ss_error *error) {
  if (!tiles->work)
    SS_TRY(ss_allocate(&tiles->work, 1, sizeof(tiles_work), "an attention plan", error));
  memset(&tiles->queries, 0, sizeof tiles->queries);
  memset(&tiles->keys, 0, sizeof tiles->keys);
  tiles->n_pair = tiles->n_pair_tiled = 0;
  ss_status status = build(tiles, views, n_view, ranges, n_range, n_key_row, backward, error);
  if (status != SS_OK) {  // a packer that stopped half-way is not used again
    free_work(tiles->work);
    tiles->work = NULL;
    memset(&tiles->queries, 0, sizeof tiles->queries);
    memset(&tiles->keys, 0, sizeof tiles->keys);
  }
  return status;
}

void attention_tiles_free(attention_tiles *tiles) {
  free_work(tiles->work);
  free(tiles->block);
  memset(tiles, 0, sizeof *tiles);
}
