#include "eval/written.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

void eval_written_reset(eval_written *written) {
  for (int64_t k = 0; k < written->n_step; k++)
    free(written->steps[k]);
  free(written->answer);
  written->answer = NULL;
  written->n_step = written->n_header = written->n_reference = 0;
  written->has_headers = false;
}

void eval_written_free(eval_written *written) {
  eval_written_reset(written);
  free(written->steps);
  free(written->headers);
  free(written->references);
  memset(written, 0, sizeof *written);
}

ss_status eval_written_step(eval_written *written, const char *text, ss_error *error) {
  SS_TRY(ss_grow(&written->steps, &written->step_capacity, written->n_step + 1, sizeof *written->steps,
                 "steps", error));
  SS_TRY(ss_format(&written->steps[written->n_step], error, "%s", text));
  written->n_step++;
  return SS_OK;
}

ss_status eval_written_answer(eval_written *written, const char *text, ss_error *error) {
  free(written->answer);
  written->answer = NULL;
  return ss_format(&written->answer, error, "%s", text);
}

ss_status eval_written_header(eval_written *written, ss_error *error) {
  SS_TRY(ss_grow(&written->headers, &written->header_capacity, written->n_header + 1,
                 sizeof *written->headers, "headers", error));
  eval_header *header = &written->headers[written->n_header++];
  header->first = header->end = written->n_reference;
  written->has_headers = true;
  return SS_OK;
}

ss_status eval_written_reference(eval_written *written, int32_t segment, ss_error *error) {
  SS_TRY(ss_grow(&written->references, &written->reference_capacity, written->n_reference + 1,
                 sizeof *written->references, "references", error));
  written->references[written->n_reference++] = segment;
  written->headers[written->n_header - 1].end = written->n_reference;
  return SS_OK;
}

static ss_status cut_header(eval_written *written, const span_segment *segment, const int32_t *tokens,
                            const span_tokens *special, int32_t anchor_offset, ss_error *error) {
  // An open header (the sequence was cut off in it) reaches to the segment's end.
  int32_t end = segment->header_end == SPAN_ROW_OPEN ? segment->end : segment->header_end;
  SS_TRY(eval_written_header(written, error));
  for (int32_t row = segment->first; row < end; row++)
    if (span_is_anchor(special, tokens[row]))
      SS_TRY(eval_written_reference(written, tokens[row] - special->anchor_first - anchor_offset, error));
  return SS_OK;
}

static ss_status cut_body(eval_written *written, const span_segment *segment, const int32_t *tokens,
                          const vocabulary *vocabulary, ss_error *error) {
  int32_t first = segment->header_end == SPAN_ROW_OPEN ? segment->end : segment->header_end;
  char *text = NULL;
  SS_TRY(vocabulary_decode(vocabulary, tokens + first, segment->end - first, true, &text, error));
  ss_status status = segment->kind == SPAN_ANSWER ? eval_written_answer(written, text, error)
                                                  : eval_written_step(written, text, error);
  free(text);
  return status;
}

ss_status eval_written_cut(eval_written *written, const decode_result *result, const vocabulary *vocabulary,
                           int32_t anchor_offset, bool has_headers, ss_error *error) {
  eval_written_reset(written);
  const span_layout *layout = &result->layout;
  for (int32_t s = 0; s < layout->n_segment; s++) {
    const span_segment *segment = &layout->segments[s];
    if (segment->first < result->n_prompt || segment->kind == SPAN_END)
      continue;
    if (has_headers)
      SS_TRY(cut_header(written, segment, result->tokens, vocabulary_span_tokens(vocabulary), anchor_offset,
                        error));
    SS_TRY(cut_body(written, segment, result->tokens, vocabulary, error));
  }
  written->has_headers = has_headers;
  if (result->stop != DECODE_STOP_EOS) {
    free(written->answer);
    written->answer = NULL;
  }
  return SS_OK;
}
