#include "eval/rouge_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

struct rouge_rows {
  const char *path;
  rouge_text *texts;  // bytes malloc'ed
  int64_t n_text, text_capacity;
  int64_t *first;  // [count + 1] each row's first text
  char **ids;      // [count] NULL where a row has none
  int64_t count, first_capacity, id_capacity;
};

static void rows_free(rouge_rows *rows) {
  for (int64_t k = 0; k < rows->n_text; k++)
    free((char *)rows->texts[k].bytes);
  for (int64_t k = 0; k < rows->count; k++)
    free(rows->ids[k]);
  free(rows->texts);
  free(rows->first);
  free(rows->ids);
  memset(rows, 0, sizeof *rows);
}

// Starts the next row; its texts follow.
static ss_status rows_add(rouge_rows *rows, ss_error *error) {
  SS_TRY(ss_grow(&rows->first, &rows->first_capacity, rows->count + 2, sizeof *rows->first, "rows", error));
  SS_TRY(ss_grow(&rows->ids, &rows->id_capacity, rows->count + 1, sizeof *rows->ids, "rows", error));
  rows->ids[rows->count] = NULL;
  rows->first[rows->count++] = rows->n_text;
  rows->first[rows->count] = rows->n_text;
  return SS_OK;
}

static ss_status rows_add_text(rouge_rows *rows, const char *bytes, size_t size, ss_error *error) {
  if (size > (size_t)ROUGE_MAX_BYTES)
    return ss_fail(error, SS_ERROR_LIMIT, "%s:%lld: a text has %zu bytes, at most %lld are possible",
                   rows->path, (long long)rows->count, size, (long long)ROUGE_MAX_BYTES);
  SS_TRY(ss_grow(&rows->texts, &rows->text_capacity, rows->n_text + 1, sizeof *rows->texts, "texts", error));
  char *copy = NULL;
  SS_TRY(ss_allocate(&copy, (int64_t)size + 1, 1, "text", error));
  if (size > 0)
    memcpy(copy, bytes, size);
  rows->texts[rows->n_text++] = (rouge_text){copy, (int64_t)size};
  rows->first[rows->count] = rows->n_text;
  return SS_OK;
}

// --- plain text ---

// Puts a newline for every `mark`, in place; returns the new size.
static size_t break_lines(char *text, size_t n, const char *mark) {
  size_t length = strlen(mark), to = 0;
  for (size_t i = 0; i < n;) {
    if (n - i >= length && memcmp(text + i, mark, length) == 0) {
      text[to++] = '\n';
      i += length;
    } else {
      text[to++] = text[i++];
    }
  }
  return to;
}

static ss_status read_text(rouge_rows *rows, char *text, size_t n, const rouge_file_options *options,
                           ss_error *error) {
  json_t *valid = json_stringn(text, n);
  if (valid == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: not a text in UTF-8", rows->path, (long long)rows->count);
  json_decref(valid);
  if (options->line_break != NULL && options->line_break[0] != '\0')
    n = break_lines(text, n, options->line_break);
  return rows_add_text(rows, text, n, error);
}

// --- JSONL ---

static ss_status read_json(rouge_rows *rows, const char *text, size_t n, const char *field, bool many,
                           ss_error *error) {
  json_error_t problem;
  json_t *line = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
  if (line == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: not JSON: %s", rows->path, (long long)rows->count,
                   problem.text);
  const json_t *value = json_is_object(line) ? json_object_get(line, field) : line;
  ss_status status = SS_OK;
  if (many && json_array_size(value) > 0) {
    size_t k;
    const json_t *text_value;
    json_array_foreach(value, k, text_value) {
      if (status == SS_OK && !json_is_string(text_value))
        status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: reference %zu is not a string", rows->path,
                         (long long)rows->count, k + 1);
      if (status == SS_OK)
        status = rows_add_text(rows, json_string_value(text_value), json_string_length(text_value), error);
    }
  } else if (json_is_string(value)) {
    status = rows_add_text(rows, json_string_value(value), json_string_length(value), error);
  } else {
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: expected a string%s, or an object with it in \"%s\"",
                     rows->path, (long long)rows->count, many ? " or an array of at least one" : "", field);
  }
  const json_t *id_value = json_object_get(line, "id");
  const char *id = json_string_value(id_value);
  if (status == SS_OK && id != NULL && strlen(id) != json_string_length(id_value))
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: \"id\" has a zero character", rows->path,
                     (long long)rows->count);
  if (status == SS_OK && id != NULL)
    status = ss_format(&rows->ids[rows->count - 1], error, "%s", id);
  json_decref(line);
  return status;
}

// --- files ---

static ss_status read_file(rouge_rows *rows, const char *path, const rouge_file_options *options,
                           bool references, ss_error *error) {
  size_t length = strlen(path);
  bool jsonl = length >= 6 && strcmp(path + length - 6, ".jsonl") == 0;
  rows->path = path;
  FILE *file = fopen(path, "r");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  char *text = NULL;
  size_t capacity = 0;
  ssize_t n;
  ss_status status = SS_OK;
  while (status == SS_OK && (n = getline(&text, &capacity, file)) >= 0) {
    if (n > 0 && text[n - 1] == '\n')
      n--;
    status = rows_add(rows, error);
    if (status == SS_OK && jsonl)
      status = read_json(rows, text, (size_t)n,
                         references ? options->reference_field : options->prediction_field, references,
                         error);
    else if (status == SS_OK)
      status = read_text(rows, text, (size_t)n, options, error);
  }
  if (status == SS_OK && !feof(file))
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read", path);
  free(text);
  fclose(file);
  return status;
}

static ss_status check_rows(const rouge_rows *predictions, const rouge_rows *references, ss_error *error) {
  int64_t n = references->count < predictions->count ? references->count : predictions->count;
  for (int64_t k = 0; k < n; k++) {
    const char *id = predictions->ids[k], *other = references->ids[k];
    if (id != NULL && other != NULL && strcmp(id, other) != 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: id \"%s\", expected \"%s\" as in that line of %s",
                     references->path, (long long)(k + 1), other, id, predictions->path);
  }
  if (references->count != predictions->count)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %lld lines, expected %lld as in %s", references->path,
                   (long long)references->count, (long long)predictions->count, predictions->path);
  return SS_OK;
}

static ss_status join(rouge_corpus *corpus, ss_error *error) {
  int64_t total = 0, next = 0;
  corpus->count = corpus->files[0].count;
  for (int f = 1; f < corpus->n_file; f++)
    total += corpus->files[f].n_text;
  SS_TRY(ss_allocate(&corpus->items, corpus->count, sizeof *corpus->items, "items", error));
  SS_TRY(ss_allocate(&corpus->references, total, sizeof *corpus->references, "references", error));
  for (int64_t k = 0; k < corpus->count; k++) {
    rouge_item *item = &corpus->items[k];
    item->prediction = corpus->files[0].texts[k];
    item->references = corpus->references + next;
    for (int f = 1; f < corpus->n_file; f++)
      for (int64_t t = corpus->files[f].first[k]; t < corpus->files[f].first[k + 1]; t++)
        corpus->references[next++] = corpus->files[f].texts[t];
    item->n_reference = corpus->references + next - item->references;
  }
  return SS_OK;
}

ss_status rouge_corpus_read(rouge_corpus *corpus, const char *predictions, const char *const *references,
                            int n_reference, const rouge_file_options *options, ss_error *error) {
  memset(corpus, 0, sizeof *corpus);
  if (n_reference < 1)
    return ss_fail(error, SS_ERROR_USAGE, "no file of references, expected at least one");
  SS_TRY(ss_allocate(&corpus->files, n_reference + 1, sizeof *corpus->files, "files", error));
  corpus->n_file = n_reference + 1;
  SS_TRY(read_file(&corpus->files[0], predictions, options, false, error));
  for (int f = 1; f < corpus->n_file; f++) {
    SS_TRY(read_file(&corpus->files[f], references[f - 1], options, true, error));
    SS_TRY(check_rows(&corpus->files[0], &corpus->files[f], error));
  }
  if (corpus->files[0].count == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: empty, expected one prediction a line", predictions);
  return join(corpus, error);
}

void rouge_corpus_free(rouge_corpus *corpus) {
  for (int f = 0; f < corpus->n_file; f++)
    rows_free(&corpus->files[f]);
  free(corpus->files);
  free(corpus->items);
  free(corpus->references);
  memset(corpus, 0, sizeof *corpus);
}
