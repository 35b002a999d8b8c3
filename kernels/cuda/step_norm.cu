// The norm of a decoding step where a product does not do it itself: few rows, whose time is one trip to memory and back.
//
// A warp (C <= 1024) or a block of 4 warps has a row, as in norm.cu and with its arithmetic; no statistics are kept. Weights
// and bias wait in registers before the rows are there.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/step_tile.h"

enum { WARP_COLUMNS = 1024, BLOCK_COLUMNS = 4096, BLOCK_WARPS = 4, ROWS_SPREAD = 512 };

typedef struct {
  gpu_bf16 *out;
  const gpu_bf16 *x;
  const float *weight, *bias;
  int64_t out_stride, x_stride;
  int32_t n, C;
  float reciprocal_C, epsilon;
  bool centred;  // layer norm
} norm_call;

// The sum over the `warps` warps of a row, in all of their threads. shared: [BLOCK_WARPS], one for each call.
template <int warps> static __device__ __forceinline__ float row_sum(float value, float *shared) {
  value = gpu_warp_sum(value);
  if constexpr (warps > 1) {
    if (threadIdx.x % 32 == 0)
      shared[threadIdx.x / 32] = value;
    gpu_sync_block();
    value = (shared[0] + shared[1]) + (shared[2] + shared[3]);
  } else {
    (void)shared;
  }
  return value;
}

// Thread `lane` of a row has the pieces lane, lane + lanes, ... of 8 columns.
template <int warps, int pieces>
static __global__ void __launch_bounds__(32 * BLOCK_WARPS) step_norm_kernel(norm_call call) {
  enum { LANES = 32 * warps, ELEMENTS = 8 * pieces };
  GPU_SHARED(float, shared, [2][BLOCK_WARPS]);
  int32_t lane = (int32_t)threadIdx.x % LANES, C = call.C;
  int32_t row = (int32_t)(blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES);
  // Before the wait: what follows is a product of the same op, which reads nothing but weights before it has waited for
  // this kernel. They are under way one kernel earlier.
  gpu_release_next();
  if (row >= call.n)  // whole warps; with several warps a row the grid fits
    return;
  float weight[ELEMENTS], bias[ELEMENTS], values[ELEMENTS];
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    int32_t c = (lane + p * LANES) * 8, inside = c < C ? c : 0;
    load_elements<8>(weight + 8 * p, call.weight + inside);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      bias[8 * p + i] = 0;
    if (call.bias)
      load_elements<8>(bias + 8 * p, call.bias + inside);
  }
  const gpu_bf16 *x = call.x + row * call.x_stride;
  gpu_wait_previous();
  float total = 0;
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    int32_t c = (lane + p * LANES) * 8;
    uint4 words = make_uint4(0, 0, 0, 0);
    if (c < C)
      words = __ldcg(reinterpret_cast<const uint4 *>(x + c));
    uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      values[8 * p + 2 * i] = gpu_low_bf16(pairs[i]), values[8 * p + 2 * i + 1] = gpu_high_bf16(pairs[i]);
  }
#pragma unroll
  for (int i = 0; i < ELEMENTS; ++i)
    total += values[i];
  float mean = call.centred ? row_sum<warps>(total, shared[0]) * call.reciprocal_C : 0.0f, squares = 0;
#pragma unroll
  for (int i = 0; i < ELEMENTS; ++i) {
    float centred = (lane + i / 8 * LANES) * 8 < C ? values[i] - mean : 0.0f;
    squares = fmaf(centred, centred, squares);
  }
  float scale = 1.0f / sqrtf(fmaf(row_sum<warps>(squares, shared[1]), call.reciprocal_C, call.epsilon));
  gpu_bf16 *out = call.out + row * call.out_stride;
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    int32_t c = (lane + p * LANES) * 8;
#pragma unroll
    for (int i = 8 * p; i < 8 * p + 8; ++i)
      values[i] = fmaf((values[i] - mean) * scale, weight[i], bias[i]);
    if (c < C)
      store_elements<8>(out + c, values + 8 * p);
  }
}

extern "C" bool step_norm_serves(ss_tensor out, ss_tensor x, ss_norm norm) {
  return x.dtype == SS_BF16 && x.cols <= BLOCK_COLUMNS && x.rows <= INT32_MAX - BLOCK_WARPS &&
         cuda_is_aligned(x) && cuda_is_aligned(out) && (uintptr_t)norm.weight.data % 16 == 0 &&
         (uintptr_t)norm.bias.data % 16 == 0;
}

template <int warps, int pieces> static ss_status launch(ss_device *device, const norm_call *call) {
  cuda_device *cuda = cuda_of(device);
  // Few rows: a multiprocessor each.
  int rows = warps > 1 || call->n <= ROWS_SPREAD ? 1 : BLOCK_WARPS;
  unsigned blocks = (unsigned)cuda_ceil_divide(call->n, rows), threads = (unsigned)(32 * warps * rows);
  // One carve-out for all of a step's kernels: a multiprocessor changes its own only when it is idle.
  CUDA_TRY(device, cudaFuncSetAttribute((step_norm_kernel<warps, pieces>),
                                        cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda), (step_norm_kernel<warps, pieces>), blocks, threads, 0,
                   cuda->stream, *call);
  CUDA_LAUNCHED(device, "step_norm");
  return SS_OK;
}

extern "C" ss_status step_norm(ss_device *device, ss_tensor out, ss_tensor x, ss_norm norm) {
  norm_call call = {};
  call.out = (gpu_bf16 *)out.data, call.x = (const gpu_bf16 *)x.data;
  call.weight = (const float *)norm.weight.data, call.bias = (const float *)norm.bias.data;
  call.out_stride = out.stride, call.x_stride = x.stride;
  call.n = (int32_t)x.rows, call.C = (int32_t)x.cols, call.reciprocal_C = 1.0f / (float)x.cols;
  call.epsilon = norm.epsilon, call.centred = norm.kind == SS_NORM_LAYER;
  if (call.C <= 256)
    return launch<1, 1>(device, &call);
  if (call.C <= 512)
    return launch<1, 2>(device, &call);
  if (call.C <= 768)
    return launch<1, 3>(device, &call);
  if (call.C <= WARP_COLUMNS)
    return launch<1, 4>(device, &call);
  if (call.C <= BLOCK_COLUMNS / 2)
    return launch<BLOCK_WARPS, 2>(device, &call);
  return launch<BLOCK_WARPS, 4>(device, &call);
}
