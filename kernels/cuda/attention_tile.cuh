// What the attention kernels share: tiles of bf16 rows in swizzled shared memory, gathered by index with asynchronous
// copies, read as tensor-core fragments; and the visibility of a step of TILE_COLUMNS columns.
//
// A shared tile is [rows][head_dim] bf16, row-major, in chunks of 16 bytes (8 values). The chunk index is XORed with
// bits of the row, so that the 8 rows of an 8x8 matrix (ldmatrix), and the 8 chunks that a copy writes at once, lie
// in 8 different groups of 4 banks: no conflicts for any head_dim of 16, 32, 64, 128. Tiles start at multiples of
// 128 bytes.
#ifndef SELFSPAN_KERNELS_CUDA_ATTENTION_TILE_CUH
#define SELFSPAN_KERNELS_CUDA_ATTENTION_TILE_CUH

#include "kernels/cuda/attention.h"

// --- addresses ---
// Byte offset of a chunk in a tile.
template <int head_dim> __device__ __forceinline__ int tile_offset(int row, int chunk) {
  constexpr int chunks = head_dim / 8;
  constexpr int rows_a_line = chunks >= 8 ? 1 : 8 / chunks;  // rows in 128 bytes
  constexpr int chunk_mask = (chunks >= 8 ? 8 : chunks) - 1;
  return row * (head_dim * 2) + ((chunk ^ (((unsigned)row / rows_a_line) & chunk_mask)) << 4);
}

// The chunk whose address a lane gives to gpu_load_matrix for a block of 16 rows x 16 values (2 chunks), for
// the block at row 0, value 0; tile_block moves it to any other block.
//   rows first:   matrices (rows 0-7, low), (rows 8-15, low), (rows 0-7, high), (rows 8-15, high)
//     plain       A fragment (16 x 16) of a tile stored [m][k]
//     transposed  two B fragments (n 0-7 in r[0], r[1]; n 8-15 in r[2], r[3]) of a tile stored [k][n]
//   chunks first: matrices (rows 0-7, low), (rows 0-7, high), (rows 8-15, low), (rows 8-15, high)
//     plain       two B fragments, as above, of a tile stored [n][k]
//     transposed  A fragment of a tile stored [k][m]
template <int head_dim> __device__ __forceinline__ int tile_lane_rows_first(int lane) {
  return tile_offset<head_dim>(lane & 15, lane >> 4);
}
template <int head_dim> __device__ __forceinline__ int tile_lane_chunks_first(int lane) {
  return tile_offset<head_dim>((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
}
// Offset for rows [16 * row_block, +16) and values [16 * value_block, +16). The XOR commutes with the swizzle.
template <int head_dim>
__device__ __forceinline__ int tile_block(int lane_offset, int row_block, int value_block) {
  return (lane_offset ^ (value_block << 5)) + row_block * (16 * head_dim * 2);
}

// --- gathers ---
// Starts copying rows[0, n_row) of one or two matrices to tiles, by n_thread threads; -1 gives a row of zeros. `a`, `b`: one
// head's first value in row 0; strides in elements, below 2^31. The lanes of a warp take neighbouring chunks of a row;
// the swizzle is the same in all passes of a lane, so that only the indices and the addresses are worked out a step.
template <int head_dim, int n_row, int n_thread, bool pair>
__device__ __forceinline__ void tile_gather_rows(unsigned char *tile_a, const gpu_bf16 *a, int64_t a_stride,
                                                 unsigned char *tile_b, const gpu_bf16 *b, int64_t b_stride,
                                                 const int32_t *rows, int thread) {
  constexpr int chunks = head_dim / 8, rows_a_pass = n_thread / chunks;
  constexpr int passes = n_row > rows_a_pass ? n_row / rows_a_pass : 1;
  static_assert(n_thread % chunks == 0 && rows_a_pass % 8 == 0, "all passes share the swizzle");
  static_assert(n_row % rows_a_pass == 0 || n_row < rows_a_pass, "all passes are whole");
  int row = (int)((unsigned)thread / chunks), chunk = (int)((unsigned)thread % chunks);
  if (n_row < rows_a_pass && row >= n_row)
    return;
  int offset = tile_offset<head_dim>(row, chunk);
  int32_t index[passes];
#pragma unroll
  for (int pass = 0; pass < passes; ++pass)
    index[pass] = rows[row + pass * rows_a_pass];
#pragma unroll
  for (int pass = 0; pass < passes; ++pass) {
    int32_t source = index[pass] < 0 ? 0 : index[pass];
    int shared = offset + pass * (rows_a_pass * head_dim * 2);
    gpu_copy_async(tile_a + shared,
                   (const unsigned char *)(a + chunk * 8) + (int64_t)source * (int32_t)(a_stride * 2),
                   index[pass] != -1);
    if (pair)
      gpu_copy_async(tile_b + shared,
                     (const unsigned char *)(b + chunk * 8) + (int64_t)source * (int32_t)(b_stride * 2),
                     index[pass] != -1);
  }
}
template <int head_dim, int n_row, int n_thread>
__device__ __forceinline__ void tile_gather(unsigned char *tile, const gpu_bf16 *matrix, int64_t stride,
                                            const int32_t *rows, int thread) {
  tile_gather_rows<head_dim, n_row, n_thread, false>(tile, matrix, stride, tile, matrix, stride, rows,
                                                     thread);
}
// The same rows of two matrices: the indices are read once.
template <int head_dim, int n_row, int n_thread>
__device__ __forceinline__ void tile_gather_pair(unsigned char *tile_a, const gpu_bf16 *a, int64_t a_stride,
                                                 unsigned char *tile_b, const gpu_bf16 *b, int64_t b_stride,
                                                 const int32_t *rows, int thread) {
  tile_gather_rows<head_dim, n_row, n_thread, true>(tile_a, a, a_stride, tile_b, b, b_stride, rows, thread);
}

// --- results ---
// Writes a warp's 16 rows x head_dim from D fragments, rows 0-7 times scale[0] and rows 8-15 times scale[1], to `row` (of
// lane % 16; -1: none) of `matrix`: through 16 rows of shared memory of the warp's own, so that rows leave in pieces of
// 16 bytes.
template <int head_dim>
__device__ __forceinline__ void tile_scatter(gpu_bf16 *matrix, int64_t stride, int32_t row,
                                             unsigned char *tile, const float (*sum)[4], const float scale[2],
                                             int lane) {
  constexpr int chunks = head_dim / 8;
#pragma unroll
  for (int c = 0; c < chunks; ++c)
#pragma unroll
    for (int r = 0; r < 2; ++r)
      *(uint32_t *)(tile + tile_offset<head_dim>(lane / 4 + 8 * r, c) +
                    lane % 4 * 4) = gpu_pack_bf16(sum[c][2 * r] * scale[r], sum[c][2 * r + 1] * scale[r]);
  gpu_sync_warp();
#pragma unroll
  for (int first = 0; first < 16 * chunks; first += 32) {
    int i = (first + lane) / chunks, c = (first + lane) % chunks;
    int32_t target = gpu_shuffle(row, i);
    if (target >= 0)
      *(uint4 *)(matrix + target * stride + c * 8) = *(const uint4 *)(tile + tile_offset<head_dim>(i, c));
  }
}

// --- visibility ---
// The 16 rows of a warp: a row's slot as a bit (0 for a row of padding, which sees nothing), and over the warp's real
// rows the slots and the smallest and largest value.
typedef struct {
  uint32_t slots;
  int32_t low, high;
} tile_warp_rows;

// `rows`, `row_value`, `row_slot`: at the warp's first row. Leaves the row of lane % 16 in *row (-1: padding),
// *slot_bit, *value.
__device__ __forceinline__ tile_warp_rows tile_read_rows(const int32_t *rows, const int32_t *row_value,
                                                         const int32_t *row_slot, int lane, int32_t *row,
                                                         uint32_t *slot_bit, int32_t *value) {
  *row = rows[lane & 15];
  *slot_bit = *row >= 0 ? 1u << row_slot[lane & 15] : 0u;
  *value = row_value[lane & 15];
  tile_warp_rows warp = {*slot_bit, *row >= 0 ? *value : INT32_MAX, *row >= 0 ? *value : INT32_MIN};
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) {
    warp.slots |= gpu_shuffle_xor(warp.slots, mask);
    int32_t low = gpu_shuffle_xor(warp.low, mask), high = gpu_shuffle_xor(warp.high, mask);
    warp.low = low < warp.low ? low : warp.low;
    warp.high = high > warp.high ? high : warp.high;
  }
  return warp;
}

// key_list = false: the column's value is a key row, the row's a limit; true: the other way round.
template <bool key_list>
__device__ __forceinline__ bool tile_in_limit(int32_t column_value, int32_t row_value) {
  return key_list ? row_value <= column_value : column_value <= row_value;
}

// Visibility of a step of 64 columns to a warp's rows, exactly: bit 8g of `any` is set when some row may see some
// column of group g, bit 8g of `all` when every row sees every column of it (rows of padding aside). `value` and `bits`
// are the step's columns in shared memory; all lanes take part and agree.
typedef struct {
  uint32_t any, all;
} tile_visibility;
#define TILE_ALL_GROUPS 0x01010101u  // every group of a step

template <bool key_list>
__device__ __forceinline__ tile_visibility tile_step_visibility(const int32_t *value, const uint32_t *bits,
                                                                tile_warp_rows warp, int lane) {
  int2 v = ((const int2 *)value)[lane];
  uint2 b = ((const uint2 *)bits)[lane];
  int32_t nearest = key_list ? warp.low : warp.high, farthest = key_list ? warp.high : warp.low;
  // No short circuits: a branch costs more than the tests.
  bool any = (((b.x & warp.slots) != 0) & tile_in_limit<key_list>(v.x, nearest)) |
             (((b.y & warp.slots) != 0) & tile_in_limit<key_list>(v.y, nearest));
  bool all = ((b.x & b.y & warp.slots) == warp.slots) & tile_in_limit<key_list>(v.x, farthest) &
             tile_in_limit<key_list>(v.y, farthest);
  uint32_t any_lanes = gpu_ballot(any), other_lanes = gpu_ballot(!all);  // group g: lanes [8g, 8g + 8)
  any_lanes |= any_lanes >> 4, other_lanes |= other_lanes >> 4;
  any_lanes |= any_lanes >> 2, other_lanes |= other_lanes >> 2;
  any_lanes |= any_lanes >> 1, other_lanes |= other_lanes >> 1;
  tile_visibility visibility = {any_lanes & TILE_ALL_GROUPS, ~other_lanes & TILE_ALL_GROUPS};
  return visibility;
}
// The first group of a set that is not empty.
__device__ __forceinline__ int tile_first_group(uint32_t groups) {
  return (__ffs((int)groups) - 1) >> 3;
}

// One element's test.
template <bool key_list>
__device__ __forceinline__ bool tile_visible(uint32_t column_bits, int32_t column_value, uint32_t slot_bit,
                                             int32_t row_value) {
  return (column_bits & slot_bit) != 0 && tile_in_limit<key_list>(column_value, row_value);
}

#endif
