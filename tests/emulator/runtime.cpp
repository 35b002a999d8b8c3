// Device memory, copies, streams and events over host memory.
#include "tests/emulator/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_BYTES ((size_t)8 << 30)  // what the emulated device says it has

struct allocation {
  char *data;
  size_t bytes;
  void *base;  // of the mapping
  size_t base_bytes;
  bool host;
};

struct pending {
  void *to;
  const void *from;
  void *snapshot;  // device to host: what the device held when the copy's turn came
  size_t bytes;
};

struct emulated_stream {
  int unused;
};
struct emulated_event {
  struct timespec time;
};

static struct {
  allocation *list;  // by address
  int count, capacity;
  size_t used;
  pending *to_device, *to_host;
  int n_to_device, n_to_host, to_device_capacity, to_host_capacity;
  cudaError_t last_error;
} memory;

// graph.cpp: true while something is captured, whose end will then fail.
bool emulated_capture_spoiled(void);

void emulated_set_error(cudaError_t error) {
  memory.last_error = error;
}

static cudaError_t failed(cudaError_t error) {
  memory.last_error = error;
  return error;
}

// ---------------------------------------------------------------- allocations

static int find(const void *data) {
  int low = 0, high = memory.count;  // the last allocation that starts at or before data
  while (low < high) {
    int middle = (low + high) / 2;
    if (memory.list[middle].data <= (const char *)data)
      low = middle + 1;
    else
      high = middle;
  }
  return low - 1;
}

static const allocation *allocation_of(const void *data, size_t bytes) {
  int i = find(data);
  if (i < 0)
    return NULL;
  const allocation *a = &memory.list[i];
  return (const char *)data + bytes <= a->data + a->bytes ? a : NULL;
}

bool emulated_is_device_memory(const void *data, size_t bytes) {
  return allocation_of(data, bytes) != NULL;
}

#define SLACK 0xc5  // around an allocation: a large negative number in fp32 and bf16

#ifndef EMULATED_SANITIZED
static void require_slack(const char *first, const char *last, const char *where, size_t bytes) {
  for (; first < last; ++first)
    if (*(const unsigned char *)first != SLACK)
      emulated_abort("something wrote %s an allocation of %zu bytes", where, bytes);
}
#endif

static cudaError_t allocate(void **data, size_t bytes, bool host) {
  *data = NULL;
  if (emulated_capture_spoiled())
    return failed(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0)
    return cudaSuccess;
  if (!host && bytes > MEMORY_BYTES - memory.used)
    return failed(cudaErrorMemoryAllocation);
  allocation a = {NULL, bytes, NULL, 0, host};
#ifdef EMULATED_SANITIZED
  if (posix_memalign(&a.base, 256, bytes) != 0)
    return failed(cudaErrorMemoryAllocation);
  a.data = (char *)a.base;
#else
  // Up against an inaccessible page, as far as the alignment of the widest loads permits.
  size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + 15) / 16 * 16;
  a.base_bytes = (rounded + page - 1) / page * page + 2 * page;
  a.base = mmap(NULL, a.base_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
  if (a.base == MAP_FAILED)
    return failed(cudaErrorMemoryAllocation);
  mprotect(a.base, page, PROT_NONE);
  mprotect((char *)a.base + a.base_bytes - page, page, PROT_NONE);
  a.data = (char *)a.base + a.base_bytes - page - rounded;
  memset(a.data + bytes, SLACK, rounded - bytes);
  memset((char *)a.base + page, SLACK, (size_t)(a.data - (char *)a.base) - page);
#endif
  memset(a.data, 0xff, bytes);
  if (memory.count == memory.capacity) {
    memory.capacity = memory.capacity ? 2 * memory.capacity : 64;
    memory.list = (allocation *)realloc(memory.list, (size_t)memory.capacity * sizeof *memory.list);
    if (!memory.list)
      emulated_abort("out of memory");
  }
  int at = find(a.data) + 1;
  memmove(memory.list + at + 1, memory.list + at, (size_t)(memory.count - at) * sizeof *memory.list);
  memory.list[at] = a;
  ++memory.count;
  if (!host)
    memory.used += bytes;
  *data = a.data;
  return cudaSuccess;
}

static cudaError_t release(void *data, bool host) {
  if (!data)
    return cudaSuccess;
  if (emulated_capture_spoiled())
    return failed(cudaErrorStreamCaptureUnsupported);
  cudaDeviceSynchronize();
  int i = find(data);
  if (i < 0 || memory.list[i].data != data || memory.list[i].host != host)
    emulated_abort("%s of %p, which is not such an allocation", host ? "cudaFreeHost" : "cudaFree", data);
  allocation a = memory.list[i];
  memmove(memory.list + i, memory.list + i + 1, (size_t)(memory.count - i - 1) * sizeof *memory.list);
  if (--memory.count == 0) {
    // Everything is back: leave nothing for a leak checker.
    free(memory.list);
    free(memory.to_device);
    free(memory.to_host);
    cudaError_t error = memory.last_error;
    memset(&memory, 0, sizeof memory);
    memory.last_error = error;
  } else if (!host) {
    memory.used -= a.bytes;
  }
#ifdef EMULATED_SANITIZED
  free(a.base);
#else
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  require_slack((char *)a.base + page, a.data, "before", a.bytes);
  require_slack(a.data + a.bytes, (char *)a.base + a.base_bytes - page, "beyond", a.bytes);
  munmap(a.base, a.base_bytes);
#endif
  return cudaSuccess;
}

cudaError_t emulated_malloc(void **data, size_t bytes) {
  return allocate(data, bytes, false);
}
cudaError_t emulated_host_alloc(void **data, size_t bytes) {
  return allocate(data, bytes, true);
}
cudaError_t cudaFree(void *data) {
  return release(data, false);
}
cudaError_t cudaFreeHost(void *data) {
  return release(data, true);
}

// ---------------------------------------------------------------- the queue

static void push(pending **list, int *count, int *capacity, pending item) {
  if (*count == *capacity) {
    *capacity = *capacity ? 2 * *capacity : 16;
    *list = (pending *)realloc(*list, (size_t)*capacity * sizeof **list);
    if (!*list)
      emulated_abort("out of memory");
  }
  (*list)[(*count)++] = item;
}

void emulated_device_work(void) {
  for (int i = 0; i < memory.n_to_device; ++i)
    memcpy(memory.to_device[i].to, memory.to_device[i].from, memory.to_device[i].bytes);
  memory.n_to_device = 0;
}

static cudaError_t wait_for_all(void) {
  if (emulated_capture_spoiled())
    return failed(cudaErrorStreamCaptureUnsupported);
  emulated_device_work();
  for (int i = 0; i < memory.n_to_host; ++i) {
    memcpy(memory.to_host[i].to, memory.to_host[i].snapshot, memory.to_host[i].bytes);
    free(memory.to_host[i].snapshot);
  }
  memory.n_to_host = 0;
  return cudaSuccess;
}

static void require_device(const void *data, size_t bytes, const char *what) {
  const allocation *a = allocation_of(data, bytes);
  if (!a || a->host)
    emulated_abort("%s: [%p, +%zu) is not in one allocation of device memory", what, data, bytes);
}

static bool is_locked(const void *data, size_t bytes) {
  const allocation *a = allocation_of(data, bytes);
  return a && a->host;
}

// A copy or memset in a captured graph.
struct recorded_copy {
  void *to;
  const void *from;  // NULL: memset
  size_t bytes;
  int value;
  cudaMemcpyKind kind;
};

static void run_recorded(void *data) {
  const recorded_copy *copy = (const recorded_copy *)data;
  if (copy->from)
    cudaMemcpyAsync(copy->to, copy->from, copy->bytes, copy->kind, NULL);
  else
    cudaMemsetAsync(copy->to, copy->value, copy->bytes, NULL);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0)
    return cudaSuccess;
  if (emulated_recording(stream)) {
    *(recorded_copy *)emulated_record(run_recorded, sizeof(recorded_copy)) = {to, from, bytes, 0, kind};
    return cudaSuccess;
  }
  if (kind == cudaMemcpyDefault) {
    const allocation *a = allocation_of(to, bytes), *b = allocation_of(from, bytes);
    bool to_device = a && !a->host, from_device = b && !b->host;
    kind = to_device     ? from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
           : from_device ? cudaMemcpyDeviceToHost
                         : cudaMemcpyHostToHost;
  }
  if (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice)
    require_device(to, bytes, "cudaMemcpyAsync, destination");
  if (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)
    require_device(from, bytes, "cudaMemcpyAsync, source");
  if (kind == cudaMemcpyHostToDevice && is_locked(from, bytes)) {
    pending item = {to, from, NULL, bytes};
    push(&memory.to_device, &memory.n_to_device, &memory.to_device_capacity, item);
    return cudaSuccess;
  }
  emulated_device_work();
  if (kind == cudaMemcpyDeviceToHost && is_locked(to, bytes)) {
    pending item = {to, from, malloc(bytes), bytes};
    if (!item.snapshot)
      emulated_abort("out of memory");
    memcpy(item.snapshot, from, bytes);
    memset(to, 0xff, bytes);
    push(&memory.to_host, &memory.n_to_host, &memory.to_host_capacity, item);
    return cudaSuccess;
  }
  memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
  return error == cudaSuccess ? wait_for_all() : error;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch)
    return failed(cudaErrorInvalidValue);
  for (size_t row = 0; row < height; ++row)
    cudaMemcpyAsync((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width, kind, stream);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *data, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0)
    return cudaSuccess;
  if (emulated_recording(stream)) {
    *(recorded_copy *)emulated_record(run_recorded, sizeof(recorded_copy)) = {data, NULL, bytes, value,
                                                                              cudaMemcpyDefault};
    return cudaSuccess;
  }
  require_device(data, bytes, "cudaMemset");
  emulated_device_work();
  memset(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemset(void *data, int value, size_t bytes) {
  return cudaMemsetAsync(data, value, bytes, NULL);
}
cudaError_t cudaMemset2DAsync(void *data, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  if (width > pitch)
    return failed(cudaErrorInvalidValue);
  for (size_t row = 0; row < height; ++row)
    cudaMemsetAsync((char *)data + row * pitch, value, width, stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int) {
  *stream = (cudaStream_t)calloc(1, sizeof **stream);
  return *stream ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  wait_for_all();
  free(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return wait_for_all();
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  return wait_for_all();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned int) {
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
  return wait_for_all();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int) {
  *event = (cudaEvent_t)calloc(1, sizeof **event);
  return *event ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  free(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  clock_gettime(CLOCK_MONOTONIC, &event->time);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return wait_for_all();
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  return wait_for_all();
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = (float)((double)(stop->time.tv_sec - start->time.tv_sec) * 1e3 +
                          (double)(stop->time.tv_nsec - start->time.tv_nsec) * 1e-6);
  return cudaSuccess;
}

// ---------------------------------------------------------------- the device

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : failed(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  if (device != 0)
    return failed(cudaErrorInvalidDevice);
  memset(properties, 0, sizeof *properties);
  snprintf(properties->name, sizeof properties->name, "emulated GPU");
  properties->totalGlobalMem = MEMORY_BYTES;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = 227 * 1024;
  properties->sharedMemPerMultiprocessor = 228 * 1024;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 50 << 20;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->regsPerBlock = 65536;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess)
    return error;
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock:
    *value = properties.maxThreadsPerBlock;
    break;
  case cudaDevAttrMultiProcessorCount:
    *value = properties.multiProcessorCount;
    break;
  case cudaDevAttrL2CacheSize:
    *value = properties.l2CacheSize;
    break;
  case cudaDevAttrComputeCapabilityMajor:
    *value = properties.major;
    break;
  case cudaDevAttrComputeCapabilityMinor:
    *value = properties.minor;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = (int)properties.sharedMemPerBlockOptin;
    break;
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = MEMORY_BYTES - memory.used;
  *total_bytes = MEMORY_BYTES;
  return cudaSuccess;
}
cudaError_t cudaGetLastError(void) {
  cudaError_t error = memory.last_error;
  memory.last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError(void) {
  return memory.last_error;
}
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess:
    return "no error";
  case cudaErrorInvalidValue:
    return "invalid argument";
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorInvalidConfiguration:
    return "invalid configuration argument";
  case cudaErrorInvalidDevice:
    return "invalid device ordinal";
  case cudaErrorStreamCaptureUnsupported:
    return "operation not permitted when stream is capturing";
  case cudaErrorStreamCaptureInvalidated:
    return "operation failed due to a previous error during capture";
  default:
    return "unknown error";
  }
}
const char *cudaGetErrorName(cudaError_t error) {
  return cudaGetErrorString(error);
}
