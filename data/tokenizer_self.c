// A tokenizer as one JSON object, complete in itself: what datasets and models keep of theirs.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/tokenizer_private.h"

#define KIND_BYTE_LEVEL "byte_level_bpe"
#define KIND_SCORED "scored_bpe"

// --- writing ---

// The tokens 0..n_token-1 in order; special ones of a byte-level BPE as they are, all others in the printable alphabet. NULL when memory is out.
static json_t *tokens_json(const tokenizer *tokenizer, int64_t n_token) {
  json_t *list = json_array();
  char *text = NULL;
  int64_t capacity = 0;
  for (int64_t id = 0; list != NULL && id < n_token; id++) {
    const tokenizer_token *token = &tokenizer->tokens[id];
    const char *bytes = tokenizer->bytes + token->start;
    int64_t n = token->length;
    bool fits = ss_grow(&text, &capacity, 2 * n + 1, 1, "token", NULL) == SS_OK;
    if (fits && (!token->special || tokenizer->scores != NULL)) {
      n = tokenizer_to_printable(bytes, n, text);
      bytes = text;
    }
    if (!fits || json_array_append_new(list, json_stringn(bytes, (size_t)n)) != 0) {
      json_decref(list);
      list = NULL;
    }
  }
  free(text);
  return list;
}

static json_t *specials_json(const tokenizer *tokenizer, int64_t n_token) {
  json_t *list = json_array();
  for (int64_t id = 0; id < n_token; id++)
    if (tokenizer->tokens[id].special && json_array_append_new(list, json_integer(id)) != 0) {
      json_decref(list);
      return NULL;
    }
  return list;
}

ss_status tokenizer_merges_by_rank(const tokenizer *tokenizer, tokenizer_merge **out, ss_error *error) {
  tokenizer_merge *by_rank = NULL;
  SS_TRY(ss_allocate(&by_rank, tokenizer->n_merge, sizeof *by_rank, "merges by rank", error));
  for (int64_t k = 0; k <= tokenizer->merge_mask; k++)
    if (tokenizer->merges[k].pair != TOKENIZER_NO_PAIR)
      by_rank[tokenizer->merges[k].rank] = tokenizer->merges[k];
  *out = by_rank;
  return SS_OK;
}

// Left and right ids in turn, best first.
static json_t *merges_json(const tokenizer *tokenizer) {
  tokenizer_merge *by_rank = NULL;
  if (tokenizer_merges_by_rank(tokenizer, &by_rank, NULL) != SS_OK)
    return NULL;
  json_t *list = json_array();
  for (int64_t k = 0; list != NULL && k < tokenizer->n_merge; k++)
    if (json_array_append_new(list, json_integer((json_int_t)(by_rank[k].pair >> 32))) != 0 ||
        json_array_append_new(list, json_integer((json_int_t)(by_rank[k].pair & UINT32_MAX))) != 0) {
      json_decref(list);
      list = NULL;
    }
  free(by_rank);
  return list;
}

static json_t *scores_json(const tokenizer *tokenizer) {
  json_t *list = json_array();
  for (int64_t id = 0; list != NULL && id < tokenizer->n_score; id++)
    if (json_array_append_new(list, json_real(tokenizer->scores[id])) != 0) {
      json_decref(list);
      list = NULL;
    }
  return list;
}

json_t *tokenizer_json(const tokenizer *tokenizer, int32_t n_token) {
  int64_t n = n_token < tokenizer->n_token ? n_token : tokenizer->n_token;
  if (tokenizer->scores != NULL)
    return json_pack("{s:s, s:o, s:o}", "kind", KIND_SCORED, "tokens",
                     tokens_json(tokenizer, tokenizer->n_score), "scores", scores_json(tokenizer));
  return json_pack("{s:s, s:b, s:b, s:i, s:o, s:o, s:o}", "kind", KIND_BYTE_LEVEL, "digits_apart",
                   tokenizer->digits_apart, "ignore_merges", tokenizer->ignore_merges, "unknown",
                   tokenizer->unknown, "tokens", tokens_json(tokenizer, n), "special",
                   specials_json(tokenizer, n), "merges", merges_json(tokenizer));
}

// --- reading ---

static ss_status load_tokens(tokenizer *tokenizer, const json_t *json, const char *where, ss_error *error) {
  const json_t *tokens = json_object_get(json, "tokens"), *special = json_object_get(json, "special");
  if (!json_is_array(tokens) || !json_is_array(special))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: expected arrays \"tokens\" and \"special\"", where);
  int64_t count = (int64_t)json_array_size(tokens);
  SS_TRY(tokenizer_reserve(tokenizer, count, where, error));
  size_t next = 0;
  for (int64_t id = 0; id < count; id++) {
    const json_t *token = json_array_get(tokens, (size_t)id);
    const char *text = json_string_value(token);
    if (text == NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: token %lld is not a string", where,
                     (long long)id);
    const json_t *is_next = json_array_get(special, next);
    bool is_special = json_is_integer(is_next) && json_integer_value(is_next) == id;
    next += is_special;
    SS_TRY((is_special ? tokenizer_load_special : tokenizer_load_ordinary)(tokenizer, text,
                                                                           json_string_length(token),
                                                                           (int32_t)id, where, error));
  }
  return next == json_array_size(special)
             ? SS_OK
             : ss_fail(error, SS_ERROR_INPUT,
                       "%s: tokenizer: \"special\" is not an ascending list of ids of tokens", where);
}

static ss_status load_merges(tokenizer *tokenizer, const json_t *json, const char *where, ss_error *error) {
  const json_t *merges = json_object_get(json, "merges");
  size_t n = json_array_size(merges);
  if (!json_is_array(merges) || n % 2 != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: \"merges\" is not an array of pairs", where);
  SS_TRY(tokenizer_merges_create(tokenizer, (int64_t)n / 2, error));
  for (size_t k = 0; k < n; k += 2) {
    const json_t *left = json_array_get(merges, k), *right = json_array_get(merges, k + 1);
    int64_t ids[2] = {json_is_integer(left) ? json_integer_value(left) : -1,
                      json_is_integer(right) ? json_integer_value(right) : -1};
    for (int side = 0; side < 2; side++)
      if (ids[side] < 0 || ids[side] >= tokenizer->n_token || tokenizer->tokens[ids[side]].special)
        return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: merge %zu: expected ids of two tokens", where,
                       k / 2);
    SS_TRY(tokenizer_load_merge_ids(tokenizer, (int32_t)ids[0], (int32_t)ids[1], where, k / 2, error));
  }
  return SS_OK;
}

static ss_status load_byte_level(tokenizer *tokenizer, const json_t *json, const char *where,
                                 ss_error *error) {
  const json_t *unknown = json_object_get(json, "unknown"),
               *digits_apart = json_object_get(json, "digits_apart"),
               *ignore_merges = json_object_get(json, "ignore_merges");
  if (!json_is_integer(unknown) || !json_is_boolean(digits_apart) || !json_is_boolean(ignore_merges))
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tokenizer: expected \"unknown\", \"digits_apart\" and \"ignore_merges\"", where);
  tokenizer->digits_apart = json_is_true(digits_apart);
  tokenizer->ignore_merges = json_is_true(ignore_merges);
  SS_TRY(load_tokens(tokenizer, json, where, error));
  json_int_t id = json_integer_value(unknown);
  if (id < -1 || id >= tokenizer->n_token)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: \"unknown\" is %lld, expected -1 to %lld", where,
                   (long long)id, (long long)tokenizer->n_token - 1);
  tokenizer->unknown = (int32_t)id;
  SS_TRY(load_merges(tokenizer, json, where, error));
  return tokenizer_finish(tokenizer, error);
}

typedef struct {
  char *bytes;         // of all tokens
  const char **texts;  // into bytes
  int32_t *lengths;
} scored_tokens;

static ss_status read_scored(tokenizer *tokenizer, scored_tokens *read, const json_t *json, const char *where,
                             ss_error *error) {
  const json_t *tokens = json_object_get(json, "tokens"), *scores = json_object_get(json, "scores");
  int64_t count = (int64_t)json_array_size(tokens), n_byte = 0;
  if (!json_is_array(tokens) || count != (int64_t)json_array_size(scores))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: expected as many \"scores\" as \"tokens\"", where);
  for (int64_t id = 0; id < count; id++) {
    if (!json_is_string(json_array_get(tokens, (size_t)id)) ||
        !json_is_real(json_array_get(scores, (size_t)id)))
      return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: token %lld: expected a string and a real score",
                     where, (long long)id);
    n_byte += (int64_t)json_string_length(json_array_get(tokens, (size_t)id));
  }
  SS_TRY(ss_allocate(&tokenizer->scores, count, sizeof *tokenizer->scores, "scores", error));
  SS_TRY(ss_allocate(&read->bytes, n_byte, 1, "tokens", error));
  SS_TRY(ss_allocate(&read->texts, count, sizeof *read->texts, "tokens", error));
  SS_TRY(ss_allocate(&read->lengths, count, sizeof *read->lengths, "tokens", error));
  tokenizer->n_score = count;
  char *next = read->bytes;
  for (int64_t id = 0; id < count; id++) {
    const json_t *token = json_array_get(tokens, (size_t)id);
    int64_t n = tokenizer_from_printable(json_string_value(token), json_string_length(token), next);
    if (n < 0)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: tokenizer: token %lld has a character outside the alphabet of bytes", where,
                     (long long)id);
    tokenizer->scores[id] = (float)json_real_value(json_array_get(scores, (size_t)id));
    read->texts[id] = next;
    read->lengths[id] = (int32_t)n;
    next += n;
  }
  return tokenizer_build_scored(tokenizer, read->texts, read->lengths, where, error);
}

static ss_status load(tokenizer *tokenizer, const json_t *json, const char *where, ss_error *error) {
  const char *kind = json_string_value(json_object_get(json, "kind"));
  if (kind != NULL && strcmp(kind, KIND_BYTE_LEVEL) == 0)
    return load_byte_level(tokenizer, json, where, error);
  if (kind == NULL || strcmp(kind, KIND_SCORED) != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer of kind \"%.40s\", expected \"%s\" or \"%s\"", where,
                   kind == NULL ? "" : kind, KIND_BYTE_LEVEL, KIND_SCORED);
  scored_tokens read = {0};
  ss_status status = read_scored(tokenizer, &read, json, where, error);
  free(read.bytes);
  free(read.texts);
  free(read.lengths);
  return status;
}

ss_status tokenizer_from_json(tokenizer **out, const json_t *json, const char *where, ss_error *error) {
  tokenizer *made = NULL;
  SS_TRY(tokenizer_start(&made, error));
  ss_status status = load(made, json, where, error);
  if (status != SS_OK) {
    tokenizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}
