// Hugging Face's tokenizer.json, where it describes a byte-level BPE with GPT-2's pattern.
#include "data/tokenizer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ss_status refuse(const char *path, const char *field, const json_t *value, const char *expected,
                        ss_error *error) {
  char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
  ss_fail(error, SS_ERROR_INPUT, "%s: %s is %.200s, expected %s", path, field, text == NULL ? "absent" : text,
          expected);
  free(text);
  return SS_ERROR_INPUT;
}

// --- pre-tokenizer ---

static bool has_type(const json_t *object, const char *type) {
  const char *given = json_string_value(json_object_get(object, "type"));
  return given != NULL && strcmp(given, type) == 0;
}

static bool is_byte_level(const json_t *step) {
  // use_regex came later than the files that do without it.
  const json_t *regex = json_object_get(step, "use_regex");
  return has_type(step, "ByteLevel") && json_is_false(json_object_get(step, "add_prefix_space")) &&
         (regex == NULL || json_is_true(regex));
}

static ss_status load_pre_tokenizer(tokenizer *tokenizer, const json_t *root, const char *path,
                                    ss_error *error) {
  const json_t *given = json_object_get(root, "pre_tokenizer");
  const json_t *steps = json_object_get(given, "pretokenizers");
  if (is_byte_level(given))
    return SS_OK;
  const json_t *digits = json_array_get(steps, 0);
  if (has_type(given, "Sequence") && json_array_size(steps) == 1 && is_byte_level(json_array_get(steps, 0)))
    return SS_OK;
  if (has_type(given, "Sequence") && json_array_size(steps) == 2 && has_type(digits, "Digits") &&
      json_is_true(json_object_get(digits, "individual_digits")) && is_byte_level(json_array_get(steps, 1))) {
    tokenizer->digits_apart = true;
    return SS_OK;
  }
  return refuse(
      path, "pre_tokenizer", given,
      "ByteLevel without add_prefix_space and with use_regex, alone or after Digits with individual_digits",
      error);
}

// --- model ---

static ss_status check_model(tokenizer *tokenizer, const json_t *model, const char *path, ss_error *error) {
  const json_t *type = json_object_get(model, "type");
  if (type != NULL && !has_type(model, "BPE"))
    return refuse(path, "model.type", type, "\"BPE\"", error);
  const char *const absent[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
  for (size_t k = 0; k < sizeof absent / sizeof *absent; k++) {
    const json_t *value = json_object_get(model, absent[k]);
    bool empty = json_is_string(value) && json_string_length(value) == 0;
    if (value != NULL && !json_is_null(value) && !empty)
      return refuse(path, absent[k], value, "null", error);
  }
  const char *const false_ones[] = {"byte_fallback", "fuse_unk"};
  for (size_t k = 0; k < sizeof false_ones / sizeof *false_ones; k++) {
    const json_t *value = json_object_get(model, false_ones[k]);
    if (value != NULL && !json_is_false(value) && !json_is_null(value))
      return refuse(path, false_ones[k], value, "false", error);
  }
  tokenizer->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
  return SS_OK;
}

static ss_status load_unknown(tokenizer *tokenizer, const json_t *model, const char *path, ss_error *error) {
  const json_t *given = json_object_get(model, "unk_token");
  if (given == NULL || json_is_null(given))
    return SS_OK;
  const json_t *id = json_object_get(json_object_get(model, "vocab"), json_string_value(given));
  if (!json_is_integer(id))
    return refuse(path, "model.unk_token", given, "null or a token of the vocabulary", error);
  tokenizer->unknown = (int32_t)json_integer_value(id);
  return SS_OK;
}

static ss_status load_merge(tokenizer *tokenizer, const json_t *merge, const char *path, size_t index,
                            ss_error *error) {
  char where[48];
  snprintf(where, sizeof where, "model.merges[%zu]", index);
  const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
  if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right))
    return tokenizer_load_merge(tokenizer, json_string_value(left), json_string_length(left),
                                json_string_value(right), json_string_length(right), path, where, error);
  const char *text = json_string_value(merge);
  const char *space = text == NULL ? NULL : strchr(text, ' ');
  if (space == NULL || strchr(space + 1, ' ') != NULL)
    return refuse(path, where, merge, "\"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]", error);
  return tokenizer_load_merge(tokenizer, text, (size_t)(space - text), space + 1, strlen(space + 1), path,
                              where, error);
}

static ss_status load_merges(tokenizer *tokenizer, const json_t *model, const char *path, ss_error *error) {
  const json_t *merges = json_object_get(model, "merges");
  if (!json_is_array(merges))
    return refuse(path, "model.merges", merges, "an array", error);
  SS_TRY(tokenizer_merges_create(tokenizer, (int64_t)json_array_size(merges), error));
  for (size_t k = 0; k < json_array_size(merges); k++)
    SS_TRY(load_merge(tokenizer, json_array_get(merges, k), path, k, error));
  return SS_OK;
}

// --- added tokens ---

static ss_status check_added(const json_t *added, const char *path, ss_error *error) {
  if (added != NULL && !json_is_null(added) && !json_is_array(added))
    return refuse(path, "added_tokens", added, "an array", error);
  const char *const false_ones[] = {"lstrip", "rstrip", "single_word"};
  for (size_t k = 0; k < json_array_size(added); k++)
    for (size_t i = 0; i < sizeof false_ones / sizeof *false_ones; i++) {
      const json_t *value = json_object_get(json_array_get(added, k), false_ones[i]);
      if (value != NULL && !json_is_false(value))
        return refuse(path, "an added token's lstrip, rstrip or single_word", json_array_get(added, k),
                      "false", error);
    }
  return SS_OK;
}

static ss_status load(tokenizer *tokenizer, const json_t *root, const char *path, ss_error *error) {
  const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
  if (!json_is_object(model))
    return refuse(path, "model", model, "an object", error);
  const json_t *normalizer = json_object_get(root, "normalizer");
  const json_t *steps = json_object_get(normalizer, "normalizers");
  bool none = has_type(normalizer, "Sequence") && json_is_array(steps) && json_array_size(steps) == 0;
  if (normalizer != NULL && !json_is_null(normalizer) && !none)
    return refuse(path, "normalizer", normalizer, "null", error);
  SS_TRY(load_pre_tokenizer(tokenizer, root, path, error));
  SS_TRY(check_model(tokenizer, model, path, error));
  SS_TRY(check_added(added, path, error));
  SS_TRY(tokenizer_load_vocabulary(tokenizer, json_object_get(model, "vocab"), added, path, error));
  SS_TRY(load_merges(tokenizer, model, path, error));
  SS_TRY(load_unknown(tokenizer, model, path, error));
  return tokenizer_finish(tokenizer, error);
}

ss_status tokenizer_open_json(tokenizer **out, const char *path, ss_error *error) {
  json_t *root = NULL;
  SS_TRY(tokenizer_load_json_file(&root, path, error));
  tokenizer *made = NULL;
  ss_status status = tokenizer_start(&made, error);
  if (status == SS_OK)
    status = load(made, root, path, error);
  json_decref(root);
  if (status != SS_OK) {
    tokenizer_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}
