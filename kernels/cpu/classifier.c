// Tied classifier and cross-entropy, fused in chunks of rows: the logits of one chunk are all that exists.
// Rows without a target are left out of the products.
#include <string.h>

#include "kernels/cpu/cpu.h"

#define CHUNK_LOGITS (8 << 20)  // floats of logits at a time, about
#define CHUNK_ROWS_MIN 256

ss_status cpu_classifier_loss(ss_device *device, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                              ss_tensor dwte, ss_tensor h, ss_tensor wte, ss_tensor targets, float scale) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = h.rows, C = h.cols, V = wte.rows;
  bool gradient = dh.data != NULL;
  CPU_REQUIRE(device,
              cpu_is_matrix(h, n, C) && cpu_is_matrix(wte, V, C) && cpu_is_integers(targets, n) &&
                  losses.data && losses.dtype == SS_F32 && losses.rows * losses.cols == n &&
                  (!correct.data || cpu_is_integers(correct, n)) &&
                  (!gradient || (cpu_is_matrix(dh, n, C) && cpu_is_matrix(dwte, V, C))),
              "classifier_loss: shapes do not fit together");
  const int32_t *target = cpu_integers(targets);
  int32_t *hit = cpu_integers(correct);
  int64_t capacity = cpu_minimum(n, cpu_maximum(CHUNK_ROWS_MIN, CHUNK_LOGITS / V));
  float *logits;  // [capacity, V]; then h [capacity, C], dh [capacity, C], rows i32 [capacity]
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_OUTER, &logits, capacity * (V + 2 * C + 1)));
  float *chunk_h = logits + capacity * V, *chunk_dh = chunk_h + capacity * C;
  int32_t *rows = (int32_t *)(chunk_dh + capacity * C);
  ss_tensor none = {0};
  ss_status status = SS_OK;
  for (int64_t next = 0; next < n && status == SS_OK;) {
    int64_t m = 0;
    for (; next < n && m < capacity; ++next) {
      if (target[next] >= V) {
        status = ss_fail(&device->error, SS_ERROR_INTERNAL,
                         "classifier_loss: target %d of row %lld is not below %lld", target[next],
                         (long long)next, (long long)V);
        break;
      }
      if (target[next] >= 0) {
        rows[m++] = (int32_t)next;
        continue;
      }
      cpu_floats(losses)[next] = 0.0f;
      if (hit)
        hit[next] = 0;
      if (gradient)
        memset(cpu_floats(dh) + next * dh.stride, 0, (size_t)C * sizeof(float));
    }
    if (m == 0 || status != SS_OK)
      continue;
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (m * C > 65536)
    for (int64_t j = 0; j < m; ++j)
      memcpy(chunk_h + j * C, cpu_floats(h) + rows[j] * h.stride, (size_t)C * sizeof(float));
    ss_tensor chunk = ss_matrix(chunk_h, m, C), scores = ss_matrix(logits, m, V);
    status = cpu_linear_forward(device, scores, chunk, wte, none);
    if (status != SS_OK)
      break;
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
    status = cpu_linear_backward(device, ss_matrix(chunk_dh, m, C), dwte, none, scores, chunk, wte);
    if (status != SS_OK)
      break;
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (m * C > 65536)
    for (int64_t j = 0; j < m; ++j)
      memcpy(cpu_floats(dh) + rows[j] * dh.stride, chunk_dh + j * C, (size_t)C * sizeof(float));
  }
  return status;
}
