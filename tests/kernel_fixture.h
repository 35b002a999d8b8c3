// Shared by the kernel tests: devices of 1, 2 and 5 threads, random tensors, comparisons that fail on NaN. The tests
// run once for each instruction set that the machine has.
#ifndef SELFSPAN_TESTS_KERNEL_FIXTURE_H
#define SELFSPAN_TESTS_KERNEL_FIXTURE_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "kernels/cpu/cpu.h"

#define SEED 20240911
#define DEVICES 3  // each test runs on all and wants the same bits

static const int device_threads[DEVICES] = {1, 2, 5};

typedef struct {
  ss_device *device[DEVICES];
} kernel_devices;

static const cpu_simd *tested_simd;

static inline kernel_devices open_devices(void) {
  kernel_devices devices;
  ss_error error = {0};
  for (int d = 0; d < DEVICES; ++d) {
    if (ss_device_open(&devices.device[d], "cpu", &(ss_device_options){.n_thread = device_threads[d]},
                       &error) != SS_OK)
      fail_msg("%s", error.message);
    cpu_of(devices.device[d])->simd = tested_simd;
  }
  return devices;
}

static inline void close_devices(kernel_devices *devices) {
  for (int d = 0; d < DEVICES; ++d)
    ss_device_close(devices->device[d]);
}

// An op that must succeed.
#define RUN(dev, op, ...)                                   \
  do {                                                      \
    if ((dev)->ops->op((dev), __VA_ARGS__) != SS_OK)        \
      fail_msg("%s (seed %d)", (dev)->error.message, SEED); \
  } while (0)

// Normal numbers times `scale`; the caller frees.
static inline float *random_floats(ss_random *random, int64_t count, float scale) {
  float *out = malloc((size_t)(count > 0 ? count : 1) * sizeof *out);
  assert_non_null(out);
  for (int64_t i = 0; i < count; ++i)
    out[i] = scale * (float)ss_random_normal(random);
  return out;
}

static inline float *copy_floats(const float *in, int64_t count) {
  float *out = malloc((size_t)(count > 0 ? count : 1) * sizeof *out);
  assert_non_null(out);
  memcpy(out, in, (size_t)count * sizeof *out);
  return out;
}

static inline double *zero_doubles(int64_t count) {
  double *out = calloc((size_t)(count > 0 ? count : 1), sizeof *out);
  assert_non_null(out);
  return out;
}

// |got - want| <= tolerance * (largest |want| + 1e-6) everywhere; a NaN fails.
static inline void check_close(const char *what, const float *got, const double *want, int64_t count,
                               double tolerance) {
  double largest = 1e-6;
  for (int64_t i = 0; i < count; ++i)
    largest = fmax(largest, fabs(want[i]));
  for (int64_t i = 0; i < count; ++i)
    if (!(fabs((double)got[i] - want[i]) <= tolerance * largest))
      fail_msg("%s: element %lld is %.9g, expected %.9g (seed %d)", what, (long long)i, (double)got[i],
               want[i], SEED);
}

static inline void check_same_bits(const char *what, const void *got, const void *want, int64_t count) {
  if (count > 0 && memcmp(got, want, (size_t)count * 4) != 0)
    fail_msg("%s: differs with the number of threads or from its twin (seed %d)", what, SEED);
}

// Runs a group of tests with every instruction set.
#define RUN_WITH_EVERY_SIMD(tests)                                             \
  do {                                                                         \
    const cpu_simd *list[CPU_SIMDS];                                           \
    int n_simd = cpu_list_simd(list), failed = 0;                              \
    for (int i = 0; i < n_simd; ++i) {                                         \
      tested_simd = list[i];                                                   \
      failed += cmocka_run_group_tests_name(list[i]->name, tests, NULL, NULL); \
    }                                                                          \
    return failed;                                                             \
  } while (0)

#endif
