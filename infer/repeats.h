// Repetition blocking: no n-gram twice (Paulus et al. 2017, "A deep reinforced model for abstractive summarization", 2.5,
// for trigrams). Private to the decoder.
#ifndef SELFSPAN_INFER_REPEATS_H
#define SELFSPAN_INFER_REPEATS_H

#include <stdint.h>

// Clears allowed[t] for every text token t < n_text that behind the n generated tokens would complete an n-gram of `ngram`
// >= 1 text tokens that stands among them already. Special tokens end n-grams: headers and anchors are never forbidden,
// and no n-gram leads from one segment into the next.
void decode_forbid_repeats(const int32_t *tokens, int32_t n, int32_t n_text, int32_t ngram, uint8_t *allowed);

#endif
