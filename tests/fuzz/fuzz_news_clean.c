// Cleaning of news: any bytes, any rules; cleaning twice is cleaning once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/news_clean.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static ss_status clean(news_text *text, uint32_t rules, bool highlights, bool *drop) {
  ss_error error = {0};
  return highlights ? news_clean_highlights(text, rules, NULL, &error)
                    : news_clean_article(text, rules, NULL, drop, &error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (n < 3)
    return 0;
  ss_error error = {0};
  news_text once = {0}, twice = {0};
  bool drop = false, drop_again = false, highlights = (data[0] & 1) != 0;
  uint32_t rules = data[0] & 2 ? NEWS_ALL : (uint32_t)(data[1] | data[2] << 8) & NEWS_ALL;
  if (news_text_set(&once, (const char *)data + 3, (int64_t)n - 3, &error) != SS_OK ||
      clean(&once, rules, highlights, &drop) != SS_OK ||
      news_text_set(&twice, once.data, once.n, &error) != SS_OK ||
      clean(&twice, rules, highlights, &drop_again) != SS_OK || once.n != twice.n ||
      memcmp(once.data, twice.data, (size_t)once.n) != 0 || (drop_again && !drop) ||
      once.data[once.n] != '\0') {
    fprintf(stderr, "%s\nonce:  %s\ntwice: %s\n", error.message, once.data,
            twice.data == NULL ? "" : twice.data);
    abort();
  }
  news_text_free(&once);
  news_text_free(&twice);
  return 0;
}
