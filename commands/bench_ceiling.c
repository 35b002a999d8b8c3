// What the device can do at best: the rate of a large matrix product and of a large copy, measured with its own ops.
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "common/memory.h"
#include "common/random.h"

#define GEMM_SIZE_CUDA 8192
#define GEMM_SIZE_CPU 1024
#define GEMM_SIZE_EMULATOR 64
#define COPY_BYTES_CUDA ((int64_t)1 << 30)
#define COPY_BYTES_CPU ((int64_t)1 << 26)
#define COPY_BYTES_EMULATOR ((int64_t)1 << 18)
#define REPEATS 10

static int compare(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

typedef ss_status (*ceiling_work)(ss_device *device, const ss_tensor *tensors);

static ss_status product(ss_device *device, const ss_tensor *t) {
  return device->ops->linear_forward(device, t[0], t[1], t[2], (ss_tensor){0});
}
static ss_status copy(ss_device *device, const ss_tensor *t) {
  return device->ops->convert(device, t[0], t[1]);
}

static ss_status median_seconds(ss_device *device, ceiling_work work, const ss_tensor *tensors,
                                double *seconds, ss_error *error) {
  double times[REPEATS];
  for (int k = -2; k < REPEATS; ++k) {
    SS_OP(device, error, stamp, 0);
    if (work(device, tensors) != SS_OK)
      return ss_device_error(device, error);
    SS_OP(device, error, stamp, 1);
    double one = 0;
    SS_OP(device, error, stamp_seconds, 0, 1, &one);
    if (k >= 0)
      times[k] = one;
  }
  qsort(times, REPEATS, sizeof *times, compare);
  *seconds = 0.5 * (times[(REPEATS - 1) / 2] + times[REPEATS / 2]);
  return SS_OK;
}

// Random values: products of zeros run faster than real ones.
static ss_status fill(ss_device *device, ss_tensor out, void *staging, float *host, ss_error *error) {
  ss_random random = ss_random_seed(3, (uint64_t)out.rows);
  for (int64_t i = 0; i < out.rows * out.cols; ++i)
    host[i] = (float)(2 * ss_random_uniform(&random) - 1);
  SS_OP(device, error, upload, staging, host, (size_t)(out.rows * out.cols) * sizeof(float));
  SS_OP(device, error, convert, out, ss_matrix(staging, out.rows, out.cols));
  return SS_OK;
}

static ss_status measure(ss_device *device, int64_t size, int64_t copy_bytes, char *data, float *host,
                         bench_ceiling *out, ss_error *error) {
  size_t element = ss_dtype_size(device->compute), matrix = (size_t)(size * size);
  ss_tensor gemm[3];
  for (int k = 0; k < 3; ++k)
    gemm[k] = ss_matrix_of(data + matrix * element * (size_t)k, size, size, device->compute);
  void *staging = data + 3 * matrix * element;
  SS_TRY(fill(device, gemm[1], staging, host, error));
  SS_TRY(fill(device, gemm[2], staging, host, error));
  double seconds = 0;
  SS_TRY(median_seconds(device, product, gemm, &seconds, error));
  out->gemm_flops = 2.0 * (double)size * (double)size * (double)size / seconds;
  int64_t cols = 8192, rows = copy_bytes / cols / (int64_t)element;
  ss_tensor copies[2] = {ss_matrix_of(data, rows, cols, device->compute),
                         ss_matrix_of(data + copy_bytes, rows, cols, device->compute)};
  SS_TRY(median_seconds(device, copy, copies, &seconds, error));
  out->copy_bytes = 2.0 * (double)copy_bytes / seconds;
  return SS_OK;
}

ss_status bench_measure_ceiling(ss_device *device, bench_ceiling *out, ss_error *error) {
  bool cpu = strcmp(device->ops->name, "cpu") == 0;
  bool emulator = strstr(device->description, ", emulator,") != NULL;
  int64_t size = cpu ? GEMM_SIZE_CPU : emulator ? GEMM_SIZE_EMULATOR : GEMM_SIZE_CUDA;
  int64_t copy_bytes = cpu ? COPY_BYTES_CPU : emulator ? COPY_BYTES_EMULATOR : COPY_BYTES_CUDA;
  size_t gemm_bytes = (size_t)(size * size) * (3 * ss_dtype_size(device->compute) + sizeof(float));
  size_t bytes = gemm_bytes > (size_t)(2 * copy_bytes) ? gemm_bytes : (size_t)(2 * copy_bytes);
  void *data = NULL;
  float *host = NULL;
  SS_TRY(ss_allocate(&host, size * size, sizeof *host, "a random matrix", error));
  ss_status status = device->ops->allocate(device, &data, bytes, "the ceiling's matrices") == SS_OK
                         ? SS_OK
                         : ss_device_error(device, error);
  if (status == SS_OK)
    status = measure(device, size, copy_bytes, data, host, out, error);
  if (data != NULL)
    device->ops->release(device, data);
  free(host);
  return status;
}
