// Inference over a KV cache: prefill and decoding are the same call with other views.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "model/gpt_private.h"

ss_status gpt_cache_create(gpt_cache **out, gpt *model, int64_t n_slot, int64_t slot_rows, ss_error *error) {
  *out = NULL;
  if (n_slot < 1 || slot_rows < 1 || n_slot > INT32_MAX / slot_rows)
    return ss_fail(error, SS_ERROR_LIMIT,
                   "a cache of %lld slots of %lld rows, expected at most %d rows in all", (long long)n_slot,
                   (long long)slot_rows, INT32_MAX);
  gpt_cache *cache = NULL;
  SS_TRY(ss_allocate(&cache, 1, sizeof *cache, "the KV cache", error));
  cache->model = model;
  cache->n_row = n_slot * slot_rows;
  size_t bytes = (size_t)cache->n_row * (size_t)gpt_cache_bytes_per_row(cache);
  if (model->device->ops->allocate(model->device, &cache->data, bytes, "the KV cache") != SS_OK) {
    free(cache);
    return ss_device_error(model->device, error);
  }
  *out = cache;
  return SS_OK;
}

void gpt_cache_free(gpt_cache *cache) {
  if (!cache)
    return;
  cache->model->device->ops->release(cache->model->device, cache->data);
  free(cache);
}

int64_t gpt_cache_row_bytes(const gpt *model) {
  return 2 * model->config.n_layer * gpt_kv_width(&model->config) *
         (int64_t)ss_dtype_size(model->device->compute);
}

int64_t gpt_cache_bytes_per_row(const gpt_cache *cache) {
  return gpt_cache_row_bytes(cache->model);
}

ss_tensor gpt_cache_slab(const gpt_cache *cache, int64_t layer, int64_t which) {
  int64_t width = gpt_kv_width(&cache->model->config);
  ss_dtype dtype = cache->model->device->compute;
  size_t slab_bytes = (size_t)(cache->n_row * width) * ss_dtype_size(dtype);
  return ss_matrix_of((char *)cache->data + (size_t)(2 * layer + which) * slab_bytes, cache->n_row, width,
                      dtype);
}

// Round to nearest even; a NaN stays one.
static uint16_t bf16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value)
    return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

ss_status gpt_cache_fill(gpt_cache *cache, int64_t first_row, int64_t n_row, float value, ss_error *error) {
  if (first_row < 0 || n_row < 0 || first_row > cache->n_row - n_row)
    return ss_fail(error, SS_ERROR_LIMIT, "cache rows %lld + %lld, expected rows below %lld",
                   (long long)first_row, (long long)n_row, (long long)cache->n_row);
  int64_t count = n_row * gpt_kv_width(&cache->model->config);
  ss_device *device = cache->model->device;
  size_t size = ss_dtype_size(device->compute);
  void *host = NULL;
  SS_TRY(ss_allocate(&host, count, size, "cache rows", error));
  for (int64_t i = 0; i < count; ++i)
    if (device->compute == SS_BF16)
      ((uint16_t *)host)[i] = bf16_of(value);
    else
      ((float *)host)[i] = value;
  ss_status status = SS_OK;
  for (int64_t layer = 0; layer < cache->model->config.n_layer && status == SS_OK; ++layer)
    for (int64_t which = 0; which < 2 && status == SS_OK; ++which) {
      ss_tensor rows = ss_rows(gpt_cache_slab(cache, layer, which), first_row, n_row);
      if (device->ops->upload(device, rows.data, host, (size_t)count * size) != SS_OK)
        status = ss_device_error(device, error);
    }
  free(host);
  return status;
}

static ss_status check_inference(const gpt *model, const gpt_cache *cache, const gpt_inference_batch *batch,
                                 ss_error *error) {
  SS_TRY(gpt_check_rows(model, batch->n_row, batch->tokens, batch->positions, batch->views, batch->n_view,
                        error));
  for (int64_t row = 0; row < batch->n_row; ++row)
    if (batch->cache_rows[row] < 0 || batch->cache_rows[row] >= cache->n_row)
      return ss_fail(error, SS_ERROR_INTERNAL, "batch row %lld: cache row %d, expected 0..%lld",
                     (long long)row, batch->cache_rows[row], (long long)cache->n_row - 1);
  for (int64_t k = 0; k < batch->n_logit_row; ++k) {
    int32_t row = batch->logit_rows[k];
    if (row < 0 || row >= batch->n_row || (k > 0 && row <= batch->logit_rows[k - 1]))
      return ss_fail(error, SS_ERROR_INTERNAL, "logit row %d, expected ascending rows below %lld", row,
                     (long long)batch->n_row);
  }
  return SS_OK;
}

// Views of the logit rows alone: query j of the result is batch row logit_rows[j]. Views may stand in any order
// (and cover every row), so each takes the logit rows that fall into it.
static ss_status plan_last_layer(gpt *model, const gpt_cache *cache, const gpt_inference_batch *batch,
                                 ss_error *error) {
  SS_TRY(ss_grow(&model->last_views, &model->last_views_capacity, batch->n_logit_row,
                 sizeof *model->last_views, "attention views", error));
  int64_t n_view = 0;
  for (int64_t k = 0; k < batch->n_view; ++k) {
    const ss_attention_view *view = &batch->views[k];
    int64_t low = 0, high = batch->n_logit_row;
    while (low < high) {
      int64_t middle = (low + high) / 2;
      if (batch->logit_rows[middle] < view->q_first)
        low = middle + 1;
      else
        high = middle;
    }
    for (; low < batch->n_logit_row && batch->logit_rows[low] < view->q_first + view->n_query; ++low) {
      ss_attention_view one = *view;
      one.q_first = (int32_t)low;
      one.n_query = 1;
      one.self_last = view->self_last + (batch->logit_rows[low] - view->q_first);
      if (n_view == batch->n_logit_row)
        return ss_fail(error, SS_ERROR_INTERNAL, "attention views cover a row twice");
      model->last_views[n_view++] = one;
    }
  }
  SS_OP(model->device, error, attention_plan, &model->plan_last, model->last_views, n_view, batch->ranges,
        batch->n_range, cache->n_row, false);
  return SS_OK;
}

// The rest of the last layer on the logit rows: q and the residual stream are gathered (the embedding op is a
// gather of rows), K and V of all rows are in the cache already.
static ss_status finish_last_layer(gpt *model, const gpt_cache *cache, ss_error *error) {
  int64_t index = model->config.n_layer - 1;
  gpt_workspace *work = &model->workspace;
  const gpt_layer_activations *all = &work->layers[index];
  const gpt_layer_activations *few = &work->last;
  SS_OP(model->device, error, embedding_forward, few->sum1, work->logit_rows, gpt_no_tensor(), all->sum1,
        gpt_no_tensor());
  SS_OP(model->device, error, embedding_forward, few->qkv, work->logit_rows, gpt_no_tensor(),
        gpt_q(model, all->qkv), gpt_no_tensor());
  SS_OP(model->device, error, attention_forward, model->plan_last, gpt_attention_shape(model), few->attention,
        gpt_no_tensor(), few->qkv, gpt_cache_slab(cache, index, 0), gpt_cache_slab(cache, index, 1));
  return gpt_layer_finish(model, index, few, error);
}

static ss_status run_layers(gpt *model, const gpt_cache *cache, bool last_rows, int64_t n_logit_row,
                            const gpt_layer_activations **last, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  const gpt_layer_activations *previous = NULL;
  for (int64_t index = 0; index < model->config.n_layer; ++index) {
    const gpt_layer_activations *layer = &work->layers[index];
    SS_TRY(gpt_layer_qkv(model, index, previous, error));
    SS_OP(model->device, error, cache_append, gpt_cache_slab(cache, index, 0),
          gpt_cache_slab(cache, index, 1), gpt_k(model, layer->qkv), gpt_v(model, layer->qkv), work->slots);
    previous = layer;
    if (index == model->config.n_layer - 1 && n_logit_row == 0)
      break;
    if (index == model->config.n_layer - 1 && last_rows) {
      SS_TRY(finish_last_layer(model, cache, error));
      previous = &work->last;
      break;
    }
    SS_OP(model->device, error, attention_forward, model->plan, gpt_attention_shape(model), layer->attention,
          gpt_no_tensor(), gpt_q(model, layer->qkv), gpt_cache_slab(cache, index, 0),
          gpt_cache_slab(cache, index, 1));
    SS_TRY(gpt_layer_finish(model, index, layer, error));
  }
  *last = previous;
  return SS_OK;
}

ss_status gpt_infer_logits(gpt *model, gpt_cache *cache, const gpt_inference_batch *batch, ss_tensor *logits,
                           ss_error *error) {
  SS_TRY(check_inference(model, cache, batch, error));
  bool last_rows = batch->n_logit_row < batch->n_row;
  gpt_workspace_request request = {batch->n_row, false, false, batch->n_logit_row, last_rows};
  SS_TRY(gpt_workspace_prepare(model, &request, error));
  gpt_workspace *work = &model->workspace;
  SS_OP(model->device, error, attention_plan, &model->plan, batch->views, batch->n_view, batch->ranges,
        batch->n_range, cache->n_row, false);
  if (last_rows && batch->n_logit_row > 0)
    SS_TRY(plan_last_layer(model, cache, batch, error));
  SS_OP(model->device, error, upload, work->slots.data, batch->cache_rows,
        (size_t)batch->n_row * sizeof(int32_t));
  if (batch->n_logit_row > 0)
    SS_OP(model->device, error, upload, work->logit_rows.data, batch->logit_rows,
          (size_t)batch->n_logit_row * sizeof(int32_t));
  SS_TRY(gpt_upload_rows(model, batch->tokens, batch->positions, error));
  SS_TRY(gpt_refresh_copy(model, error));
  SS_TRY(gpt_embed(model, error));
  const gpt_layer_activations *last = NULL;
  SS_TRY(run_layers(model, cache, last_rows, batch->n_logit_row, &last, error));
  *logits = work->logits;
  if (batch->n_logit_row == 0)
    return SS_OK;
  SS_TRY(gpt_final_norm(model, last, error));
  SS_OP(model->device, error, linear_forward, work->logits, work->final_norm, gpt_weight(model, model->wte),
        gpt_no_tensor());
  return SS_OK;
}

ss_status gpt_infer(gpt *model, gpt_cache *cache, const gpt_inference_batch *batch, float *logits,
                    ss_error *error) {
  ss_tensor made;
  SS_TRY(gpt_infer_logits(model, cache, batch, &made, error));
  if (batch->n_logit_row > 0)
    SS_OP(model->device, error, download, logits, made.data, (size_t)(made.rows * made.cols) * sizeof(float));
  return SS_OK;
}
