// The inner loops of one instruction set. The including file defines VEC_WIDTH, vec, vec_mask and the VEC_
// operations, SIMD_TABLE and SIMD_NAME, and has included math.h, string.h and simd.h.
#define SIMD_INLINE static inline __attribute__((always_inline))

#include "kernels/cpu/simd_math.h"

#include "kernels/cpu/simd_rows.h"

#include "kernels/cpu/simd_attention.h"

#include "kernels/cpu/simd_attention_row.h"

const cpu_simd SIMD_TABLE = {
    .name = SIMD_NAME,
    .add = add,
    .gelu_forward = gelu_forward,
    .gelu_backward = gelu_backward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .rotate = rotate,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .linear_rows = linear_rows,
    .cross_entropy = cross_entropy,
    .adamw = adamw,
    .sum_squares = sum_squares,
    .attention_tile = attention_tile,
    .attention_tile_backward = attention_tile_backward,
    .attention_row = attention_row,
    .attention_row_merge = attention_row_merge,
};
