// Words, the greedy oracle against its definition written out, and novel n-grams.
#include "data/greedy_oracle.h"

#include "common/random.h"
#include "data/novel_ngrams.h"
#include "tests/helpers.h"

#define MOST_WORDS 512

// --- the definition: tokens, n-grams and scores by counting, nothing shared with the code ---

typedef struct {
  char words[MOST_WORDS][24];
  int n;
} token_list;

static void tokenize(const char *text, int64_t n, token_list *out) {
  int length = 0;
  for (int64_t k = 0; k <= n; k++) {
    int byte = k < n ? (unsigned char)text[k] : ' ';
    if (byte >= 'A' && byte <= 'Z')
      byte += 32;
    if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')) {
      out->words[out->n][length++] = (char)byte;
    } else if (length > 0) {
      out->words[out->n++][length] = '\0';
      length = 0;
    }
    assert_true(out->n < MOST_WORDS && length < 23);
  }
}

static bool same_gram(const token_list *a, int i, const token_list *b, int j, int n) {
  for (int k = 0; k < n; k++)
    if (strcmp(a->words[i + k], b->words[j + k]) != 0)
      return false;
  return true;
}

static int64_t count_gram(const token_list *in, const token_list *gram, int at, int n) {
  int64_t count = 0;
  for (int k = 0; k + n <= in->n; k++)
    count += same_gram(in, k, gram, at, n);
  return count;
}

// Overlap and sizes of ROUGE-n.
static void rouge(const token_list *text, const token_list *target, int n, int64_t *overlap, int64_t *size) {
  *overlap = 0;
  for (int k = 0; k + n <= text->n; k++) {
    bool first = true;
    for (int before = 0; before < k; before++)
      first = first && !same_gram(text, before, text, k, n);
    if (!first)
      continue;
    int64_t here = count_gram(text, text, k, n), there = count_gram(target, text, k, n);
    *overlap += here < there ? here : there;
  }
  *size = (text->n >= n ? text->n - n + 1 : 0) + (target->n >= n ? target->n - n + 1 : 0);
  *size += *size == 0;
}

typedef struct {
  int64_t overlap[2], size[2];
} fraction;

static bool larger(const fraction *a, const fraction *b) {
  return (a->overlap[0] * a->size[1] + a->overlap[1] * a->size[0]) * (b->size[0] * b->size[1]) >
         (b->overlap[0] * b->size[1] + b->overlap[1] * b->size[0]) * (a->size[0] * a->size[1]);
}

// The candidate that makes the picked sentences' score largest, if it exceeds *best; -1: none. With `sharing`, of those
// that have a word of the target.
static int defined_pick(const char *text, const int64_t *ends, int n, const token_list *wanted,
                        const bool *picked, bool sharing, fraction *best) {
  static token_list joined, alone;
  int chosen = -1;
  for (int candidate = 0; candidate < n; candidate++) {
    if (picked[candidate])
      continue;
    joined.n = alone.n = 0;
    for (int s = 0; s < n; s++) {
      int64_t first = s > 0 ? ends[s - 1] : 0;
      if (picked[s] || s == candidate)
        tokenize(text + first, ends[s] - first, &joined);
      if (s == candidate)
        tokenize(text + first, ends[s] - first, &alone);
    }
    fraction reached, own;
    for (int k = 0; k < 2; k++)
      rouge(&joined, wanted, k + 1, &reached.overlap[k], &reached.size[k]);
    rouge(&alone, wanted, 1, &own.overlap[0], &own.size[0]);
    if ((!sharing || own.overlap[0] > 0) && larger(&reached, best)) {
      *best = reached;
      chosen = candidate;
    }
  }
  return chosen;
}

static void defined_picks(const char *text, const int64_t *ends, int n, const char *target, int least,
                          int cap, bool *picked, double *score) {
  static token_list wanted;
  fraction best = {{0, 0}, {1, 1}};
  wanted.n = 0;
  tokenize(target, (int64_t)strlen(target), &wanted);
  memset(picked, 0, (size_t)n * sizeof *picked);
  for (int round = 0; round < cap; round++) {
    fraction nothing = {{0, 0}, {1, 1}};
    int chosen = defined_pick(text, ends, n, &wanted, picked, false, &best);
    if (chosen < 0 && round < least) {
      chosen = defined_pick(text, ends, n, &wanted, picked, true, &nothing);
      best = chosen < 0 ? best : nothing;
    }
    if (chosen < 0)
      break;
    picked[chosen] = true;
  }
  *score = 2.0 * (double)best.overlap[0] / (double)best.size[0] +
           2.0 * (double)best.overlap[1] / (double)best.size[1];
}

// --- tests ---

static void assert_picks(greedy_oracle *oracle, const char *text, const int64_t *ends, int n,
                         const char *target, int least, int cap, int among) {
  ss_error error = {0};
  const int32_t *picked = NULL;
  int32_t n_picked = 0, k = 0;
  double score = -1, expected = -1;
  bool defined[64];
  defined_picks(text, ends, among, target, least, cap, defined, &expected);
  assert_ok(greedy_oracle_pick(oracle, target, (int64_t)strlen(target), among == n ? INT64_MAX : among, least,
                               cap, &picked, &n_picked, &score, &error));
  for (int s = 0; s < among; s++)
    if (defined[s]) {
      if (k >= n_picked || picked[k] != s)
        fail_msg("\"%s\" against \"%s\", cap %d: sentence %d is not pick %d", text, target, cap, s, k);
      k++;
    }
  assert_int_equal(k, n_picked);
  assert_near(score, expected, 1e-12);
}

static void picks_are_those_of_the_definition(void **state) {
  (void)state;
  ss_error error = {0};
  greedy_oracle *oracle = NULL;
  assert_ok(greedy_oracle_create(&oracle, &error));
  static const char *const words[] = {"a",   "b", "c",        "A", "d2", "the", "-",
                                      "...", "B", "\xC3\xA9", "e", "f",  "7"};
  ss_random random = ss_random_seed(5, 1);
  for (int round = 0; round < 1500; round++) {
    char text[1024] = "", target[256] = "";
    int64_t ends[64];
    int n = (int)(ss_random_next(&random) % 12), n_word = 2 + (int)(ss_random_next(&random) % 12);
    for (int s = 0; s < n; s++) {
      for (int k = (int)(ss_random_next(&random) % 7); k > 0; k--) {
        strcat(text, words[ss_random_next(&random) % (uint64_t)n_word]);
        strcat(text, " ");
      }
      ends[s] = (int64_t)strlen(text);
    }
    assert_ok(greedy_oracle_source(oracle, text, ends, n, &error));
    for (int k = 0; k < 3; k++) {
      target[0] = '\0';
      for (int w = (int)(ss_random_next(&random) % 12); w > 0; w--) {
        strcat(target, words[ss_random_next(&random) % (uint64_t)n_word]);
        strcat(target, w % 4 == 0 ? "\n" : " ");
      }
      assert_picks(oracle, text, ends, n, target, 0, k == 0 ? 2 : k == 1 ? 1 : 20, n);
      assert_picks(oracle, text, ends, n, target, 0, 3, n / 2);
      assert_picks(oracle, text, ends, n, target, 2 + k, 4, n);
    }
  }
  greedy_oracle_free(oracle);
}

static void ties_go_to_the_earliest(void **state) {
  (void)state;
  ss_error error = {0};
  greedy_oracle *oracle = NULL;
  const int32_t *picked = NULL;
  int32_t n_picked = 0;
  double score = 0;
  const char *text = "x y. red fox. red fox. blue hen. none";
  const int64_t ends[] = {4, 13, 22, 32, 37};
  assert_ok(greedy_oracle_create(&oracle, &error));
  // No word anywhere.
  assert_ok(greedy_oracle_source(oracle, "-- . ?", ends, 1, &error));
  assert_ok(greedy_oracle_pick(oracle, "!", 1, 5, 0, 2, &picked, &n_picked, &score, &error));
  assert_int_equal(n_picked, 0);
  assert_ok(greedy_oracle_source(oracle, text, ends, 5, &error));
  assert_ok(greedy_oracle_pick(oracle, "Blue hen, red fox", 17, 5, 0, 2, &picked, &n_picked, &score, &error));
  assert_int_equal(n_picked, 2);
  assert_int_equal(picked[0], 1);
  assert_int_equal(picked[1], 3);
  // All four words; of three pairs two.
  assert_near(score, 1.0 + 2.0 / 3.0, 1e-15);
  assert_ok(greedy_oracle_pick(oracle, "nothing here", 12, 5, 0, 2, &picked, &n_picked, &score, &error));
  assert_int_equal(n_picked, 0);
  assert_near(score, 0, 0);
  assert_ok(greedy_oracle_pick(oracle, "red", 3, 5, 0, 0, &picked, &n_picked, &score, &error));
  assert_int_equal(n_picked, 0);
  assert_ok(greedy_oracle_pick(oracle, "", 0, 5, 0, 2, &picked, &n_picked, NULL, &error));
  assert_int_equal(n_picked, 0);
  assert_ok(greedy_oracle_source(oracle, "", NULL, 0, &error));
  assert_ok(greedy_oracle_pick(oracle, "red", 3, 5, 0, 2, &picked, &n_picked, NULL, &error));
  assert_int_equal(n_picked, 0);
  greedy_oracle_free(oracle);
}

static void words_are_lower_case(void **state) {
  (void)state;
  ss_error error = {0};
  words *words = NULL;
  word_list list = {0};
  assert_ok(words_create(&words, &error));
  const char text[] = "It's 5-THE the\0The \xE2\x84\xAA"
                      "elvin \xC4\xB0"
                      "x caf\xC3\xA9 \xFFit";
  assert_ok(words_read(words, text, sizeof text - 1, &list, &error));
  // it s 5 the the the kelvin i x caf it
  static const int32_t expected[] = {0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 0};
  assert_int_equal(list.n, 11);
  assert_memory_equal(list.ids, expected, sizeof expected);
  assert_int_equal(words_count(words), 8);
  assert_ok(words_read(words, "KELVIN", 6, &list, &error));
  assert_int_equal(list.ids[11], 4);
  words_forget(words);
  list.n = 0;
  assert_ok(words_read(words, "KELVIN it", 9, &list, &error));
  assert_int_equal(list.ids[0], 0);
  // More distinct words than the first table has places for.
  words_forget(words);
  list.n = 0;
  for (int round = 0; round < 2; round++)
    for (int k = 0; k < 5000; k++) {
      char word[16];
      assert_ok(words_read(words, word, snprintf(word, sizeof word, "w%d", k), &list, &error));
      assert_int_equal(list.ids[list.n - 1], k);
    }
  assert_refused(words_read(words, text, WORDS_MAX_BYTES + 1, &list, &error), SS_ERROR_LIMIT, "1073741824");
  free(list.ids);
  words_free(words);
}

static void novel_ngrams_end_with_their_sentence(void **state) {
  (void)state;
  ss_error error = {0};
  words *words = NULL;
  word_list source = {0}, summary = {0};
  ngram_counter *counter = NULL;
  novel_ngrams counts;
  assert_ok(words_create(&words, &error));
  assert_ok(ngram_counter_create(&counter, &error));
  assert_ok(words_read(words, "a b c d e. a b", 14, &source, &error));
  assert_ok(words_read(words, "a b a b x", 9, &summary, &error));
  assert_ok(words_read(words, "c d e a", 7, &summary, &error));
  const int64_t ends[] = {5, 9};
  for (int round = 0; round < 2; round++)
    assert_ok(ngram_counter_count(counter, &source, &summary, ends, 2, &counts, &error));
  // a b x c d e; ab ba bx cd de ea; aba bab abx cde dea; abab babx cdea
  static const int64_t distinct[] = {6, 6, 5, 3}, novel[] = {1, 2, 3, 2};
  for (int n = 0; n < 4; n++) {
    assert_int_equal(counts.distinct[n], distinct[n]);
    assert_int_equal(counts.novel[n], novel[n]);
  }
  assert_ok(ngram_counter_count(counter, &source, &summary, ends, 0, &counts, &error));
  assert_int_equal(counts.distinct[0], 0);
  free(source.ids);
  free(summary.ids);
  ngram_counter_free(counter);
  words_free(words);
}

// A megabyte in one sentence, and in many.
static void large_sources_take_no_time(void **state) {
  (void)state;
  ss_error error = {0};
  greedy_oracle *oracle = NULL;
  const int64_t n = 1 << 20, n_sentence = n / 64;
  char *text = malloc((size_t)n);
  int64_t *ends = malloc((size_t)n_sentence * sizeof *ends);
  const int32_t *picked = NULL;
  int32_t n_picked = 0;
  for (int64_t k = 0; k < n; k++)
    text[k] = k % 4 == 3 ? ' ' : (char)('a' + (k * k + k / 7) % 26);
  for (int64_t k = 0; k < n_sentence; k++)
    ends[k] = 64 * (k + 1);
  assert_ok(greedy_oracle_create(&oracle, &error));
  assert_ok(greedy_oracle_source(oracle, text, ends, n_sentence, &error));
  assert_ok(greedy_oracle_pick(oracle, text + 6400, 320, INT64_MAX, 0, 8, &picked, &n_picked, NULL, &error));
  assert_true(n_picked > 0);
  assert_ok(greedy_oracle_source(oracle, text, &n, 1, &error));
  assert_ok(greedy_oracle_pick(oracle, text, n, INT64_MAX, 0, 2, &picked, &n_picked, NULL, &error));
  assert_int_equal(n_picked, 1);
  // A small target after a large one.
  assert_ok(greedy_oracle_pick(oracle, "abc", 3, INT64_MAX, 0, 2, &picked, &n_picked, NULL, &error));
  int64_t large = WORDS_MAX_BYTES + 1;
  assert_refused(greedy_oracle_source(oracle, text, &large, 1, &error), SS_ERROR_LIMIT, "1073741824");
  greedy_oracle_free(oracle);
  free(text);
  free(ends);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(picks_are_those_of_the_definition),
                                     cmocka_unit_test(ties_go_to_the_earliest),
                                     cmocka_unit_test(words_are_lower_case),
                                     cmocka_unit_test(novel_ngrams_end_with_their_sentence),
                                     cmocka_unit_test(large_sources_take_no_time)};
  return cmocka_run_group_tests_name("greedy_oracle", tests, NULL, NULL);
}
