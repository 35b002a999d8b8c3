// Plain expressions: values, steps, errors; MathGLM's test file.
#include "data/tasks/arithmetic.h"
#include "tests/arithmetic_reference.h"
#include "tests/helpers.h"

typedef struct {
  arithmetic_expression *expression;
  example example;
} parsed;

static ss_status work_out(parsed *out, const char *text, int32_t decimals, ss_error *error) {
  SS_TRY(arithmetic_parse(out->expression, text, (int64_t)strlen(text), "test", error));
  SS_TRY(arithmetic_evaluate(out->expression, decimals, "test", error));
  SS_TRY(arithmetic_build(out->expression, 12, "test", &out->example, error));
  return example_finish(&out->example, error);
}

static void check_value(parsed *out, const char *text, int32_t decimals, const char *expected) {
  ss_error error = {0};
  assert_ok(work_out(out, text, decimals, &error));
  if (strcmp(out->example.answers, expected) != 0)
    fail_msg("%s = %s, expected %s", text, out->example.answers, expected);
  const char *result = NULL;
  int64_t n = 0;
  assert_ok(arithmetic_result(out->expression, &result, &n, &error));
  assert_string_equal(result, expected);
}

static void parsed_open(parsed *out) {
  ss_error error = {0};
  memset(out, 0, sizeof *out);
  assert_ok(arithmetic_expression_create(&out->expression, &error));
}

static void parsed_close(parsed *out) {
  arithmetic_expression_free(out->expression);
  example_free(&out->example);
}

static void values_are_exact(void **state) {
  (void)state;
  parsed out;
  parsed_open(&out);
  check_value(&out, "1+2*3", 10, "7");
  check_value(&out, "(1+2)*3=", 10, "9");
  check_value(&out, "10-4-3", 10, "3");
  check_value(&out, "100/10/5", 10, "2");
  check_value(&out, " 2 * [ 3 + ( 4 - 1 ) ] = \r\n", 10, "12");
  check_value(&out, "1/3", 10, "0.3333333333");
  check_value(&out, "2/3", 10, "0.6666666667");
  check_value(&out, "-2/3", 10, "-0.6666666667");
  check_value(&out, "1/8", 2, "0.13");  // half, away from zero
  check_value(&out, "-1/8", 2, "-0.13");
  check_value(&out, "3/8", 2, "0.38");
  check_value(&out, "1/2", 0, "1");
  check_value(&out, "-1/2", 0, "-1");
  check_value(&out, "1/3", 0, "0");
  check_value(&out, "-1/3", 0, "0");  // no negative zero
  check_value(&out, "1/3*3", 10, "0.9999999999");
  check_value(&out, "50%", 10, "0.5");
  check_value(&out, "-50%*4", 10, "-2");
  check_value(&out, "1.50+.5", 10, "2");
  check_value(&out, "0.1+0.2", 10, "0.3");
  check_value(&out, "0.1*0.1", 1, "0.01");  // only quotients are rounded
  check_value(&out, "--3", 10, "3");
  check_value(&out, "-(2+3)*2", 10, "-10");
  check_value(&out, "2--(3)", 10, "5");
  check_value(&out, "007", 10, "7");
  check_value(&out, "9223372036854775807+1", 10, "9223372036854775808");
  check_value(&out, "-9223372036854775807-2", 10, "-9223372036854775809");
  check_value(&out, "9223372036854775808-1", 10, "9223372036854775807");
  check_value(&out, "(0-9223372036854775807-1)/-1", 10, "9223372036854775808");
  check_value(&out, "4294967296*4294967296", 10, "18446744073709551616");
  check_value(&out, "123456789012345678901234567*1", 10, "123456789012345678901234567");
  check_value(&out, "99999999999999999999*99999999999999999999", 10,
              "9999999999999999999800000000000000000001");
  check_value(&out, "0.00000000001", 10, "0.00000000001");
  check_value(&out, "100/8%", 10, "1250");
  parsed_close(&out);
}

static void check_steps(parsed *out, const char *text, const char *expected) {
  ss_error error = {0};
  char all[1024] = "";
  assert_ok(work_out(out, text, 10, &error));
  for (int64_t s = 0; s < out->example.n_segment; s++) {
    const example_segment *segment = &out->example.segments[s];
    size_t n = strlen(all);
    snprintf(all + n, sizeof all - n, "%s%.*s <-", s > 0 ? " | " : "",
             (int)(segment->text_end - segment->text_first), out->example.text + segment->text_first);
    for (int32_t k = 0; k < segment->n_reference; k++) {
      n = strlen(all);
      snprintf(all + n, sizeof all - n, " %d", out->example.references[segment->reference_first + k]);
    }
  }
  assert_string_equal(all, expected);
}

static void steps_and_references_are_as_documented(void **state) {
  (void)state;
  parsed out;
  parsed_open(&out);
  check_steps(&out, "((12+7)*(3-(8/2)))=",
              "((12+7)*(3-( <- | 8/2))) <- | 12+7=19 <- 0 | 8/2=4 <- 1 | 3-4=-1 <- 0 3 | 19*-1=-19 <- 0 2 4 "
              "| -19 <- 5");
  check_steps(&out, "-(3/4)", "-(3/4) <- | 3/4=0.75 <- 0 | 0-0.75=-0.75 <- 0 1 | -0.75 <- 2");
  check_steps(&out, "5", "5 <- | 5 <- 0");
  // A number, its sign and its percent sign are never split.
  check_steps(&out, "1+2+3+4+5*-1234%",
              "1+2+3+4+5*-1234% <- | 1+2=3 <- 0 | 3+3=6 <- 0 1 | 6+4=10 <- 0 2 | "
              "5*-1234%=-61.7 <- 0 | 10+-61.7=-51.7 <- 0 3 4 | -51.7 <- 5");
  check_steps(&out, "(1+2)*(3)-45+6",
              "(1+2)*(3)-45 <- | +6 <- | 1+2=3 <- 0 | 3*3=9 <- 0 2 | 9-45=-36 <- 0 3 | "
              "-36+6=-30 <- 1 4 | -30 <- 5");
  parsed_close(&out);
}

static void refuse(parsed *out, const char *text, const char *part) {
  ss_error error = {0};
  assert_refused(work_out(out, text, 10, &error), SS_ERROR_INPUT, part);
}

static void errors_name_the_place(void **state) {
  (void)state;
  parsed out;
  parsed_open(&out);
  refuse(&out, "", "test: the expression ends at column 1, expected a number");
  refuse(&out, "=", "expected a number");
  refuse(&out, "1+", "ends at column 3");
  refuse(&out, "1+*2", "'*' at column 3, expected a number");
  refuse(&out, "(1+2", "ends at column 5, expected an operator or ')'");
  refuse(&out, "(1+2]", "']' at column 5, expected an operator or ')'");
  refuse(&out, "[1+2)", "')' at column 5, expected an operator or ']'");
  refuse(&out, "1+2)", "')' at column 4, expected an operator or the end");
  refuse(&out, "1 2", "'2' at column 3, expected an operator");
  refuse(&out, "1. 2", "expected an operator");
  refuse(&out, "1..2", "'.' at column 3");
  refuse(&out, ".", "expected a digit");
  refuse(&out, "-.", "expected a digit");
  refuse(&out, "1%%", "'%' at column 3");
  refuse(&out, "1=2", "'=' at column 2, expected an operator or the end");
  refuse(&out, "1==", "'=' at column 2");
  refuse(&out, "x+1", "'x' at column 1");
  refuse(&out, "1+\xc3\x97", "byte 0xc3 at column 3");
  refuse(&out, "1e5", "'e' at column 2");
  refuse(&out, "4/0", "division by zero at character 2 of 4/0");
  refuse(&out, "4 / (2-2)", "division by zero");
  refuse(&out, "1/(1/99999999999999)", "division by zero");  // the quotient rounds to zero
  ss_error error = {0};
  char *deep = malloc(5000);
  assert_non_null(deep);
  memset(deep, '(', 4999);
  deep[4999] = '\0';
  assert_refused(work_out(&out, deep, 10, &error), SS_ERROR_LIMIT, "nested deeper than");
  memset(deep, '-', 4999);
  assert_refused(work_out(&out, deep, 10, &error), SS_ERROR_LIMIT, "nested deeper than");
  free(deep);
  check_value(&out, "1+1", 10, "2");  // still usable
  parsed_close(&out);
}

static void canonical_is(parsed *out, const char *text, const char *expected) {
  ss_error error = {0};
  const char *canonical = NULL;
  int64_t n = 0;
  assert_ok(arithmetic_parse(out->expression, text, (int64_t)strlen(text), "test", &error));
  assert_ok(arithmetic_canonical(out->expression, &canonical, &n, &error));
  assert_string_equal(canonical, expected);
  assert_int_equal(n, strlen(expected));
}

static void canonical_form_is_stated(void **state) {
  (void)state;
  parsed out;
  parsed_open(&out);
  canonical_is(&out, "1+2*3", "(1+(2*3))");
  canonical_is(&out, "[1-[2-3]] =", "(1-(2-3))");
  canonical_is(&out, "1-2-3", "((1-2)-3)");
  canonical_is(&out, "007.500*-0.0", "(7.5*-0)");
  canonical_is(&out, ".5%/50", "(0.5%/50)");
  canonical_is(&out, "-(1+2)", "(-(1+2))");
  parsed_close(&out);
}

// Any bytes: an error or an example, never a crash.
static void any_text_is_survived(void **state) {
  (void)state;
  static const char alphabet[] = "0123456789+-*/()[].%= 12+-(";
  parsed out;
  parsed_open(&out);
  uint64_t random = 12345;
  int32_t fine = 0;
  for (int32_t k = 0; k < 50000; k++) {
    char text[24];
    size_t n = 0, length = 1 + (size_t)(k % 20);
    for (; n < length; n++) {
      random = random * 6364136223846793005ull + 1442695040888963407ull;
      text[n] = alphabet[(random >> 33) % (sizeof alphabet - 1)];
    }
    text[n] = '\0';
    ss_error error = {0};
    ss_status status = work_out(&out, text, 10, &error);
    fine += status == SS_OK;
    if (status != SS_OK && status != SS_ERROR_INPUT)
      fail_msg("%s: status %d: %s", text, (int)status, error.message);
  }
  assert_true(fine > 1000);
  parsed_close(&out);
}

// Every expression of MathGLM's sample, against the reference evaluator.
static void mathglm_sample_is_exact(void **state) {
  (void)state;
  char path[TEST_PATH], *text = NULL;
  size_t size = 0;
  ss_error error = {0};
  test_data(path, "mathglm/sample.txt");
  parsed out;
  parsed_open(&out);
  assert_ok(ss_read_file(path, &text, &size, &error));
  mpq_t expected, written;
  mpq_inits(expected, written, NULL);
  int32_t n = 0;
  char *rest = text;
  for (char *line = strtok_r(rest, "\r\n", &rest); line != NULL; line = strtok_r(rest, "\r\n", &rest), n++) {
    assert_ok(work_out(&out, line, 10, &error));
    assert_true(reference_evaluate(line, 10, expected));
    assert_true(reference_evaluate(out.example.answers, 0, written));
    if (mpq_cmp(expected, written) != 0)
      fail_msg("%s %s", line, out.example.answers);
  }
  assert_int_equal(n, 592);
  mpq_clears(expected, written, NULL);
  free(text);
  parsed_close(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_are_exact),      cmocka_unit_test(steps_and_references_are_as_documented),
      cmocka_unit_test(errors_name_the_place), cmocka_unit_test(canonical_form_is_stated),
      cmocka_unit_test(any_text_is_survived),  cmocka_unit_test(mathglm_sample_is_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
