// AdamW and the gradient norm.
#include <math.h>

#include "kernels/cpu/cpu.h"

#define BLOCK 16384  // elements of a task; fixes the order of the norm's sum

static int64_t count_blocks(const ss_adamw_tensor *tensors, int32_t n_tensor) {
  int64_t n_block = 0;
  for (int32_t t = 0; t < n_tensor; ++t)
    n_block += cpu_ceil_divide(tensors[t].count, BLOCK);
  return n_block;
}

// The tensor of a block, and the block's first element in it.
static int32_t find_block(const ss_adamw_tensor *tensors, int64_t block, int64_t *first) {
  int32_t t = 0;
  while (block >= cpu_ceil_divide(tensors[t].count, BLOCK))
    block -= cpu_ceil_divide(tensors[t++].count, BLOCK);
  *first = block * BLOCK;
  return t;
}

ss_status cpu_gradient_norm(ss_device *device, const ss_adamw_tensor *tensors, int32_t n_tensor,
                            double *norm) {
  cpu_device *cpu = cpu_of(device);
  int64_t n_block = count_blocks(tensors, n_tensor);
  float *scratch;
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &scratch, 2 * n_block));
  double *partial = (double *)scratch;  // [n_block]
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static)
  for (int64_t block = 0; block < n_block; ++block) {
    int64_t first;
    int32_t t = find_block(tensors, block, &first);
    partial[block] = cpu->simd->sum_squares(tensors[t].gradient + first,
                                            cpu_minimum(BLOCK, tensors[t].count - first));
  }
  double sum = 0;
  for (int64_t block = 0; block < n_block; ++block)
    sum += partial[block];
  *norm = sqrt(sum);
  return SS_OK;
}

ss_status cpu_adamw(ss_device *device, const ss_adamw_tensor *tensors, int32_t n_tensor, ss_adamw adamw) {
  cpu_device *cpu = cpu_of(device);
  CPU_REQUIRE(device, adamw.step >= 1, "adamw: step %lld (expected 1 for the first)", (long long)adamw.step);
  double factor = 1;
  if (adamw.norm) {
    double norm = *adamw.norm * adamw.gradient_scale;
    if (!isfinite(norm))
      return SS_OK;
    factor = adamw.clip > 0 && norm > adamw.clip ? adamw.clip / norm : 1;
  }
  double step_size = (double)adamw.learning_rate / (1.0 - pow((double)adamw.beta1, (double)adamw.step));
  double correction2 = 1.0 - pow((double)adamw.beta2, (double)adamw.step);
  cpu_adamw_constants common = {.beta1 = adamw.beta1,
                                .beta2 = adamw.beta2,
                                .epsilon = adamw.epsilon,
                                .gradient_scale = (float)(adamw.gradient_scale * factor),
                                .reciprocal_root_correction2 = (float)(1.0 / sqrt(correction2))};
  int64_t n_block = count_blocks(tensors, n_tensor);
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static)
  for (int64_t block = 0; block < n_block; ++block) {
    int64_t first;
    int32_t t = find_block(tensors, block, &first);
    cpu_adamw_constants constants = common;
    double rate = (double)tensors[t].rate;
    constants.step_size = (float)(step_size * rate);
    constants.decay = (float)(1.0 - (double)adamw.learning_rate * rate * (double)tensors[t].weight_decay);
    cpu->simd->adamw(tensors[t].weight + first, tensors[t].gradient + first, tensors[t].first_moment + first,
                     tensors[t].second_moment + first, cpu_minimum(BLOCK, tensors[t].count - first),
                     &constants);
  }
  return SS_OK;
}
