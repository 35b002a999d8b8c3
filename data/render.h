// Rendering: an example's segments -> an arm's tokens, and the layout that goes with them.
//
// The annotated rendering (anchor offset 0) is what the store keeps. An arm is derived from it: dense drops the
// headers; annotated and span keep them; every arm adds the example's anchor offset.
//
// Layouts are built from the annotation, not by the tracker: that both agree is an invariant with a test. A dense
// rendering has no references (nothing in its text says them); without an answer it ends in a headless `<eos>`.
#ifndef SELFSPAN_DATA_RENDER_H
#define SELFSPAN_DATA_RENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/example.h"
#include "data/vocabulary.h"
#include "span/span_core.h"

// The three arms: training text and mask.
typedef enum { ARM_DENSE, ARM_ANNOTATED, ARM_SPAN, N_ARM } arm;
const char *arm_name(arm arm);
ss_status arm_from_name(const char *name, arm *out, ss_error *error);  // an error names the known ones
static inline bool arm_has_headers(arm arm) {
  return arm != ARM_DENSE;
}
// The policy an arm runs under: `policy` with mask NONE for dense and annotated.
span_policy arm_policy(arm arm, const span_policy *policy);

typedef struct {
  int32_t *tokens;  // [n_token]
  uint8_t *loss;    // [n_token]: 1 when the token is generated (a target), 0 in the prompt
  int64_t n_token, token_capacity, loss_capacity;
  int32_t prompt_end;  // rows before it are the prompt
  span_layout layout;  // segments and references (own storage)
  int64_t segment_capacity, reference_capacity;
} rendering;

// Tokens and layout of `example` in the annotated grammar, anchors from 0. More segments than anchors or a header
// longer than max_header is an error that names both numbers.
ss_status render_annotated(rendering *out, const example *example, const vocabulary *vocabulary,
                           int32_t max_header, ss_error *error);

// An arm's rendering of an annotated one: headers dropped for dense, anchors shifted by anchor_offset.
ss_status render_arm(rendering *out, const rendering *annotated, arm arm, const vocabulary *vocabulary,
                     int32_t anchor_offset, ss_error *error);

// Frees the storage and empties the struct.
void rendering_free(rendering *rendering);

#endif
