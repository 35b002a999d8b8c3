// The fused ops of a decoding step. BF16: few rows go to kernels that read each weight once and take the norm along
// (step_linear.cuh), more, and what has no norm, to products of tiles (step_tile.cuh) behind a norm of its own. Many rows,
// F32 and odd shapes go to the other ops, put together with as few launches as they allow.
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/step_tile.h"

enum {
  THREADS = 256,
  PLACE_THREADS = 96,
  PLACE_UNROLL = 3,     // units of a thread at a time: 288 a row, as many as GPT-2's has
  NORM_FIRST_ROWS = 16  // more: a norm of its own before the kernels of step_linear.h
};

// --- what the other ops lack ---

typedef struct {
  const void *qkv;  // [n, q_cols + 2 * k_cols]
  void *q, *k_cache, *v_cache;
  const int32_t *positions, *slots;
  int64_t qkv_stride, q_stride, k_stride, v_stride, n_cache_row;
  int32_t q_cols, k_cols, half;  // half: of a head
  int32_t n_unit;                // of a row
} place_call;

typedef struct {
  float of[CUDA_ROTARY_PAIRS];
} place_frequencies;

// A row's place for column `column`; NULL for a row without a slot.
template <typename type>
__device__ __forceinline__ type *place_of(const place_call *call, int64_t row, int64_t slot, int32_t column) {
  if (column < call->q_cols)
    return (type *)call->q + row * call->q_stride + column;
  if (slot < 0 || slot >= call->n_cache_row)
    return NULL;
  column -= call->q_cols;
  return column < call->k_cols ? (type *)call->k_cache + slot * call->k_stride + column
                               : (type *)call->v_cache + slot * call->v_stride + column - call->k_cols;
}

// A row: q to its place, k and v to their rows of the caches. Units of `width` columns, or as many pairs, rotated. Several
// units' loads come before the first store: what a row takes is their latency.
template <typename type, int width, bool rotary>
__global__ void __launch_bounds__(PLACE_THREADS)
    place_kernel(place_call call, place_frequencies frequencies) {
  gpu_wait_previous();
  gpu_release_next();
  int64_t row = blockIdx.x, slot = call.slots[row];
  float position = rotary ? (float)call.positions[row] : 0.0f;
  const type *from = (const type *)call.qkv + row * call.qkv_stride;
  for (int32_t first = (int32_t)threadIdx.x; first < call.n_unit; first += PLACE_UNROLL * PLACE_THREADS) {
    float low[PLACE_UNROLL][width], high[PLACE_UNROLL][width];
    int32_t columns[PLACE_UNROLL];
#pragma unroll
    for (int u = 0; u < PLACE_UNROLL; ++u) {
      int32_t unit = first + u * PLACE_THREADS, column = unit * width;
      if (rotary)
        column += column / call.half * call.half;
      columns[u] = column;
      if (unit >= call.n_unit)
        break;
      load_elements<width>(low[u], from + column);
      if (rotary)
        load_elements<width>(high[u], from + column + call.half);
    }
#pragma unroll
    for (int u = 0; u < PLACE_UNROLL; ++u) {
      int32_t column = columns[u];
      if (first + u * PLACE_THREADS >= call.n_unit)
        break;
      if (rotary && column < call.q_cols + call.k_cols) {
        int32_t d = column % (2 * call.half);
#pragma unroll
        for (int i = 0; i < width; ++i) {
          float sine, cosine, old = low[u][i];
          sincosf(position * frequencies.of[d + i], &sine, &cosine);
          low[u][i] = fmaf(-high[u][i], sine, old * cosine);
          high[u][i] = fmaf(old, sine, high[u][i] * cosine);
        }
      }
      type *to = place_of<type>(&call, row, slot, column);
      if (!to)
        continue;
      store_elements<width>(to, low[u]);
      if (rotary)
        store_elements<width>(to + call.half, high[u]);
    }
  }
}

template <typename type, int width>
static ss_status launch_place(ss_device *device, const place_call *call, const place_frequencies *frequencies,
                              int64_t n, bool rotary) {
  place_call c = *call;
  CUDA_REQUIRE(device, n <= INT32_MAX, "step_qkv: %lld rows are too many", (long long)n);
  c.n_unit = (c.q_cols + 2 * c.k_cols) / width / (rotary ? 2 : 1);
  cudaStream_t stream = cuda_of(device)->stream;
  bool early = cuda_launches_early(cuda_of(device));
  if (rotary)
    GPU_LAUNCH_EARLY(early, (place_kernel<type, width, true>), (unsigned)n, PLACE_THREADS, 0, stream, c,
                     *frequencies);
  else
    GPU_LAUNCH_EARLY(early, (place_kernel<type, width, false>), (unsigned)n, PLACE_THREADS, 0, stream, c,
                     *frequencies);
  CUDA_LAUNCHED(device, "step_qkv");
  return SS_OK;
}

// x[n,C] += bias[1,C]
template <typename type>
__global__ void __launch_bounds__(THREADS)
    add_bias_kernel(type *x, int64_t stride, const type *bias, uint32_t n_element, uint32_t C) {
  uint32_t i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= n_element)
    return;
  uint32_t row = i / C, c = i - row * C;
  float sum = gpu_float(x[row * stride + c]) + gpu_float(bias[c]);
  store_elements<1>(x + row * stride + c, &sum);
}

static ss_status add_bias(ss_device *device, ss_tensor x, ss_tensor bias) {
  cudaStream_t stream = cuda_of(device)->stream;
  int64_t n_element = x.rows * x.cols;
  CUDA_REQUIRE(device, n_element < UINT32_MAX - THREADS, "step_residual: %lld elements are too many",
               (long long)n_element);
  unsigned blocks = (unsigned)cuda_ceil_divide(n_element, THREADS);
  if (x.dtype == SS_BF16)
    GPU_LAUNCH(add_bias_kernel<gpu_bf16>, blocks, THREADS, 0, stream, (gpu_bf16 *)x.data, x.stride,
               (const gpu_bf16 *)bias.data, (uint32_t)n_element, (uint32_t)x.cols);
  else
    GPU_LAUNCH(add_bias_kernel<float>, blocks, THREADS, 0, stream, (float *)x.data, x.stride,
               (const float *)bias.data, (uint32_t)n_element, (uint32_t)x.cols);
  CUDA_LAUNCHED(device, "step_residual");
  return SS_OK;
}

// --- put together from other ops ---

static int64_t round_up(int64_t bytes) {
  return cuda_ceil_divide(bytes, 256) * 256;
}

static bool norm_fits(ss_norm norm, int64_t I) {
  return !norm.weight.data || (cuda_is_matrix(norm.weight, 1, I, SS_F32) &&
                               (!norm.bias.data || cuda_is_matrix(norm.bias, 1, I, SS_F32)));
}

// *out = norm(x), or x where there is no norm; *rest is what follows in scratch: `bytes` bytes.
static ss_status normalize(ss_device *device, ss_tensor *out, void **rest, ss_tensor x, ss_norm norm,
                           int64_t bytes) {
  int64_t normal_bytes = norm.weight.data ? round_up(x.rows * x.cols * (int64_t)ss_dtype_size(x.dtype)) : 0;
  int64_t statistics_bytes = norm.weight.data ? round_up(x.rows * 2 * (int64_t)sizeof(float)) : 0;
  void *memory;
  SS_TRY(
      cuda_scratch(device, CUDA_SCRATCH_OUTER, &memory, (size_t)(normal_bytes + statistics_bytes + bytes)));
  *rest = (char *)memory + normal_bytes + statistics_bytes;
  *out = x;
  if (!norm.weight.data)
    return SS_OK;
  *out = ss_matrix_of(memory, x.rows, x.cols, x.dtype);
  if (step_norm_serves(*out, x, norm))
    return step_norm(device, *out, x, norm);
  ss_tensor statistics = ss_matrix((char *)memory + normal_bytes, x.rows, 2);
  return cuda_norm_forward(device, norm.kind, *out, x, statistics, x, ss_matrix(NULL, 0, 0), norm.weight,
                           norm.bias, norm.epsilon);
}

static ss_status compose_linear(ss_device *device, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                                ss_tensor bias, ss_step_activation activation) {
  ss_tensor in, pre = ss_matrix_of(NULL, x.rows, weight.rows, out.dtype);
  int64_t pre_bytes = activation == SS_STEP_PLAIN ? 0
                                                  : x.rows * weight.rows * (int64_t)ss_dtype_size(out.dtype);
  SS_TRY(normalize(device, &in, &pre.data, x, norm, pre_bytes));
  if (activation == SS_STEP_PLAIN)
    return cuda_linear_forward(device, out, in, weight, bias);
  if (activation == SS_STEP_GELU && out.dtype == SS_BF16 && cuda_gemm_choices_of(device)->gelu_forward) {
    cuda_product product = cuda_product_of(out, in, false, weight, true);
    product.epilogue = CUDA_GEMM_GELU;
    product.bias = bias;
    if (cuda_gemm_offers(device, &product))
      return cuda_gemm(device, &product);
  }
  return cuda_linear_activation_forward(device,
                                        activation == SS_STEP_GELU ? SS_ACTIVATION_GELU
                                                                   : SS_ACTIVATION_SWIGLU,
                                        out, pre, in, weight, bias);
}

static ss_status compose_residual(ss_device *device, ss_tensor x, ss_tensor in, ss_tensor weight,
                                  ss_tensor bias) {
  cuda_product product = cuda_product_of(x, in, false, weight, true);
  product.beta = 1.0f;
  if (bias.data) {
    product.epilogue = CUDA_GEMM_BIAS;
    product.bias = bias;
    if (cuda_gemm_offers(device, &product))
      return cuda_gemm(device, &product);
    product.epilogue = CUDA_GEMM_PLAIN;
    product.bias = ss_matrix(NULL, 0, 0);
  }
  SS_TRY(cuda_gemm(device, &product));
  return bias.data ? add_bias(device, x, bias) : SS_OK;
}

static ss_status compose_qkv(ss_device *device, ss_tensor q, ss_tensor k_cache, ss_tensor v_cache,
                             ss_tensor x, ss_norm norm, ss_tensor weight, ss_tensor bias, ss_tensor positions,
                             ss_tensor slots, int32_t head_dim, float theta) {
  int64_t n = x.rows, half = head_dim / 2;
  ss_dtype T = x.dtype;
  bool rotary = theta > 0;
  ss_tensor in, qkv = ss_matrix_of(NULL, n, weight.rows, T);
  SS_TRY(normalize(device, &in, &qkv.data, x, norm, n * weight.rows * (int64_t)ss_dtype_size(T)));
  SS_TRY(cuda_linear_forward(device, qkv, in, weight, bias));
  place_call call = {};
  place_frequencies frequencies = {};
  call.qkv = qkv.data, call.q = q.data, call.k_cache = k_cache.data, call.v_cache = v_cache.data;
  call.positions = (const int32_t *)positions.data, call.slots = (const int32_t *)slots.data;
  call.qkv_stride = qkv.stride, call.q_stride = q.stride, call.k_stride = k_cache.stride;
  call.v_stride = v_cache.stride, call.n_cache_row = k_cache.rows;
  call.q_cols = (int32_t)q.cols, call.k_cols = (int32_t)k_cache.cols, call.half = (int32_t)half;
  if (rotary) {
    const float *known = cuda_rotary_frequencies(device, half, theta);
    for (int64_t d = 0; d < half; ++d)
      frequencies.of[d] = known[d];
  }
  int64_t piece = T == SS_BF16 ? PIECE_OF(gpu_bf16) : PIECE_OF(float);
  bool aligned = cuda_is_aligned(qkv) && cuda_is_aligned(q) && cuda_is_aligned(k_cache) &&
                 cuda_is_aligned(v_cache) && (!rotary || half % piece == 0);
  if (T == SS_BF16)
    return aligned ? launch_place<gpu_bf16, PIECE_OF(gpu_bf16)>(device, &call, &frequencies, n, rotary)
                   : launch_place<gpu_bf16, 1>(device, &call, &frequencies, n, rotary);
  return aligned ? launch_place<float, PIECE_OF(float)>(device, &call, &frequencies, n, rotary)
                 : launch_place<float, 1>(device, &call, &frequencies, n, rotary);
}

// --- dispatch ---

// Whether two neighbouring elements, the first with an even column, can be written at once.
static bool pairs_aligned(ss_tensor t) {
  size_t size = ss_dtype_size(t.dtype);
  return t.stride % 2 == 0 && (uintptr_t)t.data % (2 * size) == 0;
}

// The arguments that all products share, but for the norm; false: no kernel of a step's own serves.
static bool make_arguments(step_arguments *a, ss_tensor x, ss_norm norm, ss_tensor weight, ss_tensor bias,
                           ss_tensor out) {
  if (x.dtype != SS_BF16 || x.cols == 0 || x.cols % 32 != 0 || !cuda_is_aligned(x) ||
      !cuda_is_aligned(weight) || (uintptr_t)norm.weight.data % 16 != 0 ||
      (uintptr_t)norm.bias.data % 16 != 0 || weight.rows > INT32_MAX / 4 || x.cols > INT32_MAX / 4)
    return false;
  a->x = x.data, a->weight = weight.data, a->bias = bias.data, a->out = out.data;
  a->x_stride = x.stride, a->weight_stride = weight.stride, a->out_stride = out.stride;
  a->out_f32 = out.dtype == SS_F32;
  a->pairs_aligned = pairs_aligned(out);
  a->n = (int32_t)(x.rows < INT32_MAX ? x.rows : INT32_MAX);
  a->n_block32 = (int32_t)(x.cols / 32), a->n_feature = (int32_t)weight.rows;
  return true;
}

// The norm before the product.
static ss_status normalize_first(ss_device *device, step_arguments *a, ss_tensor x, ss_norm norm) {
  ss_tensor normal;
  void *rest;
  SS_TRY(normalize(device, &normal, &rest, x, norm, 0));
  a->x = normal.data, a->x_stride = normal.stride;
  return SS_OK;
}

// Sums that blocks share, where the shape wants them.
static ss_status make_partials(ss_device *device, const step_shape *shape, step_arguments *a) {
  cuda_device *cuda = cuda_of(device);
  size_t counter_bytes = STEP_COUNTERS * sizeof(int32_t);
  if (shape->splits <= 1)
    return SS_OK;
  if (!cuda->step_memory)
    SS_TRY(cuda_allocate(device, &cuda->step_memory, counter_bytes + STEP_PARTIAL_BYTES,
                         "sums of a decoding step"));
  a->counters = (int32_t *)cuda->step_memory;
  a->partials = (float *)((char *)cuda->step_memory + counter_bytes);
  return SS_OK;
}

// Launches what serves the product best. *served is false where nothing does: put it together from other ops.
static ss_status launch_product(ss_device *device, bool *served, step_kind kind, step_arguments *a,
                                ss_tensor x, ss_norm norm) {
  const cuda_device *cuda = cuda_of(device);
  step_tile_shape tile;
  step_shape shape;
  *served = true;
  if (step_tile_choose(cuda, kind, a, &tile)) {
    SS_TRY(normalize_first(device, a, x, norm));
    return step_tile_launch(device, kind, &tile, a);
  }
  // Every block does the norm of all its rows again: too much for more of them.
  bool norm_first = !cuda->step_forced && norm.weight.data && a->n > NORM_FIRST_ROWS;
  if (norm.weight.data && !norm_first) {
    a->norm_weight = (const float *)norm.weight.data, a->norm_bias = (const float *)norm.bias.data;
    a->centred = norm.kind == SS_NORM_LAYER, a->epsilon = norm.epsilon;
  }
  *served = step_choose(cuda, kind, a, &shape);
  if (!*served)
    return SS_OK;
  if (norm_first)
    SS_TRY(normalize_first(device, a, x, norm));
  SS_TRY(make_partials(device, &shape, a));
  return step_linear_launch(device, kind, &shape, a);
}

ss_status cuda_step_linear(ss_device *device, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                           ss_tensor bias, ss_step_activation activation) {
  int64_t n = x.rows, I = x.cols, O = out.cols, wide = activation == SS_STEP_SWIGLU ? 2 * O : O;
  ss_dtype T = device->compute;
  CUDA_REQUIRE(
      device,
      cuda_is_matrix(x, n, I, T) && (cuda_is_matrix(out, n, O, T) || cuda_is_matrix(out, n, O, SS_F32)) &&
          cuda_is_matrix(weight, wide, I, T) && (!bias.data || cuda_is_matrix(bias, 1, wide, T)) &&
          norm_fits(norm, I),
      "step_linear: shapes do not fit together: out [%lld, %lld], x [%lld, %lld], weight [%lld, %lld]",
      (long long)out.rows, (long long)O, (long long)n, (long long)I, (long long)weight.rows,
      (long long)weight.cols);
  if (n * O == 0)
    return SS_OK;
  step_arguments a = {};
  bool served = false;
  a.activation = activation, a.pair = (int32_t)(O < INT32_MAX ? O : INT32_MAX);
  if (make_arguments(&a, x, norm, weight, bias, out))
    SS_TRY(launch_product(device, &served, STEP_KIND_LINEAR, &a, x, norm));
  if (served)
    return SS_OK;
  return compose_linear(device, out, x, norm, weight, bias, activation);
}

ss_status cuda_step_residual(ss_device *device, ss_tensor x, ss_tensor in, ss_tensor weight, ss_tensor bias) {
  int64_t n = x.rows, C = x.cols, I = in.cols;
  ss_dtype T = device->compute;
  CUDA_REQUIRE(
      device,
      cuda_is_matrix(x, n, C, T) && cuda_is_matrix(in, n, I, T) && cuda_is_matrix(weight, C, I, T) &&
          (!bias.data || cuda_is_matrix(bias, 1, C, T)),
      "step_residual: shapes do not fit together: x [%lld, %lld], in [%lld, %lld], weight [%lld, %lld]",
      (long long)n, (long long)C, (long long)in.rows, (long long)I, (long long)weight.rows,
      (long long)weight.cols);
  if (n * C == 0)
    return SS_OK;
  step_arguments a = {};
  ss_norm none = {};
  bool served = false;
  if (make_arguments(&a, in, none, weight, bias, x))
    SS_TRY(launch_product(device, &served, STEP_KIND_RESIDUAL, &a, in, none));
  if (served)
    return SS_OK;
  return compose_residual(device, x, in, weight, bias);
}

ss_status cuda_step_qkv(ss_device *device, ss_tensor q, ss_tensor k_cache, ss_tensor v_cache, ss_tensor x,
                        ss_norm norm, ss_tensor weight, ss_tensor bias, ss_tensor positions, ss_tensor slots,
                        int32_t head_dim, float theta) {
  int64_t n = x.rows, C = x.cols, Q = q.cols, K = k_cache.cols;
  ss_dtype T = device->compute;
  bool rotary = theta > 0;
  CUDA_REQUIRE(device,
               cuda_is_matrix(x, n, C, T) && cuda_is_matrix(q, n, Q, T) &&
                   cuda_is_matrix(k_cache, k_cache.rows, K, T) &&
                   cuda_is_matrix(v_cache, k_cache.rows, K, T) && cuda_is_matrix(weight, Q + 2 * K, C, T) &&
                   (!bias.data || cuda_is_matrix(bias, 1, Q + 2 * K, T)) && norm_fits(norm, C) &&
                   cuda_is_integers(positions, n) && cuda_is_integers(slots, n) && head_dim > 0 &&
                   Q % head_dim == 0 && K % head_dim == 0 && (!rotary || head_dim % 2 == 0),
               "step_qkv: shapes do not fit together: q [%lld, %lld], caches [%lld, %lld], x [%lld, %lld], "
               "weight [%lld, %lld], heads of %d",
               (long long)q.rows, (long long)Q, (long long)k_cache.rows, (long long)K, (long long)n,
               (long long)C, (long long)weight.rows, (long long)weight.cols, head_dim);
  CUDA_REQUIRE(device, !rotary || head_dim / 2 <= CUDA_ROTARY_PAIRS, "step_qkv: head_dim %d is above %d",
               head_dim, 2 * CUDA_ROTARY_PAIRS);
  if (n * (Q + K) == 0)
    return SS_OK;
  step_kind kind = rotary ? STEP_KIND_ROTARY : STEP_KIND_QKV;
  step_arguments a = {};
  a.k_cache = k_cache.data, a.v_cache = v_cache.data;
  a.k_stride = k_cache.stride, a.v_stride = v_cache.stride, a.n_cache_row = k_cache.rows;
  a.positions = (const int32_t *)positions.data, a.slots = (const int32_t *)slots.data;
  a.q_cols = (int32_t)Q, a.k_cols = (int32_t)K, a.pair = head_dim / 2;
  bool pairs = Q % 2 == 0 && K % 2 == 0 && pairs_aligned(q) && pairs_aligned(k_cache) &&
               pairs_aligned(v_cache);
  if (pairs && (!rotary || head_dim / 2 <= STEP_ROTARY_PAIRS) &&
      make_arguments(&a, x, norm, weight, bias, q)) {
    bool served;
    const float *known = rotary ? cuda_rotary_frequencies(device, head_dim / 2, theta) : NULL;
    for (int32_t d = 0; rotary && d < head_dim / 2; ++d)
      a.frequencies[d] = known[d];
    SS_TRY(launch_product(device, &served, kind, &a, x, norm));
    if (served)
      return SS_OK;
  }
  return compose_qkv(device, q, k_cache, v_cache, x, norm, weight, bias, positions, slots, head_dim, theta);
}
