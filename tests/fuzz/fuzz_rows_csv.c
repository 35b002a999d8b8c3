// Rows from CSV, against a second reading of RFC 4180, byte by byte with everything in memory.
#include "tests/fuzz/rows_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MOST 2048

typedef struct {
  char text[2][MOST];  // of the columns a and b
  int64_t line;
} expected_row;

typedef struct {
  expected_row rows[MOST];
  int64_t n;
} expected_rows;

typedef struct {
  char cells[16][MOST];
  size_t sizes[16];
  int n_cell;
  bool broken, unclosed, blank;
  bool wide;     // more columns than are kept here
  size_t bytes;  // without the line's end
} record;

static void put(record *out, char byte) {
  if (out->n_cell <= 16 && out->sizes[out->n_cell - 1] < MOST - 1)
    out->cells[out->n_cell - 1][out->sizes[out->n_cell - 1]++] = byte;
}

// One record from data[*at..n); a quoted cell goes on behind a closing quote that no comma or line end follows.
static void read_record(const uint8_t *data, size_t n, size_t *at, int64_t *line, record *out) {
  size_t first = *at;
  bool quoted = false, begins = true, ended = false;
  memset(out, 0, sizeof *out);
  out->n_cell = 1;
  out->blank = true;
  while (*at < n && !ended) {
    char byte = (char)data[(*at)++], next = *at < n ? (char)data[*at] : '\n',
         third = *at + 1 < n ? (char)data[*at + 1] : '\n';
    *line += byte == '\n';
    if (strchr(" \t\n\v\f\r", byte) == NULL || byte == '\0')
      out->blank = false;
    if (quoted && byte == '"' && next == '"' && *at < n) {
      put(out, '"');
      ++*at;
    } else if (quoted && byte == '"' && (next == ',' || next == '\n' || (next == '\r' && third == '\n'))) {
      quoted = false;
    } else if (quoted) {
      out->broken = out->broken || byte == '"';
      put(out, byte);
    } else if (byte == '"' && begins) {
      quoted = true;
      begins = false;
    } else if (byte == ',') {
      if (++out->n_cell > 15)
        out->n_cell = 15, out->broken = out->wide = true;
      begins = true;
    } else if (byte == '\n') {
      ended = true;
    } else {
      begins = false;
      put(out, byte);
    }
  }
  size_t end = *at - ended;
  out->unclosed = quoted;
  if (!quoted && end > first && data[end - 1] == '\r') {
    end--;
    size_t *size =
        &out->sizes[out->n_cell - 1];  // of an unquoted last cell; behind a quoted one it was put there too
    *size -= *size > 0;
    out->cells[out->n_cell - 1][*size] = '\0';
  }
  *line += !ended && end > first;
  out->bytes = end - first;
  for (size_t k = first; k < end; k++)
    out->broken = out->broken || data[k] == '\0';
}

static bool is_text(const char *text, size_t n) {
  json_t *string = json_stringn(text, n);
  json_decref(string);
  return string != NULL;
}

static bool is_blank(const char *text) {
  return strspn(text, " \t\n\v\f\r") == strlen(text);
}

// What should be read, or false where the header is not to be used; *wide where it has more columns than are kept here.
static bool expect(const uint8_t *data, size_t n, expected_rows *out, bool *wide) {
  static record current;
  size_t at = n >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
  int64_t line = 1;
  int a = -1, b = -1, n_column = 0;
  out->n = 0;
  *wide = false;
  while (at < n) {
    int64_t first_line = line;
    size_t first = at;
    read_record(data, n, &at, &line, &current);
    bool too_long = current.bytes > 1000;
    bool sound = !current.broken && !current.unclosed && !too_long &&
                 is_text((const char *)data + first, current.bytes);
    if (current.blank && !too_long)
      continue;
    if (n_column == 0) {
      n_column = current.n_cell;
      *wide = current.wide;
      for (int k = 0; k < n_column; k++) {
        int *column = strcmp(current.cells[k], "a") == 0   ? &a
                      : strcmp(current.cells[k], "b") == 0 ? &b
                                                           : NULL;
        if (column != NULL && *column >= 0)
          return false;
        if (column != NULL)
          *column = k;
      }
      int ids = 0;
      for (int k = 0; k < n_column; k++)
        ids += strcmp(current.cells[k], "id") == 0;
      if (!sound || a < 0 || b < 0 || ids > 1)
        return false;
      continue;
    }
    if (!sound || current.n_cell != n_column || is_blank(current.cells[a]) || out->n == MOST)
      continue;
    expected_row *row = &out->rows[out->n++];
    row->line = first_line;
    memcpy(row->text[0], current.cells[a], MOST);
    memcpy(row->text[1], current.cells[b], MOST);
  }
  return true;
}

static void compare(void *context, const rows_row *row) {
  const expected_rows *expected = context;
  ROWS_FUZZ_REQUIRE(row->index < expected->n);
  const expected_row *want = &expected->rows[row->index];
  ROWS_FUZZ_REQUIRE(want->line == row->line);
  ROWS_FUZZ_REQUIRE(strcmp(want->text[0], row->values[0]) == 0 && strcmp(want->text[1], row->values[1]) == 0);
  if (row->index == 0)
    ((expected_rows *)context)->n = -1;  // all were seen: rows come from the last to the first
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static expected_rows expected;
  if (n > MOST)
    return 0;
  bool wide = false;
  bool usable = expect(data, n, &expected, &wide);
  if (!usable)
    expected.n = 0;
  rows_fuzz(data, n, ROWS_CSV, wide ? NULL : compare, &expected);
  ROWS_FUZZ_REQUIRE(expected.n <= 0);
  return 0;
}
