#include "data/tokenizer_write.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "data/tokenizer_private.h"

// Room for tokens in the printable alphabet.
typedef struct {
  char *text;
  int64_t capacity;
} room;

// The token as the file writes it: the printable alphabet, or a special token's text. Zero-terminated, in `room`.
static ss_status token_text(const tokenizer *tokenizer, int64_t id, room *room, ss_error *error) {
  const tokenizer_token *token = &tokenizer->tokens[id];
  const char *bytes = tokenizer->bytes + token->start;
  int64_t n = token->length;
  SS_TRY(ss_grow(&room->text, &room->capacity, 2 * n + 1, 1, "token", error));
  if (token->special)
    memcpy(room->text, bytes, (size_t)n);
  else
    n = tokenizer_to_printable(bytes, n, room->text);
  room->text[n] = '\0';
  return SS_OK;
}

static ss_status out_of_memory(ss_error *error) {
  return ss_fail(error, SS_ERROR_MEMORY, "tokenizer's files: out of memory");
}

// Ordinary tokens, and the special ones among them; those behind the last ordinary token are added tokens alone.
static ss_status write_vocabulary(const tokenizer *tokenizer, json_t *vocab, room *room, ss_error *error) {
  int64_t n = tokenizer->n_token;
  while (n > 0 && tokenizer->tokens[n - 1].special)
    n--;
  for (int64_t id = 0; id < tokenizer->n_token; id++) {
    SS_TRY(token_text(tokenizer, id, room, error));
    if (json_object_get(vocab, room->text) != NULL)
      return ss_fail(
          error, SS_ERROR_INPUT,
          "tokenizer: \"%.60s\" is an ordinary token and a special one, which tokenizer.json cannot say",
          room->text);
    if (id < n && json_object_set_new(vocab, room->text, json_integer(id)) != 0)
      return out_of_memory(error);
  }
  return SS_OK;
}

static ss_status write_merges(const tokenizer *tokenizer, json_t *list, room *room, ss_error *error) {
  tokenizer_merge *by_rank = NULL;
  SS_TRY(tokenizer_merges_by_rank(tokenizer, &by_rank, error));
  ss_status status = SS_OK;
  for (int64_t k = 0; status == SS_OK && k < tokenizer->n_merge; k++) {
    char *left = NULL;
    status = token_text(tokenizer, (int64_t)(by_rank[k].pair >> 32), room, error);
    if (status == SS_OK)
      status = ss_format(&left, error, "%s", room->text);
    if (status == SS_OK)
      status = token_text(tokenizer, (int64_t)(by_rank[k].pair & UINT32_MAX), room, error);
    if (status == SS_OK && json_array_append_new(list, json_sprintf("%s %s", left, room->text)) != 0)
      status = out_of_memory(error);
    free(left);
  }
  free(by_rank);
  return status;
}

// Every special token: a list for tokenizer.json, an object by id for tokenizer_config.json.
static ss_status write_added(const tokenizer *tokenizer, json_t *list, json_t *by_id, room *room,
                             ss_error *error) {
  for (int64_t id = 0; id < tokenizer->n_token; id++) {
    if (!tokenizer->tokens[id].special)
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
  if (!tokenizer->digits_apart)
    return byte_level();
  return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits",
                   "individual_digits", 1, byte_level());
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
  json_t *root = json_pack(
      "{s:s, s:n, s:n, s:O, s:n, s:o, s:n, s:o, s:{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:O, s:O}}",
      "version", "1.0", "truncation", "padding", "added_tokens", parts->added, "normalizer", "pre_tokenizer",
      pre_tokenizer(tokenizer), "post_processor", "decoder", byte_level(), "model", "type", "BPE", "dropout",
      "unk_token", unknown, "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback",
      0, "ignore_merges", (int)tokenizer->ignore_merges, "vocab", parts->vocab, "merges", parts->merges);
  SS_TRY(write_file(folder, "tokenizer.json", root, error));
  json_t *map = json_object();
  json_t *config = json_pack("{s:s, s:b, s:b, s:b, s:O}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "add_prefix_space", 0, "add_bos_token", 0, "clean_up_tokenization_spaces", 0,
                             "added_tokens_decoder", parts->by_id);
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
  if (tokenizer->scores != NULL)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: a tokenizer of llama2.c's kind cannot be written as tokenizer.json", folder);
  parts parts = {0};
  ss_status status = write_all(tokenizer, &parts, folder, bos, eos, error);
  json_decref(parts.vocab);
  json_decref(parts.merges);
  json_decref(parts.added);
  json_decref(parts.by_id);
  free(parts.room.text);
  return status;
}
