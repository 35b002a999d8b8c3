// Linear layers. Large ones: OpenBLAS, single-threaded, on tiles fixed by the shape. Few rows (decoding):
// our own loops, which stream the weights once.
#include <cblas.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#undef I  // complex.h, which cblas.h includes, claims the name

#define FEW_ROWS 64          // up to this many rows the weights are streamed
#define FEW_ROWS_OUTPUTS 32  // outputs of a streaming task
#define TILE_ROWS 256
#define TILE_COLS_MIN 192
#define TILE_COLS_MAX 2048
#define TILE_TASKS \
  16  // columns are cut until there are this many tiles: wide tiles pack the input fewer times
#define WEIGHT_TILE 384  // dweight tile, both ways
#define WEIGHT_TASKS 16  // rows are cut into chunks until dweight makes this many tasks
#define CHUNK_ROWS 512   // fewest rows of such a chunk
#define BIAS_ROWS 256    // rows of a dbias chunk

// Tiles of an [n, cols] output; a matter of the shape alone.
typedef struct {
  int64_t row_tiles, col_tiles, cols;
} tile_grid;

static tile_grid make_grid(int64_t n, int64_t cols) {
  tile_grid grid = {.row_tiles = cpu_ceil_divide(n, TILE_ROWS)};
  int64_t wanted = cpu_minimum(cpu_ceil_divide(TILE_TASKS, grid.row_tiles),
                               cpu_ceil_divide(cols, TILE_COLS_MIN));
  wanted = cpu_maximum(wanted, cpu_ceil_divide(cols, TILE_COLS_MAX));
  grid.cols = cpu_round_up(cpu_ceil_divide(cols, wanted), 16);
  grid.col_tiles = cpu_ceil_divide(cols, grid.cols);
  return grid;
}

static void fill_bias(ss_tensor out, const float *bias) {
  for (int64_t i = 0; i < out.rows; ++i)
    memcpy(cpu_floats(out) + i * out.stride, bias, (size_t)out.cols * sizeof(float));
}

// c[M,N] = beta c + op(a) op(b), K the inner dimension.
static void gemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float *a,
                 int64_t a_stride, const float *b, int64_t b_stride, float beta, float *c, int64_t c_stride) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
              (blasint)M, (blasint)N, (blasint)K, 1.0f, a, (blasint)a_stride, b, (blasint)b_stride, beta, c,
              (blasint)c_stride);
}

ss_status cpu_linear_forward(ss_device *device, ss_tensor out, ss_tensor in, ss_tensor weight,
                             ss_tensor bias) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = out.rows, O = out.cols, I = in.cols;
  CPU_REQUIRE(
      device,
      cpu_is_matrix(out, n, O) && cpu_is_matrix(in, n, I) && cpu_is_matrix(weight, O, I) &&
          (!bias.data || cpu_is_matrix(bias, 1, O)),
      "linear_forward: shapes do not fit together: out [%lld, %lld], in [%lld, %lld], weight [%lld, %lld]",
      (long long)out.rows, (long long)out.cols, (long long)in.rows, (long long)in.cols,
      (long long)weight.rows, (long long)weight.cols);
  if (n <= FEW_ROWS) {
    int64_t n_task = cpu_ceil_divide(O, FEW_ROWS_OUTPUTS);
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n_task > 1)
    for (int64_t task = 0; task < n_task; ++task) {
      int64_t o = task * FEW_ROWS_OUTPUTS;
      cpu->simd->linear_rows(cpu_floats(out) + o, out.stride, cpu_floats(in), in.stride,
                             cpu_floats(weight) + o * weight.stride, weight.stride,
                             bias.data ? cpu_floats(bias) + o : NULL, n, cpu_minimum(FEW_ROWS_OUTPUTS, O - o),
                             I);
    }
    return SS_OK;
  }
  tile_grid grid = make_grid(n, O);
#pragma omp parallel for num_threads(cpu->n_thread) \
    schedule(dynamic, 1) if (grid.row_tiles * grid.col_tiles > 1)
  for (int64_t task = 0; task < grid.row_tiles * grid.col_tiles; ++task) {
    int64_t i = task / grid.col_tiles * TILE_ROWS, o = task % grid.col_tiles * grid.cols;
    ss_tensor tile = ss_rows(ss_columns(out, o, cpu_minimum(grid.cols, O - o)), i,
                             cpu_minimum(TILE_ROWS, n - i));
    if (bias.data)
      fill_bias(tile, cpu_floats(bias) + o);
    gemm(false, true, tile.rows, tile.cols, I, cpu_floats(in) + i * in.stride, in.stride,
         cpu_floats(weight) + o * weight.stride, weight.stride, bias.data ? 1.0f : 0.0f, cpu_floats(tile),
         tile.stride);
  }
  return SS_OK;
}

// din[n,I] = dout[n,O] weight[O,I]
static void input_gradient(cpu_device *cpu, ss_tensor din, ss_tensor dout, ss_tensor weight) {
  int64_t n = din.rows, I = din.cols, O = dout.cols;
  tile_grid grid = make_grid(n, I);
#pragma omp parallel for num_threads(cpu->n_thread) \
    schedule(dynamic, 1) if (grid.row_tiles * grid.col_tiles > 1)
  for (int64_t task = 0; task < grid.row_tiles * grid.col_tiles; ++task) {
    int64_t r = task / grid.col_tiles * TILE_ROWS, i = task % grid.col_tiles * grid.cols;
    gemm(false, false, cpu_minimum(TILE_ROWS, n - r), cpu_minimum(grid.cols, I - i), O,
         cpu_floats(dout) + r * dout.stride, dout.stride, cpu_floats(weight) + i, weight.stride, 0.0f,
         cpu_floats(din) + r * din.stride + i, din.stride);
  }
}

// dweight[O,I] += dout[n,O]^T in[n,I]. With too few tiles for many threads the rows are cut into chunks, whose
// products are summed in order; how many is a matter of the shape alone.
static ss_status weight_gradient(ss_device *device, ss_tensor dweight, ss_tensor dout, ss_tensor in) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = dout.rows, O = dweight.rows, I = dweight.cols;
  int64_t o_tiles = cpu_ceil_divide(O, WEIGHT_TILE), i_tiles = cpu_ceil_divide(I, WEIGHT_TILE);
  int64_t n_tile = o_tiles * i_tiles;
  int64_t n_chunk = cpu_minimum(cpu_ceil_divide(WEIGHT_TASKS, n_tile), cpu_maximum(1, n / CHUNK_ROWS));
  float *partial = NULL;  // [n_chunk, O, I]
  if (n_chunk > 1)
    SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &partial, n_chunk * O * I));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(dynamic, 1) if (n_tile * n_chunk > 1)
  for (int64_t task = 0; task < n_tile * n_chunk; ++task) {
    int64_t chunk = task / n_tile, tile = task % n_tile;
    int64_t o = tile / i_tiles * WEIGHT_TILE, i = tile % i_tiles * WEIGHT_TILE;
    int64_t first = n * chunk / n_chunk, end = n * (chunk + 1) / n_chunk;
    float *target = partial ? partial + chunk * O * I + o * I + i
                            : cpu_floats(dweight) + o * dweight.stride + i;
    gemm(true, false, cpu_minimum(WEIGHT_TILE, O - o), cpu_minimum(WEIGHT_TILE, I - i), end - first,
         cpu_floats(dout) + first * dout.stride + o, dout.stride, cpu_floats(in) + first * in.stride + i,
         in.stride, partial ? 0.0f : 1.0f, target, partial ? I : dweight.stride);
  }
  if (partial) {
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static)
    for (int64_t o = 0; o < O; ++o)
      for (int64_t chunk = 0; chunk < n_chunk; ++chunk)
        cpu->simd->add(cpu_floats(dweight) + o * dweight.stride, partial + (chunk * O + o) * I, I);
  }
  return SS_OK;
}

// dbias[1,O] += column sums of dout[n,O]
static ss_status bias_gradient(ss_device *device, ss_tensor dbias, ss_tensor dout) {
  cpu_device *cpu = cpu_of(device);
  int64_t n = dout.rows, O = dout.cols, n_chunk = cpu_ceil_divide(n, BIAS_ROWS);
  float *partial;  // [n_chunk, O]
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &partial, n_chunk * O));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (n_chunk > 1)
  for (int64_t chunk = 0; chunk < n_chunk; ++chunk) {
    memset(partial + chunk * O, 0, (size_t)O * sizeof(float));
    for (int64_t i = chunk * BIAS_ROWS; i < cpu_minimum(n, (chunk + 1) * BIAS_ROWS); ++i)
      cpu->simd->add(partial + chunk * O, cpu_floats(dout) + i * dout.stride, O);
  }
  for (int64_t chunk = 0; chunk < n_chunk; ++chunk)
    cpu->simd->add(cpu_floats(dbias), partial + chunk * O, O);
  return SS_OK;
}

ss_status cpu_linear_backward(ss_device *device, ss_tensor din, ss_tensor dweight, ss_tensor dbias,
                              ss_tensor dout, ss_tensor in, ss_tensor weight) {
  int64_t n = dout.rows, O = dout.cols, I = in.cols;
  CPU_REQUIRE(
      device,
      cpu_is_matrix(dout, n, O) && cpu_is_matrix(in, n, I) && cpu_is_matrix(dweight, O, I) &&
          (!din.data || (cpu_is_matrix(din, n, I) && cpu_is_matrix(weight, O, I))) &&
          (!dbias.data || cpu_is_matrix(dbias, 1, O)),
      "linear_backward: shapes do not fit together: dout [%lld, %lld], in [%lld, %lld], dweight [%lld, %lld]",
      (long long)dout.rows, (long long)dout.cols, (long long)in.rows, (long long)in.cols,
      (long long)dweight.rows, (long long)dweight.cols);
  if (n == 0)
    return SS_OK;
  if (din.data)
    input_gradient(cpu_of(device), din, dout, weight);
  SS_TRY(weight_gradient(device, dweight, dout, in));
  if (dbias.data)
    SS_TRY(bias_gradient(device, dbias, dout));
  return SS_OK;
}
