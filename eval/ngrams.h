// How a summary's n-grams relate to the text that it summarises, and to each other.
#ifndef SELFSPAN_EVAL_NGRAMS_H
#define SELFSPAN_EVAL_NGRAMS_H

#include "common/error.h"
#include "eval/rouge.h"

#define NGRAM_LONGEST 4  // as data/novel_ngrams.h counts
#define NGRAM_REPEATED 3

typedef struct {
  // Of the summary's distinct n-grams, the share that the source does not have (See et al. 2017, "Get to the point").
  double novel[NGRAM_LONGEST];  // [n - 1]
  // Of the summary's 3-grams, counted as often as they stand there, the share that is a repetition of an earlier one.
  double repeated;
} ngram_shares;

// Tokens are those of data/words.h: ROUGE's, not stemmed. A line of `summary` is a sentence: its n-grams end with it, so
// that sentences taken from different places of the source are no news; the source is one run of tokens. A share of no
// n-grams is NaN. A text above WORDS_MAX_BYTES is SS_ERROR_LIMIT.
ss_status ngram_shares_of(rouge_text summary, rouge_text source, ngram_shares *out, ss_error *error);

#endif
