#include "infer/slot.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

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
  slot->limit = (int32_t)slot_rows;
  if (options->max_tokens > 0 && request->n_prompt + options->max_tokens < slot_rows)
    slot->limit = request->n_prompt + (int32_t)options->max_tokens;
  slot->random = ss_random_seed((uint64_t)options->seed, (uint64_t)request->index);
  slot->attended_rows = slot->prefill_rows = 0;
  slot->log_probability = 0;
  slot->gold_next = 0;
  slot->in_gold_header = false;
  span_policy effective = arm_policy(arm, policy);
  span_tracker_start(&slot->tracker, tokens, &effective, arm_has_headers(arm), request->anchor_offset,
                     request->preamble_end, request->n_prompt, slot->segments, tokens->n_anchor,
                     slot->references, (int32_t)slot_rows);
  for (int32_t row = 0; row < request->n_prompt; ++row) {
    slot->tokens[row] = request->prompt[row];
    if (span_tracker_push(&slot->tracker, request->prompt[row]) != SPAN_PUSH_OK)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "example %lld: the prompt has more segments than the %d anchors (offset %d) can name",
                     (long long)request->index, tokens->n_anchor, request->anchor_offset);
  }
  slot->active = true;
  return SS_OK;
}

// Oracle: at every segment start the next gold header is forced, from `<[>` through `<:>` (or `<eos>`).
static int32_t forced_header_token(decode_slot *slot) {
  const decode_request *request = &slot->request;
  const span_tokens *tokens = &slot->tracker.tokens;
  if (!slot->in_gold_header) {
    if (slot->tracker.state != SPAN_STATE_BETWEEN)
      return -1;
    while (slot->gold_next < request->n_gold && request->gold[slot->gold_next] != tokens->open)
      ++slot->gold_next;
    slot->in_gold_header = slot->gold_next < request->n_gold;
  }
  if (!slot->in_gold_header)
    return -1;
  int32_t token = request->gold[slot->gold_next++];
  if (token == tokens->colon || token == tokens->eos || slot->gold_next >= request->n_gold)
    slot->in_gold_header = false;
  return token;
}

int32_t decode_slot_forced(decode_slot *slot, int control) {
  if (slot->request.gold == NULL)
    return -1;
  if (control == DECODE_ORACLE)
    return forced_header_token(slot);
  if (control == DECODE_REPLAY && slot->gold_next < slot->request.n_gold)
    return slot->request.gold[slot->gold_next++];
  return -1;
}

void decode_slot_push(decode_slot *slot, int32_t token, double log_probability, bool *finished,
                      decode_stop *stop) {
  span_tracker *tracker = &slot->tracker;
  int32_t row = tracker->n_row;
  *finished = true;
  if (span_tracker_push(tracker, token) != SPAN_PUSH_OK) {
    *stop = DECODE_STOP_ANCHORS;
    return;
  }
  slot->tokens[row] = token;
  slot->rows[row - slot->request.n_prompt] = slot->next_rows;
  slot->attended_rows += slot->next_rows;
  slot->log_probability += log_probability;
  if (token == tracker->tokens.eos) {
    *stop = DECODE_STOP_EOS;
  } else if (tracker->n_row >= slot->limit) {
    *stop = DECODE_STOP_LENGTH;
  } else {
    *finished = false;
  }
}
