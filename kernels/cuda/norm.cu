// Residual addition and layer norm or RMS norm.
//
// A warp (C <= 1024) or a block of 128 threads (C <= 4096) owns a row and keeps it in registers from the first read
// to the last write; other widths and unaligned rows go element by element. The norm is taken of the sum as it is
// stored, rounded to T, so that the gradient, which sees only that, is the gradient of what was computed.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

enum {
  FORWARD_THREADS = 128,
  SLOW_THREADS = 128,
  REDUCE_WARPS = 32,
  WARP_COLUMNS = 1024,
  BLOCK_COLUMNS = 4096
};

// The sum over the `lanes` threads of a row (32, or the block's 128), in all of them. shared: [4], one for each call
// between two block barriers.
template <int lanes> static __device__ __forceinline__ float row_sum(float value, float *shared) {
  value = gpu_warp_sum(value);
  if constexpr (lanes == 128) {
    if (threadIdx.x % 32 == 0)
      shared[threadIdx.x / 32] = value;
    gpu_sync_block();
    value = (shared[0] + shared[1]) + (shared[2] + shared[3]);
  } else {
    (void)shared;
  }
  return value;
}

// --- forward ---

typedef struct {
  void *out, *sum;  // sum is NULL when it is x itself
  float *statistics;
  const void *x, *branch;
  const float *weight, *bias;
  int64_t out_stride, sum_stride, statistics_stride, x_stride, branch_stride;
  int64_t n;
  int32_t C;
  float reciprocal_C, epsilon;
  bool centred;  // layer norm
} forward_call;

// Thread `lane` of a row holds the pieces lane, lane + lanes, ... of it, `elements` values in all.
template <typename type, int lanes, int elements>
static __global__ void __launch_bounds__(FORWARD_THREADS) norm_forward_kernel(forward_call call) {
  constexpr int width = PIECE_OF(type), pieces = elements / width;
  GPU_SHARED(float, shared, [2][4]);
  int32_t lane = (int32_t)threadIdx.x % lanes, C = call.C;
  int64_t row = (int64_t)blockIdx.x * (FORWARD_THREADS / lanes) + threadIdx.x / lanes;
  if (row >= call.n)  // whole warps; with lanes == 128 the grid fits
    return;
  const type *x = (const type *)call.x + row * call.x_stride;
  // All loads go out before the first is waited for: a piece behind the row reads its first column and
  // becomes 0, without a branch x is read twice.
  const type *branch = call.branch ? (const type *)call.branch + row * call.branch_stride : x;
  float values[elements], added[elements];
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    int32_t c = (lane + p * lanes) * width, inside = c < C ? c : 0;
    load_elements<width>(values + p * width, x + inside);
    load_elements<width>(added + p * width, branch + inside);
  }
#pragma unroll
  for (int i = 0; i < elements; ++i)
    values[i] += call.branch ? added[i] : 0.0f;
  round_elements<elements>(values, x);
#pragma unroll
  for (int i = 0; i < elements; ++i)
    if ((lane + i / width * lanes) * width >= C)
      values[i] = 0;
  if (call.sum) {
    type *sum = (type *)call.sum + row * call.sum_stride;
#pragma unroll
    for (int p = 0; p < pieces; ++p) {
      int32_t c = (lane + p * lanes) * width;
      if (c < C)
        store_elements<width>(sum + c, values + p * width);
    }
  }
  float mean = 0;
  if (call.centred) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < elements; ++i)
      total += values[i];
    mean = row_sum<lanes>(total, shared[0]) * call.reciprocal_C;
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < elements; ++i) {
    float centred = (lane + i / width * lanes) * width < C ? values[i] - mean : 0.0f;
    squares = fmaf(centred, centred, squares);
  }
  float scale = 1.0f / sqrtf(fmaf(row_sum<lanes>(squares, shared[1]), call.reciprocal_C, call.epsilon));
  type *out = (type *)call.out + row * call.out_stride;
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    int32_t c = (lane + p * lanes) * width, inside = c < C ? c : 0;
    float weight[width], bias[width];
    load_elements<width>(weight, call.weight + inside);
#pragma unroll
    for (int i = 0; i < width; ++i)
      bias[i] = 0;
    if (call.bias)
      load_elements<width>(bias, call.bias + inside);
#pragma unroll
    for (int i = 0; i < width; ++i)
      values[p * width + i] = fmaf((values[p * width + i] - mean) * scale, weight[i], bias[i]);
    if (c < C)
      store_elements<width>(out + c, values + p * width);
  }
  if (lane == 0) {
    call.statistics[row * call.statistics_stride] = mean;
    call.statistics[row * call.statistics_stride + 1] = scale;
  }
}

// Any width and alignment: a block a row; a thread reads back what it wrote itself.
template <typename type>
static __global__ void __launch_bounds__(SLOW_THREADS) norm_forward_slow_kernel(forward_call call) {
  GPU_SHARED(float, shared, [2][4]);
  int64_t row = blockIdx.x;
  const type *x = (const type *)call.x + row * call.x_stride;
  const type *branch = call.branch ? (const type *)call.branch + row * call.branch_stride : NULL;
  const type *source = x;
  float total = 0;
  if (call.sum) {
    type *sum = (type *)call.sum + row * call.sum_stride;
    for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS) {
      float value = gpu_float(x[c]);
      if (branch)
        value += gpu_float(branch[c]);
      store_elements<1>(sum + c, &value);
    }
    source = sum;
  }
  for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS)
    total += gpu_float(source[c]);
  total = row_sum<SLOW_THREADS>(total, shared[0]);
  float mean = call.centred ? total / (float)call.C : 0.0f, squares = 0;
  for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS) {
    float value = gpu_float(source[c]) - mean;
    squares = fmaf(value, value, squares);
  }
  float scale = 1.0f / sqrtf(row_sum<SLOW_THREADS>(squares, shared[1]) / (float)call.C + call.epsilon);
  type *out = (type *)call.out + row * call.out_stride;
  for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS) {
    float value = (gpu_float(source[c]) - mean) * scale * call.weight[c];
    if (call.bias)
      value += call.bias[c];
    store_elements<1>(out + c, &value);
  }
  if (threadIdx.x == 0) {
    call.statistics[row * call.statistics_stride] = mean;
    call.statistics[row * call.statistics_stride + 1] = scale;
  }
}

// Whether a vector of floats can be read beside pieces of T.
static bool is_aligned_vector(ss_tensor t) {
  return (uintptr_t)t.data % 16 == 0;
}

template <typename type>
static ss_status launch_forward(ss_device *device, const forward_call *call, bool aligned) {
  cudaStream_t stream = cuda_of(device)->stream;
  unsigned by_warp = (unsigned)cuda_ceil_divide(call->n, FORWARD_THREADS / 32), by_block = (unsigned)call->n;
  if (!aligned || call->C > BLOCK_COLUMNS)
    GPU_LAUNCH(norm_forward_slow_kernel<type>, by_block, SLOW_THREADS, 0, stream, *call);
  else if (call->C <= 256)
    GPU_LAUNCH((norm_forward_kernel<type, 32, 8>), by_warp, FORWARD_THREADS, 0, stream, *call);
  else if (call->C <= 768)
    GPU_LAUNCH((norm_forward_kernel<type, 32, 24>), by_warp, FORWARD_THREADS, 0, stream, *call);
  else if (call->C <= WARP_COLUMNS)
    GPU_LAUNCH((norm_forward_kernel<type, 32, 32>), by_warp, FORWARD_THREADS, 0, stream, *call);
  else
    GPU_LAUNCH((norm_forward_kernel<type, 128, 32>), by_block, FORWARD_THREADS, 0, stream, *call);
  CUDA_LAUNCHED(device, "norm_forward");
  return SS_OK;
}

ss_status cuda_norm_forward(ss_device *device, ss_norm_kind kind, ss_tensor out, ss_tensor sum,
                            ss_tensor statistics, ss_tensor x, ss_tensor branch, ss_tensor weight,
                            ss_tensor bias, float epsilon) {
  int64_t n = out.rows, C = out.cols;
  ss_dtype T = out.dtype;
  CUDA_REQUIRE(device,
               (T == SS_F32 || T == SS_BF16) && cuda_is_matrix(out, n, C, T) &&
                   cuda_is_matrix(sum, n, C, T) && cuda_is_matrix(x, n, C, T) &&
                   cuda_is_matrix(statistics, n, 2, SS_F32) && cuda_is_matrix(weight, 1, C, SS_F32) &&
                   (!branch.data || cuda_is_matrix(branch, n, C, T)) &&
                   (!bias.data || cuda_is_matrix(bias, 1, C, SS_F32)) && C <= INT32_MAX / 2,
               "norm_forward: shapes do not fit together");
  if (n * C == 0)
    return SS_OK;
  bool in_place = !branch.data && sum.data == x.data && sum.stride == x.stride;
  forward_call call;
  call.out = out.data, call.sum = in_place ? NULL : sum.data, call.x = x.data, call.branch = branch.data;
  call.statistics = (float *)statistics.data;
  call.weight = (const float *)weight.data, call.bias = (const float *)bias.data;
  call.out_stride = out.stride, call.sum_stride = sum.stride, call.x_stride = x.stride;
  call.branch_stride = branch.stride, call.statistics_stride = statistics.stride;
  call.n = n, call.C = (int32_t)C, call.reciprocal_C = 1.0f / (float)C, call.epsilon = epsilon,
  call.centred = kind == SS_NORM_LAYER;
  bool aligned = cuda_is_aligned(out) && cuda_is_aligned(sum) && cuda_is_aligned(x) &&
                 (!branch.data || cuda_is_aligned(branch)) && is_aligned_vector(weight) &&
                 is_aligned_vector(bias);
  return T == SS_BF16 ? launch_forward<gpu_bf16>(device, &call, aligned)
                      : launch_forward<float>(device, &call, aligned);
}

// --- backward ---
// Blocks take rows in turn and keep their share of dweight and dbias in registers; a second kernel adds the blocks'
// sums in order.

typedef struct {
  void *dsum;
  float *partial;  // [n_block, 2, C]: dweight, dbias
  const void *dout, *sum;
  const float *statistics, *weight;
  int64_t dsum_stride, dout_stride, sum_stride, statistics_stride;
  int64_t n;
  int32_t C;
  float reciprocal_C;
  bool centred;
} backward_call;

enum { BACKWARD_THREADS = 128 };
// Blocks for each multiprocessor: as many as have registers for `elements` values of three rows and two sums.
#define BACKWARD_BLOCKS(elements, size) ((elements) <= 8 ? 6 : (elements) <= 24 && (size) == 2 ? 3 : 2)

template <typename type, int lanes, int elements>
static __global__ void __launch_bounds__(BACKWARD_THREADS, BACKWARD_BLOCKS(elements, sizeof(type)))
    norm_backward_kernel(backward_call call) {
  constexpr int width = PIECE_OF(type), pieces = elements / width, rows = BACKWARD_THREADS / lanes;
  GPU_SHARED(float, shared, [2][2][4]);  // two sums, of even and odd rows
  int32_t lane = (int32_t)threadIdx.x % lanes, C = call.C;
  float dweight[elements], dbias[elements];
#pragma unroll
  for (int i = 0; i < elements; ++i)
    dweight[i] = dbias[i] = 0;
  int parity = 0;
  for (int64_t row = (int64_t)blockIdx.x * rows + threadIdx.x / lanes; row < call.n;
       row += (int64_t)gridDim.x * rows) {
    float mean = call.statistics[row * call.statistics_stride];
    float scale = call.statistics[row * call.statistics_stride + 1];
    const type *dout = (const type *)call.dout + row * call.dout_stride;
    const type *sum = (const type *)call.sum + row * call.sum_stride;
    type *dsum = (type *)call.dsum + row * call.dsum_stride;
    // All loads go out before the first is waited for: a piece behind the row reads its first column, with weight 0.
    float weighted[elements], normal[elements], gradient[elements];
#pragma unroll
    for (int p = 0; p < pieces; ++p) {
      int32_t c = (lane + p * lanes) * width, inside = c < C ? c : 0;
      load_elements<width>(weighted + p * width, dout + inside);
      load_elements<width>(normal + p * width, sum + inside);
      load_elements<width>(gradient + p * width, dsum + inside);
    }
    float total = 0, total_normal = 0;
#pragma unroll
    for (int p = 0; p < pieces; ++p) {
      int32_t c = (lane + p * lanes) * width;
      float weight[width];
      load_elements<width>(weight, call.weight + (c < C ? c : 0));
#pragma unroll
      for (int i = 0; i < width; ++i) {
        int e = p * width + i;
        float d = weighted[e];
        normal[e] = (normal[e] - mean) * scale;
        weighted[e] = d * (c < C ? weight[i] : 0.0f);
        total += weighted[e];
        total_normal = fmaf(weighted[e], normal[e], total_normal);
        dweight[e] = fmaf(d, normal[e], dweight[e]);
        dbias[e] += d;
      }
    }
    // Two sets of words: a warp may be one row ahead of another.
    float mean_normal = row_sum<lanes>(total_normal, shared[parity][0]) * call.reciprocal_C,
          mean_weighted = 0;
    if (call.centred)
      mean_weighted = row_sum<lanes>(total, shared[parity][1]) * call.reciprocal_C;
    parity ^= 1;
#pragma unroll
    for (int e = 0; e < elements; ++e)
      gradient[e] = fmaf(fmaf(-normal[e], mean_normal, weighted[e] - mean_weighted), scale, gradient[e]);
#pragma unroll
    for (int p = 0; p < pieces; ++p) {
      int32_t c = (lane + p * lanes) * width;
      if (c < C)
        store_elements<width>(dsum + c, gradient + p * width);
    }
  }
  float *partial = call.partial + (int64_t)blockIdx.x * 2 * C;
  if constexpr (lanes == BACKWARD_THREADS) {
#pragma unroll
    for (int p = 0; p < pieces; ++p) {
      int32_t c = (lane + p * lanes) * width;
      if (c < C) {
        store_elements<width>(partial + c, dweight + p * width);
        store_elements<width>(partial + C + c, dbias + p * width);
      }
    }
  } else {
    GPU_SHARED(float, sums, [2 * lanes * elements]);
    for (int turn = 0; turn < rows; ++turn) {
      if ((int)threadIdx.x / lanes == turn) {
#pragma unroll
        for (int p = 0; p < pieces; ++p)
#pragma unroll
          for (int i = 0; i < width; ++i) {
            int32_t at = p * lanes * width + i * lanes + lane, e = p * width + i;
            sums[at] = turn == 0 ? dweight[e] : sums[at] + dweight[e];
            sums[lanes * elements + at] = turn == 0 ? dbias[e] : sums[lanes * elements + at] + dbias[e];
          }
      }
      gpu_sync_block();
    }
    for (int32_t at = (int32_t)threadIdx.x; at < lanes * elements; at += BACKWARD_THREADS) {
      int32_t p = at / (lanes * width), i = at / lanes % width, c = (p * lanes + at % lanes) * width + i;
      if (c < C) {
        partial[c] = sums[at];
        partial[C + c] = sums[lanes * elements + at];
      }
    }
  }
}

// Any width and alignment: a block takes rows in turn and adds to its partial sums in memory.
template <typename type>
static __global__ void __launch_bounds__(SLOW_THREADS) norm_backward_slow_kernel(backward_call call) {
  GPU_SHARED(float, shared, [2][2][4]);
  float *partial = call.partial + (int64_t)blockIdx.x * 2 * call.C;
  for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS)
    partial[c] = partial[call.C + c] = 0;
  int parity = 0;
  for (int64_t row = blockIdx.x; row < call.n; row += gridDim.x) {
    float mean = call.statistics[row * call.statistics_stride];
    float scale = call.statistics[row * call.statistics_stride + 1];
    const type *dout = (const type *)call.dout + row * call.dout_stride;
    const type *sum = (const type *)call.sum + row * call.sum_stride;
    type *dsum = (type *)call.dsum + row * call.dsum_stride;
    float total = 0, total_normal = 0;
    for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS) {
      float d = gpu_float(dout[c]), normal = (gpu_float(sum[c]) - mean) * scale,
            weighted = d * call.weight[c];
      total += weighted;
      total_normal = fmaf(weighted, normal, total_normal);
      partial[c] = fmaf(d, normal, partial[c]);
      partial[call.C + c] += d;
    }
    float mean_normal = row_sum<SLOW_THREADS>(total_normal, shared[parity][0]) / (float)call.C;
    float mean_weighted = 0;
    if (call.centred)
      mean_weighted = row_sum<SLOW_THREADS>(total, shared[parity][1]) / (float)call.C;
    parity ^= 1;
    for (int32_t c = (int32_t)threadIdx.x; c < call.C; c += SLOW_THREADS) {
      float normal = (gpu_float(sum[c]) - mean) * scale;
      float inner = gpu_float(dout[c]) * call.weight[c] - mean_weighted;
      float gradient = fmaf(fmaf(-normal, mean_normal, inner), scale, gpu_float(dsum[c]));
      store_elements<1>(dsum + c, &gradient);
    }
  }
}

// dweight and dbias += the blocks' sums: lane = column of [2, C], the block's warps take the partials in turn.
static __global__ void __launch_bounds__(32 * REDUCE_WARPS)
    norm_reduce_kernel(float *dweight, float *dbias, const float *partial, int32_t n_block, int32_t C) {
  GPU_SHARED(float, sums, [REDUCE_WARPS][32]);
  int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
  int32_t c = (int32_t)blockIdx.x * 32 + lane;
  float sum = 0;
  if (c < 2 * C) {
#pragma unroll 8
    for (int32_t b = warp; b < n_block; b += REDUCE_WARPS)
      sum += partial[(int64_t)b * 2 * C + c];
  }
  sums[warp][lane] = sum;
  gpu_sync_block();
  if (warp == 0 && c < 2 * C) {
    sum = 0;
    for (int32_t w = 0; w < REDUCE_WARPS; ++w)
      sum += sums[w][lane];
    if (c < C)
      dweight[c] += sum;
    else if (dbias)
      dbias[c - C] += sum;
  }
}

template <typename type>
static void launch_backward(cudaStream_t stream, const backward_call *call, unsigned n_block, bool aligned) {
  if (!aligned || call->C > BLOCK_COLUMNS)
    GPU_LAUNCH(norm_backward_slow_kernel<type>, n_block, SLOW_THREADS, 0, stream, *call);
  else if (call->C <= 256)
    GPU_LAUNCH((norm_backward_kernel<type, 32, 8>), n_block, BACKWARD_THREADS, 0, stream, *call);
  else if (call->C <= 768)
    GPU_LAUNCH((norm_backward_kernel<type, 32, 24>), n_block, BACKWARD_THREADS, 0, stream, *call);
  else if (call->C <= WARP_COLUMNS)
    GPU_LAUNCH((norm_backward_kernel<type, 32, 32>), n_block, BACKWARD_THREADS, 0, stream, *call);
  else
    GPU_LAUNCH((norm_backward_kernel<type, 128, 32>), n_block, BACKWARD_THREADS, 0, stream, *call);
}

ss_status cuda_norm_backward(ss_device *device, ss_norm_kind kind, ss_tensor dsum, ss_tensor dweight,
                             ss_tensor dbias, ss_tensor dout, ss_tensor sum, ss_tensor statistics,
                             ss_tensor weight) {
  cuda_device *cuda = cuda_of(device);
  int64_t n = dsum.rows, C = dsum.cols;
  ss_dtype T = dsum.dtype;
  CUDA_REQUIRE(device,
               (T == SS_F32 || T == SS_BF16) && cuda_is_matrix(dsum, n, C, T) &&
                   cuda_is_matrix(dout, n, C, T) && cuda_is_matrix(sum, n, C, T) &&
                   cuda_is_matrix(statistics, n, 2, SS_F32) && cuda_is_matrix(weight, 1, C, SS_F32) &&
                   cuda_is_matrix(dweight, 1, C, SS_F32) &&
                   (!dbias.data || cuda_is_matrix(dbias, 1, C, SS_F32)) && C <= INT32_MAX / 2,
               "norm_backward: shapes do not fit together");
  if (n * C == 0)
    return SS_OK;
  bool aligned = cuda_is_aligned(dsum) && cuda_is_aligned(dout) && cuda_is_aligned(sum) &&
                 is_aligned_vector(weight);
  bool by_warp = aligned && C <= WARP_COLUMNS;
  int64_t wanted = cuda_ceil_divide(n, by_warp ? BACKWARD_THREADS / 32 : 1);
  int elements = C <= 256 ? 8 : C <= 768 ? 24 : 32;
  int64_t most = (int64_t)cuda->n_multiprocessor * BACKWARD_BLOCKS(elements, ss_dtype_size(T));
  int64_t n_block = wanted < most ? wanted : most;
  void *partial;
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &partial, (size_t)(n_block * 2 * C) * sizeof(float)));
  backward_call call;
  call.dsum = dsum.data, call.partial = (float *)partial, call.dout = dout.data, call.sum = sum.data;
  call.statistics = (const float *)statistics.data, call.weight = (const float *)weight.data;
  call.dsum_stride = dsum.stride, call.dout_stride = dout.stride, call.sum_stride = sum.stride;
  call.statistics_stride = statistics.stride;
  call.n = n, call.C = (int32_t)C, call.reciprocal_C = 1.0f / (float)C, call.centred = kind == SS_NORM_LAYER;
  if (T == SS_BF16)
    launch_backward<gpu_bf16>(cuda->stream, &call, (unsigned)n_block, aligned);
  else
    launch_backward<float>(cuda->stream, &call, (unsigned)n_block, aligned);
  CUDA_LAUNCHED(device, "norm_backward");
  GPU_LAUNCH(norm_reduce_kernel, (unsigned)cuda_ceil_divide(2 * C, 32), 32 * REDUCE_WARPS, 0, cuda->stream,
             (float *)dweight.data, (float *)dbias.data, (const float *)partial, (int32_t)n_block,
             (int32_t)C);
  CUDA_LAUNCHED(device, "norm_backward");
  return SS_OK;
}
