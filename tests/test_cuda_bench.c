// `selfspan bench decode` on CUDA: the command runs, its own checks pass (rows that are read, logits of the host's way,
// NaN in what is not selected), and its report holds together.
#include "tests/cuda_fixture.h"

#include <fcntl.h>
#include <jansson.h>

#include "commands/bench.h"
#include "tests/dataset_fixture.h"

// Runs the command with standard output in a file, and reads the JSON from it. Skips the test where there is no GPU or no
// decoding of its own, and for the sanitizers: the rates that it measures first move gigabytes.
static json_t *run(const char *folder, int argc, char **argv) {
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, false);
  bool resident = f.device[ON_CUDA]->ops->sequences != NULL;
  cuda_close(&f);
  if (!resident || (cuda_small() && !cuda_is_emulated()))
    skip();
  char path[TEST_PATH + 16];
  snprintf(path, sizeof path, "%s/report.json", folder);
  fflush(stdout);
  int kept = dup(STDOUT_FILENO), file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  assert_true(kept >= 0 && file >= 0);
  dup2(file, STDOUT_FILENO);
  ss_error error = {0};
  ss_status status = bench_decode_command(argc, argv, &error);
  fflush(stdout);
  dup2(kept, STDOUT_FILENO);
  close(kept), close(file);
  if (status != SS_OK)
    fail_msg("%s", error.message);
  json_error_t failure;
  json_t *report = json_load_file(path, 0, &failure);
  if (report == NULL)
    fail_msg("no JSON: %s", failure.text);
  return report;
}
#define RUN(folder, ...) \
  run((folder), (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__})

static double number(const json_t *object, const char *name) {
  const json_t *value = json_object_get(object, name);
  if (!json_is_number(value))
    fail_msg("the report lacks the number \"%s\"", name);
  return json_number_value(value);
}

static void check_engine(const json_t *report, const char *engine) {
  assert_string_equal(json_string_value(json_object_get(report, "engine")), engine);
  assert_true(number(report, "tokens_per_second") > 0);
}

static void test_steps(void **state) {
  (void)state;
  ss_error error = {0};
  char folder[TEST_PATH];
  assert_ok(ss_make_directories(test_path(folder, "bench_steps"), &error));
  json_t *report = RUN(folder, "decode", "--device", "cuda", "--set", "model.n_layer=1", "--set",
                       "model.n_embd=32", "--set", "model.n_head=2", "--set", "model.vocab_size=40",
                       "--context", "50", "--batch", "2", "--visible-rows", "16", "--run-length", "4,16",
                       "--mixed", "--steps", "3", "--warmup", "1", "--json");
  static const char *const engines[] = {"selfspan dense",
                                        "selfspan mixed",
                                        "selfspan span, runs of 4",
                                        "selfspan span, runs of 16",
                                        "selfspan dense (host path)",
                                        "selfspan span, runs of 4 (host path)"};
  static const double rows[] = {53, 36, 19, 19, 53, 19};  // the context's, and 3 of its own on average
  const json_t *results = json_object_get(report, "results");
  assert_int_equal(json_array_size(results), 6);
  for (size_t k = 0; k < 6; ++k) {
    const json_t *arm = json_array_get(results, k);
    check_engine(arm, engines[k]);
    assert_true(number(arm, "rows_per_token") == rows[k]);
    assert_true(number(json_object_get(arm, "attention"), "times_floor") > 0);
    if (k >= 4)
      continue;
    const json_t *shares = json_object_get(arm, "shares");
    assert_true(number(arm, "nmse_to_host_path") <= 1e-3);
    assert_true(number(shares, "choose") > 0 && number(shares, "attention") > 0);
    assert_true(number(arm, "host_share") < 1);
  }
  json_decref(report);
}

static void test_replay(void **state) {
  (void)state;
  ss_error error = {0};
  char folder[TEST_PATH], path[TEST_PATH + 16];
  assert_ok(ss_make_directories(test_path(folder, "bench_replay"), &error));
  snprintf(path, sizeof path, "%s/test.h5", folder);
  fixture_write(path, 3, 7);
  json_t *report = RUN(folder, "decode", "--device", "cuda", "--replay", folder, "--batch", "3", "--set",
                       "model.n_layer=1", "--set", "model.n_embd=32", "--set", "model.n_head=2", "--set",
                       "model.vocab_size=100", "--json");
  static const char *const engines[] = {"selfspan dense", "selfspan annotated", "selfspan span"};
  const json_t *arms = json_object_get(report, "replay");
  assert_int_equal(json_array_size(arms), 3);
  for (size_t k = 0; k < 3; ++k) {
    const json_t *arm = json_array_get(arms, k);
    check_engine(arm, engines[k]);
    assert_true(number(arm, "examples") == 7 && number(arm, "percent_of_ceiling") > 0);
    assert_non_null(strstr(json_string_value(json_object_get(arm, "decoder")), "device engine"));
  }
  assert_true(number(json_array_get(arms, 1), "kv_bytes_read") >
              number(json_array_get(arms, 2), "kv_bytes_read"));
  json_decref(report);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_replay)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
