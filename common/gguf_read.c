// What a GGUF file holds: metadata by key, tensors by name, rows of tensors.
#include <stdlib.h>
#include <string.h>

#include "common/gguf_private.h"
#include "common/half.h"
#include "common/memory.h"

int64_t gguf_n_key(const gguf *file) {
  return file->n_value;
}
const char *gguf_key(const gguf *file, int64_t index) {
  return file->values[index].key;
}

static const gguf_value *find_value(const gguf *file, const char *key) {
  int64_t low = 0, high = file->n_value;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    const gguf_value *value = &file->values[file->by_key[middle]];
    int order = strcmp(key, value->key);
    if (order == 0)
      return value;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

bool gguf_has(const gguf *file, const char *key) {
  return find_value(file, key) != NULL;
}

static bool is_integer(value_type type) {
  return type != VALUE_F32 && type != VALUE_F64 && type != VALUE_BOOL && type != VALUE_STRING;
}
static bool is_real(value_type type) {
  return type == VALUE_F32 || type == VALUE_F64;
}
static bool is_boolean(value_type type) {
  return type == VALUE_BOOL;
}
static bool is_string(value_type type) {
  return type == VALUE_STRING;
}

static ss_status find_typed(const gguf *file, const char *key, bool array, bool (*fits)(value_type),
                            const char *expected, const gguf_value **out, ss_error *error) {
  const gguf_value *value = find_value(file, key);
  if (value == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is missing", file->where, key);
  if ((value->count >= 0) != array || !fits(value->type))
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is %s%s, expected %s", file->where, key,
                   value->count >= 0 ? "an array of " : "", gguf_value_names[value->type], expected);
  *out = value;
  return SS_OK;
}

// The bits of an integer, sign-extended. Only VALUE_U64 can be more than int64_t holds.
static uint64_t integer_bits(value_type type, const unsigned char *at) {
  switch (type) {
  case VALUE_U8:
    return at[0];
  case VALUE_I8:
    return (uint64_t)(int8_t)at[0];
  case VALUE_U16:
    return ss_load16(at);
  case VALUE_I16:
    return (uint64_t)(int16_t)ss_load16(at);
  case VALUE_U32:
    return ss_load32(at);
  case VALUE_I32:
    return (uint64_t)(int32_t)ss_load32(at);
  default:
    return ss_load64(at);
  }
}

static ss_status integer_at(const gguf *file, const gguf_value *value, int64_t index, int64_t *out,
                            ss_error *error) {
  uint64_t bits = integer_bits(value->type, value->payload + index * gguf_value_sizes[value->type]);
  if (value->type == VALUE_U64 && bits > INT64_MAX)
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s: %llu, expected less than 2^63", file->where,
                   value->key, (unsigned long long)bits);
  *out = (int64_t)bits;
  return SS_OK;
}

static double real_of(const gguf_value *value) {
  if (value->type == VALUE_F32)
    return (double)ss_float_of_bits(ss_load32(value->payload));
  uint64_t bits = ss_load64(value->payload);
  double real;
  memcpy(&real, &bits, sizeof real);
  return real;
}

static gguf_text text_at(const unsigned char *at) {
  return (gguf_text){(const char *)at + 8, (int64_t)ss_load64(at)};
}

ss_status gguf_string(const gguf *file, const char *key, gguf_text *out, ss_error *error) {
  const gguf_value *value = NULL;
  SS_TRY(find_typed(file, key, false, is_string, "a string", &value, error));
  *out = text_at(value->payload);
  return SS_OK;
}

ss_status gguf_integer(const gguf *file, const char *key, int64_t *out, ss_error *error) {
  const gguf_value *value = NULL;
  SS_TRY(find_typed(file, key, false, is_integer, "an integer", &value, error));
  return integer_at(file, value, 0, out, error);
}

ss_status gguf_real(const gguf *file, const char *key, double *out, ss_error *error) {
  const gguf_value *value = NULL;
  SS_TRY(find_typed(file, key, false, is_real, "a floating-point number", &value, error));
  *out = real_of(value);
  return SS_OK;
}

ss_status gguf_boolean(const gguf *file, const char *key, bool *out, ss_error *error) {
  const gguf_value *value = NULL;
  SS_TRY(find_typed(file, key, false, is_boolean, "true or false", &value, error));
  *out = value->payload[0] != 0;
  return SS_OK;
}

bool gguf_string_is(const gguf *file, const char *key, const char *text) {
  gguf_text found;
  return gguf_string(file, key, &found, NULL) == SS_OK && found.n == (int64_t)strlen(text) &&
         memcmp(found.bytes, text, (size_t)found.n) == 0;
}

ss_status gguf_strings(const gguf *file, const char *key, gguf_text **out, int64_t *n, ss_error *error) {
  const gguf_value *value = NULL;
  SS_TRY(find_typed(file, key, true, is_string, "an array of strings", &value, error));
  SS_TRY(ss_allocate(out, value->count, sizeof **out, key, error));
  const unsigned char *at = value->payload;
  for (int64_t i = 0; i < value->count; ++i) {
    (*out)[i] = text_at(at);
    at += 8 + (*out)[i].n;
  }
  *n = value->count;
  return SS_OK;
}

ss_status gguf_integers(const gguf *file, const char *key, int64_t **out, int64_t *n, ss_error *error) {
  const gguf_value *value = NULL;
  int64_t *items = NULL;
  SS_TRY(find_typed(file, key, true, is_integer, "an array of integers", &value, error));
  SS_TRY(ss_allocate(&items, value->count, sizeof *items, key, error));
  for (int64_t i = 0; i < value->count; ++i)
    if (integer_at(file, value, i, &items[i], error) != SS_OK) {
      free(items);
      return SS_ERROR_INPUT;
    }
  *out = items;
  *n = value->count;
  return SS_OK;
}

int64_t gguf_n_tensor(const gguf *file) {
  return file->n_tensor;
}
const gguf_tensor *gguf_tensor_at(const gguf *file, int64_t index) {
  return &file->tensors[index];
}

const gguf_tensor *gguf_find_tensor(const gguf *file, const char *name) {
  int64_t low = 0, high = file->n_tensor;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    const gguf_tensor *tensor = &file->tensors[file->by_name[middle]];
    int order = strcmp(name, tensor->name);
    if (order == 0)
      return tensor;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

ss_status gguf_read_rows(const gguf *file, const gguf_tensor *tensor, int64_t first, int64_t n_row,
                         float *out, ss_error *error) {
  const gguf_type_row *type = gguf_type_find(tensor->type);
  if (type->read == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s has type %s (%d), expected one of " GGUF_READABLE,
                   file->where, tensor->name, type->name, tensor->type);
  if (first < 0 || n_row < 0 || first > tensor->rows || n_row > tensor->rows - first)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: tensor %s: rows %lld to %lld of %lld", file->where,
                   tensor->name, (long long)first, (long long)(first + n_row), (long long)tensor->rows);
  int64_t blocks = tensor->cols / type->values;
  const unsigned char *in = file->bytes + tensor->offset + (uint64_t)(first * blocks * type->bytes);
  for (int64_t block = 0; block < n_row * blocks; ++block)
    type->read(in + block * type->bytes, out + block * type->values);
  return SS_OK;
}
