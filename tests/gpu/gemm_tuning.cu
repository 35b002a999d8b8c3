// Measures what linear.cu has to choose between: every matrix product of a GPT-2 small block and of the classifier,
// forward and backward, with each epilogue that could be fused and with the kernels that would replace it, for the
// first eight algorithms of cuBLASLt's heuristics and two sizes of workspace. Needs nothing but this file:
//
//   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -o gemm_tuning tests/gpu/gemm_tuning.cu -lcublasLt
//   ./gemm_tuning [tokens ...]          (32768 and 65536 when none are given)
//
// Each line is one product under one workspace limit: TFLOP/s of each algorithm in the heuristics' order (0: it
// failed), the best one's time and its configuration. "+ kernel" lines time the product and the kernel after it
// together. Operands are normally distributed and rotate through copies, so that no product finds its operands in L2;
// times are medians of 20.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                    \
  do {                                                                                 \
    int code_ = (int)(call);                                                           \
    if (code_ != 0) {                                                                  \
      fprintf(stderr, "%s:%d: %s failed with %d\n", __FILE__, __LINE__, #call, code_); \
      exit(1);                                                                         \
    }                                                                                  \
  } while (0)

enum { N_ALGORITHM = 8, N_REPEAT = 20, N_WARMUP = 2, N_COPY = 3 };

typedef __nv_bfloat16 bf16;

// --- what stands in for a fused epilogue ---

static __device__ float low(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
static __device__ float high(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}
static __device__ uint32_t pack(float a, float b) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *(uint32_t *)&pair;
}
static __device__ float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
static __device__ float gelu(float x) {
  return 0.5f * x * (1.0f + tanh_fast(0.7978845608f * x * (1.0f + 0.044715f * x * x)));
}
static __device__ float gelu_slope(float x) {
  float t = tanh_fast(0.7978845608f * x * (1.0f + 0.044715f * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608f * (1.0f + 3.0f * 0.044715f * x * x);
}

// out = gelu(in), `count` pieces of eight
static __global__ void gelu_forward(uint4 *out, const uint4 *in, int64_t count) {
  int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
  if (i >= count)
    return;
  uint4 x = in[i];
  uint32_t *w = (uint32_t *)&x;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    w[j] = pack(gelu(low(w[j])), gelu(high(w[j])));
  out[i] = x;
}

// out *= gelu'(in), in place
static __global__ void gelu_backward(uint4 *out, const uint4 *in, int64_t count) {
  int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
  if (i >= count)
    return;
  uint4 x = in[i], d = out[i];
  uint32_t *w = (uint32_t *)&x, *g = (uint32_t *)&d;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    g[j] = pack(low(g[j]) * gelu_slope(low(w[j])), high(g[j]) * gelu_slope(high(w[j])));
  out[i] = d;
}

// Column sums of in[n, cols]: 256 rows and 256 columns a block, then the partial sums [chunks, cols].
static __global__ void column_sum_chunks(float *partial, const bf16 *in, int64_t n, int64_t cols) {
  __shared__ float sums[8][256 + 8];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t col = blockIdx.x * (int64_t)256 + lane * 8, first = blockIdx.y * (int64_t)256;
  float sum[8] = {0};
  if (col < cols) {
#pragma unroll 8
    for (int r = warp; r < 256; r += 8) {
      if (first + r >= n)
        break;
      uint4 x = *(const uint4 *)(in + (first + r) * cols + col);
      const uint32_t *w = (const uint32_t *)&x;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum[2 * j] += low(w[j]);
        sum[2 * j + 1] += high(w[j]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j)
    sums[warp][lane * 8 + j] = sum[j];
  __syncthreads();
  float total = 0;
  for (int w = 0; w < 8; ++w)
    total += sums[w][threadIdx.x];
  if (blockIdx.x * (int64_t)256 + threadIdx.x < cols)
    partial[blockIdx.y * cols + blockIdx.x * (int64_t)256 + threadIdx.x] = total;
}

static __global__ void column_sum_finish(float *out, const float *partial, int64_t chunks, int64_t cols) {
  __shared__ float sums[32][33];
  int64_t col = blockIdx.x * (int64_t)32 + threadIdx.x;
  float sum = 0;
  if (col < cols)
    for (int64_t c = threadIdx.y; c < chunks; c += 32)
      sum += partial[c * cols + col];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && col < cols) {
    for (int i = 1; i < 32; ++i)
      sum += sums[i][threadIdx.x];
    out[col] += sum;
  }
}

// Normally distributed values of the given deviation.
static __global__ void fill(bf16 *out, int64_t count, uint32_t seed, float deviation) {
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count;
       i += (int64_t)gridDim.x * blockDim.x) {
    uint64_t h = (uint64_t)i * 0x9e3779b97f4a7c15ull + seed;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
    h ^= h >> 31;
    float u = ((uint32_t)h + 1.0f) * 2.3283064e-10f, v = (uint32_t)(h >> 32) * 2.3283064e-10f;
    out[i] = __float2bfloat16(deviation * sqrtf(-2.0f * logf(fminf(u, 1.0f))) * cospif(2.0f * v));
  }
}

// --- the products ---

typedef enum { AFTER_NOTHING, AFTER_GELU, AFTER_GELU_SLOPE, AFTER_COLUMN_SUM, ALONE_COLUMN_SUM } after_kind;

// D[m,n] = op(A) op(B) (+ D) in cuBLASLt's column-major terms; k the inner dimension. The tokens are n, or k.
typedef struct {
  const char *name, *how;
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  bool d_is_float;
  float beta;
  cublasLtEpilogue_t epilogue;
  after_kind after;
} product;

typedef struct {
  char *data;
  size_t bytes;
} pool;

typedef struct {
  cublasLtHandle_t handle;
  pool a, b, d, aux;
  float *bias, *partial;
  void *workspace;
  cudaEvent_t start[N_REPEAT], end[N_REPEAT];
} bench;

static void *copy_of(const pool *p, size_t need, int repeat) {
  size_t room = (need + 255) / 256 * 256, copies = p->bytes / room;
  if (copies > N_COPY)
    copies = N_COPY;
  return p->data + (copies ? repeat % (int)copies : 0) * room;
}

static int compare(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static bool launch(bench *t, const product *p, int repeat, cublasLtMatmulDesc_t desc,
                   cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t ld,
                   const cublasLtMatmulAlgo_t *algo, size_t workspace) {
  void *a = copy_of(&t->a, (size_t)(p->m * p->k) * 2, repeat);
  void *b = copy_of(&t->b, (size_t)(p->n * p->k) * 2, repeat);
  void *d = copy_of(&t->d, (size_t)(p->m * p->n) * (p->d_is_float ? 4 : 2), repeat);
  void *aux = copy_of(&t->aux, (size_t)(p->m * p->n) * 2, repeat);
  if (desc) {
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &aux, sizeof aux);
    float one = 1.0f;
    if (cublasLtMatmul(t->handle, desc, &one, a, la, b, lb, &p->beta, d, ld, d, ld, algo, t->workspace,
                       workspace, 0) != CUBLAS_STATUS_SUCCESS)
      return false;
  }
  int64_t pieces = p->m * p->n / 8;
  if (p->after == AFTER_GELU)
    gelu_forward<<<(unsigned)((pieces + 255) / 256), 256>>>((uint4 *)aux, (const uint4 *)d, pieces);
  if (p->after == AFTER_GELU_SLOPE)
    gelu_backward<<<(unsigned)((pieces + 255) / 256), 256>>>((uint4 *)d, (const uint4 *)aux, pieces);
  if (p->after == AFTER_COLUMN_SUM || p->after == ALONE_COLUMN_SUM) {
    // dout is the second operand: [k tokens, n columns] row-major
    int64_t chunks = (p->k + 255) / 256;
    dim3 grid((unsigned)((p->n + 255) / 256), (unsigned)chunks);
    column_sum_chunks<<<grid, 256>>>(t->partial, (const bf16 *)b, p->k, p->n);
    column_sum_finish<<<(unsigned)((p->n + 31) / 32), dim3(32, 32)>>>(t->bias, t->partial, chunks, p->n);
  }
  return true;
}

// Median milliseconds, or 0 when the product cannot run.
static float measure(bench *t, const product *p, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t la,
                     cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algo,
                     size_t workspace) {
  for (int i = 0; i < N_WARMUP; ++i)
    if (!launch(t, p, i, desc, la, lb, ld, algo, workspace))
      return 0;
  for (int i = 0; i < N_REPEAT; ++i) {
    CHECK(cudaEventRecord(t->start[i], 0));
    launch(t, p, i, desc, la, lb, ld, algo, workspace);
    CHECK(cudaEventRecord(t->end[i], 0));
  }
  if (cudaDeviceSynchronize() != cudaSuccess || cudaGetLastError() != cudaSuccess) {
    fprintf(stderr, "%s %s: a kernel failed\n", p->name, p->how);
    exit(1);
  }
  float times[N_REPEAT];
  for (int i = 0; i < N_REPEAT; ++i)
    CHECK(cudaEventElapsedTime(&times[i], t->start[i], t->end[i]));
  qsort(times, N_REPEAT, sizeof times[0], compare);
  return times[N_REPEAT / 2];
}

static int algorithm_value(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t what) {
  uint32_t value = 0;
  size_t written,
      size = what == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID || what == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID ? 2
                                                                                                          : 4;
  return cublasLtMatmulAlgoConfigGetAttribute(algo, what, &value, size, &written) == CUBLAS_STATUS_SUCCESS
             ? (int)value
             : -1;
}

static cublasLtMatrixLayout_t layout(cudaDataType type, int64_t rows, int64_t cols) {
  cublasLtMatrixLayout_t l;
  CHECK(cublasLtMatrixLayoutCreate(&l, type, (uint64_t)rows, (uint64_t)cols, rows));
  return l;
}

static void run(bench *t, const product *p) {
  double flops = 2.0 * (double)p->m * (double)p->n * (double)p->k;
  if (p->after == ALONE_COLUMN_SUM) {
    float ms = measure(t, p, NULL, NULL, NULL, NULL, NULL, 0);
    printf("%-12s %-22s %6lld %6lld %6lld %44s %7.3f ms  %.0f GB/s\n", p->name, p->how, (long long)p->m,
           (long long)p->n, (long long)p->k, "", ms, (double)p->n * (double)p->k * 2 / ms * 1e-6);
    return;
  }
  cublasLtMatmulDesc_t desc;
  CHECK(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  cublasOperation_t op_a = p->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                    op_b = p->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a));
  CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b));
  CHECK(
      cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, sizeof p->epilogue));
  void *bias = t->bias;
  if (p->epilogue != CUBLASLT_EPILOGUE_DEFAULT && p->epilogue != CUBLASLT_EPILOGUE_DGELU)
    CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
  if (p->epilogue & 128) {
    CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->m, sizeof p->m));
    CHECK(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &t->aux.data,
                                         sizeof t->aux.data));
  }
  cublasLtMatrixLayout_t la = p->transpose_a ? layout(CUDA_R_16BF, p->k, p->m)
                                             : layout(CUDA_R_16BF, p->m, p->k);
  cublasLtMatrixLayout_t lb = p->transpose_b ? layout(CUDA_R_16BF, p->n, p->k)
                                             : layout(CUDA_R_16BF, p->k, p->n);
  cublasLtMatrixLayout_t ld = layout(p->d_is_float ? CUDA_R_32F : CUDA_R_16BF, p->m, p->n);
  cublasLtMatmulHeuristicResult_t seen[N_ALGORITHM];
  int n_seen = 0;
  for (int w = 0; w < 2; ++w) {
    size_t workspace = (size_t)32 << (20 + w);
    cublasLtMatmulPreference_t preference;
    CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace, sizeof workspace));
    cublasLtMatmulHeuristicResult_t results[N_ALGORITHM];
    int n_result = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(t->handle, desc, la, lb, ld, ld, preference,
                                                           N_ALGORITHM, results, &n_result);
    CHECK(cublasLtMatmulPreferenceDestroy(preference));
    if (w == 1 && n_result == n_seen) {
      bool same = true;
      for (int i = 0; i < n_result; ++i)
        same = same && memcmp(&seen[i].algo, &results[i].algo, sizeof seen[i].algo) == 0;
      if (same)
        break;
    }
    memcpy(seen, results, sizeof seen);
    n_seen = n_result;
    printf("%-12s %-22s %6lld %6lld %6lld %3zu", p->name, p->how, (long long)p->m, (long long)p->n,
           (long long)p->k, workspace >> 20);
    if (status != CUBLAS_STATUS_SUCCESS || n_result == 0) {
      printf("  no algorithm (%s)\n", cublasLtGetStatusName(status));
      continue;
    }
    float best = 0;
    int best_index = 0;
    for (int i = 0; i < N_ALGORITHM; ++i) {
      float ms = i < n_result ? measure(t, p, desc, la, lb, ld, &results[i].algo, workspace) : 0;
      printf(" %4.0f", ms > 0 ? flops / ms * 1e-9 : 0);
      if (ms > 0 && (best == 0 || ms < best)) {
        best = ms;
        best_index = i;
      }
    }
    const cublasLtMatmulAlgo_t *algo = &results[best_index].algo;
    printf(" %7.3f ms %4.0f  #%d id %d tile %d stages %d split %d reduce %d cluster %d, %.1f MiB\n", best,
           best > 0 ? flops / best * 1e-9 : 0, best_index, algorithm_value(algo, CUBLASLT_ALGO_CONFIG_ID),
           algorithm_value(algo, CUBLASLT_ALGO_CONFIG_TILE_ID),
           algorithm_value(algo, CUBLASLT_ALGO_CONFIG_STAGES_ID),
           algorithm_value(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
           algorithm_value(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
           algorithm_value(algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID),
           (double)results[best_index].workspaceSize / (1 << 20));
    fflush(stdout);
  }
  cublasLtMatrixLayoutDestroy(la);
  cublasLtMatrixLayoutDestroy(lb);
  cublasLtMatrixLayoutDestroy(ld);
  cublasLtMatmulDescDestroy(desc);
}

// --- the three products of a linear layer in[n,I] -> out[n,O], as linear.cu makes them ---

static product forward(const char *name, const char *how, int64_t n, int64_t O, int64_t I,
                       cublasLtEpilogue_t epilogue, after_kind after) {
  product p = {name, how, true, false, O, n, I, false, 0, epilogue, after};
  return p;
}
static product input_gradient(const char *name, const char *how, int64_t n, int64_t O, int64_t I,
                              cublasLtEpilogue_t epilogue, after_kind after) {
  product p = {name, how, false, false, I, n, O, false, 0, epilogue, after};
  return p;
}
static product weight_gradient(const char *name, const char *how, int64_t n, int64_t O, int64_t I,
                               bool d_is_float, float beta, cublasLtEpilogue_t epilogue, after_kind after) {
  product p = {name, how, false, true, I, O, n, d_is_float, beta, epilogue, after};
  return p;
}

static void pool_create(pool *p, size_t bytes, uint32_t seed) {
  p->bytes = bytes;
  CHECK(cudaMalloc((void **)&p->data, bytes));
  fill<<<132 * 8, 256>>>((bf16 *)p->data, (int64_t)(bytes / 2), seed, 1.0f);
}

static void run_tokens(bench *t, int64_t n) {
  const int64_t C = 768, F = 3072, V = 50304;
  const cublasLtEpilogue_t plain = CUBLASLT_EPILOGUE_DEFAULT, bias = CUBLASLT_EPILOGUE_BIAS;
  struct {
    const char *name;
    int64_t O, I;
  } layers[] = {{"qkv", 3 * C, C}, {"proj", C, C}, {"up", F, C}, {"down", C, F}};
  printf("\n%lld tokens\n%-12s %-22s %6s %6s %6s %3s %39s %10s %5s  best algorithm\n", (long long)n,
         "product", "how", "m", "n", "k", "ws", "TFLOP/s by heuristics' rank", "best", "");
  for (int i = 0; i < 4; ++i) {
    const char *name = layers[i].name;
    int64_t O = layers[i].O, I = layers[i].I;
    product list[16];
    int count = 0;
    bool up = i == 2, down = i == 3;
    list[count++] = forward(name, "forward plain", n, O, I, plain, AFTER_NOTHING);
    list[count++] = forward(name, "forward bias", n, O, I, bias, AFTER_NOTHING);
    if (up) {
      list[count++] = forward(name, "forward bias + gelu", n, O, I, bias, AFTER_GELU);
      list[count++] = forward(name, "forward GELU_AUX_BIAS", n, O, I, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                              AFTER_NOTHING);
    }
    list[count++] = input_gradient(name, "din plain", n, O, I, plain, AFTER_NOTHING);
    if (down) {
      list[count++] = input_gradient(name, "din + gelu'", n, O, I, plain, AFTER_GELU_SLOPE);
      list[count++] = input_gradient(name, "din DGELU", n, O, I, CUBLASLT_EPILOGUE_DGELU, AFTER_NOTHING);
      list[count++] = input_gradient(name, "din DGELU_BGRAD", n, O, I, CUBLASLT_EPILOGUE_DGELU_BGRAD,
                                     AFTER_NOTHING);
    }
    list[count++] = weight_gradient(name, "dweight bf16", n, O, I, false, 0, plain, AFTER_NOTHING);
    list[count++] = weight_gradient(name, "dweight f32", n, O, I, true, 0, plain, AFTER_NOTHING);
    list[count++] = weight_gradient(name, "dweight f32 +=", n, O, I, true, 1, plain, AFTER_NOTHING);
    list[count++] = weight_gradient(name, "dweight f32 += + sums", n, O, I, true, 1, plain, AFTER_COLUMN_SUM);
    list[count++] = weight_gradient(name, "dweight f32 += BGRADB", n, O, I, true, 1, CUBLASLT_EPILOGUE_BGRADB,
                                    AFTER_NOTHING);
    list[count++] = weight_gradient(name, "dweight bf16 BGRADB", n, O, I, false, 0, CUBLASLT_EPILOGUE_BGRADB,
                                    AFTER_NOTHING);
    list[count++] = weight_gradient(name, "column sums alone", n, O, I, true, 1, plain, ALONE_COLUMN_SUM);
    for (int j = 0; j < count; ++j)
      run(t, &list[j]);
  }
  // The classifier's chunks do not depend on n: once, with the smaller count.
  if (n > 32768)
    return;
  const int64_t chunks[] = {4096, 4224, 5632, 8192};
  for (int i = 0; i < 4; ++i) {
    int64_t rows = chunks[i];
    product list[] = {forward("classifier", "logits", rows, V, C, plain, AFTER_NOTHING),
                      input_gradient("classifier", "dh", rows, V, C, plain, AFTER_NOTHING),
                      weight_gradient("classifier", "dwte f32 +=", rows, V, C, true, 1, plain,
                                      AFTER_NOTHING)};
    for (int j = 0; j < 3; ++j)
      run(t, &list[j]);
  }
}

int main(int argc, char **argv) {
  bench t = {};
  struct cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  CHECK(cublasLtCreate(&t.handle));
  printf("%s, cuBLASLt %zu\n", properties.name, cublasLtGetVersion());
  pool_create(&t.a, (size_t)1280 << 20, 1);
  pool_create(&t.b, (size_t)1280 << 20, 2);
  pool_create(&t.d, (size_t)1700 << 20, 3);
  pool_create(&t.aux, (size_t)1280 << 20, 4);
  CHECK(cudaMalloc((void **)&t.bias, 1 << 20));
  CHECK(cudaMemset(t.bias, 0, 1 << 20));
  CHECK(cudaMalloc((void **)&t.partial, (size_t)64 << 20));
  CHECK(cudaMalloc(&t.workspace, (size_t)64 << 20));
  for (int i = 0; i < N_REPEAT; ++i) {
    CHECK(cudaEventCreate(&t.start[i]));
    CHECK(cudaEventCreate(&t.end[i]));
  }
  CHECK(cudaDeviceSynchronize());
  if (argc < 2) {
    run_tokens(&t, 32768);
    run_tokens(&t, 65536);
  }
  for (int i = 1; i < argc; ++i)
    run_tokens(&t, atoll(argv[i]));
  return 0;
}
