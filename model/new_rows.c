#include "model/new_rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/cli.h"
#include "common/memory.h"

#define TENSOR "rows"

enum { MOST_ANCHORS = 65536, MOST_TOKENS = 1 << 24, MOST_WIDTH = 1 << 20 };

void new_rows_free(new_rows *rows) {
  free(rows->task);
  free(rows->policy);
  free(rows->values);
  memset(rows, 0, sizeof *rows);
}

// Rows a file or model has may be anything; what is not finite would spread to every logit.
static ss_status check_finite(const new_rows *rows, const char *where, ss_error *error) {
  for (int64_t i = 0; i < rows->n_row * rows->n_embd; ++i)
    if (!isfinite(rows->values[i]))
      return ss_fail(error, SS_ERROR_INPUT, "%s: row %" PRId64 " of tensor " TENSOR " is not finite", where,
                     i / rows->n_embd);
  return SS_OK;
}

// --- models ------------------------------------------------------------------------------------------------

static const gpt_parameter *embedding(const gpt *model) {
  return &gpt_parameter_table(model)[gpt_find_parameter(model, "wte")];
}

static ss_status add_parameter(gpt *model, const gpt_parameter *parameter, int64_t rows, XXH3_state_t *state,
                               ss_error *error) {
  float *values = NULL;
  size_t size = (size_t)(rows * parameter->cols) * sizeof *values;
  SS_TRY(ss_allocate(&values, rows * parameter->cols, sizeof *values, "a parameter's copy", error));
  ss_device *device = gpt_device(model);
  bool copied = device->ops->download(device, values, gpt_parameters(model) + parameter->offset, size) ==
                SS_OK;
  if (copied)
    XXH3_128bits_update(state, values, size);
  free(values);
  return copied ? SS_OK : ss_device_error(device, error);
}

static ss_status fingerprint(gpt *model, int64_t first, char out[33], ss_error *error) {
  XXH3_state_t *state = XXH3_createState();
  if (state == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for a fingerprint");
  XXH3_128bits_reset(state);
  const gpt_parameter *wte = embedding(model);
  ss_status status = SS_OK;
  for (int32_t k = 0; k < gpt_n_parameter_tensor(model) && status == SS_OK; ++k) {
    const gpt_parameter *parameter = &gpt_parameter_table(model)[k];
    status = add_parameter(model, parameter, parameter == wte ? first : parameter->rows, state, error);
  }
  XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
  return status;
}

static ss_status take(new_rows *out, gpt *model, int64_t first, const char *where, ss_error *error) {
  const gpt_parameter *wte = embedding(model);
  ss_device *device = gpt_device(model);
  if (first < 1 || first >= wte->rows)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: new rows from %" PRId64 " on, the embedding has %" PRId64,
                   where, first, wte->rows);
  out->first = first;
  out->n_row = wte->rows - first;
  out->n_embd = wte->cols;
  SS_TRY(ss_allocate(&out->values, out->n_row * out->n_embd, sizeof *out->values, "new rows", error));
  SS_OP(device, error, download, out->values, gpt_parameters(model) + wte->offset + first * wte->cols,
        (size_t)(out->n_row * out->n_embd) * sizeof *out->values);
  SS_TRY(check_finite(out, where, error));
  return fingerprint(model, first, out->base_hash, error);
}

ss_status new_rows_take(new_rows *out, gpt *model, int64_t first, const char *where, ss_error *error) {
  memset(out, 0, sizeof *out);
  ss_status status = take(out, model, first, where, error);
  if (status != SS_OK)
    new_rows_free(out);
  return status;
}

static ss_status check_same(const char *what, int64_t is, int64_t expected, const char *where,
                            const char *base, ss_error *error) {
  return is == expected
             ? SS_OK
             : ss_fail(error, SS_ERROR_INPUT,
                       "%s: its rows were learnt on another base: %s is %" PRId64 ", that of %s %" PRId64,
                       where, what, is, base, expected);
}

ss_status new_rows_put(const new_rows *rows, gpt *model, const char *where, const char *base,
                       ss_error *error) {
  const gpt_parameter *wte = embedding(model);
  ss_device *device = gpt_device(model);
  char hash[33];
  SS_TRY(check_same("n_embd", rows->n_embd, wte->cols, where, base, error));
  SS_TRY(check_same("the size of the vocabulary", rows->first + rows->n_row, wte->rows, where, base, error));
  SS_TRY(fingerprint(model, rows->first, hash, error));
  if (strcmp(hash, rows->base_hash) != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: its rows were learnt on another base: base_xxh128 is %s, that of %s %s", where,
                   rows->base_hash, base, hash);
  SS_OP(device, error, upload, gpt_parameters(model) + wte->offset + rows->first * wte->cols, rows->values,
        (size_t)(rows->n_row * rows->n_embd) * sizeof *rows->values);
  return SS_OK;
}

// --- files -------------------------------------------------------------------------------------------------

static ss_status fill(void *user, int64_t index, float *out, ss_error *error) {
  const new_rows *rows = user;
  (void)index, (void)error;
  memcpy(out, rows->values, (size_t)(rows->n_row * rows->n_embd) * sizeof *out);
  return SS_OK;
}

ss_status new_rows_write(const new_rows *rows, const char *path, safetensors_dtype dtype, ss_error *error) {
  char version[24], n_anchor[24], n_embd[24], first[24];
  snprintf(version, sizeof version, "%d", NEW_ROWS_SCHEMA_VERSION);
  snprintf(n_anchor, sizeof n_anchor, "%" PRId64, rows->n_anchor);
  snprintf(n_embd, sizeof n_embd, "%" PRId64, rows->n_embd);
  snprintf(first, sizeof first, "%" PRId64, rows->first);
  const safetensors_text texts[] = {{"format", NEW_ROWS_FORMAT},
                                    {"schema_version", version},
                                    {"task", rows->task},
                                    {"n_anchor", n_anchor},
                                    {"n_embd", n_embd},
                                    {"first", first},
                                    {"policy", rows->policy},
                                    {"base_xxh128", rows->base_hash},
                                    {NULL, NULL}};
  const safetensors_entry entry = {TENSOR, rows->n_row, rows->n_embd};
  return safetensors_write(path, &entry, 1, dtype, texts, fill, (void *)rows, error);
}

static ss_status read_text(const safetensors *file, const char *key, const char **out, ss_error *error) {
  *out = safetensors_find_text(file, key);
  if (*out == NULL)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: no %s in its metadata, expected a file of `selfspan export rows`",
                   safetensors_where(file), key);
  return SS_OK;
}

static ss_status read_number(const safetensors *file, const char *key, int64_t most, int64_t *out,
                             ss_error *error) {
  const char *text = NULL;
  SS_TRY(read_text(file, key, &text, error));
  ss_error reason = {0};
  if (ss_parse_int(text, 1, most, out, key, &reason) != SS_OK)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s in its metadata: expected a number from 1 to %" PRId64,
                   safetensors_where(file), key, most);
  return SS_OK;
}

static ss_status check_format(const safetensors *file, ss_error *error) {
  const char *format = NULL;
  int64_t version = 0;
  SS_TRY(read_text(file, "format", &format, error));
  if (strcmp(format, NEW_ROWS_FORMAT) != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: format in its metadata is not " NEW_ROWS_FORMAT
                   ", expected a file of `selfspan export rows`",
                   safetensors_where(file));
  SS_TRY(read_number(file, "schema_version", INT32_MAX, &version, error));
  if (version > NEW_ROWS_SCHEMA_VERSION)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: schema_version %" PRId64 " in its metadata, this program reads up to %d",
                   safetensors_where(file), version, NEW_ROWS_SCHEMA_VERSION);
  return SS_OK;
}

static ss_status read_hash(const safetensors *file, char out[33], ss_error *error) {
  const char *text = NULL;
  SS_TRY(read_text(file, "base_xxh128", &text, error));
  if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: base_xxh128 in its metadata: expected 32 lower-case hexadecimal digits",
                   safetensors_where(file));
  memcpy(out, text, 33);
  return SS_OK;
}

static ss_status read_values(const safetensors *file, new_rows *out, ss_error *error) {
  const safetensors_tensor *tensor = safetensors_find(file, TENSOR);
  if (tensor == NULL || safetensors_n_tensor(file) != 1)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %" PRId64 " tensors, expected one called " TENSOR,
                   safetensors_where(file), safetensors_n_tensor(file));
  if (tensor->n_dimension != 2 || tensor->cols != out->n_embd || tensor->rows < 1 ||
      tensor->rows > MOST_TOKENS - out->first)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tensor " TENSOR ": %d dimensions, %" PRId64 " x %" PRId64
                   ", expected at least one row of n_embd = %" PRId64 " and at most %" PRId64,
                   safetensors_where(file), tensor->n_dimension, tensor->rows, tensor->cols, out->n_embd,
                   MOST_TOKENS - out->first);
  out->n_row = tensor->rows;
  if (!safetensors_readable(tensor))  // before memory is asked for
    return safetensors_read_rows(file, tensor, 0, 1, NULL, error);
  SS_TRY(ss_allocate(&out->values, out->n_row * out->n_embd, sizeof *out->values, "new rows", error));
  SS_TRY(safetensors_read_rows(file, tensor, 0, out->n_row, out->values, error));
  return check_finite(out, safetensors_where(file), error);
}

static ss_status read_all(const safetensors *file, new_rows *out, ss_error *error) {
  const char *task = NULL, *policy = NULL;
  SS_TRY(check_format(file, error));
  SS_TRY(read_text(file, "task", &task, error));
  SS_TRY(read_text(file, "policy", &policy, error));
  SS_TRY(read_number(file, "n_anchor", MOST_ANCHORS, &out->n_anchor, error));
  SS_TRY(read_number(file, "n_embd", MOST_WIDTH, &out->n_embd, error));
  SS_TRY(read_number(file, "first", MOST_TOKENS, &out->first, error));
  SS_TRY(read_hash(file, out->base_hash, error));
  SS_TRY(ss_format(&out->task, error, "%s", task));
  SS_TRY(ss_format(&out->policy, error, "%s", policy));
  return read_values(file, out, error);
}

// `status` is that of opening.
static ss_status finish(new_rows *out, safetensors *file, ss_status status, ss_error *error) {
  memset(out, 0, sizeof *out);
  if (status == SS_OK)
    status = read_all(file, out, error);
  safetensors_close(file);
  if (status != SS_OK)
    new_rows_free(out);
  return status;
}

ss_status new_rows_read(new_rows *out, const char *path, ss_error *error) {
  safetensors *file = NULL;
  ss_status status = safetensors_open(&file, path, error);
  return finish(out, file, status, error);
}

ss_status new_rows_read_memory(new_rows *out, const void *bytes, size_t n, const char *where,
                               ss_error *error) {
  safetensors *file = NULL;
  ss_status status = safetensors_open_memory(&file, bytes, n, where, error);
  return finish(out, file, status, error);
}
