// The CUDA device itself: opening, memory, copies, conversions; and the primitives of gpu.cuh, which the emulator must
// do as the hardware does: the same checks run on both.
#include "tests/cuda_fixture.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "kernels/cuda/cuda.h"
#include "tests/cuda_kernels.h"

static cuda_stream stream_of(cuda_fixture *f) {
  return cuda_of(f->device[ON_CUDA])->stream;
}

// ---------------------------------------------------------------- memory

static void opens(void **state) {
  (void)state;
  static const ss_precision precisions[] = {SS_PRECISION_FP32, SS_PRECISION_TF32, SS_PRECISION_BF16};
  static const char *const names[] = {"fp32", "tf32", "bf16, deterministic"};
  for (int i = 0; i < 3; ++i) {
    cuda_fixture f;
    cuda_open(&f, precisions[i], i == 2);
    ss_device *device = f.device[ON_CUDA];
    print_message("%s\n", device->description);
    assert_string_equal(device->ops->name, "cuda");
    assert_non_null(strstr(device->description, names[i]));
    assert_int_equal(f.compute, i == 2 ? SS_BF16 : SS_F32);
    assert_int_equal(cuda_synchronize(f.device[ON_CUDA]), SS_OK);
    for (size_t op = 0; op < sizeof *device->ops / sizeof(void *); ++op)
      if (((void *const *)device->ops)[op] == NULL)
        fail_msg("entry %zu of the table of ops is missing", op);
    double seconds = -1;
    CUDA_RUN(&f, ON_CUDA, stamp, 0);
    CUDA_RUN(&f, ON_CUDA, stamp, SS_N_STAMP - 1);
    CUDA_RUN(&f, ON_CUDA, stamp_seconds, 0, SS_N_STAMP - 1, &seconds);
    assert_true(seconds >= 0 && seconds < 60);
    CUDA_REFUSED(&f, stamp_seconds, 0, 1, &seconds);
    CUDA_REFUSED(&f, stamp, SS_N_STAMP);
    device->ops->range_push(device, "range");
    device->ops->range_pop(device);
    cuda_close(&f);
  }
}

static void allocates(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *device = f.device[ON_CUDA];
  size_t before = 0, after = 0, total = 0;
  CUDA_RUN(&f, ON_CUDA, memory_free, &before, &total);
  assert_true(before > 0 && before <= total);
  void *data = NULL;
  size_t bytes = (size_t)8 << 20;
  CUDA_RUN(&f, ON_CUDA, allocate, &data, bytes, "eight MiB");
  CUDA_RUN(&f, ON_CUDA, memory_free, &after, &total);
  assert_true(after + bytes <= before);
  unsigned char *host = malloc(bytes);
  assert_non_null(host);
  memset(host, 1, bytes);
  CUDA_RUN(&f, ON_CUDA, download, host, data, bytes);
  for (size_t i = 0; i < bytes; ++i)
    if (host[i] != 0)
      fail_msg("allocate: byte %zu is %d, expected 0", i, host[i]);
  free(host);
  device->ops->release(device, data);
  device->ops->release(device, NULL);
  assert_int_equal(device->ops->allocate(device, &data, (size_t)1 << 42, "four TiB"), SS_ERROR_MEMORY);
  assert_null(data);
  assert_non_null(strstr(device->error.message, "four TiB"));
  assert_non_null(strstr(device->error.message, "4398046511104"));
  ss_error_clear(&device->error);
  // The device lives on, and a later launch does not report that failure.
  CUDA_RUN(&f, ON_CUDA, allocate, &data, 0, "nothing");
  assert_non_null(data);
  device->ops->release(device, data);
  void *scratch[2] = {NULL, NULL};
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_INNER, &scratch[0], 100), SS_OK);
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch[1], 100), SS_OK);
  assert_ptr_not_equal(scratch[0], scratch[1]);
  void *again = NULL;
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_INNER, &again, 1 << 20), SS_OK);
  assert_ptr_equal(again, scratch[0]);
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_INNER, &again, (size_t)5 << 20), SS_OK);
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_INNER, &again, (size_t)1 << 42), SS_ERROR_MEMORY);
  ss_error_clear(&device->error);
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_INNER, &again, 1), SS_OK);
  cuda_close(&f);
}

static void copies(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  // The last two are larger than a chunk of the ring, and than the ring.
  static const size_t sizes[] = {1, 255, 4096, 1 << 20, (5 << 20) + 3, (70 << 20) + 12345};
  size_t most = sizes[5];
  unsigned char *from = malloc(most), *to = malloc(most);
  assert_non_null(from);
  assert_non_null(to);
  unsigned char *device_data = cuda_bytes(&f, ON_CUDA, most);
  for (int s = 0; s < 6; ++s) {
    size_t bytes = sizes[s];
    for (size_t i = 0; i < bytes; i += 8) {
      uint64_t word = ss_random_next(&f.random);
      memcpy(from + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
    memcpy(to, from, bytes);
    CUDA_RUN(&f, ON_CUDA, upload, device_data, from, bytes);
    memset(from, 0, bytes);  // the host array is free once upload returns
    memset(from, 7, bytes);
    CUDA_RUN(&f, ON_CUDA, download, from, device_data, bytes);
    if (memcmp(from, to, bytes) != 0)
      fail_msg("upload and download of %zu bytes changed them (seed %llu)", bytes,
               (unsigned long long)f.seed);
  }
  // Many small ones, which share chunks, with the host array rewritten each time.
  enum { SMALL = 3000, COUNT = 5000 };
  for (int i = 0; i < COUNT; ++i) {
    int32_t values[SMALL / 4];
    for (int j = 0; j < SMALL / 4; ++j)
      values[j] = i + j;
    CUDA_RUN(&f, ON_CUDA, upload, device_data + (size_t)i * SMALL, values, sizeof values);
  }
  CUDA_RUN(&f, ON_CUDA, download, to, device_data, (size_t)COUNT * SMALL);
  for (int i = 0; i < COUNT; ++i)
    for (int j = 0; j < SMALL / 4; ++j) {
      int32_t value;
      memcpy(&value, to + (size_t)i * SMALL + 4 * (size_t)j, 4);
      if (value != i + j)
        fail_msg("upload %d: word %d is %d", i, j, value);
    }
  // In order with what follows: the download holds what the device held when its turn came.
  ss_device *device = f.device[ON_CUDA];
  int32_t *locked = NULL, value = 1234;
  CUDA_RUN(&f, ON_CUDA, allocate_host, (void **)&locked, 64, "a download");
  assert_int_equal(locked[3], 0);
  CUDA_RUN(&f, ON_CUDA, upload, device_data, &value, 4);
  CUDA_RUN(&f, ON_CUDA, download_async, locked, device_data, 4);
  CUDA_RUN(&f, ON_CUDA, zero, device_data, 4);
  assert_int_equal(cuda_synchronize(f.device[ON_CUDA]), SS_OK);
  assert_int_equal(locked[0], 1234);
  CUDA_RUN(&f, ON_CUDA, download, &value, device_data, 4);
  assert_int_equal(value, 0);
  device->ops->release_host(device, locked);
  device->ops->release_host(device, NULL);
  free(from), free(to);
  cuda_close(&f);
}

static void converts(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const int64_t shapes[][4] = {{1, 1, 1, 1},    {3, 8, 8, 8},      {5, 64, 64, 96},
                                      {7, 33, 40, 33}, {130, 24, 32, 40}, {2, 50000, 50000, 50000},
                                      {4, 16, 18, 16}};
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; ++s) {
    int64_t rows = shapes[s][0], cols = shapes[s][1], in_stride = shapes[s][2], out_stride = shapes[s][3];
    cuda_context(&f, "rows %lld, cols %lld, strides %lld, %lld", (long long)rows, (long long)cols,
                 (long long)in_stride, (long long)out_stride);
    cuda_pair x = cuda_random_strided(&f, "x", rows, cols, in_stride, SS_F32, 3);
    cuda_pair half = cuda_output_strided(&f, "bf16", rows, cols, out_stride, SS_BF16);
    cuda_pair copy = cuda_output_strided(&f, "copy", rows, cols, in_stride, SS_BF16);
    cuda_pair back = cuda_output_strided(&f, "back", rows, cols, in_stride, SS_F32);
    CUDA_RUN(&f, ON_CUDA, convert, half.on[ON_CUDA], x.on[ON_CUDA]);
    CUDA_RUN(&f, ON_CUDA, convert, copy.on[ON_CUDA], half.on[ON_CUDA]);
    CUDA_RUN(&f, ON_CUDA, convert, back.on[ON_CUDA], copy.on[ON_CUDA]);
    float *want = cuda_download_floats(&f, ON_CPU, x.on[ON_CPU]);
    for (int64_t i = 0; i < rows * cols; ++i)
      want[i] = cuda_round_bf16(want[i]);
    cuda_check_values(&f, half, want, 0);
    cuda_check_values(&f, copy, want, 0);
    cuda_check_values(&f, back, want, 0);
    free(want);
    cuda_release_all(&f);
  }
  // Ties to even, overflow, infinities, denormals, NaN.
  float hard[] = {1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, INFINITY, -INFINITY, 1e-40f, -0.0f, NAN};
  cuda_pair x = cuda_floats(&f, "x", hard, 1, 9, SS_F32), half = cuda_output(&f, "bf16", 1, 9, SS_BF16);
  CUDA_RUN(&f, ON_CUDA, convert, half.on[ON_CUDA], x.on[ON_CUDA]);
  uint16_t *bits = cuda_download_bytes(&f, ON_CUDA, half.on[ON_CUDA]);
  for (int i = 0; i < 8; ++i)
    if (bits[i] != cuda_bf16_of(hard[i]))
      fail_msg("%g becomes %04x, expected %04x", (double)hard[i], bits[i], cuda_bf16_of(hard[i]));
  assert_true(isnan(cuda_float_of(bits[8])));
  free(bits);
  cuda_pair integers = cuda_random_integers(&f, "integers", 9, 0, 5);
  CUDA_REFUSED(&f, convert, half.on[ON_CUDA], integers.on[ON_CUDA]);
  CUDA_REFUSED(&f, convert, half.on[ON_CUDA], ss_columns(x.on[ON_CUDA], 0, 8));
  cuda_close(&f);
}

// ---------------------------------------------------------------- primitives

static void check_product(cuda_fixture *f, const float *got, const float *d, const float *a, const float *b) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      double sum = d ? (double)d[i * 8 + j] : 0, size = fabs(sum);
      for (int k = 0; k < 16; ++k) {
        sum += (double)a[i * 16 + k] * (double)b[k * 8 + j];
        size += fabs((double)a[i * 16 + k] * (double)b[k * 8 + j]);
      }
      if (!(fabs((double)got[i * 8 + j] - sum) <= 1e-6 * size))
        fail_msg("product [%d,%d] is %.9g, expected %.9g (seed %llu)", i, j, (double)got[i * 8 + j], sum,
                 (unsigned long long)f->seed);
    }
}

static void multiplies(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_pair a = cuda_random(&f, "a", 16, 16, SS_BF16, 1), b = cuda_random(&f, "b", 16, 8, SS_BF16, 1);
  cuda_pair d = cuda_random(&f, "d", 16, 8, SS_F32, 1);
  float *a_values = cuda_download_floats(&f, ON_CUDA, a.on[ON_CUDA]);
  float *b_values = cuda_download_floats(&f, ON_CUDA, b.on[ON_CUDA]);
  float *before = cuda_download_floats(&f, ON_CUDA, d.on[ON_CUDA]);
  test_mma(stream_of(&f), d.on[ON_CUDA].data, a.on[ON_CUDA].data, b.on[ON_CUDA].data);
  float *got = cuda_download_floats(&f, ON_CUDA, d.on[ON_CUDA]);
  check_product(&f, got, before, a_values, b_values);
  free(a_values), free(b_values), free(before), free(got);
  cuda_close(&f);
}

static void multiplies_tiles(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  enum { BLOCKS = 3, TILES = 4 * BLOCKS };
  cuda_pair a = cuda_random(&f, "a", TILES * 16, 16, SS_BF16, 1),
            b = cuda_random(&f, "b", TILES * 16, 8, SS_BF16, 1);
  float *a_values = cuda_download_floats(&f, ON_CUDA, a.on[ON_CUDA]);
  float *b_values = cuda_download_floats(&f, ON_CUDA, b.on[ON_CUDA]);
  float *b_columns = malloc(sizeof(float) * TILES * 128);  // each tile's transpose
  assert_non_null(b_columns);
  for (int i = 0; i < TILES * 128; ++i)
    b_columns[i / 128 * 128 + i % 8 * 16 + i / 8 % 16] = b_values[i];
  cuda_pair turned = cuda_floats(&f, "b transposed", b_columns, TILES * 8, 16, SS_BF16);
  for (int transposed = 0; transposed < 2; ++transposed) {
    cuda_pair d = cuda_output(&f, "d", TILES * 16, 8, SS_F32);
    test_tiles(stream_of(&f), d.on[ON_CUDA].data, a.on[ON_CUDA].data,
               transposed ? b.on[ON_CUDA].data : turned.on[ON_CUDA].data, BLOCKS, transposed);
    float *got = cuda_download_floats(&f, ON_CUDA, d.on[ON_CUDA]);
    for (int tile = 0; tile < TILES; ++tile)
      check_product(&f, got + tile * 128, NULL, a_values + tile * 256, b_values + tile * 128);
    free(got);
  }
  free(a_values), free(b_values), free(b_columns);
  cuda_close(&f);
}

static void warps(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  enum { COUNT = 512 };
  cuda_pair x = cuda_random(&f, "x", 1, COUNT, SS_F32, 2), out = cuda_output(&f, "out", 8, COUNT, SS_F32);
  test_warps(stream_of(&f), out.on[ON_CUDA].data, x.on[ON_CUDA].data, COUNT);
  float *in = cuda_download_floats(&f, ON_CUDA, x.on[ON_CUDA]);
  float *got = cuda_download_floats(&f, ON_CUDA, out.on[ON_CUDA]);
  for (int i = 0; i < COUNT; ++i) {
    int first = i / 32 * 32, lane = i % 32;
    double sum = 0, size = 0;
    float most = -INFINITY;
    uint32_t bits = 0;
    for (int j = 0; j < 32; ++j) {
      sum += (double)in[first + j];
      size += fabs((double)in[first + j]);
      most = fmaxf(most, in[first + j]);
      bits |= (uint32_t)(in[first + j] > 0) << j;
    }
    assert_true(got[i] == in[first + (lane + 31) % 32]);
    assert_true(got[COUNT + i] == in[first + (lane ^ 5)]);
    assert_true(got[2 * COUNT + i] == (float)(bits >> 16) + (float)(bits & 0xffff));
    assert_near(got[3 * COUNT + i], sum, 1e-6 * size);
    assert_true(got[4 * COUNT + i] == most);
    assert_near(got[5 * COUNT + i], exp2((double)in[i]), 3e-7 * exp2((double)in[i]));
    assert_near(got[6 * COUNT + i], tanh((double)in[i]), 6e-4 * fabs(tanh((double)in[i])));
    assert_true(got[7 * COUNT + i] == cuda_round_bf16(in[i]) + cuda_round_bf16(2 * in[i]));
  }
  free(in), free(got);
  cuda_close(&f);
}

static void blocks(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  enum { BLOCKS = 20 };
  cuda_pair x = cuda_random(&f, "x", BLOCKS, 256, SS_F32, 1),
            out = cuda_output(&f, "sums", 1, BLOCKS, SS_F32);
  test_blocks(stream_of(&f), out.on[ON_CUDA].data, x.on[ON_CUDA].data, BLOCKS);
  float *in = cuda_download_floats(&f, ON_CUDA, x.on[ON_CUDA]), want[BLOCKS] = {0};
  for (int i = 0; i < BLOCKS * 256; ++i)
    want[i / 256] += in[i];
  cuda_check_values(&f, out, want, 1e-10);
  free(in);
  cuda_pair indices = cuda_output(&f, "indices", 16, 24, SS_F32);
  assert_false(test_indices(stream_of(&f), indices.on[ON_CUDA].data, false));
  assert_true(test_indices(stream_of(&f), indices.on[ON_CUDA].data, true));
  float counting[16 * 24];
  for (int i = 0; i < 16 * 24; ++i)
    counting[i] = (float)i;
  cuda_check_values(&f, indices, counting, 0);
  cuda_close(&f);
}

static void copies_asynchronously(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  int32_t words[1024];
  for (int i = 0; i < 1024; ++i)
    words[i] = i + 1;
  cuda_pair in = cuda_integers(&f, "in", words, 1024);
  cuda_pair out = cuda_output(&f, "out", 1, 1536, SS_I32);
  test_copies(stream_of(&f), out.on[ON_CUDA].data, in.on[ON_CUDA].data, cuda_is_emulated());
  int32_t *got = cuda_download_bytes(&f, ON_CUDA, out.on[ON_CUDA]);
  for (int i = 0; i < 512; ++i) {
    int thread = i / 4, source = 127 - thread;
    assert_int_equal(got[i], words[4 * source + i % 4]);
    assert_int_equal(got[512 + i], source % 2 == 0 ? words[512 + 4 * source + i % 4] : 0);
    if (cuda_is_emulated())  // not there before it was waited for
      assert_int_equal(got[1024 + i], -1);
  }
  free(got);
  cuda_close(&f);
}

static void sees_defects(void **state) {
  (void)state;
  if (!cuda_is_emulated())
    skip();
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_pair out = cuda_output(&f, "out", 4, 128, SS_F32);
  test_defect(stream_of(&f), out.on[ON_CUDA].data, DEFECT_NO_BARRIER);
  float *got = cuda_download_floats(&f, ON_CUDA, out.on[ON_CUDA]);
  int wrong = 0;
  for (int i = 0; i < 512; ++i)
    wrong += !(got[i] == 1.0f);
  assert_true(wrong >= 4 * 32);
  free(got);
  for (int kind = DEFECT_DIVERGED_BARRIER; kind <= DEFECT_COPY_TO_GLOBAL; ++kind) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      int quiet = open("/dev/null", O_WRONLY);
      dup2(quiet, 1), dup2(quiet, 2);
      test_defect(stream_of(&f), out.on[ON_CUDA].data, (test_defect_kind)kind);
      _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
      fail_msg("the emulator does not see defect %d", kind);
  }
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(opens),        cmocka_unit_test(allocates),  cmocka_unit_test(copies),
      cmocka_unit_test(converts),     cmocka_unit_test(multiplies), cmocka_unit_test(multiplies_tiles),
      cmocka_unit_test(warps),        cmocka_unit_test(blocks),     cmocka_unit_test(copies_asynchronously),
      cmocka_unit_test(sees_defects),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
