// Linear layers: products by gemm.h, and what cuBLASLt does not fuse into them or not fast enough.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/gemm.h"

// --- column sums: the gradient of a bias ---

#define SUM_ROWS 256  // rows of a chunk; partial sums are added in the order of the chunks
#define SUM_WARPS 8
#define SUM_LOADS 8  // of a lane in flight

// partial[chunk, cols] = sums over SUM_ROWS rows of in[n, cols]. A lane holds `width` columns; a block 32 lanes'
// columns of one chunk, its warps every eighth row.
template <typename type, int width>
static __global__ void column_sum_chunks(float *partial, const type *in, int64_t stride, int64_t n,
                                         int64_t cols) {
  GPU_SHARED(float, sums, [SUM_WARPS][32 * 8]);
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  const int64_t first_col = (int64_t)blockIdx.x * 32 * width, first = (int64_t)blockIdx.y * SUM_ROWS;
  const int rows = (int)(n - first < SUM_ROWS ? n - first : SUM_ROWS);
  float sum[width];
#pragma unroll
  for (int j = 0; j < width; ++j)
    sum[j] = 0.0f;
  if (first_col + lane * width < cols) {
    const type *at = in + first * stride + first_col + lane * width;
    int r = warp;
    for (; r + SUM_WARPS * (SUM_LOADS - 1) < rows; r += SUM_WARPS * SUM_LOADS) {
      float x[SUM_LOADS][width];
#pragma unroll
      for (int i = 0; i < SUM_LOADS; ++i)
        load_elements<width>(x[i], at + (int64_t)(r + i * SUM_WARPS) * stride);
#pragma unroll
      for (int i = 0; i < SUM_LOADS; ++i)
#pragma unroll
        for (int j = 0; j < width; ++j)
          sum[j] += x[i][j];
    }
    for (; r < rows; r += SUM_WARPS) {
      float x[width];
      load_elements<width>(x, at + (int64_t)r * stride);
#pragma unroll
      for (int j = 0; j < width; ++j)
        sum[j] += x[j];
    }
  }
#pragma unroll
  for (int j = 0; j < width; ++j)
    sums[warp][lane * width + j] = sum[j];
  gpu_sync_block();
  const int col = (int)threadIdx.x;
  if (col < 32 * width && first_col + col < cols) {
    float total = sums[0][col];
    for (int w = 1; w < SUM_WARPS; ++w)
      total += sums[w][col];
    partial[blockIdx.y * cols + first_col + col] = total;
  }
}

// out[cols] += sums of partial[chunks, cols]. Block (32, 32): 32 columns, every 32nd chunk to a thread.
static __global__ void column_sum_finish(float *out, const float *partial, int64_t chunks, int64_t cols) {
  GPU_SHARED(float, sums, [32][33]);
  const int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x;
  float sum = 0.0f;
  if (col < cols)
    for (int64_t c = threadIdx.y; c < chunks; c += 32)
      sum += partial[c * cols + col];
  sums[threadIdx.y][threadIdx.x] = sum;
  gpu_sync_block();
  if (threadIdx.y == 0 && col < cols) {
    for (int i = 1; i < 32; ++i)
      sum += sums[i][threadIdx.x];
    out[col] += sum;
  }
}

static ss_status finish_column_sums(ss_device *device, ss_tensor out, const float *partial, int64_t chunks) {
  dim3 grid((unsigned)cuda_ceil_divide(out.cols, 32)), block(32, 32);
  GPU_LAUNCH(column_sum_finish, grid, block, 0, cuda_of(device)->stream, (float *)out.data, partial, chunks,
             out.cols);
  CUDA_LAUNCHED(device, "column_sum_finish");
  return SS_OK;
}

template <typename type, int width>
static ss_status column_sums_of(ss_device *device, float *partial, ss_tensor in, int64_t chunks) {
  dim3 grid((unsigned)cuda_ceil_divide(in.cols, 32 * width), (unsigned)chunks);
  GPU_LAUNCH((column_sum_chunks<type, width>), grid, 32 * SUM_WARPS, 0, cuda_of(device)->stream, partial,
             (const type *)in.data, in.stride, in.rows, in.cols);
  CUDA_LAUNCHED(device, "column_sum_chunks");
  return SS_OK;
}

// dbias[1,O] += column sums of dout[n,O]
static ss_status add_column_sums(ss_device *device, ss_tensor dbias, ss_tensor dout) {
  int64_t chunks = cuda_ceil_divide(dout.rows, SUM_ROWS);
  void *partial;  // [chunks, O]
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &partial, (size_t)(chunks * dout.cols) * sizeof(float)));
  bool aligned = cuda_is_aligned(dout);
  if (dout.dtype == SS_BF16 && aligned)
    SS_TRY((column_sums_of<gpu_bf16, PIECE_OF(gpu_bf16)>(device, (float *)partial, dout, chunks)));
  else if (dout.dtype == SS_BF16)
    SS_TRY((column_sums_of<gpu_bf16, 1>(device, (float *)partial, dout, chunks)));
  else if (aligned)
    SS_TRY((column_sums_of<float, PIECE_OF(float)>(device, (float *)partial, dout, chunks)));
  else
    SS_TRY((column_sums_of<float, 1>(device, (float *)partial, dout, chunks)));
  return finish_column_sums(device, dbias, (const float *)partial, chunks);
}

// --- a bias where no epilogue adds it ---

// Block (32, 8): 32 columns, 8 rows.
template <typename out_type, typename bias_type>
static __global__ void add_bias_kernel(out_type *out, int64_t stride, const bias_type *bias, int64_t n,
                                       int64_t cols) {
  const int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x, row = (int64_t)blockIdx.y * 8 + threadIdx.y;
  if (col >= cols || row >= n)
    return;
  out_type *at = out + row * stride + col;
  float sum = gpu_float(*at) + gpu_float(bias[col]);
  store_elements<1>(at, &sum);
}

static ss_status add_bias(ss_device *device, ss_tensor out, ss_tensor bias) {
  cudaStream_t stream = cuda_of(device)->stream;
  // 65535 is the most that a grid may have in y.
  for (int64_t first = 0; first < out.rows; first += 8 * 65535) {
    ss_tensor part = ss_rows(out, first, out.rows - first < 8 * 65535 ? out.rows - first : 8 * 65535);
    dim3 grid((unsigned)cuda_ceil_divide(part.cols, 32), (unsigned)cuda_ceil_divide(part.rows, 8)),
        block(32, 8);
    if (part.dtype == SS_BF16)
      GPU_LAUNCH((add_bias_kernel<gpu_bf16, gpu_bf16>), grid, block, 0, stream, (gpu_bf16 *)part.data,
                 part.stride, (const gpu_bf16 *)bias.data, part.rows, part.cols);
    else if (bias.dtype == SS_BF16)
      GPU_LAUNCH((add_bias_kernel<float, gpu_bf16>), grid, block, 0, stream, (float *)part.data, part.stride,
                 (const gpu_bf16 *)bias.data, part.rows, part.cols);
    else
      GPU_LAUNCH((add_bias_kernel<float, float>), grid, block, 0, stream, (float *)part.data, part.stride,
                 (const float *)bias.data, part.rows, part.cols);
    CUDA_LAUNCHED(device, "add_bias");
  }
  return SS_OK;
}

// --- the product of last resort ---

#define TILE 16

// Operands and output as in cuda_product, with element strides for both directions of op(a) and op(b).
typedef struct {
  int64_t M, N, K;
  int64_t a_row, a_col, b_row, b_col, out_stride;
  float alpha, beta;
} fallback_shape;

// Block (TILE, TILE): a thread an element of out.
template <typename out_type, typename in_type>
static __global__ void multiply_fallback(out_type *out, const in_type *a, const in_type *b,
                                         fallback_shape s) {
  GPU_SHARED(float, a_tile, [TILE][TILE + 1]);
  GPU_SHARED(float, b_tile, [TILE][TILE + 1]);
  const int x = (int)threadIdx.x, y = (int)threadIdx.y;
  const int64_t row = (int64_t)blockIdx.y * TILE + y, col = (int64_t)blockIdx.x * TILE + x;
  float sum = 0.0f;
  for (int64_t k = 0; k < s.K; k += TILE) {
    a_tile[y][x] = row < s.M && k + x < s.K ? gpu_float(a[row * s.a_row + (k + x) * s.a_col]) : 0.0f;
    b_tile[y][x] = k + y < s.K && col < s.N ? gpu_float(b[(k + y) * s.b_row + col * s.b_col]) : 0.0f;
    gpu_sync_block();
    for (int i = 0; i < TILE; ++i)
      sum += a_tile[y][i] * b_tile[i][x];
    gpu_sync_block();
  }
  if (row >= s.M || col >= s.N)
    return;
  out_type *at = out + row * s.out_stride + col;
  sum = s.alpha * sum + (s.beta != 0.0f ? s.beta * gpu_float(*at) : 0.0f);
  store_elements<1>(at, &sum);
}

extern "C" ss_status cuda_gemm_fallback(ss_device *device, const cuda_product *p) {
  cudaStream_t stream = cuda_of(device)->stream;
  CUDA_REQUIRE(device, p->epilogue == CUDA_GEMM_PLAIN, "matrix product: the plain kernel has no epilogues");
  fallback_shape s;
  s.M = p->out.rows;
  s.N = p->out.cols;
  s.K = p->transpose_a ? p->a.rows : p->a.cols;
  s.a_row = p->transpose_a ? 1 : p->a.stride;
  s.a_col = p->transpose_a ? p->a.stride : 1;
  s.b_row = p->transpose_b ? 1 : p->b.stride;
  s.b_col = p->transpose_b ? p->b.stride : 1;
  s.out_stride = p->out.stride;
  s.alpha = p->alpha;
  s.beta = p->beta;
  dim3 grid((unsigned)cuda_ceil_divide(s.N, TILE), (unsigned)cuda_ceil_divide(s.M, TILE)), block(TILE, TILE);
  CUDA_REQUIRE(device, cuda_ceil_divide(s.M, TILE) <= 65535, "matrix product: %lld rows are too many",
               (long long)s.M);
  if (p->out.dtype == SS_BF16)
    GPU_LAUNCH((multiply_fallback<gpu_bf16, gpu_bf16>), grid, block, 0, stream, (gpu_bf16 *)p->out.data,
               (const gpu_bf16 *)p->a.data, (const gpu_bf16 *)p->b.data, s);
  else if (p->a.dtype == SS_BF16)
    GPU_LAUNCH((multiply_fallback<float, gpu_bf16>), grid, block, 0, stream, (float *)p->out.data,
               (const gpu_bf16 *)p->a.data, (const gpu_bf16 *)p->b.data, s);
  else
    GPU_LAUNCH((multiply_fallback<float, float>), grid, block, 0, stream, (float *)p->out.data,
               (const float *)p->a.data, (const float *)p->b.data, s);
  CUDA_LAUNCHED(device, "multiply_fallback");
  return SS_OK;
}

// --- the ops ---

extern "C" ss_status cuda_linear_forward(ss_device *device, ss_tensor out, ss_tensor in, ss_tensor weight,
                                         ss_tensor bias) {
  int64_t n = out.rows, O = out.cols, I = in.cols;
  ss_dtype T = device->compute;
  CUDA_REQUIRE(
      device,
      (cuda_is_matrix(out, n, O, T) || cuda_is_matrix(out, n, O, SS_F32)) && cuda_is_matrix(in, n, I, T) &&
          cuda_is_matrix(weight, O, I, T) && (!bias.data || cuda_is_matrix(bias, 1, O, T)),
      "linear_forward: shapes do not fit together: out [%lld, %lld], in [%lld, %lld], weight [%lld, %lld]",
      (long long)out.rows, (long long)out.cols, (long long)in.rows, (long long)in.cols,
      (long long)weight.rows, (long long)weight.cols);
  cuda_product product = cuda_product_of(out, in, false, weight, true);
  if (!bias.data || n == 0)
    return cuda_gemm(device, &product);
  product.epilogue = CUDA_GEMM_BIAS;
  product.bias = bias;
  if (cuda_gemm_offers(device, &product))
    return cuda_gemm(device, &product);
  product = cuda_product_of(out, in, false, weight, true);
  SS_TRY(cuda_gemm(device, &product));
  return add_bias(device, out, bias);
}

// dweight[O,I] += dout[n,O]^T in[n,I]; dbias[1,O] += column sums of dout
static ss_status parameter_gradients(ss_device *device, ss_tensor dweight, ss_tensor dbias, ss_tensor dout,
                                     ss_tensor in) {
  cuda_product product = cuda_product_of(dweight, dout, true, in, false);
  product.beta = 1.0f;
  if (dbias.data && cuda_gemm_choices_of(device)->bias_gradient) {
    void *sums;  // [1, O]: the epilogue writes, we add
    SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &sums, (size_t)dbias.cols * sizeof(float)));
    cuda_product fused = product;
    fused.epilogue = CUDA_GEMM_BIAS_GRADIENT;
    fused.bias = ss_matrix(sums, 1, dbias.cols);
    if (cuda_gemm_offers(device, &fused)) {
      SS_TRY(cuda_gemm(device, &fused));
      return finish_column_sums(device, dbias, (const float *)sums, 1);
    }
  }
  SS_TRY(cuda_gemm(device, &product));
  return dbias.data ? add_column_sums(device, dbias, dout) : SS_OK;
}

extern "C" ss_status cuda_linear_backward(ss_device *device, ss_tensor din, ss_tensor dweight,
                                          ss_tensor dbias, ss_tensor dout, ss_tensor in, ss_tensor weight) {
  int64_t n = dout.rows, O = dout.cols, I = in.cols;
  ss_dtype T = device->compute;
  CUDA_REQUIRE(
      device,
      cuda_is_matrix(dout, n, O, T) && cuda_is_matrix(in, n, I, T) && cuda_is_matrix(dweight, O, I, SS_F32) &&
          (!din.data || (cuda_is_matrix(din, n, I, T) && cuda_is_matrix(weight, O, I, T))) &&
          (!dbias.data || cuda_is_matrix(dbias, 1, O, SS_F32)),
      "linear_backward: shapes do not fit together: dout [%lld, %lld], in [%lld, %lld], dweight [%lld, %lld]",
      (long long)dout.rows, (long long)dout.cols, (long long)in.rows, (long long)in.cols,
      (long long)dweight.rows, (long long)dweight.cols);
  if (n == 0)
    return SS_OK;
  if (din.data) {
    cuda_product product = cuda_product_of(din, dout, false, weight, false);
    SS_TRY(cuda_gemm(device, &product));
  }
  return parameter_gradients(device, dweight, dbias, dout, in);
}

extern "C" ss_status cuda_linear_activation_forward(ss_device *device, ss_activation_kind kind, ss_tensor out,
                                                    ss_tensor pre, ss_tensor in, ss_tensor weight,
                                                    ss_tensor bias) {
  int64_t n = out.rows, F = out.cols, I = in.cols;
  ss_dtype T = device->compute;
  if (kind == SS_ACTIVATION_GELU && T == SS_BF16 && cuda_gemm_choices_of(device)->gelu_forward && n > 0) {
    cuda_product product = cuda_product_of(out, in, false, weight, true);
    product.epilogue = CUDA_GEMM_GELU;
    product.bias = bias;
    product.aux = pre;
    bool fits = cuda_is_matrix(out, n, F, T) && cuda_is_matrix(in, n, I, T) && cuda_is_matrix(pre, n, F, T);
    if (fits && cuda_gemm_offers(device, &product))
      return cuda_gemm(device, &product);
  }
  SS_TRY(cuda_linear_forward(device, pre, in, weight, bias));
  return cuda_activation_forward(device, kind, out, pre);
}

extern "C" ss_status cuda_linear_activation_backward(ss_device *device, ss_activation_kind kind,
                                                     ss_tensor dpre, ss_tensor dweight, ss_tensor dbias,
                                                     ss_tensor dout, ss_tensor in, ss_tensor weight,
                                                     ss_tensor pre, ss_tensor scratch) {
  int64_t n = dout.rows, F = in.cols;
  ss_dtype T = device->compute;
  CUDA_REQUIRE(
      device, cuda_is_matrix(weight, dout.cols, F, T),
      "linear_activation_backward: shapes do not fit together: weight [%lld, %lld], dout [%lld, %lld]",
      (long long)weight.rows, (long long)weight.cols, (long long)dout.rows, (long long)dout.cols);
  // The parameters first: whatever shares memory with `in` is overwritten after its last use.
  SS_TRY(cuda_linear_backward(device, ss_matrix(NULL, 0, 0), dweight, dbias, dout, in, weight));
  if (n == 0)
    return SS_OK;
  cuda_product product = cuda_product_of(dpre, dout, false, weight, false);
  product.epilogue = CUDA_GEMM_GELU_SLOPE;
  product.aux = pre;
  if (kind == SS_ACTIVATION_GELU && T == SS_BF16 && cuda_gemm_choices_of(device)->gelu_backward &&
      cuda_is_matrix(dpre, n, F, T) && cuda_gemm_offers(device, &product))
    return cuda_gemm(device, &product);
  CUDA_REQUIRE(device, cuda_is_matrix(scratch, n, F, T), "linear_activation_backward: scratch [%lld, %lld]",
               (long long)scratch.rows, (long long)scratch.cols);
  product = cuda_product_of(scratch, dout, false, weight, false);
  SS_TRY(cuda_gemm(device, &product));
  return cuda_activation_backward(device, kind, dpre, scratch, pre);
}
