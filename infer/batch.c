#include "infer/batch.h"

#include <stdlib.h>

#include "common/memory.h"
#include "span/control.h"

void decode_batch_free(decode_batch *batch) {
  free(batch->tokens);
  free(batch->positions);
  free(batch->cache_rows);
  free(batch->views);
  free(batch->ranges);
  free(batch->logit_rows);
  free(batch->logit_slots);
  free(batch->scratch);
}

void decode_batch_clear(decode_batch *batch) {
  batch->n_row = batch->n_view = batch->n_range = batch->n_logit_row = 0;
}

static ss_status reserve(decode_batch *batch, int64_t rows, int64_t views, int64_t ranges, ss_error *error) {
  int64_t n = batch->n_row + rows, n_logit = batch->n_logit_row + 1;
  SS_TRY(ss_grow(&batch->tokens, &batch->row_capacity, n, sizeof(int32_t), "batch tokens", error));
  SS_TRY(ss_grow(&batch->positions, &batch->position_capacity, n, sizeof(int32_t), "positions", error));
  SS_TRY(ss_grow(&batch->cache_rows, &batch->cache_row_capacity, n, sizeof(int32_t), "cache rows", error));
  SS_TRY(
      ss_grow(&batch->logit_rows, &batch->logit_row_capacity, n_logit, sizeof(int32_t), "logit rows", error));
  SS_TRY(ss_grow(&batch->logit_slots, &batch->logit_slot_capacity, n_logit, sizeof(int32_t), "logit slots",
                 error));
  SS_TRY(ss_grow(&batch->views, &batch->view_capacity, batch->n_view + views, sizeof *batch->views,
                 "attention views", error));
  return ss_grow(&batch->ranges, &batch->range_capacity, batch->n_range + ranges, sizeof *batch->ranges,
                 "attention ranges", error);
}

// Adds a view over rows of a slot whose cache begins at `base`; the ranges already lie at the batch's end, in the
// slot's rows.
static void add_view(decode_batch *batch, int32_t base, const span_view *view, int64_t q_first) {
  for (int32_t k = 0; k < view->n_range; ++k) {
    span_range *range = &batch->ranges[batch->n_range + k];
    range->first += base;
    range->end += base;
  }
  batch->views[batch->n_view++] = (ss_attention_view){.q_first = (int32_t)q_first,
                                                      .n_query = view->query_end - view->query_first,
                                                      .self_first = base + view->self_first,
                                                      .self_last = base + view->query_first,
                                                      .range_first = (int32_t)batch->n_range,
                                                      .n_range = view->n_range};
  batch->n_range += view->n_range;
}

static void add_row(decode_batch *batch, int32_t token, int32_t position, int32_t cache_row) {
  int64_t n = batch->n_row++;
  batch->tokens[n] = token;
  batch->positions[n] = position;
  batch->cache_rows[n] = cache_row;
}

static void ask_logits(decode_batch *batch, int64_t s) {
  batch->logit_rows[batch->n_logit_row] = (int32_t)(batch->n_row - 1);
  batch->logit_slots[batch->n_logit_row++] = (int32_t)s;
}

static int32_t rows_of_view(const span_view *view, const span_range *ranges, int32_t row) {
  span_view own = *view;
  own.range_first = 0;
  return span_view_rows(&own, ranges, row);
}

ss_status decode_batch_add_prompt(decode_batch *batch, decode_slot *slot, int64_t s, int64_t slot_rows,
                                  ss_error *error) {
  span_sequence *sequence = &slot->sequence;
  const span_layout *layout = &sequence->tracker.layout;
  int32_t capacity = 2 * span_range_capacity(layout), base = (int32_t)(s * slot_rows);
  int64_t q_base = batch->n_row;
  for (int32_t segment = -1; segment < layout->n_segment; ++segment) {
    span_view views[2];
    int32_t n_range = 0;
    SS_TRY(reserve(batch, sequence->n_prompt, 2, capacity, error));
    span_range *ranges = batch->ranges + batch->n_range;
    int32_t n_view = span_views_of(&sequence->tracker.policy, layout, segment, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; ++v) {
      const span_range *own = ranges + views[v].range_first;
      for (int32_t row = views[v].query_first; row < views[v].query_end; ++row) {
        sequence->next_rows = rows_of_view(&views[v], own, row);
        slot->prefill_rows += sequence->next_rows;
      }
      add_view(batch, base, &views[v], q_base + views[v].query_first);
    }
  }
  slot->prefill_rows -= sequence->next_rows;  // the last query produces the first generated token
  for (int32_t row = 0; row < sequence->n_prompt; ++row)
    add_row(batch, slot->tokens[row], row, base + row);
  ask_logits(batch, s);
  return SS_OK;
}

ss_status decode_batch_add_token(decode_batch *batch, decode_slot *slot, int64_t s, int64_t slot_rows,
                                 const decode_options *options, ss_error *error) {
  span_sequence *sequence = &slot->sequence;
  const span_tracker *tracker = &sequence->tracker;
  int32_t row = tracker->n_row - 1, base = (int32_t)(s * slot_rows);
  int32_t capacity = span_range_capacity(&tracker->layout);
  int32_t control = decode_replacement(options->control);
  SS_TRY(reserve(batch, 1, 1, capacity + (control >= 0 ? span_control_capacity(row) : 0), error));
  span_range *ranges = batch->ranges + batch->n_range;
  span_view view;
  if (control >= 0) {
    SS_TRY(ss_grow(&batch->scratch, &batch->scratch_capacity, capacity, sizeof *batch->scratch, "ranges",
                   error));
    view = span_tracker_visible(tracker, batch->scratch);
    int32_t n_segment = tracker->layout.n_segment;
    int32_t own_first = n_segment > 0 ? tracker->layout.segments[n_segment - 1].first : 0;
    view = span_control_visible((span_control)control, &view, batch->scratch, own_first,
                                (int32_t)options->n_sink, slot->control_seed, ranges);
  } else {
    view = span_tracker_visible(tracker, ranges);
  }
  sequence->next_rows = span_view_rows(&view, ranges, row);
  add_view(batch, base, &view, batch->n_row);
  add_row(batch, slot->tokens[row], row, base + row);
  ask_logits(batch, s);
  return SS_OK;
}

ss_status decode_batch_add_idle(decode_batch *batch, ss_error *error) {
  SS_TRY(reserve(batch, 1, 1, 0, error));
  batch->views[batch->n_view++] = (ss_attention_view){.q_first = (int32_t)batch->n_row,
                                                      .n_query = 1,
                                                      .self_first = 1,
                                                      .self_last = 0,
                                                      .range_first = (int32_t)batch->n_range};
  add_row(batch, 0, 0, -1);
  return SS_OK;
}

gpt_inference_batch decode_batch_inference(const decode_batch *batch) {
  return (gpt_inference_batch){batch->n_row,      batch->tokens,     batch->positions, batch->cache_rows,
                               batch->views,      batch->n_view,     batch->ranges,    batch->n_range,
                               batch->logit_rows, batch->n_logit_row};
}
