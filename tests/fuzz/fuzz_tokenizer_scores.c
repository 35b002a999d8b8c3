// llama2.c's tokenizer.bin. The 259 tokens that every such file begins with are the harness's, unless the input begins with 0:
// then it is a whole file.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t put(uint8_t *out, size_t at, const char *text) {
  uint32_t length = (uint32_t)strlen(text);
  memset(out + at, 0, 4);
  memcpy(out + at + 4, &length, 4);
  memcpy(out + at + 8, text, length);
  return at + 8 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  char path[64], text[8];
  tokenizer *made = NULL;
  uint8_t *whole = malloc(n + 8192);
  size_t at = 0;
  TOKENIZER_FUZZ_REQUIRE(whole != NULL);
  if (n > 0 && data[0] != 0) {
    memcpy(whole, "\xFF\0\0\0", 4);
    at = put(whole, put(whole, put(whole, 4, "<unk>"), "\n<s>\n"), "\n</s>\n");
    for (int byte = 0; byte < 256; byte++) {
      snprintf(text, sizeof text, "<0x%02X>", byte);
      at = put(whole, at, text);
    }
  }
  memcpy(whole + at, data + (n > 0), n - (n > 0));
  int file = tokenizer_fuzz_file(whole, at + n - (n > 0), path);
  free(whole);
  ss_status status = tokenizer_open_scores(&made, path, &error);
  close(file);
  tokenizer_fuzz(status, &error, made, data, n);
  return 0;
}
