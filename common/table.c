#include "common/table.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define CELL_LIMIT 1024  // bytes of one cell

struct ss_table {
  int n_column;
  char **headings;  // [n_column]
  char **cells;     // [n_row][n_column], NULL = not given
  int64_t n_row, capacity;
  int next;  // column of the next cell in the last row
};

ss_status ss_table_create(ss_table **out, const char *const *columns, int n_column, ss_error *error) {
  ss_table *table = NULL;
  SS_TRY(ss_allocate(&table, 1, sizeof *table, "table", error));
  table->n_column = n_column;
  ss_status status = ss_allocate(&table->headings, n_column, sizeof *table->headings, "headings", error);
  for (int i = 0; status == SS_OK && i < n_column; i++)
    status = ss_format(&table->headings[i], error, "%s", columns[i]);
  if (status != SS_OK) {
    ss_table_free(table);
    return status;
  }
  *out = table;
  return SS_OK;
}

ss_status ss_table_row(ss_table *table, ss_error *error) {
  int64_t filled = table->n_row * table->n_column;
  SS_TRY(ss_grow(&table->cells, &table->capacity, filled + table->n_column, sizeof *table->cells,
                 "table cells", error));
  for (int i = 0; i < table->n_column; i++)
    table->cells[filled + i] = NULL;
  table->n_row++;
  table->next = 0;
  return SS_OK;
}

ss_status ss_table_cell(ss_table *table, ss_error *error, const char *format, ...) {
  if (table->n_row == 0 || table->next == table->n_column)
    return ss_fail(error, SS_ERROR_INTERNAL, "table: more cells than the %d columns", table->n_column);
  char text[CELL_LIMIT];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c != '\0'; c++)
    if (iscntrl((unsigned char)*c))
      *c = ' ';
  int64_t index = (table->n_row - 1) * table->n_column + table->next++;
  return ss_format(&table->cells[index], error, "%s", text);
}

// Columns on screen: code points. Wide and combining characters do not occur in our tables.
static int display_width(const char *text) {
  int width = 0;
  for (; *text != '\0'; text++)
    width += ((unsigned char)*text & 0xC0) != 0x80;
  return width;
}

static const char *cell_text(const ss_table *table, int64_t row, int column) {
  const char *text = table->cells[row * table->n_column + column];
  return text == NULL || text[0] == '\0' ? "-" : text;
}

static bool looks_numeric(const char *text) {
  text += strspn(text, "+-<>~[(.$");
  return isdigit((unsigned char)*text) || strncmp(text, "nan", 3) == 0 || strncmp(text, "inf", 3) == 0;
}

// A column is flush right when it holds numbers only; "-" stands in any column.
static bool is_numeric(const ss_table *table, int column) {
  bool any = false;
  for (int64_t row = 0; row < table->n_row; row++) {
    const char *text = cell_text(table, row, column);
    if (strcmp(text, "-") == 0)
      continue;
    if (!looks_numeric(text))
      return false;
    any = true;
  }
  return any;
}

static int column_width(const ss_table *table, int column) {
  int width = display_width(table->headings[column]);
  for (int64_t row = 0; row < table->n_row; row++) {
    int wide = display_width(cell_text(table, row, column));
    width = wide > width ? wide : width;
  }
  return width;
}

// row -1: headings; row -2: the rule below them.
static void print_row(const ss_table *table, int64_t row, FILE *file) {
  int pending = 0;  // blanks owed, so that no line ends in one
  for (int column = 0; column < table->n_column; column++) {
    int width = column_width(table, column);
    const char *text = row >= 0 ? cell_text(table, row, column) : row == -1 ? table->headings[column] : "";
    int blanks = row == -2 ? 0 : width - display_width(text);
    bool right = is_numeric(table, column);
    fprintf(file, "%*s", pending + (right ? blanks : 0), "");
    for (int i = 0; row == -2 && i < width; i++)
      fputc('-', file);
    fputs(text, file);
    pending = 2 + (right ? 0 : blanks);
  }
  fputc('\n', file);
}

void ss_table_print(const ss_table *table, FILE *file) {
  for (int64_t row = -1; row >= -2; row--)
    print_row(table, row, file);
  for (int64_t row = 0; row < table->n_row; row++)
    print_row(table, row, file);
}

void ss_table_free(ss_table *table) {
  if (table == NULL)
    return;
  for (int i = 0; table->headings != NULL && i < table->n_column; i++)
    free(table->headings[i]);
  for (int64_t i = 0; i < table->n_row * table->n_column; i++)
    free(table->cells[i]);
  free(table->headings);
  free(table->cells);
  free(table);
}
