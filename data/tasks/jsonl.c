#include "data/tasks/jsonl.h"

#include <stdlib.h>

#include "common/memory.h"
#include "data/excluded.h"
#include "data/rows.h"

const ss_key jsonl_keys[] =
    {SS_CONFIG_TEXT(jsonl_config, path, "jsonl.path", "", "the file of rows"),
     SS_CONFIG_CHOICE(jsonl_config, on_error, "jsonl.on_error", "fail", "fail|skip",
                      "a broken row stops the import, or is counted, named and left out"),
     {0}};

typedef struct {
  int64_t *rows;  // indices into the source
  int64_t n_row, capacity;
} row_list;

typedef struct {
  jsonl_config config;
  rows *source;
  row_list splits[DATA_N_SPLIT];
  excluded_list excluded;
  int64_t n_excluded;
  example checked;  // the row that is looked at while the source is opened
} jsonl_state;

// What --exclude keeps out: rows whose contexts equal a line.

static ss_status is_excluded(const jsonl_state *state, const example *row, bool *excluded, ss_error *error) {
  int64_t end = 0;
  for (int64_t s = 0; s < row->n_segment && row->segments[s].kind == SPAN_CONTEXT; s++)
    end = row->segments[s].text_end;
  return excluded_has(&state->excluded, row->text, end, excluded, error);
}

// Sorts a row into its split while the source is opened.
static ss_status check_row(void *context, rows_row *row, bool *leave_out, ss_error *problem) {
  jsonl_state *state = context;
  data_split split = DATA_TRAIN;
  SS_TRY(jsonl_take_row(row->json, &state->checked, &split, problem));
  SS_TRY(is_excluded(state, &state->checked, leave_out, problem));
  state->n_excluded += *leave_out;
  row_list *list = &state->splits[split];
  if (*leave_out)
    return SS_OK;
  SS_TRY(ss_grow(&list->rows, &list->capacity, list->n_row + 1, sizeof *list->rows, "row index", problem));
  list->rows[list->n_row++] = row->index;
  return SS_OK;
}

// --- the task ---

static void close_source(void *opaque) {
  jsonl_state *state = opaque;
  if (state == NULL)
    return;
  rows_close(state->source);
  for (int split = 0; split < DATA_N_SPLIT; split++)
    free(state->splits[split].rows);
  excluded_free(&state->excluded);
  example_free(&state->checked);
  free(state);
}

static ss_status open_source(void **out, const void *config, uint64_t seed, const char *exclude,
                             const data_opening *how, ss_error *error) {
  (void)seed;  // the file says everything
  jsonl_state *state = NULL;
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "jsonl source", error));
  state->config = *(const jsonl_config *)config;
  ss_status status = SS_OK;
  if (state->config.path[0] == '\0')
    status = ss_fail(error, SS_ERROR_USAGE, "jsonl.path is empty, expected a file (--set jsonl.path=FILE)");
  if (status == SS_OK && exclude != NULL)
    status = excluded_read(&state->excluded, exclude, error);
  rows_options options = {.format = ROWS_JSONL,
                          .fail = state->config.on_error == JSONL_FAIL,
                          .check = check_row,
                          .context = state,
                          .stop = how->stop};
  if (status == SS_OK)
    status = rows_open_shown(&state->source, state->config.path, &options, "reading", how->quiet, error);
  if (status == SS_OK && rows_count(state->source) == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no usable row (%lld broken, %lld excluded)",
                     state->config.path, (long long)rows_n_broken(state->source),
                     (long long)state->n_excluded);
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
  return rows_scratch_create((rows_scratch **)scratch, error);
}

static void free_scratch(void *scratch) {
  rows_scratch_free(scratch);
}

static ss_status make_example(void *opaque, void *scratch, data_split split, int64_t index, example *out,
                              bool *skip, const char **reason, ss_error *error) {
  const jsonl_state *state = opaque;
  rows_row row;
  data_split now = split;
  (void)reason;
  *skip = false;
  SS_TRY(rows_read(state->source, scratch, state->splits[split].rows[index], &row, error));
  ss_status status = jsonl_take_row(row.json, out, &now, error);
  if (status == SS_OK && now != split)
    status = ss_fail(error, SS_ERROR_INPUT, "changed while it was read");
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s: line %lld", row.path, (long long)row.line);
}

static ss_status write_notes(void *opaque, char **out, ss_error *error) {
  const jsonl_state *state = opaque;
  char *notes = NULL;
  SS_TRY(rows_notes(state->source, &notes, error));
  *out = notes;
  if (state->n_excluded == 0)
    return SS_OK;
  ss_status status = ss_format(out, error, "%lld rows excluded%s%s", (long long)state->n_excluded,
                               notes == NULL ? "" : "\n", notes == NULL ? "" : notes);
  free(notes);
  return status;
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
