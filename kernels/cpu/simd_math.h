// Vector helpers and the exponential (part of simd_body.h).

// Keeps the compiler from spreading a pointer over one register for each of its constant offsets.
#define SIMD_ONE_POINTER(pointer) __asm__("" : "+r"(pointer))

// Lanes of a row of n that a vector at i holds.
SIMD_INLINE int64_t lanes_left(int64_t n, int64_t i) {
  int64_t left = n - i;
  return left < 0 ? 0 : left < VEC_WIDTH ? left : VEC_WIDTH;
}

static float dot(const float *a, const float *b, int64_t n) {
  vec sum = VEC_ZERO();
  int64_t i = 0;
  for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
    sum = VEC_FMA(VEC_LOAD(a + i), VEC_LOAD(b + i), sum);
  float result = VEC_SUM(sum);
  for (; i < n; ++i)
    result += a[i] * b[i];
  return result;
}

// e^x within 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, a minimax polynomial in r (Cephes expf's coefficients) times
// 2^n. Below -87 the result is zero (it would be near the smallest normal number), above 88.72 infinity; NaN stays.
SIMD_INLINE vec vec_exp(vec x) {
  vec shifted = VEC_FMA(x, VEC_SET(1.44269504f), VEC_SET(0x1.8p23f));  // its low bits hold n
  vec n = VEC_SUB(shifted, VEC_SET(0x1.8p23f));
  vec r = VEC_FNMA(n, VEC_SET(0.693359375f), x);
  r = VEC_FNMA(n, VEC_SET(-2.12194440e-4f), r);
  vec p = VEC_SET(1.9875691500e-4f);
  p = VEC_FMA(p, r, VEC_SET(1.3981999507e-3f));
  p = VEC_FMA(p, r, VEC_SET(8.3334519073e-3f));
  p = VEC_FMA(p, r, VEC_SET(4.1665795894e-2f));
  p = VEC_FMA(p, r, VEC_SET(1.6666665459e-1f));
  p = VEC_FMA(p, r, VEC_SET(5.0000001201e-1f));
  p = VEC_FMA(p, VEC_MUL(r, r), VEC_ADD(r, VEC_SET(1.0f)));
  vec result = VEC_SCALE2(p, shifted);
  result = VEC_SELECT(VEC_LESS(x, VEC_SET(-87.0f)), VEC_ZERO(), result);
  // The product serves what is not below the limit: infinity, and NaN for NaN.
  return VEC_SELECT(VEC_LESS(x, VEC_SET(88.7228f)), result, VEC_MUL(x, VEC_SET(INFINITY)));
}

SIMD_INLINE vec vec_sigmoid(vec x) {
  vec one = VEC_SET(1.0f);
  return VEC_DIV(one, VEC_ADD(one, vec_exp(VEC_SUB(VEC_ZERO(), x))));
}
