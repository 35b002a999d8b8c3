// The training step: forward, fused classifier and loss, and the backward pass.
#include "model/gpt_private.h"

// dsum holds the gradient of the stream leaving the layer; afterwards that of the stream entering it.
static ss_status layer_backward(gpt *model, int64_t index, ss_error *error) {
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  gpt_workspace *work = &model->workspace;
  const gpt_layer_activations *layer = &work->layers[index];
  ss_device *device = model->device;

  SS_OP(device, error, linear_backward, work->dactivation, gpt_gradient(model, block->down_weight),
        gpt_gradient(model, block->down_bias), work->dsum, layer->activation,
        gpt_weight(model, block->down_weight));
  SS_OP(device, error, activation_backward, (ss_activation_kind)config->activation, work->dup,
        work->dactivation, layer->up);
  SS_OP(device, error, linear_backward, work->dnorm, gpt_gradient(model, block->up_weight),
        gpt_gradient(model, block->up_bias), work->dup, layer->norm2, gpt_weight(model, block->up_weight));
  SS_OP(device, error, norm_backward, (ss_norm_kind)config->norm, work->dsum,
        gpt_gradient(model, block->norm2_weight), gpt_gradient(model, block->norm2_bias), work->dnorm,
        layer->sum2, layer->statistics2, gpt_weight(model, block->norm2_weight));

  SS_OP(device, error, linear_backward, work->dattention, gpt_gradient(model, block->proj_weight),
        gpt_gradient(model, block->proj_bias), work->dsum, layer->attention,
        gpt_weight(model, block->proj_weight));
  SS_OP(device, error, attention_backward, model->plan, gpt_attention_shape(model), gpt_q(model, work->dqkv),
        gpt_k(model, work->dqkv), gpt_v(model, work->dqkv), work->dattention, layer->attention,
        layer->log_sum_exp, gpt_q(model, layer->qkv), gpt_k(model, layer->qkv), gpt_v(model, layer->qkv));
  if (config->position == GPT_POSITION_ROTARY) {
    ss_tensor q_and_k = ss_columns(work->dqkv, 0, config->n_embd + gpt_kv_width(config));
    SS_OP(device, error, rotary, q_and_k, work->positions, (int32_t)gpt_head_dim(config),
          (float)config->rotary_theta, -1);
  }
  SS_OP(device, error, linear_backward, work->dnorm, gpt_gradient(model, block->qkv_weight),
        gpt_gradient(model, block->qkv_bias), work->dqkv, layer->norm1, gpt_weight(model, block->qkv_weight));
  SS_OP(device, error, norm_backward, (ss_norm_kind)config->norm, work->dsum,
        gpt_gradient(model, block->norm1_weight), gpt_gradient(model, block->norm1_bias), work->dnorm,
        layer->sum1, layer->statistics1, gpt_weight(model, block->norm1_weight));
  return SS_OK;
}

ss_status gpt_backward(gpt *model, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, zero, work->dsum.data,
        (size_t)(work->dsum.rows * work->dsum.cols) * sizeof(float));
  SS_OP(model->device, error, norm_backward, (ss_norm_kind)model->config.norm, work->dsum,
        gpt_gradient(model, model->norm_weight), gpt_gradient(model, model->norm_bias), work->dnorm,
        work->final_sum, work->final_statistics, gpt_weight(model, model->norm_weight));
  for (int64_t index = model->config.n_layer - 1; index >= 0; --index)
    SS_TRY(layer_backward(model, index, error));
  SS_OP(model->device, error, embedding_backward, gpt_gradient(model, model->wte),
        gpt_gradient(model, model->wpe), work->dsum, work->tokens, work->positions);
  return SS_OK;
}

static ss_status check_targets(const gpt *model, const gpt_batch *batch, ss_error *error) {
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->targets[row] >= model->config.vocab_size)
      return ss_fail(error, SS_ERROR_INPUT, "batch row %lld: target %d, expected -1..%lld (the vocabulary)",
                     (long long)row, batch->targets[row], (long long)model->config.vocab_size - 1);
  return SS_OK;
}

// Sums on the host in row order and double precision: the same number whatever computed the rows.
static ss_status collect_loss(gpt *model, const gpt_batch *batch, gpt_loss *loss, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  size_t count = (size_t)batch->n_row;
  SS_OP(model->device, error, download, work->host_losses, work->losses.data, count * sizeof(float));
  SS_OP(model->device, error, download, work->host_correct, work->correct.data, count * sizeof(int32_t));
  gpt_loss sum = {0, 0, 0};
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->targets[row] >= 0) {
      sum.loss_sum += work->host_losses[row];
      sum.n_target += 1;
      sum.n_correct += work->host_correct[row] != 0;
    }
  *loss = sum;
  return SS_OK;
}

ss_status gpt_train_step(gpt *model, const gpt_batch *batch, bool backward, double loss_scale, gpt_loss *loss,
                         ss_error *error) {
  if (backward && !model->gradients)
    return ss_fail(error, SS_ERROR_INTERNAL, "the model was created without gradients");
  SS_TRY(gpt_check_rows(model, batch->n_row, batch->tokens, batch->positions, batch->views, batch->n_view,
                        error));
  SS_TRY(check_targets(model, batch, error));
  gpt_workspace_request request = {batch->n_row, backward, backward, 0, false};
  SS_TRY(gpt_workspace_prepare(model, &request, error));
  gpt_workspace *work = &model->workspace;
  int64_t n_target = 0;
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->targets[row] >= 0)
      work->host_target_rows[n_target++] = (int32_t)row;
  SS_OP(model->device, error, upload, work->targets.data, batch->targets,
        (size_t)batch->n_row * sizeof(int32_t));
  SS_OP(model->device, error, upload, work->target_rows.data, work->host_target_rows,
        (size_t)n_target * sizeof(int32_t));
  SS_TRY(gpt_forward(model, batch, backward, error));
  SS_OP(model->device, error, classifier_loss, work->losses, work->correct,
        backward ? work->dnorm : gpt_no_tensor(),
        backward ? gpt_gradient(model, model->wte) : gpt_no_tensor(), work->final_norm,
        gpt_weight(model, model->wte), work->targets, ss_integers(work->target_rows.data, n_target),
        (float)loss_scale);
  if (backward)
    SS_TRY(gpt_backward(model, error));
  return collect_loss(model, batch, loss, error);
}
