// The emulator's side of kernels/cuda/gemm.h: products as cuBLASLt documents them, column-major, one after the other on
// the CPU. Operands are rounded as the tensor cores would (TF32); sums are double, where a GPU's many partial sums in
// fp32 come closer to the truth than one long sum in fp32.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "kernels/cuda/gemm.h"

struct cuda_gemm_state {
  cuda_gemm_choices choices;
};

extern "C" ss_status cuda_gemm_create(ss_device *device) {
  cuda_gemm_state *state = (cuda_gemm_state *)calloc(1, sizeof *state);
  cuda_of(device)->gemm = state;
  if (!state)
    return ss_fail(&device->error, SS_ERROR_MEMORY, "out of memory");
  state->choices.gelu_forward = state->choices.gelu_backward = true;
  return SS_OK;
}

extern "C" void cuda_gemm_free(ss_device *device) {
  free(cuda_of(device)->gemm);
  cuda_of(device)->gemm = NULL;
}

extern "C" cuda_gemm_choices *cuda_gemm_choices_of(ss_device *device) {
  return &cuda_of(device)->gemm->choices;
}

// The manual's conditions: aux with a leading dimension divisible by 8; gradients of biases and GELU in bf16 only.
extern "C" bool cuda_gemm_offers(ss_device *device, const cuda_product *p) {
  if (p->epilogue == CUDA_GEMM_PLAIN)
    return true;
  if (cuda_of(device)->gemm->choices.never_library || !cuda_product_fits(p))
    return false;
  if (p->epilogue == CUDA_GEMM_GELU || p->epilogue == CUDA_GEMM_GELU_SLOPE)
    return p->out.dtype == SS_BF16 && (!p->aux.data || p->aux.stride % 8 == 0);
  return p->epilogue == CUDA_GEMM_BIAS || p->a.dtype == SS_BF16;
}

static float value_at(const void *data, int64_t index, ss_dtype dtype) {
  return dtype == SS_BF16 ? gpu_float(((const gpu_bf16 *)data)[index]) : ((const float *)data)[index];
}

static void store_at(void *data, int64_t index, ss_dtype dtype, float value) {
  if (dtype == SS_BF16)
    ((gpu_bf16 *)data)[index] = gpu_to_bf16(value);
  else
    ((float *)data)[index] = value;
}

static float round_tf32(float x) {
  uint32_t bits = __float_as_uint(x);
  return __uint_as_float((bits + 0xfffu + (bits >> 13 & 1)) & 0xffffe000u);
}

// A stored column-major [rows, cols] as op(x) [first, second] in row-major floats.
static std::vector<float> operand(const void *data, int64_t rows, int64_t cols, int64_t leading,
                                  bool transpose, ss_dtype dtype, bool tf32) {
  if (!emulated_is_device_memory(data, (size_t)((cols - 1) * leading + rows) * ss_dtype_size(dtype)))
    emulated_abort("an operand of a matrix product is not in device memory");
  std::vector<float> out((size_t)(rows * cols));
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = 0; r < rows; ++r) {
      float x = value_at(data, c * leading + r, dtype);
      out[(size_t)(transpose ? c * rows + r : r * cols + c)] = tf32 ? round_tf32(x) : x;
    }
  return out;
}

static float gelu_inner(float x) {
  return tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
}
static float gelu(float x) {
  return 0.5f * x * (1.0f + gelu_inner(x));
}
static float gelu_slope(float x) {
  float t = gelu_inner(x);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3.0f * 0.044715f * x * x);
}

static void multiply(ss_device *device, const cuda_product *p) {
  cuda_column_major c = cuda_column_major_of(p);
  emulated_device_work();
  ss_dtype in = p->a.dtype, out = p->out.dtype;
  bool tf32 = in == SS_F32 && cuda_of(device)->precision == SS_PRECISION_TF32;
  std::vector<float> a = operand(c.a, c.a_rows, c.a_cols, c.a_leading, c.transpose_a, in, tf32);   // [m,k]
  std::vector<float> b = operand(c.b, c.b_rows, c.b_cols, c.b_leading, !c.transpose_b, in, tf32);  // [n,k]
  if (!emulated_is_device_memory(c.d, (size_t)((c.n - 1) * c.d_leading + c.m) * ss_dtype_size(out)))
    emulated_abort("the output of a matrix product is not in device memory");
  // An epilogue's vector: m values added, or the sums of op(b) over k written, n values.
  if (p->epilogue == CUDA_GEMM_BIAS_GRADIENT)
    for (int64_t j = 0; j < c.n; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k)
        sum += b[(size_t)(j * c.k + k)];
      store_at(p->bias.data, j, p->bias.dtype, (float)sum);
    }
  bool has_bias = p->bias.data && p->epilogue != CUDA_GEMM_BIAS_GRADIENT;
  for (int64_t j = 0; j < c.n; ++j)
    for (int64_t i = 0; i < c.m; ++i) {
      const float *a_row = a.data() + i * c.k, *b_row = b.data() + j * c.k;
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k)
        sum += (double)a_row[k] * b_row[k];
      int64_t at = j * c.d_leading + i;
      float value = p->alpha * (float)sum;
      if (p->beta != 0.0f)
        value += p->beta * value_at(c.d, at, out);
      if (has_bias)
        value += value_at(p->bias.data, i, p->bias.dtype);
      if (p->epilogue == CUDA_GEMM_GELU) {
        if (p->aux.data)
          store_at(p->aux.data, j * p->aux.stride + i, p->aux.dtype, value);
        value = gelu(value);
      }
      if (p->epilogue == CUDA_GEMM_GELU_SLOPE)
        value *= gelu_slope(value_at(p->aux.data, j * p->aux.stride + i, p->aux.dtype));
      store_at(c.d, at, out, value);
    }
}

// A product in a captured graph.
struct recorded_product {
  ss_device *device;
  cuda_product product;
};

static void run_recorded(void *data) {
  const recorded_product *recorded = (const recorded_product *)data;
  multiply(recorded->device, &recorded->product);
}

extern "C" ss_status cuda_gemm(ss_device *device, const cuda_product *p) {
  CUDA_REQUIRE(device, cuda_product_fits(p) && cuda_gemm_offers(device, p),
               "matrix product: shapes do not fit together");
  cuda_column_major c = cuda_column_major_of(p);
  if (c.m == 0 || c.n == 0)
    return SS_OK;
  if (cuda_of(device)->gemm->choices.never_library)
    return cuda_gemm_fallback(device, p);
  if (emulated_recording(cuda_of(device)->stream))
    *(recorded_product *)emulated_record(run_recorded, sizeof(recorded_product)) = {device, *p};
  else
    multiply(device, p);
  return SS_OK;
}
