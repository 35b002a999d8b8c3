// Residual addition and layer norm or RMS norm.
#include <string.h>

#include "kernels/cpu/cpu.h"

#define ROWS_OF_TASK 64  // fixed: dweight and dbias are summed in pieces of this many rows

ss_status cpu_norm_forward(ss_device *device, ss_norm_kind kind, ss_tensor out, ss_tensor sum,
                           ss_tensor statistics, ss_tensor x, ss_tensor branch, ss_tensor weight,
                           ss_tensor bias, float epsilon) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = out.rows, C = out.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(out, n, C) && cpu_is_matrix(sum, n, C) && cpu_is_matrix(x, n, C) &&
                  cpu_is_matrix(statistics, n, 2) && cpu_is_matrix(weight, 1, C) &&
                  (!branch.data || cpu_is_matrix(branch, n, C)) && (!bias.data || cpu_is_matrix(bias, 1, C)),
              "norm_forward: shapes do not fit together");
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n > ROWS_OF_TASK)
  for (int64_t i = 0; i < n; ++i)
    cpu->simd->norm_forward(kind, cpu_floats(out) + i * out.stride, cpu_floats(sum) + i * sum.stride,
                            cpu_floats(statistics) + i * statistics.stride, cpu_floats(x) + i * x.stride,
                            branch.data ? cpu_floats(branch) + i * branch.stride : NULL, cpu_floats(weight),
                            bias.data ? cpu_floats(bias) : NULL, C, epsilon);
  return SS_OK;
}

ss_status cpu_norm_backward(ss_device *device, ss_norm_kind kind, ss_tensor dsum, ss_tensor dweight,
                            ss_tensor dbias, ss_tensor dout, ss_tensor sum, ss_tensor statistics,
                            ss_tensor weight) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = dsum.rows, C = dsum.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(dsum, n, C) && cpu_is_matrix(dout, n, C) && cpu_is_matrix(sum, n, C) &&
                  cpu_is_matrix(statistics, n, 2) && cpu_is_matrix(weight, 1, C) &&
                  cpu_is_matrix(dweight, 1, C) && (!dbias.data || cpu_is_matrix(dbias, 1, C)),
              "norm_backward: shapes do not fit together");
  int64_t n_task = cpu_ceil_divide(n, ROWS_OF_TASK);
  float *partial;  // [n_task, 2, C]: dweight, dbias of each piece
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &partial, n_task * 2 * C));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n_task > 1)
  for (int64_t task = 0; task < n_task; ++task) {
    float *task_dweight = partial + task * 2 * C;
    memset(task_dweight, 0, (size_t)(2 * C) * sizeof(float));
    int64_t end = cpu_minimum(n, (task + 1) * ROWS_OF_TASK);
    for (int64_t i = task * ROWS_OF_TASK; i < end; ++i)
      cpu->simd->norm_backward(kind, cpu_floats(dsum) + i * dsum.stride, task_dweight,
                               dbias.data ? task_dweight + C : NULL, cpu_floats(dout) + i * dout.stride,
                               cpu_floats(sum) + i * sum.stride,
                               cpu_floats(statistics) + i * statistics.stride, cpu_floats(weight), C);
  }
  for (int64_t task = 0; task < n_task; ++task) {
    cpu->simd->add(cpu_floats(dweight), partial + task * 2 * C, C);
    if (dbias.data)
      cpu->simd->add(cpu_floats(dbias), partial + task * 2 * C + C, C);
  }
  return SS_OK;
}
