#include "infer/slot.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "span/control.h"

ss_status decode_slot_create(decode_slot *slot, int64_t slot_rows, int32_t n_anchor, ss_error *error) {
  memset(slot, 0, sizeof *slot);
  SS_TRY(ss_allocate(&slot->tokens, slot_rows, sizeof *slot->tokens, "decoder tokens", error));
  SS_TRY(ss_allocate(&slot->rows, slot_rows, sizeof *slot->rows, "decoder row counts", error));
  SS_TRY(ss_allocate(&slot->segments, n_anchor, sizeof *slot->segments, "decoder segments", error));
  return ss_allocate(&slot->references, slot_rows, sizeof *slot->references, "decoder references", error);
}

void decode_slot_free(decode_slot *slot) {
  free(slot->tokens);
  free(slot->rows);
  free(slot->segments);
  free(slot->references);
}

static int32_t force_of(const decode_request *request, int control) {
  if (request->gold == NULL || request->n_gold < 1)
    return SPAN_FORCE_NONE;
  return control == DECODE_ORACLE   ? SPAN_FORCE_HEADERS
         : control == DECODE_REPLAY ? SPAN_FORCE_ALL
                                    : SPAN_FORCE_NONE;
}

int32_t decode_replacement(int control) {
  return control == DECODE_RECENCY  ? SPAN_CONTROL_RECENCY
         : control == DECODE_RANDOM ? SPAN_CONTROL_RANDOM
         : control == DECODE_WINDOW ? SPAN_CONTROL_WINDOW
                                    : -1;
}

ss_status decode_slot_start(decode_slot *slot, const decode_request *request, const span_tokens *tokens,
                            const span_policy *policy, arm arm, const decode_options *options,
                            int64_t slot_rows, ss_error *error) {
  if (request->n_prompt < 1 || request->n_prompt >= slot_rows)
    return ss_fail(
        error, SS_ERROR_LIMIT,
        "example %lld: the prompt has %d tokens, but a sequence holds at most %lld and must leave room "
        "to generate",
        (long long)request->index, request->n_prompt, (long long)slot_rows);
  slot->request = *request;
  slot->random = ss_random_seed((uint64_t)options->seed, (uint64_t)request->index);
  slot->control_seed = ss_hash64((uint64_t)options->seed, (uint64_t)request->index, 1);
  slot->prefill_rows = 0;
  span_sequence *sequence = &slot->sequence;
  memset(sequence, 0, sizeof *sequence);
  sequence->tokens = slot->tokens;
  sequence->rows = slot->rows;
  sequence->force = force_of(request, options->control);
  // A gold text may be longer than the slot, which is all that the device keeps of one.
  if (sequence->force != SPAN_FORCE_NONE) {
    sequence->gold = request->gold;
    sequence->n_gold = request->n_gold < slot_rows ? request->n_gold : (int32_t)slot_rows;
  }
  sequence->constrain = options->constrain;
  sequence->n_prompt = request->n_prompt;
  sequence->limit = (int32_t)slot_rows;
  if (options->max_tokens > 0 && request->n_prompt + options->max_tokens < slot_rows)
    sequence->limit = request->n_prompt + (int32_t)options->max_tokens;
  sequence->active = 1;
  span_policy effective = arm_policy(arm, policy);
  span_tracker_start(&sequence->tracker, tokens, &effective, arm_has_headers(arm), request->anchor_offset,
                     request->preamble_end, request->n_prompt, slot->segments, tokens->n_anchor,
                     slot->references, (int32_t)slot_rows);
  for (int32_t row = 0; row < request->n_prompt; ++row) {
    slot->tokens[row] = request->prompt[row];
    if (span_tracker_push(&sequence->tracker, request->prompt[row]) != SPAN_PUSH_OK)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "example %lld: the prompt has more segments than the %d anchors (offset %d) can name",
                     (long long)request->index, tokens->n_anchor, request->anchor_offset);
  }
  slot->busy = true;
  return SS_OK;
}

ss_status decode_slot_push(decode_slot *slot, int32_t n_row, ss_error *error) {
  for (int32_t row = slot->sequence.n_prompt; row < n_row; ++row)
    if (span_tracker_push(&slot->sequence.tracker, slot->tokens[row]) != SPAN_PUSH_OK)
      return ss_fail(error, SS_ERROR_INTERNAL,
                     "example %lld: token %d of %d was kept, for which the tracker has no room",
                     (long long)slot->request.index, row, n_row);
  return SS_OK;
}
