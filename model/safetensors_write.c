// Writing safetensors: the header is known beforehand, values are computed tensor by tensor.
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/half.h"
#include "common/memory.h"
#include "model/safetensors.h"

static int64_t count_of(const safetensors_entry *entry) {
  return (entry->rows > 0 ? entry->rows : 1) * entry->cols;
}

static json_t *metadata_json(const safetensors_text *texts) {
  static const safetensors_text usual[] = {{"format", "pt"}, {NULL, NULL}};
  json_t *object = json_object();
  bool whole = object != NULL;
  for (const safetensors_text *text = texts != NULL ? texts : usual; text->key != NULL && whole; ++text)
    whole = json_object_set_new(object, text->key, json_string(text->value)) == 0;
  if (whole)
    return object;
  json_decref(object);
  return NULL;
}

static char *header_text(const safetensors_entry *entries, int64_t n, safetensors_dtype dtype,
                         const safetensors_text *texts) {
  json_t *header = json_pack("{s:o}", "__metadata__", metadata_json(texts));
  int64_t at = 0, size = dtype == SAFETENSORS_F32 ? 4 : 2;
  bool whole = header != NULL;
  for (int64_t i = 0; i < n && whole; ++i) {
    const safetensors_entry *entry = &entries[i];
    int64_t end = at + count_of(entry) * size;
    json_t *shape = entry->rows > 0 ? json_pack("[I, I]", (json_int_t)entry->rows, (json_int_t)entry->cols)
                                    : json_pack("[I]", (json_int_t)entry->cols);
    json_t *about = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype == SAFETENSORS_F32 ? "F32" : "BF16",
                              "shape", shape, "data_offsets", (json_int_t)at, (json_int_t)end);
    whole = json_object_set_new(header, entry->name, about) == 0;
    at = end;
  }
  char *text = !whole ? NULL : json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
  json_decref(header);
  return text;
}

static void put(unsigned char *out, uint64_t value, int n) {
  for (int i = 0; i < n; ++i)
    out[i] = (unsigned char)(value >> 8 * i);
}

// Data begins at a multiple of 8: blanks fill the header up.
static bool write_header(FILE *file, const char *text) {
  size_t n = strlen(text), padded = (n + 7) / 8 * 8;
  unsigned char length[8];
  put(length, padded, 8);
  return fwrite(length, 1, 8, file) == 8 && fwrite(text, 1, n, file) == n &&
         fwrite("        ", 1, padded - n, file) == padded - n;
}

static bool write_values(FILE *file, const float *values, unsigned char *scratch, int64_t n,
                         safetensors_dtype dtype) {
  size_t size = dtype == SAFETENSORS_F32 ? 4 : 2;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    memcpy(&bits, &values[i], sizeof bits);
    put(scratch + (size_t)i * size, dtype == SAFETENSORS_F32 ? bits : ss_bf16_of(values[i]), (int)size);
  }
  return fwrite(scratch, size, (size_t)n, file) == (size_t)n;
}

static ss_status write_all(FILE *file, const char *path, const safetensors_entry *entries, int64_t n,
                           safetensors_dtype dtype, const safetensors_text *texts, safetensors_fill fill,
                           void *user, ss_error *error) {
  int64_t most = 1;
  for (int64_t i = 0; i < n; ++i)
    most = count_of(&entries[i]) > most ? count_of(&entries[i]) : most;
  float *values = NULL;
  unsigned char *scratch = NULL;
  char *text = header_text(entries, n, dtype, texts);
  ss_status status = text != NULL ? SS_OK : ss_fail(error, SS_ERROR_MEMORY, "out of memory for a header");
  if (status == SS_OK)
    status = ss_allocate(&values, most, sizeof *values, "a tensor", error);
  if (status == SS_OK)
    status = ss_allocate(&scratch, most, sizeof *values, "a tensor", error);
  bool written = status == SS_OK && write_header(file, text);
  for (int64_t i = 0; i < n && status == SS_OK && written; ++i) {
    status = fill(user, i, values, error);
    if (status == SS_OK)
      written = write_values(file, values, scratch, count_of(&entries[i]), dtype);
  }
  written = fflush(file) == 0 && written;
  if (status == SS_OK && !written)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  free(text);
  free(values);
  free(scratch);
  return status;
}

ss_status safetensors_write(const char *path, const safetensors_entry *entries, int64_t n,
                            safetensors_dtype dtype, const safetensors_text *texts, safetensors_fill fill,
                            void *user, ss_error *error) {
  char *temporary = NULL;
  SS_TRY(ss_temporary_path(path, &temporary, error));
  FILE *file = fopen(temporary, "wb");
  ss_status status = file != NULL ? SS_OK : ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  if (file != NULL) {
    status = write_all(file, path, entries, n, dtype, texts, fill, user, error);
    if (fclose(file) != 0 && status == SS_OK)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
    if (status == SS_OK)
      status = ss_commit_file(temporary, path, error);
    else
      remove(temporary);
  }
  free(temporary);
  return status;
}
