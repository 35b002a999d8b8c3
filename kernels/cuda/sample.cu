// Choosing tokens on the device: what infer/sampler.c and the host's decoder do, a block a row.
//
// One pass over the logits finds the best token and the sum of exponentials, in fp32: all that greedy decoding needs.
// Sampling makes a second pass, with weights in double as the host has them: their sums over a warp's share of the row,
// then over a thread's share of one warp's, lead to the token in id order. Top-k and top-p first find the last token that
// is kept by radix selection: passes that count, and weigh, the tokens by the next digit of their place in the order.
#include <math.h>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/sequences.h"

#define THREADS 512
#define WARPS (THREADS / 32)
#define CHUNK(width) ((width) == 1 ? 16 : 32)  // tokens of a thread whose loads are under way together
#define DIGIT_BITS 4                           // of a pass of the selection
#define DIGITS 16
#define KEY_BITS 32  // of a logit, as an integer of the same order
#define LOG2_E 1.4426950408889634f

static_assert(WARPS == DIGITS && (1 << DIGIT_BITS) == DIGITS, "a warp sums the tokens of one digit");

typedef struct {
  const float *logits;  // [n, vocab_size]
  int64_t stride;
  int32_t vocab_size, n_slot;
  const int32_t *slots;  // [n]; NULL: row i is slot i's
  span_sequence *sequences;
  ss_random *randoms;
  int32_t *chosen;
  double *chosen_log_probability;
  double sharpness;  // 1 / temperature; 0: greedy
  int64_t top_k;     // 0: all
  double top_p;      // 1: all
} choose_arguments;

// A row and which of its tokens may be chosen. Pieces are `width` neighbouring tokens; outside [first_piece, end_piece)
// none may.
typedef struct {
  const float *logits;
  const span_tracker *tracker;
  int32_t vocab_size;
  int32_t first_piece, end_piece;
  int32_t constrained;
  int32_t special_first, special_end;  // of the tokens that are judged one by one
} choose_row;

// What the threads of a block tell each other.
typedef struct {
  float best[WARPS];
  int32_t tokens[WARPS], allowed[WARPS];
  double sums[WARPS];
  int32_t counts[DIGITS];
  double thread_sums[THREADS];
  double place;
  int32_t segment, forced;
} choose_shared;

// A token's place among those that top-k and top-p keep: its logit and then its id decide. Larger is better.
typedef struct {
  uint64_t least;   // of the tokens kept; 0: all are
  int32_t id_bits;  // whole digits
} choose_kept;

// ---------------------------------------------------------------- what may be chosen

// Whatever the tracker's state, span_token_allowed tells only special tokens apart: the rest is judged once, and not even
// read when it is not allowed.
template <int width>
static __device__ void open_row(choose_row *row, const span_tracker *tracker, int32_t constrained) {
  row->tracker = tracker;
  row->constrained = constrained;
  row->special_first = row->special_end = 0;
  row->first_piece = 0;
  row->end_piece = row->vocab_size / width;
  if (!constrained)
    return;
  const span_tokens *tokens = &tracker->tokens;
  int32_t first = min(min(tokens->open, tokens->colon), min(tokens->answer, tokens->eos));
  int32_t end = max(max(tokens->open, tokens->colon), max(tokens->answer, tokens->eos)) + 1;
  if (tokens->n_anchor > 0) {
    first = min(first, tokens->anchor_first);
    end = max(end, tokens->anchor_first + tokens->n_anchor);
  }
  row->special_first = min(max(first, 0), row->vocab_size);
  row->special_end = min(max(end, row->special_first), row->vocab_size);
  if (span_token_allowed(tracker, end))
    return;
  // Only special ones: what shares a piece with them is judged like them.
  row->first_piece = row->special_first / width;
  row->end_piece = (row->special_end + width - 1) / width;
  row->special_first = row->first_piece * width;
  row->special_end = row->end_piece * width;
}

static __device__ __forceinline__ bool is_allowed(const choose_row *row, int32_t token) {
  return !row->constrained || span_token_allowed(row->tracker, token);
}

// A bit for each of `count` tokens from `first` on that may be chosen.
GPU_CALLED uint32_t judge(const span_tracker *tracker, int32_t first, int32_t count) {
  uint32_t allowed = 0;
  for (int32_t i = 0; i < count; ++i)
    allowed |= (uint32_t)(span_token_allowed(tracker, first + i) != 0) << i;
  return allowed;
}

// `count` pieces, `step` apart from `first` on; NaN where they reach `end` and for what may not be chosen.
template <int width, int count>
static __device__ __forceinline__ void load_pieces(float *values, const choose_row *row, int32_t first,
                                                   int32_t step, int32_t end) {
#pragma unroll
  for (int u = 0; u < count; ++u) {
#pragma unroll
    for (int i = 0; i < width; ++i)
      values[u * width + i] = NAN;
    if (first + u * step < end)
      load_elements<width>(values + u * width, row->logits + (int64_t)(first + u * step) * width);
  }
  if (first * width >= row->special_end || (first + (count - 1) * step + 1) * width <= row->special_first)
    return;
#pragma unroll
  for (int u = 0; u < count; ++u) {
    int32_t token = (first + u * step) * width;
    if (token >= row->special_end || token + width <= row->special_first)
      continue;
    uint32_t allowed = judge(row->tracker, token, width);
#pragma unroll
    for (int i = 0; i < width; ++i)
      values[u * width + i] = allowed >> i & 1 ? values[u * width + i] : NAN;
  }
}

// ---------------------------------------------------------------- the best token

static __device__ __forceinline__ double warp_sum(double value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value += gpu_shuffle_xor(value, mask);
  return value;
}

static __device__ __forceinline__ int32_t warp_sum(int32_t value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value += gpu_shuffle_xor(value, mask);
  return value;
}

static __device__ __forceinline__ int32_t warp_least(int32_t value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value = min(value, gpu_shuffle_xor(value, mask));
  return value;
}

// The highest logit that may be chosen, -inf for none above it; *token: the lowest with that logit; *total: the sum of
// exp(logit - best). The whole block gets them.
template <int width>
static __device__ float find_best(const choose_row *row, choose_shared *shared, int32_t *token,
                                  double *total) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float best = -INFINITY, sum = 0;
  int32_t best_piece = -1;
  float values[CHUNK(width)];
  for (int32_t piece = row->first_piece + (int32_t)threadIdx.x; piece < row->end_piece;
       piece += THREADS * CHUNK(width) / width) {
    load_pieces<width, CHUNK(width) / width>(values, row, piece, THREADS, row->end_piece);
    float highest = -INFINITY;
#pragma unroll
    for (int i = 0; i < CHUNK(width); ++i) {
      values[i] = fmaxf(values[i], -INFINITY);  // of NaN: -inf
      highest = fmaxf(highest, values[i]);
    }
    if (highest > best) {
      sum *= gpu_exp2((best - highest) * LOG2_E);
      best = highest;
      best_piece = piece;
    }
    float base = best == -INFINITY ? 0.0f : best;
#pragma unroll
    for (int i = 0; i < CHUNK(width); ++i)
      sum += gpu_exp2((values[i] - base) * LOG2_E);
  }
  float block_best = gpu_warp_max(best);
  if (lane == 0)
    shared->best[warp] = block_best;
  gpu_sync_block();
  for (int w = 0; w < WARPS; ++w)
    block_best = fmaxf(block_best, shared->best[w]);
  // Only the piece is known so far: threads with the best logit look for it again.
  int32_t lowest = INT32_MAX;
  if (best == block_best && best_piece >= 0) {
    load_pieces<width, CHUNK(width) / width>(values, row, best_piece, THREADS, row->end_piece);
#pragma unroll
    for (int i = CHUNK(width) - 1; i >= 0; --i)
      lowest = values[i] == best ? (best_piece + i / width * THREADS) * width + i % width : lowest;
  }
  double part = best == -INFINITY ? 0.0 : (double)(sum * gpu_exp2((best - block_best) * LOG2_E));
  lowest = warp_least(lowest);
  part = warp_sum(part);
  if (lane == 0) {
    shared->tokens[warp] = lowest;
    shared->sums[warp] = part;
  }
  gpu_sync_block();
  *token = INT32_MAX;
  *total = 0;
  for (int w = 0; w < WARPS; ++w) {
    *token = min(*token, shared->tokens[w]);
    *total += shared->sums[w];
  }
  return block_best;
}

// Where no logit is above -inf: the first allowed token whose logit is a number, else the first allowed one; INT32_MAX when
// none is.
static __device__ int32_t find_any(const choose_row *row, choose_shared *shared) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t allowed = INT32_MAX, number = INT32_MAX;
  for (int32_t token = row->vocab_size - 1 - (int32_t)threadIdx.x; token >= 0; token -= THREADS)
    if (is_allowed(row, token)) {
      allowed = token;
      number = row->logits[token] == row->logits[token] ? token : number;
    }
  allowed = warp_least(allowed);
  number = warp_least(number);
  gpu_sync_block();  // the last readers of `tokens`
  if (lane == 0) {
    shared->allowed[warp] = allowed;
    shared->tokens[warp] = number;
  }
  gpu_sync_block();
  for (int w = 0; w < WARPS; ++w) {
    allowed = min(allowed, shared->allowed[w]);
    number = min(number, shared->tokens[w]);
  }
  gpu_sync_block();
  return number < INT32_MAX ? number : allowed;
}

// ---------------------------------------------------------------- what top-k and top-p keep

static __device__ __forceinline__ uint64_t order_of(float logit, int32_t token, int32_t id_bits) {
  uint32_t bits = __float_as_uint(logit);
  bits = bits == 0x80000000u ? 0 : bits;  // -0 is 0
  uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return (uint64_t)key << id_bits | (((uint64_t)1 << id_bits) - 1 - (uint64_t)token);
}

// As on the host; 0 for what may not be chosen.
static __device__ __forceinline__ double weight_of(float logit, float best, double sharpness) {
  double below = (double)logit - best;
  return below < 0 ? exp(below * sharpness) : below == 0 ? 1.0 : 0.0;
}

static __device__ __forceinline__ double kept_weight(float logit, int32_t token, float best, double sharpness,
                                                     choose_kept kept) {
  if (kept.least > 0 && (!(logit == logit) || order_of(logit, token, kept.id_bits) < kept.least))
    return 0;
  return weight_of(logit, best, sharpness);
}

// Sets kept->least: with the tokens in descending order, the first one at which top_k are kept or the kept weight has
// reached `wanted`. weights, counts: [DIGITS][THREADS], shared.
template <int width>
static __device__ void find_kept(const choose_row *row, choose_shared *shared, double *weights,
                                 int32_t *counts, float best, double sharpness, int64_t top_k, double wanted,
                                 choose_kept *kept) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t above_count = 0;
  double above_weight = 0;
  uint64_t prefix = 0;  // the digits found so far
  for (int32_t shift = KEY_BITS + kept->id_bits - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
    for (int digit = 0; digit < DIGITS; ++digit)
      weights[digit * THREADS + threadIdx.x] = 0, counts[digit * THREADS + threadIdx.x] = 0;
    for (int32_t piece = row->first_piece + (int32_t)threadIdx.x; piece < row->end_piece;
         piece += THREADS * 4) {
      float values[4 * width];
      load_pieces<width, 4>(values, row, piece, THREADS, row->end_piece);
      for (int i = 0; i < 4 * width; ++i) {
        uint64_t order = order_of(values[i], (piece + i / width * THREADS) * width + i % width,
                                  kept->id_bits);
        if (!(values[i] == values[i]) || order >> shift >> DIGIT_BITS != prefix)
          continue;
        int32_t at = (int32_t)((order >> shift) % DIGITS) * THREADS + (int32_t)threadIdx.x;
        ++counts[at];
        if (wanted < INFINITY)
          weights[at] += weight_of(values[i], best, sharpness);
      }
    }
    gpu_sync_block();
    double weight = 0;
    int32_t count = 0;
    for (int t = lane; t < THREADS; t += 32)
      weight += weights[warp * THREADS + t], count += counts[warp * THREADS + t];
    weight = warp_sum(weight);
    count = warp_sum(count);
    if (lane == 0)
      shared->sums[warp] = weight, shared->counts[warp] = count;
    gpu_sync_block();
    int digit = -1, last = -1;
    for (int d = DIGITS - 1; d >= 0 && digit < 0; --d) {
      if (shared->counts[d] == 0)
        continue;
      last = d;
      if (above_count + shared->counts[d] >= top_k || above_weight + shared->sums[d] >= wanted)
        digit = d;
      else
        above_count += shared->counts[d], above_weight += shared->sums[d];
    }
    if (digit < 0 && shift == KEY_BITS + kept->id_bits - DIGIT_BITS)
      return;  // everything
    // Sums in another order may fall short by a rounding of what the digit before promised.
    digit = digit < 0 ? last : digit;
    prefix = prefix << DIGIT_BITS | (uint64_t)digit;
    kept->least = prefix << shift;
    if (shared->counts[digit] == 1)
      return;
  }
}

// ---------------------------------------------------------------- drawing

// The first of `count` sums in which *place lies, which becomes its place there; rounding may lead beyond the last, then
// the last that is not 0.
static __device__ int32_t descend(const double *sums, int32_t count, double *place) {
  int32_t last = 0;
  double last_place = *place;
  for (int32_t i = 0; i < count; ++i) {
    if (sums[i] > 0)
      last = i, last_place = *place;
    if (*place < sums[i])
      return i;
    *place -= sums[i];
  }
  *place = last_place;
  return last;
}

// Sums of kept weights over the warps' shares of the row, equal runs of pieces, into shared->sums.
template <int width>
static __device__ void sum_segments(const choose_row *row, choose_shared *shared, float best,
                                    double sharpness, choose_kept kept, int32_t segment_pieces) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t first = row->first_piece + warp * segment_pieces, end = min(first + segment_pieces, row->end_piece);
  double sum = 0;
  for (int32_t piece = first + lane; piece < end; piece += 32 * 4) {
    float values[4 * width];
    load_pieces<width, 4>(values, row, piece, 32, end);
    for (int i = 0; i < 4 * width; ++i)
      sum += kept_weight(values[i], (piece + i / width * 32) * width + i % width, best, sharpness, kept);
  }
  sum = warp_sum(sum);
  gpu_sync_block();  // the last readers of `sums`
  if (lane == 0)
    shared->sums[warp] = sum;
  gpu_sync_block();
}

// A token by its weight; thread 0 has it. The weights' sum in id order passes the drawn place there.
template <int width>
static __device__ int32_t draw(const choose_row *row, choose_shared *shared, double *bin_weights,
                               int32_t *bin_counts, const choose_arguments *a, ss_random *random,
                               float best) {
  choose_kept kept = {0, DIGIT_BITS};
  while (row->vocab_size - 1 >> kept.id_bits > 0)
    kept.id_bits += DIGIT_BITS;
  int32_t segment_pieces = (row->end_piece - row->first_piece + WARPS - 1) / WARPS;
  bool cut = a->top_k > 0 || a->top_p < 1;
  if (!cut || a->top_p < 1)
    sum_segments<width>(row, shared, best, a->sharpness, kept, segment_pieces);
  if (cut) {
    double wanted = INFINITY;
    if (a->top_p < 1) {
      wanted = 0;
      for (int w = 0; w < WARPS; ++w)
        wanted += shared->sums[w];
      wanted *= a->top_p;
    }
    find_kept<width>(row, shared, bin_weights, bin_counts, best, a->sharpness,
                     a->top_k > 0 ? a->top_k : INT64_MAX, wanted, &kept);
    sum_segments<width>(row, shared, best, a->sharpness, kept, segment_pieces);
  }
  if (threadIdx.x == 0) {
    double total = 0;
    for (int w = 0; w < WARPS; ++w)
      total += shared->sums[w];
    shared->place = ss_random_uniform(random) * total;
    shared->segment = descend(shared->sums, WARPS, &shared->place);
  }
  gpu_sync_block();
  // The threads' shares of that segment.
  int32_t first = row->first_piece + shared->segment * segment_pieces;
  int32_t end = min(first + segment_pieces, row->end_piece);
  int32_t thread_pieces = (segment_pieces + THREADS - 1) / THREADS;
  int32_t own_first = first + (int32_t)threadIdx.x * thread_pieces;
  double sum = 0;
  for (int32_t piece = own_first; piece < own_first + thread_pieces; ++piece) {
    float values[width];
    load_pieces<width, 1>(values, row, piece, 1, end);
    for (int i = 0; i < width; ++i)
      sum += kept_weight(values[i], piece * width + i, best, a->sharpness, kept);
  }
  shared->thread_sums[threadIdx.x] = sum;
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0)
    shared->sums[threadIdx.x / 32] = sum;
  gpu_sync_block();
  if (threadIdx.x != 0)
    return -1;
  double place = shared->place;
  int32_t thread = 32 * descend(shared->sums, WARPS, &place);
  thread += descend(shared->thread_sums + thread, 32, &place);
  int32_t token = -1;
  for (int32_t piece = first + thread * thread_pieces; piece < first + (thread + 1) * thread_pieces;
       ++piece) {
    float values[width];
    load_pieces<width, 1>(values, row, piece, 1, end);
    for (int i = 0; i < width; ++i) {
      double weight = kept_weight(values[i], piece * width + i, best, a->sharpness, kept);
      if (weight > 0)
        token = piece * width + i;
      if (place < weight)
        return token;
      place -= weight;
    }
  }
  return token;
}

// ---------------------------------------------------------------- the kernel

template <int width> static __global__ void __launch_bounds__(THREADS, 2) choose_kernel(choose_arguments a) {
  GPU_SHARED(span_sequence, sequence, [1]);
  GPU_SHARED(choose_shared, shared, [1]);
  GPU_DYNAMIC_SHARED(bins);  // when tokens are cut off: double [DIGITS][THREADS], int32_t [DIGITS][THREADS]
  gpu_wait_previous();
  gpu_release_next();
  int32_t slot = a.slots ? a.slots[blockIdx.x] : (int32_t)blockIdx.x;
  if (slot < 0 || slot >= a.n_slot)
    return;
  for (int i = threadIdx.x; i < (int)(sizeof *sequence / 8); i += THREADS)
    ((uint64_t *)sequence)[i] = ((const uint64_t *)&a.sequences[slot])[i];
  gpu_sync_block();
  if (!sequence->active)
    return;
  if (sequence->force != SPAN_FORCE_NONE) {
    gpu_sync_block();  // every thread has read what the first one changes
    if (threadIdx.x == 0) {
      int32_t forced = span_sequence_forced(sequence);
      a.sequences[slot].gold_next = sequence->gold_next;
      a.sequences[slot].in_gold_header = sequence->in_gold_header;
      if (forced >= 0)
        a.chosen[slot] = forced, a.chosen_log_probability[slot] = 0;
      shared->forced = forced;
    }
    gpu_sync_block();
    if (shared->forced >= 0)
      return;
  }
  choose_row row;
  row.logits = a.logits + blockIdx.x * a.stride;
  row.vocab_size = a.vocab_size;
  int32_t token, constrained = sequence->constrain;
  double total;
  float best;
  for (;;) {
    open_row<width>(&row, &sequence->tracker, constrained);
    best = find_best<width>(&row, shared, &token, &total);
    if (best == -INFINITY)
      token = find_any(&row, shared);
    if (token < INT32_MAX)
      break;
    constrained = 0;  // nothing is allowed: everything is
  }
  // An infinite logit has no probability beside others: the best is taken.
  if (a.sharpness > 0 && best > -INFINITY && best < INFINITY)
    token = draw<width>(&row, shared, (double *)bins, (int32_t *)(bins + DIGITS * THREADS * sizeof(double)),
                        &a, &a.randoms[slot], best);
  if (threadIdx.x == 0) {
    double below = (double)row.logits[token] - best;
    a.chosen_log_probability[slot] = best > -INFINITY ? below - log(total) : (double)NAN;
    a.chosen[slot] = sequence->constrain ? span_corrected(&sequence->tracker, token) : token;
  }
}

template <int width> static ss_status launch(ss_device *device, int64_t n, choose_arguments arguments) {
  cuda_device *cuda = cuda_of(device);
  size_t bytes = 0;
  if (arguments.sharpness > 0 && (arguments.top_k > 0 || arguments.top_p < 1)) {
    bytes = DIGITS * THREADS * (sizeof(double) + sizeof(int32_t));
    CUDA_TRY(device, gpu_allow_shared(choose_kernel<width>, bytes));
  }
  // As the step's other kernels: a multiprocessor changes its carve-out only when it is idle.
  CUDA_TRY(device,
           cudaFuncSetAttribute(choose_kernel<width>, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda), choose_kernel<width>, (unsigned)n, THREADS, bytes, cuda->stream,
                   arguments);
  CUDA_LAUNCHED(device, "sequences choose");
  return SS_OK;
}

extern "C" ss_status cuda_sequences_choose(ss_device *device, ss_sequences *sequences, ss_tensor logits,
                                           ss_tensor slots) {
  const ss_sequences_options *options = &sequences->options;
  CUDA_REQUIRE(device,
               logits.rows >= 0 && logits.cols == options->vocab_size && logits.cols >= 1 &&
                   logits.stride >= logits.cols && logits.dtype == SS_F32,
               "choose: logits [%lld, %lld] for a vocabulary of %d", (long long)logits.rows,
               (long long)logits.cols, options->vocab_size);
  CUDA_REQUIRE(device, logits.rows <= options->n_slot, "choose: %lld rows of logits for %d slots",
               (long long)logits.rows, options->n_slot);
  CUDA_REQUIRE(device, !slots.data || cuda_is_integers(slots, logits.rows),
               "choose: %lld slots for %lld rows of logits", (long long)(slots.rows * slots.cols),
               (long long)logits.rows);
  if (logits.rows == 0)
    return SS_OK;
  CUDA_REQUIRE(device, logits.data, "choose: no logits");
  choose_arguments arguments = {
      (const float *)logits.data,
      logits.stride,
      options->vocab_size,
      options->n_slot,
      (const int32_t *)slots.data,
      sequences->sequences,
      sequences->randoms,
      sequences->chosen,
      sequences->chosen_log_probability,
      options->temperature > 0 ? 1 / options->temperature : 0,
      options->top_k,
      options->top_p,
  };
  bool wide = cuda_is_aligned(logits);
  return wide ? launch<4>(device, logits.rows, arguments) : launch<1>(device, logits.rows, arguments);
}
