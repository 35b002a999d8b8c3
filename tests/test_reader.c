// The streaming reader: the order is a pure function of store and options, every batch is what a naive rebuild from
// the examples gives, and going to a position equals not having stopped.
#include "helpers.h"

#include <xxhash.h>

#include "common/random.h"
#include "data/reader.h"
#include "data/reader_order.h"
#include "dataset_fixture.h"

#define SEED 21
#define N_EXAMPLE 300

typedef struct {
  char path[TEST_PATH];
  store *store;
  vocabulary *words;
  example *items;
  rendering *annotated;
} dataset;

static void open_dataset(dataset *data, const char *name) {
  ss_error error = {0};
  fixture_write(test_path(data->path, name), SEED, N_EXAMPLE);
  assert_ok(store_open(&data->store, data->path, true, &error));
  data->words = fixture_vocabulary();
  data->items = calloc(N_EXAMPLE, sizeof *data->items);
  data->annotated = calloc(N_EXAMPLE, sizeof *data->annotated);
  assert_ok(store_read(data->store, 0, N_EXAMPLE, data->items, data->annotated, &error));
}

static void close_dataset(dataset *data) {
  for (int k = 0; k < N_EXAMPLE; k++) {
    example_free(&data->items[k]);
    rendering_free(&data->annotated[k]);
  }
  free(data->items);
  free(data->annotated);
  vocabulary_free(data->words);
  store_close(data->store);
}

static reader_options default_options(void) {
  reader_options options = {.arm = ARM_SPAN,
                            .policy = span_policy_default(),
                            .n_row = 4,
                            .row_tokens = 256,
                            .seed = 5,
                            .shuffle = true,
                            .random_anchor_offset = true};
  return options;
}

static uint64_t batch_hash(const reader_batch *batch) {
  uint64_t hash = (uint64_t)batch->n_row;
  hash = XXH3_64bits_withSeed(batch->tokens, (size_t)batch->n_row * sizeof *batch->tokens, hash);
  hash = XXH3_64bits_withSeed(batch->targets, (size_t)batch->n_row * sizeof *batch->targets, hash);
  hash = XXH3_64bits_withSeed(batch->positions, (size_t)batch->n_row * sizeof *batch->positions, hash);
  hash = XXH3_64bits_withSeed(batch->views, (size_t)batch->n_view * sizeof *batch->views, hash);
  hash = XXH3_64bits_withSeed(batch->ranges, (size_t)batch->n_range * sizeof *batch->ranges, hash);
  return XXH3_64bits_withSeed(batch->examples, (size_t)batch->n_example * sizeof *batch->examples, hash);
}

// Hashes of the next `count` batches.
static void take_hashes(reader *opened, int count, uint64_t *hashes) {
  ss_error error = {0};
  for (int k = 0; k < count; k++) {
    const reader_batch *batch = NULL;
    assert_ok(reader_next(opened, &batch, &error));
    hashes[k] = batch_hash(batch);
  }
}

// --- order ----------------------------------------------------------------------------------------------

static void test_order(void **state) {
  (void)state;
  ss_error error = {0};
  for (int64_t n_example = 1; n_example < 120; n_example += 7) {
    reader_order order = {0}, again = {0};
    reader_window_order window = {0};
    assert_ok(reader_order_init(&order, n_example, 5, 9, true, &error));
    assert_ok(reader_order_init(&again, n_example, 5, 9, true, &error));
    for (int64_t epoch = 0; epoch < 3; epoch++) {
      int seen[120] = {0};
      int64_t place = 0;
      for (int64_t w = 0; w < order.n_window; w++) {
        assert_ok(reader_order_window(&order, epoch, w, &window, &error));
        for (int64_t e = 0; e < window.size; e++, place++) {
          int64_t found = -1, within = -1,
                  index = window.blocks[window.entries[e] / 5] * 5 + window.entries[e] % 5;
          assert_in_range(index, 0, n_example - 1);
          seen[index]++;
          assert_ok(reader_order_find(&again, epoch, place, &found, &within, &error));
          assert_int_equal(found, w);
          assert_int_equal(within, e);
        }
      }
      assert_int_equal(place, n_example);
      for (int64_t k = 0; k < n_example; k++)
        assert_int_equal(seen[k], 1);
    }
    free(window.entries);
    reader_order_free(&order);
    reader_order_free(&again);
  }
}

// Every epoch takes the blocks in another order, and so does every seed.
static void test_block_order(void **state) {
  (void)state;
  ss_error error = {0};
  enum { BLOCKS = 100 };
  int64_t blocks[4][BLOCKS];
  reader_window_order window = {0};
  for (int k = 0; k < 4; k++) {
    reader_order order = {0};
    assert_ok(reader_order_init(&order, BLOCKS * 5, 5, k < 2 ? 9 : 10, k < 3, &error));
    for (int64_t w = 0, taken = 0; w < order.n_window; w++) {
      assert_ok(reader_order_window(&order, k == 1, w, &window, &error));
      for (int64_t b = 0; b < window.n_block; b++)
        blocks[k][taken++] = window.blocks[b];
    }
    reader_order_free(&order);
    for (int other = 0; other < k; other++)
      assert_memory_not_equal(blocks[k], blocks[other], sizeof blocks[k]);
  }
  for (int64_t b = 0; b < BLOCKS; b++)  // not shuffled
    assert_int_equal(blocks[3][b], b);
  free(window.entries);
}

// The numbers of the first `count` examples that the reader delivers.
static void take_examples(reader *opened, int64_t count, int64_t *examples) {
  ss_error error = {0};
  int64_t taken = 0;
  while (taken < count) {
    const reader_batch *batch = NULL;
    assert_ok(reader_next(opened, &batch, &error));
    for (int64_t k = 0; k < batch->n_example && taken < count; k++)
      examples[taken++] = batch->examples[k];
  }
}

static void assert_permutation(const int64_t *examples) {
  int seen[N_EXAMPLE] = {0};
  for (int64_t k = 0; k < N_EXAMPLE; k++)
    seen[examples[k]]++;
  for (int64_t k = 0; k < N_EXAMPLE; k++)
    assert_int_equal(seen[k], 1);
}

static void test_epochs(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "epochs.h5");
  int64_t *first = calloc(3 * N_EXAMPLE, sizeof *first), *other = calloc(3 * N_EXAMPLE, sizeof *other);
  for (int arm_index = 0; arm_index < N_ARM; arm_index++)
    for (int exact = 0; exact < 2; exact++) {
      reader *opened = NULL;
      reader_options options = default_options();
      options.arm = (arm)arm_index;
      options.examples_a_batch = exact ? 7 : 0;
      assert_ok(reader_open(&opened, data.store, &options, &error));
      int64_t *examples = arm_index == 0 && exact == 0 ? first : other;
      take_examples(opened, 3 * N_EXAMPLE, examples);
      for (int epoch = 0; epoch < 3; epoch++)
        assert_permutation(examples + epoch * N_EXAMPLE);
      assert_memory_not_equal(examples, examples + N_EXAMPLE, N_EXAMPLE * sizeof *examples);
      assert_memory_not_equal(examples + N_EXAMPLE, examples + 2 * N_EXAMPLE, N_EXAMPLE * sizeof *examples);
      // The order is the same whatever the arm and the batches.
      assert_memory_equal(examples, first, 3 * N_EXAMPLE * sizeof *examples);
      assert_true(reader_epoch(opened) >= 3 && reader_epoch(opened) < 3.2);
      reader_close(opened);
    }
  reader *opened = NULL;
  reader_options options = default_options();
  options.seed = 6;
  assert_ok(reader_open(&opened, data.store, &options, &error));
  take_examples(opened, N_EXAMPLE, other);
  assert_permutation(other);
  assert_memory_not_equal(other, first, N_EXAMPLE * sizeof *other);
  reader_close(opened);
  options.shuffle = false;
  assert_ok(reader_open(&opened, data.store, &options, &error));
  take_examples(opened, 2 * N_EXAMPLE, other);
  for (int64_t k = 0; k < 2 * N_EXAMPLE; k++)
    assert_int_equal(other[k], k % N_EXAMPLE);
  reader_close(opened);
  free(first);
  free(other);
  close_dataset(&data);
}

// More examples than a window holds: every one once an epoch, and seeking across windows.
static void test_many_windows(void **state) {
  (void)state;
  ss_error error = {0};
  const int64_t count = 20000;
  char path[TEST_PATH];
  fixture_write(test_path(path, "windows.h5"), SEED, count);
  store *data = NULL;
  reader *opened = NULL;
  assert_ok(store_open(&data, path, true, &error));
  reader_options options = default_options();
  options.n_row = 64;
  assert_ok(reader_open(&opened, data, &options, &error));
  int64_t *examples = calloc((size_t)count, sizeof *examples);
  char *seen = calloc((size_t)count, 1);
  take_examples(opened, count, examples);
  for (int64_t k = 0; k < count; k++) {
    assert_int_equal(seen[examples[k]], 0);
    seen[examples[k]] = 1;
  }
  uint64_t expected[20], got[20];
  int64_t position = reader_position(opened), first = reader_examples_seen(opened);
  take_hashes(opened, 20, expected);
  take_examples(opened, count, examples);  // far on
  assert_ok(reader_seek(opened, position, &error));
  assert_int_equal(reader_examples_seen(opened), first);
  take_hashes(opened, 20, got);
  assert_memory_equal(got, expected, sizeof expected);
  free(examples);
  free(seen);
  reader_close(opened);
  store_close(data);
}

// --- content --------------------------------------------------------------------------------------------

// For every row the set of rows that its query reads, from the views; fails where views overlap or leave a gap.
static void expand_views(const reader_batch *batch, char **visible) {
  for (int64_t v = 0; v < batch->n_view; v++) {
    const span_view *view = &batch->views[v];
    for (int64_t query = view->query_first; query < view->query_end; query++) {
      assert_null(visible[query]);
      visible[query] = calloc((size_t)batch->n_row, 1);
      for (int64_t row = view->self_first; row <= query; row++)
        visible[query][row] = 1;
      for (int32_t k = 0; k < view->n_range; k++) {
        assert_true(view->range_first + k < batch->n_range);
        const span_range *range = &batch->ranges[view->range_first + k];
        assert_true(range->first < range->end && range->end <= view->self_first);
        for (int64_t row = range->first; row < range->end; row++)
          visible[query][row] = 1;
      }
    }
  }
  for (int64_t row = 0; row < batch->n_row; row++)
    assert_non_null(visible[row]);
}

// Compares rows [base, base + n_token - 1) of a batch with one example, token by token through the tracker. Returns
// its attended rows.
static int64_t check_example(const reader_batch *batch, char **visible, int64_t base,
                             const rendering *rendered, const reader_options *options,
                             const vocabulary *words) {
  span_segment segments[FIXTURE_ANCHORS];
  int32_t references[FIXTURE_ANCHORS * FIXTURE_ANCHORS];
  span_range ranges[2 * FIXTURE_ANCHORS + 4];
  span_tracker tracker;
  span_policy policy = arm_policy(options->arm, &options->policy);
  const span_tokens *tokens = vocabulary_span_tokens(words);
  int32_t offset = rendered->tokens[rendered->layout.segments[0].anchor] - tokens->anchor_first;
  span_tracker_start(&tracker, tokens, &policy, arm_has_headers(options->arm), offset,
                     rendered->layout.preamble_end, rendered->prompt_end, segments, FIXTURE_ANCHORS,
                     references, FIXTURE_ANCHORS * FIXTURE_ANCHORS);
  int64_t attended = 0, inputs = rendered->n_token - 1;
  for (int64_t i = 0; i < inputs; i++) {
    int64_t row = base + i;
    assert_int_equal(batch->tokens[row], rendered->tokens[i]);
    assert_int_equal(batch->targets[row], i + 1 >= rendered->prompt_end ? rendered->tokens[i + 1] : -1);
    assert_int_equal(batch->positions[row], i);
    assert_int_equal(span_tracker_push(&tracker, rendered->tokens[i]), SPAN_PUSH_OK);
    span_view view = span_tracker_visible(&tracker, ranges);
    char *expected = calloc((size_t)batch->n_row, 1);
    for (int64_t k = view.self_first; k <= i; k++)
      expected[base + k] = 1;
    for (int32_t k = 0; k < view.n_range; k++)
      for (int64_t r = ranges[k].first; r < ranges[k].end; r++)
        expected[base + r] = 1;
    // The whole batch is compared: nothing of another example may be visible.
    assert_memory_equal(visible[row], expected, (size_t)batch->n_row);
    for (int64_t k = 0; k < batch->n_row; k++)
      attended += expected[k];
    free(expected);
  }
  assert_int_equal(span_malformed_total(&tracker.malformed), 0);
  return attended;
}

static void check_batch(const reader_batch *batch, const dataset *data, const reader_options *options,
                        int32_t *offsets) {
  ss_error error = {0};
  char **visible = calloc((size_t)batch->n_row, sizeof *visible);
  rendering rendered = {0};
  const span_tokens *tokens = vocabulary_span_tokens(data->words);
  expand_views(batch, visible);
  int64_t row = 0, attended = 0, n_target = 0;
  for (int64_t k = 0; k < batch->n_example; k++) {
    const rendering *annotated = &data->annotated[batch->examples[k]];
    // The first segment is headless in every arm: its anchor tells the offset.
    int32_t anchor = batch->tokens[row + annotated->layout.segments[0].anchor];
    int32_t offset = anchor - tokens->anchor_first;
    assert_in_range(offset, 0, tokens->n_anchor - annotated->layout.n_segment);
    assert_true(options->random_anchor_offset || offset == 0);
    offsets[k] = offset;
    assert_ok(render_arm(&rendered, annotated, options->arm, data->words, offset, &error));
    assert_true(row + rendered.n_token - 1 <= batch->n_row);
    attended += check_example(batch, visible, row, &rendered, options, data->words);
    row += rendered.n_token - 1;
  }
  assert_int_equal(row, batch->n_row);
  for (int64_t k = 0; k < batch->n_row; k++) {
    n_target += batch->targets[k] >= 0;
    free(visible[k]);
  }
  assert_int_equal(batch->n_target, n_target);
  assert_int_equal(batch->attended_rows, attended);
  free(visible);
  rendering_free(&rendered);
}

static void test_content(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "content.h5");
  int32_t offsets[64], known[N_EXAMPLE];
  for (int k = 0; k < N_EXAMPLE; k++)
    known[k] = -1;
  for (int choose = SPAN_CHOOSE_ALL; choose <= SPAN_CHOOSE_OPEN; choose++)
    for (int arm_index = 0; arm_index < N_ARM; arm_index++)
      for (int exact = 0; exact < 2; exact++) {
        reader *opened = NULL;
        reader_options options = default_options();
        options.arm = (arm)arm_index;
        options.examples_a_batch = exact ? 9 : 0;
        options.policy.choose = choose;
        options.policy.pin = choose % 2;
        options.random_anchor_offset = choose != SPAN_CHOOSE_ALL;
        assert_ok(reader_open(&opened, data.store, &options, &error));
        for (int k = 0; k < 4; k++) {
          const reader_batch *batch = NULL;
          assert_ok(reader_next(opened, &batch, &error));
          assert_true(exact ? batch->n_example == 9 : batch->n_row <= 4 * 256);
          assert_in_range(batch->n_example, 1, 64);
          check_batch(batch, &data, &options, offsets);
          // An example's offset is the same for every arm and batch.
          for (int64_t e = 0; e < batch->n_example && options.random_anchor_offset; e++) {
            int32_t *first = &known[batch->examples[e]];
            assert_true(*first < 0 || *first == offsets[e]);
            *first = offsets[e];
          }
        }
        reader_close(opened);
      }
  close_dataset(&data);
}

// Rows are filled first-fit, in order, until one example fits in none.
static void test_packing(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "packing.h5");
  reader *opened = NULL;
  reader_options options = default_options();
  options.arm = ARM_ANNOTATED;
  assert_ok(reader_open(&opened, data.store, &options, &error));
  int64_t filled[4] = {0};
  for (int b = 0; b < 60; b++) {
    const reader_batch *batch = NULL;
    assert_ok(reader_next(opened, &batch, &error));
    for (int64_t k = 0; k < batch->n_example; k++) {
      int64_t inputs = data.annotated[batch->examples[k]].n_token - 1;
      int row = 0;
      while (row < 4 && filled[row] + inputs > 256)
        row++;
      if (k == 0) {  // it must not have fitted into the batch before
        assert_true(b == 0 || row == 4);
        memset(filled, 0, sizeof filled);
        row = 0;
      }
      assert_true(row < 4);
      filled[row] += inputs;
    }
    assert_int_equal(filled[0] + filled[1] + filled[2] + filled[3], batch->n_row);
  }
  reader_close(opened);
  close_dataset(&data);
}

// --- position -------------------------------------------------------------------------------------------

static void test_seek(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "seek.h5");
  enum { N = 150, PART = 6 };
  static const int64_t positions[] = {0, 1, 2, 17, 50, 51, 99, 140, 3};
  for (int arm_index = 0; arm_index < N_ARM; arm_index++)
    for (int exact = 0; exact < 2; exact++) {
      reader_options options = default_options();
      options.arm = (arm)arm_index;
      options.examples_a_batch = exact ? 7 : 0;
      uint64_t expected[N], got[PART];
      int64_t examples[N + 1] = {0};
      reader *opened = NULL;
      assert_ok(reader_open(&opened, data.store, &options, &error));
      for (int k = 0; k < N; k++) {
        assert_int_equal(reader_position(opened), k);
        take_hashes(opened, 1, &expected[k]);
        examples[k + 1] = reader_examples_seen(opened);
      }
      assert_true(reader_epoch(opened) > 2);
      for (size_t k = 0; k < sizeof positions / sizeof positions[0]; k++) {
        int64_t position = positions[k];
        if (k % 2 == 0) {  // half of them in a new reader, as a resumed run does
          reader_close(opened);
          assert_ok(reader_open(&opened, data.store, &options, &error));
        }
        assert_ok(reader_seek(opened, position, &error));
        assert_int_equal(reader_position(opened), position);
        assert_int_equal(reader_examples_seen(opened), examples[position]);
        take_hashes(opened, PART, got);
        assert_memory_equal(got, expected + position, sizeof got);
        assert_int_equal(reader_examples_seen(opened), examples[position + PART]);
      }
      assert_refused(reader_seek(opened, -1, &error), SS_ERROR_INPUT, "-1");
      reader_close(opened);
    }
  close_dataset(&data);
}

// Who waits for whom must not matter; a second reader and the main thread use other stores meanwhile.
static void test_timing(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "timing.h5");
  store *second_store = NULL;
  assert_ok(store_open(&second_store, data.path, false, &error));
  reader_options options = default_options();
  reader *first = NULL, *second = NULL;
  uint64_t expected[80];
  assert_ok(reader_open(&first, data.store, &options, &error));
  take_hashes(first, 80, expected);
  reader_close(first);
  assert_ok(reader_open(&first, data.store, &options, &error));
  assert_ok(reader_open(&second, second_store, &options, &error));
  store *third = NULL;
  assert_ok(store_open(&third, data.path, false, &error));
  example *item = calloc(1, sizeof *item);
  rendering annotated = {0};
  ss_random random = ss_random_seed(1, 2);
  for (int k = 0; k < 80; k++) {
    uint64_t got[2];
    if (ss_random_below(&random, 4) == 0)
      usleep((useconds_t)ss_random_below(&random, 3000));
    take_hashes(first, 1, &got[0]);
    if (k % 3 == 0) {
      assert_ok(store_read(third, k, 1, item, &annotated, &error));
      fixture_same_example(item, &data.items[k]);
    }
    take_hashes(second, 1, &got[1]);
    assert_int_equal(got[0], expected[k]);
    assert_int_equal(got[1], expected[k]);
  }
  example_free(item);
  free(item);
  rendering_free(&annotated);
  reader_close(first);
  reader_close(second);
  store_close(second_store);
  store_close(third);
  close_dataset(&data);
}

// --- refusals -------------------------------------------------------------------------------------------

static void test_options(void **state) {
  (void)state;
  ss_error error = {0};
  dataset data;
  open_dataset(&data, "options.h5");
  reader *opened = NULL;
  int64_t longest = 0, longest_dense = 0;
  rendering rendered = {0};
  for (int k = 0; k < N_EXAMPLE; k++) {
    assert_ok(render_arm(&rendered, &data.annotated[k], ARM_DENSE, data.words, 0, &error));
    longest_dense = rendered.n_token > longest_dense ? rendered.n_token : longest_dense;
    longest = data.annotated[k].n_token > longest ? data.annotated[k].n_token : longest;
  }
  rendering_free(&rendered);
  assert_int_equal(store_longest(data.store), longest);
  assert_true(longest_dense < longest);
  for (int arm_index = 0; arm_index < N_ARM; arm_index++) {
    reader_options options = default_options();
    options.arm = (arm)arm_index;
    options.row_tokens = (int32_t)(arm_index == ARM_DENSE ? longest_dense : longest) - 1;
    assert_ok(reader_open(&opened, data.store, &options, &error));
    reader_close(opened);
    options.row_tokens--;
    assert_refused(reader_open(&opened, data.store, &options, &error), SS_ERROR_LIMIT,
                   "more than row_tokens");
    options.examples_a_batch = 3;
    assert_refused(reader_open(&opened, data.store, &options, &error), SS_ERROR_LIMIT,
                   "more than row_tokens");
  }
  reader_options options = default_options();
  options.n_row = 0;
  assert_refused(reader_open(&opened, data.store, &options, &error), SS_ERROR_USAGE, "0 rows");
  options = default_options();
  options.n_row = INT32_MAX / 2;
  assert_refused(reader_open(&opened, data.store, &options, &error), SS_ERROR_LIMIT, "at most");
  close_dataset(&data);
  char path[TEST_PATH];
  store *empty = NULL;
  fixture_write(test_path(path, "no_examples.h5"), SEED, 0);
  assert_ok(store_open(&empty, path, true, &error));
  options = default_options();
  assert_refused(reader_open(&opened, empty, &options, &error), SS_ERROR_INPUT, "no examples");
  store_close(empty);
}

// A damaged example met by the thread: the batches before it come, then the error, each time, until one goes back.
static void test_damaged_example(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  const int64_t count = 18000;  // more than one window, so that the first batches are sound
  fixture_write(test_path(path, "thread_error.h5"), SEED, count);
  store *data = NULL;
  reader *opened = NULL;
  const reader_batch *batch = NULL;
  reader_options options = default_options();
  options.shuffle = false;
  assert_ok(store_open(&data, path, true, &error));
  int64_t n_token = store_n_token(data);
  store_close(data);
  fixture_overwrite(path, "tokens", n_token - 3, -5);
  assert_ok(store_open(&data, path, false, &error));
  assert_ok(reader_open(&opened, data, &options, &error));
  assert_ok(reader_next(opened, &batch, &error));
  uint64_t first = batch_hash(batch);
  ss_status status = SS_OK;
  while (status == SS_OK)
    status = reader_next(opened, &batch, &error);
  assert_int_equal(status, SS_ERROR_INPUT);
  assert_non_null(strstr(error.message, "example 17999, token"));
  int64_t position = reader_position(opened);
  assert_in_range(reader_examples_seen(opened), 12000, 16384);
  ss_error_clear(&error);
  assert_refused(reader_next(opened, &batch, &error), SS_ERROR_INPUT, "example 17999, token");
  assert_int_equal(reader_position(opened), position);
  assert_ok(reader_seek(opened, 0, &error));
  assert_ok(reader_next(opened, &batch, &error));
  assert_int_equal(batch_hash(batch), first);
  reader_close(opened);
  store_close(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_order),   cmocka_unit_test(test_block_order),
      cmocka_unit_test(test_epochs),  cmocka_unit_test(test_many_windows),
      cmocka_unit_test(test_content), cmocka_unit_test(test_packing),
      cmocka_unit_test(test_seek),    cmocka_unit_test(test_timing),
      cmocka_unit_test(test_options), cmocka_unit_test(test_damaged_example),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
