// Matrix products by cuBLASLt. Which of its algorithms serves a product is found once for each shape: the heuristics'
// first proposal in deterministic mode, else the fastest of the first eight, timed on the spot.
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm.h"

#define WORKSPACE_BYTES ((size_t)64 << 20)  // NVIDIA recommends at least 32 MiB for Hopper
#define N_SLOT 16384                        // of the table of algorithms, a power of two
#define N_PROBE 8
#define N_CANDIDATE 8
#define TUNED_FLOPS 4e9  // smaller products are over before their launch matters
#define TUNED_RUNS 3
#define TUNED_GAIN 0.99f  // a later candidate must beat the better-ranked by this

// What an algorithm depends on. Compared as bytes.
typedef struct {
  int64_t m, n, k, a_leading, b_leading, d_leading, aux_leading;
  uint8_t transpose_a, transpose_b, in, out, epilogue, has_bias, accumulates;
  uint8_t alignments[5];  // of a, b, d, bias, aux
  uint8_t unused[4];
} product_key;

typedef enum { SLOT_EMPTY, SLOT_FOUND, SLOT_NONE } slot_state;

typedef struct {
  product_key key;
  slot_state state;  // SLOT_NONE: cuBLASLt has no algorithm
  cublasLtMatmulAlgo_t algorithm;
} slot;

struct cuda_gemm_state {
  cublasLtHandle_t handle;
  void *workspace;
  cudaEvent_t start, end;
  cuda_gemm_choices choices;
  bool fell_back;
  slot slots[N_SLOT];
};

// cuBLASLt's description of a product; lives on the stack, nothing to free.
typedef struct {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, d;
} description;

static ss_status blas_failed(ss_device *device, cublasStatus_t status, const char *call,
                             const cuda_column_major *c) {
  return ss_fail(&device->error, SS_ERROR_DEVICE,
                 "matrix product [%lld, %lld] with inner dimension %lld: %s: %s", (long long)c->n,
                 (long long)c->m, (long long)c->k, call, cublasLtGetStatusName(status));
}

#define BLAS_TRY(device, c, call)                             \
  do {                                                        \
    cublasStatus_t blas_status_ = (call);                     \
    if (blas_status_ != CUBLAS_STATUS_SUCCESS)                \
      return blas_failed((device), blas_status_, #call, (c)); \
  } while (0)

extern "C" ss_status cuda_gemm_create(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  cuda->gemm = (cuda_gemm_state *)calloc(1, sizeof *cuda->gemm);
  if (!cuda->gemm)
    return ss_fail(&device->error, SS_ERROR_MEMORY, "out of memory for the table of matrix products");
  cuda_gemm_state *state = cuda->gemm;
  state->choices.gelu_forward = state->choices.gelu_backward = true;
  cublasStatus_t status = cublasLtCreate(&state->handle);
  if (status != CUBLAS_STATUS_SUCCESS)
    return ss_fail(&device->error, SS_ERROR_DEVICE, "cublasLtCreate: %s", cublasLtGetStatusName(status));
  CUDA_TRY(device, cudaMalloc(&state->workspace, WORKSPACE_BYTES));
  CUDA_TRY(device, cudaEventCreate(&state->start));
  CUDA_TRY(device, cudaEventCreate(&state->end));
  return SS_OK;
}

extern "C" void cuda_gemm_free(ss_device *device) {
  cuda_gemm_state *state = cuda_of(device)->gemm;
  if (!state)
    return;
  if (state->handle)
    cublasLtDestroy(state->handle);
  if (state->workspace)
    cudaFree(state->workspace);
  if (state->start)
    cudaEventDestroy(state->start);
  if (state->end)
    cudaEventDestroy(state->end);
  free(state);
  cuda_of(device)->gemm = NULL;
}

extern "C" cuda_gemm_choices *cuda_gemm_choices_of(ss_device *device) {
  return &cuda_of(device)->gemm->choices;
}

// --- describing a product ---

static cudaDataType type_of(ss_dtype dtype) {
  return dtype == SS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasLtEpilogue_t epilogue_of(const cuda_product *p) {
  switch (p->epilogue) {
  case CUDA_GEMM_BIAS:
    return CUBLASLT_EPILOGUE_BIAS;
  case CUDA_GEMM_GELU:
    if (!p->aux.data)
      return p->bias.data ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias.data ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  case CUDA_GEMM_GELU_SLOPE:
    return CUBLASLT_EPILOGUE_DGELU;
  case CUDA_GEMM_BIAS_GRADIENT:
    return CUBLASLT_EPILOGUE_BGRADB;  // our op(a) is the second operand of the column-major product
  default:
    return CUBLASLT_EPILOGUE_DEFAULT;
  }
}

static ss_status describe(ss_device *device, const cuda_product *p, const cuda_column_major *c,
                          description *out) {
  cublasComputeType_t compute = p->a.dtype == SS_F32 && cuda_of(device)->precision == SS_PRECISION_TF32
                                    ? CUBLAS_COMPUTE_32F_FAST_TF32
                                    : CUBLAS_COMPUTE_32F;
  cublasLtMatmulDesc_t desc = &out->product;
  BLAS_TRY(device, c, cublasLtMatmulDescInit(desc, compute, CUDA_R_32F));
  cublasOperation_t op_a = c->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t op_b = c->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = epilogue_of(p);
  BLAS_TRY(device, c, cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a));
  BLAS_TRY(device, c, cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b));
  BLAS_TRY(device, c,
           cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
  if (p->bias.data) {
    int32_t type = type_of(p->bias.dtype);
    BLAS_TRY(device, c,
             cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias.data,
                                            sizeof p->bias.data));
    BLAS_TRY(device, c,
             cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
  }
  if (p->aux.data) {
    int64_t leading = p->aux.stride;
    BLAS_TRY(device, c,
             cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &p->aux.data,
                                            sizeof p->aux.data));
    BLAS_TRY(device, c,
             cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &leading,
                                            sizeof leading));
  }
  BLAS_TRY(device, c,
           cublasLtMatrixLayoutInit(&out->a, type_of(p->b.dtype), (uint64_t)c->a_rows, (uint64_t)c->a_cols,
                                    c->a_leading));
  BLAS_TRY(device, c,
           cublasLtMatrixLayoutInit(&out->b, type_of(p->a.dtype), (uint64_t)c->b_rows, (uint64_t)c->b_cols,
                                    c->b_leading));
  BLAS_TRY(device, c,
           cublasLtMatrixLayoutInit(&out->d, type_of(p->out.dtype), (uint64_t)c->m, (uint64_t)c->n,
                                    c->d_leading));
  return SS_OK;
}

static cublasStatus_t multiply(cuda_device *cuda, const cuda_product *p, const cuda_column_major *c,
                               description *desc, const cublasLtMatmulAlgo_t *algorithm, void *d) {
  return cublasLtMatmul(cuda->gemm->handle, &desc->product, &p->alpha, c->a, &desc->a, c->b, &desc->b,
                        &p->beta, d, &desc->d, d, &desc->d, algorithm, cuda->gemm->workspace, WORKSPACE_BYTES,
                        cuda->stream);
}

// --- choosing an algorithm ---

// The largest power of two, up to 256, that divides an address: what the heuristics ask for.
static uint8_t alignment_of(const void *data) {
  uintptr_t address = (uintptr_t)data | 256;
  uint8_t log2 = 0;
  for (; !(address & 1); address >>= 1)
    ++log2;
  return log2;
}

// Token counts differ from batch to batch: shapes within an eighth of an octave (small ones within 16) share an
// algorithm, so that few are ever asked for or timed (asking costs more than a small product). Deterministic runs do not share: which shape comes
// first must not matter, also after a resume.
static int64_t rounded_shape(const cuda_device *cuda, int64_t x) {
  if (cuda->deterministic || x <= 16)
    return x;
  int64_t step = 16;
  while (step * 16 <= x)
    step *= 2;
  return cuda_ceil_divide(x, step) * step;
}

static product_key key_of(const cuda_device *cuda, const cuda_product *p, const cuda_column_major *c) {
  product_key key;
  memset(&key, 0, sizeof key);
  key.m = rounded_shape(cuda, c->m);
  key.n = rounded_shape(cuda, c->n);
  key.k = rounded_shape(cuda, c->k);
  key.a_leading = c->a_leading;
  key.b_leading = c->b_leading;
  key.d_leading = c->d_leading;
  key.aux_leading = p->aux.data ? p->aux.stride : 0;
  key.transpose_a = c->transpose_a;
  key.transpose_b = c->transpose_b;
  key.in = (uint8_t)p->a.dtype;
  key.out = (uint8_t)p->out.dtype;
  key.epilogue = (uint8_t)p->epilogue;
  key.has_bias = p->bias.data != NULL;
  key.accumulates = p->beta != 0.0f;
  const void *addresses[5] = {c->a, c->b, c->d, p->bias.data, p->aux.data};
  for (int i = 0; i < 5; ++i)
    key.alignments[i] = alignment_of(addresses[i]);
  return key;
}

// The key's slot, or one for it with SLOT_EMPTY. A full table starts over.
static slot *find_slot(cuda_gemm_state *state, const product_key *key) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < sizeof *key; ++i)
    hash = (hash ^ ((const unsigned char *)key)[i]) * 1099511628211u;
  hash ^= hash >> 32;
  for (int i = 0; i < N_PROBE; ++i) {
    slot *s = &state->slots[(hash + (uint64_t)i) % N_SLOT];
    if (s->state == SLOT_EMPTY || memcmp(&s->key, key, sizeof *key) == 0) {
      s->key = *key;
      return s;
    }
  }
  memset(state->slots, 0, sizeof state->slots);
  slot *s = &state->slots[hash % N_SLOT];
  s->key = *key;
  return s;
}

static ss_status ask_heuristics(ss_device *device, const cuda_product *p, const cuda_column_major *c,
                                description *desc, cublasLtMatmulHeuristicResult_t *candidates, int *count) {
  cublasLtMatmulPreferenceOpaque_t preference;
  BLAS_TRY(device, c, cublasLtMatmulPreferenceInit(&preference));
  size_t workspace = WORKSPACE_BYTES;
  BLAS_TRY(device, c,
           cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &workspace, sizeof workspace));
  // A product cut along K is summed in fp32, never in a bf16 output. In deterministic mode the sum is a step of its
  // own, in a fixed order; the scheme that adds within the output is ordered by counters, and not relied on.
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  if (p->out.dtype == SS_F32 && !cuda_of(device)->deterministic)
    reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  BLAS_TRY(device, c,
           cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                &reductions, sizeof reductions));
  const void *addresses[4] = {c->a, c->b, c->d, c->d};
  const cublasLtMatmulPreferenceAttributes_t attributes[4] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
  for (int i = 0; i < 4; ++i) {
    uint32_t bytes = 1u << alignment_of(addresses[i]);
    BLAS_TRY(device, c,
             cublasLtMatmulPreferenceSetAttribute(&preference, attributes[i], &bytes, sizeof bytes));
  }
  int found = 0;
  cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(cuda_of(device)->gemm->handle, &desc->product,
                                                         &desc->a, &desc->b, &desc->d, &desc->d, &preference,
                                                         N_CANDIDATE, candidates, &found);
  *count = 0;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE)
    return SS_OK;
  if (status != CUBLAS_STATUS_SUCCESS)
    return blas_failed(device, status, "cublasLtMatmulAlgoGetHeuristic", c);
  for (int i = 0; i < found; ++i)
    if (candidates[i].state == CUBLAS_STATUS_SUCCESS)
      candidates[(*count)++] = candidates[i];
  return SS_OK;
}

// The index of the fastest candidate. A product that accumulates is timed into memory of its own; every other only
// writes what it will write again. Without memory, or when timing fails, the first.
static ss_status time_candidates(ss_device *device, const cuda_product *p, const cuda_column_major *c,
                                 description *desc, const cublasLtMatmulHeuristicResult_t *candidates,
                                 int count, int *best) {
  cuda_device *cuda = cuda_of(device);
  cuda_gemm_state *state = cuda->gemm;
  *best = 0;
  SS_TRY(cuda_refuse_recording(device, "choosing a matrix product's algorithm by time"));
  void *d = c->d, *apart = NULL;
  if (p->beta != 0.0f) {
    size_t bytes = (size_t)(c->n * c->d_leading) * ss_dtype_size(p->out.dtype);
    if (cudaMalloc(&apart, bytes) != cudaSuccess) {
      cudaGetLastError();
      return SS_OK;
    }
    cudaMemsetAsync(apart, 0, bytes, cuda->stream);
    d = apart;
  }
  float best_time = 0;
  cudaError_t error = cudaSuccess;
  for (int i = 0; i < count && error == cudaSuccess; ++i) {
    // Once before the clock starts: the first launch loads the kernel.
    cublasStatus_t status = multiply(cuda, p, c, desc, &candidates[i].algo, d);
    error = cudaEventRecord(state->start, cuda->stream);
    for (int run = 0; run < TUNED_RUNS && status == CUBLAS_STATUS_SUCCESS; ++run)
      status = multiply(cuda, p, c, desc, &candidates[i].algo, d);
    float time = 0;
    if (error == cudaSuccess)
      error = cudaEventRecord(state->end, cuda->stream);
    if (error == cudaSuccess)
      error = cudaEventSynchronize(state->end);
    if (error == cudaSuccess)
      error = cudaEventElapsedTime(&time, state->start, state->end);
    if (error == cudaSuccess && status == CUBLAS_STATUS_SUCCESS &&
        (best_time == 0 || time < TUNED_GAIN * best_time)) {
      best_time = time;
      *best = i;
    }
  }
  if (apart)
    cudaFree(apart);
  CUDA_TRY(device, error);
  return SS_OK;
}

// Fills an empty slot.
static ss_status choose(ss_device *device, const cuda_product *p, const cuda_column_major *c,
                        description *desc, bool tune, slot *s) {
  cublasLtMatmulHeuristicResult_t candidates[N_CANDIDATE];
  int count, best = 0;
  SS_TRY(ask_heuristics(device, p, c, desc, candidates, &count));
  double flops = 2.0 * (double)c->m * (double)c->n * (double)c->k;
  if (tune && !cuda_of(device)->deterministic && count > 1 && flops >= TUNED_FLOPS)
    SS_TRY(time_candidates(device, p, c, desc, candidates, count, &best));
  s->state = count > 0 ? SLOT_FOUND : SLOT_NONE;
  if (count > 0)
    s->algorithm = candidates[best].algo;
  return SS_OK;
}

extern "C" bool cuda_gemm_offers(ss_device *device, const cuda_product *p) {
  if (p->epilogue == CUDA_GEMM_PLAIN)
    return true;
  cuda_gemm_state *state = cuda_of(device)->gemm;
  // The manual wants aux's leading dimension divisible by 8.
  if (state->choices.never_library || !cuda_product_fits(p) || (p->aux.data && p->aux.stride % 8 != 0))
    return false;
  cuda_column_major c = cuda_column_major_of(p);
  product_key key = key_of(cuda_of(device), p, &c);
  slot *s = find_slot(state, &key);
  description desc;
  if (s->state == SLOT_EMPTY &&
      (describe(device, p, &c, &desc) != SS_OK || choose(device, p, &c, &desc, true, s) != SS_OK)) {
    ss_error_clear(&device->error);
    return false;
  }
  return s->state == SLOT_FOUND;
}

// A plain product without an algorithm: our own kernel, and a word about it where the user sees what runs.
static ss_status fall_back(ss_device *device, const cuda_product *p) {
  cuda_gemm_state *state = cuda_of(device)->gemm;
  if (!state->fell_back) {
    size_t length = strlen(device->description);
    snprintf(device->description + length, sizeof device->description - length,
             ", slow products (cuBLASLt has none for [%lld, %lld] x %lld)", (long long)p->out.rows,
             (long long)p->out.cols, (long long)(p->transpose_a ? p->a.rows : p->a.cols));
    state->fell_back = true;
  }
  return cuda_gemm_fallback(device, p);
}

extern "C" ss_status cuda_gemm(ss_device *device, const cuda_product *p) {
  cuda_device *cuda = cuda_of(device);
  CUDA_REQUIRE(device, cuda_product_fits(p),
               "matrix product: shapes do not fit together: out [%lld, %lld], a [%lld, %lld], b [%lld, %lld]",
               (long long)p->out.rows, (long long)p->out.cols, (long long)p->a.rows, (long long)p->a.cols,
               (long long)p->b.rows, (long long)p->b.cols);
  cuda_column_major c = cuda_column_major_of(p);
  if (c.m == 0 || c.n == 0)
    return SS_OK;
  if (cuda->gemm->choices.never_library)
    return cuda_gemm_fallback(device, p);
  description desc;
  SS_TRY(describe(device, p, &c, &desc));
  product_key key = key_of(cuda, p, &c);
  slot *s = find_slot(cuda->gemm, &key);
  if (s->state == SLOT_EMPTY)
    SS_TRY(choose(device, p, &c, &desc, true, s));
  if (s->state == SLOT_FOUND) {
    cublasStatus_t status = multiply(cuda, p, &c, &desc, &s->algorithm, c.d);
    if (status == CUBLAS_STATUS_SUCCESS)
      return SS_OK;
    // The algorithm was found for a similar shape and does not serve this one.
    if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE)
      return blas_failed(device, status, "cublasLtMatmul", &c);
    SS_TRY(choose(device, p, &c, &desc, false, s));
    if (s->state == SLOT_FOUND) {
      BLAS_TRY(device, &c, multiply(cuda, p, &c, &desc, &s->algorithm, c.d));
      return SS_OK;
    }
  }
  CUDA_REQUIRE(device, p->epilogue == CUDA_GEMM_PLAIN,
               "matrix product [%lld, %lld] with inner dimension %lld: cuBLASLt does not offer epilogue %d",
               (long long)p->out.rows, (long long)p->out.cols, (long long)c.k, (int)p->epilogue);
  return fall_back(device, p);
}
