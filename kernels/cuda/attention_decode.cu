// Decode attention: single queries over row ranges of a KV cache, at the memory's speed. The plan is explained in
// attention_decode.h, what a warp does with rows in attention_decode.cuh.
//
// A *unit* of an item is a kv head with up to DECODE_HEADS of its query heads; wider groups are several units, side by
// side, which find the rows in the L2 cache. A block takes a unit, each of its warps an even part of the rows, and they
// meet once, at the end. Where views are many, a block takes DECODE_WARPS units instead, a warp each with all of the rows:
// what comes before the first copies is then done once for them, and they read pieces of rows that lie side by side.
// Neighbouring blocks have neighbouring heads, so that whole rows of the cache are read at about the same time.
//
// Key rows are looked up once: 32 ranges at a time lie in a warp's lanes' registers, each lane finds its visible row's
// range in five shuffles, the rows go to shared memory, and each step takes four from there in one load. K and V are
// copied to shared memory asynchronously, two to four steps ahead, each lane its own pieces: what it waits for are its own
// copies, no other thread. So 8 to 16 KB of a warp are on their way whatever it computes, and a short part is one round
// trip to memory.
//
// In a chain of kernels launched early, what a plan says was written long before the kernel directly ahead, so that
// everything up to the first copies happens while that one still runs. With resident plans, the one row that the step
// appends to a sequence is its last visible one: that is copied later, the others' first steps at once.
//
// An item that is its view's only one writes the result. Otherwise it leaves (highest score, sum, weighted sum) in
// scratch and counts itself; the last of a view's items to arrive merges all, in their order: which one merges varies,
// what it computes does not. It also sets the counter back to zero. So one launch does all, with fixed addresses.
//
// The memory gives 3.0 TB/s / 132 = 23 bytes a nanosecond and multiprocessor: 23 KB must be in flight for a latency of
// 1 us under load, and 40-64 KB to hide what warps do between loads. A multiprocessor with 228 KB takes 3, 4 or 6 blocks
// of 4, 3 or 2 steps ahead: 192 KB in flight. One block alone has 32-64 KB, so that the last blocks of a launch still get
// the memory's whole speed. Registers (sm_90a): 80 for one query head, 96 for two, 128 for three and four. None spills, but
// for 16 bytes of four query heads at head_dim 128.
//
// A step of 16 rows (head_dim 64, one query head) is 290 instructions for 4 KB: a quarter of what a multiprocessor can
// issue at that rate.
//
// A row is read once a step: the L2 cache is told to let it go first, and keeps what the step's products share. Launches of
// gigabytes, beside which products are nothing, are read a percent faster without.
//
// Bytes: visible rows * 2 * n_kv_head * head_dim * 2, and (head_dim + 2) * 4 an item and query head twice where items
// are merged (1.6% at 128 rows an item).
#include "kernels/cuda/attention_decode.h"

#include "kernels/cuda/attention_decode_parts.cuh"
#include "kernels/cuda/cuda.h"

enum {
  DECODE_HEADS = 4,  // query heads of a warp at most (BF16; F32 takes one)
  STEP_PIECES = 2 * DECODE_UNROLL * 32,
  STAGES_LEAST = 2,  // steps of a warp that are on their way
  STAGES_MOST = 4,
  STAGE_BYTES = DECODE_WARPS * STEP_PIECES * 16,
  THREADS = DECODE_WARPS * 32,
  LONG_ITEM = 384,      // rows
  BLOCKS_LEAST = 2,     // of a multiprocessor, whose warps take a unit each
  LONG_LEAST = 10,      // the same where items are long
  ONCE_MOST = 1 << 30,  // bytes of a launch that are told to leave the L2 cache first
  NO_ROW = INT32_MIN    // neither a row nor the -1 behind the last
};

// Writes the key rows of visible rows [first, first + count) to rows[0..count), and -1 up to whole steps. `range` holds or
// precedes the first.
template <int step_rows>
__device__ __forceinline__ void list_rows(int32_t *rows, const decode_arguments *a, int32_t range,
                                          int32_t first, int32_t count, int lane) {
  int32_t end = first + count;
#pragma unroll
  for (int32_t after = 0; after < step_rows; after += 32)
    if (count > 0 && (count + after + lane) / step_rows == (count - 1) / step_rows)
      rows[count + after + lane] = -1;
  for (bool more = count > 0; more; range += 32) {
    int2 entry = make_int2(0, INT32_MAX);  // first, start
    if (range + lane < a->n_range)
      entry = __ldcg(reinterpret_cast<const int2 *>(a->ranges + range + lane));
    int32_t next = range + 32 < a->n_range ? __ldcg(&a->ranges[range + 32].start) : INT32_MAX;
    int32_t limit = next < end ? next : end, begin = gpu_shuffle(entry.y, 0), shift = entry.x - entry.y;
    begin = begin > first ? begin : first;
#pragma unroll 2
    for (int32_t at = first + (begin - first) / 32 * 32; at < limit; at += 32) {
      int32_t row = at + lane;
      int own = 0;  // the last of the 32 that starts no later
#pragma unroll
      for (int step = 16; step > 0; step /= 2)
        own += gpu_shuffle(entry.y, own + step) <= row ? step : 0;
      int32_t key = row + gpu_shuffle(shift, own);
      if (row >= begin && row < limit)
        rows[row - first] = key;
    }
    more = limit < end;
  }
  gpu_sync_warp();
}

// --- a warp's rows, on their way to shared memory ---
typedef struct {
  const void *k, *v;  // the lane's columns of row 0
  gpu_keeping keeping;
  const int32_t *rows;  // shared; from the lane's group on
} decode_reader;

// Starts copying a step's rows to pieces [2, DECODE_UNROLL, 32] in shared memory, from the lane's on. What there is none
// of becomes zeros; the place of row `held_back` is left for a copy of its own, since two on their way have no order.
template <int lanes, int step_rows>
__device__ __forceinline__ void read_step(const decode_reader *r, const decode_arguments *a, int32_t step,
                                          int32_t held_back, uint4 *pieces) {
  int4 four = *reinterpret_cast<const int4 *>(r->rows + step * step_rows);
  int32_t rows[DECODE_UNROLL] = {four.x, four.y, four.z, four.w};
#pragma unroll
  for (int u = 0; u < DECODE_UNROLL; ++u) {
    bool valid = rows[u] >= 0;
    int32_t row = valid ? rows[u] : 0;
    if (rows[u] == held_back)
      continue;
    gpu_copy_async_kept(pieces + u * 32, decode_address(r->k, row, a->k_bytes), valid, r->keeping);
    gpu_copy_async_kept(pieces + (DECODE_UNROLL + u) * 32, decode_address(r->v, row, a->v_bytes), valid,
                        r->keeping);
  }
}

// Each step a group of copies, be it empty.
template <int lanes, int step_rows>
__device__ __forceinline__ void read_first_steps(const decode_reader *r, const decode_arguments *a,
                                                 int32_t n_step, int32_t held_back, uint4 *pieces) {
#pragma unroll 1
  for (int32_t step = 0; step < a->stages; ++step, pieces += STEP_PIECES) {
    if (step < n_step)
      read_step<lanes, step_rows>(r, a, step, held_back, pieces);
    gpu_copy_commit();
  }
}

// Waits for the copies of the earliest of `stages` steps.
__device__ __forceinline__ void wait_step(int32_t stages) {
  static_assert((int)STAGES_LEAST == 2 && (int)STAGES_MOST == 4, "all of them");
  if (stages >= 4)
    gpu_copy_wait<3>();
  else if (stages >= 3)
    gpu_copy_wait<2>();
  else
    gpu_copy_wait<1>();
}

// --- the kernel ---
// Blocks of a multiprocessor that the compiler leaves registers for: as many as it can without spills.
constexpr int32_t decode_blocks(int32_t heads) {
  return heads == 1 ? 6 : heads == 2 ? 5 : 4;
}

// The more blocks share a multiprocessor, the fewer stages each has room for. Where all blocks of a launch can run at once
// they shall, with what room that leaves: no second round then starts when the first has nothing left to read. Otherwise as
// many as can be, which begin and end while others read; four where a warp has a unit, and so several steps. Long items
// never get fewer than three stages: better three blocks at a time, each with many rows under way.
static int32_t choose_stages(int64_t blocks, int64_t item_rows, bool warp_units, int32_t most_blocks,
                             int32_t n_multiprocessor) {
  int64_t each = (blocks + n_multiprocessor - 1) / n_multiprocessor;
  if (item_rows >= LONG_ITEM && each > 4)
    each = 3;
  else if (each > most_blocks)
    each = warp_units ? 4 : most_blocks;
  return each <= 3 ? 4 : each == 4 ? 3 : 2;
}

// Those who share a unit's rows: the block, or a warp.
template <int warps> __device__ __forceinline__ void sync_team(void) {
  if constexpr (warps == 1)
    gpu_sync_warp();
  else
    gpu_sync_block();
}

// warps: of a team, which takes a unit: DECODE_WARPS, or 1.
template <typename type, int dim, int heads, int warps>
__global__ void __launch_bounds__(THREADS, decode_blocks(heads)) decode_kernel(const decode_arguments a) {
  typedef decode_shape<type, dim> shape;
  enum { WIDTH = shape::WIDTH, LANES = shape::LANES, ROWS = shape::ROWS };
  enum {
    TEAMS = DECODE_WARPS / warps,
    TEAM = 32 * warps,          // threads
    FOURS = heads * (dim / 4),  // of a result's columns
    PARTS = TEAM / (dim / 4),   // that merging leaves
    PART_FLOATS = warps * STAGES_LEAST * STEP_PIECES * 4 / PARTS
  };
  static_assert((int)PART_FLOATS >= heads * (dim + 2) && DECODE_ROWS_MOST % ROWS == 0,
                "room for all parts, and whole steps");
  GPU_SHARED(int4, listed, [DECODE_ROWS_MOST / 4]);
  GPU_SHARED(int32_t, last, [TEAMS]);
  GPU_DYNAMIC_SHARED(shared);
  int lane = (int)(threadIdx.x % 32), block_warp = (int)(threadIdx.x / 32);
  int team = block_warp / warps, warp = block_warp % warps, thread = warp * 32 + lane;
  uint32_t item = __umulhi(blockIdx.x, a.per_item_inverse), part = blockIdx.x - item * a.per_item;
  if (part >= a.per_item)
    ++item, part -= a.per_item;
  int64_t index = item;
  const int4 *halves = reinterpret_cast<const int4 *>(a.items + index);
  int4 what = __ldcg(halves),
       where = __ldcg(halves + 1);  // start, n_row, range, query; view, item_first, n_item
  if (a.n_unit_now && item * a.units >= __ldcg(a.n_unit_now))
    return;
  int32_t unit = (int32_t)part * TEAMS + team;
  int32_t kv_head = unit, pass = 0;
  if (a.passes > 1)
    kv_head = (int32_t)(unit / a.passes), pass = (int32_t)(unit % a.passes) * heads;
  int32_t head = kv_head * a.group + pass, n_here = a.group - pass < heads ? a.group - pass : heads;
  int32_t column = lane % LANES * WIDTH, query = what.w;

  // Each warp of the block lists a part of the rows; it reads them too, or all.
  int32_t n_step = (what.y + ROWS - 1) / ROWS;
  int32_t from = n_step * block_warp / DECODE_WARPS;
  int32_t to = n_step * (block_warp + 1) / DECODE_WARPS;
  int32_t n_row = (to * ROWS < what.y ? to * ROWS : what.y) - from * ROWS;
  int32_t *rows = reinterpret_cast<int32_t *>(listed);
  list_rows<ROWS>(rows + from * ROWS, &a, what.z, what.x + from * ROWS, n_row, lane);
  if (warps == 1) {
    gpu_sync_block();
    if (unit >= (int32_t)a.units)
      return;
    n_row = what.y;
  } else {
    rows += from * ROWS, n_step = to - from;
  }
  int32_t held_back = NO_ROW;
  decode_reader reader;
  reader.k = (const type *)a.k + (int64_t)kv_head * dim + column;
  reader.v = (const type *)a.v + (int64_t)kv_head * dim + column;
  reader.keeping = gpu_keeping_of(a.once);
  reader.rows = rows + lane / LANES * DECODE_UNROLL;
  uint4 *first_pieces = reinterpret_cast<uint4 *>(shared) + block_warp * a.stages * STEP_PIECES + lane;
  uint4 *held_pieces = NULL;
  if (a.n_unit_now) {
    if (warp == warps - 1 && (int32_t)item == where.y + where.z - 1 && n_row > 0) {
      held_back = rows[n_row - 1];
      int32_t u = (n_row - 1) % ROWS - lane / LANES * DECODE_UNROLL;
      if (n_step <= a.stages && u >= 0 && u < DECODE_UNROLL)
        held_pieces = first_pieces + (n_step - 1) * STEP_PIECES + u * 32;
    }
    read_first_steps<LANES, ROWS>(&reader, &a, n_step, held_back, first_pieces);
  }
  gpu_wait_previous();
  gpu_release_next();
  if (!a.n_unit_now)
    read_first_steps<LANES, ROWS>(&reader, &a, n_step, NO_ROW, first_pieces);
  if (held_pieces) {  // of the last step: no group of copies follows
    gpu_copy_async(held_pieces, decode_address(reader.k, held_back, a.k_bytes), true);
    gpu_copy_async(held_pieces + DECODE_UNROLL * 32, decode_address(reader.v, held_back, a.v_bytes), true);
    gpu_copy_commit();
  }

  decode_state<type, dim, heads> state;
  decode_begin(&state, (const type *)a.q + query * a.q_stride + (int64_t)head * dim + column, n_here,
               a.scale);
  uint4 *pieces = first_pieces, *last_pieces = first_pieces + (a.stages - 1) * STEP_PIECES;
  int32_t left = n_row - lane / LANES * DECODE_UNROLL;
  for (int32_t step = 0; step < n_step; ++step, left -= ROWS) {
    if (step + 1 < n_step)
      wait_step(a.stages);
    else
      gpu_copy_wait<0>();  // what was held back came last
    bool seen[DECODE_UNROLL];
#pragma unroll
    for (int u = 0; u < DECODE_UNROLL; ++u)
      seen[u] = u < left;
    decode_step(&state, seen, pieces, pieces + DECODE_UNROLL * 32, 32);
    if (step + a.stages < n_step)
      read_step<LANES, ROWS>(&reader, &a, step + a.stages, NO_ROW, pieces);
    gpu_copy_commit();
    pieces = pieces == last_pieces ? first_pieces : pieces + STEP_PIECES;
  }
  decode_join_groups(&state);

  // The warps' parts lie where their rows have lain.
  int32_t pitch = a.stages * STEP_PIECES * 4;
  float *parts = reinterpret_cast<float *>(shared) + team * warps * pitch, *mine = parts + warp * pitch;
  gpu_sync_warp();
#pragma unroll
  for (int h = 0; h < heads; ++h) {
    if (lane < LANES)
      store_elements<WIDTH>(mine + h * dim + column, state.sum[h]);
    if (lane == 0)
      mine[heads * dim + 2 * h] = state.highest[h], mine[heads * dim + 2 * h + 1] = state.total[h];
  }
  sync_team<warps>();
  decode_joined<dim, heads> joined;
#pragma unroll
  for (int four = thread; four < FOURS; four += TEAM) {
    joined.head = four / (dim / 4), joined.column = four % (dim / 4) * 4;
    if (joined.head >= n_here)
      break;
    join_parts(&joined, parts, pitch, warps);
    if (where.z == 1) {
      store_result<type>(&joined, &a, query, head);
      continue;
    }
    int64_t at = index * a.n_head + head + joined.head;
    store_elements<4>(a.partial_sums + at * dim + joined.column, joined.sum);
    if (joined.column == 0)
      a.partial_totals[at] = make_float2(joined.highest, joined.total);
  }
  if (where.z == 1)
    return;
  sync_team<warps>();  // this item's part before its count, which releases what the team has written
  int32_t *counter = a.counters + (int64_t)where.x * a.units + unit;
  if (thread == 0)
    last[team] = gpu_count_arrival(counter) == where.z - 1;
  sync_team<warps>();  // the others' parts after their counts
  if (!last[team])
    return;
  if (thread == 0)
    *counter = 0;
  gather_items<dim, heads, TEAM>(thread, parts, PART_FLOATS, &a, where.y, where.z, head, n_here);
  sync_team<warps>();
#pragma unroll
  for (int four = thread; four < FOURS; four += TEAM) {
    joined.head = four / (dim / 4), joined.column = four % (dim / 4) * 4;
    if (joined.head >= n_here)
      break;
    join_parts(&joined, parts, PART_FLOATS, PARTS);
    store_result<type>(&joined, &a, query, head);
  }
}

// --- launches ---
// Where there are kernels whose warps take a unit each: where it was measured to be faster. With several query heads a unit
// a row's work is no longer small beside its reading.
constexpr bool warp_takes_unit(size_t element, int dim, int heads) {
  return element == 2 && dim == 64 && heads == 1;
}

template <typename type, int dim, int heads, int warps>
static ss_status launch_teams(ss_device *device, const decode_arguments *arguments, unsigned blocks) {
  cudaStream_t stream = cuda_of(device)->stream;
  size_t bytes = (size_t)arguments->stages * STAGE_BYTES;
  CUDA_TRY(device, gpu_allow_shared((decode_kernel<type, dim, heads, warps>), STAGES_MOST * STAGE_BYTES));
  // One carve-out for all of a step's kernels: a multiprocessor changes its own only when it is idle.
  CUDA_TRY(device, cudaFuncSetAttribute((decode_kernel<type, dim, heads, warps>),
                                        cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda_of(device)), (decode_kernel<type, dim, heads, warps>), blocks,
                   THREADS, bytes, stream, *arguments);
  CUDA_LAUNCHED(device, "attention (decode)");
  return SS_OK;
}

template <typename type, int dim, int heads>
static ss_status launch(ss_device *device, const decode_arguments *arguments, unsigned blocks) {
  if constexpr (warp_takes_unit(sizeof(type), dim, heads))
    if (arguments->per_item < arguments->units)
      return launch_teams<type, dim, heads, 1>(device, arguments, blocks);
  return launch_teams<type, dim, heads, DECODE_WARPS>(device, arguments, blocks);
}

template <int dim>
static ss_status launch_heads(ss_device *device, const decode_arguments *arguments, unsigned blocks,
                              ss_dtype dtype, int heads) {
  if (dtype == SS_F32)
    return launch<float, dim, 1>(device, arguments, blocks);
  if (heads == 1)
    return launch<gpu_bf16, dim, 1>(device, arguments, blocks);
  if (heads == 2)
    return launch<gpu_bf16, dim, 2>(device, arguments, blocks);
  if (heads == 3)
    return launch<gpu_bf16, dim, 3>(device, arguments, blocks);
  return launch<gpu_bf16, dim, DECODE_HEADS>(device, arguments, blocks);
}

// How a kv head's query heads are shared out: to as few units as can be, evenly.
typedef struct {
  int32_t heads, passes;
} head_split;
static head_split split_heads(ss_attention_shape shape, ss_dtype dtype) {
  int32_t group = shape.n_head / shape.n_kv_head, most = dtype == SS_BF16 ? DECODE_HEADS : 1;
  head_split split = {0, (group + most - 1) / most};
  split.heads = (group + split.passes - 1) / split.passes;
  return split;
}

// Whole blocks of units, and enough of them that every multiprocessor has some; many where they are long, so that it matters
// little when the last ones end.
static bool warps_take_units(const cuda_device *cuda, const attention_decode *plan, ss_attention_shape shape,
                             ss_dtype dtype, int heads, int64_t units, int64_t item_rows) {
  if (!warp_takes_unit(ss_dtype_size(dtype), shape.head_dim, heads) || units < 2 ||
      plan->units == DECODE_BLOCK_UNITS)
    return false;
  int64_t wanted = (item_rows >= LONG_ITEM ? LONG_LEAST : BLOCKS_LEAST) * (int64_t)cuda->n_multiprocessor;
  return plan->units == DECODE_WARP_UNITS ||
         (units % DECODE_WARPS == 0 && plan->n_view * (units / DECODE_WARPS) >= wanted);
}

static bool serves_dim(int32_t head_dim) {
  return head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 128;
}

extern "C" bool attention_decode_serves(const ss_tensor *tensors, int n_tensor, ss_attention_shape shape) {
  for (int i = 0; i < n_tensor; ++i)
    if (!cuda_is_aligned(tensors[i]))
      return false;
  return serves_dim(shape.head_dim);
}

// --- the plan on the device ---
// Makes *data hold `bytes`, zeroed when it grows. Releasing waits for the kernels that still read; the slack makes that
// rare.
static ss_status reserve(ss_device *device, void **data, int64_t *capacity, int64_t bytes) {
  if (bytes <= *capacity)
    return SS_OK;
  cuda_release(device, *data);
  *data = NULL, *capacity = 0;
  SS_TRY(cuda_allocate(device, data, (size_t)(bytes + bytes / 2), "decode items"));
  *capacity = bytes + bytes / 2;
  return SS_OK;
}

static ss_status cut(ss_device *device, attention_decode *plan, int64_t heads, int32_t item_rows) {
  SS_TRY(attention_decode_cut(plan, heads, cuda_of(device)->n_multiprocessor, item_rows, &device->error));
  item_rows = plan->item_rows;
  plan->item_rows = 0;  // not cut, should anything fail
  int64_t counter_bytes = plan->merges ? plan->n_view * heads * (int64_t)sizeof(int32_t) : 0;
  SS_TRY(reserve(device, &plan->device_block, &plan->device_bytes, plan->block_bytes));
  SS_TRY(reserve(device, &plan->device_counters, &plan->counter_bytes, counter_bytes));
  SS_TRY(cuda_upload(device, plan->device_block, plan->block, (size_t)plan->block_bytes));
  plan->item_rows = item_rows;
  return SS_OK;
}

extern "C" ss_status attention_decode_plan(ss_device *device, attention_decode *plan,
                                           const ss_attention_view *views, int64_t n_view,
                                           const span_range *ranges, int64_t n_range, int64_t n_key_row,
                                           bool *serves) {
  ss_status status = attention_decode_list(plan, views, n_view, ranges, n_range, n_key_row, serves,
                                           &device->error);
  if (status == SS_OK && *serves && plan->heads > 0)
    status = cut(device, plan, plan->heads, 0);
  *serves = *serves && status == SS_OK;
  return status;
}

extern "C" ss_status attention_decode_recut(ss_device *device, attention_decode *plan,
                                            ss_attention_shape shape, ss_dtype dtype, int32_t item_rows) {
  return cut(device, plan, (int64_t)shape.n_kv_head * split_heads(shape, dtype).passes, item_rows);
}

static int64_t partial_bytes(int64_t n_item, ss_attention_shape shape) {
  return n_item * shape.n_head * (shape.head_dim + 2) * (int64_t)sizeof(float);
}

extern "C" ss_status attention_decode_reside(ss_device *device, attention_decode *plan,
                                             ss_attention_shape shape, ss_dtype dtype, int64_t n_view,
                                             int64_t view_rows, int64_t view_ranges, int64_t expected_rows) {
  if (!serves_dim(shape.head_dim))
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "attention: no decode kernel for a head_dim of %d (expected 16, 32, 64 or 128)",
                   shape.head_dim);
  plan->heads = (int64_t)shape.n_kv_head * split_heads(shape, dtype).passes;
  plan->n_view = n_view, plan->view_ranges = view_ranges, plan->expected_rows = expected_rows;
  plan->n_range = n_view * view_ranges;
  plan->n_item = attention_decode_most_items(n_view, (int32_t)view_rows, plan->heads,
                                             cuda_of(device)->n_multiprocessor);
  CUDA_REQUIRE(device,
               view_rows <= INT32_MAX / 2 && plan->n_range <= INT32_MAX &&
                   plan->n_item * plan->heads <= INT32_MAX,
               "attention: %lld views of %lld rows are too many", (long long)n_view, (long long)view_rows);
  int64_t item = sizeof(attention_decode_item);
  plan->item_offset = cuda_ceil_divide(plan->n_range * (int64_t)sizeof(attention_decode_range), item) * item;
  plan->device_bytes = plan->item_offset + plan->n_item * item;
  plan->counter_bytes = n_view * plan->heads * (int64_t)sizeof(int32_t);
  SS_TRY(cuda_allocate(device, &plan->device_block, (size_t)plan->device_bytes, "decode items"));
  SS_TRY(cuda_allocate(device, &plan->device_counters, (size_t)plan->counter_bytes, "decode counters"));
  SS_TRY(cuda_allocate(device, &plan->device_n_unit, sizeof(uint32_t), "decode items"));
  SS_TRY(cuda_allocate(device, &plan->device_partials, (size_t)partial_bytes(plan->n_item, shape),
                       "partial sums of attention"));
  plan->merges = plan->resident = true;
  plan->shape = shape, plan->dtype = dtype;
  return SS_OK;
}

extern "C" void attention_decode_free(ss_device *device, attention_decode *plan) {
  cuda_release(device, plan->device_block);
  cuda_release(device, plan->device_counters);
  cuda_release(device, plan->device_n_unit);
  cuda_release(device, plan->device_partials);
  attention_decode_free_host(plan);
}

extern "C" ss_status attention_decode_forward(ss_device *device, attention_decode *plan,
                                              ss_attention_shape shape, ss_tensor out, ss_tensor log_sum_exp,
                                              ss_tensor q, ss_tensor k, ss_tensor v) {
  head_split split = split_heads(shape, q.dtype);
  int64_t units = (int64_t)shape.n_kv_head * split.passes;
  if (plan->resident)
    CUDA_REQUIRE(
        device,
        q.dtype == plan->dtype && shape.n_head == plan->shape.n_head &&
            shape.n_kv_head == plan->shape.n_kv_head && shape.head_dim == plan->shape.head_dim,
        "attention: %d heads of %d columns over %d kv heads are not what the sequences were made for",
        shape.n_head, shape.head_dim, shape.n_kv_head);
  else if (plan->item_rows == 0 || plan->heads != units)
    SS_TRY(cut(device, plan, units, 0));
  CUDA_REQUIRE(device, plan->n_item * units <= INT32_MAX, "attention: %lld items of %lld blocks",
               (long long)plan->n_item, (long long)units);
  size_t size = ss_dtype_size(q.dtype);
  CUDA_REQUIRE(device, k.stride <= INT32_MAX / (int64_t)size && v.stride <= INT32_MAX / (int64_t)size,
               "attention: rows of the cache %lld and %lld elements apart", (long long)k.stride,
               (long long)v.stride);
  decode_arguments arguments = {};
  arguments.ranges = (const attention_decode_range *)plan->device_block;
  arguments.items = (const attention_decode_item *)((const unsigned char *)plan->device_block +
                                                    plan->item_offset);
  arguments.q = q.data, arguments.k = k.data, arguments.v = v.data, arguments.out = out.data;
  arguments.log_sum_exp = (float *)log_sum_exp.data;
  arguments.q_stride = q.stride;
  arguments.k_bytes = (int32_t)(k.stride * (int64_t)size),
  arguments.v_bytes = (int32_t)(v.stride * (int64_t)size);
  arguments.out_stride = out.stride, arguments.log_sum_exp_stride = log_sum_exp.stride;
  if (plan->merges) {
    int64_t n_partial = plan->n_item * shape.n_head;
    void *scratch = plan->device_partials;
    if (!plan->resident)
      SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &scratch, (size_t)partial_bytes(plan->n_item, shape)));
    arguments.partial_sums = (float *)scratch;
    arguments.partial_totals = (float2 *)(arguments.partial_sums + n_partial * shape.head_dim);
  }
  arguments.counters = (int32_t *)plan->device_counters;
  arguments.n_range = (int32_t)plan->n_range, arguments.n_head = shape.n_head;
  arguments.group = shape.n_head / shape.n_kv_head;
  int64_t item_rows = plan->resident ? plan->expected_rows : plan->n_row / plan->n_item, per_item = units;
  if (warps_take_units(cuda_of(device), plan, shape, q.dtype, split.heads, units, item_rows))
    per_item = cuda_ceil_divide(units, DECODE_WARPS);
  arguments.passes = (uint32_t)split.passes, arguments.units = (uint32_t)units;
  arguments.per_item = (uint32_t)per_item;
  arguments.per_item_inverse = per_item == 1 ? UINT32_MAX
                                             : (uint32_t)((UINT64_C(1) << 32) / (uint64_t)per_item);
  unsigned blocks = (unsigned)(plan->n_item * per_item);
  // Of a resident plan n_item is the most that there can be.
  int64_t expected = plan->resident
                         ? plan->n_view * attention_decode_count((int32_t)item_rows, DECODE_ROWS_MOST) *
                               per_item
                         : blocks;
  arguments.stages = choose_stages(expected, item_rows, per_item < units,
                                   decode_blocks(q.dtype == SS_BF16 ? split.heads : 1),
                                   cuda_of(device)->n_multiprocessor);
  int64_t read_rows = plan->resident ? plan->n_view * plan->expected_rows : plan->n_row;
  arguments.once = read_rows * shape.n_kv_head * shape.head_dim * 2 * (int64_t)size <= ONCE_MOST;
  arguments.n_unit_now = (const uint32_t *)plan->device_n_unit;
  arguments.scale = shape.scale * DECODE_LOG2_E;
  switch (shape.head_dim) {
  case 16:
    return launch_heads<16>(device, &arguments, blocks, q.dtype, split.heads);
  case 32:
    return launch_heads<32>(device, &arguments, blocks, q.dtype, split.heads);
  case 64:
    return launch_heads<64>(device, &arguments, blocks, q.dtype, split.heads);
  case 128:
    return launch_heads<128>(device, &arguments, blocks, q.dtype, split.heads);
  default:
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "attention: no decode kernel for a head_dim of %d (expected 16, 32, 64 or 128)",
                   shape.head_dim);
  }
}
