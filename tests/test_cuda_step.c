// The fused ops of a decoding step on CUDA, against the CPU's: every way to cut a product, and the composition of other
// ops.
#include "tests/cuda_fixture.h"

#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/step_tile.h"

// BF16: the result is rounded once, and what the norm gives once more; hardware tanh. SwiGLU put together from other ops
// rounds two factors more; over few results the errors of a norm do not average out.
#define BOUND_BF16 2e-5
#define BOUND_F32 1e-10

enum { NO_NORM, LAYER_NORM, LAYER_NORM_PLAIN, RMS_NORM };  // PLAIN: without a bias

typedef struct {
  int64_t n, I, O;
  int norm;
  bool bias, out_f32;
  ss_step_activation activation;
  int64_t gap;    // between rows of x and out
  float average;  // of x
} linear_case;

static ss_norm norm_on(int d, int norm, cuda_pair weight, cuda_pair bias) {
  ss_norm none = {0};
  if (norm == NO_NORM)
    return none;
  return (ss_norm){norm == RMS_NORM ? SS_NORM_RMS : SS_NORM_LAYER, weight.on[d], bias.on[d], 1e-5f};
}

static cuda_pair random_norm(cuda_fixture *f, const char *name, int norm, int64_t I, bool is_bias) {
  if (norm == NO_NORM || (is_bias && norm != LAYER_NORM))
    return cuda_none();
  return cuda_random(f, name, 1, I, SS_F32, is_bias ? 0.3 : 1);
}

// Rows of x [n,I] around `average`.
static cuda_pair random_rows(cuda_fixture *f, const char *name, int64_t n, int64_t I, int64_t gap,
                             float average) {
  cuda_pair x = cuda_random_strided(f, name, n, I, I + gap, f->compute, 1);
  if (average != 0) {
    float *values = cuda_download_floats(f, ON_CPU, x.on[ON_CPU]);
    for (int64_t i = 0; i < n * I; ++i)
      values[i] = f->compute == SS_BF16 ? cuda_round_bf16(values[i] + average) : values[i] + average;
    for (int d = 0; d < 2; ++d)
      cuda_upload_floats(f, d, x.on[d], values);
    free(values);
  }
  return x;
}

static void name_case(cuda_fixture *f, const linear_case *c, const char *what) {
  const step_shape *s = cuda_of(f->device[ON_CUDA])->step_forced;
  const step_tile_shape *tile = cuda_of(f->device[ON_CUDA])->step_tile_forced;
  cuda_context(f,
               "%s: n %lld, I %lld, O %lld, norm %d, bias %d, f32 %d, activation %d, cut %d %d %d %d %d, "
               "tile %d %d %d",
               what, (long long)c->n, (long long)c->I, (long long)c->O, c->norm, c->bias, c->out_f32,
               (int)c->activation, s ? s->rows16 : -1, s ? s->tiles8 : -1, s ? s->blocks32 : -1,
               s ? s->splits : -1, s ? s->blocks : -1, tile ? tile->rows16 : -1, tile ? tile->tiles8 : -1,
               tile ? tile->warps : -1);
}

// Fails unless rows [n, n + 2) of `all`, which an op on its first n rows must not touch, hold what cuda_output wrote.
static void check_rows_behind(cuda_fixture *f, cuda_pair all, int64_t n) {
  float *values = cuda_download_floats(f, ON_CUDA, all.on[ON_CUDA]);
  for (int64_t i = n * all.on[0].cols; i < (n + 2) * all.on[0].cols; ++i)
    if (!isnan(values[i]))
      fail_msg("%s: a row behind the last was written (%s)", all.name, f->context);
  free(values);
}

// Whether the CUDA device serves the call; a cut that does not fit is refused.
static bool refused(cuda_fixture *f, ss_status status) {
  ss_device *device = f->device[ON_CUDA];
  if (status == SS_OK)
    return false;
  if (!strstr(device->error.message, "cannot be cut"))
    fail_msg("%s (%s)", device->error.message, f->context);
  ss_error_clear(&device->error);
  return true;
}

static bool check_linear(cuda_fixture *f, const linear_case *c) {
  name_case(f, c, "step_linear");
  int64_t wide = c->activation == SS_STEP_SWIGLU ? 2 * c->O : c->O;
  cuda_pair x = random_rows(f, "x", c->n, c->I, c->gap, c->average);
  cuda_pair weight = cuda_random_strided(f, "weight", wide, c->I, c->I + c->gap, f->compute,
                                         1 / sqrt((double)c->I));
  cuda_pair bias = c->bias ? cuda_random(f, "bias", 1, wide, f->compute, 1) : cuda_none();
  cuda_pair norm_weight = random_norm(f, "norm weight", c->norm, c->I, false);
  cuda_pair norm_bias = random_norm(f, "norm bias", c->norm, c->I, true);
  cuda_pair all = cuda_output_strided(f, "out", c->n + 2, c->O, c->O + c->gap,
                                      c->out_f32 ? SS_F32 : f->compute);
  cuda_pair out = cuda_rows(all, 0, c->n);
  ss_device *gpu = f->device[ON_CUDA];
  bool served = !refused(f, gpu->ops->step_linear(gpu, out.on[1], x.on[1],
                                                  norm_on(1, c->norm, norm_weight, norm_bias), weight.on[1],
                                                  bias.on[1], c->activation));
  if (served) {
    CUDA_RUN(f, ON_CPU, step_linear, out.on[0], x.on[0], norm_on(0, c->norm, norm_weight, norm_bias),
             weight.on[0], bias.on[0], c->activation);
    bool exact = f->compute == SS_F32 || (c->out_f32 && c->norm == NO_NORM && c->activation == SS_STEP_PLAIN);
    double slack = c->n * c->O < 256 ? 6 : c->activation == SS_STEP_SWIGLU ? 3 : 1;
    cuda_check(f, out, exact ? BOUND_F32 : slack * BOUND_BF16);
    check_rows_behind(f, all, c->n);
    cuda_pair again = cuda_output(f, "again", c->n, c->O, out.on[1].dtype);
    CUDA_RUN(f, ON_CUDA, step_linear, again.on[1], x.on[1], norm_on(1, c->norm, norm_weight, norm_bias),
             weight.on[1], bias.on[1], c->activation);
    cuda_check_same(f, "out", out.on[1], again.on[1]);
  }
  cuda_release_all(f);
  return served;
}

static bool check_residual(cuda_fixture *f, const linear_case *c) {
  name_case(f, c, "step_residual");
  cuda_pair all = random_rows(f, "x", c->n + 2, c->O, c->gap, 0);
  cuda_pair x = cuda_rows(all, 0, c->n);
  cuda_pair in = random_rows(f, "in", c->n, c->I, c->gap, 0);
  cuda_pair weight = cuda_random_strided(f, "weight", c->O, c->I, c->I + c->gap, f->compute,
                                         1 / sqrt((double)c->I));
  cuda_pair bias = c->bias ? cuda_random(f, "bias", 1, c->O, f->compute, 1) : cuda_none();
  float *before = cuda_download_floats(f, ON_CUDA, all.on[1]);
  ss_device *gpu = f->device[ON_CUDA];
  bool served = !refused(f, gpu->ops->step_residual(gpu, x.on[1], in.on[1], weight.on[1], bias.on[1]));
  if (served) {
    CUDA_RUN(f, ON_CPU, step_residual, x.on[0], in.on[0], weight.on[0], bias.on[0]);
    cuda_check(f, x, f->compute == SS_F32 ? BOUND_F32 : BOUND_BF16);
    float *after = cuda_download_floats(f, ON_CUDA, all.on[1]);
    assert_memory_equal(before + c->n * c->O, after + c->n * c->O, (size_t)(2 * c->O) * sizeof *after);
    // Again, three times: counters start anew.
    for (int i = 0; i < 3; ++i) {
      cuda_pair again = cuda_output(f, "again", c->n, c->O, f->compute);
      cuda_upload_floats(f, ON_CUDA, again.on[1], before);
      CUDA_RUN(f, ON_CUDA, step_residual, again.on[1], in.on[1], weight.on[1], bias.on[1]);
      cuda_check_same(f, "x", x.on[1], again.on[1]);
    }
    free(after);
  }
  free(before);
  cuda_release_all(f);
  return served;
}

typedef struct {
  int64_t n, C;
  int32_t n_head, n_kv_head, head_dim;
  int norm;
  bool bias;
  float theta;
  int64_t gap;
} qkv_case;

// Fails unless the rows of a cache that no slot names hold the bits they had.
static void check_other_rows(cuda_fixture *f, ss_tensor cache, const void *before, const int32_t *slots,
                             int64_t n) {
  char *after = cuda_download_bytes(f, ON_CUDA, cache);
  size_t bytes = (size_t)cache.cols * ss_dtype_size(cache.dtype);
  for (int64_t row = 0; row < cache.rows; ++row) {
    bool named = false;
    for (int64_t i = 0; i < n; ++i)
      named |= slots[i] == row;
    if (!named && memcmp(after + (size_t)row * bytes, (const char *)before + (size_t)row * bytes, bytes) != 0)
      fail_msg("row %lld of a cache was written (%s)", (long long)row, f->context);
  }
  free(after);
}

static bool check_qkv(cuda_fixture *f, const qkv_case *c) {
  const step_shape *s = cuda_of(f->device[ON_CUDA])->step_forced;
  const step_tile_shape *tile = cuda_of(f->device[ON_CUDA])->step_tile_forced;
  cuda_context(f,
               "step_qkv: n %lld, C %lld, %d/%d heads of %d, norm %d, theta %g, cut %d %d %d, tile %d %d %d",
               (long long)c->n, (long long)c->C, c->n_head, c->n_kv_head, c->head_dim, c->norm,
               (double)c->theta, s ? s->rows16 : -1, s ? s->tiles8 : -1, s ? s->blocks32 : -1,
               tile ? tile->rows16 : -1, tile ? tile->tiles8 : -1, tile ? tile->warps : -1);
  int64_t Q = (int64_t)c->n_head * c->head_dim, K = (int64_t)c->n_kv_head * c->head_dim, n_row = 2 * c->n + 3;
  cuda_pair x = random_rows(f, "x", c->n, c->C, c->gap, 0);
  cuda_pair weight = cuda_random(f, "weight", Q + 2 * K, c->C, f->compute, 1 / sqrt((double)c->C));
  cuda_pair bias = c->bias ? cuda_random(f, "bias", 1, Q + 2 * K, f->compute, 1) : cuda_none();
  cuda_pair norm_weight = random_norm(f, "norm weight", c->norm, c->C, false);
  cuda_pair norm_bias = random_norm(f, "norm bias", c->norm, c->C, true);
  cuda_pair k_cache = cuda_random_strided(f, "k cache", n_row, K, K + c->gap, f->compute, 1);
  cuda_pair v_cache = cuda_random_strided(f, "v cache", n_row, K, K + 2 * c->gap, f->compute, 1);
  cuda_pair all = cuda_output_strided(f, "q", c->n + 2, Q, Q + c->gap, f->compute),
            q = cuda_rows(all, 0, c->n);
  cuda_pair positions = cuda_random_integers(f, "positions", c->n, 0, 1500);
  // Rows of the caches in no order; every fifth has none.
  int32_t *rows = calloc((size_t)c->n, sizeof *rows);
  for (int64_t i = 0; i < c->n; ++i)
    rows[i] = i % 5 == 3 ? -1 : (int32_t)((n_row - 1 - 2 * i) % n_row);
  cuda_pair slots = cuda_integers(f, "slots", rows, c->n);
  void *k_before = cuda_download_bytes(f, ON_CUDA, k_cache.on[1]);
  void *v_before = cuda_download_bytes(f, ON_CUDA, v_cache.on[1]);
  ss_device *gpu = f->device[ON_CUDA];
  bool served = !refused(f,
                         gpu->ops->step_qkv(gpu, q.on[1], k_cache.on[1], v_cache.on[1], x.on[1],
                                            norm_on(1, c->norm, norm_weight, norm_bias), weight.on[1],
                                            bias.on[1], positions.on[1], slots.on[1], c->head_dim, c->theta));
  if (served) {
    CUDA_RUN(f, ON_CPU, step_qkv, q.on[0], k_cache.on[0], v_cache.on[0], x.on[0],
             norm_on(0, c->norm, norm_weight, norm_bias), weight.on[0], bias.on[0], positions.on[0],
             slots.on[0], c->head_dim, c->theta);
    double bound = f->compute == SS_F32 ? c->theta > 0 ? 1e-8 : BOUND_F32 : BOUND_BF16;
    cuda_check(f, q, bound);
    cuda_check(f, k_cache, bound);
    cuda_check(f, v_cache, bound);
    check_rows_behind(f, all, c->n);
    check_other_rows(f, k_cache.on[1], k_before, rows, c->n);
    check_other_rows(f, v_cache.on[1], v_before, rows, c->n);
  }
  free(rows), free(k_before), free(v_before);
  cuda_release_all(f);
  return served;
}

static const int64_t row_counts[] = {1, 2, 8, 9, 16, 17, 33, 64, 65, 130};
enum { N_ROW_COUNT = sizeof row_counts / sizeof *row_counts };

static void linear(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int64_t columns[] = {32, 96, 128, 576, 768};
  for (int i = 0; i < N_ROW_COUNT; ++i) {
    linear_case c = {row_counts[i],
                     columns[i % 5],
                     40 + 9 * (i % 3),
                     1 + i % 3,
                     i % 2 == 0,
                     i % 3 == 1,
                     (ss_step_activation)(i % 3),
                     8 * (i % 2),
                     0};
    check_linear(&f, &c);
    linear_case other = {row_counts[i],
                         columns[(i + 2) % 5],
                         33,
                         (i + 2) % 4,
                         i % 2 == 1,
                         i % 2 == 0,
                         (ss_step_activation)((i + 1) % 3),
                         8 * (i % 3),
                         i % 4 == 2 ? 6.0f : 0.0f};
    check_linear(&f, &other);
    if (cuda_small() && !cuda_is_emulated() && i >= 3)
      i += 2;
  }
  // Every norm and activation beside each other.
  for (int norm = NO_NORM; norm <= RMS_NORM; ++norm)
    for (int activation = SS_STEP_PLAIN; activation <= SS_STEP_SWIGLU; ++activation)
      for (int out_f32 = 0; out_f32 < 2; ++out_f32) {
        linear_case c = {5 + 7 * norm, 160, 50, norm, true, out_f32, (ss_step_activation)activation, 0, 0};
        check_linear(&f, &c);
      }
  // Widths that other kernels hold, and those that none holds; one feature; nothing aligned.
  linear_case wide[] = {{3, 1024, 24, LAYER_NORM, true, false, SS_STEP_GELU, 0, 0},
                        {20, 2048, 24, RMS_NORM, true, false, SS_STEP_SWIGLU, 0, 0},
                        {18, 2080, 24, LAYER_NORM, false, true, SS_STEP_PLAIN, 0, 0},
                        {4, 4096, 9, RMS_NORM, true, false, SS_STEP_PLAIN, 0, 0},
                        {3, 4128, 9, RMS_NORM, true, false, SS_STEP_PLAIN, 0, 0},
                        {60, 64, 1, LAYER_NORM, true, false, SS_STEP_GELU, 0, 0},
                        {3, 40, 12, LAYER_NORM, true, false, SS_STEP_GELU, 0, 0},
                        {4, 64, 11, RMS_NORM, true, false, SS_STEP_SWIGLU, 3, 0}};
  for (size_t i = 0; i < sizeof wide / sizeof *wide; ++i)
    check_linear(&f, &wide[i]);
  cuda_close(&f);
}

// Enough features that blocks take several tiles: more than they have under way, and tiles that are not full.
static void classifier(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int64_t rows[] = {1, 16, 20, 33, 64};
  for (int i = 0; i < 5; ++i) {
    linear_case c =
        {rows[i], i % 2 ? 64 : 96, 8219, i == 2 ? RMS_NORM : LAYER_NORM, i == 2, true, SS_STEP_PLAIN, 0, 0};
    check_linear(&f, &c);
    if (cuda_small() && i == 3)
      break;
  }
  cuda_close(&f);
}

static void residual(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int64_t columns[] = {32, 96, 128, 576, 768, 1024, 3072, 2080};
  for (int i = 0; i < N_ROW_COUNT; ++i)
    for (int k = i % 2; k < 8; k += 2 + cuda_small()) {
      linear_case c = {row_counts[i], columns[k],    30 + (i + k) % 5 * 7, NO_NORM, (i + k) % 3 != 0,
                       false,         SS_STEP_PLAIN, 8 * (i % 2),          0};
      check_residual(&f, &c);
    }
  linear_case odd = {3, 40, 12, NO_NORM, true, false, SS_STEP_PLAIN, 0, 0};
  check_residual(&f, &odd);
  cuda_close(&f);
}

static void qkv(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int32_t heads[][3] = {{2, 2, 64}, {3, 1, 32}, {4, 2, 16}, {1, 1, 128}, {2, 1, 24}, {3, 3, 8}};
  static const int64_t columns[] = {96, 128, 192, 32};
  for (int i = 0; i < N_ROW_COUNT; ++i)
    for (int k = 0; k < 2; ++k) {
      const int32_t *h = heads[(2 * i + k) % 6];
      qkv_case c = {row_counts[i],    columns[i % 4],      h[0],       h[1], h[2], (i + k) % 4,
                    (i + k) % 2 == 0, k ? 10000.0f : 0.0f, 8 * (i % 2)};
      check_qkv(&f, &c);
    }
  // Wider heads than the fused kernel rotates; columns that are no multiple of 32; a width that is odd.
  qkv_case odd[] = {{3, 64, 1, 1, 256, LAYER_NORM, true, 10000, 0},
                    {5, 72, 2, 1, 32, RMS_NORM, false, 500, 0},
                    {4, 64, 3, 1, 7, LAYER_NORM, true, 0, 0},
                    {70, 64, 3, 1, 10, RMS_NORM, true, 10000, 0}};
  for (size_t i = 0; i < sizeof odd / sizeof *odd; ++i)
    check_qkv(&f, &odd[i]);
  cuda_close(&f);
}

// Every way to cut every product that a kernel serves.
static void every_cut(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_device *cuda = cuda_of(f.device[ON_CUDA]);
  static const int32_t rows[] = {1, 2, 4}, tiles[] = {1, 2, 4, 6}, pieces[] = {3, 8, 12, 16};
  int served = 0, rotated = 0, shared = 0;
  for (int r = 0; r < 3; ++r)
    for (int t = 0; t < 4; ++t)
      for (int p = 0; p < 4; ++p) {
        step_shape shape = {rows[r], tiles[t], pieces[p], 1, 0};
        cuda->step_forced = &shape;
        int64_t n = 16 * rows[r] + 1 + 6 * t;  // a second group of rows
        // The last piece of the widest slice that fits, less one.
        int64_t I = 32 * (8 * pieces[p] - (cuda_small() ? 4 * pieces[p] - 3 : 1));
        linear_case c = {n, I, 61, LAYER_NORM, true, false, SS_STEP_GELU, 0, 0};
        if (!check_linear(&f, &c))
          continue;
        ++served;
        c.activation = SS_STEP_SWIGLU;
        check_linear(&f, &c);
        shape.blocks = 2;
        c = (linear_case){n, 96, 301, RMS_NORM, true, true, SS_STEP_PLAIN, 0, 0};
        if (!check_linear(&f, &c) && tiles[t] != 6)  // whose stages do not fit
          fail_msg("blocks with several tiles: refused (%s)", f.context);
        shape.blocks = 0;
        qkv_case q = {n, 96, 2, 1, 64, RMS_NORM, true, 10000, 0};
        rotated += check_qkv(&f, &q);
        q.theta = 0;
        check_qkv(&f, &q);
        for (shape.splits = 1; shape.splits <= 3; ++shape.splits) {
          c = (linear_case){n, shape.splits * 64 + 32, 53, NO_NORM, true, false, SS_STEP_PLAIN, 0, 0};
          shared += check_residual(&f, &c);
        }
      }
  if (served < 10 || rotated < 9 || shared < 30)
    fail_msg("%d cuts serve step_linear, %d rotate, %d add", served, rotated, shared);
  step_shape compose = {0, 0, 0, 0, 0};
  cuda->step_forced = &compose;
  linear_case c = {5, 96, 40, LAYER_NORM, true, false, SS_STEP_SWIGLU, 8, 0};
  assert_true(check_linear(&f, &c) && check_residual(&f, &c));
  qkv_case q = {5, 96, 2, 1, 64, RMS_NORM, true, 10000, 0};
  assert_true(check_qkv(&f, &q));
  cuda->step_forced = NULL;
  cuda_close(&f);
}

// Every way to cut every product into tiles.
static void every_tile(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_device *cuda = cuda_of(f.device[ON_CUDA]);
  step_tile_shape shape;
  int rotated = 0;
  for (int i = 0; step_tile_shape_of(i, &shape); ++i) {
    cuda->step_tile_forced = &shape;
    int64_t n = 16 * shape.rows16 + 1 + 2 * i;  // a second group of rows
    // Fewer pieces than warps, one each, more than are read ahead, and a last round that is not full.
    static const int64_t columns[] = {32, 96, 256, 768, 3072};
    for (int k = 0; k < 5; ++k) {
      linear_case c = {n,
                       columns[k],
                       3 + 8 * shape.tiles8 + 7 * k,
                       1 + (i + k) % 3,
                       k % 2 == 0,
                       k % 2 == 1,
                       SS_STEP_GELU,
                       8 * (k % 2),
                       0};
      if (cuda_small() && k == 4 && i % 4 != 0)
        break;
      if (c.I > 1024)
        c.n = 9 + i;
      bool is_served = check_linear(&f, &c);
      c.activation = (i + k) % 2 ? SS_STEP_SWIGLU : SS_STEP_PLAIN;
      is_served = is_served && check_linear(&f, &c);
      c.norm = NO_NORM;
      is_served = is_served && check_residual(&f, &c);
      if (!is_served && c.I * shape.tiles8 < 8192)
        fail_msg("refused (%s)", f.context);
      qkv_case q = {c.n, c.I, 2, 1, 64, (i + k) % 4, k % 2 == 1, 10000, 8 * (k % 2)};
      if (k < 3) {
        rotated += check_qkv(&f, &q);
        q.theta = 0;
        assert_true(check_qkv(&f, &q));
      }
    }
  }
  if (rotated < 30)
    fail_msg("%d calls rotated", rotated);
  cuda->step_tile_forced = NULL;
  // The norm alone: every width it holds and one that is too wide; more rows than are spread over blocks.
  step_shape compose = {0, 0, 0, 0, 0};
  cuda->step_forced = &compose;
  static const int64_t widths[] = {8, 256, 264, 520, 776, 1024, 1032, 2056, 4096, 4104};
  for (int i = 0; i < 10; ++i) {
    linear_case c = {5, widths[i], 12, 1 + i % 3, true, true, SS_STEP_PLAIN, 8 * (i % 2), i % 4 == 1 ? 6 : 0};
    check_linear(&f, &c);
  }
  linear_case many = {519, 40, 10, LAYER_NORM, true, false, SS_STEP_PLAIN, 0, 0};
  check_linear(&f, &many);
  cuda->step_forced = NULL;
  cuda_close(&f);
}

static void computed_in_f32(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_FP32, true);
  static const int64_t rows[] = {1, 9, 65};
  for (int i = 0; i < 3; ++i) {
    linear_case c = {rows[i], 96, 40, 1 + i, i != 1, true, (ss_step_activation)i, 4 * i, 0};
    check_linear(&f, &c);
    check_residual(&f, &c);
    qkv_case q = {rows[i], 64, 4, 2, 16, 1 + i, i != 1, i == 0 ? 0.0f : 10000.0f, 4 * (i % 2)};
    check_qkv(&f, &q);
  }
  cuda_close(&f);
}

// A row's result has the same bits whatever stands in the others: NaN, too.
static void rows_are_independent(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int64_t rows[] = {5, 9, 30, 64, 100};
  for (int i = 0; i < 5; ++i) {
    int64_t n = rows[i], I = 96, O = 48;
    cuda_context(&f, "%lld rows", (long long)n);
    cuda_pair x = random_rows(&f, "x", n, I, 0, 0), weight = cuda_random(&f, "weight", O, I, f.compute, 0.1);
    cuda_pair norm_weight = random_norm(&f, "norm weight", LAYER_NORM, I, false);
    cuda_pair norm_bias = random_norm(&f, "norm bias", LAYER_NORM, I, true);
    cuda_pair out = cuda_output(&f, "out", n, O, f.compute),
              other = cuda_output(&f, "other", n, O, f.compute);
    cuda_pair sum = cuda_zeros(&f, "sum", n, O, f.compute),
              other_sum = cuda_zeros(&f, "sum", n, O, f.compute);
    ss_norm norm = norm_on(1, LAYER_NORM, norm_weight, norm_bias);
    CUDA_RUN(&f, ON_CUDA, step_linear, out.on[1], x.on[1], norm, weight.on[1], cuda_none().on[1],
             SS_STEP_GELU);
    CUDA_RUN(&f, ON_CUDA, step_residual, sum.on[1], x.on[1], weight.on[1], cuda_none().on[1]);
    float *values = cuda_download_floats(&f, ON_CUDA, x.on[1]);
    for (int64_t at = 0; at < n * I; ++at)
      if (at / I % 3 != 1)
        values[at] = at / I % 3 == 0 ? NAN : -3 * values[at];
    cuda_upload_floats(&f, ON_CUDA, x.on[1], values);
    free(values);
    CUDA_RUN(&f, ON_CUDA, step_linear, other.on[1], x.on[1], norm, weight.on[1], cuda_none().on[1],
             SS_STEP_GELU);
    CUDA_RUN(&f, ON_CUDA, step_residual, other_sum.on[1], x.on[1], weight.on[1], cuda_none().on[1]);
    for (int64_t row = 1; row < n; row += 3) {
      cuda_check_same(&f, "out", ss_rows(out.on[1], row, 1), ss_rows(other.on[1], row, 1));
      cuda_check_same(&f, "sum", ss_rows(sum.on[1], row, 1), ss_rows(other_sum.on[1], row, 1));
    }
    cuda_release_all(&f);
  }
  cuda_close(&f);
}

// Recorded after they ran once, whichever path serves; a graph gives the bits of the ops.
static void recorded(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *gpu = f.device[ON_CUDA];
  static const int64_t rows[] = {3, 64, 70};
  for (int i = 0; i < 3; ++i) {
    int64_t n = rows[i], C = 64, F = 1024;
    cuda_context(&f, "recorded, %lld rows", (long long)n);
    cuda_pair x = random_rows(&f, "x", n, C, 0, 0), up = cuda_random(&f, "up", F, C, f.compute, 0.1);
    cuda_pair down = cuda_random(&f, "down", C, F, f.compute, 0.03);
    cuda_pair weight = random_norm(&f, "norm", RMS_NORM, C, false);
    cuda_pair inner = cuda_output(&f, "inner", n, F, f.compute),
              start = cuda_output(&f, "x", n, C, f.compute);
    float *values = cuda_download_floats(&f, ON_CUDA, x.on[1]);
    ss_norm norm = norm_on(1, RMS_NORM, weight, cuda_none());
    ss_graph *graph = NULL;
    for (int run = 0; run < 3; ++run) {  // alone, recorded, and the same again alone
      cuda_upload_floats(&f, ON_CUDA, x.on[1], values);
      if (run == 1)
        assert_int_equal(gpu->ops->graph_begin(gpu), SS_OK);
      for (int layer = 0; layer < 2; ++layer) {
        CUDA_RUN(&f, ON_CUDA, step_linear, inner.on[1], x.on[1], norm, up.on[1], cuda_none().on[1],
                 SS_STEP_GELU);
        CUDA_RUN(&f, ON_CUDA, step_residual, x.on[1], inner.on[1], down.on[1], cuda_none().on[1]);
      }
      if (run == 1) {
        if (gpu->ops->graph_end(gpu, &graph) != SS_OK || gpu->ops->graph_launch(gpu, graph) != SS_OK)
          fail_msg("%s", gpu->error.message);
      }
      if (run == 0) {
        float *out = cuda_download_floats(&f, ON_CUDA, x.on[1]);
        cuda_upload_floats(&f, ON_CUDA, start.on[1], out);
        free(out);
      }
      cuda_check_same(&f, "x", start.on[1], x.on[1]);
    }
    gpu->ops->graph_free(gpu, graph);
    free(values);
    cuda_release_all(&f);
  }
  cuda_close(&f);
}

static void refused_calls(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_tensor none = {0};
  ss_norm no_norm = {0};
  cuda_context(&f, "shapes that do not fit");
  ss_tensor x = cuda_random(&f, "x", 4, 64, SS_BF16, 1).on[1],
            weight = cuda_random(&f, "w", 48, 64, SS_BF16, 1).on[1];
  ss_tensor out = cuda_output(&f, "out", 4, 48, SS_BF16).on[1];
  ss_tensor cache = cuda_output(&f, "cache", 9, 16, SS_BF16).on[1];
  ss_tensor slots = cuda_random_integers(&f, "slots", 4, 0, 8).on[1];
  CUDA_REFUSED(&f, step_linear, out, x, no_norm, weight, none, SS_STEP_SWIGLU);
  CUDA_REFUSED(&f, step_linear, ss_rows(out, 0, 3), x, no_norm, weight, none, SS_STEP_PLAIN);
  CUDA_REFUSED(&f, step_linear, out, x, no_norm, weight, x, SS_STEP_PLAIN);
  CUDA_REFUSED(&f, step_linear, out, x, ((ss_norm){SS_NORM_RMS, x, none, 1e-5f}), weight, none,
               SS_STEP_PLAIN);
  CUDA_REFUSED(&f, step_residual, x, out, weight, none);
  CUDA_REFUSED(&f, step_qkv, ss_columns(out, 0, 16), cache, ss_columns(cache, 0, 8), x, no_norm, weight, none,
               slots, slots, 16, 0.0f);
  CUDA_REFUSED(&f, step_qkv, ss_columns(out, 0, 16), cache, cache, x, no_norm, weight, none, slots, slots, 12,
               0.0f);
  CUDA_REFUSED(&f, step_qkv, ss_columns(out, 0, 16), cache, cache, x, no_norm, weight, none, slots,
               ss_integers(slots.data, 3), 16, 0.0f);
  // No rows: nothing to do.
  CUDA_RUN(&f, ON_CUDA, step_linear, ss_rows(out, 0, 0), ss_rows(x, 0, 0), no_norm, weight, none,
           SS_STEP_PLAIN);
  cuda_release_all(&f);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear),          cmocka_unit_test(classifier),
      cmocka_unit_test(residual),        cmocka_unit_test(qkv),
      cmocka_unit_test(every_cut),       cmocka_unit_test(every_tile),
      cmocka_unit_test(computed_in_f32), cmocka_unit_test(rows_are_independent),
      cmocka_unit_test(recorded),        cmocka_unit_test(refused_calls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
