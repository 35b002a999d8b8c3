// Generation: the same bytes whatever the threads (invariant 9), distinct evaluation sets, complete or absent output.
#include <xxhash.h>

#include "commands/commands.h"
#include "common/progress.h"
#include "data/generate.h"
#include "data/statistics.h"
#include "data/store.h"
#include "data/tasks/arithmetic.h"
#include "tests/helpers.h"
#include "tests/span_fixture.h"

// --- generate_examples ---

typedef struct {
  XXH3_state_t *hash;
  int64_t n;
  char last_id[64];
  volatile sig_atomic_t *stop;  // set at the 10,000th example
} taken;

static ss_status take(void *user, const example *example, const rendering *annotated, ss_error *error) {
  taken *all = user;
  (void)error;
  XXH3_64bits_update(all->hash, example->text, (size_t)example->n_text);
  XXH3_64bits_update(all->hash, example->id, strlen(example->id));
  XXH3_64bits_update(all->hash, annotated->tokens, (size_t)annotated->n_token * sizeof *annotated->tokens);
  snprintf(all->last_id, sizeof all->last_id, "%s", example->id);
  if (++all->n == 10000 && all->stop != NULL)
    *all->stop = 1;
  return SS_OK;
}

typedef struct {
  arithmetic_config config;
  void *state;
  vocabulary *vocabulary;
} opened;

static void open_task(opened *out, const char *const *settings) {
  ss_error error = {0};
  ss_key_group groups[] = {{arithmetic_keys, &out->config}, {NULL, NULL}};
  memset(out, 0, sizeof *out);
  assert_ok(ss_config_defaults(groups, &error));
  for (; settings != NULL && *settings != NULL; settings++)
    assert_ok(ss_config_set(groups, *settings, "test", &error));
  assert_ok(arithmetic_task.open(&out->state, &out->config, 4, NULL, &(data_opening){.quiet = true}, &error));
  assert_ok(arithmetic_task.vocabulary(out->state, 32, &out->vocabulary, &error));
}

static void close_task(opened *task) {
  arithmetic_task.close(task->state);
  vocabulary_free(task->vocabulary);
}

static ss_status generate(const opened *task, data_split split, int64_t count, bool distinct,
                          int32_t n_thread, volatile sig_atomic_t *stop, taken *all,
                          generate_outcome *outcome, uint64_t *hash, ss_error *error) {
  generate_request request = {&arithmetic_task, task->state, task->vocabulary, split, count,
                              distinct,         16,          n_thread,         stop};
  memset(all, 0, sizeof *all);
  all->hash = XXH3_createState();
  all->stop = stop;
  XXH3_64bits_reset(all->hash);
  ss_status status = generate_examples(&request, take, all, outcome, error);
  *hash = XXH3_64bits_digest(all->hash);
  XXH3_freeState(all->hash);
  return status;
}

static void threads_do_not_matter(void **state) {
  (void)state;
  static const int32_t n_thread[] = {1, 2, 3, 7, 0};
  static const int64_t counts[] = {1, 255, 256, 257, 5000};
  ss_error error = {0};
  opened task;
  open_task(&task, NULL);
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
    for (int split = DATA_TRAIN; split <= DATA_TEST; split += 2) {
      uint64_t first = 0;
      int64_t count = split == DATA_TEST && counts[c] > 1000 ? 600 : counts[c];
      for (size_t t = 0; t < sizeof n_thread / sizeof n_thread[0]; t++) {
        taken all;
        generate_outcome outcome;
        uint64_t hash = 0;
        assert_ok(generate(&task, (data_split)split, count, true, n_thread[t], NULL, &all, &outcome, &hash,
                           &error));
        assert_int_equal(all.n, count);
        assert_int_equal(outcome.examples, count);
        if (t == 0)
          first = hash;
        if (hash != first)
          fail_msg("%lld %s examples differ with %d threads", (long long)count,
                   data_split_name((data_split)split), n_thread[t]);
      }
    }
  close_task(&task);
}

static void exhausted_generators_say_so(void **state) {
  (void)state;
  const char *const tiny[] = {"arithmetic.operators_high=1", "arithmetic.leaf_high=2",
                              "arithmetic.test_fraction=0", "arithmetic.validation_fraction=0", NULL};
  ss_error error = {0};
  opened task;
  taken all;
  generate_outcome outcome;
  uint64_t hash = 0;
  open_task(&task, tiny);  // 3 x 3 x 3 expressions
  assert_ok(generate(&task, DATA_TRAIN, 27, true, 2, NULL, &all, &outcome, &hash, &error));
  assert_true(outcome.duplicates > 0);
  assert_refused(generate(&task, DATA_TRAIN, 28, true, 2, NULL, &all, &outcome, &hash, &error),
                 SS_ERROR_LIMIT, "train: only 27 of 28 examples found");
  assert_ok(
      generate(&task, DATA_TRAIN, 500, false, 2, NULL, &all, &outcome, &hash, &error));  // train may repeat
  close_task(&task);
}

static void a_stop_is_obeyed(void **state) {
  (void)state;
  ss_error error = {0};
  opened task;
  taken all;
  generate_outcome outcome;
  uint64_t hash = 0;
  volatile sig_atomic_t stop = 0;
  open_task(&task, NULL);
  assert_refused(generate(&task, DATA_TRAIN, 100000000, false, 2, &stop, &all, &outcome, &hash, &error),
                 SS_ERROR_INTERRUPTED, "interrupted");
  assert_true(all.n >= 10000 && all.n < 20000);
  close_task(&task);
}

// --- statistics ---

static void statistics_count(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *vocabulary = NULL;
  example made = {0};
  rendering annotated = {0}, dense = {0};
  dataset_statistics statistics;
  memset(&statistics, 0, sizeof statistics);
  int64_t tokens = 0, dense_tokens = 0, dense_rows = 0, span_rows = 0;
  assert_ok(vocabulary_create_bytes(&vocabulary, "test", 64, &error));
  for (int32_t k = 0; k < 100; k++) {
    ss_random random = ss_random_seed(31, (uint64_t)k);
    span_fixture_random_example(&made, &random);
    assert_ok(render_annotated(&annotated, &made, vocabulary, 64, &error));
    assert_ok(render_arm(&dense, &annotated, ARM_DENSE, vocabulary, 0, &error));
    assert_ok(statistics_add(&statistics, &annotated, vocabulary, &error));
    tokens += annotated.n_token;
    dense_tokens += dense.n_token;
    for (int64_t row = dense.prompt_end - 1; row < dense.n_token - 1; row++)
      dense_rows += row + 1;
    // The default policy by the definition.
    span_policy policy = span_policy_default();
    fixture_layout *layout = malloc(sizeof *layout);
    assert_non_null(layout);
    layout->layout = annotated.layout;
    memcpy(layout->segments, annotated.layout.segments,
           (size_t)annotated.layout.n_segment * sizeof *annotated.layout.segments);
    if (annotated.layout.n_reference > 0)
      memcpy(layout->references, annotated.layout.references,
             (size_t)annotated.layout.n_reference * sizeof *annotated.layout.references);
    for (int32_t i = annotated.prompt_end - 1; i < annotated.n_token - 1; i++)
      for (int32_t j = 0; j <= i; j++)
        span_rows += span_fixture_visible(&policy, layout, i, j);
    free(layout);
  }
  assert_int_equal(statistics.annotated_tokens, tokens);
  assert_int_equal(statistics.dense_tokens, dense_tokens);
  assert_string_equal(statistics_policy_name(0), "dense");
  assert_int_equal(statistics.rows[0], dense_rows);
  assert_string_equal(statistics_policy_name(3), "span choose=index pin=none");
  assert_int_equal(statistics.rows[3], span_rows);
  example_free(&made);
  rendering_free(&annotated);
  rendering_free(&dense);
  vocabulary_free(vocabulary);
}

// --- the command ---

// Runs `selfspan data` with arguments up to NULL.
static ss_status run_data(ss_error *error, ...) {
  char *argv[32] = {"data"};
  int argc = 1;
  va_list arguments;
  va_start(arguments, error);
  for (char *argument; (argument = va_arg(arguments, char *)) != NULL;)
    argv[argc++] = argument;
  va_end(arguments);
  argv[argc] = NULL;
  return ss_command_data(argc, argv, error);
}

static void check_same_file(const char *a_folder, const char *b_folder, const char *name) {
  char a[2 * TEST_PATH], b[2 * TEST_PATH], *a_text = NULL, *b_text = NULL;
  size_t a_size = 0, b_size = 0;
  ss_error error = {0};
  snprintf(a, sizeof a, "%s/%s", a_folder, name);
  snprintf(b, sizeof b, "%s/%s", b_folder, name);
  assert_ok(ss_read_file(a, &a_text, &a_size, &error));
  assert_ok(ss_read_file(b, &b_text, &b_size, &error));
  if (a_size != b_size || memcmp(a_text, b_text, a_size) != 0)
    fail_msg("%s differs between %s and %s", name, a_folder, b_folder);
  free(a_text);
  free(b_text);
}

static void the_command_writes_equal_bytes(void **state) {
  (void)state;
  static const char *const names[] = {"train.h5", "train.h5.xxh128", "validation.h5", "validation.h5.xxh128",
                                      "test.h5",  "test.h5.xxh128",  "card.json",     "card.md"};
  ss_error error = {0};
  char one[TEST_PATH], two[TEST_PATH], path[2 * TEST_PATH];
  test_path(one, "one");
  test_path(two, "deeper/two");
  char *config = "configs/quickstart/data.yaml";
  assert_ok(run_data(&error, "arithmetic", "--config", config, "--out", one, "--threads", "1", "--quiet",
                     "--set", "data.train=3000", "--set", "data.validation=100", "--set", "data.test=200",
                     NULL));
  assert_ok(run_data(&error, "arithmetic", "--config", config, "--out", two, "--threads", "2", "--quiet",
                     "--set", "data.train=3000", "--set", "data.validation=100", "--set", "data.test=200",
                     NULL));
  for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
    check_same_file(one, two, names[k]);
  store *data = NULL;
  snprintf(path, sizeof path, "%s/test.h5", one);
  assert_ok(store_open(&data, path, true, &error));
  assert_int_equal(store_n_example(data), 200);
  assert_string_equal(store_task(data), "arithmetic");
  assert_string_equal(store_split(data), "test");
  store_close(data);
  snprintf(path, sizeof path, "%s/card.json", one);
  json_t *card = json_load_file(path, 0, NULL);
  assert_non_null(card);
  json_t *train = json_object_get(json_object_get(card, "splits"), "train");
  assert_int_equal(json_integer_value(json_object_get(train, "examples")), 3000);
  assert_int_equal(json_integer_value(json_object_get(card, "seed")), 1);
  json_decref(card);
  // A dataset is replaced only on demand; files that the new one lacks go.
  assert_refused(run_data(&error, "arithmetic", "--config", config, "--out", one, "--quiet", NULL),
                 SS_ERROR_USAGE, "--force replaces");
  assert_ok(run_data(&error, "arithmetic", "--config", config, "--out", one, "--quiet", "--force", "--set",
                     "data.train=10", "--set", "data.validation=0", "--set", "data.test=0", NULL));
  snprintf(path, sizeof path, "%s/test.h5", one);
  assert_false(ss_file_exists(path));
  snprintf(path, sizeof path, "%s/train.h5", one);
  assert_ok(ss_check_hash(path, &error));
}

static void failures_leave_nothing(void **state) {
  (void)state;
  ss_error error = {0};
  char out[TEST_PATH];
  test_path(out, "absent");
  char *config = "configs/quickstart/data.yaml";
  assert_refused(run_data(&error, "arithmetic", "--config", config, "--out", out, "--quiet", "--set",
                          "data.n_anchor=5", "--set", "data.train=100", NULL),
                 SS_ERROR_LIMIT, "but the vocabulary has 5 anchors");
  assert_false(ss_file_exists(out));
  assert_refused(run_data(&error, "arithmetic", "--config", config, "--out", out, "--quiet", "--set",
                          "arithmetic.operators_high=1", NULL),
                 SS_ERROR_LIMIT, "examples found");
  assert_false(ss_file_exists(out));
  assert_refused(run_data(&error, "arithmetic", "--out", out, "--quiet", NULL), SS_ERROR_USAGE,
                 "data.train is not set");
  assert_false(ss_file_exists(out));
  assert_refused(run_data(&error, "arithmetic", "--config", config, NULL), SS_ERROR_USAGE,
                 "--out DIR is missing");
  assert_refused(run_data(&error, "arithmetics", NULL), SS_ERROR_USAGE, "known: arithmetic, cnndm, jsonl");
  assert_refused(run_data(&error, "--quiet", NULL), SS_ERROR_USAGE, "expected a task first");
  assert_refused(run_data(&error, "arithmetic", "--out", out, "--set", "arithmetic.leafs=3", NULL),
                 SS_ERROR_USAGE, "arithmetic.leafs");
  assert_refused(run_data(&error, "arithmetic", "--out", "/proc/nowhere", "--set", "data.train=1", "--quiet",
                          NULL),
                 SS_ERROR_IO, "/proc/nowhere");
}

// Prints the rate; the machine's load decides it, so nothing is asserted.
static void throughput(void **state) {
  (void)state;
  if (getenv("SELFSPAN_TEST_SANITIZED") != NULL)
    skip();
  ss_error error = {0};
  char out[TEST_PATH];
  test_path(out, "throughput");
  double start = ss_seconds();
  assert_ok(run_data(&error, "arithmetic", "--out", out, "--quiet", "--threads", "2", "--set",
                     "data.train=200000", "--set", "data.validation=0", "--set", "data.test=0", "--set",
                     "arithmetic.operators_low=8", NULL));
  print_message("8 integer operators, written to HDF5, 2 threads: %.0f examples/s\n",
                200000 / (ss_seconds() - start));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(exhausted_generators_say_so),
      cmocka_unit_test(a_stop_is_obeyed),
      cmocka_unit_test(statistics_count),
      cmocka_unit_test(the_command_writes_equal_bytes),
      cmocka_unit_test(failures_leave_nothing),
      cmocka_unit_test(throughput),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
