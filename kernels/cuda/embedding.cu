// Token and position embedding.
//
// The gradient of a table adds rows of dout by id, in the order of the batch, without atomics: (id, row) pairs are
// sorted by id (a stable radix sort), chunks of CHUNK sorted rows add up their runs of equal ids, and the sums of runs
// that cross from chunk to chunk are added by a last kernel. Tokens and positions go side by side in every launch.
#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/elements.cuh"

// --- forward ---

enum { FORWARD_THREADS = 256 };

// A warp a row, `width` neighbouring columns a lane. An id outside its table, which the host has refused, gives NaN.
template <typename type, typename table_type, int width>
static __global__ void __launch_bounds__(FORWARD_THREADS)
    embedding_forward_kernel(type *__restrict__ out, int64_t out_stride, int64_t n, int32_t C,
                             const int32_t *tokens, const table_type *__restrict__ wte, int64_t wte_stride,
                             int64_t n_token, const int32_t *positions, const table_type *__restrict__ wpe,
                             int64_t wpe_stride, int64_t n_position) {
  gpu_wait_previous();  // a decoding step begins with this kernel
  gpu_release_next();
  int64_t row = (int64_t)blockIdx.x * (FORWARD_THREADS / 32) + threadIdx.x / 32;
  if (row >= n)
    return;
  int64_t token = tokens[row], position = wpe ? positions[row] : 0;
  bool known = token >= 0 && token < n_token && (!wpe || (position >= 0 && position < n_position));
  const table_type *token_row = wte + (known ? token : 0) * wte_stride;
  const table_type *position_row = wpe ? wpe + (known ? position : 0) * wpe_stride : NULL;
#pragma unroll 4
  for (int32_t c = (int32_t)threadIdx.x % 32 * width; c < C; c += 32 * width) {
    float values[width], added[width];
    load_elements<width>(values, token_row + c);
    if (position_row) {
      load_elements<width>(added, position_row + c);
#pragma unroll
      for (int i = 0; i < width; ++i)
        values[i] += added[i];
    }
    if (!known) {
#pragma unroll
      for (int i = 0; i < width; ++i)
        values[i] = NAN;
    }
    store_elements<width>(out + row * out_stride + c, values);
  }
}

template <typename type, typename table_type, int width>
static void launch_forward(const cuda_device *cuda, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                           ss_tensor wte, ss_tensor wpe) {
  unsigned blocks = (unsigned)cuda_ceil_divide(out.rows, FORWARD_THREADS / 32);
  GPU_LAUNCH_EARLY(cuda_launches_early(cuda), (embedding_forward_kernel<type, table_type, width>), blocks,
                   FORWARD_THREADS, 0, cuda->stream, (type *)out.data, out.stride, out.rows,
                   (int32_t)out.cols, (const int32_t *)tokens.data, (const table_type *)wte.data, wte.stride,
                   wte.rows, (const int32_t *)positions.data, (const table_type *)wpe.data, wpe.stride,
                   wpe.rows);
}

ss_status cuda_embedding_forward(ss_device *device, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                                 ss_tensor wte, ss_tensor wpe) {
  int64_t n = out.rows, C = out.cols;
  ss_dtype T = out.dtype;
  CUDA_REQUIRE(device,
               (T == SS_F32 || T == SS_BF16) && cuda_is_matrix(out, n, C, T) && cuda_is_integers(tokens, n) &&
                   (cuda_is_matrix(wte, wte.rows, C, SS_F32) ||
                    (cuda_is_matrix(wte, wte.rows, C, T) && !wpe.data)) &&
                   (!wpe.data ||
                    (cuda_is_matrix(wpe, wpe.rows, C, SS_F32) && cuda_is_integers(positions, n))) &&
                   C <= INT32_MAX / 2 && wte.rows > 0 && (!wpe.data || wpe.rows > 0),
               "embedding_forward: shapes do not fit together");
  if (n * C == 0)
    return SS_OK;
  bool aligned = cuda_is_aligned(out) && cuda_is_aligned(wte) && (!wpe.data || cuda_is_aligned(wpe));
  const cuda_device *cuda = cuda_of(device);
  if (T == SS_F32 && aligned)
    launch_forward<float, float, PIECE_OF(float)>(cuda, out, tokens, positions, wte, wpe);
  else if (T == SS_F32)
    launch_forward<float, float, 1>(cuda, out, tokens, positions, wte, wpe);
  else if (wte.dtype == SS_F32 && aligned)
    launch_forward<gpu_bf16, float, PIECE_OF(gpu_bf16)>(cuda, out, tokens, positions, wte, wpe);
  else if (wte.dtype == SS_F32)
    launch_forward<gpu_bf16, float, 1>(cuda, out, tokens, positions, wte, wpe);
  else if (aligned)
    launch_forward<gpu_bf16, gpu_bf16, PIECE_OF(gpu_bf16)>(cuda, out, tokens, positions, wte, wpe);
  else
    launch_forward<gpu_bf16, gpu_bf16, 1>(cuda, out, tokens, positions, wte, wpe);
  CUDA_LAUNCHED(device, "embedding_forward");
  return SS_OK;
}

// --- sorting (id, row) ---

enum {
  SORT_WARPS = 16,
  SORT_THREADS = SORT_WARPS * 32,
  SORT_ITEMS = 4,  // of a thread
  SORT_TILE = SORT_THREADS * SORT_ITEMS,
  DIGIT_BITS = 10,
  DIGITS = 1 << DIGIT_BITS,
  DIGITS_A_THREAD = DIGITS / SORT_THREADS
};

// One of the two tables. Ids outside it, which the host has refused, become row -1 of id 0, and count for nothing.
typedef struct {
  float *table;
  int64_t stride;
  int32_t n_id;
  int32_t digit_bits, shift;  // of the pass
  // [n]: what the pass reads and writes; at last, `to` is sorted. The first pass reads the ids, and rows is NULL.
  const int32_t *from_keys, *from_rows;
  int32_t *to_keys, *to_rows;
  int32_t *counts;  // [n_tile, DIGITS]
  float *partials;  // [n_chunk, 2, columns]: see accumulate_kernel
} id_sort;

typedef struct {
  id_sort of[2];  // tokens, positions
} id_sorts;

static __device__ __forceinline__ id_sort chosen_sort(const id_sorts &sorts, unsigned index) {
  return index == 0 ? sorts.of[0] : sorts.of[1];
}

// Counts the digits of a warp's elements, in order; `ranks` becomes the number of equal digits before each element.
// Element of (item, lane): first + item * 32 + lane, which is the order that the sort keeps.
static __device__ __forceinline__ void rank_digits(uint16_t *counts /*[DIGITS] of this warp*/,
                                                   const int32_t *digits, const bool *valid, int32_t *ranks,
                                                   int32_t digit_bits) {
  int32_t lane = (int32_t)threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < SORT_ITEMS; ++i) {
    uint32_t equal = gpu_ballot(valid[i]);
    for (int32_t bit = 0; bit < digit_bits; ++bit) {
      bool one = (digits[i] >> bit & 1) != 0;
      uint32_t ones = gpu_ballot(one);
      equal &= one ? ones : ~ones;
    }
    uint32_t before = equal & ((1u << lane) - 1);
    int32_t seen = valid[i] ? counts[digits[i]] : 0;
    gpu_sync_warp();
    if (valid[i] && before == 0)
      counts[digits[i]] = (uint16_t)(seen + __popc(equal));
    gpu_sync_warp();
    ranks[i] = seen + __popc(before);
  }
}

// Reads a thread's elements of a pass.
static __device__ __forceinline__ void load_items(const id_sort &sort, int64_t n, int32_t *keys,
                                                  int32_t *rows, int32_t *digits, bool *valid) {
  int64_t first = (int64_t)blockIdx.x * SORT_TILE + threadIdx.x / 32 * (32 * SORT_ITEMS) + threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < SORT_ITEMS; ++i) {
    int64_t at = first + i * 32;
    valid[i] = at < n;
    keys[i] = rows[i] = 0;
    if (valid[i] && !sort.from_rows) {
      int32_t id = sort.from_keys[at];
      bool known = id >= 0 && id < sort.n_id;
      keys[i] = known ? id : 0;
      rows[i] = known ? (int32_t)at : -1;
    } else if (valid[i]) {
      keys[i] = sort.from_keys[at];
      rows[i] = sort.from_rows[at];
    }
    digits[i] = keys[i] >> sort.shift & ((1 << sort.digit_bits) - 1);
  }
}

static __device__ __forceinline__ void clear_counts(uint16_t (*counts)[DIGITS]) {
  for (int32_t i = (int32_t)threadIdx.x; i < SORT_WARPS * DIGITS; i += SORT_THREADS)
    counts[i / DIGITS][i % DIGITS] = 0;
  gpu_sync_block();
}

// counts[tile][digit] of a pass. blockIdx: tile, table
static __global__ void __launch_bounds__(SORT_THREADS) count_kernel(id_sorts sorts, int64_t n) {
  GPU_SHARED(uint16_t, counts, [SORT_WARPS][DIGITS]);
  id_sort sort = chosen_sort(sorts, blockIdx.y);
  int32_t keys[SORT_ITEMS], rows[SORT_ITEMS], digits[SORT_ITEMS], ranks[SORT_ITEMS];
  bool valid[SORT_ITEMS];
  load_items(sort, n, keys, rows, digits, valid);
  clear_counts(counts);
  rank_digits(counts[threadIdx.x / 32], digits, valid, ranks, sort.digit_bits);
  gpu_sync_block();
  for (int32_t digit = (int32_t)threadIdx.x; digit < 1 << sort.digit_bits; digit += SORT_THREADS) {
    int32_t count = 0;
    for (int w = 0; w < SORT_WARPS; ++w)
      count += counts[w][digit];
    sort.counts[(int64_t)blockIdx.x * DIGITS + digit] = count;
  }
}

// The sum of the values of lower lanes.
static __device__ __forceinline__ int32_t warp_sum_before(int32_t value) {
  int32_t lane = (int32_t)threadIdx.x % 32, sum = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    int32_t lower = gpu_shuffle(sum, lane >= step ? lane - step : lane);
    if (lane >= step)
      sum += lower;
  }
  return sum - value;
}

// Moves the elements to their places of this pass. blockIdx: tile, table
static __global__ void __launch_bounds__(SORT_THREADS)
    scatter_kernel(id_sorts sorts, int64_t n, int32_t n_tile) {
  GPU_SHARED(uint16_t, counts, [SORT_WARPS][DIGITS]);
  GPU_SHARED(int32_t, places, [DIGITS]);  // of the tile's first element with a digit
  GPU_SHARED(int32_t, warp_totals, [SORT_WARPS]);
  id_sort sort = chosen_sort(sorts, blockIdx.y);
  int32_t keys[SORT_ITEMS], rows[SORT_ITEMS], digits[SORT_ITEMS], ranks[SORT_ITEMS];
  bool valid[SORT_ITEMS];
  load_items(sort, n, keys, rows, digits, valid);
  clear_counts(counts);
  rank_digits(counts[threadIdx.x / 32], digits, valid, ranks, sort.digit_bits);
  // Neighbouring digits of a thread: how many there are in all tiles, and in the tiles before this one.
  int32_t totals[DIGITS_A_THREAD] = {0}, earlier[DIGITS_A_THREAD] = {0};
  int32_t first_digit = (int32_t)threadIdx.x * DIGITS_A_THREAD;
  if (first_digit < 1 << sort.digit_bits) {
#pragma unroll 8
    for (int32_t tile = 0; tile < n_tile; ++tile)
#pragma unroll
      for (int i = 0; i < DIGITS_A_THREAD; ++i) {
        int32_t count = sort.counts[(int64_t)tile * DIGITS + first_digit + i];
        totals[i] += count;
        earlier[i] += tile < (int32_t)blockIdx.x ? count : 0;
      }
  }
  int32_t total = 0;
  for (int i = 0; i < DIGITS_A_THREAD; ++i)
    total += totals[i];
  int32_t place = warp_sum_before(total);
  if (threadIdx.x % 32 == 31)
    warp_totals[threadIdx.x / 32] = place + total;
  gpu_sync_block();
  for (int w = 0; w < (int)threadIdx.x / 32; ++w)
    place += warp_totals[w];
  for (int i = 0; i < DIGITS_A_THREAD; ++i) {
    places[first_digit + i] = place + earlier[i];
    place += totals[i];
    int32_t sum = 0;
    for (int w = 0; w < SORT_WARPS; ++w) {
      int32_t count = counts[w][first_digit + i];
      counts[w][first_digit + i] = (uint16_t)sum;
      sum += count;
    }
  }
  gpu_sync_block();
#pragma unroll
  for (int i = 0; i < SORT_ITEMS; ++i)
    if (valid[i]) {
      int32_t at = places[digits[i]] + counts[threadIdx.x / 32][digits[i]] + ranks[i];
      sort.to_keys[at] = keys[i];
      sort.to_rows[at] = rows[i];
    }
}

// --- adding up runs of equal ids ---

enum { CHUNK = 64, GROUP = 8 };
#define SUM_THREADS_MOST 128

// The chunk's keys, between those of its neighbours (-1 at the ends), and its rows.
static __device__ __forceinline__ void load_chunk(const int32_t *sorted_keys, const int32_t *sorted_rows,
                                                  int64_t n, int64_t first, int32_t count, int32_t *keys,
                                                  int32_t *rows) {
  for (int32_t i = (int32_t)threadIdx.x; i < count + 2; i += (int32_t)blockDim.x) {
    int64_t at = first + i - 1;
    keys[i] = at >= 0 && at < n ? sorted_keys[at] : -1;
    if (i < count)
      rows[i] = sorted_rows[at + 1];
  }
  gpu_sync_block();
}

// A chunk's runs: those that lie inside it go to the table, the sum of one that began before it to partials[chunk][0]
// (also when it goes on behind), that of one that begins here and goes on to partials[chunk][1].
// blockIdx: chunk, columns, table; `width` neighbouring columns a thread
template <typename type, int width>
static __global__ void __launch_bounds__(SUM_THREADS_MOST)
    accumulate_kernel(id_sorts sorts, const type *dout, int64_t dout_stride, int64_t n, int32_t C,
                      int32_t columns) {
  GPU_SHARED(int32_t, keys, [CHUNK + 2]);
  GPU_SHARED(int32_t, rows, [CHUNK]);
  id_sort sort = chosen_sort(sorts, blockIdx.z);
  int64_t first = (int64_t)blockIdx.x * CHUNK;
  int32_t count = n - first < CHUNK ? (int32_t)(n - first) : CHUNK;
  load_chunk(sort.to_keys, sort.to_rows, n, first, count, keys, rows);
  int32_t c = ((int32_t)blockIdx.y * (int32_t)blockDim.x + (int32_t)threadIdx.x) * width;
  if (c >= C)
    return;
  float sums[width];
#pragma unroll
  for (int j = 0; j < width; ++j)
    sums[j] = 0;
  bool begun_before = keys[0] == keys[1];
  for (int32_t group = 0; group < count; group += GROUP) {
    // All loads go out before the first is waited for: a row that counts for nothing reads another and is not added.
    float values[GROUP][width];
    bool counts[GROUP];
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
      int32_t row = group + i < count ? rows[group + i] : -1;
      counts[i] = row >= 0;
      load_elements<width>(values[i], dout + (counts[i] ? row : 0) * dout_stride + c);
    }
#pragma unroll
    for (int i = 0; i < GROUP; ++i) {
#pragma unroll
      for (int j = 0; j < width; ++j)
        sums[j] += counts[i] ? values[i][j] : 0.0f;
      int32_t at = group + i + 1;  // of this row in keys
      if (at > count || (at < count && keys[at] == keys[at + 1]))
        continue;
      bool goes_on = at == count && keys[at] == keys[at + 1];
      if (begun_before || goes_on) {
        float *partial = sort.partials + ((int64_t)blockIdx.x * 2 + (begun_before ? 0 : 1)) * columns + c;
        store_elements<width>(partial, sums);
      } else {
        float *table = sort.table + keys[at] * sort.stride + c, old[width];
        load_elements<width>(old, table);
#pragma unroll
        for (int j = 0; j < width; ++j)
          old[j] += sums[j];
        store_elements<width>(table, old);
      }
      begun_before = false;
#pragma unroll
      for (int j = 0; j < width; ++j)
        sums[j] = 0;
    }
  }
}

enum {
  FINISH_WARPS = 8,
  FINISH_CHUNKS = 8,  // a block's; a run that crosses more of them than that is the block's only one
  FINISH_COLUMNS = 128
};

// The sum of partials[chunk][0] over the chunks first, first + step, ... before end, at four columns.
static __device__ __forceinline__ float4 sum_partials(const float *partials, int64_t first, int64_t end,
                                                      int64_t step, int32_t columns) {
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
  for (int64_t chunk = first; chunk < end; chunk += step) {
    float4 partial = *reinterpret_cast<const float4 *>(partials + chunk * 2 * columns);
    sum.x += partial.x, sum.y += partial.y, sum.z += partial.z, sum.w += partial.w;
  }
  return sum;
}

static __device__ __forceinline__ void add_to_table(const id_sort &sort, int32_t key, int32_t c, int32_t C,
                                                    float4 first, float4 rest) {
  float sums[4] = {first.x + rest.x, first.y + rest.y, first.z + rest.z, first.w + rest.w};
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (c + j < C)
      sort.table[key * sort.stride + c + j] += sums[j];
}

// Adds the runs that cross chunks. A run belongs to the chunk where it begins. blockIdx: chunks, columns, table
static __global__ void __launch_bounds__(FINISH_WARPS * 32)
    finish_kernel(id_sorts sorts, int64_t n_chunk, int32_t C, int32_t columns) {
  GPU_SHARED(float, sums, [FINISH_WARPS][FINISH_COLUMNS]);
  id_sort sort = chosen_sort(sorts, blockIdx.z);
  const int32_t *keys = sort.to_keys;
  int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
  int32_t c = (int32_t)blockIdx.y * FINISH_COLUMNS + lane * 4;
  bool inside = c < columns;
  const float *partials = sort.partials + (inside ? c : 0);
  // Which of the block's chunks begin a run that goes on: one lane a chunk, the same in every warp.
  int64_t first_chunk = (int64_t)blockIdx.x * FINISH_CHUNKS, mine = first_chunk + lane;
  bool begins = false;
  if (lane < FINISH_CHUNKS && mine + 1 < n_chunk) {
    int32_t key = keys[(mine + 1) * CHUNK - 1];
    begins = key == keys[(mine + 1) * CHUNK] &&
             !(key == keys[mine * CHUNK] && mine > 0 && key == keys[mine * CHUNK - 1]);
  }
  uint32_t beginners = gpu_ballot(begins);
  int64_t long_chunk = -1, long_end = -1;
  for (int32_t index = 0; index < FINISH_CHUNKS; ++index) {
    if ((beginners >> index & 1) == 0)
      continue;
    // The first chunk behind `chunk` that begins with another id.
    int64_t chunk = first_chunk + index, end = chunk + 1;
    int32_t key = keys[end * CHUNK];
    for (uint32_t equal = 0xffffffffu; equal == 0xffffffffu;) {
      int64_t looked = end + lane;
      equal = gpu_ballot(looked < n_chunk && keys[looked * CHUNK] == key);
      end += equal == 0xffffffffu ? 32 : __popc(equal);
    }
    if (end - chunk > FINISH_CHUNKS) {
      long_chunk = chunk, long_end = end;
    } else if (index == warp && inside) {
      float4 begin = *reinterpret_cast<const float4 *>(partials + (chunk * 2 + 1) * columns);
      add_to_table(sort, key, c, C, begin, sum_partials(partials, chunk + 1, end, 1, columns));
    }
  }
  if (long_chunk < 0)  // the same for the whole block
    return;
  if (inside) {
    float4 sum = sum_partials(partials, long_chunk + 1 + warp, long_end, FINISH_WARPS, columns);
    *reinterpret_cast<float4 *>(&sums[warp][lane * 4]) = sum;
  }
  gpu_sync_block();
  if (warp == 0 && inside) {
    float4 sum = make_float4(0, 0, 0, 0);
    for (int w = 0; w < FINISH_WARPS; ++w) {
      float4 part = *reinterpret_cast<const float4 *>(&sums[w][lane * 4]);
      sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    float4 begin = *reinterpret_cast<const float4 *>(partials + (long_chunk * 2 + 1) * columns);
    add_to_table(sort, keys[long_end * CHUNK - CHUNK], c, C, begin, sum);
  }
}

// --- backward ---

static int32_t bits_of(int64_t n_id) {
  int32_t bits = 1;
  while ((int64_t)1 << bits < n_id)
    ++bits;
  return bits;
}

template <typename type, int width>
static void launch_accumulate(cudaStream_t stream, const id_sorts *sorts, int32_t n_table, ss_tensor dout,
                              int64_t n_chunk, int32_t columns) {
  int64_t threads = cuda_ceil_divide(cuda_ceil_divide(dout.cols, width), 32) * 32;
  threads = threads < SUM_THREADS_MOST ? threads : SUM_THREADS_MOST;
  dim3 grid((unsigned)n_chunk, (unsigned)cuda_ceil_divide(dout.cols, threads * width), (unsigned)n_table);
  GPU_LAUNCH((accumulate_kernel<type, width>), grid, (unsigned)threads, 0, stream, *sorts,
             (const type *)dout.data, dout.stride, dout.rows, (int32_t)dout.cols, columns);
}

// The part of the scratch behind `*at`, in pieces of 256 bytes.
static void *take(unsigned char **at, int64_t bytes) {
  void *taken = *at;
  *at += cuda_ceil_divide(bytes, 256) * 256;
  return taken;
}

ss_status cuda_embedding_backward(ss_device *device, ss_tensor dwte, ss_tensor dwpe, ss_tensor dout,
                                  ss_tensor tokens, ss_tensor positions) {
  int64_t n = dout.rows, C = dout.cols;
  ss_dtype T = dout.dtype;
  CUDA_REQUIRE(device,
               (T == SS_F32 || T == SS_BF16) && cuda_is_matrix(dout, n, C, T) &&
                   cuda_is_matrix(dwte, dwte.rows, C, SS_F32) && cuda_is_integers(tokens, n) &&
                   (!dwpe.data ||
                    (cuda_is_matrix(dwpe, dwpe.rows, C, SS_F32) && cuda_is_integers(positions, n))) &&
                   C <= INT32_MAX / 8 && n <= INT32_MAX / 2 && dwte.rows > 0 && dwte.rows <= INT32_MAX &&
                   (!dwpe.data || (dwpe.rows > 0 && dwpe.rows <= INT32_MAX)),
               "embedding_backward: shapes do not fit together");
  if (n * C == 0)
    return SS_OK;
  int64_t n_tile = cuda_ceil_divide(n, SORT_TILE), n_chunk = cuda_ceil_divide(n, CHUNK);
  int32_t columns = (int32_t)cuda_ceil_divide(C, 8) * 8, n_table = dwpe.data ? 2 : 1;
  int32_t bits[2] = {bits_of(dwte.rows), dwpe.data ? bits_of(dwpe.rows) : 1};
  int32_t n_pass = (int32_t)cuda_ceil_divide(bits[0] > bits[1] ? bits[0] : bits[1], DIGIT_BITS);
  int64_t row_bytes = n * 4 + 256, count_bytes = n_tile * DIGITS * 4 + 256;
  int64_t partial_bytes = n_chunk * 2 * columns * 4 + 256;
  void *scratch;
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &scratch,
                      (size_t)(n_table * (4 * row_bytes + count_bytes + partial_bytes))));
  unsigned char *at = (unsigned char *)scratch;
  id_sorts sorts;
  int32_t *keys[2][2], *rows[2][2];  // table; from one pass to the next
  for (int32_t t = 0; t < n_table; ++t) {
    ss_tensor table = t == 0 ? dwte : dwpe;
    id_sort *sort = &sorts.of[t];
    sort->table = (float *)table.data, sort->stride = table.stride, sort->n_id = (int32_t)table.rows;
    sort->digit_bits = (int32_t)cuda_ceil_divide(bits[t], n_pass);
    for (int side = 0; side < 2; ++side) {
      keys[t][side] = (int32_t *)take(&at, n * 4);
      rows[t][side] = (int32_t *)take(&at, n * 4);
    }
    sort->counts = (int32_t *)take(&at, n_tile * DIGITS * 4);
    sort->partials = (float *)take(&at, n_chunk * 2 * columns * 4);
  }
  cudaStream_t stream = cuda_of(device)->stream;
  // Partial sums are read four columns at a time, those behind the last column too.
  if (C % 4 != 0)
    for (int32_t t = 0; t < n_table; ++t)
      CUDA_TRY(device, cudaMemsetAsync(sorts.of[t].partials, 0, (size_t)(n_chunk * 2 * columns) * 4, stream));
  dim3 sort_grid((unsigned)n_tile, (unsigned)n_table);
  for (int32_t pass = 0; pass < n_pass; ++pass) {
    for (int32_t t = 0; t < n_table; ++t) {
      id_sort *sort = &sorts.of[t];
      const int32_t *ids = (const int32_t *)(t == 0 ? tokens : positions).data;
      sort->from_keys = pass == 0 ? ids : keys[t][(pass + 1) % 2];
      sort->from_rows = pass == 0 ? NULL : rows[t][(pass + 1) % 2];
      sort->to_keys = keys[t][pass % 2], sort->to_rows = rows[t][pass % 2];
      sort->shift = pass * sort->digit_bits;
    }
    if (n_table == 1)
      sorts.of[1] = sorts.of[0];
    GPU_LAUNCH(count_kernel, sort_grid, SORT_THREADS, 0, stream, sorts, n);
    CUDA_LAUNCHED(device, "embedding_backward");
    GPU_LAUNCH(scatter_kernel, sort_grid, SORT_THREADS, 0, stream, sorts, n, (int32_t)n_tile);
    CUDA_LAUNCHED(device, "embedding_backward");
  }
  bool aligned = cuda_is_aligned(dout) && cuda_is_aligned(dwte) && (!dwpe.data || cuda_is_aligned(dwpe));
  if (T == SS_BF16 && aligned)
    launch_accumulate<gpu_bf16, PIECE_OF(gpu_bf16)>(stream, &sorts, n_table, dout, n_chunk, columns);
  else if (T == SS_BF16)
    launch_accumulate<gpu_bf16, 1>(stream, &sorts, n_table, dout, n_chunk, columns);
  else if (aligned)
    launch_accumulate<float, PIECE_OF(float)>(stream, &sorts, n_table, dout, n_chunk, columns);
  else
    launch_accumulate<float, 1>(stream, &sorts, n_table, dout, n_chunk, columns);
  CUDA_LAUNCHED(device, "embedding_backward");
  if (n_chunk > 1) {
    dim3 grid((unsigned)cuda_ceil_divide(n_chunk, FINISH_CHUNKS),
              (unsigned)cuda_ceil_divide(columns, FINISH_COLUMNS), (unsigned)n_table);
    GPU_LAUNCH(finish_kernel, grid, FINISH_WARPS * 32, 0, stream, sorts, n_chunk, (int32_t)C, columns);
    CUDA_LAUNCHED(device, "embedding_backward");
  }
  return SS_OK;
}
