// Rows from JSONL.
#include "tests/fuzz/rows_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  rows_fuzz(data, n, ROWS_JSONL, NULL, NULL);
  return 0;
}
