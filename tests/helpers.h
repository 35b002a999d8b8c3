// Shared by the unit tests: cmocka with the headers it wants first, scratch folders, optional data.
#ifndef SELFSPAN_TESTS_HELPERS_H
#define SELFSPAN_TESTS_HELPERS_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/file.h"

#define TEST_PATH 1024

// Fails the test with the recorded message unless `expression` yields SS_OK. Needs `ss_error error` in scope.
#define assert_ok(expression)                                                         \
  do {                                                                                \
    ss_status assert_status_ = (expression);                                          \
    if (assert_status_ != SS_OK)                                                      \
      fail_msg("%s: status %d: %s", #expression, (int)assert_status_, error.message); \
  } while (0)

// Fails the test unless `expression` yields `expected` with a message that contains `part`. Clears `error`.
#define assert_refused(expression, expected, part)                                                 \
  do {                                                                                             \
    ss_status assert_status_ = (expression);                                                       \
    if (assert_status_ != (expected) || strstr(error.message, (part)) == NULL)                     \
      fail_msg("%s: status %d (expected %d), message \"%s\" (expected \"%s\" in it)", #expression, \
               (int)assert_status_, (int)(expected), error.message, (part));                       \
    ss_error_clear(&error);                                                                        \
  } while (0)

// |a - b| <= tolerance, and false for NaN.
#define assert_near(a, b, tolerance)                                                               \
  do {                                                                                             \
    double near_a_ = (a), near_b_ = (b);                                                           \
    if (!(fabs(near_a_ - near_b_) <= (tolerance)))                                                 \
      fail_msg("%s = %.17g, expected %.17g within %g", #a, near_a_, near_b_, (double)(tolerance)); \
  } while (0)

// path = a name in the scratch folder that tests/run.sh empties afterwards.
static inline const char *test_path(char path[TEST_PATH], const char *name) {
  const char *folder = getenv("TMPDIR");
  snprintf(path, TEST_PATH, "%s/%s", folder == NULL || folder[0] == '\0' ? "/tmp" : folder, name);
  return path;
}

// Writes `text` under test_path(name) and returns that path.
static inline const char *test_write(char path[TEST_PATH], const char *name, const char *text) {
  ss_error error = {0};
  test_path(path, name);
  assert_ok(ss_write_file(path, text, strlen(text), &error));
  return path;
}

// Inverts one bit of a file.
static inline void test_flip_bit(const char *path, long byte, int bit) {
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  assert_int_equal(fseek(file, byte, SEEK_SET), 0);
  int value = fgetc(file);
  assert_int_not_equal(value, EOF);
  assert_int_equal(fseek(file, byte, SEEK_SET), 0);
  assert_int_not_equal(fputc(value ^ (1 << bit), file), EOF);
  assert_int_equal(fclose(file), 0);
}

// The path of optional test data below $SELFSPAN_TEST_DATA; skips the test when it is not there.
static inline const char *test_data(char path[TEST_PATH], const char *name) {
  const char *folder = getenv("SELFSPAN_TEST_DATA");
  if (folder == NULL || folder[0] == '\0')
    skip();
  snprintf(path, TEST_PATH, "%s/%s", folder, name);
  if (!ss_file_exists(path))
    skip();
  return path;
}

#endif
