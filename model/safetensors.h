// Safetensors files: named tensors behind a JSON header, alone or several beside an index, and a writer.
// Format: https://github.com/huggingface/safetensors (8 bytes of header length, JSON, data).
//
// Opening checks everything that can be checked without reading tensors: the header's length, its JSON (no key twice),
// every dtype, shape and offset against each other and against the file, and that tensors fill the data without gaps or
// overlaps. So reading cannot leave the file. Errors name the file and the tensor.
#ifndef SELFSPAN_MODEL_SAFETENSORS_H
#define SELFSPAN_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SAFETENSORS_MAX_DIMENSIONS 8

typedef struct safetensors safetensors;

typedef struct {
  const char *name;   // zero-terminated, printable ASCII
  const char *dtype;  // as the file says: "BF16"
  int32_t n_dimension;
  int64_t shape[SAFETENSORS_MAX_DIMENSIONS];
  int64_t rows, cols;  // cols: the last dimension; rows: the product of the others
  const unsigned char *data;
  uint64_t size;  // bytes
} safetensors_tensor;

// Opens a .safetensors file, or an index (a name that ends in .json) with the files that it names beside it. Files are
// mapped: they must not shrink while they are open.
ss_status safetensors_open(safetensors **out, const char *path, ss_error *error);
// One file's bytes, which must outlive it. `where` names them in messages.
ss_status safetensors_open_memory(safetensors **out, const void *bytes, size_t n, const char *where,
                                  ss_error *error);
void safetensors_close(safetensors *file);  // NULL is allowed

// The path or `where` that it was opened with.
const char *safetensors_where(const safetensors *file);
int64_t safetensors_n_tensor(const safetensors *file);
const safetensors_tensor *safetensors_tensor_at(const safetensors *file,
                                                int64_t index);  // in the order of names
const safetensors_tensor *safetensors_find(const safetensors *file,
                                           const char *name);  // NULL when there is none

// The text under `key` in the metadata of the (first) file, NULL when there is none. It lives as long as the file is open, and
// may hold anything but zeros.
const char *safetensors_find_text(const safetensors *file, const char *key);

// True for F32, F16 and BF16.
bool safetensors_readable(const safetensors_tensor *tensor);
// out[n_row, cols] = rows first..first+n_row-1 of an F32, F16 or BF16 tensor; another dtype is refused by name.
ss_status safetensors_read_rows(const safetensors *file, const safetensors_tensor *tensor, int64_t first,
                                int64_t n_row, float *out, ss_error *error);

// --- writing ---

typedef enum { SAFETENSORS_F32, SAFETENSORS_BF16 } safetensors_dtype;

// What stands in the header: a matrix [rows, cols], or a vector [cols] when rows is 0.
typedef struct {
  const char *name;
  int64_t rows, cols;
} safetensors_entry;

// Metadata: texts by their keys.
typedef struct {
  const char *key, *value;
} safetensors_text;

// Computes tensor `index` into out[max(rows, 1) * cols].
typedef ss_status (*safetensors_fill)(void *user, int64_t index, float *out, ss_error *error);

// Writes `path` whole or not at all, tensors in the order given, BF16 rounded to nearest even. `texts` (up to one whose key is
// NULL) are the header's metadata; NULL: {"format": "pt"}, which transformers asks for.
ss_status safetensors_write(const char *path, const safetensors_entry *entries, int64_t n,
                            safetensors_dtype dtype, const safetensors_text *texts, safetensors_fill fill,
                            void *user, ss_error *error);

#endif
