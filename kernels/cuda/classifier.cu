// Tied classifier and cross-entropy in chunks of rows: the logits of one chunk are all that exists, and its gradient
// replaces them in place. Rows without a target are left out of the products.
//
// One kernel a chunk does everything between the products, a block a row. A bf16 row that fits is held in shared
// memory (100 KB for GPT-2's vocabulary, two blocks to a multiprocessor), so that the logits are read once and their
// gradient written once. Other rows are read twice.
#include <float.h>
#include <limits.h>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/gemm.h"

// 5632 rows of GPT-2's vocabulary, rounded up: 44 x 3 tiles of 128 x 256 are dh's one wave on the 132 multiprocessors
// of an H100.
#define LOGITS_BYTES ((size_t)544 << 20)
#define ROW_STEP 128  // chunks are multiples of this many rows
#define LEADING 64    // elements that a row of logits is padded to
#define BLOCK 512
#define WARPS (BLOCK / 32)
#define STAGES 4  // parts of a row that are waited for in turn
#define LOG2E 1.4426950408889634f

// --- the rows that have a target ---

// Warp w of the grid copies row w: from rows[w] (gather) or to rows[w]. Rows are `pieces` pieces long.
template <typename piece, bool gather>
static __global__ void copy_rows(piece *out, int64_t out_stride, const piece *in, int64_t in_stride,
                                 const int32_t *rows, int64_t n, int64_t pieces) {
  const int64_t w = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (w >= n)
    return;
  const int64_t listed = rows[w];
  piece *to = out + (gather ? w : listed) * out_stride;
  const piece *from = in + (gather ? listed : w) * in_stride;
  for (int64_t i = threadIdx.x % 32; i < pieces; i += 32)
    to[i] = from[i];
}

// What rows without a target hold: loss 0, not correct, gradient 0. A warp a row; dh may be NULL.
template <typename piece>
static __global__ void write_nothing(float *losses, int32_t *correct, piece *dh, int64_t dh_stride,
                                     const int32_t *targets, int64_t n, int64_t pieces, piece zero) {
  const int64_t w = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (w >= n || targets[w] >= 0)
    return;
  if (threadIdx.x % 32 == 0) {
    losses[w] = 0.0f;
    if (correct)
      correct[w] = 0;
  }
  if (dh)
    for (int64_t i = threadIdx.x % 32; i < pieces; i += 32)
      dh[w * dh_stride + i] = zero;
}

// Rows as pieces of 16 bytes where both tensors allow it, else of one element.
static bool in_pieces(ss_tensor a, ss_tensor b) {
  return cuda_is_aligned(a) && cuda_is_aligned(b);
}

template <typename piece>
static ss_status copy_rows_as(ss_device *device, ss_tensor out, ss_tensor in, const int32_t *rows, int64_t n,
                              bool gather) {
  int64_t width = (int64_t)(sizeof(piece) / ss_dtype_size(in.dtype));
  unsigned grid = (unsigned)cuda_ceil_divide(n, 8);
  if (gather)
    GPU_LAUNCH((copy_rows<piece, true>), grid, 256, 0, cuda_of(device)->stream, (piece *)out.data,
               out.stride / width, (const piece *)in.data, in.stride / width, rows, n, in.cols / width);
  else
    GPU_LAUNCH((copy_rows<piece, false>), grid, 256, 0, cuda_of(device)->stream, (piece *)out.data,
               out.stride / width, (const piece *)in.data, in.stride / width, rows, n, in.cols / width);
  CUDA_LAUNCHED(device, "copy_rows");
  return SS_OK;
}

// out[j] = in[rows[j]] (gather) or out[rows[j]] = in[j], j < n
static ss_status move_rows(ss_device *device, ss_tensor out, ss_tensor in, const int32_t *rows, int64_t n,
                           bool gather) {
  if (in_pieces(out, in))
    return copy_rows_as<uint4>(device, out, in, rows, n, gather);
  return in.dtype == SS_BF16 ? copy_rows_as<uint16_t>(device, out, in, rows, n, gather)
                             : copy_rows_as<float>(device, out, in, rows, n, gather);
}

template <typename piece>
static ss_status write_nothing_as(ss_device *device, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                                  ss_tensor targets, int64_t n, piece zero) {
  int64_t width = dh.data ? (int64_t)(sizeof(piece) / ss_dtype_size(dh.dtype)) : 1;
  GPU_LAUNCH(write_nothing<piece>, (unsigned)cuda_ceil_divide(n, 8), 256, 0, cuda_of(device)->stream,
             (float *)losses.data, (int32_t *)correct.data, (piece *)dh.data, dh.stride / width,
             (const int32_t *)targets.data, n, dh.cols / width, zero);
  CUDA_LAUNCHED(device, "write_nothing");
  return SS_OK;
}

// --- between the products ---

// What a thread has seen of its row: the largest logit, the first piece that holds it, and the sum of
// exp(logit - highest).
typedef struct {
  float highest, sum;
  int32_t first;
} row_scan;

// Piece v of a row; elements from V on count as minus infinity.
template <typename type>
static __device__ __forceinline__ void load_piece(float x[PIECE_OF(type)], const type *row, int32_t v,
                                                  int32_t V) {
  const int width = PIECE_OF(type);
  load_elements<width>(x, row + (int64_t)v * width);
  if ((v + 1) * width > V) {
#pragma unroll
    for (int j = 0; j < width; ++j)
      if (v * width + j >= V)
        x[j] = -INFINITY;
  }
}

template <typename type>
static __device__ __forceinline__ void scan_piece(row_scan *scan, const type *row, int32_t v, int32_t V) {
  const int width = PIECE_OF(type);
  float x[width], highest;
  load_piece(x, row, v, V);
  highest = x[0];
#pragma unroll
  for (int j = 1; j < width; ++j)
    highest = fmaxf(highest, x[j]);
  if (highest > scan->highest) {
    scan->sum *= gpu_exp2((scan->highest - highest) * LOG2E);
    scan->highest = highest;
    scan->first = v;
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < width; ++j)
    sum += gpu_exp2((x[j] - scan->highest) * LOG2E);
  scan->sum += sum;
}

// Lanes whose numbers differ in the bits below `lanes` share their scans; in a fixed order.
static __device__ __forceinline__ void share_scan(row_scan *scan, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    float highest = gpu_shuffle_xor(scan->highest, mask), sum = gpu_shuffle_xor(scan->sum, mask);
    int32_t first = gpu_shuffle_xor(scan->first, mask);
    float both = fmaxf(scan->highest, highest);
    scan->sum = scan->sum * gpu_exp2((scan->highest - both) * LOG2E) +
                sum * gpu_exp2((highest - both) * LOG2E);
    if (highest > scan->highest || (highest == scan->highest && first < scan->first))
      scan->first = first;
    scan->highest = both;
  }
}

// Block j: row j of logits[m, V], which belongs to row rows[j] of the batch. Writes its loss and whether the arg-max
// (the first of equals) is the target, and with `gradient` softmax - onehot over the logits. A row without a target
// gives zeros; a target beyond V a loss that is not a number.
template <typename type, bool resident>
static __global__ void __launch_bounds__(BLOCK, 2)
    classifier_rows(type *logits, int64_t stride, int32_t V, float *losses, int32_t *correct,
                    const int32_t *targets, const int32_t *rows, bool gradient) {
  const int width = PIECE_OF(type);
  GPU_DYNAMIC_SHARED(shared);
  GPU_SHARED(float, warp_highest, [WARPS]);
  GPU_SHARED(float, warp_sum, [WARPS]);
  GPU_SHARED(int32_t, warp_first, [WARPS]);
  type *out = logits + (int64_t)blockIdx.x * stride;
  const type *row = resident ? (const type *)shared : out;
  const int32_t thread = (int32_t)threadIdx.x, n_piece = (V + width - 1) / width;
  const int32_t stage = (n_piece + STAGES * BLOCK - 1) / (STAGES * BLOCK) * BLOCK;  // pieces of a stage
  const int32_t listed = rows[blockIdx.x];
  row_scan scan = {-1e30f, 0.0f, INT_MAX};
  if (resident) {
    for (int s = 0; s < STAGES; ++s) {
      for (int32_t v = s * stage + thread; v < (s + 1) * stage && v < n_piece; v += BLOCK)
        gpu_copy_async(shared + (size_t)v * 16, (const uint4 *)out + v, true);
      gpu_copy_commit();
    }
  }
  // Volatile, so that it is read now, while the row is on its way, and not after it.
  const int32_t target = *(const volatile int32_t *)(targets + listed);
  if (resident) {
    // A thread reads what it has copied itself, so no barrier stands between the stages.
    gpu_copy_wait<3>();
    for (int32_t v = thread; v < stage && v < n_piece; v += BLOCK)
      scan_piece(&scan, row, v, V);
    gpu_copy_wait<2>();
    for (int32_t v = stage + thread; v < 2 * stage && v < n_piece; v += BLOCK)
      scan_piece(&scan, row, v, V);
    gpu_copy_wait<1>();
    for (int32_t v = 2 * stage + thread; v < 3 * stage && v < n_piece; v += BLOCK)
      scan_piece(&scan, row, v, V);
    gpu_copy_wait<0>();
    for (int32_t v = 3 * stage + thread; v < n_piece; v += BLOCK)
      scan_piece(&scan, row, v, V);
  } else {
    for (int32_t v = thread; v < n_piece; v += BLOCK)
      scan_piece(&scan, row, v, V);
  }
  share_scan(&scan, 32);
  if (thread % 32 == 0) {
    warp_highest[thread / 32] = scan.highest;
    warp_sum[thread / 32] = scan.sum;
    warp_first[thread / 32] = scan.first;
  }
  gpu_sync_block();
  scan.highest = warp_highest[thread % WARPS];
  scan.sum = warp_sum[thread % WARPS];
  scan.first = warp_first[thread % WARPS];
  share_scan(&scan, WARPS);
  if (thread == 0) {
    float loss = 0.0f;
    int32_t hit = 0;
    if (target >= V) {
      loss = NAN;
    } else if (target >= 0) {
      float logit = gpu_float(row[target]);
      loss = logf(scan.sum) + (scan.highest - logit);
      // The first of equals: the target's piece is the first with such a value, and nothing before it in there is.
      hit = logit == scan.highest && scan.first == target / width;
      for (int32_t i = target / width * width; i < target; ++i)
        hit = hit && gpu_float(row[i]) != scan.highest;
    }
    losses[listed] = loss;
    if (correct)
      correct[listed] = hit;
  }
  if (!gradient)
    return;
  if (!resident)
    gpu_sync_block();  // thread 0 has read the logits that are now overwritten
  const float factor = target < 0 ? 0.0f : 1.0f / scan.sum;
  const int32_t target_piece = target >= 0 ? target / width : -1;
  for (int32_t v = thread; v < n_piece; v += BLOCK) {
    float x[width];
    load_piece(x, row, v, V);
#pragma unroll
    for (int j = 0; j < width; ++j)
      x[j] = factor * gpu_exp2((x[j] - scan.highest) * LOG2E);
    if (v == target_piece) {
#pragma unroll
      for (int j = 0; j < width; ++j)
        if (v * width + j == target)
          x[j] -= 1.0f;
    }
    store_elements<width>(out + (int64_t)v * width, x);
  }
}

static ss_status score_rows(ss_device *device, ss_tensor logits, ss_tensor losses, ss_tensor correct,
                            ss_tensor targets, const int32_t *rows, bool gradient) {
  cuda_device *cuda = cuda_of(device);
  unsigned m = (unsigned)logits.rows;
  int32_t V = (int32_t)logits.cols;
  int most = 0;
  CUDA_TRY(device, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda->ordinal));
  int bytes = (V + 7) / 8 * 16, fixed = 1024;  // of a bf16 row; the static arrays, rounded up
  if (logits.dtype == SS_F32) {
    GPU_LAUNCH((classifier_rows<float, false>), m, BLOCK, 0, cuda->stream, (float *)logits.data,
               logits.stride, V, (float *)losses.data, (int32_t *)correct.data, (const int32_t *)targets.data,
               rows, gradient);
  } else if (bytes + fixed <= most) {
    CUDA_TRY(device, gpu_allow_shared((classifier_rows<gpu_bf16, true>), bytes));
    GPU_LAUNCH((classifier_rows<gpu_bf16, true>), m, BLOCK, bytes, cuda->stream, (gpu_bf16 *)logits.data,
               logits.stride, V, (float *)losses.data, (int32_t *)correct.data, (const int32_t *)targets.data,
               rows, gradient);
  } else {
    GPU_LAUNCH((classifier_rows<gpu_bf16, false>), m, BLOCK, 0, cuda->stream, (gpu_bf16 *)logits.data,
               logits.stride, V, (float *)losses.data, (int32_t *)correct.data, (const int32_t *)targets.data,
               rows, gradient);
  }
  CUDA_LAUNCHED(device, "classifier_rows");
  return SS_OK;
}

// --- the op ---

// Rows of a chunk: what the budget allows, in multiples of ROW_STEP where it allows as many, and chunks alike.
static int64_t chunk_rows(int64_t n_target, int64_t leading, ss_dtype T, size_t logits_bytes) {
  int64_t most = (int64_t)(logits_bytes / ((size_t)leading * ss_dtype_size(T)));
  if (most >= ROW_STEP)
    most = most / ROW_STEP * ROW_STEP;
  if (most < 1)
    most = 1;
  if (n_target <= most)
    return n_target;
  int64_t each = cuda_ceil_divide(n_target, cuda_ceil_divide(n_target, most));
  return most >= ROW_STEP ? cuda_ceil_divide(each, ROW_STEP) * ROW_STEP : each;
}

static int64_t round_up(int64_t x, int64_t step) {
  return cuda_ceil_divide(x, step) * step;
}

extern "C" ss_status cuda_classifier_loss_within(ss_device *device, ss_tensor losses, ss_tensor correct,
                                                 ss_tensor dh, ss_tensor dwte, ss_tensor h, ss_tensor wte,
                                                 ss_tensor targets, ss_tensor target_rows, float scale,
                                                 size_t logits_bytes) {
  int64_t n = h.rows, C = h.cols, V = wte.rows, n_target = target_rows.rows * target_rows.cols;
  ss_dtype T = device->compute;
  bool gradient = dh.data != NULL;
  CUDA_REQUIRE(
      device,
      cuda_is_matrix(h, n, C, T) && cuda_is_matrix(wte, V, C, T) && cuda_is_integers(targets, n) &&
          cuda_is_integers(target_rows, n_target) && n_target <= n && losses.data && losses.dtype == SS_F32 &&
          losses.rows * losses.cols == n && (!correct.data || cuda_is_integers(correct, n)) && V > 0 &&
          V < INT32_MAX / 8 &&
          (!gradient || (cuda_is_matrix(dh, n, C, T) && cuda_is_matrix(dwte, V, C, SS_F32))),
      "classifier_loss: shapes do not fit together: h [%lld, %lld], wte [%lld, %lld], %lld target rows",
      (long long)n, (long long)C, (long long)V, (long long)wte.cols, (long long)n_target);
  if (n == 0)
    return SS_OK;
  bool every = n_target == n;  // ascending and distinct: then the list is 0 .. n-1
  if (!every) {
    uint4 zero = {0, 0, 0, 0};
    if (!gradient || cuda_is_aligned(dh))
      SS_TRY(write_nothing_as<uint4>(device, losses, correct, dh, targets, n, zero));
    else if (T == SS_BF16)
      SS_TRY(write_nothing_as<uint16_t>(device, losses, correct, dh, targets, n, 0));
    else
      SS_TRY(write_nothing_as<float>(device, losses, correct, dh, targets, n, 0.0f));
  }
  if (n_target == 0)
    return SS_OK;
  int64_t leading = round_up(V, LEADING), capacity = chunk_rows(n_target, leading, T, logits_bytes);
  int64_t copy_stride = round_up(C, LEADING),
          copies = every ? 0 : (gradient ? 2 : 1) * capacity * copy_stride;
  void *scratch;  // logits [capacity, leading]; h [capacity, C], dh [capacity, C] where rows are gathered
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch,
                      (size_t)(capacity * leading + copies) * ss_dtype_size(T)));
  ss_tensor all_logits = {scratch, capacity, V, leading, T};
  ss_tensor h_copy = {(char *)scratch + (size_t)(capacity * leading) * ss_dtype_size(T), capacity, C,
                      copy_stride, T};
  ss_tensor dh_copy = ss_rows(h_copy, capacity, capacity);
  // Rows are read in whole pieces, also the last one, behind whose columns nothing else is ever written.
  int64_t piece = 16 / (int64_t)ss_dtype_size(T), behind = round_up(V, piece) - V;
  if (behind > 0)
    CUDA_TRY(device,
             cudaMemset2DAsync((char *)scratch + (size_t)V * ss_dtype_size(T),
                               (size_t)leading * ss_dtype_size(T), 0, (size_t)behind * ss_dtype_size(T),
                               (size_t)capacity, cuda_of(device)->stream));
  for (int64_t first = 0; first < n_target; first += capacity) {
    int64_t m = n_target - first < capacity ? n_target - first : capacity;
    const int32_t *rows = (const int32_t *)target_rows.data + first;
    ss_tensor logits = ss_rows(all_logits, 0, m),
              chunk_h = every ? ss_rows(h, first, m) : ss_rows(h_copy, 0, m);
    if (!every)
      SS_TRY(move_rows(device, chunk_h, h, rows, m, true));
    cuda_product product = cuda_product_of(logits, chunk_h, false, wte, true);
    SS_TRY(cuda_gemm(device, &product));
    SS_TRY(score_rows(device, logits, losses, correct, targets, rows, gradient));
    if (!gradient)
      continue;
    // The scale goes with the products: in the logits' place it would be rounded to T.
    ss_tensor chunk_dh = every ? ss_rows(dh, first, m) : ss_rows(dh_copy, 0, m);
    product = cuda_product_of(chunk_dh, logits, false, wte, false);
    product.alpha = scale;
    SS_TRY(cuda_gemm(device, &product));
    if (!every)
      SS_TRY(move_rows(device, dh, chunk_dh, rows, m, false));
    product = cuda_product_of(dwte, logits, true, chunk_h, false);
    product.alpha = scale;
    product.beta = 1.0f;
    SS_TRY(cuda_gemm(device, &product));
  }
  return SS_OK;
}

extern "C" ss_status cuda_classifier_loss(ss_device *device, ss_tensor losses, ss_tensor correct,
                                          ss_tensor dh, ss_tensor dwte, ss_tensor h, ss_tensor wte,
                                          ss_tensor targets, ss_tensor target_rows, float scale) {
  return cuda_classifier_loss_within(device, losses, correct, dh, dwte, h, wte, targets, target_rows, scale,
                                     LOGITS_BYTES);
}
