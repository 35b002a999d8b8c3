// Cleaning of news: each rule on what it is for and on what it must leave; cleaning twice is cleaning once.
#include "data/news_clean.h"
#include "data/rows.h"
#include "tests/helpers.h"

static char *cleaned(const char *text, const char *rules, bool highlights, bool *drop, news_counts *counts) {
  ss_error error = {0};
  news_text buffer = {0};
  uint32_t set = 0;
  assert_ok(news_rules_parse(rules, &set, &error));
  assert_ok(news_text_set(&buffer, text, (int64_t)strlen(text), &error));
  if (highlights)
    assert_ok(news_clean_highlights(&buffer, set, counts, &error));
  else
    assert_ok(news_clean_article(&buffer, set, counts, drop, &error));
  assert_int_equal(strlen(buffer.data), buffer.n);
  free(buffer.spare);
  return buffer.data;
}

static void expect(const char *text, const char *rules, bool highlights, const char *expected) {
  bool drop = false;
  char *result = cleaned(text, rules, highlights, &drop, NULL);
  if (strcmp(result, expected) != 0)
    fail_msg("%s of \"%s\" is \"%s\", expected \"%s\"", rules, text, result, expected);
  assert_false(drop);
  free(result);
}

static void article(const char *text, const char *rules, const char *expected) {
  expect(text, rules, false, expected);
}

static void highlights(const char *text, const char *rules, const char *expected) {
  expect(text, rules, true, expected);
}

static void blanks_and_lines(void **state) {
  (void)state;
  article(" a\xc2\xa0 b\xe2\x80\x8b \t\r\n c\xe2\x80\x89"
          "d\xef\xbb\xbf ",
          "blanks", "a b\nc d");
  article("fam\xe2\x80\x8dily na\xc2\xadive", "blanks",
          "fam\xe2\x80\x8dily naive");  // joiners stay, soft hyphens go
  article("a\xc2", "blanks", "a\xc2");  // not well-formed: left
  article("a b", "blanks", "a b");
  article("By\n\nA Name\nHe said \"yes\"\nand left.\nTitle:\n\nText\n", "blanks,lines",
          "By. A Name. He said \"yes\" and left. Title: Text");
  article("a line broken\nin a sentence", "lines", "a line broken in a sentence");
  highlights("a\n\n\nb\n", "lines", "a\nb");
  article("", "all", "");
  article(" \n ", "all", "");
}

static void tokens(void **state) {
  (void)state;
  article("he did n't -LRB- `` so '' -RRB- , ok ? It 's $ 5 , the boys ' toys", "tokens",
          "he didn't (\"so\"), ok? It's $5, the boys' toys");
  article("-lsb- x -rsb- ; ` so '", "tokens", "[x]; 'so'");
  article("the camp 're-educated' him: ''If they", "tokens", "the camp 're-educated' him: \"If they");
  article("a ,b :) 's", "tokens", "a ,b :)'s");
}

static void endings(void **state) {
  (void)state;
  highlights("to a stranger .\nsix patients\n\"quoted\"", "endings",
             "to a stranger.\nsix patients.\n\"quoted\"");
  article("A title . The text ... and . . . so .45 calibre. End .", "endings",
          "A title. The text ... and . . . so .45 calibre. End.");
  article("PUBLISHED: . x. . my family.\" . a line . broken .", "endings",
          "PUBLISHED: x. my family.\" a line broken.");
}

static void datelines(void **state) {
  (void)state;
  article("LONDON, England (CNN) -- It", "dateline", "It");
  article("(CNN)It", "dateline", "It");
  article("(CNN Student News) -- It", "dateline", "It");
  article("(CNN) -- (CNN) - It", "dateline", "It");
  article("(The Hollywood Reporter)It", "dateline", "It");
  article("Omaha, Nebraska (the Heartland Project)When", "dateline", "When");
  article("St. John's, S\xc3\xa3o (Reuters) \xe2\x80\x94 \"It\"", "dateline", "\"It\"");
  article("-- It -- is", "dateline", "It -- is");
  article("Barack Obama (the president) went", "dateline", "Barack Obama (the president) went");
  article("He joined a network. Later (CNN) it", "dateline", "He joined a network. Later (CNN) it");
  highlights("(CNN) -- It\nNo (yes)It", "dateline", "It\nNo (yes)It");
  article("Editor's note: Ann is. She writes. (CNN) -- It", "note", "(CNN) -- It");
  article("It. Editor\xe2\x80\x99s Note: CNN covers this. Follow the show.", "note", "It.");
  article("It. The opinions expressed here are solely those of the author.", "note", "It.");
  article("Editor's note: Ann is. It", "note", "Editor's note: Ann is. It");
}

static void bylines(void **state) {
  (void)state;
  article("By . Daily Mail Reporter . PUBLISHED: . 08:00 EST, 1 May 2013 . | . UPDATED: . 09:00 EST, 1 May "
          "2013 . It",
          "endings,byline", "It");
  article("By. A J. Name. and B Name. for MailOnline. UPDATED:. 23:59 GMT, 31 December 2012. It", "byline",
          "It");
  article(
      "By\n\nA Name\n\nPUBLISHED:\n\n08:00 EST, 1 May 2013\n\n|\n\nUPDATED:\n\n09:00 EST, 2 May 2013\n\nIt",
      "blanks,lines,byline", "It");
  article("By A Name PUBLISHED: 08:00 EST, 1 May 2013 | UPDATED: 09:00 EST, 1 May 2013 It", "byline", "It");
  article("Last updated at 1:25 AM on 3rd August 2011. It", "byline", "It");
  article("By. A Name. Follow @@a_name. It", "byline", "It");
  article("By the way, it is. PUBLISHED: soon", "byline", "By the way, it is. PUBLISHED: soon");
}

static void inserts(void **state) {
  (void)state;
  article("It. Scroll down for video. Is", "video", "It. Is");
  article("It. SCROLL DOWN FOR VIDEOS", "video", "It.");
  article("It. VIDEO Scroll down to watch Messi score. Is", "video", "It. Is");
  article("It said to scroll down the page. Is", "video", "It said to scroll down the page. Is");
  article("It. E-mail to a friend. | Is. Email to a friend", "friend", "It. Is.");
  article("It is an e-mail to a friend", "friend", "It is an e-mail to a friend");
  article("It. Sorry we are not currently accepting comments on this article.", "comments", "It.");
  article("It. Sorry we are late.", "comments", "It. Sorry we are late.");
  article("It. \xc2\xa9"
          "2015 The Hollywood Reporter. All rights reserved.",
          "rights", "It.");
  article("It! Copyright 2011 Wired.com. Is", "rights", "It! Is");
  article("It. Copyright 2009 Reuters. All rights reserved.This material may not be published, broadcast, "
          "rewritten, or "
          "redistributed.",
          "rights", "It.");
  article("It. Copyright law of 1976", "rights", "It. Copyright law of 1976");
  article("It. CNN's Ann E. Author contributed to this report.", "credits", "It.");
  article("It.\" CNN's A reported from Rome; B wrote from Oslo. Mr. C contributed to this story", "credits",
          "It.\"");
  article("She contributed to this report. It is", "credits", "She contributed to this report. It is");
  article("CNN's Ann contributed to this report.", "credits",
          "CNN's Ann contributed to this report.");  // all there is
  article("It. READ MORE: Another article? Is. Read this: One. More from Two. So", "links", "It. Is. So");
  article("Please read more: it. He said READ: a book", "links",
          "Please read more: it. He said READ: a book");
  highlights("NEW: It\nUPDATE: NEW: Is\nSo NEW: it", "update", "It\nIs\nSo NEW: it");
}

static void transcripts_are_dropped(void **state) {
  (void)state;
  bool drop = false;
  news_counts counts = {0};
  free(cleaned("(CNN Student News) -- March 5. Click here for the transcript of today's program.", "all",
               false, &drop, &counts));
  assert_true(drop);
  free(cleaned("(CNN Student News) -- March 5. The transcript.", "all,-transcript", false, &drop, &counts));
  assert_false(drop);
  free(cleaned("It. THIS IS A RUSH TRANSCRIPT. IT MAY CHANGE.", "transcript", false, &drop, &counts));
  assert_true(drop);
  assert_int_equal(counts.n_text, 3);
  assert_int_equal(counts.texts[NEWS_TRANSCRIPT], 2);
}

static void rules_are_named_and_counted(void **state) {
  (void)state;
  ss_error error = {0};
  uint32_t rules = 7;
  bool drop = false;
  news_counts counts = {0}, total = {.n_text = 1};
  assert_ok(news_rules_parse("", &rules, &error));
  assert_int_equal(rules, 0);
  assert_ok(news_rules_parse("all", &rules, &error));
  assert_int_equal(rules, NEWS_ALL);
  assert_ok(news_rules_parse(" all, -credits ,-links", &rules, &error));
  assert_int_equal(rules, NEWS_ALL & ~(1u << NEWS_CREDITS) & ~(1u << NEWS_LINKS));
  assert_ok(news_rules_parse("all,none,video", &rules, &error));
  assert_int_equal(rules, 1u << NEWS_VIDEO);
  for (int k = 0; k < NEWS_N_RULE; k++) {
    assert_ok(news_rules_parse(news_rule_name((news_rule)k), &rules, &error));
    assert_int_equal(rules, 1u << k);
  }
  assert_refused(news_rules_parse("all,-bylines", &rules, &error), SS_ERROR_USAGE,
                 "cleaning rule \"bylines\" is not known, expected perhaps \"byline\"");
  assert_refused(news_rules_parse("-", &rules, &error), SS_ERROR_USAGE, "is not known");
  assert_refused(news_rules_parse("abcdefghijabcdefghijabcdefghijabcdefghij", &rules, &error), SS_ERROR_USAGE,
                 "known");
  free(cleaned("(CNN)  It . Is . So", "all", false, &drop, &counts));
  news_counts_add(&total, &counts);
  assert_int_equal(total.n_text, 2);
  assert_int_equal(total.texts[NEWS_ENDINGS], 1);
  assert_int_equal(total.places[NEWS_ENDINGS], 2);
  assert_int_equal(total.texts[NEWS_BLANKS], 1);
  assert_int_equal(total.texts[NEWS_DATELINE], 1);
  assert_int_equal(total.texts[NEWS_VIDEO], 0);
}

// Any text, put together from what the rules look for, is clean after one cleaning.
static void cleaning_twice_is_cleaning_once(void **state) {
  (void)state;
  static const char *const pieces[] = {"(CNN)",
                                       " -- ",
                                       "LONDON, England ",
                                       "By. ",
                                       "By ",
                                       "A Name. ",
                                       "PUBLISHED:",
                                       " 08:00 EST, 1 May 2013 ",
                                       "| ",
                                       "UPDATED:. ",
                                       "Scroll down ",
                                       "for video",
                                       " to watch ",
                                       "VIDEO ",
                                       "E-",
                                       "mail to a friend",
                                       "Copyright 2011 ",
                                       "\xc2\xa9",
                                       "2015 X. ",
                                       "All rights reserved",
                                       "CNN's A ",
                                       "contributed to this report",
                                       " reported from Rome",
                                       "READ MORE: ",
                                       "More from ",
                                       "NEW: ",
                                       "Editor's note: ",
                                       "The views expressed ",
                                       "-LRB- ",
                                       "`` ",
                                       " ''",
                                       "''",
                                       " n't",
                                       " 's",
                                       " ,",
                                       " .",
                                       ".",
                                       "\n",
                                       "\n\n",
                                       " ",
                                       "  ",
                                       "\xc2\xa0",
                                       "\xe2\x80\x8b",
                                       "\xe2\x80\x99",
                                       "\xe2",
                                       "\xef\xbb\xbf",
                                       "a",
                                       "It is",
                                       "\"",
                                       "'",
                                       ")",
                                       "(",
                                       "$ 5",
                                       "`",
                                       "!",
                                       "?",
                                       ":",
                                       "Sorry we are ",
                                       "not accepting comments",
                                       "Follow @@a ",
                                       "Last updated at ",
                                       "and ",
                                       "2013",
                                       "x . y",
                                       "CNN Student News",
                                       "transcript",
                                       "-",
                                       "Mr. ",
                                       "J. "};
  ss_error error = {0};
  news_text once = {0}, twice = {0};
  uint64_t random = 20240501;
  for (int round = 0; round < 60000; round++) {
    char text[1024] = "";
    bool drop = false, drop_again = false;
    random = random * 6364136223846793005u + 1442695040888963407u;
    int n = (int)(random >> 60) + 1;
    for (int k = 0; k < n; k++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      strcat(text, pieces[(random >> 33) % (sizeof pieces / sizeof *pieces)]);
    }
    uint32_t rules = round % 3 == 0 ? (uint32_t)(random >> 20) & NEWS_ALL : NEWS_ALL;
    bool as_highlights = round % 4 == 0;
    assert_ok(news_text_set(&once, text, (int64_t)strlen(text), &error));
    assert_ok(as_highlights ? news_clean_highlights(&once, rules, NULL, &error)
                            : news_clean_article(&once, rules, NULL, &drop, &error));
    assert_ok(news_text_set(&twice, once.data, once.n, &error));
    assert_ok(as_highlights ? news_clean_highlights(&twice, rules, NULL, &error)
                            : news_clean_article(&twice, rules, NULL, &drop_again, &error));
    if (strcmp(once.data, twice.data) != 0 || (drop_again && !drop))
      fail_msg("rules %#x, %s of \"%s\": \"%s\", then \"%s\"", (unsigned)rules,
               as_highlights ? "highlights" : "article", text, once.data, twice.data);
  }
  news_text_free(&once);
  news_text_free(&twice);
}

// What real articles need, and that they are left whole.
static void real_articles(void **state) {
  (void)state;
  static const rows_field fields[] = {{"article", ROWS_FILLED}, {"highlights", ROWS_FILLED}};
  char path[TEST_PATH];
  ss_error error = {0};
  rows_options options = {.fields = fields, .n_field = 2, .id = "id"};
  rows *source = NULL;
  rows_scratch *scratch = NULL;
  rows_row row;
  news_text text = {0};
  news_counts articles = {0}, summaries = {0};
  bool drop = false;
  assert_ok(rows_open(&source, test_data(path, "cnndm/validation.jsonl.gz"), &options, &error));
  assert_ok(rows_scratch_create(&scratch, &error));
  assert_int_equal(rows_count(source), 983);
  for (int64_t k = 0; k < rows_count(source); k++) {
    assert_ok(rows_read(source, scratch, k, &row, &error));
    assert_ok(news_text_set(&text, row.values[0], row.lengths[0], &error));
    assert_ok(news_clean_article(&text, NEWS_ALL, &articles, &drop, &error));
    assert_false(drop);
    assert_true(10 * text.n >= 6 * row.lengths[0]);  // what is cut is frame, not text
    assert_null(strstr(text.data, "(CNN)"));
    assert_null(strchr(text.data, '\n'));
    assert_ok(news_text_set(&text, row.values[1], row.lengths[1], &error));
    assert_ok(news_clean_highlights(&text, NEWS_ALL, &summaries, &error));
    assert_null(strstr(text.data, " .\n"));
  }
  assert_in_range(articles.texts[NEWS_DATELINE], 980, 983);
  assert_in_range(articles.texts[NEWS_CREDITS], 280, 310);
  assert_in_range(summaries.places[NEWS_ENDINGS], 2350, 2370);
  news_text_free(&text);
  rows_scratch_free(scratch);
  rows_close(source);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(blanks_and_lines),
      cmocka_unit_test(tokens),
      cmocka_unit_test(endings),
      cmocka_unit_test(datelines),
      cmocka_unit_test(bylines),
      cmocka_unit_test(inserts),
      cmocka_unit_test(transcripts_are_dropped),
      cmocka_unit_test(rules_are_named_and_counted),
      cmocka_unit_test(cleaning_twice_is_cleaning_once),
      cmocka_unit_test(real_articles),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
