// The one parameter table: names, shapes, initialisation and decay; everything else finds parameters through it.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/random.h"
#include "model/gpt_private.h"

#define PARAMETERS_A_BLOCK 12
#define PARAMETERS_OUTSIDE 4

// Appends one row and returns its index.
static int32_t add_parameter(gpt *model, const char *prefix, const char *name, int64_t rows, int64_t cols,
                             gpt_init init, bool decay) {
  int32_t index = model->n_parameter_tensor++;
  gpt_parameter *parameter = &model->table[index];
  snprintf(parameter->name, sizeof parameter->name, "%s%s", prefix, name);
  parameter->rows = rows;
  parameter->cols = cols;
  parameter->offset = model->n_parameter;
  parameter->init = init;
  parameter->decay = decay;
  model->n_parameter += rows * cols;
  return index;
}

static int32_t add_matrix(gpt *model, const char *prefix, const char *name, int64_t out, int64_t in,
                          gpt_init init) {
  return add_parameter(model, prefix, name, out, in, init, true);
}

static int32_t add_vector(gpt *model, const char *prefix, const char *name, int64_t n, gpt_init init,
                          bool present) {
  return present ? add_parameter(model, prefix, name, 1, n, init, false) : -1;
}

static void add_block(gpt *model, int64_t layer) {
  const gpt_config *config = &model->config;
  gpt_block *block = &model->blocks[layer];
  int64_t width = config->n_embd;
  int64_t qkv_width = width + 2 * gpt_kv_width(config);
  int64_t up_width = config->activation == SS_ACTIVATION_SWIGLU ? 2 * config->n_ff : config->n_ff;
  bool norm_bias = config->bias && config->norm == SS_NORM_LAYER;
  char prefix[40];
  snprintf(prefix, sizeof prefix, "block.%lld.", (long long)layer);
  block->norm1_weight = add_vector(model, prefix, "norm1.weight", width, GPT_INIT_ONES, true);
  block->norm1_bias = add_vector(model, prefix, "norm1.bias", width, GPT_INIT_ZEROS, norm_bias);
  block->qkv_weight = add_matrix(model, prefix, "attention.qkv.weight", qkv_width, width, GPT_INIT_NORMAL);
  block->qkv_bias = add_vector(model, prefix, "attention.qkv.bias", qkv_width, GPT_INIT_ZEROS, config->bias);
  block->proj_weight = add_matrix(model, prefix, "attention.proj.weight", width, width, GPT_INIT_RESIDUAL);
  block->proj_bias = add_vector(model, prefix, "attention.proj.bias", width, GPT_INIT_ZEROS, config->bias);
  block->norm2_weight = add_vector(model, prefix, "norm2.weight", width, GPT_INIT_ONES, true);
  block->norm2_bias = add_vector(model, prefix, "norm2.bias", width, GPT_INIT_ZEROS, norm_bias);
  block->up_weight = add_matrix(model, prefix, "mlp.up.weight", up_width, width, GPT_INIT_NORMAL);
  block->up_bias = add_vector(model, prefix, "mlp.up.bias", up_width, GPT_INIT_ZEROS, config->bias);
  block->down_weight = add_matrix(model, prefix, "mlp.down.weight", width, config->n_ff, GPT_INIT_RESIDUAL);
  block->down_bias = add_vector(model, prefix, "mlp.down.bias", width, GPT_INIT_ZEROS, config->bias);
}

ss_status gpt_build_table(gpt *model, ss_error *error) {
  const gpt_config *config = &model->config;
  int64_t capacity = config->n_layer * PARAMETERS_A_BLOCK + PARAMETERS_OUTSIDE;
  SS_TRY(ss_allocate(&model->table, capacity, sizeof *model->table, "the parameter table", error));
  SS_TRY(ss_allocate(&model->blocks, config->n_layer, sizeof *model->blocks, "the block table", error));
  model->wte = add_matrix(model, "", "wte", config->vocab_size, config->n_embd, GPT_INIT_NORMAL);
  model->wpe = -1;
  if (config->position == GPT_POSITION_LEARNED)
    model->wpe = add_parameter(model, "", "wpe", config->n_positions, config->n_embd, GPT_INIT_NORMAL, false);
  for (int64_t layer = 0; layer < config->n_layer; ++layer)
    add_block(model, layer);
  model->norm_weight = add_vector(model, "", "norm.weight", config->n_embd, GPT_INIT_ONES, true);
  model->norm_bias = add_vector(model, "", "norm.bias", config->n_embd, GPT_INIT_ZEROS,
                                config->bias && config->norm == SS_NORM_LAYER);
  return SS_OK;
}

ss_status gpt_create(gpt **out, ss_device *device, const gpt_config *config, bool trainable,
                     ss_error *error) {
  *out = NULL;
  gpt *model = NULL;
  SS_TRY(ss_allocate(&model, 1, sizeof *model, "the model", error));
  model->device = device;
  model->config = *config;
  ss_status status = gpt_config_resolve(&model->config, error);
  if (status == SS_OK && model->config.vocab_size == 0)
    status = ss_fail(error, SS_ERROR_USAGE, "model.vocab_size is 0, expected the vocabulary's size");
  if (status == SS_OK)
    status = gpt_build_table(model, error);
  if (status == SS_OK)
    status = ss_allocate(&model->workspace.layers, model->config.n_layer, sizeof *model->workspace.layers,
                         "the activation table", error);
  size_t bytes = (size_t)model->n_parameter * sizeof(float);
  if (status == SS_OK &&
      device->ops->allocate(device, (void **)&model->parameters, bytes, "parameters") != SS_OK)
    status = ss_device_error(device, error);
  if (status == SS_OK && device->compute == SS_BF16 &&
      device->ops->allocate(device, &model->compute_copy, (size_t)model->n_parameter * 2,
                            "parameters in bf16") != SS_OK)
    status = ss_device_error(device, error);
  model->copy_stale = true;
  if (status == SS_OK && trainable &&
      device->ops->allocate(device, (void **)&model->gradients, bytes, "gradients") != SS_OK)
    status = ss_device_error(device, error);
  if (status != SS_OK) {
    gpt_free(model);
    return status;
  }
  *out = model;
  return SS_OK;
}

void gpt_free(gpt *model) {
  if (!model)
    return;
  ss_device *device = model->device;
  gpt_workspace_free(model);
  gpt_flights_free(model);
  if (model->plan)
    device->ops->attention_plan_free(device, model->plan);
  if (model->plan_last)
    device->ops->attention_plan_free(device, model->plan_last);
  if (model->parameters)
    device->ops->release(device, model->parameters);
  if (model->gradients)
    device->ops->release(device, model->gradients);
  if (model->compute_copy)
    device->ops->release(device, model->compute_copy);
  free(model->last_views);
  free(model->table);
  free(model->blocks);
  free(model);
}

// The stream of a parameter depends on its name alone, so that adding a parameter leaves the others' values.
static uint64_t name_stream(const char *name) {
  uint64_t hash = 0;
  for (; *name; ++name)
    hash = ss_mix64(hash ^ (unsigned char)*name);
  return hash;
}

// A standard normal consumes two draws, so element i starts at counter 2i, whichever thread computes it.
static void fill_normal(float *values, int64_t count, double deviation, uint64_t seed, uint64_t stream) {
  const ss_random origin = ss_random_seed(seed, stream);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    ss_random random = {origin.key, 2 * (uint64_t)i};
    values[i] = (float)(deviation * ss_random_normal(&random));
  }
}

ss_status gpt_initialize(gpt *model, uint64_t seed, ss_error *error) {
  const gpt_config *config = &model->config;
  float *host = NULL;
  int64_t most = 0;
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index) {
    int64_t count = model->table[index].rows * model->table[index].cols;
    most = count > most ? count : most;
  }
  SS_TRY(ss_allocate(&host, most, sizeof *host, "initial parameters", error));
  model->copy_stale = true;
  ss_status status = SS_OK;
  for (int32_t index = 0; index < model->n_parameter_tensor && status == SS_OK; ++index) {
    const gpt_parameter *parameter = &model->table[index];
    int64_t count = parameter->rows * parameter->cols;
    double deviation = config->init_std;
    if (parameter->init == GPT_INIT_RESIDUAL)
      deviation /= sqrt(2.0 * (double)config->n_layer);
    if (parameter->init == GPT_INIT_ONES || parameter->init == GPT_INIT_ZEROS)
      for (int64_t i = 0; i < count; ++i)
        host[i] = parameter->init == GPT_INIT_ONES ? 1.0f : 0.0f;
    else
      fill_normal(host, count, deviation, seed, name_stream(parameter->name));
    if (model->device->ops->upload(model->device, model->parameters + parameter->offset, host,
                                   (size_t)count * sizeof(float)) != SS_OK)
      status = ss_device_error(model->device, error);
  }
  free(host);
  return status;
}

static ss_tensor table_tensor(const gpt *model, void *base, int32_t index, ss_dtype dtype) {
  if (index < 0 || !base)
    return gpt_no_tensor();
  const gpt_parameter *parameter = &model->table[index];
  return ss_matrix_of((char *)base + (size_t)parameter->offset * ss_dtype_size(dtype), parameter->rows,
                      parameter->cols, dtype);
}

ss_tensor gpt_weight(const gpt *model, int32_t index) {
  return model->compute_copy ? table_tensor(model, model->compute_copy, index, SS_BF16)
                             : gpt_master(model, index);
}
ss_tensor gpt_master(const gpt *model, int32_t index) {
  return table_tensor(model, model->parameters, index, SS_F32);
}
ss_tensor gpt_gradient(const gpt *model, int32_t index) {
  return table_tensor(model, model->gradients, index, SS_F32);
}

ss_status gpt_refresh_copy(gpt *model, ss_error *error) {
  if (!model->compute_copy || !model->copy_stale)
    return SS_OK;
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index)
    SS_OP(model->device, error, convert, gpt_weight(model, index), gpt_master(model, index));
  model->copy_stale = false;
  return SS_OK;
}

const gpt_config *gpt_get_config(const gpt *model) {
  return &model->config;
}
ss_device *gpt_device(const gpt *model) {
  return model->device;
}
int32_t gpt_n_parameter_tensor(const gpt *model) {
  return model->n_parameter_tensor;
}
const gpt_parameter *gpt_parameter_table(const gpt *model) {
  return model->table;
}
int64_t gpt_n_parameter(const gpt *model) {
  return model->n_parameter;
}
float *gpt_parameters(gpt *model) {
  model->copy_stale = true;
  return model->parameters;
}
void *gpt_compute_copy(gpt *model) {
  return model->compute_copy;
}
size_t gpt_parameter_bytes(const gpt *model) {
  size_t each = sizeof(float) + (model->gradients ? sizeof(float) : 0) +
                (model->compute_copy ? ss_dtype_size(SS_BF16) : 0);
  return (size_t)model->n_parameter * each;
}
void gpt_set_recompute(gpt *model, bool recompute) {
  model->recompute = recompute;
  model->staged = false;
}
float *gpt_gradients(const gpt *model) {
  return model->gradients;
}

int32_t gpt_find_parameter(const gpt *model, const char *name) {
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index)
    if (strcmp(model->table[index].name, name) == 0)
      return index;
  return -1;
}

double gpt_train_flops_per_token(const gpt *model, double attended_rows) {
  const gpt_config *config = &model->config;
  double matrices = (double)(config->vocab_size *
                             config->n_embd);  // the classifier; the embedding is a look-up
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index)
    if (model->table[index].decay && index != model->wte)
      matrices += (double)(model->table[index].rows * model->table[index].cols);
  return 6.0 * matrices + 12.0 * (double)(config->n_layer * config->n_embd) * attended_rows;
}

ss_status gpt_zero_gradients(gpt *model, ss_error *error) {
  if (!model->gradients)
    return ss_fail(error, SS_ERROR_INTERNAL, "the model was created without gradients");
  SS_OP(model->device, error, zero, model->gradients, (size_t)model->n_parameter * sizeof(float));
  return SS_OK;
}
