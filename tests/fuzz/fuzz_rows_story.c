// One story, plain or gzip; also with the form told from the content.
#include "tests/fuzz/rows_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  rows_fuzz(data, n, ROWS_STORY, NULL, NULL);
  rows_fuzz(data, n, ROWS_AUTO, NULL, NULL);
  return 0;
}
