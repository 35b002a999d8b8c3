// Shared by the two backward kernels over tiles: their arguments, and one step of their pipeline.
//
// With S = scale q.k, P = exp(S - log_sum_exp), dP = dout.v, delta = dout.out and dS = P (dP - delta):
//   dq = scale dS k    (attention_backward_q.cu:  blocks own queries, loop over key rows; writes delta too)
//   dv = P^T dout, dk = scale dS^T q    (attention_backward_kv.cu: blocks own key rows, loop over queries)
// Every output row belongs to one block, so there are no atomics and the order of every sum is fixed. The price is
// that S and dP are computed twice.
//
// Arithmetic of a visible pair and head: dq 3 products, dk/dv 4, 2 head_dim FLOP each: 14 head_dim, 10 if S and dP were
// computed once. For a group of 16 x 16 pairs, head_dim 64, in cycles of a multiprocessor (an mma.m16n8k16 takes about
// 6.1 on one of its 4 tensor cores, 512 bytes of shared memory 4):
//           mma          ldmatrix.x4   gathers   bound
//   dq      24 = 37      12 = 48       8-16      shared memory, 56-64
//   dk/dv   32 = 49      16 = 64       8-16      shared memory, 72-80
//   causal, B16 H12 T1024 D64: 101M pairs, 410K groups, 94 GFLOP: 0.25 ms at these bounds, 132 x 1.7 GHz
//   span mask, 3072 (tile, head) of 64 rows x 224 columns, half of it visible: 86K groups or more: 0.05 ms or more
// A warp of 32 rows would use each fragment for two products, which halves the ldmatrix, but takes 255 registers at head_dim
// 64: 8 warps on a multiprocessor. On an H100 that is slower: 0.364 ms against 0.353 (causal, as above, both kernels), 0.611
// against 0.602 (documents in 16 packed rows of 2048).
// Bytes: a block reads 64 columns x 2 matrices (16 KB at head_dim 64) a step, mostly from L2: 230 MB in each kernel
// (causal), 180 MB (span). From memory, once: q, k, v, dout twice, out once; dq, dk, dv written: 12 matrices of 25 MB,
// 0.10 ms in all, beside the products.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_BACKWARD_CUH
#define SELFSPAN_KERNELS_CUDA_ATTENTION_BACKWARD_CUH

#include "kernels/cuda/attention_tile.cuh"

// A block owns 64 rows (a small tile, or half of a large one), as many as a step has columns.
#define BACKWARD_ROWS 64
#define BACKWARD_THREADS (BACKWARD_ROWS * 2)  // a warp for 16 rows
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

static_assert(BACKWARD_ROWS == TILE_COLUMNS, "the rows of a block take the room of a step's");

// In shared memory: a step's columns (two stages) and a block's rows. `index` is that of the step after: a gather needs
// its indices when it starts, so they travel one step ahead of the rows. What only some groups need of the rows lies
// here for want of registers.
typedef struct {
  int32_t value[2][TILE_COLUMNS];
  uint32_t bits[2][TILE_COLUMNS];
  int32_t index[2][TILE_COLUMNS];
  float log_sum_exp[2][TILE_COLUMNS], delta[2][TILE_COLUMNS];  // dk/dv kernel: of the queries
  int32_t row[BACKWARD_ROWS];                                  // -1: padding
  uint32_t row_bit[BACKWARD_ROWS];
  int32_t row_value[BACKWARD_ROWS];
} backward_lists;

// A row's log_sum_exp in base 2. Rows that read nothing, and padding (-inf too), get +inf: P is 0.
__device__ __forceinline__ float backward_log2_sum(float log_sum_exp) {
  return log_sum_exp == -INFINITY ? INFINITY : log_sum_exp * LOG2_E;
}

// Starts the copies of the values and bits of the columns at `column` (warps 0 and 1), and of the indices at
// `next_column` (warp 2).
__device__ __forceinline__ void backward_copy_columns(backward_lists *lists, int stage,
                                                      const attention_device_tiles &tiles, int64_t column,
                                                      int64_t next_column, int thread) {
  int first = thread % 32 * 4;
  if (first >= TILE_COLUMNS)
    return;
  if (thread < 32)
    gpu_copy_async(&lists->value[stage][first], tiles.column_value + column + first, true);
  else if (thread < 64)
    gpu_copy_async(&lists->bits[stage][first], tiles.column_bits + column + first, true);
  else if (thread < 96)
    gpu_copy_async(&lists->index[stage ^ 1][first], tiles.columns + next_column + first, true);
}

// The warp's rows, for the votes; single rows go to shared memory. `first`: the block's, into the list's rows.
__device__ __forceinline__ tile_warp_rows backward_read_rows(backward_lists *lists,
                                                             const attention_device_tiles &tiles,
                                                             int64_t first, int warp, int lane) {
  int own = warp * 16;
  int64_t at = first + own;
  int32_t row, value;
  uint32_t bit;
  tile_warp_rows warp_rows = tile_read_rows(tiles.rows + at, tiles.row_value + at, tiles.row_slot + at, lane,
                                            &row, &bit, &value);
  if (lane < 16)
    lists->row[own + lane] = row, lists->row_bit[own + lane] = bit, lists->row_value[own + lane] = value;
  return warp_rows;
}

// Sets P to 0 where a row does not see a column. first_column: of the group.
template <bool key_list>
__device__ __forceinline__ void backward_mask(float (*p)[4], const backward_lists *lists, int stage,
                                              int first_column, int warp, int lane) {
  uint32_t row_bit[2];
  int32_t row_value[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int row = warp * 16 + half * 8 + lane / 4;
    row_bit[half] = lists->row_bit[row], row_value[half] = lists->row_value[row];
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    int column = first_column + n * 8 + lane % 4 * 2;
    int2 value = *(const int2 *)(lists->value[stage] + column);
    uint2 bits = *(const uint2 *)(lists->bits[stage] + column);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (!tile_visible<key_list>(e % 2 ? bits.y : bits.x, e % 2 ? value.y : value.x, row_bit[e / 2],
                                  row_value[e / 2]))
        p[n][e] = 0.0f;
  }
}

#endif

#endif
