// The part of the CUDA runtime that the backend calls, for C and C++, over host memory. Its declarations follow
// cuda_runtime_api.h, so that kernels/cuda compiles against either.
#ifndef SELFSPAN_TESTS_EMULATOR_RUNTIME_H
#define SELFSPAN_TESTS_EMULATOR_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATED_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATED_SANITIZED 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CUDART_VERSION 0  // the emulator

typedef enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901
} cudaError_t;

typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
typedef enum {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
} cudaStreamCaptureMode;

typedef enum {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
} cudaMemcpyKind;

enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1 };
enum { cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2 };
enum {
  cudaHostAllocDefault = 0,
  cudaHostAllocPortable = 1,
  cudaHostAllocMapped = 2,
  cudaHostAllocWriteCombined = 4
};

typedef enum {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
} cudaFuncAttribute;

typedef enum {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
} cudaDeviceAttr;

typedef struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  size_t sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
  int major, minor;
  int multiProcessorCount;
  int l2CacheSize;
  int warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor, regsPerBlock;
} cudaDeviceProp;

// --- device ---
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t emulated_function_shared(const void *kernel, int bytes);

// --- memory: filled with 0xff; an access beyond its end stops the program ---
cudaError_t emulated_malloc(void **data, size_t bytes);
cudaError_t emulated_host_alloc(void **data, size_t bytes);
cudaError_t cudaFree(void *data);
cudaError_t cudaFreeHost(void *data);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void *data, int value, size_t bytes);
// Copies between page-locked and device memory happen as late as they may: out of host memory before the next work
// of the stream or the next wait, into host memory (poisoned meanwhile) at the next wait.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemset2DAsync(void *data, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream);

// --- streams and events: one queue, in order ---
cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop);

// --- graphs: one capture at a time. Launches, products, copies and memsets of the stream are queued with copies of their
// arguments; what waits or allocates meanwhile fails, and so does then the end of the capture ---
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

// --- for the emulator's own parts ---
// Whether the stream is being captured; then emulated_record queues a piece of work instead: run(data) at every launch of
// the graph, where data are the `bytes` that the caller fills after the call.
bool emulated_recording(cudaStream_t stream);
void *emulated_record(void (*run)(void *data), size_t bytes);
// Copies that wait for the next work of the stream are done now: every emulated launch and library call starts so.
void emulated_device_work(void);
void emulated_set_error(cudaError_t error);
// Whether [data, data + bytes) lies in one allocation of the device or of page-locked memory.
bool emulated_is_device_memory(const void *data, size_t bytes);
// Prints "emulator: ..." with the running kernel, and aborts.
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void emulated_abort(const char *format, ...);

#ifdef __cplusplus
}

// As in cuda_runtime.h, C++ callers need no casts.
template <typename type> static inline cudaError_t cudaMalloc(type **data, size_t bytes) {
  return emulated_malloc((void **)data, bytes);
}
template <typename type> static inline cudaError_t cudaMallocAsync(type **data, size_t bytes, cudaStream_t) {
  return emulated_malloc((void **)data, bytes);
}
template <typename type>
static inline cudaError_t cudaMallocHost(type **data, size_t bytes, unsigned int = 0) {
  return emulated_host_alloc((void **)data, bytes);
}
template <typename type> static inline cudaError_t cudaHostAlloc(type **data, size_t bytes, unsigned int) {
  return emulated_host_alloc((void **)data, bytes);
}
template <typename kernel_type>
static inline cudaError_t cudaFuncSetAttribute(kernel_type *kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
    return cudaSuccess;
  return emulated_function_shared((const void *)kernel, value);
}
template <typename kernel_type>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, kernel_type *, int,
                                                                        size_t) {
  *blocks = 2;
  return cudaSuccess;
}
#else
static inline cudaError_t cudaMalloc(void **data, size_t bytes) {
  return emulated_malloc(data, bytes);
}
static inline cudaError_t cudaMallocHost(void **data, size_t bytes) {
  return emulated_host_alloc(data, bytes);
}
static inline cudaError_t cudaHostAlloc(void **data, size_t bytes, unsigned int flags) {
  (void)flags;
  return emulated_host_alloc(data, bytes);
}
#endif
static inline cudaError_t cudaFreeAsync(void *data, cudaStream_t stream) {
  (void)stream;
  return cudaFree(data);
}

#endif
