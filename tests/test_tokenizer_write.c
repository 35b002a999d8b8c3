// Tokenizers as Hugging Face's files: what is written is read back as the same tokenizer.
// With arguments: test_tokenizer_write PATH FOLDER writes the tokenizer at PATH, grown to a vocabulary, into FOLDER, where
// tests/peers/tokenizer_ids.py compares it with transformers.
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
                 "\"hello\" is an ordinary token and a special one");
}

static int write_grown(const char *path, const char *folder) {
  ss_error error = {0};
  tokenizer *source = NULL;
  vocabulary *words = NULL;
  ss_status status = tokenizer_open(&source, path, &error);
  if (status == SS_OK)
    status = vocabulary_create_tokenizer(&words, source, "news", ANCHORS, &error);
  if (status == SS_OK)
    status = ss_make_directories(folder, &error);
  if (status == SS_OK)
    status = tokenizer_write_json(vocabulary_tokenizer(words), folder, vocabulary_bos(words),
                                  vocabulary_span_tokens(words)->eos, &error);
  if (status != SS_OK)
    fprintf(stderr, "error: %s\n", error.message);
  vocabulary_free(words);
  tokenizer_free(source);
  return (int)status;
}

int main(int argc, char **argv) {
  if (argc == 3)
    return write_grown(argv[1], argv[2]);
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(written_files_come_back),
      TEST(special_tokens_are_named),
      TEST(what_the_format_cannot_say_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
