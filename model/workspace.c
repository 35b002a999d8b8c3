// The activation arena: one device allocation, laid out here and nowhere else.
#include <stdlib.h>

#include "common/memory.h"
#include "model/gpt_private.h"

#define ARENA_ALIGNMENT 256  // bytes; what CUDA's vector loads and OpenBLAS's packing like

// Hands out the arena piece by piece; with base NULL it only measures.
typedef struct {
  char *base;
  size_t used;
} arena_cursor;

static void *take_bytes(arena_cursor *cursor, size_t bytes) {
  void *piece = cursor->base ? cursor->base + cursor->used : NULL;
  cursor->used += (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
  return piece;
}

static ss_tensor take_matrix(arena_cursor *cursor, int64_t rows, int64_t cols) {
  return ss_matrix(take_bytes(cursor, (size_t)(rows * cols) * sizeof(float)), rows, cols);
}

static ss_tensor take_integers(arena_cursor *cursor, int64_t count) {
  return ss_integers(take_bytes(cursor, (size_t)count * sizeof(int32_t)), count);
}

static void take_layer(arena_cursor *cursor, const gpt_config *config, int64_t n, int64_t qkv_width,
                       gpt_layer_activations *layer) {
  int64_t width = config->n_embd, ff = config->n_ff;
  int64_t up = config->activation == SS_ACTIVATION_SWIGLU ? 2 * ff : ff;
  layer->sum1 = take_matrix(cursor, n, width);
  layer->statistics1 = take_matrix(cursor, n, 2);
  layer->norm1 = take_matrix(cursor, n, width);
  layer->qkv = take_matrix(cursor, n, qkv_width);
  layer->attention = take_matrix(cursor, n, width);
  layer->log_sum_exp = take_matrix(cursor, n, config->n_head);
  layer->sum2 = take_matrix(cursor, n, width);
  layer->statistics2 = take_matrix(cursor, n, 2);
  layer->norm2 = take_matrix(cursor, n, width);
  layer->up = take_matrix(cursor, n, up);
  layer->activation = take_matrix(cursor, n, ff);
}

// Gradients of activations: one set, reused from layer to layer.
static void take_gradients(arena_cursor *cursor, const gpt_config *config, int64_t n, gpt_workspace *work) {
  int64_t width = config->n_embd, ff = config->n_ff;
  work->dsum = take_matrix(cursor, n, width);
  work->dnorm = take_matrix(cursor, n, width);
  work->dattention = take_matrix(cursor, n, width);
  work->dqkv = take_matrix(cursor, n, width + 2 * gpt_kv_width(config));
  work->dup = take_matrix(cursor, n, config->activation == SS_ACTIVATION_SWIGLU ? 2 * ff : ff);
  work->dactivation = take_matrix(cursor, n, ff);
}

static void lay_out(arena_cursor *cursor, gpt *model, const gpt_workspace_request *request) {
  const gpt_config *config = &model->config;
  gpt_workspace *work = &model->workspace;
  int64_t n = request->n_row, width = config->n_embd;
  int64_t n_final = request->last_rows ? request->n_logit_row : n;
  work->tokens = take_integers(cursor, n);
  work->positions = take_integers(cursor, n);
  work->targets = take_integers(cursor, n);
  work->target_rows = take_integers(cursor, n);
  work->slots = take_integers(cursor, n);
  work->logit_rows = take_integers(cursor, request->n_logit_row);
  work->branch = take_matrix(cursor, n, width);
  for (int64_t layer = 0; layer < config->n_layer; ++layer)
    if (layer == 0 || request->keep)
      take_layer(cursor, config, n, width + 2 * gpt_kv_width(config), &work->layers[layer]);
    else
      work->layers[layer] = work->layers[0];
  if (request->last_rows)
    take_layer(cursor, config, n_final, width, &work->last);
  work->final_sum = take_matrix(cursor, n_final, width);
  work->final_statistics = take_matrix(cursor, n_final, 2);
  work->final_norm = take_matrix(cursor, n_final, width);
  work->losses = take_matrix(cursor, 1, n);
  work->correct = take_integers(cursor, n);
  if (request->backward)
    take_gradients(cursor, config, n, work);
  work->logits = take_matrix(cursor, request->n_logit_row, config->vocab_size);
}

ss_status gpt_workspace_prepare(gpt *model, const gpt_workspace_request *request, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  arena_cursor measure = {NULL, 0};
  lay_out(&measure, model, request);
  if (measure.used > work->bytes) {
    if (work->arena)
      model->device->ops->release(model->device, work->arena);
    work->arena = NULL;
    work->bytes = 0;
    // An eighth more than asked: packed batches differ a little in length from step to step.
    size_t bytes = measure.used + measure.used / 8;
    SS_OP(model->device, error, allocate, &work->arena, bytes, "activations");
    work->bytes = bytes;
  }
  arena_cursor cursor = {work->arena, 0};
  lay_out(&cursor, model, request);
  SS_TRY(ss_grow(&work->host_losses, &work->host_losses_capacity, request->n_row, sizeof *work->host_losses,
                 "losses", error));
  SS_TRY(ss_grow(&work->host_target_rows, &work->host_target_rows_capacity, request->n_row,
                 sizeof *work->host_target_rows, "target rows", error));
  return ss_grow(&work->host_correct, &work->host_correct_capacity, request->n_row,
                 sizeof *work->host_correct, "prediction flags", error);
}

void gpt_workspace_free(gpt *model) {
  gpt_workspace *work = &model->workspace;
  if (work->arena)
    model->device->ops->release(model->device, work->arena);
  free(work->layers);
  free(work->host_losses);
  free(work->host_correct);
  free(work->host_target_rows);
}
