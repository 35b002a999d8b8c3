// Sequences on the device: created, started by the host, read by it when they are done. What happens in between is in
// sequences_advance.cu and sample.cu.
#include "kernels/cuda/sequences.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "kernels/cuda/cuda.h"
#include "span/control.h"

static ss_sequences_inputs sequences_inputs(ss_device *device, ss_sequences *sequences) {
  (void)device;
  int32_t n = sequences->options.n_slot;
  ss_sequences_inputs inputs = {ss_integers(sequences->step, n), ss_integers(sequences->step + n, n),
                                ss_integers(sequences->step + 2 * n, n), sequences->plan};
  return inputs;
}

// --- start ---
enum { START_THREADS = 256, PACKED = 8 };  // PACKED: arrays that a sequence consists of

typedef struct {
  const int32_t *from;
  struct {
    int32_t *to;
    int32_t words;  // of 4 bytes
  } part[PACKED];
} start_arguments;

static __global__ void __launch_bounds__(START_THREADS) start_kernel(const start_arguments a) {
  const int32_t *from = a.from;
#pragma unroll
  for (int p = 0; p < PACKED; ++p) {
    for (int32_t i = (int32_t)threadIdx.x; i < a.part[p].words; i += START_THREADS)
      a.part[p].to[i] = from[i];
    from += a.part[p].words;
  }
}

static ss_status check_sequence(ss_device *device, const ss_sequences_options *options, int32_t slot,
                                const span_sequence *sequence) {
  const span_layout *layout = &sequence->tracker.layout;
  CUDA_REQUIRE(device, slot >= 0 && slot < options->n_slot, "sequences: slot %d of %d", slot,
               options->n_slot);
  CUDA_REQUIRE(device,
               sequence->active == 1 && sequence->n_prompt >= 1 &&
                   sequence->tracker.n_row >= sequence->n_prompt &&
                   sequence->tracker.n_row < sequence->limit && sequence->limit <= options->slot_rows,
               "sequences: %d rows, %d of them the prompt's, limit %d, in a slot of %d",
               sequence->tracker.n_row, sequence->n_prompt, sequence->limit, options->slot_rows);
  CUDA_REQUIRE(device, sequence->n_gold >= 0 && sequence->n_gold <= options->slot_rows,
               "sequences: %d gold tokens for a slot of %d rows", sequence->n_gold, options->slot_rows);
  // A segment and a reference take a row each, so what a slot has no row for cannot be asked for.
  CUDA_REQUIRE(device,
               layout->segment_capacity <= options->n_segment &&
                   layout->n_segment <= layout->segment_capacity && layout->n_segment <= options->slot_rows &&
                   layout->n_reference <= layout->reference_capacity &&
                   layout->n_reference <= options->slot_rows,
               "sequences: %d segments and %d references (room for %d and %d) in a slot for %d and %d",
               layout->n_segment, layout->n_reference, layout->segment_capacity, layout->reference_capacity,
               options->n_segment, options->slot_rows);
  return SS_OK;
}

// Appends bytes to the pack, for `to` on the device.
static void pack(start_arguments *a, int p, unsigned char **at, void *to, const void *from, size_t bytes) {
  if (bytes > 0)
    memcpy(*at, from, bytes);
  *at += bytes;
  a->part[p].to = (int32_t *)to;
  a->part[p].words = (int32_t)(bytes / sizeof(int32_t));
}

static ss_status sequences_start(ss_device *device, ss_sequences *sequences, int32_t slot,
                                 const span_sequence *sequence, ss_random random, uint64_t control_seed) {
  SS_TRY(check_sequence(device, &sequences->options, slot, sequence));
  int64_t rows = sequences->options.slot_rows, at_row = slot * rows;
  span_sequence made = *sequence;
  span_layout *layout = &made.tracker.layout;
  made.tokens = sequences->texts + 2 * at_row, made.rows = made.tokens + rows;
  made.gold = sequences->gold + at_row;
  layout->segments = (span_segment *)(sequences->segments + slot * sequences->segment_bytes);
  layout->references = (int32_t *)(sequences->references + slot * sequences->reference_bytes);
  layout->segment_capacity = layout->segment_capacity < (int32_t)rows ? layout->segment_capacity
                                                                      : (int32_t)rows;
  layout->reference_capacity = layout->reference_capacity < (int32_t)rows ? layout->reference_capacity
                                                                          : (int32_t)rows;
  ss_sequence_status status = {made.active, made.stop, made.tracker.n_row, 0};
  start_arguments a = {};
  unsigned char *at = sequences->packed;
  const span_layout *from = &sequence->tracker.layout;
  pack(&a, 0, &at, sequences->sequences + slot, &made, sizeof made);
  pack(&a, 1, &at, sequences->randoms + slot, &random, sizeof random);
  pack(&a, 2, &at, sequences->control_seeds + slot, &control_seed, sizeof control_seed);
  pack(&a, 3, &at, sequences->statuses + slot, &status, sizeof status);
  pack(&a, 4, &at, made.tokens, sequence->tokens, (size_t)made.tracker.n_row * sizeof(int32_t));
  pack(&a, 5, &at, (void *)made.gold, sequence->gold, (size_t)made.n_gold * sizeof(int32_t));
  pack(&a, 6, &at, layout->segments, from->segments, (size_t)from->n_segment * sizeof(span_segment));
  pack(&a, 7, &at, layout->references, from->references, (size_t)from->n_reference * sizeof(int32_t));
  SS_TRY(cuda_upload(device, sequences->device_packed, sequences->packed, (size_t)(at - sequences->packed)));
  a.from = (const int32_t *)sequences->device_packed;
  GPU_LAUNCH(start_kernel, 1, START_THREADS, 0, cuda_of(device)->stream, a);
  CUDA_LAUNCHED(device, "sequences (start)");
  return SS_OK;
}

// --- what the host learns ---
static ss_status sequences_take_status(ss_device *device, ss_sequences *sequences, int32_t index) {
  CUDA_REQUIRE(device, index >= 0 && index < SS_N_STATUS, "sequences: snapshot %d, expected 0..%d", index,
               SS_N_STATUS - 1);
  SS_TRY(cuda_download_async(device, sequences->taken[index], sequences->statuses,
                             (size_t)sequences->options.n_slot * sizeof *sequences->statuses));
  CUDA_TRY(device, cudaEventRecord(sequences->taken_at[index], cuda_of(device)->stream));
  sequences->was_taken[index] = true;
  return SS_OK;
}

static ss_status sequences_wait_status(ss_device *device, ss_sequences *sequences, int32_t index,
                                       const ss_sequence_status **status) {
  CUDA_REQUIRE(device, index >= 0 && index < SS_N_STATUS && sequences->was_taken[index],
               "sequences: no snapshot %d was taken", index);
  CUDA_TRY(device, cudaEventSynchronize(sequences->taken_at[index]));
  *status = sequences->taken[index];
  return SS_OK;
}

static ss_status sequences_result(ss_device *device, ss_sequences *sequences, int32_t slot,
                                  span_sequence *sequence) {
  const ss_sequences_options *options = &sequences->options;
  CUDA_REQUIRE(device, slot >= 0 && slot < options->n_slot, "sequences: slot %d of %d", slot,
               options->n_slot);
  int64_t rows = options->slot_rows;
  size_t text_bytes = 2 * (size_t)rows * sizeof(int32_t);
  span_sequence *fetched = (span_sequence *)(void *)sequences->fetched;
  const int32_t *texts = (const int32_t *)(const void *)(fetched + 1);
  CUDA_TRY(device, cudaMemcpyAsync(fetched, sequences->sequences + slot, sizeof *fetched,
                                   cudaMemcpyDeviceToHost, sequences->fetching));
  CUDA_TRY(device, cudaMemcpyAsync(fetched + 1, sequences->texts + slot * 2 * rows, text_bytes,
                                   cudaMemcpyDeviceToHost, sequences->fetching));
  CUDA_TRY(device, cudaStreamSynchronize(sequences->fetching));
  CUDA_REQUIRE(device, !fetched->active, "sequences: slot %d is not finished", slot);
  int32_t n_row = fetched->tracker.n_row, n_prompt = fetched->n_prompt;
  sequence->active = 0, sequence->stop = fetched->stop;
  sequence->tracker.n_row = n_row;
  sequence->attended_rows = fetched->attended_rows;
  sequence->log_probability = fetched->log_probability;
  if (sequence->tokens)
    memcpy(sequence->tokens, texts, (size_t)n_row * sizeof *texts);
  if (sequence->rows)
    memcpy(sequence->rows, texts + rows, (size_t)(n_row - n_prompt) * sizeof *texts);
  return SS_OK;
}

// --- create, release ---
static void sequences_release(ss_device *device, ss_sequences *sequences) {
  if (!sequences)
    return;
  void *const on_device[] = {sequences->sequences,
                             sequences->randoms,
                             sequences->control_seeds,
                             sequences->chosen,
                             sequences->chosen_log_probability,
                             sequences->texts,
                             sequences->gold,
                             sequences->segments,
                             sequences->references,
                             sequences->step,
                             sequences->visible_rows,
                             sequences->range_at,
                             sequences->arrived,
                             sequences->statuses,
                             sequences->device_packed};
  for (size_t i = 0; i < sizeof on_device / sizeof *on_device; ++i)
    cuda_release(device, on_device[i]);
  cuda_attention_plan_free(device, sequences->plan);
  for (int i = 0; i < SS_N_STATUS; ++i) {
    cuda_release_host(device, sequences->taken[i]);
    if (sequences->taken_at[i])
      cudaEventDestroy(sequences->taken_at[i]);
  }
  cuda_release_host(device, sequences->fetched);
  if (sequences->fetching)
    cudaStreamDestroy(sequences->fetching);
  free(sequences->packed);
  free(sequences);
}

static ss_status check_options(ss_device *device, const ss_sequences_options *options) {
  const ss_attention_shape *shape = &options->shape;
  CUDA_REQUIRE(device,
               options->n_slot >= 1 && options->slot_rows >= 2 && options->n_segment >= 1 &&
                   (int64_t)options->n_slot * options->slot_rows <= INT32_MAX && options->vocab_size >= 1,
               "sequences: %d slots of %d rows and %d segments, %d tokens", options->n_slot,
               options->slot_rows, options->n_segment, options->vocab_size);
  CUDA_REQUIRE(device,
               shape->n_kv_head > 0 && shape->n_head > 0 && shape->n_head % shape->n_kv_head == 0 &&
                   shape->head_dim > 0,
               "sequences: %d heads of %d columns over %d kv heads", shape->n_head, shape->head_dim,
               shape->n_kv_head);
  CUDA_REQUIRE(device,
               options->control >= -1 && options->control <= SPAN_CONTROL_WINDOW && options->n_sink >= 0,
               "sequences: control %d with %d sink rows", options->control, options->n_sink);
  if (cuda_of(device)->attention != SS_ATTENTION_AUTO)
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "sequences: an attention kernel was asked for that reads no plan made on the device "
                   "(expected --attention auto)");
  return SS_OK;
}

// `count` elements on the device for each of n_slot slots.
#define ALLOCATE(field, count)                      \
  cuda_allocate(device, (void **)&sequences->field, \
                (size_t)(count) * (size_t)options->n_slot * sizeof *sequences->field, "sequences")

static ss_status make(ss_device *device, ss_sequences *sequences) {
  const ss_sequences_options *options = &sequences->options;
  int64_t rows = options->slot_rows, n_segment = options->n_segment < rows ? options->n_segment : rows;
  // Ranges do not touch; and without a control, they are pieces of segments.
  int64_t most_ranges = (rows + 1) / 2, of_pieces = SPAN_PIECE_RANGES * (n_segment + 1) + 1;
  if (options->control < 0 && of_pieces < most_ranges)
    most_ranges = of_pieces;
  sequences->segment_bytes = cuda_round_to_pieces(n_segment * (int64_t)sizeof(span_segment));
  sequences->reference_bytes = cuda_round_to_pieces(rows * (int64_t)sizeof(int32_t));
  sequences->range_at_stride = (int32_t)cuda_ceil_divide(rows, DECODE_ITEM_ROUND);
  SS_TRY(cuda_sequences_share_memory(device, sequences, most_ranges));
  SS_TRY(ALLOCATE(sequences, 1));
  SS_TRY(ALLOCATE(randoms, 1));
  SS_TRY(ALLOCATE(control_seeds, 1));
  SS_TRY(ALLOCATE(chosen, 1));
  SS_TRY(ALLOCATE(chosen_log_probability, 1));
  SS_TRY(ALLOCATE(texts, 2 * rows));
  SS_TRY(ALLOCATE(gold, rows));
  SS_TRY(ALLOCATE(segments, sequences->segment_bytes));
  SS_TRY(ALLOCATE(references, sequences->reference_bytes));
  SS_TRY(ALLOCATE(step, 3));
  SS_TRY(ALLOCATE(visible_rows, 1));
  SS_TRY(ALLOCATE(range_at, sequences->range_at_stride));
  SS_TRY(ALLOCATE(statuses, 1));
  SS_TRY(cuda_allocate(device, (void **)&sequences->arrived, sizeof(int32_t), "sequences"));
  size_t packed = sizeof(span_sequence) + sizeof(ss_random) + sizeof(uint64_t) + sizeof(ss_sequence_status) +
                  2 * (size_t)rows * sizeof(int32_t) + (size_t)sequences->segment_bytes +
                  (size_t)sequences->reference_bytes;
  SS_TRY(ss_allocate(&sequences->packed, (int64_t)packed, 1, "sequences", &device->error));
  SS_TRY(cuda_allocate(device, (void **)&sequences->device_packed, packed, "sequences"));
  for (int i = 0; i < SS_N_STATUS; ++i) {
    SS_TRY(cuda_allocate_host(device, (void **)&sequences->taken[i],
                              (size_t)options->n_slot * sizeof **sequences->taken, "sequences' statuses"));
    CUDA_TRY(device, cudaEventCreateWithFlags(&sequences->taken_at[i], cudaEventDisableTiming));
  }
  SS_TRY(cuda_allocate_host(device, (void **)&sequences->fetched,
                            sizeof(span_sequence) + 2 * (size_t)rows * sizeof(int32_t), "a sequence"));
  CUDA_TRY(device, cudaStreamCreateWithFlags(&sequences->fetching, cudaStreamNonBlocking));
  SS_TRY(ss_allocate(&sequences->plan, 1, sizeof *sequences->plan, "an attention plan", &device->error));
  sequences->plan->has_decode = true;
  sequences->plan->n_query_row = options->n_slot;
  sequences->plan->n_key_row = options->n_slot * rows;
  SS_TRY(attention_decode_reside(device, &sequences->plan->decode, options->shape, device->compute,
                                 options->n_slot, rows, most_ranges + DECODE_RANGES_AFTER,
                                 options->expected_rows > 0 ? options->expected_rows : rows));
  ss_tensor every = {};
  return cuda_sequences_advance(device, sequences, every);  // inputs of empty slots
}

static ss_status sequences_create(ss_device *device, ss_sequences **out,
                                  const ss_sequences_options *options) {
  *out = NULL;
  SS_TRY(check_options(device, options));
  ss_sequences *sequences = NULL;
  SS_TRY(ss_allocate(&sequences, 1, sizeof *sequences, "sequences", &device->error));
  sequences->options = *options;
  ss_status status = make(device, sequences);
  if (status != SS_OK) {
    sequences_release(device, sequences);
    return status;
  }
  *out = sequences;
  return SS_OK;
}

extern "C" const ss_sequence_ops cuda_sequence_ops = {sequences_create,       sequences_release,
                                                      sequences_start,        cuda_sequences_choose,
                                                      cuda_sequences_advance, sequences_inputs,
                                                      sequences_take_status,  sequences_wait_status,
                                                      sequences_result};
