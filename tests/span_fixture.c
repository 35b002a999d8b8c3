#include "tests/span_fixture.h"

#include "tests/helpers.h"

int32_t span_fixture_random_token(const span_tracker *tracker, bool constrained, ss_random *random) {
  const span_tokens *tokens = &tracker->tokens;
  int32_t n_segment = tracker->layout.n_segment, own = span_own_anchor(tracker, n_segment - 1);
  const int32_t special[] = {tokens->open,  tokens->open,   tokens->open, tokens->colon, tokens->colon,
                             tokens->colon, tokens->answer, own,          own,           own};
  for (int attempt = 0; attempt < 400; attempt++) {
    double draw = ss_random_uniform(random);
    int32_t token = draw < 0.30   ? (int32_t)ss_random_below(random, (uint64_t)tokens->open)
                    : draw < 0.32 ? tokens->eos
                    : draw < 0.80
                        ? special[ss_random_below(random, n_segment > 0 ? 10 : 7)]
                        : tokens->anchor_first + (int32_t)ss_random_below(random, (uint64_t)tokens->n_anchor);
    if (!constrained)
      return token;
    if (span_token_allowed(tracker, token))
      return span_corrected(tracker, token);
  }
  return tokens->eos;
}

int32_t span_fixture_cases(int32_t wanted) {
  return getenv("SELFSPAN_TEST_SANITIZED") != NULL ? wanted / 4 + 1 : wanted;
}

static void add_references(fixture_layout *out, span_segment *segment, int32_t s, ss_random *random,
                           bool one) {
  double share = ss_random_uniform(random);
  for (int32_t k = 0; k < s; k++)
    if (ss_random_uniform(random) < share * share || (one && k == s - 1 && segment->n_reference == 0)) {
      out->references[out->layout.n_reference++] = k;
      segment->n_reference++;
      if (segment->kind == SPAN_STEP && out->segments[k].referenced_by == SPAN_ROW_OPEN)
        out->segments[k].referenced_by = s;
    }
}

void span_fixture_random_layout(fixture_layout *out, ss_random *random) {
  int32_t n_context = (int32_t)ss_random_range(random, 0, 6),
          n_step = (int32_t)ss_random_range(random, 0, 14);
  int32_t last = (int32_t)ss_random_below(random, 3);  // nothing, an answer, an end
  int32_t n_segment = n_context + n_step + (last > 0);
  out->layout = (span_layout){(int32_t)ss_random_below(random, 4),
                              0,
                              FIXTURE_MOST_SEGMENTS,
                              out->segments,
                              0,
                              FIXTURE_MOST_SEGMENTS * FIXTURE_MOST_SEGMENTS,
                              out->references};
  int32_t row = out->layout.preamble_end;
  for (int32_t s = 0; s < n_segment; s++) {
    span_segment *segment = &out->segments[out->layout.n_segment++];
    *segment = (span_segment){row, row,           row,         row, -1, out->layout.n_reference,
                              0,   SPAN_ROW_OPEN, SPAN_CONTEXT};
    if (s >= n_context)
      segment->kind = s < n_context + n_step ? SPAN_STEP : last == 1 ? SPAN_ANSWER : SPAN_END;
    bool headless = segment->kind == SPAN_CONTEXT || ss_random_uniform(random) < 0.1;
    if (!headless && segment->kind != SPAN_END) {
      add_references(out, segment, s, random, segment->kind == SPAN_ANSWER);
      row += 2 + segment->n_reference + (segment->kind == SPAN_ANSWER);
      segment->header_end = row;
      segment->body_first = row - 1;
    } else if (!headless) {
      row += 2;  // <[> <eos>: the header never closes
      segment->header_end = segment->body_first = SPAN_ROW_OPEN;
    }
    if (segment->kind != SPAN_END || headless)
      row += (int32_t)ss_random_below(random, 5);
    if (segment->kind == SPAN_CONTEXT || segment->kind == SPAN_STEP)
      segment->anchor = row;
    if (segment->kind != SPAN_END || headless)
      row++;
    segment->end = row;
  }
  out->n_row = row;
}

span_policy span_fixture_policy(int32_t k) {
  static const int32_t leads[] = {1, 0, 3, 9}, recents[] = {0, 1, 2, 20};
  span_policy policy = {SPAN_MASK_SPAN, k & 3, (k >> 2) & 1, (k >> 3) & 1, (k >> 4) & 1, 16, 0, 0};
  if (k >= FIXTURE_N_PLAIN) {
    policy.pin = 0;
    policy.body_sees_header = k & 1;
    policy.lead = leads[(k >> 2) & 3];
    policy.recent = recents[((k >> 2) + k) & 3];
  }
  if (k == FIXTURE_N_POLICY - 1)
    policy.mask = SPAN_MASK_NONE;
  return policy;
}

span_policy span_fixture_random_policy(ss_random *random) {
  return span_fixture_policy((int32_t)ss_random_below(random, FIXTURE_N_POLICY));
}

// The segment that holds a row; -1 is the preamble.
static int32_t segment_of(const fixture_layout *layout, int32_t row) {
  for (int32_t s = 0; s < layout->layout.n_segment; s++)
    if (row >= layout->segments[s].first && row < layout->segments[s].end)
      return s;
  return -1;
}

static bool references(const fixture_layout *layout, int32_t s, int32_t wanted) {
  const span_segment *segment = &layout->segments[s];
  for (int32_t k = 0; k < segment->n_reference; k++)
    if (layout->references[segment->reference_first + k] == wanted)
      return true;
  return false;
}

// Is segment k, before s, among the first or the last that are always visible to headers and bodies?
static bool always_read(const span_policy *policy, const fixture_layout *layout, int32_t s, int32_t k) {
  int32_t n_step = 0;  // that begin after segment k
  for (int32_t m = k + 1; m < s; m++)
    n_step += layout->segments[m].kind == SPAN_STEP;
  if (layout->segments[k].kind == SPAN_CONTEXT)
    return k < policy->lead;
  return n_step < policy->recent;
}

// Is `j`, a row of the earlier segment k, in the index of a header of segment s?
static bool in_index(const span_policy *policy, const fixture_layout *layout, int32_t s, int32_t k,
                     int32_t j) {
  const span_segment *read = &layout->segments[k];
  bool is_anchor = j == read->anchor;
  bool is_header = j < read->header_end;  // <[> through <:>; every row of a header that never closed
  if (read->header_end == SPAN_ROW_OPEN)
    is_header = false;
  bool is_last_step = read->kind == SPAN_STEP;
  for (int32_t m = k + 1; m < s; m++)
    is_last_step = is_last_step && layout->segments[m].kind != SPAN_STEP;
  if (is_last_step || policy->choose == SPAN_CHOOSE_ALL)
    return true;
  if (policy->choose == SPAN_CHOOSE_ANCHORS)
    return is_anchor;
  if (policy->choose == SPAN_CHOOSE_OPEN)
    for (int32_t m = k + 1; m < s; m++)
      if (layout->segments[m].kind == SPAN_STEP && references(layout, m, k))
        return false;
  return is_anchor || is_header;
}

bool span_fixture_visible(const span_policy *policy, const fixture_layout *layout, int32_t i, int32_t j) {
  if (j > i)
    return false;
  if (policy->mask == SPAN_MASK_NONE || j == i)
    return true;
  int32_t s = segment_of(layout, i), k = segment_of(layout, j);
  if (k < 0 || s < 0)
    return true;  // the preamble is always visible, and nothing else lies before a preamble's row
  const span_segment *own = &layout->segments[s], *read = &layout->segments[k];
  if (own->kind == SPAN_CONTEXT)
    return k == s || (policy->context == SPAN_CONTEXT_CAUSAL && read->kind == SPAN_CONTEXT);
  if (k < s && always_read(policy, layout, s, k))
    return true;
  if (i < own->body_first)
    return k == s || (policy->pin && read->kind == SPAN_CONTEXT) || in_index(policy, layout, s, k, j);
  if (k == s)
    return policy->body_sees_header || j >= own->body_first;
  return references(layout, s, k);
}

bool span_fixture_view_has(const span_view *view, const span_range *ranges, int32_t row, int32_t j) {
  if (j >= view->self_first && j <= row)
    return true;
  for (int32_t k = view->range_first; k < view->range_first + view->n_range; k++)
    if (j >= ranges[k].first && j < ranges[k].end)
      return true;
  return false;
}

void span_fixture_check_ranges(const span_view *view, const span_range *ranges, int32_t row) {
  int32_t free_from = 0;  // a range may begin here; touching ranges would have been merged
  for (int32_t k = view->range_first; k < view->range_first + view->n_range; k++) {
    assert_true(ranges[k].first >= free_from);
    assert_true(ranges[k].end > ranges[k].first);
    free_from = ranges[k].end + 1;
  }
  assert_true(view->n_range == 0 || view->self_first >= free_from);
  assert_true(view->self_first <= row);
}

void span_fixture_random_example(example *out, ss_random *random) {
  ss_error error = {0};
  int32_t n_context = (int32_t)ss_random_range(random, 1, 5),
          n_step = (int32_t)ss_random_range(random, 0, 10);
  int32_t n_segment = n_context + n_step + (int32_t)ss_random_below(random, 2);
  example_reset(out, "random");
  for (int32_t s = 0; s < n_segment; s++) {
    char text[12];
    int32_t n_text = (int32_t)ss_random_range(random, 1, 12);
    for (int32_t k = 0; k < n_text; k++)
      text[k] = (char)ss_random_range(random, 32, 126);
    int32_t kind = s < n_context ? SPAN_CONTEXT : s < n_context + n_step ? SPAN_STEP : SPAN_ANSWER;
    assert_ok(example_segment_add(out, kind, text, n_text, &error));
    double share = ss_random_uniform(random);
    int32_t n_reference = 0;
    for (int32_t k = 0; kind != SPAN_CONTEXT && k < s; k++)
      if (ss_random_uniform(random) < share || (kind == SPAN_ANSWER && n_reference == 0 && k == s - 1)) {
        assert_ok(example_reference_add(out, k, &error));
        n_reference++;
      }
  }
  assert_ok(example_finish(out, &error));
}
