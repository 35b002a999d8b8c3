// AdamW (Loshchilov, Hutter 2017, arXiv 1711.05101) and the gradient norm: all tensors in one launch.
//
// A table on the device lists the tensors and the number of blocks before each; a block finds its tensor there. It is
// uploaded when its content changes. A block has CHUNK elements whatever the device, so the sums are the same.
#include <math.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

enum { THREADS = 256, CHUNK = 4096, FINAL_THREADS = 1024 };

typedef struct {
  ss_adamw_tensor tensor;
  int64_t first_block;
} table_row;

// --- the table ---

static int64_t count_blocks(const ss_adamw_tensor *tensors, int32_t n_tensor) {
  int64_t n_block = 0;
  for (int32_t t = 0; t < n_tensor; ++t)
    n_block += cuda_ceil_divide(tensors[t].count, CHUNK);
  return n_block;
}

static uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

// Field by field: the padding between them is anything.
static uint64_t hash_tensors(const ss_adamw_tensor *tensors, int32_t n_tensor) {
  uint64_t hash = mix(1, (uint64_t)n_tensor);
  for (int32_t t = 0; t < n_tensor; ++t) {
    const ss_adamw_tensor *tensor = &tensors[t];
    uint32_t decay, rate;
    memcpy(&decay, &tensor->weight_decay, sizeof decay);
    memcpy(&rate, &tensor->rate, sizeof rate);
    hash = mix(hash, (uint64_t)(uintptr_t)tensor->weight);
    hash = mix(hash, (uint64_t)(uintptr_t)tensor->gradient);
    hash = mix(hash, (uint64_t)(uintptr_t)tensor->first_moment);
    hash = mix(hash, (uint64_t)(uintptr_t)tensor->second_moment);
    hash = mix(hash, (uint64_t)tensor->count);
    hash = mix(hash, (uint64_t)rate << 32 | decay);
    hash = mix(hash, (uint64_t)(uintptr_t)tensor->compute_copy);
  }
  return hash;
}

static ss_status prepare_table(ss_device *device, const ss_adamw_tensor *tensors, int32_t n_tensor) {
  cuda_device *cuda = cuda_of(device);
  uint64_t hash = hash_tensors(tensors, n_tensor);
  if (cuda->optimizer_table && cuda->optimizer_seen == tensors && cuda->optimizer_seen_hash == hash)
    return SS_OK;
  cuda->optimizer_seen = NULL;
  size_t bytes = (size_t)n_tensor * sizeof(table_row);
  if (cuda->optimizer_table_bytes < bytes) {
    SS_TRY(cuda_refuse_recording(device, "growing the optimizer's table"));
    cuda_release(device, cuda->optimizer_table);
    cuda->optimizer_table = NULL;
    cuda->optimizer_table_bytes = 0;
    ++cuda->n_moved;
    SS_TRY(cuda_allocate(device, &cuda->optimizer_table, bytes, "the optimizer's table"));
    cuda->optimizer_table_bytes = bytes;
  }
  table_row rows[64];
  int64_t first_block = 0;
  for (int32_t first = 0; first < n_tensor; first += 64) {
    int32_t count = n_tensor - first < 64 ? n_tensor - first : 64;
    memset(rows, 0, sizeof rows);
    for (int32_t i = 0; i < count; ++i) {
      rows[i].tensor = tensors[first + i];
      rows[i].first_block = first_block;
      first_block += cuda_ceil_divide(tensors[first + i].count, CHUNK);
    }
    SS_TRY(cuda_upload(device, (table_row *)cuda->optimizer_table + first, rows,
                       (size_t)count * sizeof(table_row)));
  }
  cuda->optimizer_seen = tensors;
  cuda->optimizer_seen_hash = hash;
  return SS_OK;
}

// The last tensor that starts at or before the block: tensors without elements are passed over.
static __device__ __forceinline__ const table_row *find_tensor(const table_row *table, int32_t n_tensor,
                                                               int64_t block) {
  int32_t low = 0, high = n_tensor;
  while (high - low > 1) {
    int32_t middle = (low + high) / 2;
    if (table[middle].first_block <= block)
      low = middle;
    else
      high = middle;
  }
  return &table[low];
}

// --- gradient norm ---

static __device__ __forceinline__ double warp_sum(double value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value += gpu_shuffle_xor(value, mask);
  return value;
}

// The block's sum, in every thread of its first warp. shared: [threads / 32]
template <int threads> static __device__ __forceinline__ double block_sum(double value, double *shared) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0)
    shared[threadIdx.x / 32] = value;
  gpu_sync_block();
  value = threadIdx.x % 32 < threads / 32 ? shared[threadIdx.x % 32] : 0.0;
  return warp_sum(value);
}

// partial[block] = sum of squares of its gradients
static __global__ void __launch_bounds__(THREADS)
    squares_kernel(double *partial, const table_row *table, int32_t n_tensor) {
  GPU_SHARED(double, shared, [THREADS / 32]);
  const table_row *row = find_tensor(table, n_tensor, blockIdx.x);
  int64_t first = ((int64_t)blockIdx.x - row->first_block) * CHUNK, left = row->tensor.count - first;
  int32_t count = left < CHUNK ? (int32_t)left : CHUNK;
  const float *gradient = row->tensor.gradient + first;
  double sum = 0;
  if (count == CHUNK && (uintptr_t)gradient % 16 == 0) {
    float4 g[CHUNK / THREADS / 4];
#pragma unroll
    for (int i = 0; i < CHUNK / THREADS / 4; ++i)
      g[i] = reinterpret_cast<const float4 *>(gradient)[threadIdx.x + i * THREADS];
#pragma unroll
    for (int i = 0; i < CHUNK / THREADS / 4; ++i) {
      sum = fma((double)g[i].x, (double)g[i].x, sum);
      sum = fma((double)g[i].y, (double)g[i].y, sum);
      sum = fma((double)g[i].z, (double)g[i].z, sum);
      sum = fma((double)g[i].w, (double)g[i].w, sum);
    }
  } else {
#pragma unroll 4
    for (int32_t i = (int32_t)threadIdx.x; i < count; i += THREADS)
      sum = fma((double)gradient[i], (double)gradient[i], sum);
  }
  sum = block_sum<THREADS>(sum, shared);
  if (threadIdx.x == 0)
    partial[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(FINAL_THREADS)
    norm_kernel(double *norm, const double *partial, int64_t n_block) {
  GPU_SHARED(double, shared, [FINAL_THREADS / 32]);
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < n_block; i += FINAL_THREADS)
    sum += partial[i];
  sum = block_sum<FINAL_THREADS>(sum, shared);
  if (threadIdx.x == 0)
    *norm = sqrt(sum);
}

ss_status cuda_gradient_norm(ss_device *device, const ss_adamw_tensor *tensors, int32_t n_tensor,
                             double *norm) {
  cuda_device *cuda = cuda_of(device);
  CUDA_REQUIRE(device, norm && n_tensor >= 0, "gradient_norm: nowhere to write");
  int64_t n_block = count_blocks(tensors, n_tensor);
  CUDA_REQUIRE(device, n_block <= INT32_MAX, "gradient_norm: too many elements");
  void *partial;  // [n_block]
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &partial, (size_t)(n_block + 1) * sizeof(double)));
  if (n_block > 0) {
    SS_TRY(prepare_table(device, tensors, n_tensor));
    GPU_LAUNCH(squares_kernel, (unsigned)n_block, THREADS, 0, cuda->stream, (double *)partial,
               (const table_row *)cuda->optimizer_table, n_tensor);
    CUDA_LAUNCHED(device, "gradient_norm");
  }
  GPU_LAUNCH(norm_kernel, 1, FINAL_THREADS, 0, cuda->stream, norm, (const double *)partial, n_block);
  CUDA_LAUNCHED(device, "gradient_norm");
  return SS_OK;
}

// --- AdamW ---

typedef struct {
  float beta2, rest1, rest2, epsilon;
  float reciprocal_root_correction2;
  double learning_rate, gradient_scale, clip;
  double step_size;  // learning rate / (1 - beta1^step)
  const double *norm;
} adamw_constants;

// Of one tensor.
typedef struct {
  float gradient_scale, step_size, decay;
} adamw_scales;

// In the order of torch.optim.AdamW, and with the roundings of the CPU's.
static __device__ __forceinline__ void update(float *weight, float gradient, float *first, float *second,
                                              const adamw_constants &constants, adamw_scales scales) {
  float g = gradient * scales.gradient_scale, m = *first;
  m = fmaf(g - m, constants.rest1, m);
  float v = fmaf(g * g, constants.rest2, *second * constants.beta2);
  *first = m;
  *second = v;
  float denominator = fmaf(sqrtf(v), constants.reciprocal_root_correction2, constants.epsilon);
  *weight = fmaf(-scales.step_size, m / denominator, *weight * scales.decay);
}

static __device__ __forceinline__ void update4(float4 *weight, float4 gradient, float4 *first, float4 *second,
                                               const adamw_constants &constants, adamw_scales scales) {
  update(&weight->x, gradient.x, &first->x, &second->x, constants, scales);
  update(&weight->y, gradient.y, &first->y, &second->y, constants, scales);
  update(&weight->z, gradient.z, &first->z, &second->z, constants, scales);
  update(&weight->w, gradient.w, &first->w, &second->w, constants, scales);
}

enum { AT_ONCE = 2 };  // float4 of each array that a thread holds at a time

static __global__ void __launch_bounds__(THREADS)
    adamw_kernel(const table_row *table, int32_t n_tensor, adamw_constants constants) {
  double factor = 1;
  if (constants.norm) {
    double norm = *constants.norm * constants.gradient_scale;
    if (!(fabs(norm) <= 1.7976931348623157e308))  // NaN or infinite
      return;
    factor = constants.clip > 0 && norm > constants.clip ? constants.clip / norm : 1;
  }
  const table_row *row = find_tensor(table, n_tensor, blockIdx.x);
  int64_t first = ((int64_t)blockIdx.x - row->first_block) * CHUNK, left = row->tensor.count - first;
  int32_t count = left < CHUNK ? (int32_t)left : CHUNK;
  adamw_scales scales;
  scales.gradient_scale = (float)(constants.gradient_scale * factor);
  double rate = (double)row->tensor.rate;
  scales.step_size = (float)(constants.step_size * rate);
  scales.decay = (float)(1.0 - constants.learning_rate * rate * (double)row->tensor.weight_decay);
  float *weight = row->tensor.weight + first, *m = row->tensor.first_moment + first;
  float *v = row->tensor.second_moment + first;
  const float *gradient = row->tensor.gradient + first;
  gpu_bf16 *copy = row->tensor.compute_copy ? (gpu_bf16 *)row->tensor.compute_copy + first : NULL;
  bool aligned = ((uintptr_t)weight | (uintptr_t)gradient | (uintptr_t)m | (uintptr_t)v) % 16 == 0 &&
                 (uintptr_t)copy % 8 == 0;
  if (count == CHUNK && aligned) {
    for (int32_t at = (int32_t)threadIdx.x; at < CHUNK / 4; at += AT_ONCE * THREADS) {
      float4 w4[AT_ONCE], g4[AT_ONCE], m4[AT_ONCE], v4[AT_ONCE];
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i) {
        g4[i] = reinterpret_cast<const float4 *>(gradient)[at + i * THREADS];
        m4[i] = reinterpret_cast<const float4 *>(m)[at + i * THREADS];
        v4[i] = reinterpret_cast<const float4 *>(v)[at + i * THREADS];
        w4[i] = reinterpret_cast<const float4 *>(weight)[at + i * THREADS];
      }
#pragma unroll
      for (int i = 0; i < AT_ONCE; ++i) {
        update4(&w4[i], g4[i], &m4[i], &v4[i], constants, scales);
        reinterpret_cast<float4 *>(m)[at + i * THREADS] = m4[i];
        reinterpret_cast<float4 *>(v)[at + i * THREADS] = v4[i];
        reinterpret_cast<float4 *>(weight)[at + i * THREADS] = w4[i];
        if (copy) {
          uint2 piece;
          piece.x = gpu_pack_bf16(w4[i].x, w4[i].y);
          piece.y = gpu_pack_bf16(w4[i].z, w4[i].w);
          reinterpret_cast<uint2 *>(copy)[at + i * THREADS] = piece;
        }
      }
    }
    return;
  }
  for (int32_t i = (int32_t)threadIdx.x; i < count; i += THREADS) {
    float w1 = weight[i], m1 = m[i], v1 = v[i];
    update(&w1, gradient[i], &m1, &v1, constants, scales);
    weight[i] = w1;
    m[i] = m1;
    v[i] = v1;
    if (copy)
      copy[i] = gpu_to_bf16(w1);
  }
}

ss_status cuda_adamw(ss_device *device, const ss_adamw_tensor *tensors, int32_t n_tensor, ss_adamw adamw) {
  cuda_device *cuda = cuda_of(device);
  CUDA_REQUIRE(device, adamw.step >= 1, "adamw: step %lld (expected 1 for the first)", (long long)adamw.step);
  int64_t n_block = count_blocks(tensors, n_tensor);
  CUDA_REQUIRE(device, n_block <= INT32_MAX, "adamw: too many elements");
  if (n_block == 0)
    return SS_OK;
  SS_TRY(prepare_table(device, tensors, n_tensor));
  double correction1 = 1.0 - pow((double)adamw.beta1, (double)adamw.step);
  double correction2 = 1.0 - pow((double)adamw.beta2, (double)adamw.step);
  adamw_constants constants;
  constants.step_size = (double)adamw.learning_rate / correction1;
  constants.beta2 = adamw.beta2;
  constants.rest1 = 1.0f - adamw.beta1;
  constants.rest2 = 1.0f - adamw.beta2;
  constants.epsilon = adamw.epsilon;
  constants.reciprocal_root_correction2 = (float)(1.0 / sqrt(correction2));
  constants.learning_rate = (double)adamw.learning_rate;
  constants.gradient_scale = adamw.gradient_scale;
  constants.clip = adamw.clip;
  constants.norm = adamw.norm;
  GPU_LAUNCH(adamw_kernel, (unsigned)n_block, THREADS, 0, cuda->stream,
             (const table_row *)cuda->optimizer_table, n_tensor, constants);
  CUDA_LAUNCHED(device, "adamw");
  return SS_OK;
}
