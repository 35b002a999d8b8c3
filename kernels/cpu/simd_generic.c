// The inner loops for any machine: vectors of four floats, which compilers map to what there is.
#include <math.h>
#include <string.h>

#include "kernels/cpu/simd.h"

#define VEC_WIDTH 4
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
typedef vec_int vec_mask;  // all bits of a lane
typedef vec vec_unaligned __attribute__((aligned(4)));

static inline vec vec_set(float x) {
  return (vec){x, x, x, x};
}
static inline vec vec_select(vec_mask mask, vec a, vec b) {
  return (vec)((mask & (vec_int)a) | (~mask & (vec_int)b));
}
static inline vec vec_scale2(vec x, vec n) {
  typedef uint32_t vec_bits __attribute__((vector_size(16)));
  return (vec)((vec_bits)x + ((vec_bits)n << 23));
}
static inline vec_mask vec_lanes_from(int32_t first) {
  return (vec_int){0, 1, 2, 3} >= (vec_int){first, first, first, first};
}
// The first `count` lanes, 0 <= count; the others are zero, or not stored.
static inline vec vec_load_part(const float *p, int64_t count) {
  vec x = {0, 0, 0, 0};
  for (int64_t i = 0; i < count && i < 4; ++i)
    x[i] = p[i];
  return x;
}
static inline void vec_store_part(float *p, vec x, int64_t count) {
  for (int64_t i = 0; i < count && i < 4; ++i)
    p[i] = x[i];
}
#define VEC_LOAD_PART(p, count) vec_load_part(p, count)
#define VEC_STORE_PART(p, x, count) vec_store_part(p, x, count)

#define VEC_LOAD(p) (*(const vec_unaligned *)(p))
#define VEC_STORE(p, x) (*(vec_unaligned *)(p) = (x))
#define VEC_SET(x) vec_set(x)
#define VEC_ZERO() ((vec){0, 0, 0, 0})
#define VEC_FMA(a, b, c) ((a) * (b) + (c))
#define VEC_FNMA(a, b, c) ((c) - (a) * (b))
#define VEC_ADD(a, b) ((a) + (b))
#define VEC_SUB(a, b) ((a) - (b))
#define VEC_MUL(a, b) ((a) * (b))
#define VEC_DIV(a, b) ((a) / (b))
#define VEC_MAX(a, b) vec_select((b) < (a), a, b)  // b when either is NaN
#define VEC_SQRT(a) ((vec){sqrtf((a)[0]), sqrtf((a)[1]), sqrtf((a)[2]), sqrtf((a)[3])})
#define VEC_LESS(a, b) ((a) < (b))
#define VEC_SELECT(mask, a, b) vec_select(mask, a, b)                       // mask ? a : b
#define VEC_FMA_WHERE(mask, a, b, c) VEC_SELECT(mask, VEC_FMA(a, b, c), c)  // mask ? a b + c : c
#define VEC_SCALE2(x, n) vec_scale2(x, n)
#define VEC_LANES_FROM(first) vec_lanes_from(first)
#define VEC_SUM(a) (((a)[0] + (a)[2]) + ((a)[1] + (a)[3]))

// r[i][j] becomes r[j][i].
static inline void vec_transpose(vec r[VEC_WIDTH]) {
  for (int i = 0; i < VEC_WIDTH; ++i)
    for (int j = 0; j < i; ++j) {
      float swapped = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = swapped;
    }
}

#define SIMD_BLOCK 4  // rows of a register block of two vectors: 8 of 16 registers
#define SIMD_TABLE cpu_simd_generic
#define SIMD_NAME "generic SIMD"
#include "kernels/cpu/simd_body.h"
