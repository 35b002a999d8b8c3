// Measures decode attention alone: the decode kernel over dense and scattered visible rows beside the two kernels it is
// compared with. Needs a GPU; about 10 seconds.
//
//   make gpu-tests && build/gpu-tests/decode_kernel
//   ... --items       also every size of the items that visible rows are cut into
//   ... --runs ROWS   only a batch of 256 with runs of ROWS rows, called twice and not timed: for a profiler
//
// A time is the median of 30 of a run of calls, divided by their number. Calls of a run read different rows of an arena
// much larger than the L2 cache, and a copy before each run clears it and keeps the GPU busy while the host enqueues.
// GB/s counts the visible K and V rows alone, and "x copy" is the time over what copying takes for as many bytes.
// "blocks" is one block a sequence and head that reads whole blocks of 64 rows where any is visible; over all rows, in
// the column "dense", it is the usual kernel without a split. Each result is compared with that kernel's.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/random.h"
#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/cuda.h"

enum {
  REPEATS = 30,
  SWEEP_REPEATS = 9,
  CALLS = 8,
  SLAB = 1024,
  VISIBLE = 128,
  MIXED = -1,
  DENSE = 0,
  ITEMS_LEAST = 64
};

typedef struct {
  ss_device *device;
  int64_t arena_bytes;  // of K, and of V
  void *k, *v, *q, *out[2];
  double copy_rate;  // bytes a second, read and written
  bool small, items;
  double dense;  // seconds of the kernel without a split over all rows, of the shape and batch at hand
} bench;

typedef struct {
  ss_attention_shape shape;
  int64_t batch;
  int32_t run;  // rows of a run of visible rows, or DENSE, MIXED
} decode_case;

static void check(bench *b, ss_status status) {
  if (status == SS_OK)
    return;
  fprintf(stderr, "decode_kernel: %s\n", b->device->error.message);
  exit(1);
}
#define RUN(b, op, ...) check((b), (b)->device->ops->op((b)->device, __VA_ARGS__))

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

// --- the arena ---
static void *random_bytes(bench *b, int64_t bytes, ss_random *random) {
  int64_t piece = bytes < (4 << 20) ? bytes : (4 << 20);
  uint16_t *host = malloc((size_t)piece);
  void *data = NULL;
  RUN(b, allocate, &data, (size_t)bytes, "rows");
  for (int64_t i = 0; i < piece / 2; ++i) {
    float value = (float)ss_random_normal(random);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    host[i] = (uint16_t)(bits >> 16);
  }
  RUN(b, upload, data, host, (size_t)piece);
  for (int64_t done = piece; done < bytes;) {
    int64_t count = done < bytes - done ? done : bytes - done;
    RUN(b, convert, ss_matrix_of((char *)data + done, 1, count / 2, SS_BF16),
        ss_matrix_of(data, 1, count / 2, SS_BF16));
    done += count;
  }
  free(host);
  return data;
}

// Clears the L2 cache: half of V's arena onto its other half.
static void copy_half(bench *b) {
  int64_t half = b->arena_bytes / 4;  // elements
  RUN(b, convert, ss_matrix_of((char *)b->v + 2 * half, 1, half, SS_BF16),
      ss_matrix_of(b->v, 1, half, SS_BF16));
}

static void measure_copy(bench *b) {
  double seconds[15];
  for (int i = 0; i < 15; ++i) {
    RUN(b, stamp, 0);
    copy_half(b);
    RUN(b, stamp, 1);
    RUN(b, stamp_seconds, 0, 1, &seconds[i]);
  }
  qsort(seconds, 15, sizeof *seconds, compare);
  b->copy_rate = (double)b->arena_bytes / seconds[7];
}

// --- cases ---
// Sequence i in rows [i * SLAB, (i + 1) * SLAB): all of it, or runs scattered over it at any row, the last its own.
static void make_views(const decode_case *c, ss_attention_view *views, span_range *ranges, int64_t *n_range,
                       ss_random *random) {
  *n_range = 0;
  for (int64_t i = 0; i < c->batch; ++i) {
    int32_t base = (int32_t)(i * SLAB), run = c->run == MIXED ? (i % 2 ? 16 : DENSE) : c->run;
    views[i] = (ss_attention_view){(int32_t)i, 1, base, base + SLAB - 1, (int32_t)*n_range, 0};
    if (run == DENSE)
      continue;
    int32_t n_run = VISIBLE / run > 1 ? VISIBLE / run : 1, spare = SLAB - n_run * run, at = base;
    for (int32_t r = 0; r + 1 < n_run; ++r) {
      int32_t gap = (int32_t)ss_random_below(random, (uint64_t)(2 * spare / n_run) + 1);
      gap = gap < spare ? gap : spare;
      spare -= gap;
      at += gap;
      ranges[(*n_range)++] = (span_range){at, at + run};
      ++views[i].n_range;
      at += run;
    }
    views[i].self_first = base + SLAB - run;
  }
}

typedef struct {
  bench *b;
  const decode_case *c;
  attention_decode plan;
  attention_decode_blocks blocks;
} decode_work;

// Call `index` of a run: sequences lie elsewhere in the arena each time.
static void call(decode_work *w, bool baseline, int64_t index) {
  bench *b = w->b;
  ss_attention_shape shape = w->c->shape;
  int64_t q_cols = (int64_t)shape.n_head * shape.head_dim, k_cols = (int64_t)shape.n_kv_head * shape.head_dim;
  int64_t rows = w->c->batch * SLAB, first = index % (b->arena_bytes / (rows * k_cols * 2)) * rows;
  ss_tensor q = ss_matrix_of(b->q, w->c->batch, q_cols, SS_BF16), none = {0};
  ss_tensor out = ss_matrix_of(b->out[baseline], w->c->batch, q_cols, SS_BF16);
  ss_tensor k = ss_matrix_of((uint16_t *)b->k + first * k_cols, rows, k_cols, SS_BF16);
  ss_tensor v = ss_matrix_of((uint16_t *)b->v + first * k_cols, rows, k_cols, SS_BF16);
  check(b, baseline ? attention_decode_baseline_forward(b->device, &w->blocks, shape, out, q, k, v)
                    : attention_decode_forward(b->device, &w->plan, shape, out, none, q, k, v));
}

static double measure(decode_work *w, bool baseline, int repeats, double *spread) {
  double seconds[REPEATS];
  for (int i = 0; i < repeats; ++i) {
    copy_half(w->b);
    RUN(w->b, stamp, 2 * i);
    for (int n = 0; n < CALLS; ++n)
      call(w, baseline, (int64_t)i * CALLS + n);
    RUN(w->b, stamp, 2 * i + 1);
  }
  for (int i = 0; i < repeats; ++i) {
    RUN(w->b, stamp_seconds, 2 * i, 2 * i + 1, &seconds[i]);
    seconds[i] /= CALLS;
  }
  qsort(seconds, (size_t)repeats, sizeof *seconds, compare);
  *spread = seconds[repeats * 3 / 4] - seconds[repeats / 4];
  return seconds[repeats / 2];
}

static double difference(bench *b, int64_t count) {
  uint16_t *host[2];
  double error = 0, size = 0;
  for (int i = 0; i < 2; ++i) {
    host[i] = malloc((size_t)count * 2);
    RUN(b, download, host[i], b->out[i], (size_t)count * 2);
  }
  for (int64_t i = 0; i < count; ++i) {
    float values[2];
    for (int k = 0; k < 2; ++k) {
      uint32_t bits = (uint32_t)host[k][i] << 16;
      memcpy(&values[k], &bits, sizeof bits);
    }
    error += pow((double)values[0] - (double)values[1], 2);
    size += pow((double)values[1], 2);
  }
  free(host[0]), free(host[1]);
  return error / size;
}

// Views, plans of both kernels, and one call of each. The NMSE of one to the other.
static double prepare(decode_work *w, double *planned) {
  bench *b = w->b;
  const decode_case *c = w->c;
  ss_random random = ss_random_seed(20250311, (uint64_t)c->batch);
  ss_attention_view *views = calloc((size_t)c->batch, sizeof *views);
  span_range *ranges = calloc((size_t)c->batch * VISIBLE, sizeof *ranges);
  int64_t n_range = 0;
  make_views(c, views, ranges, &n_range, &random);
  bool serves = false;
  for (int i = 0; i < 2; ++i) {  // the second refills, as in every decoding step
    double start = now();
    check(b, attention_decode_plan(b->device, &w->plan, views, c->batch, ranges, n_range, c->batch * SLAB,
                                   &serves));
    *planned = now() - start;
    check(b, attention_decode_recut(b->device, &w->plan, c->shape, SS_BF16, 0));
  }
  check(b, attention_decode_baseline_plan(b->device, &w->blocks, &w->plan));
  for (int i = 0; i < 2; ++i)
    call(w, i == 1, 0);
  free(views), free(ranges);
  return difference(b, c->batch * c->shape.n_head * c->shape.head_dim);
}

static double visible_bytes(const decode_work *w) {
  return (double)w->plan.n_row * 2 * w->c->shape.n_kv_head * w->c->shape.head_dim * 2;
}

static void finish(decode_work *w) {
  attention_decode_free(w->b->device, &w->plan);
  attention_decode_baseline_free(w->b->device, &w->blocks);
}

static bool is_right(double error) {
  if (!(error <= 2e-5))
    printf("WRONG: NMSE %.3g against the other kernel\n", error);
  return error <= 2e-5;
}

static bool run_case(bench *b, const decode_case *c) {
  decode_work w = {.b = b, .c = c};
  double spread, unused, planned = 0, error = prepare(&w, &planned), bytes = visible_bytes(&w);
  double seconds = measure(&w, false, REPEATS, &spread);
  double blocks = measure(&w, true, REPEATS, &unused);
  if (c->run == DENSE)
    b->dense = blocks;
  char what[16];
  snprintf(what, sizeof what, c->run == DENSE ? "dense" : c->run == MIXED ? "mixed" : "runs of %d", c->run);
  printf("%2d/%-2d x %-3d  %3lld  %-11s  %4lld  %7.1f  %7.4f +-%.4f  %4.0f  %5.1f%%  %5.2f  ",
         c->shape.n_head, c->shape.n_kv_head, c->shape.head_dim, (long long)c->batch, what,
         (long long)(w.plan.n_row / c->batch), bytes * 1e-6, seconds * 1e3, spread * 1e3,
         bytes / seconds * 1e-9, 100 * bytes / seconds / b->copy_rate, seconds * b->copy_rate / bytes);
  printf("%7.4f (%5.2fx)  %7.4f (%5.2fx)  %4d  %4.0f", blocks * 1e3, blocks / seconds, b->dense * 1e3,
         b->dense / seconds, w.plan.item_rows, planned * 1e6);
  for (int32_t rows = ITEMS_LEAST; rows <= DECODE_ROWS_MOST && b->items; rows *= 2) {
    check(b, attention_decode_recut(b->device, &w.plan, c->shape, SS_BF16, rows));
    printf("  %7.4f", measure(&w, false, SWEEP_REPEATS, &unused) * 1e3);
  }
  printf("\n");
  bool right = is_right(error);
  fflush(stdout);
  finish(&w);
  return right;
}

// One case, for a profiler: its calls, and the bytes that one of them claims to read.
static bool run_once(bench *b, const decode_case *c) {
  decode_work w = {.b = b, .c = c};
  double planned, error = prepare(&w, &planned);
  RUN(b, stamp, 0);
  call(&w, false, 1);
  RUN(b, stamp, 1);
  RUN(b, stamp_seconds, 0, 1, &planned);
  printf("claimed %.0f bytes\n", visible_bytes(&w));
  finish(&w);
  return is_right(error);
}

static bool run_all(bench *b, int64_t most) {
  static const ss_attention_shape shapes[] = {{12, 12, 64, 0.125f},
                                              {9, 3, 64, 0.125f},
                                              {32, 8, 128, 0.0884f}};
  static const int32_t runs[] = {DENSE, 8, 16, 32, 64, 128, 256, MIXED};
  static const int64_t batches[] = {1, 64, 256};
  printf(
      "%s\ncopy %.0f GB/s; %d rows a sequence, of which %d (runs of 256: 256) are visible, mixed: in every "
      "other sequence; ms: median +- quartiles' distance\n",
      b->device->description, b->copy_rate * 1e-9, SLAB, VISIBLE);
  printf("heads x dim    B  visible      rows       MB       ms           GB/s  of copy  x copy  blocks ms   "
         "     "
         "  dense ms           item  plan us%s\n",
         b->items ? "  ms by rows of an item: 64 ... 1024" : "");
  bool right = true;
  for (int s = 0; s < 3; ++s)
    for (int i = 0; i < 3; ++i)
      for (int r = 0; r < 8; ++r) {
        decode_case c = {shapes[s], batches[i] < most ? batches[i] : most, runs[r]};
        if ((s > 0 && (i != 1 || (r != 0 && r != 2))) || (c.run == MIXED && c.batch < 2) ||
            (b->small && i > 1))
          continue;
        right &= run_case(b, &c);
      }
  return right;
}

ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error);

int main(int argc, char **argv) {
  bench b = {0};
  int32_t run = 0;
  for (int k = 1; k < argc; ++k) {
    b.small |= strcmp(argv[k], "--small") == 0;
    b.items |= strcmp(argv[k], "--items") == 0;
    if (strcmp(argv[k], "--runs") == 0 && k + 1 < argc)
      run = (int32_t)strtol(argv[++k], NULL, 10);
  }
  ss_error error = {0};
  ss_device_options options = {.precision = SS_PRECISION_BF16};
  if (ss_cuda_device_open(&b.device, &options, &error) != SS_OK) {
    fprintf(stderr, "decode_kernel: %s\n", error.message);
    return 1;
  }
  ss_random random = ss_random_seed(20250311, 0);
  int64_t most = b.small ? 2 : 256;
  b.arena_bytes = (b.small ? 1 : 4) * most * SLAB * 1024 * 2;
  b.k = random_bytes(&b, b.arena_bytes, &random);
  b.v = random_bytes(&b, b.arena_bytes, &random);
  b.q = random_bytes(&b, most * 4096 * 2, &random);
  for (int i = 0; i < 2; ++i)
    RUN(&b, allocate, &b.out[i], (size_t)most * 4096 * 2, "results");
  measure_copy(&b);
  decode_case one = {{12, 12, 64, 0.125f}, most, run};
  bool right = run > 0 ? run_once(&b, &one) : run_all(&b, most);
  void *owned[] = {b.k, b.v, b.q, b.out[0], b.out[1]};
  for (int i = 0; i < 5; ++i)
    b.device->ops->release(b.device, owned[i]);
  ss_device_close(b.device);
  return right ? 0 : 1;
}
