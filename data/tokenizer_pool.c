#include "data/tokenizer_pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/memory.h"

struct tokenizer_pool {
  const tokenizer *tokenizer;
  pthread_mutex_t lock;
  tokenizer_scratch **idle;  // [n_idle]
  int64_t n_idle, capacity;
};

ss_status tokenizer_pool_create(tokenizer_pool **out, const tokenizer *tokenizer, ss_error *error) {
  tokenizer_pool *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "tokenizer's pool", error));
  made->tokenizer = tokenizer;
  if (pthread_mutex_init(&made->lock, NULL) != 0) {
    free(made);
    return ss_fail(error, SS_ERROR_MEMORY, "tokenizer's pool: no lock to be had");
  }
  *out = made;
  return SS_OK;
}

void tokenizer_pool_free(tokenizer_pool *pool) {
  if (pool == NULL)
    return;
  for (int64_t k = 0; k < pool->n_idle; k++)
    tokenizer_scratch_free(pool->idle[k]);
  free(pool->idle);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}

ss_status tokenizer_pool_take(tokenizer_pool *pool, tokenizer_scratch **out, ss_error *error) {
  pthread_mutex_lock(&pool->lock);
  *out = pool->n_idle > 0 ? pool->idle[--pool->n_idle] : NULL;
  pthread_mutex_unlock(&pool->lock);
  return *out != NULL ? SS_OK : tokenizer_scratch_create(out, pool->tokenizer, error);
}

void tokenizer_pool_give(tokenizer_pool *pool, tokenizer_scratch *scratch) {
  pthread_mutex_lock(&pool->lock);
  bool kept = ss_grow(&pool->idle, &pool->capacity, pool->n_idle + 1, sizeof *pool->idle, "idle scratches",
                      NULL) == SS_OK;
  if (kept)
    pool->idle[pool->n_idle++] = scratch;
  pthread_mutex_unlock(&pool->lock);
  if (!kept)
    tokenizer_scratch_free(scratch);
}
