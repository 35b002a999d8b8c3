#include "data/tokenizer_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/utf8.h"
#include "data/tokenizer_private.h"

// Room for a token's text.
typedef struct {
  char *text;
  int64_t capacity;
} room;

static bool is_added(const tokenizer *tokenizer, int64_t id) {
  // llama2.c's <unk>, <s> and </s> are no text's: added tokens would be found in it.
  return tokenizer->tokens[id].special && (tokenizer->scores == NULL || id >= tokenizer->n_score);
}

// The token as the file writes it, zero-terminated, in `room`: byte-level BPE has the printable alphabet, llama2.c's kind the text
// itself, with bytes as "<0x41>"; an added token is its text.
static ss_status token_text(const tokenizer *tokenizer, int64_t id, room *room, ss_error *error) {
  const tokenizer_token *token = &tokenizer->tokens[id];
  const char *bytes = tokenizer->bytes + token->start;
  int64_t n = token->length;
  SS_TRY(ss_grow(&room->text, &room->capacity, 2 * n + 8, 1, "token", error));
  bool scored = tokenizer->scores != NULL;
  if (scored && id >= TOKENIZER_FIRST_BYTE && id < TOKENIZER_FIRST_SCORED)
    n = sprintf(room->text, "<0x%02X>", (unsigned)(unsigned char)*bytes);
  else if (scored || token->special)
    memcpy(room->text, bytes, (size_t)n);
  else
    n = tokenizer_to_printable(bytes, n, room->text);
  room->text[n] = '\0';
  if (ss_utf8_length(room->text, n) != n || memchr(room->text, '\0', (size_t)n) != NULL)
    return ss_fail(error, SS_ERROR_INPUT,
                   "tokenizer: token %lld is no UTF-8 without zeros, which tokenizer.json cannot say",
                   (long long)id);
  return SS_OK;
}

static ss_status out_of_memory(ss_error *error) {
  return ss_fail(error, SS_ERROR_MEMORY, "tokenizer's files: out of memory");
}

// All tokens but the added ones behind the others.
static ss_status write_vocabulary(const tokenizer *tokenizer, json_t *vocab, room *room, ss_error *error) {
  int64_t n = tokenizer->n_token;
  while (n > 0 && is_added(tokenizer, n - 1))
    n--;
  for (int64_t id = 0; id < tokenizer->n_token; id++) {
    SS_TRY(token_text(tokenizer, id, room, error));
    if (json_object_get(vocab, room->text) != NULL)
      return ss_fail(error, SS_ERROR_INPUT,
                     "tokenizer: two tokens are \"%.60s\", an ordinary and a special one, which "
                     "tokenizer.json cannot say",
                     room->text);
    if (id < n && json_object_set_new(vocab, room->text, json_integer(id)) != 0)
      return out_of_memory(error);
  }
  return SS_OK;
}

static int better_first(const void *a, const void *b) {
  const tokenizer_merge *left = a, *right = b;
  if (left->rank != right->rank)
    return left->rank < right->rank ? -1 : 1;
  return left->pair < right->pair ? -1 : left->pair > right->pair;
}

static json_t *merge_json(const tokenizer *tokenizer, const char *left, const char *right) {
  // Older readers know the first form alone, in which texts have no blanks.
  return tokenizer->scores == NULL ? json_sprintf("%s %s", left, right) : json_pack("[s, s]", left, right);
}

// llama2.c's kind may have several pairs of one rank, which make the same token.
static ss_status write_merges(const tokenizer *tokenizer, json_t *list, room *room, ss_error *error) {
  tokenizer_merge *merges = NULL;
  int64_t n = 0;
  SS_TRY(ss_allocate(&merges, tokenizer->n_merge, sizeof *merges, "merges", error));
  for (int64_t k = 0; k <= tokenizer->merge_mask; k++)
    if (tokenizer->merges[k].pair != TOKENIZER_NO_PAIR)
      merges[n++] = tokenizer->merges[k];
  qsort(merges, (size_t)n, sizeof *merges, better_first);
  ss_status status = SS_OK;
  for (int64_t k = 0; status == SS_OK && k < n; k++) {
    char *left = NULL;
    status = token_text(tokenizer, (int64_t)(merges[k].pair >> 32), room, error);
    if (status == SS_OK)
      status = ss_format(&left, error, "%s", room->text);
    if (status == SS_OK)
      status = token_text(tokenizer, (int64_t)(merges[k].pair & UINT32_MAX), room, error);
    if (status == SS_OK && json_array_append_new(list, merge_json(tokenizer, left, room->text)) != 0)
      status = out_of_memory(error);
    free(left);
  }
  free(merges);
  return status;
}

// Every added token: a list for tokenizer.json, an object by id for tokenizer_config.json.
static ss_status write_added(const tokenizer *tokenizer, json_t *list, json_t *by_id, room *room,
                             ss_error *error) {
  for (int64_t id = 0; id < tokenizer->n_token; id++) {
    if (!is_added(tokenizer, id))
      continue;
    char digits[24];
    SS_TRY(token_text(tokenizer, id, room, error));
    json_t *token = json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", room->text, "single_word", 0,
                              "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    snprintf(digits, sizeof digits, "%lld", (long long)id);
    json_t *entry = json_pack("{s:I}", "id", (json_int_t)id);
    bool whole = token != NULL && entry != NULL && json_object_update(entry, token) == 0 &&
                 json_array_append(list, entry) == 0 && json_object_set(by_id, digits, token) == 0;
    json_decref(token);
    json_decref(entry);
    if (!whole)
      return out_of_memory(error);
  }
  return SS_OK;
}

static json_t *byte_level(void) {
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0,
                   "use_regex", 1);
}

static json_t *pre_tokenizer(const tokenizer *tokenizer) {
  if (tokenizer->scores != NULL)
    return json_null();
  if (!tokenizer->digits_apart)
    return byte_level();
  return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits",
                   "individual_digits", 1, byte_level());
}

static json_t *decoder(const tokenizer *tokenizer) {
  if (tokenizer->scores == NULL)
    return byte_level();
  return json_pack("{s:s, s:[{s:s}, {s:s}]}", "type", "Sequence", "decoders", "type", "ByteFallback", "type",
                   "Fuse");
}

// Takes `json`, which may be NULL.
static ss_status write_file(const char *folder, const char *name, json_t *json, ss_error *error) {
  char *path = NULL, *text = json == NULL ? NULL : json_dumps(json, JSON_INDENT(1));
  json_decref(json);
  if (text == NULL)
    return out_of_memory(error);
  ss_status status = ss_format(&path, error, "%s/%s", folder, name);
  if (status == SS_OK)
    status = ss_write_file(path, text, strlen(text), error);
  free(path);
  free(text);
  return status;
}

typedef struct {
  json_t *vocab, *merges, *added, *by_id;
  room room;
} parts;

static ss_status fill(const tokenizer *tokenizer, parts *parts, ss_error *error) {
  parts->vocab = json_object();
  parts->merges = json_array();
  parts->added = json_array();
  parts->by_id = json_object();
  if (parts->vocab == NULL || parts->merges == NULL || parts->added == NULL || parts->by_id == NULL)
    return out_of_memory(error);
  SS_TRY(write_vocabulary(tokenizer, parts->vocab, &parts->room, error));
  SS_TRY(write_merges(tokenizer, parts->merges, &parts->room, error));
  return write_added(tokenizer, parts->added, parts->by_id, &parts->room, error);
}

// Names a special token under `key` of both objects.
static ss_status name_special(const tokenizer *tokenizer, int32_t id, const char *key, json_t *config,
                              json_t *map, room *room, ss_error *error) {
  if (id < 0)
    return SS_OK;
  if (!tokenizer_is_special(tokenizer, id))
    return ss_fail(error, SS_ERROR_INTERNAL, "tokenizer's files: %s %d is no special token", key, id);
  SS_TRY(token_text(tokenizer, id, room, error));
  bool whole = json_object_set_new(config, key, json_string(room->text)) == 0 &&
               json_object_set_new(map, key, json_string(room->text)) == 0;
  return whole ? SS_OK : out_of_memory(error);
}

static ss_status write_all(const tokenizer *tokenizer, parts *parts, const char *folder, int32_t bos,
                           int32_t eos, ss_error *error) {
  SS_TRY(fill(tokenizer, parts, error));
  json_t *unknown = json_null();
  if (tokenizer->unknown >= 0) {
    SS_TRY(token_text(tokenizer, tokenizer->unknown, &parts->room, error));
    unknown = json_string(parts->room.text);
  }
  int scored = tokenizer->scores != NULL;
  json_t *root = json_pack(
      "{s:s, s:n, s:n, s:O, s:n, s:o, s:n, s:o, s:{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
      "version", "1.0", "truncation", "padding", "added_tokens", parts->added, "normalizer", "pre_tokenizer",
      pre_tokenizer(tokenizer), "post_processor", "decoder", decoder(tokenizer), "model", "type", "BPE",
      "dropout", "unk_token", unknown, "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
      "byte_fallback", scored, "ignore_merges", (int)tokenizer->ignore_merges, "vocab", parts->vocab,
      "merges", parts->merges);
  SS_TRY(write_file(folder, "tokenizer.json", root, error));
  json_t *map = json_object();
  // transformers 4 would add token_type_ids, which neither GPT-2 nor Llama takes.
  json_t *config = json_pack("{s:s, s:b, s:b, s:b, s:[s, s], s:O}", "tokenizer_class",
                             "PreTrainedTokenizerFast", "add_prefix_space", 0, "add_bos_token", 0,
                             "clean_up_tokenization_spaces", 0, "model_input_names", "input_ids",
                             "attention_mask", "added_tokens_decoder", parts->by_id);
  ss_status status = name_special(tokenizer, bos, "bos_token", config, map, &parts->room, error);
  if (status == SS_OK)
    status = name_special(tokenizer, eos, "eos_token", config, map, &parts->room, error);
  if (status != SS_OK) {
    json_decref(map);
    json_decref(config);
    return status;
  }
  status = write_file(folder, "special_tokens_map.json", map, error);
  if (status != SS_OK) {
    json_decref(config);
    return status;
  }
  return write_file(folder, "tokenizer_config.json", config, error);
}

ss_status tokenizer_write_json(const tokenizer *tokenizer, const char *folder, int32_t bos, int32_t eos,
                               ss_error *error) {
  parts parts = {0};
  ss_status status = write_all(tokenizer, &parts, folder, bos, eos, error);
  json_decref(parts.vocab);
  json_decref(parts.merges);
  json_decref(parts.added);
  json_decref(parts.by_id);
  free(parts.room.text);
  return status;
}
