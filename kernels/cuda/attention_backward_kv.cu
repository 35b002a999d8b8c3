// Attention backward over the key list: dk and dv. A block owns 64 key rows of one kv head, a warp 16 of them; it loops
// over the query heads that share them and over the queries that read them, 64 at a time. The products are those of the
// transposed matrices S^T = k q^T and dP^T = v dout^T, so that the block's rows are the warp's rows.
//
// Key rows that very many queries read make the longest loop, and it is longer by the query heads of a kv head: with 4 rows of
// 2048 in segments of 32 that all read the row's first one, 16 query heads and 4 kv heads of 128, the blocks of the first
// segments take 128 steps, where the work shared evenly would be 32. Blocks of a query head each would add up dk and dv in
// one more pass.
#include "kernels/cuda/attention_backward.cuh"

#include <math.h>

// Shared memory: two stages of (q, dout) [64][head_dim]; the block's rows of k and v arrive in the second.
template <int head_dim> struct kv_layout {
  static constexpr int tile = TILE_COLUMNS * head_dim * 2;
  static constexpr int stage = 2 * tile, start = stage;
  static constexpr int lists = start + stage;
  static constexpr int bytes = lists + (int)sizeof(backward_lists);
};

// What a lane keeps of its rows.
template <int head_dim> struct kv_state {
  uint32_t k[head_dim / 16][4], v[head_dim / 16][4];  // A fragments
  float dk[head_dim / 8][4], dv[head_dim / 8][4];     // D fragments; dk not yet scaled
};

// One group of 16 queries. q, dout: the group's rows in shared memory.
template <int head_dim>
__device__ __forceinline__ void kv_group(kv_state<head_dim> *state, const unsigned char *q,
                                         const unsigned char *dout, const backward_lists *lists, int stage,
                                         int group, bool all, float scale, int warp, int lane) {
  int plain = tile_lane_chunks_first<head_dim>(lane), transposed = tile_lane_rows_first<head_dim>(lane);
  int column = group * TILE_GROUP + lane % 4 * 2;
  float p[2][4] = {}, ds[2][4];
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, q + tile_block<head_dim>(plain, 0, d));
    gpu_mma(p[0], state->k[d], b);
    gpu_mma(p[1], state->k[d], b + 2);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float2 column_delta = *(const float2 *)(lists->delta[stage] + column + n * 8);
    ds[n][0] = ds[n][2] = -column_delta.x;
    ds[n][1] = ds[n][3] = -column_delta.y;
  }
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, dout + tile_block<head_dim>(plain, 0, d));
    gpu_mma(ds[0], state->v[d], b);
    gpu_mma(ds[1], state->v[d], b + 2);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float2 sum = *(const float2 *)(lists->log_sum_exp[stage] + column + n * 8);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      p[n][e] = gpu_exp2(p[n][e] * scale - (e % 2 ? sum.y : sum.x));
  }
  if (!all)
    backward_mask<true>(p, lists, stage, group * TILE_GROUP, warp, lane);
  uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = gpu_pack_bf16(p[i / 2][i % 2 * 2], p[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix_transposed(b, dout + tile_block<head_dim>(transposed, 0, d));
    gpu_mma(state->dv[2 * d], a, b);
    gpu_mma(state->dv[2 * d + 1], a, b + 2);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = gpu_pack_bf16(p[i / 2][i % 2 * 2] * ds[i / 2][i % 2 * 2],
                         p[i / 2][i % 2 * 2 + 1] * ds[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix_transposed(b, q + tile_block<head_dim>(transposed, 0, d));
    gpu_mma(state->dk[2 * d], a, b);
    gpu_mma(state->dk[2 * d + 1], a, b + 2);
  }
}

// One query's log_sum_exp (threads 0-63) or delta (64-127): read here and first touched by kv_put, a step of products
// later, so that nobody waits for it.
__device__ __forceinline__ float kv_get(const attention_backward_arguments &a, const int32_t *columns,
                                        int32_t head, int thread) {
  int64_t query = columns[thread % TILE_COLUMNS];
  const float *source = thread < TILE_COLUMNS ? a.log_sum_exp : a.delta;
  int64_t stride = thread < TILE_COLUMNS ? a.log_sum_exp_stride : a.n_head;
  float value = -INFINITY;  // padding
  if (query >= 0)
    value = source[query * stride + head];
  return value;
}
__device__ __forceinline__ void kv_put(backward_lists *lists, int stage, float value, int thread) {
  if (thread < TILE_COLUMNS)
    lists->log_sum_exp[stage][thread] = backward_log2_sum(value);
  else
    lists->delta[stage][thread - TILE_COLUMNS] = value == -INFINITY ? 0.0f : value;
}

template <int head_dim>
__global__ void __launch_bounds__(BACKWARD_THREADS, head_dim <= 64 ? 3 : 2)
    attention_backward_kv_kernel(attention_backward_arguments a) {
  typedef kv_layout<head_dim> layout;
  static_assert(BACKWARD_THREADS == 2 * TILE_COLUMNS, "kv_get");
  GPU_DYNAMIC_SHARED(shared);
  backward_lists *lists = (backward_lists *)(shared + layout::lists);
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  int parts = a.tiles.tile_rows / BACKWARD_ROWS;
  int kv_head = blockIdx.x % a.n_kv_head, part = blockIdx.x / a.n_kv_head % parts;
  int index = blockIdx.x / a.n_kv_head / parts;
  int heads = a.n_head / a.n_kv_head, first_head = kv_head * heads;
  attention_tile tile = a.tiles.tiles[index];
  int64_t first_row = (int64_t)index * a.tiles.tile_rows + part * BACKWARD_ROWS;
  const int32_t *rows = a.tiles.rows + first_row, *first_columns = a.tiles.columns + tile.column_first;
  int n_step = tile.n_column / TILE_COLUMNS, n_iteration = n_step * heads;

  // The indices come first, as all else waits for them.
  kv_state<head_dim> state;
  tile_warp_rows warp_rows = backward_read_rows(lists, a.tiles, first_row, warp, lane);
  unsigned char *start = shared + layout::start;
  if (n_step > 0) {
    tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(shared, a.q + first_head * head_dim,
                                                               a.q_stride, shared + layout::tile,
                                                               a.dout + first_head * head_dim, a.dout_stride,
                                                               first_columns, thread);
    backward_copy_columns(lists, 0, a.tiles, tile.column_first,
                          tile.column_first + (n_step > 1 ? TILE_COLUMNS : 0), thread);
  }
  tile_gather_pair<head_dim, BACKWARD_ROWS, BACKWARD_THREADS>(start, a.k + kv_head * head_dim, a.k_stride,
                                                              start + layout::tile, a.v + kv_head * head_dim,
                                                              a.v_stride, rows, thread);
  gpu_copy_commit();
  if (n_step > 0)
    kv_put(lists, 0, kv_get(a, first_columns, first_head, thread), thread);
  gpu_copy_wait<0>();
  gpu_sync_block();
  int fragment = tile_lane_rows_first<head_dim>(lane);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    int offset = tile_block<head_dim>(fragment, warp, d);
    gpu_load_matrix(state.k[d], start + offset);
    gpu_load_matrix(state.v[d], start + layout::tile + offset);
  }
#pragma unroll
  for (int d = 0; d < head_dim / 8; ++d)
    for (int e = 0; e < 4; ++e)
      state.dk[d][e] = state.dv[d][e] = 0.0f;

  float scale = a.scale * LOG2_E;
  int step = 0, head = first_head;  // of the iteration being loaded
  for (int iteration = 0; iteration < n_iteration; ++iteration) {
    int stage = iteration % 2;
    float staged = 0.0f;
    gpu_copy_wait<0>();
    gpu_sync_block();  // this step's rows are there, and nobody reads the step before any more
    bool more = iteration + 1 < n_iteration;
    if (more) {
      if (++step == n_step)
        step = 0, ++head;
      unsigned char *next = shared + (stage ^ 1) * layout::stage;
      int64_t column = tile.column_first + (int64_t)step * TILE_COLUMNS;
      const int32_t *queries = lists->index[stage ^ 1];
      tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(next, a.q + head * head_dim, a.q_stride,
                                                                 next + layout::tile,
                                                                 a.dout + head * head_dim, a.dout_stride,
                                                                 queries, thread);
      backward_copy_columns(lists, stage ^ 1, a.tiles, column,
                            step + 1 < n_step ? column + TILE_COLUMNS : tile.column_first, thread);
      gpu_copy_commit();
      staged = kv_get(a, queries, head, thread);
    }
    const unsigned char *step_q = shared + stage * layout::stage;
    tile_visibility visibility = tile_step_visibility<true>(lists->value[stage], lists->bits[stage],
                                                            warp_rows, lane);
#pragma unroll 1
    for (uint32_t groups = visibility.any; groups != 0; groups &= groups - 1) {
      int group = tile_first_group(groups);
      bool all = (visibility.all >> (8 * group) & 1) != 0;
      const unsigned char *group_q = step_q + group * (TILE_GROUP * head_dim * 2);
      kv_group(&state, group_q, group_q + layout::tile, lists, stage, group, all, scale, warp, lane);
    }
    if (more)
      kv_put(lists, stage ^ 1, staged, thread);
  }
  gpu_sync_block();
  const float dk_scale[2] = {a.scale, a.scale}, dv_scale[2] = {1.0f, 1.0f};
  int first = warp * 16;
  int32_t row = lists->row[first + lane % 16];
  unsigned char *own = shared + first * (head_dim * 2);
  tile_scatter<head_dim>(a.dk + kv_head * head_dim, a.dk_stride, row, own, state.dk, dk_scale, lane);
  tile_scatter<head_dim>(a.dv + kv_head * head_dim, a.dv_stride, row, own + layout::tile, state.dv, dv_scale,
                         lane);
}

template <int head_dim> static ss_status launch_kv(ss_device *device, const attention_backward_arguments *a) {
  constexpr int bytes = kv_layout<head_dim>::bytes;
  int64_t blocks = (int64_t)a->tiles.n_tile * (a->tiles.tile_rows / BACKWARD_ROWS) * a->n_kv_head;
  CUDA_REQUIRE(device, blocks <= INT32_MAX, "attention_backward: %lld blocks", (long long)blocks);
  CUDA_TRY(device, gpu_allow_shared(attention_backward_kv_kernel<head_dim>, bytes));
  GPU_LAUNCH(attention_backward_kv_kernel<head_dim>, (unsigned)blocks, BACKWARD_THREADS, bytes,
             cuda_of(device)->stream, *a);
  CUDA_LAUNCHED(device, "attention_backward (dk, dv)");
  return SS_OK;
}

ss_status attention_backward_kv(ss_device *device, int32_t head_dim,
                                const attention_backward_arguments *arguments) {
  switch (head_dim) {
  case 16:
    return launch_kv<16>(device, arguments);
  case 32:
    return launch_kv<32>(device, arguments);
  case 64:
    return launch_kv<64>(device, arguments);
  default:
    return launch_kv<128>(device, arguments);
  }
}
