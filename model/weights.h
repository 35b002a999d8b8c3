// Named tensors of a weights file, whatever its format: safetensors, GGUF, llama2.c.
#ifndef SELFSPAN_MODEL_WEIGHTS_H
#define SELFSPAN_MODEL_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/gguf.h"
#include "model/llama2c.h"
#include "model/safetensors.h"

typedef struct {
  const char *name;
  const char *type;  // as the format calls it: "BF16", "Q4_1"
  int64_t rows, cols;
  bool readable;  // its type can be turned into fp32
} weights_tensor;

// A file that somebody else opened and closes. Tensors have indices 0..n-1.
typedef struct {
  const char *format;  // "safetensors", "GGUF", "llama2.c"
  const char *where;
  const char *types;  // those that are readable, for messages
  const void *file;
  int64_t n;
  int64_t (*find)(const void *file, const char *name);  // -1: there is none
  weights_tensor (*at)(const void *file, int64_t index);
  // out[n_row, cols] = rows first..first+n_row-1 in fp32
  ss_status (*read)(const void *file, int64_t index, int64_t first, int64_t n_row, float *out,
                    ss_error *error);
} weights;

weights weights_of_safetensors(const safetensors *file);
weights weights_of_gguf(const gguf *file);
weights weights_of_llama2c(const llama2c *file);

#endif
