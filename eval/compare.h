// A written derivation against gold: step texts, answer, and what the headers reference. The texts come from a
// decoded sequence, cut by its layout, or from another system's file; both are compared here.
#ifndef SELFSPAN_EVAL_COMPARE_H
#define SELFSPAN_EVAL_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/example.h"
#include "data/vocabulary.h"
#include "eval/evaluate.h"
#include "eval/task.h"
#include "infer/decoder.h"

// What a system wrote. Zero-initialise; reuse after eval_written_reset.
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

// The group that an item is selected and tabulated by: the task's, with everything beyond the last group in it.
int32_t eval_group(const eval_task *task, const example *gold);

// Scores `written` against `gold` into the item's id, group, score, steps, references and headers. The k-th
// written header is held against the k-th gold one; it is exact when it names the same set and nothing besides
// (an unknown or a duplicate reference spoils it). Gold headers that were not written are not exact.
ss_status eval_compare(const example *gold, const eval_written *written, const eval_task *task,
                       eval_item *item, ss_error *error);

#endif
