// Folders of one writer: who is kept out, what the lock leaves, which leftovers go.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"
#include "common/folder.h"
#include "tests/helpers.h"

#define FULL_PATH (4 * TEST_PATH)

static const char *inside(const char *folder, const char *name, char out[FULL_PATH]) {
  int length = snprintf(out, FULL_PATH, "%s/%s", folder, name);
  assert_true(length > 0 && length < FULL_PATH);
  return out;
}

static void write_inside(const char *folder, const char *name) {
  ss_error error = {0};
  char path[FULL_PATH];
  assert_ok(ss_write_file(inside(folder, name, path), "x", 1, &error));
}

static bool is_inside(const char *folder, const char *name) {
  char path[FULL_PATH];
  struct stat info;
  return lstat(inside(folder, name, path), &info) == 0;
}

// A process that has ended and was waited for.
static long ended_process(void) {
  pid_t child = fork();
  if (child == 0)
    _exit(0);
  assert_int_equal(waitpid(child, NULL, 0), child);
  return (long)child;
}

static void made_folders_go_when_empty(void **state) {
  (void)state;
  ss_error error = {0};
  ss_folder_lock lock;
  char path[TEST_PATH];
  test_path(path, "made_here");
  assert_ok(ss_folder_lock_take(&lock, path, &error));
  assert_true(is_inside(path, ".lock"));
  ss_folder_lock_release(&lock);
  assert_false(ss_file_exists(path));
  ss_folder_lock_release(&lock);
  assert_ok(ss_folder_lock_take(&lock, path, &error));
  write_inside(path, "kept");
  ss_folder_lock_release(&lock);
  assert_true(is_inside(path, "kept"));
  assert_false(is_inside(path, ".lock"));
  test_path(path, "there_before");
  assert_ok(ss_make_directories(path, &error));
  assert_ok(ss_folder_lock_take(&lock, path, &error));
  ss_folder_lock_release(&lock);
  assert_true(ss_file_exists(path));
}

// Several processes take turns in a folder that comes and goes with the lock; never two at once.
static void never_two_at_once(void **state) {
  (void)state;
  enum { PROCESSES = 4, TURNS = 200 };
  char path[TEST_PATH], mark[TEST_PATH];
  pid_t children[PROCESSES];
  test_path(path, "turns");
  test_path(mark, "turns_mark");
  for (int k = 0; k < PROCESSES; k++) {
    children[k] = fork();
    if (children[k] != 0)
      continue;
    for (int turn = 0; turn < TURNS;) {
      ss_folder_lock lock;
      ss_error error = {0};
      ss_status status = ss_folder_lock_take(&lock, path, &error);
      if (status != SS_OK && strstr(error.message, "another process is writing in this folder") == NULL)
        _exit(1);
      if (status != SS_OK)
        continue;
      if (mkdir(mark, 0777) != 0 || rmdir(mark) != 0)
        _exit(2);
      ss_folder_lock_release(&lock);
      turn++;
    }
    _exit(0);
  }
  for (int k = 0; k < PROCESSES; k++) {
    int status = 1;
    assert_int_equal(waitpid(children[k], &status, 0), children[k]);
    assert_int_equal(status, 0);
  }
}

static void leftovers_of_the_dead_go(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], target[TEST_PATH], name[FULL_PATH], link[FULL_PATH];
  long dead = ended_process(), living = (long)getppid();
  char gone[4][64], stays[8][64];
  test_path(path, "leftovers");
  test_path(target, "target_of_link");
  assert_ok(ss_make_directories(path, &error));
  assert_ok(ss_make_directories(target, &error));
  write_inside(target, "kept");
  snprintf(gone[0], 64, ".model.h5.tmp-%ld", dead);
  snprintf(gone[1], 64, ".a.tmp-1.tmp-%ld", dead);
  snprintf(gone[2], 64, ".own.tmp-%ld", (long)getpid());
  snprintf(gone[3], 64, ".partial-%ld", dead);
  snprintf(stays[0], 64, ".model.h5.tmp-%ld", living);
  snprintf(stays[1], 64, "model.h5.tmp-%ld", dead);
  snprintf(stays[2], 64, ".model.h5.tmp-%ldx", dead);
  snprintf(stays[3], 64, ".model.h5.tmp-");
  snprintf(stays[4], 64, ".model.h5.tmp--1");
  snprintf(stays[5], 64, ".model.h5.tmp-99999999999999999999");
  snprintf(stays[6], 64, ".partial-%ldx", dead);
  snprintf(stays[7], 64, ".partial-%ld", living);
  for (int k = 0; k < 3; k++)
    write_inside(path, gone[k]);
  for (int k = 0; k < 7; k++)
    write_inside(path, stays[k]);
  for (int k = 0; k < 2; k++) {
    const char *partial = inside(path, k == 0 ? gone[3] : stays[7], name);
    assert_ok(ss_make_directories(partial, &error));
    write_inside(partial, ".train.h5.tmp-5");
    write_inside(partial, "train.h5");
  }
  // A link with such a name is not followed.
  snprintf(name, sizeof name, ".partial-%ld", ended_process());
  assert_int_equal(symlink(target, inside(path, name, link)), 0);
  assert_ok(ss_remove_leftovers(path, false, &error));
  for (int k = 0; k < 4; k++)
    assert_false(is_inside(path, gone[k]));
  for (int k = 0; k < 8; k++)
    assert_true(is_inside(path, stays[k]));
  assert_true(is_inside(target, "kept"));
  assert_ok(ss_remove_leftovers(path, true, &error));
  assert_false(is_inside(path, stays[0]));
  assert_false(is_inside(path, stays[7]));
  for (int k = 1; k < 7; k++)
    assert_true(is_inside(path, stays[k]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(made_folders_go_when_empty),
      cmocka_unit_test(never_two_at_once),
      cmocka_unit_test(leftovers_of_the_dead_go),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
