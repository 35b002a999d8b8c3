// Attention backward over the key list: dk and dv. A block owns 64 key rows of one kv head, a warp 16 of them; it
// loops over the query heads that share them and over the queries that read them, 64 at a time. The products are
// those of the transposed matrices S^T = k q^T and dP^T = v dout^T, so that the block's rows are the warp's rows.
#include "kernels/cuda/attention_backward.cuh"

#include <math.h>

// Shared memory: two stages of (q, dout) [64][head_dim]; the block's rows of k and v arrive in the second.
template <int head_dim> struct kv_layout {
  static constexpr int tile = TILE_COLUMNS * head_dim * 2;
  static constexpr int stage = 2 * tile, columns = 2 * stage;
  static constexpr int bytes = columns + (int)sizeof(backward_columns);
};

// One group of 16 queries. q, dout: the group's rows in shared memory; value .. delta: its columns.
template <int head_dim>
__device__ __forceinline__ void
kv_group(float (*dk)[4], float (*dv)[4], const uint32_t (*k)[4], const uint32_t (*v)[4],
         const unsigned char *q, const unsigned char *dout, const int32_t *value, const uint32_t *bits,
         const float *log_sum_exp, const float *delta, bool all, const uint32_t slot_bit[2],
         const int32_t key[2], float scale, int lane) {
  int plain = tile_lane_chunks_first<head_dim>(lane), transposed = tile_lane_rows_first<head_dim>(lane);
  float p[2][4] = {}, ds[2][4];
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, q + tile_block<head_dim>(plain, 0, d));
    gpu_mma(p[0], k[d], b);
    gpu_mma(p[1], k[d], b + 2);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float2 column_delta = ((const float2 *)delta)[n * 4 + lane % 4];
    ds[n][0] = ds[n][2] = -column_delta.x;
    ds[n][1] = ds[n][3] = -column_delta.y;
  }
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix(b, dout + tile_block<head_dim>(plain, 0, d));
    gpu_mma(ds[0], v[d], b);
    gpu_mma(ds[1], v[d], b + 2);
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    float2 sum = ((const float2 *)log_sum_exp)[n * 4 + lane % 4];
#pragma unroll
    for (int e = 0; e < 4; ++e)
      p[n][e] = gpu_exp2(p[n][e] * scale - (e % 2 ? sum.y : sum.x));
  }
  if (!all) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      int2 column_value = ((const int2 *)value)[n * 4 + lane % 4];
      uint2 column_bits = ((const uint2 *)bits)[n * 4 + lane % 4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (!tile_visible<true>(e % 2 ? column_bits.y : column_bits.x,
                                e % 2 ? column_value.y : column_value.x, slot_bit[e / 2], key[e / 2]))
          p[n][e] = 0.0f;
    }
  }
  uint32_t a[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = gpu_pack_bf16(p[i / 2][i % 2 * 2], p[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix_transposed(b, dout + tile_block<head_dim>(transposed, 0, d));
    gpu_mma(dv[2 * d], a, b);
    gpu_mma(dv[2 * d + 1], a, b + 2);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    a[i] = gpu_pack_bf16(p[i / 2][i % 2 * 2] * ds[i / 2][i % 2 * 2],
                         p[i / 2][i % 2 * 2 + 1] * ds[i / 2][i % 2 * 2 + 1]);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    uint32_t b[4];
    gpu_load_matrix_transposed(b, q + tile_block<head_dim>(transposed, 0, d));
    gpu_mma(dk[2 * d], a, b);
    gpu_mma(dk[2 * d + 1], a, b + 2);
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
__device__ __forceinline__ void kv_put(backward_columns *columns, int stage, float value, int thread) {
  if (thread < TILE_COLUMNS)
    columns->log_sum_exp[stage][thread] = backward_log2_sum(value);
  else
    columns->delta[stage][thread - TILE_COLUMNS] = value == -INFINITY ? 0.0f : value;
}

template <int head_dim>
__global__ void __launch_bounds__(BACKWARD_THREADS, head_dim <= 64 ? 3 : 2)
    attention_backward_kv_kernel(attention_backward_arguments a) {
  typedef kv_layout<head_dim> layout;
  static_assert(BACKWARD_ROWS == TILE_COLUMNS && BACKWARD_THREADS == 2 * TILE_COLUMNS,
                "kv_get, second stage");
  GPU_DYNAMIC_SHARED(shared);
  backward_columns *columns = (backward_columns *)(shared + layout::columns);
  int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  int parts = a.tiles.tile_rows / BACKWARD_ROWS;
  int kv_head = blockIdx.x % a.n_kv_head, part = blockIdx.x / a.n_kv_head % parts;
  int index = blockIdx.x / a.n_kv_head / parts;
  int heads = a.n_head / a.n_kv_head, first_head = kv_head * heads;
  attention_tile tile = a.tiles.tiles[index];
  int64_t first_row = (int64_t)index * a.tiles.tile_rows + part * BACKWARD_ROWS;
  const int32_t *rows = a.tiles.rows + first_row, *first_columns = a.tiles.columns + tile.column_first;
  int n_step = tile.n_column / TILE_COLUMNS, n_iteration = n_step * heads;

  // The indices come first, as all else waits for them. Lane l holds rows l / 4 and l / 4 + 8 of its warp's fragments.
  int32_t row, row_value, key[2];
  uint32_t row_bit, slot_bit[2];
  tile_warp_rows warp_rows = tile_read_rows(rows + warp * 16, a.tiles.row_value + first_row + warp * 16,
                                            a.tiles.row_slot + first_row + warp * 16, lane, &row, &row_bit,
                                            &row_value);
  unsigned char *start = shared + layout::stage;
  if (n_step > 0) {
    tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(shared, a.q + first_head * head_dim,
                                                               a.q_stride, shared + layout::tile,
                                                               a.dout + first_head * head_dim, a.dout_stride,
                                                               first_columns, thread);
    backward_copy_columns(columns, 0, a.tiles, tile.column_first,
                          tile.column_first + (n_step > 1 ? TILE_COLUMNS : 0), thread);
  }
  tile_gather_pair<head_dim, BACKWARD_ROWS, BACKWARD_THREADS>(start, a.k + kv_head * head_dim, a.k_stride,
                                                              start + layout::tile, a.v + kv_head * head_dim,
                                                              a.v_stride, rows, thread);
  gpu_copy_commit();
  if (n_step > 0)
    kv_put(columns, 0, kv_get(a, first_columns, first_head, thread), thread);

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    slot_bit[half] = gpu_shuffle(row_bit, lane / 4 + half * 8);
    key[half] = gpu_shuffle(row_value, lane / 4 + half * 8);
  }
  gpu_copy_wait<0>();
  gpu_sync_block();
  uint32_t k[head_dim / 16][4], v[head_dim / 16][4];
  int fragment = tile_lane_rows_first<head_dim>(lane);
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d) {
    int offset = tile_block<head_dim>(fragment, warp, d);
    gpu_load_matrix(k[d], start + offset);
    gpu_load_matrix(v[d], start + layout::tile + offset);
  }

  float dk[head_dim / 8][4] = {}, dv[head_dim / 8][4] = {};
  float scale = a.scale * LOG2_E;
  int step = 0, head = first_head;  // of the iteration being loaded
  for (int iteration = 0; iteration < n_iteration; ++iteration) {
    int stage = iteration % 2;
    float staged = 0.0f;
    gpu_copy_wait<0>();
    gpu_sync_block();
    bool more = iteration + 1 < n_iteration;
    if (more) {
      if (++step == n_step)
        step = 0, ++head;
      unsigned char *next = shared + (stage ^ 1) * layout::stage;
      int64_t column = tile.column_first + (int64_t)step * TILE_COLUMNS;
      const int32_t *queries = columns->index[stage ^ 1];
      tile_gather_pair<head_dim, TILE_COLUMNS, BACKWARD_THREADS>(next, a.q + head * head_dim, a.q_stride,
                                                                 next + layout::tile,
                                                                 a.dout + head * head_dim, a.dout_stride,
                                                                 queries, thread);
      backward_copy_columns(columns, stage ^ 1, a.tiles, column,
                            step + 1 < n_step ? column + TILE_COLUMNS : tile.column_first, thread);
      gpu_copy_commit();
      staged = kv_get(a, queries, head, thread);
    }
    const unsigned char *step_q = shared + stage * layout::stage;
    tile_visibility visibility = tile_step_visibility<true>(columns->value[stage], columns->bits[stage],
                                                            warp_rows, lane);
#pragma unroll 1
    for (uint32_t groups = visibility.any; groups != 0; groups &= groups - 1) {
      int group = tile_first_group(groups);
      bool all = (visibility.all >> (8 * group) & 1) != 0;
      const unsigned char *group_q = step_q + group * (TILE_GROUP * head_dim * 2);
      int first = group * TILE_GROUP;
      kv_group<head_dim>(dk, dv, k, v, group_q, group_q + layout::tile, columns->value[stage] + first,
                         columns->bits[stage] + first, columns->log_sum_exp[stage] + first,
                         columns->delta[stage] + first, all, slot_bit, key, scale, lane);
    }
    if (more)
      kv_put(columns, stage ^ 1, staged, thread);
  }
  gpu_sync_block();
  unsigned char *own = shared + warp * (16 * head_dim * 2);
  backward_store<head_dim>(a.dk + kv_head * head_dim, a.dk_stride, own, row, dk, a.scale, lane);
  backward_store<head_dim>(a.dv + kv_head * head_dim, a.dv_stride, own + layout::tile, row, dv, 1.0f, lane);
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
