// The dataset store: what is written comes back, the same content gives the same bytes, whatever is wrong with a
// file is refused, and a failed write leaves nothing behind.
#include "helpers.h"

#include <dirent.h>
#include <fcntl.h>
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

// Everything that a store opened without its hash yields must lie in range, however the file was damaged.
static void use_damaged(const char *path) {
  ss_error error = {0};
  store *opened = NULL;
  if (store_open(&opened, path, false, &error) != SS_OK) {
    assert_true(error.message[0] != '\0');
    return;
  }
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
    ss_error_clear(&error);
  }
  for (int64_t k = 0; k < 7; k++) {
    example_free(&items[k]);
    rendering_free(&renderings[k]);
  }
  free(items);
  free(renderings);
  store_close(opened);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_reused_storage),
      cmocka_unit_test(test_empty),       cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_truncated),   cmocka_unit_test(test_foreign),
      cmocka_unit_test(test_flipped_bit), cmocka_unit_test(test_damaged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
