// Attention backward over the query list: dq and delta. A block owns 64 queries of one head, a warp 16 of them; it loops
// over the key rows that they read, 64 at a time.
#include "kernels/cuda/attention_backward.cuh"

#include <math.h>

// Shared memory: two stages of (k, v) [64][head_dim]; the block's rows of q, dout, out arrive in the second and beyond.
template <int head_dim> struct q_layout {
  static constexpr int tile = TILE_COLUMNS * head_dim * 2;
  static constexpr int stage = 2 * tile, start = stage;
  static constexpr int lists = start + 3 * tile;
  static constexpr int bytes = lists + (int)sizeof(backward_lists);
};

// What a lane keeps of its rows.
template <int head_dim> struct q_state {
  uint32_t q[head_dim / 16][4], dout[head_dim / 16][4];  // A fragments
  float log_sum_exp[2], delta[2];
  float dq[head_dim / 8][4];  // D fragments, not yet scaled
};

// One group of 16 key rows. k, v: the group's rows in shared memory.
template <int head_dim>
__device__ __forceinline__ void q_group(q_state<head_dim> *state, const unsigned char *k,
                                        const unsigned char *v, const backward_lists *lists, int stage,
                                        int group, bool all, float scale, int warp, int lane) {
  int plain = tile_lane_chunks_first<head_dim>(lane), transposed = tile_lane_rows_first<head_dim>(lane);
  float p[2][4], ds[2][4];
#pragma unroll
  for (int n = 0; n < 2; ++n)
    for (int e = 0; e < 4; ++e)
      p[n][e] = 0.0f, ds[n][e] = -state->delta[e / 2];
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, k + tile_block<head_dim>(plain, 0, d));
    gpu_mma(p[0], state->q[d], b);
    gpu_mma(p[1], state->q[d], b + 2);
  }
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, v + tile_block<head_dim>(plain, 0, d));
    gpu_mma(ds[0], state->dout[d], b);
    gpu_mma(ds[1], state->dout[d], b + 2);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n)
    for (int e = 0; e < 4; ++e)
      p[n][e] = gpu_exp2(p[n][e] * scale - state->log_sum_exp[e / 2]);
  if (!all)
    backward_mask<false>(p, lists, stage, group * TILE_GROUP, warp, lane);
  uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = gpu_pack_bf16(p[i / 2][i % 2 * 2] * ds[i / 2][i % 2 * 2],
                         p[i / 2][i % 2 * 2 + 1] * ds[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix_transposed(b, k + tile_block<head_dim>(transposed, 0, d));
    gpu_mma(state->dq[2 * d], a, b);
    gpu_mma(state->dq[2 * d + 1], a, b + 2);
  }
}

// Reads q, dout, out of the warp's rows from shared memory, and writes delta.
template <int head_dim>
__device__ __forceinline__ void q_start(q_state<head_dim> *state, const unsigned char *start,
                                        const attention_backward_arguments &a, const int32_t *rows, int head,
                                        int warp, int lane) {
  constexpr int tile = q_layout<head_dim>::tile;
  int fragment = tile_lane_rows_first<head_dim>(lane);
  float delta[2] = {0.0f, 0.0f};
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t out[4];
    int offset = tile_block<head_dim>(fragment, warp, d);
    gpu_load_matrix(state->q[d], start + offset);
    gpu_load_matrix(state->dout[d], start + tile + offset);
    gpu_load_matrix(out, start + 2 * tile + offset);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      delta[i % 2] += gpu_low_bf16(state->dout[d][i]) * gpu_low_bf16(out[i]) +
                      gpu_high_bf16(state->dout[d][i]) * gpu_high_bf16(out[i]);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    delta[half] += gpu_shuffle_xor(delta[half], 1);
    delta[half] += gpu_shuffle_xor(delta[half], 2);
    state->delta[half] = delta[half];
    int32_t row = rows[warp * 16 + half * 8 + lane / 4];
    if (lane % 4 == 0 && row >= 0)
      a.delta[(int64_t)row * a.n_head + head] = delta[half];
  }
#pragma unroll
  for (int d = 0; d < head_dim / 8; ++d)
    for (int e = 0; e < 4; ++e)
      state->dq[d][e] = 0.0f;
}

template <int head_dim>
__global__ void __launch_bounds__(BACKWARD_THREADS, head_dim <= 64 ? 4 : 2)
    attention_backward_q_kernel(attention_backward_arguments a) {
  typedef q_layout<head_dim> layout;
  GPU_DYNAMIC_SHARED(shared);
  backward_lists *lists = (backward_lists *)(shared + layout::lists);
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  int parts = a.tiles.tile_rows / BACKWARD_ROWS;
  int head = blockIdx.x % a.n_head, part = blockIdx.x / a.n_head % parts,
      index = blockIdx.x / a.n_head / parts;
  int kv_head = head / (a.n_head / a.n_kv_head);
  attention_tile tile = a.tiles.tiles[index];
  int64_t first_row = (int64_t)index * a.tiles.tile_rows + part * BACKWARD_ROWS;
  const int32_t *rows = a.tiles.rows + first_row;
  const gpu_bf16 *k = a.k + kv_head * head_dim, *v = a.v + kv_head * head_dim;
  int n_step = tile.n_column / TILE_COLUMNS;

  // The indices come first, as all else waits for them.
  q_state<head_dim> state;
  tile_warp_rows warp_rows = backward_read_rows(lists, a.tiles, first_row, warp, lane);
  unsigned char *start = shared + layout::start;
  if (n_step > 0) {
    tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(shared, k, a.k_stride, shared + layout::tile,
                                                               v, a.v_stride,
                                                               a.tiles.columns + tile.column_first, thread);
    backward_copy_columns(lists, 0, a.tiles, tile.column_first,
                          tile.column_first + (n_step > 1 ? TILE_COLUMNS : 0), thread);
  }
  tile_gather<head_dim, BACKWARD_ROWS, BACKWARD_THREADS>(start, a.q + head * head_dim, a.q_stride, rows,
                                                         thread);
  tile_gather_pair<head_dim, BACKWARD_ROWS, BACKWARD_THREADS>(start + layout::tile, a.dout + head * head_dim,
                                                              a.dout_stride, start + 2 * layout::tile,
                                                              a.out + head * head_dim, a.out_stride, rows,
                                                              thread);
  gpu_copy_commit();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int32_t row = rows[warp * 16 + half * 8 + lane / 4];
    state.log_sum_exp[half] = backward_log2_sum(row < 0 ? -INFINITY
                                                        : a.log_sum_exp[row * a.log_sum_exp_stride + head]);
  }
  gpu_copy_wait<0>();
  gpu_sync_block();
  q_start(&state, start, a, rows, head, warp, lane);

  float scale = a.scale * LOG2_E;
  for (int step = 0; step < n_step; ++step) {
    int stage = step % 2;
    gpu_copy_wait<0>();
    gpu_sync_block();  // this step's rows are there, and nobody reads the step before any more
    if (step + 1 < n_step) {
      unsigned char *next = shared + (stage ^ 1) * layout::stage;
      int64_t column = tile.column_first + (int64_t)(step + 1) * TILE_COLUMNS;
      tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(next, k, a.k_stride, next + layout::tile, v,
                                                                 a.v_stride, lists->index[stage ^ 1], thread);
      backward_copy_columns(lists, stage ^ 1, a.tiles, column,
                            column + (step + 2 < n_step ? TILE_COLUMNS : 0), thread);
      gpu_copy_commit();
    }
    const unsigned char *step_k = shared + stage * layout::stage;
    tile_visibility visibility = tile_step_visibility<false>(lists->value[stage], lists->bits[stage],
                                                             warp_rows, lane);
#pragma unroll 1
    for (uint32_t groups = visibility.any; groups != 0; groups &= groups - 1) {
      int group = tile_first_group(groups);
      bool all = (visibility.all >> (8 * group) & 1) != 0;
      const unsigned char *group_k = step_k + group * (TILE_GROUP * head_dim * 2);
      q_group(&state, group_k, group_k + layout::tile, lists, stage, group, all, scale, warp, lane);
    }
  }
  gpu_sync_block();
  const float output_scale[2] = {a.scale, a.scale};
  int first = warp * 16;
  tile_scatter<head_dim>(a.dq + head * head_dim, a.dq_stride, lists->row[first + lane % 16],
                         shared + first * (head_dim * 2), state.dq, output_scale, lane);
}

template <int head_dim> static ss_status launch_q(ss_device *device, const attention_backward_arguments *a) {
  constexpr int bytes = q_layout<head_dim>::bytes;
  int64_t blocks = (int64_t)a->tiles.n_tile * (a->tiles.tile_rows / BACKWARD_ROWS) * a->n_head;
  CUDA_REQUIRE(device, blocks <= INT32_MAX, "attention_backward: %lld blocks", (long long)blocks);
  CUDA_TRY(device, gpu_allow_shared(attention_backward_q_kernel<head_dim>, bytes));
  GPU_LAUNCH(attention_backward_q_kernel<head_dim>, (unsigned)blocks, BACKWARD_THREADS, bytes,
             cuda_of(device)->stream, *a);
  CUDA_LAUNCHED(device, "attention_backward (dq)");
  return SS_OK;
}

ss_status attention_backward_q(ss_device *device, int32_t head_dim,
                               const attention_backward_arguments *arguments) {
  switch (head_dim) {
  case 16:
    return launch_q<16>(device, arguments);
  case 32:
    return launch_q<32>(device, arguments);
  case 64:
    return launch_q<64>(device, arguments);
  default:
    return launch_q<128>(device, arguments);
  }
}
