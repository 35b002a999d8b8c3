// Tokenizer files that lie, and random damage to them.
#include "tests/tokenizer_fixture.h"

#include "common/random.h"

#define N_MUTATION 4000

// Replaces the first `from` in a copy of `text` and writes it.
static void write_changed(char path[TEST_PATH], const char *name, const char *text, const char *from,
                          const char *to) {
  const char *at = strstr(text, from);
  assert_non_null(at);
  char *changed = malloc(strlen(text) + strlen(to) + 1);
  sprintf(changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  test_write(path, name, changed);
  free(changed);
}

static void gpt2_files_that_lie(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  tokenizer *made = NULL;
  const char *const encoders[][3] = {
      {"\"aa\":256", "\"aa\":257", "id 257, which another token has"},
      {"\"aa\":256", "\"aa\":269", "id 269, expected 0 to 268, as there are 269 tokens"},
      {"\"aa\":256", "\"aa\":-1", "id -1"},
      {"\"aa\":256", "\"aa\":\"x\"", "not an integer"},
      {"\"aa\":256", "\"aa\":99999999999999999999", "line 1, column"},
      {"\"aa\":256", "\"aa\":256.0", "not an integer"},
      {"\"aa\":256", "\"ab\":256", "duplicate object key"},
      {"\"aa\":256", "\"a a\":256", "outside the alphabet"},
      {"\"aa\":256", "\"a\\u0000\":256", "line 1, column"},
      {"\"aa\":256", "\"\\ud800\":256", "line 1, column"},
      {"\"aa\":256", "\"\xFF\":256", "line 1, column"},
      {"\"aa\":256", "\"\":256", "without text"},
      {"\"aa\":256", "\"\\q\":256", "line 1, column"},
      {"\"aa\":256", "\"zz\":256", "line 2: what \"a\" and \"a\" make"},
      {"\"<|end|>\"", "\"end\"", "no merge makes it"},
      {"\"<|end|>\"", "\"<\\u0100>\"", "no merge makes it"},  // the byte 0 in the alphabet
      {"268}", "268", "line 1, column"},
      {"268}", "268}x", "line 1, column"},
  };
  for (size_t k = 0; k < sizeof encoders / sizeof *encoders; k++) {
    write_changed(path, "changed.json", s->encoder_text, encoders[k][0], encoders[k][1]);
    assert_refused(tokenizer_open_gpt2(&made, s->bpe, path, &error), SS_ERROR_INPUT, encoders[k][2]);
  }
  const char *const lists[][3] = {
      {"a b\n", "a  b\n", "line 3: expected two tokens"},
      {"a b\n", "ab\n", "line 3: expected two tokens"},
      {"a b\n", "\n", "line 3: expected two tokens"},
      {"a b\n", "a b\r\n", "line 3: \"b"},
      {"a b\n", "a a\n", "line 3: the merge of \"a\" and \"a\" is there already"},
      {"a b\n", "a b c\n", "line 3: expected two tokens"},
      {"a b\n", "a qq\n", "line 3: \"qq\" is not a token"},
      {"a b\n", "a \xC4\n", "line 3: \"\xC4\" is not a token"},
      {"a b\n", "a h\n", "line 3: what \"a\" and \"h\" make"},
      {"#version: 0.2\n", "version\n", "line 1: expected two tokens"},
  };
  for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
    write_changed(path, "changed.bpe", s->bpe_text, lists[k][0], lists[k][1]);
    assert_refused(tokenizer_open_gpt2(&made, path, s->encoder, &error), SS_ERROR_INPUT, lists[k][2]);
  }
  test_write(path, "changed.json", "");
  assert_refused(tokenizer_open_gpt2(&made, s->bpe, path, &error), SS_ERROR_INPUT, "line 1");
  test_write(path, "changed.json", "{}");
  assert_refused(tokenizer_open_gpt2(&made, s->bpe, path, &error), SS_ERROR_INPUT, "0 tokens");
  test_write(path, "changed.json", "[]");
  assert_refused(tokenizer_open_gpt2(&made, s->bpe, path, &error), SS_ERROR_INPUT, "not an object");
  assert_refused(tokenizer_open_gpt2(&made, "/nonexistent", s->encoder, &error), SS_ERROR_IO, "/nonexistent");
  assert_null(made);
}

static void json_files_that_lie(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  tokenizer *made = NULL;
  const char *const changes[][3] = {
      {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type is \"Unigram\", expected \"BPE\""},
      {"\"dropout\":null", "\"dropout\":0.1", "dropout is"},
      {"\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback is true"},
      {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", "normalizer is {\"type\":\"NFC\"}"},
      {"\"unk_token\":null", "\"unk_token\":\"nothing\"", "unk_token is \"nothing\""},
      {"\"unk_token\":null", "\"unk_token\":3", "unk_token is 3"},
      {"\"Digits\"", "\"Split\"", "pre_tokenizer is"},
      {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "pre_tokenizer is"},
      {"\"pre_tokenizer\"", "\"pretokenizer\"", "pre_tokenizer is absent"},
      {"\"lstrip\":false", "\"lstrip\":true", "lstrip"},
      {"\"id\":268", "\"id\":267", "among added_tokens"},
      {"\"content\":\"<|end|>\"", "\"content\":5", "added_tokens[0]"},
      {"\"content\":\"<|end|>\"", "\"content\":\"\"", "without text"},
      {"\"added_tokens\":[", "\"added_tokens\":[7,", "added_tokens[0]"},
      {"\"added_tokens\":[", "\"added_tokens\":{},\"other\":[", "added_tokens is {}"},
      {"\"merges\":[", "\"merges\":[5,", "model.merges[0] is 5"},
      {"\"merges\":[", "\"merges\":[[\"a\"],", "model.merges[0] is"},
      {"\"merges\":[", "\"merges\":[\"aa\",", "model.merges[0] is \"aa\""},
      {"\"merges\":[", "\"merges\":[\"a \",", "model.merges[0]: \"\" is not a token"},
      {"\"merges\":[", "\"merges\":[\"a zz\",", "model.merges[0]: \"zz\" is not a token"},
      {"\"merges\":[", "\"merges\":[[\"a\",\"a\"],", "model.merges[1]: the merge of"},
      {"\"merges\":[", "\"merges\":7,\"others\":[", "model.merges is 7"},
      {"\"vocab\":{", "\"vocab\":[],\"others\":{", "not an object"},
      {"\"model\":{", "\"model\":[],\"others\":{", "model is []"},
  };
  for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
    write_changed(path, "changed.json", s->json_text, changes[k][0], changes[k][1]);
    assert_refused(tokenizer_open_json(&made, path, &error), SS_ERROR_INPUT, changes[k][2]);
  }
  assert_null(made);
  // A normalizer of no steps changes nothing.
  write_changed(path, "changed.json", s->json_text, "\"normalizer\":null",
                "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}");
  assert_ok(tokenizer_open_json(&made, path, &error));
  tokenizer_free(made);
}

// Random damage: refused with a message, or a tokenizer that still round-trips.
static void damaged_files_are_survived(void **state) {
  scene *s = *state;
  ss_random random = ss_random_seed(13, 0);
  int opened = 0, rounds = getenv("SELFSPAN_TEST_SANITIZED") != NULL ? N_MUTATION / 4 : N_MUTATION;
  char path[TEST_PATH];
  for (int round = 0; round < rounds; round++) {
    int kind = round % 3;
    const char *whole = kind == 0 ? s->bpe_text : kind == 1 ? s->encoder_text : s->json_text;
    size_t n = strlen(whole);
    char *text = malloc(n + 1);
    memcpy(text, whole, n);
    for (uint64_t k = 0; k <= ss_random_below(&random, 3); k++) {
      size_t at = (size_t)ss_random_below(&random, n), other = (size_t)ss_random_below(&random, n);
      switch (ss_random_below(&random, 4)) {
      case 0:
        text[at] = (char)ss_random_below(&random, 256);
        break;
      case 1:
        text[at] = text[other];
        break;
      case 2:
        text[at] = "\"\\{}[]:, 0190"[ss_random_below(&random, 13)];
        break;
      default:
        if (ss_random_below(&random, 4) == 0)
          n = at + 1;
      }
    }
    ss_error error = {0};
    test_path(path, "damaged");
    assert_ok(ss_write_file(path, text, n, &error));
    free(text);
    tokenizer *made = NULL;
    ss_status status = kind == 0   ? tokenizer_open_gpt2(&made, path, s->encoder, &error)
                       : kind == 1 ? tokenizer_open_gpt2(&made, s->bpe, path, &error)
                                   : tokenizer_open_json(&made, path, &error);
    if (status != SS_OK) {
      assert_int_equal(status, SS_ERROR_INPUT);
      if (strstr(error.message, s->encoder) == NULL && strstr(error.message, s->bpe) == NULL &&
          strstr(error.message, path) == NULL)
        fail_msg("round %d: a message without a file: %s", round, error.message);
      assert_null(made);
      continue;
    }
    opened++;
    scene own = {.tokenizer = made};
    int32_t added;
    assert_ok(tokenizer_add_bytes(made, &added, &error));
    assert_ok(tokenizer_scratch_create(&own.scratch, made, &error));
    tokenizer_check_round_trip(&own, s->json_text, 2000, 0);
    free(own.ids);
    tokenizer_scratch_free(own.scratch);
    tokenizer_free(made);
  }
  assert_true(opened > 0 && opened < rounds);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(gpt2_files_that_lie),
      TEST(json_files_that_lie),
      TEST(damaged_files_are_survived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
