// Shared by the harnesses of tokenizers: any bytes as a file; what opens encodes and decodes them.
#ifndef SELFSPAN_TESTS_FUZZ_TOKENIZER_FUZZ_H
#define SELFSPAN_TESTS_FUZZ_TOKENIZER_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // memfd_create
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/vocabulary.h"

#define TOKENIZER_FUZZ_REQUIRE(condition)                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                \
    }                                                                         \
  } while (0)

// A file of these bytes, named by `path`; close it in the end.
static inline int tokenizer_fuzz_file(const void *data, size_t n, char path[64]) {
  int file = memfd_create("tokenizer", MFD_CLOEXEC);
  TOKENIZER_FUZZ_REQUIRE(file >= 0 && write(file, data, n) == (ssize_t)n);
  snprintf(path, 64, "/proc/self/fd/%d", file);
  return file;
}

static inline void tokenizer_fuzz_text(const tokenizer *made, const char *text, int64_t n, int flags) {
  ss_error error = {0};
  tokenizer_scratch *scratch = NULL;
  int32_t *ids = NULL;
  int64_t n_id = 0, capacity = 0, size = 0;
  char *back = NULL;
  TOKENIZER_FUZZ_REQUIRE(tokenizer_scratch_create(&scratch, made, &error) == SS_OK);
  TOKENIZER_FUZZ_REQUIRE(tokenizer_encode(made, scratch, text, n, flags, &ids, &n_id, &capacity, &error) ==
                         SS_OK);
  TOKENIZER_FUZZ_REQUIRE(tokenizer_decode(made, ids, n_id, 0, &back, &size, &error) == SS_OK);
  TOKENIZER_FUZZ_REQUIRE(size == n && memcmp(back, text, (size_t)n) == 0);
  free(back);
  free(ids);
  tokenizer_scratch_free(scratch);
}

// `status` says whether `made` was opened. Frees it.
static inline void tokenizer_fuzz(ss_status status, ss_error *error, tokenizer *made, const void *data,
                                  size_t n) {
  if (status != SS_OK) {
    TOKENIZER_FUZZ_REQUIRE(made == NULL && error->message[0] != '\0');
    return;
  }
  int32_t added, id;
  TOKENIZER_FUZZ_REQUIRE(tokenizer_add_bytes(made, &added, error) == SS_OK);
  TOKENIZER_FUZZ_REQUIRE(tokenizer_special_add(made, "<[>", 3, &id, error) == SS_OK);
  int64_t length = n < 4096 ? (int64_t)n : 4096;
  tokenizer_fuzz_text(made, data, length, 0);
  tokenizer_fuzz_text(made, data, length, TOKENIZER_PLAIN);
  // A vocabulary over it comes back from its description.
  vocabulary *words = NULL, *again = NULL;
  if (vocabulary_create_tokenizer(&words, made, "task", 3, NULL) == SS_OK) {
    json_t *json = vocabulary_json(words);
    TOKENIZER_FUZZ_REQUIRE(vocabulary_from_json(&again, json, "again", error) == SS_OK);
    TOKENIZER_FUZZ_REQUIRE(vocabulary_hash(words) == vocabulary_hash(again));
    json_decref(json);
  }
  vocabulary_free(words);
  vocabulary_free(again);
  tokenizer_free(made);
}

#endif
