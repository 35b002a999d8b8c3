// Rules about blanks, lines, tokens and the ends of sentences.
#include <string.h>

#include "data/news_private.h"

// --- blanks ---

typedef enum { OTHER, BLANK, LINE, NOTHING } blank_kind;

// What stands at text[at] and how many bytes it takes; OTHER is one byte.
static blank_kind classify(const unsigned char *text, int64_t n, int64_t at, int64_t *length) {
  unsigned char a = text[at], b = at + 1 < n ? text[at + 1] : 0, c = at + 2 < n ? text[at + 2] : 0;
  *length = 1;
  if (a == '\n')
    return LINE;
  if (a <= ' ' || a == 0x7f)
    return BLANK;
  if (a < 0xc2)
    return OTHER;
  *length = 2;
  if (a == 0xc2 && b >= 0x80 && b <= 0xa0)  // C1 controls, the no-break space
    return BLANK;
  if (a == 0xc2 && b == 0xad)  // the soft hyphen
    return NOTHING;
  *length = 3;
  if (a == 0xe2 && b == 0x80) {
    if ((c >= 0x80 && c <= 0x8a) || c == 0xaf)  // U+2000 to U+200A, U+202F
      return BLANK;
    if (c == 0xa8 || c == 0xa9)  // line and paragraph separators
      return LINE;
    if (c == 0x8b || c == 0x8e || c == 0x8f ||
        (c >= 0xaa && c <= 0xae))  // zero width, directions; joiners stay
      return NOTHING;
  }
  if (a == 0xe2 && b == 0x81 && c == 0x9f)
    return BLANK;
  if (a == 0xe2 && b == 0x81 && (c == 0xa0 || (c >= 0xa6 && c <= 0xa9)))  // the word joiner, isolates
    return NOTHING;
  if ((a == 0xe1 && b == 0x9a && c == 0x80) || (a == 0xe3 && b == 0x80 && c == 0x80))  // U+1680, U+3000
    return BLANK;
  if ((a == 0xef && b == 0xbb && c == 0xbf) || (a == 0xe1 && b == 0xa0 && c == 0x8e))  // U+FEFF, U+180E
    return NOTHING;
  *length = 1;
  return OTHER;
}

void news_blanks(news_pass *pass) {
  const unsigned char *text = (const unsigned char *)pass->text;
  int64_t n = pass->n, length;
  for (int64_t at = 0; at < n;) {
    bool plain = text[at] > ' ' && text[at] < 0x7f;
    // Most blanks stand alone between two letters.
    bool alone = text[at] == ' ' && at > 0 && at + 1 < n && text[at + 1] > ' ' && text[at + 1] < 0x7f;
    if (plain || alone) {
      at++;
      continue;
    }
    int64_t first = at;
    bool blank = false, line = false;
    for (blank_kind kind; at < n && (kind = classify(text, n, at, &length)) != OTHER; at += length) {
      blank = blank || kind == BLANK;
      line = line || kind == LINE;
    }
    if (at == first)
      at++;
    else if (first == 0 || at == n)
      news_cut(pass, first, at);
    else
      news_replace(pass, first, at, line ? "\n" : " ", line || blank);
  }
}

// --- lines ---

// Behind what takes no full stop: a closing mark, or a mark after which more is to come.
static bool is_closed(const char *text, int64_t end) {
  return end == 0 || news_closing(text, end) > 0 || strchr(":;,", text[end - 1]) != NULL;
}

void news_lines(news_pass *pass) {
  const char *text = pass->text;
  for (int64_t at = 0; at < pass->n; at++) {
    const char *newline = memchr(text + at, '\n', (size_t)(pass->n - at));
    if (newline == NULL)
      return;
    at = newline - text;
    int64_t first = at, end = at;
    while (first > pass->copied && news_is_blank(text[first - 1]))
      first--;
    while (end < pass->n && news_is_blank(text[end]))
      end++;
    if (first == 0 || end == pass->n)
      news_cut(pass, first, end);
    else if (pass->highlights)
      news_replace(pass, first, end, "\n", 1);
    else if (is_closed(text, first) || news_is_lower(text[end]))  // a line broken inside a sentence
      news_replace(pass, first, end, " ", 1);
    else
      news_replace(pass, first, end, ". ", 2);
    at = end - 1;
  }
}

// --- tokens ---

typedef struct {
  const char *token, *text;
  bool before, after;  // the blank before, behind it goes with it
} token_rule;

static const token_rule brackets[] = {
    {"-lrb-", "(", false, true}, {"-rrb-", ")", true, false}, {"-lsb-", "[", false, true},
    {"-rsb-", "]", true, false}, {"-lcb-", "{", false, true}, {"-rcb-", "}", true, false},
    {"``", "\"", false, true},   {"''", "\"", true, false},
};

// Tokens that join what stands before them: the first few in words, the others marks.
static const char *const suffixes[] = {"n't", "'s", "'re", "'ve", "'ll", "'m", "'d", ",",
                                       ";",   ":",  "?",   "!",   "%",   ")",  "]",  "'"};
#define N_WORD_SUFFIX 7

// The blank at `at` goes when a suffix stands behind it, as a token of its own.
static bool joins(const char *text, int64_t n, int64_t at) {
  char next = at + 1 < n ? text[at + 1] : ' ';
  if (at == 0 || (next > '?' && next != 'n' && next != ']') || next == ' ' || news_is_blank(text[at - 1]))
    return false;
  for (size_t k = 0; k < sizeof suffixes / sizeof *suffixes; k++) {
    int64_t end = news_at_exact(text, n, at + 1, suffixes[k]);
    if (end >= 0 && (end == n || news_is_blank(text[end]) ||
                     (k < N_WORD_SUFFIX && text[end] != '\0' && strchr(".,;:?!)", text[end]) != NULL)))
      return true;
  }
  return false;
}

void news_tokens(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; at < n; at++) {
    if (text[at] > '-' && text[at] != '[' && text[at] != '`')
      continue;
    if (text[at] == ' ' && at >= pass->copied && joins(text, n, at)) {
      news_cut(pass, at, at + 1);
      continue;
    }
    if ((text[at] == '(' || text[at] == '[' || text[at] == '$') && at + 2 < n && text[at + 1] == ' ' &&
        (text[at] != '$' || news_is_digit(text[at + 2])) && (at == 0 || news_is_blank(text[at - 1]))) {
      news_cut(pass, at + 1, at + 2);
      at++;
      continue;
    }
    if (text[at] == '`' && at + 1 < n && text[at + 1] == ' ' && (at == 0 || news_is_blank(text[at - 1]))) {
      news_replace(pass, at, at + 2, "'", 1);
      at++;
      continue;
    }
    if (text[at] != '-' && text[at] != '`' && text[at] != '\'')
      continue;
    for (size_t k = 0; k < sizeof brackets / sizeof *brackets; k++) {
      int64_t end = news_at(text, n, at, brackets[k].token), first = at;
      if (end < 0)
        continue;
      if (brackets[k].after && end + 1 < n && text[end] == ' ')
        end++;
      bool token = end == n || news_is_blank(text[end]);
      if (brackets[k].before && token && first > pass->copied && text[first - 1] == ' ')
        first--;
      news_replace(pass, first, end, brackets[k].text, 1);
      at = end - 1;
      break;
    }
  }
}

// --- ends of sentences ---

static bool ends_here(const char *text, int64_t n, int64_t at) {
  return at >= n || news_is_blank(text[at]) || news_closing(text, at + 1) == 1 ||
         (at + 3 <= n && news_closing(text, at + 3) == 3);
}

// " ." was put behind a paragraph without a closing mark.
static void repair_stop(news_pass *pass, int64_t at) {
  const char *text = pass->text;
  int64_t n = pass->n, after = at + 2;
  if (at == 0 || !ends_here(text, n, after) || (after < n && text[after] == '.') ||
      news_at_exact(text, n, after, " .") >= 0 || (text[at - 1] == '.' && (at < 2 || text[at - 2] == ' ')))
    return;
  int64_t mark = at - 1;  // in front of a closing quote
  while (mark > 0 && text[mark] != '.' && news_closing(text, mark + 1) > 0)
    mark -= news_closing(text, mark + 1);
  bool closed = text[at - 1] == '\n' || strchr(":;,", text[at - 1]) != NULL ||
                strchr(".!?", text[mark < 0 ? 0 : mark]) != NULL;
  bool goes_on = after + 1 < n && text[after] == ' ' && news_is_lower(text[after + 1]);
  if (closed || goes_on)
    news_cut(pass, at, after);
  else
    news_cut(pass, at, at + 1);
}

void news_endings(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; at <= n; at++) {
    const char *stop = pass->highlights ? NULL : memchr(text + at, '.', (size_t)(n - at));
    if (!pass->highlights && stop == NULL)
      return;
    if (stop != NULL && stop > text + at + 1)
      at = stop - text - 1;  // in articles, " ." alone counts
    if (at + 1 < n && text[at] == ' ' && text[at + 1] == '.' && at >= pass->copied)
      repair_stop(pass, at);
    bool line_ends = pass->highlights && (at == n || text[at] == '\n') && at > 0 && text[at - 1] != '\n';
    if (line_ends && at > pass->copied && !is_closed(text, at) && text[at - 1] != ' ')
      news_replace(pass, at, at, ".", 1);
  }
}
