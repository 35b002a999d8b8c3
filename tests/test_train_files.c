// A run folder through good and bad times: rotation, damaged checkpoints, full disks, earlier runs, other
// configurations and other data.
#include "train_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "dataset_fixture.h"
#include "train/folder.h"
#include "train/metrics.h"
#include "train/state.h"

#define STEPS 12

static void finished_run(train_fixture *fixture, const char *name, train_outcome *outcome) {
  train_fixture_open(fixture, name, STEPS, 1);
  train_fixture_finish(fixture, outcome);
}

static const char *checkpoint(const train_fixture *fixture, int step, char path[2 * TEST_PATH]) {
  char name[64];
  snprintf(name, sizeof name, "checkpoints/step_%08d.h5", step);
  return train_fixture_path(fixture, name, path);
}

// --- checkpoints -------------------------------------------------------------------------------------------

static void last_checkpoints_are_kept(void **state) {
  (void)state;
  char path[2 * TEST_PATH];
  for (int keep = 1; keep <= 3; keep++) {
    train_fixture fixture;
    train_outcome outcome;
    char name[32];
    snprintf(name, sizeof name, "keep_%d", keep);
    train_fixture_open(&fixture, name, STEPS, 1);
    fixture.config.keep = keep;
    train_fixture_finish(&fixture, &outcome);
    assert_int_equal(train_fixture_checkpoints(&fixture), keep);
    for (int step = 3; step <= STEPS; step += 3)
      assert_int_equal(ss_file_exists(checkpoint(&fixture, step, path)), step > STEPS - 3 * keep);
    train_fixture_close(&fixture);
  }
}

// A checkpoint with any bit flipped, cut short or without its hash is passed over for the one before it.
static void damaged_checkpoints_are_passed_over(void **state) {
  (void)state;
  ss_error error = {0};
  char path[2 * TEST_PATH], hash[2 * TEST_PATH + 16];
  for (int damage = 0; damage < 4; damage++) {
    train_fixture fixture;
    train_outcome whole, outcome;
    char name[32];
    snprintf(name, sizeof name, "damaged_%d", damage);
    finished_run(&fixture, name, &whole);
    checkpoint(&fixture, 12, path);
    snprintf(hash, sizeof hash, "%s.xxh128", path);
    if (damage == 0)
      test_flip_bit(path, 5000, 3);
    else if (damage == 1)
      assert_int_equal(truncate(path, 4000), 0);
    else if (damage == 2)
      assert_int_equal(unlink(hash), 0);
    else
      test_flip_bit(hash, 3, 0);
    fixture.resume = true;
    fixture.config.keep = 1;  // a damaged checkpoint must not count among the last
    fixture.sabotage.stop_at = 2;
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED,
                   "interrupted after step 10");
    assert_non_null(strstr(fixture.notices, "passed over: "));
    assert_non_null(strstr(fixture.notices, "step_00000012.h5"));
    assert_int_equal(train_fixture_checkpoints(&fixture), 1);
    fixture.sabotage.stop_at = 0;
    train_fixture_finish(&fixture, &outcome);
    assert_string_equal(outcome.parameters_hash, whole.parameters_hash);
    train_fixture_close(&fixture);
  }
}

static void all_damaged_is_an_error(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  char path[2 * TEST_PATH];
  finished_run(&fixture, "all_damaged", &outcome);
  for (int step = 6; step <= STEPS; step += 3)
    test_flip_bit(checkpoint(&fixture, step, path), 3000, 1);
  fixture.resume = true;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INPUT,
                 "none of the 3 checkpoints is whole");
  assert_int_equal(train_fixture_checkpoints(&fixture), 3);
  train_fixture_close(&fixture);
}

// A limit on file sizes stands in for a full disk.
static void full_disk_keeps_older_checkpoints(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome whole, outcome;
  char path[2 * TEST_PATH];
  finished_run(&fixture, "disk_whole", &whole);
  train_fixture_close(&fixture);
  train_fixture_open(&fixture, "disk_full", STEPS, 1);
  fixture.sabotage.stop_at = 12;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED,
                 "interrupted after step 6");
  fixture.sabotage.stop_at = 0;
  fixture.resume = true;
  struct rlimit old, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 20000;  // room for metrics.csv, not for a checkpoint
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  ss_status status = train_fixture_run(&fixture, &outcome, &error);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, SIG_DFL);
  assert_int_equal(status, SS_ERROR_IO);
  assert_non_null(strstr(error.message, "step_00000009.h5"));
  ss_error_clear(&error);
  assert_false(ss_file_exists(checkpoint(&fixture, 9, path)));
  assert_true(ss_file_exists(checkpoint(&fixture, 6, path)));
  train_fixture_finish(&fixture, &outcome);
  assert_string_equal(outcome.parameters_hash, whole.parameters_hash);
  train_fixture_close(&fixture);
}

// --- resuming under another configuration ------------------------------------------------------------------

static void other_configurations_are_refused(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  finished_run(&fixture, "other", &outcome);
  fixture.resume = true;
  train_fixture same = fixture;
#define REFUSED(assignment, part)                                                        \
  do {                                                                                   \
    fixture = same;                                                                      \
    assignment;                                                                          \
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE, part); \
    assert_int_equal(train_fixture_checkpoints(&fixture), 3);                            \
  } while (0)
  REFUSED(fixture.config.arm = ARM_DENSE,
          "cannot resume: train.arm is \"dense\" now, the run was started with \"span\"");
  REFUSED(fixture.config.batch_examples = 4, "train.batch_examples is 4 now, the run was started with 3");
  REFUSED(fixture.config.accumulate = 1, "train.accumulate");
  REFUSED(fixture.config.learning_rate = 0.5, "train.learning_rate is 0.5 now");
  REFUSED(fixture.config.seed = 2, "train.seed");
  REFUSED(fixture.config.steps = 24, "train.steps is 24 now, the run was started with 12");
  REFUSED(fixture.config.random_anchor_offset = false, "train.random_anchor_offset");
  REFUSED(fixture.span.choose = SPAN_CHOOSE_ALL, "span.choose is \"all\" now");
  REFUSED(fixture.model.n_layer = 2, "has model.n_layer = 1, the configuration asks for 2");
  REFUSED(fixture.model.n_positions = 512, "model.n_positions");
#undef REFUSED
  // What decides only where and how often to save may change.
  fixture = same;
  fixture.config.keep = 1;
  fixture.config.checkpoint_every = 5;
  fixture.config.max_seconds = 1000;
  train_fixture_finish(&fixture, &outcome);
  assert_int_equal(train_fixture_checkpoints(&fixture), 1);
  train_fixture_close(&fixture);
}

// A run from before a key was there goes on where the key has its default, and there alone.
static void earlier_configurations_continue(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  static const char *const later[] = {"train.span_tokens_rate", "train.generate_constrain", "span.lead",
                                      NULL};
  train_fixture_open(&fixture, "fewer_keys", STEPS, 1);
  fixture.unknown = later;
  train_fixture_finish(&fixture, &outcome);
  fixture.unknown = NULL;
  fixture.resume = true;
  train_fixture_finish(&fixture, &outcome);
  fixture.span.lead = 2;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "span.lead is 2 now, the run was started with 0");
  train_fixture_close(&fixture);
}

static void other_data_is_refused(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  char path[2 * TEST_PATH], folder[TEST_PATH];
  finished_run(&fixture, "data", &outcome);
  assert_ok(ss_make_directories(test_path(folder, "other_set"), &error));
  snprintf(path, sizeof path, "%s/train.h5", folder);
  fixture_write(path, 5, 60);
  snprintf(path, sizeof path, "%s/validation.h5", folder);
  fixture_write(path, 2, 12);
  snprintf(fixture.config.data, sizeof fixture.config.data, "%.500s", folder);
  fixture.resume = true;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "cannot resume: train.h5 in train.data");
  // The same content elsewhere is the same data.
  snprintf(path, sizeof path, "%s/train.h5", folder);
  fixture_write(path, 1, 60);
  train_fixture_finish(&fixture, &outcome);
  fixture_write(path, 1, 60);
  snprintf(path, sizeof path, "%s/validation.h5", folder);
  fixture_write(path, 3, 12);
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "cannot resume: validation.h5 in train.data");
  train_fixture_close(&fixture);
}

// A constant rate does not look at the end: such a run may be prolonged, and equals a long one.
static void constant_runs_may_be_prolonged(void **state) {
  (void)state;
  train_fixture fixture;
  train_outcome longer, outcome;
  train_fixture_open(&fixture, "constant_long", 18, 1);
  fixture.config.schedule = SCHEDULE_CONSTANT;
  train_fixture_finish(&fixture, &longer);
  train_fixture_close(&fixture);
  train_fixture_open(&fixture, "constant_short", STEPS, 1);
  fixture.config.schedule = SCHEDULE_CONSTANT;
  train_fixture_finish(&fixture, &outcome);
  fixture.config.steps = 18;
  fixture.resume = true;
  train_fixture_finish(&fixture, &outcome);
  assert_string_equal(outcome.parameters_hash, longer.parameters_hash);
  train_fixture_close(&fixture);
}

// --- folders -----------------------------------------------------------------------------------------------

static void earlier_runs_are_refused(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome whole, outcome;
  char path[2 * TEST_PATH];
  finished_run(&fixture, "earlier", &whole);
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "earlier/metrics.csv: exists");
  assert_int_equal(unlink(train_fixture_path(&fixture, "metrics.csv", path)), 0);
  assert_int_equal(unlink(train_fixture_path(&fixture, "model.h5", path)), 0);
  assert_int_equal(unlink(train_fixture_path(&fixture, "train.json", path)), 0);
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "earlier/checkpoints: holds an earlier run's checkpoints");
  // A run that cannot begin leaves the old one alone; one that can replaces it.
  fixture.overwrite = true;
  fixture.model.n_embd = 15;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE, "model.n_embd");
  assert_int_equal(train_fixture_checkpoints(&fixture), 3);
  fixture.model.n_embd = 16;
  fixture.config.checkpoint_every = 0;
  train_fixture_finish(&fixture, &outcome);
  assert_int_equal(train_fixture_checkpoints(&fixture), 1);
  assert_string_equal(outcome.parameters_hash, whole.parameters_hash);
  train_fixture_close(&fixture);
}

// Another process in the same folder is refused as long as it lives.
static void one_process_a_folder(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  int ready[2], done[2];
  char byte = 0;
  assert_int_equal(pipe(ready) | pipe(done), 0);
  test_path(path, "locked_run");
  pid_t child = fork();
  if (child == 0) {
    train_folder *held = NULL;
    ss_status status = train_folder_open(&held, path, TRAIN_FOLDER_NEW, NULL);
    close(done[1]);
    _exit(write(ready[1], "x", 1) != 1 || read(done[0], &byte, 1) != 0 || status != SS_OK);
  }
  close(done[0]);
  assert_int_equal(read(ready[0], &byte, 1), 1);
  train_folder *folder = NULL;
  assert_refused(train_folder_open(&folder, path, TRAIN_FOLDER_RESUME, &error), SS_ERROR_IO,
                 "another process is writing in this folder");
  close(done[1]);
  int status = 1;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_ok(train_folder_open(&folder, path, TRAIN_FOLDER_RESUME, &error));
  train_folder_close(folder);
  close(ready[0]);
  close(ready[1]);
}

static void unwritable_folders_are_refused(void **state) {
  (void)state;
  ss_error error = {0};
  train_folder *folder = NULL;
  assert_refused(train_folder_open(&folder, "/proc/selfspan-run", TRAIN_FOLDER_NEW, &error), SS_ERROR_IO,
                 "/proc/selfspan-run");
  char path[TEST_PATH];
  test_write(path, "a_file", "x");
  assert_refused(train_folder_open(&folder, path, TRAIN_FOLDER_NEW, &error), SS_ERROR_IO, "a_file");
  assert_null(folder);
}

// --- metrics and state -------------------------------------------------------------------------------------

static void metrics_are_cut_at_a_step(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *text = NULL;
  size_t size = 0;
  metrics *file = NULL;
  metrics_row row = {0};
  row.validation_loss = row.validation_accuracy = row.validation_score = NAN;
  test_path(path, "metrics.csv");
  assert_ok(metrics_open(&file, path, -1, &error));
  for (row.step = 2; row.step <= 10; row.step += 2)
    assert_ok(metrics_append(file, &row, &error));
  metrics_close(file);
  assert_ok(metrics_open(&file, path, 7, &error));
  row.step = 8;
  row.validation_loss = 1.25;
  assert_ok(metrics_append(file, &row, &error));
  metrics_close(file);
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_non_null(strstr(text, "step,examples,tokens,targets,train_loss"));
  assert_non_null(strstr(text, "\n2,0,0,0,0,0,0,0,0,0,0,0,,,\n4,"));
  const char *last = strstr(text, "\n6,0,0,0,0,0,0,0,0,0,0,0,,,\n8,0,0,0,0,0,0,0,0,0,0,0,1.25,,\n");
  assert_non_null(last);
  assert_int_equal(strlen(last), strlen("\n6,0,0,0,0,0,0,0,0,0,0,0,,,\n8,0,0,0,0,0,0,0,0,0,0,0,1.25,,\n"));
  free(text);
  test_write(path, "metrics.csv", "step,loss\n1,2\n");
  assert_refused(metrics_open(&file, path, 7, &error), SS_ERROR_INPUT,
                 "metrics.csv: line 1 is not the header");
}

static void state_survives_json(void **state) {
  (void)state;
  ss_error error = {0};
  train_state before = train_state_initial(), after;
  before.step = 7;
  before.reported_step = 6;
  before.interval_loss = 0.1 + 0.2;
  before.train_loss = 1.0 / 3;
  before.train_hash = 0xFEDCBA9876543210u;
  json_t *json = train_state_json(&before);
  assert_ok(train_state_from_json(&after, json, "x", &error));
  assert_memory_equal(&before.interval_loss, &after.interval_loss, sizeof(double));
  assert_true(after.train_loss == before.train_loss && isnan(after.validation_loss));
  assert_true(isinf(after.best_validation_loss) && after.best_validation_score < 0 && after.best_step == -1);
  assert_true(after.step == 7 && after.reported_step == 6 && after.train_hash == before.train_hash);
  // Files from before there were scores, the shipped base among them.
  json_object_del(json, "validation_score");
  json_object_del(json, "best_validation_score");
  assert_ok(train_state_from_json(&after, json, "x", &error));
  assert_true(after.step == 7 && isnan(after.validation_score) && isinf(after.best_validation_score));
  json_object_del(json, "targets");
  assert_refused(train_state_from_json(&after, json, "x.h5", &error), SS_ERROR_INPUT,
                 "x.h5: training state: field 'targets' is missing");
  json_object_set_new(json, "targets", json_string("many"));
  assert_refused(train_state_from_json(&after, json, "x.h5", &error), SS_ERROR_INPUT,
                 "'targets' is malformed");
  assert_refused(train_state_from_json(&after, NULL, "x.h5", &error), SS_ERROR_INPUT, "is missing");
  json_decref(json);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(last_checkpoints_are_kept),
      cmocka_unit_test(damaged_checkpoints_are_passed_over),
      cmocka_unit_test(all_damaged_is_an_error),
      cmocka_unit_test(full_disk_keeps_older_checkpoints),
      cmocka_unit_test(other_configurations_are_refused),
      cmocka_unit_test(earlier_configurations_continue),
      cmocka_unit_test(other_data_is_refused),
      cmocka_unit_test(constant_runs_may_be_prolonged),
      cmocka_unit_test(earlier_runs_are_refused),
      cmocka_unit_test(one_process_a_folder),
      cmocka_unit_test(unwritable_folders_are_refused),
      cmocka_unit_test(metrics_are_cut_at_a_step),
      cmocka_unit_test(state_survives_json),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
