// The CUDA device: finding and opening a GPU, error messages, scratch memory, and the table of its ops.
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/sequences.h"

#ifdef SS_EMULATE
#define nvtxRangePushA(name) ((void)(name))
#define nvtxRangePop() ((void)0)
#else
#include <nvtx3/nvToolsExt.h>
#endif

#define OLDEST_CAPABILITY 80  // bf16 tensor cores, asynchronous copies
#define SCRATCH_STEP ((size_t)2 << 20)
#define GIB (1024.0 * 1024.0 * 1024.0)

ss_status cuda_failed(ss_device *device, cudaError_t code, const char *call, const char *file, int line) {
  cudaGetLastError();  // told once: the next launch must not find it again
  return ss_fail(&device->error, code == cudaErrorMemoryAllocation ? SS_ERROR_MEMORY : SS_ERROR_DEVICE,
                 "cuda: %s (%s), seen by %.200s at %s:%d", cudaGetErrorString(code), cudaGetErrorName(code),
                 call, file, line);
}

ss_status cuda_scratch(ss_device *device, int which, void **out, size_t bytes) {
  cuda_device *cuda = cuda_of(device);
  if (!cuda->scratch[which] || bytes > cuda->scratch_bytes[which]) {
    size_t rounded = (bytes / SCRATCH_STEP + 1) * SCRATCH_STEP;
    SS_TRY(cuda_refuse_recording(device, "growing the scratch memory"));
    ++cuda->n_moved;
    // Freed first, so that the old and the new never count together; kernels that use it must be done.
    CUDA_TRY(device, cudaStreamSynchronize(cuda->stream));
    CUDA_TRY(device, cudaFree(cuda->scratch[which]));
    cuda->scratch[which] = NULL;
    cuda->scratch_bytes[which] = 0;
    void *grown = NULL;
    cudaError_t code = cudaMalloc(&grown, rounded);
    if (code == cudaErrorMemoryAllocation) {
      size_t free_bytes = 0, total_bytes = 0;
      cudaGetLastError();
      cudaMemGetInfo(&free_bytes, &total_bytes);
      return ss_fail(&device->error, SS_ERROR_MEMORY,
                     "cuda: out of memory: %zu bytes of scratch (%zu of the GPU's %zu bytes are free)",
                     rounded, free_bytes, total_bytes);
    }
    CUDA_TRY(device, code);
    cuda->scratch[which] = grown;
    cuda->scratch_bytes[which] = rounded;
  }
  *out = cuda->scratch[which];
  return SS_OK;
}

ss_status cuda_stamp(ss_device *device, int32_t index) {
  cuda_device *cuda = cuda_of(device);
  CUDA_REQUIRE(device, index >= 0 && index < SS_N_STAMP, "stamp %d, expected 0..%d", index, SS_N_STAMP - 1);
  SS_TRY(cuda_refuse_recording(device, "stamp"));
  if (!cuda->stamps[index])
    CUDA_TRY(device, cudaEventCreateWithFlags(&cuda->stamps[index], cudaEventDefault));
  CUDA_TRY(device, cudaEventRecord(cuda->stamps[index], cuda->stream));
  return SS_OK;
}

ss_status cuda_stamp_seconds(ss_device *device, int32_t from, int32_t to, double *seconds) {
  cuda_device *cuda = cuda_of(device);
  CUDA_REQUIRE(device, from >= 0 && from < SS_N_STAMP && to >= 0 && to < SS_N_STAMP,
               "stamps %d and %d, expected 0..%d", from, to, SS_N_STAMP - 1);
  CUDA_REQUIRE(device, cuda->stamps[from] && cuda->stamps[to], "stamps %d and %d: not both were set", from,
               to);
  SS_TRY(cuda_refuse_recording(device, "stamp_seconds"));
  float milliseconds = 0;
  CUDA_TRY(device, cudaEventSynchronize(cuda->stamps[from]));
  CUDA_TRY(device, cudaEventSynchronize(cuda->stamps[to]));
  CUDA_TRY(device, cudaEventElapsedTime(&milliseconds, cuda->stamps[from], cuda->stamps[to]));
  *seconds = (double)milliseconds * 1e-3;
  return SS_OK;
}

static void cuda_range_push(ss_device *device, const char *name) {
  (void)device;
  nvtxRangePushA(name);
}

static void cuda_range_pop(ss_device *device) {
  (void)device;
  nvtxRangePop();
}

static void cuda_destroy(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  cuda_graph_abandon(device);
  if (cuda->stream)
    cudaStreamSynchronize(cuda->stream);
  attention_cudnn_free(device);
  cuda_gemm_free(device);
  cuda_staging_free(device);
  for (int which = 0; which < 2; ++which)
    cudaFree(cuda->scratch[which]);
  cudaFree(cuda->optimizer_table);
  cudaFree(cuda->step_memory);
  for (int i = 0; i < SS_N_STAMP; ++i)
    if (cuda->stamps[i])
      cudaEventDestroy(cuda->stamps[i]);
  if (cuda->stream)
    cudaStreamDestroy(cuda->stream);
  free(cuda);
}

static const ss_ops cuda_ops = {
    .name = "cuda",
    .allocate = cuda_allocate,
    .release = cuda_release,
    .allocate_host = cuda_allocate_host,
    .release_host = cuda_release_host,
    .memory_free = cuda_memory_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .download_async = cuda_download_async,
    .zero = cuda_zero,
    .convert = cuda_convert,
    .synchronize = cuda_synchronize,
    .stamp = cuda_stamp,
    .stamp_seconds = cuda_stamp_seconds,
    .range_push = cuda_range_push,
    .range_pop = cuda_range_pop,
    .embedding_forward = cuda_embedding_forward,
    .embedding_backward = cuda_embedding_backward,
    .norm_forward = cuda_norm_forward,
    .norm_backward = cuda_norm_backward,
    .linear_forward = cuda_linear_forward,
    .linear_backward = cuda_linear_backward,
    .linear_activation_forward = cuda_linear_activation_forward,
    .linear_activation_backward = cuda_linear_activation_backward,
    .rotary = cuda_rotary,
    .attention_plan = cuda_attention_plan,
    .attention_plan_free = cuda_attention_plan_free,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .cache_append = cuda_cache_append,
    .activation_forward = cuda_activation_forward,
    .activation_backward = cuda_activation_backward,
    .classifier_loss = cuda_classifier_loss,
    .gradient_norm = cuda_gradient_norm,
    .adamw = cuda_adamw,
    .step_linear = cuda_step_linear,
    .step_residual = cuda_step_residual,
    .step_qkv = cuda_step_qkv,
    .sequences = &cuda_sequence_ops,
    .graph_begin = cuda_graph_begin,
    .graph_end = cuda_graph_end,
    .graph_launch = cuda_graph_launch,
    .graph_valid = cuda_graph_valid,
    .graph_free = cuda_graph_free,
    .destroy = cuda_destroy,
};

// ---------------------------------------------------------------- opening

// The first GPU that is new enough.
static ss_status find_gpu(int *ordinal, struct cudaDeviceProp *properties, ss_error *error) {
  int count = 0, driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver && driver == 0)
    return ss_fail(error, SS_ERROR_DEVICE, "device cuda: no NVIDIA driver (expected one for CUDA %d.%d)",
                   runtime / 1000, runtime % 1000 / 10);
  if (code == cudaErrorInsufficientDriver)
    return ss_fail(error, SS_ERROR_DEVICE,
                   "device cuda: the NVIDIA driver is for CUDA %d.%d (expected %d.%d or later)",
                   driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0))
    return ss_fail(error, SS_ERROR_DEVICE, "device cuda: no GPU found (CUDA_VISIBLE_DEVICES is %s)",
                   getenv("CUDA_VISIBLE_DEVICES") ? getenv("CUDA_VISIBLE_DEVICES") : "not set");
  if (code != cudaSuccess)
    return ss_fail(error, SS_ERROR_DEVICE, "device cuda: %s (%s)", cudaGetErrorString(code),
                   cudaGetErrorName(code));
  for (*ordinal = 0; *ordinal < count; ++*ordinal) {
    code = cudaGetDeviceProperties(properties, *ordinal);
    if (code != cudaSuccess)
      return ss_fail(error, SS_ERROR_DEVICE, "device cuda: GPU %d: %s", *ordinal, cudaGetErrorString(code));
    if (properties->major * 10 + properties->minor >= OLDEST_CAPABILITY)
      return SS_OK;
  }
  return ss_fail(error, SS_ERROR_DEVICE,
                 "device cuda: %s has compute capability %d.%d (expected %d.%d or later)", properties->name,
                 properties->major, properties->minor, OLDEST_CAPABILITY / 10, OLDEST_CAPABILITY % 10);
}

static void describe(cuda_device *cuda, const struct cudaDeviceProp *properties) {
  static const char *const precisions[] =
      {[SS_PRECISION_FP32] = "fp32", [SS_PRECISION_TF32] = "tf32", [SS_PRECISION_BF16] = "bf16"};
  size_t free_bytes = 0, total_bytes = 0;
  int driver = 0, runtime = 0;
  char versions[64] = "emulator";
  cudaMemGetInfo(&free_bytes, &total_bytes);
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (runtime)
    snprintf(versions, sizeof versions, "CUDA %d.%d driver %d.%d", runtime / 1000, runtime % 1000 / 10,
             driver / 1000, driver % 1000 / 10);
  snprintf(cuda->base.description, sizeof cuda->base.description,
           "cuda, %.100s (sm_%d, %d SMs, %.1f GiB free), %s, %s%s", properties->name,
           cuda->compute_capability, cuda->n_multiprocessor, (double)free_bytes / GIB, versions,
           precisions[cuda->precision], cuda->deterministic ? ", deterministic" : "");
}

// What must exist before the first op; the caller destroys the device when it fails.
static ss_status prepare(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  CUDA_TRY(device, cudaSetDevice(cuda->ordinal));
  CUDA_TRY(device, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
  SS_TRY(cuda_staging_create(device));
  return cuda_gemm_create(device);
}

ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error) {
  *out = NULL;
  int ordinal = 0;
  struct cudaDeviceProp properties;
  SS_TRY(find_gpu(&ordinal, &properties, error));
  cuda_device *cuda = NULL;
  SS_TRY(ss_allocate(&cuda, 1, sizeof *cuda, "the CUDA device", error));
  cuda->base.ops = &cuda_ops;
  cuda->base.compute = options->precision == SS_PRECISION_BF16 ? SS_BF16 : SS_F32;
  cuda->ordinal = ordinal;
  cuda->n_multiprocessor = properties.multiProcessorCount;
  cuda->compute_capability = properties.major * 10 + properties.minor;
  cuda->l2_bytes = (size_t)properties.l2CacheSize;
  cuda->precision = options->precision;
  cuda->deterministic = options->deterministic;
  cuda->attention = options->attention;
  if (prepare(&cuda->base) != SS_OK) {
    ss_status status = ss_fail(error, cuda->base.error.status, "%s", cuda->base.error.message);
    cuda_destroy(&cuda->base);
    return status;
  }
  describe(cuda, &properties);
  *out = &cuda->base;
  return SS_OK;
}
