#include "data/tasks/cnndm.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/excluded.h"
#include "data/rows.h"

enum { FIELD_ARTICLE, FIELD_SUMMARY, N_FIELD };

const ss_key cnndm_keys[] = {
    SS_CONFIG_TEXT(cnndm_config, paths[DATA_TRAIN], "cnndm.train", "",
                   "training rows: JSONL, CSV or a folder of .story files, plain or gzip; empty: none"),
    SS_CONFIG_TEXT(cnndm_config, paths[DATA_VALIDATION], "cnndm.validation", "", "validation rows"),
    SS_CONFIG_TEXT(cnndm_config, paths[DATA_TEST], "cnndm.test", "", "test rows"),
    SS_CONFIG_CHOICE(cnndm_config, format, "cnndm.format", "auto", ROWS_FORMATS, "the rows' form"),
    SS_CONFIG_TEXT(cnndm_config, article_field, "cnndm.article_field", "article", "the field of the article"),
    SS_CONFIG_TEXT(cnndm_config, summary_field, "cnndm.summary_field", "highlights",
                   "the field of the summary, a sentence a line"),
    SS_CONFIG_TEXT(cnndm_config, id_field, "cnndm.id_field", "id",
                   "the field of the row's name; rows without one are numbered"),
    SS_CONFIG_CHOICE(cnndm_config, on_error, "cnndm.on_error", "skip", "skip|fail",
                     "a broken row is counted, named and left out, or stops the import"),
    SS_CONFIG_TEXT(cnndm_config, clean, "cnndm.clean", "all",
                   "clean-up rules, by comma: all, none, names, -name (blanks, lines, tokens, endings, ...)"),
    SS_CONFIG_TEXT(cnndm_config, tokenizer, "cnndm.tokenizer", "",
                   "a tokenizer.json, vocab.bpe's folder, a .gguf, ...; empty: bytes"),
    SS_CONFIG_INT(cnndm_config, context_tokens, "cnndm.context_tokens", "1024", 0, 1 << 24,
                  "tokens of the longest annotated sequence; the article is cut at a sentence; 0: no limit"),
    SS_CONFIG_INT(cnndm_config, summary_tokens, "cnndm.summary_tokens", "192", 16, 1 << 24,
                  "of these, kept free for the summary with its headers and the end"),
    SS_CONFIG_INT(cnndm_config, summary_sentences, "cnndm.summary_sentences", "16", 1, 65536,
                  "sentences of a summary; as many anchors are kept free for them"),
    SS_CONFIG_INT(cnndm_config, references, "cnndm.references", "2", 1, 1024,
                  "article sentences that a summary sentence refers to, at most"),
    SS_CONFIG_INT(cnndm_config, least_references, "cnndm.least_references", "0", 0, 1024,
                  "go on picking to so many, though they say less about the summary sentence"),
    SS_CONFIG_INT(cnndm_config, previous_steps, "cnndm.previous_steps", "0", 0, 1024,
                  "summary sentences before it that a summary sentence refers to as well, so that its body "
                  "reads them"),
    SS_CONFIG_INT(cnndm_config, shortest_sentence, "cnndm.shortest_sentence", "16", 0, 1 << 20,
                  "bytes; a shorter article sentence is joined to the one before"),
    SS_CONFIG_INT(cnndm_config, longest_sentence, "cnndm.longest_sentence", "600", 0, 1 << 30,
                  "bytes; a longer article sentence is cut behind a comma or at a blank; 0: never"),
    {0}};

typedef struct {
  cnndm_config config;
  rows *sources[DATA_N_SPLIT];  // NULL: no such split
  const vocabulary *vocabulary;
  excluded_list excluded;
  int64_t n_left_out;
} cnndm_state;

typedef struct {
  rows_scratch *row;
  cnndm_annotator *annotator;
} cnndm_scratch;

// What --exclude keeps out: rows whose id or whose article equals a line.

static ss_status check_row(void *context, rows_row *row, bool *leave_out, ss_error *error) {
  cnndm_state *state = context;
  SS_TRY(excluded_has(&state->excluded, row->id, (int64_t)strlen(row->id), leave_out, error));
  if (!*leave_out)
    SS_TRY(excluded_has(&state->excluded, row->values[FIELD_ARTICLE], row->lengths[FIELD_ARTICLE], leave_out,
                        error));
  state->n_left_out += *leave_out;
  return SS_OK;
}

// --- the source ---

static void close_source(void *opaque) {
  cnndm_state *state = opaque;
  if (state == NULL)
    return;
  for (int split = 0; split < DATA_N_SPLIT; split++)
    rows_close(state->sources[split]);
  excluded_free(&state->excluded);
  free(state);
}

static ss_status open_split(cnndm_state *state, int split, const data_opening *how, ss_error *error) {
  static const char *const labels[DATA_N_SPLIT] = {"reading train", "reading validation", "reading test"};
  const cnndm_config *config = &state->config;
  const rows_field fields[N_FIELD] = {[FIELD_ARTICLE] = {config->article_field, ROWS_FILLED},
                                      [FIELD_SUMMARY] = {config->summary_field, ROWS_FILLED}};
  const rows_options options = {.format = (rows_format)config->format,
                                .fields = fields,
                                .n_field = N_FIELD,
                                .id = config->id_field[0] == '\0' ? NULL : config->id_field,
                                .fail = config->on_error == CNNDM_FAIL,
                                .check = state->excluded.n > 0 ? check_row : NULL,
                                .context = state,
                                .stop = how->stop};
  int64_t left_out = state->n_left_out;  // of the splits before
  if (config->paths[split][0] == '\0')
    return SS_OK;
  SS_TRY(rows_open_shown(&state->sources[split], config->paths[split], &options, labels[split], how->quiet,
                         error));
  if (rows_count(state->sources[split]) > 0)
    return SS_OK;
  char *notes = NULL;
  SS_TRY(rows_notes(state->sources[split], &notes, error));
  ss_status status = ss_fail(error, SS_ERROR_INPUT, "%s: no usable row (%lld broken, %lld excluded)%s%.600s",
                             config->paths[split], (long long)rows_n_broken(state->sources[split]),
                             (long long)(state->n_left_out - left_out), notes == NULL ? "" : ": ",
                             notes == NULL ? "" : notes);
  free(notes);
  return status;
}

static ss_status open_source(void **out, const void *config, uint64_t seed, const char *exclude,
                             const data_opening *how, ss_error *error) {
  (void)seed;  // the files say everything
  cnndm_state *state = NULL;
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "cnndm source", error));
  state->config = *(const cnndm_config *)config;
  ss_status status = SS_OK;
  bool any = false;
  for (int split = 0; split < DATA_N_SPLIT; split++)
    any = any || state->config.paths[split][0] != '\0';
  if (!any)
    status = ss_fail(
        error, SS_ERROR_USAGE,
        "cnndm.train, cnndm.validation and cnndm.test are empty, expected a file of rows in one of them "
        "(--set cnndm.train=FILE)");
  if (status == SS_OK && exclude != NULL)
    status = excluded_read(&state->excluded, exclude, error);
  for (int split = 0; status == SS_OK && split < DATA_N_SPLIT; split++)
    status = open_split(state, split, how, error);
  if (status != SS_OK)
    close_source(state);
  else
    *out = state;
  return status;
}

static ss_status make_vocabulary(void *opaque, int32_t n_anchor, vocabulary **out, ss_error *error) {
  cnndm_state *state = opaque;
  tokenizer *tokenizer = NULL;
  if (state->config.tokenizer[0] == '\0') {
    SS_TRY(vocabulary_create_bytes(out, cnndm_task.name, n_anchor, error));
  } else {
    SS_TRY(tokenizer_open(&tokenizer, state->config.tokenizer, error));
    ss_status status = vocabulary_create_tokenizer(out, tokenizer, cnndm_task.name, n_anchor, error);
    tokenizer_free(tokenizer);
    SS_TRY(status);
  }
  state->vocabulary = *out;
  return SS_OK;
}

static int64_t count_examples(void *opaque, data_split split) {
  const cnndm_state *state = opaque;
  return state->sources[split] == NULL ? 0 : rows_count(state->sources[split]);
}

static void free_scratch(void *opaque) {
  cnndm_scratch *scratch = opaque;
  if (scratch == NULL)
    return;
  rows_scratch_free(scratch->row);
  cnndm_annotator_free(scratch->annotator);
  free(scratch);
}

static ss_status create_scratch(void *opaque, void **out, ss_error *error) {
  const cnndm_state *state = opaque;
  cnndm_scratch *scratch = NULL;
  if (state->vocabulary == NULL)
    return ss_fail(error, SS_ERROR_INTERNAL, "cnndm: examples asked for before the vocabulary");
  SS_TRY(ss_allocate(&scratch, 1, sizeof *scratch, "row buffers", error));
  ss_status status = rows_scratch_create(&scratch->row, error);
  if (status == SS_OK)
    status = cnndm_annotator_create(&scratch->annotator, &state->config, state->vocabulary, error);
  if (status != SS_OK)
    free_scratch(scratch);
  else
    *out = scratch;
  return status;
}

static ss_status make_example(void *opaque, void *scratch_opaque, data_split split, int64_t index,
                              example *out, bool *skip, const char **reason, ss_error *error) {
  const cnndm_state *state = opaque;
  cnndm_scratch *scratch = scratch_opaque;
  rows_row row;
  SS_TRY(rows_read(state->sources[split], scratch->row, index, &row, error));
  ss_status status = cnndm_annotate(scratch->annotator, row.id, row.values[FIELD_ARTICLE],
                                    row.lengths[FIELD_ARTICLE], row.values[FIELD_SUMMARY],
                                    row.lengths[FIELD_SUMMARY], out, reason, error);
  if (status != SS_OK)
    return ss_error_context(error, "%s: line %lld", row.path, (long long)row.line);
  *skip = *reason != NULL;
  return SS_OK;
}

static ss_status write_notes(void *opaque, char **out, ss_error *error) {
  const cnndm_state *state = opaque;
  ss_status status = SS_OK;
  *out = NULL;
  for (int split = 0; status == SS_OK && split <= DATA_N_SPLIT; split++) {
    char *notes = NULL, *longer = NULL;
    if (split < DATA_N_SPLIT && state->sources[split] != NULL)
      status = rows_notes(state->sources[split], &notes, error);
    else if (split == DATA_N_SPLIT && state->n_left_out > 0)
      status = ss_format(&notes, error, "%lld rows excluded", (long long)state->n_left_out);
    if (notes == NULL)
      continue;
    status = ss_format(&longer, error, "%s%s%s", *out == NULL ? "" : *out, *out == NULL ? "" : "\n", notes);
    free(notes);
    free(*out);
    *out = longer;
  }
  return status;
}

const data_task cnndm_task = {
    .name = "cnndm",
    .summary = "summaries of news articles, each sentence with the article sentences that it rests on",
    .keys = cnndm_keys,
    .config_size = sizeof(cnndm_config),
    .open = open_source,
    .close = close_source,
    .vocabulary = make_vocabulary,
    .count = count_examples,
    .scratch_create = create_scratch,
    .scratch_free = free_scratch,
    .example = make_example,
    .notes = write_notes,
    .tally_create = cnndm_tally_create,
    .tally_add = cnndm_tally_add,
    .tally_json = cnndm_tally_json,
    .tally_free = cnndm_tally_free,
};
