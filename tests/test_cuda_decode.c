// Decode attention on CUDA: single queries over row ranges, against the CPU op; what is not visible is never read, and
// the plan's arrays hold together.
#include "tests/cuda_fixture.h"

#include <math.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda.h"

// What a bf16 result may err: it is rounded once, to 8 bits.
#define BOUND_BF16 8e-6
#define BOUND_F32 1e-11

typedef struct {
  ss_attention_shape shape;
  int64_t n_view, n_range, n_key;
  ss_attention_view *views;
  span_range *ranges;
  bool *visible;  // [n_key] some view reads the row
} decode_problem;

// Sequence i of `n_view` lies in rows [i * slab, (i + 1) * slab) and holds `length` rows; it reads runs of about `run`
// rows, `share` percent of its rows in all, and its own last rows. Every 7th reads nothing; `length` 0: any.
static decode_problem make_problem(cuda_fixture *f, ss_attention_shape shape, int64_t n_view, int32_t slab,
                                   int32_t length, int32_t run, int32_t share) {
  decode_problem p = {.shape = shape, .n_view = n_view, .n_key = n_view * slab};
  p.views = calloc((size_t)n_view, sizeof *p.views);
  p.ranges = calloc((size_t)(n_view * (slab + 1)), sizeof *p.ranges);
  p.visible = calloc((size_t)p.n_key, sizeof *p.visible);
  assert_true(p.views && p.ranges && p.visible);
  for (int64_t i = 0; i < n_view; ++i) {
    int32_t base = (int32_t)(i * slab);
    int32_t n = length > 0 ? length : 1 + (int32_t)ss_random_below(&f->random, (uint64_t)slab);
    int32_t own = (int32_t)ss_random_below(&f->random, (uint64_t)(n < 9 ? n : 9));
    ss_attention_view *view = &p.views[i];
    *view = (ss_attention_view){(int32_t)i, 1, base + n - 1 - own, base + n - 1, (int32_t)p.n_range, 0};
    if (n_view > 3 && i % 7 == 5) {
      view->self_last = base;
      view->self_first = base + 1;
      continue;
    }
    for (int32_t at = base; at < view->self_first;) {
      int32_t rows = 1 + (int32_t)ss_random_below(&f->random, (uint64_t)(2 * run));
      int32_t end = at + rows < view->self_first ? at + rows : view->self_first;
      if ((int32_t)ss_random_below(&f->random, 100) < share)
        p.ranges[p.n_range++] = (span_range){at, end}, ++view->n_range;
      at = end;
    }
  }
  for (int64_t i = 0; i < n_view; ++i) {
    for (int32_t r = 0; r < p.views[i].n_range; ++r)
      for (int32_t row = p.ranges[p.views[i].range_first + r].first;
           row < p.ranges[p.views[i].range_first + r].end; ++row)
        p.visible[row] = true;
    for (int32_t row = p.views[i].self_first; row <= p.views[i].self_last; ++row)
      p.visible[row] = true;
  }
  return p;
}

static void free_problem(decode_problem *p) {
  free(p->views), free(p->ranges), free(p->visible);
}

// Tensors of a problem on both devices. On the CUDA device the rows that nobody reads hold NaN; on the CPU they do not.
typedef struct {
  cuda_pair q, k, v, out, log_sum_exp;
} decode_tensors;

static void poison_unseen(cuda_fixture *f, const decode_problem *p, cuda_pair rows) {
  float *values = cuda_download_floats(f, ON_CUDA, rows.on[ON_CUDA]);
  for (int64_t row = 0; row < p->n_key; ++row)
    for (int64_t c = 0; c < rows.on[ON_CUDA].cols && !p->visible[row]; ++c)
      values[row * rows.on[ON_CUDA].cols + c] = NAN;
  cuda_upload_floats(f, ON_CUDA, rows.on[ON_CUDA], values);
  free(values);
}

static decode_tensors make_tensors(cuda_fixture *f, const decode_problem *p, ss_dtype dtype) {
  int64_t q_cols = (int64_t)p->shape.n_head * p->shape.head_dim;
  int64_t k_cols = (int64_t)p->shape.n_kv_head * p->shape.head_dim;
  // q as the model has it: columns of a wider matrix. One row more than the views cover.
  int64_t n_query = p->n_view + 1;
  decode_tensors t = {cuda_random_strided(f, "q", n_query, q_cols, q_cols + 16, dtype, 2),
                      cuda_random(f, "k", p->n_key, k_cols, dtype, 1),
                      cuda_random_strided(f, "v", p->n_key, k_cols, k_cols + 8, dtype, 1),
                      cuda_output_strided(f, "out", n_query, q_cols, q_cols + 8, dtype),
                      cuda_output(f, "log_sum_exp", n_query, p->shape.n_head, SS_F32)};
  poison_unseen(f, p, t.k);
  poison_unseen(f, p, t.v);
  return t;
}

static void run_decode_by(cuda_fixture *f, int d, ss_attention_plan **plan, const decode_problem *p,
                          const decode_tensors *t, bool statistics, attention_decode_units units) {
  ss_tensor none = {0};
  CUDA_RUN(f, d, attention_plan, plan, p->views, p->n_view, p->ranges, p->n_range, p->n_key, false);
  if (d == ON_CUDA)
    (*plan)->decode.units = units;
  CUDA_RUN(f, d, attention_forward, *plan, p->shape, t->out.on[d], statistics ? t->log_sum_exp.on[d] : none,
           t->q.on[d], t->k.on[d], t->v.on[d]);
}

static void run_decode(cuda_fixture *f, int d, ss_attention_plan **plan, const decode_problem *p,
                       const decode_tensors *t, bool statistics) {
  run_decode_by(f, d, plan, p, t, statistics, DECODE_CHOSEN_UNITS);
}

// What a view wrote, against the CPU's; the row that no view covers is untouched.
static void check_decode(cuda_fixture *f, const decode_problem *p, const decode_tensors *t, ss_dtype dtype) {
  cuda_check(f, cuda_rows(t->out, 0, p->n_view), dtype == SS_BF16 ? BOUND_BF16 : BOUND_F32);
  cuda_check(f, cuda_rows(t->log_sum_exp, 0, p->n_view), 1e-10);
  float *rest = cuda_download_floats(f, ON_CUDA, cuda_rows(t->out, p->n_view, 1).on[ON_CUDA]);
  float *out = cuda_download_floats(f, ON_CUDA, t->out.on[ON_CUDA]);
  for (int64_t c = 0; c < t->out.on[ON_CUDA].cols; ++c) {
    assert_true(isnan(rest[c]));
    for (int64_t i = 0; i < p->n_view; ++i)
      if (p->views[i].n_range == 0 && p->views[i].self_first > p->views[i].self_last)
        assert_true(out[i * t->out.on[ON_CUDA].cols + c] == 0.0f);
  }
  free(rest), free(out);
}

static void free_plan(cuda_fixture *f, int d, ss_attention_plan *plan) {
  f->device[d]->ops->attention_plan_free(f->device[d], plan);
}

// One problem, on fresh plans, twice with the same bits; and with a warp for each unit, where there are kernels for it.
static void check_problem(cuda_fixture *f, const decode_problem *p, ss_dtype dtype) {
  cuda_context(f, "%d heads of %d over %d, %lld views, %lld ranges, %lld rows", p->shape.n_head,
               p->shape.head_dim, p->shape.n_kv_head, (long long)p->n_view, (long long)p->n_range,
               (long long)p->n_key);
  decode_tensors t = make_tensors(f, p, dtype);
  for (int d = 0; d < 2; ++d) {
    ss_attention_plan *plan = NULL;
    run_decode(f, d, &plan, p, &t, true);
    free_plan(f, d, plan);
  }
  check_decode(f, p, &t, dtype);
  decode_tensors again = t;
  again.out = cuda_output(f, "out", t.out.on[0].rows, t.out.on[0].cols, dtype);
  ss_attention_plan *plan = NULL;
  run_decode(f, ON_CUDA, &plan, p, &again, false);
  free_plan(f, ON_CUDA, plan);
  cuda_check_same(f, "out", t.out.on[ON_CUDA], again.out.on[ON_CUDA]);
  cuda_context(f, "a warp a unit");
  decode_tensors by_warps = t;
  by_warps.out = cuda_output(f, "out", t.out.on[0].rows, t.out.on[0].cols, dtype);
  by_warps.out.on[ON_CPU] = t.out.on[ON_CPU];
  plan = NULL;
  run_decode_by(f, ON_CUDA, &plan, p, &by_warps, true, DECODE_WARP_UNITS);
  free_plan(f, ON_CUDA, plan);
  check_decode(f, p, &by_warps, dtype);
  cuda_release_all(f);
}

static const ss_attention_shape shapes[] = {{2, 2, 64, 0.125f}, {3, 1, 64, 0.125f}, {2, 1, 128, 0.09f},
                                            {10, 2, 32, 0.17f}, {4, 1, 64, 0.125f}, {2, 2, 16, 0.25f},
                                            {6, 1, 128, 0.09f}, {6, 6, 64, 0.125f}};
#define N_SHAPE ((int)(sizeof shapes / sizeof *shapes))

static void ragged(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  for (int s = 0; s < N_SHAPE; ++s)
    for (int dtype = SS_F32; dtype <= SS_BF16; ++dtype) {
      if (dtype == SS_F32 && s >= 3)
        continue;
      decode_problem p = make_problem(&f, shapes[s], 9, 150, 0, 3 + 4 * s, 40);
      check_problem(&f, &p, (ss_dtype)dtype);
      free_problem(&p);
    }
  assert_non_null(strstr(f.device[ON_CUDA]->description, "attention of single queries by ranges"));
  cuda_close(&f);
}

// Runs of one row (more ranges than lanes, in one item and over several lists of rows), of many, and everything.
static void ranges_of_all_sizes(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  const int32_t runs[][3] = {{500, 1, 50},  {700, 2, 60},  {400, 16, 50},
                             {900, 60, 30}, {333, 5, 100}, {200, 9, 0}};
  for (int i = 0; i < 6; ++i)
    for (int64_t n_view = 1; n_view <= 2; ++n_view) {
      decode_problem p = make_problem(&f, shapes[i % 3], n_view, runs[i][0], runs[i][0], runs[i][1],
                                      runs[i][2]);
      check_problem(&f, &p, SS_BF16);
      free_problem(&p);
    }
  cuda_close(&f);
}

static void many_views(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_attention_shape one = {1, 1, 64, 0.125f};
  decode_problem p = make_problem(&f, one, 300, 40, 0, 6, 50);
  check_problem(&f, &p, SS_BF16);
  free_problem(&p);
  cuda_close(&f);
}

// A long sequence among short ones: its items are merged, theirs are not.
static void unequal_lengths(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  for (int s = 0; s < 3; ++s) {
    decode_problem p = make_problem(&f, shapes[s], 6, 1500, 20, 8, 60);
    ss_attention_view *last = &p.views[4];
    last->self_first = 4 * 1500 + 18;
    last->self_last = 4 * 1500 + 1490;
    last->n_range = 0;
    for (int32_t row = last->self_first; row <= last->self_last; ++row)
      p.visible[row] = true;
    check_problem(&f, &p, SS_BF16);
    free_problem(&p);
  }
  cuda_close(&f);
}

// One plan for other problems and shapes in turn, and with what other kernels serve: the bits stay those of a fresh plan.
static void refilled(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_attention_shape odd = {2, 1, 24, 0.2f};
  decode_problem problems[] = {make_problem(&f, shapes[1], 3, 300, 0, 9, 50),
                               make_problem(&f, shapes[0], 12, 260, 0, 4, 50),
                               make_problem(&f, odd, 4, 60, 0, 5, 50)};
  ss_attention_plan *plan = NULL;
  for (int round = 0; round < 6; ++round) {
    decode_problem *p = &problems[round % 3];
    cuda_context(&f, "refilled, round %d", round);
    decode_tensors t = make_tensors(&f, p, SS_BF16), fresh = t;
    if (p->shape.head_dim == 24) {  // the plain kernel multiplies what it must not see by nothing, too
      run_decode(&f, ON_CUDA, &plan, p, &t, true);
    } else {
      fresh.out = cuda_output(&f, "out", t.out.on[0].rows, t.out.on[0].cols, SS_BF16);
      run_decode(&f, ON_CUDA, &plan, p, &t, true);
      ss_attention_plan *other = NULL;
      run_decode(&f, ON_CUDA, &other, p, &fresh, true);
      free_plan(&f, ON_CUDA, other);
      cuda_check_same(&f, "out", t.out.on[ON_CUDA], fresh.out.on[ON_CUDA]);
    }
    ss_attention_plan *on_cpu = NULL;
    run_decode(&f, ON_CPU, &on_cpu, p, &t, true);
    free_plan(&f, ON_CPU, on_cpu);
    check_decode(&f, p, &t, SS_BF16);
    cuda_release_all(&f);
  }
  free_plan(&f, ON_CUDA, plan);
  for (int i = 0; i < 3; ++i)
    free_problem(&problems[i]);
  cuda_close(&f);
}

// Every size of items computes the same, and so do the kernels of the benchmark. Runs of one or two rows: more ranges
// than lanes in a list of rows.
static void item_sizes_and_baseline(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *gpu = f.device[ON_CUDA];
  for (int s = 0; s < 3; ++s) {
    decode_problem p = make_problem(&f, shapes[s], 3, 512, s == 1 ? 0 : 500, s == 1 ? 11 : 1, 50);
    decode_tensors t = make_tensors(&f, &p, SS_BF16);
    ss_attention_plan *on_cpu = NULL;
    run_decode(&f, ON_CPU, &on_cpu, &p, &t, true);
    free_plan(&f, ON_CPU, on_cpu);
    attention_decode plan = {0};
    bool serves = false;
    if (attention_decode_plan(gpu, &plan, p.views, p.n_view, p.ranges, p.n_range, p.n_key, &serves) != SS_OK)
      fail_msg("%s", gpu->error.message);
    assert_true(serves);
    for (int32_t rows = 16, i = 0; rows <= 512; rows *= 2, ++i) {
      plan.units = i % 2 ? DECODE_WARP_UNITS : DECODE_BLOCK_UNITS;
      cuda_context(&f, "items of %d rows", rows);
      if (attention_decode_recut(gpu, &plan, p.shape, SS_BF16, rows) != SS_OK ||
          attention_decode_forward(gpu, &plan, p.shape, t.out.on[ON_CUDA], t.log_sum_exp.on[ON_CUDA],
                                   t.q.on[ON_CUDA], t.k.on[ON_CUDA], t.v.on[ON_CUDA]) != SS_OK)
        fail_msg("%s", gpu->error.message);
      check_decode(&f, &p, &t, SS_BF16);
    }
    // The baseline reads whole blocks, so nothing may be NaN: fresh rows on the CUDA device.
    float *k = cuda_download_floats(&f, ON_CPU, t.k.on[ON_CPU]),
          *v = cuda_download_floats(&f, ON_CPU, t.v.on[ON_CPU]);
    cuda_upload_floats(&f, ON_CUDA, t.k.on[ON_CUDA], k);
    cuda_upload_floats(&f, ON_CUDA, t.v.on[ON_CUDA], v);
    free(k), free(v);
    attention_decode_blocks blocks = {0};
    cuda_context(&f, "baseline");
    t.out = (cuda_pair){{t.out.on[0], cuda_output(&f, "out", p.n_view, t.out.on[0].cols, SS_BF16).on[1]},
                        "out"};
    t.out.on[0].rows = p.n_view;
    t.q = cuda_rows(t.q, 0, p.n_view);
    if (attention_decode_baseline_plan(gpu, &blocks, &plan) != SS_OK ||
        attention_decode_baseline_forward(gpu, &blocks, p.shape, t.out.on[ON_CUDA], t.q.on[ON_CUDA],
                                          t.k.on[ON_CUDA], t.v.on[ON_CUDA]) != SS_OK)
      fail_msg("%s", gpu->error.message);
    cuda_check(&f, t.out, BOUND_BF16);
    attention_decode_baseline_free(gpu, &blocks);
    attention_decode_free(gpu, &plan);
    cuda_release_all(&f);
    free_problem(&p);
  }
  cuda_close(&f);
}

// A plan as the device would have made it: each view's last row is read later than the others, and only some of the
// blocks launched have work. The bits are those of the plan that the host made, whichever the size of items.
static void like_resident(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *gpu = f.device[ON_CUDA];
  for (int s = 0; s < 2 * N_SHAPE; ++s) {
    ss_dtype dtype = s % N_SHAPE < 3 && s >= N_SHAPE ? SS_F32 : SS_BF16;
    decode_problem p = make_problem(&f, shapes[s % N_SHAPE], 8, s < N_SHAPE ? 130 : 600, 0, 1 + 5 * s, 60);
    decode_tensors t = make_tensors(&f, &p, dtype), again = t;
    again.out = cuda_output(&f, "out", t.out.on[0].rows, t.out.on[0].cols, dtype);
    attention_decode plan = {0};
    bool serves = false;
    if (attention_decode_plan(gpu, &plan, p.views, p.n_view, p.ranges, p.n_range, p.n_key, &serves) != SS_OK)
      fail_msg("%s", gpu->error.message);
    assert_true(serves);
    for (int32_t rows = 32, i = s; rows <= 1024; rows *= 4, ++i) {
      plan.units = i % 2 ? DECODE_WARP_UNITS : DECODE_BLOCK_UNITS;
      cuda_context(&f, "shape %d, items of %d rows", s, rows);
      for (int resident = 0; resident < 2; ++resident) {
        decode_tensors *to = resident ? &again : &t;
        uint32_t n_unit;
        if (resident) {
          plan.resident = true, plan.shape = p.shape, plan.dtype = dtype;
          n_unit = (uint32_t)(plan.n_item * plan.heads);
          size_t bytes = (size_t)plan.n_item * (size_t)(p.shape.n_head * (p.shape.head_dim + 2)) *
                         sizeof(float);
          CUDA_RUN(&f, ON_CUDA, allocate, &plan.device_n_unit, sizeof n_unit, "n_unit");
          CUDA_RUN(&f, ON_CUDA, allocate, &plan.device_partials, 2 * bytes, "partials");
          CUDA_RUN(&f, ON_CUDA, upload, plan.device_n_unit, &n_unit, sizeof n_unit);
          plan.n_item *= 2;  // what else lies there has no work, and is not looked at
          unsigned char *grown = NULL;
          size_t item = sizeof(attention_decode_item), old = (size_t)plan.block_bytes;
          CUDA_RUN(&f, ON_CUDA, allocate, (void **)&grown, old + (size_t)plan.n_item * item, "items");
          CUDA_RUN(&f, ON_CUDA, upload, grown, plan.block, old);
          gpu->ops->release(gpu, plan.device_block);
          plan.device_block = grown, plan.device_bytes = (int64_t)(old + (size_t)plan.n_item * item);
        } else if (attention_decode_recut(gpu, &plan, p.shape, dtype, rows) != SS_OK) {
          fail_msg("%s", gpu->error.message);
        }
        if (attention_decode_forward(gpu, &plan, p.shape, to->out.on[ON_CUDA], t.log_sum_exp.on[ON_CUDA],
                                     t.q.on[ON_CUDA], t.k.on[ON_CUDA], t.v.on[ON_CUDA]) != SS_OK)
          fail_msg("%s", gpu->error.message);
      }
      cuda_check_same(&f, "out", cuda_rows(t.out, 0, p.n_view).on[ON_CUDA],
                      cuda_rows(again.out, 0, p.n_view).on[ON_CUDA]);
      plan.resident = false;
      gpu->ops->release(gpu, plan.device_n_unit);
      gpu->ops->release(gpu, plan.device_partials);
      plan.device_n_unit = plan.device_partials = NULL;
    }
    attention_decode_free(gpu, &plan);
    cuda_release_all(&f);
    free_problem(&p);
  }
  cuda_close(&f);
}

// The items of a batch hold every visible row once, evenly, whichever the number of heads and multiprocessors.
static void items_cover_rows(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  attention_decode plan = {0};
  ss_error error = {0};
  for (int round = 0; round < 40; ++round) {
    int64_t n_view = 1 + (int64_t)ss_random_below(&f.random, round < 20 ? 5 : 300);
    decode_problem p = make_problem(&f, shapes[0], n_view, round % 2 ? 1024 : 70, 0, 1 + round,
                                    10 + 2 * round);
    bool serves = false;
    assert_ok(attention_decode_list(&plan, p.views, n_view, p.ranges, p.n_range, p.n_key, &serves, &error));
    assert_true(serves);
    assert_ok(attention_decode_cut(&plan, 1 + round % 12, 132, 0, &error));
    const attention_decode_item *items = attention_decode_items(&plan);
    const attention_decode_range *ranges = attention_decode_ranges(&plan);
    int64_t row = 0, at = 0;
    for (int64_t i = 0; i < n_view; ++i) {
      int32_t first = (int32_t)at;
      do {
        assert_true(items[at].view == i && items[at].query == p.views[i].q_first);
        assert_true(items[at].start == row && items[at].item_first == first);
        assert_true(items[at].n_row <= plan.item_rows && (items[at].n_row > 0 || items[at].n_item == 1));
        if (items[at].n_row > 0) {
          int32_t r = items[at].range;
          assert_true(ranges[r].start <= row && (r + 1 == plan.n_range || ranges[r + 1].start > row));
        }
        row += items[at].n_row;
      } while (++at < first + items[first].n_item);
      assert_true(row == plan.view_row[i + 1]);
    }
    assert_true(at == plan.n_item && row == plan.n_row);
    // The views that come back mean the same.
    ss_attention_view *views = calloc((size_t)n_view, sizeof *views);
    span_range *back = calloc((size_t)plan.n_range + 1, sizeof *back);
    bool *seen = calloc((size_t)p.n_key, 1);
    attention_decode_views(&plan, views, back);
    for (int64_t i = 0; i < n_view; ++i) {
      for (int32_t r = 0; r < views[i].n_range; ++r)
        for (int32_t key = back[views[i].range_first + r].first; key < back[views[i].range_first + r].end;
             ++key)
          seen[key] = true;
      for (int32_t key = views[i].self_first; key <= views[i].self_last; ++key)
        seen[key] = true;
    }
    assert_memory_equal(seen, p.visible, (size_t)p.n_key);
    free(views), free(back), free(seen);
    free_problem(&p);
  }
  attention_decode_free_host(&plan);
  cuda_close(&f);
}

// What does not fit is refused; several queries, or queries out of order, are left to other kernels.
static void refused(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_attention_plan *plan = NULL;
  span_range ranges[] = {{0, 4}, {3, 6}};
  ss_attention_view overlapping = {0, 1, 8, 9, 0, 2}, beyond = {0, 1, 8, 10, 0, 1}, late = {0, 1, 3, 9, 0, 1};
  cuda_context(&f, "views that do not fit");
  CUDA_REFUSED(&f, attention_plan, &plan, &overlapping, 1, ranges, 2, 10, false);
  CUDA_REFUSED(&f, attention_plan, &plan, &beyond, 1, ranges, 2, 10, false);
  CUDA_REFUSED(&f, attention_plan, &plan, &late, 1, ranges, 2, 10, false);
  ss_attention_view twice[] = {{0, 1, 8, 9, 0, 1}, {0, 1, 8, 9, 0, 1}};
  CUDA_REFUSED(&f, attention_plan, &plan, twice, 2, ranges, 2, 10, false);
  free_plan(&f, ON_CUDA, plan);
  attention_decode decode = {0};
  ss_error error = {0};
  bool serves = true;
  ss_attention_view falling[] = {{1, 1, 8, 9, 0, 1}, {0, 1, 8, 9, 0, 1}}, several = {0, 2, 8, 8, 0, 1};
  assert_ok(attention_decode_list(&decode, falling, 2, ranges, 2, 10, &serves, &error));
  assert_false(serves);
  assert_ok(attention_decode_list(&decode, &several, 1, ranges, 2, 10, &serves, &error));
  assert_false(serves);
  attention_decode_free_host(&decode);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(items_cover_rows), cmocka_unit_test(refused),
      cmocka_unit_test(ragged),           cmocka_unit_test(ranges_of_all_sizes),
      cmocka_unit_test(many_views),       cmocka_unit_test(unequal_lengths),
      cmocka_unit_test(refilled),         cmocka_unit_test(item_sizes_and_baseline),
      cmocka_unit_test(like_resident),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
