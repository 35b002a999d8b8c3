// The kernel behind a decoding step's products for more rows than one tile of step_linear.cuh holds well:
// out = epilogue(x[n,I] weight[O,I]^T), x normalised already.
//
// Fragments, features of a tile and epilogues are step_linear.cuh's. A block has some rows, some features and all
// columns: nothing is shared between blocks. Its warps take pieces of 32 columns in turn, so each piece of x is needed by
// one lane only: it goes from the L2 cache to registers, `depth` pieces ahead, past shared memory. All of the block's weights
// are on their way to shared memory before gpu_wait_previous; each lane finds there what it copied itself. The warps'
// sums meet once, at the end.
#ifndef SELFSPAN_KERNELS_CUDA_STEP_TILE_CUH
#define SELFSPAN_KERNELS_CUDA_STEP_TILE_CUH

#include "kernels/cuda/step_linear.cuh"
#include "kernels/cuda/step_tile.h"

// Blocks a multiprocessor that registers are left for: the next kernel's beside this one's.
enum { STEP_TILE_RESIDENT = 2 };

// This lane's part of a warp's piece whose rows start `rows` bytes behind `from`.
template <int rows16>
__device__ __forceinline__ void step_tile_load_rows(uint32_t (*x)[2][4], const unsigned char *from,
                                                    const uint32_t (*rows)[2]) {
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint4 words = __ldcg(reinterpret_cast<const uint4 *>(from + rows[m][half]));
      uint32_t *to = x[m][half];
      to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    }
}

template <int rows16, int tiles8, int warps, int depth, step_kind kind>
__global__ void __launch_bounds__(32 * warps, STEP_TILE_RESIDENT) step_tile_kernel(const step_arguments a) {
  enum {
    THREADS = 32 * warps,
    ROWS = 16 * rows16,
    FEATURES = 8 * tiles8,
    PITCH = STEP_PITCH(tiles8),
    A_ROW = FEATURES / 4,                              // units of a row
    OWN = (ROWS * A_ROW + THREADS - 1) / THREADS,      // units of a thread
    READ_AHEAD = kind != STEP_KIND_ROTARY || OWN <= 2  // registers hold the units' inputs beside the sums
  };
  GPU_DYNAMIC_SHARED(shared);
  int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
  int32_t first_row = (int32_t)blockIdx.y * ROWS, n_row = a.n - first_row < ROWS ? a.n - first_row : ROWS;
  int32_t count = a.n_block32 > warp ? (a.n_block32 - warp + warps - 1) / warps : 0;
  int32_t column = warp * 32 + lane % 4 * 8;
  unsigned char *region = shared + warp * a.region_bytes;
  unsigned char *own_weights = region + lane * 16;
  step_tile at = step_tile_of(&a, (int32_t)blockIdx.x, FEATURES);

  // Nothing here is written by other kernels of the step.
#pragma unroll
  for (int j = 0; j < tiles8; ++j) {
    int32_t c = 8 * j + lane / 4;
    int32_t feature = c < 4 * tiles8 ? step_low_feature(&a, at, c)
                                     : step_high_feature(&a, at, c - 4 * tiles8);
    const gpu_bf16 *from = (const gpu_bf16 *)a.weight + (feature < 0 ? 0 : feature * a.weight_stride) +
                           column;
    unsigned char *to = own_weights + j * 512;
#pragma unroll 3  // GPT-2: 3 pieces a warp, or 6 or 12
    for (int32_t i = 0; i < count; ++i)
      gpu_copy_async(to + i * (tiles8 * 512), from + i * (32 * warps), feature >= 0);
  }
  gpu_copy_commit();
  step_inputs inputs[OWN];
#pragma unroll
  for (int o = 0; o < OWN; ++o) {
    if (o > 0 && THREADS % A_ROW == 0)  // the same columns
      inputs[o].bias[0] = inputs[0].bias[0], inputs[o].bias[1] = inputs[0].bias[1];
    else
      step_read_bias(&inputs[o], &a, at, ((int32_t)threadIdx.x + o * THREADS) % A_ROW * 2);
  }
  const unsigned char *from = (const unsigned char *)a.x + 2 * (first_row * a.x_stride + column);
  uint32_t rows[rows16][2];
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int32_t row = 16 * m + 8 * half + lane / 4;
      row = row < n_row ? row : n_row - 1;  // behind the last: that one once more, whose sums nobody takes
      rows[m][half] = (uint32_t)row * (uint32_t)(2 * a.x_stride);
    }

  // What follows reads weights alone before it waits, and may have them travel by now. Attention, which follows the qkv
  // product, reads its plan and old rows too.
  constexpr bool plans_follow = kind == STEP_KIND_QKV || kind == STEP_KIND_ROTARY;
  if (!plans_follow)
    gpu_release_next();
  gpu_wait_previous();
  if (plans_follow)
    gpu_release_next();

  uint32_t x[depth][rows16][2][4];
#pragma unroll
  for (int d = 0; d < depth; ++d)
    if (d < count)
      step_tile_load_rows<rows16>(x[d], from + d * (64 * warps), rows);
  if constexpr (READ_AHEAD) {
#pragma unroll
    for (int o = 0; o < OWN; ++o) {
      int32_t unit = (int32_t)threadIdx.x + o * THREADS, row = unit / A_ROW;
      if (row < n_row)
        step_read_inputs<kind>(&inputs[o], &a, at, first_row + row, unit % A_ROW * 2);
    }
  }
  float sums[rows16][tiles8][4];
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int j = 0; j < tiles8; ++j)
#pragma unroll
      for (int k = 0; k < 4; ++k)
        sums[m][j][k] = 0;
  const unsigned char *weights = own_weights;
  for (int32_t left = count; left > 0; left -= depth, weights += depth * (tiles8 * 512)) {
    gpu_copy_wait<0>();  // in the loop, lest the compiler waits before it asks for the rows
    from += depth * (64 * warps);
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      if (d >= left)
        break;
#pragma unroll
      for (int j = 0; j < tiles8; ++j) {
        uint4 piece = *reinterpret_cast<const uint4 *>(weights + (d * tiles8 + j) * 512);
        uint32_t first[2] = {piece.x, piece.y}, second[2] = {piece.z, piece.w};
#pragma unroll
        for (int m = 0; m < rows16; ++m) {
          uint32_t(*of)[4] = x[d][m];
          uint32_t a_first[4] = {of[0][0], of[1][0], of[0][1], of[1][1]};
          uint32_t a_second[4] = {of[0][2], of[1][2], of[0][3], of[1][3]};
          gpu_mma(sums[m][j], a_first, first);
          gpu_mma(sums[m][j], a_second, second);
        }
      }
      if (d + depth < left)
        step_tile_load_rows<rows16>(x[d], from + d * (64 * warps), rows);
    }
  }
  gpu_sync_warp();  // every lane has its weights: their place takes the warp's sums [ROWS][PITCH]
  float *own = reinterpret_cast<float *>(region) + lane / 4 * PITCH + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int j = 0; j < tiles8; ++j) {
      float *to = own + 16 * m * PITCH + 8 * j;
      *reinterpret_cast<float2 *>(to) = make_float2(sums[m][j][0], sums[m][j][1]);
      *reinterpret_cast<float2 *>(to + 8 * PITCH) = make_float2(sums[m][j][2], sums[m][j][3]);
    }
  if constexpr (!READ_AHEAD) {
#pragma unroll
    for (int o = 0; o < OWN; ++o) {
      int32_t unit = (int32_t)threadIdx.x + o * THREADS, row = unit / A_ROW;
      if (row < n_row)
        step_read_inputs<kind>(&inputs[o], &a, at, first_row + row, unit % A_ROW * 2);
    }
  }
  gpu_sync_block();
#pragma unroll
  for (int o = 0; o < OWN; ++o) {
    int32_t unit = (int32_t)threadIdx.x + o * THREADS, row = unit / A_ROW, c = unit % A_ROW * 2;
    if (row >= n_row)
      break;
    float total[4] = {0, 0, 0, 0};
    const unsigned char *from = shared + (row * PITCH + c) * (int)sizeof(float);
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      const float *part = reinterpret_cast<const float *>(from + w * a.region_bytes);
      float2 low = *reinterpret_cast<const float2 *>(part);
      float2 high = *reinterpret_cast<const float2 *>(part + FEATURES / 2);
      total[0] += low.x, total[1] += low.y, total[2] += high.x, total[3] += high.y;
    }
    step_finish<kind>(&a, &inputs[o], at, first_row + row, c, total);
  }
}

#endif
