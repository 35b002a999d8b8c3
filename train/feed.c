#include "train/feed.h"

#include <stdlib.h>

#include "common/memory.h"

static ss_status check(const gpt *model, const reader_batch *batch, ss_error *error) {
  const gpt_config *config = gpt_get_config(model);
  for (int64_t i = 0; i < batch->n_row; i++) {
    if (batch->positions[i] < 0 || batch->positions[i] >= config->n_positions)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "an example needs position %d, the model has %lld (model.n_positions)",
                     batch->positions[i], (long long)config->n_positions);
    if (batch->tokens[i] < 0 || batch->tokens[i] >= config->vocab_size ||
        batch->targets[i] >= config->vocab_size)
      return ss_fail(error, SS_ERROR_INPUT, "a batch holds token %d -> %d, the model's vocabulary has %lld",
                     batch->tokens[i], batch->targets[i], (long long)config->vocab_size);
  }
  return SS_OK;
}

ss_status train_feed_batch(train_feed *feed, const gpt *model, const reader_batch *batch, gpt_batch *out,
                           ss_error *error) {
  SS_TRY(check(model, batch, error));
  SS_TRY(
      ss_grow(&feed->views, &feed->capacity, batch->n_view, sizeof *feed->views, "attention views", error));
  for (int64_t i = 0; i < batch->n_view; i++) {
    const span_view *view = &batch->views[i];
    feed->views[i] = (ss_attention_view){view->query_first, view->query_end - view->query_first,
                                         view->self_first,  view->query_first,
                                         view->range_first, view->n_range};
  }
  *out = (gpt_batch){batch->n_row, batch->tokens, batch->targets, batch->positions,
                     feed->views,  batch->n_view, batch->ranges,  batch->n_range};
  return SS_OK;
}

void train_feed_free(train_feed *feed) {
  free(feed->views);
  feed->views = NULL;
  feed->capacity = 0;
}
