// Cleaning of news articles and their highlights: what CNN's and the Daily Mail's pages put around the text, as named
// rules that are switched one by one and counted.
//
// The texts are those of CNN/DailyMail (Hermann et al., arXiv 1506.03340) in any of their forms: published rows, where
// paragraphs were joined by blanks and a paragraph without a full stop got " ."; copies with other spacing; .story
// files with their line breaks; and copies tokenised in the manner of the Penn Treebank.
//
// Rules work on bytes of UTF-8 in place, in a fixed order, again and again until none applies (at most NEWS_MOST_PASSES
// times, which no text reaches that was not made for it): cleaning a clean text changes nothing. The result depends
// on text and rules alone. Bytes that are no well-formed UTF-8 pass through.
#ifndef SELFSPAN_DATA_NEWS_CLEAN_H
#define SELFSPAN_DATA_NEWS_CLEAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define NEWS_MOST_PASSES 100

// In the order in which they are applied. A: in articles, H: in highlights.
typedef enum {
  NEWS_BLANKS,  // AH  "a\u00a0 b\u200b " -> "a b": Unicode's blanks, control and zero-width characters, runs of blanks
  NEWS_LINES,    // A   "By\n\nA Name" -> "By. A Name": lines are joined, those without a closing mark get "."
                 //  H  empty lines are left out
  NEWS_TOKENS,   // AH  "he did n't -LRB- `` so '' -RRB- , ok" -> "he didn't (\"so\"), ok"
  NEWS_ENDINGS,  // AH  "kidney ." -> "kidney."; a highlight without a closing mark gets "."
  NEWS_NOTE,     // A   "Editor's note: Ann Author is ... (CNN) -- It" -> "(CNN) -- It"
  NEWS_DATELINE,  // AH  "LONDON, England (CNN) -- It" -> "It"; "(CNN)It"; "(The Hollywood Reporter)It"; "-- It" -> "It"
  NEWS_BYLINE,  // A   "By. A Name. PUBLISHED:. 08:00 EST, 1 May 2013. |. UPDATED:. 09:00 EST, 1 May 2013. It" -> "It";
                //     "Last updated at 1:25 AM on 3rd August 2011. It"; "Follow @@a_name. It"
  NEWS_VIDEO,     // A   "It. Scroll down for video. Is" -> "It. Is"
  NEWS_FRIEND,    // A   "It. E-mail to a friend." -> "It."
  NEWS_COMMENTS,  // A   "It. Sorry we are not currently accepting comments on this article." -> "It."
  NEWS_RIGHTS,  // A   "It. ©2015 The Hollywood Reporter. All rights reserved." -> "It."; "Copyright 2011 Wired.com."
  NEWS_CREDITS,     // A   "It. CNN's Ann Author contributed to this report." -> "It.", at the end
  NEWS_LINKS,       // A   "It. READ MORE: Another article. Is" -> "It. Is"
  NEWS_UPDATE,      //  H  "NEW: It" -> "It"
  NEWS_TRANSCRIPT,  // A   drops pages that are no articles: transcripts and guides of CNN Student News
  NEWS_N_RULE
} news_rule;

#define NEWS_ALL ((1u << NEWS_N_RULE) - 1)

// A growing text, zero-terminated once something was put in. A zeroed struct is empty; free with news_text_free.
typedef struct {
  char *data;
  int64_t n, capacity;
  char *spare;  // where rules write their result
  int64_t spare_capacity;
} news_text;

ss_status news_text_set(news_text *text, const char *from, int64_t n, ss_error *error);
void news_text_free(news_text *text);

// What the rules did, to be added up over texts and threads. Zero-initialise.
typedef struct {
  int64_t n_text;               // texts cleaned
  int64_t texts[NEWS_N_RULE];   // of these, texts that the rule changed (NEWS_TRANSCRIPT: dropped)
  int64_t places[NEWS_N_RULE];  // places that it changed, over all texts
} news_counts;

void news_counts_add(news_counts *total, const news_counts *more);

// "blanks", "lines", ...
const char *news_rule_name(news_rule rule);

// A set of rules from a configuration's text: names separated by commas; "all", "none"; "-NAME" takes one away. An empty
// text is none. "all,-credits". Unknown names fail with the nearest known one (SS_ERROR_USAGE).
ss_status news_rules_parse(const char *text, uint32_t *rules, ss_error *error);

// Cleans an article in place: one paragraph without line breaks (with NEWS_LINES). *drop is set where the page is no
// article. `counts` may be NULL. Fails only for want of memory.
ss_status news_clean_article(news_text *text, uint32_t rules, news_counts *counts, bool *drop,
                             ss_error *error);

// Cleans highlights in place: summary sentences separated by single newlines, none at the end, none of them empty
// (with NEWS_LINES). Fails only for want of memory.
ss_status news_clean_highlights(news_text *text, uint32_t rules, news_counts *counts, ss_error *error);

#endif
