// What the files data/news_*.c share: a rule is one pass over a text that cuts pieces out or replaces them.
#ifndef SELFSPAN_DATA_NEWS_PRIVATE_H
#define SELFSPAN_DATA_NEWS_PRIVATE_H

#include "data/news_clean.h"

typedef struct {
  const char *text;  // n bytes
  int64_t n;
  bool highlights;
  news_text *target;
  int64_t copied, written;  // text[0..copied) has become target->spare[0..written)
  int64_t places;
  ss_status status;
  ss_error *error;
} news_pass;

// Replaces text[from..to) by n bytes. Cuts come in order and do not overlap; one that changes nothing does not count.
void news_replace(news_pass *pass, int64_t from, int64_t to, const char *by, int64_t n);
static inline void news_cut(news_pass *pass, int64_t from, int64_t to) {
  news_replace(pass, from, to, "", 0);
}

// --- news_spacing.c ---

void news_blanks(news_pass *pass);
void news_lines(news_pass *pass);
void news_tokens(news_pass *pass);
void news_endings(news_pass *pass);

// --- news_frame.c: what stands before and behind the text ---

void news_note(news_pass *pass);
void news_dateline(news_pass *pass);
void news_byline(news_pass *pass);
void news_credits(news_pass *pass);
void news_update(news_pass *pass);

// --- news_inserts.c: what stands between its sentences ---

void news_video(news_pass *pass);
void news_friend(news_pass *pass);
void news_comments(news_pass *pass);
void news_rights(news_pass *pass);
void news_links(news_pass *pass);
bool news_is_transcript(const char *text, int64_t n);

// --- news_match.c: looking at text[0..n); positions from 0 to n; letters are ASCII's ---

// Does `word` (lower case: in any case) stand at `at`? Returns the position behind it, or -1.
int64_t news_at(const char *text, int64_t n, int64_t at, const char *word);
// The same with case as written.
int64_t news_at_exact(const char *text, int64_t n, int64_t at, const char *word);
// The first `word` (lower case: in any case; two bytes or more) in text[from..to), or -1.
int64_t news_find(const char *text, int64_t from, int64_t to, const char *word);
// Behind all bytes that are in `set`.
int64_t news_skip(const char *text, int64_t n, int64_t at, const char *set);
// Does a word or line begin at `at`?
bool news_begins(const char *text, int64_t at);
bool news_is_blank(char byte);
bool news_is_upper(char byte);
bool news_is_lower(char byte);
bool news_is_digit(char byte);
bool news_is_letter(char byte);  // or part of a character beyond ASCII
// Bytes of the closing mark (. ! ? quotes, brackets) that ends text[0..end), or 0.
int64_t news_closing(const char *text, int64_t end);
// Behind the first sentence end in text[from..to) (its closing quotes included), or -1. Initials and titles do not end one.
int64_t news_sentence_end(const char *text, int64_t n, int64_t from, int64_t to);
// Where the last sentence of text[0..end) begins, not before `low`; -1 where no sentence ends between.
int64_t news_last_sentence(const char *text, int64_t end, int64_t low);

#endif
