// Shared by model/*.c only: the model's struct, its parameter indices and its activations.
#ifndef SELFSPAN_MODEL_GPT_PRIVATE_H
#define SELFSPAN_MODEL_GPT_PRIVATE_H

#include "model/gpt.h"

// Indices into the parameter table; -1 where the configuration has no such parameter.
typedef struct {
  int32_t norm1_weight, norm1_bias;
  int32_t qkv_weight, qkv_bias;
  int32_t proj_weight, proj_bias;
  int32_t norm2_weight, norm2_bias;
  int32_t up_weight, up_bias;
  int32_t down_weight, down_bias;
} gpt_block;

// Activations of one block, in the device's compute dtype but for statistics and log_sum_exp (fp32). n = rows,
// C = n_embd, Q = n_head * head_dim, K = n_kv_head * head_dim, F = n_ff, U = F (GELU) or 2F (SwiGLU).
typedef struct {
  ss_tensor sum1;         // [n, C] the residual stream entering the block
  ss_tensor statistics1;  // [n, 2]
  ss_tensor norm1;        // [n, C]
  ss_tensor qkv;          // [n, Q + 2K]
  ss_tensor attention;    // [n, Q]
  ss_tensor log_sum_exp;  // [n, n_head]
  ss_tensor sum2;         // [n, C] the residual stream after attention
  ss_tensor statistics2;  // [n, 2]
  ss_tensor norm2;        // [n, C]
  ss_tensor up;           // [n, U]
  ss_tensor activation;   // [n, F]
} gpt_layer_activations;

// What one call needs of the arena.
typedef struct {
  int64_t n_row;
  bool keep;            // every layer's activations are kept (a backward follows); else layers share one set
  bool backward;        // gradients of activations too
  int64_t n_logit_row;  // rows of logits, 0 for none
  bool last_rows;       // the last layer runs on n_logit_row gathered rows
} gpt_workspace_request;

// One device arena, planned anew for every call and grown on demand. Tensors that are never alive together share
// memory: branch with dnorm, final_norm with dsum, final_sum with dup and with dattention + dqkv.
typedef struct {
  void *arena;
  size_t bytes;
  gpt_layer_activations *layers;  // [n_layer]
  gpt_layer_activations last;     // the last layer's, when it runs on the logit rows only (qkv holds q alone)
  ss_tensor tokens, positions, targets, target_rows, slots, logit_rows;  // i32[n]
  ss_tensor branch;  // [n, C] what attention or MLP add to the residual stream
  ss_tensor final_sum, final_statistics, final_norm;  // [n, C], [n, 2], [n, C]
  ss_tensor losses, correct;                          // [1, n], i32[n]
  ss_tensor dsum, dnorm, dqkv, dattention, dup;
  ss_tensor dactivation;  // scratch of the op that goes back through the activation; may be dup
  ss_tensor logits;       // [n_logit_row, V], fp32
} gpt_workspace;

// The host's side of one batch, from stage to collect.
typedef struct {
  float *losses;     // [capacity], page-locked
  int32_t *correct;  // [capacity], page-locked
  int64_t capacity;
  int32_t *target_rows;  // [n_target]
  int64_t target_capacity;
  int64_t n_row, n_target;
  bool backward;
} gpt_flight;

struct gpt {
  ss_device *device;
  gpt_config config;
  gpt_parameter *table;
  int32_t n_parameter_tensor;
  int64_t n_parameter;
  int32_t wte, wpe, norm_weight, norm_bias;  // table indices; wpe and norm_bias may be -1
  gpt_block *blocks;                         // [n_layer]
  float *parameters, *gradients;
  void *compute_copy;  // bf16[n_parameter]; NULL when the device computes in fp32
  bool copy_stale;
  bool recompute;
  gpt_workspace workspace;
  gpt_flight flights[2];         // of the batch that runs and the one staged meanwhile
  int next_flight;               // takes the next staged batch
  bool staged, running;          // a running batch is in the other flight
  ss_attention_plan *plan;       // of the whole batch
  ss_attention_plan *plan_last;  // of the last layer's logit rows
  ss_attention_view *last_views;
  int64_t last_views_capacity;
};

struct gpt_cache {
  gpt *model;
  int64_t n_row;  // n_slot * slot_rows
  void *data;     // [n_layer, 2, n_row, n_kv_head * head_dim]: K then V of each layer
};

// --- parameters.c ---
ss_status gpt_build_table(gpt *model, ss_error *error);
// A parameter as a tensor: as matrix products read it (compute dtype), its fp32 master, its gradient. Data NULL for
// index -1.
ss_tensor gpt_weight(const gpt *model, int32_t index);
ss_tensor gpt_master(const gpt *model, int32_t index);
ss_tensor gpt_gradient(const gpt *model, int32_t index);
// Brings an outdated compute copy up to date; before every forward.
ss_status gpt_refresh_copy(gpt *model, ss_error *error);

// --- workspace.c ---
// Lays the arena out for a request; whatever was laid out or staged before is forgotten.
ss_status gpt_workspace_prepare(gpt *model, const gpt_workspace_request *request, ss_error *error);
void gpt_workspace_free(gpt *model);

// --- forward.c ---
static inline int64_t gpt_head_dim(const gpt_config *config) {
  return config->n_embd / config->n_head;
}
static inline int64_t gpt_kv_width(const gpt_config *config) {
  return config->n_kv_head * gpt_head_dim(config);
}
static inline ss_tensor gpt_q(const gpt *model, ss_tensor qkv) {
  return ss_columns(qkv, 0, model->config.n_embd);
}
static inline ss_tensor gpt_k(const gpt *model, ss_tensor qkv) {
  return ss_columns(qkv, model->config.n_embd, gpt_kv_width(&model->config));
}
static inline ss_tensor gpt_v(const gpt *model, ss_tensor qkv) {
  return ss_columns(qkv, model->config.n_embd + gpt_kv_width(&model->config), gpt_kv_width(&model->config));
}
static inline ss_tensor gpt_no_tensor(void) {
  ss_tensor none = {0};
  return none;
}
// Checks tokens, positions and views against the model before anything is computed.
ss_status gpt_check_rows(const gpt *model, int64_t n_row, const int32_t *tokens, const int32_t *positions,
                         const ss_attention_view *views, int64_t n_view, ss_error *error);
ss_status gpt_upload_rows(gpt *model, const int32_t *tokens, const int32_t *positions, ss_error *error);
// Embeds the uploaded rows into layer 0's sum1.
ss_status gpt_embed(gpt *model, ss_error *error);
// norm1, qkv and rotary of layer `index`. `previous` is the layer before (NULL for the first): the residual
// stream entering this one is its sum2 plus the branch.
ss_status gpt_layer_qkv(gpt *model, int64_t index, const gpt_layer_activations *previous, ss_error *error);
// From attention's output to the MLP's branch, given the stream that entered the layer.
ss_status gpt_layer_finish(gpt *model, int64_t index, const gpt_layer_activations *layer, ss_error *error);
// final_norm = norm(last.sum2 + branch)
ss_status gpt_final_norm(gpt *model, const gpt_layer_activations *last, ss_error *error);
// Embedding to final_norm over the uploaded rows and the attention plan made before; activations stay in the
// workspace as laid out.
ss_status gpt_forward(gpt *model, ss_error *error);
// Norm 1 (which 1) or 2 of a layer once more from the stream it read, for the backward pass.
ss_status gpt_norm_again(gpt *model, int64_t index, int which, ss_error *error);

// --- backward.c ---
// From dnorm (the gradient of final_norm) to the parameters' gradients.
ss_status gpt_backward(gpt *model, ss_error *error);

// --- infer.c ---
// K (which == 0) or V (1) of a layer: [n_row, n_kv_head * head_dim].
ss_tensor gpt_cache_slab(const gpt_cache *cache, int64_t layer, int64_t which);

// --- step.c ---
void gpt_flights_free(gpt *model);

#endif
