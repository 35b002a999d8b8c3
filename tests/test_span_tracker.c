// The tracker: equal to the annotation (invariant 3), safe and consistent on any token stream, and well-formed under
// constraint.
#include "tests/helpers.h"
#include "tests/span_fixture.h"

#define SEED 77001
#define N_ANCHOR 24

// A tracker over exact-size storage, so that a sanitizer sees an overrun.
typedef struct {
  span_tracker tracker;
  span_segment *segments;
  int32_t *references;
  int32_t segment_capacity, reference_capacity;
} tracked;

static void tracked_start(tracked *out, const span_tokens *tokens, const span_policy *policy, bool headers,
                          int32_t offset, int32_t preamble_end, int32_t prompt_end, int32_t segment_capacity,
                          int32_t reference_capacity) {
  out->segment_capacity = segment_capacity;
  out->reference_capacity = reference_capacity;
  out->segments = malloc((size_t)segment_capacity * sizeof *out->segments);
  out->references = malloc((size_t)reference_capacity * sizeof *out->references);
  assert_true(segment_capacity == 0 || out->segments != NULL);
  assert_true(reference_capacity == 0 || out->references != NULL);
  span_tracker_start(&out->tracker, tokens, policy, headers, offset, preamble_end, prompt_end, out->segments,
                     segment_capacity, out->references, reference_capacity);
}

static void tracked_free(tracked *out) {
  free(out->segments);
  free(out->references);
}

static span_tokens small_tokens(void) {
  // Ids 0..3 are text.
  span_tokens tokens = {4, 5, 6, 7, 8, N_ANCHOR};
  return tokens;
}

// --- invariant 3 ---

static void check_layouts_equal(const span_layout *tracked, const span_layout *annotated) {
  assert_int_equal(tracked->preamble_end, annotated->preamble_end);
  assert_int_equal(tracked->n_segment, annotated->n_segment);
  assert_int_equal(tracked->n_reference, annotated->n_reference);
  for (int32_t s = 0; s < tracked->n_segment; s++) {
    const span_segment *a = &tracked->segments[s], *b = &annotated->segments[s];
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->header_end, b->header_end);
    assert_int_equal(a->body_first, b->body_first);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->anchor, b->anchor);
    assert_int_equal(a->reference_first, b->reference_first);
    assert_int_equal(a->n_reference, b->n_reference);
    assert_int_equal(a->referenced_by, b->referenced_by);
    assert_int_equal(a->kind, b->kind);
  }
  for (int32_t k = 0; k < tracked->n_reference; k++)
    assert_int_equal(tracked->references[k], annotated->references[k]);
}

// The view of `row` from the annotation's layout.
static span_view annotated_view(const span_policy *policy, const span_layout *layout, int32_t row,
                                span_range *ranges) {
  for (int32_t s = -1; s < layout->n_segment; s++) {
    span_view views[2];
    int32_t n_range = 0, n_view = span_views_of(policy, layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; v++)
      if (row >= views[v].query_first && row < views[v].query_end)
        return views[v];
  }
  fail_msg("no view holds row %d", row);
  return (span_view){0};
}

static void check_rows_equal(const span_view *a, const span_range *a_ranges, const span_view *b,
                             const span_range *b_ranges, const char *what, int32_t number, int32_t row) {
  bool equal = a->self_first == b->self_first && a->n_range == b->n_range;
  for (int32_t k = 0; equal && k < a->n_range; k++)
    equal = a_ranges[a->range_first + k].first == b_ranges[b->range_first + k].first &&
            a_ranges[a->range_first + k].end == b_ranges[b->range_first + k].end;
  if (!equal)
    fail_msg("seed %d case %d: %s differ at row %d", SEED, number, what, row);
}

static void check_arm(const rendering *annotated, const vocabulary *vocabulary, arm arm, ss_random *random,
                      int32_t number) {
  ss_error error = {0};
  rendering text = {0};
  int32_t n_anchor = vocabulary_span_tokens(vocabulary)->n_anchor;
  int32_t offset = (int32_t)ss_random_range(random, 0, n_anchor - annotated->layout.n_segment);
  span_policy policy = span_fixture_random_policy(random);
  policy.max_header = 40;
  assert_ok(render_arm(&text, annotated, arm, vocabulary, offset, &error));
  tracked run;
  tracked_start(&run, vocabulary_span_tokens(vocabulary), &policy, arm_has_headers(arm), offset,
                text.layout.preamble_end, text.prompt_end, text.layout.n_segment, text.layout.n_reference);
  span_range *ranges = malloc(2 * (size_t)span_range_capacity(&text.layout) * sizeof *ranges);
  assert_non_null(ranges);
  for (int32_t row = 0; row < text.n_token; row++) {
    assert_int_equal(text.loss[row], row >= text.prompt_end);
    assert_int_equal(span_tracker_push(&run.tracker, text.tokens[row]), SPAN_PUSH_OK);
    span_range *now = malloc((size_t)span_range_capacity(&run.tracker.layout) * sizeof *now);
    assert_non_null(now);
    span_view generated = span_tracker_visible(&run.tracker, now);
    span_view expected = annotated_view(&policy, &text.layout, row, ranges);
    check_rows_equal(&generated, now, &expected, ranges, "tracker and annotation", number, row);
    free(now);
  }
  check_layouts_equal(&run.tracker.layout, &text.layout);
  assert_int_equal(span_malformed_total(&run.tracker.malformed), 0);
  assert_int_equal(run.tracker.state, SPAN_STATE_DONE);
  free(ranges);
  tracked_free(&run);
  rendering_free(&text);
}

static void tracker_equals_the_annotation(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *vocabulary = NULL;
  example example = {0};
  rendering annotated = {0};
  assert_ok(vocabulary_create_bytes(&vocabulary, "test", N_ANCHOR, &error));
  for (int32_t k = 0; k < span_fixture_cases(3000); k++) {
    ss_random random = ss_random_seed(SEED, (uint64_t)k);
    span_fixture_random_example(&example, &random);
    assert_ok(render_annotated(&annotated, &example, vocabulary, 40, &error));
    for (int a = 0; a < N_ARM; a++)
      check_arm(&annotated, vocabulary, (arm)a, &random, k);
  }
  example_free(&example);
  rendering_free(&annotated);
  vocabulary_free(vocabulary);
}

// --- any token stream ---

// Segments partition the rows, references are in bounds, ascending and earlier.
static void check_structure(const span_tracker *tracker) {
  const span_layout *layout = &tracker->layout;
  int32_t next = layout->preamble_end, n_reference = 0;
  for (int32_t s = 0; s < layout->n_segment; s++) {
    const span_segment *segment = &layout->segments[s];
    assert_int_equal(segment->first, next);
    assert_true(segment->end > segment->first);
    next = segment->end;
    assert_true(segment->anchor == -1 || segment->anchor == segment->end - 1);
    assert_true(segment->header_end == SPAN_ROW_OPEN ||
                (segment->header_end >= segment->first && segment->header_end <= segment->end));
    assert_true(segment->body_first == SPAN_ROW_OPEN || segment->body_first == segment->header_end ||
                segment->body_first == segment->header_end - 1);
    assert_int_equal(segment->reference_first, n_reference);
    for (int32_t k = 0; k < segment->n_reference; k++) {
      int32_t reference = layout->references[n_reference + k];
      assert_true(reference >= 0 && reference < s);
      assert_true(k == 0 || reference > layout->references[n_reference + k - 1]);
    }
    n_reference += segment->n_reference;
  }
  assert_int_equal(n_reference, layout->n_reference);
  assert_int_equal(next, tracker->n_row < layout->preamble_end ? layout->preamble_end : tracker->n_row);
}

// A token that leads somewhere more often than uniform draws would.
static int32_t fuzz_token(ss_random *random, const span_tracker *tracker) {
  const span_tokens *tokens = &tracker->tokens;
  double draw = ss_random_uniform(random);
  if (draw < 0.30)
    return (int32_t)ss_random_below(random, 4);
  if (draw < 0.45)
    return tokens->open;
  if (draw < 0.60)
    return tokens->colon;
  if (draw < 0.66)
    return tokens->answer;
  if (draw < 0.68)
    return tokens->eos;
  if (draw < 0.80 && tracker->layout.n_segment > 0)
    return span_own_anchor(tracker, tracker->layout.n_segment - 1) %
           (tokens->anchor_first + tokens->n_anchor);
  if (draw < 0.98)
    return tokens->anchor_first + (int32_t)ss_random_below(random, (uint64_t)tokens->n_anchor);
  return (int32_t)ss_random_range(random, -3, 60);  // no such token
}

// PUSH_FULL must leave everything as it was.
static int32_t push_checked(tracked *run, int32_t token) {
  span_tracker before = run->tracker;
  size_t segment_bytes = (size_t)run->segment_capacity * sizeof *run->segments;
  size_t reference_bytes = (size_t)before.layout.n_reference * sizeof *run->references;
  span_segment segments[FIXTURE_MOST_SEGMENTS];
  int32_t references[512];
  size_t used = (size_t)before.layout.n_segment * sizeof *run->segments;
  assert_true(segment_bytes <= sizeof segments && reference_bytes <= sizeof references);
  memcpy(segments, run->segments, used);
  memcpy(references, run->references, reference_bytes);
  int32_t result = span_tracker_push(&run->tracker, token);
  if (result == SPAN_PUSH_FULL) {
    assert_memory_equal(&run->tracker, &before, sizeof before);
    assert_memory_equal(run->segments, segments, used);
    assert_memory_equal(run->references, references, reference_bytes);
  } else {
    assert_int_equal(result, SPAN_PUSH_OK);
    assert_int_equal(run->tracker.n_row, before.n_row + 1);
    int32_t counted = span_malformed_total(&run->tracker.malformed) - span_malformed_total(&before.malformed);
    assert_true(counted >= 0 && counted <= 3);  // at most: closed by force, wrong anchor, stray
  }
  return result;
}

static void fuzz_once(int32_t number) {
  ss_random random = ss_random_seed(SEED + 1, (uint64_t)number);
  span_tokens tokens = small_tokens();
  span_policy policy = span_fixture_random_policy(&random);
  policy.max_header = (int32_t)ss_random_range(&random, 4, 8);
  int32_t preamble_end = (int32_t)ss_random_below(&random, 4);
  int32_t prompt_end = preamble_end + (int32_t)ss_random_below(&random, 20);
  tracked run;
  tracked_start(&run, &tokens, &policy, ss_random_uniform(&random) < 0.8,
                (int32_t)ss_random_below(&random, 8), preamble_end, prompt_end,
                (int32_t)ss_random_below(&random, FIXTURE_MOST_SEGMENTS),
                (int32_t)ss_random_below(&random, 30));
  enum { LENGTH = 150 };
  span_view views[LENGTH];
  span_range *view_ranges[LENGTH];
  int32_t n_row = 0, full = 0;
  for (int32_t k = 0; k < LENGTH && full < 5; k++) {
    if (push_checked(&run, fuzz_token(&random, &run.tracker)) == SPAN_PUSH_FULL) {
      full++;
      continue;
    }
    check_structure(&run.tracker);
    view_ranges[n_row] = malloc((size_t)span_range_capacity(&run.tracker.layout) * sizeof(span_range));
    assert_non_null(view_ranges[n_row]);
    views[n_row] = span_tracker_visible(&run.tracker, view_ranges[n_row]);
    span_fixture_check_ranges(&views[n_row], view_ranges[n_row], n_row);
    for (int32_t token = -2; token < tokens.anchor_first + tokens.n_anchor + 2; token++)
      span_token_allowed(&run.tracker, token);  // reads nothing it must not
    n_row++;
  }
  // What a row could read when it was written is what the finished layout says: the future changes nothing.
  span_range *ranges = malloc(2 * (size_t)span_range_capacity(&run.tracker.layout) * sizeof *ranges);
  assert_non_null(ranges);
  for (int32_t row = 0; row < n_row; row++) {
    if (n_row >= preamble_end) {
      span_view expected = annotated_view(&policy, &run.tracker.layout, row, ranges);
      check_rows_equal(&views[row], view_ranges[row], &expected, ranges, "early and late views", number, row);
    }
    free(view_ranges[row]);
  }
  free(ranges);
  tracked_free(&run);
}

static void any_stream_is_tracked_safely(void **state) {
  (void)state;
  for (int32_t k = 0; k < span_fixture_cases(20000); k++)
    fuzz_once(k);
}

// --- what counts as malformed ---

// Pushes a stream and returns the counters. Text is 0; 'A'..'X' are anchors 0..; [ : = . are <[> <:> <=> <eos>.
static span_malformed counters_of(const char *stream, bool headers, int32_t prompt_end, int32_t max_header) {
  span_tokens tokens = small_tokens();
  span_policy policy = span_policy_default();
  policy.max_header = max_header;
  tracked run;
  tracked_start(&run, &tokens, &policy, headers, 0, 0, prompt_end, N_ANCHOR, 64);
  for (const char *at = stream; *at != '\0'; at++) {
    int32_t token = *at == '[' ? 4 : *at == ':' ? 5 : *at == '=' ? 6 : *at == '.' ? 7 : 0;
    if (*at >= 'A' && *at <= 'X')
      token = tokens.anchor_first + *at - 'A';
    assert_int_equal(span_tracker_push(&run.tracker, token), SPAN_PUSH_OK);
  }
  span_malformed result = run.tracker.malformed;
  tracked_free(&run);
  return result;
}

static void check_counters(const char *stream, bool headers, int32_t max_header, span_malformed expected) {
  span_malformed counted = counters_of(stream, headers, 4, max_header);  // two contexts of two rows
  const int32_t *a = (const int32_t *)&counted, *b = (const int32_t *)&expected;
  static const char *const names[] = {"unknown_reference", "duplicate_reference", "unordered_reference",
                                      "wrong_anchor",      "unclosed_segment",    "long_header",
                                      "stray_token"};
  for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
    if (a[k] != b[k])
      fail_msg("%s: %s is %d, expected %d", stream, names[k], a[k], b[k]);
}

static void malformed_text_is_counted(void **state) {
  (void)state;
  check_counters("xAxB[A:xC[=C:x.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 0});
  check_counters("xAxB[D:xC[=C:x.", true, 16, (span_malformed){1, 0, 0, 0, 0, 0, 0});   // forward
  check_counters("xAxB[C:xC[=C:x.", true, 16, (span_malformed){1, 0, 0, 0, 0, 0, 0});   // itself
  check_counters("xAxB[AA:xC[=C:x.", true, 16, (span_malformed){0, 1, 0, 0, 0, 0, 0});  // twice
  check_counters("xAxB[BA:xC[=C:x.", true, 16, (span_malformed){0, 0, 1, 0, 0, 0, 0});  // descending
  check_counters("xAxB[A:xA[=C:x.", true, 16,
                 (span_malformed){0, 0, 0, 1, 0, 0, 0});  // closed by another's id
  check_counters("xAxB[A:x[=A:x.", true, 16, (span_malformed){0, 0, 0, 0, 1, 0, 0});  // not closed
  check_counters("xAxB[ABxxxxC[=C:x.", true, 4,
                 (span_malformed){0, 0, 0, 0, 0, 1, 1});  // the header never ends
  check_counters("xAxB[A=:xC[=C:x.", true, 16,
                 (span_malformed){0, 0, 0, 0, 0, 0, 1});  // <=> later than second
  check_counters("xAxB[xA:xC[=C:x.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 1});  // text in a header
  check_counters("xAxB[A:x.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 1});         // <eos> in a step
  check_counters("xAxBxC[=C:x.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 1});  // a step without a header
  check_counters("xAxB[A:x:C[=C:x.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 1});  // <:> in a body
  check_counters("xAxB[A:xC[.", true, 16, (span_malformed){0, 0, 0, 0, 0, 0, 0});       // an end
  check_counters("xAxBxCxDx.", false, 16, (span_malformed){0, 0, 0, 0, 0, 0, 0});       // dense
  check_counters("xAxBxCxD.", false, 16, (span_malformed){0, 0, 0, 0, 0, 0, 0});        // dense, an end
}

// --- full ---

static void full_storage_stops(void **state) {
  (void)state;
  span_tokens tokens = small_tokens();
  span_policy policy = span_policy_default();
  tracked run;
  tracked_start(&run, &tokens, &policy, true, 0, 0, 2, 2, 0);  // two segments, no references
  assert_int_equal(push_checked(&run, 0), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.anchor_first), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.open), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.anchor_first), SPAN_PUSH_FULL);
  assert_int_equal(push_checked(&run, tokens.colon), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.open), SPAN_PUSH_FULL);  // an unclosed segment, and no third
  assert_int_equal(push_checked(&run, tokens.anchor_first + 1), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.open), SPAN_PUSH_FULL);
  tracked_free(&run);
  // Ids run out: offset + segments = n_anchor.
  tracked_start(&run, &tokens, &policy, true, N_ANCHOR - 1, 0, 2, 4, 4);
  assert_int_equal(push_checked(&run, 0), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.anchor_first + N_ANCHOR - 1), SPAN_PUSH_OK);
  assert_int_equal(push_checked(&run, tokens.open), SPAN_PUSH_FULL);
  tracked_free(&run);
}

// --- constraint ---

// Draws only allowed tokens, corrected, until <eos> or the ids run out.
static void constrain_once(int32_t number) {
  ss_random random = ss_random_seed(SEED + 2, (uint64_t)number);
  span_tokens tokens = small_tokens();
  span_policy policy = span_fixture_random_policy(&random);
  policy.max_header = (int32_t)ss_random_range(&random, 4, 9);
  bool headers = ss_random_uniform(&random) < 0.8;
  int32_t n_context = (int32_t)ss_random_range(&random, 1, 4);
  int32_t offset = (int32_t)ss_random_below(&random, 6);
  tracked run;
  tracked_start(&run, &tokens, &policy, headers, offset, 1, 1 + 2 * n_context, FIXTURE_MOST_SEGMENTS, 200);
  assert_int_equal(span_tracker_push(&run.tracker, 0), SPAN_PUSH_OK);
  for (int32_t k = 0; k < n_context; k++) {
    assert_int_equal(span_tracker_push(&run.tracker, 1), SPAN_PUSH_OK);
    assert_int_equal(span_tracker_push(&run.tracker, tokens.anchor_first + offset + k), SPAN_PUSH_OK);
  }
  for (int32_t k = 0; k < 400 && run.tracker.state != SPAN_STATE_DONE; k++) {
    int32_t allowed[64], n = 0;
    for (int32_t token = 0; token < tokens.anchor_first + N_ANCHOR; token++)
      if (span_token_allowed(&run.tracker, token))
        allowed[n++] = token;
    if (n == 0)
      fail_msg("seed %d case %d: nothing is allowed at row %d", SEED, number, run.tracker.n_row);
    int32_t token = span_corrected(&run.tracker, allowed[ss_random_below(&random, (uint64_t)n)]);
    if (span_tracker_push(&run.tracker, token) == SPAN_PUSH_FULL)
      break;
    if (span_malformed_total(&run.tracker.malformed) != 0)
      fail_msg("seed %d case %d: malformed at row %d", SEED, number, run.tracker.n_row - 1);
  }
  check_structure(&run.tracker);
  for (int32_t s = 0; s < run.tracker.layout.n_segment && headers; s++) {
    const span_segment *segment = &run.tracker.layout.segments[s];
    if (s < run.tracker.layout.n_segment - 1)
      assert_true(segment->anchor >= 0);  // closed by its own id, or it would have been counted
    if (segment->kind == SPAN_ANSWER && segment->header_end != SPAN_ROW_OPEN)
      assert_true(segment->n_reference > 0);
    if (s >= n_context && segment->header_end != SPAN_ROW_OPEN)
      assert_in_range(segment->header_end - segment->first, 2, policy.max_header);
  }
  tracked_free(&run);
}

static void constrained_streams_are_well_formed(void **state) {
  (void)state;
  for (int32_t k = 0; k < span_fixture_cases(10000); k++)
    constrain_once(k);
}

// Every token of a well-formed text is allowed where it stands, but for an end before anything else.
static void well_formed_text_is_allowed(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *vocabulary = NULL;
  example example = {0};
  rendering annotated = {0};
  assert_ok(vocabulary_create_bytes(&vocabulary, "test", N_ANCHOR, &error));
  for (int32_t k = 0; k < span_fixture_cases(1000); k++) {
    ss_random random = ss_random_seed(SEED + 3, (uint64_t)k);
    span_policy policy = span_policy_default();
    policy.max_header = 40;
    span_fixture_random_example(&example, &random);
    assert_ok(render_annotated(&annotated, &example, vocabulary, 40, &error));
    for (int a = 0; a < N_ARM; a++) {
      rendering text = {0};
      assert_ok(render_arm(&text, &annotated, (arm)a, vocabulary, 0, &error));
      tracked run;
      tracked_start(&run, vocabulary_span_tokens(vocabulary), &policy, arm_has_headers((arm)a), 0,
                    text.layout.preamble_end, text.prompt_end, text.layout.n_segment,
                    text.layout.n_reference);
      for (int32_t row = 0; row < text.n_token; row++) {
        if (row >= text.prompt_end) {
          bool empty = text.tokens[row] == run.tracker.tokens.eos &&
                       row <= text.prompt_end + (a != ARM_DENSE);
          assert_int_equal(span_token_allowed(&run.tracker, text.tokens[row]), !empty);
          assert_int_equal(span_corrected(&run.tracker, text.tokens[row]), text.tokens[row]);
        }
        assert_int_equal(span_tracker_push(&run.tracker, text.tokens[row]), SPAN_PUSH_OK);
      }
      tracked_free(&run);
      rendering_free(&text);
    }
  }
  example_free(&example);
  rendering_free(&annotated);
  vocabulary_free(vocabulary);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tracker_equals_the_annotation),       cmocka_unit_test(any_stream_is_tracked_safely),
      cmocka_unit_test(malformed_text_is_counted),           cmocka_unit_test(full_storage_stops),
      cmocka_unit_test(constrained_streams_are_well_formed), cmocka_unit_test(well_formed_text_is_allowed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
