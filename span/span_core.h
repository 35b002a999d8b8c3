// The span protocol: grammar, tracker and visibility, in one leaf header.
//
// A token sequence is cut into segments without gaps. A context segment is text closed by its own
// anchor; a step is a header `<[> reference* <:>`, a body, and its own anchor; an answer is
// `<[> <=> reference+ <:> text <eos>`; `<[> <eos>` ends a task without answer. Dense training text has the
// same segments without headers. V(i), the rows that the query at row i may read, turns on the policy
// below and on nothing else. Training, prefill, decoding (host and device), evaluation and reports
// all get it from span_reads_of and span_append_piece; there is no second implementation.
//
// The header compiles as C11 and as CUDA device code: static inline, caller-owned storage of fixed
// capacity, no allocation, no libc. It knows neither tasks nor models.
//
// Method: Jin et al. 2024, "Self-Selected Attention Span for Accelerating LLM Inference"
// (arXiv 2404.09336); the grammar and the index policies are this toolkit's (docs/DESIGN.md).
#ifndef SELFSPAN_SPAN_SPAN_CORE_H
#define SELFSPAN_SPAN_SPAN_CORE_H

#include <stdint.h>

#ifdef __CUDACC__
#define SPAN_FUNCTION static inline __host__ __device__
#else
#define SPAN_FUNCTION static inline
#endif

#define SPAN_ROW_OPEN INT32_MAX  // a header end or first reference that has not happened yet

// Rows [first, end) of one sequence.
typedef struct {
  int32_t first, end;
} span_range;

typedef enum { SPAN_CONTEXT, SPAN_STEP, SPAN_ANSWER, SPAN_END } span_kind;

// What a header may read besides the preamble and itself.
typedef enum {
  SPAN_CHOOSE_ALL,      // everything earlier
  SPAN_CHOOSE_INDEX,    // headers and anchors of all earlier segments
  SPAN_CHOOSE_ANCHORS,  // anchors of all earlier segments
  SPAN_CHOOSE_OPEN      // headers and anchors of the earlier segments that no step has referenced
} span_choose;          // the last step is always in the index, whole

typedef enum { SPAN_MASK_NONE, SPAN_MASK_SPAN } span_mask;
typedef enum { SPAN_CONTEXT_CAUSAL, SPAN_CONTEXT_LOCAL } span_context_rule;

typedef struct {
  int32_t mask;              // span_mask: NONE makes every V(i) = [0, i]
  int32_t choose;            // span_choose
  int32_t pin;               // 1: context segments are wholly visible to headers
  int32_t context;           // span_context_rule
  int32_t body_sees_header;  // 0 (a control): a body does not read its own header
  int32_t max_header;  // a longer header (in tokens, `<[>` and `<:>` included) is closed by force; >= 4,
                       // the shortest answer's
  int32_t lead;        // headers and bodies read so many context segments, the first ones, whole
  int32_t recent;      // and everything from the start of the last so many steps before them
} span_policy;

SPAN_FUNCTION span_policy span_policy_default(void) {
  span_policy policy = {SPAN_MASK_SPAN, SPAN_CHOOSE_INDEX, 0, SPAN_CONTEXT_CAUSAL, 1, 16, 0, 0};
  return policy;
}

// Ids of the special tokens. Anchor k is anchor_first + k, 0 <= k < n_anchor.
typedef struct {
  int32_t open;          // <[>
  int32_t colon;         // <:>
  int32_t answer;        // <=>
  int32_t eos;           // <eos>
  int32_t anchor_first;  // <#0>
  int32_t n_anchor;
} span_tokens;

// One segment: rows [first, end). `header_end` is one past `<:>` (== first when there is no header,
// SPAN_ROW_OPEN while the header is open or when `<eos>` ended it). Queries from `body_first` on follow
// the body rule: the row of `<:>`, or the first body row when the header was closed by force or is absent.
typedef struct {
  int32_t first;
  int32_t header_end;
  int32_t body_first;
  int32_t end;
  int32_t anchor;           // row of the closing anchor, -1 when there is none
  int32_t reference_first;  // its references are layout.references[reference_first .. + n_reference)
  int32_t n_reference;
  int32_t referenced_by;  // the first step that references this segment, SPAN_ROW_OPEN when none does
  int32_t kind;           // span_kind
} span_segment;

// A sequence's segments, in order. Storage belongs to the caller. Segment k ends where k + 1 begins.
typedef struct {
  int32_t preamble_end;  // rows [0, preamble_end) are always visible
  int32_t n_segment, segment_capacity;
  span_segment *segments;
  int32_t n_reference, reference_capacity;
  int32_t *references;  // indices of earlier segments, ascending within a segment
} span_layout;

// One visible set shared by consecutive queries: query row i in [query_first, query_end) reads the
// ranges [range_first, range_first + n_range) of a list that goes with the view, and rows
// [self_first, i]. Ranges are sorted, merged, non-empty and end before self_first.
typedef struct {
  int32_t query_first, query_end;
  int32_t self_first;
  int32_t range_first, n_range;
} span_view;

// Ranges that span_visible_before can write for this layout.
SPAN_FUNCTION int32_t span_range_capacity(const span_layout *layout) {
  return 2 * layout->n_segment + 4;
}

// Appends [first, end) to a sorted list, merging with its last range. Requires first >= the last first.
SPAN_FUNCTION void span_append_range(span_range *ranges, int32_t *n_range, int32_t first, int32_t end) {
  if (first >= end)
    return;
  if (*n_range > 0 && first <= ranges[*n_range - 1].end) {
    if (end > ranges[*n_range - 1].end)
      ranges[*n_range - 1].end = end;
    return;
  }
  ranges[*n_range].first = first;
  ranges[*n_range].end = end;
  ++*n_range;
}

// What a query reads before its own segment, in pieces that do not depend on each other: a GPU looks at many at once.
// Pieces ascend, so their ranges, each merged into what came before, are the visible rows.
typedef struct {
  int32_t s, in_header;
  int32_t self_first;  // from here on the query reads everything up to itself
  int32_t n_piece;
  int32_t last_step;  // before s, -1 when there is none; looked for where the index is read
  int32_t lead;       // segments [0, lead) are read whole,
  int32_t recent;     // and so are segments [recent, s)
} span_reads;

// The first of the last `policy->recent` steps before segment `s`, `s` when there is none.
SPAN_FUNCTION int32_t span_recent_segment(const span_policy *policy, const span_layout *layout, int32_t s) {
  int32_t recent = s;
  for (int32_t k = s - 1, n = 0; k >= 0 && n < policy->recent; --k)
    if (layout->segments[k].kind == SPAN_STEP) {
      recent = k;
      ++n;
    }
  return recent;
}

// How many of the segments before `s` are the lead.
SPAN_FUNCTION int32_t span_lead_segments(const span_policy *policy, const span_layout *layout, int32_t s) {
  int32_t lead = 0;
  while (lead < policy->lead && lead < s && layout->segments[lead].kind == SPAN_CONTEXT)
    ++lead;
  return lead;
}

// Of the header (in_header = 1) or body (0) of segment `s`; s == -1 stands for the preamble.
SPAN_FUNCTION span_reads span_reads_of(const span_policy *policy, const span_layout *layout, int32_t s,
                                       int32_t in_header) {
  span_reads reads = {s, in_header, 0, 0, -1, 0, s};
  if (s < 0 || policy->mask == SPAN_MASK_NONE)
    return reads;
  const span_segment *own = &layout->segments[s];
  reads.self_first = own->first;
  reads.n_piece = 1;  // the preamble
  if (own->kind == SPAN_CONTEXT) {
    if (policy->context == SPAN_CONTEXT_CAUSAL)
      reads.n_piece += s;
    return reads;
  }
  reads.lead = span_lead_segments(policy, layout, s);
  reads.recent = span_recent_segment(policy, layout, s);
  if (!in_header) {
    reads.n_piece += own->n_reference + 2;
    if (!policy->body_sees_header)
      reads.self_first = own->body_first;
  } else if (policy->choose == SPAN_CHOOSE_ALL) {
    ++reads.n_piece;
  } else {
    reads.n_piece += s;
    reads.last_step = s - 1;
    while (reads.last_step >= 0 && layout->segments[reads.last_step].kind != SPAN_STEP)
      --reads.last_step;
  }
  return reads;
}

#define SPAN_PIECE_RANGES 2  // of a piece at most

// Appends the ranges of piece k, 0 <= k < n_piece.
SPAN_FUNCTION void span_append_piece(const span_policy *policy, const span_layout *layout,
                                     const span_reads *reads, int32_t k, span_range *ranges,
                                     int32_t *n_range) {
  const span_segment *own = &layout->segments[reads->s];
  if (k == 0) {
    span_append_range(ranges, n_range, 0, layout->preamble_end);
  } else if (own->kind == SPAN_CONTEXT) {
    const span_segment *read = &layout->segments[k - 1];
    if (read->kind == SPAN_CONTEXT)
      span_append_range(ranges, n_range, read->first, read->end);
  } else if (!reads->in_header && k == 1) {
    if (reads->lead > 0)
      span_append_range(ranges, n_range, layout->segments[0].first, layout->segments[reads->lead - 1].end);
  } else if (!reads->in_header && k == own->n_reference + 2) {
    span_append_range(ranges, n_range, layout->segments[reads->recent].first, own->first);
  } else if (!reads->in_header) {
    int32_t referenced = layout->references[own->reference_first + k - 2];
    const span_segment *read = &layout->segments[referenced];
    if (referenced >= reads->lead && referenced < reads->recent)
      span_append_range(ranges, n_range, read->first, read->end);
  } else if (policy->choose == SPAN_CHOOSE_ALL) {
    span_append_range(ranges, n_range, 0, own->first);
  } else {
    const span_segment *read = &layout->segments[k - 1];
    if (k - 1 == reads->last_step || k - 1 < reads->lead || k - 1 >= reads->recent ||
        (policy->pin && read->kind == SPAN_CONTEXT)) {
      span_append_range(ranges, n_range, read->first, read->end);
      return;
    }
    if (policy->choose == SPAN_CHOOSE_OPEN && read->referenced_by < reads->s)
      return;
    if (policy->choose != SPAN_CHOOSE_ANCHORS && read->header_end != SPAN_ROW_OPEN)
      span_append_range(ranges, n_range, read->first, read->header_end);
    if (read->anchor >= 0)
      span_append_range(ranges, n_range, read->anchor, read->anchor + 1);
  }
}

// The rows before segment `s` that its header (in_header = 1) or body (0) reads: sorted, merged, into
// `ranges` (span_range_capacity entries). *self_first receives the row from which a query reads everything
// up to itself; a last range that touches it is folded into it. s == -1 stands for the preamble.
SPAN_FUNCTION int32_t span_visible_before(const span_policy *policy, const span_layout *layout, int32_t s,
                                          int32_t in_header, span_range *ranges, int32_t *self_first) {
  span_reads reads = span_reads_of(policy, layout, s, in_header);
  int32_t n_range = 0;
  for (int32_t k = 0; k < reads.n_piece; ++k)
    span_append_piece(policy, layout, &reads, k, ranges, &n_range);
  *self_first = reads.self_first;
  if (n_range > 0 && ranges[n_range - 1].end >= *self_first) {
    *self_first = ranges[n_range - 1].first;
    --n_range;
  }
  return n_range;
}

// The views of segment `s`: its header's queries, then its body's; empty ones are left out, so 0 to 2 are
// written. Ranges go to ranges[*n_range...], which must have room for 2 * span_range_capacity more.
// s == -1 gives the preamble's view. Rows are the sequence's own, counted from its start.
SPAN_FUNCTION int32_t span_views_of(const span_policy *policy, const span_layout *layout, int32_t s,
                                    span_view views[2], span_range *ranges, int32_t *n_range) {
  int32_t n_view = 0;
  int32_t first = s < 0 ? 0 : layout->segments[s].first;
  int32_t end = s < 0 ? layout->preamble_end : layout->segments[s].end;
  int32_t body_first = s < 0 ? first : layout->segments[s].body_first;
  if (body_first > end)
    body_first = end;
  for (int32_t in_header = 1; in_header >= 0; --in_header) {
    span_view view;
    view.query_first = in_header ? first : body_first;
    view.query_end = in_header ? body_first : end;
    if (view.query_first >= view.query_end)
      continue;
    view.range_first = *n_range;
    view.n_range = span_visible_before(policy, layout, s, in_header, ranges + *n_range, &view.self_first);
    *n_range += view.n_range;
    views[n_view++] = view;
  }
  return n_view;
}

// |V(row)| under a view: the attended rows of one query, itself included.
SPAN_FUNCTION int32_t span_view_rows(const span_view *view, const span_range *ranges, int32_t row) {
  int32_t rows = row + 1 - view->self_first;
  for (int32_t k = 0; k < view->n_range; ++k)
    rows += ranges[view->range_first + k].end - ranges[view->range_first + k].first;
  return rows;
}

// --- Tracker: the layout of a sequence, token by token -------------------------------------------------

typedef enum {
  SPAN_STATE_BETWEEN,  // after the preamble or a closed segment
  SPAN_STATE_HEADER,
  SPAN_STATE_BODY,
  SPAN_STATE_DONE  // after <eos>
} span_state;

// What was malformed in a generated sequence. The sequence goes on all the same.
typedef struct {
  int32_t unknown_reference;    // names no segment that exists (self and forward references are such)
  int32_t duplicate_reference;  // a reference given before in the same header
  int32_t unordered_reference;  // accepted, though a later segment was named before it
  int32_t wrong_anchor;         // a segment closed by another id than its own
  int32_t unclosed_segment;     // `<[>` inside a body
  int32_t long_header;          // closed by force
  int32_t stray_token;          // a token that its place does not permit
} span_malformed;

SPAN_FUNCTION int32_t span_malformed_total(const span_malformed *m) {
  return m->unknown_reference + m->duplicate_reference + m->unordered_reference + m->wrong_anchor +
         m->unclosed_segment + m->long_header + m->stray_token;
}

typedef struct {
  span_tokens tokens;
  span_policy policy;
  int32_t headers;        // 1: generated segments carry headers (annotated, span); 0: they do not (dense)
  int32_t anchor_offset;  // id of segment 0's anchor
  int32_t prompt_end;     // rows before it are the prompt: header-less segments there are context
  int32_t n_row;          // tokens pushed
  int32_t state;          // span_state
  span_layout layout;
  span_malformed malformed;
} span_tracker;

typedef enum {
  SPAN_PUSH_OK = 0,
  SPAN_PUSH_FULL = 1  // no room for another segment or reference, or no anchor id left: stop here
} span_push_result;

// Starts a sequence. `segments` and `references` are the caller's; preamble_end and prompt_end in rows.
SPAN_FUNCTION void span_tracker_start(span_tracker *tracker, const span_tokens *tokens,
                                      const span_policy *policy, int32_t headers, int32_t anchor_offset,
                                      int32_t preamble_end, int32_t prompt_end, span_segment *segments,
                                      int32_t segment_capacity, int32_t *references,
                                      int32_t reference_capacity) {
  tracker->tokens = *tokens;
  tracker->policy = *policy;
  tracker->headers = headers;
  tracker->anchor_offset = anchor_offset;
  tracker->prompt_end = prompt_end;
  tracker->n_row = 0;
  tracker->state = SPAN_STATE_BETWEEN;
  tracker->layout.preamble_end = preamble_end;
  tracker->layout.n_segment = 0;
  tracker->layout.segment_capacity = segment_capacity;
  tracker->layout.segments = segments;
  tracker->layout.n_reference = 0;
  tracker->layout.reference_capacity = reference_capacity;
  tracker->layout.references = references;
  span_malformed none = {0, 0, 0, 0, 0, 0, 0};
  tracker->malformed = none;
}

SPAN_FUNCTION int32_t span_is_anchor(const span_tokens *tokens, int32_t token) {
  return token >= tokens->anchor_first && token < tokens->anchor_first + tokens->n_anchor;
}

// The id with which segment `s` must close.
SPAN_FUNCTION int32_t span_own_anchor(const span_tracker *tracker, int32_t s) {
  return tracker->tokens.anchor_first + tracker->anchor_offset + s;
}

// The header is over: queries from `body_first` on follow the body rule, and the references count.
SPAN_FUNCTION void span_close_header(span_tracker *tracker, int32_t body_first, int32_t header_end) {
  int32_t s = tracker->layout.n_segment - 1;
  span_segment *own = &tracker->layout.segments[s];
  own->body_first = body_first;
  own->header_end = header_end;
  if (own->kind == SPAN_STEP)
    for (int32_t k = 0; k < own->n_reference; ++k) {
      span_segment *read = &tracker->layout.segments[tracker->layout.references[own->reference_first + k]];
      if (read->referenced_by > s)
        read->referenced_by = s;
    }
  tracker->state = SPAN_STATE_BODY;
}

SPAN_FUNCTION int32_t span_open_segment(span_tracker *tracker, int32_t row, int32_t kind, int32_t header) {
  span_layout *layout = &tracker->layout;
  int32_t s = layout->n_segment;
  if (s >= layout->segment_capacity || tracker->anchor_offset + s >= tracker->tokens.n_anchor)
    return SPAN_PUSH_FULL;
  span_segment *own = &layout->segments[s];
  own->first = row;
  own->header_end = header ? SPAN_ROW_OPEN : row;
  own->body_first = header ? SPAN_ROW_OPEN : row;
  own->end = row + 1;
  own->anchor = -1;
  own->reference_first = layout->n_reference;
  own->n_reference = 0;
  own->referenced_by = SPAN_ROW_OPEN;
  own->kind = kind;
  ++layout->n_segment;
  tracker->state = header ? SPAN_STATE_HEADER : SPAN_STATE_BODY;
  return SPAN_PUSH_OK;
}

// Inserts a reference in ascending order; unknown and duplicate ones are ignored and counted.
SPAN_FUNCTION int32_t span_push_reference(span_tracker *tracker, int32_t segment) {
  span_layout *layout = &tracker->layout;
  span_segment *own = &layout->segments[layout->n_segment - 1];
  if (segment < 0 || segment >= layout->n_segment - 1) {
    ++tracker->malformed.unknown_reference;
    return SPAN_PUSH_OK;
  }
  int32_t *own_references = layout->references + own->reference_first;
  int32_t place = own->n_reference;
  while (place > 0 && own_references[place - 1] > segment)
    --place;
  if (place > 0 && own_references[place - 1] == segment) {
    ++tracker->malformed.duplicate_reference;
    return SPAN_PUSH_OK;
  }
  if (layout->n_reference >= layout->reference_capacity)
    return SPAN_PUSH_FULL;
  tracker->malformed.unordered_reference += place < own->n_reference;
  for (int32_t k = own->n_reference; k > place; --k)
    own_references[k] = own_references[k - 1];
  own_references[place] = segment;
  ++own->n_reference;
  ++layout->n_reference;
  return SPAN_PUSH_OK;
}

SPAN_FUNCTION int32_t span_push_header_token(span_tracker *tracker, int32_t token, int32_t row) {
  span_layout *layout = &tracker->layout;
  span_segment *own = &layout->segments[layout->n_segment - 1];
  if (token == tracker->tokens.colon) {
    span_close_header(tracker, row, row + 1);
  } else if (token == tracker->tokens.eos) {
    own->kind = SPAN_END;
    tracker->state = SPAN_STATE_DONE;
  } else if (token == tracker->tokens.answer && row == own->first + 1) {
    own->kind = SPAN_ANSWER;
  } else if (span_is_anchor(&tracker->tokens, token)) {
    return span_push_reference(tracker, token - tracker->tokens.anchor_first - tracker->anchor_offset);
  } else {
    ++tracker->malformed.stray_token;
  }
  return SPAN_PUSH_OK;
}

SPAN_FUNCTION int32_t span_push_body_token(span_tracker *tracker, int32_t token, int32_t row) {
  span_layout *layout = &tracker->layout;
  int32_t s = layout->n_segment - 1;
  span_segment *own = &layout->segments[s];
  if (token == tracker->tokens.eos) {
    if (own->kind == SPAN_STEP && !tracker->headers)
      own->kind = row == own->first ? SPAN_END : SPAN_ANSWER;
    else if (own->kind != SPAN_ANSWER)
      ++tracker->malformed.stray_token;
    tracker->state = SPAN_STATE_DONE;
  } else if (span_is_anchor(&tracker->tokens, token)) {
    if (own->kind == SPAN_ANSWER)
      ++tracker->malformed.stray_token;
    if (token != span_own_anchor(tracker, s))
      ++tracker->malformed.wrong_anchor;
    own->anchor = row;
    tracker->state = SPAN_STATE_BETWEEN;
  } else if (token == tracker->tokens.colon || token == tracker->tokens.answer) {
    ++tracker->malformed.stray_token;
  }
  return SPAN_PUSH_OK;
}

// Takes the token of row n_row. Afterwards span_tracker_visible gives what that row's query reads. The first
// preamble_end tokens are the preamble. SPAN_PUSH_FULL leaves the tracker unchanged.
SPAN_FUNCTION int32_t span_tracker_push(span_tracker *tracker, int32_t token) {
  span_layout *layout = &tracker->layout;
  int32_t row = tracker->n_row;
  if (row < layout->preamble_end) {
    ++tracker->n_row;
    return SPAN_PUSH_OK;
  }
  span_malformed before = tracker->malformed;
  int32_t result = SPAN_PUSH_OK;
  int32_t unclosed = tracker->state == SPAN_STATE_BODY && token == tracker->tokens.open;
  if (tracker->state == SPAN_STATE_BETWEEN || tracker->state == SPAN_STATE_DONE || unclosed) {
    int32_t header = token == tracker->tokens.open;
    int32_t context = !header && row < tracker->prompt_end;
    tracker->malformed.unclosed_segment += unclosed;
    if (!header && !context && (tracker->headers || tracker->state == SPAN_STATE_DONE))
      ++tracker->malformed.stray_token;
    int32_t state = tracker->state;
    result = span_open_segment(tracker, row, context ? SPAN_CONTEXT : SPAN_STEP, header);
    if (result != SPAN_PUSH_OK)
      tracker->state = state;
    else if (!header)
      result = span_push_body_token(tracker, token, row);
  } else {
    span_segment *own = &layout->segments[layout->n_segment - 1];
    int32_t in_header = tracker->state == SPAN_STATE_HEADER;
    if (in_header && row - own->first >= tracker->policy.max_header) {
      ++tracker->malformed.long_header;
      span_close_header(tracker, row, row);
      in_header = 0;
    }
    result = in_header ? span_push_header_token(tracker, token, row)
                       : span_push_body_token(tracker, token, row);
    if (result == SPAN_PUSH_OK)
      own->end = row + 1;
  }
  if (result == SPAN_PUSH_OK)
    ++tracker->n_row;
  else
    tracker->malformed = before;
  return result;
}

// The segment of the last pushed row, -1 for the preamble, and whether the row follows the header's rule.
SPAN_FUNCTION int32_t span_tracker_segment(const span_tracker *tracker, int32_t *in_header) {
  int32_t row = tracker->n_row - 1;
  int32_t s = row < tracker->layout.preamble_end ? -1 : tracker->layout.n_segment - 1;
  *in_header = s >= 0 && row < tracker->layout.segments[s].body_first;
  return s;
}

// What the query of the last pushed row reads, as a view of one query; ranges need
// span_range_capacity(&tracker->layout) entries. Requires n_row > 0.
SPAN_FUNCTION span_view span_tracker_visible(const span_tracker *tracker, span_range *ranges) {
  span_view view;
  int32_t in_header, s = span_tracker_segment(tracker, &in_header);
  view.query_first = tracker->n_row - 1;
  view.query_end = tracker->n_row;
  view.range_first = 0;
  view.n_range = span_visible_before(&tracker->policy, &tracker->layout, s, in_header, ranges,
                                     &view.self_first);
  return view;
}

// Whether `token` may come next in a well-formed generated sequence: `--constrain` forbids the others. Only
// headers and segment starts are constrained, and `<eos>`/`<:>`/`<=>` inside a step's body; body text is free.
// The end may not come where nothing but context lies before it. A step's closing anchor is not judged here:
// span_corrected gives it its own id.
SPAN_FUNCTION int32_t span_token_allowed(const span_tracker *tracker, int32_t token) {
  const span_layout *layout = &tracker->layout;
  const span_tokens *tokens = &tracker->tokens;
  // The last closed segment.
  int32_t before = layout->n_segment - 1 - (tracker->state != SPAN_STATE_BETWEEN);
  int32_t nothing_yet = before < 0 || layout->segments[before].kind == SPAN_CONTEXT;
  if (!tracker->headers)
    return token != tokens->open && token != tokens->colon && token != tokens->answer &&
           !(token == tokens->eos && nothing_yet && tracker->state != SPAN_STATE_BODY);
  if (tracker->state == SPAN_STATE_BETWEEN)
    return token == tokens->open;
  if (tracker->state == SPAN_STATE_DONE)
    return 0;
  const span_segment *own = &layout->segments[layout->n_segment - 1];
  if (tracker->state == SPAN_STATE_BODY) {
    if (token == tokens->eos)
      return own->kind == SPAN_ANSWER;
    if (span_is_anchor(tokens, token))
      return own->kind != SPAN_ANSWER;
    return token != tokens->open && token != tokens->colon && token != tokens->answer;
  }
  int32_t length = tracker->n_row - own->first;
  if (token == tokens->colon)
    return own->kind != SPAN_ANSWER || own->n_reference > 0;
  if (length >= tracker->policy.max_header - 1 && !(own->kind == SPAN_ANSWER && own->n_reference == 0))
    return 0;
  if (token == tokens->answer || token == tokens->eos)
    return length == 1 && !(token == tokens->eos && nothing_yet);
  if (!span_is_anchor(tokens, token))
    return 0;
  int32_t segment = token - tokens->anchor_first - tracker->anchor_offset;
  int32_t last = own->n_reference > 0 ? layout->references[layout->n_reference - 1] : -1;
  return segment > last && segment < layout->n_segment - 1;
}

// The token that `--constrain` writes for `token`: a closing anchor becomes the segment's own id.
SPAN_FUNCTION int32_t span_corrected(const span_tracker *tracker, int32_t token) {
  // Without headers an anchor between segments is an empty segment's.
  int32_t s = tracker->state == SPAN_STATE_BODY                           ? tracker->layout.n_segment - 1
              : !tracker->headers && tracker->state == SPAN_STATE_BETWEEN ? tracker->layout.n_segment
                                                                          : -1;
  if (s < 0 || tracker->anchor_offset + s >= tracker->tokens.n_anchor ||
      !span_is_anchor(&tracker->tokens, token))
    return token;
  return span_own_anchor(tracker, s);
}

#endif
