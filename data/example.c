#include "data/example.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

// Grows only when needed: the builder runs hundreds of thousands of times a second.
#define RESERVE(array, capacity, needed, what)                                        \
  do {                                                                                \
    if ((needed) > (capacity))                                                        \
      SS_TRY(ss_grow(&(array), &(capacity), (needed), sizeof *(array), what, error)); \
  } while (0)

void example_reset(example *example, const char *id) {
  size_t length = strlen(id);
  if (length >= sizeof example->id)
    for (length = sizeof example->id - 1; length > 0 && ((unsigned char)id[length] & 0xC0) == 0x80;)
      length--;
  memcpy(example->id, id, length);
  example->id[length] = '\0';
  example->n_text = 0;
  example->n_segment = 0;
  example->n_reference = 0;
  example->n_answers_bytes = 0;
  example->n_answer = 0;
  example->n_meta = 0;
  if (example->text != NULL)
    example->text[0] = '\0';
  if (example->meta != NULL)
    example->meta[0] = '\0';
}

ss_status example_segment_add(example *example, int32_t kind, const char *text, int64_t n_text,
                              ss_error *error) {
  RESERVE(example->segments, example->segment_capacity, example->n_segment + 1, "segments");
  RESERVE(example->text, example->text_capacity, example->n_text + n_text + 1, "segment text");
  example_segment *segment = &example->segments[example->n_segment++];
  segment->kind = kind;
  segment->text_first = example->n_text;
  segment->text_end = example->n_text + n_text;
  segment->reference_first = (int32_t)example->n_reference;
  segment->n_reference = 0;
  memcpy(example->text + example->n_text, text, (size_t)n_text);
  example->n_text += n_text;
  example->text[example->n_text] = '\0';
  return SS_OK;
}

ss_status example_reference_add(example *example, int32_t segment, ss_error *error) {
  if (example->n_segment == 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: a reference before the first segment", example->id);
  RESERVE(example->references, example->reference_capacity, example->n_reference + 1, "references");
  example->references[example->n_reference++] = segment;
  ++example->segments[example->n_segment - 1].n_reference;
  return SS_OK;
}

ss_status example_answer_add(example *example, const char *answer, ss_error *error) {
  int64_t bytes = (int64_t)strlen(answer) + 1;
  RESERVE(example->answers, example->answers_capacity, example->n_answers_bytes + bytes, "answers");
  memcpy(example->answers + example->n_answers_bytes, answer, (size_t)bytes);
  example->n_answers_bytes += bytes;
  ++example->n_answer;
  return SS_OK;
}

ss_status example_meta_set(example *example, const char *json_text, ss_error *error) {
  int64_t length = (int64_t)strlen(json_text);
  RESERVE(example->meta, example->meta_capacity, length + 1, "metadata");
  memcpy(example->meta, json_text, (size_t)length + 1);
  example->n_meta = length;
  return SS_OK;
}

static ss_status check_references(const example *example, int64_t s, ss_error *error) {
  const example_segment *segment = &example->segments[s];
  int32_t last = -1;
  if (segment->kind == SPAN_CONTEXT && segment->n_reference > 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: segment %lld: a context has no references", example->id,
                   (long long)s);
  if (segment->kind == SPAN_ANSWER && segment->n_reference == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: segment %lld: an answer needs at least one reference",
                   example->id, (long long)s);
  for (int32_t k = 0; k < segment->n_reference; k++) {
    int32_t reference = example->references[segment->reference_first + k];
    if (reference < 0 || reference >= s)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: segment %lld references %d, expected an earlier segment (0 to %lld)", example->id,
                     (long long)s, reference, (long long)s - 1);
    if (reference <= last)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: segment %lld: references %d and %d, expected ascending and distinct", example->id,
                     (long long)s, last, reference);
    last = reference;
  }
  return SS_OK;
}

ss_status example_finish(const example *example, ss_error *error) {
  int32_t previous = SPAN_CONTEXT;
  if (example->n_segment == 0 || example->segments[0].kind != SPAN_CONTEXT)
    return ss_fail(error, SS_ERROR_INPUT, "%s: the first segment must be a context", example->id);
  for (int64_t s = 0; s < example->n_segment; s++) {
    const example_segment *segment = &example->segments[s];
    if (segment->kind != SPAN_CONTEXT && segment->kind != SPAN_STEP && segment->kind != SPAN_ANSWER)
      return ss_fail(error, SS_ERROR_INPUT, "%s: segment %lld: kind %d, expected context, step or answer",
                     example->id, (long long)s, segment->kind);
    if (segment->kind < previous || previous == SPAN_ANSWER)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: segment %lld: expected contexts first, then steps, then at most one answer",
                     example->id, (long long)s);
    // Without text a headless answer and a headless end would read alike.
    if (segment->text_end <= segment->text_first)
      return ss_fail(error, SS_ERROR_INPUT, "%s: segment %lld has no text", example->id, (long long)s);
    SS_TRY(check_references(example, s, error));
    previous = segment->kind;
  }
  return SS_OK;
}

void example_free(example *example) {
  free(example->text);
  free(example->segments);
  free(example->references);
  free(example->answers);
  free(example->meta);
  memset(example, 0, sizeof *example);
}
