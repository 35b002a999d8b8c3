// Parts of `selfspan inspect`.
#ifndef SELFSPAN_COMMANDS_INSPECT_H
#define SELFSPAN_COMMANDS_INSPECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "data/render.h"
#include "data/store.h"
#include "span/span_core.h"

// One example under one arm and policy, with all its views.
typedef struct {
  const example *example;
  const rendering *rendering;  // the arm's
  const vocabulary *vocabulary;
  arm arm;
  span_policy policy;
  int32_t anchor_offset;
  span_view *views;
  int32_t n_view;
  span_range *ranges;
  char **token_texts;  // [n_token]
  bool colours;        // the output is a terminal
  int32_t columns;     // its width
} inspection;

// Fills views, ranges and token texts; the rest is set by the caller. Free with inspection_free.
ss_status inspection_make(inspection *inspection, ss_error *error);
void inspection_free(inspection *inspection);

// Sum of |V(i)| over the queries that write generated tokens.
int64_t inspection_rows(const inspection *inspection);

// The segment of a row (-1: preamble), and which part of it: "preamble", "context", "header", "body".
int32_t inspection_segment(const inspection *inspection, int32_t row);
const char *inspection_part(const inspection *inspection, int32_t row);

// Segments with anchors and references; then what each group of tokens (each token, with `every_token`) may read.
ss_status inspection_show(const inspection *inspection, bool every_token, FILE *file, ss_error *error);

// A compact map: a line a view, a column a row of the cache (or several rows, when the example is wider than the
// terminal).
void inspection_map(const inspection *inspection, FILE *file);

// The example as prose: contexts, then steps, wrapped to the terminal, with an arrow for each step from the segments that
// its header names down to it. Needs no views.
ss_status inspection_prose(const inspection *inspection, FILE *file, ss_error *error);

// The same for machines: segments with texts, "references" and "read_by", answers and metadata; no tokens.
json_t *inspection_prose_json(const inspection *inspection);

// Everything, for machines. The caller owns it; NULL when memory is out.
json_t *inspection_json(const inspection *inspection);

#endif
