#include "model/weights.h"

#include <stddef.h>

static int64_t safetensors_index(const void *file, const char *name) {
  const safetensors_tensor *tensor = safetensors_find(file, name);
  return tensor == NULL ? -1 : tensor - safetensors_tensor_at(file, 0);
}
static weights_tensor safetensors_about(const void *file, int64_t index) {
  const safetensors_tensor *tensor = safetensors_tensor_at(file, index);
  return (weights_tensor){tensor->name, tensor->dtype, tensor->rows, tensor->cols,
                          safetensors_readable(tensor)};
}
static ss_status safetensors_rows(const void *file, int64_t index, int64_t first, int64_t n_row, float *out,
                                  ss_error *error) {
  return safetensors_read_rows(file, safetensors_tensor_at(file, index), first, n_row, out, error);
}

weights weights_of_safetensors(const safetensors *file) {
  return (
      weights){"safetensors",     safetensors_where(file), "F32, F16, BF16", file, safetensors_n_tensor(file),
               safetensors_index, safetensors_about,       safetensors_rows};
}

static int64_t gguf_index(const void *file, const char *name) {
  const gguf_tensor *tensor = gguf_find_tensor(file, name);
  return tensor == NULL ? -1 : tensor - gguf_tensor_at(file, 0);
}
static weights_tensor gguf_about(const void *file, int64_t index) {
  const gguf_tensor *tensor = gguf_tensor_at(file, index);
  return (weights_tensor){tensor->name, gguf_type_name(tensor->type), tensor->rows, tensor->cols,
                          gguf_type_readable(tensor->type)};
}
static ss_status gguf_rows(const void *file, int64_t index, int64_t first, int64_t n_row, float *out,
                           ss_error *error) {
  return gguf_read_rows(file, gguf_tensor_at(file, index), first, n_row, out, error);
}

weights weights_of_gguf(const gguf *file) {
  return (weights){"GGUF",     gguf_where(file), GGUF_READABLE, file, gguf_n_tensor(file),
                   gguf_index, gguf_about,       gguf_rows};
}

static int64_t llama2c_index(const void *file, const char *name) {
  const llama2c_tensor *tensor = llama2c_find(file, name);
  return tensor == NULL ? -1 : tensor - llama2c_tensor_at(file, 0);
}
static weights_tensor llama2c_about(const void *file, int64_t index) {
  const llama2c_tensor *tensor = llama2c_tensor_at(file, index);
  return (weights_tensor){tensor->name, "F32", tensor->rows, tensor->cols, true};
}
static ss_status llama2c_rows(const void *file, int64_t index, int64_t first, int64_t n_row, float *out,
                              ss_error *error) {
  return llama2c_read_rows(file, llama2c_tensor_at(file, index), first, n_row, out, error);
}

weights weights_of_llama2c(const llama2c *file) {
  return (weights){"llama2.c",    llama2c_where(file), "F32",       file, llama2c_n_tensor(file),
                   llama2c_index, llama2c_about,       llama2c_rows};
}
