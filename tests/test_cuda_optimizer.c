// The optimizer on the CUDA device against the CPU: tensors of any size and alignment in one launch, clipping, steps that
// are skipped, BF16 copies, the same bits twice.
#include "tests/cuda_fixture.h"

#define SAME 1e-12

static const ss_precision precisions[2] = {SS_PRECISION_FP32, SS_PRECISION_BF16};

// The same values once more, on the CUDA device only.
static ss_tensor twin(cuda_fixture *f, ss_tensor t) {
  ss_tensor copy = t;
  copy.data = cuda_bytes(f, ON_CUDA, (size_t)(t.rows * t.stride) * ss_dtype_size(t.dtype));
  float *values = cuda_download_floats(f, ON_CUDA, t);
  cuda_upload_floats(f, ON_CUDA, copy, values);
  free(values);
  return copy;
}

enum { MANY = 70 };  // tensors: more than one piece of the table's upload

typedef struct {
  cuda_pair weight, gradient, first, second, copy;  // [1, total]
  ss_adamw_tensor tensors[2][MANY];                 // by device
  int32_t n_tensor;
  int64_t total;
  double *norm[2];
} optimizer_case;

// Sizes around the kernels' blocks; every third tensor begins off a piece of 16 bytes.
static optimizer_case make_optimizer(cuda_fixture *f) {
  static const int64_t sizes[] = {1, 5, 4096, 4097, 0, 9000, 33, 8192, 100, 0, 0, 4095};
  optimizer_case made = {.n_tensor = MANY};
  int64_t offsets[MANY];
  for (int t = 0; t < MANY; ++t) {
    made.total += -made.total & 3;
    offsets[t] = made.total += t % 3 == 2;
    made.total += t < 12 ? sizes[t] : t % 7;
  }
  made.weight = cuda_random(f, "weight", 1, made.total, SS_F32, 1);
  made.gradient = cuda_random(f, "gradient", 1, made.total, SS_F32, 1);
  made.first = cuda_zeros(f, "first", 1, made.total, SS_F32);
  made.second = cuda_zeros(f, "second", 1, made.total, SS_F32);
  made.copy = cuda_output(f, "copy", 1, made.total, SS_BF16);
  for (int d = 0; d < 2; ++d) {
    made.norm[d] = cuda_bytes(f, d, sizeof(double));
    for (int t = 0; t < MANY; ++t)
      made.tensors[d][t] = (ss_adamw_tensor){(float *)made.weight.on[d].data + offsets[t],
                                             (float *)made.gradient.on[d].data + offsets[t],
                                             (float *)made.first.on[d].data + offsets[t],
                                             (float *)made.second.on[d].data + offsets[t],
                                             t < 12 ? sizes[t] : t % 7,
                                             t % 2 ? 0.1f : 0.0f,
                                             d == ON_CUDA && f->compute == SS_BF16 && t != 3
                                                 ? (uint16_t *)made.copy.on[d].data + offsets[t]
                                                 : NULL,
                                             t % 3 ? 1.0f : 2.5f};
  }
  return made;
}

static double norm_on(cuda_fixture *f, int which, const ss_adamw_tensor *tensors, int32_t n_tensor,
                      double *norm) {
  double value = -1;
  CUDA_RUN(f, which, gradient_norm, tensors, n_tensor, norm);
  CUDA_RUN(f, which, download, &value, norm, sizeof value);
  return value;
}

static void gradient_norm(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_FP32, true);
  optimizer_case c = make_optimizer(&f);
  double want = norm_on(&f, ON_CPU, c.tensors[ON_CPU], c.n_tensor, c.norm[ON_CPU]);
  double got = norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], c.n_tensor, c.norm[ON_CUDA]);
  assert_near(got / want, 1, 1e-13);
  double again = norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], c.n_tensor, c.norm[ON_CUDA]);
  assert_memory_equal(&got, &again, sizeof got);
  // Another table, then other content at the same address.
  for (int d = 0; d < 2; ++d)
    assert_near(norm_on(&f, d, c.tensors[d] + 5, 1, c.norm[d]),
                norm_on(&f, 0, c.tensors[0] + 5, 1, c.norm[0]), 1e-11);
  assert_near(norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], c.n_tensor, c.norm[ON_CUDA]) / want, 1, 1e-13);
  c.tensors[ON_CPU][2].count = c.tensors[ON_CUDA][2].count = 17;
  want = norm_on(&f, ON_CPU, c.tensors[ON_CPU], c.n_tensor, c.norm[ON_CPU]);
  got = norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], c.n_tensor, c.norm[ON_CUDA]);
  assert_near(got / want, 1, 1e-13);
  assert_true(got < again);
  // Nothing at all.
  assert_true(norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], 0, c.norm[ON_CUDA]) == 0);
  assert_true(norm_on(&f, ON_CUDA, c.tensors[ON_CUDA] + 4, 1, c.norm[ON_CUDA]) == 0);
  // Large values do not overflow; NaN and infinity arrive, from a whole block and from the last elements of a part.
  static const int32_t places[] = {2, 8, 11};
  for (size_t i = 0; i < sizeof places / sizeof *places; ++i) {
    float values[3] = {NAN, INFINITY, 1e30f}, kept;
    float *last = c.tensors[ON_CUDA][places[i]].gradient + c.tensors[ON_CUDA][places[i]].count - 1;
    CUDA_RUN(&f, ON_CUDA, download, &kept, last, sizeof kept);
    for (int v = 0; v < 3; ++v) {
      CUDA_RUN(&f, ON_CUDA, upload, last, &values[v], sizeof values[v]);
      got = norm_on(&f, ON_CUDA, c.tensors[ON_CUDA], c.n_tensor, c.norm[ON_CUDA]);
      assert_true(v == 0 ? isnan(got) : v == 1 ? isinf(got) : fabs(got / 1e30 - 1) < 1e-6);
    }
    CUDA_RUN(&f, ON_CUDA, upload, last, &kept, sizeof kept);
  }
  cuda_close(&f);
}

static void check_optimizer(cuda_fixture *f, const optimizer_case *c) {
  cuda_check(f, c->weight, SAME);
  cuda_check(f, c->first, SAME);
  cuda_check(f, c->second, SAME);
}

// The copies are the weights, rounded; what is not a weight is not touched.
static void check_copies(cuda_fixture *f, const optimizer_case *c) {
  float *weight = cuda_download_floats(f, ON_CUDA, c->weight.on[ON_CUDA]);
  float *copy = cuda_download_floats(f, ON_CUDA, c->copy.on[ON_CUDA]);
  bool *written = calloc((size_t)c->total, sizeof *written);
  assert_non_null(written);
  for (int32_t t = 0; t < c->n_tensor; ++t)
    for (int64_t i = 0; i < c->tensors[ON_CUDA][t].count && c->tensors[ON_CUDA][t].compute_copy; ++i)
      written[c->tensors[ON_CUDA][t].weight - (float *)c->weight.on[ON_CUDA].data + i] = true;
  for (int64_t i = 0; i < c->total; ++i)
    assert_true(written[i] ? copy[i] == cuda_round_bf16(weight[i]) : isnan(copy[i]));
  free(weight), free(copy), free(written);
}

static void adamw(void **state) {
  (void)state;
  for (size_t p = 0; p < 2; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    optimizer_case c = make_optimizer(&f);
    ss_tensor twins[3] = {twin(&f, c.weight.on[1]), twin(&f, c.first.on[1]), twin(&f, c.second.on[1])};
    // clip: none, far above the norm, below it; without and with the norm
    static const double clips[] = {0, 1e9, 0.5};
    int64_t step = 0;
    for (int with_norm = 0; with_norm < 2; ++with_norm)
      for (int k = 0; k < 3; ++k) {
        cuda_context(&f, "step %d clip %g norm %d", (int)step + 1, clips[k], with_norm);
        ++step;
        for (int d = 0; d < 2; ++d) {
          CUDA_RUN(&f, d, gradient_norm, c.tensors[d], c.n_tensor, c.norm[d]);
          ss_adamw update = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.125, clips[k], with_norm ? c.norm[d] : NULL, step};
          CUDA_RUN(&f, d, adamw, c.tensors[d], c.n_tensor, update);
        }
        check_optimizer(&f, &c);
      }
    if (f.compute == SS_BF16)
      check_copies(&f, &c);
    // What is not finite skips the step, wherever it is.
    ss_tensor kept[4] = {twin(&f, c.weight.on[1]), twin(&f, c.first.on[1]), twin(&f, c.second.on[1]),
                         twin(&f, c.copy.on[1])};
    double bad[] = {(double)NAN, (double)INFINITY, (double)-INFINITY};
    for (int i = 0; i < 3; ++i) {
      CUDA_RUN(&f, ON_CUDA, upload, c.norm[ON_CUDA], &bad[i], sizeof bad[i]);
      ss_adamw update = {1e-3f, 0.9f, 0.95f, 1e-8f, 1, 1, c.norm[ON_CUDA], 7};
      CUDA_RUN(&f, ON_CUDA, adamw, c.tensors[ON_CUDA], c.n_tensor, update);
      cuda_check_same(&f, "weight", c.weight.on[1], kept[0]);
      cuda_check_same(&f, "first moment", c.first.on[1], kept[1]);
      cuda_check_same(&f, "second moment", c.second.on[1], kept[2]);
      cuda_check_same(&f, "copy", c.copy.on[1], kept[3]);
    }
    // The same six steps again from the start: the same bits.
    for (int i = 0; i < 3; ++i) {
      ss_tensor to = i == 0 ? c.weight.on[1] : i == 1 ? c.first.on[1] : c.second.on[1];
      float *values = cuda_download_floats(&f, ON_CUDA, twins[i]);
      cuda_upload_floats(&f, ON_CUDA, to, values);
      free(values);
    }
    for (step = 1; step <= 6; ++step) {
      CUDA_RUN(&f, ON_CUDA, gradient_norm, c.tensors[1], c.n_tensor, c.norm[1]);
      ss_adamw update = {1e-3f, 0.9f, 0.95f, 1e-8f, 0.125, clips[(step - 1) % 3], step > 3 ? c.norm[1] : NULL,
                         step};
      CUDA_RUN(&f, ON_CUDA, adamw, c.tensors[1], c.n_tensor, update);
    }
    cuda_check_same(&f, "weight", c.weight.on[1], kept[0]);
    cuda_check_same(&f, "first moment", c.first.on[1], kept[1]);
    cuda_check_same(&f, "second moment", c.second.on[1], kept[2]);
    CUDA_RUN(&f, ON_CUDA, adamw, c.tensors[1], 0, (ss_adamw){.step = 1});
    CUDA_REFUSED(&f, adamw, c.tensors[1], c.n_tensor, (ss_adamw){.step = 0});
    cuda_close(&f);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradient_norm),
      cmocka_unit_test(adamw),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
