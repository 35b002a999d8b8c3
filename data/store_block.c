// Blocks of consecutive examples out of a store. Nothing read here is trusted: a store opened without its hash
// may hold anything, so every offset, index and length is checked before it is used.
#include <stdlib.h>

#include "common/memory.h"
#include "data/store_private.h"

const store_array_info store_arrays[STORE_N_ARRAY] = {
    [STORE_TOKENS] = {"tokens", SS_HDF5_I32, 16384},
    [STORE_LOSS_MASK] = {"loss_mask", SS_HDF5_U8, 16384},
    [STORE_EXAMPLE_OFFSETS] = {"example_offsets", SS_HDF5_I64, 1024},
    [STORE_EXAMPLE_SEGMENTS] = {"example_segments", SS_HDF5_I64, 1024},
    [STORE_SEGMENT_OFFSETS] = {"segment_offsets", SS_HDF5_I32, 4096},
    [STORE_SEGMENT_KIND] = {"segment_kind", SS_HDF5_U8, 4096},
    [STORE_HEADER_END] = {"header_end", SS_HDF5_I32, 4096},
    [STORE_REFERENCE_OFFSETS] = {"reference_offsets", SS_HDF5_I64, 4096},
    [STORE_REFERENCES] = {"references", SS_HDF5_I32, 4096},
    [STORE_TEXT] = {"text", SS_HDF5_U8, 16384},
    [STORE_TEXT_OFFSETS] = {"text_offsets", SS_HDF5_I64, 4096},
    [STORE_ANSWERS] = {"answers", SS_HDF5_U8, 4096},
    [STORE_ANSWER_OFFSETS] = {"answer_offsets", SS_HDF5_I64, 1024},
    [STORE_IDS] = {"ids", SS_HDF5_U8, 4096},
    [STORE_ID_OFFSETS] = {"id_offsets", SS_HDF5_I64, 1024},
    [STORE_META] = {"meta", SS_HDF5_U8, 4096},
    [STORE_META_OFFSETS] = {"meta_offsets", SS_HDF5_I64, 1024},
};

ss_status store_check_offsets(const store *store, store_array array, const int64_t *values, int64_t count,
                              int64_t limit, ss_error *error) {
  if (values[0] < 0 || values[count] > limit)
    return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: %s runs from %lld to %lld, expected within 0..%lld",
                   store->path, store_arrays[array].name, (long long)values[0], (long long)values[count],
                   (long long)limit);
  for (int64_t k = 0; k < count; ++k)
    if (values[k + 1] < values[k])
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: damaged: %s falls from %lld to %lld, expected ascending values", store->path,
                     store_arrays[array].name, (long long)values[k], (long long)values[k + 1]);
  return SS_OK;
}

// --- reading --------------------------------------------------------------------------------------------

static ss_status read_rows(store *store, store_array array, int64_t first, int64_t count, store_block *block,
                           ss_error *error) {
  const store_array_info *info = &store_arrays[array];
  store_column *column = &block->columns[array];
  SS_TRY(
      ss_grow(&column->data, &column->capacity, count + 1, ss_hdf5_type_size(info->type), info->name, error));
  column->count = count;
  if (count == 0)
    return SS_OK;
  return ss_hdf5_read_rows(store->file, info->name, info->type, 0, first, count, column->data, error);
}

// Reads the offsets of elements [first, first + count) into array `target`, and rebases them. *base is the offset
// of the block's first element.
static ss_status read_offsets(store *store, store_array array, store_array target, int64_t first,
                              int64_t count, store_block *block, int64_t *base, ss_error *error) {
  SS_TRY(read_rows(store, array, first, count + 1, block, error));
  int64_t *values = block->columns[array].data;
  SS_TRY(store_check_offsets(store, array, values, count, store->rows[target], error));
  *base = values[0];
  for (int64_t k = 0; k <= count; ++k)
    values[k] -= *base;
  return SS_OK;
}

// Offsets and, when `with_data`, the bytes or numbers that they point to.
static ss_status read_sliced(store *store, store_array array, store_array target, int64_t first,
                             int64_t count, bool with_data, store_block *block, ss_error *error) {
  int64_t base = 0;
  SS_TRY(read_offsets(store, array, target, first, count, block, &base, error));
  if (!with_data)
    return SS_OK;
  const int64_t *values = block->columns[array].data;
  return read_rows(store, target, base, values[count], block, error);
}

static const int64_t *offsets_of(const store_block *block, store_array array) {
  return block->columns[array].data;
}

static ss_status check_lengths(const store *store, const store_block *block, ss_error *error) {
  const int64_t *token = offsets_of(block, STORE_EXAMPLE_OFFSETS);
  for (int64_t k = 0; k < block->count; ++k)
    if (token[k + 1] - token[k] < 2 || token[k + 1] - token[k] > store->longest)
      return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: example %lld has %lld tokens, expected 2 to %lld",
                     store->path, (long long)(block->first + k), (long long)(token[k + 1] - token[k]),
                     (long long)store->longest);
  return SS_OK;
}

// Builds the segments of example k from the stored columns, and checks and completes them.
static ss_status build_segments(const store *store, store_block *block, int64_t k, ss_error *error) {
  const int64_t *reference_offsets = offsets_of(block, STORE_REFERENCE_OFFSETS);
  const int64_t *example_segments = offsets_of(block, STORE_EXAMPLE_SEGMENTS);
  const int32_t *first = block->columns[STORE_SEGMENT_OFFSETS].data;
  const int32_t *header_end = block->columns[STORE_HEADER_END].data;
  const uint8_t *kind = block->columns[STORE_SEGMENT_KIND].data;
  span_segment *segments = block->segments.data;
  int64_t begin = example_segments[k], end = example_segments[k + 1];
  for (int64_t s = begin; s < end; ++s) {
    int64_t reference_first = reference_offsets[s] - reference_offsets[begin];
    int64_t n_reference = reference_offsets[s + 1] - reference_offsets[s];
    // More references than earlier segments cannot be distinct; this also keeps both within 32 bits.
    if (n_reference > s - begin || reference_first > INT32_MAX)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: damaged: example %lld, segment %lld has %lld references, "
                     "expected at most %lld",
                     store->path, (long long)(block->first + k), (long long)(s - begin),
                     (long long)n_reference, (long long)(s - begin));
    segments[s] = (span_segment){.first = first[s],
                                 .header_end = header_end[s],
                                 .kind = kind[s],
                                 .reference_first = (int32_t)reference_first,
                                 .n_reference = (int32_t)n_reference};
  }
  rendering annotated = store_block_rendering(block, k);
  SS_TRY(store_check_example(&annotated, store->vocabulary, store->path, block->first + k, error));
  store_complete_layout(&annotated, store->vocabulary);
  return SS_OK;
}

static ss_status check_terminators(const store *store, const store_block *block, ss_error *error) {
  const int64_t *answer = offsets_of(block, STORE_ANSWER_OFFSETS), *id = offsets_of(block, STORE_ID_OFFSETS);
  const char *answers = block->columns[STORE_ANSWERS].data;
  for (int64_t k = 0; k < block->count; ++k) {
    if (answer[k + 1] > answer[k] && answers[answer[k + 1] - 1] != '\0')
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: damaged: example %lld: its last answer has no terminating zero", store->path,
                     (long long)(block->first + k));
    if (id[k + 1] - id[k] >= (int64_t)sizeof((example *)0)->id)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: damaged: example %lld has an id of %lld bytes, expected < %zu", store->path,
                     (long long)(block->first + k), (long long)(id[k + 1] - id[k]), sizeof((example *)0)->id);
  }
  return SS_OK;
}

static ss_status read_block(store *store, store_read_part part, store_block *block, ss_error *error) {
  int64_t first = block->first, count = block->count, segment_base = 0;
  SS_TRY(read_sliced(store, STORE_EXAMPLE_OFFSETS, STORE_TOKENS, first, count, false, block, error));
  SS_TRY(check_lengths(store, block, error));
  if (part == STORE_READ_LENGTHS)
    return SS_OK;
  SS_TRY(read_offsets(store, STORE_EXAMPLE_SEGMENTS, STORE_SEGMENT_OFFSETS, first, count, block,
                      &segment_base, error));
  int64_t n_segment = offsets_of(block, STORE_EXAMPLE_SEGMENTS)[count];
  SS_TRY(read_rows(store, STORE_SEGMENT_OFFSETS, segment_base, n_segment, block, error));
  SS_TRY(read_rows(store, STORE_HEADER_END, segment_base, n_segment, block, error));
  if (part == STORE_READ_HEADERS)
    return SS_OK;

  int64_t token_base = 0, n_token = offsets_of(block, STORE_EXAMPLE_OFFSETS)[count];
  SS_TRY(ss_hdf5_read_rows(store->file, store_arrays[STORE_EXAMPLE_OFFSETS].name, SS_HDF5_I64, 0, first, 1,
                           &token_base, error));
  SS_TRY(read_rows(store, STORE_TOKENS, token_base, n_token, block, error));
  SS_TRY(read_rows(store, STORE_LOSS_MASK, token_base, n_token, block, error));
  SS_TRY(read_rows(store, STORE_SEGMENT_KIND, segment_base, n_segment, block, error));
  SS_TRY(read_sliced(store, STORE_REFERENCE_OFFSETS, STORE_REFERENCES, segment_base, n_segment, true, block,
                     error));
  SS_TRY(ss_grow(&block->segments.data, &block->segments.capacity, n_segment + 1, sizeof(span_segment),
                 "segments", error));
  block->segments.count = n_segment;
  for (int64_t k = 0; k < count; ++k)
    SS_TRY(build_segments(store, block, k, error));
  if (part == STORE_READ_TOKENS)
    return SS_OK;

  SS_TRY(read_sliced(store, STORE_TEXT_OFFSETS, STORE_TEXT, segment_base, n_segment, true, block, error));
  SS_TRY(read_sliced(store, STORE_ANSWER_OFFSETS, STORE_ANSWERS, first, count, true, block, error));
  SS_TRY(read_sliced(store, STORE_ID_OFFSETS, STORE_IDS, first, count, true, block, error));
  SS_TRY(read_sliced(store, STORE_META_OFFSETS, STORE_META, first, count, true, block, error));
  return check_terminators(store, block, error);
}

ss_status store_block_read(store *store, int64_t first, int64_t count, store_read_part part,
                           store_block *block, ss_error *error) {
  if (first < 0 || count < 0 || first > store->n_example - count)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: examples [%lld, %lld) asked for, the store has %lld",
                   store->path, (long long)first, (long long)(first + count), (long long)store->n_example);
  block->first = first;
  block->count = count;
  ss_status status = read_block(store, part, block, error);
  if (status != SS_OK)
    block->count = 0;
  return status;
}

void store_block_free(store_block *block) {
  for (int array = 0; array < STORE_N_ARRAY; ++array)
    free(block->columns[array].data);
  free(block->segments.data);
  *block = (store_block){0};
}

int64_t store_block_header_tokens(const store_block *block, int64_t k) {
  const int64_t *example_segments = offsets_of(block, STORE_EXAMPLE_SEGMENTS);
  const int32_t *first = block->columns[STORE_SEGMENT_OFFSETS].data;
  const int32_t *header_end = block->columns[STORE_HEADER_END].data;
  int64_t tokens = 0, n_token = store_block_length(block, k);
  for (int64_t s = example_segments[k]; s < example_segments[k + 1]; ++s) {
    // An end is `<[> <eos>`: `<eos>` alone stays. Unchecked values (lengths only) must not overflow.
    int64_t end = s + 1 < example_segments[k + 1] ? first[s + 1] : n_token;
    tokens += (header_end[s] == SPAN_ROW_OPEN ? end - 1 : (int64_t)header_end[s]) - first[s];
  }
  return tokens;
}

// --- examples of a block --------------------------------------------------------------------------------

int64_t store_block_length(const store_block *block, int64_t k) {
  const int64_t *offsets = offsets_of(block, STORE_EXAMPLE_OFFSETS);
  return offsets[k + 1] - offsets[k];
}

rendering store_block_rendering(const store_block *block, int64_t k) {
  int64_t token = offsets_of(block, STORE_EXAMPLE_OFFSETS)[k];
  int64_t segment = offsets_of(block, STORE_EXAMPLE_SEGMENTS)[k];
  int64_t segment_end = offsets_of(block, STORE_EXAMPLE_SEGMENTS)[k + 1];
  int64_t reference = offsets_of(block, STORE_REFERENCE_OFFSETS)[segment];
  int64_t reference_end = offsets_of(block, STORE_REFERENCE_OFFSETS)[segment_end];
  rendering out = {0};
  out.tokens = (int32_t *)block->columns[STORE_TOKENS].data + token;
  out.loss = (uint8_t *)block->columns[STORE_LOSS_MASK].data + token;
  out.n_token = store_block_length(block, k);
  out.layout.segments = (span_segment *)block->segments.data + segment;
  out.layout.n_segment = (int32_t)(segment_end - segment);
  out.layout.references = (int32_t *)block->columns[STORE_REFERENCES].data + reference;
  out.layout.n_reference = (int32_t)(reference_end - reference);
  // What store_complete_layout derives from the segments, once they are complete.
  out.layout.preamble_end = out.layout.n_segment > 0 ? out.layout.segments[0].first : (int32_t)out.n_token;
  out.prompt_end = out.layout.preamble_end;
  for (int32_t s = 0; s < out.layout.n_segment && out.layout.segments[s].kind == SPAN_CONTEXT; ++s)
    out.prompt_end = out.layout.segments[s].end;
  return out;
}
