// A GGUF file's tokenizer.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  gguf *file = NULL;
  tokenizer *made = NULL;
  if (gguf_open_memory(&file, data, n, "input", &error) != SS_OK)
    return 0;
  ss_status status = tokenizer_from_gguf(&made, file, &error);
  gguf_close(file);
  tokenizer_fuzz(status, &error, made, data, n);
  return 0;
}
