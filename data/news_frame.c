// Rules about what stands before and behind an article's text.
#include <string.h>

#include "data/news_private.h"

#define LONGEST_NOTE 2000    // bytes of an editor's note
#define LONGEST_PLACE 60     // of a dateline's place
#define LONGEST_SOURCE 40    // of the name in its brackets
#define LONGEST_NAME 100     // of a byline's name
#define LONGEST_CREDIT 1000  // of a sentence of credits

// --- datelines ---

// Names that stand in a dateline's brackets besides those that begin with "CNN".
static const char *const sources[] = {"the hollywood reporter",
                                      "rolling stone",
                                      "rollingstone.com",
                                      "wired",
                                      "hln",
                                      "ew.com",
                                      "entertainment weekly",
                                      "mashable",
                                      "money magazine",
                                      "money",
                                      "health.com",
                                      "health magazine",
                                      "instyle.com",
                                      "instyle",
                                      "oprah.com",
                                      "careerbuilder.com",
                                      "aol autos",
                                      "lifewire",
                                      "mental floss",
                                      "mentalfloss.com",
                                      "parenting.com",
                                      "realsimple.com",
                                      "real simple",
                                      "people.com",
                                      "people",
                                      "southern living",
                                      "budget travel",
                                      "travel + leisure",
                                      "cnet",
                                      "ars technica",
                                      "the frisky",
                                      "tribune media services",
                                      "time.com",
                                      "time",
                                      "fortune",
                                      "fortune magazine",
                                      "reuters",
                                      "ap",
                                      "billboard",
                                      "variety",
                                      "financial times",
                                      "kiplinger",
                                      "cookinglight.com",
                                      "wallpaper",
                                      "upwave.com",
                                      "golf.com",
                                      "si.com",
                                      "sports illustrated",
                                      "afp",
                                      "ft"};

static bool is_source(const char *text, int64_t first, int64_t end) {
  if (news_at_exact(text, end, first, "CNN") >= 0)
    return true;
  for (size_t k = 0; k < sizeof sources / sizeof *sources; k++)
    if (news_at(text, end, first, sources[k]) == end)
      return true;
  return false;
}

// Behind "(SOURCE)" at `at`, which must be known, or -- in articles -- be followed by a dash or, without a blank, by text.
static int64_t source_end(const char *text, int64_t n, int64_t at, bool known_only) {
  if (at >= n || text[at] != '(')
    return -1;
  int64_t end = at + 1;
  while (end < n && end - at <= LONGEST_SOURCE && text[end] != ')' && text[end] != '(' && text[end] != '\n')
    end++;
  if (end >= n || text[end] != ')' || end == at + 1)
    return -1;
  bool joined = end + 1 < n && (news_is_upper(text[end + 1]) || text[end + 1] == '"') &&
                news_is_letter(text[at + 1]);
  bool accepted = is_source(text, at + 1, end) ||
                  (!known_only && (joined || news_at(text, n, news_skip(text, n, end + 1, " "), "--") >= 0));
  return accepted ? end + 1 : -1;
}

static int64_t skip_dash(const char *text, int64_t n, int64_t at) {
  static const char *const dashes[] = {"--", "- ", "\xe2\x80\x93 ", "\xe2\x80\x94 "};
  int64_t first = news_skip(text, n, at, " ");
  for (int k = 0; k < 4; k++) {
    int64_t end = news_at_exact(text, n, first, dashes[k]);
    if (end >= 0)
      return news_skip(text, n, end, " -");
  }
  return at;
}

// Behind the dateline that begins at `at`, or `at`.
static int64_t dateline_end(const char *text, int64_t n, int64_t at, bool known_only) {
  int64_t bracket = at, word = at;
  for (; bracket < n && bracket - at < LONGEST_PLACE && text[bracket] != '('; bracket++) {
    if (text[bracket] == ' ' || text[bracket] == '.' || text[bracket] == ',') {
      if (text[bracket] == '.' && bracket - word > 3)  // the end of a sentence; "St." and "D.C." are none
        return skip_dash(text, n, at);
      word = bracket + 1;
    } else if (!news_is_letter(text[bracket]) && text[bracket] != '\'' && text[bracket] != '-' &&
               text[bracket] != '/') {
      break;
    }
  }
  bool place = bracket > at + 1 && (news_is_upper(text[at]) || (text[at] & 0x80) != 0) &&
               text[bracket - 1] == ' ';
  int64_t end = bracket == at || place ? source_end(text, n, bracket, known_only) : -1;
  if (end < 0)
    return skip_dash(text, n, at);
  return news_skip(text, n, skip_dash(text, n, end), " ");
}

void news_dateline(news_pass *pass) {
  const char *text = pass->text;
  for (int64_t line = 0; line < pass->n;) {
    int64_t at = line, end;
    while ((end = dateline_end(text, pass->n, at, pass->highlights)) > at)
      at = end;
    news_cut(pass, line, at);
    const char *newline = memchr(text + at, '\n', (size_t)(pass->n - at));
    if (!pass->highlights || newline == NULL)
      return;
    line = newline - text + 1;
  }
}

// --- notes of the editor ---

static int64_t note_label(const char *text, int64_t n, int64_t at) {
  static const char *const labels[] = {"editor's note:", "editor\xe2\x80\x99s note:", "editors note:",
                                       "editors' note:"};
  for (int k = 0; k < 4; k++)
    if (news_at(text, n, at, labels[k]) >= 0)
      return news_at(text, n, at, labels[k]);
  return -1;
}

static bool is_disclaimer(const char *text, int64_t n, int64_t at) {
  return news_at(text, n, at, "the opinions expressed ") >= 0 ||
         news_at(text, n, at, "the views expressed ") >= 0 ||
         news_at(text, n, at, "opinions expressed ") >= 0;
}

// A note in front ends where the dateline's "(CNN)" begins; without one, nobody can tell its end from the text.
static void front_note(news_pass *pass) {
  const char *text = pass->text;
  int64_t to = pass->n < LONGEST_NOTE ? pass->n : LONGEST_NOTE;
  if (note_label(text, pass->n, 0) < 0)
    return;
  for (int64_t at = 0; (at = news_find(text, at + 1, to, "(cnn)")) >= 0;)
    if (at + 5 < pass->n && (news_is_upper(text[at + 5]) || text[at + 5] == '"' ||
                             news_at(text, pass->n, news_skip(text, pass->n, at + 5, " "), "--") >= 0)) {
      news_cut(pass, 0, at);
      return;
    }
}

void news_note(news_pass *pass) {
  const char *text = pass->text;
  front_note(pass);
  int64_t low = pass->n - LONGEST_CREDIT;
  low = low < pass->copied ? pass->copied : low;
  // Behind the text: everything from the label, or a last sentence of disclaimer.
  int64_t end = pass->n, last = news_last_sentence(text, end, low), cut = -1;
  if (last > 0 && is_disclaimer(text, end, last))
    cut = end = last;
  for (int64_t at = low; at < end; at++)
    if (at > 0 && text[at - 1] == ' ' && note_label(text, end, at) >= 0) {
      cut = at;
      break;
    }
  if (cut > pass->copied)
    news_cut(pass, cut - 1, pass->n);
}

// --- bylines ---

static int64_t skip_marks(const char *text, int64_t n, int64_t at) {
  return news_skip(text, n, at, " .|\n");
}

// Behind the name that begins at `at` and its full stop; -1 where there is none.
static int64_t name_end(const char *text, int64_t n, int64_t at) {
  for (int64_t end = at; end < n && end - at < LONGEST_NAME; end++) {
    if (text[end] == '!' || text[end] == '?' || text[end] == ':' || text[end] == '"' || text[end] == '\n')
      return -1;
    bool initial = end > at && news_is_upper(text[end - 1]) && (end - 1 == at || text[end - 2] == ' ');
    if (text[end] == '.' && !initial && (end + 1 == n || news_is_blank(text[end + 1])))
      return end > at ? skip_marks(text, n, end + 1) : -1;
  }
  return -1;
}

// "14:11 EST, 25 October 2013", with marks around it.
static int64_t time_end(const char *text, int64_t n, int64_t at) {
  int64_t first = at = skip_marks(text, n, at), digits;
  digits = news_skip(text, n, at, "0123456789");
  if (digits == first || digits - first > 2 || digits >= n || text[digits] != ':')
    return -1;
  // The year closes it.
  for (int64_t end = digits; end + 4 <= n && end - digits < 40; end++)
    if (text[end - 1] == ' ' && news_skip(text, end + 4, end, "0123456789") == end + 4 &&
        (end + 4 == n || !news_is_digit(text[end + 4])))
      return skip_marks(text, n, end + 4);
  return -1;
}

static int64_t updated_end(const char *text, int64_t n, int64_t at) {
  for (int64_t end = at; end + 4 <= n && end - at < 50 && text[end] != '.'; end++)
    if (end > at && text[end - 1] == ' ' && news_skip(text, end + 4, end, "0123456789") == end + 4 &&
        (end + 4 == n || !news_is_digit(text[end + 4])))
      return skip_marks(text, n, end + 4);
  return -1;
}

// Behind one piece of a byline at `at`, or -1. `opened`: pieces stood before it.
static int64_t byline_piece(const char *text, int64_t n, int64_t at, bool opened) {
  static const char *const labels[] = {"PUBLISHED:", "UPDATED:", "CREATED:",
                                       "Published:", "Updated:", "Created:"};
  int64_t end;
  for (int k = 0; k < 6; k++)
    if ((end = news_at_exact(text, n, at, labels[k])) >= 0)
      return time_end(text, n, end);
  if ((end = news_at(text, n, at, "last updated at ")) >= 0)
    return updated_end(text, n, end);
  if (news_at_exact(text, n, at, "By.") >= 0 || news_at_exact(text, n, at, "By .") >= 0)
    return name_end(text, n, skip_marks(text, n, at + 2));
  if ((end = news_at_exact(text, n, at, "Follow @")) >= 0) {
    while (end < n && !news_is_blank(text[end]))
      end++;
    return skip_marks(text, n, end);
  }
  if (opened &&
      ((end = news_at_exact(text, n, at, "and ")) >= 0 || (end = news_at_exact(text, n, at, "for ")) >= 0))
    return name_end(text, n, end);
  // "By A Name PUBLISHED: ...": without marks, the time tells where the name ends.
  if (!opened && (end = news_at_exact(text, n, at, "By ")) >= 0)
    for (int64_t next = end; next < n && next - end < LONGEST_NAME; next++)
      if (text[next - 1] == ' ' && (text[next] == 'P' || text[next] == 'U' || text[next] == 'L') &&
          byline_piece(text, n, next, true) >= 0)
        return next;
  return -1;
}

void news_byline(news_pass *pass) {
  int64_t at = 0;
  bool opened = false;
  for (int64_t end; (end = byline_piece(pass->text, pass->n, at, opened)) > at; opened = true)
    at = end;
  news_cut(pass, 0, at);
}

// --- credits ---

static bool is_credit(const char *text, int64_t from, int64_t to) {
  static const char *const anywhere[] = {"contributed to this ",  "contributed to the report",
                                         "contributed reporting", "contributed from ",
                                         " reported and wrote",   " wrote and reported",
                                         " wrote this story",     " wrote the story",
                                         " wrote this report",    " also contributed."};
  static const char *const from_place[] = {" reported from ", " wrote from ", " reported in ", " wrote in ",
                                           " reporting from "};
  for (int k = 0; k < 10; k++)
    if (news_find(text, from, to, anywhere[k]) >= 0)
      return true;
  for (int k = 0; k < 5; k++) {
    int64_t at = news_find(text, from, to, from_place[k]);
    int64_t place = at < 0 ? to : at + (int64_t)strlen(from_place[k]);
    if (place < to && news_is_upper(text[place]) && memchr(text + from, '"', (size_t)(to - from)) == NULL)
      return true;
  }
  return false;
}

void news_credits(news_pass *pass) {
  const char *text = pass->text;
  int64_t end = pass->n;
  for (;;) {
    int64_t low = end > LONGEST_CREDIT ? end - LONGEST_CREDIT : 0, last = news_last_sentence(text, end, low);
    if (last < 1 || !is_credit(text, last, end))
      break;
    for (end = last; end > 0 && news_is_blank(text[end - 1]);)
      end--;
  }
  if (end > 0)
    news_cut(pass, end, pass->n);
}

// --- marks of news in highlights ---

void news_update(news_pass *pass) {
  static const char *const labels[] = {"NEW:", "NEW :", "UPDATE:", "UPDATED:", "BREAKING:"};
  const char *text = pass->text;
  for (int64_t line = 0; line < pass->n;) {
    int64_t at = line;
    for (int k = 0; k < 5; k++) {
      int64_t end = news_at_exact(text, pass->n, at, labels[k]);
      if (end >= 0) {
        at = news_skip(text, pass->n, end, " ");
        k = -1;
      }
    }
    news_cut(pass, line, at);
    const char *newline = memchr(text + at, '\n', (size_t)(pass->n - at));
    if (newline == NULL)
      return;
    line = newline - text + 1;
  }
}
