// Sequences on the device, step by step: push a token, list what it reads, plan the attention of all.
//
// advance is one launch, a block a slot. The block brings the slot's tracker, segments and references to shared memory
// (one round trip for all of them), one thread pushes the token, and all of them list what the last row reads: a thread a
// piece of the visible set (span_append_piece), joined by two prefix scans, so that 130 segments cost what one does. The
// slot's ranges have a place of their own, and so nothing of this depends on other slots. The block that finishes last
// cuts the visible rows of all slots into items: a thread a slot for the counts and a thread an item for the items.
// Where an item begins, its range is looked up in a table, which the slots' blocks have written: no search in memory.
//
// Time is latency: launch, a round trip to memory, some 2,000 cycles for the push and the lists, a fence and a counter, a
// round trip for the counts of all slots, some 2,000 cycles for the items.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/sequences.h"
#include "span/control.h"

enum { THREADS = 256, WARPS = THREADS / 32 };

typedef struct {
  span_sequence *sequences;
  const uint64_t *control_seeds;
  const int32_t *chosen;
  const double *chosen_log_probability;
  unsigned char *segments, *references;
  int64_t segment_bytes, reference_bytes;  // a slot
  const int32_t *slots;                    // [n_listed]; NULL: every slot
  int32_t *tokens, *positions, *cache_rows, *visible_rows, *range_at, *arrived;
  ss_sequence_status *statuses;
  attention_decode_range *ranges;  // [n_slot, view_ranges]
  attention_decode_item *items;
  uint32_t *n_unit;
  int32_t n_listed, n_slot, slot_rows, view_ranges, range_at_stride;
  int32_t shared_references, shared_starts, shared_control;
  int32_t control, n_sink;  // control < 0: none
  int32_t heads, n_multiprocessor;
} advance_arguments;

// --- scans over the threads of a block ---
__device__ __forceinline__ int64_t join(int64_t a, int64_t b, bool highest) {
  return !highest ? a + b : a > b ? a : b;
}

// Sum, or highest (-1: of none), of the values of the threads before this one; *all: of all. partial: [WARPS], shared.
__device__ __forceinline__ int64_t scan_before(int64_t value, bool highest, int64_t *partial, int64_t *all) {
  int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
  int64_t none = highest ? -1 : 0, joined = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    int64_t other = gpu_shuffle(joined, lane >= step ? lane - step : lane);
    joined = lane >= step ? join(joined, other, highest) : joined;
  }
  int64_t before = gpu_shuffle(joined, lane > 0 ? lane - 1 : 0), warps = none;
  before = lane > 0 ? before : none;
  gpu_sync_block();  // the scan before this one has been read
  if (lane == 31)
    partial[warp] = joined;
  gpu_sync_block();
  *all = none;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) {
    warps = w == warp ? *all : warps;
    *all = join(*all, partial[w], highest);
  }
  return join(warps, before, highest);
}

// --- what a row reads ---
typedef struct {
  int32_t n_range, n_row;
} listed_rows;

// Writes the ranges of the query at `row`, which reads pieces and the rows from self_first: those that `reads` tells,
// or the ranges `given` [n_piece]. Ranges that touch become one, as span_append_range and the host's plan have it: a
// range begins where the highest end before it lies lower, and counts the rows beyond that end. starts: their first
// visible rows, for the block.
__device__ listed_rows list_ranges(const span_tracker *tracker, const span_reads *reads,
                                   const span_range *given, int32_t n_piece, int32_t self_first, int32_t row,
                                   int32_t first_row, attention_decode_range *ranges, int32_t *starts,
                                   int64_t *partial) {
  listed_rows listed = {0, 0};
  int32_t end = -1;
  for (int32_t base = 0; base <= n_piece; base += THREADS) {
    int32_t k = base + (int32_t)threadIdx.x, n_mine = 0;
    span_range mine[SPAN_PIECE_RANGES];
    if (k == n_piece)
      mine[0].first = self_first, mine[0].end = row + 1, n_mine = 1;
    else if (k < n_piece && given)
      mine[0] = given[k], n_mine = 1;
    else if (k < n_piece)
      span_append_piece(&tracker->policy, &tracker->layout, reads, k, mine, &n_mine);
    int64_t all;
    int32_t before = (int32_t)scan_before(n_mine > 0 ? mine[n_mine - 1].end : -1, true, partial, &all);
    before = before > end ? before : end;
    int32_t next_end = (int32_t)all > end ? (int32_t)all : end;
    int64_t counts = 0;  // ranges that begin in the upper half, rows in the lower
    int32_t running = before;
    for (int32_t r = 0; r < n_mine; ++r) {
      bool begins = mine[r].first > running;
      int32_t from = begins ? mine[r].first : running;
      counts += ((int64_t)begins << 32) + (mine[r].end > from ? mine[r].end - from : 0);
      running = mine[r].end > running ? mine[r].end : running;
    }
    int64_t place = scan_before(counts, false, partial, &all);
    int32_t at = listed.n_range + (int32_t)(place >> 32), start = listed.n_row + (int32_t)place;
    running = before;
    for (int32_t r = 0; r < n_mine; ++r) {
      bool begins = mine[r].first > running;
      int32_t from = begins ? mine[r].first : running;
      if (begins) {
        ranges[at].first = first_row + mine[r].first;
        ranges[at].start = starts[at] = start;
        ++at;
      }
      start += mine[r].end > from ? mine[r].end - from : 0;
      running = mine[r].end > running ? mine[r].end : running;
    }
    listed.n_range += (int32_t)(all >> 32), listed.n_row += (int32_t)all;
    end = next_end;
  }
  gpu_sync_block();  // starts
  return listed;
}

// The last of `count` ascending values that is not above `value`; the first is not.
__device__ __forceinline__ int32_t last_not_above(const int32_t *values, int32_t count, int32_t value) {
  int32_t low = 0, high = count;
  while (high - low > 1) {
    int32_t middle = (low + high) / 2;
    if (values[middle] <= value)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Ranges and inputs of one slot; returns the rows that it reads. token: the last one, -1 when it lies in memory. control:
// shared, where a control is asked for.
__device__ int32_t list_slot(const advance_arguments *a, const span_sequence *sequence, int32_t slot,
                             int32_t token, int32_t *starts, span_range *control, int32_t *found,
                             int64_t *partial) {
  attention_decode_range *ranges = a->ranges + (int64_t)slot * a->view_ranges;
  const span_tracker *tracker = &sequence->tracker;
  int32_t row = tracker->n_row - 1, first_row = slot * a->slot_rows;
  listed_rows listed = {0, 0};
  if (sequence->active) {
    int32_t in_header, s = span_tracker_segment(tracker, &in_header);
    span_reads reads = span_reads_of(&tracker->policy, &tracker->layout, s, in_header);
    listed = list_ranges(tracker, &reads, NULL, reads.n_piece, reads.self_first, row, first_row, ranges,
                         starts, partial);
    if (a->control >= 0) {
      if (threadIdx.x == 0) {
        span_view selected = {row, row + 1, row + 1 - listed.n_row, 0, 0};  // so many rows, wherever they are
        int32_t last = tracker->layout.n_segment - 1;
        span_view view = span_control_visible((span_control)a->control, &selected, control,
                                              last >= 0 ? tracker->layout.segments[last].first : 0, a->n_sink,
                                              a->control_seeds[slot], control);
        found[0] = view.n_range, found[1] = view.self_first;
      }
      gpu_sync_block();
      listed = list_ranges(tracker, &reads, control, found[0], found[1], row, first_row, ranges, starts,
                           partial);
    }
  }
  if (threadIdx.x < DECODE_RANGES_AFTER) {
    ranges[listed.n_range + threadIdx.x].first = 0;
    ranges[listed.n_range + threadIdx.x].start = INT32_MAX;
  }
  int32_t *range_at = a->range_at + (int64_t)slot * a->range_at_stride;
  for (int32_t j = (int32_t)threadIdx.x; j * DECODE_ITEM_ROUND < listed.n_row; j += THREADS)
    range_at[j] = last_not_above(starts, listed.n_range, j * DECODE_ITEM_ROUND);
  if (threadIdx.x == 0) {
    bool active = sequence->active;
    a->tokens[slot] = !active ? 0 : token >= 0 ? token : sequence->tokens[row];
    a->positions[slot] = active ? row : 0;
    a->cache_rows[slot] = active ? first_row + row : -1;
    a->visible_rows[slot] = listed.n_row;
    ss_sequence_status status = {sequence->active, sequence->stop, tracker->n_row, 0};
    a->statuses[slot] = status;
  }
  return listed.n_row;
}

// --- the plan of all slots ---
// shared: i32 [3 * n_slot + 1]. counts: [DECODE_ROWS_SIZES], zeros.
__device__ void plan_items(const advance_arguments *a, int32_t *shared, int32_t *counts, int64_t *partial) {
  int32_t *first = shared, *each = first + a->n_slot + 1, *rows = each + a->n_slot;
  int32_t thread = (int32_t)threadIdx.x, share = (a->n_slot + THREADS - 1) / THREADS;
  int32_t begin = thread * share < a->n_slot ? thread * share : a->n_slot;
  int32_t end = begin + share < a->n_slot ? begin + share : a->n_slot;
  int32_t mine[DECODE_ROWS_SIZES] = {0};
  for (int32_t s = begin; s < end; ++s) {
    rows[s] = __ldcg(a->visible_rows + s);
#pragma unroll
    for (int c = 0; c < DECODE_ROWS_SIZES; ++c)
      mine[c] += attention_decode_count(rows[s], DECODE_ROWS_MOST >> c);
  }
#pragma unroll
  for (int c = 0; c < DECODE_ROWS_SIZES; ++c) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
      mine[c] += gpu_shuffle_xor(mine[c], mask);
    if (thread % 32 == 0)
      atomicAdd(&counts[c], mine[c]);
  }
  gpu_sync_block();
  int32_t item_rows = DECODE_ROWS_MOST;
  for (int c = 0;
       item_rows > DECODE_ROWS_LEAST && !attention_decode_enough(counts[c], a->heads, a->n_multiprocessor);
       ++c)
    item_rows /= 2;
  int64_t n_mine = 0, n_item;
  for (int32_t s = begin; s < end; ++s) {
    attention_decode_split split = attention_decode_split_of(rows[s], item_rows);
    first[s] = split.count, each[s] = split.each;
    n_mine += split.count;
  }
  int32_t at = (int32_t)scan_before(n_mine, false, partial, &n_item);
  for (int32_t s = begin; s < end; ++s) {
    int32_t count = first[s];
    first[s] = at;
    at += count;
  }
  if (thread == 0) {
    first[a->n_slot] = (int32_t)n_item;
    *a->n_unit = (uint32_t)n_item * (uint32_t)a->heads;
    *a->arrived = 0;
  }
  gpu_sync_block();
  for (int32_t i = thread; i < (int32_t)n_item; i += THREADS) {
    int32_t s = last_not_above(first, a->n_slot, i), start = (i - first[s]) * each[s], left = rows[s] - start;
    int32_t range = 0;
    if (rows[s] > 0)
      range = __ldcg(a->range_at + (int64_t)s * a->range_at_stride + start / DECODE_ITEM_ROUND);
    int4 *halves = reinterpret_cast<int4 *>(a->items + i);
    halves[0] = make_int4(start, left < each[s] ? left : each[s], s * a->view_ranges + range, s);
    halves[1] = make_int4(s, first[s], first[s + 1] - first[s], 0);
  }
}

// --- advance ---
// Pieces of 16 bytes from thread `threadIdx.x` on; `early` is the thread's first, read before `count` was known.
__device__ __forceinline__ void stage(int4 *to, const int4 *from, int4 early, int32_t count) {
  if ((int32_t)threadIdx.x < count)
    to[threadIdx.x] = early;
  for (int32_t i = (int32_t)threadIdx.x + THREADS; i < count; i += THREADS)
    to[i] = from[i];
}

__device__ __forceinline__ int32_t pieces_of(int64_t bytes) {
  return (int32_t)((bytes + 15) / 16);
}

__global__ void __launch_bounds__(THREADS) advance_kernel(const advance_arguments a) {
  GPU_DYNAMIC_SHARED(shared);
  GPU_SHARED(int64_t, partial, [WARPS]);
  GPU_SHARED(int32_t, counts, [DECODE_ROWS_SIZES]);
  GPU_SHARED(int32_t, flags, [4]);
  enum { LISTED, LAST, CONTROL };  // of flags; CONTROL: two
  enum { WORDS = sizeof(span_sequence) / sizeof(uint64_t) };
  static_assert(sizeof(span_sequence) % sizeof(uint64_t) == 0 && (int)WORDS <= (int)THREADS,
                "copied by words");
  gpu_wait_previous();
  gpu_release_next();
  int32_t slot = (int32_t)blockIdx.x, thread = (int32_t)threadIdx.x;
  int4 *to_segments = reinterpret_cast<int4 *>(a.segments + slot * a.segment_bytes);
  int4 *to_references = reinterpret_cast<int4 *>(a.references + slot * a.reference_bytes);
  span_sequence *sequence = reinterpret_cast<span_sequence *>(shared);
  uint64_t *words = reinterpret_cast<uint64_t *>(shared);
  uint64_t *to_words = reinterpret_cast<uint64_t *>(a.sequences + slot);
  int4 *segments = reinterpret_cast<int4 *>(shared + (sizeof(span_sequence) + 15) / 16 * 16);
  int4 *references = reinterpret_cast<int4 *>(shared + a.shared_references);
  int32_t *starts = reinterpret_cast<int32_t *>(shared + a.shared_starts);
  span_range *control = reinterpret_cast<span_range *>(shared + a.shared_control);

  // All loads of a small sequence are on their way together.
  int4 early_segments = make_int4(0, 0, 0, 0), early_references = early_segments;
  if (thread < pieces_of(a.segment_bytes))
    early_segments = to_segments[thread];
  if (thread < pieces_of(a.reference_bytes))
    early_references = to_references[thread];
  int32_t token = 0;
  double log_probability = 0;
  if (thread == 0) {
    token = a.chosen[slot], log_probability = a.chosen_log_probability[slot];
    flags[LISTED] = !a.slots;
  }
  if (thread < WORDS)
    words[thread] = to_words[thread];
  if (thread < DECODE_ROWS_SIZES)
    counts[thread] = 0;
  gpu_sync_block();
  for (int32_t i = thread; a.slots && i < a.n_listed; i += THREADS)
    if (a.slots[i] == slot)
      flags[LISTED] = 1;
  int32_t was_active = sequence->active;
  if (was_active) {
    const span_layout *layout = &sequence->tracker.layout;
    stage(segments, to_segments, early_segments,
          pieces_of(layout->n_segment * (int64_t)sizeof(span_segment)));
    stage(references, to_references, early_references,
          pieces_of(layout->n_reference * (int64_t)sizeof(int32_t)));
  }
  gpu_sync_block();
  bool pushed = was_active && flags[LISTED];
  if (thread == 0) {
    sequence->tracker.layout.segments = reinterpret_cast<span_segment *>(segments);
    sequence->tracker.layout.references = reinterpret_cast<int32_t *>(references);
    if (pushed)
      span_sequence_push(sequence, token, log_probability);
  }
  gpu_sync_block();
  int32_t n_row = list_slot(&a, sequence, slot, pushed ? token : -1, starts, control, flags + CONTROL,
                            partial);

  gpu_sync_block();  // what the plan is made from, before the slot counts as done
  if (thread == 0)
    flags[LAST] = gpu_count_arrival(a.arrived) == a.n_slot - 1;
  if (thread == 0 && pushed) {
    if (sequence->active)
      sequence->next_rows = n_row;
    sequence->tracker.layout.segments = reinterpret_cast<span_segment *>(to_segments);
    sequence->tracker.layout.references = reinterpret_cast<int32_t *>(to_references);
  }
  gpu_sync_block();  // the others' rows after their arrival
  // A sequence that is at rest is not written: the host may be reading it.
  if (pushed) {
    const span_layout *layout = &sequence->tracker.layout;
    int32_t n_segment_piece = pieces_of(layout->n_segment * (int64_t)sizeof(span_segment));
    int32_t n_reference_piece = pieces_of(layout->n_reference * (int64_t)sizeof(int32_t));
    if (thread < WORDS)
      to_words[thread] = words[thread];
    for (int32_t i = thread; i < n_segment_piece; i += THREADS)
      to_segments[i] = segments[i];
    for (int32_t i = thread; i < n_reference_piece; i += THREADS)
      to_references[i] = references[i];
  }
  if (!flags[LAST])
    return;
  gpu_sync_block();  // shared memory is free again
  plan_items(&a, reinterpret_cast<int32_t *>(shared), counts, partial);
}

extern "C" ss_status cuda_sequences_advance(ss_device *device, ss_sequences *sequences, ss_tensor slots) {
  const ss_sequences_options *options = &sequences->options;
  CUDA_REQUIRE(device, !slots.data || cuda_is_integers(slots, slots.rows * slots.cols),
               "sequences: slots are not integers");
  attention_decode *plan = &sequences->plan->decode;
  advance_arguments a = {};
  a.sequences = sequences->sequences, a.control_seeds = sequences->control_seeds;
  a.chosen = sequences->chosen, a.chosen_log_probability = sequences->chosen_log_probability;
  a.segments = sequences->segments, a.references = sequences->references;
  a.segment_bytes = sequences->segment_bytes, a.reference_bytes = sequences->reference_bytes;
  a.slots = (const int32_t *)slots.data, a.n_listed = (int32_t)(slots.rows * slots.cols);
  a.tokens = sequences->step, a.positions = a.tokens + options->n_slot;
  a.cache_rows = a.positions + options->n_slot;
  a.visible_rows = sequences->visible_rows, a.range_at = sequences->range_at, a.arrived = sequences->arrived;
  a.statuses = sequences->statuses;
  a.ranges = (attention_decode_range *)plan->device_block;
  a.items = (attention_decode_item *)((unsigned char *)plan->device_block + plan->item_offset);
  a.n_unit = (uint32_t *)plan->device_n_unit;
  a.n_slot = options->n_slot, a.slot_rows = options->slot_rows;
  a.view_ranges = (int32_t)plan->view_ranges, a.range_at_stride = sequences->range_at_stride;
  a.shared_references = sequences->shared_references, a.shared_starts = sequences->shared_starts;
  a.shared_control = sequences->shared_control;
  a.control = options->control, a.n_sink = options->n_sink;
  a.heads = (int32_t)plan->heads, a.n_multiprocessor = cuda_of(device)->n_multiprocessor;
  cudaStream_t stream = cuda_of(device)->stream;
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda_of(device)), advance_kernel, (unsigned)a.n_slot, THREADS,
                   (size_t)sequences->shared_bytes, stream, a);
  CUDA_LAUNCHED(device, "sequences (advance)");
  return SS_OK;
}

extern "C" ss_status cuda_sequences_share_memory(ss_device *device, ss_sequences *sequences,
                                                 int64_t most_ranges) {
  const ss_sequences_options *options = &sequences->options;
  int64_t references = cuda_round_to_pieces(sizeof(span_sequence)) + sequences->segment_bytes;
  int64_t starts = references + sequences->reference_bytes;
  int64_t control = starts + cuda_round_to_pieces(most_ranges * (int64_t)sizeof(int32_t)), end = control;
  if (options->control >= 0)
    end += span_control_capacity(options->slot_rows) * (int64_t)sizeof(span_range);
  int64_t plan = (3 * (int64_t)options->n_slot + 1) * (int64_t)sizeof(int32_t);
  int64_t bytes = cuda_round_to_pieces(end > plan ? end : plan);
  int most = 0;
  CUDA_TRY(device,
           cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda_of(device)->ordinal));
  most -= 1024;  // the kernel's own arrays, and the system's
  if (bytes > most)
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "sequences: %d slots of %d rows and %d segments want %lld bytes of shared memory "
                   "(expected at most %d)",
                   options->n_slot, options->slot_rows, options->n_segment, (long long)bytes, most);
  CUDA_TRY(device, gpu_allow_shared(advance_kernel, bytes));
  // As the step's other kernels: a multiprocessor changes its carve-out only when it is idle.
  CUDA_TRY(device, cudaFuncSetAttribute(advance_kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  sequences->shared_references = (int32_t)references, sequences->shared_starts = (int32_t)starts;
  sequences->shared_control = (int32_t)control, sequences->shared_bytes = (int32_t)bytes;
  return SS_OK;
}
