// Choosing the next token from logits: greedy, temperature, top-k, top-p; a pure function of the logits and the
// sequence's random stream.
#ifndef SELFSPAN_INFER_SAMPLER_H
#define SELFSPAN_INFER_SAMPLER_H

#include <stdint.h>

#include "common/error.h"
#include "common/random.h"

typedef struct sampler sampler;

// temperature 0 is greedy (the lowest id wins a tie); top_k 0 and top_p 1 switch their truncation off. Of the allowed
// tokens, by descending logit and then by id, at most top_k are kept, until what is kept has top_p of all the weight. One
// of them is drawn in id order: the first at which the sum of weights exceeds a uniform part of the whole, so that a
// backend that adds up in parallel chooses the same (kernels/cuda/sample.cu).
ss_status sampler_create(sampler **out, int32_t vocab_size, double temperature, int64_t top_k, double top_p,
                         ss_error *error);
void sampler_free(sampler *sampler);

// One token from logits [vocab_size]. allowed (may be NULL): [vocab_size], 0 forbids a token; at least one must be
// allowed. *log_probability (may be NULL) receives the token's log-probability under softmax(logits) over the
// allowed tokens, before temperature and truncation. NaN logits never win.
int32_t sampler_choose(sampler *sampler, const float *logits, const uint8_t *allowed, ss_random *random,
                       double *log_probability);

#endif
