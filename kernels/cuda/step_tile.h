// Products of a decoding step without a norm, or for more rows than step_linear.h serves well, and the norm before those:
// what step.cu asks of them. The kernel is explained in step_tile.cuh.
#ifndef SELFSPAN_KERNELS_CUDA_STEP_TILE_H
#define SELFSPAN_KERNELS_CUDA_STEP_TILE_H

#include "kernels/cuda/step_linear.h"

#ifdef __cplusplus
extern "C" {
#endif

// How a product is cut: a block has 16 * rows16 rows, 8 * tiles8 features, all columns, and `warps` warps that share the
// columns. As cuda_device.step_tile_forced, rows16 == 0 stands for the shape that is estimated to be the fastest, whether
// or not others serve better, and rows16 < 0 for none.
typedef struct step_tile_shape {
  int32_t rows16, tiles8, warps;
} step_tile_shape;

// Shape number `index` of those that there are; false behind the last.
bool step_tile_shape_of(int32_t index, step_tile_shape *shape);
// How to cut a product, whose norm is done already; false: others serve it better. Wants n, n_block32, n_feature,
// activation and, for ROTARY, pair.
bool step_tile_choose(const cuda_device *cuda, step_kind kind, const step_arguments *arguments,
                      step_tile_shape *shape);
// Launches it; norm_weight must be NULL. What follows from the shape is filled in.
ss_status step_tile_launch(ss_device *device, step_kind kind, const step_tile_shape *shape,
                           const step_arguments *arguments);

// Whether step_norm serves: BF16, rows in pieces of 16 bytes, at most 4,096 columns.
bool step_norm_serves(ss_tensor out, ss_tensor x, ss_norm norm);
// out[n,C] = norm(x)
ss_status step_norm(ss_device *device, ss_tensor out, ss_tensor x, ss_norm norm);

#ifdef __cplusplus
}
#endif

#endif
