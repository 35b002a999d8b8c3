#include "model/llama2c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/half.h"
#include "common/map_file.h"
#include "common/memory.h"

#define VERSIONED_MAGIC 0x616b3432u  // "ak42": versions 1 and 2
#define HEADER_BYTES 28
enum { SIZE_LIMIT = 1 << 24, LAYER_LIMIT = 1024, TENSORS_A_LAYER = 9, TENSORS_OUTSIDE = 5 };

struct llama2c {
  char *where;
  ss_mapping mapping;  // of llama2c_open
  const unsigned char *bytes;
  uint64_t n, end;  // end: of the tensors added so far
  llama2c_config config;
  llama2c_tensor *tensors;
  int64_t n_tensor;
};

static ss_status read_config(llama2c *file, ss_error *error) {
  static const char *const names[] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                      "n_kv_heads", "vocab_size", "seq_len"};
  llama2c_config *config = &file->config;
  int64_t *const sizes[] = {&config->dim,        &config->hidden_dim, &config->n_layers, &config->n_heads,
                            &config->n_kv_heads, &config->vocab_size, &config->seq_len};
  if (file->n < HEADER_BYTES)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %llu bytes, expected llama2.c's header of %d", file->where,
                   (unsigned long long)file->n, HEADER_BYTES);
  if (ss_load32(file->bytes) == VERSIONED_MAGIC)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: llama2.c version %u, expected version 0 (export.py --version 0)", file->where,
                   ss_load32(file->bytes + 4));
  for (int i = 0; i < 7; ++i) {
    int64_t size = (int32_t)ss_load32(file->bytes + 4 * i), most = i == 2 ? LAYER_LIMIT : SIZE_LIMIT;
    if (i == 5) {
      config->shared = size > 0;
      size = size < 0 ? -size : size;
    }
    if (size < 1 || size > most)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: byte %d: %s is %lld, expected 1..%lld; not a llama2.c model?", file->where, 4 * i,
                     names[i], (long long)size, (long long)most);
    *sizes[i] = size;
  }
  if (config->dim % config->n_heads != 0 || config->n_heads % config->n_kv_heads != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: dim %lld, n_heads %lld, n_kv_heads %lld, expected each to divide the one before",
                   file->where, (long long)config->dim, (long long)config->n_heads,
                   (long long)config->n_kv_heads);
  return SS_OK;
}

// Below 2^24 each, so rows * cols * 4 and their sums over 1024 layers stay below 2^63.
static void add_tensor(llama2c *file, const char *name, int64_t layer, int64_t rows, int64_t cols) {
  llama2c_tensor *tensor = &file->tensors[file->n_tensor++];
  if (layer < 0)
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
  else
    snprintf(tensor->name, sizeof tensor->name, "%s.%lld", name, (long long)layer);
  tensor->rows = rows;
  tensor->cols = cols;
  tensor->offset = file->end;
  file->end += (uint64_t)rows * (uint64_t)cols * sizeof(float);
}

static void add_layers(llama2c *file, const char *name, int64_t rows, int64_t cols) {
  for (int64_t layer = 0; layer < file->config.n_layers; ++layer)
    add_tensor(file, name, layer, rows, cols);
}

static ss_status lay_out(llama2c *file, ss_error *error) {
  const llama2c_config *config = &file->config;
  int64_t dim = config->dim, head = dim / config->n_heads, kv = head * config->n_kv_heads;
  SS_TRY(ss_allocate(&file->tensors, config->n_layers * TENSORS_A_LAYER + TENSORS_OUTSIDE,
                     sizeof *file->tensors, "a table of tensors", error));
  file->end = HEADER_BYTES;
  add_tensor(file, "token_embedding_table", -1, config->vocab_size, dim);
  add_layers(file, "rms_att_weight", 1, dim);
  add_layers(file, "wq", dim, dim);
  add_layers(file, "wk", kv, dim);
  add_layers(file, "wv", kv, dim);
  add_layers(file, "wo", dim, dim);
  add_layers(file, "rms_ffn_weight", 1, dim);
  add_layers(file, "w1", config->hidden_dim, dim);
  add_layers(file, "w2", dim, config->hidden_dim);
  add_layers(file, "w3", config->hidden_dim, dim);
  add_tensor(file, "rms_final_weight", -1, 1, dim);
  add_tensor(file, "freq_cis_real", -1, config->seq_len, head / 2);
  add_tensor(file, "freq_cis_imag", -1, config->seq_len, head / 2);
  if (!config->shared)
    add_tensor(file, "wcls", -1, config->vocab_size, dim);
  if (file->end != file->n)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %llu bytes, its sizes make %llu; not a llama2.c model?",
                   file->where, (unsigned long long)file->n, (unsigned long long)file->end);
  return SS_OK;
}

ss_status llama2c_open_memory(llama2c **out, const void *bytes, size_t n, const char *where,
                              ss_error *error) {
  llama2c *file = NULL;
  *out = NULL;
  SS_TRY(ss_allocate(&file, 1, sizeof *file, "a llama2.c file", error));
  file->bytes = bytes;
  file->n = n;
  ss_status status = ss_format(&file->where, error, "%s", where);
  if (status == SS_OK)
    status = read_config(file, error);
  if (status == SS_OK)
    status = lay_out(file, error);
  if (status != SS_OK) {
    llama2c_close(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

ss_status llama2c_open(llama2c **out, const char *path, ss_error *error) {
  ss_mapping mapping;
  *out = NULL;
  SS_TRY(ss_map_file(path, &mapping, error));
  ss_status status = llama2c_open_memory(out, mapping.bytes, mapping.n, path, error);
  if (status == SS_OK)
    (*out)->mapping = mapping;
  else
    ss_unmap(&mapping);
  return status;
}

void llama2c_close(llama2c *file) {
  if (file == NULL)
    return;
  ss_unmap(&file->mapping);
  free(file->tensors);
  free(file->where);
  free(file);
}

const char *llama2c_where(const llama2c *file) {
  return file->where;
}
const llama2c_config *llama2c_get_config(const llama2c *file) {
  return &file->config;
}
int64_t llama2c_n_tensor(const llama2c *file) {
  return file->n_tensor;
}
const llama2c_tensor *llama2c_tensor_at(const llama2c *file, int64_t index) {
  return &file->tensors[index];
}

const llama2c_tensor *llama2c_find(const llama2c *file, const char *name) {
  for (int64_t i = 0; i < file->n_tensor; ++i)
    if (strcmp(file->tensors[i].name, name) == 0)
      return &file->tensors[i];
  return NULL;
}

ss_status llama2c_read_rows(const llama2c *file, const llama2c_tensor *tensor, int64_t first, int64_t n_row,
                            float *out, ss_error *error) {
  if (first < 0 || n_row < 0 || first > tensor->rows || n_row > tensor->rows - first)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: tensor %s: rows %lld to %lld of %lld", file->where,
                   tensor->name, (long long)first, (long long)(first + n_row), (long long)tensor->rows);
  const unsigned char *in = file->bytes + tensor->offset + (uint64_t)(first * tensor->cols) * sizeof(float);
  for (int64_t i = 0; i < n_row * tensor->cols; ++i)
    out[i] = ss_float_of_bits(ss_load32(in + 4 * i));
  return SS_OK;
}
