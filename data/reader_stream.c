#include "data/reader_stream.h"

#include <stdlib.h>

#include "common/memory.h"
#include "common/random.h"

#define STREAM_ANCHOR 0x616E63686F72ull  // the stream of random numbers that anchor offsets come from

// --- options --------------------------------------------------------------------------------------------

static int64_t inputs_of(const reader_stream *stream, const store_block *block, int64_t k) {
  int64_t tokens = store_block_length(block, k);
  if (!arm_has_headers(stream->options.arm))
    tokens -= store_block_header_tokens(block, k);
  return tokens - 1;
}

static ss_status too_long(const reader_stream *stream, int64_t index, int64_t inputs, ss_error *error) {
  return ss_fail(error, SS_ERROR_LIMIT,
                 "%s: example %lld needs %lld rows in the %s arm, more than row_tokens = %d",
                 stream->store->path, (long long)index, (long long)inputs, arm_name(stream->options.arm),
                 stream->options.row_tokens);
}

// Without headers examples are shorter than stored: only a look at every one tells whether all fit.
static ss_status check_every_length(reader_stream *stream, ss_error *error) {
  store_block *block = &stream->blocks[0];
  int64_t step = stream->order.block_examples;
  for (int64_t first = 0; first < stream->n_example; first += step) {
    int64_t count = stream->n_example - first < step ? stream->n_example - first : step;
    SS_TRY(store_block_read(stream->store, first, count, STORE_READ_HEADERS, block, error));
    for (int64_t k = 0; k < count; ++k)
      if (inputs_of(stream, block, k) > stream->options.row_tokens)
        return too_long(stream, first + k, inputs_of(stream, block, k), error);
  }
  return SS_OK;
}

static ss_status check_options(reader_stream *stream, ss_error *error) {
  const reader_options *options = &stream->options;
  if (stream->n_example == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: no examples to read", stream->store->path);
  if ((unsigned)options->arm >= N_ARM)
    return ss_fail(error, SS_ERROR_INTERNAL, "reader: arm %d", (int)options->arm);
  if (options->row_tokens < 1 || options->examples_a_batch < 0 ||
      (options->examples_a_batch == 0 && options->n_row < 1))
    return ss_fail(error, SS_ERROR_USAGE,
                   "reader: %d rows of %d tokens or %d examples a batch, expected 1 or more", options->n_row,
                   options->row_tokens, options->examples_a_batch);
  int64_t rows = options->examples_a_batch > 0 ? options->examples_a_batch : options->n_row;
  if (rows > INT32_MAX / options->row_tokens)
    return ss_fail(error, SS_ERROR_LIMIT, "reader: %lld x %d rows a batch, at most %d", (long long)rows,
                   options->row_tokens, INT32_MAX);
  if (stream->store->longest - 1 <= options->row_tokens)
    return SS_OK;
  if (arm_has_headers(options->arm))
    return too_long(stream, stream->store->longest_example, stream->store->longest - 1, error);
  return check_every_length(stream, error);
}

ss_status reader_stream_init(reader_stream *stream, store *store, const reader_options *options,
                             ss_error *error) {
  *stream = (reader_stream){.store = store, .options = *options, .n_example = store_n_example(store)};
  stream->policy = arm_policy(options->arm, &options->policy);
  SS_TRY(reader_order_init(&stream->order, stream->n_example,
                           reader_block_examples(stream->n_example, store_n_token(store)), options->seed,
                           options->shuffle, error));
  SS_TRY(check_options(stream, error));
  return ss_allocate(&stream->filled, options->n_row > 0 ? options->n_row : 1, sizeof *stream->filled, "rows",
                     error);
}

void reader_stream_free(reader_stream *stream) {
  for (int k = 0; k < READER_WINDOW_BLOCKS; ++k)
    store_block_free(&stream->blocks[k]);
  reader_order_free(&stream->order);
  rendering_free(&stream->rendered);
  free(stream->window.entries);
  free(stream->filled);
  *stream = (reader_stream){0};
}

// --- the window around the current place ----------------------------------------------------------------

static ss_status load(reader_stream *stream, store_read_part part, ss_error *error) {
  for (int64_t k = 0; k < stream->window.n_block; ++k) {
    int64_t block = stream->window.blocks[k];
    SS_TRY(store_block_read(stream->store, block * stream->order.block_examples,
                            reader_order_block_size(&stream->order, block), part, &stream->blocks[k], error));
  }
  stream->loaded = part;
  return SS_OK;
}

static ss_status enter_window(reader_stream *stream, int64_t epoch, int64_t window, int64_t within,
                              ss_error *error) {
  SS_TRY(reader_order_window(&stream->order, epoch, window, &stream->window, error));
  stream->within = within;
  stream->loaded = STORE_READ_NOTHING;
  return SS_OK;
}

// Makes the next example's block available to the extent of `part`.
static ss_status advance(reader_stream *stream, store_read_part part, ss_error *error) {
  reader_window_order *window = &stream->window;
  if (window->size == 0) {
    SS_TRY(enter_window(stream, 0, 0, 0, error));
  } else if (stream->within == window->size) {
    bool last = window->window + 1 == stream->order.n_window;
    SS_TRY(enter_window(stream, window->epoch + last, last ? 0 : window->window + 1, 0, error));
  }
  return stream->loaded >= part ? SS_OK : load(stream, part, error);
}

static store_block *current_block(reader_stream *stream, int64_t *k) {
  int64_t entry = stream->window.entries[stream->within];
  *k = entry % stream->order.block_examples;
  return &stream->blocks[entry / stream->order.block_examples];
}

// --- batches --------------------------------------------------------------------------------------------

static ss_status render_current(reader_stream *stream, reader_batch *batch, int64_t inputs, ss_error *error) {
  int64_t k = 0;
  const store_block *block = current_block(stream, &k);
  rendering annotated = store_block_rendering(block, k);
  const vocabulary *vocabulary = store_vocabulary(stream->store);
  int32_t offset = 0;
  if (stream->options.random_anchor_offset) {
    // Drawn by example and epoch, not by place: every arm and every batch size sees the same one.
    uint64_t epoch_seed = ss_hash64(stream->options.seed, STREAM_ANCHOR, (uint64_t)stream->window.epoch);
    ss_random random = ss_random_seed(epoch_seed, (uint64_t)(block->first + k));
    int32_t free_ids = vocabulary_span_tokens(vocabulary)->n_anchor - annotated.layout.n_segment;
    offset = (int32_t)ss_random_below(&random, (uint64_t)free_ids + 1);
  }
  SS_TRY(render_arm(&stream->rendered, &annotated, stream->options.arm, vocabulary, offset, error));
  // Seeking replays the packing from lengths alone: they must be those of the renderings.
  if (stream->rendered.n_token - 1 != inputs)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: example %lld renders to %lld rows, expected %lld",
                   stream->store->path, (long long)(block->first + k),
                   (long long)stream->rendered.n_token - 1, (long long)inputs);
  return reader_batch_add(batch, block->first + k, &stream->rendered, &stream->policy, error);
}

// The first row that has room, -1 when none has.
static int64_t find_row(const reader_stream *stream, int64_t inputs) {
  for (int64_t row = 0; row < stream->options.n_row; ++row)
    if (stream->filled[row] + inputs <= stream->options.row_tokens)
      return row;
  return -1;
}

// Goes through the examples of one batch; with batch == NULL only to learn how many they are.
static ss_status take_batch(reader_stream *stream, reader_batch *batch, ss_error *error) {
  const reader_options *options = &stream->options;
  store_read_part part = batch != NULL                   ? STORE_READ_TOKENS
                         : arm_has_headers(options->arm) ? STORE_READ_LENGTHS
                                                         : STORE_READ_HEADERS;
  for (int32_t row = 0; row < options->n_row; ++row)
    stream->filled[row] = 0;
  for (int64_t taken = 0; options->examples_a_batch == 0 || taken < options->examples_a_batch; ++taken) {
    SS_TRY(advance(stream, part, error));
    int64_t k = 0;
    const store_block *block = current_block(stream, &k);
    int64_t inputs = inputs_of(stream, block, k);
    if (inputs < 1 || inputs > options->row_tokens)
      return ss_fail(error, SS_ERROR_INPUT, "%s: damaged: example %lld has %lld rows, expected 1 to %d",
                     stream->store->path, (long long)(block->first + k), (long long)inputs,
                     options->row_tokens);
    if (options->examples_a_batch == 0) {
      int64_t row = find_row(stream, inputs);
      if (row < 0)
        return SS_OK;  // it opens the next batch
      stream->filled[row] += inputs;
    }
    if (batch != NULL)
      SS_TRY(render_current(stream, batch, inputs, error));
    ++stream->within;
    ++stream->examples;
  }
  return SS_OK;
}

ss_status reader_stream_next(reader_stream *stream, reader_batch *batch, ss_error *error) {
  reader_batch_clear(batch);
  return take_batch(stream, batch, error);
}

ss_status reader_stream_seek(reader_stream *stream, int64_t position, ss_error *error) {
  int64_t per_batch = stream->options.examples_a_batch;
  if (position < 0 || (per_batch > 0 && position > INT64_MAX / per_batch))
    return ss_fail(error, SS_ERROR_INPUT, "reader: cannot go to batch %lld", (long long)position);
  stream->examples = 0;
  SS_TRY(enter_window(stream, 0, 0, 0, error));
  if (per_batch > 0) {
    int64_t examples = position * per_batch, window = 0, within = 0;
    int64_t epoch = examples / stream->n_example;
    SS_TRY(reader_order_find(&stream->order, epoch, examples % stream->n_example, &window, &within, error));
    SS_TRY(enter_window(stream, epoch, window, within, error));
    stream->examples = examples;
    return SS_OK;
  }
  for (int64_t k = 0; k < position; ++k)
    SS_TRY(take_batch(stream, NULL, error));
  return SS_OK;
}
