// What a system wrote, as texts and references: cut out of a decoded sequence by its layout, read from another
// system's file, or an extract.
#ifndef SELFSPAN_EVAL_WRITTEN_H
#define SELFSPAN_EVAL_WRITTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/vocabulary.h"
#include "eval/task.h"
#include "infer/decoder.h"

// Zero-initialise; reuse after eval_written_reset.
typedef struct {
  char **steps;  // [n_step], each malloc'ed
  int64_t n_step, step_capacity;
  char *answer;  // malloc'ed; NULL when none was written
  bool has_headers;
  eval_header *headers;  // [n_header], one a step, then the answer's
  int64_t n_header, header_capacity;
  int32_t *references;  // indices of segments
  int64_t n_reference, reference_capacity;
} eval_written;

void eval_written_reset(eval_written *written);
void eval_written_free(eval_written *written);

// Appends a copy of a step's text.
ss_status eval_written_step(eval_written *written, const char *text, ss_error *error);
// Replaces the answer by a copy of `text`.
ss_status eval_written_answer(eval_written *written, const char *text, ss_error *error);
// Starts the next header; references follow.
ss_status eval_written_header(eval_written *written, ss_error *error);
ss_status eval_written_reference(eval_written *written, int32_t segment, ss_error *error);

// Cuts a decoded sequence: the bodies of the generated segments, special tokens left out, and the anchors that
// their headers name, as segment indices. An answer counts only when <eos> ended it: a cut-off "1" of "12" is none.
ss_status eval_written_cut(eval_written *written, const decode_result *result, const vocabulary *vocabulary,
                           int32_t anchor_offset, bool has_headers, ss_error *error);

#endif
