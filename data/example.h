// One annotated example, free of arms and anchors' offsets: segments with kinds, texts and references. Tasks fill
// it through the builder; the store keeps it; the renderer (data/render.h) turns it into an arm's tokens.
#ifndef SELFSPAN_DATA_EXAMPLE_H
#define SELFSPAN_DATA_EXAMPLE_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"
#include "span/span_core.h"

typedef struct {
  int32_t kind;        // span_kind: CONTEXT, STEP or ANSWER
  int64_t text_first;  // bytes of the segment's text in example.text
  int64_t text_end;
  int32_t reference_first;  // into example.references: ascending indices of earlier segments
  int32_t n_reference;
} example_segment;

typedef struct {
  char id[64];
  char *text;  // all segments' texts, concatenated, zero-terminated
  int64_t n_text, text_capacity;
  example_segment *segments;
  int64_t n_segment, segment_capacity;
  int32_t *references;
  int64_t n_reference, reference_capacity;
  char *answers;  // zero-terminated strings, one after the other (accepted answers; the first is canonical)
  int64_t n_answers_bytes, answers_capacity;
  int32_t n_answer;
  char *meta;  // one JSON object as text (task-specific: operators, ...), zero-terminated
  int64_t n_meta, meta_capacity;
} example;

// Builder: reset, then segments in order, each with its references, then answers and metadata. Rules of the grammar
// (contexts first, steps after, at most one answer, last; references ascending, earlier, distinct; an answer has one
// or more; no text is empty) are checked by example_finish. A zeroed struct is an empty example.

// Empties the example, keeping its storage. A longer id than fits is cut, at a character of UTF-8.
void example_reset(example *example, const char *id);
// Appends a segment of span_kind `kind` with n_text bytes of text and no references.
ss_status example_segment_add(example *example, int32_t kind, const char *text, int64_t n_text,
                              ss_error *error);
// Appends a reference to the last segment's.
ss_status example_reference_add(example *example, int32_t segment, ss_error *error);
// Appends an accepted answer.
ss_status example_answer_add(example *example, const char *answer, ss_error *error);
// Replaces the metadata by one JSON object, given as text.
ss_status example_meta_set(example *example, const char *json_text, ss_error *error);
// Checks the rules above; the message names the example and the segment.
ss_status example_finish(const example *example, ss_error *error);
// Frees the storage and empties the struct.
void example_free(example *example);

#endif
