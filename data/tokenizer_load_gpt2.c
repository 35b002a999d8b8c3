// GPT-2's pair of files: vocab.bpe and encoder.json.
#include "data/tokenizer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/utf8.h"

static ss_status load_line(tokenizer *tokenizer, const char *line, size_t n, const char *path, int64_t number,
                           ss_error *error) {
  char where[32];
  snprintf(where, sizeof where, "line %lld", (long long)number);
  const char *space = memchr(line, ' ', n);
  if (space == NULL || space == line || space + 1 == line + n ||
      memchr(space + 1, ' ', (size_t)(line + n - space - 1)) != NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s: expected two tokens with one space between", path, where);
  return tokenizer_load_merge(tokenizer, line, (size_t)(space - line), space + 1,
                              (size_t)(line + n - space - 1), path, where, error);
}

static ss_status load_merges(tokenizer *tokenizer, const char *text, size_t size, const char *path,
                             ss_error *error) {
  const char *end = text + size;
  int64_t n_line = 0, number = 1;
  for (const char *at = text; at < end; at++)
    n_line += *at == '\n';
  SS_TRY(tokenizer_merges_create(tokenizer, n_line + 1, error));
  for (const char *line = text; line < end; number++) {
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    if (stop == NULL)
      stop = end;
    bool version = number == 1 && stop - line >= 8 && memcmp(line, "#version", 8) == 0;
    if (!version)
      SS_TRY(load_line(tokenizer, line, (size_t)(stop - line), path, number, error));
    line = stop + 1;
  }
  return SS_OK;
}

// Tokens that no merge makes are special, and look like it.
static ss_status find_specials(tokenizer *tokenizer, const char *path, ss_error *error) {
  bool *made = NULL;
  SS_TRY(ss_allocate(&made, tokenizer->n_token, sizeof *made, "tokens that merges make", error));
  for (int64_t k = 0; k <= tokenizer->merge_mask; k++)
    if (tokenizer->merges[k].pair != TOKENIZER_NO_PAIR)
      made[tokenizer->merges[k].id] = true;
  ss_status status = SS_OK;
  for (int64_t id = 0; status == SS_OK && id < tokenizer->n_token; id++) {
    tokenizer_token *token = &tokenizer->tokens[id];
    const char *text = tokenizer->bytes + token->start;
    if (made[id] || token->length == 1)
      continue;
    if (text[0] != '<' || text[token->length - 1] != '>' ||
        memchr(text, '\0', (size_t)token->length) != NULL ||
        ss_utf8_length(text, token->length) != token->length) {
      status = ss_fail(
          error, SS_ERROR_INPUT,
          "%s: token with id %lld (\"%.*s\"): no merge makes it, and it is not \"<...>\", a special token",
          path, (long long)id, token->length < 60 ? token->length : 60, text);
      break;
    }
    token->special = true;
    status = tokenizer_note_special(tokenizer, (int32_t)id, error);
  }
  free(made);
  return status;
}

static ss_status load(tokenizer *tokenizer, const char *path_bpe, const char *path_encoder_json,
                      ss_error *error) {
  json_t *root = NULL;
  SS_TRY(tokenizer_load_json_file(&root, path_encoder_json, error));
  ss_status status = tokenizer_load_vocabulary(tokenizer, root, NULL, path_encoder_json, error);
  json_decref(root);
  SS_TRY(status);
  char *text = NULL;
  size_t size = 0;
  SS_TRY(ss_read_file(path_bpe, &text, &size, error));
  status = load_merges(tokenizer, text, size, path_bpe, error);
  free(text);
  SS_TRY(status);
  SS_TRY(find_specials(tokenizer, path_encoder_json, error));
  return tokenizer_finish(tokenizer, error);
}

ss_status tokenizer_open_gpt2(tokenizer **out, const char *path_bpe, const char *path_encoder_json,
                              ss_error *error) {
  tokenizer *made = NULL;
  SS_TRY(tokenizer_start(&made, error));
  ss_status status = load(made, path_bpe, path_encoder_json, error);
  if (status != SS_OK) {
    tokenizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}
