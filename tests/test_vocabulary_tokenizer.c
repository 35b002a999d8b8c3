// Vocabularies over a tokenizer: ids, text in and out, threads, their JSON in datasets and models.
#include <omp.h>

#include "common/random.h"
#include "data/store.h"
#include "data/vocabulary.h"
#include "model/checkpoint.h"
#include "tests/gpt_fixture.h"
#include "tests/tokenizer_fixture.h"

#define ANCHORS 24

static vocabulary *create(const scene *s, int32_t n_anchor) {
  ss_error error = {0};
  vocabulary *made = NULL;
  assert_ok(vocabulary_create_tokenizer(&made, s->tokenizer, "news", n_anchor, &error));
  return made;
}

static char *json_of(const vocabulary *words) {
  json_t *json = vocabulary_json(words);
  char *text = json_dumps(json, JSON_COMPACT);
  json_decref(json);
  assert_non_null(text);
  return text;
}

static vocabulary *reload(const char *text) {
  ss_error error = {0};
  vocabulary *made = NULL;
  json_t *json = json_loads(text, 0, NULL);
  assert_non_null(json);
  assert_ok(vocabulary_from_json(&made, json, "here", &error));
  json_decref(json);
  return made;
}

static void same(const vocabulary *a, const vocabulary *b) {
  assert_true(vocabulary_hash(a) == vocabulary_hash(b));
  assert_int_equal(vocabulary_size(a), vocabulary_size(b));
  assert_true(tokenizer_hash(vocabulary_tokenizer(a)) == tokenizer_hash(vocabulary_tokenizer(b)));
  char *text_a = json_of(a), *text_b = json_of(b);
  assert_string_equal(text_a, text_b);
  free(text_a);
  free(text_b);
}

static void special_tokens_follow_the_tokenizers(void **state) {
  scene *s = *state;
  vocabulary *words = create(s, ANCHORS);
  const span_tokens *span = vocabulary_span_tokens(words);
  assert_int_equal(vocabulary_n_text(words), END + 1);
  assert_int_equal(vocabulary_bos(words), END + 1);
  assert_int_equal(span->eos, END + 2);
  assert_int_equal(span->open, END + 3);
  assert_int_equal(span->colon, END + 4);
  assert_int_equal(span->answer, END + 5);
  assert_int_equal(vocabulary_task(words), END + 6);
  assert_int_equal(span->anchor_first, END + 7);
  assert_int_equal(vocabulary_size(words), END + 7 + ANCHORS);
  // The tokenizer inside knows them by their texts.
  const tokenizer *inside = vocabulary_tokenizer(words);
  assert_int_equal(tokenizer_size(inside), vocabulary_size(words));
  assert_int_equal(tokenizer_special_find(inside, "<[>", 3), span->open);
  assert_int_equal(tokenizer_special_find(inside, "<news>", 6), vocabulary_task(words));
  assert_int_equal(tokenizer_special_find(inside, "<#23>", 5), span->anchor_first + 23);
  vocabulary_free(words);
}

static char *decode(const vocabulary *words, const int32_t *ids, int64_t n, bool text_only) {
  ss_error error = {0};
  char *text = NULL;
  assert_ok(vocabulary_decode(words, ids, n, text_only, &text, &error));
  return text;
}

static void text_is_never_special(void **state) {
  scene *s = *state;
  ss_error error = {0};
  vocabulary *words = create(s, ANCHORS);
  const char text[] = "hello <[> <#0> <:> aab<|end|><eos>\xE2\x82";  // ends within a character
  s->n = 0;
  assert_ok(vocabulary_encode(words, text, sizeof text - 1, &s->ids, &s->n, &s->capacity, "a", &error));
  assert_int_equal(s->ids[0], HELLO);
  for (int64_t k = 0; k < s->n; k++)
    assert_true(s->ids[k] < END);
  char *back = decode(words, s->ids, s->n, true);
  assert_string_equal(back, text);
  free(back);
  // Appended to what is there already.
  int64_t before = s->n;
  assert_ok(vocabulary_encode(words, "aab", 3, &s->ids, &s->n, &s->capacity, "a", &error));
  assert_int_equal(s->n, before + 1);
  assert_int_equal(s->ids[before], AAB);
  vocabulary_free(words);
}

static void special_tokens_are_shown_or_left_out(void **state) {
  scene *s = *state;
  vocabulary *words = create(s, ANCHORS);
  const span_tokens *span = vocabulary_span_tokens(words);
  const int32_t ids[] = {vocabulary_bos(words),
                         vocabulary_task(words),
                         HELLO,
                         span->anchor_first + 3,
                         span->open,
                         span->answer,
                         span->colon,
                         END,
                         0xC3,
                         0xA9,
                         span->eos,
                         vocabulary_size(words),
                         -1};
  int64_t n = sizeof ids / sizeof *ids;
  char *shown = decode(words, ids, n, false), *text = decode(words, ids, n, true);
  assert_string_equal(shown, "<bos><news>hello<#3><[><=><:><|end|>\xC3\xA9<eos><?299><?-1>");
  assert_string_equal(text, "hello\xC3\xA9");
  free(shown);
  free(text);
  // One at a time, as they are printed while they are written.
  char room[VOCABULARY_TOKEN_ROOM];
  const char *bytes;
  int64_t count;
  vocabulary_token_text(words, 0xC3, true, room, &bytes, &count);
  assert_int_equal(count, 1);
  assert_memory_equal(bytes, "\xC3", 1);
  vocabulary_token_text(words, span->open, true, room, &bytes, &count);
  assert_int_equal(count, 0);
  vocabulary_token_text(words, span->anchor_first + 11, false, room, &bytes, &count);
  assert_int_equal(count, 5);
  assert_memory_equal(bytes, "<#11>", 5);
  vocabulary_free(words);
}

static void bytes_without_a_token_get_one(void **state) {
  scene *s = *state;
  ss_error error = {0};
  // Without the token of 'z', whose id the last one takes.
  char *at = strstr(s->encoder_text, "\"\\u007a\":122,"), *end = strstr(s->encoder_text, "\"<|end|>\":268");
  memcpy(at, "             ", 13);
  memcpy(end + 10, "122", 3);
  test_write(s->encoder, "encoder.json", s->encoder_text);
  tokenizer_open_as(s, false);
  vocabulary *words = create(s, ANCHORS);
  assert_int_equal(vocabulary_n_text(words), tokenizer_size(s->tokenizer) + 1);
  s->n = 0;
  assert_ok(vocabulary_encode(words, "zaab", 4, &s->ids, &s->n, &s->capacity, "a", &error));
  assert_int_equal(s->n, 2);
  assert_int_equal(s->ids[0], vocabulary_n_text(words) - 1);
  char *text = json_of(words);
  vocabulary *again = reload(text);
  same(words, again);
  free(text);
  vocabulary_free(again);
  vocabulary_free(words);
}

static void json_comes_back(void **state) {
  scene *s = *state;
  ss_error error = {0};
  for (int as_json = 0; as_json < 2; as_json++) {
    tokenizer_open_as(s, as_json);
    vocabulary *words = create(s, ANCHORS), *other = create(s, ANCHORS + 1);
    char *text = json_of(words);
    vocabulary *again = reload(text);
    same(words, again);
    assert_true(vocabulary_hash(words) != vocabulary_hash(other));
    // A vocabulary made from another's tokenizer is the same one.
    vocabulary *grown = NULL;
    assert_ok(vocabulary_create_tokenizer(&grown, vocabulary_tokenizer(words), "news", ANCHORS, &error));
    same(words, grown);
    vocabulary_free(grown);
    grown = NULL;
    assert_refused(vocabulary_create_tokenizer(&grown, vocabulary_tokenizer(words), "news", ANCHORS - 1,
                                               &error),
                   SS_ERROR_INPUT, "special token <bos> of its own");
    assert_null(grown);
    json_t *summary = vocabulary_summary_json(words);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(summary, "tokenizer"), "tokens")),
                     END + 1);
    json_decref(summary);
    free(text);
    vocabulary_free(again);
    vocabulary_free(other);
    vocabulary_free(words);
  }
  // Digits apart, or not: another vocabulary.
  vocabulary *apart = create(s, ANCHORS);
  tokenizer_open_as(s, false);
  vocabulary *together = create(s, ANCHORS);
  assert_true(vocabulary_hash(apart) != vocabulary_hash(together));
  vocabulary_free(apart);
  vocabulary_free(together);
}

static void json_that_lies(void **state) {
  scene *s = *state;
  ss_error error = {0};
  vocabulary *words = create(s, ANCHORS), *made = NULL;
  char *text = json_of(words);
  const char *const changes[][3] = {
      {"\"byte_level_bpe\"", "\"unigram\"", "of kind \"unigram\""},
      {"\"digits_apart\":false", "\"digits_apart\":0", "expected \"unknown\""},
      {"\"unknown\":-1", "\"unknown\":-2", "\"unknown\" is -2"},
      {"\"unknown\":-1", "\"unknown\":269", "\"unknown\" is 269"},
      {"\"special\":[268]", "\"special\":[269]", "\"special\" is not an ascending list"},
      {"\"special\":[268]", "\"special\":[268,268]", "\"special\" is not an ascending list"},
      {"\"special\":[268]", "\"special\":[-1]", "\"special\" is not an ascending list"},
      {"\"special\":[268]", "\"special\":7", "expected arrays"},
      {"\"tokens\":[", "\"tokens\":[5,", "token 0 is not a string"},
      {"\"tokens\":[", "\"tokens\":[\"a a\",", "outside the alphabet"},
      {"\"tokens\":[", "\"tokens\":[\"a\",", "(id 98) is there already"},
      {"\"hello\"", "\"hella\"", "merge 10 (262, 265) makes no token"},
      {"\"merges\":[97,97,", "\"merges\":[97,97,97,97,", "merge 1 (97, 97) is there already"},
      {"\"merges\":[97,97,", "\"merges\":[97,", "not an array of pairs"},
      {"\"merges\":[97,97,", "\"merges\":[97,-1,", "merge 0: expected ids"},
      {"\"merges\":[97,97,", "\"merges\":[97,268,", "merge 0: expected ids"},
      {"\"merges\":[97,97,", "\"merges\":[97,1000,", "merge 0: expected ids"},
      {"\"tokenizer\":{", "\"tokenizer\":[],\"other\":{", "tokenizer of kind \"\""},
      {"<|end|>", "<bos>", "special token <bos> of its own"},
  };
  for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
    const char *at = strstr(text, changes[k][0]);
    if (at == NULL)
      fail_msg("%s is not there", changes[k][0]);
    char *changed = malloc(strlen(text) + strlen(changes[k][1]) + 1);
    sprintf(changed, "%.*s%s%s", (int)(at - text), text, changes[k][1], at + strlen(changes[k][0]));
    json_t *json = json_loads(changed, 0, NULL);
    assert_non_null(json);
    assert_refused(vocabulary_from_json(&made, json, "here", &error), SS_ERROR_INPUT, changes[k][2]);
    assert_null(made);
    json_decref(json);
    free(changed);
  }
  free(text);
  vocabulary_free(words);
}

static void threads_share_it(void **state) {
  scene *s = *state;
  vocabulary *words = create(s, ANCHORS);
  int different = 0;
#pragma omp parallel num_threads(4) reduction(+ : different)
  {
    ss_random random = ss_random_seed(5, (uint64_t)omp_get_thread_num());
    int32_t *ids = NULL;
    int64_t capacity = 0;
    for (int round = 0; round < 300; round++) {
      char text[200], *back = NULL;
      int64_t n_id = 0, n = (int64_t)ss_random_below(&random, sizeof text);
      for (int64_t k = 0; k < n; k++)
        text[k] = "ab he llo's1\xC3\xA9"[ss_random_below(&random, 14)];
      bool equal = vocabulary_encode(words, text, n, &ids, &n_id, &capacity, "a", NULL) == SS_OK &&
                   vocabulary_decode(words, ids, n_id, true, &back, NULL) == SS_OK &&
                   strlen(back) == (size_t)n && memcmp(back, text, (size_t)n) == 0;
      different += !equal;
      free(back);
    }
    free(ids);
  }
  assert_int_equal(different, 0);
  vocabulary_free(words);
}

// --- of a real vocabulary's size ---

// Every two bytes make a token: 65,792 of them.
static void open_large(scene *s) {
  ss_error error = {0};
  json_t *tokens = json_array(), *merges = json_array(), *root;
  for (int id = 0; id < 256; id++)
    json_array_append_new(tokens, json_string(""));
  char *printable[256];
  json_t *small = tokenizer_json(s->tokenizer, END);
  for (int id = 0; id < 256; id++)
    printable[id] = strdup(json_string_value(json_array_get(json_object_get(small, "tokens"), (size_t)id)));
  json_decref(small);
  for (int id = 0; id < 256; id++)
    json_array_set_new(tokens, (size_t)id, json_string(printable[id]));
  for (int left = 0; left < 256; left++)
    for (int right = 0; right < 256; right++) {
      char text[8];
      snprintf(text, sizeof text, "%s%s", printable[left], printable[right]);
      json_array_append_new(tokens, json_string(text));
      json_array_append_new(merges, json_integer(left));
      json_array_append_new(merges, json_integer(right));
    }
  for (int id = 0; id < 256; id++)
    free(printable[id]);
  root = json_pack("{s:s, s:b, s:b, s:i, s:o, s:[], s:o}", "kind", "byte_level_bpe", "digits_apart", 1,
                   "ignore_merges", 0, "unknown", -1, "tokens", tokens, "special", "merges", merges);
  tokenizer_scratch_free(s->scratch);
  tokenizer_free(s->tokenizer);
  s->scratch = NULL;
  s->tokenizer = NULL;
  assert_ok(tokenizer_from_json(&s->tokenizer, root, "large", &error));
  json_decref(root);
}

static void files_hold_large_ones(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  open_large(s);
  vocabulary *words = create(s, 1024);
  char *text = json_of(words);
  assert_true(strlen(text) > 700000);

  // A dataset.
  store_writer *writer = NULL;
  json_t *config = json_object();
  example item = {0};
  rendering annotated = {0};
  example_reset(&item, "one");
  assert_ok(example_segment_add(&item, SPAN_CONTEXT, "A first sentence.", 17, &error));
  assert_ok(example_segment_add(&item, SPAN_STEP, " A second.", 10, &error));
  assert_ok(example_reference_add(&item, 0, &error));
  assert_ok(example_finish(&item, &error));
  assert_ok(
      store_writer_open(&writer, test_path(path, "large.h5"), words, "news", "train", 1, config, &error));
  assert_ok(render_annotated(&annotated, &item, words, 4, &error));
  assert_ok(store_writer_add(writer, &item, &annotated, &error));
  assert_ok(store_writer_close(writer, &error));
  store *opened = NULL;
  assert_ok(store_open(&opened, path, true, &error));
  same(words, store_vocabulary(opened));
  store_close(opened);

  // A model.
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  gpt *model = fixture_model(device, FIXTURE_LLAMA, false), *loaded = NULL;
  checkpoint_meta meta = checkpoint_meta_initial(), read;
  meta.vocabulary = text;
  meta.config = malloc(3000001);  // texts may be larger still
  memset(meta.config, 'c', 3000000);
  meta.config[3000000] = '\0';
  assert_ok(checkpoint_write(test_path(path, "large-model.h5"), model, NULL, NULL, &meta, &error));
  assert_ok(checkpoint_load_model(path, device, false, text, &loaded, &read, &error));
  assert_string_equal(read.vocabulary, text);
  assert_string_equal(read.config, meta.config);
  free(meta.config);
  vocabulary *again = reload(read.vocabulary);
  same(words, again);
  vocabulary_free(again);
  checkpoint_meta_free(&read);
  gpt_free(loaded);
  gpt_free(model);
  ss_device_close(device);

  example_free(&item);
  rendering_free(&annotated);
  json_decref(config);
  free(text);
  vocabulary_free(words);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(special_tokens_follow_the_tokenizers),
      TEST(text_is_never_special),
      TEST(special_tokens_are_shown_or_left_out),
      TEST(bytes_without_a_token_get_one),
      TEST(json_comes_back),
      TEST(json_that_lies),
      TEST(threads_share_it),
      TEST(files_hold_large_ones),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
