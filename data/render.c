#include "data/render.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define PREAMBLE_TOKENS 2  // <bos> and the task marker

const char *arm_name(arm arm) {
  static const char *const names[N_ARM] = {"dense", "annotated", "span"};
  return (unsigned)arm < N_ARM ? names[arm] : "unknown";
}

ss_status arm_from_name(const char *name, arm *out, ss_error *error) {
  for (int k = 0; k < N_ARM; k++)
    if (strcmp(name, arm_name((arm)k)) == 0) {
      *out = (arm)k;
      return SS_OK;
    }
  return ss_fail(error, SS_ERROR_USAGE, "arm \"%s\": expected dense, annotated or span", name);
}

span_policy arm_policy(arm arm, const span_policy *policy) {
  span_policy adapted = *policy;
  adapted.mask = arm == ARM_SPAN ? SPAN_MASK_SPAN : SPAN_MASK_NONE;
  return adapted;
}

static ss_status reserve(rendering *out, int64_t n_token, int64_t n_segment, int64_t n_reference,
                         ss_error *error) {
  if (n_token > INT32_MAX - 1)
    return ss_fail(error, SS_ERROR_LIMIT, "an example of %lld tokens", (long long)n_token);
  if (n_token > out->token_capacity)
    SS_TRY(ss_grow(&out->tokens, &out->token_capacity, n_token, sizeof *out->tokens, "tokens", error));
  if (n_token > out->loss_capacity)
    SS_TRY(ss_grow(&out->loss, &out->loss_capacity, n_token, sizeof *out->loss, "loss mask", error));
  if (n_segment > out->segment_capacity)
    SS_TRY(ss_grow(&out->layout.segments, &out->segment_capacity, n_segment, sizeof *out->layout.segments,
                   "segments", error));
  if (n_reference > out->reference_capacity)
    SS_TRY(ss_grow(&out->layout.references, &out->reference_capacity, n_reference,
                   sizeof *out->layout.references, "references", error));
  out->layout.segment_capacity = (int32_t)out->segment_capacity;
  out->layout.reference_capacity = (int32_t)out->reference_capacity;
  return SS_OK;
}

// Starts segment s at the next row, with no header and no references yet.
static span_segment *start_segment(rendering *out, int32_t kind) {
  int32_t row = (int32_t)out->n_token;
  span_segment *segment = &out->layout.segments[out->layout.n_segment++];
  segment->first = row;
  segment->header_end = row;
  segment->body_first = row;
  segment->end = row;
  segment->anchor = -1;
  segment->reference_first = out->layout.n_reference;
  segment->n_reference = 0;
  segment->referenced_by = SPAN_ROW_OPEN;
  segment->kind = kind;
  return segment;
}

static inline void put(rendering *out, int32_t token) {
  out->tokens[out->n_token++] = token;
}

static void put_header(rendering *out, span_segment *segment, const example *example, int64_t s,
                       const span_tokens *span) {
  const example_segment *source = &example->segments[s];
  put(out, span->open);
  if (segment->kind == SPAN_ANSWER)
    put(out, span->answer);
  for (int32_t k = 0; k < source->n_reference; k++) {
    int32_t reference = example->references[source->reference_first + k];
    put(out, span->anchor_first + reference);
    out->layout.references[out->layout.n_reference++] = reference;
    // The first step that reads a segment closes it for choose = open; answers do not count as steps.
    if (segment->kind == SPAN_STEP && out->layout.segments[reference].referenced_by == SPAN_ROW_OPEN)
      out->layout.segments[reference].referenced_by = (int32_t)s;
  }
  put(out, span->colon);
  segment->n_reference = source->n_reference;
  segment->header_end = (int32_t)out->n_token;
  segment->body_first = segment->header_end - 1;
}

static ss_status render_segment(rendering *out, const example *example, int64_t s,
                                const vocabulary *vocabulary, ss_error *error) {
  const span_tokens *span = vocabulary_span_tokens(vocabulary);
  const example_segment *source = &example->segments[s];
  span_segment *segment = start_segment(out, source->kind);
  if (source->kind != SPAN_CONTEXT)
    put_header(out, segment, example, s, span);
  SS_TRY(vocabulary_encode(vocabulary, example->text + source->text_first,
                           source->text_end - source->text_first, &out->tokens, &out->n_token,
                           &out->token_capacity, example->id, error));
  if (source->kind == SPAN_ANSWER) {
    put(out, span->eos);
  } else {
    segment->anchor = (int32_t)out->n_token;
    put(out, span->anchor_first + (int32_t)s);
  }
  segment->end = (int32_t)out->n_token;
  if (source->kind == SPAN_CONTEXT)
    out->prompt_end = segment->end;
  return SS_OK;
}

// The end of an example without an answer: a segment of its own, whose header (if any) never closes.
static void render_end(rendering *out, const span_tokens *span, bool header) {
  span_segment *segment = start_segment(out, SPAN_END);
  if (header) {
    put(out, span->open);
    segment->header_end = segment->body_first = SPAN_ROW_OPEN;
  }
  put(out, span->eos);
  segment->end = (int32_t)out->n_token;
}

static void mark_loss(rendering *out) {
  memset(out->loss, 0, (size_t)out->prompt_end);
  memset(out->loss + out->prompt_end, 1, (size_t)(out->n_token - out->prompt_end));
}

static void restart(rendering *out, int32_t preamble_end) {
  out->n_token = 0;
  out->prompt_end = preamble_end;
  out->layout.preamble_end = preamble_end;
  out->layout.n_segment = 0;
  out->layout.n_reference = 0;
}

ss_status render_annotated(rendering *out, const example *example, const vocabulary *vocabulary,
                           int32_t max_header, ss_error *error) {
  const span_tokens *span = vocabulary_span_tokens(vocabulary);
  int64_t n_segment = example->n_segment;
  bool answered = n_segment > 0 && example->segments[n_segment - 1].kind == SPAN_ANSWER;
  if (n_segment + !answered > span->n_anchor)
    return ss_fail(error, SS_ERROR_LIMIT, "%s: %lld segments, but the vocabulary has %d anchors", example->id,
                   (long long)(n_segment + !answered), span->n_anchor);
  for (int64_t s = 0; s < n_segment; s++) {
    int32_t header = example->segments[s].n_reference + 2 + (example->segments[s].kind == SPAN_ANSWER);
    if (example->segments[s].kind != SPAN_CONTEXT && header > max_header)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "%s: segment %lld has a header of %d tokens, more than max_header = %d", example->id,
                     (long long)s, header, max_header);
  }
  // Every text character is one token; a segment adds at most <[> <=> <:> and its last token.
  SS_TRY(reserve(out, PREAMBLE_TOKENS + example->n_text + example->n_reference + 4 * (n_segment + 1),
                 n_segment + 1, example->n_reference, error));
  restart(out, PREAMBLE_TOKENS);
  put(out, vocabulary_bos(vocabulary));
  put(out, vocabulary_task(vocabulary));
  for (int64_t s = 0; s < n_segment; s++)
    SS_TRY(render_segment(out, example, s, vocabulary, error));
  if (!answered)
    render_end(out, span, true);
  mark_loss(out);
  return SS_OK;
}

// Copies rows [first, end) of `from`, anchors shifted.
static void copy_rows(rendering *out, const rendering *from, int32_t first, int32_t end,
                      const span_tokens *span, int32_t anchor_offset) {
  int32_t *write = out->tokens + out->n_token;
  for (int32_t row = first; row < end; row++) {
    int32_t token = from->tokens[row];
    *write++ = span_is_anchor(span, token) ? token + anchor_offset : token;
  }
  out->n_token += end - first;
}

static void render_dense(rendering *out, const rendering *annotated, const span_tokens *span,
                         int32_t anchor_offset) {
  restart(out, annotated->layout.preamble_end);
  copy_rows(out, annotated, 0, annotated->layout.preamble_end, span, anchor_offset);
  for (int32_t s = 0; s < annotated->layout.n_segment; s++) {
    const span_segment *source = &annotated->layout.segments[s];
    if (source->kind == SPAN_END) {
      render_end(out, span, false);
      continue;
    }
    span_segment *segment = start_segment(out, source->kind);
    int32_t shift = segment->first - source->header_end;
    copy_rows(out, annotated, source->header_end, source->end, span, anchor_offset);
    segment->anchor = source->anchor < 0 ? -1 : source->anchor + shift;
    segment->end = (int32_t)out->n_token;
    if (source->kind == SPAN_CONTEXT)
      out->prompt_end = segment->end;
  }
  mark_loss(out);
}

ss_status render_arm(rendering *out, const rendering *annotated, arm arm, const vocabulary *vocabulary,
                     int32_t anchor_offset, ss_error *error) {
  const span_tokens *span = vocabulary_span_tokens(vocabulary);
  const span_layout *layout = &annotated->layout;
  if (anchor_offset < 0 || anchor_offset + layout->n_segment > span->n_anchor)
    return ss_fail(error, SS_ERROR_LIMIT, "%d segments from anchor %d on, but the vocabulary has %d anchors",
                   layout->n_segment, anchor_offset, span->n_anchor);
  SS_TRY(reserve(out, annotated->n_token, layout->n_segment, layout->n_reference, error));
  if (arm == ARM_DENSE) {
    render_dense(out, annotated, span, anchor_offset);
    return SS_OK;
  }
  restart(out, annotated->layout.preamble_end);
  copy_rows(out, annotated, 0, (int32_t)annotated->n_token, span, anchor_offset);
  out->prompt_end = annotated->prompt_end;
  memcpy(out->loss, annotated->loss, (size_t)annotated->n_token);
  memcpy(out->layout.segments, layout->segments, (size_t)layout->n_segment * sizeof *layout->segments);
  if (layout->n_reference > 0)
    memcpy(out->layout.references, layout->references,
           (size_t)layout->n_reference * sizeof *layout->references);
  out->layout.n_segment = layout->n_segment;
  out->layout.n_reference = layout->n_reference;
  return SS_OK;
}

void rendering_free(rendering *rendering) {
  free(rendering->tokens);
  free(rendering->loss);
  free(rendering->layout.segments);
  free(rendering->layout.references);
  memset(rendering, 0, sizeof *rendering);
}
