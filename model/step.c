// The training step in three parts: stage a batch, run it, collect its losses.
#include <stdlib.h>

#include "common/memory.h"
#include "model/gpt_private.h"

static ss_status check_targets(const gpt *model, const gpt_batch *batch, ss_error *error) {
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->targets[row] >= model->config.vocab_size)
      return ss_fail(error, SS_ERROR_INPUT, "batch row %lld: target %d, expected -1..%lld (the vocabulary)",
                     (long long)row, batch->targets[row], (long long)model->config.vocab_size - 1);
  return SS_OK;
}

// Host arrays for n rows. A batch in flight writes to the other flight's arrays.
static ss_status flight_reserve(gpt *model, gpt_flight *flight, int64_t n, ss_error *error) {
  ss_device *device = model->device;
  SS_TRY(ss_grow(&flight->target_rows, &flight->target_capacity, n, sizeof *flight->target_rows,
                 "target rows", error));
  if (n <= flight->capacity)
    return SS_OK;
  if (flight->losses)
    device->ops->release_host(device, flight->losses);
  if (flight->correct)
    device->ops->release_host(device, flight->correct);
  flight->losses = NULL;
  flight->correct = NULL;
  flight->capacity = 0;
  int64_t capacity = n + n / 8;  // packed batches differ a little in length
  SS_OP(device, error, allocate_host, (void **)&flight->losses, (size_t)capacity * sizeof(float), "losses");
  SS_OP(device, error, allocate_host, (void **)&flight->correct, (size_t)capacity * sizeof(int32_t),
        "prediction flags");
  flight->capacity = capacity;
  return SS_OK;
}

void gpt_flights_free(gpt *model) {
  for (int k = 0; k < 2; ++k) {
    gpt_flight *flight = &model->flights[k];
    if (flight->losses)
      model->device->ops->release_host(model->device, flight->losses);
    if (flight->correct)
      model->device->ops->release_host(model->device, flight->correct);
    free(flight->target_rows);
  }
}

ss_status gpt_stage(gpt *model, const gpt_batch *batch, bool backward, ss_error *error) {
  ss_device *device = model->device;
  model->staged = false;
  if (backward && !model->gradients)
    return ss_fail(error, SS_ERROR_INTERNAL, "the model was created without gradients");
  SS_TRY(gpt_check_rows(model, batch->n_row, batch->tokens, batch->positions, batch->views, batch->n_view,
                        error));
  SS_TRY(check_targets(model, batch, error));
  gpt_flight *flight = &model->flights[model->next_flight];
  SS_TRY(flight_reserve(model, flight, batch->n_row, error));
  gpt_workspace_request request = {batch->n_row, backward, backward, 0, false};
  SS_TRY(gpt_workspace_prepare(model, &request, error));
  flight->n_row = batch->n_row;
  flight->backward = backward;
  flight->n_target = 0;
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->targets[row] >= 0)
      flight->target_rows[flight->n_target++] = (int32_t)row;
  gpt_workspace *work = &model->workspace;
  SS_OP(device, error, attention_plan, &model->plan, batch->views, batch->n_view, batch->ranges,
        batch->n_range, batch->n_row, backward);
  SS_TRY(gpt_upload_rows(model, batch->tokens, batch->positions, error));
  SS_OP(device, error, upload, work->targets.data, batch->targets, (size_t)batch->n_row * sizeof(int32_t));
  SS_OP(device, error, upload, work->target_rows.data, flight->target_rows,
        (size_t)flight->n_target * sizeof(int32_t));
  model->staged = true;
  return SS_OK;
}

bool gpt_is_staged(const gpt *model) {
  return model->staged;
}

int64_t gpt_staged_targets(const gpt *model) {
  return model->staged ? model->flights[model->next_flight].n_target : 0;
}

ss_status gpt_run(gpt *model, double loss_scale, ss_error *error) {
  ss_device *device = model->device;
  if (!model->staged || model->running)
    return ss_fail(error, SS_ERROR_INTERNAL,
                   model->running ? "a batch runs already and was not collected" : "no batch is staged");
  const gpt_flight *flight = &model->flights[model->next_flight];
  gpt_workspace *work = &model->workspace;
  bool backward = flight->backward;
  model->staged = false;
  SS_TRY(gpt_forward(model, error));
  device->ops->range_push(device, "classifier");
  SS_OP(device, error, classifier_loss, work->losses, work->correct, backward ? work->dnorm : gpt_no_tensor(),
        backward ? gpt_gradient(model, model->wte) : gpt_no_tensor(), work->final_norm,
        gpt_weight(model, model->wte), work->targets, ss_integers(work->target_rows.data, flight->n_target),
        (float)loss_scale);
  device->ops->range_pop(device);
  SS_OP(device, error, download_async, flight->losses, work->losses.data,
        (size_t)flight->n_row * sizeof(float));
  SS_OP(device, error, download_async, flight->correct, work->correct.data,
        (size_t)flight->n_row * sizeof(int32_t));
  if (backward)
    SS_TRY(gpt_backward(model, error));
  model->running = true;
  model->next_flight ^= 1;
  return SS_OK;
}

// Sums on the host in row order and double precision: the same number whatever computed the rows.
ss_status gpt_collect(gpt *model, gpt_loss *loss, ss_error *error) {
  if (!model->running)
    return ss_fail(error, SS_ERROR_INTERNAL, "no batch runs");
  model->running = false;
  if (model->device->ops->synchronize(model->device) != SS_OK)
    return ss_device_error(model->device, error);
  const gpt_flight *flight = &model->flights[model->next_flight ^ 1];
  gpt_loss sum = {0, flight->n_target, 0};
  for (int64_t k = 0; k < flight->n_target; ++k) {
    sum.loss_sum += flight->losses[flight->target_rows[k]];
    sum.n_correct += flight->correct[flight->target_rows[k]] != 0;
  }
  *loss = sum;
  return SS_OK;
}

ss_status gpt_train_step(gpt *model, const gpt_batch *batch, bool backward, double loss_scale, gpt_loss *loss,
                         ss_error *error) {
  SS_TRY(gpt_stage(model, batch, backward, error));
  SS_TRY(gpt_run(model, loss_scale, error));
  return gpt_collect(model, loss, error);
}
