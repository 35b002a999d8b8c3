// 16-bit floating-point numbers as files keep them: IEEE 754 binary16 and bfloat16, to and from fp32.
#ifndef SELFSPAN_COMMON_HALF_H
#define SELFSPAN_COMMON_HALF_H

#include <stdint.h>
#include <string.h>

static inline float ss_float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint16_t ss_load16(const unsigned char *bytes) {
  return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t ss_load32(const unsigned char *bytes) {
  return ss_load16(bytes) | (uint32_t)ss_load16(bytes + 2) << 16;
}

static inline uint64_t ss_load64(const unsigned char *bytes) {
  return ss_load32(bytes) | (uint64_t)ss_load32(bytes + 4) << 32;
}

static inline float ss_f16_value(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31)
    return ss_float_of_bits(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact
    float value = (float)fraction * 0x1p-24f;
    return sign ? -value : value;
  }
  return ss_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline float ss_bf16_value(uint16_t half) {
  return ss_float_of_bits((uint32_t)half << 16);
}

// Rounds to nearest, ties to even; a NaN stays one.
static inline uint16_t ss_bf16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return (uint16_t)(bits >> 16 | 64);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
