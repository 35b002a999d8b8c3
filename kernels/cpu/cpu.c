// The CPU device: opening, memory, and the table of its ops.
#include "kernels/cpu/cpu.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"

#define CPU_ALIGNMENT 64

static ss_status cpu_allocate(ss_device *device, void **data, size_t bytes, const char *what) {
  return ss_allocate(data, (int64_t)bytes, 1, what, &device->error);
}

static void cpu_release(ss_device *device, void *data) {
  (void)device;
  free(data);
}

static ss_status cpu_upload(ss_device *device, void *device_data, const void *host, size_t bytes) {
  (void)device;
  if (bytes)
    memcpy(device_data, host, bytes);
  return SS_OK;
}

static ss_status cpu_download(ss_device *device, void *host, const void *device_data, size_t bytes) {
  (void)device;
  if (bytes)
    memcpy(host, device_data, bytes);
  return SS_OK;
}

// What the kernel says can be handed out without swapping; without /proc, all memory.
static ss_status cpu_memory_free(ss_device *device, size_t *free_bytes, size_t *total_bytes) {
  long page = sysconf(_SC_PAGESIZE), pages = sysconf(_SC_PHYS_PAGES);
  if (page < 1 || pages < 1)
    return ss_fail(&device->error, SS_ERROR_DEVICE, "the amount of memory cannot be found out");
  *total_bytes = *free_bytes = (size_t)pages * (size_t)page;
  FILE *file = fopen("/proc/meminfo", "r");
  if (!file)
    return SS_OK;
  char line[128];
  unsigned long long kibibytes;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "MemAvailable: %llu kB", &kibibytes) == 1)
      *free_bytes = (size_t)kibibytes * 1024;
  fclose(file);
  return SS_OK;
}

static ss_status cpu_convert(ss_device *device, ss_tensor out, ss_tensor in) {
  CPU_REQUIRE(device, out.dtype == SS_F32 && in.dtype == SS_F32,
              "convert: the CPU backend computes in fp32 and holds nothing else (bf16 needs device cuda)");
  CPU_REQUIRE(device, cpu_is_matrix(in, out.rows, out.cols) && cpu_is_matrix(out, out.rows, out.cols),
              "convert: shapes do not fit together");
  for (int64_t row = 0; row < out.rows; ++row)
    memcpy(cpu_floats(out) + row * out.stride, cpu_floats(in) + row * in.stride,
           (size_t)out.cols * sizeof(float));
  return SS_OK;
}

static ss_status cpu_stamp(ss_device *device, int32_t index) {
  CPU_REQUIRE(device, index >= 0 && index < SS_N_STAMP, "stamp %d, expected 0..%d", index, SS_N_STAMP - 1);
  cpu_of(device)->stamps[index] = omp_get_wtime();
  return SS_OK;
}

static ss_status cpu_stamp_seconds(ss_device *device, int32_t from, int32_t to, double *seconds) {
  CPU_REQUIRE(device, from >= 0 && from < SS_N_STAMP && to >= 0 && to < SS_N_STAMP,
              "stamps %d and %d, expected 0..%d", from, to, SS_N_STAMP - 1);
  *seconds = cpu_of(device)->stamps[to] - cpu_of(device)->stamps[from];
  return SS_OK;
}

static void cpu_range_push(ss_device *device, const char *name) {
  (void)device, (void)name;
}

static void cpu_range_pop(ss_device *device) {
  (void)device;
}

static ss_status cpu_zero(ss_device *device, void *data, size_t bytes) {
  int64_t block = 1 << 20, n_block = cpu_ceil_divide((int64_t)bytes, block);
#pragma omp parallel for num_threads(cpu_of(device)->n_thread) schedule(static) if (n_block > 1)
  for (int64_t b = 0; b < n_block; ++b)
    memset((char *)data + b * block, 0, (size_t)cpu_minimum(block, (int64_t)bytes - b * block));
  return SS_OK;
}

static ss_status cpu_synchronize(ss_device *device) {
  (void)device;
  return SS_OK;
}

ss_status cpu_scratch(ss_device *device, int which, float **out, int64_t count) {
  cpu_device *cpu = cpu_of(device);
  if (!cpu->scratch[which] || count > cpu->scratch_capacity[which]) {
    // Not zeroed: an op writes before it reads, and scratch may be large.
    size_t bytes = (size_t)cpu_round_up((count + 16) * (int64_t)sizeof(float), CPU_ALIGNMENT);
    float *grown = aligned_alloc(CPU_ALIGNMENT, bytes);
    if (!grown)
      return ss_fail(&device->error, SS_ERROR_MEMORY,
                     "out of memory: %zu bytes of scratch for the CPU backend", bytes);
    free(cpu->scratch[which]);
    cpu->scratch[which] = grown;
    cpu->scratch_capacity[which] = count;
  }
  *out = cpu->scratch[which];
  return SS_OK;
}

static void cpu_destroy(ss_device *device) {
  cpu_device *cpu = cpu_of(device);
  for (int which = 0; which < CPU_SCRATCHES; ++which)
    free(cpu->scratch[which]);
  free(cpu->rotary);
  free(cpu);
}

static const ss_ops cpu_ops = {
    .name = "cpu",
    .allocate = cpu_allocate,
    .release = cpu_release,
    .allocate_host = cpu_allocate,
    .release_host = cpu_release,
    .memory_free = cpu_memory_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .download_async = cpu_download,
    .zero = cpu_zero,
    .convert = cpu_convert,
    .synchronize = cpu_synchronize,
    .stamp = cpu_stamp,
    .stamp_seconds = cpu_stamp_seconds,
    .range_push = cpu_range_push,
    .range_pop = cpu_range_pop,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .norm_forward = cpu_norm_forward,
    .norm_backward = cpu_norm_backward,
    .linear_forward = cpu_linear_forward,
    .linear_backward = cpu_linear_backward,
    .linear_activation_forward = cpu_linear_activation_forward,
    .linear_activation_backward = cpu_linear_activation_backward,
    .rotary = cpu_rotary,
    .attention_plan = cpu_attention_plan,
    .attention_plan_free = cpu_attention_plan_free,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .cache_append = cpu_cache_append,
    .activation_forward = cpu_activation_forward,
    .activation_backward = cpu_activation_backward,
    .classifier_loss = cpu_classifier_loss,
    .gradient_norm = cpu_gradient_norm,
    .adamw = cpu_adamw,
    .step_linear = cpu_step_linear,
    .step_residual = cpu_step_residual,
    .step_qkv = cpu_step_qkv,
    .destroy = cpu_destroy,
};

int cpu_list_simd(const cpu_simd *list[CPU_SIMDS]) {
  int n = 0;
#ifdef CPU_SIMD_X86
  __builtin_cpu_init();
  bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2");
  if (fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    list[n++] = &cpu_simd_avx512;
  if (fma)
    list[n++] = &cpu_simd_avx2;
#endif
  list[n++] = &cpu_simd_generic;
  return n;
}

ss_status ss_cpu_device_open(ss_device **out, int n_thread, ss_error *error) {
  *out = NULL;
  if (n_thread < 0 || n_thread > 4096)
    return ss_fail(error, SS_ERROR_USAGE, "device cpu: %d threads (expected 0 to 4096)", n_thread);
  cpu_device *cpu;
  SS_TRY(ss_allocate(&cpu, 1, sizeof *cpu, "the CPU device", error));
  cpu->base.ops = &cpu_ops;
  cpu->base.compute = SS_F32;
  cpu->base.synchronous = true;
  cpu->n_thread = n_thread > 0 ? n_thread : omp_get_max_threads();
  const cpu_simd *list[CPU_SIMDS];
  cpu_list_simd(list);
  cpu->simd = list[0];
  // OpenBLAS runs inside our tasks: its own threads would fight OpenMP's and change bits with their number.
  openblas_set_num_threads(1);
  snprintf(cpu->base.description, sizeof cpu->base.description, "cpu, fp32, %d thread%s, OpenBLAS %s, %s",
           cpu->n_thread, cpu->n_thread == 1 ? "" : "s", openblas_get_corename(), cpu->simd->name);
  *out = &cpu->base;
  return SS_OK;
}
