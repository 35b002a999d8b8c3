// Arithmetic examples are exact, their references gold, their splits disjoint.
#include "common/config.h"
#include "common/random.h"
#include "data/tasks/arithmetic.h"
#include "tests/arithmetic_reference.h"
#include "tests/helpers.h"
#include "tests/span_fixture.h"

// --- a source of examples ---

typedef struct {
  arithmetic_config config;
  void *state, *scratch;
} source;

static void configure(arithmetic_config *config, const char *const *settings) {
  ss_error error = {0};
  ss_key_group groups[] = {{arithmetic_keys, config}, {NULL, NULL}};
  memset(config, 0, sizeof *config);
  assert_ok(ss_config_defaults(groups, &error));
  for (; settings != NULL && *settings != NULL; settings++)
    assert_ok(ss_config_set(groups, *settings, "test", &error));
}

static void source_open(source *out, uint64_t seed, const char *exclude, const char *const *settings) {
  ss_error error = {0};
  configure(&out->config, settings);
  assert_ok(
      arithmetic_task.open(&out->state, &out->config, seed, exclude, &(data_opening){.quiet = true}, &error));
  assert_ok(arithmetic_task.scratch_create(out->state, &out->scratch, &error));
}

static void source_close(source *out) {
  arithmetic_task.scratch_free(out->scratch);
  arithmetic_task.close(out->state);
}

static bool source_example(source *from, data_split split, int64_t index, example *out) {
  ss_error error = {0};
  bool skip = false;
  const char *reason = NULL;
  assert_ok(arithmetic_task.example(from->state, from->scratch, split, index, out, &skip, &reason, &error));
  assert_true(!skip || reason != NULL);
  return !skip;
}

// Text of segment s, in a ring of buffers.
static const char *text_of(const example *example, int64_t s) {
  static char ring[8][4096];
  static int next;
  char *out = ring[next++ % 8];
  const example_segment *segment = &example->segments[s];
  snprintf(out, sizeof ring[0], "%.*s", (int)(segment->text_end - segment->text_first),
           example->text + segment->text_first);
  return out;
}

static void expression_text(const example *example, char *out, size_t size) {
  out[0] = '\0';
  for (int64_t s = 0; s < example->n_segment && example->segments[s].kind == SPAN_CONTEXT; s++)
    strncat(out, text_of(example, s), size - strlen(out) - 1);
}

// --- what must hold of every example ---

static bool in_number(char character) {
  return (character >= '0' && character <= '9') || character == '.' || character == '%';
}

// Pieces end at the first token boundary after piece_tokens that splits no number; a sign is the number's after an
// operator or an opening bracket.
static void check_pieces(const example *example, int64_t piece_tokens) {
  char whole[8192];
  expression_text(example, whole, sizeof whole);
  size_t at = 0, n = strlen(whole);
  for (int64_t s = 0; s < example->n_segment && example->segments[s].kind == SPAN_CONTEXT; s++) {
    size_t end = n - at <= (size_t)piece_tokens ? n : at + (size_t)piece_tokens;
    for (; end < n; end++) {
      bool sign = whole[end - 1] == '-' && in_number(whole[end]) &&
                  (end < 2 || strchr("+-*/([", whole[end - 2]) != NULL);
      if (!sign && !(in_number(whole[end - 1]) && in_number(whole[end])))
        break;
    }
    assert_int_equal(example->segments[s].text_end, (int64_t)end);
    at = end;
  }
  assert_int_equal(at, n);
}

static void split_step(const char *body, char left[2048], char *operation, char right[2048],
                       char result[2048]) {
  const char *equals = strchr(body, '=');
  assert_non_null(equals);
  const char *place = body + 1;  // a leading minus is the operand's
  while (strchr("+-*/", *place) == NULL)
    place++;
  assert_true(place < equals);
  snprintf(left, 2048, "%.*s", (int)(place - body), body);
  *operation = *place;
  snprintf(right, 2048, "%.*s", (int)(equals - place - 1), place + 1);
  snprintf(result, 2048, "%s", equals + 1);
}

// Is `number` a whole literal of `text`?
static bool holds_literal(const char *text, const char *number) {
  size_t n = strlen(number);
  for (const char *at = strstr(text, number); at != NULL; at = strstr(at + 1, number))
    if ((at == text || !in_number(at[-1]) || number[0] == '-') && !in_number(at[n]))
      return true;
  return false;
}

// The result that a step wrote.
static const char *result_of(const example *example, int64_t s) {
  return strchr(text_of(example, s), '=') + 1;
}

// An operand is either written by a referenced step, or a literal of a referenced piece. Counts the steps used.
static int check_operand(const example *example, const example_segment *step, const char *operand,
                         int32_t *used) {
  for (int32_t k = 0; k < step->n_reference; k++) {
    int32_t reference = example->references[step->reference_first + k];
    if (example->segments[reference].kind == SPAN_STEP && reference != *used &&
        strcmp(result_of(example, reference), operand) == 0) {
      *used = reference;
      return 1;
    }
  }
  for (int32_t k = 0; k < step->n_reference; k++) {
    int32_t reference = example->references[step->reference_first + k];
    if (example->segments[reference].kind == SPAN_CONTEXT &&
        holds_literal(text_of(example, reference), operand))
      return 0;
  }
  fail_msg("%s: operand %s of %s is not in the referenced text", example->id, operand,
           text_of(example, step - example->segments));
  return 0;
}

static void check_step(const example *example, int64_t s, int32_t *uses, const arithmetic_config *config) {
  char left[2048], right[2048], result[2048], operation = 0;
  const example_segment *step = &example->segments[s];
  split_step(text_of(example, s), left, &operation, right, result);
  // The arithmetic: recomputed from the body's own text.
  char expression[4200];
  mpq_t expected, written;
  mpq_inits(expected, written, NULL);
  snprintf(expression, sizeof expression, "(%s)%c(%s)", left, operation, right);
  assert_true(reference_evaluate(expression, (int)config->division_decimals, expected));
  assert_true(reference_evaluate(result, 0, written));
  if (mpq_cmp(expected, written) != 0)
    fail_msg("%s: %s", example->id, text_of(example, s));
  if (config->value_limit > 0)
    assert_true(fabs(mpq_get_d(written)) < (double)config->value_limit);
  mpq_clears(expected, written, NULL);
  // The references: all it needs, and nothing else.
  int32_t used = -1, computed = 0, steps = 0;
  bool has_operator = false;
  computed += check_operand(example, step, right, &used);
  computed += check_operand(example, step, left, &used);
  for (int32_t k = 0; k < step->n_reference; k++) {
    int32_t reference = example->references[step->reference_first + k];
    if (example->segments[reference].kind == SPAN_STEP) {
      steps++;
      uses[reference]++;
      continue;
    }
    const char *piece = text_of(example, reference);
    bool operator_here = strchr(piece, operation) != NULL;
    has_operator = has_operator || operator_here;
    assert_true(operator_here || holds_literal(piece, left) || holds_literal(piece, right));
  }
  assert_true(has_operator);
  assert_true(steps >= computed && steps <= 2);
}

// The derivation once more, from the places of operators and literals in the text alone.
typedef struct {
  const char *text;
  int32_t at, n_step;
  int32_t place[128], left[128], right[128];  // operands: a literal's place, or -1 - step
} derivation;

static int32_t derive_sum(derivation *d);

static int32_t derive_factor(derivation *d) {
  if (strchr("([", d->text[d->at]) != NULL) {
    d->at++;
    int32_t operand = derive_sum(d);
    d->at++;
    return operand;
  }
  int32_t place = d->at++;
  while (in_number(d->text[d->at]))
    d->at++;
  return place;
}

static int32_t derive_step(derivation *d, int32_t left, int32_t (*operand)(derivation *)) {
  int32_t place = d->at++, right = operand(d);
  assert_in_range(d->n_step, 0, 127);
  d->place[d->n_step] = place;
  d->left[d->n_step] = left;
  d->right[d->n_step] = right;
  return -1 - d->n_step++;
}

static int32_t derive_product(derivation *d) {
  int32_t left = derive_factor(d);
  while (d->text[d->at] == '*' || d->text[d->at] == '/')
    left = derive_step(d, left, derive_factor);
  return left;
}

static int32_t derive_sum(derivation *d) {
  int32_t left = derive_product(d);
  while (d->text[d->at] == '+' || d->text[d->at] == '-')
    left = derive_step(d, left, derive_product);
  return left;
}

// The segment that holds a place of the text, or computes a step.
static int32_t segment_at(const example *example, int32_t n_piece, int32_t place) {
  if (place < 0)
    return n_piece + (-1 - place);
  int32_t s = 0;
  while (example->segments[s].text_end <= place)
    s++;
  return s;
}

static void check_gold_references(const example *example) {
  char whole[8192];
  derivation d = {whole, 0, 0, {0}, {0}, {0}};
  expression_text(example, whole, sizeof whole);
  derive_sum(&d);
  assert_int_equal(d.at, strlen(whole));
  int32_t n_piece = (int32_t)example->n_segment - 1 - d.n_step;
  for (int32_t k = 0; k < d.n_step; k++) {
    const example_segment *step = &example->segments[n_piece + k];
    bool wanted[256] = {false};
    int32_t n_wanted = 0;
    wanted[segment_at(example, n_piece, d.place[k])] = true;
    wanted[segment_at(example, n_piece, d.left[k])] = true;
    wanted[segment_at(example, n_piece, d.right[k])] = true;
    for (int32_t s = 0; s < 256; s++)
      n_wanted += wanted[s];
    assert_int_equal(step->kind, SPAN_STEP);
    assert_int_equal(step->n_reference, n_wanted);
    for (int32_t r = 0; r < step->n_reference; r++)
      assert_true(wanted[example->references[step->reference_first + r]]);
  }
}

static void check_example(const example *example, const arithmetic_config *config) {
  ss_error error = {0};
  int32_t uses[256] = {0};
  assert_ok(example_finish(example, &error));
  check_pieces(example, config->piece_tokens);
  check_gold_references(example);
  int64_t last = example->n_segment - 1;
  for (int64_t s = 0; s < last; s++)
    if (example->segments[s].kind == SPAN_STEP)
      check_step(example, s, uses, config);
  // A tree: every step but the last is used once; the answer is the last step's result.
  for (int64_t s = 0; s < last; s++)
    if (example->segments[s].kind == SPAN_STEP)
      assert_int_equal(uses[s], s < last - 1);
  const example_segment *answer = &example->segments[last];
  assert_int_equal(answer->kind, SPAN_ANSWER);
  assert_int_equal(answer->n_reference, 1);
  assert_int_equal(example->references[answer->reference_first], last - 1);
  if (example->segments[last - 1].kind == SPAN_STEP)
    assert_string_equal(text_of(example, last), result_of(example, last - 1));
  assert_string_equal(text_of(example, last), example->answers);
  // The whole expression, by an evaluator that knows no steps.
  char whole[8192];
  mpq_t expected, written;
  mpq_inits(expected, written, NULL);
  expression_text(example, whole, sizeof whole);
  assert_true(reference_evaluate(whole, (int)config->division_decimals, expected));
  assert_true(reference_evaluate(example->answers, 0, written));
  if (mpq_cmp(expected, written) != 0)
    fail_msg("%s: %s is not %s", example->id, whole, example->answers);
  mpq_clears(expected, written, NULL);
}

static void check_equal(const example *a, const example *b) {
  assert_int_equal(a->n_segment, b->n_segment);
  assert_int_equal(a->n_reference, b->n_reference);
  assert_string_equal(a->text, b->text);
  assert_string_equal(a->answers, b->answers);
  assert_string_equal(a->meta, b->meta);
  for (int64_t k = 0; k < a->n_segment; k++) {
    const example_segment *x = &a->segments[k], *y = &b->segments[k];
    assert_true(x->kind == y->kind && x->text_first == y->text_first && x->text_end == y->text_end &&
                x->reference_first == y->reference_first && x->n_reference == y->n_reference);
  }
  assert_memory_equal(a->references, b->references, (size_t)a->n_reference * sizeof *a->references);
}

// Generated examples hold what they must, and parsing their text gives the same example.
static void check_source(const char *const *settings, int32_t n) {
  ss_error error = {0};
  source from;
  example made = {0}, parsed = {0};
  arithmetic_expression *expression = NULL;
  source_open(&from, 5, NULL, settings);
  assert_ok(arithmetic_expression_create(&expression, &error));
  for (int32_t k = 0; k < span_fixture_cases(n); k++) {
    char whole[8192];
    if (!source_example(&from, DATA_TRAIN, k, &made))
      continue;
    check_example(&made, &from.config);
    expression_text(&made, whole, sizeof whole);
    assert_ok(arithmetic_parse(expression, whole, (int64_t)strlen(whole), "test", &error));
    assert_ok(arithmetic_evaluate(expression, (int32_t)from.config.division_decimals, "test", &error));
    assert_ok(arithmetic_build(expression, (int32_t)from.config.piece_tokens, made.id, &parsed, &error));
    check_equal(&made, &parsed);
  }
  arithmetic_expression_free(expression);
  example_free(&made);
  example_free(&parsed);
  source_close(&from);
}

static void quickstart_examples_are_right(void **state) {
  (void)state;
  check_source(NULL, 3000);
}

static void every_style_is_right(void **state) {
  (void)state;
  const char *const minimal[] = {"arithmetic.brackets=minimal",
                                 "arithmetic.outer_brackets=no",
                                 "arithmetic.operators=+-*/",
                                 "arithmetic.negatives=0.3",
                                 "arithmetic.operators_high=12",
                                 "arithmetic.value_limit=0",
                                 NULL};
  const char *const mixed[] = {"arithmetic.brackets=mixed",   "arithmetic.operators=+-*/",
                               "arithmetic.leaf_decimals=3",  "arithmetic.leaf_high=99",
                               "arithmetic.negatives=0.2",    "arithmetic.piece_tokens=5",
                               "arithmetic.value_limit=1000", NULL};
  const char *const square[] = {"arithmetic.brackets=square",
                                "arithmetic.leaf_high=9999",
                                "arithmetic.value_limit=0",
                                "arithmetic.operators=*/-",
                                "arithmetic.division_decimals=3",
                                "arithmetic.outer_brackets=no",
                                NULL};
  const char *const quotients[] = {"arithmetic.operators=/", "arithmetic.leaf_high=99",
                                   "arithmetic.value_limit=0", "arithmetic.division_decimals=0", NULL};
  check_source(minimal, 1000);
  check_source(mixed, 1000);
  check_source(square, 600);
  check_source(quotients, 600);
}

static void sixty_four_operators_are_right(void **state) {
  (void)state;
  const char *const wide[] = {"arithmetic.operators_low=64", "arithmetic.operators_high=64",
                              "arithmetic.leaf_high=99", "arithmetic.value_limit=10000", NULL};
  const char *const huge[] = {"arithmetic.operators_low=64", "arithmetic.operators_high=64",
                              "arithmetic.operators=*",      "arithmetic.leaf_low=2",
                              "arithmetic.value_limit=0",    NULL};
  check_source(wide, 100);
  check_source(huge, 40);
}

// --- distributions ---

static void operator_counts_are_uniform(void **state) {
  (void)state;
  enum { N = 16000 };
  source from;
  example made = {0};
  int32_t count[9] = {0}, negative = 0, operators[128] = {0};
  const char *const settings[] = {"arithmetic.negatives=0.25", "arithmetic.value_limit=0",
                                  "arithmetic.leaf_low=1", NULL};
  source_open(&from, 9, NULL, settings);
  int64_t literals = 0, steps = 0;
  for (int32_t k = 0; k < N; k++) {
    assert_true(source_example(&from, DATA_TRAIN, k, &made));
    int32_t n_step = 0;
    for (int64_t s = 0; s < made.n_segment; s++)
      n_step += made.segments[s].kind == SPAN_STEP;
    assert_in_range(n_step, 1, 8);
    count[n_step]++;
    steps += n_step;
    literals += n_step + 1;
    char whole[512];
    expression_text(&made, whole, sizeof whole);
    for (const char *at = whole; *at != '\0'; at++) {
      bool sign = *at == '-' && (at == whole || strchr("+-*/(", at[-1]) != NULL);
      negative += sign;
      operators[(int)*at] += !sign && strchr("+-*/", *at) != NULL;
    }
  }
  for (int32_t n = 1; n <= 8; n++)
    assert_near(count[n], N / 8.0, 6 * sqrt(N / 8.0));
  assert_near(negative, 0.25 * (double)literals, 6 * sqrt(0.1875 * (double)literals));
  assert_int_equal(operators['/'], 0);
  for (const char *at = "+-*"; *at != '\0'; at++)
    assert_near(operators[(int)*at], (double)steps / 3, 6 * sqrt((double)steps * 2 / 9));
  example_free(&made);
  source_close(&from);
}

// --- splits ---

static void expression_of(source *from, data_split split, int64_t index, example *scratch, char *out,
                          size_t size) {
  assert_true(source_example(from, split, index, scratch));
  expression_text(scratch, out, size);
}

static int compare_strings(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

// An expression belongs to one split, whatever the seed and the brackets.
static void splits_are_disjoint(void **state) {
  (void)state;
  enum { N = 2000, LENGTH = 64 };
  const char *const small[] = {"arithmetic.operators_high=2", "arithmetic.leaf_high=4",
                               NULL};  // repeats are common
  char(*train)[LENGTH] = malloc(N * LENGTH), **sorted = malloc(N * sizeof *sorted);
  assert_true(train != NULL && sorted != NULL);
  example scratch = {0};
  source a, b;
  source_open(&a, 1, NULL, small);
  source_open(&b, 2, NULL, small);
  for (int32_t k = 0; k < N; k++) {
    expression_of(&a, DATA_TRAIN, k, &scratch, train[k], LENGTH);
    sorted[k] = train[k];
  }
  qsort(sorted, N, sizeof *sorted, compare_strings);
  int32_t n_found = 0;
  for (int32_t k = 0; k < 60; k++)
    for (int split = DATA_VALIDATION; split <= DATA_TEST; split++) {
      char whole[LENGTH], *key = whole;
      if (!source_example(&b, (data_split)split, k, &scratch))
        continue;
      n_found++;
      expression_text(&scratch, whole, sizeof whole);
      if (bsearch(&key, sorted, N, sizeof key, compare_strings) != NULL)
        fail_msg("%s is in train of seed 1 and in %s of seed 2", whole, data_split_name((data_split)split));
    }
  assert_true(n_found > 30);
  // The same seed gives the same example; another one does not.
  char once[512], again[512], other[512];
  expression_of(&a, DATA_TRAIN, 7, &scratch, once, sizeof once);
  expression_of(&a, DATA_TRAIN, 7, &scratch, again, sizeof again);
  assert_string_equal(once, again);
  int32_t different = 0;
  for (int32_t k = 0; k < 20; k++) {
    expression_of(&a, DATA_TRAIN, k, &scratch, once, sizeof once);
    expression_of(&b, DATA_TRAIN, k, &scratch, other, sizeof other);
    different += strcmp(once, other) != 0;
  }
  assert_true(different > 15);
  source_close(&a);
  source_close(&b);
  example_free(&scratch);
  free(train);
  free(sorted);
}

// A file with a test set's expressions, written otherwise, keeps them out.
static void excluded_expressions_stay_out(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *list = NULL;
  const char *const small[] = {"arithmetic.operators_high=1", "arithmetic.leaf_high=5",
                               "arithmetic.test_fraction=0", "arithmetic.validation_fraction=0", NULL};
  size_t size = 0;
  FILE *file = open_memstream(&list, &size);
  assert_non_null(file);
  // Of 6 x 6 x 3 expressions, those with a 3 on the left: other brackets, blanks, zeros and a trailing `=`.
  for (int right = 0; right <= 5; right++)
    fprintf(file, "3+%d=\n [ 3 - 0%d ] \n\n(3*(%d.0))=\r\n", right, right, right);
  assert_int_equal(fclose(file), 0);
  test_write(path, "exclude.txt", list);
  source from;
  example scratch = {0};
  int32_t threes = 0, excluded = 0;
  for (int with = 0; with < 2; with++) {
    source_open(&from, 3, with ? path : NULL, small);
    for (int32_t k = 0; k < 2000; k++) {
      char whole[64];
      expression_of(&from, DATA_TRAIN, k, &scratch, whole, sizeof whole);
      *(with ? &excluded : &threes) += strncmp(whole, "(3", 2) == 0;
    }
    source_close(&from);
  }
  assert_true(threes > 200);
  assert_int_equal(excluded, 0);
  test_write(path, "exclude.txt", "1+2\n1+*2\n");
  arithmetic_config config;
  void *opened = NULL;
  configure(&config, small);
  assert_refused(arithmetic_task.open(&opened, &config, 3, path, &(data_opening){.quiet = true}, &error),
                 SS_ERROR_INPUT, "line 2: '*' at column 3");
  free(list);
  example_free(&scratch);
}

// --- configuration ---

static void refuse(const char *setting, const char *other, const char *part) {
  ss_error error = {0};
  arithmetic_config config;
  void *opened = NULL;
  const char *const settings[] = {setting, other, NULL};
  configure(&config, settings);
  assert_refused(arithmetic_task.open(&opened, &config, 1, NULL, &(data_opening){.quiet = true}, &error),
                 SS_ERROR_USAGE, part);
}

static void impossible_configurations_are_refused(void **state) {
  (void)state;
  refuse("arithmetic.operators_low=9", NULL, "operators_low = 9 exceeds");
  refuse("arithmetic.leaf_low=10", NULL, "leaf_low = 10 exceeds");
  refuse("arithmetic.leaf_high=100", NULL, "expected below arithmetic.value_limit = 100");
  refuse("arithmetic.operators=", NULL, "is empty");
  refuse("arithmetic.operators=+^", NULL, "expected some of + - * /");
  refuse("arithmetic.operators=++", NULL, "each once");
  // A limit that hardly any tree keeps: the index is skipped with a reason, not searched for ever.
  const char *const hard[] = {"arithmetic.operators=*", "arithmetic.leaf_low=8", "arithmetic.operators_low=8",
                              NULL};
  source from;
  example scratch = {0};
  source_open(&from, 1, NULL, hard);
  assert_false(source_example(&from, DATA_TRAIN, 0, &scratch));
  source_close(&from);
  example_free(&scratch);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(quickstart_examples_are_right),
      cmocka_unit_test(every_style_is_right),
      cmocka_unit_test(sixty_four_operators_are_right),
      cmocka_unit_test(operator_counts_are_uniform),
      cmocka_unit_test(splits_are_disjoint),
      cmocka_unit_test(excluded_expressions_stay_out),
      cmocka_unit_test(impossible_configurations_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
