// Embedding, norms, rotary positions, activations, and cache rows on the CUDA device against the CPU:
// odd widths, rows apart, views that 16 bytes do not divide, outputs that start as NaN, the same bits twice.
//
// Bounds. F32: both compute in fp32 in other orders, 1e-12. BF16: the inputs are the same and the arithmetic is fp32, so
// only the output's rounding differs: at most (2^-8)^2 = 1.5e-5, 2.2e-6 on average. F32 outputs of BF16 inputs keep
// the bound of F32.
#include "tests/cuda_fixture.h"

#define EXACT 0.0
#define SAME 1e-12
#define SUMMED 1e-10  // of sums over many rows, which the CPU adds one by one
#define ROUNDED 6e-6
#define ROUNDED_FEW 1.6e-5  // of a few elements

static const ss_precision precisions[2] = {SS_PRECISION_FP32, SS_PRECISION_BF16};

// Of a tensor of `count` elements that is T, when it is `same` in F32.
static double bound_of(const cuda_fixture *f, int64_t count, double same) {
  return f->compute != SS_BF16 ? same : count < 100 ? ROUNDED_FEW : ROUNDED;
}

// A matrix of the compute dtype whose rows lie `gap` elements apart, and that starts `skip` elements into its memory.
static cuda_pair matrix(cuda_fixture *f, const char *name, int64_t n, int64_t C, int64_t gap, int64_t skip) {
  if (skip == 0)
    return cuda_random_strided(f, name, n, C, C + gap, f->compute, 1);
  cuda_pair wide = cuda_random(f, name, n, C + gap + skip, f->compute, 1);
  return cuda_columns(wide, skip, C);
}

static cuda_pair output(cuda_fixture *f, const char *name, int64_t n, int64_t C, int64_t gap, int64_t skip) {
  if (skip == 0)
    return cuda_output_strided(f, name, n, C, C + gap, f->compute);
  return cuda_columns(cuda_output(f, name, n, C + gap + skip, f->compute), skip, C);
}

// The same values once more, on the CUDA device only.
static ss_tensor twin(cuda_fixture *f, ss_tensor t) {
  ss_tensor copy = t;
  copy.data = cuda_bytes(f, ON_CUDA, (size_t)(t.rows * t.stride) * ss_dtype_size(t.dtype));
  float *values = cuda_download_floats(f, ON_CUDA, t);
  cuda_upload_floats(f, ON_CUDA, copy, values);
  free(values);
  return copy;
}

// The CPU goes on from what the CUDA device computed.
static void follow(cuda_fixture *f, cuda_pair pair) {
  float *values = cuda_download_floats(f, ON_CUDA, pair.on[ON_CUDA]);
  cuda_upload_floats(f, ON_CPU, pair.on[ON_CPU], values);
  free(values);
}

// gap and skip of rows: whole; apart by a piece of 16 bytes; apart by an element; begun off a piece.
static const int64_t layouts[][2] = {{0, 0}, {8, 0}, {1, 0}, {7, 1}};
#define LAYOUTS ((int)(sizeof layouts / sizeof *layouts))

// --- embedding ---

static void embedding_forward(void **state) {
  (void)state;
  static const int64_t sizes[][4] = {{1, 1, 1, 1},  // n, V, C, P
                                     {9, 5, 5, 3},         {33, 40, 33, 64},  {40, 300, 96, 64},
                                     {17, 50304, 8, 2000}, {11, 30, 768, 12}, {3, 7, 1000, 5}};
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s)
      for (int l = 0; l < LAYOUTS; ++l) {
        int64_t n = sizes[s][0], V = sizes[s][1], C = sizes[s][2], P = sizes[s][3];
        int64_t gap = layouts[l][0], skip = layouts[l][1];
        cuda_context(&f, "n %d V %d C %d P %d gap %d skip %d", (int)n, (int)V, (int)C, (int)P, (int)gap,
                     (int)skip);
        cuda_pair tokens = cuda_random_integers(&f, "tokens", n, 0, (int32_t)V - 1);
        cuda_pair positions = cuda_random_integers(&f, "positions", n, 0, (int32_t)P - 1);
        cuda_pair wte = cuda_random_strided(&f, "wte", V, C, C + gap, SS_F32, 1);
        cuda_pair wpe = cuda_random_strided(&f, "wpe", P, C, C + gap, SS_F32, 1);
        cuda_pair out = output(&f, "out", n, C, gap, skip), plain = output(&f, "plain", n, C, gap, skip);
        CUDA_BOTH(&f, embedding_forward, out.on[d], tokens.on[d], positions.on[d], wte.on[d], wpe.on[d]);
        CUDA_BOTH(&f, embedding_forward, plain.on[d], tokens.on[d], cuda_none().on[d], wte.on[d],
                  cuda_none().on[d]);
        cuda_check(&f, out, bound_of(&f, n * C, EXACT));
        cuda_check(&f, plain, bound_of(&f, n * C, EXACT));
        // A gather of rows of T.
        cuda_pair rows = matrix(&f, "rows", V < 100 ? V : 100, C, gap, skip);
        cuda_pair index = cuda_random_integers(&f, "index", n, 0, (int32_t)rows.on[0].rows - 1);
        cuda_poison(&f, out);
        CUDA_BOTH(&f, embedding_forward, out.on[d], index.on[d], cuda_none().on[d], rows.on[d],
                  cuda_none().on[d]);
        cuda_check(&f, out, EXACT);
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

static int32_t *ids_of_kind(cuda_fixture *f, int64_t n, int64_t limit, int kind) {
  int32_t *ids = malloc((size_t)n * sizeof *ids + 1);
  assert_non_null(ids);
  for (int64_t i = 0; i < n; ++i) {
    if (kind == 0)  // any
      ids[i] = (int32_t)ss_random_range(&f->random, 0, limit - 1);
    else if (kind == 1)  // one
      ids[i] = (int32_t)(limit - 1);
    else if (kind == 2)  // some far more often than others
      ids[i] = (int32_t)(ss_random_range(&f->random, 0, 3) ? limit / 3
                                                           : ss_random_range(&f->random, 0, limit - 1));
    else  // as positions are
      ids[i] = (int32_t)(i % limit);
  }
  return ids;
}

static void embedding_backward(void **state) {
  (void)state;
  static const int64_t sizes[][4] = {{1, 1, 1, 1},  // n, V, C, P
                                     {63, 5, 5, 70},
                                     {64, 3, 33, 1},
                                     {65, 300, 96, 1024},
                                     {1000, 20, 8, 1025},
                                     {2049, 50304, 8, 300},
                                     {700, 40, 768, 200},
                                     {4200, 152000, 1, 5},
                                     {300, 9, 1000, 300},
                                     {70000, 300, 128, 1024},
                                     {131072, 50304, 32, 2048}};
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s)
      for (int kind = 0; kind < 3; ++kind) {
        int64_t n = sizes[s][0], V = sizes[s][1], C = sizes[s][2], P = sizes[s][3];
        if (cuda_small() && n > 10000)
          continue;
        const int64_t *layout = layouts[(s + (size_t)kind) % LAYOUTS];
        cuda_context(&f, "n %d V %d C %d P %d ids %d gap %d skip %d", (int)n, (int)V, (int)C, (int)P, kind,
                     (int)layout[0], (int)layout[1]);
        int32_t *ids = ids_of_kind(&f, n, V, kind), *places = ids_of_kind(&f, n, P, kind == 0 ? 3 : 0);
        cuda_pair tokens = cuda_integers(&f, "tokens", ids, n);
        cuda_pair positions = cuda_integers(&f, "positions", places, n);
        cuda_pair dout = matrix(&f, "dout", n, C, layout[0], layout[1]);
        cuda_pair dwte = cuda_random_strided(&f, "dwte", V, C, C + layout[0], SS_F32, 1);
        cuda_pair dwpe = cuda_random_strided(&f, "dwpe", P, C, C + layout[0], SS_F32, 1);
        ss_tensor dwte_twin = twin(&f, dwte.on[ON_CUDA]), dwpe_twin = twin(&f, dwpe.on[ON_CUDA]);
        CUDA_BOTH(&f, embedding_backward, dwte.on[d], dwpe.on[d], dout.on[d], tokens.on[d], positions.on[d]);
        cuda_check(&f, dwte, SUMMED);
        cuda_check(&f, dwpe, SUMMED);
        CUDA_RUN(&f, ON_CUDA, embedding_backward, dwte_twin, dwpe_twin, dout.on[ON_CUDA], tokens.on[ON_CUDA],
                 positions.on[ON_CUDA]);
        cuda_check_same(&f, "dwte", dwte.on[ON_CUDA], dwte_twin);
        cuda_check_same(&f, "dwpe", dwpe.on[ON_CUDA], dwpe_twin);
        // Without positions.
        CUDA_BOTH(&f, embedding_backward, dwte.on[d], cuda_none().on[d], dout.on[d], tokens.on[d],
                  cuda_none().on[d]);
        cuda_check(&f, dwte, SUMMED);
        free(ids), free(places);
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

// The host refuses such ids; the device, which cannot say so, must not write anywhere else.
static void embedding_of_unknown_ids(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  enum { n = 70, V = 6, C = 16 };
  int32_t bad[n], good[n];
  for (int i = 0; i < n; ++i) {
    good[i] = i % V;
    bad[i] = i % 7 == 3 ? -1 - i : i % 7 == 5 ? V + i * 100000 : good[i];
  }
  cuda_pair known = cuda_integers(&f, "known", good, n), unknown = cuda_integers(&f, "unknown", bad, n);
  cuda_pair wte = cuda_random(&f, "wte", V, C, SS_F32, 1), out = cuda_output(&f, "out", n, C, f.compute);
  CUDA_BOTH(&f, embedding_forward, out.on[d], (d == ON_CUDA ? unknown : known).on[d], cuda_none().on[d],
            wte.on[d], cuda_none().on[d]);
  float *got = cuda_download_floats(&f, ON_CUDA, out.on[ON_CUDA]);
  for (int i = 0; i < n * C; ++i)
    assert_true(isnan(got[i]) == (bad[i / C] != good[i / C]));
  free(got);
  float rows[n * C];
  for (int i = 0; i < n * C; ++i)
    rows[i] = (float)(i % 11) - 5;
  cuda_pair dout = cuda_floats(&f, "dout", rows, n, C, f.compute);
  for (int i = 0; i < n * C; ++i)
    if (bad[i / C] != good[i / C])
      rows[i] = 0;
  cuda_upload_floats(&f, ON_CPU, dout.on[ON_CPU], rows);
  cuda_pair dwte = cuda_random(&f, "dwte", V, C, SS_F32, 1);
  CUDA_BOTH(&f, embedding_backward, dwte.on[d], cuda_none().on[d], dout.on[d],
            (d == ON_CUDA ? unknown : known).on[d], cuda_none().on[d]);
  cuda_check(&f, dwte, SUMMED);
  cuda_close(&f);
}

// --- norm ---

static const int64_t norm_widths[] = {1, 5, 33, 96, 256, 264, 768, 776, 1000, 1024, 1032, 2048, 4096, 4104};
#define NORM_WIDTHS (sizeof norm_widths / sizeof *norm_widths)

// Against double precision: in narrow rows the CPU's own variance is off by more than our bound.
static void check_statistics(cuda_fixture *f, ss_norm_kind kind, cuda_pair statistics, ss_tensor sum) {
  float *values = cuda_download_floats(f, ON_CUDA, sum),
        *want = malloc((size_t)(2 * sum.rows) * sizeof *want);
  assert_non_null(want);
  for (int64_t i = 0; i < sum.rows; ++i) {
    double mean = 0, square = 0;
    for (int64_t c = 0; c < sum.cols && kind == SS_NORM_LAYER; ++c)
      mean += (double)values[i * sum.cols + c] / (double)sum.cols;
    for (int64_t c = 0; c < sum.cols; ++c)
      square += ((double)values[i * sum.cols + c] - mean) * ((double)values[i * sum.cols + c] - mean);
    want[2 * i] = (float)mean;
    want[2 * i + 1] = (float)(1 / sqrt(square / (double)sum.cols + 1e-5));
  }
  cuda_check_values(f, statistics, want, SAME);
  free(values), free(want);
}

static void norm_forward(void **state) {
  (void)state;
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t w = 0; w < NORM_WIDTHS; ++w)
      for (int variant = 0; variant < 8; ++variant) {
        int64_t C = norm_widths[w], n = C > 1024 ? 3 : 13;
        ss_norm_kind kind = variant & 1 ? SS_NORM_RMS : SS_NORM_LAYER;
        bool with_branch = (variant & 2) != 0, with_bias = kind == SS_NORM_LAYER;
        const int64_t *layout = layouts[variant & 4 ? 1 + (w + (size_t)variant) % 3 : 0];
        cuda_context(&f, "n %d C %d kind %d branch %d gap %d skip %d", (int)n, (int)C, (int)kind, with_branch,
                     (int)layout[0], (int)layout[1]);
        cuda_pair x = matrix(&f, "x", n, C, layout[0], layout[1]);
        cuda_pair branch = with_branch ? matrix(&f, "branch", n, C, layout[0], layout[1]) : cuda_none();
        cuda_pair weight = cuda_random(&f, "weight", 1, C, SS_F32, 1);
        cuda_pair bias = with_bias ? cuda_random(&f, "bias", 1, C, SS_F32, 1) : cuda_none();
        cuda_pair out = output(&f, "out", n, C, layout[0], layout[1]);
        cuda_pair sum = output(&f, "sum", n, C, layout[0], layout[1]);
        cuda_pair statistics = cuda_output(&f, "statistics", n, 2, SS_F32);
        CUDA_RUN(&f, ON_CPU, norm_forward, kind, out.on[0], sum.on[0], statistics.on[0], x.on[0],
                 branch.on[0], weight.on[0], bias.on[0], 1e-5f);
        CUDA_RUN(&f, ON_CUDA, norm_forward, kind, out.on[1], sum.on[1], statistics.on[1], x.on[1],
                 branch.on[1], weight.on[1], bias.on[1], 1e-5f);
        cuda_check(&f, sum, with_branch ? bound_of(&f, n * C, SAME) : EXACT);
        // Statistics and output are those of the sum as it was stored.
        follow(&f, sum);
        CUDA_RUN(&f, ON_CPU, norm_forward, kind, out.on[0], sum.on[0], statistics.on[0], sum.on[0],
                 cuda_none().on[0], weight.on[0], bias.on[0], 1e-5f);
        check_statistics(&f, kind, statistics, sum.on[ON_CUDA]);
        cuda_check(&f, out, bound_of(&f, n * C, SAME));
        // In place it only recomputes the rest.
        cuda_poison(&f, out);
        cuda_poison(&f, statistics);
        ss_tensor before = twin(&f, sum.on[ON_CUDA]);
        CUDA_BOTH(&f, norm_forward, kind, out.on[d], sum.on[d], statistics.on[d], sum.on[d],
                  cuda_none().on[d], weight.on[d], bias.on[d], 1e-5f);
        check_statistics(&f, kind, statistics, sum.on[ON_CUDA]);
        cuda_check(&f, out, bound_of(&f, n * C, SAME));
        cuda_check_same(&f, "sum", before, sum.on[ON_CUDA]);
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

static void norm_backward(void **state) {
  (void)state;
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t w = 0; w < NORM_WIDTHS; ++w)
      for (int variant = 0; variant < 4; ++variant) {
        int64_t C = norm_widths[w], n = C > 256 && variant ? 21 : C > 256 ? 70 : 150;
        // More rows than warps at work, so that they take several.
        if (!cuda_small() && w % 3 == 0)
          n = C > 1024 ? 600 : C > 256 ? 1700 : 4000;
        ss_norm_kind kind = variant & 1 ? SS_NORM_RMS : SS_NORM_LAYER;
        const int64_t *layout = layouts[variant & 2 ? 1 + (w + (size_t)variant) % 3 : 0];
        cuda_context(&f, "n %d C %d kind %d gap %d skip %d", (int)n, (int)C, (int)kind, (int)layout[0],
                     (int)layout[1]);
        cuda_pair sum = matrix(&f, "sum", n, C, layout[0], layout[1]);
        cuda_pair dout = matrix(&f, "dout", n, C, layout[0], layout[1]);
        cuda_pair dsum = matrix(&f, "dsum", n, C, layout[0], layout[1]), out = output(&f, "out", n, C, 0, 0);
        cuda_pair weight = cuda_random(&f, "weight", 1, C, SS_F32, 1);
        cuda_pair dweight = cuda_random(&f, "dweight", 1, C, SS_F32, 1);
        cuda_pair dbias = kind == SS_NORM_LAYER ? cuda_random(&f, "dbias", 1, C, SS_F32, 1) : cuda_none();
        cuda_pair statistics = cuda_output(&f, "statistics", n, 2, SS_F32);
        CUDA_BOTH(&f, norm_forward, kind, out.on[d], sum.on[d], statistics.on[d], sum.on[d],
                  cuda_none().on[d], weight.on[d], cuda_none().on[d], 1e-5f);
        follow(&f, statistics);
        ss_tensor dsum_twin = twin(&f, dsum.on[ON_CUDA]), dweight_twin = twin(&f, dweight.on[ON_CUDA]);
        ss_tensor dbias_twin = dbias.on[ON_CUDA].data ? twin(&f, dbias.on[ON_CUDA]) : dbias.on[ON_CUDA];
        CUDA_BOTH(&f, norm_backward, kind, dsum.on[d], dweight.on[d], dbias.on[d], dout.on[d], sum.on[d],
                  statistics.on[d], weight.on[d]);
        // A layer norm of one column cancels whole: what is left of it is rounding.
        cuda_check(&f, dsum, C == 1 ? 1e-5 : 2 * bound_of(&f, n * C, SAME));
        if (C > 1)
          cuda_check(&f, dweight, SUMMED);
        CUDA_RUN(&f, ON_CUDA, norm_backward, kind, dsum_twin, dweight_twin, dbias_twin, dout.on[1], sum.on[1],
                 statistics.on[1], weight.on[1]);
        cuda_check_same(&f, "dsum", dsum.on[ON_CUDA], dsum_twin);
        cuda_check_same(&f, "dweight", dweight.on[ON_CUDA], dweight_twin);
        if (dbias.on[ON_CUDA].data) {
          cuda_check(&f, dbias, SUMMED);
          cuda_check_same(&f, "dbias", dbias.on[ON_CUDA], dbias_twin);
        }
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

// Weights that begin off a piece of 16 bytes: as columns of the flat parameters may.
static void norm_of_unaligned_weights(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  int64_t n = 6, C = 96;
  cuda_pair x = cuda_random(&f, "x", n, C, f.compute, 1), out = cuda_output(&f, "out", n, C, f.compute);
  cuda_pair flat = cuda_random(&f, "flat", 1, 2 * C + 3, SS_F32, 1),
            dsum = cuda_random(&f, "dsum", n, C, f.compute, 1);
  cuda_pair weight = cuda_columns(flat, 1, C), bias = cuda_columns(flat, C + 2, C);
  cuda_pair gradients = cuda_zeros(&f, "gradients", 1, 2 * C + 3, SS_F32);
  cuda_pair statistics = cuda_output(&f, "statistics", n, 2, SS_F32);
  CUDA_BOTH(&f, norm_forward, SS_NORM_LAYER, out.on[d], x.on[d], statistics.on[d], x.on[d], cuda_none().on[d],
            weight.on[d], bias.on[d], 1e-5f);
  cuda_check(&f, out, ROUNDED);
  CUDA_BOTH(&f, norm_backward, SS_NORM_LAYER, dsum.on[d], cuda_columns(gradients, 1, C).on[d],
            cuda_columns(gradients, C + 2, C).on[d], x.on[d], x.on[d], statistics.on[d], weight.on[d]);
  cuda_check(&f, dsum, ROUNDED);
  cuda_check(&f, gradients, SUMMED);
  cuda_close(&f);
}

// --- rotary ---

static void rotary(void **state) {
  (void)state;
  static const int32_t shapes[][3] = {{1, 1, 2},   {5, 2, 6},   {9, 3, 16},
                                      {13, 4, 64}, {6, 2, 128}, {3, 1, 512}};
  static const int32_t lasts[] = {7, 2048, 100000, (1 << 24) - 1};
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; ++s)
      for (int l = 0; l < LAYOUTS; ++l) {
        int32_t n = shapes[s][0], n_head = shapes[s][1], head_dim = shapes[s][2];
        // The CPU keeps a table of all positions up to the largest: those of wide heads stay small.
        int32_t last = lasts[head_dim > 6 ? l % 3 : l];
        last = head_dim > 64 && last > 2048 ? 2048 : last;
        float theta = l % 2 ? 500000 : 10000;
        cuda_context(&f, "n %d heads %d of %d layout %d last %d theta %g", n, n_head, head_dim, l, last,
                     (double)theta);
        cuda_pair x = matrix(&f, "x", n, n_head * head_dim, layouts[l][0], layouts[l][1]);
        cuda_pair positions = cuda_random_integers(&f, "positions", n, 0, last);
        float *before = cuda_download_floats(&f, ON_CUDA, x.on[ON_CUDA]);
        CUDA_BOTH(&f, rotary, x.on[d], positions.on[d], head_dim, theta, 1);
        cuda_check(&f, x, bound_of(&f, n * n_head * head_dim, SAME));
        // Back again: the gradient's direction is the inverse.
        CUDA_BOTH(&f, rotary, x.on[d], positions.on[d], head_dim, theta, -1);
        cuda_check_values(&f, x, before, 3 * bound_of(&f, n * n_head * head_dim, SAME));
        free(before);
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

// --- activation ---

// In BF16 the hardware's tanh adds an error of up to 2^-12 to the sigmoid: the bound is doubled for it.
static void activation(void **state) {
  (void)state;
  static const int64_t widths[] = {1, 5, 33, 96, 768, 1000, 3072};
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; ++w)
      for (int variant = 0; variant < 2 * LAYOUTS; ++variant) {
        ss_activation_kind kind = variant & 1 ? SS_ACTIVATION_SWIGLU : SS_ACTIVATION_GELU;
        int64_t F = widths[w], n = 7, wide = kind == SS_ACTIVATION_SWIGLU ? 2 * F : F;
        int64_t gap = layouts[variant / 2][0], skip = layouts[variant / 2][1];
        cuda_context(&f, "n %d F %d kind %d gap %d skip %d", (int)n, (int)F, (int)kind, (int)gap, (int)skip);
        cuda_pair in = cuda_columns(cuda_random(&f, "in", n, wide + gap + skip, f.compute, 2), skip, wide);
        cuda_pair dout = matrix(&f, "dout", n, F, gap, skip);
        cuda_pair out = output(&f, "out", n, F, gap, skip), din = output(&f, "din", n, wide, gap, skip);
        CUDA_BOTH(&f, activation_forward, kind, out.on[d], in.on[d]);
        CUDA_BOTH(&f, activation_backward, kind, din.on[d], dout.on[d], in.on[d]);
        cuda_check(&f, out, 2 * bound_of(&f, n * F, SAME));
        cuda_check(&f, din, 2 * bound_of(&f, n * F, SAME));
        cuda_release_all(&f);
      }
    // Far out: no infinities from the exponential, and NaN stays NaN.
    float far[8] = {-1e30f, -100, -20, -1e-30f, 0, 20, 100, 1e10f};
    cuda_pair in = cuda_floats(&f, "in", far, 1, 8, f.compute), out = cuda_output(&f, "out", 1, 8, f.compute);
    cuda_context(&f, "far");
    CUDA_BOTH(&f, activation_forward, SS_ACTIVATION_GELU, out.on[d], in.on[d]);
    cuda_check(&f, out, 2 * bound_of(&f, 8, SAME));
    float nans[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    cuda_upload_floats(&f, ON_CUDA, in.on[ON_CUDA], nans);
    CUDA_RUN(&f, ON_CUDA, activation_forward, SS_ACTIVATION_GELU, out.on[1], in.on[1]);
    float *got = cuda_download_floats(&f, ON_CUDA, out.on[1]);
    for (int i = 0; i < 8; ++i)
      assert_true(isnan(got[i]));
    free(got);
    cuda_close(&f);
  }
}

// --- cache ---

static void cache_append(void **state) {
  (void)state;
  static const int64_t widths[] = {1, 5, 64, 96, 768};
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; ++w)
      for (int l = 0; l < LAYOUTS; ++l) {
        int64_t C = widths[w], n = 9, rows = 40;
        cuda_context(&f, "C %d layout %d", (int)C, l);
        cuda_pair kv = cuda_random(&f, "kv", n, 3 * C + layouts[l][0] + layouts[l][1], f.compute, 1);
        cuda_pair k = cuda_columns(kv, C + layouts[l][1], C), v = cuda_columns(kv, 2 * C + layouts[l][1], C);
        cuda_pair k_cache = matrix(&f, "k_cache", rows, C, layouts[l][0], 0);
        cuda_pair v_cache = matrix(&f, "v_cache", rows, C, layouts[l][0], 0);
        int32_t slots[9];
        for (int i = 0; i < 9; ++i)
          slots[i] = (i * 13 + 5) % 40;
        cuda_pair at = cuda_integers(&f, "slots", slots, n);
        CUDA_BOTH(&f, cache_append, k_cache.on[d], v_cache.on[d], k.on[d], v.on[d], at.on[d]);
        cuda_check(&f, k_cache, EXACT);
        cuda_check(&f, v_cache, EXACT);
        // A slot outside the cache, which the host refuses, writes nothing.
        for (int i = 0; i < 9; ++i)
          slots[i] = i % 2 ? -1 - i : 40 + i;
        cuda_pair outside = cuda_integers(&f, "outside", slots, n);
        CUDA_RUN(&f, ON_CUDA, cache_append, k_cache.on[1], v_cache.on[1], k.on[1], v.on[1], outside.on[1]);
        cuda_check(&f, k_cache, EXACT);
        cuda_check(&f, v_cache, EXACT);
        cuda_release_all(&f);
      }
    cuda_close(&f);
  }
}

// --- arguments ---

static void refusals_and_nothing(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_context(&f, "refusals");
  ss_tensor x = cuda_random(&f, "x", 4, 16, SS_BF16, 1).on[1],
            wide = cuda_random(&f, "wide", 4, 32, SS_BF16, 1).on[1];
  ss_tensor floats = cuda_random(&f, "floats", 4, 16, SS_F32, 1).on[1];
  ss_tensor weight = cuda_random(&f, "weight", 1, 16, SS_F32, 1).on[1];
  ss_tensor statistics = cuda_output(&f, "statistics", 4, 2, SS_F32).on[1];
  ss_tensor ids = cuda_random_integers(&f, "ids", 4, 0, 3).on[1], none = {0};
  CUDA_REFUSED(&f, embedding_forward, x, ids, none, wide, none);
  CUDA_REFUSED(&f, embedding_forward, x, ids, none, floats, floats);  // positions are missing
  CUDA_REFUSED(&f, embedding_forward, floats, ids, none, x, none);    // F32 from BF16
  CUDA_REFUSED(&f, embedding_backward, x, none, x, ids, none);        // gradients are F32
  CUDA_REFUSED(&f, norm_forward, SS_NORM_RMS, x, wide, statistics, x, none, weight, none, 1e-5f);
  CUDA_REFUSED(&f, norm_forward, SS_NORM_RMS, x, x, statistics, floats, none, weight, none, 1e-5f);
  CUDA_REFUSED(&f, norm_backward, SS_NORM_RMS, x, weight, none, x, wide, statistics, weight);
  CUDA_REFUSED(&f, rotary, x, ids, 15, 10000, 1);
  CUDA_REFUSED(&f, rotary, x, ids, 8, 10000, 0);
  CUDA_REFUSED(&f, activation_forward, SS_ACTIVATION_SWIGLU, x, x);
  CUDA_REFUSED(&f, activation_backward, SS_ACTIVATION_GELU, x, x, floats);
  CUDA_REFUSED(&f, cache_append, x, x, x, floats, ids);
  // No rows: nothing to do.
  x.rows = wide.rows = floats.rows = statistics.rows = 0;
  ids.cols = 0;
  CUDA_RUN(&f, ON_CUDA, embedding_forward, x, ids, none, weight, none);
  CUDA_RUN(&f, ON_CUDA, embedding_backward, weight, none, x, ids, none);
  CUDA_RUN(&f, ON_CUDA, norm_forward, SS_NORM_RMS, x, x, statistics, x, none, weight, none, 1e-5f);
  CUDA_RUN(&f, ON_CUDA, norm_backward, SS_NORM_RMS, x, weight, none, x, x, statistics, weight);
  CUDA_RUN(&f, ON_CUDA, rotary, x, ids, 8, 10000, 1);
  CUDA_RUN(&f, ON_CUDA, activation_forward, SS_ACTIVATION_SWIGLU, x, wide);
  CUDA_RUN(&f, ON_CUDA, activation_backward, SS_ACTIVATION_SWIGLU, wide, x, wide);
  CUDA_RUN(&f, ON_CUDA, cache_append, x, x, x, x, ids);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(embedding_forward),
      cmocka_unit_test(embedding_backward),
      cmocka_unit_test(embedding_of_unknown_ids),
      cmocka_unit_test(norm_forward),
      cmocka_unit_test(norm_backward),
      cmocka_unit_test(norm_of_unaligned_weights),
      cmocka_unit_test(rotary),
      cmocka_unit_test(activation),
      cmocka_unit_test(cache_append),
      cmocka_unit_test(refusals_and_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
