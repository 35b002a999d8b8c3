// The embedding's rows of the tokens that an import added (model/import.h), as a small safetensors file: all that training
// with train.learn=span_tokens changes in a base, which everyone can fetch by himself.
//
// The file has one tensor, "rows" [n_row, n_embd], and texts as its metadata: format NEW_ROWS_FORMAT, schema_version, task,
// n_anchor, n_embd, first, policy, base_xxh128 (docs/FORMATS.md). The last is the fingerprint of the base, without which rows are
// of no use: the XXH3-128 of all other parameters, F32 in the order of the model's table, the embedding's up to the first new row.
#ifndef SELFSPAN_MODEL_NEW_ROWS_H
#define SELFSPAN_MODEL_NEW_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "model/gpt.h"
#include "model/safetensors.h"

#define NEW_ROWS_FORMAT "selfspan-rows"
#define NEW_ROWS_SCHEMA_VERSION 1

// Zero-initialise; everything in it is its own.
typedef struct {
  char *task;
  char *policy;  // JSON: arm and span policy; opaque here
  int64_t n_anchor;
  int64_t first;          // id of the first new token
  int64_t n_row, n_embd;  // first + n_row: the size of the vocabulary
  char base_hash[33];     // 32 lower-case hexadecimal digits
  float *values;          // [n_row, n_embd], finite
} new_rows;

void new_rows_free(new_rows *rows);  // a zeroed struct is allowed

// Takes the rows from `first` on, and the fingerprint of the others, out of a model; `where` names it in messages. Task, policy
// and n_anchor are left to the caller. Values that are not finite are an error. On failure there is nothing to free.
ss_status new_rows_take(new_rows *out, gpt *model, int64_t first, const char *where, ss_error *error);

// Replaces the model's new rows by these. `where` names the file they are from and `base` the model's, in messages: another
// first row, width, number of rows or fingerprint is an error, and the model stays as it was.
ss_status new_rows_put(const new_rows *rows, gpt *model, const char *where, const char *base,
                       ss_error *error);

// Writes `path` whole or not at all.
ss_status new_rows_write(const new_rows *rows, const char *path, safetensors_dtype dtype, ss_error *error);

// Reads what new_rows_write wrote. Errors name the file and the field. On failure there is nothing to free.
ss_status new_rows_read(new_rows *out, const char *path, ss_error *error);
// The same of a file's n bytes; `where` names them in messages.
ss_status new_rows_read_memory(new_rows *out, const void *bytes, size_t n, const char *where,
                               ss_error *error);

#endif
