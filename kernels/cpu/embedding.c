// Token and position embedding.
#include <string.h>

#include "kernels/cpu/cpu.h"

// Gradient rows are shared out by id modulo this, so that one task owns each row of the table and adds to it
// in the order of the batch.
#define OWNERS 32

static ss_status check_ids(ss_device *device, const char *what, ss_tensor ids, int64_t limit) {
  const int32_t *id = cpu_integers(ids);
  for (int64_t i = 0; i < ids.rows * ids.cols; ++i)
    if (id[i] < 0 || id[i] >= limit)
      return ss_fail(&device->error, SS_ERROR_INTERNAL, "embedding: %s %d of row %lld is outside [0, %lld)",
                     what, id[i], (long long)i, (long long)limit);
  return SS_OK;
}

ss_status cpu_embedding_forward(ss_device *device, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                                ss_tensor wte, ss_tensor wpe) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = out.rows, C = out.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(out, n, C) && cpu_is_matrix(wte, wte.rows, C) && cpu_is_integers(tokens, n) &&
                  (!wpe.data || (cpu_is_matrix(wpe, wpe.rows, C) && cpu_is_integers(positions, n))),
              "embedding_forward: shapes do not fit together");
  SS_TRY(check_ids(device, "token", tokens, wte.rows));
  if (wpe.data)
    SS_TRY(check_ids(device, "position", positions, wpe.rows));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n > 64)
  for (int64_t i = 0; i < n; ++i) {
    float *row = cpu_floats(out) + i * out.stride;
    memcpy(row, cpu_floats(wte) + cpu_integers(tokens)[i] * wte.stride, (size_t)C * sizeof(float));
    if (wpe.data)
      cpu->simd->add(row, cpu_floats(wpe) + cpu_integers(positions)[i] * wpe.stride, C);
  }
  return SS_OK;
}

static void scatter_add(cpu_device *cpu, ss_tensor table, ss_tensor dout, ss_tensor ids) {
  const int32_t *id = cpu_integers(ids);
#pragma omp parallel for num_threads(cpu->n_thread) schedule(dynamic, 1)
  for (int64_t owner = 0; owner < OWNERS; ++owner)
    for (int64_t i = 0; i < dout.rows; ++i)
      if (id[i] % OWNERS == owner)
        cpu->simd->add(cpu_floats(table) + id[i] * table.stride, cpu_floats(dout) + i * dout.stride,
                       dout.cols);
}

ss_status cpu_embedding_backward(ss_device *device, ss_tensor dwte, ss_tensor dwpe, ss_tensor dout,
                                 ss_tensor tokens, ss_tensor positions) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = dout.rows, C = dout.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(dout, n, C) && cpu_is_matrix(dwte, dwte.rows, C) && cpu_is_integers(tokens, n) &&
                  (!dwpe.data || (cpu_is_matrix(dwpe, dwpe.rows, C) && cpu_is_integers(positions, n))),
              "embedding_backward: shapes do not fit together");
  SS_TRY(check_ids(device, "token", tokens, dwte.rows));
  scatter_add(cpu, dwte, dout, tokens);
  if (dwpe.data) {
    SS_TRY(check_ids(device, "position", positions, dwpe.rows));
    scatter_add(cpu, dwpe, dout, positions);
  }
  return SS_OK;
}
