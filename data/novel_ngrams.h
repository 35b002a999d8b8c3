// N-grams of a summary that its source does not have: how far it is from copying (See et al. 2017, "Get to the point",
// arXiv 1704.04368).
#ifndef SELFSPAN_DATA_NOVEL_NGRAMS_H
#define SELFSPAN_DATA_NOVEL_NGRAMS_H

#include <stdint.h>

#include "common/error.h"
#include "data/words.h"

#define NOVEL_NGRAMS_LONGEST 4

typedef struct {
  int64_t distinct[NOVEL_NGRAMS_LONGEST];  // [n - 1]: distinct n-grams of the summary
  int64_t novel[NOVEL_NGRAMS_LONGEST];     // of these, those that the source does not have
} novel_ngrams;

// Buffers; one thread at a time may use a counter.
typedef struct ngram_counter ngram_counter;
ss_status ngram_counter_create(ngram_counter **out, ss_error *error);
// NULL is allowed.
void ngram_counter_free(ngram_counter *counter);

// Counts the n-grams of a summary of n_sentence sentences: sentence k has the words from ends[k - 1], or 0, up to ends[k],
// and an n-gram ends with its sentence. The source is one run of words. Both are numbered alike. N-grams are told apart by
// 64-bit hashes.
ss_status ngram_counter_count(ngram_counter *counter, const word_list *source, const word_list *summary,
                              const int64_t *ends, int64_t n_sentence, novel_ngrams *out, ss_error *error);

#endif
