// CUDA: linear layers, alone and fused with an activation, and the classifier, against the CPU.
#include "tests/cuda_fixture.h"

#include "kernels/cuda/gemm.h"

static const ss_precision precisions[] = {SS_PRECISION_FP32, SS_PRECISION_TF32, SS_PRECISION_BF16};
#define N_PRECISION 3

// Of a product's output: fp32 sums in another order; inputs rounded to 11 bits; the output rounded to 8 bits.
static double output_bound(ss_precision precision) {
  return precision == SS_PRECISION_FP32 ? 1e-11 : precision == SS_PRECISION_TF32 ? 1e-6 : 1e-5;
}
// Of a weight's gradient: fp32, from inputs that bf16 holds exactly.
static double gradient_bound(ss_precision precision) {
  return precision == SS_PRECISION_TF32 ? 1e-6 : 1e-10;
}

typedef struct {
  int64_t n, I, O;
  int64_t gap;  // elements between rows
} linear_shape;

static void check_linear_shape(cuda_fixture *f, ss_precision precision, linear_shape s, bool has_bias) {
  ss_dtype T = f->compute;
  int64_t n = s.n, I = s.I, O = s.O;
  double bound = output_bound(precision), exact = gradient_bound(precision);
  cuda_context(f, "precision %d, n %lld, I %lld, O %lld, gap %lld, bias %d", (int)precision, (long long)n,
               (long long)I, (long long)O, (long long)s.gap, has_bias);
  cuda_pair none = cuda_none();
  cuda_pair in = cuda_random_strided(f, "in", n, I, I + s.gap, T, 1);
  cuda_pair weight = cuda_random(f, "weight", O, I, T, 0.5), bias = cuda_random(f, "bias", 1, O, T, 1);
  cuda_pair dout = cuda_random_strided(f, "dout", n, O, O + s.gap, T, 1);
  cuda_pair out = cuda_output_strided(f, "out", n, O, O + s.gap, T), din = cuda_output(f, "din", n, I, T);
  cuda_pair logits = cuda_output(f, "out in F32", n, O, SS_F32);
  cuda_pair dweight = cuda_random(f, "dweight", O, I, SS_F32, 1);
  cuda_pair dbias = cuda_random(f, "dbias", 1, O, SS_F32, 1);
  if (!has_bias)
    bias = none;
  CUDA_BOTH(f, linear_forward, out.on[d], in.on[d], weight.on[d], bias.on[d]);
  cuda_check(f, out, bound);
  CUDA_BOTH(f, linear_forward, logits.on[d], in.on[d], weight.on[d], bias.on[d]);
  cuda_check(f, logits, exact);
  CUDA_BOTH(f, linear_backward, din.on[d], dweight.on[d], has_bias ? dbias.on[d] : none.on[d], dout.on[d],
            in.on[d], weight.on[d]);
  cuda_check(f, din, bound);
  cuda_check(f, dweight, exact);
  cuda_check(f, dbias, exact);
  // Again, without din: the gradients of the parameters accumulate.
  CUDA_BOTH(f, linear_backward, none.on[d], dweight.on[d], has_bias ? dbias.on[d] : none.on[d], dout.on[d],
            in.on[d], weight.on[d]);
  cuda_check(f, dweight, exact);
  cuda_check(f, dbias, exact);
  cuda_release_all(f);
}

static void linear(void **state) {
  (void)state;
  // Odd sizes; columns in pieces of 16 bytes and not; several chunks of the column sums, a last one of few rows.
  static const linear_shape shapes[] = {{1, 8, 8, 0},     {1, 1, 1, 0},    {3, 16, 24, 0},  {17, 30, 7, 0},
                                        {64, 64, 192, 0}, {33, 24, 40, 8}, {33, 24, 40, 3}, {5, 283, 9, 0},
                                        {300, 16, 33, 0}, {521, 8, 264, 0}};
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; ++i)
      for (int has_bias = 0; has_bias < 2; ++has_bias)
        check_linear_shape(&f, precisions[p], shapes[i], has_bias);
    cuda_close(&f);
  }
}

// The ways that are not taken by default: bias gradients by an epilogue; every product by our own kernel.
static void linear_other_ways(void **state) {
  (void)state;
  static const linear_shape shapes[] = {{1, 8, 8, 0}, {17, 30, 7, 0}, {33, 24, 40, 8}, {70, 16, 33, 3}};
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    cuda_gemm_choices *choices = cuda_gemm_choices_of(f.device[ON_CUDA]);
    for (int way = 0; way < 2; ++way) {
      choices->bias_gradient = way == 0;
      choices->never_library = way == 1;
      for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; ++i)
        // Our own kernel multiplies in fp32 whatever the precision.
        check_linear_shape(&f, precisions[p], shapes[i], true);
    }
    cuda_close(&f);
  }
}

static void check_activation_shape(cuda_fixture *f, ss_precision precision, ss_activation_kind kind,
                                   int64_t n, int64_t I, int64_t F, int64_t O, bool has_bias) {
  ss_dtype T = f->compute;
  int64_t width = kind == SS_ACTIVATION_SWIGLU ? 2 * F : F;
  double bound = 4 * output_bound(precision), exact = gradient_bound(precision);
  cuda_pair none = cuda_none();
  cuda_pair in = cuda_random(f, "in", n, I, T, 1), weight = cuda_random(f, "weight", width, I, T, 0.5);
  cuda_pair bias = has_bias ? cuda_random(f, "bias", 1, width, T, 1) : none;
  cuda_pair pre = cuda_output(f, "pre", n, width, T), out = cuda_output(f, "out", n, F, T);
  CUDA_BOTH(f, linear_activation_forward, kind, out.on[d], pre.on[d], in.on[d], weight.on[d], bias.on[d]);
  cuda_check(f, pre, bound);
  cuda_check(f, out, bound);
  // Back through the next linear, from values that both devices hold exactly.
  cuda_pair known = cuda_random(f, "pre", n, width, T, 1),
            activation = cuda_random(f, "activation", n, F, T, 1);
  cuda_pair down = cuda_random(f, "down", O, F, T, 0.5), dout = cuda_random(f, "dout", n, O, T, 1);
  cuda_pair dpre = cuda_output(f, "dpre", n, width, T), scratch = cuda_output(f, "scratch", n, F, T);
  cuda_pair dweight = cuda_random(f, "dweight", O, F, SS_F32, 1),
            dbias = cuda_random(f, "dbias", 1, O, SS_F32, 1);
  CUDA_BOTH(f, linear_activation_backward, kind, dpre.on[d], dweight.on[d],
            has_bias ? dbias.on[d] : none.on[d], dout.on[d], activation.on[d], down.on[d], known.on[d],
            scratch.on[d]);
  cuda_check(f, dpre, bound);
  cuda_check(f, dweight, exact);
  cuda_check(f, dbias, exact);
  cuda_release_all(f);
}

static void linear_activation(void **state) {
  (void)state;
  static const struct {
    int64_t n, I, F, O;
  } shapes[] = {{1, 8, 8, 8}, {35, 24, 40, 16}, {13, 16, 21, 9}, {66, 8, 64, 24}};
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    cuda_gemm_choices *choices = cuda_gemm_choices_of(f.device[ON_CUDA]);
    for (int fused = 0; fused < 2; ++fused)
      for (int kind = 0; kind < 2; ++kind)
        for (int has_bias = 0; has_bias < 2; ++has_bias)
          for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; ++i) {
            choices->gelu_forward = choices->gelu_backward = fused;
            cuda_context(&f, "precision %d, fused %d, kind %d, bias %d, shape %zu", p, fused, kind, has_bias,
                         i);
            check_activation_shape(&f, precisions[p], kind ? SS_ACTIVATION_SWIGLU : SS_ACTIVATION_GELU,
                                   shapes[i].n, shapes[i].I, shapes[i].F, shapes[i].O, has_bias);
          }
    cuda_close(&f);
  }
}

// Algorithms chosen by time (on a GPU; the emulator has none): the choice must leave what accumulates as it was, and
// hold for other shapes of the same size class.
static void linear_tuned(void **state) {
  (void)state;
  static const linear_shape large[] = {{1100, 1024, 2048, 0}, {1030, 1024, 2048, 0}, {1100, 1024, 2048, 0}};
  static const linear_shape small[] = {{30, 16, 24, 0}, {31, 16, 24, 0}, {30, 16, 24, 0}};
  const linear_shape *shapes = cuda_small() ? small : large;
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], false);
    for (int i = 0; i < 3; ++i) {
      cuda_gemm_choices_of(f.device[ON_CUDA])->bias_gradient = i == 2;
      check_linear_shape(&f, precisions[p], shapes[i], true);
    }
    int64_t scale = cuda_small() ? 1 : 64;
    cuda_context(&f, "precision %d, fused with GELU", p);
    check_activation_shape(&f, precisions[p], SS_ACTIVATION_GELU, 17 * scale, 16 * scale, 32 * scale,
                           16 * scale, true);
    cuda_close(&f);
  }
}

typedef enum { TARGETS_SOME, TARGETS_ALL, TARGETS_NONE } which_targets;

// Small integers everywhere, so that the logits are exact in every precision and many of them are equal: what is the
// arg-max is decided by the rule for equals.
static cuda_pair small_integers(cuda_fixture *f, const char *name, int64_t rows, int64_t cols, int range) {
  float *values = malloc((size_t)(rows * cols) * sizeof *values);
  assert_non_null(values);
  for (int64_t i = 0; i < rows * cols; ++i)
    values[i] = (float)ss_random_range(&f->random, -range, range);
  cuda_pair pair = cuda_floats(f, name, values, rows, cols, f->compute);
  free(values);
  return pair;
}

static void check_classifier(cuda_fixture *f, ss_precision precision, int64_t n, int64_t C, int64_t V,
                             which_targets which, size_t logits_bytes) {
  const float scale = 0.37f;
  ss_dtype T = f->compute;
  cuda_context(f, "precision %d, n %lld, C %lld, V %lld, targets %d, chunks of %zu bytes", (int)precision,
               (long long)n, (long long)C, (long long)V, (int)which, logits_bytes);
  cuda_pair h = small_integers(f, "h", n, C, 2), wte = small_integers(f, "wte", V, C, 1);
  int32_t *targets = calloc((size_t)(2 * n), sizeof *targets), *rows = targets + n;
  int64_t n_row = 0;
  float *h_values = cuda_download_floats(f, ON_CPU, h.on[ON_CPU]);
  float *wte_values = cuda_download_floats(f, ON_CPU, wte.on[ON_CPU]);
  for (int64_t i = 0; i < n; ++i) {
    bool has = which == TARGETS_ALL || (which == TARGETS_SOME && ss_random_below(&f->random, 3) != 0);
    targets[i] = -1 - (int32_t)(i % 2);
    if (!has)
      continue;
    // One in three anything; else the first arg-max, or the last: the rule decides.
    targets[i] = (int32_t)ss_random_below(&f->random, (uint64_t)V);
    if (i % 3 != 0) {
      float best = -1e30f;
      for (int64_t v = 0; v < V; ++v) {
        float logit = 0;
        for (int64_t c = 0; c < C; ++c)
          logit += h_values[i * C + c] * wte_values[v * C + c];
        if (logit > best || (i % 3 == 2 && logit == best)) {
          best = logit;
          targets[i] = (int32_t)v;
        }
      }
    }
    rows[n_row++] = (int32_t)i;
  }
  free(h_values);
  free(wte_values);
  cuda_pair target = cuda_integers(f, "targets", targets, n),
            target_rows = cuda_integers(f, "rows", rows, n_row);
  free(targets);
  cuda_pair losses = cuda_output(f, "losses", 1, n, SS_F32),
            correct = cuda_output(f, "correct", 1, n, SS_I32);
  cuda_pair dh = cuda_output(f, "dh", n, C, T), dwte = cuda_random(f, "dwte", V, C, SS_F32, 0.01);
  cuda_pair none = cuda_none();
  ss_device *cuda = f->device[ON_CUDA];
  for (int gradient = 0; gradient < 2; ++gradient) {
    cuda_poison(f, losses);
    cuda_poison(f, correct);
    cuda_pair to_h = gradient ? dh : none, to_wte = gradient ? dwte : none;
    CUDA_RUN(f, ON_CPU, classifier_loss, losses.on[0], correct.on[0], to_h.on[0], to_wte.on[0], h.on[0],
             wte.on[0], target.on[0], target_rows.on[0], scale);
    if (cuda_classifier_loss_within(cuda, losses.on[1], correct.on[1], to_h.on[1], to_wte.on[1], h.on[1],
                                    wte.on[1], target.on[1], target_rows.on[1], scale, logits_bytes) != SS_OK)
      fail_msg("%s (%s)", cuda->error.message, f->context);
    cuda_check(f, losses, precision == SS_PRECISION_FP32 ? 1e-11 : 1e-9);
    cuda_check(f, correct, 0);
  }
  // The gradient of a logit is rounded to T; V terms are summed.
  double bound = precision == SS_PRECISION_FP32 ? 1e-9 : output_bound(precision);
  cuda_check(f, dh, bound);
  cuda_check(f, dwte, bound);
  cuda_release_all(f);
}

static void classifier(void **state) {
  (void)state;
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    for (int which = TARGETS_SOME; which <= TARGETS_NONE; ++which) {
      check_classifier(&f, precisions[p], 1, 8, 1, (which_targets)which, 1 << 20);
      check_classifier(&f, precisions[p], 11, 16, 283, (which_targets)which, 1 << 20);
      // One row at a time; three; unaligned rows.
      check_classifier(&f, precisions[p], 5, 8, 64, (which_targets)which, 1);
      check_classifier(&f, precisions[p], 14, 13, 65, (which_targets)which, 3 * 128 * 4);
    }
    // Several chunks of 128 rows.
    check_classifier(&f, precisions[p], 300, 8, 9, TARGETS_SOME, 128 * 64 * 4);
    check_classifier(&f, precisions[p], 300, 8, 9, TARGETS_ALL, 128 * 64 * 2);
    // More pieces than threads; more than threads in all stages; a row that shared memory cannot hold.
    check_classifier(&f, precisions[p], 3, 8, 5003, TARGETS_ALL, 1 << 20);
    check_classifier(&f, precisions[p], 2, 8, 50257, TARGETS_ALL, 1 << 20);
    check_classifier(&f, precisions[p], 2, 8, 120001, TARGETS_ALL, 1 << 20);
    cuda_close(&f);
  }
}

// Logits as they are in training, not exact in bf16; the op as the trainer calls it, without `correct`.
static void classifier_normal(void **state) {
  (void)state;
  for (int p = 0; p < N_PRECISION; ++p) {
    cuda_fixture f;
    cuda_open(&f, precisions[p], true);
    const int64_t n = 40, C = 48, V = 517;
    cuda_context(&f, "precision %d", p);
    cuda_pair h = cuda_random_strided(&f, "h", n, C, C + 8, f.compute, 1);
    cuda_pair wte = cuda_random(&f, "wte", V, C, f.compute, 0.4);
    cuda_pair target = cuda_random_integers(&f, "targets", n, 0, (int32_t)V - 1);
    int32_t rows[40];
    for (int32_t i = 0; i < n; ++i)
      rows[i] = i;
    cuda_pair target_rows = cuda_integers(&f, "rows", rows, n);
    cuda_pair losses = cuda_output(&f, "losses", 1, n, SS_F32), none = cuda_none();
    cuda_pair dh = cuda_output_strided(&f, "dh", n, C, C + 8, f.compute);
    cuda_pair dwte = cuda_zeros(&f, "dwte", V, C, SS_F32);
    CUDA_BOTH(&f, classifier_loss, losses.on[d], none.on[d], dh.on[d], dwte.on[d], h.on[d], wte.on[d],
              target.on[d], target_rows.on[d], 1.0f);
    // A logit's rounding to bf16 (8 bits) is an error of the loss, and through p of the gradients.
    double bound = precisions[p] == SS_PRECISION_BF16 ? 3e-5 : output_bound(precisions[p]);
    cuda_check(&f, losses, bound);
    cuda_check(&f, dh, bound);
    cuda_check(&f, dwte, bound);
    cuda_close(&f);
  }
}

static void refused(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  cuda_context(&f, "refusals");
  cuda_pair in = cuda_random(&f, "in", 4, 8, SS_BF16, 1),
            weight = cuda_random(&f, "weight", 6, 8, SS_BF16, 1);
  cuda_pair out = cuda_output(&f, "out", 4, 6, SS_BF16), narrow = cuda_output(&f, "narrow", 4, 5, SS_BF16);
  cuda_pair floats = cuda_random(&f, "floats", 4, 8, SS_F32, 1), none = cuda_none();
  CUDA_REFUSED(&f, linear_forward, narrow.on[1], in.on[1], weight.on[1], none.on[1]);
  CUDA_REFUSED(&f, linear_forward, out.on[1], floats.on[1], weight.on[1], none.on[1]);
  CUDA_REFUSED(&f, linear_backward, none.on[1], weight.on[1], none.on[1], out.on[1], in.on[1], weight.on[1]);
  CUDA_REFUSED(&f, linear_activation_forward, SS_ACTIVATION_GELU, out.on[1], narrow.on[1], in.on[1],
               weight.on[1], none.on[1]);
  CUDA_REFUSED(&f, classifier_loss, none.on[1], none.on[1], none.on[1], none.on[1], in.on[1], weight.on[1],
               none.on[1], none.on[1], 1.0f);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear),       cmocka_unit_test(linear_other_ways),
      cmocka_unit_test(linear_tuned), cmocka_unit_test(linear_activation),
      cmocka_unit_test(classifier),   cmocka_unit_test(classifier_normal),
      cmocka_unit_test(refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
