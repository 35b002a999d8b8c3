// The inner loops for x86-64 with AVX-512 (F, DQ, BW, VL). Intrinsics, so that no build flag is needed and
// multiply-adds are fused whatever -ffp-contract says.
#include "kernels/cpu/simd.h"

#ifdef CPU_SIMD_X86
#include <immintrin.h>
#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi2,prefer-vector-width=512")
#endif

#define VEC_WIDTH 16
typedef __m512 vec;
typedef __m512i vec_int;
typedef __mmask16 vec_mask;
#define VEC_LOAD(p) _mm512_loadu_ps(p)
#define VEC_STORE(p, x) _mm512_storeu_ps(p, x)
// The first `count` lanes, 0 <= count; the others are zero, or not stored.
#define VEC_PART(count) ((__mmask16)_bzhi_u32(0xFFFF, (unsigned)(count)))
#define VEC_LOAD_PART(p, count) _mm512_maskz_loadu_ps(VEC_PART(count), p)
#define VEC_STORE_PART(p, x, count) _mm512_mask_storeu_ps(p, VEC_PART(count), x)
#define VEC_SET(x) _mm512_set1_ps(x)
#define VEC_ZERO() _mm512_setzero_ps()
#define VEC_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)    // a b + c
#define VEC_FNMA(a, b, c) _mm512_fnmadd_ps(a, b, c)  // c - a b
#define VEC_ADD(a, b) _mm512_add_ps(a, b)
#define VEC_SUB(a, b) _mm512_sub_ps(a, b)
#define VEC_MUL(a, b) _mm512_mul_ps(a, b)
#define VEC_DIV(a, b) _mm512_div_ps(a, b)
#define VEC_MAX(a, b) _mm512_max_ps(a, b)  // b when either is NaN
#define VEC_SQRT(a) _mm512_sqrt_ps(a)
#define VEC_LESS(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define VEC_SELECT(mask, a, b) _mm512_mask_blend_ps(mask, b, a)            // mask ? a : b
#define VEC_FMA_WHERE(mask, a, b, c) _mm512_mask3_fmadd_ps(a, b, c, mask)  // mask ? a b + c : c
#define VEC_SUM(a) _mm512_reduce_add_ps(a)
#define VEC_LANES_FROM(first) ((vec_mask)((first) <= 0 ? 0xFFFF : (first) >= 16 ? 0 : 0xFFFFu << (first)))
#define VEC_SCALE2(x, n) \
  _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_castps_si512(n), 23)))

// r[i][j] becomes r[j][i].
static inline void vec_transpose(vec r[VEC_WIDTH]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 4) {
    __m512d low0 = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
    __m512d high0 = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
    __m512d low1 = _mm512_castps_pd(_mm512_unpacklo_ps(r[i + 2], r[i + 3]));
    __m512d high1 = _mm512_castps_pd(_mm512_unpackhi_ps(r[i + 2], r[i + 3]));
    t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
    t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
    t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
    t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
  }
  for (int j = 0; j < 4; ++j) {  // now the 4x4 grid of 128-bit lanes
    __m512 a = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x44), b = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xEE);
    __m512 c = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x44);
    __m512 d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xEE);
    r[j] = _mm512_shuffle_f32x4(a, c, 0x88);
    r[4 + j] = _mm512_shuffle_f32x4(a, c, 0xDD);
    r[8 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
    r[12 + j] = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}

#define SIMD_BLOCK 8  // rows of a register block of two vectors: 16 of 32 registers
#define SIMD_TABLE cpu_simd_avx512
#define SIMD_NAME "AVX-512"
#include "kernels/cpu/simd_body.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int cpu_simd_avx512_is_for_x86;  // ISO C wants a declaration in every file
#endif
