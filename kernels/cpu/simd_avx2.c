// The inner loops for x86-64 with AVX2 and FMA.
#include "kernels/cpu/simd.h"

#ifdef CPU_SIMD_X86
#include <immintrin.h>
#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2")
#endif

#define VEC_WIDTH 8
typedef __m256 vec;
typedef __m256i vec_int;
typedef __m256 vec_mask;  // all bits of a lane
#define VEC_LOAD(p) _mm256_loadu_ps(p)
#define VEC_STORE(p, x) _mm256_storeu_ps(p, x)
// The first `count` lanes, 0 <= count; the others are zero, or not stored.
#define VEC_PART(count) \
  _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define VEC_LOAD_PART(p, count) _mm256_maskload_ps(p, VEC_PART(count))
#define VEC_STORE_PART(p, x, count) _mm256_maskstore_ps(p, VEC_PART(count), x)
#define VEC_SET(x) _mm256_set1_ps(x)
#define VEC_ZERO() _mm256_setzero_ps()
#define VEC_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)    // a b + c
#define VEC_FNMA(a, b, c) _mm256_fnmadd_ps(a, b, c)  // c - a b
#define VEC_ADD(a, b) _mm256_add_ps(a, b)
#define VEC_SUB(a, b) _mm256_sub_ps(a, b)
#define VEC_MUL(a, b) _mm256_mul_ps(a, b)
#define VEC_DIV(a, b) _mm256_div_ps(a, b)
#define VEC_MAX(a, b) _mm256_max_ps(a, b)  // b when either is NaN
#define VEC_SQRT(a) _mm256_sqrt_ps(a)
#define VEC_LESS(a, b) _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define VEC_SELECT(mask, a, b) _mm256_blendv_ps(b, a, mask)                 // mask ? a : b
#define VEC_FMA_WHERE(mask, a, b, c) VEC_SELECT(mask, VEC_FMA(a, b, c), c)  // mask ? a b + c : c
#define VEC_SCALE2(x, n) \
  _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_castps_si256(n), 23)))
#define VEC_LANES_FROM(first) \
  _mm256_castsi256_ps(        \
      _mm256_cmpgt_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((first)-1)))

static inline float vec_sum(vec a) {
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
#define VEC_SUM(a) vec_sum(a)

// r[i][j] becomes r[j][i].
static inline void vec_transpose(vec r[VEC_WIDTH]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 4) {
    __m256 low0 = _mm256_unpacklo_ps(r[i], r[i + 1]), high0 = _mm256_unpackhi_ps(r[i], r[i + 1]);
    __m256 low1 = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), high1 = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
    t[i] = _mm256_shuffle_ps(low0, low1, 0x44);
    t[i + 1] = _mm256_shuffle_ps(low0, low1, 0xEE);
    t[i + 2] = _mm256_shuffle_ps(high0, high1, 0x44);
    t[i + 3] = _mm256_shuffle_ps(high0, high1, 0xEE);
  }
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x20);
    r[4 + j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x31);
  }
}

#define SIMD_BLOCK 4  // rows of a register block of two vectors: 8 of 16 registers
#define SIMD_TABLE cpu_simd_avx2
#define SIMD_NAME "AVX2"
#include "kernels/cpu/simd_body.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int cpu_simd_avx2_is_for_x86;  // ISO C wants a declaration in every file
#endif
