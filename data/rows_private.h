// What the files data/rows*.c share.
#ifndef SELFSPAN_DATA_ROWS_PRIVATE_H
#define SELFSPAN_DATA_ROWS_PRIVATE_H

#include "data/rows.h"

#define ROWS_N_FORMAT 4
#define ROWS_MOST_COLUMNS 4096
#ifndef ROWS_CHUNK            // a fuzzer makes it small
#define ROWS_CHUNK (1 << 20)  // bytes read at a time
#endif

typedef struct {
  char *data;
  int64_t n, capacity;
} rows_buffer;

// Where a row lies: in the file, or (stories) its path in the arena of names.
typedef struct {
  int64_t offset, line, record;
  int32_t length;
} rows_place;

struct rows {
  char *path;
  rows_options options;  // names are own copies
  rows_field fields[ROWS_MOST_FIELDS];
  rows_format format;  // never ROWS_AUTO
  int file;            // plain text: the file itself, or what was decompressed; -1 for stories
  bool is_folder, is_unpacked;
  int64_t size, source_size;  // bytes of plain text; of the file as it lies on disk
  rows_place *places;
  int64_t n_place, capacity;
  rows_buffer names;                  // stories: paths below the folder, zero-terminated
  int32_t n_column, id_column;        // CSV; -1: there is no such column
  int32_t columns[ROWS_MOST_FIELDS];  // of the wanted fields
  int64_t n_broken;
  rows_buffer broken;                                // the first ones, a line each
  rows_buffer unasked[ROWS_MOST_NAMED];              // names of fields that nobody asked for
  int64_t unasked_line[ROWS_MOST_NAMED], n_unasked;  // and where each was first seen
};

struct rows_scratch {
  rows_buffer record;
  rows_buffer values[ROWS_MOST_FIELDS];
  rows_buffer id, path;
  json_t *json;
  struct {
    char *data;
    int64_t n;
  } * cells;  // of a CSV record
  int64_t n_cell, cell_capacity;
};

// --- rows_text.c ---

// The first byte of text[0..n) that belongs to no well-formed character, or is zero; n where there is none.
int64_t rows_sound_length(const char *text, int64_t n);
// SS_ERROR_INPUT naming the byte where the text is no UTF-8 or holds U+0000.
ss_status rows_check_text(const char *text, int64_t n, ss_error *problem);
// Replaces what is no printable UTF-8 in a message by '?': messages quote foreign bytes and are cut anywhere.
void rows_tame(char *message);
bool rows_is_blank(const char *text, int64_t n);
// buffer = text, zero-terminated; appends likewise.
ss_status rows_buffer_set(rows_buffer *buffer, const char *text, int64_t n, ss_error *error);
ss_status rows_buffer_add(rows_buffer *buffer, const char *text, int64_t n, ss_error *error);

// SS_ERROR_INTERRUPTED when options.stop is set.
ss_status rows_check_stop(const rows *source, ss_error *error);

// --- rows_gzip.c ---

bool rows_is_gzip(int file);
// Decompresses all members of `file` from its start and hands the bytes to `sink`. `name` is for messages. More than
// `most` bytes: SS_ERROR_LIMIT. `progress` (may be NULL) gets bytes of compressed data.
ss_status rows_gunzip(int file, const char *name, int64_t most,
                      ss_status (*sink)(void *context, const char *bytes, int64_t n, ss_error *error),
                      void *context, void (*progress)(void *progress_context, int64_t done),
                      void *progress_context, ss_error *error);
// Replaces *file by an unlinked file in $TMPDIR (/tmp) with its decompressed content.
ss_status rows_unpack(rows *source, int *file, ss_error *error);

// --- rows_scan.c: records one after the other ---

typedef struct {
  int file;
  const char *path;
  rows_buffer window;      // file's bytes from `base` on; n: how many
  int64_t base, at, line;  // `at`: the next record's first byte, in the file
  int64_t longest;
  bool ended, csv;
} rows_scan;

typedef struct {
  char *text;  // n bytes without the line's end, then one byte that may be overwritten; lies in the window
  int64_t n, offset, line;
  int64_t n_line;  // lines that it takes
  bool too_long;   // text is not there
  bool unclosed;   // CSV: a quoted field reaches to the end of the file
} rows_record;

ss_status rows_scan_open(rows_scan *scan, const rows *source, ss_error *error);
void rows_scan_close(rows_scan *scan);
// *found is unset at the end of the file.
ss_status rows_scan_next(rows_scan *scan, rows_record *out, bool *found, ss_error *error);

// --- parsers: n bytes of one record -> values; lengths of absent fields are -1. SS_ERROR_INPUT: it is broken ---

ss_status rows_csv_header(rows *source, rows_scratch *scratch, char *text, int64_t n, int64_t line,
                          ss_error *error);
ss_status rows_csv_parse(const rows *source, rows_scratch *scratch, char *text, int64_t n, rows_row *out,
                         ss_error *problem);
ss_status rows_jsonl_parse(const rows *source, rows_scratch *scratch, const char *text, int64_t n,
                           rows_row *out, ss_error *problem);
ss_status rows_story_parse(const rows *source, rows_scratch *scratch, const char *text, int64_t n,
                           rows_row *out, ss_error *problem);

// --- rows_story.c ---

// Fills names and places with what lies in the folder; for one file, with that.
ss_status rows_story_list(rows *source, ss_error *error);
// Reads file `place` into scratch->record and its path into scratch->path. SS_ERROR_INPUT: it is broken.
ss_status rows_story_load(const rows *source, rows_scratch *scratch, const rows_place *place,
                          ss_error *problem);

// --- rows.c ---

// out->values[field] = text, in scratch.
ss_status rows_take(rows_scratch *scratch, rows_row *out, int32_t field, const char *text, int64_t n,
                    ss_error *error);
// Remembers that a field nobody asked for was seen on that line.
ss_status rows_note_unasked(rows *source, const char *name, int64_t n, int64_t line, ss_error *error);

#endif
