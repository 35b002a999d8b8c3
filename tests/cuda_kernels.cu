// Small kernels that use the primitives of gpu.cuh one by one: test_cuda_device.c.
#include "tests/cuda_kernels.h"

#include "kernels/cuda/gpu.cuh"

// --- d [16,8] += a [16,16] b [16,8], fragments loaded by hand ---
static __global__ void mma_kernel(float *d, const gpu_bf16 *a, const gpu_bf16 *b) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
    fragment_a[i] = gpu_pack_bf16(gpu_float(a[row * 16 + column]), gpu_float(a[row * 16 + column + 1]));
  }
  for (int i = 0; i < 2; ++i) {
    int k = 2 * t + 8 * i;
    fragment_b[i] = gpu_pack_bf16(gpu_float(b[k * 8 + g]), gpu_float(b[(k + 1) * 8 + g]));
  }
  float sum[4];
  for (int i = 0; i < 4; ++i)
    sum[i] = d[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  gpu_mma(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i)
    d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

extern "C" void test_mma(cuda_stream stream, float *d, const void *a, const void *b) {
  GPU_LAUNCH(mma_kernel, 1, 32, 0, (cudaStream_t)stream, d, (const gpu_bf16 *)a, (const gpu_bf16 *)b);
}

// --- the same through shared memory: asynchronous copies and ldmatrix; b as [16,8] (transposed load) or as its
// transpose [8,16] (plain load); a block of several warps, each with its own matrices ---
#define MMA_WARPS 4
static __global__ void tile_kernel(float *d, const gpu_bf16 *a, const gpu_bf16 *b, bool transposed) {
  GPU_DYNAMIC_SHARED(memory);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  gpu_bf16 *shared_a = (gpu_bf16 *)memory + warp * (16 * 16 + 16 * 8), *shared_b = shared_a + 16 * 16;
  a += (blockIdx.x * MMA_WARPS + warp) * 256;
  b += (blockIdx.x * MMA_WARPS + warp) * 128;
  d += (blockIdx.x * MMA_WARPS + warp) * 128;
  gpu_copy_async(shared_a + lane * 8, a + lane * 8, true);
  gpu_copy_commit();
  if (lane < 16)
    gpu_copy_async(shared_b + lane * 8, b + lane * 8, true);
  gpu_copy_commit();
  gpu_copy_wait<1>();
  gpu_sync_warp();
  uint32_t fragment_a[4], fragment_b[4];
  // Matrices 0..3: rows 0-7, rows 8-15 of the left half, then of the right half.
  gpu_load_matrix(fragment_a, shared_a + (lane % 16) * 16 + lane / 16 * 8);
  gpu_copy_wait<0>();
  gpu_sync_block();
  if (transposed)
    gpu_load_matrix_transposed(fragment_b, shared_b + lane % 16 * 8);
  else
    gpu_load_matrix(fragment_b, shared_b + lane % 8 * 16 + lane / 8 % 2 * 8);
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  gpu_mma(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i)
    d[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = sum[i];
}

extern "C" void test_tiles(cuda_stream stream, float *d, const void *a, const void *b, int n_block,
                           bool transposed) {
  GPU_LAUNCH(tile_kernel, n_block, MMA_WARPS * 32, MMA_WARPS * 2 * (256 + 128), (cudaStream_t)stream, d,
             (const gpu_bf16 *)a, (const gpu_bf16 *)b, transposed);
}

// --- warps: out [8, n] rows: shuffle from the lane below, shuffle xor 5, ballot of odd values, sum, maximum, exp2,
// tanh, bf16 pair ---
static __global__ void warp_kernel(float *out, const float *in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
  float x = in[i];
  out[i] = gpu_shuffle(x, (lane + 31) % 32);
  out[n + i] = gpu_shuffle_xor(x, 5);
  uint32_t bits = gpu_ballot(x > 0.0f);
  out[2 * n + i] = (float)(bits >> 16) + (float)(bits & 0xffff);
  out[3 * n + i] = gpu_warp_sum(x);
  out[4 * n + i] = gpu_warp_max(x);
  out[5 * n + i] = gpu_exp2(x);
  out[6 * n + i] = gpu_tanh(x);
  uint32_t pair = gpu_pack_bf16(x, 2.0f * x);
  out[7 * n + i] = gpu_low_bf16(pair) + gpu_high_bf16(pair);
}

extern "C" void test_warps(cuda_stream stream, float *out, const float *in, int n) {
  GPU_LAUNCH(warp_kernel, n / 128, 128, 0, (cudaStream_t)stream, out, in, n);
}

// --- blocks: out[b] = sum of in[b, 0..threads), by a tree in a static shared array ---
template <int threads> static __global__ void block_kernel(float *out, const float *in) {
  GPU_SHARED(float, partial, [threads]);
  partial[threadIdx.x] = in[blockIdx.x * threads + threadIdx.x];
  gpu_sync_block();
  for (int half = threads / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half)
      partial[threadIdx.x] += partial[threadIdx.x + half];
    gpu_sync_block();
  }
  if (threadIdx.x == 0)
    out[blockIdx.x] = partial[0];
}

extern "C" void test_blocks(cuda_stream stream, float *out, const float *in, int n_block) {
  GPU_LAUNCH((block_kernel<256>), n_block, 256, 0, (cudaStream_t)stream, out, in);
}

// --- copies: out [2, 128, 4] words: what a thread sees after waiting for the first of two groups, and after both; odd
// threads' second copy is not valid (zeros). The first look at the second group is only defined on the emulator. ---
static __global__ void copy_kernel(uint32_t *out, const uint32_t *in, bool look_early) {
  GPU_SHARED(uint4, first, [128]);
  GPU_SHARED(uint4, second, [128]);
  int i = threadIdx.x;
  uint4 *words = reinterpret_cast<uint4 *>(out);
  gpu_copy_async(&first[i], in + 4 * i, true);
  gpu_copy_commit();
  gpu_copy_async(&second[i], in + 4 * (128 + i), i % 2 == 0);
  gpu_copy_commit();
  gpu_copy_wait<1>();
  gpu_sync_block();
  uint4 seen = first[127 - i];
  words[i] = seen;
  if (look_early)
    words[256 + i] = second[i];
  gpu_copy_wait<0>();
  gpu_sync_block();
  seen = second[127 - i];
  words[128 + i] = seen;
}

extern "C" void test_copies(cuda_stream stream, void *out, const void *in, bool look_early) {
  GPU_LAUNCH(copy_kernel, 1, 128, 0, (cudaStream_t)stream, (uint32_t *)out, (const uint32_t *)in, look_early);
}

// --- defects, which the emulator must see (out [4 * 128]); never run on a GPU ---
static __global__ void defect_kernel(float *out, test_defect_kind kind) {
  GPU_SHARED(float, values, [128]);
  GPU_SHARED(uint4, pieces, [128]);
  int i = threadIdx.x;
  values[i] = 1.0f;
  switch (kind) {
  case DEFECT_NO_BARRIER:
    out[blockIdx.x * 128 + i] = values[(i + 32) % 128];
    break;
  case DEFECT_DIVERGED_BARRIER:
    if (i < 64)
      gpu_sync_block();
    break;
  case DEFECT_RETURNED_LANE:
    if (i % 32 != 7)
      out[i] = gpu_warp_sum(1.0f);
    break;
  case DEFECT_OTHER_OPERATION:
    if (i % 32 < 16)
      gpu_sync_warp();
    else
      out[i] = gpu_shuffle(1.0f, 0);
    break;
  case DEFECT_WRITE_BEYOND:
    out[4 * 128 + i] = 0.0f;
    break;
  case DEFECT_READ_BEYOND:
    values[i] = out[4 * 128 + i];
    out[i] = values[i];
    break;
  case DEFECT_MISALIGNED_COPY:
    gpu_copy_async(&pieces[i], out + 1, true);
    break;
  case DEFECT_COPY_FROM_NOWHERE:
    gpu_copy_async(&pieces[i], values, true);
    break;
  case DEFECT_COPY_TO_GLOBAL:
    gpu_copy_async(out, out, true);
    break;
  }
}

extern "C" void test_defect(cuda_stream stream, float *out, test_defect_kind kind) {
  GPU_LAUNCH(defect_kernel, kind == DEFECT_NO_BARRIER ? 4 : 1, 128, 0, (cudaStream_t)stream, out, kind);
}

// --- launches: 3-dimensional indices; out[z, y, x] counts up. Dynamic shared memory above 48 KB. ---
static __global__ void index_kernel(float *out) {
  GPU_DYNAMIC_SHARED(memory);
  int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, z = blockIdx.z;
  int width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
  memory[100000 + threadIdx.x + threadIdx.y * blockDim.x] = 1;
  out[(z * height + y) * width + x] = (float)((z * height + y) * width + x);
}

extern "C" bool test_indices(cuda_stream stream, float *out, bool allow) {
  // Without the attribute the launch fails.
  if (allow && gpu_allow_shared(index_kernel, 100 * 1024) != cudaSuccess)
    return false;
  GPU_LAUNCH(index_kernel, dim3(3, 2, 2), dim3(8, 4), 100 * 1024, (cudaStream_t)stream, out);
  return cudaGetLastError() == cudaSuccess;
}
