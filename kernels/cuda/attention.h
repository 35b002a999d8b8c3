// Shared by the CUDA attention files: the plan, and the launchers that attention.cu chooses from.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

// A tile list on the device; arrays as in attention_tile_list.
typedef struct {
  int32_t tile_rows, n_tile;
  const attention_tile *tiles;
  const int32_t *rows, *row_value, *row_slot, *columns, *column_value;
  const uint32_t *column_bits;
} attention_device_tiles;

// Which kernels serve a call.
typedef enum {
  ATTENTION_TILED,  // tensor cores over tiles (BF16, head_dim 16, 32, 64, 128)
  ATTENTION_PLAIN,  // one warp a row of a tile and head, head_dim up to 256, F32 or BF16: debugging and odd shapes
  ATTENTION_CUDNN,      // plain causal rows of one length
  ATTENTION_NOT_CUDNN,  // serves nothing: such rows that cuDNN refused, for the device's description
  ATTENTION_DECODE      // views of one query each, without a backward (head_dim 16, 32, 64, 128)
} attention_path;

struct ss_attention_plan {
  attention_tiles host;
  attention_device_tiles queries, keys;
  void *device_data;  // one allocation behind all device arrays
  size_t device_bytes;
  int64_t n_key_row, n_query_row;    // rows that k and v, and q, must have at least
  int64_t n_query_used, n_key_used;  // query rows that some view covers; key rows that some query reads
  // > 0 when the views are `causal_rows` causal rows of `causal_length` queries, in order: what cuDNN can serve. Tiles
  // are then made only when something else must serve a call.
  int64_t causal_rows, causal_length;
  // Views of one query each, without a backward: tiles are made only when the decode kernel cannot serve a call.
  attention_decode decode;
  bool has_decode;
  bool has_tiles, backward;
  bool tiles_expected;  // tiles served the last call: those of a causal plan are made with it
};

// Tensors and geometry of one call. q, out, dq, dout: [nq, n_head * head_dim]; k, v, dk, dv: [nk, n_kv_head *
// head_dim]; strides in elements; log_sum_exp and delta [nq, n_head] (natural logarithm of the sum of exp(scale q.k);
// -inf for a query that reads nothing).
typedef struct {
  ss_attention_shape shape;
  ss_tensor q, k, v, out, log_sum_exp;
  ss_tensor dout, dq, dk, dv;
  float *delta;  // backward: rowsum(dout * out), [nq, n_head]
} attention_call;

// --- attention_forward.cu, attention_backward.cu: tiles ---
ss_status attention_tiled_forward(ss_device *device, const attention_device_tiles *queries,
                                  const attention_call *call);
ss_status attention_tiled_backward(ss_device *device, const attention_device_tiles *queries,
                                   const attention_device_tiles *keys, const attention_call *call);
// --- attention_plain.cu ---
#define ATTENTION_PLAIN_HEAD_DIM 256
ss_status attention_plain_forward(ss_device *device, const attention_device_tiles *queries,
                                  const attention_call *call);
ss_status attention_plain_backward(ss_device *device, const attention_device_tiles *queries,
                                   const attention_device_tiles *keys, const attention_call *call);
// --- attention_cudnn.c: SS_ERROR_LIMIT when no engine serves the shape ---
ss_status attention_cudnn_forward(ss_device *device, int64_t rows, int64_t length,
                                  const attention_call *call);
ss_status attention_cudnn_backward(ss_device *device, int64_t rows, int64_t length,
                                   const attention_call *call);
// Whether cuDNN serves this shape (asked once, then remembered); `engine` receives its name, or why it does not.
bool attention_cudnn_serves(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                            bool backward, const char **engine);
void attention_cudnn_free(ss_device *device);

#ifdef __cplusplus
}
#endif

#endif
