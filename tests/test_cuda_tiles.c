// The tiles of the CUDA attention against the definition: every visible pair once and no other, in both lists.
#include "tests/helpers.h"

#include <omp.h>

#include "common/random.h"
#include "kernels/cuda/attention_tiles.h"

#define SEED 20250311

typedef struct {
  ss_attention_view *views;
  span_range *ranges;
  int64_t n_view, n_range, n_query, n_key;
} problem;

static problem make_problem(int64_t most_views, int64_t most_ranges) {
  problem p = {.views = calloc((size_t)most_views, sizeof *p.views),
               .ranges = calloc((size_t)most_ranges, sizeof *p.ranges)};
  assert_non_null(p.views);
  assert_non_null(p.ranges);
  return p;
}

static void free_problem(problem *p) {
  free(p->views);
  free(p->ranges);
}

static int32_t below(ss_random *random, int32_t bound) {
  return (int32_t)ss_random_below(random, (uint64_t)bound);
}

// Views of 1 to `longest` queries over up to `most` ranges of what came before in the document. Some read nothing of
// themselves at first (self_first > self_last), some nothing at all, and some rows are in no view.
static problem random_documents(ss_random *random, int n_document, int32_t length, int32_t longest,
                                int32_t most) {
  int64_t most_views = (int64_t)n_document * (length + longest);
  problem p = make_problem(most_views, most_views * (most + 1));
  int32_t row = 0;
  for (int d = 0; d < n_document; ++d) {
    int32_t first = row, end = first + 1 + below(random, length);
    while (row < end) {
      int32_t n = 1 + below(random, longest), kind = below(random, 12);
      ss_attention_view view = {row, n, row, row, (int32_t)p.n_range, 0};
      if (kind == 0)
        view.self_first = row + below(random, n + 3);  // the first queries, or all, see nothing of themselves
      if (kind == 1 && row > first)
        view.self_first = first + below(random, row - first);
      int32_t reach = view.self_first < row ? view.self_first : row, at = first;
      for (int32_t r = 0; kind != 2 && r < most && at < reach; ++r) {
        int32_t begin = at + below(random, 1 + (reach - at) / 3), stop = begin + 1 + below(random, 14);
        stop = stop < reach ? stop : reach;
        if (begin >= stop)
          break;
        p.ranges[p.n_range++] = (span_range){begin, stop};
        ++view.n_range;
        at = stop;
      }
      if (kind != 3)
        p.views[p.n_view++] = view;
      row += n;
    }
  }
  p.n_query = row;
  p.n_key = row + longest + 3;
  return p;
}

static bool sees(const problem *p, const ss_attention_view *view, int32_t query, int32_t key) {
  if (key >= view->self_first && key <= view->self_last + query)
    return true;
  for (int32_t r = 0; r < view->n_range; ++r)
    if (key >= p->ranges[view->range_first + r].first && key < p->ranges[view->range_first + r].end)
      return true;
  return false;
}

// Adds the pairs that the list represents to seen[n_query * n_key], and checks the form of the tiles.
static void check_list(const problem *p, const attention_tile_list *list, bool key_list, uint8_t *seen,
                       int64_t *n_pair_tiled) {
  int64_t n_rows = key_list ? p->n_key : p->n_query, n_columns = key_list ? p->n_query : p->n_key;
  uint8_t *placed = calloc((size_t)n_rows + 1, 1), *listed = calloc((size_t)n_columns + 1, 1);
  assert_true(list->tile_rows == TILE_ROWS_SMALL || list->tile_rows == TILE_ROWS_LARGE);
  int64_t column = 0;
  *n_pair_tiled = 0;
  for (int64_t t = 0; t < list->n_tile; ++t) {
    attention_tile tile = list->tiles[t];
    assert_int_equal(tile.column_first, column);
    assert_true(tile.n_column > 0 && tile.n_column % TILE_COLUMNS == 0);
    assert_true(t == 0 || tile.n_column <= list->tiles[t - 1].n_column);
    column += tile.n_column;
    memset(listed, 0, (size_t)n_columns);
    bool padding = false;
    for (int64_t c = tile.column_first; c < column; ++c) {
      int32_t index = list->columns[c];
      if (index < 0) {
        padding = true;
        assert_true(index == -1 && list->column_value[c] == 0 && list->column_bits[c] == 0);
        continue;
      }
      assert_true(!padding && index < n_columns && !listed[index]++ && list->column_bits[c] != 0);
      assert_true(key_list || list->column_value[c] == index);
    }
    int32_t n_real = 0;
    for (int64_t r = t * list->tile_rows; r < (t + 1) * list->tile_rows; ++r) {
      int32_t row = list->rows[r], value = list->row_value[r], slot = list->row_slot[r];
      if (row < 0) {
        assert_true(row == -1 && slot == 0 && value == (key_list ? INT32_MAX : -1));
        continue;
      }
      ++n_real;
      assert_true(row < n_rows && !placed[row]++ && slot >= 0 && slot < TILE_SLOTS);
      assert_true(!key_list || value == row);
      for (int64_t c = tile.column_first; c < column; ++c) {
        int32_t key = key_list ? value : list->column_value[c];
        int32_t limit = key_list ? list->column_value[c] : value;
        if ((list->column_bits[c] >> slot & 1) && key <= limit)
          ++seen[key_list ? list->columns[c] * p->n_key + row : row * p->n_key + list->columns[c]];
      }
    }
    assert_true(n_real > 0);
    for (int32_t strip = 0; strip < list->tile_rows; strip += 16) {
      uint32_t slots = 0;
      for (int64_t r = t * list->tile_rows + strip; r < t * list->tile_rows + strip + 16; ++r)
        slots |= list->rows[r] >= 0 ? (uint32_t)1 << list->row_slot[r] : 0;
      for (int64_t first = tile.column_first; first < column; first += TILE_GROUP) {
        uint32_t any = 0;
        for (int64_t c = first; c < first + TILE_GROUP; ++c)
          any |= list->column_bits[c];
        *n_pair_tiled += (any & slots) != 0 ? 256 : 0;
      }
    }
  }
  assert_int_equal(list->n_column, column);
  for (int64_t row = 0; row < n_rows; ++row) {
    bool covered = false;
    for (int64_t i = 0; i < p->n_view && !covered; ++i) {
      const ss_attention_view *view = &p->views[i];
      if (!key_list)
        covered = row >= view->q_first && row < view->q_first + view->n_query;
      else
        covered = sees(p, view, view->n_query - 1, (int32_t)row);
    }
    if (placed[row] != covered)
      fail_msg("%s row %lld is in %d tiles, expected %d (seed %d)", key_list ? "key" : "query",
               (long long)row, placed[row], covered, SEED);
  }
  free(placed);
  free(listed);
}

static void same_list(const attention_tile_list *a, const attention_tile_list *b) {
  assert_true(a->tile_rows == b->tile_rows && a->n_tile == b->n_tile && a->n_column == b->n_column);
  size_t rows = (size_t)(a->n_tile * a->tile_rows) * 4, columns = (size_t)a->n_column * 4;
  if (a->n_tile == 0)
    return;
  assert_memory_equal(a->tiles, b->tiles, (size_t)a->n_tile * sizeof *a->tiles);
  assert_memory_equal(a->rows, b->rows, rows);
  assert_memory_equal(a->row_value, b->row_value, rows);
  assert_memory_equal(a->row_slot, b->row_slot, rows);
  assert_memory_equal(a->columns, b->columns, columns);
  assert_memory_equal(a->column_value, b->column_value, columns);
  assert_memory_equal(a->column_bits, b->column_bits, columns);
}

// `reused` has been through other problems.
static void check_problem(const problem *p, attention_tiles *reused, bool backward) {
  ss_error error = {0};
  omp_set_num_threads(1);
  assert_ok(
      attention_tiles_build(reused, p->views, p->n_view, p->ranges, p->n_range, p->n_key, backward, &error));
  attention_tiles fresh = {0};
  omp_set_num_threads(4);
  assert_ok(
      attention_tiles_build(&fresh, p->views, p->n_view, p->ranges, p->n_range, p->n_key, backward, &error));
  same_list(&reused->queries, &fresh.queries);
  same_list(&reused->keys, &fresh.keys);
  attention_tiles_free(&fresh);
  assert_true(backward || (reused->keys.n_tile == 0 && reused->keys.n_column == 0));

  size_t n_cell = (size_t)(p->n_query * p->n_key);
  uint8_t *by_queries = calloc(n_cell + 1, 1), *by_keys = calloc(n_cell + 1, 1);
  uint8_t *wanted = calloc(n_cell + 1, 1);
  int64_t n_pair = 0, tiled, ignored;
  for (int64_t i = 0; i < p->n_view; ++i)
    for (int32_t q = 0; q < p->views[i].n_query; ++q)
      for (int32_t key = 0; key < p->n_key; ++key)
        if (sees(p, &p->views[i], q, key)) {
          ++n_pair;
          wanted[(p->views[i].q_first + q) * p->n_key + key] = 1;
        }
  check_list(p, &reused->queries, false, by_queries, &tiled);
  assert_memory_equal(by_queries, wanted, n_cell);
  if (backward) {
    check_list(p, &reused->keys, true, by_keys, &ignored);
    assert_memory_equal(by_keys, wanted, n_cell);
  }
  assert_int_equal(reused->n_pair, n_pair);
  assert_int_equal(reused->n_pair_tiled, tiled);
  assert_true(tiled >= n_pair);
  free(by_queries);
  free(by_keys);
  free(wanted);
}

static void shuffle_views(problem *p, ss_random *random) {
  for (int64_t i = p->n_view - 1; i > 0; --i) {
    int64_t j = (int64_t)ss_random_below(random, (uint64_t)i + 1);
    ss_attention_view kept = p->views[i];
    p->views[i] = p->views[j];
    p->views[j] = kept;
  }
}

static void random_views(void **state) {
  (void)state;
  ss_random random = ss_random_seed(SEED, 1);
  attention_tiles tiles = {0};
  static const int32_t longest[] = {1, 5, 13, 40, 150};
  for (int l = 0; l < 5; ++l)
    for (int round = 0; round < 6; ++round) {
      problem p = random_documents(&random, 1 + round, 400 / (1 + round), longest[l], 1 + round * round);
      check_problem(&p, &tiles, true);
      shuffle_views(&p, &random);
      check_problem(&p, &tiles, round % 2 == 0);
      free_problem(&p);
    }
  attention_tiles_free(&tiles);
}

// Long lists of ranges, and more rows than a chunk holds.
static void many_ranges(void **state) {
  (void)state;
  ss_random random = ss_random_seed(SEED, 2);
  attention_tiles tiles = {0};
  problem p = make_problem(400, 400 * 200);
  for (int32_t row = 0; row < 1500;) {
    int32_t n = 1 + below(&random, 12);
    ss_attention_view view = {row, n, row, row, (int32_t)p.n_range, 0};
    for (int32_t at = 0; at + 8 < row && view.n_range < 200; at += 7) {
      p.ranges[p.n_range++] = (span_range){at, at + 1 + below(&random, 6)};
      ++view.n_range;
    }
    p.views[p.n_view++] = view;
    row += n;
    p.n_query = p.n_key = row;
  }
  check_problem(&p, &tiles, true);
  free_problem(&p);
  attention_tiles_free(&tiles);
}

// A document of more key rows than one chunk packs, and documents without spans.
static void long_documents(void **state) {
  (void)state;
  ss_random random = ss_random_seed(SEED, 3);
  attention_tiles tiles = {0};
  problem p = random_documents(&random, 1, 9000, 60, 5);
  p.n_view = p.n_view > 160 ? 160 : p.n_view;
  check_problem(&p, &tiles, true);
  free_problem(&p);
  p = make_problem(900, 900);
  for (int32_t row = 0; p.n_view < 650; row += 7) {  // one document of 4,550 rows
    int32_t begin = row > 60 ? row - 60 + below(&random, 10) : 0;
    p.views[p.n_view] = (ss_attention_view){row, 7, row, row, (int32_t)p.n_range, begin < row};
    if (begin < row)
      p.ranges[p.n_range++] = (span_range){begin, row};
    ++p.n_view;
    p.n_query = p.n_key = row + 7;
  }
  check_problem(&p, &tiles, true);
  free_problem(&p);
  p = make_problem(4, 4);
  static const int32_t lengths[4] = {700, 300, 1, 257};
  for (int d = 0; d < 4; ++d) {
    int32_t row = (int32_t)p.n_query;
    p.views[p.n_view++] = (ss_attention_view){row, lengths[d], row, row, 0, 0};
    p.n_query = p.n_key = row + lengths[d];
  }
  check_problem(&p, &tiles, true);
  assert_int_equal(tiles.queries.tile_rows, TILE_ROWS_LARGE);
  assert_int_equal(tiles.queries.n_tile, 6 + 3 + 1 + 3);  // documents stay apart
  free_problem(&p);
  attention_tiles_free(&tiles);
}

// Single queries, each over a slab of its own.
static void decoding_views(void **state) {
  (void)state;
  ss_random random = ss_random_seed(SEED, 4);
  attention_tiles tiles = {0};
  problem p = make_problem(24, 24 * 10);
  for (int32_t i = 0; i < 24; ++i) {
    int32_t slab = (23 - i) * 90, self = slab + 60 + below(&random, 20);
    ss_attention_view view = {i, 1, self, self + below(&random, 10), (int32_t)p.n_range, 0};
    for (int32_t at = slab; at < self - 8 && view.n_range < 10; at += 9) {
      p.ranges[p.n_range++] = (span_range){at, at + 1 + below(&random, 8)};
      ++view.n_range;
    }
    p.views[p.n_view++] = view;
  }
  p.n_query = 24;
  p.n_key = 24 * 90;
  check_problem(&p, &tiles, false);
  assert_int_equal(tiles.queries.n_tile, 24);
  free_problem(&p);
  attention_tiles_free(&tiles);
}

static void empty_sets(void **state) {
  (void)state;
  attention_tiles tiles = {0};
  problem p = make_problem(3, 1);
  p.n_query = p.n_key = 50;
  p.n_view = 3;
  p.views[0] = (ss_attention_view){0, 20, 10, 0, 0, 0};    // the first ten read nothing
  p.views[1] = (ss_attention_view){20, 25, 49, 20, 0, 0};  // nobody reads anything
  p.views[2] = (ss_attention_view){45, 1, 49, 45, 0, 0};
  check_problem(&p, &tiles, true);
  p.n_view = 0;
  check_problem(&p, &tiles, true);
  free_problem(&p);
  attention_tiles_free(&tiles);
}

static void refused(void **state) {
  (void)state;
  ss_error error = {0};
  attention_tiles tiles = {0};
  ss_attention_view view = {0, 4, 0, 0, 0, 0}, twice[2] = {{0, 4, 0, 0, 0, 0}, {3, 2, 3, 3, 0, 0}};
  span_range range = {2, 3};
  assert_refused(attention_tiles_build(&tiles, &view, 1, NULL, 0, 3, true, &error), SS_ERROR_INTERNAL,
                 "does not fit 3 key rows");
  view.n_range = 1;
  assert_refused(attention_tiles_build(&tiles, &view, 1, &range, 1, 9, true, &error), SS_ERROR_INTERNAL,
                 "does not fit");
  assert_refused(attention_tiles_build(&tiles, twice, 2, NULL, 0, 9, true, &error), SS_ERROR_INTERNAL,
                 "two views cover query row 3");
  assert_ok(attention_tiles_build(&tiles, twice, 1, NULL, 0, 9, true, &error));
  assert_int_equal(tiles.queries.n_tile, 1);
  attention_tiles_free(&tiles);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_views),   cmocka_unit_test(many_ranges), cmocka_unit_test(long_documents),
      cmocka_unit_test(decoding_views), cmocka_unit_test(empty_sets),  cmocka_unit_test(refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
