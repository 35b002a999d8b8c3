// Shared by the harnesses of rows: any bytes as a file of one form, every row read back.
#ifndef SELFSPAN_TESTS_FUZZ_ROWS_FUZZ_H
#define SELFSPAN_TESTS_FUZZ_ROWS_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // memfd_create
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/rows.h"

#define ROWS_FUZZ_REQUIRE(condition)                                          \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                \
    }                                                                         \
  } while (0)

static const rows_field rows_fuzz_fields[] = {{"a", ROWS_FILLED},
                                              {"b", ROWS_PRESENT},
                                              {"article", ROWS_OPTIONAL}};

// Every value is text without zeros; jansson judges its UTF-8. `each` (may be NULL) sees the rows.
static inline void rows_fuzz(const uint8_t *data, size_t n, rows_format format,
                             void (*each)(void *context, const rows_row *row), void *context) {
  ss_error error = {0};
  rows *source = NULL;
  rows_scratch *scratch = NULL;
  char path[64], *notes = NULL;
  int file = memfd_create("rows", MFD_CLOEXEC);
  ROWS_FUZZ_REQUIRE(file >= 0 && write(file, data, n) == (ssize_t)n);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  rows_options options = {.format = format,
                          .fields = rows_fuzz_fields,
                          .n_field = format == ROWS_STORY ? 0 : 2,
                          .id = "id",
                          .longest = 1000,
                          .most_bytes = 1 << 20};
  if (format == ROWS_STORY) {
    options.fields = rows_fuzz_fields + 2;
    options.n_field = 1;
  }
  if (rows_open(&source, path, &options, &error) == SS_OK) {
    ROWS_FUZZ_REQUIRE(rows_scratch_create(&scratch, &error) == SS_OK);
    ROWS_FUZZ_REQUIRE(rows_notes(source, &notes, &error) == SS_OK);
    if (notes != NULL) {
      json_t *text = json_string(notes);
      ROWS_FUZZ_REQUIRE(text != NULL);
      json_decref(text);
    }
    for (int64_t k = rows_count(source) - 1; k >= 0; k--) {
      rows_row row;
      ROWS_FUZZ_REQUIRE(rows_read(source, scratch, k, &row, &error) == SS_OK);
      for (int32_t f = 0; f < options.n_field; f++) {
        json_t *text = json_string(row.values[f]);
        ROWS_FUZZ_REQUIRE(text != NULL && (int64_t)strlen(row.values[f]) == row.lengths[f]);
        json_decref(text);
      }
      ROWS_FUZZ_REQUIRE(row.index == k && row.line >= 1 && row.id[0] != '\0');
      if (each != NULL)
        each(context, &row);
    }
    rows_scratch_free(scratch);
    free(notes);
    rows_close(source);
  } else {
    ROWS_FUZZ_REQUIRE(error.message[0] != '\0');
  }
  close(file);
}

#endif
