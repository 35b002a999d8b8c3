// The multihop task: what is invented and how it is split, rows of one's own, and the scorer on values worked out by hand.
// tests/multihop.test.sh holds the scorer against HotpotQA's rules in Python.
#include <xxhash.h>

#include "data/tasks/multihop.h"
#include "eval/tasks/registry.h"
#include "tests/helpers.h"

// --- invented questions ---

static void *open_task(multihop_config *config, uint64_t seed, const char *const *settings) {
  ss_error error = {0};
  void *source = NULL;
  ss_key_group groups[] = {{multihop_keys, config}, {NULL, NULL}};
  memset(config, 0, sizeof *config);
  assert_ok(ss_config_defaults(groups, &error));
  for (; settings != NULL && *settings != NULL; settings++)
    assert_ok(ss_config_set(groups, *settings, "test", &error));
  assert_ok(multihop_task.open(&source, config, seed, NULL, &(data_opening){.quiet = true}, &error));
  return source;
}

static void make(void *source, data_split split, int64_t index, example *out) {
  ss_error error = {0};
  bool skip = true;
  const char *reason = NULL;
  assert_ok(multihop_task.example(source, NULL, split, index, out, &skip, &reason, &error));
  assert_false(skip);
  assert_ok(example_finish(out, &error));
}

static char *segment_text(const example *from, int64_t s) {
  const example_segment *segment = &from->segments[s];
  return strndup(from->text + segment->text_first, (size_t)(segment->text_end - segment->text_first));
}

// Follows the sentences from the question to the place, independently of how they were made.
static void check_question(const example *made, int64_t n_people) {
  char object[32], person[32] = "", place[64] = "", name[32], rest[64], sentence[64];
  int64_t n_context = 1 + 2 * n_people, has = 0, is = 0;
  assert_int_equal(made->n_segment, n_context + 3);
  char *text = segment_text(made, 0);
  assert_int_equal(sscanf(text, "Where is the %31[a-z]?", object), 1);
  free(text);
  for (int pass = 0; pass < 2; pass++)
    for (int64_t s = 1; s < n_context; s++) {
      text = segment_text(made, s);
      if (sscanf(text, " %31[A-Za-z] has the %63[a-z].", name, rest) == 2 && strcmp(rest, object) == 0) {
        snprintf(person, sizeof person, "%s", name);
        has = s;
      }
      if (sscanf(text, " %31[A-Za-z] is in the %63[a-z ].", name, rest) == 2 && strcmp(name, person) == 0) {
        snprintf(place, sizeof place, "%s", rest);
        is = s;
      }
      free(text);
    }
  assert_string_equal(made->answers, place);
  snprintf(sentence, sizeof sentence, " the %.50s", place);
  const int64_t said[] = {has, is};
  for (int hop = 0; hop < 2; hop++) {
    const example_segment *step = &made->segments[n_context + hop];
    const int32_t *references = made->references + step->reference_first;
    char *from = segment_text(made, said[hop]), *written = segment_text(made, n_context + hop);
    assert_string_equal(written, from);
    assert_int_equal(step->n_reference, hop + 1);
    assert_int_equal(references[0], said[hop]);
    if (hop == 1)
      assert_int_equal(references[1], n_context);
    free(from);
    free(written);
  }
  char *answer = segment_text(made, n_context + 2);
  assert_string_equal(answer, sentence);
  free(answer);
  assert_int_equal(made->segments[n_context + 2].n_reference, 1);
  assert_int_equal(made->references[made->segments[n_context + 2].reference_first], n_context + 1);
}

static void answers_follow_from_the_sentences(void **state) {
  (void)state;
  multihop_config config;
  example made = {0};
  int64_t met[MULTIHOP_MOST_PEOPLE + 1] = {0};
  void *source = open_task(&config, 3,
                           (const char *[]){"multihop.people_low=1", "multihop.people_high=16", NULL});
  assert_int_equal(multihop_task.count(source, DATA_TEST), -1);
  for (int64_t index = 0; index < 800; index++) {
    make(source, (data_split)(index % DATA_N_SPLIT), index, &made);
    int64_t n_people = (made.n_segment - 4) / 2;
    check_question(&made, n_people);
    met[n_people]++;
  }
  for (int64_t n = 1; n <= MULTIHOP_MOST_PEOPLE; n++)
    assert_in_range(met[n], 20, 100);  // 50 on average
  multihop_task.close(source);
  example_free(&made);
}

static void an_example_depends_on_seed_split_and_index_alone(void **state) {
  (void)state;
  multihop_config config;
  example first = {0}, again = {0};
  void *source = open_task(&config, 7, NULL), *same = open_task(&config, 7, NULL),
       *other = open_task(&config, 8, NULL);
  for (int64_t index = 40; index-- > 0;) {
    make(source, DATA_TEST, index, &first);
    make(same, DATA_TEST, index, &again);
    assert_string_equal(first.text, again.text);
    assert_string_equal(first.id, again.id);
    make(same, DATA_TRAIN, index, &again);
    assert_string_not_equal(first.text, again.text);
    make(other, DATA_TEST, index, &again);
    assert_string_not_equal(first.text, again.text);
  }
  multihop_task.close(source);
  multihop_task.close(same);
  multihop_task.close(other);
  example_free(&first);
  example_free(&again);
}

// What is asked: object, person and place, as the steps say them.
static uint64_t asked(const example *made) {
  const example_segment *steps = &made->segments[made->n_segment - 3];
  return XXH3_64bits(made->text + steps[0].text_first, (size_t)(steps[1].text_end - steps[0].text_first));
}

static int compare_hashes(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static void splits_ask_different_questions(void **state) {
  (void)state;
  enum { N = 6000 };
  static uint64_t questions[DATA_N_SPLIT][N];
  int64_t distinct[DATA_N_SPLIT];
  multihop_config config;
  example made = {0};
  for (int split = 0; split < DATA_N_SPLIT; split++) {
    // Another seed for every split: they agree on what belongs where.
    void *source = open_task(&config, 20 + (uint64_t)split, NULL);
    for (int64_t index = 0; index < N; index++) {
      make(source, (data_split)split, index, &made);
      questions[split][index] = asked(&made);
    }
    multihop_task.close(source);
    qsort(questions[split], N, sizeof **questions, compare_hashes);
    distinct[split] = 1;
    for (int64_t k = 1; k < N; k++)
      distinct[split] += questions[split][k] != questions[split][k - 1];
  }
  for (int a = 0; a < DATA_N_SPLIT; a++)
    for (int b = a + 1; b < DATA_N_SPLIT; b++)
      for (int64_t k = 0; k < N; k++)
        assert_null(bsearch(&questions[a][k], questions[b], N, sizeof **questions, compare_hashes));
  // 16 people, 16 objects, 64 places: 1 in 16 of 16,384 questions for validation, 2 in 16 for the test.
  assert_in_range(distinct[DATA_VALIDATION], 900, 1100);
  assert_in_range(distinct[DATA_TEST], 1750, 2150);
  assert_in_range(distinct[DATA_TRAIN], 4500, N);
  example_free(&made);
}

static void settings_are_checked(void **state) {
  (void)state;
  ss_error error = {0};
  void *source = NULL;
  multihop_config config = {.people_low = 5, .people_high = 4, .names = 16};
  assert_refused(multihop_task.open(&source, &config, 1, NULL, &(data_opening){.quiet = true}, &error),
                 SS_ERROR_USAGE, "people_low = 5");
  config.people_low = 2;
  config.names = 3;
  assert_refused(multihop_task.open(&source, &config, 1, NULL, &(data_opening){.quiet = true}, &error),
                 SS_ERROR_USAGE, "names = 3");
  config.names = 16;
  assert_refused(multihop_task.open(&source, &config, 1, "contexts.txt", &(data_opening){.quiet = true},
                                    &error),
                 SS_ERROR_USAGE, "--exclude");
  snprintf(config.rows.path, sizeof config.rows.path, "/nonexistent/rows.jsonl");
  assert_refused(multihop_task.open(&source, &config, 1, NULL, &(data_opening){.quiet = true}, &error),
                 SS_ERROR_IO, "rows.jsonl");
}

// --- rows ---

#define ROW(id, segments, answers)                                                                        \
  "{\"id\":\"" id "\",\"split\":\"test\",\"segments\":[{\"kind\":\"context\",\"text\":\"Who?\"}" segments \
  "],\"answers\":[" answers "]}\n"
#define SENTENCE ",{\"kind\":\"context\",\"text\":\" It was Ann.\"}"
#define STEP ",{\"kind\":\"step\",\"text\":\" Ann\",\"references\":[1]}"
#define ANSWER ",{\"kind\":\"answer\",\"text\":\" Ann\",\"references\":[2]}"

static void rows_need_question_sentence_step_and_answer(void **state) {
  (void)state;
  static const struct {
    const char *row, *missing;
  } broken[] = {{ROW("b",
                     ",{\"kind\":\"step\",\"text\":\" Ann\",\"references\":[0]}"
                     ",{\"kind\":\"answer\",\"text\":\" Ann\",\"references\":[1]}",
                     "\"Ann\""),
                 "a question and a sentence"},
                {ROW("b", SENTENCE ",{\"kind\":\"answer\",\"text\":\" Ann\",\"references\":[1]}", "\"Ann\""),
                 "a step"},
                {ROW("b", SENTENCE STEP, "\"Ann\""), "an answer segment"},
                {ROW("b", SENTENCE STEP ANSWER, ""), "an entry in \"answers\""}};
  for (size_t k = 0; k < sizeof broken / sizeof *broken; k++) {
    ss_error error = {0};
    char path[TEST_PATH], text[2048], setting[TEST_PATH + 16];
    const char *reason = NULL;
    void *scratch = NULL;
    multihop_config config;
    example made = {0};
    bool skip = true;
    snprintf(text, sizeof text, "%s%s", ROW("a", SENTENCE STEP ANSWER, "\"Ann\""), broken[k].row);
    snprintf(setting, sizeof setting, "multihop.path=%s", test_write(path, "rows.jsonl", text));
    for (int skips = 0; skips < 2; skips++) {
      void *source = open_task(&config, 1,
                               (const char *[]){setting, skips ? "multihop.on_error=skip" : NULL, NULL});
      assert_int_equal(multihop_task.count(source, DATA_TEST), 2);
      assert_ok(multihop_task.scratch_create(source, &scratch, &error));
      assert_ok(multihop_task.example(source, scratch, DATA_TEST, 0, &made, &skip, &reason, &error));
      assert_false(skip);
      assert_string_equal(made.answers, "Ann");
      if (skips) {
        assert_ok(multihop_task.example(source, scratch, DATA_TEST, 1, &made, &skip, &reason, &error));
        assert_true(skip);
      } else {
        assert_refused(multihop_task.example(source, scratch, DATA_TEST, 1, &made, &skip, &reason, &error),
                       SS_ERROR_INPUT, broken[k].missing);
      }
      multihop_task.scratch_free(scratch);
      multihop_task.close(source);
    }
    example_free(&made);
  }
}

// --- the scorer ---

// References end in -1.
static ss_status add_segment(example *out, int32_t kind, const char *text, const int32_t *references,
                             ss_error *error) {
  SS_TRY(example_segment_add(out, kind, text, (int64_t)strlen(text), error));
  for (; *references >= 0; references++)
    SS_TRY(example_reference_add(out, *references, error));
  return SS_OK;
}

// Question 0, sentences 1 to 3, steps 4 and 5 with references {1} and {3, 4}, answer 6 with {5}.
static void make_gold(example *gold, const char *answer, const char *other) {
  ss_error error = {0};
  example_reset(gold, "q");
  static const int32_t references[7][3] = {{-1}, {-1}, {-1}, {-1}, {1, -1}, {3, 4, -1}, {5, -1}};
  static const char *const texts[] = {"Where?", " A.", " B.", " C.", " First, the hop.", " Second.", " x"};
  for (int32_t s = 0; s < 7; s++)
    assert_ok(add_segment(gold,
                          s < 4   ? SPAN_CONTEXT
                          : s < 6 ? SPAN_STEP
                                  : SPAN_ANSWER,
                          texts[s], references[s], &error));
  assert_ok(example_answer_add(gold, answer, &error));
  if (other != NULL)
    assert_ok(example_answer_add(gold, other, &error));
}

static eval_score score(const example *gold, const eval_output *output) {
  ss_error error = {0};
  eval_score out = {.correct = false};
  for (int m = 0; m < EVAL_MAX_METRIC; m++)
    out.metrics[m] = NAN;
  assert_ok(eval_task_multihop.score(gold, output, &out, &error));
  return out;
}

static double metric(const eval_score *score, const char *name) {
  for (int64_t m = 0; m < eval_task_multihop.n_metric; m++)
    if (strcmp(eval_task_multihop.metrics[m].name, name) == 0)
      return score->metrics[m];
  fail_msg("no metric %s", name);
  return NAN;
}

static void answers_are_normalised(void **state) {
  (void)state;
  static const struct {
    const char *gold, *written;
    bool exact;
    double f1;
  } known[] = {{"the old mill", "Old Mill.", true, 1},
               {"old mill", "An old,  mill", true, 1},
               {"old mill", "the old red barn", false, 2 * 1.0 / (2 + 3)},
               {"old mill", "mill old", false, 1},
               {"old old mill", "old mill mill", false, 2 * 2.0 / (3 + 3)},
               {"old mill", "barn", false, 0},
               {"old mill", "", false, 0},
               {"theory", "the theory", true, 1},
               {"area a", "an area", true, 1},
               {"a", "the", true, 0},  // nothing is left of either: equal, and no word in common
               {"U.S.A.", "usa", true, 1},
               {"rock-n-roll", "rock n roll", false, 0},
               {"\xc3\x89"
                "douard",
                "\xc3\xa9"
                "douard",
                true, 1},                                     // É, é
               {"a\xe2\x80\x93z", "\xe2\x80\x93z", true, 1},  // an article before a dash
               {"x\xe2\x80\x93"
                "the",
                "x\xe2\x80\x93", true, 1},  // and behind one
               {"x\xe2\x80\x93the\xe2\x80\x93y", "x\xe2\x80\x93 \xe2\x80\x93y", true, 1},
               {"one\xc2\xa0two", "one two", true, 1},           // no-break space
               {"\xff\xfe mill", "the \xff\xfe Mill", true, 1},  // no UTF-8
               {"yes", "yes it is", false, 0},                   // a verdict is right or wrong
               {"yes it is", "Yes", false, 0},
               {"no", "No!", true, 1},
               {"noanswer", "noanswer given", false, 0}};
  example gold = {0};
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    make_gold(&gold, known[k].gold, NULL);
    eval_score got = score(&gold, &(eval_output){.answer = known[k].written});
    if (got.correct != known[k].exact || !(fabs(got.score - known[k].f1) < 1e-12))
      fail_msg("\"%s\" against \"%s\": %d, F1 %g", known[k].written, known[k].gold, got.correct, got.score);
    assert_true(metric(&got, "f1") == got.score);
  }
  // The best of several counts; no answer has nothing.
  make_gold(&gold, "old mill", "red barn");
  assert_true(score(&gold, &(eval_output){.answer = "red barn"}).correct);
  assert_true(score(&gold, &(eval_output){.answer = "old mill"}).correct);
  assert_near(score(&gold, &(eval_output){.answer = "red mill barn"}).score, 0.8, 1e-12);
  assert_true(score(&gold, &(eval_output){.answer = NULL}).score == 0);
  make_gold(&gold, "the", NULL);
  assert_false(score(&gold, &(eval_output){.answer = NULL}).correct);
  example_free(&gold);
}

static void facts_are_the_referenced_sentences(void **state) {
  (void)state;
  // Gold: {1, 3}. References to the question, to steps and beyond the example are no facts.
  static const struct {
    int32_t references[6];
    int64_t ends[3];
    bool exact;
    double f1;
  } known[] = {{{1, 3, 4, 5}, {1, 3, 4}, true, 1},
               {{0, 3, 1, 5}, {2, 3, 4}, true, 1},  // whichever header names them
               {{1, 1, 3, 3}, {1, 2, 4}, true, 1},  // a set
               {{1, 2, 4, 5}, {1, 3, 4}, false, 2 * 1.0 / (2 + 2)},
               {{1, 2, 3, 5}, {1, 3, 4}, false, 2 * 2.0 / (3 + 2)},
               {{1, 9, -1, 5}, {1, 3, 4}, false, 2 * 1.0 / (1 + 2)},
               {{2, 4}, {1, 2, 2}, false, 0},
               {{0}, {0, 0, 0}, false, 0}};
  example gold = {0};
  make_gold(&gold, "x", NULL);
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    const int64_t *ends = known[k].ends;
    const eval_header headers[] = {{0, ends[0]}, {ends[0], ends[1]}, {ends[1], ends[2]}};
    eval_output output = {.answer = "x",
                          .has_headers = true,
                          .headers = headers,
                          .n_header = 3,
                          .references = known[k].references};
    eval_score got = score(&gold, &output);
    assert_true(got.correct);
    assert_near(metric(&got, "facts_f1"), known[k].f1, 1e-12);
    assert_near(metric(&got, "facts_exact"), known[k].exact, 0);
  }
  // Headers that were promised and not written name nothing; without headers there is nothing to say.
  eval_score got = score(&gold, &(eval_output){.answer = "x", .has_headers = true});
  assert_true(metric(&got, "facts_f1") == 0);
  got = score(&gold, &(eval_output){.answer = "x"});
  assert_true(isnan(metric(&got, "facts_f1")) && isnan(metric(&got, "facts_exact")));
  example_free(&gold);
}

static void steps_are_compared_in_order(void **state) {
  (void)state;
  ss_error error = {0};
  example gold = {0};
  eval_score out = {.correct = false};
  make_gold(&gold, "x", NULL);
  const char *const both[] = {"first hop", "SECOND", "third"}, *const swapped[] = {" Second.",
                                                                                   " First, the hop."};
  eval_score got = score(&gold, &(eval_output){.steps = both, .n_step = 3});
  assert_int_equal(got.steps_gold, 2);
  assert_int_equal(got.steps_correct, 2);
  assert_int_equal(score(&gold, &(eval_output){.steps = both, .n_step = 1}).steps_correct, 1);
  assert_int_equal(score(&gold, &(eval_output){.steps = swapped, .n_step = 2}).steps_correct, 0);
  assert_int_equal(eval_task_multihop.group(&gold), 2);
  example_reset(&gold, "none");
  assert_refused(eval_task_multihop.score(&gold, &(eval_output){.answer = "x"}, &out, &error), SS_ERROR_INPUT,
                 "without an answer");
  assert_ptr_equal(eval_task_find("multihop", &error), &eval_task_multihop);
  example_free(&gold);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(answers_follow_from_the_sentences),
                                     cmocka_unit_test(an_example_depends_on_seed_split_and_index_alone),
                                     cmocka_unit_test(splits_ask_different_questions),
                                     cmocka_unit_test(settings_are_checked),
                                     cmocka_unit_test(rows_need_question_sentence_step_and_answer),
                                     cmocka_unit_test(answers_are_normalised),
                                     cmocka_unit_test(facts_are_the_referenced_sentences),
                                     cmocka_unit_test(steps_are_compared_in_order)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
