// One sequence being decoded: its tokens, tracker, forced tokens and counts. Private to the decoder.
#ifndef SELFSPAN_INFER_SLOT_H
#define SELFSPAN_INFER_SLOT_H

#include "common/random.h"
#include "infer/decoder.h"

typedef struct {
  bool active;
  decode_request request;
  int32_t *tokens;  // [slot_rows]
  int32_t *rows;    // [slot_rows], by generated token
  int32_t limit;    // rows at which the sequence is stopped
  span_tracker tracker;
  span_segment *segments;
  int32_t *references;
  ss_random random;
  int64_t attended_rows, prefill_rows;
  double log_probability;
  int32_t gold_next;    // the next gold token to force
  bool in_gold_header;  // oracle: forcing until `<:>` or `<eos>`
  int32_t next_rows;    // |V| of the query whose logits come next
} decode_slot;

ss_status decode_slot_create(decode_slot *slot, int64_t slot_rows, int32_t n_anchor, ss_error *error);
void decode_slot_free(decode_slot *slot);

// Takes a request: checks lengths, pushes the prompt. Errors name the request's index.
ss_status decode_slot_start(decode_slot *slot, const decode_request *request, const span_tokens *tokens,
                            const span_policy *policy, arm arm, const decode_options *options,
                            int64_t slot_rows, ss_error *error);

// The token that gold forces next, or -1 when the model is free to choose.
int32_t decode_slot_forced(decode_slot *slot, int control);

// Appends a generated token. *finished is set at <eos>, at the length limit, or when anchors ran out.
void decode_slot_push(decode_slot *slot, int32_t token, double log_probability, bool *finished,
                      decode_stop *stop);

#endif
