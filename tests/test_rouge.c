// ROUGE: golden pairs of rouge-score, a plain table beside the bit-parallel one, stems, files, intervals.
#include "tests/helpers.h"

#include <jansson.h>
#include <omp.h>

#include "common/random.h"
#include "eval/bootstrap.h"
#include "eval/rouge.h"
#include "eval/rouge_files.h"

static rouge_text view(const char *text) {
  return (rouge_text){text, (int64_t)strlen(text)};
}

static rouge_scores score(const char *prediction, const char *reference, bool stem) {
  ss_error error = {0};
  rouge_scorer *scorer = NULL;
  rouge_scores out;
  rouge_text text = view(reference);
  rouge_item item = {view(prediction), &text, 1};
  assert_ok(rouge_scorer_create(&scorer, stem, &error));
  assert_ok(rouge_score_item(scorer, &item, &out, &error));
  rouge_scorer_free(scorer);
  return out;
}

// --- rouge-score's own numbers ---

static json_t *golden(void) {
  json_error_t problem;
  json_t *file = json_load_file("tests/golden/rouge.json", JSON_ALLOW_NUL, &problem);
  if (file == NULL)
    fail_msg("tests/golden/rouge.json:%d: %s", problem.line, problem.text);
  return file;
}

static rouge_text text_of(const json_t *value) {
  return (rouge_text){json_string_value(value), (int64_t)json_string_length(value)};
}

static void check_golden(const rouge_scores *scores, const json_t *expected, size_t item) {
  for (int t = 0; t < ROUGE_N_TYPE; t++) {
    const json_t *numbers = json_array_get(expected, (size_t)t);
    const double own[3] = {scores->of[t].precision, scores->of[t].recall, scores->of[t].f};
    for (size_t k = 0; k < 3; k++) {
      double known = json_number_value(json_array_get(numbers, k));
      if (!(fabs(own[k] - known) <= 1e-12))
        fail_msg("item %zu, %s, number %zu: %.17g, expected %.17g", item, rouge_type_name((rouge_type)t), k,
                 own[k], known);
    }
  }
}

static void golden_items(void **state) {
  (void)state;
  ss_error error = {0};
  json_t *file = golden();
  const json_t *items = json_object_get(file, "items");
  assert_true(json_array_size(items) >= 40);
  for (int stem = 0; stem < 2; stem++) {
    rouge_scorer *scorer = NULL;  // one for all: an item must leave nothing behind
    assert_ok(rouge_scorer_create(&scorer, stem == 1, &error));
    size_t i, r;
    const json_t *row, *reference;
    json_array_foreach(items, i, row) {
      rouge_text references[8];
      json_array_foreach(json_object_get(row, "reference"), r, reference) references[r] = text_of(reference);
      rouge_item item = {text_of(json_object_get(row, "prediction")), references,
                         (int64_t)json_array_size(json_object_get(row, "reference"))};
      rouge_scores scores;
      assert_ok(rouge_score_item(scorer, &item, &scores, &error));
      check_golden(&scores, json_object_get(row, stem == 1 ? "stemmed" : "plain"), i);
    }
    rouge_scorer_free(scorer);
  }
  json_decref(file);
}

static void golden_stems(void **state) {
  (void)state;
  json_t *file = golden(), *stems = json_object_get(file, "stems");
  assert_true(json_object_size(stems) > 90);
  const char *word;
  json_t *stem;
  json_object_foreach(stems, word, stem) {
    char letters[64];
    snprintf(letters, sizeof letters, "%s", word);
    letters[rouge_stem(letters, (int64_t)strlen(letters))] = '\0';
    if (strcmp(letters, json_string_value(stem)) != 0)
      fail_msg("%s: %s, expected %s", word, letters, json_string_value(stem));
  }
  json_decref(file);
}

// --- the definition written out: tables of all cells ---

// Marks the reference's tokens that rouge-score's walk through the table t [n + 1, m + 1] takes. m <= 255 or n <= 255.
static void table_union(const int *reference, int64_t n, const int *prediction, int64_t m, uint8_t *united) {
  uint8_t *t = calloc((size_t)((n + 1) * (m + 1)), 1);
  assert_non_null(t);
  for (int64_t i = 1; i <= n; i++) {
    uint8_t *row = t + i * (m + 1), *above = row - (m + 1);
    for (int64_t j = 1; j <= m; j++)
      row[j] = reference[i - 1] == prediction[j - 1] ? (uint8_t)(above[j - 1] + 1)
               : above[j] > row[j - 1]               ? above[j]
                                                     : row[j - 1];
  }
  for (int64_t i = n, j = m; i > 0 && j > 0;) {
    if (reference[i - 1] == prediction[j - 1]) {
      united[--i] = 1;
      j--;
    } else if (t[i * (m + 1) + j - 1] > t[(i - 1) * (m + 1) + j]) {
      j--;
    } else {
      i--;
    }
  }
  free(t);
}

#define KINDS 256

// Words "w0".."w255"; the text's lines end where `breaks` says.
static char *write_text(const int *tokens, const bool *breaks, int64_t n) {
  char *text = malloc((size_t)(n * 5 + 1)), *end = text;
  assert_non_null(text);
  for (int64_t i = 0; i < n; i++)
    end += sprintf(end, "w%d%c", tokens[i], breaks != NULL && breaks[i] ? '\n' : ' ');
  *end = '\0';
  return text;
}

static int64_t next_line(const bool *breaks, int64_t first, int64_t n) {
  while (first < n && !(breaks != NULL && breaks[first]))
    first++;
  return first < n ? first + 1 : n;
}

// Lsum by tables, against rouge_score_item. One line each where `breaks` is NULL.
static void check_union(const int *prediction, const bool *prediction_breaks, int64_t m, const int *reference,
                        const bool *reference_breaks, int64_t n) {
  uint8_t *united = calloc((size_t)n + 1, 1);
  assert_non_null(united);
  for (int64_t r = 0, r_end; r < n; r = r_end) {
    r_end = next_line(reference_breaks, r, n);
    for (int64_t p = 0, p_end; p < m; p = p_end) {
      p_end = next_line(prediction_breaks, p, m);
      table_union(reference + r, r_end - r, prediction + p, p_end - p, united + r);
    }
  }
  int64_t left[KINDS] = {0}, hits = 0;
  for (int64_t i = 0; i < m; i++)
    left[prediction[i]]++;
  for (int64_t i = 0; i < n; i++)
    hits += united[i] && left[reference[i]]-- > 0;
  free(united);
  char *prediction_text = write_text(prediction, prediction_breaks, m);
  char *reference_text = write_text(reference, reference_breaks, n);
  rouge_scores scores = score(prediction_text, reference_text, false);
  assert_near(scores.of[ROUGE_LSUM].precision, (double)hits / (double)m, 1e-12);
  assert_near(scores.of[ROUGE_LSUM].recall, (double)hits / (double)n, 1e-12);
  if (prediction_breaks == NULL && reference_breaks == NULL)  // one line: Lsum is L
    assert_near(scores.of[ROUGE_L].recall, scores.of[ROUGE_LSUM].recall, 1e-12);
  free(prediction_text);
  free(reference_text);
}

static void fill(ss_random *random, int *tokens, bool *breaks, int64_t n, int kinds, double break_rate) {
  for (int64_t i = 0; i < n; i++) {
    tokens[i] = (int)ss_random_below(random, (uint64_t)kinds);
    if (breaks != NULL)
      breaks[i] = ss_random_uniform(random) < break_rate;
  }
}

static void union_equals_tables(void **state) {
  (void)state;
  enum { MOST = 250 };
  int prediction[MOST], reference[MOST];
  bool prediction_breaks[MOST], reference_breaks[MOST];
  const int kinds[] = {1, 2, 5, 30, KINDS};
  for (uint64_t seed = 0; seed < 600; seed++) {
    ss_random random = ss_random_seed(seed, 0);
    int64_t m = ss_random_range(&random, 1, MOST), n = ss_random_range(&random, 1, MOST);
    int kind = kinds[seed % 5];
    fill(&random, prediction, prediction_breaks, m, kind, seed % 3 * 0.05);
    fill(&random, reference, reference_breaks, n, kind, seed % 2 * 0.08);
    check_union(prediction, prediction_breaks, m, reference, reference_breaks, n);
    check_union(prediction, NULL, m, reference, NULL, n);
  }
}

// Lines so long that rows are kept at checkpoints only.
static void long_lines_equal_tables(void **state) {
  (void)state;
  const int64_t sizes[2][2] = {{100, 530000}, {275000, 250}};
  for (int k = 0; k < 2; k++) {
    int64_t m = sizes[k][0], n = sizes[k][1];
    ss_random random = ss_random_seed(7, (uint64_t)k);
    int *prediction = calloc((size_t)m, sizeof *prediction),
        *reference = calloc((size_t)n, sizeof *reference);
    assert_true(prediction != NULL && reference != NULL);
    fill(&random, prediction, NULL, m, KINDS, 0);
    fill(&random, reference, NULL, n, KINDS, 0);
    // A word in every stretch of the long side alone keeps the walk going through all strips.
    for (int64_t i = 0; i < (m < n ? n : m); i++)
      if (i % (m < n ? n / m : m / n) != 0)
        (m < n ? reference : prediction)[i] = (int)ss_random_below(&random, 3);
    check_union(prediction, NULL, m, reference, NULL, n);
    free(prediction);
    free(reference);
  }
}

// --- texts ---

static void tokens_of_odd_bytes(void **state) {
  (void)state;
  // The Kelvin sign is a k, the dotted I an i and a separator; bytes that are no UTF-8 separate.
  assert_near(score("\xE2\x84\xAA\xC4\xB0x", "ki x", false).of[ROUGE_2].f, 1, 0);
  assert_near(score("a\xFF"
                    "b\xE2\x84",
                    "a b", false)
                  .of[ROUGE_2]
                  .f,
              1, 0);
  assert_near(score("\xC4", "\xE2", false).of[ROUGE_1].f, 0, 0);
  rouge_scores empty = score("", "a", true);
  for (int t = 0; t < ROUGE_N_TYPE; t++)
    assert_true(empty.of[t].precision == 0 && empty.of[t].recall == 0 && empty.of[t].f == 0);
}

// More words than the table has room for at first, after an item whose words must be forgotten.
static void many_words(void **state) {
  (void)state;
  enum { WORDS = 20000 };
  ss_error error = {0};
  rouge_scorer *scorer = NULL;
  char *forward = malloc(WORDS * 8), *backward = malloc(WORDS * 8), *end = forward, *other_end = backward;
  assert_true(forward != NULL && backward != NULL);
  for (int k = 0; k < WORDS; k++) {
    end += sprintf(end, "w%d ", k);
    other_end += sprintf(other_end, "w%d ", 2 * (WORDS - 1 - k));  // half of them are in the other
  }
  rouge_text first = view("w1 w3 w5 w7 w9"), reference = view(backward);
  rouge_item items[2] = {{view("w9 w7 w5 other words"), &first, 1}, {view(forward), &reference, 1}};
  rouge_scores scores;
  assert_ok(rouge_scorer_create(&scorer, false, &error));
  for (int round = 0; round < 3; round++) {
    assert_ok(rouge_score_item(scorer, &items[0], &scores, &error));
    assert_near(scores.of[ROUGE_1].f, 0.6, 1e-12);
    assert_ok(rouge_score_item(scorer, &items[1], &scores, &error));
    assert_near(scores.of[ROUGE_1].f, 0.5, 1e-12);
    assert_near(scores.of[ROUGE_2].f, 0, 0);
    assert_near(scores.of[ROUGE_L].recall, 1.0 / WORDS, 1e-12);
    assert_near(scores.of[ROUGE_LSUM].recall, 1.0 / WORDS, 1e-12);
  }
  rouge_scorer_free(scorer);
  free(forward);
  free(backward);
}

static void limits(void **state) {
  (void)state;
  ss_error error = {0};
  rouge_scorer *scorer = NULL;
  rouge_scores out;
  rouge_text huge = {"", ROUGE_MAX_BYTES + 1}, small = view("a");
  assert_ok(rouge_scorer_create(&scorer, false, &error));
  assert_refused(rouge_score_item(scorer, &(rouge_item){huge, &small, 1}, &out, &error), SS_ERROR_LIMIT,
                 "at most 1073741824");
  assert_refused(rouge_score_item(scorer, &(rouge_item){small, NULL, 0}, &out, &error), SS_ERROR_USAGE,
                 "no reference");
  rouge_item items[2] = {{small, &small, 1}, {small, &huge, 1}};
  rouge_scores both[2];
  assert_refused(rouge_score_items(items, 2, true, both, &error), SS_ERROR_LIMIT, "item 2");
  assert_ok(rouge_score_item(scorer, &items[0], &out, &error));
  assert_near(out.of[ROUGE_LSUM].f, 1, 0);
  rouge_scorer_free(scorer);
}

static void threads_change_nothing(void **state) {
  (void)state;
  enum { ITEMS = 200, TOKENS = 60 };
  ss_error error = {0};
  int tokens[TOKENS];
  bool breaks[TOKENS];
  rouge_text texts[2 * ITEMS];
  rouge_item items[ITEMS];
  rouge_scores scores[3][ITEMS];
  bootstrap_interval intervals[3][12];
  ss_random random = ss_random_seed(3, 0);
  for (int k = 0; k < 2 * ITEMS; k++) {
    fill(&random, tokens, breaks, TOKENS, 20, 0.1);
    texts[k] = view(write_text(tokens, breaks, TOKENS));
  }
  for (int k = 0; k < ITEMS; k++)
    items[k] = (rouge_item){texts[2 * k], &texts[2 * k + 1], 1};
  int before = omp_get_max_threads();
  for (int run = 0; run < 3; run++) {
    omp_set_num_threads(1 + run);
    assert_ok(rouge_score_items(items, ITEMS, true, scores[run], &error));
    assert_ok(
        bootstrap_means(&scores[run][0].of[0].precision, ITEMS, 12, 200, 0.95, 5, intervals[run], &error));
  }
  omp_set_num_threads(before);
  assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
  assert_memory_equal(scores[0], scores[2], sizeof scores[0]);
  assert_memory_equal(intervals[0], intervals[1], sizeof intervals[0]);
  assert_memory_equal(intervals[0], intervals[2], sizeof intervals[0]);
  for (int k = 0; k < 2 * ITEMS; k++)
    free((char *)texts[k].bytes);
}

// --- intervals ---

static void bootstrap_covers(void **state) {
  (void)state;
  ss_error error = {0};
  enum { ROWS = 100, TRIALS = 300 };
  int covered = 0;
  for (uint64_t trial = 0; trial < TRIALS; trial++) {
    double values[ROWS];
    ss_random random = ss_random_seed(trial, 9);
    for (int i = 0; i < ROWS; i++)
      values[i] = ss_random_uniform(&random);
    bootstrap_interval interval;
    assert_ok(bootstrap_means(values, ROWS, 1, 400, 0.95, trial, &interval, &error));
    assert_true(interval.low < interval.mean && interval.mean < interval.high);
    // The normal approximation's half width is 1.96 sqrt(1/12/100) = 0.0566.
    assert_near(interval.high - interval.low, 0.1132, 0.03);
    covered += interval.low <= 0.5 && 0.5 <= interval.high;
  }
  assert_true(covered >= TRIALS * 0.90 && covered <= TRIALS * 0.985);
}

static void bootstrap_ends(void **state) {
  (void)state;
  ss_error error = {0};
  const double values[] = {1, 5, 3, 5};  // two columns
  bootstrap_interval out[2];
  assert_ok(bootstrap_means(values, 2, 2, 500, 0.95, 1, out, &error));
  assert_true(out[0].mean == 2 && out[0].low == 1 &&
              out[0].high == 3);  // each end comes up in a quarter of the samples
  assert_true(out[1].mean == 5 && out[1].low == 5 && out[1].high == 5);
  assert_ok(bootstrap_means(values, 2, 2, 0, 0.95, 1, out, &error));
  assert_true(out[0].low == 2 && out[0].high == 2);
  assert_ok(bootstrap_means(values, 0, 2, 500, 0.95, 1, out, &error));
  assert_true(out[0].mean == 0 && out[0].high == 0);
  assert_refused(bootstrap_means(values, 2, 2, 10, NAN, 1, out, &error), SS_ERROR_USAGE, "confidence");
}

// --- files ---

static void files_are_read(void **state) {
  (void)state;
  ss_error error = {0};
  char predictions[TEST_PATH], references[TEST_PATH], more[TEST_PATH];
  test_write(predictions, "predictions.txt", "a b<n>c\r\n\nlast");
  test_write(references, "references.jsonl",
             "{\"gold\": [\"x\", \"y\\u0000z\"], \"id\": \"1\"}\n\"plain\"\n[\"one\", \"two\"]\n");
  test_write(more, "more.txt", "r1\nr2\nr3\n");
  const char *files[] = {references, more};
  rouge_file_options options = {"prediction", "gold", "<n>"};
  rouge_corpus corpus;
  assert_ok(rouge_corpus_read(&corpus, predictions, files, 2, &options, &error));
  assert_int_equal(corpus.count, 3);
  assert_memory_equal(corpus.items[0].prediction.bytes, "a b\nc\r", 6);
  assert_int_equal(corpus.items[0].prediction.size, 6);
  assert_int_equal(corpus.items[1].prediction.size, 0);
  assert_string_equal(corpus.items[2].prediction.bytes, "last");
  assert_int_equal(corpus.items[0].n_reference, 3);
  assert_int_equal(corpus.items[0].references[1].size, 3);
  assert_int_equal(corpus.items[1].n_reference, 2);
  assert_string_equal(corpus.items[2].references[1].bytes, "two");
  assert_string_equal(corpus.items[2].references[2].bytes, "r3");
  rouge_corpus_free(&corpus);
}

static void refuse_file(const char *name, const char *content, const char *part) {
  ss_error error = {0};
  char good[TEST_PATH], bad[TEST_PATH];
  test_write(good, "good.jsonl",
             "{\"prediction\": \"p\", \"id\": \"1\"}\n{\"prediction\": \"q\", \"id\": \"2\"}\n");
  test_write(bad, name, content);
  const char *files[] = {bad};
  rouge_file_options options = {"prediction", "reference", NULL};
  rouge_corpus corpus;
  assert_refused(rouge_corpus_read(&corpus, good, files, 1, &options, &error), SS_ERROR_INPUT, part);
  rouge_corpus_free(&corpus);
}

static void files_are_refused(void **state) {
  (void)state;
  refuse_file("bad.txt", "fine\n\xFF\xFE\n", "bad.txt:2: not a text in UTF-8");
  refuse_file("bad.txt", "fine\n", "1 lines, expected 2");
  refuse_file("bad.txt", "1\n2\n3\n", "3 lines, expected 2");
  refuse_file("bad.jsonl", "\"a\"\n{\"reference\": \n", "bad.jsonl:2: not JSON");
  refuse_file("bad.jsonl", "\"a\"\n\n", "bad.jsonl:2: not JSON");
  refuse_file("bad.jsonl", "[]\n\"a\"\n", "bad.jsonl:1: expected a string or an array of at least one");
  refuse_file("bad.jsonl", "[\"a\", 3]\n\"a\"\n", "bad.jsonl:1: reference 2 is not a string");
  refuse_file("bad.jsonl", "\"a\"\n{\"summary\": \"b\"}\n", "in \"reference\"");
  refuse_file("bad.jsonl", "\"\xC3\"\n\"a\"\n", "bad.jsonl:1: not JSON");
  refuse_file("bad.jsonl", "{\"reference\": \"a\", \"id\": \"1\"}\n{\"reference\": \"b\", \"id\": \"3\"}\n",
              "bad.jsonl:2: id \"3\", expected \"2\"");
  refuse_file("bad.jsonl", "{\"reference\": \"a\", \"id\": \"1\\u0000x\"}\n\"b\"\n",
              "bad.jsonl:1: \"id\" has a zero character");
  ss_error error = {0};
  rouge_corpus corpus;
  rouge_file_options options = {"prediction", "reference", NULL};
  char empty[TEST_PATH];
  const char *files[] = {test_write(empty, "empty.txt", "")};
  assert_refused(rouge_corpus_read(&corpus, empty, files, 1, &options, &error), SS_ERROR_INPUT, "empty");
  rouge_corpus_free(&corpus);
  assert_refused(rouge_corpus_read(&corpus, "absent.txt", files, 1, &options, &error), SS_ERROR_IO,
                 "absent.txt");
  rouge_corpus_free(&corpus);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(golden_items),
                                     cmocka_unit_test(golden_stems),
                                     cmocka_unit_test(union_equals_tables),
                                     cmocka_unit_test(long_lines_equal_tables),
                                     cmocka_unit_test(tokens_of_odd_bytes),
                                     cmocka_unit_test(many_words),
                                     cmocka_unit_test(limits),
                                     cmocka_unit_test(threads_change_nothing),
                                     cmocka_unit_test(bootstrap_covers),
                                     cmocka_unit_test(bootstrap_ends),
                                     cmocka_unit_test(files_are_read),
                                     cmocka_unit_test(files_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
