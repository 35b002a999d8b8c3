// ROUGE (Lin 2004, "ROUGE: a package for automatic evaluation of summaries"): ROUGE-1, ROUGE-2, ROUGE-L and
// ROUGE-Lsum with precision, recall and F, equal to the Python package `rouge-score` 0.1.2 on every pair, with and
// without its stemmer.
//
// Tokens are the runs of a-z and 0-9 in the lower-cased text; every other character separates, as do bytes that are no
// UTF-8. With `stem`, tokens of four characters and more are stemmed (Porter as in NLTK). Lsum's sentences are
// the text's lines.
//
// Source: behaviour of rouge_score/{tokenize,rouge_scorer,scoring}.py. Longest common subsequences are bit-parallel
// (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): n m / 64 steps, memory O(n + m) for ROUGE-L.
// Lsum reads subsequences back as well, from rows kept at checkpoints: O(n sqrt(m)) bits, n and m being lines.
#ifndef SELFSPAN_EVAL_ROUGE_H
#define SELFSPAN_EVAL_ROUGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

typedef enum { ROUGE_1, ROUGE_2, ROUGE_L, ROUGE_LSUM, ROUGE_N_TYPE } rouge_type;

// All in 0..1; 0 where there is nothing to divide by.
typedef struct {
  double precision, recall, f;
} rouge_score;

typedef struct {
  rouge_score of[ROUGE_N_TYPE];
} rouge_scores;

// A view of UTF-8 bytes, which may contain zeros and need not end in one. At most ROUGE_MAX_BYTES.
typedef struct {
  const char *bytes;
  int64_t size;
} rouge_text;

#define ROUGE_MAX_BYTES (INT64_C(1) << 30)

// One prediction and its references, n_reference >= 1.
typedef struct {
  rouge_text prediction;
  const rouge_text *references;  // [n_reference]
  int64_t n_reference;
} rouge_item;

// "rouge1", "rouge2", "rougeL", "rougeLsum"
const char *rouge_type_name(rouge_type type);

// Buffers that grow with the texts; one thread at a time may use a scorer.
typedef struct rouge_scorer rouge_scorer;
ss_status rouge_scorer_create(rouge_scorer **out, bool stem, ss_error *error);
// NULL is allowed.
void rouge_scorer_free(rouge_scorer *scorer);

// Scores one item. Of several references each type takes the one of highest F, the first among equals. A text above
// ROUGE_MAX_BYTES is SS_ERROR_LIMIT; no reference is SS_ERROR_USAGE.
ss_status rouge_score_item(rouge_scorer *scorer, const rouge_item *item, rouge_scores *out, ss_error *error);

// Scores items[n] into out[n] on all of OpenMP's threads; scores do not depend on their number.
ss_status rouge_score_items(const rouge_item *items, int64_t n, bool stem, rouge_scores *out,
                            ss_error *error);

// Stems a token of a-z and 0-9 in place and returns the new length, which is never larger.
int64_t rouge_stem(char *letters, int64_t length);

#endif
