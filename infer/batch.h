// A batch of rows for the model, built on the host: prompts, or one token a sequence. Private to the decoder.
#ifndef SELFSPAN_INFER_BATCH_H
#define SELFSPAN_INFER_BATCH_H

#include "infer/slot.h"

// Arrays grown on demand; zero-initialise.
typedef struct {
  int32_t *tokens, *positions, *cache_rows;  // [n_row]
  int64_t n_row, row_capacity, position_capacity, cache_row_capacity;
  ss_attention_view *views;
  int64_t n_view, view_capacity;
  span_range *ranges;
  int64_t n_range, range_capacity;
  int32_t *logit_rows;   // [n_logit_row] rows whose logits are wanted
  int32_t *logit_slots;  // [n_logit_row] and whose they are
  int64_t n_logit_row, logit_row_capacity, logit_slot_capacity;
  span_range *scratch;  // one query's ranges before a control replaces them
  int64_t scratch_capacity;
} decode_batch;

void decode_batch_free(decode_batch *batch);
void decode_batch_clear(decode_batch *batch);

// The whole prompt of slot `s`, whose cache rows begin at s * slot_rows: the preamble's view and each context segment's.
// Asks for the logits of its last row. Counts the prompt's attended rows into the slot.
ss_status decode_batch_add_prompt(decode_batch *batch, decode_slot *slot, int64_t s, int64_t slot_rows,
                                  ss_error *error);
// The last token of slot `s`, which reads what the tracker (or a control in its place) says; asks for its logits.
ss_status decode_batch_add_token(decode_batch *batch, decode_slot *slot, int64_t s, int64_t slot_rows,
                                 const decode_options *options, ss_error *error);
// A row of a slot without a sequence: token 0, no cache row, reads nothing.
ss_status decode_batch_add_idle(decode_batch *batch, ss_error *error);

// As the model takes it.
gpt_inference_batch decode_batch_inference(const decode_batch *batch);

#endif
