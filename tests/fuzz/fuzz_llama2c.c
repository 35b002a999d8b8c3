// llama2.c's model files: opens any bytes; the first and last row of every tensor of what opens is read.
#include <stdlib.h>

#include "model/llama2c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  llama2c *file = NULL;
  if (llama2c_open_memory(&file, data, n, "input", &error) != SS_OK)
    return 0;
  for (int64_t i = 0; i < llama2c_n_tensor(file); ++i) {
    const llama2c_tensor *tensor = llama2c_find(file, llama2c_tensor_at(file, i)->name);
    float *out = malloc((size_t)tensor->cols * sizeof *out + 1);
    llama2c_read_rows(file, tensor, 0, 1, out, NULL);
    llama2c_read_rows(file, tensor, tensor->rows - 1, 1, out, NULL);
    free(out);
  }
  llama2c_close(file);
  return 0;
}
