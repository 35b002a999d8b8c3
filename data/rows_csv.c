#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/rows_private.h"

static ss_status add_cell(rows_scratch *scratch, char *data, int64_t n, ss_error *problem) {
  SS_TRY(ss_grow(&scratch->cells, &scratch->cell_capacity, scratch->n_cell + 1, sizeof *scratch->cells,
                 "columns", problem));
  scratch->cells[scratch->n_cell].data = data;
  scratch->cells[scratch->n_cell++].n = n;
  return SS_OK;
}

// Cuts text[0..n), a record without its line's end, into cells, which are unquoted in place.
static ss_status split(rows_scratch *scratch, char *text, int64_t n, int64_t most, ss_error *problem) {
  scratch->n_cell = 0;
  for (int64_t at = 0;; at++) {  // a field begins at `at`; afterwards `at` is its comma, or n
    char *cell = text + at;
    int64_t length = 0;
    if (scratch->n_cell == most)
      return ss_fail(problem, SS_ERROR_INPUT, "more than %lld columns, expected %lld", (long long)most,
                     (long long)most);
    if (at == n || *cell != '"') {
      const char *comma = memchr(cell, ',', (size_t)(n - at));
      length = comma == NULL ? n - at : comma - cell;
      at += length;
    } else {
      for (at++;;) {
        const char *quote = memchr(text + at, '"', (size_t)(n - at));
        if (quote == NULL)
          return ss_fail(problem, SS_ERROR_INPUT, "column %lld: the closing quote is missing",
                         (long long)scratch->n_cell + 1);
        int64_t piece = quote - (text + at);
        memmove(cell + length, text + at, (size_t)piece);
        length += piece;
        at += piece + 1;
        if (at == n || text[at] != '"')
          break;
        cell[length++] = '"';
        at++;
      }
      if (at < n && text[at] != ',')
        return ss_fail(
            problem, SS_ERROR_INPUT,
            "column %lld: text behind a closing quote, expected a comma or the line's end (a quote inside "
            "quotes is doubled)",
            (long long)scratch->n_cell + 1);
    }
    SS_TRY(add_cell(scratch, cell, length, problem));
    if (at == n)
      return SS_OK;
  }
}

// The column of that name, -1 where there is none, -2 where there are several.
static int32_t find_column(const rows_scratch *scratch, const char *name) {
  int32_t found = -1;
  for (int64_t k = 0; k < scratch->n_cell; k++)
    if (scratch->cells[k].n == (int64_t)strlen(name) &&
        memcmp(scratch->cells[k].data, name, strlen(name)) == 0)
      found = found == -1 ? (int32_t)k : -2;
  return found;
}

static ss_status need_column(const rows *source, const rows_scratch *scratch, const char *name, bool required,
                             int64_t line, int32_t *column, ss_error *error) {
  *column = find_column(scratch, name);
  if (*column == -2)
    return ss_fail(error, SS_ERROR_INPUT, "%s: line %lld: two columns are named \"%s\"", source->path,
                   (long long)line, name);
  if (*column >= 0 || !required)
    return SS_OK;
  char names[512] = "";
  size_t used = 0;
  for (int64_t k = 0; k < scratch->n_cell && used < sizeof names - 8; k++) {
    int64_t room = (int64_t)(sizeof names - used) - 8, n = scratch->cells[k].n;
    used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", k > 0 ? ", " : "",
                             (int)(n < room ? n : room), scratch->cells[k].data);
  }
  rows_tame(names);
  return ss_fail(error, SS_ERROR_INPUT,
                 "%s: line %lld: no column \"%s\", expected among the names in the header (%s)", source->path,
                 (long long)line, name, names);
}

ss_status rows_csv_header(rows *source, rows_scratch *scratch, char *text, int64_t n, int64_t line,
                          ss_error *error) {
  ss_error problem = {0};
  ss_status status = rows_check_text(text, n, &problem);
  if (status == SS_OK)
    status = split(scratch, text, n, ROWS_MOST_COLUMNS, &problem);
  if (status != SS_OK)
    return ss_fail(error, status, "%s: line %lld: the header: %s", source->path, (long long)line,
                   problem.message);
  source->n_column = (int32_t)scratch->n_cell;
  for (int32_t f = 0; f < source->options.n_field; f++)
    SS_TRY(need_column(source, scratch, source->fields[f].name, source->fields[f].presence != ROWS_OPTIONAL,
                       line, &source->columns[f], error));
  source->id_column = -1;
  if (source->options.id != NULL)
    SS_TRY(need_column(source, scratch, source->options.id, false, line, &source->id_column, error));
  for (int32_t k = 0; k < source->n_column && source->options.n_field > 0; k++) {
    bool asked = k == source->id_column;
    for (int32_t f = 0; f < source->options.n_field; f++)
      asked = asked || k == source->columns[f];
    if (!asked)
      SS_TRY(rows_note_unasked(source, scratch->cells[k].data, scratch->cells[k].n, line, error));
  }
  return SS_OK;
}

ss_status rows_csv_parse(const rows *source, rows_scratch *scratch, char *text, int64_t n, rows_row *out,
                         ss_error *problem) {
  SS_TRY(rows_check_text(text, n, problem));
  SS_TRY(split(scratch, text, n, source->n_column, problem));
  if (scratch->n_cell != source->n_column)
    return ss_fail(problem, SS_ERROR_INPUT, "%lld columns, expected %d", (long long)scratch->n_cell,
                   source->n_column);
  for (int32_t f = 0; f < source->options.n_field; f++) {
    int32_t column = source->columns[f];
    out->lengths[f] = -1;
    if (column >= 0)
      SS_TRY(rows_take(scratch, out, f, scratch->cells[column].data, scratch->cells[column].n, problem));
  }
  scratch->id.n = 0;
  if (source->id_column >= 0)
    SS_TRY(rows_buffer_set(&scratch->id, scratch->cells[source->id_column].data,
                           scratch->cells[source->id_column].n, problem));
  return SS_OK;
}
