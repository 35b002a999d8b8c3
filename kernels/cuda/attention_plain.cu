// Attention without tensor cores: a warp takes one row of a tile and one head, and walks over the tile's columns one by
// one. Any head_dim up to 256, F32 or BF16, sums in float. For debugging and shapes that nothing else serves.
#include <math.h>

#include "kernels/cuda/attention.h"

enum { WARPS = 4 };

// A warp's part of a row of `pieces` * 32 values or fewer: lane l holds l, l + 32, ...
template <int pieces, typename type>
__device__ __forceinline__ void load_row(float *values, const type *row, int head_dim, int lane) {
#pragma unroll
  for (int i = 0; i < pieces; ++i)
    values[i] = lane + 32 * i < head_dim ? gpu_float(row[lane + 32 * i]) : 0.0f;
}
__device__ __forceinline__ void store_value(float *to, float value) {
  *to = value;
}
__device__ __forceinline__ void store_value(gpu_bf16 *to, float value) {
  *to = gpu_to_bf16(value);
}
template <int pieces, typename type>
__device__ __forceinline__ void store_row(type *row, const float *values, float factor, int head_dim,
                                          int lane) {
#pragma unroll
  for (int i = 0; i < pieces; ++i)
    if (lane + 32 * i < head_dim)
      store_value(row + lane + 32 * i, values[i] * factor);
}
template <int pieces> __device__ __forceinline__ float dot(const float *a, const float *b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < pieces; ++i)
    sum = fmaf(a[i], b[i], sum);
  return gpu_warp_sum(sum);
}

typedef struct {
  attention_device_tiles tiles;
  ss_tensor q, k, v, out, log_sum_exp, dout, dq, dk, dv;
  float *delta;
  int32_t n_head, group, head_dim;  // group: heads that share a kv head
  float scale;
  int64_t n_task;
} plain_arguments;

template <typename type>
__device__ __forceinline__ type *row_of(const ss_tensor *t, int64_t row, int64_t first) {
  return (type *)t->data + row * t->stride + first;
}

// What a warp works on: row `at` of the list's tiles and a head (kv head for the key list). False: nothing.
typedef struct {
  int64_t at;
  int32_t head, row, lane;
  attention_tile tile;
} plain_task;
__device__ __forceinline__ bool take_task(const plain_arguments *a, int32_t n_head, plain_task *task) {
  int64_t index = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  if (index >= a->n_task)
    return false;
  task->at = index / n_head;
  task->head = (int32_t)(index % n_head);
  task->row = a->tiles.rows[task->at];
  task->lane = (int32_t)(threadIdx.x % 32);
  task->tile = a->tiles.tiles[task->at / a->tiles.tile_rows];
  return task->row >= 0;
}
template <bool key_list>
__device__ __forceinline__ bool sees(const plain_arguments *a, const plain_task *task, int64_t column) {
  int32_t column_value = a->tiles.column_value[column], row_value = a->tiles.row_value[task->at];
  return (a->tiles.column_bits[column] >> a->tiles.row_slot[task->at] & 1) != 0 &&
         (key_list ? row_value <= column_value : column_value <= row_value);
}

template <int pieces, typename type>
__global__ void __launch_bounds__(WARPS * 32) plain_forward_kernel(plain_arguments a) {
  plain_task task;
  if (!take_task(&a, a.n_head, &task))
    return;
  int64_t first = (int64_t)task.head * a.head_dim, kv_first = (int64_t)(task.head / a.group) * a.head_dim;
  float q[pieces], sum[pieces] = {0}, row[pieces], highest = -INFINITY, total = 0;
  load_row<pieces>(q, row_of<type>(&a.q, task.row, first), a.head_dim, task.lane);
  for (int64_t c = task.tile.column_first; c < task.tile.column_first + task.tile.n_column; ++c) {
    if (!sees<false>(&a, &task, c))
      continue;
    int64_t key = a.tiles.columns[c];
    load_row<pieces>(row, row_of<type>(&a.k, key, kv_first), a.head_dim, task.lane);
    float score = dot<pieces>(q, row) * a.scale, higher = fmaxf(highest, score);
    float shrink = expf(highest - higher), weight = expf(score - higher);
    load_row<pieces>(row, row_of<type>(&a.v, key, kv_first), a.head_dim, task.lane);
#pragma unroll
    for (int i = 0; i < pieces; ++i)
      sum[i] = fmaf(weight, row[i], sum[i] * shrink);
    total = total * shrink + weight;
    highest = higher;
  }
  store_row<pieces>(row_of<type>(&a.out, task.row, first), sum, total > 0 ? 1.0f / total : 0.0f, a.head_dim,
                    task.lane);
  if (a.log_sum_exp.data && task.lane == 0)
    *row_of<float>(&a.log_sum_exp, task.row, task.head) = total > 0 ? highest + logf(total) : -INFINITY;
}

// dq, and delta for the next kernel.
template <int pieces, typename type>
__global__ void __launch_bounds__(WARPS * 32) plain_backward_q_kernel(plain_arguments a) {
  plain_task task;
  if (!take_task(&a, a.n_head, &task))
    return;
  int64_t first = (int64_t)task.head * a.head_dim, kv_first = (int64_t)(task.head / a.group) * a.head_dim;
  float q[pieces], dout[pieces], k[pieces], v[pieces], sum[pieces] = {0};
  load_row<pieces>(v, row_of<type>(&a.out, task.row, first), a.head_dim, task.lane);
  load_row<pieces>(dout, row_of<type>(&a.dout, task.row, first), a.head_dim, task.lane);
  load_row<pieces>(q, row_of<type>(&a.q, task.row, first), a.head_dim, task.lane);
  float delta = dot<pieces>(v, dout), log_sum_exp = *row_of<float>(&a.log_sum_exp, task.row, task.head);
  for (int64_t c = task.tile.column_first; c < task.tile.column_first + task.tile.n_column; ++c) {
    if (!sees<false>(&a, &task, c))
      continue;
    int64_t key = a.tiles.columns[c];
    load_row<pieces>(k, row_of<type>(&a.k, key, kv_first), a.head_dim, task.lane);
    load_row<pieces>(v, row_of<type>(&a.v, key, kv_first), a.head_dim, task.lane);
    float weight = expf(dot<pieces>(q, k) * a.scale - log_sum_exp);
    float dscore = weight * (dot<pieces>(dout, v) - delta);
#pragma unroll
    for (int i = 0; i < pieces; ++i)
      sum[i] = fmaf(dscore, k[i], sum[i]);
  }
  store_row<pieces>(row_of<type>(&a.dq, task.row, first), sum, a.scale, a.head_dim, task.lane);
  if (task.lane == 0)
    a.delta[(int64_t)task.row * a.n_head + task.head] = delta;
}

template <int pieces, typename type>
__global__ void __launch_bounds__(WARPS * 32) plain_backward_kv_kernel(plain_arguments a) {
  plain_task task;
  if (!take_task(&a, a.n_head / a.group, &task))
    return;
  int64_t kv_first = (int64_t)task.head * a.head_dim;
  float k[pieces], v[pieces], q[pieces], dout[pieces], dk[pieces] = {0}, dv[pieces] = {0};
  load_row<pieces>(k, row_of<type>(&a.k, task.row, kv_first), a.head_dim, task.lane);
  load_row<pieces>(v, row_of<type>(&a.v, task.row, kv_first), a.head_dim, task.lane);
  for (int64_t c = task.tile.column_first; c < task.tile.column_first + task.tile.n_column; ++c) {
    if (!sees<true>(&a, &task, c))
      continue;
    int64_t query = a.tiles.columns[c];
    for (int32_t head = task.head * a.group; head < (task.head + 1) * a.group; ++head) {
      int64_t first = (int64_t)head * a.head_dim;
      load_row<pieces>(q, row_of<type>(&a.q, query, first), a.head_dim, task.lane);
      load_row<pieces>(dout, row_of<type>(&a.dout, query, first), a.head_dim, task.lane);
      float weight = expf(dot<pieces>(q, k) * a.scale - *row_of<float>(&a.log_sum_exp, query, head));
      float dscore = weight * (dot<pieces>(dout, v) - a.delta[query * a.n_head + head]);
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        dv[i] = fmaf(weight, dout[i], dv[i]);
        dk[i] = fmaf(dscore, q[i], dk[i]);
      }
    }
  }
  store_row<pieces>(row_of<type>(&a.dk, task.row, kv_first), dk, a.scale, a.head_dim, task.lane);
  store_row<pieces>(row_of<type>(&a.dv, task.row, kv_first), dv, 1.0f, a.head_dim, task.lane);
}

// --- launches ---
typedef enum { PLAIN_FORWARD, PLAIN_BACKWARD_Q, PLAIN_BACKWARD_KV } plain_kernel;

template <int pieces, typename type>
static ss_status launch(ss_device *device, plain_kernel kernel, const plain_arguments *arguments) {
  int64_t n_block = cuda_ceil_divide(arguments->n_task, WARPS);
  CUDA_REQUIRE(device, n_block <= INT32_MAX, "attention: %lld blocks", (long long)n_block);
  cudaStream_t stream = cuda_of(device)->stream;
  if (kernel == PLAIN_FORWARD)
    GPU_LAUNCH((plain_forward_kernel<pieces, type>), (unsigned)n_block, WARPS * 32, 0, stream, *arguments);
  else if (kernel == PLAIN_BACKWARD_Q)
    GPU_LAUNCH((plain_backward_q_kernel<pieces, type>), (unsigned)n_block, WARPS * 32, 0, stream, *arguments);
  else
    GPU_LAUNCH((plain_backward_kv_kernel<pieces, type>), (unsigned)n_block, WARPS * 32, 0, stream,
               *arguments);
  CUDA_LAUNCHED(device, "attention (plain)");
  return SS_OK;
}

template <typename type>
static ss_status launch_pieces(ss_device *device, plain_kernel kernel, const plain_arguments *arguments) {
  if (arguments->head_dim <= 32)
    return launch<1, type>(device, kernel, arguments);
  if (arguments->head_dim <= 64)
    return launch<2, type>(device, kernel, arguments);
  if (arguments->head_dim <= 128)
    return launch<4, type>(device, kernel, arguments);
  return launch<8, type>(device, kernel, arguments);
}

static ss_status run_plain(ss_device *device, plain_kernel kernel, const attention_device_tiles *tiles,
                           const attention_call *call) {
  ss_attention_shape shape = call->shape;
  CUDA_REQUIRE(device, shape.head_dim > 0 && shape.head_dim <= ATTENTION_PLAIN_HEAD_DIM,
               "attention: no kernel for a head_dim of %d (expected at most %d)", shape.head_dim,
               ATTENTION_PLAIN_HEAD_DIM);
  int32_t heads = kernel == PLAIN_BACKWARD_KV ? shape.n_kv_head : shape.n_head;
  plain_arguments arguments = {*tiles,
                               call->q,
                               call->k,
                               call->v,
                               call->out,
                               call->log_sum_exp,
                               call->dout,
                               call->dq,
                               call->dk,
                               call->dv,
                               call->delta,
                               shape.n_head,
                               shape.n_head / shape.n_kv_head,
                               shape.head_dim,
                               shape.scale,
                               (int64_t)tiles->n_tile * tiles->tile_rows * heads};
  if (arguments.n_task == 0)
    return SS_OK;
  return call->q.dtype == SS_BF16 ? launch_pieces<gpu_bf16>(device, kernel, &arguments)
                                  : launch_pieces<float>(device, kernel, &arguments);
}

ss_status attention_plain_forward(ss_device *device, const attention_device_tiles *queries,
                                  const attention_call *call) {
  return run_plain(device, PLAIN_FORWARD, queries, call);
}

ss_status attention_plain_backward(ss_device *device, const attention_device_tiles *queries,
                                   const attention_device_tiles *keys, const attention_call *call) {
  SS_TRY(run_plain(device, PLAIN_BACKWARD_Q, queries, call));
  return run_plain(device, PLAIN_BACKWARD_KV, keys, call);
}
