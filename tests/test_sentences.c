// Sentence segmentation: abbreviations, quotes, line ends, and texts that are none.
#include "data/sentences.h"
#include "tests/helpers.h"

static sentence_splitter *make_splitter(void) {
  ss_error error = {0};
  sentence_splitter *splitter = NULL;
  assert_ok(sentence_splitter_create(&splitter, &error));
  return splitter;
}

// `marked` is a text with '|' at the expected boundaries (each in front of the white space).
static void assert_split(sentence_splitter *splitter, const char *marked) {
  ss_error error = {0};
  char text[4096], found[8192];
  const int64_t *ends = NULL;
  int64_t n = 0, n_sentence = 0, written = 0;
  for (const char *at = marked; *at != '\0'; at++)
    if (*at != '|')
      text[n++] = *at;
  text[n] = '\0';
  assert_ok(sentence_split(splitter, text, n, &ends, &n_sentence, &error));
  for (int64_t k = 0, first = 0; k < n_sentence; first = ends[k++]) {
    assert_true(ends[k] > first);
    memcpy(found + written, text + first, (size_t)(ends[k] - first));
    written += ends[k] - first;
    if (k + 1 < n_sentence)
      found[written++] = '|';
  }
  found[written] = '\0';
  assert_string_equal(found, marked);
}

static void abbreviations_go_on(void **state) {
  (void)state;
  sentence_splitter *splitter = make_splitter();
  static const char *const texts[] = {
      "Mr. Brook met Gen. Ash and Sen. Ida Fell.| Dr. Hill left with Lt. Col. Reed and Staff Sgt. Pike.",
      "The harbour of St. Anne is old.| Ash vs. Brook was No. 1 in the list.| He said no.| She left.",
      "He lived in the U.S. for years.| She flew to the U.S.| But he stayed in Washington, D.C.| They wrote.",
      "The U.S. President and the U.N. Council met at 5 a.m. Monday.| At 7 p.m.| \"Nothing,\" he said.",
      "J. K. Fern and George W. Moss wrote to J.P. Lark.| So did Ann B. Reed.",
      "Fern Inc. Chairman Moss sold Reed Corp. in Jan. 2009.| It was owned by Lark Ltd.| The price fell.",
      "He was born on Sept. 3 in Tampa, Fla. near the sea.| It rained in Sept.| Nobody knew.",
      "Ask me and I.| The end.",
      "See e.g. Fern or i.e. Moss.| It cost 3.50 dollars, or 2.5 pounds.",
      "Ten-year-old ex-Gov. Reed spoke.| (Gov. Moss did not.)| \"Rep. Lark,\" he said."};
  for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
    assert_split(splitter, texts[k]);
  sentence_splitter_free(splitter);
}

static void quotes_close_with_their_sentence(void **state) {
  (void)state;
  sentence_splitter *splitter = make_splitter();
  static const char *const texts[] =
      {"\"What?\" he asked.| \"Go.\"| She went.",
       "'It is late!' said Ann.| 'Then run.'| (They ran.)| It rained.",
       "\xE2\x80\x9CIs it?\xE2\x80\x9D she said.| \xE2\x80\x9CIt is.\xE2\x80\x9D| He nodded.",
       "Yahoo! said so.| Who knows?| Nobody... knows.| It said \"the U.S.\"| Reed agreed.",
       "He left.| 12 of them \"stayed.\"| $3 was paid.| No. 3 won.| 4. 12 people.| It was 5 p.m. 3 saw it.",
       "\xC3\x89mile came.| \xC3\x89mile left.| \xC3\x89t\xC3\xA9 123.| 456 came."};
  for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
    assert_split(splitter, texts[k]);
  sentence_splitter_free(splitter);
}

static void lines_end_sentences(void **state) {
  (void)state;
  sentence_splitter *splitter = make_splitter();
  assert_split(splitter, "A heading|\n\nThe text goes on.|  Two blanks.|\r\nmr. small|\nMr.|\nReed");
  assert_split(splitter, "  leading, trailing.| Next. \n\n ");
  assert_split(splitter, " \n ");
  assert_split(splitter, "no end");
  assert_split(splitter, "");
  assert_split(splitter, "hard\xC2\xA0"
                         "blank.|\xC2\xA0Next.");
  assert_split(splitter, "no blank.Behind a stop, as in example.com");
  sentence_splitter_free(splitter);
}

static void words_have_kinds(void **state) {
  (void)state;
  assert_int_equal(sentence_word_kind("Gen", 3), SENTENCE_WORD_TITLE);
  assert_int_equal(sentence_word_kind("Genx", 3), SENTENCE_WORD_TITLE);
  assert_int_equal(sentence_word_kind("Ge", 2), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("gen", 3), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("No", 2), SENTENCE_WORD_NUMBER);
  assert_int_equal(sentence_word_kind("U.S", 3), SENTENCE_WORD_EITHER);
  assert_int_equal(sentence_word_kind("U.S.", 4), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("J", 1), SENTENCE_WORD_EITHER);
  assert_int_equal(sentence_word_kind("j", 1), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("wyo", 3), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("Wyo", 3), SENTENCE_WORD_EITHER);
  assert_int_equal(sentence_word_kind("Mr\0abc", 6), SENTENCE_WORD_PLAIN);
  assert_int_equal(sentence_word_kind("", 0), SENTENCE_WORD_PLAIN);
  assert_true(sentence_word_starts("The", 3));
  assert_true(sentence_word_starts("Your", 4));
  assert_false(sentence_word_starts("They'", 5));
  assert_false(sentence_word_starts("The\0", 4));
}

// Any bytes: the ranges ascend and cover them.
static void any_bytes_are_covered(void **state) {
  (void)state;
  ss_error error = {0};
  sentence_splitter *splitter = make_splitter();
  static const char alphabet[] = "aB .?!\"'\n\xC2\xA0\xE2\x80\x9D\xFF\x80\xF0\x9F\x98\x80)(0-U.S.Mr.";
  uint64_t random = 11;
  for (int round = 0; round < 3000; round++) {
    char *text = malloc(200);
    int64_t n = (int64_t)((random = random * 6364136223846793005ull + 1442695040888963407ull) >> 33) % 200;
    for (int64_t k = 0; k < n; k++)
      text[k] = alphabet[((random = random * 6364136223846793005ull + 1442695040888963407ull) >> 33) %
                         sizeof alphabet];        // the terminator included
    char *exact = malloc(n > 0 ? (size_t)n : 1);  // so that a sanitizer sees a read past the end
    memcpy(exact, text, (size_t)n);
    const int64_t *ends = NULL;
    int64_t n_sentence = 0, last = 0;
    assert_ok(sentence_split(splitter, exact, n, &ends, &n_sentence, &error));
    for (int64_t k = 0; k < n_sentence; last = ends[k++])
      assert_true(ends[k] > last);
    assert_int_equal(last, n);
    free(exact);
    free(text);
  }
  sentence_splitter_free(splitter);
}

static void a_long_sentence_is_one(void **state) {
  (void)state;
  ss_error error = {0};
  sentence_splitter *splitter = make_splitter();
  const int64_t n = 1 << 20;
  char *text = malloc((size_t)n);
  const int64_t *ends = NULL;
  int64_t n_sentence = 0;
  for (int form = 0; form < 3; form++) {
    for (int64_t k = 0; k < n; k++)
      text[k] = form == 0 ? 'a' : form == 1 ? "word "[k % 5] : "Mr. "[k % 4];
    assert_ok(sentence_split(splitter, text, n, &ends, &n_sentence, &error));
    assert_int_equal(n_sentence, 1);
    assert_int_equal(ends[0], n);
  }
  // Every line is a boundary of UAX #29: they are looked at once.
  memset(text, '\n', (size_t)n);
  text[0] = text[n - 1] = 'a';
  assert_ok(sentence_split(splitter, text, n, &ends, &n_sentence, &error));
  assert_int_equal(n_sentence, 2);
  assert_int_equal(ends[0], 1);
  assert_refused(sentence_split(splitter, text, SENTENCES_MAX_BYTES + 1, &ends, &n_sentence, &error),
                 SS_ERROR_LIMIT, "expected at most 1073741824");
  free(text);
  sentence_splitter_free(splitter);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(abbreviations_go_on),
                                     cmocka_unit_test(quotes_close_with_their_sentence),
                                     cmocka_unit_test(lines_end_sentences),
                                     cmocka_unit_test(words_have_kinds),
                                     cmocka_unit_test(any_bytes_are_covered),
                                     cmocka_unit_test(a_long_sentence_is_one)};
  return cmocka_run_group_tests_name("sentences", tests, NULL, NULL);
}
