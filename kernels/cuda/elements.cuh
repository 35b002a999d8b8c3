// Rows of T (float or bf16) read and written as floats: `width` neighbouring elements a thread, in pieces of 16 bytes
// when width > 1 (the address must then be aligned to 16), one by one otherwise.
#ifndef SELFSPAN_KERNELS_CUDA_ELEMENTS_CUH
#define SELFSPAN_KERNELS_CUDA_ELEMENTS_CUH

#include "kernels/cuda/gpu.cuh"

// Elements of a piece: 4 floats, 8 bf16.
#define PIECE_OF(type) (16 / (int)sizeof(type))

template <int width> __device__ __forceinline__ void load_elements(float *values, const float *from) {
  if constexpr (width == 1) {
    values[0] = from[0];
  } else {
#pragma unroll
    for (int i = 0; i + 4 <= width; i += 4) {
      float4 piece = *reinterpret_cast<const float4 *>(from + i);
      values[i] = piece.x, values[i + 1] = piece.y, values[i + 2] = piece.z, values[i + 3] = piece.w;
    }
  }
}

template <int width> __device__ __forceinline__ void load_elements(float *values, const gpu_bf16 *from) {
  if constexpr (width == 1) {
    values[0] = gpu_float(from[0]);
  } else {
#pragma unroll
    for (int i = 0; i + 8 <= width; i += 8) {
      uint4 piece = *reinterpret_cast<const uint4 *>(from + i);
      values[i] = gpu_low_bf16(piece.x), values[i + 1] = gpu_high_bf16(piece.x);
      values[i + 2] = gpu_low_bf16(piece.y), values[i + 3] = gpu_high_bf16(piece.y);
      values[i + 4] = gpu_low_bf16(piece.z), values[i + 5] = gpu_high_bf16(piece.z);
      values[i + 6] = gpu_low_bf16(piece.w), values[i + 7] = gpu_high_bf16(piece.w);
    }
  }
}

template <int width> __device__ __forceinline__ void store_elements(float *to, const float *values) {
  if constexpr (width == 1) {
    to[0] = values[0];
  } else {
#pragma unroll
    for (int i = 0; i + 4 <= width; i += 4) {
      float4 piece;
      piece.x = values[i], piece.y = values[i + 1], piece.z = values[i + 2], piece.w = values[i + 3];
      *reinterpret_cast<float4 *>(to + i) = piece;
    }
  }
}

template <int width> __device__ __forceinline__ void store_elements(gpu_bf16 *to, const float *values) {
  if constexpr (width == 1) {
    to[0] = gpu_to_bf16(values[0]);
  } else {
#pragma unroll
    for (int i = 0; i + 8 <= width; i += 8) {
      uint4 piece;
      piece.x = gpu_pack_bf16(values[i], values[i + 1]);
      piece.y = gpu_pack_bf16(values[i + 2], values[i + 3]);
      piece.z = gpu_pack_bf16(values[i + 4], values[i + 5]);
      piece.w = gpu_pack_bf16(values[i + 6], values[i + 7]);
      *reinterpret_cast<uint4 *>(to + i) = piece;
    }
  }
}

// `count` values (an even number) as a tensor of T would hold them: in pairs, which is one fast instruction.
template <int count> __device__ __forceinline__ void round_elements(float *, const float *) {}
template <int count> __device__ __forceinline__ void round_elements(float *values, const gpu_bf16 *) {
#pragma unroll
  for (int i = 0; i + 2 <= count; i += 2) {
    uint32_t pair = gpu_pack_bf16(values[i], values[i + 1]);
    values[i] = gpu_low_bf16(pair), values[i + 1] = gpu_high_bf16(pair);
  }
}

#endif
