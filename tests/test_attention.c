// Attention against a plain fp64 solution: ragged views, grouped queries, empty visible sets, poisoned rows, long
// decoding views, and the same bits for every number of threads.
#include "tests/attention_reference.h"

typedef struct {
  float *out, *log_sum_exp, *dq, *dk, *dv;
} attention_result;

static attention_result run_problem(ss_device *device, const attention_problem *p, bool backward) {
  int64_t q_cols = (int64_t)p->shape.n_head * p->shape.head_dim;
  int64_t k_cols = (int64_t)p->shape.n_kv_head * p->shape.head_dim, n_head = p->shape.n_head;
  ss_random random = ss_random_seed(SEED, 99);
  attention_result r = {random_floats(&random, p->n_query * q_cols, 1),
                        random_floats(&random, p->n_query * n_head, 1),
                        random_floats(&random, p->n_query * q_cols, 1),
                        random_floats(&random, p->n_key * k_cols, 1),
                        random_floats(&random, p->n_key * k_cols, 1)};
  ss_tensor q = ss_matrix(p->q, p->n_query, q_cols), k = ss_matrix(p->k, p->n_key, k_cols);
  ss_tensor v = ss_matrix(p->v, p->n_key, k_cols), out = ss_matrix(r.out, p->n_query, q_cols);
  ss_tensor log_sum_exp = ss_matrix(r.log_sum_exp, p->n_query, n_head);
  ss_attention_plan *plan = NULL;
  RUN(device, attention_plan, &plan, p->views, p->n_view, p->ranges, p->n_range, p->n_key, backward);
  RUN(device, attention_forward, plan, p->shape, out, log_sum_exp, q, k, v);
  if (backward)
    RUN(device, attention_backward, plan, p->shape, ss_matrix(r.dq, p->n_query, q_cols),
        ss_matrix(r.dk, p->n_key, k_cols), ss_matrix(r.dv, p->n_key, k_cols),
        ss_matrix(p->dout, p->n_query, q_cols), out, log_sum_exp, q, k, v);
  device->ops->attention_plan_free(device, plan);
  return r;
}

static void free_result(attention_result *r) {
  free(r->out), free(r->log_sum_exp), free(r->dq), free(r->dk), free(r->dv);
}

static void check_log_sum_exp(const float *got, const double *want, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (want[i] == -INFINITY ? got[i] != -INFINITY
                             : !(fabs((double)got[i] - want[i]) <= 2e-5 * (1 + fabs(want[i]))))
      fail_msg("log_sum_exp %lld is %g, expected %g (seed %d)", (long long)i, (double)got[i], want[i], SEED);
}

static void check_same_result(const attention_problem *p, const attention_result *a,
                              const attention_result *b, bool backward) {
  int64_t q_count = p->n_query * p->shape.n_head * p->shape.head_dim;
  int64_t k_count = p->n_key * p->shape.n_kv_head * p->shape.head_dim;
  check_same_bits("out", a->out, b->out, q_count);
  check_same_bits("log_sum_exp", a->log_sum_exp, b->log_sum_exp, p->n_query * p->shape.n_head);
  if (!backward)
    return;
  check_same_bits("dq", a->dq, b->dq, q_count);
  check_same_bits("dk", a->dk, b->dk, k_count);
  check_same_bits("dv", a->dv, b->dv, k_count);
}

static void check_problem(kernel_devices *devices, const attention_problem *p, bool backward) {
  int64_t q_count = p->n_query * p->shape.n_head * p->shape.head_dim;
  int64_t k_count = p->n_key * p->shape.n_kv_head * p->shape.head_dim;
  attention_result first = run_problem(devices->device[0], p, backward);
  check_close("attention out", first.out, p->out, q_count, 2e-5);
  check_log_sum_exp(first.log_sum_exp, p->log_sum_exp, p->n_query * p->shape.n_head);
  if (backward) {
    check_close("attention dq", first.dq, p->dq, q_count, 5e-5);
    check_close("attention dk", first.dk, p->dk, k_count, 5e-5);
    check_close("attention dv", first.dv, p->dv, k_count, 5e-5);
  }
  for (int d = 1; d < DEVICES; ++d) {
    attention_result other = run_problem(devices->device[d], p, backward);
    check_same_result(p, &first, &other, backward);
    free_result(&other);
  }
  free_result(&first);
}

static const ss_attention_shape shapes[] = {{4, 4, 16, 0.25f},  {4, 2, 32, 0.17f},  {6, 6, 64, 0.125f},
                                            {8, 1, 24, 0.2f},   {3, 3, 128, 0.09f}, {2, 1, 5, 0.4f},
                                            {48, 1, 16, 0.25f}, {6, 2, 96, 0.1f}};
#define N_SHAPE ((int)(sizeof shapes / sizeof *shapes))

static void training_views(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 1);
  for (int s = 0; s < N_SHAPE; ++s)
    for (int longest = 1; longest <= 90; longest = longest * 3 + 1) {
      attention_problem p = random_training(&random, shapes[s], 3, 60, longest);
      check_problem(&devices, &p, true);
      free_problem(&p);
    }
  close_devices(&devices);
}

// One causal view of many key tiles.
static void dense_view(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 2);
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = {.shape = shapes[s], .n_query = 331, .n_key = 331, .n_view = 1};
    p.views = malloc(sizeof *p.views);
    p.views[0] = (ss_attention_view){0, 331, 0, 0, 0, 0};
    fill_problem(&p, &random);
    solve(&p);
    check_problem(&devices, &p, true);
    free_problem(&p);
  }
  close_devices(&devices);
}

// The same visible sets cut into different views agree within rounding: all rows as ranges or as causal part.
static void cutting_views(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 3);
  const int32_t n = 200;
  attention_problem p = {.shape = shapes[1], .n_query = n, .n_key = n};
  p.views = malloc((size_t)n * sizeof *p.views);
  p.ranges = malloc((size_t)n * sizeof *p.ranges);
  for (int32_t row = 0; row < n;) {
    int32_t size = 1 + (int32_t)ss_random_below(&random, 40);
    size = size < n - row ? size : n - row;
    ss_attention_view view = {row, size, row, row, (int32_t)p.n_range, row > 0};
    if (row > 0)
      p.ranges[p.n_range++] = (span_range){0, row};
    p.views[p.n_view++] = view;
    row += size;
  }
  fill_problem(&p, &random);
  solve(&p);
  check_problem(&devices, &p, true);
  p.views[0] = (ss_attention_view){0, n, 0, 0, 0, 0};
  p.n_view = 1;
  p.n_range = 0;
  check_problem(&devices, &p, true);
  free_problem(&p);
  close_devices(&devices);
}

// Single queries over a cache, short and beyond one piece, mixed with a prefill view.
static void decoding_views(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 4);
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = {.shape = shapes[s], .n_query = 5 + 7, .n_key = 3000};
    p.views = malloc(6 * sizeof *p.views);
    p.ranges = malloc(200 * sizeof *p.ranges);
    static const int32_t last[5] = {0, 511, 512, 1700, 2999};
    for (int32_t i = 0; i < 5; ++i)
      p.views[p.n_view++] = (ss_attention_view){i, 1, i == 4 ? 2990 : 0, last[i], 0, 0};
    p.views[4].n_range = 80;
    for (int32_t r = 0; r < 80; ++r)
      p.ranges[p.n_range++] = (span_range){r * 37, r * 37 + 1 + (int32_t)ss_random_below(&random, 30)};
    p.views[p.n_view++] = (ss_attention_view){5, 7, 1000, 1003, 0, 3};
    fill_problem(&p, &random);
    solve(&p);
    check_problem(&devices, &p, false);
    free_problem(&p);
  }
  close_devices(&devices);
}

// Queries that read nothing: zeros, -infinity, zero gradients, and no NaN anywhere.
static void empty_visible_sets(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 5);
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = {.shape = shapes[s], .n_query = 50, .n_key = 50, .n_view = 3};
    p.views = malloc(3 * sizeof *p.views);
    p.views[0] = (ss_attention_view){0, 20, 10, 0, 0, 0};    // the first ten read nothing
    p.views[1] = (ss_attention_view){20, 25, 49, 20, 0, 0};  // nobody reads anything
    p.views[2] = (ss_attention_view){45, 1, 49, 45, 0, 0};
    fill_problem(&p, &random);
    solve(&p);
    // Rows 46 to 49 are covered by no view: they stay as they are.
    int64_t q_cols = (int64_t)p.shape.n_head * p.shape.head_dim;
    attention_result r = run_problem(devices.device[1], &p, true);
    check_close("empty out", r.out, p.out, 46 * q_cols, 2e-5);
    check_log_sum_exp(r.log_sum_exp, p.log_sum_exp, 46 * p.shape.n_head);
    check_close("empty dq", r.dq, p.dq, 50 * q_cols, 5e-5);
    check_close("empty dk", r.dk, p.dk, 50 * (int64_t)p.shape.n_kv_head * p.shape.head_dim, 5e-5);
    for (int64_t i = 0; i < 10 * q_cols; ++i)
      assert_true(r.out[i] == 0.0f && r.dq[i] == 0.0f);
    attention_result untouched = run_problem(devices.device[0], &p, true);
    check_same_bits("uncovered rows", r.out + 46 * q_cols, untouched.out + 46 * q_cols, 4 * q_cols);
    free_result(&r);
    free_result(&untouched);
    free_problem(&p);
  }
  close_devices(&devices);
}

// Rows that nobody reads hold NaN: not a bit changes, and their gradients are zero.
static void poisoned_rows(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 6);
  for (int s = 0; s < N_SHAPE; ++s) {
    attention_problem p = random_training(&random, shapes[s], 3, 60, 17);
    int64_t cols = (int64_t)p.shape.n_kv_head * p.shape.head_dim,
            q_cols = (int64_t)p.shape.n_head * p.shape.head_dim;
    // Every view's own last rows are hidden from it by ending the view early; other views may still read them.
    for (int64_t i = 0; i < p.n_view; ++i)
      if (i % 3 == 0 && p.views[i].n_query > 2)
        p.views[i].n_query -= 2;
    memset(p.read, 0, (size_t)p.n_key);
    for (int64_t i = 0; i < p.n_view; ++i)
      for (int32_t query = 0; query < p.views[i].n_query; ++query)
        for (int32_t key = 0; key < p.n_key; ++key)
          p.read[key] |= reads(&p, &p.views[i], query, key);
    attention_result clean = run_problem(devices.device[0], &p, true);
    int64_t poisoned = 0;
    for (int64_t key = 0; key < p.n_key; ++key)
      for (int64_t c = 0; c < cols && !p.read[key]; ++c, ++poisoned)
        p.k[key * cols + c] = p.v[key * cols + c] = NAN;
    assert_true(poisoned > 0);
    attention_result dirty = run_problem(devices.device[1], &p, true);
    check_same_result(&p, &clean, &dirty, true);
    for (int64_t key = 0; key < p.n_key; ++key)
      for (int64_t c = 0; c < cols && !p.read[key]; ++c)
        assert_true(dirty.dk[key * cols + c] == 0.0f && dirty.dv[key * cols + c] == 0.0f);
    // Within a view too: a NaN in the row of query j leaves the queries before j alone.
    for (int64_t i = 0; i < p.n_view; ++i) {
      ss_attention_view *view = &p.views[i];
      if (view->n_query < 2)
        continue;
      attention_problem one = p;
      one.views = view;
      one.n_view = 1;
      attention_result before = run_problem(devices.device[0], &one, false);
      int32_t key = view->self_last + view->n_query - 1;
      float saved_k = p.k[key * cols], saved_v = p.v[key * cols];
      p.k[key * cols] = p.v[key * cols] = NAN;
      attention_result after = run_problem(devices.device[0], &one, false);
      check_same_bits("queries before a NaN", after.out + view->q_first * q_cols,
                      before.out + view->q_first * q_cols, (view->n_query - 1) * q_cols);
      p.k[key * cols] = saved_k;
      p.v[key * cols] = saved_v;
      free_result(&before);
      free_result(&after);
    }
    free_result(&clean);
    free_result(&dirty);
    free_problem(&p);
  }
  close_devices(&devices);
}

// A plan is refilled in place, and refuses what does not fit.
static void plan_reuse(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_device *device = devices.device[0];
  ss_attention_plan *plan = NULL;
  ss_attention_view view = {0, 4, 0, 0, 0, 0};
  span_range range = {2, 3};
  RUN(device, attention_plan, &plan, &view, 1, NULL, 0, 4, true);
  RUN(device, attention_plan, &plan, &view, 1, NULL, 0, 9, false);
  RUN(device, attention_plan, &plan, NULL, 0, NULL, 0, 0, true);
  ss_error error = {0};
  assert_int_not_equal(device->ops->attention_plan(device, &plan, &view, 1, NULL, 0, 3, true), SS_OK);
  assert_int_equal(ss_device_error(device, &error), SS_ERROR_INTERNAL);
  ss_error_clear(&error);
  view.n_range = 1;  // the range reaches beyond self_first
  assert_int_not_equal(device->ops->attention_plan(device, &plan, &view, 1, &range, 1, 9, true), SS_OK);
  ss_device_error(device, &error);
  device->ops->attention_plan_free(device, plan);
  close_devices(&devices);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(training_views), cmocka_unit_test(dense_view),         cmocka_unit_test(cutting_views),
      cmocka_unit_test(decoding_views), cmocka_unit_test(empty_visible_sets), cmocka_unit_test(poisoned_rows),
      cmocka_unit_test(plan_reuse),
  };
  RUN_WITH_EVERY_SIMD(tests);
}
