// Safetensors: opens any bytes; every tensor of what opens is read.
#include <stdlib.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  safetensors *file = NULL;
  if (safetensors_open_memory(&file, data, n, "input", &error) != SS_OK)
    return 0;
  for (int64_t i = 0; i < safetensors_n_tensor(file); ++i) {
    const safetensors_tensor *tensor = safetensors_find(file, safetensors_tensor_at(file, i)->name);
    if (tensor->rows == 0 || tensor->cols > 1 << 20)
      continue;
    float *out = malloc((size_t)tensor->cols * sizeof *out + 1);
    safetensors_read_rows(file, tensor, 0, 1, out, NULL);
    safetensors_read_rows(file, tensor, tensor->rows - 1, 1, out, NULL);
    free(out);
  }
  safetensors_close(file);
  return 0;
}
