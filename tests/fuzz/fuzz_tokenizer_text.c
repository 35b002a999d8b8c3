// Any text through GPT-2's pattern, digits together (an even first byte) or apart, and through the vocabulary's encoder.
#include "tests/fuzz/tokenizer_fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static tokenizer *made[2];

// Bytes, and every two of the same kind among letters and blanks.
static tokenizer *create(bool digits_apart) {
  ss_error error = {0};
  tokenizer *out = NULL;
  json_t *tokens = json_array(), *merges = json_array();
  int32_t added;
  static const char letters[] = "abelost'";
  for (int k = 0; letters[k] != '\0'; k++)
    json_array_append_new(tokens, json_stringn(letters + k, 1));
  json_array_append_new(tokens, json_string("\xC4\xA0"));
  for (int left = 0; left < 9; left++)
    for (int right = 0; right < 9; right++) {
      char text[8];
      snprintf(text, sizeof text, "%s%s", json_string_value(json_array_get(tokens, (size_t)left)),
               json_string_value(json_array_get(tokens, (size_t)right)));
      json_array_append_new(tokens, json_string(text));
      json_array_append_new(merges, json_integer(left));
      json_array_append_new(merges, json_integer(right));
    }
  json_t *json = json_pack("{s:s, s:b, s:b, s:i, s:o, s:[], s:o}", "kind", "byte_level_bpe", "digits_apart",
                           (int)digits_apart, "ignore_merges", 0, "unknown", -1, "tokens", tokens, "special",
                           "merges", merges);
  TOKENIZER_FUZZ_REQUIRE(tokenizer_from_json(&out, json, "harness", &error) == SS_OK);
  TOKENIZER_FUZZ_REQUIRE(tokenizer_add_bytes(out, &added, &error) == SS_OK);
  json_decref(json);
  return out;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  for (int k = 0; k < 2; k++)
    made[k] = create(k == 1);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (n > 0)
    tokenizer_fuzz_text(made[data[0] & 1], (const char *)data + 1, (int64_t)n - 1, 0);
  return 0;
}
