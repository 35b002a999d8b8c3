// Tied classifier and cross-entropy, fused in chunks of rows: the logits of one chunk are all that exists.
// Rows without a target are left out of the products.
#include <string.h>

#include "kernels/cpu/cpu.h"

#define CHUNK_LOGITS (8 << 20)  // floats of logits at a time, about
#define CHUNK_ROWS_MIN 256

// Rows [first, last) have no target.
static void write_nothing(int64_t first, int64_t last, ss_tensor losses, int32_t *hit, ss_tensor dh) {
  for (int64_t row = first; row < last; ++row) {
    cpu_floats(losses)[row] = 0.0f;
    if (hit)
      hit[row] = 0;
    if (dh.data)
      memset(cpu_floats(dh) + row * dh.stride, 0, (size_t)dh.cols * sizeof(float));
  }
}

ss_status cpu_classifier_loss(ss_device *device, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                              ss_tensor dwte, ss_tensor h, ss_tensor wte, ss_tensor targets,
                              ss_tensor target_rows, float scale) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = h.rows, C = h.cols, V = wte.rows, n_target = target_rows.rows * target_rows.cols;
  bool gradient = dh.data != NULL;
  CPU_REQUIRE(device,
              cpu_is_matrix(h, n, C) && cpu_is_matrix(wte, V, C) && cpu_is_integers(targets, n) &&
                  cpu_is_integers(target_rows, n_target) && losses.data && losses.dtype == SS_F32 &&
                  losses.rows * losses.cols == n && (!correct.data || cpu_is_integers(correct, n)) &&
                  (!gradient || (cpu_is_matrix(dh, n, C) && cpu_is_matrix(dwte, V, C))),
              "classifier_loss: shapes do not fit together");
  const int32_t *target = cpu_integers(targets), *listed = cpu_integers(target_rows);
  int32_t *hit = cpu_integers(correct);
  int64_t next = 0;  // first row not yet written
  for (int64_t k = 0; k < n_target; ++k) {
    int64_t row = listed[k];
    CPU_REQUIRE(device, row >= next && row < n, "classifier_loss: target row %lld, expected %lld..%lld",
                (long long)row, (long long)next, (long long)n - 1);
    CPU_REQUIRE(device, target[row] >= 0 && target[row] < V,
                "classifier_loss: target %d of row %lld, expected 0..%lld", target[row], (long long)row,
                (long long)V - 1);
    write_nothing(next, row, losses, hit, dh);
    next = row + 1;
  }
  write_nothing(next, n, losses, hit, dh);
  int64_t capacity = cpu_minimum(n_target, cpu_maximum(CHUNK_ROWS_MIN, CHUNK_LOGITS / V));
  float *logits;  // [capacity, V]; then h [capacity, C], dh [capacity, C]
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_OUTER, &logits, capacity * (V + 2 * C)));
  float *chunk_h = logits + capacity * V, *chunk_dh = chunk_h + capacity * C;
  ss_tensor none = {0};
  for (int64_t first = 0; first < n_target; first += capacity) {
    int64_t m = cpu_minimum(capacity, n_target - first);
    const int32_t *rows = listed + first;
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (m * C > 65536)
    for (int64_t j = 0; j < m; ++j)
      memcpy(chunk_h + j * C, cpu_floats(h) + rows[j] * h.stride, (size_t)C * sizeof(float));
    ss_tensor chunk = ss_matrix(chunk_h, m, C), scores = ss_matrix(logits, m, V);
    SS_TRY(cpu_linear_forward(device, scores, chunk, wte, none));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (m * V > 4096)
    for (int64_t j = 0; j < m; ++j) {
      int32_t row_correct;
      cpu_floats(losses)[rows[j]] = cpu->simd->cross_entropy(logits + j * V, V, target[rows[j]], gradient,
                                                             scale, &row_correct);
      if (hit)
        hit[rows[j]] = row_correct;
    }
    if (!gradient)
      continue;
    SS_TRY(cpu_linear_backward(device, ss_matrix(chunk_dh, m, C), dwte, none, scores, chunk, wte));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (m * C > 65536)
    for (int64_t j = 0; j < m; ++j)
      memcpy(cpu_floats(dh) + rows[j] * dh.stride, chunk_dh + j * C, (size_t)C * sizeof(float));
  }
  return SS_OK;
}
