// The CPU backend's own header: the device, its scratch memory, argument checks, and its ops.
//
// Threads: an op cuts its output into tasks by shape alone and every task computes its elements in a fixed
// order, so that results are bit-identical for any number of threads. A device runs one op at a time.
#ifndef SELFSPAN_KERNELS_CPU_CPU_H
#define SELFSPAN_KERNELS_CPU_CPU_H

#include "kernels/cpu/simd.h"
#include "kernels/kernels.h"

// An op that calls other ops takes its scratch from OUTER, the others from INNER.
enum { CPU_SCRATCH_INNER, CPU_SCRATCH_OUTER, CPU_SCRATCHES };

typedef struct {
  ss_device base;
  int n_thread;
  const cpu_simd *simd;           // the instruction set found at opening
  float *scratch[CPU_SCRATCHES];  // grown on demand, contents undefined between ops
  int64_t scratch_capacity[CPU_SCRATCHES];
  float *rotary;  // [rotary_rows, 2, rotary_half]: cosines, sines; see rotary.c
  int64_t rotary_rows, rotary_half;
  float rotary_theta;
  double stamps[SS_N_STAMP];  // seconds
} cpu_device;

static inline cpu_device *cpu_of(ss_device *device) {
  return (cpu_device *)device;
}
static inline float *cpu_floats(ss_tensor tensor) {
  return (float *)tensor.data;
}
static inline int32_t *cpu_integers(ss_tensor tensor) {
  return (int32_t *)tensor.data;
}
static inline int64_t cpu_minimum(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t cpu_maximum(int64_t a, int64_t b) {
  return a > b ? a : b;
}
static inline int64_t cpu_ceil_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
static inline int64_t cpu_round_up(int64_t a, int64_t b) {
  return cpu_ceil_divide(a, b) * b;
}

ss_status ss_cpu_device_open(ss_device **out, int n_thread, ss_error *error);

// The builds of the inner loops that this machine can run, best first; returns how many.
#define CPU_SIMDS 3
int cpu_list_simd(const cpu_simd *list[CPU_SIMDS]);

// The device's scratch of at least `count` floats, 64-byte aligned; the pointer given before for the same
// `which` becomes invalid.
ss_status cpu_scratch(ss_device *device, int which, float **out, int64_t count);

// Refuses a call whose tensors do not fit together.
#define CPU_REQUIRE(device, condition, ...)                             \
  do {                                                                  \
    if (!(condition))                                                   \
      return ss_fail(&(device)->error, SS_ERROR_INTERNAL, __VA_ARGS__); \
  } while (0)

// A float matrix of the given shape with data.
static inline bool cpu_is_matrix(ss_tensor t, int64_t rows, int64_t cols) {
  return t.data && t.dtype == SS_F32 && t.rows == rows && t.cols == cols && t.stride >= cols;
}
static inline bool cpu_is_integers(ss_tensor t, int64_t count) {
  return (t.data || count == 0) && t.dtype == SS_I32 && t.rows * t.cols == count;
}

// --- ops (contracts in kernels.h) ---
ss_status cpu_embedding_forward(ss_device *, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                                ss_tensor wte, ss_tensor wpe);
ss_status cpu_embedding_backward(ss_device *, ss_tensor dwte, ss_tensor dwpe, ss_tensor dout,
                                 ss_tensor tokens, ss_tensor positions);
ss_status cpu_norm_forward(ss_device *, ss_norm_kind, ss_tensor out, ss_tensor sum, ss_tensor statistics,
                           ss_tensor x, ss_tensor branch, ss_tensor weight, ss_tensor bias, float epsilon);
ss_status cpu_norm_backward(ss_device *, ss_norm_kind, ss_tensor dsum, ss_tensor dweight, ss_tensor dbias,
                            ss_tensor dout, ss_tensor sum, ss_tensor statistics, ss_tensor weight);
ss_status cpu_linear_forward(ss_device *, ss_tensor out, ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cpu_linear_backward(ss_device *, ss_tensor din, ss_tensor dweight, ss_tensor dbias, ss_tensor dout,
                              ss_tensor in, ss_tensor weight);
ss_status cpu_linear_activation_forward(ss_device *, ss_activation_kind, ss_tensor out, ss_tensor pre,
                                        ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cpu_linear_activation_backward(ss_device *, ss_activation_kind, ss_tensor dpre, ss_tensor dweight,
                                         ss_tensor dbias, ss_tensor dout, ss_tensor in, ss_tensor weight,
                                         ss_tensor pre, ss_tensor scratch);
ss_status cpu_rotary(ss_device *, ss_tensor x, ss_tensor positions, int32_t head_dim, float theta,
                     int32_t direction);
ss_status cpu_attention_plan(ss_device *, ss_attention_plan **plan, const ss_attention_view *views,
                             int64_t n_view, const span_range *ranges, int64_t n_range, int64_t n_key_row,
                             bool backward);
void cpu_attention_plan_free(ss_device *, ss_attention_plan *plan);
ss_status cpu_attention_forward(ss_device *, const ss_attention_plan *plan, ss_attention_shape, ss_tensor out,
                                ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v);
ss_status cpu_attention_backward(ss_device *, const ss_attention_plan *plan, ss_attention_shape, ss_tensor dq,
                                 ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                 ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v);
ss_status cpu_cache_append(ss_device *, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                           ss_tensor slots);
ss_status cpu_activation_forward(ss_device *, ss_activation_kind, ss_tensor out, ss_tensor in);
ss_status cpu_activation_backward(ss_device *, ss_activation_kind, ss_tensor din, ss_tensor dout,
                                  ss_tensor in);
ss_status cpu_classifier_loss(ss_device *, ss_tensor losses, ss_tensor correct, ss_tensor dh, ss_tensor dwte,
                              ss_tensor h, ss_tensor wte, ss_tensor targets, ss_tensor target_rows,
                              float scale);
ss_status cpu_gradient_norm(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, double *norm);
ss_status cpu_adamw(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, ss_adamw);
ss_status cpu_step_linear(ss_device *, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                          ss_tensor bias, ss_step_activation activation);
ss_status cpu_step_residual(ss_device *, ss_tensor x, ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cpu_step_qkv(ss_device *, ss_tensor q, ss_tensor k_cache, ss_tensor v_cache, ss_tensor x,
                       ss_norm norm, ss_tensor weight, ss_tensor bias, ss_tensor positions, ss_tensor slots,
                       int32_t head_dim, float theta);

#endif
