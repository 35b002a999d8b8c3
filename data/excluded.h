// The contents that --exclude keeps out of a dataset: lines of a file, compared white space aside.
#ifndef SELFSPAN_DATA_EXCLUDED_H
#define SELFSPAN_DATA_EXCLUDED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

// Sorted hashes (XXH3-64) of the lines. A zeroed list excludes nothing.
typedef struct {
  uint64_t *hashes;
  int64_t n, capacity;
} excluded_list;

// Adds the lines of a file; lines of white space alone do not count.
ss_status excluded_read(excluded_list *list, const char *path, ss_error *error);
// Whether a text of n bytes is one of them.
ss_status excluded_has(const excluded_list *list, const char *text, int64_t n, bool *has, ss_error *error);
void excluded_free(excluded_list *list);

#endif
