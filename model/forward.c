// The forward pass: one block with switches, shared by training and inference.
#include <math.h>

#include "model/gpt_private.h"

ss_attention_shape gpt_attention_shape(const gpt *model) {
  ss_attention_shape shape;
  shape.n_head = (int32_t)model->config.n_head;
  shape.n_kv_head = (int32_t)model->config.n_kv_head;
  shape.head_dim = (int32_t)gpt_head_dim(&model->config);
  shape.scale = (float)(1.0 / sqrt((double)shape.head_dim));
  return shape;
}

ss_status gpt_check_rows(const gpt *model, int64_t n_row, const int32_t *tokens, const int32_t *positions,
                         const ss_attention_view *views, int64_t n_view, ss_error *error) {
  const gpt_config *config = &model->config;
  if (n_row < 1 || n_row > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "a batch has %lld rows, expected 1..%d", (long long)n_row,
                   INT32_MAX);
  // Rotary angles exist for every position; only a learned table ends.
  int64_t last_position = config->position == GPT_POSITION_LEARNED ? config->n_positions - 1 : INT32_MAX;
  for (int64_t row = 0; row < n_row; ++row) {
    if (tokens[row] < 0 || tokens[row] >= config->vocab_size)
      return ss_fail(error, SS_ERROR_INPUT, "batch row %lld: token %d, expected 0..%lld (the vocabulary)",
                     (long long)row, tokens[row], (long long)config->vocab_size - 1);
    if (positions[row] < 0 || positions[row] > last_position)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "batch row %lld: position %d, expected 0..%lld (model.n_positions)", (long long)row,
                     positions[row], (long long)last_position);
  }
  int64_t n_query = 0;
  for (int64_t k = 0; k < n_view; ++k) {
    if (views[k].q_first < 0 || views[k].n_query < 1 || views[k].q_first > n_row - views[k].n_query)
      return ss_fail(error, SS_ERROR_INTERNAL,
                     "attention view %lld covers rows %d + %d, expected rows below %lld", (long long)k,
                     views[k].q_first, views[k].n_query, (long long)n_row);
    n_query += views[k].n_query;
  }
  if (n_query != n_row)
    return ss_fail(error, SS_ERROR_INTERNAL, "attention views cover %lld rows, expected %lld",
                   (long long)n_query, (long long)n_row);
  return SS_OK;
}

ss_status gpt_upload_rows(gpt *model, const int32_t *tokens, const int32_t *positions, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  size_t bytes = (size_t)work->tokens.cols * sizeof(int32_t);
  SS_OP(model->device, error, upload, work->tokens.data, tokens, bytes);
  SS_OP(model->device, error, upload, work->positions.data, positions, bytes);
  return SS_OK;
}

ss_status gpt_embed(gpt *model, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, embedding_forward, work->layers[0].sum1, work->tokens, work->positions,
        gpt_master(model, model->wte), gpt_master(model, model->wpe));
  return SS_OK;
}

ss_status gpt_layer_qkv(gpt *model, int64_t index, const gpt_layer_activations *previous, ss_error *error) {
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  gpt_workspace *work = &model->workspace;
  const gpt_layer_activations *layer = &work->layers[index];
  ss_tensor x = previous ? previous->sum2 : layer->sum1;
  ss_tensor branch = previous ? work->branch : gpt_no_tensor();
  SS_OP(model->device, error, norm_forward, (ss_norm_kind)config->norm, layer->norm1, layer->sum1,
        layer->statistics1, x, branch, gpt_master(model, block->norm1_weight),
        gpt_master(model, block->norm1_bias), (float)config->norm_epsilon);
  SS_OP(model->device, error, linear_forward, layer->qkv, layer->norm1, gpt_weight(model, block->qkv_weight),
        gpt_weight(model, block->qkv_bias));
  if (config->position == GPT_POSITION_ROTARY) {
    // q and k stand side by side and rotate alike: one call over both.
    ss_tensor q_and_k = ss_columns(layer->qkv, 0, config->n_embd + gpt_kv_width(config));
    SS_OP(model->device, error, rotary, q_and_k, work->positions, (int32_t)gpt_head_dim(config),
          (float)config->rotary_theta, 1);
  }
  return SS_OK;
}

ss_status gpt_layer_finish(gpt *model, int64_t index, const gpt_layer_activations *layer, ss_error *error) {
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  ss_tensor branch = ss_rows(model->workspace.branch, 0, layer->sum1.rows);
  SS_OP(model->device, error, linear_forward, branch, layer->attention, gpt_weight(model, block->proj_weight),
        gpt_weight(model, block->proj_bias));
  SS_OP(model->device, error, norm_forward, (ss_norm_kind)config->norm, layer->norm2, layer->sum2,
        layer->statistics2, layer->sum1, branch, gpt_master(model, block->norm2_weight),
        gpt_master(model, block->norm2_bias), (float)config->norm_epsilon);
  SS_OP(model->device, error, linear_activation_forward, (ss_activation_kind)config->activation,
        layer->activation, layer->up, layer->norm2, gpt_weight(model, block->up_weight),
        gpt_weight(model, block->up_bias));
  SS_OP(model->device, error, linear_forward, branch, layer->activation,
        gpt_weight(model, block->down_weight), gpt_weight(model, block->down_bias));
  return SS_OK;
}

ss_status gpt_final_norm(gpt *model, const gpt_layer_activations *last, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, norm_forward, (ss_norm_kind)model->config.norm, work->final_norm,
        work->final_sum, work->final_statistics, last->sum2, ss_rows(work->branch, 0, last->sum2.rows),
        gpt_master(model, model->norm_weight), gpt_master(model, model->norm_bias),
        (float)model->config.norm_epsilon);
  return SS_OK;
}

ss_status gpt_norm_again(gpt *model, int64_t index, int which, ss_error *error) {
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  const gpt_layer_activations *layer = &model->workspace.layers[index];
  ss_tensor sum = which == 1 ? layer->sum1 : layer->sum2;
  SS_OP(model->device, error, norm_forward, (ss_norm_kind)config->norm,
        which == 1 ? layer->norm1 : layer->norm2, sum, which == 1 ? layer->statistics1 : layer->statistics2,
        sum, gpt_no_tensor(), gpt_master(model, which == 1 ? block->norm1_weight : block->norm2_weight),
        gpt_master(model, which == 1 ? block->norm1_bias : block->norm2_bias), (float)config->norm_epsilon);
  return SS_OK;
}

ss_status gpt_forward(gpt *model, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  ss_device *device = model->device;
  SS_TRY(gpt_refresh_copy(model, error));
  SS_TRY(gpt_embed(model, error));
  const gpt_layer_activations *previous = NULL;
  for (int64_t index = 0; index < model->config.n_layer; ++index) {
    const gpt_layer_activations *layer = &work->layers[index];
    device->ops->range_push(device, "layer forward");
    SS_TRY(gpt_layer_qkv(model, index, previous, error));
    SS_OP(device, error, attention_forward, model->plan, gpt_attention_shape(model), layer->attention,
          layer->log_sum_exp, gpt_q(model, layer->qkv), gpt_k(model, layer->qkv), gpt_v(model, layer->qkv));
    SS_TRY(gpt_layer_finish(model, index, layer, error));
    device->ops->range_pop(device);
    previous = layer;
  }
  return gpt_final_norm(model, previous, error);
}

ss_status gpt_forward_logits(gpt *model, const gpt_batch *batch, float *logits, ss_error *error) {
  SS_TRY(gpt_check_rows(model, batch->n_row, batch->tokens, batch->positions, batch->views, batch->n_view,
                        error));
  gpt_workspace_request request = {batch->n_row, false, false, batch->n_row, false};
  SS_TRY(gpt_workspace_prepare(model, &request, error));
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, attention_plan, &model->plan, batch->views, batch->n_view, batch->ranges,
        batch->n_range, batch->n_row, false);
  SS_TRY(gpt_upload_rows(model, batch->tokens, batch->positions, error));
  SS_TRY(gpt_forward(model, error));
  SS_OP(model->device, error, linear_forward, work->logits, work->final_norm, gpt_weight(model, model->wte),
        gpt_no_tensor());
  SS_OP(model->device, error, download, logits, work->logits.data,
        (size_t)(work->logits.rows * work->logits.cols) * sizeof(float));
  return SS_OK;
}
