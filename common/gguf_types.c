// GGUF's tensor types: names, block sizes, and the dequantisation of whole blocks to fp32.
#include "common/gguf_private.h"
#include "common/half.h"

// Block layouts follow ggml-common.h; 32 values a block share a scale d, and with Q4_1 and Q5_1 a minimum m.
enum { BLOCK = 32, SUPER_BLOCK = 256 };

static void read_f32(const unsigned char *in, float *out) {
  *out = ss_float_of_bits(ss_load32(in));
}
static void read_f16(const unsigned char *in, float *out) {
  *out = ss_f16_value(ss_load16(in));
}
static void read_bf16(const unsigned char *in, float *out) {
  *out = ss_bf16_value(ss_load16(in));
}

static void read_q4_0(const unsigned char *in, float *out) {
  float d = ss_f16_value(ss_load16(in));
  for (int j = 0; j < BLOCK / 2; ++j) {
    out[j] = (float)((in[2 + j] & 15) - 8) * d;
    out[j + BLOCK / 2] = (float)((in[2 + j] >> 4) - 8) * d;
  }
}

static void read_q4_1(const unsigned char *in, float *out) {
  float d = ss_f16_value(ss_load16(in)), m = ss_f16_value(ss_load16(in + 2));
  for (int j = 0; j < BLOCK / 2; ++j) {
    out[j] = (float)(in[4 + j] & 15) * d + m;
    out[j + BLOCK / 2] = (float)(in[4 + j] >> 4) * d + m;
  }
}

// The fifth bits of a block's values stand in one word, value j's at bit j.
static int five_bits(const unsigned char *quants, uint32_t high, int j) {
  int low = j < BLOCK / 2 ? quants[j] & 15 : quants[j - BLOCK / 2] >> 4;
  return low | (int)(high >> j & 1) << 4;
}

static void read_q5_0(const unsigned char *in, float *out) {
  float d = ss_f16_value(ss_load16(in));
  for (int j = 0; j < BLOCK; ++j)
    out[j] = (float)(five_bits(in + 6, ss_load32(in + 2), j) - 16) * d;
}

static void read_q5_1(const unsigned char *in, float *out) {
  float d = ss_f16_value(ss_load16(in)), m = ss_f16_value(ss_load16(in + 2));
  for (int j = 0; j < BLOCK; ++j)
    out[j] = (float)five_bits(in + 8, ss_load32(in + 4), j) * d + m;
}

static void read_q8_0(const unsigned char *in, float *out) {
  float d = ss_f16_value(ss_load16(in));
  for (int j = 0; j < BLOCK; ++j)
    out[j] = (float)(int8_t)in[2 + j] * d;
}

// 256 values: 128 bytes of low nibbles, 64 of upper pairs of bits, 16 signed scales, d. In each half, byte l of the low
// nibbles serves values l and l + 64 (l < 64), byte l of the upper pairs values l, l + 32, l + 64 and l + 96 (l < 32).
static void read_q6_k(const unsigned char *in, float *out) {
  const unsigned char *low = in, *high = in + 128, *scales = in + 192;
  float d = ss_f16_value(ss_load16(in + 208));
  for (int i = 0; i < SUPER_BLOCK; ++i) {
    int half = i / 128, j = i % 128;
    int nibble = low[half * 64 + j % 64] >> (j < 64 ? 0 : 4) & 15;
    int pair = high[half * 32 + j % 32] >> (2 * (j / 32)) & 3;
    out[i] = d * (float)(int8_t)scales[i / 16] * (float)((nibble | pair << 4) - 32);
  }
}

static const gguf_type_row types[] = {
    [0] = {"F32", 1, 4, read_f32},
    [1] = {"F16", 1, 2, read_f16},
    [2] = {"Q4_0", BLOCK, 18, read_q4_0},
    [3] = {"Q4_1", BLOCK, 20, read_q4_1},
    [6] = {"Q5_0", BLOCK, 22, read_q5_0},
    [7] = {"Q5_1", BLOCK, 24, read_q5_1},
    [8] = {"Q8_0", BLOCK, 34, read_q8_0},
    [9] = {"Q8_1", 0, 0, NULL},
    [10] = {"Q2_K", 0, 0, NULL},
    [11] = {"Q3_K", 0, 0, NULL},
    [12] = {"Q4_K", 0, 0, NULL},
    [13] = {"Q5_K", 0, 0, NULL},
    [14] = {"Q6_K", SUPER_BLOCK, 210, read_q6_k},
    [15] = {"Q8_K", 0, 0, NULL},
    [16] = {"IQ2_XXS", 0, 0, NULL},
    [17] = {"IQ2_XS", 0, 0, NULL},
    [18] = {"IQ3_XXS", 0, 0, NULL},
    [19] = {"IQ1_S", 0, 0, NULL},
    [20] = {"IQ4_NL", 0, 0, NULL},
    [21] = {"IQ3_S", 0, 0, NULL},
    [22] = {"IQ2_S", 0, 0, NULL},
    [23] = {"IQ4_XS", 0, 0, NULL},
    [24] = {"I8", 0, 0, NULL},
    [25] = {"I16", 0, 0, NULL},
    [26] = {"I32", 0, 0, NULL},
    [27] = {"I64", 0, 0, NULL},
    [28] = {"F64", 0, 0, NULL},
    [29] = {"IQ1_M", 0, 0, NULL},
    [30] = {"BF16", 1, 2, read_bf16},
    [34] = {"TQ1_0", 0, 0, NULL},
    [35] = {"TQ2_0", 0, 0, NULL},
    [39] = {"MXFP4", 0, 0, NULL},
};

const gguf_type_row *gguf_type_find(int32_t type) {
  static const gguf_type_row unknown = {"unknown", 0, 0, NULL};
  int32_t n = (int32_t)(sizeof types / sizeof *types);
  return type >= 0 && type < n && types[type].name != NULL ? &types[type] : &unknown;
}

const char *gguf_type_name(int32_t type) {
  return gguf_type_find(type)->name;
}

bool gguf_type_readable(int32_t type) {
  return gguf_type_find(type)->read != NULL;
}
