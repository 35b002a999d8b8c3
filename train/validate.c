#include "train/validate.h"

#include <stdlib.h>

#include "common/memory.h"
#include "train/feed.h"

struct validator {
  reader *reader;
  train_feed feed;
  int64_t n_batch;
};

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

ss_status validator_create(validator **out, store *data, const reader_options *options, int64_t max_examples,
                           ss_error *error) {
  *out = NULL;
  int64_t examples = smaller(max_examples, store_n_example(data));
  if (examples <= 0)
    return ss_fail(error, SS_ERROR_INPUT, "validation: there are no examples");
  // As many examples a batch as surely fit into a training batch's tokens, so that validation needs no more memory.
  int64_t longest = store_longest(data) > 0 ? store_longest(data) : 1;
  int64_t fitting = (int64_t)options->n_row * options->row_tokens / longest;
  reader_options own = *options;
  own.examples_a_batch = (int32_t)smaller(fitting > 0 ? fitting : 1, examples);
  own.shuffle = false;
  own.random_anchor_offset = false;
  validator *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "validator", error));
  made->n_batch = examples / own.examples_a_batch;
  ss_status status = reader_open(&made->reader, data, &own, error);
  if (status != SS_OK) {
    validator_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

ss_status validator_loss(validator *validator, gpt *model, const volatile sig_atomic_t *stop, double *loss,
                         ss_error *error) {
  double sum = 0;
  int64_t targets = 0;
  SS_TRY(reader_seek(validator->reader, 0, error));
  for (int64_t i = 0; i < validator->n_batch; i++) {
    if (stop != NULL && *stop)
      return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted during validation");
    const reader_batch *batch = NULL;
    gpt_batch rows;
    gpt_loss part;
    SS_TRY(reader_next(validator->reader, &batch, error));
    SS_TRY(train_feed_batch(&validator->feed, model, batch, &rows, error));
    SS_TRY(gpt_train_step(model, &rows, false, 1.0, &part, error));
    sum += part.loss_sum;
    targets += part.n_target;
  }
  if (targets == 0)
    return ss_fail(error, SS_ERROR_INPUT, "validation: no example has a generated token");
  *loss = sum / (double)targets;
  return SS_OK;
}

void validator_free(validator *validator) {
  if (validator == NULL)
    return;
  reader_close(validator->reader);
  train_feed_free(&validator->feed);
  free(validator);
}
