// Vector helpers and the exponential (part of simd_body.h).

// The first `count` < VEC_WIDTH floats, zeros behind them.
SIMD_INLINE vec vec_load_part(const float *p, int64_t count) {
  float padded[VEC_WIDTH] = {0};
  for (int64_t i = 0; i < count; ++i)
    padded[i] = p[i];
  return VEC_LOAD(padded);
}

SIMD_INLINE void vec_store_part(float *p, vec x, int64_t count) {
  float padded[VEC_WIDTH];
  VEC_STORE(padded, x);
  for (int64_t i = 0; i < count; ++i)
    p[i] = padded[i];
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
