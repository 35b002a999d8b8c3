// GGUF: opens any bytes; what opens is asked for everything, in every way.
#include <stdlib.h>

#include "common/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void ask(const gguf *file, const char *key) {
  gguf_text text, *texts = NULL;
  int64_t integer, count, *integers = NULL;
  double real;
  bool flag;
  volatile char last = 0;
  if (gguf_string(file, key, &text, NULL) == SS_OK && text.n > 0)
    last = text.bytes[text.n - 1];
  gguf_integer(file, key, &integer, NULL);
  gguf_real(file, key, &real, NULL);
  gguf_boolean(file, key, &flag, NULL);
  if (gguf_strings(file, key, &texts, &count, NULL) == SS_OK)
    for (int64_t i = 0; i < count; ++i)
      if (texts[i].n > 0)
        last = texts[i].bytes[texts[i].n - 1];
  gguf_integers(file, key, &integers, &count, NULL);
  (void)last;
  free(texts);
  free(integers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  gguf *file = NULL;
  if (gguf_open_memory(&file, data, n, "input", &error) != SS_OK)
    return 0;
  for (int64_t i = 0; i < gguf_n_key(file); ++i)
    ask(file, gguf_key(file, i));
  for (int64_t i = 0; i < gguf_n_tensor(file); ++i) {
    const gguf_tensor *tensor = gguf_find_tensor(file, gguf_tensor_at(file, i)->name);
    float *out = tensor->cols <= 1 << 20 ? malloc((size_t)tensor->cols * sizeof *out) : NULL;
    if (out != NULL) {
      gguf_read_rows(file, tensor, 0, 1, out, NULL);
      gguf_read_rows(file, tensor, tensor->rows - 1, 1, out, NULL);
    }
    free(out);
  }
  gguf_close(file);
  return 0;
}
