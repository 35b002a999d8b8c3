// The fused ops of a decoding step, put together from the other ops.
#include <string.h>

#include "kernels/cpu/cpu.h"

// norm(x) [n,I] into `memory` (n * (I + 2) floats), or x itself where there is no norm.
static ss_status normalize(ss_device *device, ss_tensor *out, ss_tensor x, ss_norm norm, float *memory) {
  *out = x;
  if (!norm.weight.data)
    return SS_OK;
  *out = ss_matrix(memory, x.rows, x.cols);
  ss_tensor statistics = ss_matrix(memory + x.rows * x.cols, x.rows, 2);
  ss_tensor none = ss_matrix(NULL, 0, 0);
  return cpu_norm_forward(device, norm.kind, *out, x, statistics, x, none, norm.weight, norm.bias,
                          norm.epsilon);
}

static bool norm_fits(ss_norm norm, int64_t I) {
  return !norm.weight.data ||
         (cpu_is_matrix(norm.weight, 1, I) && (!norm.bias.data || cpu_is_matrix(norm.bias, 1, I)));
}

ss_status cpu_step_linear(ss_device *device, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                          ss_tensor bias, ss_step_activation activation) {
  int64_t n = x.rows, I = x.cols, O = out.cols, wide = activation == SS_STEP_SWIGLU ? 2 * O : O;
  CPU_REQUIRE(
      device,
      cpu_is_matrix(x, n, I) && cpu_is_matrix(out, n, O) && cpu_is_matrix(weight, wide, I) &&
          (!bias.data || cpu_is_matrix(bias, 1, wide)) && norm_fits(norm, I),
      "step_linear: shapes do not fit together: out [%lld, %lld], x [%lld, %lld], weight [%lld, %lld]",
      (long long)out.rows, (long long)O, (long long)n, (long long)I, (long long)weight.rows,
      (long long)weight.cols);
  if (n * O == 0)
    return SS_OK;
  float *memory;
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_OUTER, &memory, n * (I + 2 + wide)));
  ss_tensor in, pre = ss_matrix(memory + n * (I + 2), n, wide);
  SS_TRY(normalize(device, &in, x, norm, memory));
  if (activation == SS_STEP_PLAIN)
    return cpu_linear_forward(device, out, in, weight, bias);
  return cpu_linear_activation_forward(device,
                                       activation == SS_STEP_GELU ? SS_ACTIVATION_GELU : SS_ACTIVATION_SWIGLU,
                                       out, pre, in, weight, bias);
}

ss_status cpu_step_residual(ss_device *device, ss_tensor x, ss_tensor in, ss_tensor weight, ss_tensor bias) {
  int64_t n = x.rows, C = x.cols, I = in.cols;
  CPU_REQUIRE(
      device,
      cpu_is_matrix(x, n, C) && cpu_is_matrix(in, n, I) && cpu_is_matrix(weight, C, I) &&
          (!bias.data || cpu_is_matrix(bias, 1, C)),
      "step_residual: shapes do not fit together: x [%lld, %lld], in [%lld, %lld], weight [%lld, %lld]",
      (long long)n, (long long)C, (long long)in.rows, (long long)I, (long long)weight.rows,
      (long long)weight.cols);
  if (n * C == 0)
    return SS_OK;
  float *memory;
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_OUTER, &memory, n * C));
  SS_TRY(cpu_linear_forward(device, ss_matrix(memory, n, C), in, weight, bias));
  for (int64_t i = 0; i < n; ++i)
    cpu_of(device)->simd->add(cpu_floats(x) + i * x.stride, memory + i * C, C);
  return SS_OK;
}

ss_status cpu_step_qkv(ss_device *device, ss_tensor q, ss_tensor k_cache, ss_tensor v_cache, ss_tensor x,
                       ss_norm norm, ss_tensor weight, ss_tensor bias, ss_tensor positions, ss_tensor slots,
                       int32_t head_dim, float theta) {
  int64_t n = x.rows, C = x.cols, Q = q.cols, K = k_cache.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(x, n, C) && cpu_is_matrix(q, n, Q) && cpu_is_matrix(k_cache, k_cache.rows, K) &&
                  cpu_is_matrix(v_cache, k_cache.rows, K) && cpu_is_matrix(weight, Q + 2 * K, C) &&
                  (!bias.data || cpu_is_matrix(bias, 1, Q + 2 * K)) && norm_fits(norm, C) &&
                  cpu_is_integers(positions, n) && cpu_is_integers(slots, n) && head_dim > 0 &&
                  Q % head_dim == 0 && K % head_dim == 0,
              "step_qkv: shapes do not fit together: q [%lld, %lld], caches [%lld, %lld], x [%lld, %lld], "
              "weight [%lld, %lld]",
              (long long)q.rows, (long long)Q, (long long)k_cache.rows, (long long)K, (long long)n,
              (long long)C, (long long)weight.rows, (long long)weight.cols);
  if (n == 0)
    return SS_OK;
  for (int64_t i = 0; i < n; ++i)
    CPU_REQUIRE(device, cpu_integers(slots)[i] < k_cache.rows,
                "step_qkv: row %d is outside the cache of %lld rows", cpu_integers(slots)[i],
                (long long)k_cache.rows);
  float *memory;
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_OUTER, &memory, n * (C + 2 + Q + 2 * K)));
  ss_tensor in, qkv = ss_matrix(memory + n * (C + 2), n, Q + 2 * K);
  SS_TRY(normalize(device, &in, x, norm, memory));
  SS_TRY(cpu_linear_forward(device, qkv, in, weight, bias));
  if (theta > 0)
    SS_TRY(cpu_rotary(device, ss_columns(qkv, 0, Q + K), positions, head_dim, theta, 1));
  for (int64_t i = 0; i < n; ++i) {
    const float *row = cpu_floats(qkv) + i * qkv.stride;
    int64_t slot = cpu_integers(slots)[i];
    memcpy(cpu_floats(q) + i * q.stride, row, (size_t)Q * sizeof(float));
    if (slot < 0)
      continue;
    memcpy(cpu_floats(k_cache) + slot * k_cache.stride, row + Q, (size_t)K * sizeof(float));
    memcpy(cpu_floats(v_cache) + slot * v_cache.stride, row + Q + K, (size_t)K * sizeof(float));
  }
  return SS_OK;
}
