#include "tests/tokenizer_fixture.h"

// GPT-2's printable alphabet, written from its definition rather than from the code.
static int point_of(int byte) {
  int other = 0;
  for (int b = 0; b < 256; b++) {
    bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE);
    if (b == byte)
      return printable ? b : 256 + other;
    other += !printable;
  }
  return -1;
}

static void append(char *out, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsprintf(out + strlen(out), format, arguments);
  va_end(arguments);
}

static const char *const merged[] = {"aa", "ab", "aab", "aaa", "\\u0120a", "\\u0120\\u0120",
                                     "he", "ll", "lo",  "llo", "hello",    "'s"};
static const char *const merges[] = {"a a", "a b", "aa b", "aa a", "\xC4\xA0 a", "\xC4\xA0 \xC4\xA0",
                                     "h e", "l l", "l o",  "ll o", "he llo",     "' s"};
enum { N_MERGED = sizeof merged / sizeof *merged };

static void make_files(scene *s) {
  strcpy(s->encoder_text, "{");
  for (int byte = 0; byte < 256; byte++)
    append(s->encoder_text, byte == '"' || byte == '\\' ? "\"\\%c\":%d," : "\"\\u%04x\":%d,",
           byte == '"' || byte == '\\' ? byte : point_of(byte), byte);
  for (int k = 0; k < N_MERGED; k++)
    append(s->encoder_text, "\"%s\":%d,", merged[k], 256 + k);
  append(s->encoder_text, "\"<|end|>\":%d}", END);
  strcpy(s->bpe_text, "#version: 0.2\n");
  for (int k = 0; k < N_MERGED; k++)
    append(s->bpe_text, "%s\n", merges[k]);
  // The same as a tokenizer.json, where digits stand apart.
  strcpy(s->json_text,
         "{\"version\":\"1.0\",\"normalizer\":null,\"added_tokens\":[{\"id\":268,\"content\":\"<|end|>\","
         "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}],"
         "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
         "\"individual_digits\":true},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
         "\"trim_offsets\":true,\"use_regex\":true}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
         "\"unk_token\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":");
  append(s->json_text, "%s,\"merges\":[", s->encoder_text);
  for (int k = 0; k < N_MERGED; k++)
    append(s->json_text, "%s\"%s\"", k > 0 ? "," : "", merges[k]);
  append(s->json_text, "]}}");
  test_write(s->bpe, "vocab.bpe", s->bpe_text);
  test_write(s->encoder, "encoder.json", s->encoder_text);
  test_write(s->json, "tokenizer.json", s->json_text);
}

void tokenizer_open_as(scene *s, bool json) {
  ss_error error = {0};
  tokenizer_scratch_free(s->scratch);
  tokenizer_free(s->tokenizer);
  if (json)
    assert_ok(tokenizer_open_json(&s->tokenizer, s->json, &error));
  else
    assert_ok(tokenizer_open_gpt2(&s->tokenizer, s->bpe, s->encoder, &error));
  assert_ok(tokenizer_scratch_create(&s->scratch, s->tokenizer, &error));
}

int tokenizer_setup(void **state) {
  scene *s = calloc(1, sizeof *s);
  make_files(s);
  tokenizer_open_as(s, false);
  *state = s;
  return 0;
}

int tokenizer_teardown(void **state) {
  scene *s = *state;
  tokenizer_scratch_free(s->scratch);
  tokenizer_free(s->tokenizer);
  free(s->ids);
  free(s);
  return 0;
}

void tokenizer_fixture_encode(scene *s, const char *text, int64_t n, int flags) {
  ss_error error = {0};
  s->n = 0;
  assert_ok(tokenizer_encode(s->tokenizer, s->scratch, text, n, flags, &s->ids, &s->n, &s->capacity, &error));
}

void tokenizer_check_round_trip(scene *s, const char *text, int64_t n, int flags) {
  ss_error error = {0};
  tokenizer_fixture_encode(s, text, n, flags);
  char *back = NULL;
  int64_t size = 0;
  assert_ok(tokenizer_decode(s->tokenizer, s->ids, s->n, 0, &back, &size, &error));
  assert_int_equal(size, n);
  assert_memory_equal(back, text, (size_t)n);
  free(back);
}
