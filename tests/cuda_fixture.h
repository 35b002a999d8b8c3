// Shared by the tests of the CUDA backend (test_cuda_*.c): a CPU device as the oracle beside a CUDA device, which is
// the emulated one (tests/emulator) or a real GPU, whichever the program was linked with. Without a GPU a real
// program's tests are skipped.
//
//   cuda_fixture f;
//   cuda_open(&f, SS_PRECISION_BF16, true);
//   cuda_pair x = cuda_random(&f, "x", n, C, f.compute, 1);      // the same values on both devices
//   cuda_pair out = cuda_output(&f, "out", n, C, f.compute);     // NaN on both
//   CUDA_BOTH(&f, rotary, x.on[d], positions.on[d], 64, 10000, 1);
//   cuda_check(&f, x, 1e-5);                                     // NMSE of the CUDA result against the CPU's
//   cuda_close(&f);
#ifndef SELFSPAN_TESTS_CUDA_FIXTURE_H
#define SELFSPAN_TESTS_CUDA_FIXTURE_H

#include "tests/helpers.h"

#include "common/random.h"
#include "kernels/kernels.h"

#define CUDA_SEED 20250311

enum { ON_CPU, ON_CUDA };

typedef struct {
  ss_device *device[2];  // ON_CPU, ON_CUDA
  ss_dtype compute;      // of the CUDA device: the dtype of activations and matrix weights
  uint64_t seed;
  ss_random random;
  char context[128];  // what is being tested, in every message: set it with cuda_context
  struct cuda_block *blocks;
} cuda_fixture;

// One matrix on both devices. The CPU's is always F32; where the CUDA one is BF16, both start from values that BF16
// holds exactly. Rows lie apart when stride > cols; the gap is filled with a pattern that cuda_check wants untouched.
typedef struct {
  ss_tensor on[2];
  const char *name;
} cuda_pair;

// Opens both devices with CUDA_SEED, or SELFSPAN_TEST_SEED when set; skips the running test when there is no GPU.
void cuda_open(cuda_fixture *f, ss_precision precision, bool deterministic);
// Frees every tensor made below, and both devices.
void cuda_close(cuda_fixture *f);
// Frees the tensors only: for loops over shapes.
void cuda_release_all(cuda_fixture *f);
void cuda_context(cuda_fixture *f, const char *format, ...) SS_PRINTF(2, 3);
// Whether the program runs on the emulator.
bool cuda_is_emulated(void);
// Whether loops over large shapes should be short: on the emulator, and under SELFSPAN_SMALL=1 (for the sanitizers).
bool cuda_small(void);

// --- tensors, freed by cuda_release_all ---
// Normal numbers times `scale`.
cuda_pair cuda_random(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype,
                      double scale);
cuda_pair cuda_random_strided(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int64_t stride,
                              ss_dtype dtype, double scale);
// Rows [rows, cols] without gaps; `values` are rounded when dtype is BF16. I32 and F32/BF16 from floats or ints.
cuda_pair cuda_floats(cuda_fixture *f, const char *name, const float *values, int64_t rows, int64_t cols,
                      ss_dtype dtype);
cuda_pair cuda_integers(cuda_fixture *f, const char *name, const int32_t *values, int64_t count);
// Uniform in [low, high].
cuda_pair cuda_random_integers(cuda_fixture *f, const char *name, int64_t count, int32_t low, int32_t high);
// NaN everywhere (I32: -1): an output that an op must write.
cuda_pair cuda_output(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype);
cuda_pair cuda_output_strided(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int64_t stride,
                              ss_dtype dtype);
cuda_pair cuda_zeros(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, ss_dtype dtype);
// Any bytes on the CUDA device (1) or the CPU device (0), zeroed.
void *cuda_bytes(cuda_fixture *f, int which, size_t bytes);
static inline cuda_pair cuda_none(void) {
  cuda_pair none = {{{0}, {0}}, "none"};
  return none;
}
// Columns, rows of a pair, as views.
static inline cuda_pair cuda_columns(cuda_pair pair, int64_t first, int64_t cols) {
  for (int d = 0; d < 2; ++d)
    pair.on[d] = ss_columns(pair.on[d], first, cols);
  return pair;
}
static inline cuda_pair cuda_rows(cuda_pair pair, int64_t first, int64_t rows) {
  for (int d = 0; d < 2; ++d)
    pair.on[d] = ss_rows(pair.on[d], first, rows);
  return pair;
}

// --- running ---
// An op that must succeed, on one device.
#define CUDA_RUN(f, d, op, ...)                                                                         \
  do {                                                                                                  \
    ss_device *run_ = (f)->device[d];                                                                   \
    if (run_->ops->op(run_, __VA_ARGS__) != SS_OK)                                                      \
      fail_msg("%s on %s: %s (%s, seed %llu)", #op, run_->ops->name, run_->error.message, (f)->context, \
               (unsigned long long)(f)->seed);                                                          \
  } while (0)
// On both; `d` in the arguments is the device's index: CUDA_BOTH(&f, activation_forward, kind, out.on[d], in.on[d]).
#define CUDA_BOTH(f, op, ...)            \
  do {                                   \
    for (int d = 0; d < 2; ++d)          \
      CUDA_RUN((f), d, op, __VA_ARGS__); \
  } while (0)
// An op that the CUDA device must refuse, and that leaves it usable.
#define CUDA_REFUSED(f, op, ...)                                            \
  do {                                                                      \
    ss_device *run_ = (f)->device[ON_CUDA];                                 \
    if (run_->ops->op(run_, __VA_ARGS__) == SS_OK)                          \
      fail_msg("%s: accepted what it must refuse (%s)", #op, (f)->context); \
    if (run_->error.message[0] == '\0')                                     \
      fail_msg("%s: refused without a message (%s)", #op, (f)->context);    \
    ss_error_clear(&run_->error);                                           \
  } while (0)

// --- looking ---
// A tensor's values as floats [rows, cols] without gaps (I32: converted); the caller frees.
float *cuda_download_floats(cuda_fixture *f, int which, ss_tensor tensor);
// Its bytes [rows, cols] without gaps; the caller frees.
void *cuda_download_bytes(cuda_fixture *f, int which, ss_tensor tensor);
void cuda_upload_floats(cuda_fixture *f, int which, ss_tensor tensor, const float *values);
// sum((got - want)^2) / sum(want^2); NaN when either is not finite; 0 when both are zero everywhere.
double cuda_nmse(const float *got, const float *want, int64_t count);
// Fails unless the CUDA tensor's NMSE against the CPU's is <= bound (a NaN fails; I32: every value equal), and the
// gaps between rows are untouched.
void cuda_check(cuda_fixture *f, cuda_pair pair, double bound);
// The same against given values.
void cuda_check_values(cuda_fixture *f, cuda_pair pair, const float *want, double bound);
// Fails unless two CUDA tensors hold the same bits.
void cuda_check_same(cuda_fixture *f, const char *what, ss_tensor a, ss_tensor b);
// NaN again (I32: -1) on both devices.
void cuda_poison(cuda_fixture *f, cuda_pair pair);

// --- bf16 on the host, round to nearest even ---
uint16_t cuda_bf16_of(float value);
float cuda_float_of(uint16_t bf16);
float cuda_round_bf16(float value);

#endif
