// The graphs of cuDNN's attention: what attention_cudnn_graph.c builds and attention_cudnn.c keeps and runs.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_CUDNN_H
#define SELFSPAN_KERNELS_CUDA_ATTENTION_CUDNN_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

// Tensors; the value is cuDNN's unique id.
typedef enum {
  NONE,
  Q,
  K,
  V,
  OUT,
  DOUT,
  DQ,
  DK,
  DV,
  N_OPERAND,  // up to here: columns of a matrix of the call
  STATISTICS = N_OPERAND,
  DELTA,   // rowsum(dout * out), in the workspace
  DQ_SUM,  // in the workspace
  SCALE,   // scalars, passed by value
  HIDDEN,  // what a masked score becomes
  ONE,
  SCORES,  // from here on: virtual
  SCALED,
  SHIFTED,
  QUERY_INDEX,
  KEY_INDEX,
  SEEN,
  MASKED,
  MAXIMUM,
  WEIGHTS,
  SUM,
  LOGARITHM,
  P,
  P_TRANSPOSED,
  DOUT_OUT,
  DOUT_OUT_SUM,
  DP,
  DP_SHIFTED,
  DS_UNSCALED,
  DS,
  DS_TRANSPOSED,
  K_ROWS,
  DK_HEADS,
  DV_HEADS,
  N_TENSOR
} dense_tensor;

enum { DENSE_DESCRIPTORS = 160 };

// What a graph depends on. All fields are 64 bits wide, so that keys compare as bytes.
typedef struct {
  int64_t rows, length;  // B, T
  int64_t n_head, n_kv_head, head_dim;
  int64_t stride[N_OPERAND];  // elements between rows; 0 for a tensor that the graph lacks
  int64_t backward, statistics, deterministic;
} dense_key;

// Choices that a probe varies.
typedef struct {
  bool statistics_by_row;  // statistics as [B*T, H] instead of [B, H, T]
  bool finite_mask;        // the lowest float instead of minus infinity
  int heuristic;           // -1: modes A, B and fallback in turn
} dense_options;

// Where a graph is to run: on the handle's device, or on one described by properties (building without a device).
typedef struct {
  cudnnHandle_t handle;
  cudnnBackendDescriptor_t properties;
} dense_target;

typedef struct {
  dense_key key;
  cudnnBackendDescriptor_t owned[DENSE_DESCRIPTORS];
  int n_owned;
  cudnnBackendDescriptor_t plan;  // NULL: cuDNN does not serve this shape, see `reason`
  int64_t engine;
  bool noted;                                      // the engine calls itself nondeterministic
  size_t engine_bytes, delta_bytes, dq_sum_bytes;  // sections of the workspace, in this order
  float hidden;
  uint64_t last_used;
  char reason[400];
} dense_graph;

extern const dense_options dense_standard;

// Builds graph->key's graph and plan; the other fields are zero before. On failure the reason stands in `error` and
// nothing is kept.
ss_status dense_build(dense_graph *graph, dense_target target, dense_options options, ss_error *error);
void dense_graph_free(dense_graph *graph);
// Runs the plan on the handle's stream: `data` holds the address (a scalar's: on the host) of each tensor in `uids`.
ss_status dense_launch(const dense_graph *graph, cudnnHandle_t handle, int64_t count, const int64_t *uids,
                       void *const *data, void *workspace, ss_error *error);

#endif
