#include "eval/ngrams.h"

#include <math.h>
#include <stddef.h>

#include "common/random.h"
#include "eval/rouge_private.h"

enum { IN_SOURCE = 1, IN_SUMMARY = 2 };

static uint64_t key_of(const int32_t *ids, int n) {
  uint64_t words[NGRAM_LONGEST] = {0};
  for (int k = 0; k < n; k++)
    words[k] = (uint64_t)ids[k] + 1;
  return ss_hash64(words[0] << 32 | words[1], words[2] << 32 | words[3], (uint64_t)n);
}

// What is known of an n-gram; the caller changes it.
static int32_t *marks_of(rouge_table *table, uint64_t key) {
  rouge_slot *slot = rouge_table_find(table, key);
  if (slot->stamp != table->stamp)
    *slot = (rouge_slot){key, 0, table->stamp};
  return &slot->value;
}

static ss_status count(rouge_scorer *scorer, int n, ngram_shares *out, ss_error *error) {
  const rouge_tokens *summary = &scorer->prediction, *source = &scorer->reference;
  rouge_table *table = &scorer->pair_table;
  int64_t total = 0, distinct = 0, novel = 0;
  SS_TRY(rouge_table_reset(table, summary->count + source->count, error));
  for (int64_t i = 0; i + n <= source->count; i++)
    *marks_of(table, key_of(source->ids + i, n)) = IN_SOURCE;
  for (int64_t s = 0; s < summary->n_sentence; s++)
    for (int64_t i = summary->sentences[s]; i + n <= summary->sentences[s + 1]; i++) {
      int32_t *marks = marks_of(table, key_of(summary->ids + i, n));
      total++;
      distinct += (*marks & IN_SUMMARY) == 0;
      novel += *marks == 0;
      *marks |= IN_SUMMARY;
    }
  out->novel[n - 1] = distinct > 0 ? (double)novel / (double)distinct : NAN;
  if (n == NGRAM_REPEATED)
    out->repeated = total > 0 ? (double)(total - distinct) / (double)total : NAN;
  return SS_OK;
}

static ss_status measure(rouge_scorer *scorer, rouge_text summary, rouge_text source, ngram_shares *out,
                         ss_error *error) {
  SS_TRY(rouge_words_reset(scorer, error));
  SS_TRY(rouge_tokenize(scorer, summary, &scorer->prediction, error));
  SS_TRY(rouge_tokenize(scorer, source, &scorer->reference, error));
  for (int n = 1; n <= NGRAM_LONGEST; n++)
    SS_TRY(count(scorer, n, out, error));
  return SS_OK;
}

ss_status ngram_shares_of(rouge_text summary, rouge_text source, ngram_shares *out, ss_error *error) {
  rouge_scorer *scorer = NULL;
  SS_TRY(rouge_scorer_create(&scorer, false, error));
  ss_status status = measure(scorer, summary, source, out, error);
  rouge_scorer_free(scorer);
  return status;
}
