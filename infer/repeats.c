#include "infer/repeats.h"

#include <string.h>

void decode_forbid_repeats(const int32_t *tokens, int32_t n, int32_t n_text, int32_t ngram,
                           uint8_t *allowed) {
  int32_t before = ngram - 1;  // tokens that are there; the next one would be the n-gram's last
  if (n < ngram)
    return;
  const int32_t *last = tokens + n - before;
  for (int32_t k = 0; k < before; ++k)
    if (last[k] >= n_text)
      return;
  // `last` is text, so that what equals it is.
  for (int32_t end = before; end < n; ++end)
    if (tokens[end] < n_text && memcmp(tokens + end - before, last, (size_t)before * sizeof *last) == 0)
      allowed[tokens[end]] = 0;
}
