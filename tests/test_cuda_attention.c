// CUDA attention against a plain fp64 solution: every kernel (by tiles, without tensor cores), forward and backward.
//
// A bf16 result may err twice as much as a computation that rounds where tensor cores must (weights, score gradients,
// results) and is exact elsewhere.
#include "tests/attention_reference.h"
#include "tests/cuda_fixture.h"

#include "kernels/cuda/cuda.h"

typedef struct {
  float *out, *log_sum_exp, *dq, *dk, *dv;  // of the CUDA device
} attention_result;

// How one problem is run.
typedef struct {
  ss_attention_kernel kernel;
  ss_dtype dtype;
  bool backward;
  bool fused;  // q, k, v (and their gradients) are columns of one matrix, as the model has them
} attention_run;

static const char *const kernel_names[] = {"auto", "tiles", "plain", "cudnn"};

static int64_t q_cols(const attention_problem *p) {
  return (int64_t)p->shape.n_head * p->shape.head_dim;
}
static int64_t k_cols(const attention_problem *p) {
  return (int64_t)p->shape.n_kv_head * p->shape.head_dim;
}

static void free_result(attention_result *r) {
  free(r->out), free(r->log_sum_exp), free(r->dq), free(r->dk), free(r->dv);
}

// --- problems ---
// Rounds what the kernels are given and solves again.
static void solve_rounded(attention_problem *p) {
  float *tensors[] = {p->q, p->k, p->v, p->dout};
  int64_t counts[] = {p->n_query * q_cols(p), p->n_key * k_cols(p), p->n_key * k_cols(p),
                      p->n_query * q_cols(p)};
  for (int t = 0; t < 4; ++t)
    for (int64_t i = 0; i < counts[t]; ++i)
      tensors[t][i] = cuda_round_bf16(tensors[t][i]);
  free(p->out), free(p->log_sum_exp), free(p->dq), free(p->dk), free(p->dv), free(p->read);
  solve(p);
}

static attention_problem packed_problem(cuda_fixture *f, ss_attention_shape shape, int n_example, int length,
                                        int longest) {
  attention_problem p = random_training(&f->random, shape, n_example, length, longest);
  solve_rounded(&p);
  return p;
}

// From views and ranges that the caller fills in: space for `n_view` and `n_range`.
static attention_problem empty_problem(ss_attention_shape shape, int64_t n_query, int64_t n_key, int n_view,
                                       int n_range) {
  attention_problem p = {.shape = shape, .n_query = n_query, .n_key = n_key};
  p.views = calloc((size_t)n_view + 1, sizeof *p.views);
  p.ranges = calloc((size_t)n_range + 1, sizeof *p.ranges);
  assert_non_null(p.views);
  assert_non_null(p.ranges);
  return p;
}

static void finish_problem(cuda_fixture *f, attention_problem *p) {
  fill_problem(p, &f->random);
  solve_rounded(p);
}

static attention_problem causal_problem(cuda_fixture *f, ss_attention_shape shape, int n_row, int length) {
  attention_problem p = empty_problem(shape, (int64_t)n_row * length, (int64_t)n_row * length, n_row, 0);
  for (int32_t i = 0; i < n_row; ++i)
    p.views[p.n_view++] = (ss_attention_view){i * length, length, i * length, i * length, 0, 0};
  finish_problem(f, &p);
  return p;
}

// --- running ---
// [rows, a | b | c] from three matrices, on the CUDA device.
static cuda_pair join(cuda_fixture *f, const char *name, const float *const parts[3], const int64_t cols[3],
                      int64_t rows, ss_dtype dtype) {
  int64_t all = cols[0] + cols[1] + cols[2], first = 0;
  float *values = calloc((size_t)(rows * all) + 1, sizeof *values);
  for (int part = 0; part < 3; first += cols[part++])
    for (int64_t row = 0; row < rows; ++row)
      memcpy(values + row * all + first, parts[part] + row * cols[part], (size_t)cols[part] * sizeof *values);
  cuda_pair pair = cuda_floats(f, name, values, rows, all, dtype);
  free(values);
  return pair;
}

static attention_result run_plan(cuda_fixture *f, ss_attention_plan **plan, const attention_problem *p,
                                 attention_run run) {
  int64_t nq = p->n_query, nk = p->n_key, cols[3] = {q_cols(p), k_cols(p), k_cols(p)};
  cuda_of(f->device[ON_CUDA])->attention = run.kernel;
  cuda_context(f, "%s, %s, %d heads of %d over %d, %lld views, %lld rows", kernel_names[run.kernel],
               run.dtype == SS_BF16 ? "bf16" : "f32", p->shape.n_head, p->shape.head_dim, p->shape.n_kv_head,
               (long long)p->n_view, (long long)nq);
  cuda_pair q, k, v, dq, dk, dv;
  if (run.fused) {
    cuda_pair qkv = join(f, "qkv", (const float *const[]){p->q, p->k, p->v}, cols, nq, run.dtype);
    cuda_pair dqkv = cuda_output(f, "dqkv", nq, cols[0] + 2 * cols[1], run.dtype);
    q = cuda_columns(qkv, 0, cols[0]), dq = cuda_columns(dqkv, 0, cols[0]);
    k = cuda_columns(qkv, cols[0], cols[1]), dk = cuda_columns(dqkv, cols[0], cols[1]);
    v = cuda_columns(qkv, cols[0] + cols[1], cols[1]), dv = cuda_columns(dqkv, cols[0] + cols[1], cols[1]);
  } else {
    q = cuda_floats(f, "q", p->q, nq, cols[0], run.dtype), dq = cuda_output(f, "dq", nq, cols[0], run.dtype);
    k = cuda_floats(f, "k", p->k, nk, cols[1], run.dtype), dk = cuda_output(f, "dk", nk, cols[1], run.dtype);
    v = cuda_floats(f, "v", p->v, nk, cols[1], run.dtype), dv = cuda_output(f, "dv", nk, cols[1], run.dtype);
  }
  cuda_pair dout = cuda_floats(f, "dout", p->dout, nq, cols[0], run.dtype);
  cuda_pair out = cuda_output(f, "out", nq, cols[0], run.dtype);
  cuda_pair log_sum_exp = cuda_output(f, "log_sum_exp", nq, p->shape.n_head, SS_F32);
  const int d = ON_CUDA;
  CUDA_RUN(f, d, attention_plan, plan, p->views, p->n_view, p->ranges, p->n_range, nk, run.backward);
  CUDA_RUN(f, d, attention_forward, *plan, p->shape, out.on[d], log_sum_exp.on[d], q.on[d], k.on[d], v.on[d]);
  attention_result r = {.out = cuda_download_floats(f, d, out.on[d]),
                        .log_sum_exp = cuda_download_floats(f, d, log_sum_exp.on[d])};
  if (run.backward) {
    CUDA_RUN(f, d, attention_backward, *plan, p->shape, dq.on[d], dk.on[d], dv.on[d], dout.on[d], out.on[d],
             log_sum_exp.on[d], q.on[d], k.on[d], v.on[d]);
    r.dq = cuda_download_floats(f, d, dq.on[d]);
    r.dk = cuda_download_floats(f, d, dk.on[d]);
    r.dv = cuda_download_floats(f, d, dv.on[d]);
  }
  cuda_release_all(f);
  return r;
}

static attention_result run_problem(cuda_fixture *f, const attention_problem *p, attention_run run) {
  ss_attention_plan *plan = NULL;
  attention_result r = run_plan(f, &plan, p, run);
  f->device[ON_CUDA]->ops->attention_plan_free(f->device[ON_CUDA], plan);
  return r;
}

// --- judging ---
// The same computation with weights, score gradients and results rounded to bf16, sums exact.
static void round_query(const attention_problem *p, int64_t row, int32_t head, const int32_t *keys,
                        int64_t n_key, double *out_error, double *dq_error, double *dk, double *dv) {
  int64_t dim = p->shape.head_dim, first = head / (p->shape.n_head / p->shape.n_kv_head) * dim;
  const float *q = p->q + row * q_cols(p) + head * dim, *dout = p->dout + row * q_cols(p) + head * dim;
  double log_sum_exp = p->log_sum_exp[row * p->shape.n_head + head], delta = 0;
  double *out = zero_doubles(dim), *dq = zero_doubles(dim), *weights = zero_doubles(n_key),
         highest = -INFINITY;
  for (int64_t i = 0; i < n_key; ++i) {
    for (int64_t d = 0; d < dim; ++d)
      weights[i] += (double)q[d] * (double)p->k[keys[i] * k_cols(p) + first + d];
    weights[i] *= (double)p->shape.scale;
    highest = fmax(highest, weights[i]);
  }
  for (int64_t i = 0; i < n_key; ++i)
    for (int64_t d = 0; d < dim; ++d)
      out[d] += (double)cuda_round_bf16((float)exp(weights[i] - highest)) * exp(highest - log_sum_exp) *
                (double)p->v[keys[i] * k_cols(p) + first + d];
  for (int64_t d = 0; d < dim; ++d) {
    double rounded = (double)cuda_round_bf16((float)out[d]);
    delta += rounded * (double)dout[d];
    *out_error += pow(rounded - p->out[row * q_cols(p) + head * dim + d], 2);
  }
  for (int64_t i = 0; i < n_key; ++i) {
    const float *k = p->k + keys[i] * k_cols(p) + first, *v = p->v + keys[i] * k_cols(p) + first;
    double weight = exp(weights[i] - log_sum_exp), dweight = 0;
    for (int64_t d = 0; d < dim; ++d)
      dweight += (double)dout[d] * (double)v[d];
    double dscore = (double)cuda_round_bf16((float)(weight * (dweight - delta))) * (double)p->shape.scale;
    weight = (double)cuda_round_bf16((float)weight);
    for (int64_t d = 0; d < dim; ++d) {
      dq[d] += dscore * (double)k[d];
      dk[keys[i] * k_cols(p) + first + d] += dscore * (double)q[d];
      dv[keys[i] * k_cols(p) + first + d] += weight * (double)dout[d];
    }
  }
  for (int64_t d = 0; d < dim; ++d)
    *dq_error += pow((double)cuda_round_bf16((float)dq[d]) - p->dq[row * q_cols(p) + head * dim + d], 2);
  free(out), free(dq), free(weights);
}

typedef struct {
  double out, dq, dk, dv;  // NMSE
} attention_bounds;

static double sum_of_squares(const double *values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum += values[i] * values[i];
  return sum;
}

static attention_bounds bf16_bounds(const attention_problem *p) {
  int64_t k_count = p->n_key * k_cols(p), q_count = p->n_query * q_cols(p);
  double *dk = zero_doubles(k_count), *dv = zero_doubles(k_count);
  attention_bounds errors = {0, 0, 0, 0};
  int32_t *keys = malloc((size_t)p->n_key * sizeof *keys + 1);
  for (int64_t i = 0; i < p->n_view; ++i)
    for (int32_t query = 0; query < p->views[i].n_query; ++query) {
      int64_t n_key = 0;
      for (int32_t key = 0; key < p->n_key; ++key)
        if (reads(p, &p->views[i], query, key))
          keys[n_key++] = key;
      for (int32_t head = 0; head < p->shape.n_head && n_key > 0; ++head)
        round_query(p, p->views[i].q_first + query, head, keys, n_key, &errors.out, &errors.dq, dk, dv);
    }
  for (int64_t i = 0; i < k_count; ++i) {
    errors.dk += pow((double)cuda_round_bf16((float)dk[i]) - p->dk[i], 2);
    errors.dv += pow((double)cuda_round_bf16((float)dv[i]) - p->dv[i], 2);
  }
  free(keys), free(dk), free(dv);
  return (attention_bounds){2 * errors.out / sum_of_squares(p->out, q_count),
                            2 * errors.dq / sum_of_squares(p->dq, q_count),
                            2 * errors.dk / sum_of_squares(p->dk, k_count),
                            2 * errors.dv / sum_of_squares(p->dv, k_count)};
}

static attention_bounds bounds_of(const attention_problem *p, ss_dtype dtype) {
  return dtype == SS_BF16 ? bf16_bounds(p) : (attention_bounds){1e-11, 1e-11, 1e-11, 1e-11};
}

static void judge(const cuda_fixture *f, const char *what, const float *got, const double *want,
                  int64_t count, double bound) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < count; ++i) {
    difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
    size += want[i] * want[i];
  }
  if (size == 0 && difference == 0)
    return;
  if (!(difference / size <= bound))
    fail_msg("%s: NMSE %.3g, expected <= %.3g (%s, seed %llu)", what, difference / size, bound, f->context,
             (unsigned long long)f->seed);
}

static void judge_log_sum_exp(const cuda_fixture *f, const float *got, const double *want, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (want[i] == -INFINITY ? got[i] != -INFINITY
                             : !(fabs((double)got[i] - want[i]) <= 1e-4 * (1 + fabs(want[i]))))
      fail_msg("log_sum_exp %lld is %.9g, expected %.9g (%s, seed %llu)", (long long)i, (double)got[i],
               want[i], f->context, (unsigned long long)f->seed);
}

static void judge_result(cuda_fixture *f, const attention_problem *p, const attention_result *r,
                         attention_run run) {
  attention_bounds bounds = bounds_of(p, run.dtype);
  judge(f, "out", r->out, p->out, p->n_query * q_cols(p), bounds.out);
  judge_log_sum_exp(f, r->log_sum_exp, p->log_sum_exp, p->n_query * p->shape.n_head);
  if (!run.backward)
    return;
  judge(f, "dq", r->dq, p->dq, p->n_query * q_cols(p), bounds.dq);
  judge(f, "dk", r->dk, p->dk, p->n_key * k_cols(p), bounds.dk);
  judge(f, "dv", r->dv, p->dv, p->n_key * k_cols(p), bounds.dv);
}

static void want_same(const cuda_fixture *f, const char *what, const float *a, const float *b,
                      int64_t count) {
  if (count > 0 && memcmp(a, b, (size_t)count * sizeof *a) != 0)
    fail_msg("%s: differs in its bits (%s, seed %llu)", what, f->context, (unsigned long long)f->seed);
}

static void want_same_result(cuda_fixture *f, const attention_problem *p, const attention_result *a,
                             const attention_result *b, bool backward) {
  want_same(f, "out", a->out, b->out, p->n_query * q_cols(p));
  want_same(f, "log_sum_exp", a->log_sum_exp, b->log_sum_exp, p->n_query * p->shape.n_head);
  if (!backward)
    return;
  want_same(f, "dq", a->dq, b->dq, p->n_query * q_cols(p));
  want_same(f, "dk", a->dk, b->dk, p->n_key * k_cols(p));
  want_same(f, "dv", a->dv, b->dv, p->n_key * k_cols(p));
}

static void check_problem(cuda_fixture *f, const attention_problem *p, attention_run run) {
  attention_result r = run_problem(f, p, run);
  judge_result(f, p, &r, run);
  free_result(&r);
}

// --- what serves what ---
static const ss_attention_shape tiled_shapes[] = {{2, 2, 16, 0.25f},
                                                  {4, 2, 32, 0.17f},
                                                  {2, 1, 64, 0.125f},
                                                  {2, 2, 128, 0.09f},
                                                  {6, 2, 64, 0.125f}};
static const ss_attention_shape odd_shapes[] = {{2, 1, 5, 0.4f},
                                                {3, 3, 24, 0.2f},
                                                {2, 1, 96, 0.1f},
                                                {1, 1, 200, 0.07f},
                                                {1, 1, 33, 0.2f}};
#define N_SHAPE 5

// The plain kernel is slow on the emulator, which switches fibers at every shuffle.
static int size_for(attention_run run, int tiled, int plain) {
  return run.kernel == SS_ATTENTION_TILED || !cuda_is_emulated() ? tiled : plain;
}

static void test_packed(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  for (int s = 0; s < N_SHAPE; ++s)
    for (int longest = 3; longest <= size_for(run, 120, 30); longest = longest * 5 + 1) {
      attention_problem p = packed_problem(f, shapes[s], 3, size_for(run, 90, 30), longest);
      run.fused = longest > 3;
      check_problem(f, &p, run);
      free_problem(&p);
    }
}

// Prefix as a range or as causal part: the same visible sets, cut into other views.
static void test_causal(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  for (int s = 0; s < N_SHAPE; ++s) {
    int length = size_for(run, 75, 25);
    attention_problem p = causal_problem(f, shapes[s], 2, length);
    check_problem(f, &p, run);
    free(p.views), free(p.ranges);
    p.views = calloc((size_t)p.n_query, sizeof *p.views);
    p.ranges = calloc((size_t)p.n_query, sizeof *p.ranges);
    p.n_view = 0;
    for (int32_t row = 0; row < p.n_query;) {
      int32_t first = row / length * length, size = 1 + (int32_t)ss_random_below(&f->random, 20);
      size = size < first + length - row ? size : first + length - row;
      p.views[p.n_view++] = (ss_attention_view){row, size, row, row, (int32_t)p.n_range, row > first};
      if (row > first)
        p.ranges[p.n_range++] = (span_range){first, row};
      row += size;
    }
    check_problem(f, &p, run);
    free_problem(&p);
  }
}

// Views of 256 queries and more have tiles of 128 rows.
static void test_long_views(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  run.backward = run.kernel == SS_ATTENTION_TILED || !cuda_is_emulated();
  for (int s = 0; s < (run.backward ? N_SHAPE : 1); ++s) {
    attention_problem p = causal_problem(f, shapes[s], 1, run.backward ? 300 : 256);
    check_problem(f, &p, run);
    free_problem(&p);
  }
}

// Headers that read a little of every segment before them, and bodies that read a few segments whole.
static void test_segments(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  int n_segment = size_for(run, 32, 5);
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = empty_problem(shapes[s], 17 * n_segment, 17 * n_segment, 2 * n_segment,
                                        n_segment * (n_segment + 3));
    for (int32_t segment = 0; segment < n_segment; ++segment) {
      int32_t first = segment * 17;
      ss_attention_view header = {first, 5, first, first, (int32_t)p.n_range, segment};
      for (int32_t k = 0; k < segment; ++k)
        p.ranges[p.n_range++] = (span_range){k * 17 - (k > 0), k * 17 + 5};
      ss_attention_view body = {first + 5, 12, first, first + 5, (int32_t)p.n_range, 0};
      for (int32_t k = segment / 7; k < segment && body.n_range < 3;
           k += 1 + (int32_t)ss_random_below(&f->random, 9)) {
        p.ranges[p.n_range++] = (span_range){k * 17, k * 17 + 17};
        ++body.n_range;
      }
      p.views[p.n_view++] = header;
      p.views[p.n_view++] = body;
    }
    finish_problem(f, &p);
    run.fused = true;
    check_problem(f, &p, run);
    free_problem(&p);
  }
}

// Single queries over slabs of a cache, and a prefill.
static void test_decoding(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  run.backward = false;
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = empty_problem(shapes[s], 4 + 20, 600, 6, 40);
    for (int32_t i = 0; i < 4; ++i) {
      int32_t slab = (3 - i) * 150, self = slab + 100;
      ss_attention_view view = {i, 1, self, self + 7 * i, (int32_t)p.n_range, 0};
      for (int32_t at = slab; i > 0 && at < self - 20; at += 13, ++view.n_range)
        p.ranges[p.n_range++] = (span_range){at, at + 1 + (int32_t)ss_random_below(&f->random, 12)};
      p.views[p.n_view++] = view;
    }
    p.views[p.n_view++] = (ss_attention_view){4, 20, 40, 43, p.views[3].range_first, 2};
    finish_problem(f, &p);
    check_problem(f, &p, run);
    free_problem(&p);
  }
}

// Queries that read nothing: zeros, -infinity, zero gradients; rows in no view: out untouched, gradients zero.
static void test_empty(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = empty_problem(shapes[s], 50, 50, 3, 0);
    p.n_view = 3;
    p.views[0] = (ss_attention_view){0, 20, 10, 0, 0, 0};    // the first ten read nothing
    p.views[1] = (ss_attention_view){20, 25, 49, 20, 0, 0};  // nobody reads anything
    p.views[2] = (ss_attention_view){45, 1, 49, 45, 0, 0};
    finish_problem(f, &p);
    attention_result r = run_problem(f, &p, run);
    attention_bounds bounds = bounds_of(&p, run.dtype);
    judge(f, "out", r.out, p.out, 46 * q_cols(&p), bounds.out);
    judge_log_sum_exp(f, r.log_sum_exp, p.log_sum_exp, 46 * p.shape.n_head);
    judge(f, "dq", r.dq, p.dq, 50 * q_cols(&p), bounds.dq);
    judge(f, "dk", r.dk, p.dk, 50 * k_cols(&p), bounds.dk);
    judge(f, "dv", r.dv, p.dv, 50 * k_cols(&p), bounds.dv);
    for (int64_t i = 0; i < 10 * q_cols(&p); ++i)
      assert_true(r.out[i] == 0.0f && r.dq[i] == 0.0f);
    for (int64_t i = 20 * k_cols(&p); i < 50 * k_cols(&p); ++i)
      assert_true(r.dk[i] == 0.0f && r.dv[i] == 0.0f);
    for (int64_t i = 46 * q_cols(&p); i < 50 * q_cols(&p); ++i)
      assert_true(isnan(r.out[i]) && r.dq[i] == 0.0f);
    free_result(&r);
    free_problem(&p);
  }
}

// Key rows that nobody reads, and query rows in no view, hold NaN: not a bit changes.
static void test_poison(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = packed_problem(f, shapes[s], 2, size_for(run, 60, 50), 13);
    bool *covered = calloc((size_t)p.n_query, 1);
    memset(p.read, 0, (size_t)p.n_key);
    for (int64_t i = 0; i < p.n_view; ++i) {
      if (i % 3 == 0 && p.views[i].n_query > 2)
        p.views[i].n_query -= 2;
      for (int32_t query = 0; query < p.views[i].n_query; ++query) {
        covered[p.views[i].q_first + query] = true;
        for (int32_t key = 0; key < p.n_key; ++key)
          p.read[key] |= reads(&p, &p.views[i], query, key);
      }
    }
    attention_result clean = run_problem(f, &p, run);
    int64_t poisoned = 0;
    for (int64_t key = 0; key < p.n_key; ++key)
      for (int64_t c = 0; c < k_cols(&p) && !p.read[key]; ++c, ++poisoned)
        p.k[key * k_cols(&p) + c] = p.v[key * k_cols(&p) + c] = NAN;
    for (int64_t row = 0; row < p.n_query; ++row)
      for (int64_t c = 0; c < q_cols(&p) && !covered[row]; ++c, ++poisoned)
        p.q[row * q_cols(&p) + c] = p.dout[row * q_cols(&p) + c] = NAN;
    assert_true(poisoned > 0);
    attention_result dirty = run_problem(f, &p, run);
    want_same_result(f, &p, &clean, &dirty, run.backward);
    for (int64_t key = 0; key < p.n_key; ++key)
      for (int64_t c = 0; c < k_cols(&p) && !p.read[key]; ++c)
        assert_true(dirty.dk[key * k_cols(&p) + c] == 0.0f && dirty.dv[key * k_cols(&p) + c] == 0.0f);
    free(covered);
    free_result(&clean);
    free_result(&dirty);
    free_problem(&p);
  }
}

// A plan that is refilled, with smaller and larger problems and without backward in between, gives the same bits.
static void test_refilled(cuda_fixture *f, attention_run run, const ss_attention_shape *shapes) {
  ss_attention_plan *plan = NULL;
  attention_problem small = packed_problem(f, shapes[0], 1, 20, 6);
  attention_problem large = packed_problem(f, shapes[1], 4, 60, 9);
  attention_problem causal = causal_problem(f, shapes[0], 2, 20);
  attention_run forward = run;
  forward.backward = false;
  attention_result first = run_plan(f, &plan, &small, run), second = run_plan(f, &plan, &large, run);
  attention_result third = run_plan(f, &plan, &causal, forward), again = run_plan(f, &plan, &causal, run);
  want_same(f, "out", third.out, again.out, causal.n_query * q_cols(&causal));
  judge_result(f, &causal, &again, run);
  attention_result last = run_plan(f, &plan, &small, run);
  want_same_result(f, &small, &first, &last, run.backward);
  judge_result(f, &small, &last, run);
  f->device[ON_CUDA]->ops->attention_plan_free(f->device[ON_CUDA], plan);
  attention_result *results[] = {&first, &second, &third, &again, &last};
  for (int i = 0; i < 5; ++i)
    free_result(results[i]);
  free_problem(&small), free_problem(&large), free_problem(&causal);
}

typedef void (*attention_test)(cuda_fixture *, attention_run, const ss_attention_shape *);

// Tiles in bf16; the plain kernel in bf16 and f32, on odd widths.
static void on_tiles(attention_test test) {
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  test(&f, (attention_run){SS_ATTENTION_TILED, SS_BF16, true, false}, tiled_shapes);
  cuda_close(&f);
}
static void on_plain(attention_test test) {
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  test(&f, (attention_run){SS_ATTENTION_PLAIN, SS_BF16, true, false}, odd_shapes);
  test(&f, (attention_run){SS_ATTENTION_PLAIN, SS_F32, true, false}, tiled_shapes);
  cuda_close(&f);
}
#define TEST_ON_BOTH(name)                    \
  static void name##_by_tiles(void **state) { \
    (void)state;                              \
    on_tiles(test_##name);                    \
  }                                           \
  static void name##_plain(void **state) {    \
    (void)state;                              \
    on_plain(test_##name);                    \
  }
TEST_ON_BOTH(packed)
TEST_ON_BOTH(causal)
TEST_ON_BOTH(long_views)
TEST_ON_BOTH(segments)
TEST_ON_BOTH(decoding)
TEST_ON_BOTH(empty)
TEST_ON_BOTH(poison)
TEST_ON_BOTH(refilled)

// What fits no kernel, or no plan, is refused; AUTO finds a kernel for everything.
static void choices(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  attention_problem tiled = packed_problem(&f, tiled_shapes[2], 1, 30, 9);
  attention_problem odd = packed_problem(&f, odd_shapes[0], 1, 30, 9);
  check_problem(&f, &tiled, (attention_run){SS_ATTENTION_AUTO, SS_BF16, true, true});
  check_problem(&f, &tiled, (attention_run){SS_ATTENTION_AUTO, SS_F32, true, true});
  check_problem(&f, &odd, (attention_run){SS_ATTENTION_AUTO, SS_BF16, true, false});
  ss_device *device = f.device[ON_CUDA];
  assert_non_null(strstr(device->description, "attention by tiles"));
  assert_non_null(strstr(device->description, "attention without tensor cores"));

  ss_attention_plan *plan = NULL;
  const attention_problem *p = &odd;
  cuda_pair q = cuda_floats(&f, "q", p->q, p->n_query, q_cols(p), SS_BF16), out = q, dq = q;
  cuda_pair k = cuda_floats(&f, "k", p->k, p->n_key, k_cols(p), SS_BF16), v = k, dk = k;
  cuda_pair sums = cuda_output(&f, "log_sum_exp", p->n_query, p->shape.n_head, SS_F32);
  const int d = ON_CUDA;
  ss_attention_view view = {0, 4, 0, 0, 0, 0};
  CUDA_REFUSED(&f, attention_plan, &plan, &view, 1, NULL, 0, 3, true);
  CUDA_REFUSED(&f, attention_forward, plan, p->shape, out.on[d], sums.on[d], q.on[d], k.on[d], v.on[d]);
  CUDA_RUN(&f, d, attention_plan, &plan, p->views, p->n_view, p->ranges, p->n_range, p->n_key, false);
  CUDA_REFUSED(&f, attention_backward, plan, p->shape, dq.on[d], dk.on[d], dk.on[d], q.on[d], out.on[d],
               sums.on[d], q.on[d], k.on[d], v.on[d]);
  CUDA_REFUSED(&f, attention_forward, plan, p->shape, out.on[d], sums.on[d], ss_rows(q.on[d], 0, 1), k.on[d],
               v.on[d]);
  CUDA_REFUSED(&f, attention_forward, plan, p->shape, out.on[d], sums.on[d], q.on[d], ss_rows(k.on[d], 0, 1),
               v.on[d]);
  cuda_of(device)->attention = SS_ATTENTION_TILED;  // head_dim 5
  CUDA_REFUSED(&f, attention_forward, plan, p->shape, out.on[d], sums.on[d], q.on[d], k.on[d], v.on[d]);
  cuda_of(device)->attention = SS_ATTENTION_CUDNN;  // not causal
  CUDA_REFUSED(&f, attention_forward, plan, p->shape, out.on[d], sums.on[d], q.on[d], k.on[d], v.on[d]);
  device->ops->attention_plan_free(device, plan);
  free_problem(&tiled), free_problem(&odd);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(packed_plain),
      cmocka_unit_test(causal_plain),
      cmocka_unit_test(long_views_plain),
      cmocka_unit_test(segments_plain),
      cmocka_unit_test(decoding_plain),
      cmocka_unit_test(empty_plain),
      cmocka_unit_test(poison_plain),
      cmocka_unit_test(refilled_plain),
      cmocka_unit_test(packed_by_tiles),
      cmocka_unit_test(causal_by_tiles),
      cmocka_unit_test(long_views_by_tiles),
      cmocka_unit_test(segments_by_tiles),
      cmocka_unit_test(decoding_by_tiles),
      cmocka_unit_test(empty_by_tiles),
      cmocka_unit_test(poison_by_tiles),
      cmocka_unit_test(refilled_by_tiles),
      cmocka_unit_test(choices),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
