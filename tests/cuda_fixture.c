#include "tests/cuda_fixture.h"

#include "kernels/cuda/gemm.h"

// Linked straight, not through ss_device_open: the program chooses the backend, emulated or real.
ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error);

struct cuda_block {
  struct cuda_block *next;
  ss_device *device;
  void *data;
};

// SELFSPAN_TEST=PATTERN (with * and ?) runs those tests of a program alone: sanitizers take minutes for one.
__attribute__((constructor)) static void choose_tests(void) {
  const char *pattern = getenv("SELFSPAN_TEST");
  if (pattern != NULL)
    cmocka_set_test_filter(pattern);
}

bool cuda_is_emulated(void) {
#ifdef SS_EMULATE
  return true;
#else
  return false;
#endif
}

bool cuda_small(void) {
  const char *small = getenv("SELFSPAN_SMALL");
  return cuda_is_emulated() || (small && small[0] == '1');
}

uint16_t cuda_bf16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

float cuda_float_of(uint16_t bf16) {
  uint32_t bits = (uint32_t)bf16 << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

float cuda_round_bf16(float value) {
  return cuda_float_of(cuda_bf16_of(value));
}

void cuda_open(cuda_fixture *f, ss_precision precision, bool deterministic) {
  memset(f, 0, sizeof *f);
  ss_error error = {0};
  ss_device_options options = {.n_thread = 1, .precision = precision, .deterministic = deterministic};
  ss_device *gpu = NULL;
  if (ss_cuda_device_open(&gpu, &options, &error) != SS_OK) {
    print_message("%s\n", error.message);
    if (error.status == SS_ERROR_DEVICE && !cuda_is_emulated())
      skip();
    fail_msg("%s", error.message);
  }
  f->device[ON_CUDA] = gpu;
  f->compute = gpu->compute;
  // initcheck does not see what a library's kernels write through TMA; ours, it does.
  const char *own = getenv("SELFSPAN_OWN_PRODUCTS");
  cuda_gemm_choices_of(gpu)->never_library = own && own[0] == '1';
  const char *seed = getenv("SELFSPAN_TEST_SEED");
  f->seed = seed && seed[0] ? strtoull(seed, NULL, 10) : CUDA_SEED;
  f->random = ss_random_seed(f->seed, 1);
  assert_ok(ss_device_open(&f->device[ON_CPU], "cpu", &options, &error));
}

void cuda_release_all(cuda_fixture *f) {
  while (f->blocks) {
    struct cuda_block *block = f->blocks;
    f->blocks = block->next;
    block->device->ops->release(block->device, block->data);
    free(block);
  }
}

void cuda_close(cuda_fixture *f) {
  cuda_release_all(f);
  for (int d = 0; d < 2; ++d)
    ss_device_close(f->device[d]);
}

void cuda_context(cuda_fixture *f, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(f->context, sizeof f->context, format, arguments);
  va_end(arguments);
}

void *cuda_bytes(cuda_fixture *f, int which, size_t bytes) {
  void *data = NULL;
  CUDA_RUN(f, which, allocate, &data, bytes ? bytes : 1, "test data");
  struct cuda_block *block = malloc(sizeof *block);
  assert_non_null(block);
  *block = (struct cuda_block){f->blocks, f->device[which], data};
  f->blocks = block;
  return data;
}

// --- the pattern between rows ---
#define GAP 0x5a

static size_t extent(ss_tensor t) {
  return t.rows > 0 ? (size_t)(t.rows * t.stride) * ss_dtype_size(t.dtype) : 0;
}

static void encode(unsigned char *at, ss_dtype dtype, float value) {
  uint16_t half = cuda_bf16_of(value);
  int32_t integer = dtype == SS_I32 ? (int32_t)value : 0;
  if (dtype == SS_BF16)
    memcpy(at, &half, 2);
  else if (dtype == SS_I32)
    memcpy(at, &integer, 4);
  else
    memcpy(at, &value, 4);
}

// All of a tensor, gaps included: for tensors that own their memory. values: [rows, cols]
static void fill(cuda_fixture *f, int which, ss_tensor t, const float *values) {
  size_t size = ss_dtype_size(t.dtype), bytes = extent(t);
  unsigned char *host = malloc(bytes + 1);
  assert_non_null(host);
  memset(host, GAP, bytes);
  for (int64_t row = 0; row < t.rows; ++row)
    for (int64_t c = 0; c < t.cols; ++c)
      encode(host + (size_t)(row * t.stride + c) * size, t.dtype, values[row * t.cols + c]);
  CUDA_RUN(f, which, upload, t.data, host, bytes);
  free(host);
}

void cuda_upload_floats(cuda_fixture *f, int which, ss_tensor t, const float *values) {
  size_t size = ss_dtype_size(t.dtype);
  unsigned char *host = malloc((size_t)t.cols * size + 1);
  assert_non_null(host);
  for (int64_t row = 0; row < t.rows; ++row) {
    for (int64_t c = 0; c < t.cols; ++c)
      encode(host + (size_t)c * size, t.dtype, values[row * t.cols + c]);
    CUDA_RUN(f, which, upload, (char *)t.data + (size_t)(row * t.stride) * size, host, (size_t)t.cols * size);
  }
  free(host);
}

static cuda_pair make(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int64_t stride,
                      ss_dtype dtype) {
  cuda_pair pair = {.name = name};
  for (int d = 0; d < 2; ++d) {
    ss_dtype own = d == ON_CPU && dtype == SS_BF16 ? SS_F32 : dtype;
    pair.on[d] = (ss_tensor){cuda_bytes(f, d, (size_t)(rows * stride) * ss_dtype_size(own)), rows, cols,
                             stride, own};
  }
  return pair;
}

static cuda_pair from_values(cuda_fixture *f, const char *name, const float *values, int64_t rows,
                             int64_t cols, int64_t stride, ss_dtype dtype) {
  cuda_pair pair = make(f, name, rows, cols, stride, dtype);
  for (int d = 0; d < 2; ++d)
    fill(f, d, pair.on[d], values);
  return pair;
}

static float *host_floats(int64_t count) {
  float *out = calloc((size_t)count + 1, sizeof *out);
  assert_non_null(out);
  return out;
}

cuda_pair cuda_random_strided(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int64_t stride,
                              ss_dtype dtype, double scale) {
  float *values = host_floats(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    values[i] = (float)(scale * ss_random_normal(&f->random));
    if (dtype == SS_BF16)
      values[i] = cuda_round_bf16(values[i]);
  }
  cuda_pair pair = from_values(f, name, values, rows, cols, stride, dtype);
  free(values);
  return pair;
}

cuda_pair cuda_random(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype,
                      double scale) {
  return cuda_random_strided(f, name, rows, cols, cols, dtype, scale);
}

cuda_pair cuda_floats(cuda_fixture *f, const char *name, const float *values, int64_t rows, int64_t cols,
                      ss_dtype dtype) {
  float *rounded = host_floats(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i)
    rounded[i] = dtype == SS_BF16 ? cuda_round_bf16(values[i]) : values[i];
  cuda_pair pair = from_values(f, name, rounded, rows, cols, cols, dtype);
  free(rounded);
  return pair;
}

cuda_pair cuda_integers(cuda_fixture *f, const char *name, const int32_t *values, int64_t count) {
  cuda_pair pair = make(f, name, 1, count, count, SS_I32);
  for (int d = 0; d < 2; ++d)
    CUDA_RUN(f, d, upload, pair.on[d].data, values, (size_t)count * sizeof *values);
  return pair;
}

cuda_pair cuda_random_integers(cuda_fixture *f, const char *name, int64_t count, int32_t low, int32_t high) {
  int32_t *values = malloc((size_t)count * sizeof *values + 1);
  assert_non_null(values);
  for (int64_t i = 0; i < count; ++i)
    values[i] = (int32_t)ss_random_range(&f->random, low, high);
  cuda_pair pair = cuda_integers(f, name, values, count);
  free(values);
  return pair;
}

void cuda_poison(cuda_fixture *f, cuda_pair pair) {
  int64_t count = pair.on[ON_CPU].rows * pair.on[ON_CPU].cols;
  float *values = host_floats(count);
  for (int64_t i = 0; i < count; ++i)
    values[i] = pair.on[ON_CPU].dtype == SS_I32 ? -1.0f : NAN;
  for (int d = 0; d < 2; ++d)
    cuda_upload_floats(f, d, pair.on[d], values);
  free(values);
}

cuda_pair cuda_output_strided(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int64_t stride,
                              ss_dtype dtype) {
  float *values = host_floats(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i)
    values[i] = dtype == SS_I32 ? -1.0f : NAN;
  cuda_pair pair = from_values(f, name, values, rows, cols, stride, dtype);
  free(values);
  return pair;
}

cuda_pair cuda_output(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype) {
  return cuda_output_strided(f, name, rows, cols, cols, dtype);
}

cuda_pair cuda_zeros(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype) {
  float *values = host_floats(rows * cols);
  cuda_pair pair = from_values(f, name, values, rows, cols, cols, dtype);
  free(values);
  return pair;
}

// From the first element to the last, gaps included; the caller frees.
static unsigned char *download_all(cuda_fixture *f, int which, ss_tensor t) {
  size_t bytes = t.rows > 0 ? (size_t)((t.rows - 1) * t.stride + t.cols) * ss_dtype_size(t.dtype) : 0;
  unsigned char *host = malloc(bytes + 1);
  assert_non_null(host);
  CUDA_RUN(f, which, download, host, t.data, bytes);
  return host;
}

void *cuda_download_bytes(cuda_fixture *f, int which, ss_tensor t) {
  unsigned char *all = download_all(f, which, t);
  size_t size = ss_dtype_size(t.dtype);
  for (int64_t row = 1; row < t.rows; ++row)
    memmove(all + (size_t)(row * t.cols) * size, all + (size_t)(row * t.stride) * size,
            (size_t)t.cols * size);
  return all;
}

float *cuda_download_floats(cuda_fixture *f, int which, ss_tensor t) {
  unsigned char *bytes = cuda_download_bytes(f, which, t);
  float *out = host_floats(t.rows * t.cols);
  for (int64_t i = 0; i < t.rows * t.cols; ++i) {
    if (t.dtype == SS_BF16)
      out[i] = cuda_float_of(((uint16_t *)(void *)bytes)[i]);
    else if (t.dtype == SS_I32)
      out[i] = (float)((int32_t *)(void *)bytes)[i];
    else
      out[i] = ((float *)(void *)bytes)[i];
  }
  free(bytes);
  return out;
}

double cuda_nmse(const float *got, const float *want, int64_t count) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < count; ++i) {
    double d = (double)got[i] - (double)want[i];
    // Equal infinities (the log-sum-exp of a query that reads nothing) agree.
    if (isinf(want[i]) && got[i] == want[i])
      continue;
    if (!isfinite(got[i]) || !isfinite(want[i]))
      return (double)NAN;
    difference += d * d;
    size += (double)want[i] * (double)want[i];
  }
  return difference == 0 ? 0 : difference / size;
}

static void check_gaps(cuda_fixture *f, cuda_pair pair) {
  ss_tensor t = pair.on[ON_CUDA];
  size_t size = ss_dtype_size(t.dtype);
  unsigned char *all = download_all(f, ON_CUDA, t);
  bool changed = false;
  // Views of a wider tensor have their neighbours there; only our pattern is judged.
  for (int64_t row = 0; row + 1 < t.rows; ++row) {
    const unsigned char *gap = all + (size_t)(row * t.stride + t.cols) * size;
    size_t width = (size_t)(t.stride - t.cols) * size, intact = 0;
    for (size_t i = 0; i < width; ++i)
      intact += gap[i] == GAP;
    changed |= intact != width && intact * 4 > width;
  }
  free(all);
  if (changed)
    fail_msg("%s [%lld, %lld]: wrote between its rows (%s, seed %llu)", pair.name, (long long)t.rows,
             (long long)t.cols, f->context, (unsigned long long)f->seed);
}

void cuda_check_values(cuda_fixture *f, cuda_pair pair, const float *want, double bound) {
  ss_tensor t = pair.on[ON_CUDA];
  float *got = cuda_download_floats(f, ON_CUDA, t);
  int64_t count = t.rows * t.cols, worst = 0;
  double error = cuda_nmse(got, want, count);
  for (int64_t i = 0; i < count; ++i) {
    bool same = got[i] == want[i];
    if (!same && !(fabs((double)got[i] - want[i]) <= fabs((double)got[worst] - want[worst])))
      worst = i;
    if (!same && isnan(got[i])) {
      worst = i;
      break;
    }
  }
  if (!(error <= (t.dtype == SS_I32 ? 0 : bound)))
    fail_msg("%s [%lld, %lld] %s: NMSE %.3g, expected <= %.3g; worst at [%lld, %lld]: %.9g, expected %.9g "
             "(%s, seed "
             "%llu)",
             pair.name, (long long)t.rows, (long long)t.cols, t.dtype == SS_BF16 ? "bf16" : "f32", error,
             bound, (long long)(worst / t.cols), (long long)(worst % t.cols), (double)got[worst],
             (double)want[worst], f->context, (unsigned long long)f->seed);
  free(got);
  if (t.stride > t.cols)
    check_gaps(f, pair);
}

void cuda_check(cuda_fixture *f, cuda_pair pair, double bound) {
  float *want = cuda_download_floats(f, ON_CPU, pair.on[ON_CPU]);
  cuda_check_values(f, pair, want, bound);
  free(want);
}

void cuda_check_same(cuda_fixture *f, const char *what, ss_tensor a, ss_tensor b) {
  void *one = cuda_download_bytes(f, ON_CUDA, a), *two = cuda_download_bytes(f, ON_CUDA, b);
  bool same = a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype &&
              memcmp(one, two, (size_t)(a.rows * a.cols) * ss_dtype_size(a.dtype)) == 0;
  free(one), free(two);
  if (!same)
    fail_msg("%s: differs in its bits (%s, seed %llu)", what, f->context, (unsigned long long)f->seed);
}
