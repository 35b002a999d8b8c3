// Products of a decoding step that read each weight once (step_linear.cu): what step.cu asks of them. The kernel is
// explained in step_linear.cuh.
#ifndef SELFSPAN_KERNELS_CUDA_STEP_LINEAR_H
#define SELFSPAN_KERNELS_CUDA_STEP_LINEAR_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  STEP_WARPS = 8,
  STEP_THREADS = STEP_WARPS * 32,
  STEP_STAGES = 4,         // tiles of weights under way in a block that takes several
  STEP_ROTARY_PAIRS = 64,  // head_dim up to 128
  STEP_COUNTERS = 4096,
  STEP_PARTIAL_BYTES = 8 << 20
};

typedef enum { STEP_KIND_LINEAR, STEP_KIND_QKV, STEP_KIND_ROTARY, STEP_KIND_RESIDUAL } step_kind;

// How a product is cut. A block has 16 * rows16 rows, tiles of 8 * tiles8 features, and columns for its warps to hold
// blocks32 pieces of 32 each. As cuda_device.step_forced, rows16 == 0 stands for the composition of other ops, and
// blocks == 0 for one block a tile.
typedef struct step_shape {
  int32_t rows16, tiles8, blocks32;
  int32_t splits;  // blocks that share a tile's columns
  int32_t blocks;  // that share the tiles; where there are fewer, each takes several
} step_shape;

// One product, as the kernel sees it. T is BF16.
typedef struct {
  const void *x;  // [n,I]: the input, before its norm
  const void *weight;
  const void *bias;                      // NULL: none
  const float *norm_weight, *norm_bias;  // NULL: none
  void *out;                             // LINEAR: out; QKV, ROTARY: q; RESIDUAL: x, which is added to
  void *k_cache, *v_cache;
  const int32_t *positions, *slots;
  float *partials;    // [tile, row group, split, unit, 4]
  int32_t *counters;  // [tile, row group], zero between launches
  int64_t x_stride, weight_stride, out_stride, k_stride, v_stride, n_cache_row;
  int32_t n, n_block32;          // rows; columns / 32
  int32_t n_feature;             // rows of weight
  int32_t pair;                  // see step_tile
  int32_t n_tile, slice_blocks;  // tiles; pieces of 32 columns of a split
  int32_t q_cols, k_cols;
  int32_t region_bytes, stages;  // a warp's part of a stage; stages in shared memory
  float reciprocal_I, epsilon;
  ss_step_activation activation;
  bool centred;                      // layer norm
  bool out_f32;                      // LINEAR: out is F32
  bool pairs_aligned, bias_aligned;  // two neighbours of out, of bias can be accessed at once
  float frequencies[STEP_ROTARY_PAIRS];
} step_arguments;

// How to cut a product; false: no kernel serves it well. Wants n, n_block32, n_feature, activation and, for ROTARY, pair.
bool step_choose(const cuda_device *cuda, step_kind kind, const step_arguments *arguments, step_shape *shape);
// Launches it. What follows from the shape is filled in.
ss_status step_linear_launch(ss_device *device, step_kind kind, const step_shape *shape,
                             const step_arguments *arguments);

#ifdef __cplusplus
}
#endif

#endif
