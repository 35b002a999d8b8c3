// Launches of the kernel behind a decoding step's products of more rows (step_tile.cuh).
#include "kernels/cuda/step_tile.cuh"

// rows16, tiles8, warps, depth: every kernel that there is. Pieces ahead: as many as 128 registers allow, or 255 with 4
// warps.
#define STEP_TILE_SHAPES(X) \
  X(1, 1, 8, 6)             \
  X(1, 2, 8, 6)             \
  X(1, 3, 8, 6)             \
  X(1, 4, 8, 4)             \
  X(2, 1, 8, 3)             \
  X(2, 2, 8, 3)             \
  X(2, 3, 8, 3)             \
  X(2, 4, 4, 6)             \
  X(2, 6, 4, 5)             \
  X(2, 8, 4, 5)             \
  X(4, 2, 4, 3)             \
  X(4, 3, 4, 3)             \
  X(4, 4, 4, 3)             \
  X(4, 6, 4, 2)             \
  X(4, 8, 4, 2)

#define ONE_SHAPE(rows, tiles, warps, depth) {rows, tiles, warps},
static const step_tile_shape shapes[] = {STEP_TILE_SHAPES(ONE_SHAPE)};
#undef ONE_SHAPE
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

// --- choosing ---

enum {
  FEW_ROWS = 16,        // so many are step_linear.h's, where a product takes its norm along
  ROWS_MOST = 64,       // more are left to cuBLASLt
  FEATURES_MOST = 8192  // more: blocks that keep their rows for several tiles, or cuBLASLt
};

extern "C" bool step_tile_shape_of(int32_t index, step_tile_shape *shape) {
  if (index >= N_SHAPE)
    return false;
  *shape = shapes[index];
  return true;
}

// Features that one tile covers in order: all, or the low ones of pairs.
static bool is_paired(step_kind kind, const step_arguments *a) {
  return kind == STEP_KIND_ROTARY || (kind == STEP_KIND_LINEAR && a->activation == SS_STEP_SWIGLU);
}
static int32_t count_tiles(step_kind kind, const step_arguments *a, const step_tile_shape *s) {
  return is_paired(kind, a) ? (int32_t)cuda_ceil_divide(a->n_feature / 2, 4 * s->tiles8)
                            : (int32_t)cuda_ceil_divide(a->n_feature, 8 * s->tiles8);
}

// The larger of a warp's weights and its sums.
static int32_t region_bytes(const step_arguments *a, const step_tile_shape *s) {
  int64_t weights = cuda_ceil_divide(a->n_block32, s->warps) * s->tiles8 * 512;
  int64_t sums = 16 * s->rows16 * STEP_PITCH(s->tiles8) * (int64_t)sizeof(float);
  int64_t bytes = weights > sums ? weights : sums;
  return (int32_t)(bytes < INT32_MAX / 16 ? bytes : INT32_MAX / 16);
}

// What a block may take: 227 KB on Hopper, less elsewhere.
static int64_t shared_most(const cuda_device *cuda) {
  int bytes = 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda->ordinal) != cudaSuccess)
    cudaGetLastError();
  return bytes > 48 << 10 ? bytes : 48 << 10;
}

static bool serves(const cuda_device *cuda, step_kind kind, const step_arguments *a,
                   const step_tile_shape *s) {
  bool exists = false;
  for (int i = 0; i < N_SHAPE; ++i)
    exists |= shapes[i].rows16 == s->rows16 && shapes[i].tiles8 == s->tiles8 && shapes[i].warps == s->warps;
  return exists && !a->norm_weight && a->x_stride < INT32_MAX / 64 &&
         cuda_ceil_divide(a->n, 16 * s->rows16) <= 65535 &&
         (kind != STEP_KIND_ROTARY ||
          ((s->tiles8 & (s->tiles8 - 1)) == 0 && a->pair % (4 * s->tiles8) == 0)) &&
         (int64_t)s->warps * region_bytes(a, s) <= shared_most(cuda);
}

// The least tile whose blocks are at most 2.25 a multiprocessor: smaller ones read the rows once more from the L2 cache,
// larger ones leave multiprocessors idle. (2, 3) does not cut heads evenly, as rotary needs.
extern "C" bool step_tile_choose(const cuda_device *cuda, step_kind kind, const step_arguments *a,
                                 step_tile_shape *shape) {
  const step_tile_shape *forced = cuda->step_tile_forced;
  if (forced && forced->rows16 > 0) {
    *shape = *forced;
    return true;
  }
  if (forced ? forced->rows16 < 0 : cuda->step_forced || a->n > ROWS_MOST || a->n_feature > FEATURES_MOST)
    return false;
  if (!forced && a->n <= FEW_ROWS) {  // what has no norm is faster here, by up to 5% of a step
    *shape = step_tile_shape{1, 3, 8};
    return kind == STEP_KIND_RESIDUAL && serves(cuda, kind, a, shape);
  }
  static const step_tile_shape ways[] = {{2, 3, 8}, {2, 4, 4}, {4, 4, 4}, {4, 8, 4}};
  bool found = false;
  for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
    int64_t blocks = count_tiles(kind, a, &ways[i]) * cuda_ceil_divide(a->n, 16 * ways[i].rows16);
    if (!serves(cuda, kind, a, &ways[i]))
      continue;
    found = true, *shape = ways[i];
    if (4 * blocks <= 9 * (int64_t)cuda->n_multiprocessor)
      break;
  }
  return found;
}

// --- launches ---

template <int rows16, int tiles8, int warps, int depth, step_kind kind>
static ss_status launch(ss_device *device, const step_arguments *a) {
  cuda_device *cuda = cuda_of(device);
  size_t bytes = (size_t)warps * (size_t)a->region_bytes;
  if (bytes > 48 << 10)
    CUDA_TRY(device, gpu_allow_shared((step_tile_kernel<rows16, tiles8, warps, depth, kind>), bytes));
  // One carve-out for all of a step's kernels: a multiprocessor changes its own only when it is idle.
  CUDA_TRY(device, cudaFuncSetAttribute((step_tile_kernel<rows16, tiles8, warps, depth, kind>),
                                        cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  dim3 grid((unsigned)a->n_tile, (unsigned)cuda_ceil_divide(a->n, 16 * rows16));
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda), (step_tile_kernel<rows16, tiles8, warps, depth, kind>), grid,
                   32 * warps, bytes, cuda->stream, *a);
  CUDA_LAUNCHED(device, "step_tile");
  return SS_OK;
}

template <int rows16, int tiles8, int warps, int depth>
static ss_status launch_kind(ss_device *device, step_kind kind, const step_arguments *a) {
  if (kind == STEP_KIND_LINEAR)
    return launch<rows16, tiles8, warps, depth, STEP_KIND_LINEAR>(device, a);
  if (kind == STEP_KIND_QKV)
    return launch<rows16, tiles8, warps, depth, STEP_KIND_QKV>(device, a);
  if constexpr ((tiles8 & (tiles8 - 1)) == 0)  // half a tile must divide half a head
    if (kind == STEP_KIND_ROTARY)
      return launch<rows16, tiles8, warps, depth, STEP_KIND_ROTARY>(device, a);
  return launch<rows16, tiles8, warps, depth, STEP_KIND_RESIDUAL>(device, a);
}

extern "C" ss_status step_tile_launch(ss_device *device, step_kind kind, const step_tile_shape *shape,
                                      const step_arguments *arguments) {
  step_arguments a = *arguments;
  CUDA_REQUIRE(device, serves(cuda_of(device), kind, &a, shape),
               "step_tile: %d features and %d columns cannot be cut into %d rows, %d features, %d warps",
               a.n_feature, a.n_block32 * 32, 16 * shape->rows16, 8 * shape->tiles8, shape->warps);
  a.pair = is_paired(kind, &a) ? a.pair : 4 * shape->tiles8;
  a.bias_aligned = (uintptr_t)a.bias % 4 == 0 && a.pair % 2 == 0;
  a.n_tile = count_tiles(kind, &a, shape);
  a.region_bytes = region_bytes(&a, shape);
#define LAUNCH(rows, tiles, n_warp, depth)                                       \
  if (shape->rows16 == rows && shape->tiles8 == tiles && shape->warps == n_warp) \
    return launch_kind<rows, tiles, n_warp, depth>(device, kind, &a);
  STEP_TILE_SHAPES(LAUNCH)
#undef LAUNCH
  return SS_OK;
}
