// The decode kernel's arguments, and how parts of a result become one: the warps' of a unit, and those that the items of
// a view have left in scratch.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_PARTS_CUH
#define SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_PARTS_CUH

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_decode.h"

enum { MERGE_UNROLL = 4 };

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
  int32_t *counters;               // [n_view, units]
  int32_t n_range, n_head, group;  // group: query heads of a kv head
  uint32_t passes;                 // units that share a group's query heads
  uint32_t units;                  // of an item: n_kv_head * passes
  uint32_t per_item;               // blocks an item
  uint32_t per_item_inverse;       // 2^32 / per_item, not above
  int32_t stages;
  bool once;                   // what is read is no use to the L2 cache
  const uint32_t *n_unit_now;  // resident plans: units of all items; else NULL
  float scale;                 // times log2(e)
} decode_arguments;

// `count` parts in shared memory, `pitch` floats apart: weighted sums [heads, dim], then the heads' (highest score,
// sum). A thread adds up four columns of a head at a time, in the parts' order.
template <int dim, int heads> struct decode_joined {
  int32_t head, column;
  float highest, total, sum[4];
};

template <int dim, int heads>
__device__ __forceinline__ void join_parts(decode_joined<dim, heads> *joined, const float *parts,
                                           int32_t pitch, int32_t count) {
  int32_t head = joined->head, column = joined->column;
  float highest = -INFINITY, total = 0, sum[4] = {0};
  for (int32_t p = 0; p < count; ++p)
    highest = fmaxf(highest, parts[p * pitch + heads * dim + 2 * head]);
  float base = highest == -INFINITY ? 0.0f : highest;
#pragma unroll 4
  for (int32_t p = 0; p < count; ++p) {
    const float *part = parts + p * pitch;
    float shrink = gpu_exp2(part[heads * dim + 2 * head] - base);
    float4 values = *reinterpret_cast<const float4 *>(part + head * dim + column);
    total = fmaf(part[heads * dim + 2 * head + 1], shrink, total);
    sum[0] = fmaf(values.x, shrink, sum[0]), sum[1] = fmaf(values.y, shrink, sum[1]);
    sum[2] = fmaf(values.z, shrink, sum[2]), sum[3] = fmaf(values.w, shrink, sum[3]);
  }
  joined->highest = highest, joined->total = total;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    joined->sum[i] = sum[i];
}

__device__ __forceinline__ void store_four(float *to, const float *values) {
  store_elements<4>(to, values);
}
__device__ __forceinline__ void store_four(gpu_bf16 *to, const float *values) {
  *reinterpret_cast<uint2 *>(to) = make_uint2(gpu_pack_bf16(values[0], values[1]),
                                              gpu_pack_bf16(values[2], values[3]));
}

// head: the first of the unit's.
template <typename type, int dim, int heads>
__device__ __forceinline__ void store_result(const decode_joined<dim, heads> *joined,
                                             const decode_arguments *a, int32_t query, int32_t head) {
  float inverse = joined->total > 0 ? 1.0f / joined->total : 0.0f, values[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    values[i] = joined->sum[i] * inverse;
  head += joined->head;
  store_four((type *)a->out + query * a->out_stride + (int64_t)head * dim + joined->column, values);
  if (a->log_sum_exp && joined->column == 0)
    a->log_sum_exp[query * a->log_sum_exp_stride + head] = decode_log_sum(joined->highest, joined->total);
}

// Leaves what the items [first, first + count) of a view have left in scratch as parts in shared memory, a part for each
// LANES of the team's threads. Each takes every PARTS-th item, MERGE_UNROLL of them at a time.
template <int dim, int heads, int threads>
__device__ __forceinline__ void gather_items(int thread, float *parts, int32_t pitch,
                                             const decode_arguments *a, int64_t first, int32_t count,
                                             int32_t head, int32_t n_here) {
  enum { LANES = dim / 4, PARTS = threads / LANES };
  int32_t part = thread / LANES, column = thread % LANES * 4;
  for (int h = 0; h < n_here; ++h) {
    const float2 *totals = a->partial_totals + first * a->n_head + head + h;
    const float *sums = a->partial_sums + (first * a->n_head + head + h) * dim + column;
    float highest = -INFINITY, total = 0, sum[4] = {0};
    for (int32_t i = part; i < count; i += PARTS * MERGE_UNROLL) {
      float2 one[MERGE_UNROLL];
      float4 values[MERGE_UNROLL];
#pragma unroll
      for (int u = 0; u < MERGE_UNROLL; ++u) {
        int64_t item = i + u * PARTS;
        one[u] = make_float2(-INFINITY, 0), values[u] = make_float4(0, 0, 0, 0);
        if (item < count) {
          one[u] = __ldcg(&totals[item * a->n_head]);
          values[u] = __ldcg(reinterpret_cast<const float4 *>(sums + item * a->n_head * dim));
        }
      }
      float higher = highest;
#pragma unroll
      for (int u = 0; u < MERGE_UNROLL; ++u)
        higher = fmaxf(higher, one[u].x);
      float base = higher == -INFINITY ? 0.0f : higher, shrink = gpu_exp2(highest - base);
      highest = higher, total *= shrink;
#pragma unroll
      for (int k = 0; k < 4; ++k)
        sum[k] *= shrink;
#pragma unroll
      for (int u = 0; u < MERGE_UNROLL; ++u) {
        shrink = gpu_exp2(one[u].x - base);
        total = fmaf(one[u].y, shrink, total);
        sum[0] = fmaf(values[u].x, shrink, sum[0]), sum[1] = fmaf(values[u].y, shrink, sum[1]);
        sum[2] = fmaf(values[u].z, shrink, sum[2]), sum[3] = fmaf(values[u].w, shrink, sum[3]);
      }
    }
    float *to = parts + part * pitch;
    store_elements<4>(to + h * dim + column, sum);
    if (column == 0)
      to[heads * dim + 2 * h] = highest, to[heads * dim + 2 * h + 1] = total;
  }
}

#endif
