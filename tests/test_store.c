// The dataset store: what is written comes back, the same content gives the same bytes, whatever is wrong with a
// file is refused, and a failed write leaves nothing behind.
#include "helpers.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/hdf5.h"
#include "common/random.h"
#include "data/reader.h"
#include "dataset_fixture.h"

#define SEED 7

static void copy_file(const char *from, const char *to) {
  ss_error error = {0};
  char *bytes = NULL;
  size_t size = 0;
  assert_ok(ss_read_file(from, &bytes, &size, &error));
  assert_ok(ss_write_file(to, bytes, size, &error));
  free(bytes);
}

static void assert_same_files(const char *a, const char *b) {
  ss_error error = {0};
  char *bytes_a = NULL, *bytes_b = NULL;
  size_t size_a = 0, size_b = 0;
  assert_ok(ss_read_file(a, &bytes_a, &size_a, &error));
  assert_ok(ss_read_file(b, &bytes_b, &size_b, &error));
  assert_int_equal(size_a, size_b);
  assert_memory_equal(bytes_a, bytes_b, size_a);
  free(bytes_a);
  free(bytes_b);
}

// --- round trip -----------------------------------------------------------------------------------------

static void read_and_compare(store *opened, const vocabulary *words, int64_t first, int64_t count) {
  ss_error error = {0};
  example *items = calloc((size_t)count, sizeof *items), expected = {0};
  rendering *renderings = calloc((size_t)count, sizeof *renderings), annotated = {0};
  assert_ok(store_read(opened, first, count, items, renderings, &error));
  for (int64_t k = 0; k < count; k++) {
    fixture_example(&expected, SEED, first + k);
    assert_ok(render_annotated(&annotated, &expected, words, FIXTURE_MAX_HEADER, &error));
    fixture_same_example(&items[k], &expected);
    fixture_same_rendering(&renderings[k], &annotated);
    fixture_check_ranges(&renderings[k], words);
    example_free(&items[k]);
    rendering_free(&renderings[k]);
  }
  example_free(&expected);
  rendering_free(&annotated);
  free(items);
  free(renderings);
}

static void test_round_trip(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  vocabulary *words = fixture_vocabulary();
  fixture_write(test_path(path, "round.h5"), SEED, 5000);  // more than one flush
  store *opened = NULL;
  assert_ok(store_open(&opened, path, true, &error));
  assert_int_equal(store_n_example(opened), 5000);
  assert_string_equal(store_task(opened), "arithmetic");
  assert_string_equal(store_split(opened), "train");
  assert_string_equal(store_path(opened), path);
  assert_int_equal(store_seed(opened), SEED);
  assert_int_equal(json_integer_value(json_object_get(store_config(opened), "count")), 5000);
  assert_int_equal(vocabulary_hash(store_vocabulary(opened)), vocabulary_hash(words));
  char hash[33];
  assert_ok(ss_hash_file(path, hash, &error));
  hash[16] = '\0';
  assert_int_equal(store_content_hash(opened), strtoull(hash, NULL, 16));
  read_and_compare(opened, words, 0, 5000);
  for (int64_t first = 0; first < 5000; first += 619)
    read_and_compare(opened, words, first, first % 3 + 1);
  read_and_compare(opened, words, 4999, 1);
  assert_ok(store_read(opened, 5000, 0, NULL, NULL, &error));
  assert_refused(store_read(opened, 4999, 2, NULL, NULL, &error), SS_ERROR_INTERNAL, "the store has 5000");
  store_close(opened);
  vocabulary_free(words);
}

// The arrays that store_read fills may be reused for other examples.
static void test_reused_storage(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  vocabulary *words = fixture_vocabulary();
  fixture_write(test_path(path, "reused.h5"), SEED, 60);
  store *opened = NULL;
  assert_ok(store_open(&opened, path, true, &error));
  example *items = calloc(2, sizeof *items), expected = {0};
  rendering *renderings = calloc(2, sizeof *renderings);
  for (int64_t first = 0; first < 59; first++) {
    assert_ok(store_read(opened, first, 2, items, renderings, &error));
    for (int64_t k = 0; k < 2; k++) {
      fixture_example(&expected, SEED, first + k);
      fixture_same_example(&items[k], &expected);
    }
  }
  for (int k = 0; k < 2; k++) {
    example_free(&items[k]);
    rendering_free(&renderings[k]);
  }
  free(items);
  free(renderings);
  example_free(&expected);
  store_close(opened);
  vocabulary_free(words);
}

static void test_empty(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  fixture_write(test_path(path, "empty.h5"), SEED, 0);
  store *opened = NULL;
  assert_ok(store_open(&opened, path, true, &error));
  assert_int_equal(store_n_example(opened), 0);
  assert_int_equal(store_longest(opened), 0);
  store_close(opened);
}

static void test_same_bytes(void **state) {
  (void)state;
  char a[TEST_PATH], b[TEST_PATH], sidecar[TEST_PATH + 16];
  fixture_write(test_path(a, "bytes_a.h5"), SEED, 4200);
  // Time stamps have a resolution of a second.
  usleep(1100 * 1000);
  fixture_write(test_path(b, "bytes_b.h5"), SEED, 4200);
  assert_same_files(a, b);
  snprintf(sidecar, sizeof sidecar, "%s.xxh128", a);
  assert_true(ss_file_exists(sidecar));
}

// --- refusals -------------------------------------------------------------------------------------------

static void test_truncated(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], cut[TEST_PATH];
  struct stat info;
  fixture_write(test_path(path, "whole.h5"), SEED, 50);
  test_path(cut, "cut.h5");
  assert_int_equal(stat(path, &info), 0);
  for (int part = 0; part < 8; part++) {
    copy_file(path, cut);
    assert_int_equal(truncate(cut, info.st_size * part / 8 + (part == 0 ? 0 : 3)), 0);
    store *opened = NULL;
    for (int verify = 0; verify < 2; verify++)
      assert_refused(store_open(&opened, cut, verify, &error), SS_ERROR_INPUT, cut);
  }
}

static void test_foreign(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  store *opened = NULL;
  test_write(path, "text.h5", "this is a text\n");
  assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, "not an HDF5 file");
  assert_refused(store_open(&opened, test_path(path, "absent.h5"), true, &error), SS_ERROR_IO, "absent.h5");
  ss_hdf5 *other = NULL;
  assert_ok(ss_hdf5_create(&other, test_path(path, "other.h5"), "selfspan-other", 1, &error));
  assert_ok(ss_hdf5_commit(other, &error));
  assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, "expected \"selfspan-dataset\"");
  assert_ok(ss_hdf5_create(&other, test_path(path, "newer.h5"), "selfspan-dataset", STORE_SCHEMA_VERSION + 1,
                           &error));
  assert_ok(ss_hdf5_commit(other, &error));
  assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, "newer");
  assert_ok(
      ss_hdf5_create(&other, test_path(path, "bare.h5"), "selfspan-dataset", STORE_SCHEMA_VERSION, &error));
  assert_ok(ss_hdf5_commit(other, &error));
  assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, "bare.h5");
}

static void test_flipped_bit(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  struct stat info;
  ss_random random = ss_random_seed(3, 0);
  fixture_write(test_path(path, "flipped.h5"), SEED, 50);
  assert_int_equal(stat(path, &info), 0);
  for (int k = 0; k < 40; k++) {
    long byte = (long)ss_random_below(&random, (uint64_t)info.st_size);
    int bit = (int)ss_random_below(&random, 8);
    store *opened = NULL;
    test_flip_bit(path, byte, bit);
    assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, path);
    test_flip_bit(path, byte, bit);
  }
  char sidecar[TEST_PATH + 16];
  store *opened = NULL;
  snprintf(sidecar, sizeof sidecar, "%s.xxh128", path);
  assert_ok(store_open(&opened, path, true, &error));
  store_close(opened);
  assert_int_equal(unlink(sidecar), 0);
  assert_refused(store_open(&opened, path, true, &error), SS_ERROR_INPUT, "missing");
}

// One epoch of every arm from a damaged store: errors or rows in range.
static void read_damaged(store *opened) {
  ss_error error = {0};
  int32_t size = vocabulary_size(store_vocabulary(opened));
  for (int k = 0; k < 2 * N_ARM; k++) {
    reader_options options = {.arm = (arm)(k % N_ARM),
                              .policy = span_policy_default(),
                              .n_row = 3,
                              .row_tokens = 400,
                              .examples_a_batch = k < N_ARM ? 0 : 5,
                              .shuffle = true,
                              .random_anchor_offset = true};
    reader *batches = NULL;
    const reader_batch *batch = NULL;
    ss_error_clear(&error);
    ss_status status = reader_open(&batches, opened, &options, &error);
    if (status == SS_OK && k % 2 == 1)
      status = reader_seek(batches, 2, &error);
    while (status == SS_OK && reader_epoch(batches) < 1) {
      status = reader_next(batches, &batch, &error);
      if (status != SS_OK)
        break;
      for (int64_t i = 0; i < batch->n_row; i++) {
        assert_in_range(batch->tokens[i], 0, size - 1);
        assert_true(batch->targets[i] >= -1 && batch->targets[i] < size);
      }
      int64_t row = 0;
      for (int64_t v = 0; v < batch->n_view; v++) {
        const span_view *view = &batch->views[v];
        assert_int_equal(view->query_first, row);
        assert_true(view->query_end > row && view->query_end <= batch->n_row);
        assert_true(view->self_first >= 0 && view->self_first <= view->query_first);
        assert_true(view->range_first >= 0 && view->range_first + view->n_range <= batch->n_range);
        row = view->query_end;
      }
      assert_int_equal(row, batch->n_row);
      for (int64_t r = 0; r < batch->n_range; r++)
        assert_true(batch->ranges[r].first >= 0 && batch->ranges[r].first < batch->ranges[r].end &&
                    batch->ranges[r].end <= batch->n_row);
    }
    assert_true(status == SS_OK || error.message[0] != '\0');
    reader_close(batches);
  }
}

// Everything that a store opened without its hash yields must lie in range, however the file was damaged. Returns
// whether anything was refused.
static bool use_damaged(const char *path) {
  ss_error error = {0};
  store *opened = NULL;
  if (store_open(&opened, path, false, &error) != SS_OK) {
    assert_true(error.message[0] != '\0');
    return true;
  }
  bool refused = false;
  int64_t count = store_n_example(opened);
  example *items = calloc(7, sizeof *items);
  rendering *renderings = calloc(7, sizeof *renderings);
  for (int64_t first = 0; first < count; first += 7) {
    int64_t part = count - first < 7 ? count - first : 7;
    if (store_read(opened, first, part, items, renderings, &error) == SS_OK)
      for (int64_t k = 0; k < part; k++)
        fixture_check_ranges(&renderings[k], store_vocabulary(opened));
    else
      assert_true(error.message[0] != '\0');
    refused = refused || error.message[0] != '\0';
    ss_error_clear(&error);
  }
  read_damaged(opened);
  for (int64_t k = 0; k < 7; k++) {
    example_free(&items[k]);
    rendering_free(&renderings[k]);
  }
  free(items);
  free(renderings);
  store_close(opened);
  return refused;
}

static void test_damaged(void **state) {
  (void)state;
  char path[TEST_PATH], damaged[TEST_PATH];
  struct stat info;
  const char *rounds = getenv("SELFSPAN_FUZZ_ROUNDS");
  int n_round = rounds == NULL ? 300 : atoi(rounds);
  fixture_write(test_path(path, "sound.h5"), SEED, 40);
  test_path(damaged, "damaged.h5");
  assert_int_equal(stat(path, &info), 0);
  copy_file(path, damaged);
  for (int round = 0; round < n_round; round++) {
    ss_random random = ss_random_seed(11, (uint64_t)round);
    long bytes[4];
    int bits[4], flips = 1 + (int)ss_random_below(&random, 4);
    for (int k = 0; k < flips; k++) {
      // Half of them near the start, where most of the structure lies.
      int64_t below = ss_random_below(&random, 2) == 0 ? info.st_size : 16384;
      bytes[k] = (long)ss_random_below(&random, (uint64_t)below);
      bits[k] = (int)ss_random_below(&random, 8);
      test_flip_bit(damaged, bytes[k], bits[k]);
    }
    use_damaged(damaged);
    for (int k = flips - 1; k >= 0; k--)
      test_flip_bit(damaged, bytes[k], bits[k]);
  }
  assert_same_files(path, damaged);
}

// Values that no sound store holds, in every array that is used as an index: the loader must notice.
static void test_absurd_values(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], damaged[TEST_PATH];
  fixture_write(test_path(path, "sound2.h5"), SEED, 40);
  test_path(damaged, "absurd.h5");
  static const struct {
    const char *array;
    bool at_open;  // refused without reading any example
    int64_t values[6];
  } cases[] = {
      {"example_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 0, 0}},
      {"example_segments", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 0, 0}},
      {"reference_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 1LL << 32, 100000}},
      {"text_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 0, 100000}},
      {"answer_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 100000, 100001}},
      {"id_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 0, 100000}},
      {"meta_offsets", true, {-1, INT64_MAX, INT64_MIN, 1LL << 40, 0, 100000}},
      {"tokens", false, {-1, INT32_MAX, INT32_MIN, 47, 1000, 48}},
      {"loss_mask", false, {2, 255, 128, 3, 4, 5}},
      {"segment_kind", false, {4, 255, 128, 5, 6, 7}},
      {"segment_offsets", false, {-1, INT32_MAX, INT32_MIN, 1, 0, 100000}},
      {"header_end", false, {-1, INT32_MIN, 1, 0, 100000, INT32_MAX - 1}},
      {"references", false, {-1, INT32_MAX, INT32_MIN, 24, 100, 1000}},
  };
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
    for (int v = 0; v < 6; v++)
      for (int64_t k = 0; k < 3; k++) {
        static const int64_t indices[] = {0, 20, 31};
        int64_t index = indices[k];
        // At the very start 0 and 1 may be sound.
        if (index == 0 && (cases[c].values[v] == 0 || cases[c].values[v] == 1))
          continue;
        copy_file(path, damaged);
        fixture_overwrite(damaged, cases[c].array, index, cases[c].values[v]);
        store *opened = NULL;
        if (cases[c].at_open)
          assert_refused(store_open(&opened, damaged, false, &error), SS_ERROR_INPUT, cases[c].array);
        else if (!use_damaged(damaged))
          fail_msg("%s[%d] = %lld passed", cases[c].array, (int)index, (long long)cases[c].values[v]);
      }
  // Two values that agree with each other, but not with the example.
  copy_file(path, damaged);
  fixture_overwrite(damaged, "segment_offsets", 0, -1);
  fixture_overwrite(damaged, "header_end", 0, -1);
  assert_true(use_damaged(damaged));
}

// --- failing writes -------------------------------------------------------------------------------------

// The number of files in `folder`.
static int count_files(const char *folder) {
  int count = 0;
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
    count += entry->d_name[0] != '.' || (entry->d_name[1] != '\0' && entry->d_name[1] != '.');
  closedir(entries);
  return count;
}

// Writes a store of `count` examples without asserting; the status of the first failure.
static ss_status try_write(const char *path, int64_t count, bool close, ss_error *error) {
  vocabulary *words = fixture_vocabulary();
  json_t *config = json_object();
  store_writer *writer = NULL;
  example *item = calloc(1, sizeof *item);
  rendering annotated = {0};
  ss_status status = store_writer_open(&writer, path, words, "arithmetic", "train", 1, config, error);
  for (int64_t k = 0; k < count && status == SS_OK; k++) {
    fixture_example(item, SEED, k);
    status = render_annotated(&annotated, item, words, FIXTURE_MAX_HEADER, error);
    if (status == SS_OK)
      status = store_writer_add(writer, item, &annotated, error);
  }
  // Space that comes back after a failure must not complete a file with a hole in it.
  struct rlimit limit;
  if (status != SS_OK && getrlimit(RLIMIT_FSIZE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  if (writer != NULL && close) {
    ss_status closed = store_writer_close(writer, error);
    status = status == SS_OK ? closed : status;
  } else {
    store_writer_abandon(writer);
  }
  example_free(item);
  free(item);
  rendering_free(&annotated);
  json_decref(config);
  vocabulary_free(words);
  return status;
}

// A full disk, simulated by a limit on the size of files, at every stage of the writing.
static void test_full_disk(void **state) {
  (void)state;
  char folder[TEST_PATH], path[TEST_PATH + 16];
  test_path(folder, "full");
  assert_int_equal(mkdir(folder, 0777), 0);
  snprintf(path, sizeof path, "%s/set.h5", folder);
  static const rlim_t limits[] = {0, 100, 4096, 100000, 1000000, 2000000, 2500000};
  for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      struct rlimit limit = {limits[k], RLIM_INFINITY};
      signal(SIGXFSZ, SIG_IGN);
      setrlimit(RLIMIT_FSIZE, &limit);
      ss_error error = {0};
      ss_status status = try_write(path, 5000, k % 2 == 0, &error);
      // _exit: the limit is for this program's files alone, not for what the test framework writes.
      _exit(status != SS_OK && strstr(error.message, "set.h5") != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(count_files(folder), 0);
  }
}

static void test_unwritable(void **state) {
  (void)state;
  ss_error error = {0};
  char folder[TEST_PATH], path[TEST_PATH + 16];
  assert_refused(try_write("/nonexistent/folder/set.h5", 1, true, &error), SS_ERROR_IO,
                 "/nonexistent/folder/set.h5");
  test_path(folder, "taken");
  assert_int_equal(mkdir(folder, 0777), 0);
  snprintf(path, sizeof path, "%s/set.h5", folder);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_refused(try_write(path, 1, true, &error), SS_ERROR_IO, "set.h5");
  // Abandoning leaves what was there before.
  assert_int_equal(rmdir(path), 0);
  fixture_write(path, SEED, 3);
  assert_ok(try_write(path, 50, false, &error));
  store *opened = NULL;
  assert_ok(store_open(&opened, path, true, &error));
  assert_int_equal(store_n_example(opened), 3);
  store_close(opened);
  assert_int_equal(count_files(folder), 2);
}

// SIGKILL at any moment: under the final name stands a whole store or none.
static void test_killed(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  test_path(path, "killed.h5");
  ss_random random = ss_random_seed(2, 3);
  int whole = 0;
  for (int round = 0; round < 25; round++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
      _exit(try_write(path, 3000, true, &error) == SS_OK ? 0 : 1);
    usleep((useconds_t)ss_random_below(&random, 60000));
    kill(child, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!ss_file_exists(path))
      continue;
    store *opened = NULL;
    assert_ok(store_open(&opened, path, true, &error));
    assert_int_equal(store_n_example(opened), 3000);
    store_close(opened);
    whole++;
    unlink(path);
  }
  assert_in_range(whole, 0, 25);
}

// A refused example leaves the writer usable.
static void test_bad_example(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  vocabulary *words = fixture_vocabulary();
  json_t *config = json_object();
  store_writer *writer = NULL;
  example *item = calloc(1, sizeof *item);
  rendering annotated = {0};
  assert_refused(store_writer_open(&writer, test_path(path, "bad.h5"), words, "arithmetic", "train", 1, NULL,
                                   &error),
                 SS_ERROR_INTERNAL, "config");
  assert_ok(store_writer_open(&writer, path, words, "arithmetic", "train", 1, config, &error));
  for (int64_t k = 0; k < 10; k++) {
    fixture_example(item, SEED, k);
    assert_ok(render_annotated(&annotated, item, words, FIXTURE_MAX_HEADER, &error));
    int32_t kept = annotated.tokens[3];
    annotated.tokens[3] = vocabulary_size(words);
    assert_refused(store_writer_add(writer, item, &annotated, &error), SS_ERROR_INPUT, "token 3");
    annotated.tokens[3] = kept;
    annotated.layout.segments[0].referenced_by ^= 1;
    assert_refused(store_writer_add(writer, item, &annotated, &error), SS_ERROR_INTERNAL, "layout");
    annotated.layout.segments[0].referenced_by ^= 1;
    assert_ok(store_writer_add(writer, item, &annotated, &error));
  }
  assert_ok(store_writer_close(writer, &error));
  char whole[TEST_PATH];
  store *opened = NULL;
  fixture_write(test_path(whole, "good.h5"), SEED, 10);
  assert_ok(store_open(&opened, path, true, &error));
  read_and_compare(opened, words, 0, 10);
  store_close(opened);
  example_free(item);
  free(item);
  rendering_free(&annotated);
  json_decref(config);
  vocabulary_free(words);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_reused_storage),
      cmocka_unit_test(test_empty),         cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_truncated),     cmocka_unit_test(test_foreign),
      cmocka_unit_test(test_flipped_bit),   cmocka_unit_test(test_damaged),
      cmocka_unit_test(test_absurd_values), cmocka_unit_test(test_full_disk),
      cmocka_unit_test(test_unwritable),    cmocka_unit_test(test_killed),
      cmocka_unit_test(test_bad_example),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
