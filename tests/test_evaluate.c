// Evaluation of a random tiny model on a small store: forced gold scores perfectly for every arm, an items file scores
// again to the same numbers, and what does not fit is refused by name.
#include "tests/helpers.h"

#include "data/tasks/arithmetic.h"
#include "eval/evaluate.h"
#include "eval/expressions.h"
#include "eval/items.h"
#include "eval/results.h"
#include "eval/score_file.h"
#include "eval/tasks/registry.h"

#define N_ANCHOR 32
#define N_POSITIONS 256
#define N_EXPRESSION 20

typedef struct {
  ss_device *device;
  gpt *model;
  vocabulary *vocabulary;
  store *data;
  arithmetic_config config;
  char path[TEST_PATH];
} fixture;

static void expression_text(int index, char *out, size_t size) {
  if (index % 3 == 0)
    snprintf(out, size, "%d+%d", index, index * 7 % 10);
  else
    snprintf(out, size, "((%d-%d)*(%d+%d))", index, index * 7 % 10, index % 4, index % 5);
}

static void write_data(fixture *f) {
  ss_error error = {0};
  store_writer *writer = NULL;
  arithmetic_expression *expression = NULL;
  example content = {0};
  rendering annotated = {0};
  json_t *config = json_object();
  assert_ok(store_writer_open(&writer, test_path(f->path, "test.h5"), f->vocabulary, "arithmetic", "test", 1,
                              config, &error));
  assert_ok(arithmetic_expression_create(&expression, &error));
  for (int k = 0; k < N_EXPRESSION; k++) {
    char text[64], id[16];
    expression_text(k, text, sizeof text);
    snprintf(id, sizeof id, "e%d", k);
    assert_ok(arithmetic_parse(expression, text, (int64_t)strlen(text), "test", &error));
    assert_ok(arithmetic_evaluate(expression, 10, "test", &error));
    assert_ok(arithmetic_build(expression, 6, id, &content, &error));
    assert_ok(render_annotated(&annotated, &content, f->vocabulary, 16, &error));
    assert_ok(store_writer_add(writer, &content, &annotated, &error));
  }
  assert_ok(store_writer_close(writer, &error));
  arithmetic_expression_free(expression);
  example_free(&content);
  rendering_free(&annotated);
  json_decref(config);
}

static int setup(void **state) {
  ss_error error = {0};
  fixture *f = calloc(1, sizeof *f);
  assert_ok(ss_device_open(&f->device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  assert_ok(
      vocabulary_create_characters(&f->vocabulary, "0123456789+-*/()[].%=", "arithmetic", N_ANCHOR, &error));
  gpt_config config = {.n_layer = 1,
                       .n_head = 2,
                       .n_kv_head = 2,
                       .n_embd = 16,
                       .n_ff = 32,
                       .n_positions = N_POSITIONS,
                       .vocab_size = vocabulary_size(f->vocabulary),
                       .norm = SS_NORM_RMS,
                       .position = GPT_POSITION_ROTARY,
                       .activation = SS_ACTIVATION_SWIGLU,
                       .norm_epsilon = 1e-5,
                       .rotary_theta = 10000,
                       .init_std = 0.6};
  assert_ok(gpt_config_resolve(&config, &error));
  assert_ok(gpt_create(&f->model, f->device, &config, false, &error));
  assert_ok(gpt_initialize(f->model, 3, &error));
  f->config.piece_tokens = 6;
  f->config.division_decimals = 4;
  write_data(f);
  assert_ok(store_open(&f->data, f->path, true, &error));
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  store_close(f->data);
  gpt_free(f->model);
  vocabulary_free(f->vocabulary);
  ss_device_close(f->device);
  free(f);
  return 0;
}

static eval_request make_request(const fixture *f, arm arm, int control, int64_t batch) {
  eval_request request = {.model = f->model,
                          .vocabulary = f->vocabulary,
                          .arm = arm,
                          .label = arm_name(arm),
                          .task = &eval_task_arithmetic,
                          .group_high = 64,
                          .keep_items = true,
                          .quiet = true};
  span_policy policy = span_policy_default();
  request.policy = arm_policy(arm, &policy);
  request.decode.max_batch = batch;
  request.decode.top_p = 1;
  request.decode.n_sink = 4;
  request.decode.control = control;
  return request;
}

static void forced_gold_is_perfect(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *result = calloc(1, sizeof *result);
  for (int a = 0; a < N_ARM; a++)
    for (int random = 0; random < 2; random++) {
      eval_request request = make_request(f, (arm)a, DECODE_REPLAY, 4);
      request.random_anchor_offset = random != 0;
      assert_ok(evaluate_store(&request, f->data, result, &error));
      const eval_counts *all = &result->all;
      assert_int_equal(all->items, N_EXPRESSION);
      assert_int_equal(all->derivations_exact, N_EXPRESSION);
      assert_int_equal(all->malformed_items, 0);
      assert_int_equal(all->steps_correct, all->steps_gold);
      assert_int_equal(all->headers_exact, all->headers);
      assert_int_equal(all->references_right, all->references_written);
      assert_int_equal(all->headers > 0, a != ARM_DENSE);
      assert_int_equal(all->attended_rows, result->speed.decode_attended_rows);
      assert_int_equal(all->generated_tokens, result->speed.generated_tokens);
      assert_int_equal(result->groups[1].items + result->groups[3].items, N_EXPRESSION);
      eval_result_free(result);
    }
  free(result);
}

// The batch's size changes the order of completion, not what is found; items come in the order of the data.
static void batches_do_not_matter(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *results = calloc(2, sizeof *results);
  char paths[2][TEST_PATH], *texts[2];
  for (int k = 0; k < 2; k++) {
    eval_request request = make_request(f, ARM_SPAN, DECODE_SELF, k == 0 ? 1 : 7);
    request.decode.max_tokens = 60;
    request.decode.temperature = 0.5;
    request.random_anchor_offset = true;
    eval_items_file items;
    assert_ok(eval_items_open(&items, test_path(paths[k], k == 0 ? "one.jsonl" : "seven.jsonl"), &error));
    request.items = items.file;
    assert_ok(evaluate_store(&request, f->data, &results[k], &error));
    assert_ok(eval_items_commit(&items, &error));
    size_t size;
    assert_ok(ss_read_file(paths[k], &texts[k], &size, &error));
  }
  assert_string_equal(texts[0], texts[1]);
  assert_int_equal(results[0].n_item, N_EXPRESSION);
  for (int i = 0; i < N_EXPRESSION; i++)
    assert_int_equal(results[1].items[i].index, i);
  assert_memory_equal(&results[0].all, &results[1].all, sizeof results[0].all);
  for (int k = 0; k < 2; k++) {
    free(texts[k]);
    eval_result_free(&results[k]);
  }
  free(results);
}

static void groups_and_items_are_chosen(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *result = calloc(1, sizeof *result);
  eval_request request = make_request(f, ARM_DENSE, DECODE_REPLAY, 3);
  request.group_low = request.group_high = 3;
  request.max_items = 5;
  assert_ok(evaluate_store(&request, f->data, result, &error));
  assert_int_equal(result->all.items, 5);
  assert_int_equal(result->groups[3].items, 5);
  assert_int_equal(result->items[2].index, 4);  // 0 and 3 have one operator
  eval_result_free(result);
  request.group_low = request.group_high = 9;
  assert_refused(evaluate_store(&request, f->data, result, &error), SS_ERROR_INPUT, "9 to 9 operators");
  eval_result_free(result);
  free(result);
}

static void another_vocabulary_is_refused(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  vocabulary *other = NULL;
  eval_result *result = calloc(1, sizeof *result);
  assert_ok(
      vocabulary_create_characters(&other, "0123456789+-*/()[].%=", "arithmetic", N_ANCHOR + 1, &error));
  eval_request request = make_request(f, ARM_SPAN, DECODE_SELF, 2);
  request.vocabulary = other;
  assert_refused(evaluate_store(&request, f->data, result, &error), SS_ERROR_INPUT, "33 anchors");
  vocabulary_free(other);
  free(result);
}

// --- predictions of others ---

static void items_score_again_to_the_same(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *result = calloc(2, sizeof *result);
  eval_items_file items;
  char path[TEST_PATH];
  eval_request request = make_request(f, ARM_SPAN, DECODE_ORACLE, 4);
  request.decode.max_tokens = 80;
  assert_ok(eval_items_open(&items, test_path(path, "items.jsonl"), &error));
  request.items = items.file;
  assert_ok(evaluate_store(&request, f->data, &result[0], &error));
  assert_ok(eval_items_commit(&items, &error));
  eval_score_file_counts counts;
  assert_ok(eval_score_file(path, f->data, &eval_task_arithmetic, 0, 64, &result[1], &counts, &error));
  assert_int_equal(counts.predictions, N_EXPRESSION);
  assert_int_equal(counts.missing, 0);
  const eval_counts *a = &result[0].all, *b = &result[1].all;
  assert_true(a->references_right > 0);  // the oracle's first header at least
  assert_int_equal(a->correct, b->correct);
  assert_int_equal(a->steps_correct, b->steps_correct);
  assert_int_equal(a->steps_written, b->steps_written);
  assert_int_equal(a->references_written, b->references_written);
  assert_int_equal(a->references_right, b->references_right);
  assert_int_equal(a->headers_exact, b->headers_exact);
  eval_result_free(&result[0]);
  eval_result_free(&result[1]);
  free(result);
}

static void check_predictions(fixture *f, const char *text, const char *refusal) {
  ss_error error = {0};
  char path[TEST_PATH];
  eval_result *result = calloc(1, sizeof *result);
  eval_score_file_counts counts;
  test_write(path, "predictions.jsonl", text);
  assert_refused(eval_score_file(path, f->data, &eval_task_arithmetic, 0, 64, result, &counts, &error),
                 SS_ERROR_INPUT, refusal);
  eval_result_free(result);
  free(result);
}

static void predictions_are_matched_by_id(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  eval_result *result = calloc(1, sizeof *result);
  eval_score_file_counts counts;
  test_write(path, "predictions.jsonl",
             "{\"id\":\"e3\",\"steps\":[\"3+1=4\"],\"answer\":\"4\"}\n\n"
             "{\"id\":\"e0\",\"answer\":\"1\",\"note\":5}\n"
             "{\"id\":\"e6\",\"steps\":[\"6+2=8\",\"more\"],\"answer\":null}\n");
  assert_ok(eval_score_file(path, f->data, &eval_task_arithmetic, 0, 64, result, &counts, &error));
  assert_int_equal(counts.predictions, 3);
  assert_int_equal(counts.missing, N_EXPRESSION - 3);
  assert_int_equal(result->all.items, N_EXPRESSION);
  assert_int_equal(result->all.correct, 1);
  assert_int_equal(result->all.steps_correct, 2);
  assert_int_equal(result->all.derivations_exact, 1);
  assert_true(isnan(eval_rates_of(result, &result->all).rows_per_example));
  free(result);
  check_predictions(f, "{\"id\":\"e0\"}\n{\"id\":\"nobody\"}\n", ":2: id \"nobody\" is not in the data");
  check_predictions(f, "{\"id\":\"e0\"}\n{\"id\":\"e0\"}\n", ":2: id \"e0\" comes twice");
  check_predictions(f, "{\"answer\":\"1\"}\n", ":1: expected an object with a string \"id\"");
  check_predictions(f, "{\"id\":\"e0\",\"answer\":1}\n", "\"answer\" must be");
  check_predictions(f, "{\"id\":\"e0\",\"steps\":[1]}\n", "\"steps\" must be");
  check_predictions(f, "{\"id\":\"e0\",\"references\":[[\"a\"]]}\n", "\"references\" must be");
  check_predictions(f, "{\"id\":\"e0\",\"references\":[0, 1]}\n", "\"references\" must be");
  check_predictions(f, "{\"id\":\"e0\",\"references\":{\"0\":[1]}}\n", "\"references\" must be");
  check_predictions(f, "{\"id\":\"e0\"\n", ":1: not JSON");
  check_predictions(f, "{\"id\":\"e1\"}\n{\"id\":\"e0\",\"answer\":\"1\\u0000\"}\n", ":2: not JSON");
  check_predictions(f, "{\"id\":\"e0\",\"steps\":[\"1\\u0000\"]}\n", "near '\"1\\u0000\"'");
}

// --- lists of expressions ---

static void expressions_are_read_and_skipped(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  test_write(
      path, "expressions.txt",
      "1+2=\n\n(7-9)*[2+1]\nspam\n1/0\n2^3\n"
      "1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1\n1/3*3*0.005\r\n1/3*3*5\n50%*3");
  expression_list *list = NULL;
  assert_ok(expression_list_open(&list, path, &f->config, f->vocabulary, ARM_SPAN, 16, N_POSITIONS, &error));
  example content = {0};
  rendering annotated = {0};
  const struct {
    int64_t line;
    const char *answer, *exact;
  } expected[] = {{1, "3", "\"exact\":\"3\""},
                  {3, "-6", "\"exact\":\"-6\""},
                  {8, "0.0049995", "\"exact\":\"0.005\""},
                  {9, "4.9995", "\"exact\":\"5\""},
                  {10, "1.5", "\"exact\":\"1.5\""}};
  for (size_t k = 0; k < 5; k++) {
    int64_t index = 0;
    bool done = false;
    assert_ok(expression_list_next(list, &content, &annotated, &index, &done, &error));
    assert_false(done);
    assert_int_equal(index, expected[k].line);
    assert_string_equal(content.answers, expected[k].answer);
    if (strstr(content.meta, expected[k].exact) == NULL)
      fail_msg("line %d: meta %s", (int)index, content.meta);
  }
  int64_t index;
  bool done = false;
  assert_ok(expression_list_next(list, &content, &annotated, &index, &done, &error));
  assert_true(done);
  json_t *skipped = expression_list_skipped(list);
  const int lines[] = {4, 5, 6, 7};
  const char *const kinds[] = {"no value", "no value", "no value", "cannot ask"};
  assert_int_equal(json_array_size(skipped), 4);
  for (size_t k = 0; k < 4; k++) {
    const json_t *entry = json_array_get(skipped, k);
    assert_int_equal(json_integer_value(json_object_get(entry, "line")), lines[k]);
    assert_string_equal(json_string_value(json_object_get(entry, "kind")), kinds[k]);
  }
  json_decref(skipped);
  expression_list_close(list);
  // Too long for the model: only what fits is asked.
  assert_ok(expression_list_open(&list, path, &f->config, f->vocabulary, ARM_SPAN, 16, 30, &error));
  assert_ok(expression_list_next(list, &content, &annotated, &index, &done, &error));
  assert_int_equal(index, 1);
  assert_ok(expression_list_next(list, &content, &annotated, &index, &done, &error));
  assert_int_equal(index, 10);
  skipped = expression_list_skipped(list);
  assert_non_null(
      strstr(json_string_value(json_object_get(json_array_get(skipped, 0), "reason")), "30 positions"));
  json_decref(skipped);
  expression_list_close(list);
  example_free(&content);
  rendering_free(&annotated);
  assert_refused(expression_list_open(&list, "/nonexistent/list", &f->config, f->vocabulary, ARM_SPAN, 16,
                                      N_POSITIONS, &error),
                 SS_ERROR_IO, "/nonexistent/list");
}

// Forced to its rounded quotients, a derivation is right digit for digit, and wrong where rounding shows the loss.
static void strict_and_rounded_differ_by_the_quotients(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  test_write(path, "expressions.txt", "7/2\n1/3*3*0.005\n1/3*3\n");
  eval_request request = make_request(f, ARM_SPAN, DECODE_REPLAY, 2);
  eval_result *result = calloc(1, sizeof *result);
  expression_list *list = NULL;
  assert_ok(expression_list_open(&list, path, &f->config, f->vocabulary, ARM_SPAN, 16, N_POSITIONS, &error));
  assert_ok(evaluate_examples(&request, expression_list_next, list, 0, result, &error));
  assert_int_equal(result->all.items, 3);
  assert_int_equal(result->all.correct, 3);
  assert_near(result->all.score_sum, 2, 0);
  assert_near(result->items[1].score, 0, 0);
  expression_list_close(list);
  eval_result_free(result);
  free(result);
}

// A sequence whose first token found no room has none; speeds of several runs add up; other work is named.
static void kept_sequences_read_back(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *other = NULL;
  json_t *work = json_pack("{s:s, s:i}", "model", "a", "decode.seed", 1), *changed = json_deep_copy(work);
  json_object_set_new(changed, "decode.seed", json_integer(2));
  int32_t tokens[] = {7, 8, 9, 4};
  decode_result result = {.index = 5,
                          .tokens = tokens,
                          .n_prompt = 2,
                          .n_token = 4,
                          .stop = DECODE_STOP_LENGTH};
  result.attended_rows = 11, result.prefill_rows = 3;
  test_path(path, "kept.jsonl");
  for (int run = 0; run < 2; run++) {
    eval_kept kept = {0};
    decode_statistics speed = {.decode_seconds = 0.5, .n_sequence = 1};
    assert_ok(eval_kept_open(&kept, path, work, false, &other, &error));
    assert_null(other);
    result.index = run == 0 ? 5 : 3;
    result.n_token = run == 0 ? 4 : 2;
    assert_ok(eval_kept_add(&kept, &result, &error));
    assert_ok(eval_kept_add_speed(&kept, &speed, &error));
    assert_int_equal(speed.n_sequence, run + 1);
    eval_kept_close(&kept);
  }
  eval_kept kept = {0};
  assert_ok(eval_kept_open(&kept, path, work, false, &other, &error));
  assert_int_equal(kept.n_sequence, 2);
  assert_near(kept.speed.decode_seconds, 1, 1e-12);
  const eval_kept_sequence *full = eval_kept_find(&kept, 5), *empty = eval_kept_find(&kept, 3);
  assert_true(full != NULL && empty != NULL && eval_kept_find(&kept, 4) == NULL);
  assert_int_equal(full->kept.n_token, 2);
  assert_true(full->tokens[0] == 9 && full->tokens[1] == 4);
  assert_true(full->kept.attended_rows == 11 && full->kept.prefill_rows == 3);
  assert_int_equal(full->kept.stop, DECODE_STOP_LENGTH);
  assert_int_equal(empty->kept.n_token, 0);
  eval_kept_close(&kept);
  assert_ok(eval_kept_open(&kept, path, changed, false, &other, &error));
  assert_string_equal(other, "decode.seed");
  assert_null(kept.file);
  free(other);
  assert_ok(eval_kept_open(&kept, path, changed, true, &other, &error));
  free(other);
  assert_int_equal(kept.n_sequence, 0);
  eval_kept_close(&kept);
  assert_false(ss_file_exists(path));
  json_decref(work);
  json_decref(changed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forced_gold_is_perfect),
      cmocka_unit_test(batches_do_not_matter),
      cmocka_unit_test(groups_and_items_are_chosen),
      cmocka_unit_test(another_vocabulary_is_refused),
      cmocka_unit_test(items_score_again_to_the_same),
      cmocka_unit_test(predictions_are_matched_by_id),
      cmocka_unit_test(expressions_are_read_and_skipped),
      cmocka_unit_test(strict_and_rounded_differ_by_the_quotients),
      cmocka_unit_test(kept_sequences_read_back),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
