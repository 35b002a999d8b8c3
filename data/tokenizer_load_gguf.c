// A GGUF file's tokenizer: byte-level BPE in its metadata.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/gguf.h"
#include "data/tokenizer_private.h"

enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4 };  // llama.cpp's token types

static ss_status refuse(const gguf *file, const char *key, gguf_text given, const char *expected,
                        ss_error *error) {
  return ss_fail(error, SS_ERROR_INPUT, "%s: %s is \"%.*s\", expected %s", gguf_where(file), key,
                 given.n < 60 ? (int)given.n : 60, given.bytes, expected);
}

static ss_status check_kind(const gguf *file, ss_error *error) {
  static const char *const known[] = {"gpt-2", "default", "smollm"};
  gguf_text given;
  SS_TRY(gguf_string(file, "tokenizer.ggml.model", &given, error));
  if (!gguf_string_is(file, "tokenizer.ggml.model", "gpt2"))
    return refuse(file, "tokenizer.ggml.model", given, "\"gpt2\", byte-level BPE", error);
  bool prefixed = false;
  if (gguf_has(file, "tokenizer.ggml.add_space_prefix"))
    SS_TRY(gguf_boolean(file, "tokenizer.ggml.add_space_prefix", &prefixed, error));
  if (prefixed)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tokenizer.ggml.add_space_prefix is true, expected false",
                   gguf_where(file));
  if (!gguf_has(file, "tokenizer.ggml.pre"))
    return SS_OK;
  for (size_t k = 0; k < sizeof known / sizeof *known; k++)
    if (gguf_string_is(file, "tokenizer.ggml.pre", known[k]))
      return SS_OK;
  SS_TRY(gguf_string(file, "tokenizer.ggml.pre", &given, error));
  return refuse(file, "tokenizer.ggml.pre", given, "\"gpt-2\", \"default\" or \"smollm\"", error);
}

static ss_status load_tokens(tokenizer *tokenizer, const gguf *file, const gguf_text *tokens, int64_t count,
                             const int64_t *types, int64_t n_type, ss_error *error) {
  if (types != NULL && n_type != count)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %lld entries in tokenizer.ggml.token_type, expected %lld",
                   gguf_where(file), (long long)n_type, (long long)count);
  SS_TRY(tokenizer_reserve(tokenizer, count, gguf_where(file), error));
  for (int64_t id = 0; id < count; id++) {
    int64_t type = types == NULL ? TYPE_NORMAL : types[id];
    SS_TRY((type == TYPE_CONTROL || type == TYPE_USER_DEFINED
                ? tokenizer_load_special
                : tokenizer_load_ordinary)(tokenizer, tokens[id].bytes, (size_t)tokens[id].n, (int32_t)id,
                                           gguf_where(file), error));
  }
  return SS_OK;
}

static ss_status load_merges(tokenizer *tokenizer, const gguf *file, const gguf_text *merges, int64_t count,
                             ss_error *error) {
  SS_TRY(tokenizer_merges_create(tokenizer, count, error));
  for (int64_t k = 0; k < count; k++) {
    const char *text = merges[k].bytes, *end = text + merges[k].n;
    const char *space = memchr(text, ' ', (size_t)merges[k].n);
    char where[64];
    snprintf(where, sizeof where, "tokenizer.ggml.merges[%lld]", (long long)k);
    if (space == NULL || memchr(space + 1, ' ', (size_t)(end - space - 1)) != NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: %s: expected two tokens with one space between",
                     gguf_where(file), where);
    SS_TRY(tokenizer_load_merge(tokenizer, text, (size_t)(space - text), space + 1, (size_t)(end - space - 1),
                                gguf_where(file), where, error));
  }
  return SS_OK;
}

static ss_status load(tokenizer *tokenizer, const gguf *file, ss_error *error) {
  gguf_text *tokens = NULL, *merges = NULL;
  int64_t *types = NULL, n_token = 0, n_merge = 0, n_type = 0;
  SS_TRY(check_kind(file, error));
  ss_status status = gguf_strings(file, "tokenizer.ggml.tokens", &tokens, &n_token, error);
  if (status == SS_OK && gguf_has(file, "tokenizer.ggml.token_type"))
    status = gguf_integers(file, "tokenizer.ggml.token_type", &types, &n_type, error);
  if (status == SS_OK)
    status = load_tokens(tokenizer, file, tokens, n_token, types, n_type, error);
  if (status == SS_OK)
    status = gguf_strings(file, "tokenizer.ggml.merges", &merges, &n_merge, error);
  if (status == SS_OK)
    status = load_merges(tokenizer, file, merges, n_merge, error);
  free(tokens);
  free(types);
  free(merges);
  return status == SS_OK ? tokenizer_finish(tokenizer, error) : status;
}

ss_status tokenizer_from_gguf(tokenizer **out, const gguf *file, ss_error *error) {
  tokenizer *made = NULL;
  SS_TRY(tokenizer_start(&made, error));
  ss_status status = load(made, file, error);
  if (status != SS_OK) {
    tokenizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

ss_status tokenizer_open_gguf(tokenizer **out, const char *path, ss_error *error) {
  gguf *file = NULL;
  SS_TRY(gguf_open(&file, path, error));
  ss_status status = tokenizer_from_gguf(out, file, error);
  gguf_close(file);
  return status;
}
