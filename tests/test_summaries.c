// Evaluation of summaries: metrics worked out by hand, extracts, intervals and paired differences, and a tiny model whose
// forced gold is perfect.
#include "tests/helpers.h"

#include "common/hdf5.h"
#include "common/wrap.h"
#include "eval/baseline.h"
#include "eval/compare.h"
#include "eval/metrics.h"
#include "eval/ngrams.h"
#include "eval/results.h"
#include "eval/samples.h"
#include "eval/tasks/registry.h"

#define N_EXAMPLE 10
#define N_ANCHOR 16

static double metric(const double *values, const char *name) {
  for (int64_t m = 0; m < eval_task_cnndm.n_metric; m++)
    if (strcmp(eval_task_cnndm.metrics[m].name, name) == 0)
      return values[m];
  fail_msg("no metric %s", name);
  return 0;
}

// --- n-grams ---

static ngram_shares shares_of(const char *summary, const char *source) {
  ss_error error = {0};
  ngram_shares shares;
  assert_ok(ngram_shares_of((rouge_text){summary, (int64_t)strlen(summary)},
                            (rouge_text){source, (int64_t)strlen(source)}, &shares, &error));
  return shares;
}

static void ngrams_are_novel_or_repeated(void **state) {
  (void)state;
  // Unigrams a b c x: x is new. Bigrams ab bc | ca ab bx -> ab bc ca bx: ca (no such in the source) and bx are new.
  ngram_shares shares = shares_of("A b c.\nc a b x", "a b c, d");
  assert_near(shares.novel[0], 1.0 / 4, 0);
  assert_near(shares.novel[1], 2.0 / 4, 0);
  assert_near(shares.novel[2], 2.0 / 3, 0);  // abc | cab abx
  assert_near(shares.novel[3], 1, 0);        // cabx alone: n-grams end with their line
  assert_near(shares.repeated, 0, 0);
  // 3-grams abc bca cab abc bca | abc: three of six stand a second or third time.
  shares = shares_of("a b c a b c a\na b c", "");
  assert_near(shares.repeated, 3.0 / 6, 0);
  assert_near(shares.novel[0], 1, 0);
  shares = shares_of("", "a b");
  assert_true(isnan(shares.novel[0]) && isnan(shares.repeated));
  shares = shares_of("a b", "x a b");
  assert_true(isnan(shares.repeated) && isnan(shares.novel[2]) && shares.novel[1] == 0);
}

// --- scores ---

static void make_gold(example *gold, int index) {
  static const char *const texts[] = {"The cat sat.", " Rain fell.", " A dog ran.", " Men slept.",
                                      " All ended."};
  ss_error error = {0};
  char id[16];
  snprintf(id, sizeof id, "row-%d", index);
  example_reset(gold, id);
  int32_t n_context = 3 + index % 3;
  for (int32_t k = 0; k < n_context; k++)
    assert_ok(example_segment_add(gold, SPAN_CONTEXT, texts[k], (int64_t)strlen(texts[k]), &error));
  assert_ok(example_segment_add(gold, SPAN_STEP, " The cat sat.", 13, &error));
  assert_ok(example_reference_add(gold, 0, &error));
  assert_ok(example_segment_add(gold, SPAN_STEP, " A dog ran.", 11, &error));
  assert_ok(example_reference_add(gold, 2, &error));
  assert_ok(example_finish(gold, &error));
}

static eval_item score(const example *gold, const char *const *steps, const int32_t (*headers)[3]) {
  ss_error error = {0};
  eval_written written = {0};
  eval_item item = {0};
  for (int k = 0; steps[k] != NULL; k++) {
    assert_ok(eval_written_step(&written, steps[k], &error));
    if (headers == NULL)
      continue;
    assert_ok(eval_written_header(&written, &error));
    for (int r = 0; r < 3 && headers[k][r] >= 0; r++)
      assert_ok(eval_written_reference(&written, headers[k][r], &error));
  }
  assert_ok(eval_compare(gold, &written, &eval_task_cnndm, &item, &error));
  eval_written_free(&written);
  return item;
}

static void summaries_score_as_by_hand(void **state) {
  (void)state;
  ss_error error = {0};
  example gold = {0};
  make_gold(&gold, 0);
  const char *const whole[] = {" The cat sat.", "A dog ran. ", NULL};
  eval_item item = score(&gold, whole, NULL);
  assert_near(metric(item.metrics, "rouge1"), 1, 0);
  assert_near(metric(item.metrics, "rougeLsum"), 1, 0);
  assert_near(item.score, 1, 0);
  assert_false(item.correct);
  assert_true(isnan(metric(item.metrics, "selected_f")));
  // Three of six words, in their order: P 1, R 1/2; bigrams two of five.
  const char *const half[] = {"\n the  cats sat\n", "", NULL};
  item = score(&gold, half, NULL);
  assert_near(metric(item.metrics, "rouge1"), 2.0 / 3, 1e-12);  // cats and cat have one stem
  assert_near(metric(item.metrics, "rouge2"), 4.0 / 7, 1e-12);
  assert_near(metric(item.metrics, "rougeL"), 2.0 / 3, 1e-12);
  assert_near(item.score, (2.0 / 3 + 4.0 / 7 + 2.0 / 3) / 3, 1e-12);
  assert_near(metric(item.metrics, "words"), 3, 0);
  assert_near(metric(item.metrics, "sentences"), 1, 0);
  assert_near(metric(item.metrics, "novel_1grams"), 1.0 / 3, 1e-12);  // not stemmed: cats
  // The other way round: as one text L finds half of it, line by line Lsum finds all.
  const char *const turned[] = {"A dog ran.", "The cat sat.", NULL};
  item = score(&gold, turned, NULL);
  assert_near(metric(item.metrics, "rougeL"), 0.5, 1e-12);
  assert_near(metric(item.metrics, "rougeLsum"), 1, 0);
  // A summary that was cut to fit is scored whole: two of the words are missing from what was written.
  assert_ok(example_answer_add(&gold, "The cat sat.\nA dog ran.\nRain fell.", &error));
  item = score(&gold, whole, NULL);
  assert_near(metric(item.metrics, "rouge1"), 2.0 * 6 / (6 + 8), 1e-12);
  gold.n_answer = 0;
  // Nothing at all.
  const char *const none[] = {NULL};
  item = score(&gold, none, NULL);
  assert_near(item.score, 0, 0);
  assert_near(metric(item.metrics, "words"), 0, 0);
  assert_true(isnan(metric(item.metrics, "repeated_3grams")));
  example_free(&gold);
}

static void selections_score_as_by_hand(void **state) {
  (void)state;
  example gold = {0};
  make_gold(&gold, 0);
  const char *const steps[] = {"The cat sat.", "A dog ran.", NULL};
  const int32_t more[][3] = {{0, 1, -1}, {2, -1, -1}};
  eval_item item = score(&gold, steps, more);
  eval_result *result = calloc(1, sizeof *result);
  eval_result_add(result, &item);
  assert_near(eval_rates_of(result, &result->all).reference_f, 2 * 2.0 / 5, 1e-12);  // by step
  free(result);
  assert_near(metric(item.metrics, "selected_precision"), 2.0 / 3, 1e-12);
  assert_near(metric(item.metrics, "selected_recall"), 1, 0);
  assert_near(metric(item.metrics, "selected_f"), 4.0 / 5, 1e-12);
  // The same sentences for the other steps; numbers of no sentence are written, but select nothing.
  const int32_t turned[][3] = {{2, 99, -1}, {0, 3, -1}};
  item = score(&gold, steps, turned);
  assert_near(metric(item.metrics, "selected_f"), 1, 0);
  const int32_t empty[][3] = {{-1, -1, -1}, {-1, -1, -1}};
  item = score(&gold, steps, empty);
  assert_near(metric(item.metrics, "selected_recall"), 0, 0);
  assert_true(isnan(metric(item.metrics, "selected_precision")));
  example_free(&gold);
}

// --- a model and a store ---

typedef struct {
  ss_device *device;
  gpt *model;
  vocabulary *vocabulary;
  store *data;
  char path[TEST_PATH];
} fixture;

static int setup(void **state) {
  ss_error error = {0};
  fixture *f = calloc(1, sizeof *f);
  assert_ok(ss_device_open(&f->device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  assert_ok(vocabulary_create_bytes(&f->vocabulary, "cnndm", N_ANCHOR, &error));
  gpt_config config = {.n_layer = 1,
                       .n_head = 2,
                       .n_kv_head = 2,
                       .n_embd = 16,
                       .n_ff = 32,
                       .n_positions = 256,
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
  store_writer *writer = NULL;
  example gold = {0};
  rendering annotated = {0};
  json_t *object = json_object();
  assert_ok(store_writer_open(&writer, test_path(f->path, "test.h5"), f->vocabulary, "cnndm", "test", 1,
                              object, &error));
  for (int k = 0; k < N_EXAMPLE; k++) {
    make_gold(&gold, k);
    assert_ok(render_annotated(&annotated, &gold, f->vocabulary, 16, &error));
    assert_ok(store_writer_add(writer, &gold, &annotated, &error));
  }
  assert_ok(store_writer_close(writer, &error));
  assert_ok(store_open(&f->data, f->path, true, &error));
  json_decref(object);
  example_free(&gold);
  rendering_free(&annotated);
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
  span_policy policy = span_policy_default();
  eval_request request = {.model = f->model,
                          .vocabulary = f->vocabulary,
                          .arm = arm,
                          .label = arm_name(arm),
                          .policy = arm_policy(arm, &policy),
                          .task = &eval_task_cnndm,
                          .group_high = 64,
                          .quiet = true};
  request.decode.max_batch = batch;
  request.decode.top_p = 1;
  request.decode.control = control;
  return request;
}

static void forced_gold_is_perfect(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *result = calloc(1, sizeof *result);
  for (int a = 0; a < N_ARM; a++) {
    eval_request request = make_request(f, (arm)a, DECODE_REPLAY, 4);
    request.n_sample = 3;
    assert_ok(evaluate_store(&request, f->data, result, &error));
    assert_int_equal(result->all.items, N_EXAMPLE);
    assert_int_equal(result->n_item, N_EXAMPLE);
    assert_int_equal(result->n_sample, 3);
    for (int i = 0; i < N_EXAMPLE; i++) {
      assert_int_equal(result->items[i].index, i);
      assert_near(metric(result->items[i].metrics, "rouge2"), 1, 0);
      double selected = metric(result->items[i].metrics, "selected_f");
      assert_true(a == ARM_DENSE ? isnan(selected) : selected == 1);
    }
    for (int k = 0; k < 3; k++) {
      assert_int_equal(result->samples[k].index, k);
      assert_string_equal(result->samples[k].written.steps[1], " A dog ran.");
    }
    eval_result_free(result);
  }
  free(result);
}

// Scores are real numbers: their sum must not depend on which sequence ends first.
static void sums_follow_the_data(void **state) {
  (void)state;
  ss_error error = {0};
  eval_result *results = calloc(2, sizeof *results);
  for (int order = 0; order < 2; order++) {
    for (int k = 0; k < 9; k++) {
      eval_item item = {.index = order == 0 ? k : 8 - k, .group = 2};
      item.score = 0.1 * (double)(item.index + 1);
      eval_result_add(&results[order], &item);
      assert_ok(eval_result_keep(&results[order], &item, &error));
    }
    assert_true(order == 0 || results[1].all.score_sum != results[0].all.score_sum);
    eval_result_settle(&results[order]);
    assert_int_equal(results[order].items[3].index, 3);
    assert_near(results[order].all.score_sum, 4.5, 1e-12);
  }
  assert_true(results[1].all.score_sum == results[0].all.score_sum);
  assert_true(results[1].groups[2].score_sum == results[0].all.score_sum);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

static void batches_do_not_matter(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *results = calloc(2, sizeof *results);
  for (int k = 0; k < 2; k++) {
    eval_request request = make_request(f, ARM_DENSE, DECODE_SELF, k == 0 ? 1 : 7);
    request.decode.max_tokens = 90;
    request.decode.temperature = 1;
    request.max_items = 8;
    assert_ok(evaluate_store(&request, f->data, &results[k], &error));
  }
  assert_int_equal(results[0].n_item, 8);
  assert_memory_equal(&results[0].all, &results[1].all, sizeof results[0].all);
  assert_memory_equal(results[0].groups, results[1].groups, sizeof results[0].groups);
  for (int i = 0; i < 8; i++)
    assert_memory_equal(results[0].items[i].metrics, results[1].items[i].metrics,
                        sizeof results[0].items[i].metrics);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

// --- extracts ---

static void lead_takes_the_first_three(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  const eval_baseline *lead = eval_baseline_find(&eval_task_cnndm, "lead3", &error);
  assert_non_null(lead);
  eval_result *result = calloc(1, sizeof *result);
  eval_request request = make_request(f, ARM_DENSE, DECODE_SELF, 1);
  request.label = "lead3";
  request.max_items = 7;
  request.n_sample = 2;
  assert_ok(evaluate_baseline(&request, lead, f->data, result, &error));
  assert_int_equal(result->all.items, 7);
  assert_int_equal(result->n_sample, 2);
  const eval_written *written = &result->samples[1].written;
  assert_int_equal(written->n_step, 3);
  assert_string_equal(written->steps[2], " A dog ran.");
  assert_int_equal(written->references[written->headers[2].first], 2);
  // the cat sat rain fell a dog ran against the cat sat a dog ran: 6 of 8, 6 of 6.
  assert_near(metric(result->items[0].metrics, "rouge1"), 12.0 / 14, 1e-12);
  assert_near(metric(result->items[0].metrics, "selected_precision"), 2.0 / 3, 1e-12);
  assert_near(metric(result->items[0].metrics, "novel_2grams"), 0, 0);
  eval_rates rates = eval_rates_of(result, &result->all);
  assert_true(isnan(rates.rows_per_example) && isnan(rates.reference_precision) && isnan(rates.reference_f));
  eval_result_free(result);
  free(result);
  assert_null(eval_baseline_find(&eval_task_cnndm, "lead4", &error));
  assert_non_null(strstr(error.message, "lead3"));
  ss_error_clear(&error);
  assert_null(eval_baseline_find(&eval_task_jsonl, "lead3", &error));
  assert_non_null(strstr(error.message, "has none"));
}

static void oracle_takes_what_helps(void **state) {
  (void)state;
  ss_error error = {0};
  example gold = {0};
  eval_written written = {0};
  const eval_baseline *oracle = eval_baseline_find(&eval_task_cnndm, "oracle", &error);
  assert_non_null(oracle);
  make_gold(&gold, 2);
  assert_ok(eval_baseline_write(oracle, &gold, &written, &error));
  assert_int_equal(written.n_step, 2);
  assert_string_equal(written.steps[0], "The cat sat.");
  assert_string_equal(written.steps[1], " A dog ran.");
  assert_int_equal(written.references[1], 2);
  eval_written_free(&written);
  example_free(&gold);
}

// --- intervals ---

#define ITEMS 30

static eval_result *made_results(void) {
  eval_result *results = calloc(2, sizeof *results);
  for (int k = 0; k < 2; k++) {
    eval_result *result = &results[k];
    snprintf(result->label, sizeof result->label, "%s", k == 0 ? "dense" : "span");
    result->task = &eval_task_cnndm;
    result->group_name = "sentences";
    result->score_name = "rouge";
    result->decoded = true;
    result->items = calloc(ITEMS, sizeof *result->items);
    for (int i = 0; i < ITEMS; i++) {
      eval_item *item = &result->items[result->n_item];
      item->index = i;
      item->attended_rows = k == 0 ? 1000 : 250;
      item->generated_tokens = 10;
      for (int m = 0; m < EVAL_MAX_METRIC; m++)
        item->metrics[m] = NAN;
      item->metrics[0] = 0.01 * i * i / ITEMS + (k == 1 ? 0.03125 : 0);  // the same difference everywhere
      item->metrics[1] = k == 0 || i % 2 == 0 ? 0.5 : NAN;
      if (k == 1 && i == 7)
        continue;  // an item that one arm lacks
      eval_result_add(result, item);
      result->n_item++;
    }
  }
  return results;
}

static void differences_are_paired(void **state) {
  (void)state;
  ss_error error = {0};
  eval_result *results = made_results();
  assert_ok(eval_measure(results, 2, NULL, &error));
  const eval_metric_mean *dense = &results[0].metrics[0], *span = &results[1].metrics[0];
  double values[ITEMS], sum = 0;
  for (int i = 0; i < ITEMS; i++)
    sum += values[i] = results[0].items[i].metrics[0];
  bootstrap_interval expected;
  assert_ok(bootstrap_means(values, ITEMS, 1, EVAL_BOOTSTRAP_SAMPLES, EVAL_CONFIDENCE, 0, &expected, &error));
  assert_near(dense->interval.mean, sum / ITEMS, 1e-15);
  assert_true(dense->interval.low == expected.low && dense->interval.high == expected.high);
  assert_true(dense->interval.low < dense->interval.mean && dense->interval.mean < dense->interval.high);
  assert_int_equal(dense->items, ITEMS);
  assert_int_equal(span->items, ITEMS - 1);
  // The arms' own intervals overlap; the difference is known exactly.
  assert_true(span->interval.low < dense->interval.high);
  const eval_metric_mean *difference = &results[1].differences[0];
  assert_int_equal(difference->items, ITEMS - 1);
  assert_near(difference->interval.mean, 0.03125, 1e-12);
  assert_near(difference->interval.low, 0.03125, 1e-12);
  assert_near(difference->interval.high, 0.03125, 1e-12);
  assert_int_equal(results[1].differences[1].items, ITEMS / 2);
  assert_int_equal(results[1].metrics[2].items, 0);
  assert_true(isnan(results[1].metrics[2].interval.mean));
  assert_string_equal(results[1].against, "dense");
  assert_string_equal(results[0].against, "");
  assert_near(results[1].rows_ratio, 0.25, 1e-12);
  json_t *sentences = eval_explain(results, 2);
  assert_non_null(strstr(json_string_value(json_array_get(sentences, 0)),
                         "over 29 items span less dense is +3.12, 95% interval +3.12 to +3.12"));
  json_decref(sentences);
  assert_refused(eval_measure(results, 2, "poetry", &error), SS_ERROR_USAGE, "no arm is called \"poetry\"");
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

static char *printed(ss_status (*print)(const eval_result *, int, FILE *, ss_error *), eval_result *results) {
  ss_error error = {0};
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_ok(print(results, 2, file, &error));
  fclose(file);
  return text;
}

static void reports_carry_the_metrics(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  eval_result *results = made_results();
  assert_ok(eval_measure(results, 2, "dense", &error));
  json_t *arms = eval_arms_json(results, 2);
  const json_t *span = json_array_get(arms, 1);
  assert_near(json_number_value(
                  json_object_get(json_object_get(json_object_get(span, "differences"), "rouge1"), "low")),
              0.03125, 1e-12);
  assert_near(json_number_value(json_object_get(span, "attended_rows_ratio")), 0.25, 1e-12);
  const json_t *none = json_object_get(json_object_get(span, "metrics"), "words");
  assert_true(json_is_null(json_object_get(none, "mean")));
  assert_true(json_object_get(json_array_get(arms, 0), "differences") == NULL);
  json_decref(arms);
  char *text = printed(eval_print_metrics, results);
  assert_non_null(strstr(text, "+3.12 (+3.12..+3.12)"));
  assert_non_null(strstr(text, "less dense"));
  free(text);
  text = printed(eval_print_arms, results);
  assert_non_null(strstr(text, "rows% of dense"));
  assert_null(strstr(text, "accuracy"));
  free(text);
  json_t *summary = json_object();
  assert_ok(eval_write_hdf5(test_path(path, "metrics.h5"), results, 2, summary, &error));
  json_decref(summary);
  ss_hdf5 *file = NULL;
  double means[2][3], items[ITEMS];
  int64_t dims[2] = {2, 3}, count[1] = {ITEMS};
  assert_ok(ss_hdf5_open(&file, path, "selfspan-results", 1, true, &error));
  assert_ok(ss_hdf5_read_into(file, "summary/differences/rouge1", SS_HDF5_F64, 2, dims, means, &error));
  assert_true(isnan(means[0][0]));
  assert_near(means[1][1], 0.03125, 1e-12);
  assert_ok(ss_hdf5_read_into(file, "items/dense/metrics/rouge2", SS_HDF5_F64, 1, count, items, &error));
  assert_near(items[ITEMS - 1], 0.5, 0);
  ss_hdf5_close(file);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

// --- texts to read ---

static void samples_stand_side_by_side(void **state) {
  fixture *f = *state;
  ss_error error = {0};
  eval_result *results = calloc(2, sizeof *results);
  eval_request request = make_request(f, ARM_SPAN, DECODE_REPLAY, 2);
  request.n_sample = 2;
  assert_ok(evaluate_store(&request, f->data, &results[0], &error));
  request.label = "lead3";
  assert_ok(evaluate_baseline(&request, &eval_task_cnndm.baselines[0], f->data, &results[1], &error));
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_ok(eval_print_samples(file, f->data, results, 2, &error));
  fclose(file);
  assert_non_null(strstr(text, "row-0\n\n  #0  The cat sat.\n  #1  Rain fell.\n"));
  assert_non_null(strstr(text, "\ngold\n   1  The cat sat.\n      <- #0\n   2  A dog ran.\n      <- #2\n"));
  assert_non_null(strstr(text, "\nspan  R1 100.00  R2 100.00  RL 100.00  RLsum 100.00  "));
  assert_non_null(strstr(text, "\nlead3  R1 85.71"));
  assert_non_null(strstr(text, "row-1\n"));
  assert_null(strstr(text, "row-2\n"));
  free(text);
  eval_result_free(&results[0]);
  eval_result_free(&results[1]);
  free(results);
}

static void check_wrapped(const char *head, const char *input, int width, const char *expected) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  ss_print_wrapped(file, head, input, (int64_t)strlen(input), width);
  fclose(file);
  assert_string_equal(text, expected);
  free(text);
}

static void prose_is_wrapped(void **state) {
  (void)state;
  check_wrapped("#1 ", " one two\n three", 10, "#1 one two\n   three\n");
  check_wrapped("", "abcdefghijkl x", 5, "abcdefghijkl\nx\n");
  check_wrapped("- ", "", 5, "- \n");
  check_wrapped("", "\xC3\xA9\xC3\xA9 \xC3\xA9\xC3\xA9 e", 5, "\xC3\xA9\xC3\xA9 \xC3\xA9\xC3\xA9\ne\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ngrams_are_novel_or_repeated), cmocka_unit_test(summaries_score_as_by_hand),
      cmocka_unit_test(selections_score_as_by_hand),  cmocka_unit_test(forced_gold_is_perfect),
      cmocka_unit_test(sums_follow_the_data),         cmocka_unit_test(batches_do_not_matter),
      cmocka_unit_test(lead_takes_the_first_three),   cmocka_unit_test(oracle_takes_what_helps),
      cmocka_unit_test(differences_are_paired),       cmocka_unit_test(reports_carry_the_metrics),
      cmocka_unit_test(samples_stand_side_by_side),   cmocka_unit_test(prose_is_wrapped),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
