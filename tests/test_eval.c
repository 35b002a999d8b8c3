// Metrics on hand-made outputs: intervals, rounding, cutting, references, malformed sequences, scorers, summaries.
#include "tests/helpers.h"

#include "common/hdf5.h"
#include "eval/compare.h"
#include "eval/decimal.h"
#include "eval/intervals.h"
#include "eval/items.h"
#include "eval/results.h"
#include "eval/tasks/registry.h"

#define N_ANCHOR 16
#define MAX_ROWS 128

// --- intervals ---

// Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
static void wilson_has_published_values(void **state) {
  (void)state;
  const struct {
    int64_t k, n;
    double low, high;
  } known[] = {{81, 263, 0.2553, 0.3662},
               {15, 148, 0.0624, 0.1605},
               {0, 20, 0.0, 0.1611},
               {1, 29, 0.0061, 0.1718}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    double low, high;
    wilson_interval(known[i].k, known[i].n, &low, &high);
    assert_near(low, known[i].low, 5e-5);
    assert_near(high, known[i].high, 5e-5);
    // Mirror image: failures for successes.
    double other_low, other_high;
    wilson_interval(known[i].n - known[i].k, known[i].n, &other_low, &other_high);
    assert_near(other_low, 1 - high, 1e-12);
    assert_near(other_high, 1 - low, 1e-12);
  }
}

static void wilson_at_the_ends(void **state) {
  (void)state;
  double low, high;
  wilson_interval(0, 0, &low, &high);
  assert_true(low == 0 && high == 1);
  wilson_interval(0, 7, &low, &high);
  assert_true(low == 0 && high > 0 && high < 1);
  wilson_interval(7, 7, &low, &high);
  assert_true(high == 1 && low > 0 && low < 1);
}

// --- decimals ---

static void check_rounding(const char *text, const char *expected) {
  ss_error error = {0};
  char *rounded = NULL;
  assert_ok(decimal_round(text, 2, &rounded, &error));
  if (expected == NULL)
    assert_null(rounded);
  else
    assert_string_equal(rounded, expected);
  free(rounded);
}

static void decimals_round_half_away_from_zero(void **state) {
  (void)state;
  check_rounding("0.005", "0.01");
  check_rounding("-0.005", "-0.01");
  check_rounding("-0.0049999999999999999", "0");
  check_rounding("2.675", "2.68");
  check_rounding("9.995", "10");
  check_rounding("99999999999999999999999999.995", "100000000000000000000000000");
  check_rounding("007", "7");
  check_rounding("-0", "0");
  check_rounding("1.50", "1.5");
  check_rounding(".5", "0.5");
  check_rounding("12.3", "12.3");
  const char *const no_numbers[] = {"", "-", "1.", ".", "1e3", "--1", "1 ", "12a", "1.2.3"};
  for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++)
    check_rounding(no_numbers[i], NULL);
}

// --- a gold example and sequences pushed through the tracker ---

// (1+2)*3, in two pieces: "(1+2" #0, ")*3" #1, "1+2=3" #2, "3*3=9" #3, answer 9.
static void make_gold(example *gold) {
  ss_error error = {0};
  example_reset(gold, "gold-1");
  assert_ok(example_segment_add(gold, SPAN_CONTEXT, "(1+2", 4, &error));
  assert_ok(example_segment_add(gold, SPAN_CONTEXT, ")*3", 3, &error));
  assert_ok(example_segment_add(gold, SPAN_STEP, "1+2=3", 5, &error));
  assert_ok(example_reference_add(gold, 0, &error));
  assert_ok(example_segment_add(gold, SPAN_STEP, "3*3=9", 5, &error));
  assert_ok(example_reference_add(gold, 1, &error));
  assert_ok(example_reference_add(gold, 2, &error));
  assert_ok(example_segment_add(gold, SPAN_ANSWER, "9", 1, &error));
  assert_ok(example_reference_add(gold, 3, &error));
  assert_ok(example_answer_add(gold, "9", &error));
  assert_ok(example_meta_set(gold, "{\"operators\":2}", &error));
  assert_ok(example_finish(gold, &error));
}

typedef struct {
  vocabulary *vocabulary;
  example gold;
  span_tracker tracker;
  span_segment segments[N_ANCHOR];
  int32_t references[64];
  int32_t tokens[MAX_ROWS];
  decode_result result;
  eval_written written;
  eval_item item;
} scene;

static int setup(void **state) {
  ss_error error = {0};
  scene *s = calloc(1, sizeof *s);
  assert_ok(
      vocabulary_create_characters(&s->vocabulary, "0123456789+-*/()[].%=", "arithmetic", N_ANCHOR, &error));
  make_gold(&s->gold);
  *state = s;
  return 0;
}

static int teardown(void **state) {
  scene *s = *state;
  eval_written_free(&s->written);
  example_free(&s->gold);
  vocabulary_free(s->vocabulary);
  free(s);
  return 0;
}

static void push(scene *s, int32_t token) {
  assert_true(s->tracker.n_row < MAX_ROWS);
  s->tokens[s->tracker.n_row] = token;
  assert_int_equal(span_tracker_push(&s->tracker, token), SPAN_PUSH_OK);
}

// `text` in the readable form: "<[>", "<:>", "<=>", "<eos>", "<#k>", everything else character by character.
static void push_text(scene *s, const char *text, int32_t anchor_offset) {
  ss_error error = {0};
  const span_tokens *special = vocabulary_span_tokens(s->vocabulary);
  while (*text != '\0') {
    const struct {
      const char *name;
      int32_t token;
    } names[] = {{"<[>", special->open},
                 {"<:>", special->colon},
                 {"<=>", special->answer},
                 {"<eos>", special->eos}};
    bool found = false;
    for (size_t k = 0; k < 4 && !found; k++)
      if (strncmp(text, names[k].name, strlen(names[k].name)) == 0) {
        push(s, names[k].token);
        text += strlen(names[k].name);
        found = true;
      }
    if (found)
      continue;
    if (text[0] == '<' && text[1] == '#') {
      char *end;
      push(s, special->anchor_first + anchor_offset + (int32_t)strtol(text + 2, &end, 10));
      text = end + 1;
      continue;
    }
    int32_t *ids = NULL;
    int64_t n = 0, capacity = 0;
    assert_ok(vocabulary_encode(s->vocabulary, text, 1, &ids, &n, &capacity, "test", &error));
    push(s, ids[0]);
    free(ids);
    text++;
  }
}

// Scores `output` as what a model wrote after the gold's prompt.
static void score_output(scene *s, const char *output, bool headers, int32_t anchor_offset,
                         decode_stop stop) {
  ss_error error = {0};
  span_policy policy = span_policy_default();
  const char *prompt = "(1+2<#0>)*3<#1>";
  int32_t prompt_end = 2 + 4 + 1 + 3 + 1;
  span_tracker_start(&s->tracker, vocabulary_span_tokens(s->vocabulary), &policy, headers, anchor_offset, 2,
                     prompt_end, s->segments, N_ANCHOR, s->references, 64);
  push(s, vocabulary_bos(s->vocabulary));
  push(s, vocabulary_task(s->vocabulary));
  push_text(s, prompt, anchor_offset);
  assert_int_equal(s->tracker.n_row, prompt_end);
  push_text(s, output, anchor_offset);
  memset(&s->result, 0, sizeof s->result);
  s->result.tokens = s->tokens;
  s->result.n_prompt = prompt_end;
  s->result.n_token = s->tracker.n_row;
  s->result.stop = stop;
  s->result.layout = s->tracker.layout;
  s->result.malformed = s->tracker.malformed;
  memset(&s->item, 0, sizeof s->item);
  s->item.stop = (int32_t)stop;
  s->item.malformed = s->result.malformed;
  s->item.generated_tokens = s->result.n_token - s->result.n_prompt;
  assert_ok(eval_written_cut(&s->written, &s->result, s->vocabulary, anchor_offset, headers, &error));
  assert_ok(eval_compare(&s->gold, &s->written, &eval_task_arithmetic, &s->item, &error));
}

#define GOLD_OUTPUT "<[><#0><:>1+2=3<#2><[><#1><#2><:>3*3=9<#3><[><=><#3><:>9<eos>"

static void check_references(const eval_item *item, int64_t written, int64_t right, int64_t exact) {
  assert_int_equal(item->references_gold, 4);
  assert_int_equal(item->references_written, written);
  assert_int_equal(item->references_right, right);
  assert_int_equal(item->headers, 3);
  assert_int_equal(item->headers_exact, exact);
}

static void gold_output_is_perfect(void **state) {
  scene *s = *state;
  for (int32_t offset = 0; offset <= 5; offset += 5) {
    score_output(s, GOLD_OUTPUT, true, offset, DECODE_STOP_EOS);
    assert_true(s->item.correct);
    assert_near(s->item.score, 1, 0);
    assert_int_equal(s->item.group, 2);
    assert_int_equal(s->item.steps_gold, 2);
    assert_int_equal(s->item.steps_correct, 2);
    assert_int_equal(s->item.steps_written, 2);
    check_references(&s->item, 4, 4, 3);
  }
  score_output(s, "1+2=3<#2>3*3=9<#3>9<eos>", false, 0, DECODE_STOP_EOS);
  assert_true(s->item.correct);
  assert_int_equal(s->item.steps_correct, 2);
  assert_int_equal(s->item.headers, 0);
}

static void wrong_and_missing_references_are_counted(void **state) {
  scene *s = *state;
  // One wrong, one missing, the answer's right.
  score_output(s, "<[><#1><:>1+2=3<#2><[><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0, DECODE_STOP_EOS);
  check_references(&s->item, 3, 2, 1);
  assert_true(s->item.correct);
  // A superset is not exact, and costs precision.
  score_output(s, "<[><#0><#1><:>1+2=3<#2><[><#1><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0,
               DECODE_STOP_EOS);
  check_references(&s->item, 5, 4, 2);
  // Unknown (#9) and duplicate references are written, and spoil exactness though the tracker ignores them.
  score_output(s, "<[><#0><#9><:>1+2=3<#2><[><#1><#2><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0,
               DECODE_STOP_EOS);
  check_references(&s->item, 6, 4, 1);
  assert_int_equal(s->item.malformed.unknown_reference, 1);
  assert_int_equal(s->item.malformed.duplicate_reference, 1);
}

static void steps_are_compared_in_order(void **state) {
  scene *s = *state;
  score_output(s, "<[><#0><:>1+2=4<#2><[><#1><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0, DECODE_STOP_EOS);
  assert_int_equal(s->item.steps_correct, 1);
  // A step left out shifts the others: none counts. The headers are held against the k-th gold one too.
  score_output(s, "<[><#1><#2><:>3*3=9<#2><[><=><#3><:>9<eos>", true, 0, DECODE_STOP_EOS);
  assert_int_equal(s->item.steps_gold, 2);
  assert_int_equal(s->item.steps_written, 1);
  assert_int_equal(s->item.steps_correct, 0);
  assert_int_equal(s->item.headers_exact, 0);
  assert_true(s->item.correct);
  // A step too many: every gold step is there, yet the derivation is not the gold one.
  score_output(s, "<[><#0><:>1+2=3<#2><[><#1><#2><:>3*3=9<#3><[><#3><:>9*1=9<#4><[><=><#4><:>9<eos>", true, 0,
               DECODE_STOP_EOS);
  eval_result *result = calloc(1, sizeof *result);
  eval_result_add(result, &s->item);
  assert_int_equal(result->all.steps_correct, 2);
  assert_int_equal(result->all.correct, 1);
  assert_int_equal(result->all.derivations_exact, 0);
  free(result);
}

static void cut_off_answers_do_not_count(void **state) {
  scene *s = *state;
  score_output(s, "<[><#0><:>1+2=3<#2><[><#1><#2><:>3*3=9<#3><[><=><#3><:>9", true, 0, DECODE_STOP_LENGTH);
  assert_null(s->written.answer);
  assert_false(s->item.correct);
  assert_int_equal(s->item.steps_correct, 2);
  // Cut off within a header: its references count as written, its body is empty.
  score_output(s, "<[><#0><:>1+2=3<#2><[><#1>", true, 0, DECODE_STOP_LENGTH);
  check_references(&s->item, 2, 2, 1);
  assert_int_equal(s->written.n_step, 2);
  assert_string_equal(s->written.steps[1], "");
}

static void malformed_items_are_counted(void **state) {
  scene *s = *state;
  eval_result *result = calloc(1, sizeof *result);
  result->decoded = true;
  score_output(s, GOLD_OUTPUT, true, 0, DECODE_STOP_EOS);
  eval_result_add(result, &s->item);
  assert_int_equal(result->all.malformed_items, 0);
  // A wrong closing anchor; `<[>` inside a body; a token where none may stand; no end.
  score_output(s, "<[><#0><:>1+2=3<#5><[><#1><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0, DECODE_STOP_EOS);
  assert_int_equal(s->item.malformed.wrong_anchor, 1);
  eval_result_add(result, &s->item);
  score_output(s, "<[><#0><:>1+2=3<[><#1><#2><:>3*3=9<#3><[><=><#3><:>9<eos>", true, 0, DECODE_STOP_EOS);
  assert_int_equal(s->item.malformed.unclosed_segment, 1);
  eval_result_add(result, &s->item);
  score_output(s, "7<#2><[><=><#2><:>9<eos>", true, 0, DECODE_STOP_EOS);
  assert_int_equal(s->item.malformed.stray_token, 1);
  eval_result_add(result, &s->item);
  score_output(s, "<[><#0><:>1+2=3<#2>", true, 0, DECODE_STOP_LENGTH);
  eval_result_add(result, &s->item);
  assert_int_equal(result->all.items, 5);
  assert_int_equal(result->all.malformed_items, 4);
  assert_int_equal(result->all.unfinished_items, 1);
  assert_int_equal(result->all.correct, 4);
  assert_int_equal(result->all.derivations_exact, 3);
  assert_int_equal(result->all.malformed.wrong_anchor, 1);
  assert_int_equal(result->groups[2].items, 5);
  eval_rates rates = eval_rates_of(result, &result->all);
  assert_near(rates.malformed, 0.8, 1e-12);
  assert_near(rates.accuracy, 0.8, 1e-12);
  free(result);
}

// --- scorers ---

static eval_score score_text(const eval_task *task, const example *gold, const char *answer) {
  ss_error error = {0};
  eval_output output = {.answer = answer};
  eval_score score = {.correct = false};
  assert_ok(task->score(gold, &output, &score, &error));
  return score;
}

static void arithmetic_answers_are_strict_and_rounded(void **state) {
  scene *s = *state;
  ss_error error = {0};
  eval_score score = score_text(&eval_task_arithmetic, &s->gold, "09");
  assert_false(score.correct);
  assert_near(score.score, 1, 0);
  score = score_text(&eval_task_arithmetic, &s->gold, "9.004");
  assert_true(!score.correct && score.score == 1);
  score = score_text(&eval_task_arithmetic, &s->gold, "9.005");
  assert_true(!score.correct && score.score == 0);
  score = score_text(&eval_task_arithmetic, &s->gold, NULL);
  assert_true(!score.correct && score.score == 0);
  // The exact value, where given, decides what rounding says; the text stays the canonical one.
  assert_ok(example_meta_set(&s->gold, "{\"operators\":2,\"exact\":\"9.01\"}", &error));
  score = score_text(&eval_task_arithmetic, &s->gold, "9");
  assert_true(score.correct && score.score == 0);
}

static void jsonl_answers_ignore_white_space(void **state) {
  scene *s = *state;
  ss_error error = {0};
  assert_ok(example_answer_add(&s->gold, "nine  points", &error));
  assert_true(score_text(&eval_task_jsonl, &s->gold, " 9\n").correct);
  assert_true(score_text(&eval_task_jsonl, &s->gold, "nine points").correct);
  assert_true(score_text(&eval_task_jsonl, &s->gold, "\tnine\npoints ").correct);
  assert_false(score_text(&eval_task_jsonl, &s->gold, "ninepoints").correct);
  assert_false(score_text(&eval_task_jsonl, &s->gold, "nine").correct);
  assert_false(score_text(&eval_task_jsonl, &s->gold, "nine points more").correct);
  assert_false(score_text(&eval_task_jsonl, &s->gold, "").correct);
  assert_false(score_text(&eval_task_jsonl, &s->gold, NULL).correct);
}

static void scorers_are_found_by_name(void **state) {
  (void)state;
  ss_error error = {0};
  assert_ptr_equal(eval_task_find("jsonl", &error), &eval_task_jsonl);
  assert_null(eval_task_find("poetry", &error));
  assert_non_null(strstr(error.message, "known: arithmetic, "));
  assert_non_null(strstr(error.message, "jsonl"));
}

// --- lines in order ---

static void lines_are_written_in_order(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *text = NULL;
  eval_items_file items;
  eval_item_queue queue;
  const int64_t orders[] = {2, 0, 3, 1, 4};
  unlink(test_path(path, "items.jsonl"));
  assert_ok(eval_items_open(&items, test_path(path, "items.jsonl"), &error));
  eval_item_queue_start(&queue, items.file);
  for (size_t k = 0; k < 5; k++) {
    char *line = malloc(8);
    snprintf(line, 8, "%d", (int)orders[k]);
    assert_ok(eval_item_queue_put(&queue, orders[k], line, &error));
  }
  eval_item_queue_free(&queue);
  assert_false(ss_file_exists(path));
  assert_ok(eval_items_commit(&items, &error));
  size_t size;
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_string_equal(text, "0\n1\n2\n3\n4\n");
  free(text);
  // Abandoned: the earlier file stays, nothing else does.
  assert_ok(eval_items_open(&items, path, &error));
  fprintf(items.file, "half");
  eval_items_abandon(&items);
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_string_equal(text, "0\n1\n2\n3\n4\n");
  free(text);
}

// --- summary ---

static eval_result *made_results(scene *s) {
  eval_result *results = calloc(2, sizeof *results);
  const char *labels[] = {"dense", "span"};
  for (int k = 0; k < 2; k++) {
    eval_result *result = &results[k];
    snprintf(result->label, sizeof result->label, "%s", labels[k]);
    result->arm = k == 0 ? ARM_DENSE : ARM_SPAN;
    result->decoded = true;
    result->group_name = "operators";
    result->score_name = "rounded";
    result->train_seconds = 12;
    result->speed.prefill_seconds = 1;
    result->speed.decode_seconds = 3;
    result->speed.n_sequence = 2;
    result->speed.generated_tokens = 92;
    result->speed.kv_bytes_read = 4000000;
    if (k == 0)
      score_output(s, "1+2=3<#2>3*3=9<#3>9<eos>", false, 0, DECODE_STOP_EOS);
    else
      score_output(s, GOLD_OUTPUT, true, 0, DECODE_STOP_EOS);
    s->item.attended_rows = k == 0 ? 400 : 100;
    result->items = calloc(2, sizeof *result->items);
    result->n_item = 2;
    for (int i = 0; i < 2; i++) {
      s->item.index = i;
      s->item.correct = i == 0 || k == 0;
      if (k == 1 && i == 1)
        s->item.headers_exact = 1;
      result->items[i] = s->item;
      eval_result_add(result, &s->item);
    }
  }
  return results;
}

static void summary_has_every_key(void **state) {
  scene *s = *state;
  static const char *const keys[] = {"arm",
                                     "items",
                                     "accuracy",
                                     "accuracy_low",
                                     "accuracy_high",
                                     "step_accuracy",
                                     "reference_exact",
                                     "generated_tokens",
                                     "attended_rows_per_example",
                                     "attended_rows_per_token",
                                     "examples_per_second",
                                     "tokens_per_second",
                                     "train_seconds"};
  eval_result *results = made_results(s);
  json_t *arms = eval_arms_json(results, 2);
  assert_int_equal(json_array_size(arms), 2);
  for (size_t a = 0; a < 2; a++)
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
      const json_t *value = json_object_get(json_array_get(arms, a), keys[k]);
      bool null_expected = a == 0 && strcmp(keys[k], "reference_exact") == 0;
      if (value == NULL || json_is_null(value) != null_expected ||
          (k > 0 && !null_expected && !json_is_number(value)))
        fail_msg("arm %zu: %s is absent or of the wrong kind", a, keys[k]);
    }
  const json_t *span = json_array_get(arms, 1);
  assert_string_equal(json_string_value(json_object_get(span, "arm")), "span");
  assert_near(json_number_value(json_object_get(span, "accuracy")), 0.5, 1e-12);
  assert_near(json_number_value(json_object_get(span, "reference_exact")), 4.0 / 6, 1e-12);
  assert_near(json_number_value(json_object_get(span, "attended_rows_per_example")), 100, 1e-12);
  assert_near(json_number_value(json_object_get(span, "examples_per_second")), 0.5, 1e-12);
  assert_near(json_number_value(json_object_get(span, "tokens_per_second")), 30, 1e-12);
  assert_near(json_number_value(json_object_get(span, "kv_megabytes_per_example")), 2, 1e-12);
  assert_int_equal(json_array_size(json_object_get(span, "groups")), 1);
  json_decref(arms);
  // References that were forced are not the model's.
  results[1].control = DECODE_ORACLE;
  assert_true(isnan(eval_rates_of(&results[1], &results[1].all).reference_exact));
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

static bool says(const json_t *sentences, const char *part) {
  for (size_t k = 0; k < json_array_size(sentences); k++)
    if (strstr(json_string_value(json_array_get(sentences, k)), part) != NULL)
      return true;
  return false;
}

static void comparison_follows_the_numbers(void **state) {
  scene *s = *state;
  eval_result *results = made_results(s);
  json_t *sentences = eval_explain(results, 2);
  assert_true(says(sentences, "dense is not below span: 100.0%"));
  assert_true(says(sentences, "intervals of 2 items overlap"));
  assert_true(says(sentences, "exactly the gold segments in 66.7% of 6 steps"));
  assert_true(says(sentences, "(1 items) its answer is right in 100.0%, elsewhere (1) in 0.0%"));
  assert_true(says(sentences, "span reads 4.00x fewer rows"));
  json_decref(sentences);
  results[0].all.correct = 0;
  sentences = eval_explain(results, 2);
  assert_true(says(sentences, "span is above dense by 50.0 points"));
  assert_false(says(sentences, "not below"));
  json_decref(sentences);
  sentences = eval_explain(results, 1);
  assert_int_equal(json_array_size(sentences), 0);
  json_decref(sentences);
  // Of a killed run's examples no time is known: rates are of the others.
  results[0].speed.n_sequence = 1;
  sentences = eval_explain(results, 1);
  assert_true(says(sentences, "dense: 1 of its 2 examples were decoded by a run that was killed"));
  json_decref(sentences);
  assert_near(eval_speed_of(&results[0]).examples_per_second, 0.25, 1e-12);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

static void results_file_reads_back(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  eval_result *results = made_results(s);
  snprintf(results[1].label, sizeof results[1].label, "span/window");
  json_t *summary = json_pack("{s:s}", "task", "arithmetic");
  assert_ok(eval_write_hdf5(test_path(path, "results.h5"), results, 2, summary, &error));
  json_decref(summary);
  ss_hdf5 *file = NULL;
  assert_ok(ss_hdf5_open(&file, path, "selfspan-results", 1, true, &error));
  double accuracy[2], exact[2];
  int64_t two[1] = {2}, rows[2];
  assert_ok(ss_hdf5_read_into(file, "summary/accuracy", SS_HDF5_F64, 1, two, accuracy, &error));
  assert_true(accuracy[0] == 1 && accuracy[1] == 0.5);
  assert_ok(ss_hdf5_read_into(file, "summary/reference_exact", SS_HDF5_F64, 1, two, exact, &error));
  assert_true(isnan(exact[0]) && !isnan(exact[1]));
  assert_ok(ss_hdf5_read_into(file, "items/span-window/attended_rows", SS_HDF5_I64, 1, two, rows, &error));
  assert_true(rows[0] == 100 && rows[1] == 100);
  uint8_t correct[2];
  assert_ok(ss_hdf5_read_into(file, "items/span-window/correct", SS_HDF5_U8, 1, two, correct, &error));
  assert_true(correct[0] == 1 && correct[1] == 0);
  ss_hdf5_close(file);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wilson_has_published_values),
      cmocka_unit_test(wilson_at_the_ends),
      cmocka_unit_test(decimals_round_half_away_from_zero),
      cmocka_unit_test_setup_teardown(gold_output_is_perfect, setup, teardown),
      cmocka_unit_test_setup_teardown(wrong_and_missing_references_are_counted, setup, teardown),
      cmocka_unit_test_setup_teardown(steps_are_compared_in_order, setup, teardown),
      cmocka_unit_test_setup_teardown(cut_off_answers_do_not_count, setup, teardown),
      cmocka_unit_test_setup_teardown(malformed_items_are_counted, setup, teardown),
      cmocka_unit_test_setup_teardown(arithmetic_answers_are_strict_and_rounded, setup, teardown),
      cmocka_unit_test_setup_teardown(jsonl_answers_ignore_white_space, setup, teardown),
      cmocka_unit_test(scorers_are_found_by_name),
      cmocka_unit_test(lines_are_written_in_order),
      cmocka_unit_test_setup_teardown(summary_has_every_key, setup, teardown),
      cmocka_unit_test_setup_teardown(comparison_follows_the_numbers, setup, teardown),
      cmocka_unit_test_setup_teardown(results_file_reads_back, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
