// What tokenizer_open recognises; GGUF's metadata and llama2.c's tokenizer.bin, and what is wrong with them.
#include "tests/tokenizer_fixture.h"

#include "common/memory.h"

#define ID_BYTE 3  // llama2.c: <unk>, <s>, </s>, then the bytes

typedef struct {
  char *bytes;
  int64_t n, capacity;
} buffer;

static void put(buffer *out, const void *bytes, size_t n) {
  ss_error error = {0};
  assert_ok(ss_grow(&out->bytes, &out->capacity, out->n + (int64_t)n, 1, "bytes", &error));
  memcpy(out->bytes + out->n, bytes, n);
  out->n += (int64_t)n;
}

// As the machines that the tests run on have them: little-endian.
static void put_u32(buffer *out, uint32_t value) {
  put(out, &value, sizeof value);
}
static void put_u64(buffer *out, uint64_t value) {
  put(out, &value, sizeof value);
}

static void write_buffer(char path[TEST_PATH], const char *name, buffer *out) {
  ss_error error = {0};
  assert_ok(ss_write_file(test_path(path, name), out->bytes, (size_t)out->n, &error));
  free(out->bytes);
  *out = (buffer){0};
}

static void open_anew(scene *s, const char *path) {
  ss_error error = {0};
  tokenizer_scratch_free(s->scratch);
  tokenizer_free(s->tokenizer);
  assert_ok(tokenizer_open(&s->tokenizer, path, &error));
  assert_ok(tokenizer_scratch_create(&s->scratch, s->tokenizer, &error));
}

static void check(scene *s, const char *text, int flags, int count, const int32_t *expected) {
  tokenizer_fixture_encode(s, text, (int64_t)strlen(text), flags);
  if (s->n != count || memcmp(s->ids, expected, (size_t)count * sizeof *expected) != 0) {
    print_message("\"%s\":", text);
    for (int64_t k = 0; k < s->n; k++)
      print_message(" %d", s->ids[k]);
    fail_msg(", expected %d ids that begin with %d", count, expected[0]);
  }
}
#define IDS(text, flags, ...)                                                      \
  check(s, text, flags, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), \
        (const int32_t[]){__VA_ARGS__})

// --- GGUF ---

enum { GGUF_I32 = 5, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

static void put_text(buffer *out, const char *text, size_t n) {
  put_u64(out, n);
  put(out, text, n);
}

static void put_key(buffer *out, const char *key, uint32_t type) {
  put_text(out, key, strlen(key));
  put_u32(out, type);
}

typedef struct {
  const char *model, *pre;
  int64_t n_type;             // -1: no types
  const char *token, *merge;  // in place of "hello" and of "h e"
  bool prefixed;
} gguf_choice;

static const gguf_choice usual = {"gpt2", "smollm", END + 1, NULL, NULL, false};

// The scene's vocabulary as a GGUF file without tensors.
static void write_gguf(const scene *s, char path[TEST_PATH], gguf_choice choice) {
  buffer out = {0};
  json_t *tokens = json_loads(s->encoder_text, 0, NULL), *value;
  const char *texts[END + 1], *text;
  json_object_foreach(tokens, text, value) {
    texts[json_integer_value(value)] = text;
  }
  if (choice.token != NULL)
    texts[HELLO] = choice.token;
  put(&out, "GGUF", 4);
  put_u32(&out, 3);
  put_u64(&out, 0);
  put_u64(&out, choice.n_type >= 0 ? 6 : 5);
  put_key(&out, "tokenizer.ggml.model", GGUF_STRING);
  put_text(&out, choice.model, strlen(choice.model));
  put_key(&out, "tokenizer.ggml.pre", GGUF_STRING);
  put_text(&out, choice.pre, strlen(choice.pre));
  put_key(&out, "tokenizer.ggml.add_space_prefix", GGUF_BOOL);
  put(&out, choice.prefixed ? "\1" : "\0", 1);
  put_key(&out, "tokenizer.ggml.tokens", GGUF_ARRAY);
  put_u32(&out, GGUF_STRING);
  put_u64(&out, END + 1);
  for (int id = 0; id <= END; id++)
    put_text(&out, texts[id], strlen(texts[id]));
  if (choice.n_type >= 0) {
    put_key(&out, "tokenizer.ggml.token_type", GGUF_ARRAY);
    put_u32(&out, GGUF_I32);
    put_u64(&out, (uint64_t)choice.n_type);
    for (int64_t id = 0; id < choice.n_type; id++)
      put_u32(&out, id == END ? 3 : 1);
  }
  put_key(&out, "tokenizer.ggml.merges", GGUF_ARRAY);
  put_u32(&out, GGUF_STRING);
  put_u64(&out, END - 256);
  const char *line = strchr(s->bpe_text, '\n') + 1;
  for (int k = 0; k < END - 256; k++) {
    const char *stop = strchr(line, '\n');
    bool other = choice.merge != NULL && memcmp(line, "h e", 3) == 0;
    put_text(&out, other ? choice.merge : line, other ? strlen(choice.merge) : (size_t)(stop - line));
    line = stop + 1;
  }
  json_decref(tokens);
  write_buffer(path, "made.gguf", &out);
}

static void gguf_gives_the_same_ids(void **state) {
  scene *s = *state;
  char path[TEST_PATH];
  static const char *const pres[] = {"smollm", "default", "gpt-2"};
  uint64_t hash = tokenizer_hash(s->tokenizer);
  for (size_t k = 0; k < sizeof pres / sizeof *pres; k++) {
    gguf_choice choice = usual;
    choice.pre = pres[k];
    write_gguf(s, path, choice);
    open_anew(s, path);
    assert_true(tokenizer_hash(s->tokenizer) == hash);
    IDS("hello  aab<|end|>", 0, HELLO, ' ', ' ', AAB, END);
  }
}

static void gguf_that_lies(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  tokenizer *made = NULL;
  const struct {
    gguf_choice choice;
    const char *part;
  } cases[] = {
      {{"llama", "default", END + 1, NULL, NULL, false},
       "tokenizer.ggml.model is \"llama\", expected \"gpt2\""},
      {{"gpt2", "llama-bpe", END + 1, NULL, NULL, false}, "tokenizer.ggml.pre is \"llama-bpe\", expected"},
      {{"gpt2", "default", END, NULL, NULL, false}, "268 entries in tokenizer.ggml.token_type, expected 269"},
      {{"gpt2", "default", END + 1, "a", NULL, false}, "is there already"},
      {{"gpt2", "default", END + 1, "", NULL, false}, "without text"},
      {{"gpt2", "default", END + 1, "a a", NULL, false}, "outside the alphabet"},
      {{"gpt2", "default", END + 1, "\xFF", NULL, false}, "outside the alphabet"},
      {{"gpt2", "default", END + 1, NULL, "he", false}, "tokenizer.ggml.merges[6]: expected two tokens"},
      {{"gpt2", "default", END + 1, NULL, "h e l", false}, "tokenizer.ggml.merges[6]: expected two tokens"},
      {{"gpt2", "default", END + 1, NULL, "h h", false}, "what \"h\" and \"h\" make"},
      {{"gpt2", "default", END + 1, NULL, NULL, true}, "add_space_prefix is true"},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    write_gguf(s, path, cases[k].choice);
    assert_refused(tokenizer_open(&made, path, &error), SS_ERROR_INPUT, cases[k].part);
  }
  // Without types every token is ordinary.
  gguf_choice choice = usual;
  choice.n_type = -1;
  write_gguf(s, path, choice);
  assert_ok(tokenizer_open(&made, path, &error));
  assert_false(tokenizer_is_special(made, END));
  tokenizer_free(made);
}

// --- llama2.c ---

typedef struct {
  const char *text;
  float score;
} scored;

// Behind the bytes: "ab" and "bc" tie, "abc" scores less than "cd".
static const scored others[] = {{" ", -9},   {"a", -9},        {"b", -9},     {"c", -9},
                                {"d", -9},   {"ab", -2},       {"bc", -2},    {"cd", -3},
                                {"abc", -4}, {"\xC3\xA9", -9}, {" a", -1e10f}};
enum {
  N_OTHER = sizeof others / sizeof *others,
  BLANK = ID_BYTE + 256,
  A,
  B,
  C,
  D,
  SCORED_AB,
  BC,
  CD,
  ABC,
  E_ACUTE
};

static void put_scored(buffer *out, const char *text, float score) {
  put(out, &score, sizeof score);
  put_u32(out, (uint32_t)strlen(text));
  put(out, text, strlen(text));
}

static buffer scored_file(void) {
  buffer out = {0};
  char text[8];
  put_u32(&out, 7);
  put_scored(&out, "<unk>", 0);
  put_scored(&out, "\n<s>\n", 0);
  put_scored(&out, "\n</s>\n", 0);
  for (int byte = 0; byte < 256; byte++) {
    snprintf(text, sizeof text, "<0x%02X>", byte);
    put_scored(&out, text, 0);
  }
  for (int k = 0; k < N_OTHER; k++)
    put_scored(&out, others[k].text, others[k].score);
  return out;
}

static void scores_merge_the_best_pair(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char path[TEST_PATH];
  buffer out = scored_file();
  write_buffer(path, "made-tokenizer.bin", &out);
  open_anew(s, path);
  for (int again = 0; again < 2; again++) {
    tokenizer_fixture_encode(s, "", 0, 0);
    assert_int_equal(s->n, 0);
    IDS("ab", 0, BLANK, SCORED_AB);
    IDS("abc", 0, BLANK, ABC);             // a tie is the leftmost's
    IDS("abcd", 0, BLANK, SCORED_AB, CD);  // -3 is better than -4
    IDS("bcd", 0, BLANK, BC, D);
    IDS("a", 0, BLANK, A);  // a score of -1e10 is never merged
    IDS("a\xC3\xA9", 0, BLANK, A, E_ACUTE);
    IDS("ab", TOKENIZER_CONTINUES, SCORED_AB);
    IDS("x", 0, BLANK, ID_BYTE + 'x');
    IDS("\xC3", 0, BLANK, ID_BYTE + 0xC3);
    IDS("<s>", 0, BLANK, ID_BYTE + '<', ID_BYTE + 's', ID_BYTE + '>');
    IDS("\n<s>\n", TOKENIZER_CONTINUES, ID_BYTE + '\n', ID_BYTE + '<', ID_BYTE + 's', ID_BYTE + '>',
        ID_BYTE + '\n');
    // The same from its own description.
    uint64_t hash = tokenizer_hash(s->tokenizer);
    json_t *json = tokenizer_json(s->tokenizer, tokenizer_size(s->tokenizer));
    char *text = json_dumps(json, JSON_COMPACT);
    tokenizer_scratch_free(s->scratch);
    tokenizer_free(s->tokenizer);
    assert_ok(tokenizer_from_json(&s->tokenizer, json, "here", &error));
    assert_ok(tokenizer_scratch_create(&s->scratch, s->tokenizer, &error));
    assert_true(tokenizer_hash(s->tokenizer) == hash);
    json_t *second = tokenizer_json(s->tokenizer, tokenizer_size(s->tokenizer));
    assert_true(json_equal(json, second));
    free(text);
    json_decref(json);
    json_decref(second);
  }
  // Any bytes come back, long texts (a heap) included; special tokens added later are matched.
  char bytes[1024];
  for (int k = 0; k < 1024; k++)
    bytes[k] = (char)(unsigned char)(k * 7 % 256);
  for (int n = 0; n <= 1024; n += n < 20 ? 1 : 251)
    for (int flags = 0; flags <= TOKENIZER_PLAIN; flags++)
      tokenizer_check_round_trip(s, bytes, n, flags);
  memset(bytes, ' ', 30);
  tokenizer_check_round_trip(s, bytes, 30, 0);
  int32_t id;
  assert_ok(tokenizer_special_add(s->tokenizer, "<[>", 3, &id, &error));
  assert_int_equal(id, BLANK + N_OTHER);
  IDS("ab<[>ab", 0, BLANK, SCORED_AB, id, SCORED_AB);
}

static void change(buffer *out, const char *from, const char *to, size_t n) {
  for (int64_t k = 0; k + (int64_t)n <= out->n; k++)
    if (memcmp(out->bytes + k, from, n) == 0) {
      memcpy(out->bytes + k, to, n);
      return;
    }
  fail();
}

static void scores_that_lie(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  tokenizer *made = NULL;
  for (int which = 0; which < 9; which++) {
    static const char *const parts[] = {"not a tokenizer",
                                        "259 tokens, expected",
                                        "token 13 is not byte 0x0A",
                                        "byte 4: token 0: expected",
                                        "its score is not a finite",
                                        "have the same text",
                                        "no token is a single space",
                                        "expected a score",
                                        "2 bytes, expected llama2.c's"};
    const uint32_t nan = 0x7FC00000;
    buffer out = scored_file();
    switch (which) {
    case 1:
      out.n = 4 + 13 + 13 + 14 + 256 * 14;
      break;
    case 2:
      change(&out, "<0x0A>", "<0x0B>", 6);
      break;
    case 3:
      memcpy(out.bytes + 8, "\xFF\xFF\xFF\xFF", 4);
      break;
    case 4:
      memcpy(out.bytes + 4 + 13, &nan, 4);
      break;
    case 5:
      change(&out, "\2\0\0\0bc", "\2\0\0\0ab", 6);
      break;
    case 6:
      change(&out, "\1\0\0\0 ", "\1\0\0\0!", 5);
      break;
    case 7:
      out.n -= 1;
      break;
    case 8:
      out.n = 2;
      break;
    }
    write_buffer(path, which == 0 ? "made-tokenizer.xyz" : "made-tokenizer.bin", &out);
    assert_refused(tokenizer_open(&made, path, &error), SS_ERROR_INPUT, parts[which]);
    assert_null(made);
  }
}

static void stories_give_their_ids(void **state) {
  scene *s = *state;
  char path[TEST_PATH];
  open_anew(s, test_data(path, "stories260K/tok512.bin"));
  assert_int_equal(tokenizer_size(s->tokenizer), 512);
  IDS("Once upon a time", 0, 403, 407, 261, 378);
}

// --- what a path names ---

static void paths_are_recognised(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char folder[TEST_PATH], path[TEST_PATH + 32];
  uint64_t hash = tokenizer_hash(s->tokenizer);
  tokenizer *made = NULL;
  test_path(folder, "empty-folder");
  assert_ok(ss_make_directories(folder, &error));
  assert_refused(tokenizer_open(&made, folder, &error), SS_ERROR_INPUT, "no tokenizer there");
  assert_refused(tokenizer_open(&made, "/nonexistent", &error), SS_ERROR_IO, "/nonexistent");
  static const char *const names[][2] = {{"merges.txt", "vocab.json"}, {"vocab.bpe", "encoder.json"}};
  for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
    snprintf(path, sizeof path, "%s/%s", folder, names[k][1]);
    assert_ok(ss_write_file(path, s->encoder_text, strlen(s->encoder_text), &error));
    snprintf(path, sizeof path, "%s/%s", folder, names[k][0]);
    if (k == 0)
      assert_refused(tokenizer_open(&made, folder, &error), SS_ERROR_INPUT, "no tokenizer there");
    assert_ok(ss_write_file(path, s->bpe_text, strlen(s->bpe_text), &error));
    for (int part = 0; part < 3; part++) {
      if (part < 2)
        snprintf(path, sizeof path, "%s/%s", folder, names[k][part]);
      open_anew(s, part < 2 ? path : folder);
      assert_true(tokenizer_hash(s->tokenizer) == hash);
    }
  }
  // A tokenizer.json goes before them.
  snprintf(path, sizeof path, "%s/tokenizer.json", folder);
  assert_ok(ss_write_file(path, s->json_text, strlen(s->json_text), &error));
  open_anew(s, folder);
  assert_true(tokenizer_hash(s->tokenizer) != hash);
  // Folders with one .gguf, and with two.
  test_path(folder, "gguf-folder");
  assert_ok(ss_make_directories(folder, &error));
  char gguf_path[TEST_PATH], *bytes = NULL;
  size_t size = 0;
  write_gguf(s, gguf_path, usual);
  assert_ok(ss_read_file(gguf_path, &bytes, &size, &error));
  snprintf(path, sizeof path, "%s/one.gguf", folder);
  assert_ok(ss_write_file(path, bytes, size, &error));
  open_anew(s, folder);
  assert_true(tokenizer_hash(s->tokenizer) == hash);
  snprintf(path, sizeof path, "%s/two.gguf", folder);
  assert_ok(ss_write_file(path, bytes, size, &error));
  assert_refused(tokenizer_open(&made, folder, &error), SS_ERROR_INPUT, "2 files end in .gguf");
  free(bytes);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(gguf_gives_the_same_ids), TEST(gguf_that_lies),         TEST(scores_merge_the_best_pair),
      TEST(scores_that_lie),         TEST(stories_give_their_ids), TEST(paths_are_recognised),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
