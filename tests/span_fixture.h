// Shared by the span tests: random well-formed layouts, and V(i) by brute force, written from the definition
// (docs/DESIGN.md, Visibility) and from nothing else.
#ifndef SELFSPAN_TESTS_SPAN_FIXTURE_H
#define SELFSPAN_TESTS_SPAN_FIXTURE_H

#include <stdbool.h>

#include "common/random.h"
#include "data/example.h"
#include "data/render.h"
#include "data/vocabulary.h"
#include "span/span_core.h"

#define FIXTURE_MOST_SEGMENTS 24
#define FIXTURE_MOST_ROWS 400

// A layout with its own storage.
typedef struct {
  span_layout layout;
  span_segment segments[FIXTURE_MOST_SEGMENTS];
  int32_t references[FIXTURE_MOST_SEGMENTS * FIXTURE_MOST_SEGMENTS];
  int32_t n_row;
} fixture_layout;

// A random layout: contexts, steps (some without a header, as in dense text), then an answer, an end, or neither;
// bodies may be empty, references may be many or none.
void span_fixture_random_layout(fixture_layout *out, ss_random *random);

// A random policy, the unmasked one among them.
span_policy span_fixture_random_policy(ss_random *random);

// Policy k of all FIXTURE_N_POLICY: every choose, pin, context, body_sees_header without lead and recent (the first
// FIXTURE_N_PLAIN), half of them with, and no mask (the last).
#define FIXTURE_N_PLAIN 32
#define FIXTURE_N_POLICY 49
span_policy span_fixture_policy(int32_t k);

// Whether the query at row `i` may read row `j`, by the definition.
bool span_fixture_visible(const span_policy *policy, const fixture_layout *layout, int32_t i, int32_t j);

// Whether a view (with its ranges) lets the query at `row` read row `j`.
bool span_fixture_view_has(const span_view *view, const span_range *ranges, int32_t row, int32_t j);

// Fails the test unless ranges are sorted, merged, non-empty and end before self_first, and self_first <= row.
void span_fixture_check_ranges(const span_view *view, const span_range *ranges, int32_t row);

// A random example over a byte vocabulary, well-formed: 1 to 5 contexts, up to 10 steps, with or without an answer.
void span_fixture_random_example(example *out, ss_random *random);

// A next token that leads somewhere more often than uniform draws would; with `constrained` one that is allowed. Text tokens
// are those below <[>.
int32_t span_fixture_random_token(const span_tracker *tracker, bool constrained, ss_random *random);

// How many random cases: fewer under the sanitizers.
int32_t span_fixture_cases(int32_t wanted);

#endif
