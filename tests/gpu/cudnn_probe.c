// Which attention graphs cuDNN accepts on this device, whether they are right, and how fast they are.
//
//   gcc -O2 -std=c11 -Wall -Wextra -D_POSIX_C_SOURCE=200809L -DSS_WITH_CUDA -DSS_WITH_CUDNN -I. -I$CUDA_HOME/include
//     tests/gpu/cudnn_probe.c kernels/cuda/attention_cudnn_graph.c common/error.c -o /tmp/cudnn_probe -L$CUDA_HOME/lib64 -lcudnn -lcudart -lm
//   /tmp/cudnn_probe                       on a GPU: builds, compares with a CPU reference, times
//   /tmp/cudnn_probe --properties FILE     builds only, for the device described in FILE (cuDNN's JSON; no GPU needed)
//   /tmp/cudnn_probe --write-properties FILE
//
// A variant that fails is reported and the probe goes on. It includes a source file, to reach its state.
#include "kernels/cuda/attention_cudnn.c"

#include <math.h>
#include <time.h>

ss_status cuda_failed(ss_device *device, cudaError_t code, const char *call, const char *file, int line) {
  return ss_fail(&device->error, SS_ERROR_DEVICE, "%s:%d: %s: %s", file, line, call,
                 cudaGetErrorString(code));
}

typedef struct {
  const char *name;
  dense_options options;
  bool deterministic;
} probe_variant;

static const probe_variant variants[] = {
    {"standard", {.statistics_by_row = true, .finite_mask = false, .heuristic = -1}, false},
    {"statistics by head", {.statistics_by_row = false, .finite_mask = false, .heuristic = -1}, false},
    {"deterministic", {.statistics_by_row = true, .heuristic = -1}, true},
    {"deterministic, statistics by head",
     {.statistics_by_row = false, .finite_mask = false, .heuristic = -1},
     true},
    {"finite mask", {.statistics_by_row = false, .finite_mask = true, .heuristic = -1}, false},
    {"heuristic B", {.heuristic = CUDNN_HEUR_MODE_B}, false},
    {"heuristic fallback", {.heuristic = CUDNN_HEUR_MODE_FALLBACK}, false},
};
enum { N_VARIANT = sizeof(variants) / sizeof(variants[0]) };

typedef struct {
  int64_t rows, n_head, n_kv_head, length, head_dim;
} probe_shape;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint16_t to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static float from_bf16(uint16_t value) {
  uint32_t bits = (uint32_t)value << 16;
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

// --- one shape's tensors: qkv and dqkv [n, (H + 2K) D], out and dout [n, H D], statistics [n H] ---

typedef struct {
  probe_shape shape;
  int64_t n, qkv_columns, columns;
  uint16_t *qkv, *dout, *out, *dqkv;  // host
  float *statistics;
  void *device_qkv, *device_dout, *device_out, *device_dqkv, *device_statistics;
  attention_call call;
} probe_tensors;

static bool succeeded(cudaError_t code, const char *what) {
  if (code != cudaSuccess)
    printf("    CUDA: %s: %s\n", what, cudaGetErrorString(code));
  return code == cudaSuccess;
}

static bool tensors_make(probe_tensors *t, probe_shape shape, float spread) {
  uint64_t random = 20240607;
  memset(t, 0, sizeof(*t));
  t->shape = shape;
  t->n = shape.rows * shape.length;
  t->columns = shape.n_head * shape.head_dim;
  t->qkv_columns = (shape.n_head + 2 * shape.n_kv_head) * shape.head_dim;
  size_t qkv_count = (size_t)(t->n * t->qkv_columns), count = (size_t)(t->n * t->columns);
  size_t statistics_count = (size_t)(t->n * shape.n_head);
  t->qkv = malloc(qkv_count * 2), t->dqkv = malloc(qkv_count * 2);
  t->out = malloc(count * 2), t->dout = malloc(count * 2);
  t->statistics = malloc(statistics_count * 4);
  for (size_t i = 0; i < qkv_count + count; i++) {
    // A sum of three uniforms: near enough to a normal distribution.
    float value = 0;
    for (int j = 0; j < 3; j++) {
      random = random * 6364136223846793005ull + 1442695040888963407ull;
      value += (float)(random >> 40) / 8388608.0f - 1.0f;
    }
    if (i < qkv_count)
      t->qkv[i] = to_bf16(value * spread);
    else
      t->dout[i - qkv_count] = to_bf16(value);
  }
  if (!succeeded(cudaMalloc(&t->device_qkv, qkv_count * 2), "cudaMalloc") ||
      !succeeded(cudaMalloc(&t->device_dqkv, qkv_count * 2), "cudaMalloc") ||
      !succeeded(cudaMalloc(&t->device_out, count * 2), "cudaMalloc") ||
      !succeeded(cudaMalloc(&t->device_dout, count * 2), "cudaMalloc") ||
      !succeeded(cudaMalloc(&t->device_statistics, statistics_count * 4), "cudaMalloc") ||
      !succeeded(cudaMemcpy(t->device_qkv, t->qkv, qkv_count * 2, cudaMemcpyHostToDevice), "upload") ||
      !succeeded(cudaMemcpy(t->device_dout, t->dout, count * 2, cudaMemcpyHostToDevice), "upload"))
    return false;
  int64_t query = t->columns, key = shape.n_kv_head * shape.head_dim;
  ss_tensor qkv = ss_matrix_of(t->device_qkv, t->n, t->qkv_columns, SS_BF16);
  ss_tensor dqkv = ss_matrix_of(t->device_dqkv, t->n, t->qkv_columns, SS_BF16);
  t->call = (attention_call){.shape = {(int32_t)shape.n_head, (int32_t)shape.n_kv_head,
                                       (int32_t)shape.head_dim, 1.0f / sqrtf((float)shape.head_dim)},
                             .q = ss_columns(qkv, 0, query),
                             .k = ss_columns(qkv, query, key),
                             .v = ss_columns(qkv, query + key, key),
                             .out = ss_matrix_of(t->device_out, t->n, t->columns, SS_BF16),
                             .log_sum_exp = ss_matrix(t->device_statistics, t->n, shape.n_head),
                             .dout = ss_matrix_of(t->device_dout, t->n, t->columns, SS_BF16),
                             .dq = ss_columns(dqkv, 0, query),
                             .dk = ss_columns(dqkv, query, key),
                             .dv = ss_columns(dqkv, query + key, key)};
  return true;
}

static void tensors_poison(probe_tensors *t) {
  cudaMemset(t->device_out, 0xff, (size_t)(t->n * t->columns) * 2);  // NaN
  cudaMemset(t->device_dqkv, 0xff, (size_t)(t->n * t->qkv_columns) * 2);
  cudaMemset(t->device_statistics, 0xff, (size_t)(t->n * t->shape.n_head) * 4);
}

static bool tensors_fetch(probe_tensors *t) {
  return succeeded(cudaDeviceSynchronize(), "synchronize") &&
         succeeded(cudaMemcpy(t->out, t->device_out, (size_t)(t->n * t->columns) * 2, cudaMemcpyDeviceToHost),
                   "download") &&
         succeeded(cudaMemcpy(t->dqkv, t->device_dqkv, (size_t)(t->n * t->qkv_columns) * 2,
                              cudaMemcpyDeviceToHost),
                   "download") &&
         succeeded(cudaMemcpy(t->statistics, t->device_statistics, (size_t)(t->n * t->shape.n_head) * 4,
                              cudaMemcpyDeviceToHost),
                   "download");
}

static void tensors_free(probe_tensors *t) {
  free(t->qkv), free(t->dqkv), free(t->out), free(t->dout), free(t->statistics);
  cudaFree(t->device_qkv), cudaFree(t->device_dqkv), cudaFree(t->device_out);
  cudaFree(t->device_dout), cudaFree(t->device_statistics);
}

// --- the reference: one row of the batch, one key head with its group of query heads, in float and double ---

typedef struct {
  double difference, total;
} probe_error;

static void compare(probe_error *error, double got, double want) {
  error->difference += (got - want) * (got - want);
  error->total += want * want;
}

static double nmse(probe_error error) {
  return error.difference / error.total;
}

enum { ERROR_OUT, ERROR_STATISTICS, ERROR_DQ, ERROR_DK, ERROR_DV, N_ERROR };

static void reference(const probe_tensors *t, bool by_row, int64_t row, int64_t kv_head,
                      probe_error errors[N_ERROR]) {
  const int64_t T = t->shape.length, D = t->shape.head_dim, H = t->shape.n_head, K = t->shape.n_kv_head;
  const int64_t group = H / K, first = row * T;
  const float scale = t->call.shape.scale;
  float *q = malloc(sizeof(float) * (size_t)(T * D)), *k = malloc(sizeof(float) * (size_t)(T * D));
  float *v = malloc(sizeof(float) * (size_t)(T * D)), *dout = malloc(sizeof(float) * (size_t)(T * D));
  double *dk = calloc((size_t)(T * D), sizeof(double)), *dv = calloc((size_t)(T * D), sizeof(double));
  double *p = malloc(sizeof(double) * (size_t)T), *out = malloc(sizeof(double) * (size_t)D);
  double *dq = malloc(sizeof(double) * (size_t)D);
  for (int64_t i = 0; i < T; i++)
    for (int64_t d = 0; d < D; d++) {
      k[i * D + d] = from_bf16(t->qkv[(first + i) * t->qkv_columns + (H + kv_head) * D + d]);
      v[i * D + d] = from_bf16(t->qkv[(first + i) * t->qkv_columns + (H + K + kv_head) * D + d]);
    }
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
    for (int64_t i = 0; i < T; i++)
      for (int64_t d = 0; d < D; d++) {
        q[i * D + d] = from_bf16(t->qkv[(first + i) * t->qkv_columns + head * D + d]);
        dout[i * D + d] = from_bf16(t->dout[(first + i) * t->columns + head * D + d]);
      }
    for (int64_t i = 0; i < T; i++) {
      double largest = -INFINITY, sum = 0, delta = 0;
      for (int64_t j = 0; j <= i; j++) {
        float score = 0;
        for (int64_t d = 0; d < D; d++)
          score += q[i * D + d] * k[j * D + d];
        p[j] = (double)score * scale;
        largest = p[j] > largest ? p[j] : largest;
      }
      memset(out, 0, sizeof(double) * (size_t)D);
      memset(dq, 0, sizeof(double) * (size_t)D);
      for (int64_t j = 0; j <= i; j++)
        sum += p[j] = exp(p[j] - largest);
      for (int64_t j = 0; j <= i; j++) {
        p[j] /= sum;
        for (int64_t d = 0; d < D; d++)
          out[d] += p[j] * v[j * D + d];
      }
      for (int64_t d = 0; d < D; d++) {
        delta += out[d] * dout[i * D + d];
        compare(&errors[ERROR_OUT], from_bf16(t->out[(first + i) * t->columns + head * D + d]), out[d]);
      }
      float statistics = t->statistics[by_row ? (first + i) * H + head : (row * H + head) * T + i];
      compare(&errors[ERROR_STATISTICS], statistics, largest + log(sum));
      for (int64_t j = 0; j <= i; j++) {
        float dp = 0;
        for (int64_t d = 0; d < D; d++)
          dp += dout[i * D + d] * v[j * D + d];
        double ds = p[j] * (dp - delta) * scale;
        for (int64_t d = 0; d < D; d++) {
          dq[d] += ds * k[j * D + d];
          dk[j * D + d] += ds * q[i * D + d];
          dv[j * D + d] += p[j] * dout[i * D + d];
        }
      }
      for (int64_t d = 0; d < D; d++)
        compare(&errors[ERROR_DQ], from_bf16(t->dqkv[(first + i) * t->qkv_columns + head * D + d]), dq[d]);
    }
  }
  for (int64_t i = 0; i < T; i++)
    for (int64_t d = 0; d < D; d++) {
      const uint16_t *gradient = t->dqkv + (first + i) * t->qkv_columns;
      compare(&errors[ERROR_DK], from_bf16(gradient[(H + kv_head) * D + d]), dk[i * D + d]);
      compare(&errors[ERROR_DV], from_bf16(gradient[(H + K + kv_head) * D + d]), dv[i * D + d]);
    }
  free(q), free(k), free(v), free(dout), free(dk), free(dv), free(p), free(out), free(dq);
}

// --- building and running variants ---

static bool build(dense_graph *graph, dense_target target, const probe_variant *variant, probe_shape shape,
                  bool backward) {
  int64_t stride = (shape.n_head + 2 * shape.n_kv_head) * shape.head_dim, out = shape.n_head * shape.head_dim;
  ss_error error = {0};
  double start = seconds();
  memset(graph, 0, sizeof(*graph));
  graph->key = (dense_key){.rows = shape.rows,
                           .length = shape.length,
                           .n_head = shape.n_head,
                           .n_kv_head = shape.n_kv_head,
                           .head_dim = shape.head_dim,
                           .stride = {[Q] = stride, [K] = stride, [V] = stride, [OUT] = out},
                           .backward = backward,
                           .statistics = true,
                           .deterministic = variant->deterministic};
  if (backward) {
    graph->key.stride[DOUT] = out;
    graph->key.stride[DQ] = graph->key.stride[DK] = graph->key.stride[DV] = stride;
  }
  bool built = dense_build(graph, target, variant->options, &error) == SS_OK;
  if (!built)
    printf("  %-8s %-32s refused: %s\n", backward ? "backward" : "forward", variant->name, error.message);
  else
    printf("  %-8s %-32s engine %lld, %s, engine workspace %.1f MB, built in %.0f ms\n",
           backward ? "backward" : "forward", variant->name, (long long)graph->engine,
           graph->noted ? "noted as NONDETERMINISTIC" : "no nondeterministic note",
           1e-6 * (double)graph->engine_bytes, 1e3 * (seconds() - start));
  fflush(stdout);
  return built;
}

static bool execute(cuda_device *device, cuda_dense_state *state, const dense_graph *graph,
                    const attention_call *call) {
  ss_error_clear(&device->base.error);
  bool done = dense_execute(&device->base, state, graph, call) == SS_OK;
  if (!done)
    printf("    %s\n", device->base.error.message);
  return done;
}

static void show(const char *name, const probe_error errors[N_ERROR], bool backward) {
  static const char *names[N_ERROR] = {"out", "lse", "dq", "dk", "dv"};
  bool good = true;
  printf("    %-32s NMSE", name);
  for (int i = 0; i < (backward ? N_ERROR : ERROR_DQ); i++) {
    printf("  %s %.2e", names[i], nmse(errors[i]));
    good = good && nmse(errors[i]) <= (i == ERROR_STATISTICS ? 1e-8 : 1e-4);
  }
  printf("  %s\n", good ? "ok" : "WRONG");
  fflush(stdout);
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void measure(cuda_device *device, cuda_dense_state *state, const probe_tensors *t,
                    const dense_graph *graph) {
  const probe_shape s = t->shape;
  float times[30];
  cudaEvent_t events[31];
  bool good = true;
  for (int i = 0; i < 31; i++)
    cudaEventCreate(&events[i]);
  for (int i = 0; i < 5 && good; i++)
    good = execute(device, state, graph, &t->call);
  good = good && succeeded(cudaDeviceSynchronize(), "synchronize");
  double start = seconds();
  for (int i = 0; i < 31 && good; i++) {
    cudaEventRecord(events[i], device->stream);
    if (i < 30)
      good = execute(device, state, graph, &t->call);
  }
  double host = (seconds() - start) / 30;
  good = good && succeeded(cudaDeviceSynchronize(), "synchronize");
  for (int i = 0; i < 30 && good; i++)
    cudaEventElapsedTime(&times[i], events[i], events[i + 1]);
  for (int i = 0; i < 31; i++)
    cudaEventDestroy(events[i]);
  if (!good)
    return;
  qsort(times, 30, sizeof(times[0]), by_value);
  // The causal half of two products forward, five backward.
  double flops = (graph->key.backward ? 5.0 : 2.0) * (double)(s.rows * s.n_head * s.head_dim) *
                 (double)(s.length * s.length);
  printf("    %-8s median %.4f ms, best %.4f, %.0f TFLOP/s; the host spends %.1f us a call\n",
         graph->key.backward ? "backward" : "forward", times[15], times[0], flops / (1e9 * times[15]),
         1e6 * host);
}

// Runs a variant forward and backward, compares (all heads, or the last one of the last row), repeats the backward,
// and times both.
static void examine(cuda_device *device, cuda_dense_state *state, probe_tensors *t,
                    const probe_variant *variant, bool everything, bool timed) {
  dense_graph forward, backward;
  ss_error error = {0};
  dense_target target = {.handle = state->handle};
  bool has_forward = build(&forward, target, variant, t->shape, false);
  bool has_backward = build(&backward, target, variant, t->shape, true) && has_forward;
  bool good = has_forward && dense_reserve(state, dense_workspace_bytes(&forward), &error) == SS_OK &&
              (!has_backward || dense_reserve(state, dense_workspace_bytes(&backward), &error) == SS_OK);
  if (error.status != SS_OK)
    printf("    %s\n", error.message);
  tensors_poison(t);
  if (good && execute(device, state, &forward, &t->call) &&
      (!has_backward || execute(device, state, &backward, &t->call)) && tensors_fetch(t)) {
    probe_error errors[N_ERROR] = {{0, 0}};
    for (int64_t row = everything ? 0 : t->shape.rows - 1; row < t->shape.rows; row++)
      for (int64_t head = everything ? 0 : t->shape.n_kv_head - 1; head < t->shape.n_kv_head; head++)
        reference(t, variant->options.statistics_by_row, row, head, errors);
    show(variant->name, errors, has_backward);
    if (has_backward) {
      size_t bytes = (size_t)(t->n * t->qkv_columns) * 2;
      uint16_t *earlier = malloc(bytes);
      int same = 0;
      memcpy(earlier, t->dqkv, bytes);
      for (int i = 0; i < 3; i++)
        if (execute(device, state, &backward, &t->call) && tensors_fetch(t))
          same += memcmp(earlier, t->dqkv, bytes) == 0;
      printf("    %d of 3 repetitions of the backward are bit-equal\n", same);
      free(earlier);
    }
    if (timed)
      measure(device, state, t, &forward);
    if (timed && has_backward)
      measure(device, state, t, &backward);
    fflush(stdout);
  }
  dense_graph_free(&forward);
  dense_graph_free(&backward);
}

// The functions that the backend calls, for a shape that is served and for one that is not.
static void check_interface(cuda_device *device, probe_tensors *t) {
  const char *engine = "";
  int64_t rows = t->shape.rows, length = t->shape.length;
  attention_call ahead = t->call;
  probe_error errors[N_ERROR] = {{0, 0}};
  ahead.dout.data = ahead.dq.data = ahead.dk.data = ahead.dv.data = NULL;
  bool serves = attention_cudnn_serves(&device->base, rows, length, &ahead, true, &engine);
  printf("  asked ahead: %s: %s\n", serves ? "served" : "refused", engine);
  tensors_poison(t);
  if (serves && attention_cudnn_forward(&device->base, rows, length, &t->call) == SS_OK &&
      attention_cudnn_backward(&device->base, rows, length, &t->call) == SS_OK && tensors_fetch(t)) {
    for (int64_t row = 0; row < rows; row++)
      for (int64_t head = 0; head < t->shape.n_kv_head; head++)
        reference(t, dense_standard.statistics_by_row, row, head, errors);
    show("interface", errors, true);
    printf("    graphs kept: %d\n", device->dense->n_graph);
  } else if (serves) {
    printf("    %s\n", device->base.error.message);
  }
  ss_error_clear(&device->base.error);
  attention_call inference = t->call;
  inference.log_sum_exp.data = NULL;
  probe_error without[N_ERROR] = {{0, 0}};
  tensors_poison(t);
  if (attention_cudnn_forward(&device->base, rows, length, &inference) == SS_OK && tensors_fetch(t)) {
    reference(t, false, rows - 1, t->shape.n_kv_head - 1, without);
    printf("    without statistics: out NMSE %.2e\n", nmse(without[ERROR_OUT]));
  } else {
    printf("    without statistics: %s\n", device->base.error.message);
  }
  ss_error_clear(&device->base.error);
  attention_call crooked = t->call;
  crooked.q.data = (char *)crooked.q.data + 2;
  printf("  misaligned q: %s",
         attention_cudnn_forward(&device->base, rows, length, &crooked) == SS_OK ? "SERVED\n" : "");
  printf("%s\n", device->base.error.message);
  ss_error_clear(&device->base.error);
}

static cudnnBackendDescriptor_t properties_read(const char *path) {
  static char text[16384];
  cudnnBackendDescriptor_t properties = NULL;
  FILE *file = fopen(path, "r");
  int64_t size = file ? (int64_t)fread(text, 1, sizeof(text), file) : 0;
  if (file)
    fclose(file);
  if (size == 0 ||
      cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties) !=
          CUDNN_STATUS_SUCCESS ||
      cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size,
                               text) != CUDNN_STATUS_SUCCESS ||
      cudnnBackendFinalize(properties) != CUDNN_STATUS_SUCCESS) {
    cudnnGetLastErrorString(text, sizeof(text));
    printf("%s: not a device's properties: %s\n", path, text);
    return NULL;
  }
  return properties;
}

static int properties_write(const char *path) {
  static char text[16384];
  const int32_t ordinal = 0;
  int64_t size = 0;
  cudnnBackendDescriptor_t properties = NULL;
  if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties) !=
          CUDNN_STATUS_SUCCESS ||
      cudnnBackendSetAttribute(properties, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &ordinal) !=
          CUDNN_STATUS_SUCCESS ||
      cudnnBackendFinalize(properties) != CUDNN_STATUS_SUCCESS ||
      cudnnBackendGetAttribute(properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                               sizeof(text), &size, text) != CUDNN_STATUS_SUCCESS)
    return printf("no device properties\n"), 1;
  FILE *file = fopen(path, "w");
  if (!file || fwrite(text, 1, strnlen(text, (size_t)size), file) == 0)
    return printf("%s: cannot be written\n", path), 1;
  fclose(file);
  return 0;
}

// What to do with a shape on a GPU; the first `n_variant` variants.
typedef struct {
  probe_shape shape;
  int n_variant;
  bool everything, timed, interface;
} probe_task;

int main(int argc, char **argv) {
  static const probe_task tasks[] = {{{2, 3, 3, 256, 64}, 4, true, false, true},
                                     {{16, 12, 12, 1024, 64}, 4, false, true, false},
                                     {{2, 4, 2, 256, 64}, 3, true, false, false},
                                     {{4, 16, 16, 2048, 128}, 3, false, true, false},
                                     {{2, 3, 3, 256, 128}, 2, true, false, false},
                                     {{2, 3, 3, 200, 64}, 2, true, false, true},
                                     {{1, 3, 3, 257, 64}, 1, true, false, false}};
  enum { N_TASK = sizeof(tasks) / sizeof(tasks[0]) };
  const double limit = 33;  // seconds, after which nothing more is begun
  double start = seconds();
  printf("cuDNN %zu at run time, %d in the header; built for CUDA runtime %zu\n", cudnnGetVersion(),
         CUDNN_VERSION, cudnnGetCudartVersion());
  if (argc == 3 && strcmp(argv[1], "--write-properties") == 0)
    return properties_write(argv[2]);
  dense_target target = {.handle = NULL};
  if (argc == 3 && strcmp(argv[1], "--properties") == 0 && !(target.properties = properties_read(argv[2])))
    return 1;
  cuda_device *device = calloc(1, sizeof(*device));
  cuda_dense_state *state = NULL;
  if (!target.properties) {
    struct cudaDeviceProp about;
    if (!succeeded(cudaGetDeviceProperties(&about, 0), "device") ||
        !succeeded(cudaStreamCreate(&device->stream), "stream"))
      return 1;
    printf("%s\n", about.name);
    device->compute_capability = about.major * 10 + about.minor;
    state = dense_state(&device->base);
    if (!state || !state->handle)
      return printf("%s\n", state ? state->text : "no memory"), 1;
  }
  for (int i = 0; i < N_TASK; i++) {
    const probe_shape s = tasks[i].shape;
    probe_tensors tensors;
    printf("B %lld H %lld/%lld T %lld D %lld  (%.1f s so far)\n", (long long)s.rows, (long long)s.n_head,
           (long long)s.n_kv_head, (long long)s.length, (long long)s.head_dim, seconds() - start);
    for (int v = 0; v < N_VARIANT && target.properties; v++)
      for (int backward = 0; backward < 2; backward++) {
        dense_graph graph;
        build(&graph, target, &variants[v], s, backward);
        dense_graph_free(&graph);
      }
    if (target.properties)
      continue;
    if (tensors_make(&tensors, s, 1.0f)) {
      for (int v = 0; v < tasks[i].n_variant && seconds() - start < limit; v++)
        examine(device, state, &tensors, &variants[v], tasks[i].everything, tasks[i].timed);
      if (tasks[i].interface && seconds() - start < limit)
        check_interface(device, &tensors);
    }
    tensors_free(&tensors);
  }
  if (state)
    attention_cudnn_free(&device->base);
  free(device);
  printf("done in %.1f s\n", seconds() - start);
  return 0;
}
