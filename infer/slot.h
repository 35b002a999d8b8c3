// One sequence being decoded, on the host: its request, its storage and its counts. Private to the decoder.
#ifndef SELFSPAN_INFER_SLOT_H
#define SELFSPAN_INFER_SLOT_H

#include "common/random.h"
#include "infer/decoder.h"
#include "span/sequence.h"

typedef struct {
  bool busy;
  decode_request request;
  span_sequence sequence;  // where the device decodes, as the prompt left it until the result is read
  int32_t *tokens;         // [slot_rows]
  int32_t *rows;           // [slot_rows], by generated token
  span_segment *segments;  // [n_anchor]
  int32_t *references;     // [slot_rows]
  ss_random random;        // of sampling
  uint64_t control_seed;
  int64_t prefill_rows;  // attended by the prompt's queries but for the last
  int64_t started;       // the round in which it was
} decode_slot;

ss_status decode_slot_create(decode_slot *slot, int64_t slot_rows, int32_t n_anchor, ss_error *error);
void decode_slot_free(decode_slot *slot);

// Takes a request: checks lengths, pushes the prompt. Errors name the request's index.
ss_status decode_slot_start(decode_slot *slot, const decode_request *request, const span_tokens *tokens,
                            const span_policy *policy, arm arm, const decode_options *options,
                            int64_t slot_rows, ss_error *error);

// The tracker as it is after the tokens from the prompt's end to row n_row, which stand in slot->tokens.
ss_status decode_slot_push(decode_slot *slot, int32_t n_row, ss_error *error);

// The control that replaces visible sets (span_control), or -1.
int32_t decode_replacement(int control);

#endif
