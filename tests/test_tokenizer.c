// Byte-level BPE: merges, ties, pieces, special tokens, any bytes; GPT-2's own files where they are.
// With arguments it is the filter that tests/peers/tokenizer_ids.py compares with other tokenizers:
//   test_tokenizer FLAGS gpt2 VOCAB_BPE ENCODER_JSON | FLAGS KIND PATH | FLAGS written PATH FOLDER
// (written: a vocabulary over the tokenizer at PATH, put into FOLDER as Hugging Face's files)
// reads (uint32 n, n bytes)*, writes (uint32 n, n int32 ids)*, and the seconds of encoding to stderr.
#include "tests/tokenizer_fixture.h"

#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"
#include "data/tokenizer_write.h"
#include "data/vocabulary.h"

#define LONG_PIECE 1000000

// The ids of `text` are `count` given ones.
static void check_ids(scene *s, const char *text, int flags, int count, const int32_t *expected) {
  for (int again = 0; again < 2; again++) {  // the second time from the cache
    tokenizer_fixture_encode(s, text, (int64_t)strlen(text), flags);
    bool equal = s->n == count;
    for (int k = 0; equal && k < count; k++)
      equal = s->ids[k] == expected[k];
    if (!equal) {
      print_message("\"%s\":", text);
      for (int64_t k = 0; k < s->n; k++)
        print_message(" %d", s->ids[k]);
      fail_msg(", expected %d ids that begin with %d", count, count > 0 ? expected[0] : -1);
    }
  }
}

#define IDS(text, flags, ...)                                                          \
  check_ids(s, text, flags, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), \
            (const int32_t[]){__VA_ARGS__})

// --- merging ---

static void merges_by_rank_then_leftmost(void **state) {
  scene *s = *state;
  IDS("hello", 0, HELLO);
  IDS("aaa", 0, AAA);
  IDS("aaaa", 0, AA, AA);
  IDS("aaaaa", 0, AA, AAA);  // a tie is the leftmost's: aa|aa|a, then aa+a
  IDS("aab", 0, AAB);
  IDS("abab", 0, AB, AB);
  IDS("aaab", 0, AA, AB);  // "a b" comes before "aa b"
  IDS("llo", 0, LLO);
  IDS("lo", 0, LO);
  IDS("hell", 0, HE, LL);
}

static void pieces_are_those_of_the_pattern(void **state) {
  scene *s = *state;
  IDS(" a a", 0, SPACE_A, SPACE_A);
  IDS("  a", 0, ' ', SPACE_A);
  IDS("   a", 0, SPACES, SPACE_A);
  IDS("a  ", 0, 'a', SPACES);
  IDS("a's", 0, 'a', S);
  IDS("a 's", 0, 'a', ' ', '\'', 's');
  IDS("'saa", 0, S, AA);
  IDS("!'saa", 0, '!', '\'', 's', AA);  // the apostrophe is in the run before
  IDS("\n\na", 0, '\n', '\n', 'a');
  IDS("a\xC2\xA0 a", 0, 'a', 0xC2, 0xA0, SPACE_A);       // a no-break space is white space
  IDS("a \xE3\x80\x80", 0, 'a', ' ', 0xE3, 0x80, 0x80);  // the ideographic space as well
  IDS("a\xCC\x81"
      "a",
      0, 'a', 0xCC, 0x81, 'a');  // a combining mark is no letter
}

static void digits_stand_apart_where_the_file_says_so(void **state) {
  scene *s = *state;
  IDS("  1", 0, ' ', ' ', '1');
  tokenizer_open_as(s, true);
  IDS("  1", 0, SPACES, '1');
  IDS("a  12", 0, 'a', SPACES, '1', '2');
  IDS("  \xD9\xA3", 0, SPACES, 0xD9, 0xA3);  // ARABIC-INDIC DIGIT THREE
  IDS(" 1", 0, ' ', '1');
  IDS("  a", 0, ' ', SPACE_A);
  IDS("hello", 0, HELLO);
}

static void long_pieces_are_not_quadratic(void **state) {
  scene *s = *state;
  char *text = malloc(LONG_PIECE);
  memset(text, 'a', LONG_PIECE);
  double start = ss_seconds();
  tokenizer_fixture_encode(s, text, LONG_PIECE, 0);
  double seconds = ss_seconds() - start;
  assert_int_equal(s->n, LONG_PIECE / 2);
  assert_int_equal(s->ids[0], AA);
  assert_int_equal(s->ids[s->n - 1], AA);
  if (!(seconds < 20))
    fail_msg("%d letters took %.1f s", LONG_PIECE, seconds);
  free(text);
}

// Neither is any other run: those that PCRE2 finds, white space, numbers and invalid bytes piece by piece.
static void long_runs_of_any_characters_come_back(void **state) {
  scene *s = *state;
  const char *const characters[] = {"\xC3\xA9", "\xE3\x80\x80", "\xF0\x9F\x98\x80", "\xD9\xA3", " ", "\xFF"};
  char *text = malloc(LONG_PIECE);
  for (int json = 0; json < 2; json++) {
    tokenizer_open_as(s, json);
    for (size_t k = 0; k < sizeof characters / sizeof *characters; k++) {
      int64_t length = (int64_t)strlen(characters[k]), n = LONG_PIECE / length * length;
      for (int64_t at = 0; at < n; at += length)
        memcpy(text + at, characters[k], (size_t)length);
      double start = ss_seconds();
      tokenizer_check_round_trip(s, text, n, 0);
      if (!(ss_seconds() - start < 20))
        fail_msg("%s %zu times took %.1f s", characters[k], (size_t)(n / length), ss_seconds() - start);
    }
  }
  free(text);
}

// The heap and the scan agree: pieces around the size where one takes over, against merging by the definition.
static void short_and_long_pieces_agree(void **state) {
  scene *s = *state;
  ss_random random = ss_random_seed(7, 0);
  for (int round = 0; round < 300; round++) {
    char text[200];
    int n = (int)ss_random_range(&random, 30, 120), count = n;
    int32_t ids[200];
    for (int k = 0; k < n; k++) {
      text[k] = "aabhelo"[ss_random_below(&random, 7)];
      ids[k] = (unsigned char)text[k];
    }
    const int32_t rules[][3] = {{'a', 'a', AA}, {'a', 'b', AB}, {AA, 'b', AAB},
                                {AA, 'a', AAA}, {'h', 'e', HE}, {'l', 'l', LL},
                                {'l', 'o', LO}, {LL, 'o', LLO}, {HE, LLO, HELLO}};
    for (;;) {
      int best = -1, best_rule = 0;
      for (int rule = 0; best < 0 && rule < (int)(sizeof rules / sizeof *rules); rule++)
        for (int k = 0; best < 0 && k + 1 < count; k++)
          if (ids[k] == rules[rule][0] && ids[k + 1] == rules[rule][1]) {
            best = k;
            best_rule = rule;
          }
      if (best < 0)
        break;
      ids[best] = rules[best_rule][2];
      memmove(ids + best + 1, ids + best + 2, (size_t)(--count - best - 1) * sizeof *ids);
    }
    tokenizer_fixture_encode(s, text, n, 0);
    assert_int_equal(s->n, count);
    assert_memory_equal(s->ids, ids, (size_t)count * sizeof *ids);
  }
}

// --- special tokens ---

static void special_tokens_come_first_and_longest(void **state) {
  scene *s = *state;
  ss_error error = {0};
  int32_t id;
  assert_int_equal(tokenizer_size(s->tokenizer), END + 1);
  assert_int_equal(tokenizer_special_find(s->tokenizer, "<|end|>", 7), END);
  const char *const added[] = {"<[>", "<:>", "<=>", "<#1>", "<#12>", "<#1><", "\xE2\x98\x83"};
  for (int k = 0; k < 7; k++) {
    assert_ok(tokenizer_special_add(s->tokenizer, added[k], (int64_t)strlen(added[k]), &id, &error));
    assert_int_equal(id, END + 1 + k);
  }
  assert_ok(tokenizer_special_add(s->tokenizer, "<:>", 3, &id, &error));  // it is there
  assert_int_equal(id, END + 2);
  assert_true(tokenizer_is_special(s->tokenizer, id));
  assert_false(tokenizer_is_special(s->tokenizer, 'a'));
  assert_int_equal(tokenizer_special_find(s->tokenizer, "a", 1), -1);
  IDS("a<[>a", 0, 'a', END + 1, 'a');
  IDS("<#12>", 0, END + 5);
  IDS("<#1>", 0, END + 4);
  IDS("<#1><#1>", 0, END + 6, '#', '1', '>');  // the longest at the leftmost place
  IDS("<#1", 0, '<', '#', '1');
  IDS("  <:>", 0, SPACES, END + 2);  // text ends before a special token
  IDS("a\xE2\x98\x83", 0, 'a', END + 7);
  IDS("<=>", TOKENIZER_PLAIN, '<', '=', '>');
  IDS("<|end|>", 0, END);
  char *text = NULL;
  int64_t size;
  const int32_t ids[] = {HELLO, END, END + 1, 'a'};
  assert_ok(tokenizer_decode(s->tokenizer, ids, 4, 0, &text, &size, &error));
  assert_string_equal(text, "hello<|end|><[>a");
  free(text);
  assert_ok(tokenizer_decode(s->tokenizer, ids, 4, TOKENIZER_PLAIN, &text, &size, &error));
  assert_string_equal(text, "helloa");
  free(text);
  assert_refused(tokenizer_special_add(s->tokenizer, "", 0, &id, &error), SS_ERROR_INPUT, "0 bytes");
  assert_refused(tokenizer_special_add(s->tokenizer, "\xFF", 1, &id, &error), SS_ERROR_INPUT, "well-formed");
}

// --- any bytes ---

static void any_bytes_come_back(void **state) {
  scene *s = *state;
  ss_random random = ss_random_seed(11, 0);
  const char *const parts[] = {"\xC3\xA9",     "\xF0\x9F\x98\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                               "\xC0\x80",     "\xE2\x80",         "'re",          "  ",
                               "\xE3\x80\x80", "<|end|>",          "hello",        "12"};
  for (int json = 0; json < 2; json++) {
    tokenizer_open_as(s, json);
    for (int round = 0; round < 2000; round++) {
      char text[256];
      int n = 0, wanted = (int)ss_random_below(&random, 200);
      while (n < wanted)
        if (ss_random_below(&random, 2) == 0) {
          text[n++] = (char)ss_random_below(&random, 256);
        } else {
          const char *part = parts[ss_random_below(&random, sizeof parts / sizeof *parts)];
          memcpy(text + n, part, strlen(part));
          n += (int)strlen(part);
        }
      // On the heap, so that a sanitizer sees a read beyond the end.
      char *exact = malloc((size_t)n + (n == 0));
      memcpy(exact, text, (size_t)n);
      tokenizer_check_round_trip(s, exact, n, round % 2 == 0 ? 0 : TOKENIZER_PLAIN);
      free(exact);
    }
  }
  IDS("a\xFF"
      "a  \xFF",
      0, 'a', 0xFF, 'a', SPACES, 0xFF);  // text ends before an invalid byte
}

static void lacking_bytes_are_errors_or_added(void **state) {
  scene *s = *state;
  ss_error error = {0};
  // Without the token of 'z', whose id the last one takes.
  char *at = strstr(s->encoder_text, "\"\\u007a\":122,"), *end = strstr(s->encoder_text, "\"<|end|>\":268");
  memcpy(at, "             ", 13);
  memcpy(end + 10, "122", 3);
  test_write(s->encoder, "encoder.json", s->encoder_text);
  tokenizer_open_as(s, false);
  s->n = 0;
  assert_refused(tokenizer_encode(s->tokenizer, s->scratch, "aa zb", 5, 0, &s->ids, &s->n, &s->capacity,
                                  &error),
                 SS_ERROR_INPUT, "byte 2 on: tokenizer: the vocabulary has no token for byte 0x7a");
  assert_int_equal(s->n, 0);
  IDS("azab", TOKENIZER_UNKNOWN, AAB);  // left out, so its neighbours meet
  int32_t added = 0;
  assert_ok(tokenizer_add_bytes(s->tokenizer, &added, &error));
  assert_int_equal(added, 1);
  IDS("azab", 0, 'a', END, AB);
  IDS("<|end|>z", 0, 'z', END);
}

static void decoding_refuses_foreign_ids(void **state) {
  scene *s = *state;
  ss_error error = {0};
  char *text = NULL;
  int64_t size;
  const int32_t high[] = {'a', END + 1}, low[] = {-1};
  assert_refused(tokenizer_decode(s->tokenizer, high, 2, 0, &text, &size, &error), SS_ERROR_INPUT,
                 "id 269 at 1");
  assert_refused(tokenizer_decode(s->tokenizer, low, 1, 0, &text, &size, &error), SS_ERROR_INPUT,
                 "id -1 at 0");
  const char *bytes;
  assert_true(tokenizer_token_bytes(s->tokenizer, HELLO, &bytes, &size));
  assert_int_equal(size, 5);
  assert_memory_equal(bytes, "hello", 5);
  assert_false(tokenizer_token_bytes(s->tokenizer, END + 1, &bytes, &size));
}

static void the_hash_knows_what_ids_depend_on(void **state) {
  scene *s = *state;
  ss_error error = {0};
  uint64_t hash = tokenizer_hash(s->tokenizer);
  tokenizer_open_as(s, false);
  assert_true(tokenizer_hash(s->tokenizer) == hash);
  int32_t id;
  assert_ok(tokenizer_special_add(s->tokenizer, "<[>", 3, &id, &error));
  assert_true(tokenizer_hash(s->tokenizer) != hash);
  tokenizer_open_as(s, true);
  assert_true(tokenizer_hash(s->tokenizer) != hash);  // digits apart
  // Two merges change places.
  char *line = strstr(s->bpe_text, "a a\na b\n");
  memcpy(line, "a b\na a\n", 8);
  test_write(s->bpe, "vocab.bpe", s->bpe_text);
  tokenizer_open_as(s, false);
  assert_true(tokenizer_hash(s->tokenizer) != hash);
}

// --- GPT-2's own files ---

static void gpt2_gives_its_ids(void **state) {
  scene *s = *state;
  ss_error error = {0};
  test_data(s->bpe, "gpt2/vocab.bpe");
  test_data(s->encoder, "gpt2/encoder.json");
  tokenizer_open_as(s, false);
  assert_int_equal(tokenizer_size(s->tokenizer), 50257);
  assert_int_equal(tokenizer_special_find(s->tokenizer, "<|endoftext|>", 13), 50256);
  IDS("hello world", 0, 31373, 995);
  IDS("hello <|endoftext|>", 0, 31373, 220, 50256);
  IDS("It's John's; they're 12,345.67% sure -- we'LL  see\012\012\011then...", 0, 1026, 338, 1757, 338, 26,
      484, 821, 1105, 11, 27712, 13, 3134, 4, 1654, 1377, 356, 6, 3069, 220, 766, 628, 197, 8524, 986);
  IDS("na\303\257ve caf\303\251 \342\200\224 \346\227\245\346\234\254\350\252\236 "
      "\320\237\321\200\320\270\320\262\320\265\321\202 \360\237\221\251\342\200\215\360\237\222\273!",
      0, 2616, 38776, 40304, 851, 10545, 245, 98, 17312, 105, 45739, 252, 12466, 253, 21169, 18849, 38857,
      16843, 20375, 50169, 102, 447, 235, 8582, 240, 119, 0);
  IDS("(CNN)  A   b \302\240\343\200\200x  ", 0, 7, 18474, 8, 220, 317, 220, 220, 275, 5624, 5099, 222, 87,
      220, 220);
  IDS("supercalifragilisticexpialidocious antidisestablishmentarianism", 0, 16668, 9948, 361, 22562, 346, 396,
      501, 42372, 498, 312, 32346, 1885, 29207, 44390, 3699, 1042);
  IDS("\341\240\216\342\200\213\302\205 \034\035 \331\243\331\244 \302\275 \342\205\247 \303\251", 0, 157,
      254, 236, 9525, 126, 227, 220, 216, 217, 18923, 96, 149, 97, 25208, 2343, 227, 100, 38251);
  int32_t added;
  assert_ok(tokenizer_add_bytes(s->tokenizer, &added, &error));
  assert_int_equal(added, 0);
}

// --- the filter ---

static bool read_all(void *out, size_t n) {
  return fread(out, 1, n, stdin) == n;
}

static ss_status write_grown(vocabulary **out, const tokenizer *source, const char *folder, ss_error *error) {
  SS_TRY(vocabulary_create_tokenizer(out, source, "news", 24, error));
  SS_TRY(ss_make_directories(folder, error));
  return tokenizer_write_json(vocabulary_tokenizer(*out), folder, vocabulary_bos(*out),
                              vocabulary_span_tokens(*out)->eos, error);
}

static int filter(int argc, char **argv) {
  ss_error error = {0};
  tokenizer *made = NULL;
  tokenizer_scratch *scratch = NULL;
  int flags = atoi(argv[1]);
  vocabulary *words = NULL;
  bool pair = argc == 5 && strcmp(argv[2], "gpt2") == 0;
  ss_status status = pair ? tokenizer_open_gpt2(&made, argv[3], argv[4], &error)
                          : tokenizer_open(&made, argv[3], &error);
  if (status == SS_OK && argc == 5 && !pair)
    status = write_grown(&words, made, argv[4], &error);
  const tokenizer *used = words != NULL ? vocabulary_tokenizer(words) : made;
  if (status == SS_OK)
    status = tokenizer_scratch_create(&scratch, used, &error);
  char *text = NULL;
  int32_t *ids = NULL;
  int64_t text_capacity = 0, capacity = 0;
  double seconds = 0;
  uint32_t n;
  while (status == SS_OK && read_all(&n, sizeof n)) {
    status = ss_grow(&text, &text_capacity, (int64_t)n + 1, 1, "text", &error);
    if (status != SS_OK || !read_all(text, n))
      break;
    int64_t count = 0;
    double start = ss_seconds();
    status = tokenizer_encode(used, scratch, text, n, flags, &ids, &count, &capacity, &error);
    seconds += ss_seconds() - start;
    uint32_t written = (uint32_t)count;
    fwrite(&written, sizeof written, 1, stdout);
    fwrite(ids, sizeof *ids, (size_t)count, stdout);
  }
  if (status != SS_OK)
    fprintf(stderr, "error: %s\n", error.message);
  else
    fprintf(stderr, "%.6f\n", seconds);
  free(text);
  free(ids);
  tokenizer_scratch_free(scratch);
  vocabulary_free(words);
  tokenizer_free(made);
  return (int)status;
}

int main(int argc, char **argv) {
  if (argc > 3)
    return filter(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, tokenizer_setup, tokenizer_teardown)
  const struct CMUnitTest tests[] = {
      TEST(merges_by_rank_then_leftmost),
      TEST(pieces_are_those_of_the_pattern),
      TEST(digits_stand_apart_where_the_file_says_so),
      TEST(long_pieces_are_not_quadratic),
      TEST(long_runs_of_any_characters_come_back),
      TEST(short_and_long_pieces_agree),
      TEST(special_tokens_come_first_and_longest),
      TEST(any_bytes_come_back),
      TEST(lacking_bytes_are_errors_or_added),
      TEST(decoding_refuses_foreign_ids),
      TEST(the_hash_knows_what_ids_depend_on),
      TEST(gpt2_gives_its_ids),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
