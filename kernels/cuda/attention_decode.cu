// Decode attention: single queries over row ranges of a KV cache, at the memory's speed. The plan is explained in
// attention_decode.h, what a warp does with rows in attention_decode.cuh.
//
// A warp takes an item and a kv head (with up to DECODE_HEADS of its query heads; wider groups take several warps, side
// by side, which find the rows in the L2 cache). Neighbouring warps have neighbouring heads, so that whole rows of the
// cache are read at about the same time. Warps share nothing: no block waits for its slowest.
//
// A warp looks up its key rows 128 at a time: 32 ranges lie in the lanes' registers, each lane finds its visible row's
// range in five shuffles, the rows go to shared memory, and each step takes four from there in one load. Then every step
// has DECODE_UNROLL loads of 16 bytes of K and as many of V in flight in each lane: 4 KB a warp.
//
// An item that is its view's only one writes the result. Otherwise it leaves (highest score, sum, weighted sum) in
// scratch and counts itself; the last of a view's items to arrive merges all, in their order: which one merges varies,
// what it computes does not. It also sets the counter back to zero. So one launch does all, with fixed addresses.
//
// The memory gives 3.0 TB/s / 132 = 23 bytes a nanosecond and multiprocessor: 23 KB must be in flight for a latency of
// 1 us under load, and 40-64 KB to hide what warps do between loads. Registers (sm_90a, head_dim 64 and 128, no spills),
// resident warps and bytes in flight of a multiprocessor, by query heads of a warp:
//
//   heads        1     2     3     4
//   registers   80   125   128   168
//   warps       24    16    16    12
//   in flight   96    64    64    48 KB
//
// A step of 16 rows (head_dim 64, one query head) is 240 instructions for 4 KB: 20% of what a multiprocessor can issue at
// that rate.
//
// Bytes: visible rows * 2 * n_kv_head * head_dim * 2, and (head_dim + 2) * 4 an item and query head twice where items
// are merged (1.6% at 256 rows an item).
#include "kernels/cuda/attention_decode.h"

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/cuda.h"

enum {
  DECODE_HEADS = 4,  // query heads of a warp at most (BF16; F32 takes one)
  LISTED = 128,      // rows looked up at a time: a multiple of every step's
  MERGE_UNROLL = 4
};

typedef struct {
  const attention_decode_item *items;
  const attention_decode_range *ranges;
  const void *q, *k, *v;
  void *out;
  float *log_sum_exp;  // NULL: not wanted
  int64_t q_stride, out_stride, log_sum_exp_stride;
  int32_t k_bytes, v_bytes;        // between rows
  float *partial_sums;             // [n_item, n_head, head_dim]
  float2 *partial_totals;          // [n_item, n_head] highest score, sum
  int32_t *counters;               // [n_view, warps an item]
  int32_t n_range, n_head, group;  // group: query heads of a kv head
  uint32_t passes;                 // warps that share a group's query heads
  uint32_t per_item;               // warps an item: n_kv_head * passes
  uint32_t n_task;
  const uint32_t *n_task_now;  // resident plans: n_task is the most, this what there is; else NULL
  float scale;                 // times log2(e)
} decode_arguments;

// Writes the key rows of visible rows [first, first + count) to rows[0..count), and -1 up to LISTED. `range` holds or
// precedes the first; returns one that holds or precedes what follows.
__device__ __forceinline__ int32_t list_rows(int32_t *rows, const decode_arguments *a, int32_t range,
                                             int32_t first, int32_t count, int lane) {
  int32_t end = first + count;
  gpu_sync_warp();  // the rows before these have been taken
  for (int32_t at = count + lane; at < LISTED; at += 32)
    rows[at] = -1;
  for (;; range += 32) {
    int2 entry = make_int2(0, INT32_MAX);  // first, start
    if (range + lane < a->n_range)
      entry = *reinterpret_cast<const int2 *>(a->ranges + range + lane);
    int32_t next = range + 32 < a->n_range ? a->ranges[range + 32].start : INT32_MAX;
    int32_t limit = next < end ? next : end, begin = gpu_shuffle(entry.y, 0), shift = entry.x - entry.y;
    begin = begin > first ? begin : first;
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
    if (limit == end)
      break;
  }
  gpu_sync_warp();
  return range;
}

// `width` columns of a result, as they are stored.
__device__ __forceinline__ void store_columns(float *to, const float *values) {
  store_elements<4>(to, values);
}
__device__ __forceinline__ void store_columns(gpu_bf16 *to, const float *values) {
  *reinterpret_cast<uint2 *>(to) = make_uint2(gpu_pack_bf16(values[0], values[1]),
                                              gpu_pack_bf16(values[2], values[3]));
}

// Merges the items [first, first + count) of a view for one query head, in their order, and writes the result.
template <typename type, int dim>
__device__ __forceinline__ void merge_items(const decode_arguments *a, int64_t first, int32_t count,
                                            int32_t query, int32_t head, int lane) {
  enum { LANES = dim / 4, AT_ONCE = 32 / LANES };  // lanes of an item's sum; items of a load
  const float2 *totals = a->partial_totals + first * a->n_head + head;
  const float *sums = a->partial_sums + (first * a->n_head + head) * dim + lane % LANES * 4;
  float highest = -INFINITY, total = 0, sum[4] = {0};
  for (int32_t i = lane; i < count; i += 32)
    highest = fmaxf(highest, __ldcg(&totals[(int64_t)i * a->n_head]).x);
  highest = gpu_warp_max(highest);
  float base = highest == -INFINITY ? 0.0f : highest;
  for (int32_t i = lane / LANES; i < count; i += AT_ONCE * MERGE_UNROLL) {
    float2 part[MERGE_UNROLL];
    float4 values[MERGE_UNROLL];
#pragma unroll
    for (int u = 0; u < MERGE_UNROLL; ++u) {
      int64_t item = i + u * AT_ONCE;
      part[u] = make_float2(-INFINITY, 0), values[u] = make_float4(0, 0, 0, 0);
      if (item < count) {
        part[u] = __ldcg(&totals[item * a->n_head]);
        values[u] = __ldcg(reinterpret_cast<const float4 *>(sums + item * a->n_head * dim));
      }
    }
#pragma unroll
    for (int u = 0; u < MERGE_UNROLL; ++u) {
      float shrink = gpu_exp2(part[u].x - base);
      total = fmaf(part[u].y, shrink, total);
      sum[0] = fmaf(values[u].x, shrink, sum[0]), sum[1] = fmaf(values[u].y, shrink, sum[1]);
      sum[2] = fmaf(values[u].z, shrink, sum[2]), sum[3] = fmaf(values[u].w, shrink, sum[3]);
    }
  }
#pragma unroll
  for (int mask = LANES; mask < 32; mask *= 2) {
    total += gpu_shuffle_xor(total, mask);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      sum[i] += gpu_shuffle_xor(sum[i], mask);
  }
  float inverse = total > 0 ? 1.0f / total : 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    sum[i] *= inverse;
  if (lane < LANES)
    store_columns((type *)a->out + query * a->out_stride + (int64_t)head * dim + lane * 4, sum);
  if (a->log_sum_exp && lane == 0)
    a->log_sum_exp[query * a->log_sum_exp_stride + head] = decode_log_sum(highest, total);
}

// Blocks a multiprocessor that the compiler leaves registers for: as many as it can without spills.
constexpr int decode_blocks(int heads) {
  return (heads == 1 ? 24 : heads <= 3 ? 16 : 12) / DECODE_WARPS;
}

template <typename type, int dim, int heads>
__global__ void __launch_bounds__(DECODE_WARPS * 32, decode_blocks(heads))
    decode_kernel(const decode_arguments a) {
  typedef decode_shape<type, dim> shape;
  enum { WIDTH = shape::WIDTH, LANES = shape::LANES, ROWS = shape::ROWS };
  GPU_SHARED(int4, listed, [DECODE_WARPS][LISTED / 4]);
  int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
  uint32_t task = blockIdx.x * DECODE_WARPS + (uint32_t)warp;
  gpu_wait_previous();
  gpu_release_next();
  if (task >= a.n_task)
    return;
  uint32_t part = task % a.per_item;
  int64_t index = task / a.per_item;
  const int4 *halves = reinterpret_cast<const int4 *>(a.items + index);
  int4 what = halves[0], where = halves[1];  // start, n_row, range, query; view, item_first, n_item
  if (a.n_task_now && task >= *a.n_task_now)
    return;
  int32_t kv_head = (int32_t)(part / a.passes), pass = (int32_t)(part % a.passes) * heads;
  int32_t head = kv_head * a.group + pass, n_here = a.group - pass < heads ? a.group - pass : heads;
  int32_t column = lane % LANES * WIDTH, query = what.w;

  decode_state<type, dim, heads> state;
  decode_begin(&state, (const type *)a.q + query * a.q_stride + (int64_t)head * dim + column, n_here,
               a.scale);
  const type *k = (const type *)a.k + (int64_t)kv_head * dim + column;
  const type *v = (const type *)a.v + (int64_t)kv_head * dim + column;
  int32_t *rows = reinterpret_cast<int32_t *>(listed[warp]), range = what.z;
  for (int32_t done = 0; done < what.y; done += LISTED) {
    int32_t count = what.y - done < LISTED ? what.y - done : LISTED;
    range = list_rows(rows, &a, range, what.x + done, count, lane);
    for (int32_t at = 0; at < count; at += ROWS) {
      int4 four = listed[warp][at / DECODE_UNROLL + lane / LANES];
      int32_t mine[DECODE_UNROLL] = {four.x, four.y, four.z, four.w};
      bool seen[DECODE_UNROLL] = {four.x >= 0, four.y >= 0, four.z >= 0, four.w >= 0};
      decode_step(&state, mine, seen, k, a.k_bytes, v, a.v_bytes);
    }
  }
  decode_join_groups(&state);

  if (where.z == 1) {
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      if (h >= n_here)
        break;
      float inverse = state.total[h] > 0 ? 1.0f / state.total[h] : 0.0f;
#pragma unroll
      for (int i = 0; i < WIDTH; ++i)
        state.sum[h][i] *= inverse;
      if (lane < LANES)
        store_elements<WIDTH>((type *)a.out + query * a.out_stride + (int64_t)(head + h) * dim + column,
                              state.sum[h]);
      if (a.log_sum_exp && lane == 0)
        a.log_sum_exp[query * a.log_sum_exp_stride + head + h] = decode_log_sum(state.highest[h],
                                                                                state.total[h]);
    }
    return;
  }
#pragma unroll
  for (int h = 0; h < heads; ++h) {
    if (h >= n_here)
      break;
    int64_t at = index * a.n_head + head + h;
    if (lane < LANES)
      store_elements<WIDTH>(a.partial_sums + at * dim + column, state.sum[h]);
    if (lane == 0)
      a.partial_totals[at] = make_float2(state.highest[h], state.total[h]);
  }
  __threadfence();  // this item's part before its count
  gpu_sync_warp();
  int32_t *counter = a.counters + (int64_t)where.x * a.per_item + part, arrived = 0;
  if (lane == 0)
    arrived = atomicAdd(counter, 1);
  if (gpu_shuffle(arrived, 0) != where.z - 1)
    return;
  __threadfence();  // the others' parts after their counts
  if (lane == 0)
    *counter = 0;
  for (int32_t h = 0; h < n_here; ++h)
    merge_items<type, dim>(&a, where.y, where.z, query, head + h, lane);
}

// --- launches ---
template <typename type, int dim, int heads>
static ss_status launch(ss_device *device, const decode_arguments *arguments) {
  unsigned blocks = (unsigned)cuda_ceil_divide(arguments->n_task, DECODE_WARPS);
  cudaStream_t stream = cuda_of(device)->stream;
  if (cuda_of(device)->compute_capability >= 90)
    GPU_LAUNCH_EARLY((decode_kernel<type, dim, heads>), blocks, DECODE_WARPS * 32, 0, stream, *arguments);
  else
    GPU_LAUNCH((decode_kernel<type, dim, heads>), blocks, DECODE_WARPS * 32, 0, stream, *arguments);
  CUDA_LAUNCHED(device, "attention (decode)");
  return SS_OK;
}

template <int dim>
static ss_status launch_heads(ss_device *device, const decode_arguments *arguments, ss_dtype dtype,
                              int heads) {
  if (dtype == SS_F32)
    return launch<float, dim, 1>(device, arguments);
  if (heads == 1)
    return launch<gpu_bf16, dim, 1>(device, arguments);
  if (heads == 2)
    return launch<gpu_bf16, dim, 2>(device, arguments);
  if (heads == 3)
    return launch<gpu_bf16, dim, 3>(device, arguments);
  return launch<gpu_bf16, dim, DECODE_HEADS>(device, arguments);
}

// How a kv head's query heads are shared out: as few warps as can be, evenly.
typedef struct {
  int32_t heads, passes;
} head_split;
static head_split split_heads(ss_attention_shape shape, ss_dtype dtype) {
  int32_t group = shape.n_head / shape.n_kv_head, most = dtype == SS_BF16 ? DECODE_HEADS : 1;
  head_split split = {0, (group + most - 1) / most};
  split.heads = (group + split.passes - 1) / split.passes;
  return split;
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
                                             int64_t view_rows, int64_t view_ranges) {
  if (!serves_dim(shape.head_dim))
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "attention: no decode kernel for a head_dim of %d (expected 16, 32, 64 or 128)",
                   shape.head_dim);
  plan->heads = (int64_t)shape.n_kv_head * split_heads(shape, dtype).passes;
  plan->n_view = n_view, plan->view_ranges = view_ranges;
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
  SS_TRY(cuda_allocate(device, &plan->device_n_task, sizeof(uint32_t), "decode items"));
  SS_TRY(cuda_allocate(device, &plan->device_partials, (size_t)partial_bytes(plan->n_item, shape),
                       "partial sums of attention"));
  plan->merges = plan->resident = true;
  plan->shape = shape, plan->dtype = dtype;
  return SS_OK;
}

extern "C" void attention_decode_free(ss_device *device, attention_decode *plan) {
  cuda_release(device, plan->device_block);
  cuda_release(device, plan->device_counters);
  cuda_release(device, plan->device_n_task);
  cuda_release(device, plan->device_partials);
  attention_decode_free_host(plan);
}

extern "C" ss_status attention_decode_forward(ss_device *device, attention_decode *plan,
                                              ss_attention_shape shape, ss_tensor out, ss_tensor log_sum_exp,
                                              ss_tensor q, ss_tensor k, ss_tensor v) {
  head_split split = split_heads(shape, q.dtype);
  int64_t per_item = (int64_t)shape.n_kv_head * split.passes;
  if (plan->resident)
    CUDA_REQUIRE(
        device,
        q.dtype == plan->dtype && shape.n_head == plan->shape.n_head &&
            shape.n_kv_head == plan->shape.n_kv_head && shape.head_dim == plan->shape.head_dim,
        "attention: %d heads of %d columns over %d kv heads are not what the sequences were made for",
        shape.n_head, shape.head_dim, shape.n_kv_head);
  else if (plan->item_rows == 0 || plan->heads != per_item)
    SS_TRY(cut(device, plan, per_item, 0));
  CUDA_REQUIRE(device, plan->n_item * per_item <= INT32_MAX, "attention: %lld items of %lld warps",
               (long long)plan->n_item, (long long)per_item);
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
  arguments.passes = (uint32_t)split.passes, arguments.per_item = (uint32_t)per_item;
  arguments.n_task = (uint32_t)(plan->n_item * per_item);
  arguments.n_task_now = (const uint32_t *)plan->device_n_task;
  arguments.scale = shape.scale * DECODE_LOG2_E;
  switch (shape.head_dim) {
  case 16:
    return launch_heads<16>(device, &arguments, q.dtype, split.heads);
  case 32:
    return launch_heads<32>(device, &arguments, q.dtype, split.heads);
  case 64:
    return launch_heads<64>(device, &arguments, q.dtype, split.heads);
  case 128:
    return launch_heads<128>(device, &arguments, q.dtype, split.heads);
  default:
    return ss_fail(&device->error, SS_ERROR_LIMIT,
                   "attention: no decode kernel for a head_dim of %d (expected 16, 32, 64 or 128)",
                   shape.head_dim);
  }
}
