#include <string.h>

#include "data/news_private.h"

#define MOST_CLOSING 16  // bytes of quotes and brackets behind a sentence

bool news_is_blank(char byte) {
  return byte == ' ' || byte == '\n';
}
bool news_is_upper(char byte) {
  return byte >= 'A' && byte <= 'Z';
}
bool news_is_lower(char byte) {
  return byte >= 'a' && byte <= 'z';
}
bool news_is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}
bool news_is_letter(char byte) {
  return news_is_upper(byte) || news_is_lower(byte) || (byte & 0x80) != 0;
}

static char lower(char byte) {
  return news_is_upper(byte) ? (char)(byte + 'a' - 'A') : byte;
}

int64_t news_at(const char *text, int64_t n, int64_t at, const char *word) {
  for (; *word != '\0'; word++, at++)
    if (at >= n || lower(text[at]) != *word)
      return -1;
  return at;
}

int64_t news_at_exact(const char *text, int64_t n, int64_t at, const char *word) {
  for (; *word != '\0'; word++, at++)
    if (at >= n || text[at] != *word)
      return -1;
  return at;
}

int64_t news_find(const char *text, int64_t from, int64_t to, const char *word) {
  int64_t n = (int64_t)strlen(word);
  // Two bytes reject nearly all places; setting the bit of small letters lets a few others pass, which news_at sees.
  for (int64_t at = from; at + n <= to; at++)
    if ((text[at] | 0x20) == word[0] && (text[at + 1] | 0x20) == word[1] && news_at(text, to, at, word) >= 0)
      return at;
  return -1;
}

int64_t news_skip(const char *text, int64_t n, int64_t at, const char *set) {
  while (at < n && text[at] != '\0' && strchr(set, text[at]) != NULL)
    at++;
  return at;
}

bool news_begins(const char *text, int64_t at) {
  return at == 0 || !(news_is_letter(text[at - 1]) || news_is_digit(text[at - 1]));
}

int64_t news_closing(const char *text, int64_t end) {
  if (end >= 1 && text[end - 1] != '\0' && strchr(".!?'`\")", text[end - 1]) != NULL)
    return 1;
  // The closing single and double quotation marks, U+2019 and U+201D.
  if (end >= 3 && text[end - 3] == '\xe2' && text[end - 2] == '\x80' &&
      (text[end - 1] == '\x99' || text[end - 1] == '\x9d'))
    return 3;
  return 0;
}

// Is the full stop at `at` part of a name? "J. Smith", "U.S.", "Mr. Smith".
static bool is_abbreviation(const char *text, int64_t at) {
  static const char *const titles[] = {"mr", "mrs", "ms",  "dr",  "st",  "jr", "sr",
                                       "no", "vs",  "gen", "sen", "rep", "lt"};
  int64_t first = at;
  while (first > 0 && at - first < 4 && news_is_letter(text[first - 1]))
    first--;
  if (at - first == 1)
    return news_is_upper(text[first]);
  for (size_t k = 0; k < sizeof titles / sizeof *titles; k++)
    if (news_at(text, at, first, titles[k]) == at)
      return news_is_upper(text[first]) && news_begins(text, first);
  return false;
}

int64_t news_sentence_end(const char *text, int64_t n, int64_t from, int64_t to) {
  for (int64_t at = from; at < to; at++) {
    if ((text[at] != '.' && text[at] != '!' && text[at] != '?') ||
        (text[at] == '.' && is_abbreviation(text, at)))
      continue;
    int64_t end = at + 1;
    while (end < n && end < at + MOST_CLOSING && !news_is_blank(text[end])) {
      int64_t wide = end + 3 <= n ? news_closing(text, end + 3) : 0;
      if (wide != 3 && news_closing(text, end + 1) != 1)
        break;
      end += wide == 3 ? 3 : 1;
    }
    if (end >= n || news_is_blank(text[end]))
      return end;
  }
  return -1;
}

int64_t news_last_sentence(const char *text, int64_t end, int64_t low) {
  for (int64_t at = end - 1; at > low; at--) {
    bool opens = news_is_upper(text[at]) || (text[at] & 0x80) != 0 || text[at] == '"' ||
                 news_at_exact(text, end, at, "-- ") >= 0;
    if (!news_is_blank(text[at - 1]) || !opens)
      continue;
    int64_t last = at - 1;
    while (last > low && news_is_blank(text[last - 1]))
      last--;
    int64_t mark = last;
    for (int64_t wide;
         mark > low && (wide = news_closing(text, mark)) > 0 && strchr(".!?", text[mark - 1]) == NULL;)
      mark -= wide;
    if (mark > low && strchr(".!?", text[mark - 1]) != NULL &&
        !(text[mark - 1] == '.' && mark == last && is_abbreviation(text, mark - 1)))
      return at;
  }
  return low == 0 ? 0 : -1;
}
