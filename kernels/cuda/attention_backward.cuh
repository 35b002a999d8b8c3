// Shared by the two backward kernels over tiles: their arguments, and one step of their pipeline.
//
// With S = scale q.k, P = exp(S - log_sum_exp), dP = dout.v, delta = dout.out and dS = P (dP - delta):
//   dq = scale dS k    (attention_backward_q.cu:  blocks own queries, loop over key rows; writes delta too)
//   dv = P^T dout, dk = scale dS^T q    (attention_backward_kv.cu: blocks own key rows, loop over queries)
// Every output row belongs to one block, so there are no atomics and the order of every sum is fixed. The price is
// that S and dP are computed twice.
//
// Arithmetic of one visible pair and head: dq 3 products, dk/dv 4, 2 head_dim FLOP each: 14 head_dim (10 if S and dP
// were computed once). A group of 16 x 16 pairs and one warp, head_dim 64: dq 24 mma and 12 ldmatrix, dk/dv 32 and
// 16; an ldmatrix.x4 takes 4 cycles of a multiprocessor's shared memory, an mma about 6.4 of one of its 4 tensor
// cores, so shared memory is the tighter bound: 28 * 4 = 112 cycles for the group against 56 * 6.4 / 4 = 90.
//   causal, B16 H12 T1024 D64: 101M pairs, 393K groups and 4% on the diagonal, 94 GFLOP: 0.20 ms of shared memory
//   span mask, 64 rows x 224 columns a tile, half of it visible: 86K-172K groups: 0.05-0.10 ms
// Bytes: a block reads 64 columns x 2 matrices x head_dim x 2 a step (16 KB at head_dim 64) for 64 rows, mostly from
// L2: 450 MB in each kernel (causal), 180 MB (span). From memory, once: q, k, v, out, dout read twice (out once),
// dq, dk, dv written: 12 matrices of 25 MB.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_BACKWARD_CUH
#define SELFSPAN_KERNELS_CUDA_ATTENTION_BACKWARD_CUH

#include "kernels/cuda/attention_tile.cuh"

#define BACKWARD_ROWS 64      // rows of a block: a small tile, or half of a large one
#define BACKWARD_THREADS 128  // a warp per 16 rows
#define LOG2_E 1.4426950408889634f

typedef struct {
  attention_device_tiles tiles;
  const gpu_bf16 *q, *k, *v, *out, *dout;
  gpu_bf16 *dq, *dk, *dv;
  int64_t q_stride, k_stride, v_stride, out_stride, dout_stride, dq_stride, dk_stride, dv_stride;
  const float *log_sum_exp;  // [nq, n_head]
  int64_t log_sum_exp_stride;
  float *delta;  // [nq, n_head], contiguous
  int32_t n_head, n_kv_head;
  float scale;
} attention_backward_arguments;

// attention_backward_q.cu, attention_backward_kv.cu: both check their launch.
ss_status attention_backward_q(ss_device *device, int32_t head_dim,
                               const attention_backward_arguments *arguments);
ss_status attention_backward_kv(ss_device *device, int32_t head_dim,
                                const attention_backward_arguments *arguments);

#if defined(__CUDACC__) || defined(SS_EMULATE)

// What a step knows about its columns. `index` is that of the step after it: a gather needs its indices when it
// starts, so they travel one step ahead of the rows.
typedef struct {
  int32_t value[2][TILE_COLUMNS];
  uint32_t bits[2][TILE_COLUMNS];
  int32_t index[2][TILE_COLUMNS];
  float log_sum_exp[2][TILE_COLUMNS], delta[2][TILE_COLUMNS];  // dk/dv kernel: of the queries
} backward_columns;

// A row's log_sum_exp in base 2. Rows that read nothing, and padding (-inf too), get +inf: P is 0.
__device__ __forceinline__ float backward_log2_sum(float log_sum_exp) {
  return log_sum_exp == -INFINITY ? INFINITY : log_sum_exp * LOG2_E;
}

// Starts the copies of the values and bits of the columns at `column` (warps 0 and 1), and of the indices at
// `next_column` (warp 2).
__device__ __forceinline__ void backward_copy_columns(backward_columns *shared, int stage,
                                                      const attention_device_tiles &tiles, int64_t column,
                                                      int64_t next_column, int thread) {
  int first = thread % 32 * 4;
  if (first >= TILE_COLUMNS)
    return;
  if (thread < 32)
    gpu_copy_async(&shared->value[stage][first], tiles.column_value + column + first, true);
  else if (thread < 64)
    gpu_copy_async(&shared->bits[stage][first], tiles.column_bits + column + first, true);
  else if (thread < 96)
    gpu_copy_async(&shared->index[stage ^ 1][first], tiles.columns + next_column + first, true);
}

// Writes a warp's 16 x head_dim result, accumulator fragments times `scale`, to its rows: through 16 rows of shared
// memory of its own, so that rows leave in pieces of 16 bytes. `row`: that of lane % 16, -1 for padding.
template <int head_dim>
__device__ __forceinline__ void backward_store(gpu_bf16 *matrix, int64_t stride, unsigned char *tile,
                                               int32_t row, float (*sum)[4], float scale, int lane) {
  constexpr int chunks = head_dim / 8;
  int group = lane / 4, pair = lane % 4 * 4;  // bytes into the chunk
#pragma unroll
  for (int c = 0; c < chunks; ++c) {
    *(uint32_t *)(tile + tile_offset<head_dim>(group, c) + pair) = gpu_pack_bf16(sum[c][0] * scale,
                                                                                 sum[c][1] * scale);
    *(uint32_t *)(tile + tile_offset<head_dim>(group + 8, c) + pair) = gpu_pack_bf16(sum[c][2] * scale,
                                                                                     sum[c][3] * scale);
  }
  gpu_sync_warp();
#pragma unroll
  for (int first = 0; first < 16 * chunks; first += 32) {
    int i = (first + lane) / chunks, c = (first + lane) % chunks;
    int32_t target = gpu_shuffle(row, i);
    if (target >= 0)
      *(uint4 *)(matrix + target * stride + c * 8) = *(const uint4 *)(tile + tile_offset<head_dim>(i, c));
  }
}

#endif

#endif
