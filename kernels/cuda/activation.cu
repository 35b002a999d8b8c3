// MLP activations: GELU (tanh form; Hendrycks, Gimpel 2016, arXiv 1606.08415) and SwiGLU (Shazeer 2020,
// arXiv 2002.05202).
//
// Both are products with a sigmoid: GELU(x) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). In BF16 the sigmoid
// is 1/2 + tanh(x/2)/2 with the hardware's tanh, whose error is below the output's rounding; in F32 it is exact.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

#define GELU_ROOT 0.7978845608028654f  // sqrt(2/pi)
#define GELU_CUBIC 0.044715f

enum { THREADS = 256 };

static __device__ __forceinline__ float sigmoid(float x, const float *) {
  return 1.0f / (1.0f + expf(-x));
}
static __device__ __forceinline__ float sigmoid(float x, const gpu_bf16 *) {
  return fmaf(0.5f, gpu_tanh(0.5f * x), 0.5f);
}

// One thread: `width` outputs. in: [n, F], or gate | up [n, 2F]
template <typename type, int width, bool swiglu>
__global__ void __launch_bounds__(THREADS)
    activation_forward_kernel(type *out, int64_t out_stride, const type *in, int64_t in_stride,
                              uint32_t n_piece, uint32_t pieces_a_row, int64_t F) {
  uint32_t piece = blockIdx.x * THREADS + threadIdx.x;
  if (piece >= n_piece)
    return;
  uint32_t row = piece / pieces_a_row, c = (piece - row * pieces_a_row) * width;
  float x[width], up[width];
  load_elements<width>(x, in + row * in_stride + c);
  if (swiglu)
    load_elements<width>(up, in + row * in_stride + F + c);
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if (swiglu) {
      x[i] = x[i] * sigmoid(x[i], in) * up[i];
    } else {
      float inner = fmaf(x[i] * x[i], GELU_CUBIC, 1.0f);
      x[i] *= sigmoid(2 * GELU_ROOT * x[i] * inner, in);
    }
  }
  store_elements<width>(out + row * out_stride + c, x);
}

template <typename type, int width, bool swiglu>
__global__ void __launch_bounds__(THREADS)
    activation_backward_kernel(type *din, int64_t din_stride, const type *dout, int64_t dout_stride,
                               const type *in, int64_t in_stride, uint32_t n_piece, uint32_t pieces_a_row,
                               int64_t F) {
  uint32_t piece = blockIdx.x * THREADS + threadIdx.x;
  if (piece >= n_piece)
    return;
  uint32_t row = piece / pieces_a_row, c = (piece - row * pieces_a_row) * width;
  float x[width], up[width], d[width];
  load_elements<width>(x, in + row * in_stride + c);
  load_elements<width>(d, dout + row * dout_stride + c);
  if (swiglu)
    load_elements<width>(up, in + row * in_stride + F + c);
#pragma unroll
  for (int i = 0; i < width; ++i) {
    if (swiglu) {
      float s = sigmoid(x[i], in), slope = s * fmaf(x[i], 1.0f - s, 1.0f), dx = d[i] * up[i] * slope;
      up[i] = d[i] * (x[i] * s);
      x[i] = dx;
    } else {
      float square = x[i] * x[i], inner = fmaf(square, GELU_CUBIC, 1.0f);
      float s = sigmoid(2 * GELU_ROOT * x[i] * inner, in);
      float slope = 2 * GELU_ROOT * fmaf(square, 3 * GELU_CUBIC, 1.0f);
      x[i] = d[i] * fmaf(s, x[i] * slope * (1.0f - s), s);
    }
  }
  store_elements<width>(din + row * din_stride + c, x);
  if (swiglu)
    store_elements<width>(din + row * din_stride + F + c, up);
}

template <typename type, int width, bool swiglu>
static ss_status launch_forward(ss_device *device, ss_tensor out, ss_tensor in) {
  int64_t pieces_a_row = out.cols / width, n_piece = out.rows * pieces_a_row;
  CUDA_REQUIRE(device, n_piece < UINT32_MAX - THREADS, "activation_forward: %lld elements are too many",
               (long long)(out.rows * out.cols));
  GPU_LAUNCH((activation_forward_kernel<type, width, swiglu>), (unsigned)cuda_ceil_divide(n_piece, THREADS),
             THREADS, 0, cuda_of(device)->stream, (type *)out.data, out.stride, (const type *)in.data,
             in.stride, (uint32_t)n_piece, (uint32_t)pieces_a_row, out.cols);
  CUDA_LAUNCHED(device, "activation_forward");
  return SS_OK;
}

template <typename type, int width, bool swiglu>
static ss_status launch_backward(ss_device *device, ss_tensor din, ss_tensor dout, ss_tensor in) {
  int64_t pieces_a_row = dout.cols / width, n_piece = dout.rows * pieces_a_row;
  CUDA_REQUIRE(device, n_piece < UINT32_MAX - THREADS, "activation_backward: %lld elements are too many",
               (long long)(dout.rows * dout.cols));
  GPU_LAUNCH((activation_backward_kernel<type, width, swiglu>), (unsigned)cuda_ceil_divide(n_piece, THREADS),
             THREADS, 0, cuda_of(device)->stream, (type *)din.data, din.stride, (const type *)dout.data,
             dout.stride, (const type *)in.data, in.stride, (uint32_t)n_piece, (uint32_t)pieces_a_row,
             dout.cols);
  CUDA_LAUNCHED(device, "activation_backward");
  return SS_OK;
}

// The dtype, the width and the kind become template arguments.
#define DISPATCH(launch, dtype, aligned, swiglu, ...)                                                    \
  ((dtype) == SS_BF16 ? (aligned)  ? (swiglu) ? launch<gpu_bf16, PIECE_OF(gpu_bf16), true>(__VA_ARGS__)  \
                                              : launch<gpu_bf16, PIECE_OF(gpu_bf16), false>(__VA_ARGS__) \
                         : (swiglu) ? launch<gpu_bf16, 1, true>(__VA_ARGS__)                             \
                                   : launch<gpu_bf16, 1, false>(__VA_ARGS__)                             \
   : (aligned) ? (swiglu) ? launch<float, PIECE_OF(float), true>(__VA_ARGS__)                            \
                          : launch<float, PIECE_OF(float), false>(__VA_ARGS__)                           \
   : (swiglu) ? launch<float, 1, true>(__VA_ARGS__)                                                      \
                      : launch<float, 1, false>(__VA_ARGS__))

ss_status cuda_activation_forward(ss_device *device, ss_activation_kind kind, ss_tensor out, ss_tensor in) {
  int64_t n = out.rows, F = out.cols;
  bool swiglu = kind == SS_ACTIVATION_SWIGLU;
  CUDA_REQUIRE(device,
               (out.dtype == SS_F32 || out.dtype == SS_BF16) && cuda_is_matrix(out, n, F, out.dtype) &&
                   cuda_is_matrix(in, n, swiglu ? 2 * F : F, out.dtype),
               "activation_forward: shapes do not fit together");
  if (n * F == 0)
    return SS_OK;
  bool aligned = cuda_is_aligned(out) && cuda_is_aligned(in);
  return DISPATCH(launch_forward, out.dtype, aligned, swiglu, device, out, in);
}

ss_status cuda_activation_backward(ss_device *device, ss_activation_kind kind, ss_tensor din, ss_tensor dout,
                                   ss_tensor in) {
  int64_t n = dout.rows, F = dout.cols;
  bool swiglu = kind == SS_ACTIVATION_SWIGLU;
  int64_t in_cols = swiglu ? 2 * F : F;
  CUDA_REQUIRE(device,
               (dout.dtype == SS_F32 || dout.dtype == SS_BF16) && cuda_is_matrix(dout, n, F, dout.dtype) &&
                   cuda_is_matrix(in, n, in_cols, dout.dtype) && cuda_is_matrix(din, n, in_cols, dout.dtype),
               "activation_backward: shapes do not fit together");
  if (n * F == 0)
    return SS_OK;
  bool aligned = cuda_is_aligned(din) && cuda_is_aligned(dout) && cuda_is_aligned(in);
  return DISPATCH(launch_backward, dout.dtype, aligned, swiglu, device, din, dout, in);
}
