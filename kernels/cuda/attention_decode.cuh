// A warp reads rows of a kv head for up to `heads` query heads: shared by the decode kernel and what it is compared with.
//
// A row of one head is LANES pieces of 16 bytes, so a warp's load takes GROUPS rows at once (four of 128 bytes for
// head_dim 64 in bf16), and a step is DECODE_UNROLL loads of K and as many of V: 4 KB a warp. Each group of lanes keeps
// an online softmax of its own, in fp32 and base 2; they meet at the end.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_CUH
#define SELFSPAN_KERNELS_CUDA_ATTENTION_DECODE_CUH

#include <math.h>

#include "kernels/cuda/elements.cuh"

enum { DECODE_UNROLL = 4 };

#define DECODE_LOG2_E 1.4426950408889634f
#define DECODE_LN_2 0.6931471805599453f

template <typename type, int dim> struct decode_shape {
  enum {
    WIDTH = 16 / (int)sizeof(type),  // elements of a piece
    LANES = dim / WIDTH,             // of a row
    GROUPS = 32 / LANES,             // rows of a load
    ROWS = GROUPS * DECODE_UNROLL    // rows of a step
  };
};

// A lane's part: WIDTH columns of the query heads and of the weighted sum over its group's rows.
template <typename type, int dim, int heads> struct decode_state {
  float q[heads][decode_shape<type, dim>::WIDTH];  // times scale * log2(e)
  float sum[heads][decode_shape<type, dim>::WIDTH];
  float highest[heads], total[heads];
};

// q: [n_here, dim] of the heads, a lane's columns; heads from n_here on are zeros.
template <typename type, int dim, int heads>
__device__ __forceinline__ void decode_begin(decode_state<type, dim, heads> *state, const type *q, int n_here,
                                             float scale) {
  enum { WIDTH = decode_shape<type, dim>::WIDTH };
#pragma unroll
  for (int h = 0; h < heads; ++h) {
    float values[WIDTH] = {0};
    if (h < n_here)
      load_elements<WIDTH>(values, q + h * dim);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
      state->q[h][i] = values[i] * scale, state->sum[h][i] = 0;
    state->highest[h] = -INFINITY, state->total[h] = 0;
  }
}

__device__ __forceinline__ void decode_piece(float *values, uint4 piece, const gpu_bf16 *) {
  values[0] = gpu_low_bf16(piece.x), values[1] = gpu_high_bf16(piece.x);
  values[2] = gpu_low_bf16(piece.y), values[3] = gpu_high_bf16(piece.y);
  values[4] = gpu_low_bf16(piece.z), values[5] = gpu_high_bf16(piece.z);
  values[6] = gpu_low_bf16(piece.w), values[7] = gpu_high_bf16(piece.w);
}
__device__ __forceinline__ void decode_piece(float *values, uint4 piece, const float *) {
  values[0] = __uint_as_float(piece.x), values[1] = __uint_as_float(piece.y);
  values[2] = __uint_as_float(piece.z), values[3] = __uint_as_float(piece.w);
}

// A lane's piece of a row; `bytes` between rows. Products of 32 bits: an address is then one instruction.
__device__ __forceinline__ const uint4 *decode_address(const void *first, int32_t row, int32_t bytes) {
  return reinterpret_cast<const uint4 *>((const char *)first + (uint64_t)(uint32_t)row * (uint32_t)bytes);
}

// Takes in the rows of a step, DECODE_UNROLL for each group of lanes, those that are `seen`; the others' pieces are
// finite. A lane's pieces lie `pitch` apart.
template <typename type, int dim, int heads>
__device__ __forceinline__ void decode_step(decode_state<type, dim, heads> *state, const bool *seen,
                                            const uint4 *k_pieces, const uint4 *v_pieces, int pitch) {
  enum { WIDTH = decode_shape<type, dim>::WIDTH, LANES = decode_shape<type, dim>::LANES };
  float weight[heads][DECODE_UNROLL];
#pragma unroll
  for (int u = 0; u < DECODE_UNROLL; ++u) {
    float values[WIDTH];
    decode_piece(values, k_pieces[u * pitch], (const type *)NULL);
#pragma unroll
    for (int h = 0; h < heads; ++h) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < WIDTH; ++i)
        score = fmaf(state->q[h][i], values[i], score);
#pragma unroll
      for (int mask = LANES / 2; mask > 0; mask /= 2)
        score += gpu_shuffle_xor(score, mask);
      weight[h][u] = seen[u] ? score : -INFINITY;
    }
  }
#pragma unroll
  for (int h = 0; h < heads; ++h) {
    float higher = state->highest[h];
#pragma unroll
    for (int u = 0; u < DECODE_UNROLL; ++u)
      higher = fmaxf(higher, weight[h][u]);
    float base = higher == -INFINITY ? 0.0f : higher, shrink = gpu_exp2(state->highest[h] - base);
    float total = state->total[h] * shrink;
#pragma unroll
    for (int u = 0; u < DECODE_UNROLL; ++u)
      total += weight[h][u] = gpu_exp2(weight[h][u] - base);
    state->highest[h] = higher, state->total[h] = total;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
      state->sum[h][i] *= shrink;
  }
#pragma unroll
  for (int u = 0; u < DECODE_UNROLL; ++u) {
    float values[WIDTH];
    decode_piece(values, v_pieces[u * pitch], (const type *)NULL);
#pragma unroll
    for (int h = 0; h < heads; ++h)
#pragma unroll
      for (int i = 0; i < WIDTH; ++i)
        state->sum[h][i] = fmaf(weight[h][u], values[i], state->sum[h][i]);
  }
}

// Adds up the groups: every group of lanes then holds the whole.
template <typename type, int dim, int heads>
__device__ __forceinline__ void decode_join_groups(decode_state<type, dim, heads> *state) {
  enum { WIDTH = decode_shape<type, dim>::WIDTH, LANES = decode_shape<type, dim>::LANES };
#pragma unroll
  for (int h = 0; h < heads; ++h) {
    float highest = state->highest[h];
#pragma unroll
    for (int mask = LANES; mask < 32; mask *= 2)
      highest = fmaxf(highest, gpu_shuffle_xor(highest, mask));
    float shrink = gpu_exp2(state->highest[h] - (highest == -INFINITY ? 0.0f : highest));
    state->highest[h] = highest;
    state->total[h] *= shrink;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
      state->sum[h][i] *= shrink;
#pragma unroll
    for (int mask = LANES; mask < 32; mask *= 2) {
      state->total[h] += gpu_shuffle_xor(state->total[h], mask);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i)
        state->sum[h][i] += gpu_shuffle_xor(state->sum[h][i], mask);
    }
  }
}

// Natural logarithm of a sum of 2^score.
__device__ __forceinline__ float decode_log_sum(float highest, float total) {
  return total > 0 ? (highest + log2f(total)) * DECODE_LN_2 : -INFINITY;
}

#endif
