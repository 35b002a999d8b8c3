// Random attention problems and their plain fp64 solution.
#ifndef SELFSPAN_TESTS_ATTENTION_REFERENCE_H
#define SELFSPAN_TESTS_ATTENTION_REFERENCE_H

#include "tests/kernel_fixture.h"

typedef struct {
  ss_attention_shape shape;
  int64_t n_query, n_key;  // rows of q; rows of k and v
  int64_t n_view, n_range;
  ss_attention_view *views;
  span_range *ranges;
  float *q, *k, *v, *dout;
  double *out, *log_sum_exp, *dq, *dk, *dv;  // the solution
  bool *read;                                // [n_key]: some query reads the row
} attention_problem;

static inline bool reads(const attention_problem *p, const ss_attention_view *view, int32_t query,
                         int32_t key) {
  if (key >= view->self_first && key <= view->self_last + query)
    return true;
  for (int32_t r = 0; r < view->n_range; ++r)
    if (key >= p->ranges[view->range_first + r].first && key < p->ranges[view->range_first + r].end)
      return true;
  return false;
}

// One query of one head over the listed keys.
static inline void solve_query(attention_problem *p, int64_t row, int32_t head, const int32_t *keys,
                               int64_t n_key) {
  int64_t dim = p->shape.head_dim, group = p->shape.n_head / p->shape.n_kv_head;
  int64_t q_cols = p->shape.n_head * dim, k_cols = p->shape.n_kv_head * dim, first = head / group * dim;
  const float *q = p->q + row * q_cols + head * dim, *dout = p->dout + row * q_cols + head * dim;
  double *out = p->out + row * q_cols + head * dim, *dq = p->dq + row * q_cols + head * dim;
  double *weight = zero_doubles(n_key), maximum = -INFINITY, sum = 0, delta = 0;
  for (int64_t i = 0; i < n_key; ++i) {
    for (int64_t d = 0; d < dim; ++d)
      weight[i] += (double)q[d] * (double)p->k[keys[i] * k_cols + first + d];
    weight[i] *= (double)p->shape.scale;
    maximum = fmax(maximum, weight[i]);
  }
  for (int64_t i = 0; i < n_key; ++i)
    sum += weight[i] = exp(weight[i] - maximum);
  p->log_sum_exp[row * p->shape.n_head + head] = n_key > 0 ? maximum + log(sum) : -INFINITY;
  for (int64_t i = 0; i < n_key; ++i) {
    weight[i] /= sum;
    for (int64_t d = 0; d < dim; ++d)
      out[d] += weight[i] * (double)p->v[keys[i] * k_cols + first + d];
  }
  for (int64_t d = 0; d < dim; ++d)
    delta += out[d] * (double)dout[d];
  for (int64_t i = 0; i < n_key; ++i) {
    const float *k = p->k + keys[i] * k_cols + first, *v = p->v + keys[i] * k_cols + first;
    double *dk = p->dk + keys[i] * k_cols + first, *dv = p->dv + keys[i] * k_cols + first, dweight = 0;
    for (int64_t d = 0; d < dim; ++d) {
      dv[d] += weight[i] * (double)dout[d];
      dweight += (double)dout[d] * (double)v[d];
    }
    double dscore = weight[i] * (dweight - delta) * (double)p->shape.scale;
    for (int64_t d = 0; d < dim; ++d) {
      dq[d] += dscore * (double)k[d];
      dk[d] += dscore * (double)q[d];
    }
  }
  free(weight);
}

static inline void solve(attention_problem *p) {
  int64_t dim = p->shape.head_dim, q_cols = p->shape.n_head * dim, k_cols = p->shape.n_kv_head * dim;
  p->out = zero_doubles(p->n_query * q_cols);
  p->dq = zero_doubles(p->n_query * q_cols);
  p->dk = zero_doubles(p->n_key * k_cols);
  p->dv = zero_doubles(p->n_key * k_cols);
  p->log_sum_exp = zero_doubles(p->n_query * p->shape.n_head);
  p->read = calloc((size_t)p->n_key, sizeof *p->read);
  int32_t *keys = malloc((size_t)p->n_key * sizeof *keys);
  for (int64_t i = 0; i < p->n_view; ++i)
    for (int32_t query = 0; query < p->views[i].n_query; ++query) {
      int64_t n_key = 0;
      for (int32_t key = 0; key < p->n_key; ++key)
        if (reads(p, &p->views[i], query, key)) {
          p->read[key] = true;
          keys[n_key++] = key;
        }
      for (int32_t head = 0; head < p->shape.n_head; ++head)
        solve_query(p, p->views[i].q_first + query, head, keys, n_key);
    }
  free(keys);
}

static inline void fill_problem(attention_problem *p, ss_random *random) {
  int64_t q_cols = (int64_t)p->shape.n_head * p->shape.head_dim;
  int64_t k_cols = (int64_t)p->shape.n_kv_head * p->shape.head_dim;
  p->q = random_floats(random, p->n_query * q_cols, 2.0f);
  p->k = random_floats(random, p->n_key * k_cols, 1.0f);
  p->v = random_floats(random, p->n_key * k_cols, 1.0f);
  p->dout = random_floats(random, p->n_query * q_cols, 1.0f);
}

static inline void free_problem(attention_problem *p) {
  void *owned[] = {p->views, p->ranges,      p->q,  p->k,  p->v,  p->dout,
                   p->out,   p->log_sum_exp, p->dq, p->dk, p->dv, p->read};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
    free(owned[i]);
}

// Packed training rows: `n_example` examples of about `length` rows, each cut into views of 1 to `longest` queries
// whose ranges are random pieces of what came before in the example (none at times).
static inline attention_problem random_training(ss_random *random, ss_attention_shape shape, int n_example,
                                                int length, int longest) {
  attention_problem p = {.shape = shape};
  int64_t most = (int64_t)n_example * (length + longest);
  p.views = malloc((size_t)most * sizeof *p.views);
  p.ranges = malloc((size_t)(most * 8) * sizeof *p.ranges);
  int32_t row = 0;
  for (int e = 0; e < n_example; ++e) {
    int32_t first = row, end = first + 1 + (int32_t)ss_random_below(random, (uint64_t)length);
    while (row < end) {
      int32_t n = 1 + (int32_t)ss_random_below(random, (uint64_t)longest), at = first;
      ss_attention_view view = {row, n, row, row, (int32_t)p.n_range, 0};
      for (int r = 0; r < 6; ++r) {
        int32_t begin = at + (int32_t)ss_random_below(random, 20),
                stop = begin + 1 + (int32_t)ss_random_below(random, 12);
        stop = stop < row ? stop : row;
        if (begin >= stop)
          break;
        p.ranges[p.n_range++] = (span_range){begin, stop};
        ++view.n_range;
        at = stop + 1;
      }
      p.views[p.n_view++] = view;
      row += n;
    }
  }
  p.n_query = p.n_key = row;
  fill_problem(&p, random);
  solve(&p);
  return p;
}

#endif
