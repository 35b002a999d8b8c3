// What each token of an example may read, as text and as JSON.
#include <stdlib.h>
#include <string.h>

#include "commands/inspect.h"
#include "common/memory.h"
#include "common/table.h"
#include "span/describe.h"

ss_status inspection_make(inspection *inspection, ss_error *error) {
  const rendering *rendering = inspection->rendering;
  const span_layout *layout = &rendering->layout;
  int64_t n_view = 2 * ((int64_t)layout->n_segment + 1);
  SS_TRY(ss_allocate(&inspection->views, n_view, sizeof *inspection->views, "views", error));
  SS_TRY(ss_allocate(&inspection->ranges, n_view * span_range_capacity(layout), sizeof *inspection->ranges,
                     "ranges", error));
  SS_TRY(ss_allocate(&inspection->token_texts, rendering->n_token, sizeof *inspection->token_texts,
                     "token texts", error));
  int32_t n_range = 0;
  for (int32_t s = -1; s < layout->n_segment; s++)
    inspection->n_view += span_views_of(&inspection->policy, layout, s,
                                        inspection->views + inspection->n_view, inspection->ranges, &n_range);
  for (int64_t row = 0; row < rendering->n_token; row++)
    SS_TRY(vocabulary_decode(inspection->vocabulary, rendering->tokens + row, 1, false,
                             &inspection->token_texts[row], error));
  return SS_OK;
}

void inspection_free(inspection *inspection) {
  free(inspection->views);
  free(inspection->ranges);
  for (int64_t row = 0; inspection->token_texts != NULL && row < inspection->rendering->n_token; row++)
    free(inspection->token_texts[row]);
  free(inspection->token_texts);
}

int64_t inspection_rows(const inspection *inspection) {
  int64_t rows = 0;
  for (int32_t v = 0; v < inspection->n_view; v++)
    for (int32_t row = inspection->views[v].query_first; row < inspection->views[v].query_end; row++)
      if (row >= inspection->rendering->prompt_end - 1 && row < inspection->rendering->n_token - 1)
        rows += span_view_rows(&inspection->views[v], inspection->ranges, row);
  return rows;
}

int32_t inspection_segment(const inspection *inspection, int32_t row) {
  const span_layout *layout = &inspection->rendering->layout;
  int32_t s = -1;
  while (s + 1 < layout->n_segment && layout->segments[s + 1].first <= row)
    s++;
  return s;
}

const char *inspection_part(const inspection *inspection, int32_t row) {
  int32_t s = inspection_segment(inspection, row);
  if (s < 0)
    return "preamble";
  const span_segment *segment = &inspection->rendering->layout.segments[s];
  if (segment->kind == SPAN_CONTEXT)
    return "context";
  return row < segment->body_first ? "header" : "body";
}

// Text of rows [first, end); blanks of other kinds become visible.
static void write_text(const inspection *inspection, int32_t first, int32_t end, FILE *file) {
  for (int32_t row = first; row < end; row++)
    for (const char *at = inspection->token_texts[row]; *at != '\0'; at++)
      if (*at == '\n')
        fputs("\\n", file);
      else if ((unsigned char)*at < ' ')
        fputc('?', file);
      else
        fputc(*at, file);
}

static char *text_of(const inspection *inspection, int32_t first, int32_t end) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  if (file == NULL)
    return NULL;
  write_text(inspection, first, end, file);
  return fclose(file) == 0 ? text : NULL;
}

static char *references_of(const inspection *inspection, const span_segment *segment) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  if (file == NULL)
    return NULL;
  for (int32_t k = 0; k < segment->n_reference; k++)
    fprintf(file, "%s#%d", k > 0 ? " " : "",
            inspection->rendering->layout.references[segment->reference_first + k] +
                inspection->anchor_offset);
  if (segment->n_reference == 0)
    fputc('-', file);
  return fclose(file) == 0 ? text : NULL;
}

static ss_status segment_row(const inspection *inspection, int32_t s, ss_table *table, ss_error *error) {
  const span_segment *segment = &inspection->rendering->layout.segments[s];
  int32_t header_end = segment->header_end == SPAN_ROW_OPEN ? segment->end : segment->header_end;
  char *references = references_of(inspection, segment),
       *text = text_of(inspection, header_end, segment->end);
  ss_status status = references == NULL || text == NULL ? ss_fail(error, SS_ERROR_MEMORY, "out of memory")
                                                        : SS_OK;
  if (status == SS_OK)
    status = ss_table_row(table, error);
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%d", s);
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%s", span_kind_name(segment->kind));
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%d-%d", segment->first, segment->end - 1);
  if (status == SS_OK && segment->anchor >= 0)
    status = ss_table_cell(table, error, "#%d", s + inspection->anchor_offset);
  else if (status == SS_OK)
    status = ss_table_cell(table, error, "-");
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%s", references);
  if (status == SS_OK && segment->referenced_by != SPAN_ROW_OPEN)
    status = ss_table_cell(table, error, "#%d", segment->referenced_by + inspection->anchor_offset);
  else if (status == SS_OK)
    status = ss_table_cell(table, error, "-");
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%s", text);
  free(references);
  free(text);
  return status;
}

static ss_status show_segments(const inspection *inspection, FILE *file, ss_error *error) {
  static const char *const columns[] = {"segment",    "kind",          "rows", "anchor",
                                        "references", "first read by", "text"};
  ss_table *table = NULL;
  ss_status status = ss_table_create(&table, columns, 7, error);
  for (int32_t s = 0; status == SS_OK && s < inspection->rendering->layout.n_segment; s++)
    status = segment_row(inspection, s, table, error);
  if (status == SS_OK)
    ss_table_print(table, file);
  ss_table_free(table);
  return status;
}

// One line for the queries [first, end) of a view: the rows the last of them reads.
static void show_queries(const inspection *inspection, const span_view *view, int32_t first, int32_t end,
                         FILE *file) {
  const char *dim = inspection->colours ? "\033[2m" : "", *off = inspection->colours ? "\033[0m" : "";
  char span[32];
  if (end - first == 1)
    snprintf(span, sizeof span, "%d", first);
  else
    snprintf(span, sizeof span, "%d-%d", first, end - 1);
  fprintf(file, "%9s  %-8s  %s|V| %4d%s  ", span, inspection_part(inspection, first), dim,
          span_view_rows(view, inspection->ranges, end - 1), off);
  write_text(inspection, first, end, file);
  fprintf(file, "\n%33sreads ", "");
  span_write_rows(file, view, inspection->ranges, end - 1);
  fputc('\n', file);
}

ss_status inspection_show(const inspection *inspection, bool every_token, FILE *file, ss_error *error) {
  SS_TRY(show_segments(inspection, file, error));
  fprintf(file, "\nWhat each token may read (%s):\n",
          every_token ? "|V| and rows of each query" : "|V| and rows of a group's last query");
  for (int32_t v = 0; v < inspection->n_view; v++) {
    const span_view *view = &inspection->views[v];
    int32_t step = every_token ? 1 : view->query_end - view->query_first;
    for (int32_t row = view->query_first; row < view->query_end; row += step)
      show_queries(inspection, view, row, row + step, file);
  }
  return SS_OK;
}

// --- JSON ---

static json_t *token_json(const inspection *inspection, const span_view *view, int32_t row) {
  json_t *rows = json_array();
  for (int32_t k = 0; k < view->n_range; k++) {
    const span_range *range = &inspection->ranges[view->range_first + k];
    json_array_append_new(rows, json_pack("[ii]", (int)range->first, (int)range->end));
  }
  json_array_append_new(rows, json_pack("[ii]", (int)view->self_first, (int)row + 1));
  // Bytes of a token that are no UTF-8 by themselves are left to the id.
  json_t *text = json_string(inspection->token_texts[row]);
  return json_pack("{s:i, s:i, s:o, s:i, s:s, s:b, s:i, s:o}", "row", (int)row, "id",
                   (int)inspection->rendering->tokens[row], "text", text == NULL ? json_null() : text,
                   "segment", (int)inspection_segment(inspection, row), "part",
                   inspection_part(inspection, row), "loss", (int)inspection->rendering->loss[row], "n_row",
                   (int)span_view_rows(view, inspection->ranges, row), "reads", rows);
}

static json_t *segment_json(const inspection *inspection, int32_t s) {
  const span_layout *layout = &inspection->rendering->layout;
  const span_segment *segment = &layout->segments[s];
  json_t *references = json_array();
  for (int32_t k = 0; k < segment->n_reference; k++)
    json_array_append_new(references, json_integer(layout->references[segment->reference_first + k]));
  const example *example = inspection->example;
  json_t *text = s < example->n_segment
                     ? json_stringn(example->text + example->segments[s].text_first,
                                    (size_t)(example->segments[s].text_end - example->segments[s].text_first))
                     : json_string("");
  return json_pack("{s:s, s:i, s:i, s:i, s:i, s:o, s:o}", "kind", span_kind_name(segment->kind), "first",
                   (int)segment->first, "header_end",
                   segment->header_end == SPAN_ROW_OPEN ? -1 : (int)segment->header_end, "end",
                   (int)segment->end, "anchor", (int)segment->anchor, "references", references, "text",
                   text == NULL ? json_null() : text);
}

json_t *inspection_json(const inspection *inspection) {
  json_t *segments = json_array(), *tokens = json_array();
  for (int32_t s = 0; s < inspection->rendering->layout.n_segment; s++)
    json_array_append_new(segments, segment_json(inspection, s));
  for (int32_t v = 0; v < inspection->n_view; v++)
    for (int32_t row = inspection->views[v].query_first; row < inspection->views[v].query_end; row++)
      json_array_append_new(tokens, token_json(inspection, &inspection->views[v], row));
  return json_pack("{s:s, s:s, s:i, s:I, s:i, s:I, s:o, s:o}", "id", inspection->example->id, "arm",
                   arm_name(inspection->arm), "anchor_offset", (int)inspection->anchor_offset, "n_token",
                   (json_int_t)inspection->rendering->n_token, "prompt_end",
                   (int)inspection->rendering->prompt_end, "generated_attended_rows",
                   (json_int_t)inspection_rows(inspection), "segments", segments, "tokens", tokens);
}
