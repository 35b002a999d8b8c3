// New rows of keys and values go to their places in the cache.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

enum { THREADS = 256 };

typedef struct {
  unsigned char *to;
  const unsigned char *from;
  int64_t to_stride, from_stride;  // bytes
} row_copy;

typedef struct {
  row_copy of[2];  // keys, values
} row_copies;

// One thread copies one `piece` (16 bytes, or an element of 4 or 2) of keys (blockIdx.y 0) or values. A slot outside
// the cache, which the host has checked, is not written.
template <typename piece>
__global__ void __launch_bounds__(THREADS)
    cache_append_kernel(row_copies copies, const int32_t *slots, uint32_t n_piece, uint32_t pieces_a_row,
                        int64_t n_slot) {
  uint32_t i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= n_piece)
    return;
  row_copy copy = blockIdx.y == 0 ? copies.of[0] : copies.of[1];
  uint32_t row = i / pieces_a_row, at = (i - row * pieces_a_row) * (uint32_t)sizeof(piece);
  int64_t slot = slots[row];
  if (slot >= 0 && slot < n_slot)
    *reinterpret_cast<piece *>(copy.to + slot * copy.to_stride + at) = *reinterpret_cast<const piece *>(
        copy.from + row * copy.from_stride + at);
}

static row_copy make_copy(ss_tensor to, ss_tensor from) {
  int64_t size = (int64_t)ss_dtype_size(from.dtype);
  row_copy copy = {(unsigned char *)to.data, (const unsigned char *)from.data, to.stride * size,
                   from.stride * size};
  return copy;
}

ss_status cuda_cache_append(ss_device *device, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                            ss_tensor slots) {
  int64_t n = k.rows, cols = k.cols;
  CUDA_REQUIRE(device,
               (k.dtype == SS_F32 || k.dtype == SS_BF16) && cuda_is_matrix(k, n, cols, k.dtype) &&
                   cuda_is_matrix(v, n, cols, k.dtype) && cuda_is_integers(slots, n) &&
                   cuda_is_matrix(k_cache, k_cache.rows, cols, k.dtype) &&
                   cuda_is_matrix(v_cache, v_cache.rows, cols, k.dtype),
               "cache_append: shapes do not fit together");
  if (n * cols == 0)
    return SS_OK;
  bool aligned = cuda_is_aligned(k) && cuda_is_aligned(v) && cuda_is_aligned(k_cache) &&
                 cuda_is_aligned(v_cache);
  int64_t size = (int64_t)ss_dtype_size(k.dtype), piece = aligned ? 16 : size;
  int64_t pieces_a_row = cols * size / piece, n_piece = n * pieces_a_row;
  CUDA_REQUIRE(device, n_piece < UINT32_MAX - THREADS, "cache_append: %lld elements are too many",
               (long long)(n * cols));
  int64_t n_slot = k_cache.rows < v_cache.rows ? k_cache.rows : v_cache.rows;
  row_copies copies = {{make_copy(k_cache, k), make_copy(v_cache, v)}};
  dim3 grid((unsigned)cuda_ceil_divide(n_piece, THREADS), 2);
  cudaStream_t stream = cuda_of(device)->stream;
  const int32_t *at = (const int32_t *)slots.data;
  if (aligned)
    GPU_LAUNCH(cache_append_kernel<uint4>, grid, THREADS, 0, stream, copies, at, (uint32_t)n_piece,
               (uint32_t)pieces_a_row, n_slot);
  else if (size == 4)
    GPU_LAUNCH(cache_append_kernel<uint32_t>, grid, THREADS, 0, stream, copies, at, (uint32_t)n_piece,
               (uint32_t)pieces_a_row, n_slot);
  else
    GPU_LAUNCH(cache_append_kernel<uint16_t>, grid, THREADS, 0, stream, copies, at, (uint32_t)n_piece,
               (uint32_t)pieces_a_row, n_slot);
  CUDA_LAUNCHED(device, "cache_append");
  return SS_OK;
}
