// Opening a dataset store and reading its examples. What store_open lets pass can be read by anyone: its offset
// tables are sound and its vocabulary is the one it was written with; the examples themselves are checked when read.
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "data/store_private.h"

#define SCAN_ROWS 65536  // entries of an offset table checked at a time

// --- opening --------------------------------------------------------------------------------------------

static ss_status get_json(const store *store, const char *name, json_t **out, ss_error *error) {
  char *text = NULL;
  SS_TRY(ss_hdf5_get_string(store->file, name, &text, error));
  json_error_t reason;
  *out = json_loads(text, 0, &reason);
  free(text);
  if (*out == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: attribute %s is no JSON: %s", store->path, name,
                   reason.text);
  return SS_OK;
}

static ss_status read_attributes(store *store, ss_error *error) {
  json_t *json = NULL;
  uint64_t hash = 0;
  SS_TRY(ss_hdf5_get_string(store->file, "task", &store->task, error));
  SS_TRY(ss_hdf5_get_string(store->file, "split", &store->split, error));
  SS_TRY(ss_hdf5_get_unsigned(store->file, "seed", &store->seed, error));
  SS_TRY(get_json(store, "config", &store->config, error));
  SS_TRY(get_json(store, "vocabulary", &json, error));
  ss_status status = vocabulary_from_json(&store->vocabulary, json, store->path, error);
  json_decref(json);
  SS_TRY(status);
  SS_TRY(ss_hdf5_get_unsigned(store->file, "vocabulary_hash", &hash, error));
  if (hash != vocabulary_hash(store->vocabulary))
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: damaged: vocabulary_hash is %016llx, its vocabulary's is %016llx", store->path,
                   (unsigned long long)hash, (unsigned long long)vocabulary_hash(store->vocabulary));
  return SS_OK;
}

// The extents, and that they agree: tables of offsets have one entry more than there are elements.
static ss_status read_extents(store *store, ss_error *error) {
  for (int array = 0; array < STORE_N_ARRAY; ++array)
    SS_TRY(ss_hdf5_shape(store->file, store_arrays[array].name, store_arrays[array].type, 1,
                         &store->rows[array], error));
  store->n_example = store->rows[STORE_EXAMPLE_OFFSETS] - 1;
  int64_t n_segment = store->rows[STORE_SEGMENT_OFFSETS];
  const struct {
    store_array array;
    int64_t rows;
  } expected[] = {
      {STORE_EXAMPLE_OFFSETS, store->n_example < 0 ? 1 : store->n_example + 1},
      {STORE_LOSS_MASK, store->rows[STORE_TOKENS]},
      {STORE_EXAMPLE_SEGMENTS, store->n_example + 1},
      {STORE_ANSWER_OFFSETS, store->n_example + 1},
      {STORE_ID_OFFSETS, store->n_example + 1},
      {STORE_META_OFFSETS, store->n_example + 1},
      {STORE_SEGMENT_KIND, n_segment},
      {STORE_HEADER_END, n_segment},
      {STORE_REFERENCE_OFFSETS, n_segment + 1},
      {STORE_TEXT_OFFSETS, n_segment + 1},
  };
  for (size_t k = 0; k < sizeof expected / sizeof expected[0]; ++k)
    if (store->rows[expected[k].array] != expected[k].rows)
      return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: %s has %lld entries, expected %lld", store->path,
                     store_arrays[expected[k].array].name, (long long)store->rows[expected[k].array],
                     (long long)expected[k].rows);
  return SS_OK;
}

// Goes through a table of offsets into `target`: from 0, ascending, to the target's end. *widest receives the
// longest element and *widest_index its number.
static ss_status scan_offsets(store *store, store_array array, store_array target, int64_t *buffer,
                              int64_t *widest, int64_t *widest_index, ss_error *error) {
  int64_t count = store->rows[array] - 1;
  for (int64_t first = 0; first == 0 || first < count; first += SCAN_ROWS) {
    int64_t part = count - first < SCAN_ROWS ? count - first : SCAN_ROWS;
    SS_TRY(ss_hdf5_read_rows(store->file, store_arrays[array].name, SS_HDF5_I64, 0, first, part + 1, buffer,
                             error));
    SS_TRY(store_check_offsets(store, array, buffer, part, store->rows[target], error));
    if ((first == 0 && buffer[0] != 0) || (first + part == count && buffer[part] != store->rows[target]))
      return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: %s must run from 0 to the %lld entries of %s",
                     store->path, store_arrays[array].name, (long long)store->rows[target],
                     store_arrays[target].name);
    for (int64_t k = 0; k < part && widest != NULL; ++k)
      if (buffer[k + 1] - buffer[k] > *widest) {
        *widest = buffer[k + 1] - buffer[k];
        *widest_index = first + k;
      }
  }
  return SS_OK;
}

static ss_status scan_tables(store *store, ss_error *error) {
  int64_t *buffer = NULL, index = 0;
  SS_TRY(ss_allocate(&buffer, SCAN_ROWS + 1, sizeof *buffer, "offsets", error));
  ss_status status = scan_offsets(store, STORE_EXAMPLE_OFFSETS, STORE_TOKENS, buffer, &store->longest,
                                  &store->longest_example, error);
  if (status == SS_OK)
    status = scan_offsets(store, STORE_EXAMPLE_SEGMENTS, STORE_SEGMENT_OFFSETS, buffer, &store->most_segments,
                          &index, error);
  static const store_array others[][2] = {{STORE_REFERENCE_OFFSETS, STORE_REFERENCES},
                                          {STORE_TEXT_OFFSETS, STORE_TEXT},
                                          {STORE_ANSWER_OFFSETS, STORE_ANSWERS},
                                          {STORE_ID_OFFSETS, STORE_IDS},
                                          {STORE_META_OFFSETS, STORE_META}};
  for (size_t k = 0; k < sizeof others / sizeof others[0] && status == SS_OK; ++k)
    status = scan_offsets(store, others[k][0], others[k][1], buffer, NULL, NULL, error);
  free(buffer);
  if (status != SS_OK)
    return status;
  if (store->longest > INT32_MAX - 1)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: damaged: example %lld has %lld tokens, more than a row number holds", store->path,
                   (long long)store->longest_example, (long long)store->longest);
  int32_t n_anchor = vocabulary_span_tokens(store->vocabulary)->n_anchor;
  if (store->most_segments > n_anchor)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: damaged: example %lld has %lld segments, more than its %d anchors", store->path,
                   (long long)index, (long long)store->most_segments, n_anchor);
  return SS_OK;
}

// The sidecar was compared with the file when it was opened; its first 64 bits name the content.
static ss_status read_content_hash(store *store, ss_error *error) {
  char *sidecar = NULL, *line = NULL;
  size_t size = 0;
  SS_TRY(ss_format(&sidecar, error, "%s.xxh128", store->path));
  ss_status status = ss_read_file(sidecar, &line, &size, error);
  free(sidecar);
  if (status == SS_OK && size > 16) {
    line[16] = '\0';
    store->content_hash = strtoull(line, NULL, 16);
  }
  free(line);
  return status;
}

static ss_status open_store(store *store, const char *path, bool verify_hash, ss_error *error) {
  SS_TRY(ss_format(&store->path, error, "%s", path));
  SS_TRY(ss_hdf5_open(&store->file, path, STORE_FORMAT, STORE_SCHEMA_VERSION, verify_hash, error));
  if (verify_hash)
    SS_TRY(read_content_hash(store, error));
  SS_TRY(read_attributes(store, error));
  SS_TRY(read_extents(store, error));
  return scan_tables(store, error);
}

ss_status store_open(store **out, const char *path, bool verify_hash, ss_error *error) {
  store *opened = NULL;
  SS_TRY(ss_allocate(&opened, 1, sizeof *opened, "dataset", error));
  ss_status status = open_store(opened, path, verify_hash, error);
  if (status != SS_OK) {
    store_close(opened);
    return status;
  }
  *out = opened;
  return SS_OK;
}

void store_close(store *store) {
  if (store == NULL)
    return;
  ss_hdf5_close(store->file);
  vocabulary_free(store->vocabulary);
  json_decref(store->config);
  free(store->task);
  free(store->split);
  free(store->path);
  free(store);
}

// --- what it holds --------------------------------------------------------------------------------------

int64_t store_n_example(const store *store) {
  return store->n_example;
}
int64_t store_n_token(const store *store) {
  return store->rows[STORE_TOKENS];
}
int32_t store_longest(const store *store) {
  return (int32_t)store->longest;
}
int32_t store_most_segments(const store *store) {
  return (int32_t)store->most_segments;
}
const vocabulary *store_vocabulary(const store *store) {
  return store->vocabulary;
}
const char *store_task(const store *store) {
  return store->task;
}
const char *store_split(const store *store) {
  return store->split;
}
const char *store_path(const store *store) {
  return store->path;
}
uint64_t store_seed(const store *store) {
  return store->seed;
}
uint64_t store_content_hash(const store *store) {
  return store->content_hash;
}
const json_t *store_config(const store *store) {
  return store->config;
}

// --- examples -------------------------------------------------------------------------------------------

static ss_status copy_rendering(rendering *out, const rendering *from, ss_error *error) {
  SS_TRY(ss_grow(&out->tokens, &out->token_capacity, from->n_token, sizeof *out->tokens, "tokens", error));
  SS_TRY(ss_grow(&out->loss, &out->loss_capacity, from->n_token, sizeof *out->loss, "loss mask", error));
  SS_TRY(ss_grow(&out->layout.segments, &out->segment_capacity, from->layout.n_segment + 1,
                 sizeof *out->layout.segments, "segments", error));
  SS_TRY(ss_grow(&out->layout.references, &out->reference_capacity, from->layout.n_reference + 1,
                 sizeof *out->layout.references, "references", error));
  memcpy(out->tokens, from->tokens, (size_t)from->n_token * sizeof *out->tokens);
  memcpy(out->loss, from->loss, (size_t)from->n_token);
  memcpy(out->layout.segments, from->layout.segments,
         (size_t)from->layout.n_segment * sizeof *out->layout.segments);
  memcpy(out->layout.references, from->layout.references,
         (size_t)from->layout.n_reference * sizeof *out->layout.references);
  out->n_token = from->n_token;
  out->prompt_end = from->prompt_end;
  out->layout.preamble_end = from->layout.preamble_end;
  out->layout.n_segment = from->layout.n_segment;
  out->layout.n_reference = from->layout.n_reference;
  out->layout.segment_capacity = (int32_t)out->segment_capacity;
  out->layout.reference_capacity = (int32_t)out->reference_capacity;
  return SS_OK;
}

static ss_status copy_texts(example *out, const store_block *block, int64_t k, ss_error *error) {
  const int64_t *answer = block->columns[STORE_ANSWER_OFFSETS].data;
  const int64_t *meta = block->columns[STORE_META_OFFSETS].data;
  int64_t n_answers = answer[k + 1] - answer[k], n_meta = meta[k + 1] - meta[k];
  SS_TRY(ss_grow(&out->answers, &out->answers_capacity, n_answers + 1, 1, "answers", error));
  memcpy(out->answers, (const char *)block->columns[STORE_ANSWERS].data + answer[k], (size_t)n_answers);
  out->n_answers_bytes = n_answers;
  out->n_answer = 0;
  for (int64_t i = 0; i < n_answers; ++i)
    out->n_answer += out->answers[i] == '\0';
  SS_TRY(ss_grow(&out->meta, &out->meta_capacity, n_meta + 1, 1, "metadata", error));
  memcpy(out->meta, (const char *)block->columns[STORE_META].data + meta[k], (size_t)n_meta);
  out->meta[n_meta] = '\0';
  out->n_meta = n_meta;
  return SS_OK;
}

static ss_status copy_example(example *out, const store_block *block, int64_t k, ss_error *error) {
  const int64_t *id = block->columns[STORE_ID_OFFSETS].data;
  const int64_t *text = block->columns[STORE_TEXT_OFFSETS].data;
  char name[sizeof out->id] = {0};
  memcpy(name, (const char *)block->columns[STORE_IDS].data + id[k], (size_t)(id[k + 1] - id[k]));
  example_reset(out, name);
  int64_t segment = ((const int64_t *)block->columns[STORE_EXAMPLE_SEGMENTS].data)[k];
  rendering annotated = store_block_rendering(block, k);
  for (int32_t s = 0; s < annotated.layout.n_segment; ++s) {
    const span_segment *own = &annotated.layout.segments[s];
    if (own->kind == SPAN_END)  // made by the rendering, not by the task
      continue;
    int64_t first = text[segment + s], end = text[segment + s + 1];
    SS_TRY(example_segment_add(out, own->kind, (const char *)block->columns[STORE_TEXT].data + first,
                               end - first, error));
    for (int32_t r = 0; r < own->n_reference; ++r)
      SS_TRY(example_reference_add(out, annotated.layout.references[own->reference_first + r], error));
  }
  return copy_texts(out, block, k, error);
}

ss_status store_read(store *store, int64_t first, int64_t count, example *examples, rendering *renderings,
                     ss_error *error) {
  store_block block = {0};
  ss_status status = store_block_read(store, first, count, STORE_READ_ALL, &block, error);
  for (int64_t k = 0; k < block.count && status == SS_OK; ++k) {
    rendering annotated = store_block_rendering(&block, k);
    status = copy_example(&examples[k], &block, k, error);
    if (status == SS_OK)
      status = copy_rendering(&renderings[k], &annotated, error);
  }
  store_block_free(&block);
  return status;
}
