// The greedy extractive oracle (Nallapati et al. 2017, "SummaRuNNer", arXiv 1611.04230): sentences of a source are
// picked one by one, each time the one that raises ROUGE-1 F + ROUGE-2 F of the picked ones against a target most. It
// says which article sentences a summary sentence rests on, and, with a whole summary as the target, what an extract
// can reach.
//
// The picked sentences count as one text, in the order of the source: their ROUGE is what `rouge-score` (without its
// stemmer) gives for them joined by blanks, bigrams across the joints included. Words are those of data/words.h.
#ifndef SELFSPAN_DATA_GREEDY_ORACLE_H
#define SELFSPAN_DATA_GREEDY_ORACLE_H

#include <stdint.h>

#include "common/error.h"
#include "data/words.h"

#define GREEDY_ORACLE_ALL INT32_MAX  // as a cap: no cap

// A source and buffers; one thread at a time may use an oracle.
typedef struct greedy_oracle greedy_oracle;
ss_status greedy_oracle_create(greedy_oracle **out, ss_error *error);
// NULL is allowed.
void greedy_oracle_free(greedy_oracle *oracle);

// Takes a source in: sentence k is the bytes of `text` from ends[k - 1], or 0, up to ends[k]; ends ascend. Nothing of
// the arguments is kept. SS_ERROR_LIMIT: more than INT32_MAX sentences or WORDS_MAX_BYTES.
ss_status greedy_oracle_source(greedy_oracle *oracle, const char *text, const int64_t *ends,
                               int64_t n_sentence, ss_error *error);

// Picks at most `cap` of the first n_sentence sentences of the source (all, where it has fewer) for a target of n bytes.
// Stops when no sentence raises the score, unless fewer than `least` are picked: then the one that lowers it least is,
// if it shares a word with the target. Of equal ones the earliest is picked. Scores are compared exactly, as fractions.
// (*picked)[*n_picked] are the picked sentences, ascending, the oracle's until its next use; *score is their ROUGE-1 F +
// ROUGE-2 F (0 to 2) and may be NULL.
ss_status greedy_oracle_pick(greedy_oracle *oracle, const char *target, int64_t n, int64_t n_sentence,
                             int32_t least, int32_t cap, const int32_t **picked, int32_t *n_picked,
                             double *score, ss_error *error);

// The words of the whole source, and how they are numbered, until the next source (for data/novel_ngrams.h).
const word_list *greedy_oracle_words(const greedy_oracle *oracle, words **numbering);
// How many of them sentence k has.
int64_t greedy_oracle_sentence_words(const greedy_oracle *oracle, int64_t k);

#endif
