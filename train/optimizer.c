#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct optimizer {
  gpt *model;
  float *first_moment, *second_moment;  // device, flat, like the parameters
  ss_adamw_tensor *tensors;             // the rows of the parameter table, in parts where their rates differ
  ss_adamw_tensor weights;              // all weights in the place of gradients, to find their norm
  int32_t n_tensor;
  int64_t capacity;   // of tensors
  double *norm;       // device: of the gradients, unscaled
  double *host_norm;  // where it comes back to
  double scale;       // of the update under way
  double beta1, beta2, epsilon;
};

static ss_status allocate(optimizer *made, double weight_decay, ss_error *error) {
  gpt *model = made->model;
  ss_device *device = gpt_device(model);
  size_t bytes = (size_t)gpt_n_parameter(model) * sizeof(float);
  SS_OP(device, error, allocate, (void **)&made->first_moment, bytes, "first moments");
  SS_OP(device, error, allocate, (void **)&made->second_moment, bytes, "second moments");
  SS_OP(device, error, allocate, (void **)&made->norm, sizeof *made->norm, "the gradient norm");
  SS_OP(device, error, allocate_host, (void **)&made->host_norm, sizeof *made->host_norm,
        "the gradient norm");
  made->capacity = made->n_tensor = gpt_n_parameter_tensor(model);
  SS_TRY(ss_allocate(&made->tensors, made->n_tensor, sizeof *made->tensors, "optimizer tensors", error));
  const gpt_parameter *table = gpt_parameter_table(model);
  float *weights = gpt_parameters(model);
  char *copy = gpt_compute_copy(model);
  for (int32_t i = 0; i < made->n_tensor; i++) {
    ss_adamw_tensor *tensor = &made->tensors[i];
    tensor->weight = weights + table[i].offset;
    tensor->compute_copy = copy == NULL ? NULL : copy + (size_t)table[i].offset * ss_dtype_size(SS_BF16);
    tensor->gradient = gpt_gradients(model) + table[i].offset;
    tensor->first_moment = made->first_moment + table[i].offset;
    tensor->second_moment = made->second_moment + table[i].offset;
    tensor->count = table[i].rows * table[i].cols;
    tensor->weight_decay = table[i].decay ? (float)weight_decay : 0.0f;
    tensor->rate = 1;
  }
  made->weights.gradient = weights;
  made->weights.count = gpt_n_parameter(model);
  return SS_OK;
}

ss_status optimizer_create(optimizer **out, gpt *model, double weight_decay, double beta1, double beta2,
                           double epsilon, ss_error *error) {
  *out = NULL;
  if (gpt_gradients(model) == NULL)
    return ss_fail(error, SS_ERROR_INTERNAL,
                   "optimizer: the model has no gradients, expected a trainable one");
  optimizer *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "optimizer", error));
  made->model = model;
  made->beta1 = beta1;
  made->beta2 = beta2;
  made->epsilon = epsilon;
  ss_status status = allocate(made, weight_decay, error);
  if (status != SS_OK) {
    optimizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

// The part of a tensor from its element `first` on.
static ss_adamw_tensor part_from(ss_adamw_tensor tensor, int64_t first) {
  tensor.weight += first, tensor.gradient += first;
  tensor.first_moment += first, tensor.second_moment += first;
  if (tensor.compute_copy != NULL)
    tensor.compute_copy = (char *)tensor.compute_copy + (size_t)first * ss_dtype_size(SS_BF16);
  tensor.count -= first;
  return tensor;
}

// Lets a tensor begin at element `at` of the flat buffer, where one lies across it.
static ss_status split_at(optimizer *optimizer, int64_t at, ss_error *error) {
  int32_t i = 0, n = optimizer->n_tensor;
  int64_t begin = 0;
  for (; i < n; i++) {
    begin = optimizer->tensors[i].weight - optimizer->weights.gradient;
    if (begin < at && at < begin + optimizer->tensors[i].count)
      break;
  }
  if (i == n)
    return SS_OK;
  SS_TRY(ss_grow(&optimizer->tensors, &optimizer->capacity, n + 1, sizeof *optimizer->tensors,
                 "optimizer tensors", error));
  ss_adamw_tensor *tensor = &optimizer->tensors[i];
  memmove(tensor + 1, tensor, (size_t)(n - i) * sizeof *tensor);
  tensor[1] = part_from(*tensor, at - begin);
  tensor->count = at - begin;
  optimizer->n_tensor++;
  return SS_OK;
}

ss_status optimizer_set_rate(optimizer *optimizer, int64_t first, int64_t end, double rate, ss_error *error) {
  if (rate == 1)
    return SS_OK;  // a split would change the order in which the gradient's norm is added up
  SS_TRY(split_at(optimizer, first, error));
  SS_TRY(split_at(optimizer, end, error));
  int32_t n = 0;
  for (int32_t i = 0; i < optimizer->n_tensor; i++) {
    ss_adamw_tensor tensor = optimizer->tensors[i];
    int64_t begin = tensor.weight - optimizer->weights.gradient;
    if (begin >= first && begin < end)
      tensor.rate *= (float)rate;
    if (tensor.rate > 0)
      optimizer->tensors[n++] = tensor;
  }
  optimizer->n_tensor = n;
  return SS_OK;
}

void optimizer_free(optimizer *optimizer) {
  if (optimizer == NULL)
    return;
  ss_device *device = gpt_device(optimizer->model);
  if (optimizer->first_moment != NULL)
    device->ops->release(device, optimizer->first_moment);
  if (optimizer->second_moment != NULL)
    device->ops->release(device, optimizer->second_moment);
  if (optimizer->norm != NULL)
    device->ops->release(device, optimizer->norm);
  if (optimizer->host_norm != NULL)
    device->ops->release_host(device, optimizer->host_norm);
  free(optimizer->tensors);
  free(optimizer);
}

float *optimizer_first_moment(optimizer *optimizer) {
  return optimizer->first_moment;
}
float *optimizer_second_moment(optimizer *optimizer) {
  return optimizer->second_moment;
}

ss_status optimizer_enqueue(optimizer *optimizer, double learning_rate, int64_t step, double scale,
                            double clip, ss_error *error) {
  ss_device *device = gpt_device(optimizer->model);
  ss_adamw update = {(float)learning_rate,
                     (float)optimizer->beta1,
                     (float)optimizer->beta2,
                     (float)optimizer->epsilon,
                     scale,
                     clip,
                     optimizer->norm,
                     step};
  device->ops->range_push(device, "optimizer");
  SS_OP(device, error, gradient_norm, optimizer->tensors, optimizer->n_tensor, optimizer->norm);
  SS_OP(device, error, adamw, optimizer->tensors, optimizer->n_tensor, update);
  SS_OP(device, error, download_async, optimizer->host_norm, optimizer->norm, sizeof *optimizer->norm);
  device->ops->range_pop(device);
  optimizer->scale = scale;
  return SS_OK;
}

ss_status optimizer_collect(optimizer *optimizer, double *norm, bool *skipped, ss_error *error) {
  ss_device *device = gpt_device(optimizer->model);
  if (device->ops->synchronize(device) != SS_OK)
    return ss_device_error(device, error);
  *norm = *optimizer->host_norm * optimizer->scale;
  *skipped = !isfinite(*norm);
  return SS_OK;
}

ss_status optimizer_step(optimizer *optimizer, double learning_rate, int64_t step, double scale, double clip,
                         double *norm, bool *skipped, ss_error *error) {
  SS_TRY(optimizer_enqueue(optimizer, learning_rate, step, scale, clip, error));
  return optimizer_collect(optimizer, norm, skipped, error);
}

size_t optimizer_bytes(const optimizer *optimizer) {
  return 2 * (size_t)gpt_n_parameter(optimizer->model) * sizeof(float);
}

ss_status optimizer_weight_norm(optimizer *optimizer, double *norm, ss_error *error) {
  ss_device *device = gpt_device(optimizer->model);
  SS_OP(device, error, gradient_norm, &optimizer->weights, 1, optimizer->norm);
  SS_OP(device, error, download, norm, optimizer->norm, sizeof *norm);
  return SS_OK;
}
