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
#define VEC_SELECT(mask, a, b) _mm512_mask_blend_ps(mask, b, a)  // mask ? a : b
#define VEC_SUM(a) _mm512_reduce_add_ps(a)
#define VEC_LANES_FROM(first) ((vec_mask)((first) <= 0 ? 0xFFFF : (first) >= 16 ? 0 : 0xFFFFu << (first)))
#define VEC_SCALE2(x, n) \
  _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_castps_si512(n), 23)))

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
