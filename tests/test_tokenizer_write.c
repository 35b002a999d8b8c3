// Tokenizers as Hugging Face's files: what is written is read back as the same tokenizer.
// (tests/peers/tokenizer_ids.py compares them with transformers.)
#include "data/tokenizer_write.h"
#include "data/vocabulary.h"
#include "tests/tokenizer_fixture.h"

#define ANCHORS 24

static void written_files_come_back(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char folder[TEST_PATH];
  test_path(folder, "written");
  assert_ok(ss_make_directories(folder, &error));
  for (int apart = 0; apart < 2; apart++) {
    tokenizer_open_as(s, apart);
    vocabulary *words = NULL, *again = NULL;
    tokenizer *read = NULL;
    assert_ok(vocabulary_create_tokenizer(&words, s->tokenizer, "news", ANCHORS, &error));
    const tokenizer *grown = vocabulary_tokenizer(words);
    assert_ok(tokenizer_write_json(grown, folder, vocabulary_bos(words), vocabulary_span_tokens(words)->eos,
                                   &error));
    assert_ok(tokenizer_open(&read, folder, &error));
    assert_true(tokenizer_hash(read) == tokenizer_hash(grown));
    // And the vocabulary from it is the same.
    assert_ok(vocabulary_create_tokenizer(&again, read, "news", ANCHORS, &error));
    assert_true(vocabulary_hash(again) == vocabulary_hash(words));
    tokenizer_free(read);
    vocabulary_free(again);
    vocabulary_free(words);
  }
}

static json_t *load(const char *folder, const char *name) {
  char path[TEST_PATH + 32];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  json_t *json = json_load_file(path, 0, NULL);
  assert_non_null(json);
  return json;
}

static void special_tokens_are_named(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char folder[TEST_PATH];
  test_path(folder, "named");
  assert_ok(ss_make_directories(folder, &error));
  assert_ok(tokenizer_write_json(s->tokenizer, folder, -1, END, &error));
  json_t *config = load(folder, "tokenizer_config.json"), *map = load(folder, "special_tokens_map.json");
  assert_string_equal(json_string_value(json_object_get(config, "eos_token")), "<|end|>");
  assert_null(json_object_get(config, "bos_token"));
  assert_int_equal(json_object_size(map), 1);
  assert_non_null(json_object_get(json_object_get(config, "added_tokens_decoder"), "268"));
  json_decref(config);
  json_decref(map);
  assert_refused(tokenizer_write_json(s->tokenizer, folder, 'a', END, &error), SS_ERROR_INTERNAL,
                 "bos_token 97");
  assert_refused(tokenizer_write_json(s->tokenizer, "/nonexistent", -1, -1, &error), SS_ERROR_IO,
                 "/nonexistent");
}

static void what_the_format_cannot_say_is_refused(void **state) {
  scene *s = *state;
  ss_error error = {0};
  int32_t id;
  // Ordinary, with the text of a special token.
  assert_ok(tokenizer_special_add(s->tokenizer, "hello", 5, &id, &error));
  assert_refused(tokenizer_write_json(s->tokenizer, "/nonexistent", -1, -1, &error), SS_ERROR_INPUT,
                 "two tokens are \"hello\"");
}

static void scores_are_written(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char folder[TEST_PATH];
  json_t *tokens = json_array(), *scores = json_array(), *small = tokenizer_json(s->tokenizer, END);
  static const char *const first[] = {"<unk>", "\xC4\x8A<s>\xC4\x8A", "\xC4\x8A</s>\xC4\x8A"};
  static const char *const last[] = {"\xC4\xA0", "a", "\xC4\xA0\x61"};
  for (int id = 0; id < 3; id++)
    json_array_append_new(tokens, json_string(first[id]));
  for (size_t byte = 0; byte < 256; byte++)
    json_array_append(tokens, json_array_get(json_object_get(small, "tokens"), byte));
  for (int id = 0; id < 3; id++)
    json_array_append_new(tokens, json_string(last[id]));
  for (int id = 0; id < 262; id++)
    json_array_append_new(scores, json_real(-id));
  json_t *root = json_pack("{s:s, s:o, s:o}", "kind", "scored_bpe", "tokens", tokens, "scores", scores);
  tokenizer *made = NULL;
  int32_t id;
  assert_ok(tokenizer_from_json(&made, root, "here", &error));
  assert_ok(tokenizer_special_add(made, "<[>", 3, &id, &error));
  test_path(folder, "scored");
  assert_ok(ss_make_directories(folder, &error));
  assert_ok(tokenizer_write_json(made, folder, -1, id, &error));
  json_t *written = load(folder, "tokenizer.json"), *model = json_object_get(written, "model");
  assert_int_equal(json_integer_value(json_object_get(json_object_get(model, "vocab"), "<0x41>")), 3 + 0x41);
  assert_int_equal(json_integer_value(json_object_get(json_object_get(model, "vocab"), "\n<s>\n")), 1);
  assert_int_equal(json_object_size(json_object_get(model, "vocab")), 262);
  const json_t *merges = json_object_get(model, "merges");
  assert_int_equal(json_array_size(merges), 1);
  assert_string_equal(json_string_value(json_array_get(json_array_get(merges, 0), 0)), " ");
  assert_int_equal(json_array_size(json_object_get(written, "added_tokens")), 1);
  json_decref(written);
  json_decref(root);
  json_decref(small);
  tokenizer_free(made);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(written_files_come_back),
      TEST(special_tokens_are_named),
      TEST(what_the_format_cannot_say_is_refused),
      TEST(scores_are_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
