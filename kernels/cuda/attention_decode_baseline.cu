// What the decode kernel is compared with in benchmarks: one block of four warps a view and query head, which walks
// over aligned blocks of 64 key rows, 16 a warp, and merges its warps at the end. Blocks that hold no visible row are
// skipped, the others are read whole and masked. Steps are those of the decode kernel, so that only the division of the
// work differs.
#include <stdlib.h>

#include "common/memory.h"
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/cuda.h"

enum { BLOCK_ROWS = 64, WARPS = 4, WARP_ROWS = BLOCK_ROWS / WARPS };

typedef struct {
  int32_t first, n_row;  // key rows of the block that the sequence has
  uint32_t seen[2];      // a bit for each row
} key_block;

typedef struct {
  int32_t query, first, n_block, unused;
} block_view;

typedef struct {
  const block_view *views;
  const key_block *blocks;
  const gpu_bf16 *q, *k, *v;
  gpu_bf16 *out;
  int64_t q_stride, out_stride;
  int32_t k_bytes, v_bytes, n_head, group;
  float scale;
} baseline_arguments;

template <int dim>
__global__ void __launch_bounds__(WARPS * 32, 6) baseline_kernel(const baseline_arguments a) {
  typedef decode_shape<gpu_bf16, dim> shape;
  enum { WIDTH = shape::WIDTH, LANES = shape::LANES, ROWS = shape::ROWS };
  GPU_SHARED(float, sums, [WARPS][dim]);
  GPU_SHARED(float, highest, [WARPS]);
  GPU_SHARED(float, totals, [WARPS]);
  int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
  int32_t head = (int32_t)(blockIdx.x % (uint32_t)a.n_head), column = lane % LANES * WIDTH;
  block_view view = a.views[blockIdx.x / (uint32_t)a.n_head];
  decode_state<gpu_bf16, dim, 1> state;
  decode_begin(&state, a.q + view.query * a.q_stride + (int64_t)head * dim + column, 1, a.scale);
  const gpu_bf16 *k = a.k + (int64_t)(head / a.group) * dim + column;
  const gpu_bf16 *v = a.v + (int64_t)(head / a.group) * dim + column;
  for (int32_t b = view.first; b < view.first + view.n_block; ++b) {
    key_block block = a.blocks[b];
    for (int at = 0; at < WARP_ROWS; at += ROWS) {
      uint4 k_pieces[DECODE_UNROLL], v_pieces[DECODE_UNROLL];
      bool seen[DECODE_UNROLL];
#pragma unroll
      for (int u = 0; u < DECODE_UNROLL; ++u) {
        int32_t row = warp * WARP_ROWS + at + lane / LANES * DECODE_UNROLL + u;
        seen[u] = ((warp < WARPS / 2 ? block.seen[0] : block.seen[1]) >> (row % 32) & 1) != 0;
        k_pieces[u] = v_pieces[u] = make_uint4(0, 0, 0, 0);
        if (row < block.n_row) {
          k_pieces[u] = *decode_address(k, block.first + row, a.k_bytes);
          v_pieces[u] = *decode_address(v, block.first + row, a.v_bytes);
        }
      }
      decode_step(&state, seen, k_pieces, v_pieces, 1);
    }
  }
  decode_join_groups(&state);
  if (lane < LANES)
    for (int i = 0; i < WIDTH; ++i)
      sums[warp][column + i] = state.sum[0][i];
  if (lane == 0)
    highest[warp] = state.highest[0], totals[warp] = state.total[0];
  gpu_sync_block();
  float most = -INFINITY, total = 0;
  for (int w = 0; w < WARPS; ++w)
    most = fmaxf(most, highest[w]);
  for (int c = (int)threadIdx.x; c < dim; c += WARPS * 32) {
    float sum = 0;
    total = 0;
    for (int w = 0; w < WARPS; ++w) {
      float shrink = gpu_exp2(highest[w] - (most == -INFINITY ? 0.0f : most));
      sum = fmaf(sums[w][c], shrink, sum), total = fmaf(totals[w], shrink, total);
    }
    a.out[view.query * a.out_stride + (int64_t)head * dim + c] = gpu_to_bf16(total > 0 ? sum / total : 0.0f);
  }
}

// Views [n_view], then blocks, in one piece of memory.
extern "C" ss_status attention_decode_baseline_plan(ss_device *device, attention_decode_blocks *out,
                                                    const attention_decode *plan) {
  const attention_decode_range *ranges = attention_decode_ranges(plan);
  block_view *views = NULL;
  SS_TRY(ss_allocate(&views, plan->n_view + plan->n_row, sizeof *views, "decode blocks", &device->error));
  static_assert(sizeof(block_view) == sizeof(key_block), "one array holds both");
  key_block *blocks = (key_block *)(void *)(views + plan->n_view);
  int32_t n_block = 0;
  for (int64_t i = 0; i < plan->n_view; ++i) {
    int32_t last_block = -1, first = n_block;
    for (int32_t r = plan->view_range[i]; r < plan->view_range[i + 1]; ++r) {
      int32_t stop = r + 1 < plan->view_range[i + 1] ? ranges[r + 1].start : plan->view_row[i + 1];
      for (int32_t row = ranges[r].first; row < ranges[r].first + stop - ranges[r].start; ++row) {
        if (row / BLOCK_ROWS != last_block) {
          last_block = row / BLOCK_ROWS;
          blocks[n_block++] = {last_block * BLOCK_ROWS, BLOCK_ROWS, {0, 0}};
        }
        blocks[n_block - 1].seen[row % BLOCK_ROWS / 32] |= 1u << row % 32;
      }
    }
    // The last block ends with the sequence.
    if (n_block > first) {
      key_block *last = &blocks[n_block - 1];
      while (!(last->seen[(last->n_row - 1) / 32] >> (last->n_row - 1) % 32 & 1))
        --last->n_row;
    }
    views[i] = {plan->queries[i], first, n_block - first, 0};
  }
  size_t bytes = (size_t)(plan->n_view + n_block) * sizeof *views;
  cuda_release(device, out->device_block);
  *out = {};
  ss_status status = cuda_allocate(device, &out->device_block, bytes, "decode blocks");
  if (status == SS_OK)
    status = cuda_upload(device, out->device_block, views, bytes);
  free(views);
  out->n_view = plan->n_view, out->n_block = n_block;
  return status;
}

extern "C" void attention_decode_baseline_free(ss_device *device, attention_decode_blocks *blocks) {
  cuda_release(device, blocks->device_block);
  *blocks = {};
}

extern "C" ss_status attention_decode_baseline_forward(ss_device *device,
                                                       const attention_decode_blocks *blocks,
                                                       ss_attention_shape shape, ss_tensor out, ss_tensor q,
                                                       ss_tensor k, ss_tensor v) {
  CUDA_REQUIRE(device, q.dtype == SS_BF16 && (shape.head_dim == 64 || shape.head_dim == 128),
               "attention: the baseline is for bf16 and a head_dim of 64 or 128");
  const block_view *views = (const block_view *)blocks->device_block;
  baseline_arguments arguments = {views,
                                  (const key_block *)(const void *)(views + blocks->n_view),
                                  (const gpu_bf16 *)q.data,
                                  (const gpu_bf16 *)k.data,
                                  (const gpu_bf16 *)v.data,
                                  (gpu_bf16 *)out.data,
                                  q.stride,
                                  out.stride,
                                  (int32_t)(k.stride * (int64_t)sizeof(gpu_bf16)),
                                  (int32_t)(v.stride * (int64_t)sizeof(gpu_bf16)),
                                  shape.n_head,
                                  shape.n_head / shape.n_kv_head,
                                  shape.scale * DECODE_LOG2_E};
  unsigned grid = (unsigned)(blocks->n_view * shape.n_head);
  cudaStream_t stream = cuda_of(device)->stream;
  if (shape.head_dim == 64)
    GPU_LAUNCH((baseline_kernel<64>), grid, WARPS * 32, 0, stream, arguments);
  else
    GPU_LAUNCH((baseline_kernel<128>), grid, WARPS * 32, 0, stream, arguments);
  CUDA_LAUNCHED(device, "attention (decode baseline)");
  return SS_OK;
}
