// The primitives of gpu.cuh for real GPUs (sm_80 and later). tests/emulator/emulator.h holds the same names.
#ifndef SELFSPAN_KERNELS_CUDA_GPU_PRIMITIVES_CUH
#define SELFSPAN_KERNELS_CUDA_GPU_PRIMITIVES_CUH

#include <cuda_bf16.h>

// --- launches ---
// GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...). A kernel template with a comma in its name
// goes in parentheses. Dynamic shared memory above 48 KB: gpu_allow_shared first.
#define GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
// GPU_LAUNCH_EARLY(early, ...): the same for a kernel that, with `early` (cuda_launches_early), may start before the one
// ahead of it in the stream has finished (programmatic dependent launch). Before it writes anything, or reads what others
// write, it calls gpu_wait_previous: at least in one thread of every launch, so that a kernel is not done before those ahead
// of it are. What kernels do after they have waited is then as serial as without, scratch memory included, whenever
// they release the next one. Where gpu_release_next comes decides what the next one may read before it waits:
//  - after the wait: whatever ran before this kernel is done, and may be read;
//  - before the wait: nothing need be done, and weights alone may be read, which nobody writes.
#define GPU_LAUNCH_EARLY(early, kernel, grid, block, shared_bytes, stream, ...) \
  gpu_launch_early((early), (kernel), (grid), (block), (shared_bytes), (stream), __VA_ARGS__)
template <typename... parameters, typename... arguments>
static inline cudaError_t gpu_launch_early(bool early, void (*kernel)(parameters...), dim3 grid, dim3 block,
                                           size_t shared_bytes, cudaStream_t stream, arguments... values) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared_bytes;
  config.stream = stream, config.attrs = &attribute, config.numAttrs = early;
  return cudaLaunchKernelEx(&config, kernel, (parameters)values...);
}
#define gpu_allow_shared(kernel, bytes) \
  cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
// The block's dynamic shared memory, 128-byte aligned: GPU_DYNAMIC_SHARED(pointer_name);
#define GPU_DYNAMIC_SHARED(name)                                \
  extern __shared__ __align__(128) unsigned char gpu_shared_[]; \
  unsigned char *name = gpu_shared_
// A device function that is rare and long: called, not copied into every caller.
#define GPU_CALLED static __device__ __noinline__
// A static shared array: GPU_SHARED(float, partial, [32]);
#define GPU_SHARED(type, name, dimensions) __shared__ type name dimensions

// --- bf16 ---
typedef __nv_bfloat16 gpu_bf16;
__device__ __forceinline__ float gpu_float(gpu_bf16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float gpu_float(float x) {
  return x;
}
// Round to nearest even.
__device__ __forceinline__ gpu_bf16 gpu_to_bf16(float x) {
  return __float2bfloat16_rn(x);
}
// Two bf16 in a word, `low` in the lower half (the lower address).
__device__ __forceinline__ uint32_t gpu_pack_bf16(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t *>(&pair);
}
__device__ __forceinline__ float gpu_low_bf16(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float gpu_high_bf16(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// --- programmatic dependent launch: nothing before sm_90 ---
__device__ __forceinline__ void gpu_wait_previous(void) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void gpu_release_next(void) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Adds 1 and gives what was there. Releases and acquires: what this thread has written or has learnt of at a barrier is
// seen by whoever counts after it, and by those who then meet that one at a barrier. One thread's, for a fence of every
// thread of a block takes half a microsecond and more where writes are on their way.
__device__ __forceinline__ int32_t gpu_count_arrival(int32_t *counter) {
  int32_t old;
  asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(old) : "l"(counter) : "memory");
  return old;
}

// --- arithmetic ---
__device__ __forceinline__ float gpu_exp2(float x) {  // hardware approximation, 2 ulp; exp2(-inf) = 0
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float gpu_tanh(float x) {  // tanh.approx: relative error 2^-11
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// --- warp: every lane of the warp takes part ---
__device__ __forceinline__ void gpu_sync_block(void) {
  __syncthreads();
}
__device__ __forceinline__ void gpu_sync_warp(void) {
  __syncwarp();
}
template <typename type> __device__ __forceinline__ type gpu_shuffle_xor(type value, int lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, lane_mask);
}
template <typename type> __device__ __forceinline__ type gpu_shuffle(type value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
__device__ __forceinline__ uint32_t gpu_ballot(bool predicate) {
  return __ballot_sync(0xffffffffu, predicate);
}
__device__ __forceinline__ float gpu_warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value += gpu_shuffle_xor(value, mask);
  return value;
}
__device__ __forceinline__ float gpu_warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2)
    value = fmaxf(value, gpu_shuffle_xor(value, mask));
  return value;
}

// How long the L2 cache keeps what is read: as usual, or, with `once`, no longer than anything else.
typedef uint64_t gpu_keeping;
__device__ __forceinline__ gpu_keeping gpu_keeping_of(bool once) {
  gpu_keeping keeping;
  if (once)
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(keeping));
  else
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(keeping));
  return keeping;
}

// --- asynchronous copies: 16 bytes, global to shared; both addresses 16-byte aligned ---
// When `valid` is false nothing is read and the 16 bytes become zero; `global` must then still be an address inside
// some allocation.
__device__ __forceinline__ void gpu_copy_async(void *shared, const void *global, bool valid) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
// The same, telling the L2 cache how long to keep what it reads.
__device__ __forceinline__ void gpu_copy_async_kept(void *shared, const void *global, bool valid,
                                                    gpu_keeping keeping) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(address), "l"(global),
               "r"(valid ? 16 : 0), "l"(keeping)
               : "memory");
}
__device__ __forceinline__ void gpu_copy_commit(void) {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` of this thread's committed groups are unfinished; others' copies need a
// gpu_sync_block after it.
template <int pending> __device__ __forceinline__ void gpu_copy_wait(void) {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// --- tensor cores: mma.m16n8k16, bf16 in, fp32 out; all 32 lanes ---
// Fragments by lane (g = lane / 4, t = lane % 4), as the PTX manual has them:
//   a[0] = A[g][2t,2t+1]     a[1] = A[g+8][2t,2t+1]    a[2] = A[g][2t+8,2t+9]    a[3] = A[g+8][2t+8,2t+9]
//   b[0] = B[2t,2t+1][g]     b[1] = B[2t+8,2t+9][g]    (B is 16 x 8, k by n)
//   d[0] = D[g][2t]   d[1] = D[g][2t+1]   d[2] = D[g+8][2t]   d[3] = D[g+8][2t+1]
// d += a b
__device__ __forceinline__ void gpu_mma(float d[4], const uint32_t a[4], const uint32_t b[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
               "{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four 8x8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned); then
// r[m] of lane l holds elements 2(l%4), 2(l%4)+1 of row l/4 of matrix m. Transposed: of column l/4.
__device__ __forceinline__ void gpu_load_matrix(uint32_t r[4], const void *shared_row) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared_row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void gpu_load_matrix_transposed(uint32_t r[4], const void *shared_row) {
  uint32_t address = (uint32_t)__cvta_generic_to_shared(shared_row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

#endif
