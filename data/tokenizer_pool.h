// Scratches of one tokenizer that any number of threads share: a thread takes one for a call and gives it back.
#ifndef SELFSPAN_DATA_TOKENIZER_POOL_H
#define SELFSPAN_DATA_TOKENIZER_POOL_H

#include "data/tokenizer.h"

typedef struct tokenizer_pool tokenizer_pool;

// The tokenizer must outlive the pool's use.
ss_status tokenizer_pool_create(tokenizer_pool **out, const tokenizer *tokenizer, ss_error *error);
// NULL is allowed. Every scratch must have been given back.
void tokenizer_pool_free(tokenizer_pool *pool);

// *out = a scratch that nobody else uses, made when all are taken.
ss_status tokenizer_pool_take(tokenizer_pool *pool, tokenizer_scratch **out, ss_error *error);
void tokenizer_pool_give(tokenizer_pool *pool, tokenizer_scratch *scratch);

#endif
