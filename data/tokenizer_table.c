// The tokenizer's two hash tables: texts, and pairs of tokens.
#include "data/tokenizer_private.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"

// A power of two with at most half of the slots in use.
static int64_t slots_for(int64_t count) {
  int64_t slots = 16;
  while (slots < 2 * count)
    slots *= 2;
  return slots;
}

ss_status tokenizer_table_create(tokenizer_table *table, int64_t count, ss_error *error) {
  int64_t slots = slots_for(count);
  tokenizer_slot *made = NULL;
  SS_TRY(ss_allocate(&made, slots, sizeof *made, "tokenizer's table of texts", error));
  for (int64_t k = 0; k < slots; k++)
    made[k].id = -1;
  free(table->slots);
  *table = (tokenizer_table){made, slots - 1, 0};
  return SS_OK;
}

int32_t tokenizer_table_find(const tokenizer_table *table, const tokenizer *tokenizer, const char *text,
                             int64_t n) {
  return tokenizer_table_find_hashed(table, tokenizer, text, n, (uint32_t)XXH3_64bits(text, (size_t)n));
}

int32_t tokenizer_table_find_hashed(const tokenizer_table *table, const tokenizer *tokenizer,
                                    const char *text, int64_t n, uint32_t hash) {
  if (table->slots == NULL)
    return -1;
  for (int64_t at = hash & table->mask;; at = (at + 1) & table->mask) {
    tokenizer_slot slot = table->slots[at];
    if (slot.id < 0)
      return -1;
    if (slot.hash != hash)
      continue;
    const tokenizer_token *token = &tokenizer->tokens[slot.id];
    if (token->length == n && memcmp(tokenizer->bytes + token->start, text, (size_t)n) == 0)
      return slot.id;
  }
}

static void place(tokenizer_table *table, tokenizer_slot slot) {
  int64_t at = slot.hash & table->mask;
  while (table->slots[at].id >= 0)
    at = (at + 1) & table->mask;
  table->slots[at] = slot;
  table->count++;
}

ss_status tokenizer_table_add(tokenizer_table *table, const tokenizer *tokenizer, int32_t id,
                              ss_error *error) {
  if (table->slots == NULL || 2 * (table->count + 1) > table->mask + 1) {
    tokenizer_table grown = {0};
    SS_TRY(tokenizer_table_create(&grown, 2 * table->count + 8, error));
    for (int64_t k = 0; table->slots != NULL && k <= table->mask; k++)
      if (table->slots[k].id >= 0)
        place(&grown, table->slots[k]);
    free(table->slots);
    *table = grown;
  }
  const tokenizer_token *token = &tokenizer->tokens[id];
  uint32_t hash = (uint32_t)XXH3_64bits(tokenizer->bytes + token->start, (size_t)token->length);
  place(table, (tokenizer_slot){hash, id});
  return SS_OK;
}

ss_status tokenizer_merges_create(tokenizer *tokenizer, int64_t count, ss_error *error) {
  int64_t slots = slots_for(count);
  SS_TRY(ss_allocate(&tokenizer->merges, slots, sizeof *tokenizer->merges, "tokenizer's table of merges",
                     error));
  tokenizer->merge_mask = slots - 1;
  for (int64_t k = 0; k < slots; k++)
    tokenizer->merges[k].pair = TOKENIZER_NO_PAIR;
  return SS_OK;
}

bool tokenizer_merges_add(tokenizer *tokenizer, int32_t left, int32_t right, int32_t id, int32_t rank) {
  if (tokenizer_merge_find(tokenizer, left, right) != NULL)
    return false;
  uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  int64_t at = (int64_t)((pair * 0x9E3779B97F4A7C15ull) >> 32) & tokenizer->merge_mask;
  while (tokenizer->merges[at].pair != TOKENIZER_NO_PAIR)
    at = (at + 1) & tokenizer->merge_mask;
  tokenizer->merges[at] = (tokenizer_merge){pair, rank, id};
  tokenizer->n_merge++;
  return true;
}
