// What the card says of a split of summaries, added up from the examples' metadata.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/novel_ngrams.h"
#include "data/tasks/cnndm.h"

typedef struct {
  int64_t sentences, tokens, words, lost_sentences, lost_tokens, cut;
} side_sum;

typedef struct {
  int64_t examples;
  side_sum article, summary;
  int64_t references, lost, sentences, words, steps;
  int64_t by_references[4];  // steps with 0, 1, 2, more
  double rouge, novel[NOVEL_NGRAMS_LONGEST];
  int64_t with_ngrams[NOVEL_NGRAMS_LONGEST];  // summaries long enough to have n-grams
  json_t *cleaned;                            // rule -> places
} tally;

ss_status cnndm_tally_create(void **out, ss_error *error) {
  tally *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "statistics", error));
  made->cleaned = json_object();
  *out = made;
  return SS_OK;
}

void cnndm_tally_free(void *opaque) {
  tally *tally = opaque;
  if (tally != NULL)
    json_decref(tally->cleaned);
  free(tally);
}

static int64_t integer(const json_t *object, const char *name) {
  return (int64_t)json_integer_value(json_object_get(object, name));
}

static void add_side(side_sum *sum, const json_t *side) {
  sum->sentences += integer(side, "sentences");
  sum->tokens += integer(side, "tokens");
  sum->words += integer(side, "words");
  sum->lost_sentences += integer(side, "lost_sentences");
  sum->lost_tokens += integer(side, "lost_tokens");
  sum->cut += integer(side, "lost_sentences") > 0;
}

static int put_count(json_t *object, const char *name, int64_t value) {
  return json_object_set_new(object, name, json_integer((json_int_t)value));
}

ss_status cnndm_tally_add(void *opaque, const example *example, ss_error *error) {
  tally *tally = opaque;
  json_t *meta = example->n_meta > 0 ? json_loadb(example->meta, (size_t)example->n_meta, 0, NULL) : NULL;
  const json_t *references = json_object_get(meta, "references"), *ngrams = json_object_get(meta, "ngrams");
  if (!json_is_object(references) || json_array_size(ngrams) != NOVEL_NGRAMS_LONGEST) {
    json_decref(meta);
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: metadata without counts", example->id);
  }
  tally->examples++;
  add_side(&tally->article, json_object_get(meta, "article"));
  add_side(&tally->summary, json_object_get(meta, "summary"));
  tally->references += integer(references, "n");
  tally->lost += integer(references, "lost");
  tally->sentences += integer(references, "sentences");
  tally->words += integer(references, "words");
  tally->rouge += json_number_value(json_object_get(references, "rouge"));
  for (int64_t s = 0; s < example->n_segment; s++) {
    int32_t n = example->segments[s].n_reference;
    if (example->segments[s].kind != SPAN_STEP)
      continue;
    tally->steps++;
    tally->by_references[n < 3 ? n : 3]++;
  }
  for (int n = 0; n < NOVEL_NGRAMS_LONGEST; n++) {
    const json_t *pair = json_array_get(ngrams, (size_t)n);
    double distinct = json_number_value(json_array_get(pair, 0));
    tally->with_ngrams[n] += distinct > 0;
    tally->novel[n] += distinct > 0 ? json_number_value(json_array_get(pair, 1)) / distinct : 0;
  }
  const char *rule;
  json_t *places;
  int failed = 0;
  json_object_foreach(json_object_get(meta, "cleaned"), rule, places)
      failed |= put_count(tally->cleaned, rule,
                          integer(tally->cleaned, rule) + (int64_t)json_integer_value(places));
  json_decref(meta);
  return failed != 0 ? ss_fail(error, SS_ERROR_MEMORY, "statistics: out of memory") : SS_OK;
}

// --- as JSON ---

static int put(json_t *object, const char *name, double sum, double n) {
  return json_object_set_new(object, name, json_real(n > 0 ? sum / n : 0.0));
}

static int put_side(json_t *object, const char *what, const side_sum *sum, int64_t examples) {
  const struct {
    const char *name;
    int64_t value;
  } means[] = {{"sentences", sum->sentences}, {"tokens", sum->tokens}, {"words", sum->words}},
    counts[] = {{"examples cut", sum->cut},
                {"sentences lost", sum->lost_sentences},
                {"tokens lost", sum->lost_tokens}};
  char name[64];
  int failed = 0;
  for (int k = 0; k < 3; k++) {
    snprintf(name, sizeof name, "%s: %s", what, means[k].name);
    failed |= put(object, name, (double)means[k].value, (double)examples);
  }
  for (int k = 0; k < 3; k++) {
    snprintf(name, sizeof name, "%s: %s, in all", what, counts[k].name);
    failed |= put_count(object, name, counts[k].value);
  }
  return failed;
}

json_t *cnndm_tally_json(const void *opaque) {
  const tally *tally = opaque;
  const side_sum *article = &tally->article, *summary = &tally->summary;
  static const char *const shares[] = {"summary sentences with 0 references, %", "with 1 reference, %",
                                       "with 2 references, %", "with more references, %"};
  json_t *object = json_object();
  int failed = put_side(object, "article", article, tally->examples);
  failed |= put_side(object, "summary", summary, tally->examples);
  failed |= put(object, "compression (article words / summary words)", (double)article->words,
                (double)summary->words);
  failed |= put(object, "references per summary sentence", (double)tally->references, (double)tally->steps);
  for (int k = 0; k < 4; k++)
    failed |= put(object, shares[k], 100.0 * (double)tally->by_references[k], (double)tally->steps);
  failed |= put(object, "ROUGE-1 F + ROUGE-2 F of the references", tally->rouge, (double)tally->steps);
  failed |= put(object, "coverage (article sentences referenced, %)", 100.0 * (double)tally->sentences,
                (double)article->sentences);
  failed |= put(object, "coverage (article words referenced, %)", 100.0 * (double)tally->words,
                (double)article->words);
  failed |= put_count(object, "references lost with the article's end, in all", tally->lost);
  for (int n = 0; n < NOVEL_NGRAMS_LONGEST; n++) {
    char name[64];
    snprintf(name, sizeof name, "novel %d-grams of the summary, %%", n + 1);
    failed |= put(object, name, 100.0 * tally->novel[n], (double)tally->with_ngrams[n]);
  }
  for (int rule = 0; rule < NEWS_N_RULE; rule++) {
    char name[64];
    int64_t places = integer(tally->cleaned, news_rule_name((news_rule)rule));
    snprintf(name, sizeof name, "cleaned by rule %s, places in all", news_rule_name((news_rule)rule));
    if (places > 0)
      failed |= put_count(object, name, places);
  }
  if (failed != 0) {
    json_decref(object);
    return NULL;
  }
  return object;
}
