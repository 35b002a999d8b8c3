// The vocabulary of a dataset or model file: its JSON.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  vocabulary *words = NULL, *again = NULL;
  json_t *json = json_loadb((const char *)data, n, 0, NULL);
  if (json == NULL)
    return 0;
  ss_status status = vocabulary_from_json(&words, json, "input", &error);
  json_decref(json);
  if (status != SS_OK) {
    TOKENIZER_FUZZ_REQUIRE(words == NULL && error.message[0] != '\0');
    return 0;
  }
  json = vocabulary_json(words);
  TOKENIZER_FUZZ_REQUIRE(vocabulary_from_json(&again, json, "again", &error) == SS_OK);
  TOKENIZER_FUZZ_REQUIRE(vocabulary_hash(words) == vocabulary_hash(again));
  json_decref(json);
  int32_t *ids = NULL;
  int64_t n_id = 0, capacity = 0;
  char *back = NULL;
  if (vocabulary_encode(words, (const char *)data, (int64_t)n, &ids, &n_id, &capacity, "input", &error) ==
      SS_OK) {
    TOKENIZER_FUZZ_REQUIRE(vocabulary_decode(words, ids, n_id, false, &back, &error) == SS_OK);
    TOKENIZER_FUZZ_REQUIRE(memcmp(back, data, n) == 0);
  }
  free(ids);
  free(back);
  vocabulary_free(words);
  vocabulary_free(again);
  return 0;
}
