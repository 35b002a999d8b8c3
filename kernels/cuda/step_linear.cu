// Launches of the kernel behind the fused ops of a decoding step (step_linear.cuh).
#include "kernels/cuda/step_linear.cuh"

// rows16, tiles8, blocks32: every kernel that there is.
#define STEP_SHAPES(X) \
  X(1, 2, 3)           \
  X(1, 4, 3)           \
  X(2, 2, 3)           \
  X(2, 4, 3)           \
  X(2, 6, 3)           \
  X(4, 2, 3)           \
  X(1, 2, 8)           \
  X(2, 2, 8)           \
  X(1, 1, 12)          \
  X(1, 2, 16)

// --- choosing ---

enum {
  ROWS_MOST = 64,   // more are left to cuBLASLt
  SPLITS_MOST = 8,  // blocks that share a tile's columns
  // Above 16 rows, tiles grow until there are at most so many blocks for 132 multiprocessors.
  BLOCKS_MORE_ROWS = 144,
  SEVERAL_TILES = 8192  // features from which a block takes several tiles
};

// Features that one tile covers in order: all, or the low ones of pairs.
static bool is_paired(step_kind kind, const step_arguments *a) {
  return kind == STEP_KIND_ROTARY || (kind == STEP_KIND_LINEAR && a->activation == SS_STEP_SWIGLU);
}
static int32_t count_tiles(step_kind kind, const step_arguments *a, int32_t tiles8) {
  return is_paired(kind, a) ? (int32_t)cuda_ceil_divide(a->n_feature / 2, 4 * tiles8)
                            : (int32_t)cuda_ceil_divide(a->n_feature, 8 * tiles8);
}

// The larger of a warp's weights and its sums.
static int32_t region_bytes(const step_shape *shape, int32_t slice_blocks) {
  int32_t weights = (int32_t)cuda_ceil_divide(slice_blocks, STEP_WARPS) * shape->tiles8 * 512;
  int32_t sums = 16 * shape->rows16 * STEP_PITCH(shape->tiles8) * (int32_t)sizeof(float);
  return weights > sums ? weights : sums;
}
static size_t shared_bytes(const step_shape *shape, const step_arguments *a, int32_t stages) {
  int32_t slice = (int32_t)cuda_ceil_divide(a->n_block32, shape->splits);
  size_t bytes = (size_t)stages * STEP_WARPS * (size_t)region_bytes(shape, slice);
  if (a->norm_weight)
    bytes += (size_t)a->n_block32 * 64 * sizeof(float) +
             (size_t)(STEP_WARPS * 16 * shape->rows16) * sizeof(float2);
  return bytes;
}

// What a block may take: 227 KB on Hopper, less elsewhere.
static size_t shared_most(const cuda_device *cuda) {
  int bytes = 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda->ordinal) != cudaSuccess)
    cudaGetLastError();
  return bytes > 48 << 10 ? (size_t)bytes - 1024 : (47 << 10);  // static arrays take a little
}

static bool exists(const step_shape *shape) {
#define EXISTS(rows, tiles, blocks)                                                 \
  if (shape->rows16 == rows && shape->tiles8 == tiles && shape->blocks32 == blocks) \
    return true;
  STEP_SHAPES(EXISTS)
#undef EXISTS
  return false;
}

// Whether a kernel of this shape computes the product.
static bool serves(const cuda_device *cuda, step_kind kind, const step_arguments *a, const step_shape *s) {
  if (s->splits < 1 || s->blocks < 1 || !exists(s))
    return false;
  int32_t tiles = count_tiles(kind, a, s->tiles8);
  int64_t groups = cuda_ceil_divide(a->n, 16 * s->rows16);
  if (cuda_ceil_divide(a->n_block32, s->splits) > STEP_WARPS * s->blocks32 || s->blocks > tiles ||
      groups > 65535 || (kind == STEP_KIND_ROTARY && (s->tiles8 == 6 || a->pair % (4 * s->tiles8) != 0)) ||
      (kind != STEP_KIND_LINEAR && s->blocks < tiles))
    return false;
  if (s->splits > 1 && (kind != STEP_KIND_RESIDUAL || tiles * groups > STEP_COUNTERS ||
                        tiles * groups * s->splits * (128 * s->rows16 * s->tiles8) * (int64_t)sizeof(float) >
                            STEP_PARTIAL_BYTES))
    return false;
  return shared_bytes(s, a, s->blocks < tiles ? STEP_STAGES : 1) <= shared_most(cuda);
}

// The first of the ways to cut a product that serves it, by columns: larger tiles first. Few blocks beat many (measured):
// they leave room for the next kernel's, whose weights then travel early; and a split of the columns costs its merge,
// 1-2 us.
static bool choose_few(const cuda_device *cuda, step_kind kind, const step_arguments *a, step_shape *shape) {
  static const struct { int32_t tiles8, blocks32; } ways[] = {{4, 3}, {2, 3}, {2, 8}, {2, 16}, {1, 12}};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
    int32_t columns32 = STEP_WARPS * ways[i].blocks32;
    *shape = step_shape{1, ways[i].tiles8, ways[i].blocks32, 1, 1};
    if (ways[i].blocks32 >= 12 && kind == STEP_KIND_RESIDUAL)
      shape->splits = (int32_t)cuda_ceil_divide(a->n_block32, columns32);
    shape->blocks = count_tiles(kind, a, shape->tiles8);
    bool several = kind == STEP_KIND_LINEAR && a->n_feature > SEVERAL_TILES &&
                   shared_bytes(shape, a, STEP_STAGES) <= shared_most(cuda);
    if (several && shape->blocks > cuda->n_multiprocessor)
      shape->blocks = cuda->n_multiprocessor;
    if (shape->splits <= SPLITS_MOST && serves(cuda, kind, a, shape))
      return true;
  }
  return false;
}

// More rows: larger tiles, because every block reads its rows from the L2 cache, tiles * n * I * 2 bytes in all.
extern "C" bool step_choose(const cuda_device *cuda, step_kind kind, const step_arguments *a,
                            step_shape *shape) {
  static const int32_t tiles8[3] = {2, 4, 6};
  if (cuda->step_forced) {
    *shape = *cuda->step_forced;
    if (shape->rows16 == 0)
      return false;
    int32_t tiles = count_tiles(kind, a, shape->tiles8);
    if (shape->blocks == 0 || shape->blocks > tiles)
      shape->blocks = tiles;
    return true;
  }
  if (a->n <= 16)
    return choose_few(cuda, kind, a, shape);
  if (a->n > ROWS_MOST)
    return false;
  int32_t I32 = a->n_block32;
  *shape = step_shape{2, 2, I32 <= 24 ? 3 : I32 <= 64 ? 8 : 16, 1, 1};
  if (kind == STEP_KIND_LINEAR && a->n_feature > SEVERAL_TILES) {
    if (a->n > 32 && shape->blocks32 == 3)
      shape->rows16 = 4;
    if (shape->blocks32 == 16)
      shape->rows16 = 1;
    int32_t tiles = count_tiles(kind, a, shape->tiles8);
    size_t bytes = shared_bytes(shape, a, STEP_STAGES), most = shared_most(cuda);
    int32_t resident = shape->rows16 * shape->blocks32 < 12 && 2 * bytes <= most ? 2 : 1;
    if (bytes > most || resident * cuda->n_multiprocessor >= tiles)
      return false;  // every tile would take all rows from the L2 cache again
    shape->blocks = resident * cuda->n_multiprocessor;
    return cuda_ceil_divide(a->n, 16 * shape->rows16) <= 2 && serves(cuda, kind, a, shape);
  }
  if (kind == STEP_KIND_RESIDUAL && I32 > 24) {
    shape->blocks32 = 3;
    shape->splits = (int32_t)cuda_ceil_divide(I32, STEP_WARPS * shape->blocks32);
  }
  if (shape->blocks32 == 16)
    shape->rows16 = 1;
  int64_t groups = cuda_ceil_divide(a->n, 16 * shape->rows16);
  if (groups > 2 || shape->splits > SPLITS_MOST)
    return false;
  step_shape found = {};
  for (int i = 0; i < 3; ++i) {
    if (shape->blocks32 == 3)
      shape->tiles8 = tiles8[i];
    shape->blocks = count_tiles(kind, a, shape->tiles8);
    if (!serves(cuda, kind, a, shape))
      continue;
    found = *shape;
    if (found.blocks * groups * found.splits <= (int64_t)cuda->n_multiprocessor * BLOCKS_MORE_ROWS / 132)
      break;
  }
  *shape = found;
  return found.rows16 != 0;
}

// --- launches ---

template <int rows16, int tiles8, int blocks32, step_kind kind>
static ss_status launch(ss_device *device, const step_shape *shape, const step_arguments *arguments) {
  cuda_device *cuda = cuda_of(device);
  size_t bytes = shared_bytes(shape, arguments, arguments->stages);
  if (bytes > 32 << 10)  // static shared memory counts against the 48 KB that need no permission
    CUDA_TRY(device, gpu_allow_shared((step_kernel<rows16, tiles8, blocks32, kind>), bytes));
  // One carve-out for all of a step's kernels: a multiprocessor changes its own only when it is idle.
  CUDA_TRY(device, cudaFuncSetAttribute((step_kernel<rows16, tiles8, blocks32, kind>),
                                        cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  dim3 grid((unsigned)shape->blocks, (unsigned)cuda_ceil_divide(arguments->n, 16 * rows16),
            (unsigned)shape->splits);
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda), (step_kernel<rows16, tiles8, blocks32, kind>), grid,
                   STEP_THREADS, bytes, cuda->stream, *arguments);
  CUDA_LAUNCHED(device, "step_linear");
  return SS_OK;
}

template <int rows16, int tiles8, int blocks32>
static ss_status launch_kind(ss_device *device, step_kind kind, const step_shape *shape,
                             const step_arguments *arguments) {
  if (kind == STEP_KIND_LINEAR)
    return launch<rows16, tiles8, blocks32, STEP_KIND_LINEAR>(device, shape, arguments);
  if (kind == STEP_KIND_QKV)
    return launch<rows16, tiles8, blocks32, STEP_KIND_QKV>(device, shape, arguments);
  if constexpr (tiles8 != 6)  // half a tile must divide half a head
    if (kind == STEP_KIND_ROTARY)
      return launch<rows16, tiles8, blocks32, STEP_KIND_ROTARY>(device, shape, arguments);
  return launch<rows16, tiles8, blocks32, STEP_KIND_RESIDUAL>(device, shape, arguments);
}

extern "C" ss_status step_linear_launch(ss_device *device, step_kind kind, const step_shape *shape,
                                        const step_arguments *arguments) {
  step_arguments a = *arguments;
  CUDA_REQUIRE(
      device, serves(cuda_of(device), kind, &a, shape),
      "step_linear: %d features and %d columns cannot be cut into %d rows, %d features, %d pieces, %d "
      "splits, %d blocks",
      a.n_feature, a.n_block32 * 32, 16 * shape->rows16, 8 * shape->tiles8, shape->blocks32, shape->splits,
      shape->blocks);
  a.pair = is_paired(kind, &a) ? a.pair : 4 * shape->tiles8;
  a.bias_aligned = (uintptr_t)a.bias % 4 == 0 && a.pair % 2 == 0;
  a.n_tile = count_tiles(kind, &a, shape->tiles8);
  a.slice_blocks = (int32_t)cuda_ceil_divide(a.n_block32, shape->splits);
  a.stages = shape->blocks < a.n_tile ? STEP_STAGES : 1;
  a.region_bytes = region_bytes(shape, a.slice_blocks);
  a.reciprocal_I = 1.0f / (float)(a.n_block32 * 32);
#define LAUNCH(rows, tiles, blocks)                                                 \
  if (shape->rows16 == rows && shape->tiles8 == tiles && shape->blocks32 == blocks) \
    return launch_kind<rows, tiles, blocks>(device, kind, shape, &a);
  STEP_SHAPES(LAUNCH)
#undef LAUNCH
  return SS_OK;
}
