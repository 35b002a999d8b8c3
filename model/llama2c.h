// llama2.c's model files (.bin), version 0: seven 32-bit sizes, then fp32 tensors in a fixed order.
// Format: https://github.com/karpathy/llama2.c (run.c, export.py). Versions 1 and 2 are refused by name.
//
// The file's size must be exactly what its sizes say. Rotary pairs are neighbours (2i, 2i+1).
#ifndef SELFSPAN_MODEL_LLAMA2C_H
#define SELFSPAN_MODEL_LLAMA2C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct llama2c llama2c;

typedef struct {
  int64_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len;
  bool shared;  // the classifier is the embedding (the file's vocab_size is positive)
} llama2c_config;

// Named as in llama2.c, with the layer where there are several: "wq.3". Vectors have 1 row.
typedef struct {
  char name[40];
  int64_t rows, cols;
  uint64_t offset;  // bytes from the file's start
} llama2c_tensor;

// Maps and checks PATH; it must not shrink while it is open.
ss_status llama2c_open(llama2c **out, const char *path, ss_error *error);
// The same over `n` bytes of the caller's, which must outlive it. `where` names them in messages.
ss_status llama2c_open_memory(llama2c **out, const void *bytes, size_t n, const char *where, ss_error *error);
void llama2c_close(llama2c *file);  // NULL is allowed

const char *llama2c_where(const llama2c *file);
const llama2c_config *llama2c_get_config(const llama2c *file);
int64_t llama2c_n_tensor(const llama2c *file);
const llama2c_tensor *llama2c_tensor_at(const llama2c *file, int64_t index);
const llama2c_tensor *llama2c_find(const llama2c *file, const char *name);  // NULL when there is none

// out[n_row, cols] = rows first..first+n_row-1.
ss_status llama2c_read_rows(const llama2c *file, const llama2c_tensor *tensor, int64_t first, int64_t n_row,
                            float *out, ss_error *error);

#endif
