// GPT-2's pair of files: up to the first zero the merges, behind it the vocabulary.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  char merges_path[64], tokens_path[64];
  tokenizer *made = NULL;
  const uint8_t *zero = n > 0 ? memchr(data, 0, n) : NULL;
  size_t n_merges = zero == NULL ? n : (size_t)(zero - data), behind = zero == NULL ? n : n_merges + 1;
  int merges = tokenizer_fuzz_file(data, n_merges, merges_path);
  int tokens = tokenizer_fuzz_file(data + behind, n - behind, tokens_path);
  ss_status status = tokenizer_open_gpt2(&made, merges_path, tokens_path, &error);
  close(merges);
  close(tokens);
  tokenizer_fuzz(status, &error, made, data, n);
  return 0;
}
