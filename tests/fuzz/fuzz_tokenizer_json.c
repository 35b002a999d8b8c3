// tokenizer.json.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  char path[64];
  tokenizer *made = NULL;
  int file = tokenizer_fuzz_file(data, n, path);
  ss_status status = tokenizer_open_json(&made, path, &error);
  close(file);
  tokenizer_fuzz(status, &error, made, data, n);
  return 0;
}
