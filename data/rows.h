// Rows of text from files of other people's making: a source of records with named fields, read by index.
//
//   JSONL    one JSON object (RFC 8259) a line. A field is a string, or an array of strings that are joined by
//            newlines. Blank lines are passed over.
//   CSV      RFC 4180: the first record names the columns; fields may be quoted, quoted ones hold newlines, commas and
//            doubled quotes. LF or CRLF. A quote inside an unquoted field stands for itself. Blank lines are passed over.
//   stories  a folder of files NAME.story, in its subfolders too down to the second level (the form in which
//            CNN/DailyMail was first published: Hermann et al., arXiv 1506.03340), ordered by path; or one such
//            file. The text up to the first line "@highlight" is field "article", the rest is field "highlights": a
//            line for each "@highlight" block. NAME is field "id".
//
// Each plain or gzip (RFC 1952, any number of members; recognised by its first bytes). A byte-order mark is passed
// over. All values are well-formed UTF-8 (Unicode's table 3-7) without U+0000.
//
// rows_open reads everything once: afterwards the number of rows is known, every row has been checked, and memory
// holds 32 bytes a row (for stories also their names). A gzip file is decompressed then into an unlinked file in
// $TMPDIR, so that reading any row takes one read at an offset, for any number of threads in any order, as with a
// plain file; access points into the compressed file would save the disk space, at the price of decompressing a
// megabyte for each row that is read out of order. Story files are decompressed each by itself, in memory.
//
// A record that cannot be used is counted, named (path, line, what was expected; the first ROWS_MOST_NAMED) and left
// out: invalid UTF-8, U+0000, bad JSON, a missing field or one of another type, a wrong number of columns, text behind
// a closing quote, a quoted field without an end (it takes the rest of the file with it), too long, an empty file. What
// makes a whole source unusable fails: no such file, gzip data that are cut or corrupt, a CSV header without a wanted
// column, a form that is not recognised.
#ifndef SELFSPAN_DATA_ROWS_H
#define SELFSPAN_DATA_ROWS_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define ROWS_MOST_NAMED 10           // broken records that the notes name
#define ROWS_MOST_FIELDS 16          // fields that a caller may want
#define ROWS_LONGEST (64 << 20)      // bytes of a record, unless the options say otherwise
#define ROWS_MOST_BYTES (1LL << 36)  // bytes of a decompressed file, unless the options say otherwise

typedef enum { ROWS_AUTO, ROWS_JSONL, ROWS_CSV, ROWS_STORY } rows_format;
#define ROWS_FORMATS \
  "auto|jsonl|csv|story"  // the choices of a configuration key, in the order of rows_format

typedef enum {
  ROWS_OPTIONAL,  // an absent field, or JSON's null, reads as ""
  ROWS_PRESENT,   // a row without it is broken
  ROWS_FILLED     // so is one where it holds nothing but white space
} rows_presence;

typedef struct {
  const char *name;  // JSON key, CSV column; stories have "article", "highlights" and "id"
  rows_presence presence;
} rows_field;

// One row. It lies in the scratch that it was read with, until the next row is read with that.
typedef struct {
  int64_t index;     // 0 to rows_count - 1
  const char *path;  // the file it stands in
  int64_t line;      // where it begins, from 1
  const char *id;    // the id field, or "row-N" (N: the record's number, from 1) where it is absent or empty
  char *values
      [ROWS_MOST_FIELDS];  // in the order of the wanted fields, zero-terminated; may be changed in place
  int64_t lengths[ROWS_MOST_FIELDS];  // bytes, terminator excluded
  const json_t *json;                 // the whole object of a JSONL row, for fields of other types; else NULL
} rows_row;

typedef struct {
  rows_format format;        // ROWS_AUTO: by name, else by content
  const rows_field *fields;  // the wanted ones; copied
  int32_t n_field;           // 0 to ROWS_MOST_FIELDS
  const char *id;      // the name of the field that identifies a row, or NULL; in JSON a string or an integer
  bool fail;           // the first broken record is the caller's error
  int64_t longest;     // bytes of a record; 0: ROWS_LONGEST
  int64_t most_bytes;  // bytes of a file after decompression; 0: ROWS_MOST_BYTES
  // A test of the caller's own while the source is opened, called once for each row that is otherwise whole, in
  // order. When it answers SS_ERROR_INPUT or SS_ERROR_LIMIT the record counts as broken, with `problem` as its name
  // (path and line are put before it); any other failure ends rows_open. With *leave_out set the row is left
  // out and not counted as broken. May be NULL.
  ss_status (*check)(void *context, rows_row *row, bool *leave_out, ss_error *problem);
  // Called now and then while the source is opened, with bytes (stories: files) read so far and in all; a gzip file is
  // read twice. May be NULL.
  void (*progress)(void *progress_context, int64_t done, int64_t total);
  void *context, *progress_context;   // of check, of progress
  const volatile sig_atomic_t *stop;  // not zero: opening ends with SS_ERROR_INTERRUPTED; may be NULL
} rows_options;

typedef struct rows rows;
typedef struct rows_scratch rows_scratch;

// Opens `path` and reads it once. A source without any usable row is no error: the caller sees rows_count. Errors:
// SS_ERROR_IO, SS_ERROR_INPUT (see above), SS_ERROR_LIMIT (decompresses to more than most_bytes), SS_ERROR_USAGE (options
// that make no sense). Free with rows_close, which takes NULL.
ss_status rows_open(rows **out, const char *path, const rows_options *options, ss_error *error);
// The same with a bar under `label`, unless `quiet`; what takes no time shows none. It takes the place of options->progress.
ss_status rows_open_shown(rows **out, const char *path, const rows_options *options, const char *label,
                          bool quiet, ss_error *error);
void rows_close(rows *source);

// Usable rows, and records that were broken.
int64_t rows_count(const rows *source);
int64_t rows_n_broken(const rows *source);

// What reading takes a thread: one scratch each. Free with rows_scratch_free (NULL allowed).
ss_status rows_scratch_create(rows_scratch **out, ss_error *error);
void rows_scratch_free(rows_scratch *scratch);

// Row `index`, 0 <= index < rows_count; safe from many threads with a scratch each. Fails when the file has no such row
// there any more (SS_ERROR_INPUT) or cannot be read. The caller's check is not asked again.
ss_status rows_read(const rows *source, rows_scratch *scratch, int64_t index, rows_row *out, ss_error *error);

// What the reader should know, malloc'ed: broken records with the first ones named (the file's name without its folder,
// below the folder of stories), fields that nobody asked for; *out is NULL where there is nothing to say.
ss_status rows_notes(const rows *source, char **out, ss_error *error);

// "auto", "jsonl", "csv", "story".
const char *rows_format_name(rows_format format);

#endif
