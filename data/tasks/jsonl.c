#include "data/tasks/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"
#include "data/excluded.h"

#define LONGEST_ROW (64 << 20)  // bytes
#define MOST_NAMED 10           // broken rows that the notes name

const ss_key jsonl_keys[] =
    {SS_CONFIG_TEXT(jsonl_config, path, "jsonl.path", "", "the file of rows"),
     SS_CONFIG_CHOICE(jsonl_config, on_error, "jsonl.on_error", "fail", "fail|skip",
                      "a broken row stops the import, or is counted, named and left out"),
     {0}};

typedef struct {
  int64_t offset, line;
  int32_t length;
} row_place;

typedef struct {
  row_place *rows;
  int64_t n_row, capacity;
} row_list;

typedef struct {
  jsonl_config config;
  int file;
  row_list splits[DATA_N_SPLIT];
  excluded_list excluded;
  int64_t n_broken, n_left_out;
  char *notes;  // the first broken rows
} jsonl_state;

typedef struct {
  char *text;
  int64_t capacity;
} row_buffer;

// What --exclude keeps out: rows whose contexts equal a line.

static ss_status is_excluded(const jsonl_state *state, const example *row, bool *excluded, ss_error *error) {
  int64_t end = 0;
  for (int64_t s = 0; s < row->n_segment && row->segments[s].kind == SPAN_CONTEXT; s++)
    end = row->segments[s].text_end;
  return excluded_has(&state->excluded, row->text, end, excluded, error);
}

// --- the pass that finds the rows ---

static ss_status note_broken(jsonl_state *state, const ss_error *problem, ss_error *error) {
  char *longer = NULL;
  if (++state->n_broken > MOST_NAMED)
    return SS_OK;
  SS_TRY(ss_format(&longer, error, "%s%s  %s", state->notes == NULL ? "" : state->notes,
                   state->notes == NULL ? "" : "\n", problem->message));
  free(state->notes);
  state->notes = longer;
  return SS_OK;
}

static ss_status index_row(jsonl_state *state, const char *text, int64_t n, int64_t offset, int64_t line,
                           example *scratch, ss_error *error) {
  char *where = NULL;
  ss_error problem = {0};
  data_split split = DATA_TRAIN;
  SS_TRY(ss_format(&where, error, "%s: line %lld", state->config.path, (long long)line));
  ss_status status = n > LONGEST_ROW
                         ? ss_fail(&problem, SS_ERROR_LIMIT, "%s: a row of %lld bytes, expected at most %d",
                                   where, (long long)n, LONGEST_ROW)
                         : jsonl_parse_row(text, n, where, scratch, &split, &problem);
  free(where);
  if (status == SS_ERROR_MEMORY || (status != SS_OK && state->config.on_error == JSONL_FAIL))
    return ss_fail(error, status, "%s", problem.message);
  if (status != SS_OK)
    return note_broken(state, &problem, error);
  bool excluded = false;
  SS_TRY(is_excluded(state, scratch, &excluded, error));
  if (excluded) {
    state->n_left_out++;
    return SS_OK;
  }
  row_list *list = &state->splits[split];
  SS_TRY(ss_grow(&list->rows, &list->capacity, list->n_row + 1, sizeof *list->rows, "row index", error));
  list->rows[list->n_row++] = (row_place){offset, line, (int32_t)n};
  return SS_OK;
}

static ss_status index_file(jsonl_state *state, ss_error *error) {
  const char *path = state->config.path;
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be opened", path);
  char *text = NULL;
  size_t capacity = 0;
  ssize_t n = 0;
  int64_t offset = 0, line = 1;
  example scratch = {0};
  ss_status status = SS_OK;
  errno = 0;
  for (; status == SS_OK && (n = getline(&text, &capacity, file)) >= 0; offset += n, line++) {
    int64_t length = n > 0 && text[n - 1] == '\n' ? n - 1 : n;
    int64_t first = 0;
    while (first < length && (text[first] == ' ' || text[first] == '\t' || text[first] == '\r'))
      first++;
    if (first < length)
      status = index_row(state, text, length, offset, line, &scratch, error);
  }
  if (status == SS_OK && !feof(file))
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: line %lld cannot be read", path, (long long)line);
  free(text);
  example_free(&scratch);
  fclose(file);
  return status;
}

// --- the task ---

static void close_source(void *opaque) {
  jsonl_state *state = opaque;
  if (state == NULL)
    return;
  if (state->file >= 0)
    close(state->file);
  for (int split = 0; split < DATA_N_SPLIT; split++)
    free(state->splits[split].rows);
  excluded_free(&state->excluded);
  free(state->notes);
  free(state);
}

static ss_status open_source(void **out, const void *config, uint64_t seed, const char *exclude,
                             ss_error *error) {
  (void)seed;  // the file says everything
  jsonl_state *state = NULL;
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "jsonl source", error));
  state->config = *(const jsonl_config *)config;
  state->file = -1;
  ss_status status = SS_OK;
  if (state->config.path[0] == '\0')
    status = ss_fail(error, SS_ERROR_USAGE, "jsonl.path is empty, expected a file (--set jsonl.path=FILE)");
  if (status == SS_OK && exclude != NULL)
    status = excluded_read(&state->excluded, exclude, error);
  if (status == SS_OK)
    status = index_file(state, error);
  if (status == SS_OK && (state->file = open(state->config.path, O_RDONLY | O_CLOEXEC)) < 0)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be opened", state->config.path);
  int64_t n_row = 0;
  for (int split = 0; split < DATA_N_SPLIT; split++)
    n_row += state->splits[split].n_row;
  if (status == SS_OK && n_row == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no usable row (%lld broken, %lld excluded)",
                     state->config.path, (long long)state->n_broken, (long long)state->n_left_out);
  if (status != SS_OK)
    close_source(state);
  else
    *out = state;
  return status;
}

static ss_status make_vocabulary(void *state, int32_t n_anchor, vocabulary **out, ss_error *error) {
  (void)state;
  return vocabulary_create_bytes(out, jsonl_task.name, n_anchor, error);
}

static int64_t count_examples(void *state, data_split split) {
  return ((jsonl_state *)state)->splits[split].n_row;
}

static ss_status create_scratch(void *state, void **scratch, ss_error *error) {
  (void)state;
  row_buffer *buffer = NULL;
  SS_TRY(ss_allocate(&buffer, 1, sizeof *buffer, "row buffer", error));
  *scratch = buffer;
  return SS_OK;
}

static void free_scratch(void *scratch) {
  row_buffer *buffer = scratch;
  if (buffer != NULL)
    free(buffer->text);
  free(buffer);
}

static ss_status make_example(void *opaque, void *scratch, data_split split, int64_t index, example *out,
                              bool *skip, const char **reason, ss_error *error) {
  const jsonl_state *state = opaque;
  row_buffer *buffer = scratch;
  const row_place *place = &state->splits[split].rows[index];
  const char *path = state->config.path;
  (void)reason;
  *skip = false;
  SS_TRY(ss_grow(&buffer->text, &buffer->capacity, place->length, 1, "row", error));
  for (int64_t got = 0; got < place->length;) {
    ssize_t n = pread(state->file, buffer->text + got, (size_t)(place->length - got), place->offset + got);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ss_fail_errno(error, SS_ERROR_IO, "%s: line %lld cannot be read", path, (long long)place->line);
    if (n == 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: became shorter while it was read", path);
    got += n;
  }
  char *where = NULL;
  data_split now = DATA_TRAIN;
  SS_TRY(ss_format(&where, error, "%s: line %lld", path, (long long)place->line));
  ss_status status = jsonl_parse_row(buffer->text, place->length, where, out, &now, error);
  if (status == SS_OK && now != split)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: changed while it was read", where);
  free(where);
  return status;
}

static ss_status write_notes(void *opaque, char **out, ss_error *error) {
  const jsonl_state *state = opaque;
  *out = NULL;
  if (state->n_broken == 0 && state->n_left_out == 0)
    return SS_OK;
  return ss_format(out, error, "%lld broken rows left out, %lld rows excluded%s%s",
                   (long long)state->n_broken, (long long)state->n_left_out,
                   state->notes == NULL ? "" : ":\n", state->notes == NULL ? "" : state->notes);
}

const data_task jsonl_task = {
    .name = "jsonl",
    .summary = "segments and references from a file of JSON rows",
    .keys = jsonl_keys,
    .config_size = sizeof(jsonl_config),
    .open = open_source,
    .close = close_source,
    .vocabulary = make_vocabulary,
    .count = count_examples,
    .scratch_create = create_scratch,
    .scratch_free = free_scratch,
    .example = make_example,
    .notes = write_notes,
};
