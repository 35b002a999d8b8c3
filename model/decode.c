// A decoding step: one row a sequence through the fused ops, on buffers of its own.
#include <stdlib.h>

#include "common/memory.h"
#include "model/gpt_private.h"

// n = rows, C = n_embd, F = n_ff. In the device's compute dtype but for the logits (fp32).
struct gpt_decode {
  gpt *model;
  gpt_cache *cache;
  int64_t n_row;         // that the buffers hold
  void *data;            // one allocation behind them
  ss_tensor x;           // [n, C] the residual stream
  ss_tensor q;           // [n, C]
  ss_tensor attention;   // [n, C]
  ss_tensor activation;  // [n, F]
  ss_tensor logits;      // [n, V]
  int64_t last_n_row;
};

#define ALIGNMENT 256

// Places [rows, cols] behind *bytes; with base NULL it only counts.
static ss_tensor place(char *base, size_t *bytes, int64_t rows, int64_t cols, ss_dtype dtype) {
  ss_tensor tensor = ss_matrix_of(base ? base + *bytes : NULL, rows, cols, dtype);
  size_t size = (size_t)(rows * cols) * ss_dtype_size(dtype);
  *bytes += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return tensor;
}

static size_t lay_out(gpt_decode *decode, char *base) {
  const gpt_config *config = &decode->model->config;
  ss_dtype dtype = decode->model->device->compute;
  size_t bytes = 0;
  decode->x = place(base, &bytes, decode->n_row, config->n_embd, dtype);
  decode->q = place(base, &bytes, decode->n_row, config->n_embd, dtype);
  decode->attention = place(base, &bytes, decode->n_row, config->n_embd, dtype);
  decode->activation = place(base, &bytes, decode->n_row, config->n_ff, dtype);
  decode->logits = place(base, &bytes, decode->n_row, config->vocab_size, SS_F32);
  return bytes;
}

ss_status gpt_decode_create(gpt_decode **out, gpt *model, gpt_cache *cache, int64_t n_row, ss_error *error) {
  *out = NULL;
  if (n_row < 1 || n_row > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "decoding steps of %lld rows, expected 1..%d", (long long)n_row,
                   INT32_MAX);
  gpt_decode *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "decoding buffers", error));
  made->model = model;
  made->cache = cache;
  made->n_row = n_row;
  if (model->device->ops->allocate(model->device, &made->data, lay_out(made, NULL), "decoding buffers") !=
      SS_OK) {
    free(made);
    return ss_device_error(model->device, error);
  }
  lay_out(made, made->data);
  *out = made;
  return SS_OK;
}

void gpt_decode_free(gpt_decode *decode) {
  if (!decode)
    return;
  decode->model->device->ops->release(decode->model->device, decode->data);
  free(decode);
}

static ss_norm norm_of(const gpt *model, int32_t weight, int32_t bias) {
  return (ss_norm){(ss_norm_kind)model->config.norm, gpt_master(model, weight), gpt_master(model, bias),
                   (float)model->config.norm_epsilon};
}

static ss_status run_layer(gpt_decode *decode, int64_t index, int64_t n, ss_tensor positions,
                           ss_tensor cache_rows, const ss_attention_plan *plan, ss_error *error) {
  const gpt *model = decode->model;
  const gpt_config *config = &model->config;
  const gpt_block *block = &model->blocks[index];
  ss_device *device = model->device;
  ss_tensor x = ss_rows(decode->x, 0, n), q = ss_rows(decode->q, 0, n);
  ss_tensor attention = ss_rows(decode->attention, 0, n), activation = ss_rows(decode->activation, 0, n);
  ss_tensor k_cache = gpt_cache_slab(decode->cache, index, 0);
  ss_tensor v_cache = gpt_cache_slab(decode->cache, index, 1);
  bool rotary = config->position == GPT_POSITION_ROTARY;
  SS_OP(device, error, step_qkv, q, k_cache, v_cache, x,
        norm_of(model, block->norm1_weight, block->norm1_bias), gpt_weight(model, block->qkv_weight),
        gpt_weight(model, block->qkv_bias), positions, cache_rows, (int32_t)gpt_head_dim(config),
        rotary ? (float)config->rotary_theta : 0.0f);
  SS_OP(device, error, attention_forward, plan, gpt_attention_shape(model), attention, gpt_no_tensor(), q,
        k_cache, v_cache);
  SS_OP(device, error, step_residual, x, attention, gpt_weight(model, block->proj_weight),
        gpt_weight(model, block->proj_bias));
  SS_OP(device, error, step_linear, activation, x, norm_of(model, block->norm2_weight, block->norm2_bias),
        gpt_weight(model, block->up_weight), gpt_weight(model, block->up_bias),
        config->activation == SS_ACTIVATION_GELU ? SS_STEP_GELU : SS_STEP_SWIGLU);
  SS_OP(device, error, step_residual, x, activation, gpt_weight(model, block->down_weight),
        gpt_weight(model, block->down_bias));
  return SS_OK;
}

ss_status gpt_decode_step(gpt_decode *decode, int64_t n_row, ss_tensor tokens, ss_tensor positions,
                          ss_tensor cache_rows, const ss_attention_plan *plan, ss_error *error) {
  gpt *model = decode->model;
  if (n_row < 1 || n_row > decode->n_row)
    return ss_fail(error, SS_ERROR_INTERNAL, "a decoding step of %lld rows, expected 1..%lld",
                   (long long)n_row, (long long)decode->n_row);
  SS_TRY(gpt_refresh_copy(model, error));
  ss_tensor x = ss_rows(decode->x, 0, n_row);
  SS_OP(model->device, error, embedding_forward, x, tokens, positions, gpt_master(model, model->wte),
        gpt_master(model, model->wpe));
  for (int64_t index = 0; index < model->config.n_layer; ++index)
    SS_TRY(run_layer(decode, index, n_row, positions, cache_rows, plan, error));
  SS_OP(model->device, error, step_linear, ss_rows(decode->logits, 0, n_row), x,
        norm_of(model, model->norm_weight, model->norm_bias), gpt_weight(model, model->wte), gpt_no_tensor(),
        SS_STEP_PLAIN);
  decode->last_n_row = n_row;
  return SS_OK;
}

ss_tensor gpt_decode_logits(const gpt_decode *decode) {
  return ss_rows(decode->logits, 0, decode->last_n_row);
}
