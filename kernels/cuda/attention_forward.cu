// Attention over tiles of gathered rows, forward: softmax(scale q k^T) v on tensor cores (BF16 in, FP32 sums).
//
// A block takes one tile and one head (all heads of the heaviest tile first); a warp takes 16 of its query rows and keeps
// their Q fragments, running maxima and sums, and O in registers. The block walks the tile's columns in steps of 64: K and
// V rows are gathered by index, 16 bytes a copy, 8 lanes a row of 128 bytes, into one of two stages while the step in the
// other is multiplied; the indices themselves come a step before the rows. Both stages are filled at once at the start:
// tiles of short views have 2 or 3 steps. A step costs one barrier.
//
// Each warp votes which of a step's four groups of 16 columns its rows see, takes only those (all four together, else in
// pairs), and tests single elements only in groups that not all of its rows see whole. A masked score is replaced, so
// nothing of its value reaches the sums.
//
// Softmax is the online one (Milakov, Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135) in base 2:
// the maximum starts at a finite value below every score, so that a row without visible columns meets no
// infinity minus infinity and ends with sum 0. O is scaled again only when some row of the warp has a new maximum.
//
// A (tile, head) multiplies 4 * 16 * 16 * head_dim FLOP for each (warp, group) seen, and reads 4 * head_dim bytes a column
// (K and V), 2 * head_dim a query row, and writes as much. At head_dim 64, 64 rows by 192 columns: 3.1 MFLOP, 64 KB.
// For 16 columns a warp issues 16 products (m16n8k16) and 8 ldmatrix.x4, and about 70 other instructions.
#include "kernels/cuda/attention_tile.cuh"

#define LOWEST_SCORE -1e30f
#define LN2 0.69314718055994531f
#define LOG2E 1.44269504088896341

typedef struct {
  attention_device_tiles tiles;
  const gpu_bf16 *q, *k, *v;  // [nq, n_head * head_dim], [nk, n_kv_head * head_dim]
  gpu_bf16 *out;              // as q
  float *log_sum_exp;         // [nq, n_head], may be NULL
  int64_t q_stride, k_stride, v_stride, out_stride, log_sum_exp_stride;
  int32_t n_head, heads_a_kv_head;
  float scale_log2;  // scale * log2(e)
} forward_arguments;

// What a lane keeps of its two rows, lane / 4 and lane / 4 + 8 of the warp's 16.
template <int head_dim> struct forward_rows {
  uint32_t q[head_dim / 16][4];  // A fragments
  float out[head_dim / 8][4];    // D fragments, not yet divided by the sum
  float maximum[2], sum[2];      // of raw scores; of this lane's columns only
};

// What the tests of visibility need of a warp's rows, in shared memory: most groups are seen whole, so that registers
// are worth more.
typedef struct {
  tile_warp_rows warp;
  int32_t zero;
  uint2 rows[16];  // slot bit, limit
  int32_t row[16];
} forward_test;

// A step's buffers in shared memory: tiles of K and V, 64 rows each, as the offsets of this lane's matrix rows in the
// ring (the stage included: offsets that are worked out anew in every step take no registers between them).
typedef struct {
  const unsigned char *ring;
  int k, v;
  const int32_t *columns;  // [64]
  const uint32_t *bits;    // [64]
  const forward_test *test;
} forward_step;

// tile_block of a group: with constant groups in the form that leaves them to the instruction, else in the shorter one.
template <int head_dim, int count>
__device__ __forceinline__ int group_block(int lane_offset, int group, int value_block) {
  if (count == TILE_COLUMNS / TILE_GROUP)
    return tile_block<head_dim>(lane_offset, group, value_block);
  return (lane_offset + group * (TILE_GROUP * head_dim * 2)) ^ (value_block << 5);
}

// Attends to `count` groups of a step together. Bit 8g of `partial`: group g needs the test of every element.
template <int head_dim, int count>
__device__ __forceinline__ void attend(forward_rows<head_dim> *rows, forward_step step,
                                       const int group[count], uint32_t partial, float scale_log2, int lane) {
  float score[count][2][4];
#pragma unroll
  for (int i = 0; i < count; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      score[i][0][j] = score[i][1][j] = 0;
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d)
#pragma unroll
    for (int i = 0; i < count; ++i) {
      uint32_t k[4];
      gpu_load_matrix(k, step.ring + group_block<head_dim, count>(step.k, group[i], d));
      gpu_mma(score[i][0], rows->q[d], k);
      gpu_mma(score[i][1], rows->q[d], k + 2);
    }
  if (partial) {
#pragma unroll
    for (int i = 0; i < count; ++i)
      if (partial >> 8 * group[i] & 1) {
        const uint2 tests[2] = {step.test->rows[(lane >> 2)], step.test->rows[(lane >> 2) + 8]};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          int column = group[i] * 16 + half * 8 + (lane & 3) * 2;
          int2 key = *(const int2 *)(step.columns + column);
          uint2 bits = *(const uint2 *)(step.bits + column);
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            float *pair = score[i][half] + 2 * r;
            if (!tile_visible<false>(bits.x, key.x, tests[r].x, (int32_t)tests[r].y))
              pair[0] = -INFINITY;
            if (!tile_visible<false>(bits.y, key.y, tests[r].x, (int32_t)tests[r].y))
              pair[1] = -INFINITY;
          }
        }
      }
  }

  float maximum[2] = {rows->maximum[0], rows->maximum[1]};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int i = 0; i < count; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        maximum[r] = fmaxf(maximum[r], fmaxf(score[i][half][2 * r], score[i][half][2 * r + 1]));
    maximum[r] = fmaxf(maximum[r], gpu_shuffle_xor(maximum[r], 1));
    maximum[r] = fmaxf(maximum[r], gpu_shuffle_xor(maximum[r], 2));
  }
  // After the first columns a maximum seldom grows.
  if (gpu_ballot(maximum[0] != rows->maximum[0] || maximum[1] != rows->maximum[1])) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float correction = gpu_exp2((rows->maximum[r] - maximum[r]) * scale_log2);
      rows->maximum[r] = maximum[r];
      rows->sum[r] *= correction;
#pragma unroll
      for (int d = 0; d < head_dim / 8; ++d) {
        rows->out[d][2 * r] *= correction;
        rows->out[d][2 * r + 1] *= correction;
      }
    }
  }
  float offset[2] = {maximum[0] * scale_log2, maximum[1] * scale_log2};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    uint32_t p[4];  // the D fragments of two column blocks are the A fragment of 16 columns
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float low = gpu_exp2(fmaf(score[i][half][2 * r], scale_log2, -offset[r]));
        float high = gpu_exp2(fmaf(score[i][half][2 * r + 1], scale_log2, -offset[r]));
        rows->sum[r] += low + high;
        p[2 * half + r] = gpu_pack_bf16(low, high);
      }
#pragma unroll
    for (int d = 0; d < head_dim / 16; ++d) {
      uint32_t v[4];
      gpu_load_matrix_transposed(v, step.ring + group_block<head_dim, count>(step.v, group[i], d));
      gpu_mma(rows->out[2 * d], p, v);
      gpu_mma(rows->out[2 * d + 1], p, v + 2);
    }
  }
}

template <int head_dim, bool whole>
__device__ __forceinline__ void attend_step(forward_rows<head_dim> *rows, forward_step step, float scale_log2,
                                            int lane) {
  uint4 words = *(const uint4 *)step.test;
  tile_warp_rows warp = {words.x, (int32_t)words.y, (int32_t)words.z};
  tile_visibility visibility = tile_step_visibility<false>(step.columns, step.bits, warp, lane);
  uint32_t any = visibility.any, partial = any & ~visibility.all;
  if (whole && any == TILE_ALL_GROUPS) {
    const int group[4] = {0, 1, 2, 3};
    attend<head_dim, 4>(rows, step, group, partial, scale_log2, lane);
    return;
  }
  while (any & (any - 1)) {
    int first = tile_first_group(any);
    any &= any - 1;
    int second = tile_first_group(any);
    any &= any - 1;
    const int group[2] = {first, second};
    attend<head_dim, 2>(rows, step, group, partial, scale_log2, lane);
  }
  if (any) {
    const int group[1] = {tile_first_group(any)};
    attend<head_dim, 1>(rows, step, group, partial, scale_log2, lane);
  }
}

// Shared memory, as offsets: two stages, each K and V tiles of 64 rows; the ring of indices, each the columns and bits of a
// step; the tests; the Q tile. For head_dim 128 there is no room for a Q tile: it lies in the second stage, which is then
// filled one step later than it could be. The rows of `out` lie in the stages when the last step is done.
//
// blocks: that a multiprocessor's registers must hold (sm_90: 4 of 128 threads or 2 of 256 leave a lane 128). whole: a step
// of which all groups are seen is multiplied at once, which takes registers and saves instructions. H100, head_dim 64, ms:
//                                                        small tiles: span rows, 16 x 2048   large: causal, B16 H12 T1024
//   two stages; small 4 blocks, large 2; whole           0.111                               0.126
//   small 5 blocks, in pairs; large 2, in pairs          0.116                               0.137
//   three stages; small 4 blocks, in pairs; large whole  0.133                               0.134
template <int head_dim, int tile_rows> struct forward_layout {
  enum : int {
    threads = tile_rows * 2,
    small = tile_rows == TILE_ROWS_SMALL,
    blocks = head_dim <= 64 ? (small ? 4 : 2) : (small ? 3 : 1),
    whole = head_dim <= 64 || !small,
    tile_bytes = TILE_COLUMNS * head_dim * 2,
    stage_bytes = 2 * tile_bytes,
    index_bytes = 2 * TILE_COLUMNS * 4,
    index_slots = 4,  // 3 are in use: of the step, of the rows and of the indices that are on their way
    q_apart = head_dim <= 64,
    first_steps = q_apart ? 2 : 1,  // gathered before the loop
    indices = 2 * stage_bytes,
    tests = indices + index_slots * index_bytes,
    tests_end = (tests + tile_rows / 16 * (int)sizeof(forward_test) + 127) / 128 * 128,
    q = q_apart ? tests_end : stage_bytes,
    bytes = q_apart ? tests_end + tile_rows * head_dim * 2 : tests_end
  };
};

// Starts copying the columns and bits of a step from `first` on, each by half a warp.
__device__ __forceinline__ void copy_indices(unsigned char *slot, const int32_t *columns,
                                             const uint32_t *bits, int first, int thread) {
  if (thread < 16)
    gpu_copy_async(slot + thread * 16, columns + first + thread * 4, true);
  else if (thread >= 32 && thread < 48)
    gpu_copy_async(slot + TILE_COLUMNS * 4 + (thread - 32) * 16, bits + first + (thread - 32) * 4, true);
}

template <int head_dim, int tile_rows>
__global__ void __launch_bounds__((forward_layout<head_dim, tile_rows>::threads),
                                  (forward_layout<head_dim, tile_rows>::blocks))
    attention_forward_kernel(forward_arguments a) {
  typedef forward_layout<head_dim, tile_rows> layout;
  constexpr int n_thread = layout::threads;
  constexpr int stage_bytes = layout::stage_bytes, tile_bytes = layout::tile_bytes;
  constexpr int index_bytes = layout::index_bytes, index_slots = layout::index_slots;
  static_assert(tile_rows * head_dim * 2 <= stage_bytes, "the tiles of Q and out fit a stage");
  GPU_DYNAMIC_SHARED(shared);
  unsigned char *indices = shared + layout::indices, *q_tile = shared + layout::q;
  int thread = (int)threadIdx.x, lane = thread & 31, warp_row = (thread >> 5) * 16;
  int tile_index = (int)blockIdx.x / a.n_head, head = (int)blockIdx.x % a.n_head;
  int64_t first_row = (int64_t)tile_index * tile_rows;
  const int32_t *tile_row = a.tiles.rows + first_row;
  attention_tile tile = a.tiles.tiles[tile_index];
  int n_step = tile.n_column / TILE_COLUMNS;
  const gpu_bf16 *k = a.k + (head / a.heads_a_kv_head) * head_dim;
  const gpu_bf16 *v = a.v + (head / a.heads_a_kv_head) * head_dim;

  tile_gather<head_dim, tile_rows, n_thread>(q_tile, a.q + head * head_dim, a.q_stride, tile_row, thread);
  for (int s = 0; s < 2 && s < n_step; ++s)
    copy_indices(indices + s * index_bytes, a.tiles.columns, a.tiles.column_bits,
                 tile.column_first + s * TILE_COLUMNS, thread);
  gpu_copy_commit();
  int32_t row, limit;
  uint32_t slot_bit;
  tile_warp_rows warp = tile_read_rows(tile_row + warp_row, a.tiles.row_value + first_row + warp_row,
                                       a.tiles.row_slot + first_row + warp_row, lane, &row, &slot_bit,
                                       &limit);
  forward_test *test = (forward_test *)(shared + layout::tests) + warp_row / 16;
  if (lane == 0)
    test->warp = warp;
  if (lane < 16)
    test->rows[lane] = make_uint2(slot_bit, (uint32_t)limit), test->row[lane] = row;
  gpu_copy_wait<0>();
  gpu_sync_block();
#pragma unroll
  for (int s = 0; s < layout::first_steps; ++s)
    if (s < n_step)
      tile_gather_pair<head_dim, TILE_COLUMNS, n_thread>(shared + s * stage_bytes, k, a.k_stride,
                                                         shared + s * stage_bytes + tile_bytes, v, a.v_stride,
                                                         (const int32_t *)(indices + s * index_bytes),
                                                         thread);
  gpu_copy_commit();

  forward_rows<head_dim> rows;
#pragma unroll
  for (int d = 0; d < head_dim / 16; ++d)
    gpu_load_matrix(rows.q[d],
                    q_tile + tile_block<head_dim>(tile_lane_rows_first<head_dim>(lane), warp_row / 16, d));
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.maximum[r] = LOWEST_SCORE, rows.sum[r] = 0;
#pragma unroll
    for (int d = 0; d < head_dim / 8; ++d)
      rows.out[d][2 * r] = rows.out[d][2 * r + 1] = 0;
  }

  for (int s = 0; s < n_step; ++s) {
    gpu_copy_wait<0>();
    gpu_sync_block();  // this step's copies of all threads are there, and nobody reads the step before any more
    int next = s + 1, next_indices = s + 2;
    if (next >= layout::first_steps && next < n_step) {
      unsigned char *stage = shared + next % 2 * stage_bytes;
      tile_gather_pair<head_dim, TILE_COLUMNS, n_thread>(stage, k, a.k_stride, stage + tile_bytes, v,
                                                         a.v_stride,
                                                         (const int32_t *)(indices +
                                                                           next % index_slots * index_bytes),
                                                         thread);
    }
    if (next_indices < n_step)
      copy_indices(indices + next_indices % index_slots * index_bytes, a.tiles.columns, a.tiles.column_bits,
                   tile.column_first + next_indices * TILE_COLUMNS, thread);
    gpu_copy_commit();
    const unsigned char *index = indices + s % index_slots * index_bytes;
    int stage = s % 2 * stage_bytes;
    forward_step step = {shared,
                         stage + tile_lane_chunks_first<head_dim>(lane),
                         stage + tile_bytes + tile_lane_rows_first<head_dim>(lane),
                         (const int32_t *)index,
                         (const uint32_t *)(index + TILE_COLUMNS * 4),
                         test};
    attend_step<head_dim, layout::whole>(&rows, step, a.scale_log2, lane);
  }

  gpu_sync_block();  // the stages are free
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = rows.sum[r];
    sum += gpu_shuffle_xor(sum, 1);
    sum += gpu_shuffle_xor(sum, 2);
    inverse[r] = sum == 0 ? 0 : 1 / sum;
    int32_t own_row = test->row[(lane >> 2) + 8 * r];
    if (a.log_sum_exp && (lane & 3) == 0 && own_row >= 0)
      a.log_sum_exp[own_row * a.log_sum_exp_stride + head] = sum == 0 ? -INFINITY
                                                                      : (rows.maximum[r] * a.scale_log2 +
                                                                         log2f(sum)) *
                                                                            LN2;
  }
  tile_scatter<head_dim>(a.out + head * head_dim, a.out_stride, test->row[lane & 15],
                         shared + warp_row * head_dim * 2, rows.out, inverse, lane);
}

template <int head_dim, int tile_rows>
static ss_status launch(ss_device *device, forward_arguments arguments) {
  typedef forward_layout<head_dim, tile_rows> layout;
  CUDA_TRY(device, gpu_allow_shared((attention_forward_kernel<head_dim, tile_rows>), layout::bytes));
  int64_t n_block = (int64_t)arguments.tiles.n_tile * arguments.n_head;
  GPU_LAUNCH((attention_forward_kernel<head_dim, tile_rows>), (unsigned)n_block, layout::threads,
             layout::bytes, cuda_of(device)->stream, arguments);
  CUDA_LAUNCHED(device, "attention_forward");
  return SS_OK;
}

template <int head_dim> static ss_status launch_rows(ss_device *device, forward_arguments arguments) {
  return arguments.tiles.tile_rows == TILE_ROWS_SMALL ? launch<head_dim, TILE_ROWS_SMALL>(device, arguments)
                                                      : launch<head_dim, TILE_ROWS_LARGE>(device, arguments);
}

ss_status attention_tiled_forward(ss_device *device, const attention_device_tiles *queries,
                                  const attention_call *call) {
  ss_attention_shape shape = call->shape;
  CUDA_REQUIRE(device, queries->tile_rows == TILE_ROWS_SMALL || queries->tile_rows == TILE_ROWS_LARGE,
               "attention_forward: tiles of %d rows", queries->tile_rows);
  CUDA_REQUIRE(device, shape.n_kv_head > 0 && shape.n_head > 0 && shape.n_head % shape.n_kv_head == 0,
               "attention_forward: %d heads over %d kv heads", shape.n_head, shape.n_kv_head);
  CUDA_REQUIRE(device, shape.scale > 0, "attention_forward: scale %g is not positive", (double)shape.scale);
  int64_t q_cols = (int64_t)shape.n_head * shape.head_dim, k_cols = (int64_t)shape.n_kv_head * shape.head_dim;
  CUDA_REQUIRE(device,
               cuda_is_matrix(call->q, call->q.rows, q_cols, SS_BF16) &&
                   cuda_is_matrix(call->out, call->q.rows, q_cols, SS_BF16) &&
                   cuda_is_matrix(call->k, call->k.rows, k_cols, SS_BF16) &&
                   cuda_is_matrix(call->v, call->k.rows, k_cols, SS_BF16) &&
                   (!call->log_sum_exp.data ||
                    cuda_is_matrix(call->log_sum_exp, call->q.rows, shape.n_head, SS_F32)),
               "attention_forward: shapes do not fit together");
  CUDA_REQUIRE(device,
               cuda_is_aligned(call->q) && cuda_is_aligned(call->out) && cuda_is_aligned(call->k) &&
                   cuda_is_aligned(call->v) && (uintptr_t)queries->columns % 16 == 0 &&
                   (uintptr_t)queries->column_bits % 16 == 0,
               "attention_forward: rows are not aligned to 16 bytes");
  CUDA_REQUIRE(device, (int64_t)queries->n_tile * shape.n_head <= INT32_MAX, "attention_forward: %d tiles",
               queries->n_tile);
  if (queries->n_tile == 0)
    return SS_OK;
  forward_arguments arguments = {*queries,
                                 (const gpu_bf16 *)call->q.data,
                                 (const gpu_bf16 *)call->k.data,
                                 (const gpu_bf16 *)call->v.data,
                                 (gpu_bf16 *)call->out.data,
                                 (float *)call->log_sum_exp.data,
                                 call->q.stride,
                                 call->k.stride,
                                 call->v.stride,
                                 call->out.stride,
                                 call->log_sum_exp.stride,
                                 shape.n_head,
                                 shape.n_head / shape.n_kv_head,
                                 (float)(shape.scale * LOG2E)};
  switch (shape.head_dim) {
  case 16:
    return launch_rows<16>(device, arguments);
  case 32:
    return launch_rows<32>(device, arguments);
  case 64:
    return launch_rows<64>(device, arguments);
  case 128:
    return launch_rows<128>(device, arguments);
  default:
    return ss_fail(&device->error, SS_ERROR_INTERNAL, "attention_forward: no kernel for a head_dim of %d",
                   shape.head_dim);
  }
}
