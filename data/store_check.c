// The structure of one annotated example: the checks that the writer and the reader of a store share, and what
// follows from the stored fields.
#include "data/store_private.h"

// "%s: example %lld, ...": where and index, with which every message here begins.
#define FAIL(...) ss_fail(error, SS_ERROR_INPUT, "%s: damaged: example %lld, " __VA_ARGS__)

static int64_t segment_end(const rendering *annotated, int32_t s) {
  const span_layout *layout = &annotated->layout;
  return s + 1 < layout->n_segment ? layout->segments[s + 1].first : annotated->n_token;
}

static ss_status check_segment(const rendering *annotated, int32_t s, const span_tokens *tokens,
                               const char *where, int64_t index, ss_error *error) {
  const span_segment *own = &annotated->layout.segments[s];
  int64_t end = segment_end(annotated, s);
  if (own->first < 0 || own->first >= end || end > annotated->n_token)
    return FAIL("segment %d covers rows [%d, %lld), expected ascending rows within its %lld tokens", where,
                (long long)index, s, own->first, (long long)end, (long long)annotated->n_token);
  int32_t previous = s > 0 ? annotated->layout.segments[s - 1].kind : SPAN_CONTEXT;
  if (own->kind < SPAN_CONTEXT || own->kind > SPAN_END || own->kind < previous || previous >= SPAN_ANSWER)
    return FAIL(
        "segment %d is of kind %d after kind %d, expected contexts, then steps, then an answer or end", where,
        (long long)index, s, own->kind, previous);
  bool headless = own->header_end == own->first, ended = own->header_end == SPAN_ROW_OPEN;
  if (ended != (own->kind == SPAN_END) || (own->kind == SPAN_CONTEXT && !headless) ||
      (!headless && !ended && (own->header_end < own->first + 2 || own->header_end > end)))
    return FAIL("segment %d of rows [%d, %lld) has a header up to row %d, which its kind %d does not permit",
                where, (long long)index, s, own->first, (long long)end, own->header_end, own->kind);
  if (!headless && (annotated->tokens[own->first] != tokens->open ||
                    (!ended && annotated->tokens[own->header_end - 1] != tokens->colon)))
    return FAIL("segment %d's header does not stand between <[> and <:>", where, (long long)index, s);
  return SS_OK;
}

static ss_status check_references(const span_layout *layout, int32_t s, const char *where, int64_t index,
                                  ss_error *error) {
  const span_segment *own = &layout->segments[s];
  if (own->reference_first < 0 || own->n_reference < 0 || own->n_reference > layout->n_reference ||
      own->reference_first > layout->n_reference - own->n_reference)
    return FAIL("segment %d's references lie outside the example's %d", where, (long long)index, s,
                layout->n_reference);
  int32_t last = -1;
  for (int32_t k = 0; k < own->n_reference; ++k) {
    int32_t reference = layout->references[own->reference_first + k];
    if (reference <= last || reference >= s)
      return FAIL("segment %d references segment %d after %d, expected ascending earlier segments", where,
                  (long long)index, s, reference, last);
    last = reference;
  }
  return SS_OK;
}

ss_status store_check_example(const rendering *annotated, const vocabulary *vocabulary, const char *where,
                              int64_t index, ss_error *error) {
  const span_tokens *tokens = vocabulary_span_tokens(vocabulary);
  int32_t size = vocabulary_size(vocabulary);
  if (annotated->n_token < 2 || annotated->n_token > INT32_MAX)
    return FAIL("it has %lld tokens, expected 2 or more", where, (long long)index,
                (long long)annotated->n_token);
  if (annotated->layout.n_segment > tokens->n_anchor)
    return FAIL("it has %d segments, more than the %d anchors", where, (long long)index,
                annotated->layout.n_segment, tokens->n_anchor);
  for (int64_t i = 0; i < annotated->n_token; ++i) {
    if (annotated->tokens[i] < 0 || annotated->tokens[i] >= size)
      return FAIL("token %lld is %d, expected 0..%d", where, (long long)index, (long long)i,
                  annotated->tokens[i], size - 1);
    // An arm adds an offset of up to n_anchor - n_segment: this keeps the sum an anchor.
    if (span_is_anchor(tokens, annotated->tokens[i]) &&
        annotated->tokens[i] - tokens->anchor_first >= annotated->layout.n_segment)
      return FAIL("token %lld is anchor %d of %d segments", where, (long long)index, (long long)i,
                  annotated->tokens[i] - tokens->anchor_first, annotated->layout.n_segment);
    if (annotated->loss[i] > 1)
      return FAIL("the loss mask of token %lld is %d, expected 0 or 1", where, (long long)index, (long long)i,
                  annotated->loss[i]);
  }
  for (int32_t s = 0; s < annotated->layout.n_segment; ++s) {
    SS_TRY(check_segment(annotated, s, tokens, where, index, error));
    SS_TRY(check_references(&annotated->layout, s, where, index, error));
  }
  return SS_OK;
}

void store_complete_layout(rendering *annotated, const vocabulary *vocabulary) {
  const span_tokens *tokens = vocabulary_span_tokens(vocabulary);
  span_layout *layout = &annotated->layout;
  layout->preamble_end = layout->n_segment > 0 ? layout->segments[0].first : (int32_t)annotated->n_token;
  annotated->prompt_end = layout->preamble_end;
  for (int32_t s = 0; s < layout->n_segment; ++s) {
    span_segment *own = &layout->segments[s];
    own->end = (int32_t)segment_end(annotated, s);
    own->referenced_by = SPAN_ROW_OPEN;
    if (own->header_end == own->first || own->header_end == SPAN_ROW_OPEN)
      own->body_first = own->header_end;
    else
      own->body_first = own->header_end - 1;  // the row of <:>
    own->anchor = span_is_anchor(tokens, annotated->tokens[own->end - 1]) ? own->end - 1 : -1;
    if (own->kind == SPAN_CONTEXT)
      annotated->prompt_end = own->end;
    if (own->kind == SPAN_STEP)
      for (int32_t k = 0; k < own->n_reference; ++k) {
        span_segment *read = &layout->segments[layout->references[own->reference_first + k]];
        if (read->referenced_by == SPAN_ROW_OPEN)
          read->referenced_by = s;
      }
  }
}
