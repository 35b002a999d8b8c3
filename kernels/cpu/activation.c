// MLP activations: GELU (tanh form; Hendrycks, Gimpel 2016, arXiv 1606.08415) and SwiGLU (Shazeer 2020,
// arXiv 2002.05202).
#include "kernels/cpu/cpu.h"

ss_status cpu_activation_forward(ss_device *device, ss_activation_kind kind, ss_tensor out, ss_tensor in) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = out.rows, F = out.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(out, n, F) && cpu_is_matrix(in, n, kind == SS_ACTIVATION_SWIGLU ? 2 * F : F),
              "activation_forward: shapes do not fit together");
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n * F > 4096)
  for (int64_t i = 0; i < n; ++i) {
    float *out_row = cpu_floats(out) + i * out.stride;
    const float *in_row = cpu_floats(in) + i * in.stride;
    if (kind == SS_ACTIVATION_SWIGLU)
      cpu->simd->swiglu_forward(out_row, in_row, in_row + F, F);
    else
      cpu->simd->gelu_forward(out_row, in_row, F);
  }
  return SS_OK;
}

ss_status cpu_activation_backward(ss_device *device, ss_activation_kind kind, ss_tensor din, ss_tensor dout,
                                  ss_tensor in) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = dout.rows, F = dout.cols, in_cols = kind == SS_ACTIVATION_SWIGLU ? 2 * F : F;
  CPU_REQUIRE(device,
              cpu_is_matrix(dout, n, F) && cpu_is_matrix(in, n, in_cols) && cpu_is_matrix(din, n, in_cols),
              "activation_backward: shapes do not fit together");
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n * F > 4096)
  for (int64_t i = 0; i < n; ++i) {
    float *din_row = cpu_floats(din) + i * din.stride;
    const float *dout_row = cpu_floats(dout) + i * dout.stride, *in_row = cpu_floats(in) + i * in.stride;
    if (kind == SS_ACTIVATION_SWIGLU)
      cpu->simd->swiglu_backward(din_row, din_row + F, dout_row, in_row, in_row + F, F);
    else
      cpu->simd->gelu_backward(din_row, dout_row, in_row, F);
  }
  return SS_OK;
}

ss_status cpu_linear_activation_forward(ss_device *device, ss_activation_kind kind, ss_tensor out,
                                        ss_tensor pre, ss_tensor in, ss_tensor weight, ss_tensor bias) {
  SS_TRY(cpu_linear_forward(device, pre, in, weight, bias));
  return cpu_activation_forward(device, kind, out, pre);
}

ss_status cpu_linear_activation_backward(ss_device *device, ss_activation_kind kind, ss_tensor dpre,
                                         ss_tensor dweight, ss_tensor dbias, ss_tensor dout, ss_tensor in,
                                         ss_tensor weight, ss_tensor pre, ss_tensor scratch) {
  SS_TRY(cpu_linear_backward(device, scratch, dweight, dbias, dout, in, weight));
  return cpu_activation_backward(device, kind, dpre, scratch, pre);
}
