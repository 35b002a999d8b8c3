// Device code on the CPU: CUDA's own names (qualifiers, thread indices, vector types, arithmetic, atomics), and the
// names of kernels/cuda/gpu_primitives.cuh. The contracts stand there.
#ifndef SELFSPAN_TESTS_EMULATOR_PRIMITIVES_H
#define SELFSPAN_TESTS_EMULATOR_PRIMITIVES_H

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#include "tests/emulator/runtime.h"

// --- qualifiers ---
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// --- vectors ---
struct uint3 {
  unsigned int x, y, z;
};
struct dim3 {
  unsigned int x, y, z;
  dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define EMULATED_VECTOR2(name, type)               \
  struct __align__(2 * sizeof(type)) name {        \
    type x, y;                                     \
  };                                               \
  static inline name make_##name(type x, type y) { \
    name v = {x, y};                               \
    return v;                                      \
  }
#define EMULATED_VECTOR4(name, type, alignment)                    \
  struct __align__(alignment) name {                               \
    type x, y, z, w;                                               \
  };                                                               \
  static inline name make_##name(type x, type y, type z, type w) { \
    name v = {x, y, z, w};                                         \
    return v;                                                      \
  }
EMULATED_VECTOR2(float2, float)
EMULATED_VECTOR2(double2, double)
EMULATED_VECTOR2(int2, int)
EMULATED_VECTOR2(uint2, unsigned int)
EMULATED_VECTOR2(ushort2, unsigned short)
EMULATED_VECTOR2(longlong2, long long)
EMULATED_VECTOR2(ulonglong2, unsigned long long)
EMULATED_VECTOR4(float4, float, 16)
EMULATED_VECTOR4(int4, int, 16)
EMULATED_VECTOR4(uint4, unsigned int, 16)
EMULATED_VECTOR4(ushort4, unsigned short, 8)
EMULATED_VECTOR4(uchar4, unsigned char, 4)

// --- the running thread ---
struct emulated_thread_state {
  uint3 thread, block;
  dim3 block_size, grid_size;
  unsigned char *dynamic_shared;
};
// Of the fiber that runs; kernels run on one OS thread.
extern "C" emulated_thread_state *emulated_thread;
#define threadIdx (emulated_thread->thread)
#define blockIdx (emulated_thread->block)
#define blockDim (emulated_thread->block_size)
#define gridDim (emulated_thread->grid_size)
#define warpSize 32

// --- what fibers call (emulator.cpp) ---
enum emulated_operation {
  EMULATED_NONE,
  EMULATED_SYNC_WARP,
  EMULATED_SHUFFLE,
  EMULATED_BALLOT,
  EMULATED_MMA,
  EMULATED_LOAD_MATRIX,
  EMULATED_LOAD_MATRIX_TRANSPOSED
};
struct emulated_shuffle {
  uint64_t value, result;
  int lane;
};
struct emulated_ballot {
  bool predicate;
  uint32_t result;
};
struct emulated_mma {
  float *d;
  const uint32_t *a, *b;
};
struct emulated_load {
  uint32_t *r;
  const void *row;
};
extern "C" {
// Waits for the 32 lanes of the warp; the last to come does the operation for all.
void emulated_meet(emulated_operation operation, void *arguments);
void emulated_sync_block(void);
void emulated_copy_async(void *shared, const void *global, bool valid);
void emulated_copy_commit(void);
void emulated_copy_wait(int pending);
// Poisons a static shared array the first time that a thread of this block comes by.
void emulated_shared_array(void *data, size_t bytes, uint64_t *block_seen);
}
typedef void (*emulated_body)(const void *arguments);
// Runs the kernel, or records it with a copy of the arguments' bytes when the stream is being captured.
extern "C" void emulated_launch(const void *kernel, const char *name, dim3 grid, dim3 block,
                                size_t shared_bytes, cudaStream_t stream, emulated_body body,
                                const void *arguments, size_t argument_bytes);

// --- launches ---
// Arguments are evaluated once, as the kernel's parameters.
template <typename... parameters, typename... arguments>
static inline void emulated_launch_of(void (*kernel)(parameters...), const char *name, dim3 grid, dim3 block,
                                      size_t shared_bytes, cudaStream_t stream, arguments... values) {
  static_assert((std::is_trivially_copyable<parameters>::value && ...), "parameters are copied as bytes");
  struct call {
    void (*kernel)(parameters...);
    std::tuple<parameters...> values;
  } made = {kernel, std::tuple<parameters...>((parameters)values...)};
  emulated_launch((const void *)kernel, name, grid, block, shared_bytes, stream,
                  [](const void *of) { std::apply(((const call *)of)->kernel, ((const call *)of)->values); },
                  &made, sizeof made);
}
#define GPU_LAUNCH_EARLY(early, ...) ((void)(early), GPU_LAUNCH(__VA_ARGS__))  // one after another here
static inline void gpu_wait_previous(void) {}
static inline void gpu_release_next(void) {}
#define GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  emulated_launch_of((kernel), #kernel, (grid), (block), (size_t)(shared_bytes), (stream), __VA_ARGS__)
#define gpu_allow_shared(kernel, bytes) \
  cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#define GPU_CALLED static __attribute__((noinline))
#define GPU_DYNAMIC_SHARED(name) unsigned char *name = emulated_thread->dynamic_shared
#define GPU_SHARED(type, name, dimensions)   \
  static __align__(16) type name dimensions; \
  static uint64_t name##_block_seen_;        \
  emulated_shared_array((void *)&name, sizeof name, &name##_block_seen_)

// --- bits ---
template <typename to_type, typename from_type> static inline to_type emulated_bits(from_type from) {
  static_assert(sizeof(to_type) == sizeof(from_type), "sizes differ");
  to_type to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline float __uint_as_float(unsigned int x) {
  return emulated_bits<float>(x);
}
static inline float __int_as_float(int x) {
  return emulated_bits<float>(x);
}
static inline unsigned int __float_as_uint(float x) {
  return emulated_bits<unsigned int>(x);
}
static inline int __float_as_int(float x) {
  return emulated_bits<int>(x);
}
static inline double __longlong_as_double(long long x) {
  return emulated_bits<double>(x);
}
static inline long long __double_as_longlong(double x) {
  return emulated_bits<long long>(x);
}
static inline int __popc(unsigned int x) {
  return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline int __clz(int x) {
  return x ? __builtin_clz((unsigned int)x) : 32;
}
static inline int __clzll(long long x) {
  return x ? __builtin_clzll((unsigned long long)x) : 64;
}

// --- bf16 ---
struct __nv_bfloat16 {
  uint16_t bits;
};
typedef __nv_bfloat16 gpu_bf16;
static inline float gpu_float(gpu_bf16 x) {
  return __uint_as_float((uint32_t)x.bits << 16);
}
static inline float gpu_float(float x) {
  return x;
}
static inline gpu_bf16 gpu_to_bf16(float x) {
  uint32_t bits = __float_as_uint(x);
  gpu_bf16 out;
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    out.bits = 0x7fff;  // NVIDIA's conversion: one NaN for all
  else
    out.bits = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
  return out;
}
static inline uint32_t gpu_pack_bf16(float low, float high) {
  return gpu_to_bf16(low).bits | (uint32_t)gpu_to_bf16(high).bits << 16;
}
static inline float gpu_low_bf16(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
static inline float gpu_high_bf16(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// --- arithmetic ---
static inline float gpu_exp2(float x) {
  float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}
// Rounded to 12 bits, so that a test sees an error like the hardware's.
static inline float gpu_tanh(float x) {
  return __uint_as_float((__float_as_uint(tanhf(x)) + 0x800u) & 0xfffff000u);
}
static inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x) {
  return 1.0 / sqrt(x);
}
// glibc declares functions of these names.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf((x), (y))
#define __sincosf(x, s, c) sincosf((x), (s), (c))
static inline float __fdividef(float x, float y) {
  return x / y;
}
static inline float __frcp_rn(float x) {
  return 1.0f / x;
}
static inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
static inline float __fdiv_rn(float x, float y) {
  return x / y;
}
static inline float __fadd_rn(float x, float y) {
  return x + y;
}
static inline float __fsub_rn(float x, float y) {
  return x - y;
}
static inline float __fmul_rn(float x, float y) {
  return x * y;
}
static inline float __fmaf_rn(float x, float y, float z) {
  return fmaf(x, y, z);
}
static inline double __dadd_rn(double x, double y) {
  return x + y;
}
static inline double __dmul_rn(double x, double y) {
  return x * y;
}
static inline double __dsqrt_rn(double x) {
  return sqrt(x);
}
static inline double __ddiv_rn(double x, double y) {
  return x / y;
}
static inline float __saturatef(float x) {
  return fminf(fmaxf(x, 0.0f), 1.0f);
}
static inline int __mul24(int x, int y) {
  return x * y;
}
static inline unsigned int __umulhi(unsigned int x, unsigned int y) {
  return (unsigned int)((uint64_t)x * y >> 32);
}
#define EMULATED_MIN_MAX(type)             \
  static inline type min(type a, type b) { \
    return b < a ? b : a;                  \
  }                                        \
  static inline type max(type a, type b) { \
    return a < b ? b : a;                  \
  }
EMULATED_MIN_MAX(int)
EMULATED_MIN_MAX(unsigned int)
EMULATED_MIN_MAX(long)
EMULATED_MIN_MAX(unsigned long)
EMULATED_MIN_MAX(long long)
EMULATED_MIN_MAX(unsigned long long)
static inline float min(float a, float b) {
  return fminf(a, b);
}
static inline float max(float a, float b) {
  return fmaxf(a, b);
}
static inline double min(double a, double b) {
  return fmin(a, b);
}
static inline double max(double a, double b) {
  return fmax(a, b);
}

// --- loads and stores with cache hints ---
template <typename type> static inline type __ldg(const type *address) {
  return *address;
}
template <typename type> static inline type __ldcs(const type *address) {
  return *address;
}
template <typename type> static inline type __ldcg(const type *address) {
  return *address;
}
template <typename type> static inline void __stcs(type *address, type value) {
  *address = value;
}
template <typename type> static inline void __stcg(type *address, type value) {
  *address = value;
}

// --- atomics: fibers switch only where they wait ---
static inline int32_t gpu_count_arrival(int32_t *counter) {
  return (*counter)++;
}
template <typename type>
using emulated_same = typename std::enable_if<true, type>::type;  // no deduction from the second argument
template <typename type> static inline type atomicAdd(type *address, emulated_same<type> value) {
  type old = *address;
  *address = old + value;
  return old;
}
template <typename type> static inline type atomicSub(type *address, emulated_same<type> value) {
  type old = *address;
  *address = old - value;
  return old;
}
template <typename type> static inline type atomicMax(type *address, emulated_same<type> value) {
  type old = *address;
  *address = value > old ? value : old;
  return old;
}
template <typename type> static inline type atomicMin(type *address, emulated_same<type> value) {
  type old = *address;
  *address = value < old ? value : old;
  return old;
}
template <typename type> static inline type atomicOr(type *address, emulated_same<type> value) {
  type old = *address;
  *address = old | value;
  return old;
}
template <typename type> static inline type atomicExch(type *address, emulated_same<type> value) {
  type old = *address;
  *address = value;
  return old;
}
template <typename type>
static inline type atomicCAS(type *address, emulated_same<type> expected, emulated_same<type> value) {
  type old = *address;
  if (old == expected)
    *address = value;
  return old;
}
static inline unsigned int atomicInc(unsigned int *address, unsigned int limit) {
  unsigned int old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

// --- warp and block ---
static inline void gpu_sync_block(void) {
  emulated_sync_block();
}
#define __syncthreads() emulated_sync_block()
static inline void gpu_sync_warp(void) {
  emulated_meet(EMULATED_SYNC_WARP, NULL);
}
static inline int emulated_lane(void) {
  return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}
template <typename type> static inline type gpu_shuffle(type value, int lane) {
  static_assert(sizeof(type) == 4 || sizeof(type) == 8, "shuffles move 4 or 8 bytes");
  emulated_shuffle shuffle = {0, 0, lane};
  memcpy(&shuffle.value, &value, sizeof value);
  emulated_meet(EMULATED_SHUFFLE, &shuffle);
  memcpy(&value, &shuffle.result, sizeof value);
  return value;
}
template <typename type> static inline type gpu_shuffle_xor(type value, int lane_mask) {
  return gpu_shuffle(value, emulated_lane() ^ lane_mask);
}
static inline uint32_t gpu_ballot(bool predicate) {
  emulated_ballot ballot = {predicate, 0};
  emulated_meet(EMULATED_BALLOT, &ballot);
  return ballot.result;
}
static inline float gpu_warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value += gpu_shuffle_xor(value, mask);
  return value;
}
static inline float gpu_warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value = fmaxf(value, gpu_shuffle_xor(value, mask));
  return value;
}

// --- asynchronous copies ---
typedef uint64_t gpu_keeping;
static inline gpu_keeping gpu_keeping_of(bool once) {
  return once;
}
static inline void gpu_copy_async_kept(void *shared, const void *global, bool valid, gpu_keeping) {
  emulated_copy_async(shared, global, valid);
}
static inline void gpu_copy_async(void *shared, const void *global, bool valid) {
  emulated_copy_async(shared, global, valid);
}
static inline void gpu_copy_commit(void) {
  emulated_copy_commit();
}
template <int pending> static inline void gpu_copy_wait(void) {
  emulated_copy_wait(pending);
}

// --- tensor cores ---
static inline void gpu_mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
  emulated_mma mma = {d, a, b};
  emulated_meet(EMULATED_MMA, &mma);
}
static inline void gpu_load_matrix(uint32_t r[4], const void *shared_row) {
  emulated_load load = {r, shared_row};
  emulated_meet(EMULATED_LOAD_MATRIX, &load);
}
static inline void gpu_load_matrix_transposed(uint32_t r[4], const void *shared_row) {
  emulated_load load = {r, shared_row};
  emulated_meet(EMULATED_LOAD_MATRIX_TRANSPOSED, &load);
}

#endif
