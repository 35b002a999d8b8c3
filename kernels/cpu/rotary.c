// Rotary positions (Su et al. 2021, arXiv 2104.09864), pairs (d, d + head_dim/2) as in Llama.
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "kernels/cpu/cpu.h"

#define POSITION_LIMIT (1 << 24)  // above it a float angle has no meaning

// The device keeps cosines and sines of the positions seen so far: libm once per position, not per call.
// Angles are float products, as the models that define the convention compute them.
static ss_status grow_table(ss_device *device, int64_t rows, int64_t half, float theta) {
  cpu_device *cpu = cpu_of(device);
  if (cpu->rotary_half == half && cpu->rotary_theta == theta && cpu->rotary_rows >= rows)
    return SS_OK;
  rows = cpu_maximum(cpu_round_up(rows, 256), cpu->rotary_half == half ? cpu->rotary_rows : 0);
  float *table;
  SS_TRY(ss_allocate(&table, rows * 2 * half, sizeof *table, "the rotary table", &device->error));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static)
  for (int64_t position = 0; position < rows; ++position)
    for (int64_t d = 0; d < half; ++d) {
      float frequency = (float)(1.0 / pow((double)theta, (double)d / (double)half));
      float angle = (float)position * frequency;
      table[(position * 2 + 0) * half + d] = (float)cos((double)angle);
      table[(position * 2 + 1) * half + d] = (float)sin((double)angle);
    }
  free(cpu->rotary);
  cpu->rotary = table;
  cpu->rotary_rows = rows;
  cpu->rotary_half = half;
  cpu->rotary_theta = theta;
  return SS_OK;
}

ss_status cpu_rotary(ss_device *device, ss_tensor x, ss_tensor positions, int32_t head_dim, float theta,
                     int32_t direction) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = x.rows, half = head_dim / 2, last = -1;
  CPU_REQUIRE(device,
              cpu_is_matrix(x, n, x.cols) && cpu_is_integers(positions, n) && head_dim > 0 &&
                  head_dim % 2 == 0 && x.cols % head_dim == 0 && (direction == 1 || direction == -1),
              "rotary: shapes do not fit together");
  for (int64_t i = 0; i < n; ++i) {
    int32_t position = cpu_integers(positions)[i];
    CPU_REQUIRE(device, position >= 0 && position < POSITION_LIMIT, "rotary: position %d is outside [0, %d)",
                position, POSITION_LIMIT);
    last = cpu_maximum(last, position);
  }
  SS_TRY(grow_table(device, last + 1, half, theta));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n > 32)
  for (int64_t i = 0; i < n; ++i) {
    const float *cosine = cpu->rotary + (int64_t)cpu_integers(positions)[i] * 2 * half;
    for (int64_t first = 0; first < x.cols; first += head_dim)
      cpu->simd->rotate(cpu_floats(x) + i * x.stride + first, cosine, cosine + half, half, (float)direction);
  }
  return SS_OK;
}
