// Reader of GGUF containers, versions 2 and 3, little-endian: metadata, tensor infos, and tensors dequantised to fp32.
// Format: ggml's docs/gguf.md; blocks of quantised values: ggml's ggml-common.h.
//
// Opening checks everything that can be checked without reading tensors: counts, lengths and offsets against the
// file's size and against overflow, keys and tensor names (well-formed, once each), shapes, alignment, and that tensors
// lie inside the file and apart from each other. So reading cannot leave the file. Every error names the file and the
// byte, key or tensor. The file is mapped: it must not shrink while it is open.
#ifndef SELFSPAN_COMMON_GGUF_H
#define SELFSPAN_COMMON_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct gguf gguf;

// Maps and checks PATH.
ss_status gguf_open(gguf **out, const char *path, ss_error *error);
// The same over `n` bytes of the caller's, which must outlive it. `where` names them in messages.
ss_status gguf_open_memory(gguf **out, const void *bytes, size_t n, const char *where, ss_error *error);
// NULL is allowed. Whatever the other functions point to goes with it, but for what they say is malloc'ed.
void gguf_close(gguf *file);

// The path or `where` that it was opened with.
const char *gguf_where(const gguf *file);

// --- metadata ---

// Strings are bytes with a length: not zero-terminated, not necessarily UTF-8, zeros allowed.
typedef struct {
  const char *bytes;
  int64_t n;
} gguf_text;

int64_t gguf_n_key(const gguf *file);
const char *gguf_key(const gguf *file, int64_t index);  // zero-terminated
bool gguf_has(const gguf *file, const char *key);

// Each fails, naming file and key, when the key is absent or its value has another type. Integers of every width count as
// integers (64 bits unsigned must fit int64_t), both widths of floating-point numbers as reals.
ss_status gguf_string(const gguf *file, const char *key, gguf_text *out, ss_error *error);
ss_status gguf_integer(const gguf *file, const char *key, int64_t *out, ss_error *error);
ss_status gguf_real(const gguf *file, const char *key, double *out, ss_error *error);
ss_status gguf_boolean(const gguf *file, const char *key, bool *out, ss_error *error);
// True when `key` holds exactly this text.
bool gguf_string_is(const gguf *file, const char *key, const char *text);

// Arrays: *out[*n], malloc'ed; the texts' bytes belong to the file. An empty array gives a non-NULL *out.
ss_status gguf_strings(const gguf *file, const char *key, gguf_text **out, int64_t *n, ss_error *error);
ss_status gguf_integers(const gguf *file, const char *key, int64_t **out, int64_t *n, ss_error *error);

// --- tensors ---

#define GGUF_MAX_DIMENSIONS 4

typedef struct {
  const char *name;  // zero-terminated
  int32_t type;      // ggml's number: gguf_type_name
  int32_t n_dimension;
  int64_t dimensions[GGUF_MAX_DIMENSIONS];  // the first runs fastest; those beyond n_dimension are 1
  int64_t cols, rows;                       // dimensions[0] and the product of the others
  uint64_t offset, size;                    // bytes, from the file's start
} gguf_tensor;

int64_t gguf_n_tensor(const gguf *file);
const gguf_tensor *gguf_tensor_at(const gguf *file, int64_t index);
const gguf_tensor *gguf_find_tensor(const gguf *file, const char *name);  // NULL when there is none

// "Q4_1"; "type 99" has no name: "unknown".
const char *gguf_type_name(int32_t type);
#define GGUF_READABLE "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q6_K"
// True for the types that gguf_read_rows understands.
bool gguf_type_readable(int32_t type);

// out[n_row, cols] = rows first..first+n_row-1, dequantised with the arithmetic of ggml's reference in fp32. A type that
// is not readable is refused by name.
ss_status gguf_read_rows(const gguf *file, const gguf_tensor *tensor, int64_t first, int64_t n_row,
                         float *out, ss_error *error);

#endif
