// The activation arena: one device allocation, laid out here and nowhere else.
#include <stdlib.h>

#include "common/memory.h"
#include "model/gpt_private.h"

#define ARENA_ALIGNMENT 256  // bytes; what CUDA's vector loads and OpenBLAS's packing like
// What a device's ops may allocate beside the arena: chunks of logits, partial sums.
#define SCRATCH_BYTES ((size_t)640 << 20)

// What a layout depends on beside the request.
typedef struct {
  const gpt_config *config;
  ss_dtype compute;
  bool recompute;
} layout_kind;

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

static ss_tensor take_matrix(arena_cursor *cursor, int64_t rows, int64_t cols, ss_dtype dtype) {
  return ss_matrix_of(take_bytes(cursor, (size_t)(rows * cols) * ss_dtype_size(dtype)), rows, cols, dtype);
}

static ss_tensor take_integers(arena_cursor *cursor, int64_t count) {
  return ss_integers(take_bytes(cursor, (size_t)count * sizeof(int32_t)), count);
}

// Another matrix in the same memory.
static ss_tensor same_memory(ss_tensor tensor, int64_t cols) {
  return ss_matrix_of(tensor.data, tensor.rows, cols, tensor.dtype);
}

static int64_t up_width(const gpt_config *config) {
  return config->activation == SS_ACTIVATION_SWIGLU ? 2 * config->n_ff : config->n_ff;
}

// `shared`: a layer laid out before, whose recomputed tensors this one uses too; NULL for none.
static void take_layer(arena_cursor *cursor, const layout_kind *kind, int64_t n, int64_t qkv_width,
                       const gpt_layer_activations *shared, gpt_layer_activations *layer) {
  const gpt_config *config = kind->config;
  int64_t width = config->n_embd;
  ss_dtype T = kind->compute;
  layer->sum1 = take_matrix(cursor, n, width, T);
  layer->statistics1 = take_matrix(cursor, n, 2, SS_F32);
  layer->qkv = take_matrix(cursor, n, qkv_width, T);
  layer->attention = take_matrix(cursor, n, width, T);
  layer->log_sum_exp = take_matrix(cursor, n, config->n_head, SS_F32);
  layer->sum2 = take_matrix(cursor, n, width, T);
  layer->statistics2 = take_matrix(cursor, n, 2, SS_F32);
  layer->up = take_matrix(cursor, n, up_width(config), T);
  if (shared) {
    layer->norm1 = shared->norm1;
    layer->norm2 = shared->norm2;
    layer->activation = shared->activation;
    return;
  }
  layer->norm1 = take_matrix(cursor, n, width, T);
  layer->norm2 = kind->recompute ? layer->norm1 : take_matrix(cursor, n, width, T);
  layer->activation = take_matrix(cursor, n, config->n_ff, T);
}

// Gradients of activations: one set, reused from layer to layer, over tensors that nothing reads any more when the
// gradient is written.
static void take_gradients(arena_cursor *cursor, const layout_kind *kind, int64_t n, gpt_workspace *work) {
  const gpt_config *config = kind->config;
  int64_t width = config->n_embd, qkv_width = width + 2 * gpt_kv_width(config), up = up_width(config);
  work->dnorm = work->branch;
  work->dsum = work->final_norm;
  // final_sum, then dup, then dattention and dqkv side by side
  int64_t widest = up > width + qkv_width ? up : width + qkv_width;
  work->final_sum = take_matrix(cursor, n, widest, kind->compute);
  size_t attention_bytes = (size_t)(n * width) * ss_dtype_size(kind->compute);
  work->dup = same_memory(work->final_sum, up);
  work->dattention = same_memory(work->final_sum, width);
  work->dqkv = same_memory(work->final_sum, qkv_width);
  if (work->dqkv.data)
    work->dqkv.data = (char *)work->dqkv.data + attention_bytes;
  work->final_sum = same_memory(work->final_sum, width);
  work->dactivation = config->activation == SS_ACTIVATION_GELU
                          ? work->dup
                          : take_matrix(cursor, n, config->n_ff, kind->compute);
}

static void lay_out(arena_cursor *cursor, const layout_kind *kind, const gpt_workspace_request *request,
                    gpt_layer_activations *layers, gpt_workspace *work) {
  const gpt_config *config = kind->config;
  int64_t n = request->n_row, width = config->n_embd;
  int64_t n_final = request->last_rows ? request->n_logit_row : n;
  int64_t qkv_width = width + 2 * gpt_kv_width(config);
  gpt_layer_activations measured = {0};  // without `layers`
  work->tokens = take_integers(cursor, n);
  work->positions = take_integers(cursor, n);
  work->targets = take_integers(cursor, n);
  work->target_rows = take_integers(cursor, n);
  work->slots = take_integers(cursor, n);
  work->logit_rows = take_integers(cursor, request->n_logit_row);
  work->branch = take_matrix(cursor, n, width, kind->compute);
  for (int64_t index = 0; index < config->n_layer; ++index) {
    gpt_layer_activations *layer = layers ? &layers[index] : &measured;
    const gpt_layer_activations *first = layers ? &layers[0] : &measured;
    if (index == 0 || request->keep)
      take_layer(cursor, kind, n, qkv_width, kind->recompute && index > 0 ? first : NULL, layer);
    else
      *layer = *first;
  }
  if (request->last_rows)
    take_layer(cursor, kind, n_final, width, NULL, &work->last);
  work->final_statistics = take_matrix(cursor, n_final, 2, SS_F32);
  work->final_norm = take_matrix(cursor, n_final, width, kind->compute);
  work->losses = take_matrix(cursor, 1, n, SS_F32);
  work->correct = take_integers(cursor, n);
  if (request->backward)
    take_gradients(cursor, kind, n, work);
  else
    work->final_sum = take_matrix(cursor, n_final, width, kind->compute);
  work->logits = take_matrix(cursor, request->n_logit_row, config->vocab_size, SS_F32);
}

static size_t measure(const layout_kind *kind, const gpt_workspace_request *request) {
  gpt_workspace none = {0};
  arena_cursor cursor = {NULL, 0};
  lay_out(&cursor, kind, request, NULL, &none);
  return cursor.used;
}

size_t gpt_activation_bytes(const gpt_config *config, ss_dtype compute, bool recompute, bool backward,
                            int64_t n_row) {
  layout_kind kind = {config, compute, recompute};
  gpt_workspace_request request = {n_row, backward, backward, 0, false};
  return measure(&kind, &request);
}

// Scratch that grows with the rows: a gradient of all queries in fp32, which an attention may sum up in memory.
static size_t row_scratch(const gpt *model, const gpt_workspace_request *request) {
  size_t a_row = (size_t)(model->config.n_embd + model->config.n_head) * sizeof(float);
  return request->backward && !model->device->synchronous ? (size_t)request->n_row * a_row : 0;
}

// The most rows of such a request that take no more than `bytes`.
static int64_t rows_that_fit(const gpt *model, const layout_kind *kind, const gpt_workspace_request *request,
                             size_t bytes) {
  int64_t low = 0, high = request->n_row;
  while (low < high) {
    gpt_workspace_request fewer = *request;
    fewer.n_row = (low + high + 1) / 2;
    if (fewer.n_logit_row > fewer.n_row)
      fewer.n_logit_row = fewer.n_row;
    if (measure(kind, &fewer) + row_scratch(model, &fewer) <= bytes)
      low = fewer.n_row;
    else
      high = fewer.n_row - 1;
  }
  return low;
}

// A new arena of at least `needed` bytes; the old one's content is lost.
static ss_status grow(gpt *model, const layout_kind *kind, const gpt_workspace_request *request,
                      size_t needed, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  ss_device *device = model->device;
  // A batch may still be running in it.
  if (device->ops->synchronize(device) != SS_OK)
    return ss_device_error(device, error);
  if (work->arena)
    device->ops->release(device, work->arena);
  work->arena = NULL;
  work->bytes = 0;
  size_t available = 0, total = 0;
  SS_OP(device, error, memory_free, &available, &total);
  size_t reserve = device->synchronous ? 0 : SCRATCH_BYTES;
  size_t usable = available > reserve ? available - reserve : 0;
  size_t with_scratch = needed + row_scratch(model, request);
  if (with_scratch > usable)
    return ss_fail(error, SS_ERROR_MEMORY,
                   "the activations of %lld tokens need %zu bytes, %zu of %zu are free on %s; at most %lld "
                   "tokens fit",
                   (long long)request->n_row, with_scratch, usable, total, device->ops->name,
                   (long long)rows_that_fit(model, kind, request, usable));
  // An eighth more than asked: packed batches differ a little in length from step to step. A GPU's memory is too
  // scarce for that: there the largest batch is reserved at the start.
  size_t bytes = needed + (device->synchronous ? needed / 8 : 0);
  SS_OP(device, error, allocate, &work->arena, bytes < usable ? bytes : usable, "activations");
  work->bytes = bytes < usable ? bytes : usable;
  return SS_OK;
}

ss_status gpt_workspace_prepare(gpt *model, const gpt_workspace_request *request, ss_error *error) {
  gpt_workspace *work = &model->workspace;
  layout_kind kind = {&model->config, model->device->compute, model->recompute};
  model->staged = false;
  size_t needed = measure(&kind, request);
  if (needed > work->bytes)
    SS_TRY(grow(model, &kind, request, needed, error));
  arena_cursor cursor = {work->arena, 0};
  lay_out(&cursor, &kind, request, work->layers, work);
  return SS_OK;
}

ss_status gpt_reserve(gpt *model, int64_t n_row, bool backward, ss_error *error) {
  gpt_workspace_request request = {n_row, backward, backward, 0, false};
  return gpt_workspace_prepare(model, &request, error);
}

void gpt_workspace_free(gpt *model) {
  gpt_workspace *work = &model->workspace;
  if (work->arena)
    model->device->ops->release(model->device, work->arena);
  free(work->layers);
}
