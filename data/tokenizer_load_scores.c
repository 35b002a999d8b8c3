// llama2.c's kind of tokenizer: tokens with scores, where the best-scoring pair is merged first.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/half.h"
#include "common/memory.h"
#include "data/tokenizer_private.h"

#define LONGEST_SCORED 512      // bytes: every way to cut a token in two is looked up
#define LOWEST_MERGED (-1e10f)  // run.c merges what scores higher

// --- merges ---

typedef struct {
  float score;
  int32_t id;
} scored_token;

static int better_first(const void *a, const void *b) {
  const scored_token *left = a, *right = b;
  if (left->score != right->score)
    return left->score > right->score ? -1 : 1;
  return left->id < right->id ? -1 : 1;
}

// Adds (or, without `add`, counts) the pairs of ordinary tokens that make token `id`.
static int64_t pairs_of(tokenizer *tokenizer, int32_t id, int32_t rank, bool add) {
  const tokenizer_token *token = &tokenizer->tokens[id];
  const char *text = tokenizer->bytes + token->start;
  int64_t count = 0;
  for (int32_t cut = 1; cut < token->length; cut++) {
    int32_t left = tokenizer_table_find(&tokenizer->ordinary, tokenizer, text, cut);
    int32_t right = left < 0 ? -1
                             : tokenizer_table_find(&tokenizer->ordinary, tokenizer, text + cut,
                                                    token->length - cut);
    if (right < 0)
      continue;
    count++;
    if (add)
      tokenizer_merges_add(tokenizer, left, right, id, rank);
  }
  return count;
}

// Tokens of equal scores have equal ranks, so that the leftmost of their pairs is merged first.
static ss_status build_merges(tokenizer *tokenizer, ss_error *error) {
  scored_token *order = NULL;
  int64_t n = 0, n_pair = 0;
  SS_TRY(ss_allocate(&order, tokenizer->n_score, sizeof *order, "tokens by score", error));
  for (int64_t id = TOKENIZER_FIRST_SCORED; id < tokenizer->n_score; id++)
    if (tokenizer->scores[id] > LOWEST_MERGED) {
      order[n++] = (scored_token){tokenizer->scores[id], (int32_t)id};
      n_pair += pairs_of(tokenizer, (int32_t)id, 0, false);
    }
  qsort(order, (size_t)n, sizeof *order, better_first);
  ss_status status = tokenizer_merges_create(tokenizer, n_pair, error);
  int32_t rank = 0;
  for (int64_t k = 0; status == SS_OK && k < n; k++) {
    rank += k > 0 && order[k].score != order[k - 1].score;
    pairs_of(tokenizer, order[k].id, rank, true);
  }
  free(order);
  return status;
}

// --- tokens ---

static ss_status add_scored(tokenizer *tokenizer, const char *text, int32_t n, int32_t id, const char *where,
                            ss_error *error) {
  if (n < 1 || n > LONGEST_SCORED)
    return ss_fail(error, SS_ERROR_INPUT, "%s: token %d has %d bytes, expected 1 to %d", where, id, n,
                   LONGEST_SCORED);
  if (!isfinite(tokenizer->scores[id]))
    return ss_fail(error, SS_ERROR_INPUT, "%s: token %d: its score is not a finite number", where, id);
  if (id < TOKENIZER_FIRST_BYTE)
    return tokenizer_store_token(tokenizer, text, n, id, true, error);
  if (id < TOKENIZER_FIRST_SCORED) {
    int byte = id - TOKENIZER_FIRST_BYTE;
    if (n != 1 || (unsigned char)*text != byte)
      return ss_fail(error, SS_ERROR_INPUT, "%s: token %d is not byte 0x%02X", where, id, byte);
    tokenizer->byte_id[byte] = id;
    return tokenizer_store_token(tokenizer, text, n, id, false, error);
  }
  int32_t other = tokenizer_table_find(&tokenizer->ordinary, tokenizer, text, n);
  if (other >= 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokens %d and %d have the same text", where, other, id);
  SS_TRY(tokenizer_store_token(tokenizer, text, n, id, false, error));
  return tokenizer_table_add(&tokenizer->ordinary, tokenizer, id, error);
}

ss_status tokenizer_build_scored(tokenizer *tokenizer, const char *const *texts, const int32_t *lengths,
                                 const char *where, ss_error *error) {
  if (tokenizer->n_score <= TOKENIZER_FIRST_SCORED)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: %lld tokens, expected <unk>, <s>, </s>, the 256 bytes and others behind them", where,
                   (long long)tokenizer->n_score);
  SS_TRY(tokenizer_reserve(tokenizer, tokenizer->n_score, where, error));
  for (int64_t id = 0; id < tokenizer->n_score; id++)
    SS_TRY(add_scored(tokenizer, texts[id], lengths[id], (int32_t)id, where, error));
  tokenizer->space = tokenizer_table_find(&tokenizer->ordinary, tokenizer, " ", 1);
  if (tokenizer->space < 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: no token is a single space", where);
  SS_TRY(build_merges(tokenizer, error));
  return tokenizer_finish(tokenizer, error);
}

// --- the file ---

typedef struct {
  const char **texts;
  int32_t *lengths;
  int64_t text_capacity, length_capacity, score_capacity;
} file_tokens;

// "<0x1F>" is the byte 31; its place among the 256 is checked later.
static void name_byte(const char **text, int32_t *n, int64_t id, const char *all_bytes) {
  char expected[8];
  snprintf(expected, sizeof expected, "<0x%02X>", (unsigned)(id - TOKENIZER_FIRST_BYTE));
  if (*n == 6 && memcmp(*text, expected, 6) == 0) {
    *text = all_bytes + (id - TOKENIZER_FIRST_BYTE);
    *n = 1;
  }
}

static ss_status read_tokens(tokenizer *tokenizer, file_tokens *read, const char *text, size_t size,
                             const char *all_bytes, const char *path, ss_error *error) {
  if (size < 4)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %zu bytes, expected llama2.c's tokenizer.bin", path, size);
  const unsigned char *bytes = (const unsigned char *)text;
  uint32_t longest = ss_load32(bytes);
  int64_t count = 0;
  for (size_t at = 4; at < size; count++) {
    uint32_t n = size - at < 8 ? 0 : ss_load32(bytes + at + 4);
    if (size - at < 8 || n > size - at - 8 || n > longest)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: byte %zu: token %lld: expected a score, a length up to %u and as many bytes", path,
                     at, (long long)count, longest);
    if (count >= TOKENIZER_MOST_TOKENS)
      return ss_fail(error, SS_ERROR_INPUT, "%s: more than %d tokens", path, TOKENIZER_MOST_TOKENS);
    SS_TRY(ss_grow(&read->texts, &read->text_capacity, count + 1, sizeof *read->texts, "tokens", error));
    SS_TRY(
        ss_grow(&read->lengths, &read->length_capacity, count + 1, sizeof *read->lengths, "tokens", error));
    SS_TRY(ss_grow(&tokenizer->scores, &read->score_capacity, count + 1, sizeof *tokenizer->scores, "scores",
                   error));
    tokenizer->scores[count] = ss_float_of_bits(ss_load32(bytes + at));
    read->texts[count] = text + at + 8;
    read->lengths[count] = n > INT32_MAX ? INT32_MAX : (int32_t)n;
    if (count >= TOKENIZER_FIRST_BYTE && count < TOKENIZER_FIRST_SCORED)
      name_byte(&read->texts[count], &read->lengths[count], count, all_bytes);
    at += 8 + n;
  }
  tokenizer->n_score = count;
  return tokenizer_build_scored(tokenizer, read->texts, read->lengths, path, error);
}

ss_status tokenizer_open_scores(tokenizer **out, const char *path, ss_error *error) {
  char *text = NULL, all_bytes[256];
  size_t size = 0;
  for (int byte = 0; byte < 256; byte++)
    all_bytes[byte] = (char)(unsigned char)byte;
  SS_TRY(ss_read_file(path, &text, &size, error));
  tokenizer *made = NULL;
  file_tokens read = {0};
  ss_status status = tokenizer_start(&made, error);
  if (status == SS_OK)
    status = read_tokens(made, &read, text, size, all_bytes, path, error);
  free(read.texts);
  free(read.lengths);
  free(text);
  if (status != SS_OK) {
    tokenizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}
