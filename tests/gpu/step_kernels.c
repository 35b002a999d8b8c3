// Measures the fused ops of a decoding step at GPT-2's small shape: a recorded chain of 12 layers (qkv, projection, up
// with GELU, down; attention left out) and the classifier, each layer with weights of its own, so that they come from
// memory: 248 MB a chain. Needs a GPU; ten seconds at most.
//
//   make gpu-tests && build/gpu-tests/step_kernels            # what step_choose picks, beside other ways
//   build/gpu-tests/step_kernels --sweep [n ...]              # every way to cut every product
//   build/gpu-tests/step_kernels --tiles [n ...]              # those of step_tile.h alone
//
// A chain's time is the median of several runs of launches back to back; an op's is what the chain takes with it more than
// without it, so what launches hide of each other is in it. GB/s counts weights alone. "plain launches": no kernel starts
// before the one ahead has finished. "fused": step_linear.h where it serves, the norm in every block (above 16 rows before
// it). "tiles": a norm and products of tiles, where they serve. "composed": norm, cuBLASLt, and a kernel that places q, k, v.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/step_tile.h"

enum { LAYERS = 12, C = 768, F = 3072, V = 50304, ROWS = 512, CACHE_ROWS = 4096, REPEATS = 7 };
enum { QKV, PROJECTION, UP, DOWN, CLASSIFIER, N_OP };

static const char *const names[N_OP] = {"qkv", "projection", "up", "down", "classifier"};
static const int64_t outputs[N_OP] = {3 * C, C, F, C, V}, inputs[N_OP] = {C, C, C, F, C};

typedef struct {
  ss_device *device;
  ss_tensor weights[LAYERS][4], biases[LAYERS][4], classifier;  // BF16
  ss_tensor norm_weight, norm_bias;                             // F32 [1,C]
  ss_tensor start, x, q, attention, activation, k_cache, v_cache;
  ss_tensor logits;  // F32
  ss_tensor positions, slots;
  void *owned[256];
  int n_owned;
  const step_shape *shapes[N_OP];      // forced, or NULL
  const step_tile_shape *tiles[N_OP];  // likewise
  bool failed;
} bench;

static void check(bench *b, ss_status status) {
  if (status == SS_OK)
    return;
  fprintf(stderr, "step_kernels: %s\n", b->device->error.message);
  exit(1);
}
#define RUN(b, op, ...) check((b), (b)->device->ops->op((b)->device, __VA_ARGS__))

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

// --- data ---
static void *allocate(bench *b, int64_t bytes) {
  void *data = NULL;
  RUN(b, allocate, &data, (size_t)bytes, "tensors");
  b->owned[b->n_owned++] = data;
  return data;
}

static ss_tensor random_tensor(bench *b, int64_t rows, int64_t cols, ss_dtype dtype, float scale,
                               float average, ss_random *random) {
  enum { PIECE = 1 << 16 };
  static float values[PIECE];
  static uint16_t rounded[PIECE];
  int64_t count = rows * cols, size = (int64_t)ss_dtype_size(dtype), piece = count < PIECE ? count : PIECE;
  char *data = allocate(b, count * size);
  for (int64_t i = 0; i < piece; ++i)
    values[i] = average + scale * (float)ss_random_normal(random);
  for (int64_t i = 0; i < piece; ++i) {
    uint32_t bits;
    memcpy(&bits, &values[i], sizeof bits);
    rounded[i] = (uint16_t)(bits >> 16);
  }
  const void *from = dtype == SS_BF16 ? (const void *)rounded : (const void *)values;
  for (int64_t done = 0; done < count; done += piece)
    RUN(b, upload, data + done * size, from, (size_t)((count - done < piece ? count - done : piece) * size));
  return ss_matrix_of(data, rows, cols, dtype);
}

static ss_tensor integers(bench *b, int64_t count, int32_t step) {
  static int32_t values[ROWS];
  for (int64_t i = 0; i < count; ++i)
    values[i] = (int32_t)(i * step);
  ss_tensor tensor = ss_integers(allocate(b, count * 4), count);
  RUN(b, upload, tensor.data, values, (size_t)count * 4);
  return tensor;
}

static void make_tensors(bench *b) {
  ss_random random = ss_random_seed(20250311, 0);
  for (int layer = 0; layer < LAYERS; ++layer)
    for (int op = QKV; op < CLASSIFIER; ++op) {
      b->weights[layer][op] = random_tensor(b, outputs[op], inputs[op], SS_BF16, 0.02f, 0, &random);
      b->biases[layer][op] = random_tensor(b, 1, outputs[op], SS_BF16, 0.02f, 0, &random);
    }
  b->classifier = random_tensor(b, V, C, SS_BF16, 0.02f, 0, &random);
  b->norm_weight = random_tensor(b, 1, C, SS_F32, 0.1f, 1, &random);
  b->norm_bias = random_tensor(b, 1, C, SS_F32, 0.1f, 0, &random);
  b->start = random_tensor(b, ROWS, C, SS_BF16, 1, 0, &random);
  b->x = random_tensor(b, ROWS, C, SS_BF16, 1, 0, &random);
  b->q = random_tensor(b, ROWS, C, SS_BF16, 1, 0, &random);
  b->attention = random_tensor(b, ROWS, C, SS_BF16, 1, 0, &random);
  b->activation = random_tensor(b, ROWS, F, SS_BF16, 1, 0, &random);
  b->k_cache = random_tensor(b, CACHE_ROWS, C, SS_BF16, 1, 0, &random);
  b->v_cache = random_tensor(b, CACHE_ROWS, C, SS_BF16, 1, 0, &random);
  b->logits = ss_matrix(allocate(b, (int64_t)ROWS * V * 4), ROWS, V);
  b->positions = integers(b, ROWS, 3);
  b->slots = integers(b, ROWS, CACHE_ROWS / ROWS);
}

// --- the chain ---
static ss_tensor first(ss_tensor t, int64_t n) {
  if (t.dtype == SS_I32)
    return ss_integers(t.data, n);
  return ss_rows(t, 0, n);
}

static ss_status run_op(bench *b, int op, int layer, int64_t n) {
  const ss_ops *ops = b->device->ops;
  ss_norm norm = {SS_NORM_LAYER, b->norm_weight, b->norm_bias, 1e-5f};
  ss_tensor none = {0}, x = first(b->x, n);
  ss_tensor weight = op == CLASSIFIER ? b->classifier : b->weights[layer][op];
  ss_tensor bias = op == CLASSIFIER ? none : b->biases[layer][op];
  cuda_of(b->device)->step_forced = b->shapes[op];
  cuda_of(b->device)->step_tile_forced = b->tiles[op];
  if (op == QKV)
    return ops->step_qkv(b->device, first(b->q, n), b->k_cache, b->v_cache, x, norm, weight, bias,
                         first(b->positions, n), first(b->slots, n), 64, 0);
  if (op == UP)
    return ops->step_linear(b->device, first(b->activation, n), x, norm, weight, bias, SS_STEP_GELU);
  if (op == CLASSIFIER)
    return ops->step_linear(b->device, first(b->logits, n), x, norm, weight, bias, SS_STEP_PLAIN);
  return ops->step_residual(b->device, x, first(op == DOWN ? b->activation : b->attention, n), weight, bias);
}

// The chain without op `left_out` (N_OP: all of it).
static void run_chain(bench *b, int64_t n, int left_out) {
  RUN(b, convert, first(b->x, n), first(b->start, n));
  for (int layer = 0; layer < LAYERS; ++layer)
    for (int op = QKV; op < CLASSIFIER; ++op)
      if (op != left_out)
        check(b, run_op(b, op, layer, n));
  if (left_out != CLASSIFIER)
    check(b, run_op(b, CLASSIFIER, 0, n));
}

// Seconds of a chain.
static double measure(bench *b, int64_t n, int left_out) {
  int launches = n > 64 ? 5 : 10;
  double seconds[REPEATS];
  ss_graph *graph = NULL;
  run_chain(b, n, left_out);  // what must be allocated or timed is
  check(b, b->device->ops->graph_begin(b->device));
  run_chain(b, n, left_out);
  RUN(b, graph_end, &graph);
  RUN(b, graph_launch, graph);
  for (int i = 0; i < REPEATS; ++i) {
    RUN(b, stamp, 2 * i);
    for (int k = 0; k < launches; ++k)
      RUN(b, graph_launch, graph);
    RUN(b, stamp, 2 * i + 1);
  }
  for (int i = 0; i < REPEATS; ++i) {
    RUN(b, stamp_seconds, 2 * i, 2 * i + 1, &seconds[i]);
    seconds[i] /= launches;
  }
  b->device->ops->graph_free(b->device, graph);
  qsort(seconds, REPEATS, sizeof *seconds, compare);
  return seconds[REPEATS / 2];
}
static double bytes_of(int op) {
  return 2.0 * (double)outputs[op] * (double)inputs[op];
}

static double difference(const float *a, const float *b, int64_t count) {
  double error = 0, size = 0;
  for (int64_t i = 0; i < count; ++i) {
    error += pow((double)a[i] - (double)b[i], 2);
    size += pow((double)b[i], 2);
  }
  return error / size;
}

// --- what is chosen, beside other ways ---
static float *logits_of(bench *b, int64_t n) {
  float *host = malloc((size_t)(n * V) * sizeof *host);
  run_chain(b, n, N_OP);
  RUN(b, download, host, b->logits.data, (size_t)(n * V) * sizeof *host);
  return host;
}

enum { CHOSEN, PLAIN_LAUNCHES, FUSED, TILES, COMPOSED, N_WAY };

// Whether a way says anything new about n rows; tells the device to take it.
static bool take_way(bench *b, int way, int64_t n) {
  static const step_shape composed = {0, 0, 0, 0, 0};
  static const step_tile_shape no_tile = {-1, 0, 0}, any_tile = {0, 0, 0};
  if ((way == PLAIN_LAUNCHES && (!cuda_launches_early(cuda_of(b->device)) || n > 64)) ||
      (way == FUSED && (n <= 8 || n > 64)) || (way == TILES && n == 1))
    return false;
  for (int op = 0; op < N_OP; ++op) {
    b->shapes[op] = way == COMPOSED ? &composed : NULL;
    b->tiles[op] = way == FUSED || way == COMPOSED ? &no_tile : way == TILES ? &any_tile : NULL;
  }
  return true;
}

static void table(bench *b) {
  static const int64_t counts[] = {1, 8, 16, 32, 64, 128, 256, 512};
  static const char *const ways[N_WAY] = {"chosen", "plain launches", "fused", "tiles", "composed"};
  double total = bytes_of(CLASSIFIER);
  for (int op = QKV; op < CLASSIFIER; ++op)
    total += LAYERS * bytes_of(op);
  printf("chain: us (GB/s of weights); ops: us (GB/s)\n%4s  %-15s %15s", "n", "", "chain");
  for (int op = 0; op < N_OP; ++op)
    printf(" %15s", names[op]);
  printf("\n");
  for (int i = 0; i < 8; ++i) {
    float *logits[N_WAY] = {NULL};
    for (int way = 0; way < N_WAY; ++way) {
      int capability = cuda_of(b->device)->compute_capability;
      if (!take_way(b, way, counts[i]))
        continue;
      if (way == PLAIN_LAUNCHES)
        cuda_of(b->device)->compute_capability = 80;
      double all = measure(b, counts[i], N_OP);
      printf("%4lld  %-15s %8.1f (%4.0f)", (long long)counts[i], ways[way], all * 1e6, total / all * 1e-9);
      for (int op = 0; op < N_OP; ++op) {
        double seconds = (all - measure(b, counts[i], op)) / (op == CLASSIFIER ? 1 : LAYERS);
        printf(" %8.2f (%4.0f)", seconds * 1e6, bytes_of(op) / seconds * 1e-9);
      }
      cuda_of(b->device)->compute_capability = capability;
      logits[way] = logits_of(b, counts[i]);
      printf("\n");
      fflush(stdout);
    }
    for (int way = 0; way < N_WAY; ++way) {
      double error = logits[way] ? difference(logits[way], logits[COMPOSED], counts[i] * V) : 0;
      if (!(error <= 1e-3)) {
        printf("WRONG: logits of \"%s\" differ, NMSE %.3g\n", ways[way], error);
        b->failed = true;
      }
    }
    for (int way = 0; way < N_WAY; ++way)
      free(logits[way]);
  }
}

// --- every way to cut ---
// Shapes that cannot win are left out: rows read several times over, or not there.
static bool is_worth(int op, int64_t n, const step_shape *s) {
  if ((n <= 16 && s->rows16 > 1) || (n <= 32 && s->rows16 > 2) || (n > 32 && s->rows16 == 1))
    return false;
  if (op == CLASSIFIER)
    return s->splits == 1 && s->blocks32 == 3;
  if (s->blocks > 0 || (op != DOWN && s->blocks32 != 3))
    return false;
  return s->splits == 1 || op == DOWN || (op == PROJECTION && s->splits <= 3);
}

static void sweep_shape(bench *b, int op, int64_t n, const step_shape *s, double without) {
  if (!is_worth(op, n, s))
    return;
  b->shapes[op] = s;
  if (run_op(b, op, 0, n) != SS_OK) {
    ss_error_clear(&b->device->error);
  } else {
    double seconds = (measure(b, n, N_OP) - without) / (op == CLASSIFIER ? 1 : LAYERS);
    printf(" %d,%d,%d", s->rows16, s->tiles8, s->blocks32);
    if (s->splits > 1)
      printf("/%d", s->splits);
    if (s->blocks > 0)
      printf("@%d", s->blocks);
    printf(" %.2f;", seconds * 1e6);
  }
  b->shapes[op] = NULL;
}

// Every shape of step_tile.h whose rows are not mostly empty.
static void sweep_tiles(bench *b, int op, int64_t n, double without) {
  step_tile_shape shape;
  for (int i = 0; step_tile_shape_of(i, &shape); ++i) {
    if (op == CLASSIFIER || 8 * shape.rows16 >= n || (n >= 128 && shape.rows16 == 1))
      continue;
    b->tiles[op] = &shape;
    if (run_op(b, op, 0, n) != SS_OK)
      ss_error_clear(&b->device->error);
    else
      printf(" tile %d,%d %.2f;", shape.rows16, shape.tiles8, (measure(b, n, N_OP) - without) / LAYERS * 1e6);
  }
  b->tiles[op] = NULL;
}

static void sweep_fused(bench *b, int op, int64_t n, double without) {
  static const int32_t rows[] = {1, 2, 4}, tiles[] = {1, 2, 4, 6}, pieces[] = {3, 8, 12, 16};
  static const int32_t splits[] = {1, 2, 3, 4, 6, 8}, blocks[] = {0, 132, 264};
  for (int r = 0; r < 3; ++r)
    for (int t = 0; t < 4; ++t)
      for (int p = 0; p < 4; ++p)
        for (int s = 0; s < 6; ++s)
          for (int k = 0; k < 3; ++k) {
            step_shape shape = {rows[r], tiles[t], pieces[p], splits[s], blocks[k]};
            sweep_shape(b, op, n, &shape, without);
          }
}

static void sweep_op(bench *b, int op, int64_t n, bool fused) {
  double without = measure(b, n, op);
  printf("%4lld  %-10s chosen %.2f;", (long long)n, names[op],
         (measure(b, n, N_OP) - without) / (op == CLASSIFIER ? 1 : LAYERS) * 1e6);
  sweep_tiles(b, op, n, without);
  if (fused && n <= 64)
    sweep_fused(b, op, n, without);
  printf("\n");
  fflush(stdout);
}

ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error);

int main(int argc, char **argv) {
  static bench b;
  ss_error error = {0};
  ss_device_options options = {.precision = SS_PRECISION_BF16};
  if (ss_cuda_device_open(&b.device, &options, &error) != SS_OK) {
    fprintf(stderr, "step_kernels: %s\n", error.message);
    return 1;
  }
  make_tensors(&b);
  printf("%s\n", b.device->description);
  bool tiles = argc > 1 && strcmp(argv[1], "--tiles") == 0;
  if (tiles || (argc > 1 && strcmp(argv[1], "--sweep") == 0)) {
    static const int64_t counts[] = {1, 8, 16, 32, 64, 128, 256};
    printf("us an op, by rows / 16, features / 8 and, without \"tile\", pieces of 32 columns a warp; / "
           "blocks that "
           "share a tile, @ blocks\n");
    for (int i = tiles && argc <= 2 ? 2 : 0; i < (argc > 2 ? argc - 2 : 7); ++i)
      for (int op = 0; op < N_OP - tiles; ++op) {
        int64_t n = argc > 2 ? atoll(argv[i + 2]) : counts[i];
        sweep_op(&b, op, n < 1 ? 1 : n > ROWS ? ROWS : n, !tiles);
      }
  } else {
    table(&b);
  }
  for (int i = 0; i < b.n_owned; ++i)
    b.device->ops->release(b.device, b.owned[i]);
  ss_device_close(b.device);
  return b.failed ? 1 : 0;
}
