// Files: complete or absent, whatever fails; hashes that see every bit.
#include "tests/helpers.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void file_round_trip(void **state) {
  (void)state;
  ss_error error = {0};
  char folder[TEST_PATH], path[TEST_PATH + 16], *text = NULL;
  size_t size = 0;
  assert_ok(ss_make_directories(test_path(folder, "a/b/c/"), &error));
  assert_ok(ss_make_directories(folder, &error));
  snprintf(path, sizeof path, "%sfile", folder);
  assert_ok(ss_write_file(path, "one\0two", 7, &error));
  assert_ok(ss_write_file(path, "x\0y", 3, &error));
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_int_equal(size, 3);
  assert_memory_equal(text, "x\0y", 4);
  free(text);
  assert_ok(ss_write_file(path, "x\n\ny\0\nz", 7, &error));
  assert_refused(ss_read_text(path, &text, &error), SS_ERROR_INPUT, "file:3: a zero byte");
  assert_null(text);
  assert_ok(ss_write_file(path, "x\ny", 3, &error));
  assert_ok(ss_read_text(path, &text, &error));
  assert_string_equal(text, "x\ny");
  free(text);
  assert_refused(ss_read_file("/nonexistent", &text, &size, &error), SS_ERROR_IO,
                 "/nonexistent: cannot open");
  assert_refused(ss_read_file(folder, &text, &size, &error), SS_ERROR_IO, "cannot");
  assert_refused(ss_write_file(folder, "x", 1, &error), SS_ERROR_IO, "a folder");
  char below[TEST_PATH + 32];
  snprintf(below, sizeof below, "%s/sub", path);
  assert_refused(ss_make_directories(below, &error), SS_ERROR_IO, "");
}

static void file_unwritable_folder(void **state) {
  (void)state;
  ss_error error = {0};
  // /proc refuses even root.
  assert_refused(ss_write_file("/proc/selfspan-test", "x", 1, &error), SS_ERROR_IO,
                 "/proc/selfspan-test: cannot write");
  assert_refused(ss_make_directories("/proc/selfspan-test/x", &error), SS_ERROR_IO,
                 "cannot create the folder");
  if (geteuid() == 0)
    return;
  char folder[TEST_PATH], path[TEST_PATH + 8];
  assert_ok(ss_make_directories(test_path(folder, "locked"), &error));
  assert_int_equal(chmod(folder, 0555), 0);
  snprintf(path, sizeof path, "%s/x", folder);
  assert_refused(ss_write_file(path, "x", 1, &error), SS_ERROR_IO, "Permission denied");
  assert_false(ss_file_exists(path));
  chmod(folder, 0755);
}

// A size limit stands in for a full disk: the write fails half-way, as it does there.
static void file_full_disk(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *temporary = NULL, *text = NULL, big[20000];
  size_t size = 0;
  memset(big, 'b', sizeof big);
  test_write(path, "precious", "complete");
  struct rlimit old, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 4096;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  ss_status status = ss_write_file(path, big, sizeof big, &error);
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, handler);
  assert_refused(status, SS_ERROR_IO, "precious: cannot write");
  assert_ok(ss_temporary_path(path, &temporary, &error));
  assert_false(ss_file_exists(temporary));
  free(temporary);
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_string_equal(text, "complete");
  free(text);
  if (ss_file_exists("/dev/full"))
    assert_refused(ss_write_file("/dev/full", "x", 1, &error), SS_ERROR_IO, "No space left");
}

static void file_hash(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], sidecar[TEST_PATH + 8], hash[33], *text = NULL;
  size_t size = 0;
  test_write(path, "hashed", "selfspan\n");
  snprintf(sidecar, sizeof sidecar, "%s.xxh128", path);
  assert_ok(ss_hash_file(path, hash, &error));
  assert_string_equal(hash, "5bc032112b7b9bcfb74242618da67b9b");  // as printed by xxhsum -H2
  assert_refused(ss_check_hash(path, &error), SS_ERROR_INPUT, "hashed.xxh128 is missing");
  assert_ok(ss_write_hash(path, &error));
  assert_ok(ss_read_file(sidecar, &text, &size, &error));
  assert_string_equal(text, "5bc032112b7b9bcfb74242618da67b9b  hashed\n");
  free(text);
  assert_ok(ss_check_hash(path, &error));
  for (int bit = 0; bit < 8; bit++) {
    test_flip_bit(path, bit, bit);
    assert_refused(ss_check_hash(path, &error), SS_ERROR_INPUT, "damaged");
    test_flip_bit(path, bit, bit);
  }
  assert_ok(ss_check_hash(path, &error));
  test_flip_bit(sidecar, 3, 0);
  assert_int_equal(ss_check_hash(path, &error), SS_ERROR_INPUT);
  ss_error_clear(&error);
  test_write(sidecar, "hashed.xxh128", "short");
  assert_refused(ss_check_hash(path, &error), SS_ERROR_INPUT, "malformed");
  assert_refused(ss_hash_file("/nonexistent", hash, &error), SS_ERROR_IO, "cannot open");
}

static void file_commit_with_hash(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *temporary = NULL;
  test_path(path, "committed");
  assert_ok(ss_temporary_path(path, &temporary, &error));
  assert_ok(ss_write_file(temporary, "content", 7, &error));
  assert_ok(ss_commit_file_hashed(temporary, path, &error));
  assert_ok(ss_check_hash(path, &error));
  assert_false(ss_file_exists(temporary));
  assert_refused(ss_commit_file(temporary, path, &error), SS_ERROR_IO, "cannot open");
  assert_true(ss_file_exists(path));
  free(temporary);
}

// Whoever writes a file removes what dead processes left of it, and nothing of the living or of other files.
static void temporaries_of_the_dead(void **state) {
  (void)state;
  ss_error error = {0};
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  assert_int_equal(waitpid(child, NULL, 0), child);
  static const char *const names[] = {".taken.tmp-%ld", ".other.tmp-%ld", ".taken.tmp-%ld.old",
                                      ".taken.tmp-%ld"};
  const long owners[] = {(long)child, (long)child, (long)child, (long)getppid()};
  char path[TEST_PATH], left[4][TEST_PATH], name[64];
  for (int k = 0; k < 4; k++) {
    snprintf(name, sizeof name, names[k], owners[k]);
    test_write(left[k], name, "left");
  }
  test_path(path, "taken");
  assert_ok(ss_write_file(path, "content", 7, &error));
  assert_false(ss_file_exists(left[0]));
  for (int k = 1; k < 4; k++)
    assert_true(ss_file_exists(left[k]));
}

// Killed between sidecar and rename, a replacement leaves the old file under a sidecar that names both.
static void replaced_file_stays_readable(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], sidecar[TEST_PATH], next[TEST_PATH];
  test_write(path, "replaced.bin", "old content");
  test_path(sidecar, "replaced.bin.xxh128");
  assert_ok(ss_write_hash(path, &error));
  char *old_line = NULL, *new_line = NULL, both[256];
  size_t n;
  assert_ok(ss_read_file(sidecar, &old_line, &n, &error));
  test_write(next, "replaced.next", "new content");
  assert_ok(ss_commit_file_hashed(next, path, &error));
  assert_ok(ss_check_hash(path, &error));
  assert_ok(ss_read_file(sidecar, &new_line, &n, &error));
  assert_int_equal(n, strlen(old_line));
  assert_string_not_equal(old_line, new_line);
  snprintf(both, sizeof both, "%s%s", new_line, old_line);
  test_write(sidecar, "replaced.bin.xxh128", both);
  assert_ok(ss_check_hash(path, &error));
  test_write(path, "replaced.bin", "old content");
  assert_ok(ss_check_hash(path, &error));
  test_write(path, "replaced.bin", "neither");
  assert_refused(ss_check_hash(path, &error), SS_ERROR_INPUT, "damaged");
  free(old_line);
  free(new_line);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(file_round_trip),
      cmocka_unit_test(replaced_file_stays_readable),
      cmocka_unit_test(file_unwritable_folder),
      cmocka_unit_test(file_full_disk),
      cmocka_unit_test(file_hash),
      cmocka_unit_test(file_commit_with_hash),
      cmocka_unit_test(temporaries_of_the_dead),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
