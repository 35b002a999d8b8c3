// The CUDA backend's own header: the device, error checks, scratch memory, and its ops.
//
// Everything runs on one stream, in order. Host arrays reach the device through a ring of page-locked buffers
// (staging), so that an upload never waits for the kernels before it.
#ifndef SELFSPAN_KERNELS_CUDA_CUDA_H
#define SELFSPAN_KERNELS_CUDA_CUDA_H

#include "kernels/cuda/gpu.cuh"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_gemm_state cuda_gemm_state;    // gemm.cu: cuBLASLt handle, workspace, chosen algorithms
typedef struct cuda_dense_state cuda_dense_state;  // attention_cudnn.c: cuDNN handle and graphs
typedef struct cuda_staging cuda_staging;          // memory.cu: page-locked ring

#define CUDA_ROTARY_PAIRS 256  // head_dim up to 512

typedef struct {
  ss_device base;
  int ordinal;
  int n_multiprocessor;
  int compute_capability;  // 90 for Hopper
  size_t l2_bytes;
  ss_precision precision;
  bool deterministic;
  ss_attention_kernel attention;
  unsigned attention_served;  // attention.cu: a bit for each attention_path that `description` names already
  cudaStream_t stream;
  cudaEvent_t stamps[SS_N_STAMP];
  cuda_staging *staging;
  cuda_gemm_state *gemm;
  cuda_dense_state *dense;  // NULL until first used
  // Scratch, grown on demand (SCRATCH_OUTER for an op that calls other ops); undefined between ops.
  void *scratch[2];
  size_t scratch_bytes[2];
  uint64_t n_moved;  // times that scratch, or other memory of several ops, was moved: graphs hold addresses
  bool recording, recording_failed;  // graph.c: between graph_begin and graph_end; an op was refused there
  // optimizer.cu: the device's copy of the tensor table it saw last.
  void *optimizer_table;
  size_t optimizer_table_bytes;
  const ss_adamw_tensor *optimizer_seen;
  uint64_t optimizer_seen_hash;
  // rotary.cu: the frequencies that it used last.
  float rotary_frequencies[CUDA_ROTARY_PAIRS], rotary_theta;
  int64_t rotary_half;
  // step.cu: sums that blocks share, and their counters; allocated by the first product that needs them.
  void *step_memory;
  const struct step_shape *step_forced;  // how to cut products: for tests and benchmarks, NULL otherwise
  const struct step_tile_shape *step_tile_forced;  // likewise, by step_tile.h; comes first
} cuda_device;

enum { CUDA_SCRATCH_INNER, CUDA_SCRATCH_OUTER };

static inline cuda_device *cuda_of(ss_device *device) {
  return (cuda_device *)device;
}

// Records a failed CUDA call, with its name and place, as the device's error.
ss_status cuda_failed(ss_device *device, cudaError_t code, const char *call, const char *file, int line);

#define CUDA_TRY(device, call)                                             \
  do {                                                                     \
    cudaError_t cuda_code_ = (call);                                       \
    if (cuda_code_ != cudaSuccess)                                         \
      return cuda_failed((device), cuda_code_, #call, __FILE__, __LINE__); \
  } while (0)

// After a launch: a bad configuration is reported by the launch itself, everything else by a later call.
#define CUDA_LAUNCHED(device, name)                                       \
  do {                                                                    \
    cudaError_t cuda_code_ = cudaGetLastError();                          \
    if (cuda_code_ != cudaSuccess)                                        \
      return cuda_failed((device), cuda_code_, name, __FILE__, __LINE__); \
  } while (0)

// Refuses a call whose tensors do not fit together.
#define CUDA_REQUIRE(device, condition, ...)                            \
  do {                                                                  \
    if (!(condition))                                                   \
      return ss_fail(&(device)->error, SS_ERROR_INTERNAL, __VA_ARGS__); \
  } while (0)

static inline bool cuda_is_matrix(ss_tensor t, int64_t rows, int64_t cols, ss_dtype dtype) {
  return t.data && t.dtype == dtype && t.rows == rows && t.cols == cols && t.stride >= cols;
}
static inline bool cuda_is_integers(ss_tensor t, int64_t count) {
  return (t.data || count == 0) && t.dtype == SS_I32 && t.rows * t.cols == count;
}
static inline int64_t cuda_ceil_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
// Whether rows can be read in pieces of 16 bytes.
static inline bool cuda_is_aligned(ss_tensor t) {
  return ((uintptr_t)t.data | (uintptr_t)((size_t)t.stride * ss_dtype_size(t.dtype)) |
          (uintptr_t)((size_t)t.cols * ss_dtype_size(t.dtype))) %
             16 ==
         0;
}

// --- device.c ---
ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error);
ss_status cuda_scratch(ss_device *device, int which, void **out, size_t bytes);
// Whether GPU_LAUNCH_EARLY may launch early. Later GPUs run what is made from PTX for 8.0, in which nothing waits.
static inline bool cuda_launches_early(const cuda_device *cuda) {
  return cuda->compute_capability == 90;
}

// --- graph.c ---
// SS_OK unless ops are being recorded: then `what`, which waits, allocates or times something, is refused.
ss_status cuda_refuse_recording(ss_device *device, const char *what);
ss_status cuda_graph_begin(ss_device *);
ss_status cuda_graph_end(ss_device *, ss_graph **graph);
ss_status cuda_graph_launch(ss_device *, ss_graph *graph);
bool cuda_graph_valid(ss_device *, const ss_graph *graph);
void cuda_graph_free(ss_device *, ss_graph *graph);
// Ends a recording that nobody will: before the device goes.
void cuda_graph_abandon(ss_device *device);

// --- rotary.cu ---
// theta^(-d / half) for d < half <= CUDA_ROTARY_PAIRS, until the next call.
const float *cuda_rotary_frequencies(ss_device *device, int64_t half, float theta);

// --- memory.cu ---
ss_status cuda_staging_create(ss_device *device);
void cuda_staging_free(ss_device *device);
ss_status cuda_allocate(ss_device *, void **data, size_t bytes, const char *what);
void cuda_release(ss_device *, void *data);
ss_status cuda_allocate_host(ss_device *, void **data, size_t bytes, const char *what);
void cuda_release_host(ss_device *, void *data);
ss_status cuda_memory_free(ss_device *, size_t *free_bytes, size_t *total_bytes);
ss_status cuda_upload(ss_device *, void *device_data, const void *host, size_t bytes);
ss_status cuda_download(ss_device *, void *host, const void *device_data, size_t bytes);
ss_status cuda_download_async(ss_device *, void *host, const void *device_data, size_t bytes);
ss_status cuda_zero(ss_device *, void *data, size_t bytes);
ss_status cuda_convert(ss_device *, ss_tensor out, ss_tensor in);
ss_status cuda_synchronize(ss_device *);
// --- device.c ---
ss_status cuda_stamp(ss_device *, int32_t index);
ss_status cuda_stamp_seconds(ss_device *, int32_t from, int32_t to, double *seconds);

// --- gemm.cu ---
ss_status cuda_gemm_create(ss_device *device);
void cuda_gemm_free(ss_device *device);

// --- ops (contracts in kernels.h) ---
ss_status cuda_embedding_forward(ss_device *, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                                 ss_tensor wte, ss_tensor wpe);
ss_status cuda_embedding_backward(ss_device *, ss_tensor dwte, ss_tensor dwpe, ss_tensor dout,
                                  ss_tensor tokens, ss_tensor positions);
ss_status cuda_norm_forward(ss_device *, ss_norm_kind, ss_tensor out, ss_tensor sum, ss_tensor statistics,
                            ss_tensor x, ss_tensor branch, ss_tensor weight, ss_tensor bias, float epsilon);
ss_status cuda_norm_backward(ss_device *, ss_norm_kind, ss_tensor dsum, ss_tensor dweight, ss_tensor dbias,
                             ss_tensor dout, ss_tensor sum, ss_tensor statistics, ss_tensor weight);
ss_status cuda_linear_forward(ss_device *, ss_tensor out, ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cuda_linear_backward(ss_device *, ss_tensor din, ss_tensor dweight, ss_tensor dbias, ss_tensor dout,
                               ss_tensor in, ss_tensor weight);
ss_status cuda_linear_activation_forward(ss_device *, ss_activation_kind, ss_tensor out, ss_tensor pre,
                                         ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cuda_linear_activation_backward(ss_device *, ss_activation_kind, ss_tensor dpre, ss_tensor dweight,
                                          ss_tensor dbias, ss_tensor dout, ss_tensor in, ss_tensor weight,
                                          ss_tensor pre, ss_tensor scratch);
ss_status cuda_rotary(ss_device *, ss_tensor x, ss_tensor positions, int32_t head_dim, float theta,
                      int32_t direction);
ss_status cuda_attention_plan(ss_device *, ss_attention_plan **plan, const ss_attention_view *views,
                              int64_t n_view, const span_range *ranges, int64_t n_range, int64_t n_key_row,
                              bool backward);
void cuda_attention_plan_free(ss_device *, ss_attention_plan *plan);
ss_status cuda_attention_forward(ss_device *, const ss_attention_plan *plan, ss_attention_shape,
                                 ss_tensor out, ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v);
ss_status cuda_attention_backward(ss_device *, const ss_attention_plan *plan, ss_attention_shape,
                                  ss_tensor dq, ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                  ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v);
ss_status cuda_cache_append(ss_device *, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                            ss_tensor slots);
ss_status cuda_activation_forward(ss_device *, ss_activation_kind, ss_tensor out, ss_tensor in);
ss_status cuda_activation_backward(ss_device *, ss_activation_kind, ss_tensor din, ss_tensor dout,
                                   ss_tensor in);
ss_status cuda_classifier_loss(ss_device *, ss_tensor losses, ss_tensor correct, ss_tensor dh, ss_tensor dwte,
                               ss_tensor h, ss_tensor wte, ss_tensor targets, ss_tensor target_rows,
                               float scale);
ss_status cuda_gradient_norm(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, double *norm);
ss_status cuda_adamw(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, ss_adamw);
ss_status cuda_step_linear(ss_device *, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                           ss_tensor bias, ss_step_activation activation);
ss_status cuda_step_residual(ss_device *, ss_tensor x, ss_tensor in, ss_tensor weight, ss_tensor bias);
ss_status cuda_step_qkv(ss_device *, ss_tensor q, ss_tensor k_cache, ss_tensor v_cache, ss_tensor x,
                        ss_norm norm, ss_tensor weight, ss_tensor bias, ss_tensor positions, ss_tensor slots,
                        int32_t head_dim, float theta);

#ifdef __cplusplus
}
#endif

#endif
