// What a tokenizer's loaders share: ids, merges, and the checks at the end.
#include "data/tokenizer_private.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/utf8.h"

#define SHOWN 60  // bytes of a token in a message

ss_status tokenizer_start(tokenizer **out, ss_error *error) {
  tokenizer *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "tokenizer", error));
  for (int byte = 0; byte < 256; byte++)
    made->byte_id[byte] = -1;
  made->unknown = -1;
  made->special_only_first = -1;
  *out = made;
  return SS_OK;
}

ss_status tokenizer_load_json_file(json_t **out, const char *path, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  SS_TRY(ss_read_file(path, &text, &size, error));
  json_error_t problem;
  *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
  free(text);
  if (*out == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: line %d, column %d: %s", path, problem.line, problem.column,
                   problem.text);
  return SS_OK;
}

// --- tokens ---

static ss_status reserve_bytes(tokenizer *tokenizer, size_t n, ss_error *error) {
  return ss_grow(&tokenizer->bytes, &tokenizer->byte_capacity, tokenizer->n_byte + (int64_t)n, 1,
                 "tokenizer's bytes", error);
}

// The token `id` from the bytes at the end of the store.
static void take_bytes(tokenizer *tokenizer, int32_t id, int64_t length, bool special) {
  tokenizer->tokens[id] = (tokenizer_token){tokenizer->n_byte, (int32_t)length, true, special};
  tokenizer->n_byte += length;
}

ss_status tokenizer_store_token(tokenizer *tokenizer, const char *bytes, int64_t n, int32_t id, bool special,
                                ss_error *error) {
  SS_TRY(reserve_bytes(tokenizer, (size_t)n, error));
  memcpy(tokenizer->bytes + tokenizer->n_byte, bytes, (size_t)n);
  take_bytes(tokenizer, id, n, special);
  return SS_OK;
}

ss_status tokenizer_note_special(tokenizer *tokenizer, int32_t id, ss_error *error) {
  const tokenizer_token *token = &tokenizer->tokens[id];
  int64_t at = 0;
  while (at < tokenizer->n_special_length && tokenizer->special_lengths[at] > token->length)
    at++;
  if (at == tokenizer->n_special_length || tokenizer->special_lengths[at] != token->length) {
    SS_TRY(ss_grow(&tokenizer->special_lengths, &tokenizer->special_length_capacity,
                   tokenizer->n_special_length + 1, sizeof *tokenizer->special_lengths, "special tokens",
                   error));
    memmove(tokenizer->special_lengths + at + 1, tokenizer->special_lengths + at,
            (size_t)(tokenizer->n_special_length - at) * sizeof *tokenizer->special_lengths);
    tokenizer->special_lengths[at] = token->length;
    tokenizer->n_special_length++;
  }
  unsigned char first = (unsigned char)tokenizer->bytes[token->start];
  tokenizer->special_only_first = tokenizer->special.count == 0 || tokenizer->special_only_first == first
                                      ? first
                                      : -1;
  tokenizer->special_first[first] = true;
  return tokenizer_table_add(&tokenizer->special, tokenizer, id, error);
}

// Of a token in a message, at most SHOWN bytes.
static int shown(size_t n) {
  return (int)(n < SHOWN ? n : SHOWN);
}

static ss_status check_token(const char *text, size_t n, const char *path, ss_error *error) {
  if (n == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: a token without text", path);
  if (n > TOKENIZER_LONGEST_TOKEN)
    return ss_fail(error, SS_ERROR_INPUT, "%s: token \"%.*s...\" of %zu bytes, expected at most %d", path,
                   shown(n), text, n, TOKENIZER_LONGEST_TOKEN);
  return SS_OK;
}

static ss_status check_id(const tokenizer *tokenizer, const json_t *value, const char *text, size_t n,
                          const char *path, int32_t *id, ss_error *error) {
  if (!json_is_integer(value))
    return ss_fail(error, SS_ERROR_INPUT, "%s: token \"%.*s\": its id is not an integer", path, shown(n),
                   text);
  json_int_t given = json_integer_value(value);
  if (given < 0 || given >= tokenizer->n_token)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: token \"%.*s\" has id %lld, expected 0 to %lld, as there are %lld tokens", path,
                   shown(n), text, (long long)given, (long long)tokenizer->n_token - 1,
                   (long long)tokenizer->n_token);
  if (tokenizer->tokens[given].present)
    return ss_fail(error, SS_ERROR_INPUT, "%s: token \"%.*s\" has id %lld, which another token has", path,
                   shown(n), text, (long long)given);
  *id = (int32_t)given;
  return SS_OK;
}

ss_status tokenizer_load_special(tokenizer *tokenizer, const char *text, size_t n, int32_t id,
                                 const char *path, ss_error *error) {
  SS_TRY(check_token(text, n, path, error));
  if (memchr(text, '\0', n) != NULL || ss_utf8_length(text, (int64_t)n) != (int64_t)n)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: token with id %d: a special token is well-formed UTF-8 without zero bytes", path, id);
  if (tokenizer_special_find(tokenizer, text, (int64_t)n) >= 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: special token \"%.*s\" (id %d) is there already", path,
                   shown(n), text, id);
  SS_TRY(tokenizer_store_token(tokenizer, text, (int64_t)n, id, true, error));
  return tokenizer_note_special(tokenizer, id, error);
}

ss_status tokenizer_load_ordinary(tokenizer *tokenizer, const char *text, size_t n, int32_t id,
                                  const char *path, ss_error *error) {
  SS_TRY(check_token(text, n, path, error));
  SS_TRY(reserve_bytes(tokenizer, n, error));
  char *bytes = tokenizer->bytes + tokenizer->n_byte;
  int64_t length = tokenizer_from_printable(text, n, bytes);
  if (length < 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: token \"%.*s\" (id %d) has a character outside the alphabet of bytes", path, shown(n),
                   text, id);
  if (tokenizer_table_find(&tokenizer->ordinary, tokenizer, bytes, length) >= 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: token \"%.*s\" (id %d) is there already", path, shown(n), text,
                   id);
  take_bytes(tokenizer, id, length, false);
  if (length == 1)
    tokenizer->byte_id[(unsigned char)*bytes] = id;
  return tokenizer_table_add(&tokenizer->ordinary, tokenizer, id, error);
}

ss_status tokenizer_reserve(tokenizer *tokenizer, int64_t count, const char *path, ss_error *error) {
  if (count == 0 || count > TOKENIZER_MOST_TOKENS)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %lld tokens, expected 1 to %d", path, (long long)count,
                   TOKENIZER_MOST_TOKENS);
  SS_TRY(ss_grow(&tokenizer->tokens, &tokenizer->token_capacity, count, sizeof *tokenizer->tokens, "tokens",
                 error));
  memset(tokenizer->tokens, 0, (size_t)count * sizeof *tokenizer->tokens);
  tokenizer->n_token = count;
  return tokenizer_table_create(&tokenizer->ordinary, count, error);
}

// Added tokens by their text; an error when one comes twice. Borrowed values.
static ss_status index_added(const json_t *added, json_t *by_text, const char *path, ss_error *error) {
  size_t k;
  json_t *entry;
  json_array_foreach(added, k, entry) {
    const json_t *content = json_object_get(entry, "content");
    const char *text = json_string_value(content);
    if (text == NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: added_tokens[%zu]: expected an object with a string content",
                     path, k);
    SS_TRY(check_token(text, json_string_length(content), path, error));
    if (json_object_get(by_text, text) != NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: added_tokens[%zu]: \"%.*s\" is there already", path, k,
                     shown(strlen(text)), text);
    if (json_object_set(by_text, text, entry) != 0)
      return ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory", path);
  }
  return SS_OK;
}

static ss_status load_tokens(tokenizer *tokenizer, json_t *object, const json_t *by_text, const char *path,
                             ss_error *error) {
  int64_t count = (int64_t)json_object_size(object);
  const char *text;
  json_t *value;
  json_object_foreach((json_t *)by_text, text, value) {
    count += json_object_get(object, text) == NULL;
  }
  SS_TRY(tokenizer_reserve(tokenizer, count, path, error));
  json_object_foreach(object, text, value) {
    size_t n = strlen(text);
    int32_t id = 0;
    SS_TRY(check_token(text, n, path, error));
    SS_TRY(check_id(tokenizer, value, text, n, path, &id, error));
    const json_t *entry = json_object_get(by_text, text);
    if (entry == NULL) {
      SS_TRY(tokenizer_load_ordinary(tokenizer, text, n, id, path, error));
      continue;
    }
    const json_t *given = json_object_get(entry, "id");
    if (!json_is_integer(given) || json_integer_value(given) != id)
      return ss_fail(error, SS_ERROR_INPUT, "%s: token \"%.*s\" has id %d, and another among added_tokens",
                     path, shown(n), text, id);
    SS_TRY(tokenizer_load_special(tokenizer, text, n, id, path, error));
  }
  json_object_foreach((json_t *)by_text, text, value) {
    if (json_object_get(object, text) != NULL)
      continue;
    size_t n = strlen(text);
    int32_t id = 0;
    SS_TRY(check_id(tokenizer, json_object_get(value, "id"), text, n, path, &id, error));
    SS_TRY(tokenizer_load_special(tokenizer, text, n, id, path, error));
  }
  return SS_OK;
}

ss_status tokenizer_load_vocabulary(tokenizer *tokenizer, const json_t *object, const json_t *added,
                                    const char *path, ss_error *error) {
  if (!json_is_object(object))
    return ss_fail(error, SS_ERROR_INPUT, "%s: the vocabulary is not an object token -> id", path);
  json_t *by_text = json_object();
  if (by_text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory", path);
  ss_status status = index_added(added, by_text, path, error);
  if (status == SS_OK)
    status = load_tokens(tokenizer, (json_t *)object, by_text, path, error);
  json_decref(by_text);
  return status;
}

// --- merges ---

static ss_status find_part(const tokenizer *tokenizer, const char *text, size_t n, char *bytes,
                           int64_t *length, int32_t *id, const char *path, const char *where,
                           ss_error *error) {
  *length = tokenizer_from_printable(text, n, bytes);
  *id = *length <= 0 ? -1 : tokenizer_table_find(&tokenizer->ordinary, tokenizer, bytes, *length);
  if (*id < 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s: \"%.*s\" is not a token of the vocabulary", path, where,
                   shown(n), text);
  return SS_OK;
}

ss_status tokenizer_load_merge(tokenizer *tokenizer, const char *left, size_t n_left, const char *right,
                               size_t n_right, const char *path, const char *where, ss_error *error) {
  if (n_left > TOKENIZER_LONGEST_TOKEN || n_right > TOKENIZER_LONGEST_TOKEN)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s: a part of more than %d bytes", path, where,
                   TOKENIZER_LONGEST_TOKEN);
  // The store's free end serves as the buffer.
  SS_TRY(reserve_bytes(tokenizer, n_left + n_right, error));
  char *bytes = tokenizer->bytes + tokenizer->n_byte;
  int64_t left_length, right_length;
  int32_t left_id, right_id;
  SS_TRY(find_part(tokenizer, left, n_left, bytes, &left_length, &left_id, path, where, error));
  SS_TRY(find_part(tokenizer, right, n_right, bytes + left_length, &right_length, &right_id, path, where,
                   error));
  int32_t id = tokenizer_table_find(&tokenizer->ordinary, tokenizer, bytes, left_length + right_length);
  if (id < 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: %s: what \"%.*s\" and \"%.*s\" make is not a token of the vocabulary", path, where,
                   shown(n_left), left, shown(n_right), right);
  if (!tokenizer_merges_add(tokenizer, left_id, right_id, id, (int32_t)tokenizer->n_merge))
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s: the merge of \"%.*s\" and \"%.*s\" is there already", path,
                   where, shown(n_left), left, shown(n_right), right);
  return SS_OK;
}

ss_status tokenizer_load_merge_ids(tokenizer *tokenizer, int32_t left, int32_t right, const char *path,
                                   size_t index, ss_error *error) {
  int64_t n_left = tokenizer->tokens[left].length, n_right = tokenizer->tokens[right].length;
  SS_TRY(reserve_bytes(tokenizer, (size_t)(n_left + n_right), error));
  char *bytes = tokenizer->bytes + tokenizer->n_byte;
  memcpy(bytes, tokenizer->bytes + tokenizer->tokens[left].start, (size_t)n_left);
  memcpy(bytes + n_left, tokenizer->bytes + tokenizer->tokens[right].start, (size_t)n_right);
  int32_t id = tokenizer_table_find(&tokenizer->ordinary, tokenizer, bytes, n_left + n_right);
  if (id < 0 || !tokenizer_merges_add(tokenizer, left, right, id, (int32_t)tokenizer->n_merge))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer: merge %zu (%d, %d) %s", path, index, left, right,
                   id < 0 ? "makes no token of the vocabulary" : "is there already");
  return SS_OK;
}

// --- the end of loading ---

// Keeps in `ordinary` the tokens that a piece of their text becomes.
static ss_status keep_whole(tokenizer *tokenizer, tokenizer_scratch *scratch, int32_t **ids,
                            int64_t *capacity, ss_error *error) {
  tokenizer_table whole = {0};
  ss_status status = tokenizer_table_create(&whole, tokenizer->n_token, error);
  // Without the table every piece is merged from its bytes.
  tokenizer_table all = tokenizer->ordinary;
  tokenizer->ordinary = (tokenizer_table){0};
  for (int64_t id = 0; status == SS_OK && id < tokenizer->n_token; id++) {
    const tokenizer_token *token = &tokenizer->tokens[id];
    if (token->special)
      continue;
    bool made = tokenizer->ignore_merges;
    if (!made) {
      int64_t n_id = 0;
      // A byte without a token is no failure here: what has it is just not made.
      status = tokenizer_merge_piece(tokenizer, scratch, tokenizer->bytes + token->start, token->length,
                                     TOKENIZER_UNKNOWN, ids, &n_id, capacity, error);
      made = n_id == 1 && (*ids)[0] == id;
    }
    if (status == SS_OK && made)
      status = tokenizer_table_add(&whole, tokenizer, (int32_t)id, error);
  }
  free(all.slots);
  tokenizer->ordinary = whole;
  return status;
}

static ss_status hash_loaded(tokenizer *tokenizer, ss_error *error) {
  if (tokenizer->scores != NULL) {
    tokenizer->loaded_hash = XXH3_64bits(tokenizer->scores,
                                         (size_t)tokenizer->n_score * sizeof *tokenizer->scores);
    return SS_OK;
  }
  tokenizer_merge *by_rank = NULL;
  SS_TRY(tokenizer_merges_by_rank(tokenizer, &by_rank, error));
  XXH3_state_t *state = XXH3_createState();
  if (state == NULL) {
    free(by_rank);
    return ss_fail(error, SS_ERROR_MEMORY, "tokenizer: out of memory");
  }
  XXH3_64bits_reset(state);
  int64_t numbers[] = {tokenizer->n_merge, tokenizer->digits_apart, tokenizer->ignore_merges,
                       tokenizer->unknown};
  XXH3_64bits_update(state, numbers, sizeof numbers);
  for (int64_t k = 0; k < tokenizer->n_merge; k++) {
    XXH3_64bits_update(state, &by_rank[k].pair, sizeof by_rank[k].pair);
    XXH3_64bits_update(state, &by_rank[k].id, sizeof by_rank[k].id);
  }
  tokenizer->loaded_hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  free(by_rank);
  return SS_OK;
}

ss_status tokenizer_finish(tokenizer *tokenizer, ss_error *error) {
  SS_TRY(tokenizer_pattern_compile(&tokenizer->pattern, tokenizer->digits_apart, error));
  if (tokenizer->scores != NULL)
    return hash_loaded(tokenizer, error);
  tokenizer_scratch *scratch = NULL;
  int32_t *ids = NULL;
  int64_t capacity = 0;
  ss_status status = tokenizer_scratch_create(&scratch, tokenizer, error);
  if (status == SS_OK)
    status = keep_whole(tokenizer, scratch, &ids, &capacity, error);
  free(ids);
  tokenizer_scratch_free(scratch);
  return status == SS_OK ? hash_loaded(tokenizer, error) : status;
}

// --- tokens added later ---

static ss_status add_token(tokenizer *tokenizer, const char *text, int64_t n, bool special, int32_t *id,
                           ss_error *error) {
  if (tokenizer->n_token >= TOKENIZER_MOST_TOKENS)
    return ss_fail(error, SS_ERROR_LIMIT, "tokenizer: more than %d tokens", TOKENIZER_MOST_TOKENS);
  SS_TRY(ss_grow(&tokenizer->tokens, &tokenizer->token_capacity, tokenizer->n_token + 1,
                 sizeof *tokenizer->tokens, "tokens", error));
  SS_TRY(reserve_bytes(tokenizer, (size_t)n, error));
  memcpy(tokenizer->bytes + tokenizer->n_byte, text, (size_t)n);
  *id = (int32_t)tokenizer->n_token;
  take_bytes(tokenizer, *id, n, special);
  ss_status status = special ? tokenizer_note_special(tokenizer, *id, error)
                             : tokenizer_table_add(&tokenizer->ordinary, tokenizer, *id, error);
  if (status == SS_OK)
    tokenizer->n_token++;
  return status;
}

ss_status tokenizer_special_add(tokenizer *tokenizer, const char *text, int64_t n, int32_t *id,
                                ss_error *error) {
  if (n < 1 || n > TOKENIZER_LONGEST_TOKEN || ss_utf8_length(text, n) != n ||
      memchr(text, '\0', (size_t)n) != NULL)
    return ss_fail(
        error, SS_ERROR_INPUT,
        "tokenizer: a special token of %lld bytes, expected well-formed UTF-8 of 1 to %d without zeros",
        (long long)n, TOKENIZER_LONGEST_TOKEN);
  *id = tokenizer_special_find(tokenizer, text, n);
  return *id >= 0 ? SS_OK : add_token(tokenizer, text, n, true, id, error);
}

int32_t tokenizer_special_find(const tokenizer *tokenizer, const char *text, int64_t n) {
  return n < 1 ? -1 : tokenizer_table_find(&tokenizer->special, tokenizer, text, n);
}

bool tokenizer_is_special(const tokenizer *tokenizer, int32_t id) {
  return id >= 0 && id < tokenizer->n_token && tokenizer->tokens[id].special;
}

ss_status tokenizer_add_bytes(tokenizer *tokenizer, int32_t *n_added, ss_error *error) {
  *n_added = 0;
  for (int byte = 0; byte < 256; byte++) {
    if (tokenizer->byte_id[byte] >= 0)
      continue;
    char text = (char)(unsigned char)byte;
    int32_t id = -1;
    SS_TRY(add_token(tokenizer, &text, 1, false, &id, error));
    tokenizer->byte_id[byte] = id;
    ++*n_added;
  }
  return SS_OK;
}

int32_t tokenizer_size(const tokenizer *tokenizer) {
  return (int32_t)tokenizer->n_token;
}

bool tokenizer_token_bytes(const tokenizer *tokenizer, int32_t id, const char **bytes, int64_t *n) {
  bool known = id >= 0 && id < tokenizer->n_token;
  *bytes = known ? tokenizer->bytes + tokenizer->tokens[id].start : NULL;
  *n = known ? tokenizer->tokens[id].length : 0;
  return known;
}

uint64_t tokenizer_hash(const tokenizer *tokenizer) {
  uint64_t hash = tokenizer->loaded_hash;
  for (int64_t id = 0; id < tokenizer->n_token; id++) {
    const tokenizer_token *token = &tokenizer->tokens[id];
    hash = XXH3_64bits_withSeed(tokenizer->bytes + token->start, (size_t)token->length,
                                hash * 2 + token->special);
  }
  return hash;
}

void tokenizer_free(tokenizer *tokenizer) {
  if (tokenizer == NULL)
    return;
  free(tokenizer->tokens);
  free(tokenizer->bytes);
  free(tokenizer->ordinary.slots);
  free(tokenizer->special.slots);
  free(tokenizer->merges);
  free(tokenizer->scores);
  free(tokenizer->special_lengths);
  pcre2_code_free(tokenizer->pattern);
  free(tokenizer);
}
