// The backward pass, layer by layer.
#include "model/gpt_private.h"

// dsum holds the gradient of the stream leaving the layer; afterwards that of the stream entering it.
static ss_status layer_backward(gpt *model, int64_t index, ss_error *error) {
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  gpt_workspace *work = &model->workspace;
  const gpt_layer_activations *layer = &work->layers[index];
  ss_device *device = model->device;

  if (model->recompute) {
    SS_OP(device, error, activation_forward, (ss_activation_kind)config->activation, layer->activation,
          layer->up);
    SS_TRY(gpt_norm_again(model, index, 2, error));
  }
  SS_OP(device, error, linear_activation_backward, (ss_activation_kind)config->activation, work->dup,
        gpt_gradient(model, block->down_weight), gpt_gradient(model, block->down_bias), work->dsum,
        layer->activation, gpt_weight(model, block->down_weight), layer->up, work->dactivation);
  SS_OP(device, error, linear_backward, work->dnorm, gpt_gradient(model, block->up_weight),
        gpt_gradient(model, block->up_bias), work->dup, layer->norm2, gpt_weight(model, block->up_weight));
  SS_OP(device, error, norm_backward, (ss_norm_kind)config->norm, work->dsum,
        gpt_gradient(model, block->norm2_weight), gpt_gradient(model, block->norm2_bias), work->dnorm,
        layer->sum2, layer->statistics2, gpt_master(model, block->norm2_weight));

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
  if (model->recompute)
    SS_TRY(gpt_norm_again(model, index, 1, error));
  SS_OP(device, error, linear_backward, work->dnorm, gpt_gradient(model, block->qkv_weight),
        gpt_gradient(model, block->qkv_bias), work->dqkv, layer->norm1, gpt_weight(model, block->qkv_weight));
  SS_OP(device, error, norm_backward, (ss_norm_kind)config->norm, work->dsum,
        gpt_gradient(model, block->norm1_weight), gpt_gradient(model, block->norm1_bias), work->dnorm,
        layer->sum1, layer->statistics1, gpt_master(model, block->norm1_weight));
  return SS_OK;
}

ss_status gpt_backward(gpt *model, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, zero, work->dsum.data,
        (size_t)(work->dsum.rows * work->dsum.cols) * ss_dtype_size(work->dsum.dtype));
  SS_OP(model->device, error, norm_backward, (ss_norm_kind)model->config.norm, work->dsum,
        gpt_gradient(model, model->norm_weight), gpt_gradient(model, model->norm_bias), work->dnorm,
        work->final_sum, work->final_statistics, gpt_master(model, model->norm_weight));
  for (int64_t index = model->config.n_layer - 1; index >= 0; --index) {
    model->device->ops->range_push(model->device, "layer backward");
    SS_TRY(layer_backward(model, index, error));
    model->device->ops->range_pop(model->device);
  }
  SS_OP(model->device, error, embedding_backward, gpt_gradient(model, model->wte),
        gpt_gradient(model, model->wpe), work->dsum, work->tokens, work->positions);
  return SS_OK;
}
