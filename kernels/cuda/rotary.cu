// Rotary positions (Su et al. 2021, arXiv 2104.09864), pairs (d, d + head_dim/2) as in Llama.
//
// Angles are float products, as the models that define the convention compute them; the frequencies come from the
// host in double precision, because an error in them grows with the position.
#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

enum { THREADS = 128, ROWS = 4, ANGLES = 1024 };  // a block: rows, and cosines (and sines) that it keeps

typedef struct {
  float of[CUDA_ROTARY_PAIRS];
} rotary_frequencies;

// A block rotates `rows` rows: first their cosines and sines, once for all heads.
template <typename type, int width>
__global__ void __launch_bounds__(THREADS)
    rotary_kernel(type *x, int64_t stride, int64_t n, const int32_t *positions,
                  rotary_frequencies frequencies, int32_t rows, int32_t n_head, int32_t half, float sign) {
  GPU_SHARED(float, cosines, [ANGLES]);
  GPU_SHARED(float, sines, [ANGLES]);
  int64_t first = (int64_t)blockIdx.x * rows;
  if (n - first < rows)
    rows = (int32_t)(n - first);
  for (int32_t i = (int32_t)threadIdx.x; i < rows * half; i += THREADS) {
    float angle = (float)positions[first + i / half] * frequencies.of[i % half], sine, cosine;
    sincosf(angle, &sine, &cosine);
    cosines[i] = cosine;
    sines[i] = sine * sign;
  }
  gpu_sync_block();
  int32_t pieces_a_head = half / width, pieces_a_row = n_head * pieces_a_head;
  for (int32_t i = (int32_t)threadIdx.x; i < rows * pieces_a_row; i += THREADS) {
    int32_t row = i / pieces_a_row, piece = i - row * pieces_a_row, head = piece / pieces_a_head;
    int32_t d = (piece - head * pieces_a_head) * width;
    type *low = x + (first + row) * stride + (int64_t)head * 2 * half + d, *high = low + half;
    float a[width], b[width];
    load_elements<width>(a, low);
    load_elements<width>(b, high);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      float c = cosines[row * half + d + j], s = sines[row * half + d + j], old = a[j];
      a[j] = fmaf(-b[j], s, old * c);
      b[j] = fmaf(old, s, b[j] * c);
    }
    store_elements<width>(low, a);
    store_elements<width>(high, b);
  }
}

template <typename type, int width>
static ss_status launch(ss_device *device, ss_tensor x, const int32_t *positions,
                        const rotary_frequencies *frequencies, int32_t head_dim, float sign) {
  int32_t half = head_dim / 2, rows = ANGLES / half < ROWS ? ANGLES / half : ROWS;
  GPU_LAUNCH((rotary_kernel<type, width>), (unsigned)cuda_ceil_divide(x.rows, rows), THREADS, 0,
             cuda_of(device)->stream, (type *)x.data, x.stride, x.rows, positions, *frequencies, rows,
             (int32_t)(x.cols / head_dim), half, sign);
  CUDA_LAUNCHED(device, "rotary");
  return SS_OK;
}

const float *cuda_rotary_frequencies(ss_device *device, int64_t half, float theta) {
  cuda_device *cuda = cuda_of(device);
  if (cuda->rotary_half != half || cuda->rotary_theta != theta) {
    for (int64_t d = 0; d < half; ++d)
      cuda->rotary_frequencies[d] = (float)(1.0 / pow((double)theta, (double)d / (double)half));
    cuda->rotary_half = half;
    cuda->rotary_theta = theta;
  }
  return cuda->rotary_frequencies;
}

ss_status cuda_rotary(ss_device *device, ss_tensor x, ss_tensor positions, int32_t head_dim, float theta,
                      int32_t direction) {
  int64_t n = x.rows, half = head_dim / 2;
  CUDA_REQUIRE(device,
               (x.dtype == SS_F32 || x.dtype == SS_BF16) && cuda_is_matrix(x, n, x.cols, x.dtype) &&
                   cuda_is_integers(positions, n) && head_dim > 0 && head_dim % 2 == 0 &&
                   x.cols % head_dim == 0 && (direction == 1 || direction == -1),
               "rotary: shapes do not fit together");
  CUDA_REQUIRE(device, half <= CUDA_ROTARY_PAIRS, "rotary: head_dim %d is above %d", head_dim,
               2 * CUDA_ROTARY_PAIRS);
  if (n * x.cols == 0)
    return SS_OK;
  const float *known = cuda_rotary_frequencies(device, half, theta);
  rotary_frequencies frequencies;
  for (int64_t d = 0; d < CUDA_ROTARY_PAIRS; ++d)
    frequencies.of[d] = d < half ? known[d] : 0.0f;
  const int32_t *at = (const int32_t *)positions.data;
  bool aligned = cuda_is_aligned(x);
  if (x.dtype == SS_BF16)
    return aligned && half % PIECE_OF(gpu_bf16) == 0
               ? launch<gpu_bf16, PIECE_OF(gpu_bf16)>(device, x, at, &frequencies, head_dim, (float)direction)
               : launch<gpu_bf16, 1>(device, x, at, &frequencies, head_dim, (float)direction);
  return aligned && half % PIECE_OF(float) == 0
             ? launch<float, PIECE_OF(float)>(device, x, at, &frequencies, head_dim, (float)direction)
             : launch<float, 1>(device, x, at, &frequencies, head_dim, (float)direction);
}
