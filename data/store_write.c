// Writing a dataset store: examples are buffered column by column and appended in blocks, so that memory is flat
// and the bytes of the file depend on the sequence of examples alone.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/store_private.h"

#define FLUSH_EXAMPLES 4096
#define FLUSH_TOKENS (1 << 20)

struct store_writer {
  ss_hdf5 *file;
  char *path;
  vocabulary *vocabulary;  // the writer's own: it outlives the caller's
  store_column columns[STORE_N_ARRAY];
  int64_t written[STORE_N_ARRAY];  // elements in the file
  int64_t n_example;
  bool failed;        // a flush failed: the file cannot be completed
  span_layout check;  // scratch
  int64_t segment_capacity;
};

// --- columns --------------------------------------------------------------------------------------------

static ss_status append(store_writer *writer, store_array array, const void *values, int64_t count,
                        ss_error *error) {
  store_column *column = &writer->columns[array];
  size_t size = ss_hdf5_type_size(store_arrays[array].type);
  if (column->count + count > column->capacity)
    SS_TRY(ss_grow(&column->data, &column->capacity, column->count + count, size, store_arrays[array].name,
                   error));
  if (count > 0)
    memcpy((char *)column->data + (size_t)column->count * size, values, (size_t)count * size);
  column->count += count;
  return SS_OK;
}

// The number of elements of an array so far, buffered ones included: the next offset.
static int64_t total(const store_writer *writer, store_array array) {
  return writer->written[array] + writer->columns[array].count;
}

static ss_status append_offset(store_writer *writer, store_array offsets, store_array target,
                               ss_error *error) {
  int64_t offset = total(writer, target);
  return append(writer, offsets, &offset, 1, error);
}

static ss_status flush(store_writer *writer, ss_error *error) {
  for (int array = 0; array < STORE_N_ARRAY; ++array) {
    store_column *column = &writer->columns[array];
    if (column->count == 0)
      continue;
    const store_array_info *info = &store_arrays[array];
    ss_status status = ss_hdf5_append(writer->file, info->name, info->type, column->count, column->data,
                                      error);
    if (status != SS_OK) {
      writer->failed = true;
      return status;
    }
    writer->written[array] += column->count;
    column->count = 0;
  }
  return SS_OK;
}

// --- opening --------------------------------------------------------------------------------------------

static ss_status set_json(store_writer *writer, const char *name, const json_t *json, ss_error *error) {
  char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: attribute %s is no JSON", writer->path, name);
  ss_status status = ss_hdf5_set_string(writer->file, name, text, error);
  free(text);
  return status;
}

static ss_status write_attributes(store_writer *writer, const json_t *vocabulary_text, const char *task,
                                  const char *split, uint64_t seed, const json_t *config, ss_error *error) {
  SS_TRY(ss_hdf5_set_string(writer->file, "task", task, error));
  SS_TRY(ss_hdf5_set_string(writer->file, "split", split, error));
  SS_TRY(ss_hdf5_set_unsigned(writer->file, "seed", seed, error));
  SS_TRY(ss_hdf5_set_unsigned(writer->file, "vocabulary_hash", vocabulary_hash(writer->vocabulary), error));
  SS_TRY(set_json(writer, "vocabulary", vocabulary_text, error));
  SS_TRY(set_json(writer, "config", config, error));
  for (int array = 0; array < STORE_N_ARRAY; ++array)
    SS_TRY(ss_hdf5_create_stream(writer->file, store_arrays[array].name, store_arrays[array].type, 0,
                                 store_arrays[array].chunk_rows, error));
  // Every table of offsets begins with 0 and has one entry more than there are elements.
  static const store_array offsets[] = {STORE_EXAMPLE_OFFSETS,   STORE_EXAMPLE_SEGMENTS,
                                        STORE_REFERENCE_OFFSETS, STORE_TEXT_OFFSETS,
                                        STORE_ANSWER_OFFSETS,    STORE_ID_OFFSETS,
                                        STORE_META_OFFSETS};
  int64_t zero = 0;
  for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; ++k)
    SS_TRY(append(writer, offsets[k], &zero, 1, error));
  return SS_OK;
}

static void free_writer(store_writer *writer) {
  if (writer == NULL)
    return;
  for (int array = 0; array < STORE_N_ARRAY; ++array)
    free(writer->columns[array].data);
  free(writer->check.segments);
  vocabulary_free(writer->vocabulary);
  free(writer->path);
  free(writer);
}

ss_status store_writer_open(store_writer **out, const char *path, const vocabulary *vocabulary,
                            const char *task, const char *split, uint64_t seed, const json_t *config,
                            ss_error *error) {
  store_writer *writer = NULL;
  SS_TRY(ss_allocate(&writer, 1, sizeof *writer, "dataset writer", error));
  json_t *text = vocabulary_json(vocabulary);
  ss_status status = ss_format(&writer->path, error, "%s", path);
  if (status == SS_OK)
    status = vocabulary_from_json(&writer->vocabulary, text, path, error);
  if (status == SS_OK)
    status = ss_hdf5_create(&writer->file, path, STORE_FORMAT, STORE_SCHEMA_VERSION, error);
  if (status == SS_OK)
    status = write_attributes(writer, text, task, split, seed, config, error);
  json_decref(text);
  if (status != SS_OK) {
    store_writer_abandon(writer);
    return status;
  }
  *out = writer;
  return SS_OK;
}

// --- examples -------------------------------------------------------------------------------------------

// What the store keeps must be all there is to the layout: complete a copy from the stored fields and compare.
static ss_status check_derivable(store_writer *writer, const rendering *annotated, ss_error *error) {
  const span_layout *given = &annotated->layout;
  size_t bytes = (size_t)given->n_segment * sizeof *given->segments;
  SS_TRY(ss_grow(&writer->check.segments, &writer->segment_capacity, given->n_segment + 1,
                 sizeof *given->segments, "segments", error));
  rendering copy = *annotated;
  copy.layout.segments = writer->check.segments;
  if (bytes > 0)
    memcpy(copy.layout.segments, given->segments, bytes);
  int32_t reference_first = 0;
  for (int32_t s = 0; s < given->n_segment; ++s) {
    copy.layout.segments[s].reference_first = reference_first;
    reference_first += given->segments[s].n_reference;
  }
  store_complete_layout(&copy, writer->vocabulary);
  if (copy.prompt_end != annotated->prompt_end || copy.layout.preamble_end != given->preamble_end ||
      reference_first != given->n_reference ||
      (bytes > 0 && memcmp(copy.layout.segments, given->segments, bytes) != 0))
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: example %lld: its layout is not that of its annotated text",
                   writer->path, (long long)writer->n_example);
  return SS_OK;
}

static ss_status check(store_writer *writer, const example *example, const rendering *annotated,
                       ss_error *error) {
  int32_t n_segment = annotated->layout.n_segment;
  bool ended = n_segment > 0 && annotated->layout.segments[n_segment - 1].kind == SPAN_END;
  if (n_segment - ended != example->n_segment)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: example %lld has %lld segments, its rendering %d",
                   writer->path, (long long)writer->n_example, (long long)example->n_segment,
                   n_segment - ended);
  SS_TRY(store_check_example(annotated, writer->vocabulary, writer->path, writer->n_example, error));
  return check_derivable(writer, annotated, error);
}

static ss_status append_segments(store_writer *writer, const example *example, const rendering *annotated,
                                 ss_error *error) {
  const span_layout *layout = &annotated->layout;
  SS_TRY(append(writer, STORE_REFERENCES, layout->references, layout->n_reference, error));
  int64_t reference = total(writer, STORE_REFERENCES) - layout->n_reference;
  for (int32_t s = 0; s < layout->n_segment; ++s) {
    const span_segment *own = &layout->segments[s];
    uint8_t kind = (uint8_t)own->kind;
    SS_TRY(append(writer, STORE_SEGMENT_OFFSETS, &own->first, 1, error));
    SS_TRY(append(writer, STORE_SEGMENT_KIND, &kind, 1, error));
    SS_TRY(append(writer, STORE_HEADER_END, &own->header_end, 1, error));
    reference += own->n_reference;
    SS_TRY(append(writer, STORE_REFERENCE_OFFSETS, &reference, 1, error));
    if (s < example->n_segment) {  // the end of an example without an answer has no text
      const example_segment *source = &example->segments[s];
      SS_TRY(append(writer, STORE_TEXT, example->text + source->text_first,
                    source->text_end - source->text_first, error));
    }
    SS_TRY(append_offset(writer, STORE_TEXT_OFFSETS, STORE_TEXT, error));
  }
  return SS_OK;
}

static ss_status append_example(store_writer *writer, const example *example, const rendering *annotated,
                                ss_error *error) {
  SS_TRY(append(writer, STORE_TOKENS, annotated->tokens, annotated->n_token, error));
  SS_TRY(append(writer, STORE_LOSS_MASK, annotated->loss, annotated->n_token, error));
  SS_TRY(append_offset(writer, STORE_EXAMPLE_OFFSETS, STORE_TOKENS, error));
  SS_TRY(append_segments(writer, example, annotated, error));
  SS_TRY(append_offset(writer, STORE_EXAMPLE_SEGMENTS, STORE_SEGMENT_OFFSETS, error));
  SS_TRY(append(writer, STORE_ANSWERS, example->answers, example->n_answers_bytes, error));
  SS_TRY(append_offset(writer, STORE_ANSWER_OFFSETS, STORE_ANSWERS, error));
  SS_TRY(append(writer, STORE_IDS, example->id, (int64_t)strlen(example->id), error));
  SS_TRY(append_offset(writer, STORE_ID_OFFSETS, STORE_IDS, error));
  SS_TRY(append(writer, STORE_META, example->meta, example->n_meta, error));
  return append_offset(writer, STORE_META_OFFSETS, STORE_META, error);
}

ss_status store_writer_add(store_writer *writer, const example *example, const rendering *annotated,
                           ss_error *error) {
  SS_TRY(check(writer, example, annotated, error));
  ss_status status = append_example(writer, example, annotated, error);
  if (status != SS_OK) {
    writer->failed = true;  // the columns no longer agree
    return status;
  }
  ++writer->n_example;
  if (writer->n_example % FLUSH_EXAMPLES == 0 || writer->columns[STORE_TOKENS].count >= FLUSH_TOKENS)
    return flush(writer, error);
  return SS_OK;
}

// --- closing --------------------------------------------------------------------------------------------

ss_status store_writer_close(store_writer *writer, ss_error *error) {
  ss_status status = SS_OK;
  if (writer->failed)
    status = ss_fail(error, SS_ERROR_IO, "%s: not written: an earlier write failed", writer->path);
  else
    status = flush(writer, error);
  if (status != SS_OK) {
    store_writer_abandon(writer);
    return status;
  }
  status = ss_hdf5_commit(writer->file, error);
  free_writer(writer);
  return status;
}

void store_writer_abandon(store_writer *writer) {
  if (writer == NULL)
    return;
  ss_hdf5_close(writer->file);
  free_writer(writer);
}
