// Cuts a file into records. One window moves over it; a record longer than the limit is passed over without being kept.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"
#include "data/rows_private.h"

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

// Reads on behind the window; nothing left is no failure.
static ss_status fill(rows_scan *scan, ss_error *error) {
  rows_buffer *window = &scan->window;
  SS_TRY(ss_grow(&window->data, &window->capacity, window->n + ROWS_CHUNK + 1, 1, "rows", error));
  ssize_t n;
  do
    n = pread(scan->file, window->data + window->n, ROWS_CHUNK, scan->base + window->n);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: line %lld cannot be read", scan->path,
                         (long long)scan->line);
  window->n += n;
  scan->ended = n == 0;
  return SS_OK;
}

// Drops the window's first `n` bytes.
static void move_window(rows_scan *scan, int64_t n) {
  memmove(scan->window.data, scan->window.data + n, (size_t)(scan->window.n - n));
  scan->window.n -= n;
  scan->base += n;
}

ss_status rows_scan_open(rows_scan *scan, const rows *source, ss_error *error) {
  *scan = (rows_scan){.file = source->file,
                      .path = source->path,
                      .line = 1,
                      .longest = source->options.longest,
                      .csv = source->format == ROWS_CSV};
  ss_status status = fill(scan, error);
  if (status == SS_OK && scan->window.n >= 3 && memcmp(scan->window.data, BYTE_ORDER_MARK, 3) == 0)
    scan->at = 3;
  if (status != SS_OK)
    rows_scan_close(scan);
  return status;
}

void rows_scan_close(rows_scan *scan) {
  free(scan->window.data);
  scan->window = (rows_buffer){0};
}

// Where a CSV record stands: a field begins; inside an unquoted or a quoted one; behind a quote inside a quoted one (it
// closes the field or is the first of two), or behind that and CR.
typedef enum { FIELD_BEGINS, UNQUOTED, QUOTED, QUOTE_SEEN, QUOTE_AND_CR } csv_place;

// Moves on to the end of the record's line, or of text[0..n). A quoted field goes on when its closing quote is followed by
// something else than the field's end: the record is broken, but most likely by a quote that was not doubled.
static int64_t csv_line_end(const char *text, int64_t n, int64_t at, csv_place *place) {
  for (; at < n; at++) {
    char byte = text[at];
    switch (*place) {
    case QUOTED: {
      const char *quote = memchr(text + at, '"', (size_t)(n - at));
      if (quote == NULL)
        return n;
      at = quote - text;
      *place = QUOTE_SEEN;
      break;
    }
    case QUOTE_SEEN:
    case QUOTE_AND_CR:
      if (byte == '\n')
        return at;
      if (byte == ',' && *place == QUOTE_SEEN)
        *place = FIELD_BEGINS;
      else if (byte == '\r' && *place == QUOTE_SEEN)
        *place = QUOTE_AND_CR;
      else if (byte == '"' && *place == QUOTE_AND_CR)
        *place = QUOTE_SEEN;
      else
        *place = QUOTED;
      break;
    default:
      if (byte == '\n')
        return at;
      *place = byte == ',' ? FIELD_BEGINS : byte == '"' && *place == FIELD_BEGINS ? QUOTED : UNQUOTED;
    }
  }
  return n;
}

static int64_t count_newlines(const char *text, int64_t n) {
  int64_t count = 0;
  for (const char *end = text + n; (text = memchr(text, '\n', (size_t)(end - text))) != NULL; text++)
    count++;
  return count;
}

ss_status rows_scan_next(rows_scan *scan, rows_record *out, bool *found, ss_error *error) {
  csv_place place = FIELD_BEGINS;
  int64_t passed = 0;  // bytes of this record that the window has left
  *out = (rows_record){.offset = scan->at, .line = scan->line};
  int64_t first = scan->at - scan->base, looked = first, end;
  for (;;) {
    const char *text = scan->window.data;
    if (scan->csv) {
      end = csv_line_end(text, scan->window.n, looked, &place);
    } else {
      const char *newline = memchr(text + looked, '\n', (size_t)(scan->window.n - looked));
      end = newline == NULL ? scan->window.n : newline - text;
    }
    if (end < scan->window.n || scan->ended)
      break;
    looked = end;
    if (passed + end - first > scan->longest) {
      out->n_line += count_newlines(text + first, end - first);
      out->too_long = true;
      passed += end - first;
      first = end;
    }
    move_window(scan, first);
    looked -= first;
    first = 0;
    SS_TRY(fill(scan, error));
  }
  out->n = passed + end - first;
  out->unclosed = scan->csv && place == QUOTED;
  out->too_long = out->too_long || out->n > scan->longest;
  out->text = out->too_long ? NULL : scan->window.data + first;
  bool line_ends = end < scan->window.n;
  out->n_line += count_newlines(scan->window.data + first, end - first) + (line_ends || out->n > 0);
  *found = out->n > 0 || line_ends;
  scan->at = scan->base + end + line_ends;
  scan->line += out->n_line;
  if (scan->csv && !out->too_long && !out->unclosed && out->n > 0 && out->text[out->n - 1] == '\r')
    out->n--;
  return SS_OK;
}
