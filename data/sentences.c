#include "data/sentences.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

#include "common/memory.h"

#define LONGEST_WORD 32  // bytes of the words that the tables are asked about

struct sentence_splitter {
  UBreakIterator *iterator;
  UText *text;
  int64_t *ends;
  int64_t capacity;
};

ss_status sentence_splitter_create(sentence_splitter **out, ss_error *error) {
  sentence_splitter *splitter = NULL;
  SS_TRY(ss_allocate(&splitter, 1, sizeof *splitter, "sentence splitter", error));
  UErrorCode code = U_ZERO_ERROR;
  splitter->iterator = ubrk_open(UBRK_SENTENCE, "en", NULL, 0, &code);
  if (U_FAILURE(code)) {
    sentence_splitter_free(splitter);
    return ss_fail(error, SS_ERROR_INTERNAL, "ICU has no rules for sentences: %s", u_errorName(code));
  }
  *out = splitter;
  return SS_OK;
}

void sentence_splitter_free(sentence_splitter *splitter) {
  if (splitter == NULL)
    return;
  if (splitter->iterator != NULL)
    ubrk_close(splitter->iterator);
  utext_close(splitter->text);
  free(splitter->ends);
  free(splitter);
}

static bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

// Bytes of the white space that begins at text[k], or ends before it: 0 when none does. ASCII's and the no-break space.
static int64_t blank_at(const char *text, int64_t n, int64_t k) {
  if (k < n && (text[k] == ' ' || (text[k] >= '\t' && text[k] <= '\r')))
    return 1;
  return k + 1 < n && text[k] == '\xC2' && text[k + 1] == '\xA0' ? 2 : 0;
}

static int64_t blank_before(const char *text, int64_t k) {
  if (k > 0 && (text[k - 1] == ' ' || (text[k - 1] >= '\t' && text[k - 1] <= '\r')))
    return 1;
  return k > 1 && text[k - 1] == '\xA0' && text[k - 2] == '\xC2' ? 2 : 0;
}

// Bytes of the closing quotation mark or bracket that ends before text[k]; an apostrophe closes, too.
static int64_t closer_before(const char *text, int64_t first, int64_t k) {
  if (k > first && strchr("\"')]}", text[k - 1]) != NULL && text[k - 1] != '\0')
    return 1;
  // U+2019 and U+201D.
  return k >= first + 3 && text[k - 3] == '\xE2' && text[k - 2] == '\x80' &&
                 (text[k - 1] == '\x99' || text[k - 1] == '\x9D')
             ? 3
             : 0;
}

// The word that ends before text[k]: behind a blank, an opening mark, a hyphen or a slash.
static int64_t word_before(const char *text, int64_t first, int64_t k) {
  int64_t begin = k;
  while (begin > first && k - begin <= LONGEST_WORD && blank_before(text, begin) == 0 &&
         (text[begin - 1] == '\0' || strchr("\"'([{-/", text[begin - 1]) == NULL) &&
         closer_before(text, first, begin) == 0)
    begin--;
  // U+2018 and U+201C open, the dashes before them separate.
  for (int64_t at = begin; at + 3 <= k; at++)
    if (text[at] == '\xE2' && text[at + 1] == '\x80' && text[at + 2] >= '\x90' && text[at + 2] <= '\x9D')
      begin = at + 3;
  return begin;
}

// Whether a sentence goes on at `next`, though UAX #29 ends it at `end`; white space alone lies between the two.
static bool goes_on(const char *text, int64_t n, int64_t first, int64_t end, int64_t next) {
  for (int64_t k = end; k < next; k++)
    if (text[k] == '\n' || text[k] == '\r')
      return false;
  int32_t at = (int32_t)next, character = 0;
  U8_NEXT(text, at, (int32_t)n, character);
  if (character >= 0 && u_islower(character))
    return true;
  int64_t stop = end;
  for (int64_t size = 0; (size = closer_before(text, first, stop)) > 0;)
    stop -= size;
  if (stop != end || stop <= first || text[stop - 1] != '.')
    return false;
  int64_t begin = word_before(text, first, stop - 1), after = next;
  switch (sentence_word_kind(text + begin, stop - 1 - begin)) {
  case SENTENCE_WORD_TITLE:
    return true;
  case SENTENCE_WORD_NUMBER:
    return text[next] >= '0' && text[next] <= '9';
  case SENTENCE_WORD_EITHER:
    if (character < 0 || !(u_isalnum(character) || character == '(' || character == '$'))
      return false;
    while (after < n && after - next <= LONGEST_WORD && blank_at(text, n, after) == 0 &&
           (text[after] == '\0' || strchr(",.:;?!)-", text[after]) == NULL))
      after++;
    return !sentence_word_starts(text + next, after - next);
  default:
    return false;
  }
}

// UAX #29 passes over a number to the word behind it, and sees no end where that is lower case: "He left. 12 people
// stayed". The next such place in [from, end), at its first blank, or `end`. Lists count: "4. 12 people".
static int64_t stop_before_number(const char *text, int64_t from, int64_t end) {
  for (int64_t k = from; k + 2 < end; k++) {
    if (text[k] != '.' || k < 3 ||
        (is_digit(text[k - 1]) && (!is_digit(text[k - 2]) || !is_digit(text[k - 3]))))
      continue;
    int64_t after = k + 1;
    while (after < end && closer_before(text, after, after + 1) > 0)
      after++;
    if (after + 1 < end && text[after] == ' ' && (is_digit(text[after + 1]) || text[after + 1] == '$'))
      return after;
  }
  return end;
}

static ss_status add_end(sentence_splitter *splitter, int64_t end, int64_t *count, ss_error *error) {
  SS_TRY(
      ss_grow(&splitter->ends, &splitter->capacity, *count + 1, sizeof *splitter->ends, "sentences", error));
  splitter->ends[(*count)++] = end;
  return SS_OK;
}

ss_status sentence_split(sentence_splitter *splitter, const char *text, int64_t n, const int64_t **ends,
                         int64_t *n_sentence, ss_error *error) {
  *n_sentence = 0;
  *ends = splitter->ends;
  if (n > SENTENCES_MAX_BYTES)
    return ss_fail(error, SS_ERROR_LIMIT, "a text of %lld bytes, expected at most %lld", (long long)n,
                   (long long)SENTENCES_MAX_BYTES);
  if (n == 0)
    return SS_OK;
  UErrorCode code = U_ZERO_ERROR;
  splitter->text = utext_openUTF8(splitter->text, text, n, &code);
  ubrk_setUText(splitter->iterator, splitter->text, &code);
  if (U_FAILURE(code))
    return ss_fail(error, SS_ERROR_INTERNAL, "ICU cannot read a text of %lld bytes: %s", (long long)n,
                   u_errorName(code));
  int64_t first = 0, count = 0, boundary = 0, judged = 0;
  for (int64_t at = 0; at < n;) {
    if (at == boundary) {
      int32_t following = ubrk_next(splitter->iterator);
      boundary = following == UBRK_DONE ? n : following;
    }
    at = stop_before_number(text, at, boundary);
    if (at <= judged)  // every line of a run of empty ones is a boundary: the run was looked at
      continue;
    int64_t end = at, next = at, size = 0;
    while (end > first && (size = blank_before(text, end)) > 0)
      end -= size;
    while ((size = blank_at(text, n, next)) > 0)
      next += size;
    judged = next;
    // White space at the beginning or the end of the text makes no sentence of its own.
    if (end == first || next == n || blank_at(text, n, end) == 0 || goes_on(text, n, first, end, next))
      continue;
    SS_TRY(add_end(splitter, end, &count, error));
    first = end;
  }
  SS_TRY(add_end(splitter, n, &count, error));
  *ends = splitter->ends;
  *n_sentence = count;
  return SS_OK;
}
