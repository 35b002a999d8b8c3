// A dataset as JSONL: one object a line, in the form that `selfspan data jsonl` reads (data/tasks/jsonl.h).
#ifndef SELFSPAN_DATA_JSONL_WRITE_H
#define SELFSPAN_DATA_JSONL_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/store.h"

// Writes all examples of `store` to `path`, atomically unless it is a device or pipe; *n receives their number. Shows
// progress unless `quiet`.
ss_status jsonl_write(store *store, const char *path, bool quiet, int64_t *n, ss_error *error);

// One example's row, without a newline, malloc'ed. Fields stand in the order of the documentation.
ss_status jsonl_row_text(const example *example, const char *split, char **out, ss_error *error);

#endif
