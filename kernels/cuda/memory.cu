// Device memory, copies between host and device, and conversions between dtypes.
#include "kernels/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/elements.cuh"

// Uploads go through a ring of page-locked chunks. A chunk is fenced by an event when it is full, and waited for only
// when the ring has come round: an upload returns at once unless 32 MiB are still on their way.
#define CHUNK_BYTES ((size_t)4 << 20)
#define CHUNKS 8
#define STAGING_ALIGNMENT ((size_t)256)

struct cuda_staging {
  unsigned char *host;  // [CHUNKS][CHUNK_BYTES], page-locked
  cudaEvent_t fences[CHUNKS];
  bool fenced[CHUNKS];
  int chunk;      // the one being filled
  size_t filled;  // bytes of it
};

extern "C" ss_status cuda_staging_create(ss_device *device) {
  cuda_staging *staging = (cuda_staging *)calloc(1, sizeof *staging);
  if (!staging)
    return ss_fail(&device->error, SS_ERROR_MEMORY, "out of memory: %zu bytes for CUDA staging",
                   sizeof *staging);
  cuda_of(device)->staging = staging;
  for (int i = 0; i < CHUNKS; ++i)
    CUDA_TRY(device, cudaEventCreateWithFlags(&staging->fences[i], cudaEventDisableTiming));
  CUDA_TRY(device, cudaHostAlloc((void **)&staging->host, CHUNKS * CHUNK_BYTES, cudaHostAllocDefault));
  return SS_OK;
}

extern "C" void cuda_staging_free(ss_device *device) {
  cuda_staging *staging = cuda_of(device)->staging;
  if (!staging)
    return;
  for (int i = 0; i < CHUNKS; ++i)
    if (staging->fences[i])
      cudaEventDestroy(staging->fences[i]);
  cudaFreeHost(staging->host);
  free(staging);
  cuda_of(device)->staging = NULL;
}

static ss_status next_chunk(ss_device *device) {
  cuda_staging *staging = cuda_of(device)->staging;
  CUDA_TRY(device, cudaEventRecord(staging->fences[staging->chunk], cuda_of(device)->stream));
  staging->fenced[staging->chunk] = true;
  staging->chunk = (staging->chunk + 1) % CHUNKS;
  staging->filled = 0;
  if (staging->fenced[staging->chunk])
    CUDA_TRY(device, cudaEventSynchronize(staging->fences[staging->chunk]));
  return SS_OK;
}

extern "C" ss_status cuda_upload(ss_device *device, void *device_data, const void *host, size_t bytes) {
  cuda_staging *staging = cuda_of(device)->staging;
  unsigned char *to = (unsigned char *)device_data;
  const unsigned char *from = (const unsigned char *)host;
  SS_TRY(cuda_refuse_recording(device, "upload"));  // the ring's memory will hold something else
  while (bytes > 0) {
    // A small upload is not cut in two.
    if (staging->filled == CHUNK_BYTES || (bytes <= CHUNK_BYTES / 4 && staging->filled + bytes > CHUNK_BYTES))
      SS_TRY(next_chunk(device));
    size_t room = CHUNK_BYTES - staging->filled, piece = bytes < room ? bytes : room;
    unsigned char *stage = staging->host + (size_t)staging->chunk * CHUNK_BYTES + staging->filled;
    memcpy(stage, from, piece);
    CUDA_TRY(device, cudaMemcpyAsync(to, stage, piece, cudaMemcpyHostToDevice, cuda_of(device)->stream));
    staging->filled += (piece + STAGING_ALIGNMENT - 1) / STAGING_ALIGNMENT * STAGING_ALIGNMENT;
    to += piece, from += piece, bytes -= piece;
  }
  return SS_OK;
}

extern "C" ss_status cuda_download(ss_device *device, void *host, const void *device_data, size_t bytes) {
  SS_TRY(cuda_refuse_recording(device, "download"));
  // To pageable memory the driver copies through its own page-locked buffers, in turns.
  if (bytes > 0)
    CUDA_TRY(device,
             cudaMemcpyAsync(host, device_data, bytes, cudaMemcpyDeviceToHost, cuda_of(device)->stream));
  CUDA_TRY(device, cudaStreamSynchronize(cuda_of(device)->stream));
  return SS_OK;
}

extern "C" ss_status cuda_download_async(ss_device *device, void *host, const void *device_data,
                                         size_t bytes) {
  if (bytes > 0)
    CUDA_TRY(device,
             cudaMemcpyAsync(host, device_data, bytes, cudaMemcpyDeviceToHost, cuda_of(device)->stream));
  return SS_OK;
}

extern "C" ss_status cuda_zero(ss_device *device, void *data, size_t bytes) {
  if (bytes > 0)
    CUDA_TRY(device, cudaMemsetAsync(data, 0, bytes, cuda_of(device)->stream));
  return SS_OK;
}

extern "C" ss_status cuda_synchronize(ss_device *device) {
  SS_TRY(cuda_refuse_recording(device, "synchronize"));
  CUDA_TRY(device, cudaStreamSynchronize(cuda_of(device)->stream));
  return SS_OK;
}

// ---------------------------------------------------------------- allocation

extern "C" ss_status cuda_memory_free(ss_device *device, size_t *free_bytes, size_t *total_bytes) {
  CUDA_TRY(device, cudaMemGetInfo(free_bytes, total_bytes));
  return SS_OK;
}

extern "C" ss_status cuda_allocate(ss_device *device, void **data, size_t bytes, const char *what) {
  *data = NULL;
  SS_TRY(cuda_refuse_recording(device, "allocate"));
  void *memory = NULL;
  cudaError_t code = cudaMalloc(&memory, bytes ? bytes : 1);
  if (code == cudaErrorMemoryAllocation) {
    size_t free_bytes = 0, total_bytes = 0;
    cudaGetLastError();
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return ss_fail(&device->error, SS_ERROR_MEMORY,
                   "cuda: out of memory: %zu bytes for %s (%zu of the GPU's %zu bytes are free)", bytes, what,
                   free_bytes, total_bytes);
  }
  CUDA_TRY(device, code);
  ss_status status = cuda_zero(device, memory, bytes);
  if (status != SS_OK)
    cudaFree(memory);
  else
    *data = memory;
  return status;
}

extern "C" void cuda_release(ss_device *device, void *data) {
  (void)device;
  cudaFree(data);  // waits for the kernels that use it
}

extern "C" ss_status cuda_allocate_host(ss_device *device, void **data, size_t bytes, const char *what) {
  *data = NULL;
  SS_TRY(cuda_refuse_recording(device, "allocate_host"));
  void *memory = NULL;
  cudaError_t code = cudaHostAlloc(&memory, bytes ? bytes : 1, cudaHostAllocDefault);
  if (code != cudaSuccess) {
    cudaGetLastError();
    return ss_fail(&device->error, SS_ERROR_MEMORY, "cuda: %zu bytes of page-locked host memory for %s: %s",
                   bytes, what, cudaGetErrorString(code));
  }
  memset(memory, 0, bytes ? bytes : 1);
  *data = memory;
  return SS_OK;
}

extern "C" void cuda_release_host(ss_device *device, void *data) {
  cudaStreamSynchronize(cuda_of(device)->stream);  // a download_async may still write to it
  cudaFreeHost(data);
}

// ---------------------------------------------------------------- conversion

#define CONVERT_THREADS 256
#define CONVERT_WIDTH 8  // elements a thread

// out[rows, cols] = in[rows, cols] in another dtype; `width` elements at a time, which must divide cols.
template <int width, typename out_type, typename in_type>
static __global__ void __launch_bounds__(CONVERT_THREADS)
    convert_kernel(out_type *out, int64_t out_stride, const in_type *in, int64_t in_stride, int64_t rows,
                   int64_t pieces /* cols / width */) {
  int64_t step = (int64_t)gridDim.x * CONVERT_THREADS;
  for (int64_t i = (int64_t)blockIdx.x * CONVERT_THREADS + threadIdx.x; i < rows * pieces; i += step) {
    int64_t row = rows == 1 ? 0 : i / pieces, c = (i - row * pieces) * width;
    float values[width];
    load_elements<width>(values, in + row * in_stride + c);
    store_elements<width>(out + row * out_stride + c, values);
  }
}

template <int width, typename out_type, typename in_type>
static ss_status convert(ss_device *device, ss_tensor out, ss_tensor in) {
  int64_t pieces = in.cols / width, most = (int64_t)cuda_of(device)->n_multiprocessor * 32;
  int64_t blocks = cuda_ceil_divide(in.rows * pieces, CONVERT_THREADS);
  GPU_LAUNCH((convert_kernel<width, out_type, in_type>), (unsigned)(blocks < most ? blocks : most),
             CONVERT_THREADS, 0, cuda_of(device)->stream, (out_type *)out.data, out.stride,
             (const in_type *)in.data, in.stride, in.rows, pieces);
  CUDA_LAUNCHED(device, "convert");
  return SS_OK;
}

extern "C" ss_status cuda_convert(ss_device *device, ss_tensor out, ss_tensor in) {
  CUDA_REQUIRE(device, in.rows >= 0 && in.cols >= 0 && in.stride >= in.cols, "convert: input [%lld, %lld]",
               (long long)in.rows, (long long)in.cols);
  if (in.rows == 0 || in.cols == 0)
    return SS_OK;
  CUDA_REQUIRE(device, in.data && cuda_is_matrix(out, in.rows, in.cols, out.dtype),
               "convert: output [%lld, %lld] for an input [%lld, %lld]", (long long)out.rows,
               (long long)out.cols, (long long)in.rows, (long long)in.cols);
  if (in.stride == in.cols && out.stride == out.cols) {
    in.cols = in.stride = out.cols = out.stride = in.rows * in.cols;
    in.rows = out.rows = 1;
  }
  if (out.dtype == in.dtype) {
    size_t size = ss_dtype_size(in.dtype);
    // One row has no pitch: it could exceed what a 2D copy takes.
    if (in.rows == 1) {
      CUDA_TRY(device, cudaMemcpyAsync(out.data, in.data, (size_t)in.cols * size, cudaMemcpyDeviceToDevice,
                                       cuda_of(device)->stream));
      return SS_OK;
    }
    CUDA_TRY(device, cudaMemcpy2DAsync(out.data, (size_t)out.stride * size, in.data, (size_t)in.stride * size,
                                       (size_t)in.cols * size, (size_t)in.rows, cudaMemcpyDeviceToDevice,
                                       cuda_of(device)->stream));
    return SS_OK;
  }
  CUDA_REQUIRE(device, out.dtype != SS_I32 && in.dtype != SS_I32, "convert: integers have no other dtype");
  bool wide = in.cols % CONVERT_WIDTH == 0 && cuda_is_aligned(out) && cuda_is_aligned(in);
  if (out.dtype == SS_BF16)
    return wide ? convert<CONVERT_WIDTH, gpu_bf16, float>(device, out, in)
                : convert<1, gpu_bf16, float>(device, out, in);
  return wide ? convert<CONVERT_WIDTH, float, gpu_bf16>(device, out, in)
              : convert<1, float, gpu_bf16>(device, out, in);
}
