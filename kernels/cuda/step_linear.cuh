// The kernel behind the fused ops of a decoding step: out = epilogue(norm(x)[n,I] weight[O,I]^T) for few rows n, where
// the time is that of reading the weights once.
//
// Tensor cores, mma.m16n8k16: rows on m, features on n. The order of columns inside a piece of 32 is free as long as x and
// weight share it, so each lane (g = lane / 4, t = lane % 4) takes whole 16 bytes: columns 8t..8t+7 of feature g, and of
// rows g and g + 8. Elements 0..3 of them are its slots of a first mma, 4..7 of a second.
//
// A block owns a tile of features and up to 64 rows; its 8 warps take pieces of 32 columns in turn. Weights go by
// asynchronous copies to shared memory, where each lane finds again what it copied itself: no barrier, no registers.
// All of a tile's weights are under way before gpu_wait_previous, so they travel while the kernel before finishes. Then
// x goes to registers (all loads at once), a warp's part of each row's mean and squares meets the others' in shared
// memory (Chan, Golub, LeVeque 1983: squares around each part's own mean, so that nothing cancels), the normalised rows
// are packed in place and multiplied, and the warps' sums meet in shared memory, in a fixed order. A block with several
// tiles (the classifier) keeps its rows, and STEP_STAGES tiles of weights under way.
//
// When blocks share the columns of a tile, each leaves its sums in memory and counts itself; the last to arrive adds all
// in their order and sets the counter back to zero.
#ifndef SELFSPAN_KERNELS_CUDA_STEP_LINEAR_CUH
#define SELFSPAN_KERNELS_CUDA_STEP_LINEAR_CUH

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/step_linear.h"

#define STEP_GELU_ROOT 0.7978845608028654f  // sqrt(2/pi)
#define STEP_GELU_CUBIC 0.044715f

// Floats between the rows of a warp's sums: an odd number of 8, so that the eight g write to different banks.
#define STEP_PITCH(tiles8) (8 * ((tiles8) | 1))
// Blocks a multiprocessor that registers are left for.
constexpr int step_resident(int rows16, int blocks32, step_kind kind) {
  int pieces = rows16 * blocks32;
  return pieces <= 3 ? 3 : pieces < 12 || (rows16 == 1 && pieces == 12 && kind == STEP_KIND_RESIDUAL) ? 2 : 1;
}

// Features of a tile. Low columns come first, then as many high ones, `pair` features on: the two halves of a rotated
// pair, gate and up of SwiGLU; without pairs `pair` is half a tile, and the features are consecutive. Low columns l
// of all tiles count through the features' groups of 2 * pair.
typedef struct {
  int32_t group, first;  // feature of the group; of the tile's first low column in it
} step_tile;
__device__ __forceinline__ step_tile step_tile_of(const step_arguments *a, int32_t tile, int32_t features) {
  int32_t low = tile * (features / 2), index = low / a->pair;
  step_tile at = {index * 2 * a->pair, low - index * a->pair};
  return at;
}
// The feature of low column c; -1 when there is none (then neither is the high one).
__device__ __forceinline__ int32_t step_low_feature(const step_arguments *a, step_tile at, int32_t c) {
  int32_t feature = at.group + at.first + c;
  return at.first + c < a->pair && feature < a->n_feature ? feature : -1;
}
__device__ __forceinline__ int32_t step_high_feature(const step_arguments *a, step_tile at, int32_t c) {
  int32_t feature = at.group + at.first + c + a->pair;
  return at.first + c < a->pair && feature < a->n_feature ? feature : -1;
}

// Starts the copies of a tile's weights: this lane's, of this warp's `count` pieces.
template <int tiles8, int blocks32>
__device__ __forceinline__ void step_load_weights(unsigned char *region, const step_arguments *a,
                                                  int32_t tile, int32_t column, int32_t count, int lane) {
  step_tile at = step_tile_of(a, tile, 8 * tiles8);
#pragma unroll
  for (int j = 0; j < tiles8; ++j) {
    int32_t c = 8 * j + lane / 4;
    int32_t feature = c < 4 * tiles8 ? step_low_feature(a, at, c) : step_high_feature(a, at, c - 4 * tiles8);
    const gpu_bf16 *row = (const gpu_bf16 *)a->weight + (feature < 0 ? 0 : feature * a->weight_stride) +
                          column + lane % 4 * 8;
#pragma unroll
    for (int i = 0; i < blocks32; ++i)
      if (i < count)
        gpu_copy_async(region + ((i * tiles8 + j) * 32 + lane) * 16, row + i * (STEP_WARPS * 32),
                       feature >= 0);
  }
}

// Sums over the four lanes of a row.
__device__ __forceinline__ float step_row_sum(float value) {
  value += gpu_shuffle_xor(value, 1);
  return value + gpu_shuffle_xor(value, 2);
}

// Norm of the fragments, in place. parts: [STEP_WARPS][rows] a warp's mean and squares; weights: [2][I] weight, bias.
// Pieces behind the warp's `count` are zero.
template <int rows16, int blocks32>
__device__ __forceinline__ void step_normalize(uint32_t (*x)[rows16][2][4], const step_arguments *a,
                                               float2 *parts, const float *weights, int32_t count,
                                               int32_t n_row, int warp, int lane) {
  enum { ROWS = 16 * rows16 };
  int32_t I = a->n_block32 * 32;
  float reciprocal = count > 0 ? __fdividef(1.0f, (float)(count * 32)) : 0.0f;
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (16 * m + 8 * half >= n_row)
        continue;
      // Sums of pieces overlap where the unpacked values fit into registers; breaks keep the compiler from holding them.
      float sum = 0, squares = 0, mean = 0;
      if (a->centred) {
#pragma unroll
        for (int i = 0; i < blocks32; ++i) {
          if (blocks32 >= 8 && i >= count)
            break;
          const uint32_t *words = x[i][m][half];
          sum += ((gpu_low_bf16(words[0]) + gpu_high_bf16(words[0])) +
                  (gpu_low_bf16(words[1]) + gpu_high_bf16(words[1]))) +
                 ((gpu_low_bf16(words[2]) + gpu_high_bf16(words[2])) +
                  (gpu_low_bf16(words[3]) + gpu_high_bf16(words[3])));
        }
        mean = step_row_sum(sum) * reciprocal;
      }
#pragma unroll
      for (int i = 0; i < blocks32; ++i) {
        if (blocks32 >= 8 && i >= count)
          break;
        float part = 0;
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          float low = gpu_low_bf16(x[i][m][half][w]) - mean, high = gpu_high_bf16(x[i][m][half][w]) - mean;
          part = fmaf(low, low, part);
          part = fmaf(high, high, part);
        }
        squares += i < count ? part : 0.0f;
      }
      squares = step_row_sum(squares);
      if (lane % 4 == 0)
        parts[warp * ROWS + 16 * m + 8 * half + lane / 4] = make_float2(mean, squares);
    }
  gpu_sync_block();
  // The first `longer` warps have a piece more than the others.
  int32_t longer = a->n_block32 % STEP_WARPS;
  float columns = (float)(a->n_block32 / STEP_WARPS * 32), columns_longer = columns + 32;
  float scales[rows16][2], shifts[rows16][2];  // value * scale + shift
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      scales[m][half] = shifts[m][half] = 0;
      if (16 * m + 8 * half >= n_row)
        continue;
      float2 part[STEP_WARPS];
      float mean = 0, squares = 0;
#pragma unroll
      for (int w = 0; w < STEP_WARPS; ++w) {
        part[w] = parts[w * ROWS + 16 * m + 8 * half + lane / 4];
        mean = fmaf(part[w].x, w < longer ? columns_longer : columns, mean);
        squares += part[w].y;
      }
      mean *= a->reciprocal_I;
#pragma unroll
      for (int w = 0; w < STEP_WARPS; ++w) {
        float apart = part[w].x - mean;
        squares = fmaf(apart * apart, w < longer ? columns_longer : columns, squares);
      }
      scales[m][half] = rsqrtf(fmaf(squares, a->reciprocal_I, a->epsilon));
      shifts[m][half] = -mean * scales[m][half];
    }
#pragma unroll
  for (int i = 0; i < blocks32; ++i) {
    if (i >= count)
      break;
    int32_t column = (warp + i * STEP_WARPS) * 32 + lane % 4 * 8;
    float weight[8], bias[8];
    load_elements<8>(weight, weights + column);
    load_elements<8>(bias, weights + I + column);
#pragma unroll
    for (int m = 0; m < rows16; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (16 * m + 8 * half >= n_row)
          continue;
        uint32_t *words = x[i][m][half];
        float scale = scales[m][half], shift = shifts[m][half];
#pragma unroll
        for (int w = 0; w < 4; ++w)
          words[w] = gpu_pack_bf16(fmaf(fmaf(gpu_low_bf16(words[w]), scale, shift), weight[2 * w],
                                        bias[2 * w]),
                                   fmaf(fmaf(gpu_high_bf16(words[w]), scale, shift), weight[2 * w + 1],
                                        bias[2 * w + 1]));
      }
  }
}

// --- epilogue: units of a row, two neighbouring low columns and the two high ones ---

// What a unit needs beside its sums, read ahead of them. Pairs of BF16: low columns, high ones.
typedef struct {
  uint32_t bias[2];
  uint32_t old[2];           // RESIDUAL
  float cosine[2], sine[2];  // ROTARY
  int32_t slot;              // QKV, ROTARY
} step_inputs;

// Two neighbours as a pair; 0 for what is not there.
__device__ __forceinline__ uint32_t step_read_pair(const gpu_bf16 *from, bool first, bool second,
                                                   bool aligned) {
  if (first && second && aligned)
    return *reinterpret_cast<const uint32_t *>(from);
  return gpu_pack_bf16(first ? gpu_float(from[0]) : 0.0f, second ? gpu_float(from[1]) : 0.0f);
}

__device__ __forceinline__ void step_read_bias(step_inputs *in, const step_arguments *a, step_tile at,
                                               int32_t c) {
  in->bias[0] = in->bias[1] = 0;
  if (!a->bias)
    return;
  const gpu_bf16 *bias = (const gpu_bf16 *)a->bias;
  int32_t low = step_low_feature(a, at, c), high = step_high_feature(a, at, c);
  in->bias[0] = step_read_pair(bias + (low < 0 ? 0 : low), low >= 0, step_low_feature(a, at, c + 1) >= 0,
                               a->bias_aligned);
  in->bias[1] = step_read_pair(bias + (high < 0 ? 0 : high), high >= 0, step_high_feature(a, at, c + 1) >= 0,
                               a->bias_aligned);
}

__device__ __forceinline__ void step_write_pair(gpu_bf16 *to, float low, float high, bool first, bool second,
                                                bool aligned) {
  if (first && second && aligned) {
    *reinterpret_cast<uint32_t *>(to) = gpu_pack_bf16(low, high);
    return;
  }
  if (first)
    to[0] = gpu_to_bf16(low);
  if (second)
    to[1] = gpu_to_bf16(high);
}
__device__ __forceinline__ void step_write_pair(float *to, float low, float high, bool first, bool second,
                                                bool aligned) {
  if (first && second && aligned) {
    *reinterpret_cast<float2 *>(to) = make_float2(low, high);
    return;
  }
  if (first)
    to[0] = low;
  if (second)
    to[1] = high;
}

template <step_kind kind>
__device__ __forceinline__ void step_read_inputs(step_inputs *in, const step_arguments *a, step_tile at,
                                                 int32_t row, int32_t c) {
  if constexpr (kind == STEP_KIND_QKV || kind == STEP_KIND_ROTARY)
    in->slot = a->slots[row];
  if constexpr (kind == STEP_KIND_ROTARY) {
    float position = (float)a->positions[row];
#pragma unroll
    for (int k = 0; k < 2; ++k)
      sincosf(position * a->frequencies[at.first + c + k], &in->sine[k], &in->cosine[k]);
  }
  if constexpr (kind == STEP_KIND_RESIDUAL) {
    const gpu_bf16 *x = (const gpu_bf16 *)a->out + row * a->out_stride;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      int32_t first = k ? step_high_feature(a, at, c) : step_low_feature(a, at, c);
      int32_t second = k ? step_high_feature(a, at, c + 1) : step_low_feature(a, at, c + 1);
      in->old[k] = step_read_pair(x + (first < 0 ? 0 : first), first >= 0, second >= 0, a->pairs_aligned);
    }
  }
}

// SS_STEP_GELU as in activation.cu, with the hardware's tanh.
__device__ __forceinline__ float step_sigmoid(float x) {
  return fmaf(0.5f, gpu_tanh(0.5f * x), 0.5f);
}
__device__ __forceinline__ float step_gelu(float x) {
  float inner = fmaf(x * x, STEP_GELU_CUBIC, 1.0f);
  return x * step_sigmoid(2 * STEP_GELU_ROOT * x * inner);
}

// A row's place for features `feature` and the next: q, or its slot in a cache; NULL for a row without a slot.
__device__ __forceinline__ gpu_bf16 *step_qkv_place(const step_arguments *a, int32_t row, int32_t slot,
                                                    int32_t feature) {
  if (feature < a->q_cols)
    return (gpu_bf16 *)a->out + row * a->out_stride + feature;
  if (slot < 0 || slot >= a->n_cache_row)
    return NULL;
  feature -= a->q_cols;
  return feature < a->k_cols ? (gpu_bf16 *)a->k_cache + slot * a->k_stride + feature
                             : (gpu_bf16 *)a->v_cache + slot * a->v_stride + feature - a->k_cols;
}

// sums: low, high
template <step_kind kind>
__device__ __forceinline__ void step_finish(const step_arguments *a, const step_inputs *in, step_tile at,
                                            int32_t row, int32_t c, float sums[4]) {
  int32_t low[2], high[2];
#pragma unroll
  for (int k = 0; k < 2; ++k)
    low[k] = step_low_feature(a, at, c + k), high[k] = step_high_feature(a, at, c + k);
#pragma unroll
  for (int k = 0; k < 2; ++k)
    sums[2 * k] += gpu_low_bf16(in->bias[k]), sums[2 * k + 1] += gpu_high_bf16(in->bias[k]);
  if constexpr (kind == STEP_KIND_LINEAR) {
    bool swiglu = a->activation == SS_STEP_SWIGLU;
    if (swiglu) {
      sums[0] = sums[0] * step_sigmoid(sums[0]) * sums[2];
      sums[1] = sums[1] * step_sigmoid(sums[1]) * sums[3];
    } else if (a->activation == SS_STEP_GELU) {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        sums[k] = step_gelu(sums[k]);
    }
    int64_t start = row * a->out_stride;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      int32_t first = k ? high[0] : low[0], second = k ? high[1] : low[1];
      if (first < 0 || (swiglu && k))
        continue;
      if (a->out_f32)
        step_write_pair((float *)a->out + start + first, sums[2 * k], sums[2 * k + 1], true, second >= 0,
                        a->pairs_aligned);
      else
        step_write_pair((gpu_bf16 *)a->out + start + first, sums[2 * k], sums[2 * k + 1], true, second >= 0,
                        a->pairs_aligned);
    }
  } else if constexpr (kind == STEP_KIND_RESIDUAL) {
    gpu_bf16 *x = (gpu_bf16 *)a->out + row * a->out_stride;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      int32_t first = k ? high[0] : low[0], second = k ? high[1] : low[1];
      if (first >= 0)
        step_write_pair(x + first, gpu_low_bf16(in->old[k]) + sums[2 * k],
                        gpu_high_bf16(in->old[k]) + sums[2 * k + 1], true, second >= 0, a->pairs_aligned);
    }
  } else {
    if constexpr (kind == STEP_KIND_ROTARY)
      if (low[0] < a->q_cols + a->k_cols) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float old = sums[k];
          sums[k] = fmaf(-sums[2 + k], in->sine[k], old * in->cosine[k]);
          sums[2 + k] = fmaf(old, in->sine[k], sums[2 + k] * in->cosine[k]);
        }
      }
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      int32_t first = k ? high[0] : low[0];  // widths are even: the second is beside it
      gpu_bf16 *place = first < 0 ? NULL : step_qkv_place(a, row, in->slot, first);
      if (place)
        step_write_pair(place, sums[2 * k], sums[2 * k + 1], true, true, true);
    }
  }
}

// --- the kernel ---

template <int rows16, int tiles8, int blocks32, step_kind kind>
__global__ void __launch_bounds__(STEP_THREADS, step_resident(rows16, blocks32, kind))
    step_kernel(const step_arguments a) {
  enum {
    ROWS = 16 * rows16,
    FEATURES = 8 * tiles8,
    PITCH = STEP_PITCH(tiles8),
    A_ROW = FEATURES / 4,                                   // units of a row
    OWN = (ROWS * A_ROW + STEP_THREADS - 1) / STEP_THREADS  // units of a thread
  };
  GPU_DYNAMIC_SHARED(shared);
  GPU_SHARED(int32_t, arrived, [1]);
  int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
  int32_t first_row = (int32_t)blockIdx.y * ROWS, n_row = a.n - first_row < ROWS ? a.n - first_row : ROWS;
  int32_t first_block = (int32_t)blockIdx.z * a.slice_blocks;
  int32_t n_block = a.n_block32 - first_block < a.slice_blocks ? a.n_block32 - first_block : a.slice_blocks;
  int32_t count = (n_block - warp + STEP_WARPS - 1) / STEP_WARPS, column = (first_block + warp) * 32;
  count = n_block > warp ? count : 0;
  int32_t stage_bytes = STEP_WARPS * a.region_bytes;
  unsigned char *regions = shared + warp * a.region_bytes;
  float *weights = reinterpret_cast<float *>(shared + a.stages * stage_bytes);  // [2][I]
  float2 *parts = reinterpret_cast<float2 *>(weights + a.n_block32 * 64);       // [STEP_WARPS][ROWS]

  // Nothing here is written by other kernels of the step.
  if (a.norm_weight)
    for (int32_t at = (int32_t)threadIdx.x * 4; at < a.n_block32 * 32; at += STEP_THREADS * 4) {
      gpu_copy_async(weights + at, a.norm_weight + at, true);
      gpu_copy_async(weights + a.n_block32 * 32 + at, (a.norm_bias ? a.norm_bias : a.norm_weight) + at,
                     a.norm_bias != NULL);
    }
  gpu_copy_commit();
  int32_t tile = (int32_t)blockIdx.x;
  for (int32_t s = 0; s < a.stages; ++s) {
    int32_t ahead = tile + s * (int32_t)gridDim.x;
    if (ahead < a.n_tile)
      step_load_weights<tiles8, blocks32>(regions + s * stage_bytes, &a, ahead, column, count, lane);
    gpu_copy_commit();
  }
  step_inputs inputs[OWN];
#pragma unroll
  for (int o = 0; o < OWN; ++o) {
    int32_t unit = (int32_t)threadIdx.x + o * STEP_THREADS;
    step_read_bias(&inputs[o], &a, step_tile_of(&a, tile, FEATURES), unit % A_ROW * 2);
  }

  const gpu_bf16 *rows[rows16][2];  // a row behind the last is not read
#pragma unroll
  for (int m = 0; m < rows16; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      rows[m][half] = (const gpu_bf16 *)a.x + (first_row + 16 * m + 8 * half + lane / 4) * a.x_stride +
                      column + lane % 4 * 8;

  // What follows reads weights alone before it waits, and may have them travel by now. Attention, which follows the qkv
  // product, reads its plan and old rows too.
  constexpr bool plans_follow = kind == STEP_KIND_QKV || kind == STEP_KIND_ROTARY;
  if (!plans_follow)
    gpu_release_next();
  gpu_wait_previous();
  if (plans_follow)
    gpu_release_next();

  uint32_t x[blocks32][rows16][2][4];
#pragma unroll
  for (int i = 0; i < blocks32; ++i)
#pragma unroll
    for (int m = 0; m < rows16; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint4 piece = make_uint4(0, 0, 0, 0);
        if (i < count && 16 * m + 8 * half + lane / 4 < n_row)
          piece = __ldcg(reinterpret_cast<const uint4 *>(rows[m][half] + i * (STEP_WARPS * 32)));
        uint32_t *words = x[i][m][half];
        words[0] = piece.x, words[1] = piece.y, words[2] = piece.z, words[3] = piece.w;
      }
#pragma unroll
  for (int o = 0; o < OWN; ++o) {
    int32_t unit = (int32_t)threadIdx.x + o * STEP_THREADS, row = unit / A_ROW;
    if (row < n_row)
      step_read_inputs<kind>(&inputs[o], &a, step_tile_of(&a, tile, FEATURES), first_row + row,
                             unit % A_ROW * 2);
  }
  if constexpr (kind != STEP_KIND_RESIDUAL)
    if (a.norm_weight) {
      if (a.stages == 1)
        gpu_copy_wait<1>();
      else
        gpu_copy_wait<STEP_STAGES>();
      step_normalize<rows16, blocks32>(x, &a, parts, weights, count, n_row, warp, lane);
    }

  for (int32_t stage = 0;; stage = stage + 1 < a.stages ? stage + 1 : 0) {
    unsigned char *region = regions + stage * stage_bytes;
    if (a.stages == 1)
      gpu_copy_wait<0>();
    else
      gpu_copy_wait<STEP_STAGES - 1>();
    float sums[rows16][tiles8][4];
#pragma unroll
    for (int m = 0; m < rows16; ++m)
#pragma unroll
      for (int j = 0; j < tiles8; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k)
          sums[m][j][k] = 0;
#pragma unroll
    for (int i = 0; i < blocks32; ++i) {
      if (i >= count)
        break;
#pragma unroll
      for (int j = 0; j < tiles8; ++j) {
        uint4 piece = *reinterpret_cast<const uint4 *>(region + ((i * tiles8 + j) * 32 + lane) * 16);
        uint32_t first[2] = {piece.x, piece.y}, second[2] = {piece.z, piece.w};
#pragma unroll
        for (int m = 0; m < rows16; ++m) {
          uint32_t(*of)[4] = x[i][m];
          uint32_t a_first[4] = {of[0][0], of[1][0], of[0][1], of[1][1]};
          uint32_t a_second[4] = {of[0][2], of[1][2], of[0][3], of[1][3]};
          gpu_mma(sums[m][j], a_first, first);
          gpu_mma(sums[m][j], a_second, second);
        }
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
    gpu_sync_block();

    step_tile at = step_tile_of(&a, tile, FEATURES);
    int64_t place = (int64_t)tile * gridDim.y + blockIdx.y;
    float4 *partials = reinterpret_cast<float4 *>(a.partials) + place * gridDim.z * (ROWS * A_ROW);
    float totals[OWN][4];
#pragma unroll
    for (int o = 0; o < OWN; ++o) {
      int32_t unit = (int32_t)threadIdx.x + o * STEP_THREADS, row = unit / A_ROW, c = unit % A_ROW * 2;
      if (row >= n_row)
        break;
      float *total = totals[o];
      total[0] = total[1] = total[2] = total[3] = 0;
      const unsigned char *from = shared + stage * stage_bytes + (row * PITCH + c) * (int)sizeof(float);
#pragma unroll
      for (int w = 0; w < STEP_WARPS; ++w) {
        const float *part = reinterpret_cast<const float *>(from + w * a.region_bytes);
        float2 low = *reinterpret_cast<const float2 *>(part);
        float2 high = *reinterpret_cast<const float2 *>(part + FEATURES / 2);
        total[0] += low.x, total[1] += low.y, total[2] += high.x, total[3] += high.y;
      }
      if constexpr (kind == STEP_KIND_RESIDUAL)
        if (gridDim.z > 1) {
          partials[(int64_t)blockIdx.z * (ROWS * A_ROW) + unit] = make_float4(total[0], total[1], total[2],
                                                                              total[3]);
          continue;
        }
      step_finish<kind>(&a, &inputs[o], at, first_row + row, c, total);
    }
    if constexpr (kind == STEP_KIND_RESIDUAL) {
      if (gridDim.z > 1) {
        gpu_sync_block();  // this block's sums before its count
        if (threadIdx.x == 0)
          arrived[0] = gpu_count_arrival(a.counters + place);
        gpu_sync_block();  // the others' sums after their counts
        if (arrived[0] != (int32_t)gridDim.z - 1)
          return;
        if (threadIdx.x == 0)
          a.counters[place] = 0;
#pragma unroll
        for (int o = 0; o < OWN; ++o) {
          int32_t unit = (int32_t)threadIdx.x + o * STEP_THREADS, row = unit / A_ROW;
          if (row >= n_row)
            break;
          float *total = totals[o];
          total[0] = total[1] = total[2] = total[3] = 0;
          for (unsigned z = 0; z < gridDim.z; ++z) {
            float4 part = __ldcg(&partials[(int64_t)z * (ROWS * A_ROW) + unit]);
            total[0] += part.x, total[1] += part.y, total[2] += part.z, total[3] += part.w;
          }
          step_finish<kind>(&a, &inputs[o], at, first_row + row, unit % A_ROW * 2, total);
        }
      }
    }
    if constexpr (kind != STEP_KIND_LINEAR)
      return;  // one tile a block: inputs were read for it
    int32_t next = tile + a.stages * (int32_t)gridDim.x;
    tile += (int32_t)gridDim.x;
    if (tile >= a.n_tile)
      return;
#pragma unroll
    for (int o = 0; o < OWN; ++o) {
      int32_t unit = (int32_t)threadIdx.x + o * STEP_THREADS;
      step_read_bias(&inputs[o], &a, step_tile_of(&a, tile, FEATURES), unit % A_ROW * 2);
    }
    gpu_sync_block();  // the sums have been read
    if (next < a.n_tile)
      step_load_weights<tiles8, blocks32>(region, &a, next, column, count, lane);
    gpu_copy_commit();
  }
}

#endif
