#include "data/reader_order.h"

#include <stdlib.h>

#include "common/memory.h"
#include "common/random.h"

#define BLOCK_TOKENS (1 << 20)
#define MOST_BLOCK_EXAMPLES 4096
#define FEWEST_BLOCK_EXAMPLES 16

// Streams of random numbers of one seed.
#define STREAM_BLOCKS 0x626C6F636B73ull
#define STREAM_WINDOW 0x77696E646F77ull

int64_t reader_block_examples(int64_t n_example, int64_t n_token) {
  if (n_example <= 0 || n_token <= 0)
    return MOST_BLOCK_EXAMPLES;
  int64_t mean = (n_token + n_example - 1) / n_example;
  int64_t fitting = BLOCK_TOKENS / mean;
  if (fitting > MOST_BLOCK_EXAMPLES)
    return MOST_BLOCK_EXAMPLES;
  return fitting < FEWEST_BLOCK_EXAMPLES ? FEWEST_BLOCK_EXAMPLES : fitting;
}

ss_status reader_order_init(reader_order *order, int64_t n_example, int64_t block_examples, uint64_t seed,
                            bool shuffle, ss_error *error) {
  *order = (reader_order){.n_example = n_example,
                          .block_examples = block_examples,
                          .seed = seed,
                          .shuffle = shuffle,
                          .epoch = -1};
  order->n_block = (n_example + block_examples - 1) / block_examples;
  order->n_window = (order->n_block + READER_WINDOW_BLOCKS - 1) / READER_WINDOW_BLOCKS;
  return ss_allocate(&order->blocks, order->n_block, sizeof *order->blocks, "block order", error);
}

void reader_order_free(reader_order *order) {
  free(order->blocks);
  *order = (reader_order){0};
}

int64_t reader_order_block_size(const reader_order *order, int64_t block) {
  int64_t rest = order->n_example - block * order->block_examples;
  return rest < order->block_examples ? rest : order->block_examples;
}

static void prepare_epoch(reader_order *order, int64_t epoch) {
  if (order->epoch == epoch)
    return;
  for (int64_t k = 0; k < order->n_block; ++k)
    order->blocks[k] = k;
  if (order->shuffle) {
    ss_random random = ss_random_seed(ss_hash64(order->seed, STREAM_BLOCKS, 0), (uint64_t)epoch);
    for (int64_t k = order->n_block - 1; k > 0; --k) {
      int64_t other = (int64_t)ss_random_below(&random, (uint64_t)k + 1);
      int64_t kept = order->blocks[k];
      order->blocks[k] = order->blocks[other];
      order->blocks[other] = kept;
    }
  }
  order->epoch = epoch;
}

static void shuffle_window(const reader_order *order, reader_window_order *out) {
  ss_random random = ss_random_seed(ss_hash64(order->seed, STREAM_WINDOW, (uint64_t)out->epoch),
                                    (uint64_t)out->window);
  for (int64_t k = out->size - 1; k > 0; --k) {
    int64_t other = (int64_t)ss_random_below(&random, (uint64_t)k + 1);
    int32_t kept = out->entries[k];
    out->entries[k] = out->entries[other];
    out->entries[other] = kept;
  }
}

ss_status reader_order_window(reader_order *order, int64_t epoch, int64_t window, reader_window_order *out,
                              ss_error *error) {
  prepare_epoch(order, epoch);
  SS_TRY(ss_grow(&out->entries, &out->capacity, READER_WINDOW_BLOCKS * order->block_examples,
                 sizeof *out->entries, "window order", error));
  int64_t first = window * READER_WINDOW_BLOCKS;
  out->epoch = epoch;
  out->window = window;
  out->size = 0;
  out->n_block = 0;
  for (int64_t k = 0; k < READER_WINDOW_BLOCKS && first + k < order->n_block; ++k) {
    int64_t block = order->blocks[first + k], size = reader_order_block_size(order, block);
    out->blocks[out->n_block++] = block;
    for (int64_t i = 0; i < size; ++i)
      out->entries[out->size++] = (int32_t)(k * order->block_examples + i);
  }
  if (order->shuffle)
    shuffle_window(order, out);
  return SS_OK;
}

ss_status reader_order_find(reader_order *order, int64_t epoch, int64_t place, int64_t *window,
                            int64_t *within, ss_error *error) {
  prepare_epoch(order, epoch);
  for (int64_t k = 0; k < order->n_block; ++k) {
    int64_t size = reader_order_block_size(order, order->blocks[k]);
    if (k % READER_WINDOW_BLOCKS == 0)
      *within = 0;
    if (place < size) {
      *window = k / READER_WINDOW_BLOCKS;
      *within += place;
      return SS_OK;
    }
    place -= size;
    *within += size;
  }
  return ss_fail(error, SS_ERROR_INTERNAL, "example %lld past the end of an epoch", (long long)place);
}
