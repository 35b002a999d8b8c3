// V(i) against its definition by brute force, for every policy; the controls; the keys.
#include "common/config.h"
#include "data/span_keys.h"
#include "span/control.h"
#include "tests/helpers.h"
#include "tests/span_fixture.h"

#define SEED 20240611

// Every row belongs to exactly one view, in order; each reads what the definition says.
static void check_policy(const span_policy *policy, const fixture_layout *fixture, int32_t number,
                         int32_t p) {
  const span_layout *layout = &fixture->layout;
  int32_t capacity = span_range_capacity(layout);
  span_range *ranges = malloc(2 * (size_t)capacity *
                              sizeof *ranges);  // exact, so that a sanitizer sees an overrun
  assert_non_null(ranges);
  int32_t next = 0;
  for (int32_t s = -1; s < layout->n_segment; s++) {
    span_view views[2];
    int32_t n_range = 0;
    int32_t n_view = span_views_of(policy, layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; v++) {
      assert_int_equal(views[v].query_first, next);
      next = views[v].query_end;
      for (int32_t i = views[v].query_first; i < views[v].query_end; i++) {
        int32_t rows = 0;
        span_fixture_check_ranges(&views[v], ranges, i);
        for (int32_t j = 0; j < fixture->n_row; j++) {
          bool expected = span_fixture_visible(policy, fixture, i, j);
          rows += expected;
          if (span_fixture_view_has(&views[v], ranges, i, j) != expected)
            fail_msg("seed %d case %d policy %d: segment %d of kind %d: query %d and row %d: expected %d",
                     SEED, number, p, s, s < 0 ? -1 : layout->segments[s].kind, i, j, expected);
        }
        assert_int_equal(span_view_rows(&views[v], ranges, i), rows);
      }
    }
  }
  assert_int_equal(next, fixture->n_row);
  free(ranges);
}

static void visibility_equals_the_definition(void **state) {
  (void)state;
  fixture_layout *fixture = malloc(sizeof *fixture);
  assert_non_null(fixture);
  for (int32_t k = 0; k < span_fixture_cases(4000); k++) {
    ss_random random = ss_random_seed(SEED, (uint64_t)k);
    span_fixture_random_layout(fixture, &random);
    for (int32_t p = k % 3; p < FIXTURE_N_POLICY; p += 3) {  // a third of the policies each
      span_policy policy = span_fixture_policy(p);
      check_policy(&policy, fixture, k, p);
    }
  }
  free(fixture);
}

// With choose = all and every segment referenced, span reads what dense reads (invariant 1's set).
static void everything_visible_is_causal(void **state) {
  (void)state;
  fixture_layout *fixture = malloc(sizeof *fixture);
  assert_non_null(fixture);
  span_policy all = span_policy_default();
  all.choose = SPAN_CHOOSE_ALL;
  for (int32_t k = 0; k < 200; k++) {
    ss_random random = ss_random_seed(SEED + 1, (uint64_t)k);
    span_fixture_random_layout(fixture, &random);
    fixture->layout.n_reference = 0;
    for (int32_t s = 0; s < fixture->layout.n_segment; s++) {
      span_segment *segment = &fixture->segments[s];
      segment->reference_first = fixture->layout.n_reference;
      segment->n_reference = segment->kind == SPAN_CONTEXT ? 0 : s;
      for (int32_t r = 0; r < segment->n_reference; r++)
        fixture->references[fixture->layout.n_reference++] = r;
    }
    span_range ranges[2 * (2 * FIXTURE_MOST_SEGMENTS + 4)];
    for (int32_t s = 0; s < fixture->layout.n_segment; s++) {
      span_view views[2];
      int32_t n_range = 0, n_view = span_views_of(&all, &fixture->layout, s, views, ranges, &n_range);
      for (int32_t v = 0; v < n_view; v++) {
        assert_int_equal(views[v].n_range, 0);
        assert_int_equal(views[v].self_first, 0);
      }
    }
  }
  free(fixture);
}

static void ranges_merge(void **state) {
  (void)state;
  span_range ranges[4];
  int32_t n = 0;
  span_append_range(ranges, &n, 3, 3);  // empty
  assert_int_equal(n, 0);
  span_append_range(ranges, &n, 0, 2);
  span_append_range(ranges, &n, 2, 5);  // touches
  span_append_range(ranges, &n, 3, 4);  // inside
  span_append_range(ranges, &n, 6, 7);
  assert_int_equal(n, 2);
  assert_int_equal(ranges[0].first, 0);
  assert_int_equal(ranges[0].end, 5);
  assert_int_equal(ranges[1].first, 6);
  assert_int_equal(ranges[1].end, 7);
}

// --- controls ---

static int32_t rows_of(const span_view *view, const span_range *ranges, int32_t row) {
  span_fixture_check_ranges(view, ranges, row);
  int32_t rows = 0;
  for (int32_t j = 0; j <= row; j++)
    rows += span_fixture_view_has(view, ranges, row, j);
  assert_int_equal(span_view_rows(view, ranges, row), rows);
  return rows;
}

static void check_control(const fixture_layout *fixture, const span_view *selected,
                          const span_range *selected_ranges, int32_t own_first, int32_t n_sink,
                          uint64_t seed) {
  int32_t row = selected->query_first, rows = span_view_rows(selected, selected_ranges, row);
  span_range *ranges = malloc((size_t)span_control_capacity(row) * sizeof *ranges);
  span_range *again = malloc((size_t)span_control_capacity(row) * sizeof *again);
  assert_non_null(ranges);
  assert_non_null(again);
  for (int control = SPAN_CONTROL_RECENCY; control <= SPAN_CONTROL_WINDOW; control++) {
    span_view view = span_control_visible((span_control)control, selected, selected_ranges, own_first, n_sink,
                                          seed, ranges);
    assert_int_equal(rows_of(&view, ranges, row), rows);
    assert_true(span_fixture_view_has(&view, ranges, row, row));
    span_view same = span_control_visible((span_control)control, selected, selected_ranges, own_first, n_sink,
                                          seed, again);
    assert_memory_equal(&view, &same, sizeof view);
    assert_memory_equal(ranges, again, (size_t)view.n_range * sizeof *ranges);
    for (int32_t j = 0; j <= row; j++) {
      bool has = span_fixture_view_has(&view, ranges, row, j);
      if (control == SPAN_CONTROL_RECENCY)
        assert_int_equal(has, j > row - rows);
      else if (control == SPAN_CONTROL_WINDOW)
        assert_int_equal(has, j < (n_sink < rows ? n_sink : rows - 1) ||
                                  j > row - rows + (n_sink < rows ? n_sink : rows - 1));
      else if (j >= own_first && rows > row - own_first)
        assert_true(has);  // the own segment stays
    }
  }
  free(ranges);
  free(again);
  (void)fixture;
}

static void controls_read_equally_many_rows(void **state) {
  (void)state;
  fixture_layout *fixture = malloc(sizeof *fixture);
  assert_non_null(fixture);
  for (int32_t k = 0; k < span_fixture_cases(1000); k++) {
    ss_random random = ss_random_seed(SEED + 2, (uint64_t)k);
    span_fixture_random_layout(fixture, &random);
    span_policy policy = span_fixture_random_policy(&random);
    span_range ranges[2 * (2 * FIXTURE_MOST_SEGMENTS + 4)];
    for (int32_t s = 0; s < fixture->layout.n_segment; s++) {
      span_view views[2];
      int32_t n_range = 0, n_view = span_views_of(&policy, &fixture->layout, s, views, ranges, &n_range);
      for (int32_t v = 0; v < n_view; v++)
        for (int32_t row = views[v].query_first; row < views[v].query_end; row++) {
          span_view one = views[v];
          one.query_first = row;
          one.query_end = row + 1;
          check_control(fixture, &one, ranges, fixture->segments[s].first,
                        (int32_t)ss_random_below(&random, 6), ss_random_next(&random));
        }
    }
  }
  free(fixture);
}

// Over many seeds every earlier row is drawn about equally often.
static void random_control_is_uniform(void **state) {
  (void)state;
  enum { ROW = 59, OWN = 50, ROWS = 30, TRIALS = 4000 };
  span_range selected_ranges[1] = {{0, ROWS - (ROW + 1 - OWN)}};
  span_view selected = {ROW, ROW + 1, OWN, 0, 1};
  int32_t count[OWN] = {0};
  for (int32_t trial = 0; trial < TRIALS; trial++) {
    span_range ranges[ROW];
    span_view view = span_control_visible(SPAN_CONTROL_RANDOM, &selected, selected_ranges, OWN, 0,
                                          ss_mix64((uint64_t)trial), ranges);
    for (int32_t j = 0; j < OWN; j++)
      count[j] += span_fixture_view_has(&view, ranges, ROW, j);
  }
  double share = (double)(ROWS - (ROW + 1 - OWN)) / OWN, expected = share * TRIALS;
  for (int32_t j = 0; j < OWN; j++)
    assert_near(count[j], expected, 6 * sqrt(expected * (1 - share)));
}

// --- keys ---

static void keys_become_the_policy(void **state) {
  (void)state;
  ss_error error = {0};
  span_keys keys;
  ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  assert_ok(ss_config_defaults(groups, &error));
  span_policy policy = span_keys_policy(&keys), standard = span_policy_default();
  assert_memory_equal(&policy, &standard, sizeof policy);
  assert_ok(ss_config_set(groups, "span.choose=open", "test", &error));
  assert_ok(ss_config_set(groups, "span.pin=all", "test", &error));
  assert_ok(ss_config_set(groups, "span.context=local", "test", &error));
  assert_ok(ss_config_set(groups, "span.body_sees_header=no", "test", &error));
  assert_ok(ss_config_set(groups, "span.max_header=9", "test", &error));
  assert_ok(ss_config_set(groups, "span.lead=3", "test", &error));
  assert_ok(ss_config_set(groups, "span.recent=2", "test", &error));
  policy = span_keys_policy(&keys);
  span_policy expected = {SPAN_MASK_SPAN, SPAN_CHOOSE_OPEN, 1, SPAN_CONTEXT_LOCAL, 0, 9, 3, 2};
  assert_memory_equal(&policy, &expected, sizeof policy);
  assert_refused(ss_config_set(groups, "span.max_header=3", "test", &error), SS_ERROR_USAGE,
                 "span.max_header");
}

// The policy in a model file: as it was written, and in files from before a key was there the key's default.
static void policies_come_back(void **state) {
  (void)state;
  ss_error error = {0};
  span_policy policy = {SPAN_MASK_SPAN, SPAN_CHOOSE_OPEN, 1, SPAN_CONTEXT_LOCAL, 0, 9, 3, 2}, read;
  arm arm = ARM_DENSE;
  char *text = NULL;
  assert_ok(span_policy_text(ARM_SPAN, &policy, &text, &error));
  assert_ok(span_policy_parse(text, "test", &arm, &read, &error));
  assert_int_equal(arm, ARM_SPAN);
  assert_memory_equal(&read, &policy, sizeof read);
  free(text);
  assert_ok(span_policy_parse("{\"arm\": \"annotated\", \"span.choose\": \"open\", \"span.pin\": \"all\", "
                              "\"span.context\": \"local\", \"span.body_sees_header\": false, "
                              "\"span.max_header\": 9}",
                              "test", &arm, &read, &error));
  policy.lead = policy.recent = 0;
  assert_int_equal(arm, ARM_ANNOTATED);
  assert_memory_equal(&read, &policy, sizeof read);
  assert_refused(span_policy_parse("{\"arm\": \"span\", \"span.lead\": -1}", "test", &arm, &read, &error),
                 SS_ERROR_USAGE, "span.lead");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(visibility_equals_the_definition),
      cmocka_unit_test(everything_visible_is_causal),
      cmocka_unit_test(ranges_merge),
      cmocka_unit_test(controls_read_equally_many_rows),
      cmocka_unit_test(random_control_is_uniform),
      cmocka_unit_test(keys_become_the_policy),
      cmocka_unit_test(policies_come_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
