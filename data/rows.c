#include "data/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/progress.h"
#include "data/rows_private.h"

#define REPORT_EVERY 1024  // records

const char *rows_format_name(rows_format format) {
  static const char *const names[ROWS_N_FORMAT] = {"auto", "jsonl", "csv", "story"};
  return (unsigned)format < ROWS_N_FORMAT ? names[format] : "unknown";
}

// --- values ---

ss_status rows_take(rows_scratch *scratch, rows_row *out, int32_t field, const char *text, int64_t n,
                    ss_error *error) {
  SS_TRY(rows_buffer_set(&scratch->values[field], text, n, error));
  out->values[field] = scratch->values[field].data;
  out->lengths[field] = n;
  return SS_OK;
}

// What all forms share behind their parsers: absent fields, presence, the id.
static ss_status complete(const rows *source, rows_scratch *scratch, const rows_place *place, rows_row *out,
                          ss_error *problem) {
  for (int32_t f = 0; f < source->options.n_field; f++) {
    const rows_field *field = &source->fields[f];
    if (out->lengths[f] < 0 && field->presence != ROWS_OPTIONAL)
      return ss_fail(problem, SS_ERROR_INPUT, "field \"%s\" is missing", field->name);
    if (out->lengths[f] < 0)
      SS_TRY(rows_take(scratch, out, f, "", 0, problem));
    if (field->presence == ROWS_FILLED && rows_is_blank(out->values[f], out->lengths[f]))
      return ss_fail(problem, SS_ERROR_INPUT, "field \"%s\" is empty, expected text", field->name);
  }
  if (scratch->id.n == 0) {
    char id[32];
    snprintf(id, sizeof id, "row-%lld", (long long)place->record + 1);
    SS_TRY(rows_buffer_set(&scratch->id, id, (int64_t)strlen(id), problem));
  }
  out->id = scratch->id.data;
  out->line = place->line;
  out->path = source->format == ROWS_STORY ? scratch->path.data : source->path;
  return SS_OK;
}

// SS_ERROR_INPUT: the record is broken. `text` may be overwritten (CSV).
static ss_status parse(const rows *source, rows_scratch *scratch, const rows_place *place, char *text,
                       int64_t n, rows_row *out, ss_error *problem) {
  *out = (rows_row){0};
  switch (source->format) {
  case ROWS_CSV:
    SS_TRY(rows_csv_parse(source, scratch, text, n, out, problem));
    break;
  case ROWS_JSONL:
    SS_TRY(rows_jsonl_parse(source, scratch, text, n, out, problem));
    break;
  default:
    SS_TRY(rows_story_parse(source, scratch, text, n, out, problem));
  }
  return complete(source, scratch, place, out, problem);
}

// --- notes ---

ss_status rows_note_unasked(rows *source, const char *name, int64_t n, int64_t line, ss_error *error) {
  int64_t k = 0;
  while (k < source->n_unasked &&
         (source->unasked[k].n != n || memcmp(source->unasked[k].data, name, (size_t)n) != 0))
    k++;
  if (k < source->n_unasked || k == ROWS_MOST_NAMED)
    return SS_OK;
  source->unasked_line[k] = line;
  SS_TRY(rows_buffer_set(&source->unasked[k], name, n, error));
  source->n_unasked++;
  return SS_OK;
}

// A file as the notes name it: they go into a dataset's card, which holds no paths.
static const char *name_in_notes(const rows *source, const char *path) {
  const char *slash = source->is_folder ? NULL : strrchr(path, '/');
  if (!source->is_folder)
    return slash == NULL ? path : slash + 1;
  path += strlen(source->path);
  return path + strspn(path, "/");
}

// Counts a broken record and names it, or fails with it.
static ss_status note_broken(rows *source, const char *path, int64_t line, ss_error *problem,
                             ss_error *error) {
  char *message = NULL;
  source->n_broken++;
  if (source->n_broken > ROWS_MOST_NAMED && !source->options.fail)
    return SS_OK;
  ss_error full = {0};
  ss_status status = ss_fail(&full, problem->status, "%s: line %lld: %s",
                             source->options.fail ? path : name_in_notes(source, path), (long long)line,
                             problem->message);
  rows_tame(full.message);
  if (source->options.fail)
    return ss_fail(error, status, "%s", full.message);
  SS_TRY(ss_format(&message, error, "%s  %s", source->broken.n > 0 ? "\n" : "", full.message));
  status = rows_buffer_add(&source->broken, message, (int64_t)strlen(message), error);
  free(message);
  return status;
}

ss_status rows_notes(const rows *source, char **out, ss_error *error) {
  rows_buffer text = {0};
  char line[64];
  ss_status status = SS_OK;
  if (source->n_broken > 0) {
    snprintf(line, sizeof line, "%lld broken rows left out%s:\n", (long long)source->n_broken,
             source->n_broken > ROWS_MOST_NAMED ? ", the first of them" : "");
    status = rows_buffer_add(&text, line, (int64_t)strlen(line), error);
    if (status == SS_OK)
      status = rows_buffer_add(&text, source->broken.data, source->broken.n, error);
  }
  for (int64_t k = 0; status == SS_OK && k < source->n_unasked; k++) {
    const char *before = k > 0 ? ", " : text.n > 0 ? "\nfields not used: " : "fields not used: ";
    char *name = NULL;
    status = rows_buffer_add(&text, before, (int64_t)strlen(before), error);
    if (status == SS_OK)
      status = ss_format(&name, error, "\"%.64s\" (line %lld)", source->unasked[k].data,
                         (long long)source->unasked_line[k]);
    if (status == SS_OK) {
      rows_tame(name);
      status = rows_buffer_add(&text, name, (int64_t)strlen(name), error);
    }
    free(name);
  }
  *out = text.data;
  if (status != SS_OK) {
    free(text.data);
    *out = NULL;
  }
  return status;
}

// --- opening ---

static ss_status take_options(rows *source, const char *path, const rows_options *options, ss_error *error) {
  source->options = *options;
  source->options.fields = NULL;
  source->options.id = NULL;
  source->options.n_field = 0;
  source->format = options->format;
  if (options->longest == 0)
    source->options.longest = ROWS_LONGEST;
  if (options->most_bytes == 0)
    source->options.most_bytes = ROWS_MOST_BYTES;
  SS_TRY(ss_format(&source->path, error, "%s", path));
  if (options->n_field < 0 || options->n_field > ROWS_MOST_FIELDS ||
      (unsigned)options->format >= ROWS_N_FORMAT || source->options.longest < 1 ||
      source->options.longest > INT32_MAX || source->options.most_bytes < 1)
    return ss_fail(error, SS_ERROR_USAGE,
                   "%s: %d fields, format %d, rows of %lld bytes, expected at most %d, below %d, at most %d",
                   path, options->n_field, (int)options->format, (long long)source->options.longest,
                   ROWS_MOST_FIELDS, ROWS_N_FORMAT, INT32_MAX);
  for (int32_t f = 0; f < options->n_field; f++) {
    char *name = NULL;
    SS_TRY(ss_format(&name, error, "%s", options->fields[f].name));
    source->fields[f] = (rows_field){name, options->fields[f].presence};
    source->options.n_field = f + 1;
    for (int32_t k = 0; k < f; k++)
      if (strcmp(source->fields[k].name, name) == 0)
        return ss_fail(error, SS_ERROR_USAGE, "%s: field \"%s\" is wanted twice", path, name);
  }
  source->options.fields = source->fields;
  if (options->id != NULL) {
    char *id = NULL;
    SS_TRY(ss_format(&id, error, "%s", options->id));
    source->options.id = id;
  }
  return SS_OK;
}

static rows_format format_of_name(const char *path) {
  static const struct {
    const char *ending;
    rows_format format;
  } endings[] = {{".jsonl", ROWS_JSONL}, {".ndjson", ROWS_JSONL}, {".json", ROWS_JSONL},
                 {".csv", ROWS_CSV},     {".story", ROWS_STORY},  {NULL, ROWS_AUTO}};
  size_t n = strlen(path);
  if (n > 3 && strcasecmp(path + n - 3, ".gz") == 0)
    n -= 3;
  for (int k = 0; endings[k].ending != NULL; k++) {
    size_t ending = strlen(endings[k].ending);
    if (n > ending && strncasecmp(path + n - ending, endings[k].ending, ending) == 0)
      return endings[k].format;
  }
  return ROWS_AUTO;
}

// By the first bytes of plain text: an object opens JSONL, a first line with the name of a wanted column CSV.
static ss_status format_of_content(const rows *source, int file, rows_format *format, ss_error *error) {
  char head[4096 + 1];
  ssize_t n = pread(file, head, sizeof head - 1, 0), first = 0;
  if (n < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be read", source->path);
  head[n] = '\0';
  if (n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0)
    first = 3;
  while (first < n && rows_is_blank(head + first, 1))
    first++;
  head[first + (ssize_t)strcspn(head + first, "\n")] = '\0';
  *format = head[first] == '{' || first == n ? ROWS_JSONL : ROWS_AUTO;
  for (int32_t f = 0; *format == ROWS_AUTO && f < source->options.n_field; f++)
    if (strstr(head + first, source->fields[f].name) != NULL && strchr(head + first, ',') != NULL)
      *format = ROWS_CSV;
  if (*format == ROWS_AUTO)
    return ss_fail(
        error, SS_ERROR_INPUT,
        "%s: neither its name nor its content tells the form, expected JSONL, CSV with a header or a folder "
        "of stories",
        source->path);
  return SS_OK;
}

static ss_status open_file(rows *source, ss_error *error) {
  struct stat information;
  const char *path = source->path;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0 || fstat(file, &information) != 0) {
    ss_status status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be opened", path);
    if (file >= 0)
      close(file);
    return status;
  }
  source->is_folder = S_ISDIR(information.st_mode);
  source->size = source->source_size = information.st_size;
  if (source->format == ROWS_AUTO)
    source->format = source->is_folder ? ROWS_STORY : format_of_name(path);
  ss_status status = SS_OK;
  if (!source->is_folder && !S_ISREG(information.st_mode))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: a device or pipe, expected a file or a folder of stories",
                     path);
  else if (source->is_folder && source->format != ROWS_STORY)
    status = ss_fail(error, SS_ERROR_USAGE, "%s: a folder, expected a file in format %s", path,
                     rows_format_name(source->format));
  if (status != SS_OK || source->format == ROWS_STORY) {
    close(file);
    return status == SS_OK ? rows_story_list(source, error) : status;
  }
  if (rows_is_gzip(file)) {
    status = rows_unpack(source, &file, error);
    source->is_unpacked = status == SS_OK;
    if (status == SS_OK && fstat(file, &information) == 0)
      source->size = information.st_size;
  }
  if (status == SS_OK && source->format == ROWS_AUTO)
    status = format_of_content(source, file, &source->format, error);
  source->file = file;
  return status;
}

static void report(const rows *source, int64_t done, int64_t total) {
  if (source->is_unpacked) {
    done = source->source_size + (int64_t)((double)done / (double)(total + 1) * (double)source->source_size);
    total = 2 * source->source_size;
  }
  if (source->options.progress != NULL)
    source->options.progress(source->options.progress_context, done, total);
}

ss_status rows_check_stop(const rows *source, ss_error *error) {
  const volatile sig_atomic_t *stop = source->options.stop;
  return stop != NULL && *stop != 0 ? ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted") : SS_OK;
}

// Puts a record that parsed into the index, unless the caller's check objects.
static ss_status accept(rows *source, rows_place place, rows_row *row, ss_error *error) {
  bool leave_out = false;
  ss_error problem = {0};
  row->index = source->n_place;
  if (row->json != NULL && source->options.n_field > 0) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row->json, key, value) {
      bool asked = source->options.id != NULL && strcmp(key, source->options.id) == 0;
      for (int32_t f = 0; !asked && f < source->options.n_field; f++)
        asked = strcmp(key, source->fields[f].name) == 0;
      if (!asked)
        SS_TRY(rows_note_unasked(source, key, (int64_t)strlen(key), place.line, error));
    }
  }
  if (source->options.check != NULL) {
    ss_status status = source->options.check(source->options.context, row, &leave_out, &problem);
    if (status == SS_ERROR_INPUT || status == SS_ERROR_LIMIT)
      return note_broken(source, row->path, place.line, &problem, error);
    if (status != SS_OK)
      return ss_fail(error, status, "%s", problem.message);
  }
  if (leave_out)
    return SS_OK;
  SS_TRY(ss_grow(&source->places, &source->capacity, source->n_place + 1, sizeof place, "row index", error));
  source->places[source->n_place++] = place;
  return SS_OK;
}

// The names lie in the arena already; whole stories move up.
static ss_status index_stories(rows *source, rows_scratch *scratch, ss_error *error) {
  int64_t n = source->n_place;
  ss_status status = SS_OK;
  source->n_place = 0;
  for (int64_t k = 0; status == SS_OK && k < n; k++) {
    rows_place place = source->places[k];
    ss_error problem = {0};
    rows_row row;
    status = rows_story_load(source, scratch, &place, &problem);
    if (status == SS_OK)
      status = parse(source, scratch, &place, scratch->record.data, scratch->record.n, &row, &problem);
    if (status == SS_OK)
      status = accept(source, place, &row, error);
    else if (status == SS_ERROR_INPUT)
      status = note_broken(source, scratch->path.data, 1, &problem, error);
    else
      status = ss_fail(error, status, "%s", problem.message);
    if (k % REPORT_EVERY == 0 || k + 1 == n)
      report(source, k + 1, n);
    if (status == SS_OK)
      status = rows_check_stop(source, error);
  }
  return status;
}

static ss_status index_record(rows *source, rows_scratch *scratch, const rows_record *record, int64_t number,
                              ss_error *error) {
  ss_error problem = {0};
  rows_row row;
  rows_place place = {record->offset, record->line, number, (int32_t)record->n};
  ss_status status;
  if (record->unclosed)
    status = ss_fail(&problem, SS_ERROR_INPUT,
                     "a quoted field without an end: the rest of the file (%lld lines) is in it",
                     (long long)record->n_line);
  else if (record->too_long)
    status = ss_fail(&problem, SS_ERROR_INPUT, "a row of %lld bytes, expected at most %lld",
                     (long long)record->n, (long long)source->options.longest);
  else
    status = parse(source, scratch, &place, record->text, record->n, &row, &problem);
  if (status == SS_ERROR_INPUT)
    return note_broken(source, source->path, record->line, &problem, error);
  if (status != SS_OK)
    return ss_fail(error, status, "%s: line %lld: %s", source->path, (long long)record->line,
                   problem.message);
  return accept(source, place, &row, error);
}

static ss_status index_file(rows *source, rows_scratch *scratch, ss_error *error) {
  rows_scan scan;
  rows_record record;
  int64_t number = 0, seen = 0;
  bool found = true, header = source->format == ROWS_CSV;
  SS_TRY(rows_scan_open(&scan, source, error));
  ss_status status = SS_OK;
  for (;;) {
    status = rows_scan_next(&scan, &record, &found, error);
    if (status != SS_OK || !found)
      break;
    if (!record.too_long && rows_is_blank(record.text, record.n))
      continue;
    seen++;
    if (header && (record.too_long || record.unclosed))
      status = ss_fail(error, SS_ERROR_INPUT, "%s: line %lld: no header: its quotes do not end", source->path,
                       (long long)record.line);
    else if (header)
      status = rows_csv_header(source, scratch, record.text, record.n, record.line, error);
    else
      status = index_record(source, scratch, &record, number++, error);
    header = false;
    if (status == SS_OK)
      status = rows_check_stop(source, error);
    if (status != SS_OK)
      break;
    if (number % REPORT_EVERY == 0)
      report(source, scan.at, source->size);
  }
  if (status == SS_OK && seen == 0) {
    ss_error problem = {0};
    ss_fail(&problem, SS_ERROR_INPUT, "an empty file, expected %s",
            source->format == ROWS_CSV ? "a header and rows" : "rows");
    status = note_broken(source, source->path, 1, &problem, error);
  }
  if (status == SS_OK)
    report(source, source->size, source->size);
  rows_scan_close(&scan);
  return status;
}

ss_status rows_open(rows **out, const char *path, const rows_options *options, ss_error *error) {
  rows *source = NULL;
  rows_scratch *scratch = NULL;
  SS_TRY(ss_allocate(&source, 1, sizeof *source, "rows", error));
  source->file = -1;
  ss_status status = take_options(source, path, options, error);
  if (status == SS_OK)
    status = rows_scratch_create(&scratch, error);
  if (status == SS_OK)
    status = open_file(source, error);
  if (status == SS_OK)
    status = source->format == ROWS_STORY ? index_stories(source, scratch, error)
                                          : index_file(source, scratch, error);
  rows_scratch_free(scratch);
  if (status != SS_OK)
    rows_close(source);
  else
    *out = source;
  return status;
}

ss_status rows_open_shown(rows **out, const char *path, const rows_options *options, const char *label,
                          bool quiet, ss_error *error) {
  struct stat about;
  bool folder = stat(path, &about) == 0 && S_ISDIR(about.st_mode);
  ss_progress progress;
  rows_options shown = *options;
  shown.progress = ss_progress_show;
  shown.progress_context = &progress;
  ss_progress_start(&progress, label, folder ? "files" : "bytes", 0, 0, quiet);
  SS_TRY(rows_open(out, path, &shown, error));
  if (progress.last > progress.start)
    ss_progress_finish(&progress, progress.total, NULL);
  return SS_OK;
}

void rows_close(rows *source) {
  if (source == NULL)
    return;
  if (source->file >= 0)
    close(source->file);
  for (int32_t f = 0; f < source->options.n_field; f++)
    free((char *)source->fields[f].name);
  for (int k = 0; k < ROWS_MOST_NAMED; k++)
    free(source->unasked[k].data);
  free((char *)source->options.id);
  free(source->broken.data);
  free(source->names.data);
  free(source->places);
  free(source->path);
  free(source);
}

int64_t rows_count(const rows *source) {
  return source->n_place;
}

int64_t rows_n_broken(const rows *source) {
  return source->n_broken;
}

// --- reading ---

ss_status rows_scratch_create(rows_scratch **out, ss_error *error) {
  return ss_allocate(out, 1, sizeof **out, "row scratch", error);
}

void rows_scratch_free(rows_scratch *scratch) {
  if (scratch == NULL)
    return;
  for (int f = 0; f < ROWS_MOST_FIELDS; f++)
    free(scratch->values[f].data);
  free(scratch->record.data);
  free(scratch->id.data);
  free(scratch->path.data);
  free(scratch->cells);
  json_decref(scratch->json);
  free(scratch);
}

static ss_status load(const rows *source, rows_scratch *scratch, const rows_place *place, ss_error *error) {
  rows_buffer *record = &scratch->record;
  SS_TRY(ss_grow(&record->data, &record->capacity, (int64_t)place->length + 1, 1, "row", error));
  for (record->n = 0; record->n < place->length;) {
    ssize_t n = pread(source->file, record->data + record->n, (size_t)(place->length - record->n),
                      place->offset + record->n);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ss_fail_errno(error, SS_ERROR_IO, "%s: line %lld cannot be read", source->path,
                           (long long)place->line);
    if (n == 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: became shorter while it was read", source->path);
    record->n += n;
  }
  return SS_OK;
}

ss_status rows_read(const rows *source, rows_scratch *scratch, int64_t index, rows_row *out,
                    ss_error *error) {
  ss_error problem = {0};
  if (index < 0 || index >= source->n_place)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: row %lld, expected below %lld", source->path,
                   (long long)index, (long long)source->n_place);
  const rows_place *place = &source->places[index];
  ss_status status = SS_OK;
  if (source->format == ROWS_STORY)
    status = rows_story_load(source, scratch, place, &problem);
  else
    SS_TRY(load(source, scratch, place, error));
  if (status == SS_OK)
    status = parse(source, scratch, place, scratch->record.data, scratch->record.n, out, &problem);
  if (status == SS_OK) {
    out->index = index;
    return SS_OK;
  }
  return ss_fail(error, status, "%s: line %lld: %s%s",
                 source->format == ROWS_STORY ? scratch->path.data : source->path, (long long)place->line,
                 status == SS_ERROR_INPUT ? "changed while it was read: " : "", problem.message);
}
