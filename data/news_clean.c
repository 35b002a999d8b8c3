#include "data/news_clean.h"

#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/memory.h"
#include "data/news_private.h"

typedef struct {
  const char *name;
  void (*run)(news_pass *pass);  // NULL: the rule drops whole texts
  bool articles, highlights;
} rule;

static const rule rules_in_order[NEWS_N_RULE] = {
    [NEWS_BLANKS] = {"blanks", news_blanks, true, true},
    [NEWS_LINES] = {"lines", news_lines, true, true},
    [NEWS_TOKENS] = {"tokens", news_tokens, true, true},
    [NEWS_ENDINGS] = {"endings", news_endings, true, true},
    [NEWS_NOTE] = {"note", news_note, true, false},
    [NEWS_DATELINE] = {"dateline", news_dateline, true, true},
    [NEWS_BYLINE] = {"byline", news_byline, true, false},
    [NEWS_VIDEO] = {"video", news_video, true, false},
    [NEWS_FRIEND] = {"friend", news_friend, true, false},
    [NEWS_COMMENTS] = {"comments", news_comments, true, false},
    [NEWS_RIGHTS] = {"rights", news_rights, true, false},
    [NEWS_CREDITS] = {"credits", news_credits, true, false},
    [NEWS_LINKS] = {"links", news_links, true, false},
    [NEWS_UPDATE] = {"update", news_update, false, true},
    [NEWS_TRANSCRIPT] = {"transcript", NULL, true, false},
};

const char *news_rule_name(news_rule rule) {
  return (unsigned)rule < NEWS_N_RULE ? rules_in_order[rule].name : "unknown";
}

ss_status news_text_set(news_text *text, const char *from, int64_t n, ss_error *error) {
  SS_TRY(ss_grow(&text->data, &text->capacity, n + 1, 1, "news text", error));
  if (n > 0)
    memmove(text->data, from, (size_t)n);
  text->data[n] = '\0';
  text->n = n;
  return SS_OK;
}

void news_text_free(news_text *text) {
  free(text->data);
  free(text->spare);
  *text = (news_text){0};
}

void news_counts_add(news_counts *total, const news_counts *more) {
  total->n_text += more->n_text;
  for (int k = 0; k < NEWS_N_RULE; k++) {
    total->texts[k] += more->texts[k];
    total->places[k] += more->places[k];
  }
}

ss_status news_rules_parse(const char *text, uint32_t *rules, ss_error *error) {
  const char *names[NEWS_N_RULE + 2] = {"all", "none"};
  for (int k = 0; k < NEWS_N_RULE; k++)
    names[k + 2] = rules_in_order[k].name;
  *rules = 0;
  for (const char *at = text; *at != '\0';) {
    char word[32];
    at += strspn(at, " ,");
    bool minus = *at == '-';
    at += minus;
    size_t n = strcspn(at, " ,"), known = 0;
    if (n == 0 && !minus)
      break;
    snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), at);
    while (known < NEWS_N_RULE + 2 && (n >= sizeof word || strcmp(word, names[known]) != 0))
      known++;
    if (known == NEWS_N_RULE + 2) {
      const char *nearest = ss_nearest(word, names, NEWS_N_RULE + 2);
      return ss_fail(error, SS_ERROR_USAGE, "cleaning rule \"%s\" is not known, expected %s%s%s", word,
                     nearest == NULL ? "all, none or names of rules" : "perhaps \"",
                     nearest == NULL ? "" : nearest, nearest == NULL ? "" : "\"");
    }
    uint32_t mask = known == 0 ? NEWS_ALL : known == 1 ? 0 : 1u << (known - 2);
    *rules = minus ? *rules & ~mask : known == 1 ? 0 : *rules | mask;
    at += n;
  }
  return SS_OK;
}

// --- passes ---

static void append(news_pass *pass, const char *bytes, int64_t n) {
  news_text *target = pass->target;
  if (pass->status == SS_OK)
    pass->status = ss_grow(&target->spare, &target->spare_capacity, pass->written + n + 1, 1, "news text",
                           pass->error);
  if (pass->status != SS_OK)
    return;
  if (n > 0)
    memcpy(target->spare + pass->written, bytes, (size_t)n);
  pass->written += n;
}

void news_replace(news_pass *pass, int64_t from, int64_t to, const char *by, int64_t n) {
  if (to - from == n && (n == 0 || memcmp(pass->text + from, by, (size_t)n) == 0))
    return;
  append(pass, pass->text + pass->copied, from - pass->copied);
  append(pass, by, n);
  pass->copied = to;
  pass->places++;
}

// One rule over the text; *places = what it changed.
static ss_status run_rule(news_text *text, const rule *rule, bool highlights, int64_t *places,
                          ss_error *error) {
  news_pass pass = {.text = text->data,
                    .n = text->n,
                    .highlights = highlights,
                    .target = text,
                    .error = error};
  rule->run(&pass);
  *places = pass.places;
  if (pass.places == 0)
    return SS_OK;
  append(&pass, text->data + pass.copied, text->n - pass.copied);
  SS_TRY(pass.status);
  char *data = text->data;
  int64_t capacity = text->capacity;
  text->data = text->spare;
  text->capacity = text->spare_capacity;
  text->spare = data;
  text->spare_capacity = capacity;
  text->n = pass.written;
  text->data[text->n] = '\0';
  return SS_OK;
}

static ss_status clean(news_text *text, uint32_t rules, bool highlights, news_counts *counts,
                       ss_error *error) {
  int64_t places[NEWS_N_RULE] = {0};
  bool changed = text->n > 0;
  for (int pass = 0; changed && pass < NEWS_MOST_PASSES; pass++) {
    changed = false;
    for (int k = 0; k < NEWS_N_RULE; k++) {
      const rule *rule = &rules_in_order[k];
      int64_t here = 0;
      if ((rules >> k & 1) == 0 || rule->run == NULL || !(highlights ? rule->highlights : rule->articles))
        continue;
      SS_TRY(run_rule(text, rule, highlights, &here, error));
      places[k] += here;
      changed = changed || here > 0;
    }
  }
  if (counts == NULL)
    return SS_OK;
  counts->n_text++;
  for (int k = 0; k < NEWS_N_RULE; k++) {
    counts->places[k] += places[k];
    counts->texts[k] += places[k] > 0;
  }
  return SS_OK;
}

ss_status news_clean_article(news_text *text, uint32_t rules, news_counts *counts, bool *drop,
                             ss_error *error) {
  // Before the rules, which may take the words away that tell; and after, when blanks no longer hide them.
  bool asked = (rules >> NEWS_TRANSCRIPT & 1) != 0;
  *drop = asked && news_is_transcript(text->data, text->n);
  SS_TRY(clean(text, rules, false, counts, error));
  *drop = *drop || (asked && news_is_transcript(text->data, text->n));
  if (*drop && counts != NULL) {
    counts->texts[NEWS_TRANSCRIPT]++;
    counts->places[NEWS_TRANSCRIPT]++;
  }
  return SS_OK;
}

ss_status news_clean_highlights(news_text *text, uint32_t rules, news_counts *counts, ss_error *error) {
  return clean(text, rules, true, counts, error);
}
