// Rules about what stands between an article's sentences.
#include <string.h>

#include "data/news_private.h"

#define LONGEST_VIDEO 160  // bytes from "Scroll down" to its end
#define LONGEST_LINK 200
#define LONGEST_HOLDER 80

static bool behind_sentence(const char *text, int64_t at) {
  return at == 0 || (news_is_blank(text[at - 1]) && news_closing(text, at - 1) > 0);
}

// Cuts text[from..to); between what stays, one blank stays.
static void cut_out(news_pass *pass, int64_t from, int64_t to) {
  const char *text = pass->text;
  to = news_skip(text, pass->n, to, " ");
  if (from > pass->copied && to == pass->n)
    while (from > pass->copied && news_is_blank(text[from - 1]))
      from--;
  bool join = from > 0 && to < pass->n && !news_is_blank(text[from - 1]) && text[to] != '\n';
  news_replace(pass, from, to, " ", join);
}

void news_video(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; (at = news_find(text, at, n, "scroll down ")) >= 0;) {
    int64_t phrase = at, first = at, limit = at + LONGEST_VIDEO < n ? at + LONGEST_VIDEO : n, end;
    at += 12;
    if (!news_begins(text, phrase))
      continue;
    if (phrase >= 6 && news_at_exact(text, n, phrase - 6, "VIDEO ") >= 0 && phrase - 6 >= pass->copied)
      first = phrase - 6;
    else if (phrase >= 7 && news_at_exact(text, n, phrase - 7, "VIDEO: ") >= 0 && phrase - 7 >= pass->copied)
      first = phrase - 7;
    if ((end = news_at(text, n, at, "for video")) >= 0) {
      end += end < n && (text[end] == 's' || text[end] == 'S');
    } else if (news_at(text, n, at, "to watch") >= 0 || news_at(text, n, at, "to see") >= 0 ||
               news_at(text, n, at, "for ") >= 0) {
      if (!behind_sentence(text, first) || (end = news_sentence_end(text, n, at, limit)) < 0)
        continue;
    } else {
      continue;
    }
    if (first < pass->copied || !news_begins(text, first))
      continue;
    at = news_skip(text, n, end, " .:");
    cut_out(pass, first, at);
  }
}

void news_friend(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; (at = news_find(text, at, n, "mail to a friend")) >= 0;) {
    int64_t first = at, end = news_skip(text, n, at + 16, " .|");
    first -= first > 0 && text[first - 1] == '-';
    first -= first > 0 && (text[first - 1] == 'e' || text[first - 1] == 'E');
    at = end;
    if (behind_sentence(text, first) && first >= pass->copied)
      cut_out(pass, first, end);
  }
}

void news_comments(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; (at = news_find(text, at, n, "sorry we are ")) >= 0;) {
    int64_t limit = at + LONGEST_LINK < n ? at + LONGEST_LINK : n;
    int64_t end = news_sentence_end(text, n, at, limit);
    int64_t word = news_find(text, at, end < 0 ? limit : end, "accept");
    if (end < 0 || word < 0 || news_find(text, word, end, "comments") < 0 || !behind_sentence(text, at)) {
      at++;
      continue;
    }
    cut_out(pass, at, end);
    at = end;
  }
}

// Behind "Copyright (c) 2011 Wired.com." and the reservations that follow, or -1.
static int64_t notice_end(const char *text, int64_t n, int64_t at) {
  int64_t end = news_at(text, n, at, "copyright "), sign;
  bool word = end >= 0;
  end = word ? end : at;
  if ((sign = news_at_exact(text, n, end, "\xc2\xa9")) < 0)
    sign = word ? news_at(text, n, end, "(c)") : -1;
  if (sign < 0 && !word)
    return -1;
  end = news_skip(text, n, sign < 0 ? end : sign, " ");
  int64_t year = news_skip(text, n, end, "0123456789");
  if (year - end != 4)
    return -1;
  for (end = year; end < n && end - year < LONGEST_HOLDER; end++)
    if (text[end] == '.' && (end + 1 == n || news_is_blank(text[end + 1])))
      return end + 1;
  return end == n ? n : -1;
}

static int64_t reservation_end(const char *text, int64_t n, int64_t at) {
  static const char *const phrases[] = {"all rights reserved", "some rights reserved",
                                        "this material may not be published"};
  for (int k = 0; k < 3; k++) {
    int64_t end = news_at(text, n, at, phrases[k]);
    if (end < 0)
      continue;
    if (k == 2) {
      int64_t last = news_find(text, end, end + LONGEST_HOLDER < n ? end + LONGEST_HOLDER : n,
                               "redistributed");
      end = last < 0 ? end : last + 13;
    }
    return news_skip(text, n, end, ".");
  }
  return -1;
}

void news_rights(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; at < n; at++) {
    if (at > 0 && !news_is_blank(text[at - 1]))
      continue;
    if ((text[at] != '\xc2' && strchr("cast", text[at] | 0x20) == NULL) || !behind_sentence(text, at) ||
        at < pass->copied)
      continue;
    int64_t end = notice_end(text, n, at), more;
    if (end < 0)
      end = reservation_end(text, n, at);
    if (end < 0)
      continue;
    while ((more = reservation_end(text, n, news_skip(text, n, end, " "))) >= 0)
      end = more;
    cut_out(pass, at, end);
    at = end - 1;
  }
}

// Openings of references to other pages. Case as written: "Read more" inside a sentence has a small letter.
static const char *const links[] =
    {"READ MORE:",  "Read more:",    "READ:",       "Read:",       "READ THIS:",
     "Read this:",  "MORE:",         "More:",       "See more:",   "SEE MORE:",
     "SEE ALSO:",   "See also:",     "RELATED:",    "Related:",    "WATCH:",
     "Watch:",      "OPINION:",      "Opinion:",    "PHOTOS:",     "Photos:",
     "CLICK HERE",  "Click here ",   "READ MORE ",  "More from ",  "Social media. Follow @",
     "Follow @CNN", "Follow us on ", "Join us on ", "Like us on ", "See the original story at "};

void news_links(news_pass *pass) {
  const char *text = pass->text;
  int64_t n = pass->n;
  for (int64_t at = 0; at < n; at++) {
    if (!news_is_upper(text[at]) || at < pass->copied || !behind_sentence(text, at))
      continue;
    for (size_t k = 0; k < sizeof links / sizeof *links; k++) {
      int64_t end = news_at_exact(text, n, at, links[k]),
              limit = at + LONGEST_LINK < n ? at + LONGEST_LINK : n;
      if (end < 0 || (end = news_sentence_end(text, n, end, limit)) < 0)
        continue;
      cut_out(pass, at, end);
      at = end - 1;
      break;
    }
  }
}

bool news_is_transcript(const char *text, int64_t n) {
  int64_t head = n < 2000 ? n : 2000;
  if (news_find(text, 0, head, "this is a rush transcript") >= 0 ||
      news_find(text, 0, head, "when the video is available and when the transcript is published") >= 0)
    return true;
  return news_find(text, 0, head, "cnn student news") >= 0 &&
         (news_find(text, 0, head, "transcript") >= 0 || news_find(text, 0, head, "daily discussion") >= 0 ||
          news_find(text, 0, head, "media literacy") >= 0 || news_find(text, 0, head, "newsquiz") >= 0 ||
          news_find(text, 0, head, "learning activity") >= 0);
}
