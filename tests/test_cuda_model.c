// The whole model on CUDA: losses, gradients and a few updates against the CPU; a step in parts, recomputation and
// repetition give the same bits; decoding with a KV cache is the forward pass.
#include "tests/cuda_fixture.h"
#include "tests/gpt_fixture.h"

#include "train/optimizer.h"

#define N_BATCH 3

typedef struct {
  fixture_architecture architecture;
  ss_precision precision;
} variant;

typedef struct {
  cuda_fixture fixture;
  gpt *model[2];  // ON_CPU, ON_CUDA: the same weights
  span_policy policy;
  gpt_batch batches[N_BATCH];
} scene;

static fixture_text texts[N_BATCH];

static gpt_config config_of(fixture_architecture architecture) {
  gpt_config config = fixture_config(architecture);
  config.n_head = 2;
  config.n_kv_head = architecture == FIXTURE_LLAMA ? 1 : 2;
  config.n_embd = 128;
  config.n_ff = 160;
  config.init_std = 0.1;
  return config;
}

static void scene_open(scene *scene, const variant *v) {
  ss_error error = {0};
  cuda_open(&scene->fixture, v->precision, true);
  gpt_config config = config_of(v->architecture);
  for (int d = 0; d < 2; ++d)
    assert_ok(gpt_create(&scene->model[d], scene->fixture.device[d], &config, true, &error));
  assert_ok(gpt_initialize(scene->model[ON_CPU], 11, &error));
  int64_t n = gpt_n_parameter(scene->model[ON_CPU]);
  float *weights = fixture_download(scene->fixture.device[ON_CPU], gpt_parameters(scene->model[ON_CPU]), n);
  fixture_upload(scene->fixture.device[ON_CUDA], gpt_parameters(scene->model[ON_CUDA]), weights, n);
  free(weights);
  scene->policy = span_policy_default();
  scene->policy.max_header = 64;
  for (int k = 0; k < N_BATCH; ++k)
    fixture_text_make(&texts[k], 90 + (uint64_t)k, 2 + k, 3, false, &scene->policy);
  for (int k = 0; k < N_BATCH; ++k)
    scene->batches[k] = fixture_batch(texts, k + 1, &scene->policy);
}

static void scene_close(scene *scene) {
  for (int k = 0; k < N_BATCH; ++k)
    fixture_batch_free(&scene->batches[k]);
  for (int d = 0; d < 2; ++d)
    gpt_free(scene->model[d]);
  cuda_close(&scene->fixture);
}

// Bounds on NMSE: rounding to bf16 adds about 2^-18 to each of some dozens of roundings on the way.
static double bound_of(const scene *scene) {
  return scene->fixture.compute == SS_BF16 ? 2e-3 : 1e-8;
}

static float *gradients(const scene *scene, int d) {
  return fixture_download(scene->fixture.device[d], gpt_gradients(scene->model[d]),
                          gpt_n_parameter(scene->model[d]));
}

// Every parameter on its own, so that no large gradient hides a small one.
static void check_parameters(const scene *scene, const char *what, const float *got, const float *want,
                             double bound) {
  for (int32_t index = 0; index < gpt_n_parameter_tensor(scene->model[ON_CPU]); ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(scene->model[ON_CPU])[index];
    double error = cuda_nmse(got + parameter->offset, want + parameter->offset,
                             parameter->rows * parameter->cols);
    if (!(error <= bound))
      fail_msg("%s of %s: NMSE %.3g, expected at most %.3g", what, parameter->name, error, bound);
  }
}

static void test_gradients(void **state) {
  ss_error error = {0};
  scene scene;
  scene_open(&scene, *state);
  gpt_loss loss[2];
  for (int d = 0; d < 2; ++d)
    assert_ok(gpt_train_step(scene.model[d], &scene.batches[2], true, 0.125, &loss[d], &error));
  double tolerance = scene.fixture.compute == SS_BF16 ? 5e-3 : 1e-5;
  assert_near(loss[ON_CUDA].loss_sum, loss[ON_CPU].loss_sum, tolerance * loss[ON_CPU].loss_sum);
  assert_int_equal(loss[ON_CUDA].n_target, loss[ON_CPU].n_target);
  float *want = gradients(&scene, ON_CPU), *got = gradients(&scene, ON_CUDA);
  check_parameters(&scene, "gradient", got, want, bound_of(&scene));
  free(want);
  free(got);
  scene_close(&scene);
}

// Clipped updates: weights follow the CPU's, the bf16 copy follows the weights.
static void test_updates(void **state) {
  ss_error error = {0};
  scene scene;
  scene_open(&scene, *state);
  optimizer *optimizers[2];
  float *weights[2];
  double losses[2][4], norm;
  bool skipped;
  for (int d = 0; d < 2; ++d) {
    gpt *model = scene.model[d];
    assert_ok(optimizer_create(&optimizers[d], model, 0.1, 0.9, 0.95, 1e-3, &error));
    for (int step = 0; step < 4; ++step) {
      gpt_loss loss;
      assert_ok(gpt_zero_gradients(model, &error));
      assert_ok(gpt_train_step(model, &scene.batches[step % 2], true, 1.0, &loss, &error));
      assert_ok(optimizer_step(optimizers[d], 1e-2, step + 1, 1.0 / (double)loss.n_target, 0.5, &norm,
                               &skipped, &error));
      assert_true(!skipped && norm > 0.5);
      losses[d][step] = loss.loss_sum;
    }
    weights[d] = fixture_download(scene.fixture.device[d], gpt_parameters(model), gpt_n_parameter(model));
    optimizer_free(optimizers[d]);
  }
  double tolerance = scene.fixture.compute == SS_BF16 ? 1e-2 : 1e-5;
  for (int step = 0; step < 4; ++step)
    assert_near(losses[ON_CUDA][step], losses[ON_CPU][step], tolerance * losses[ON_CPU][step]);
  // Vectors start at zero and are all update; what AdamW makes of a gradient's noise is not small.
  double error_of_all = cuda_nmse(weights[ON_CUDA], weights[ON_CPU], gpt_n_parameter(scene.model[ON_CPU]));
  assert_true(error_of_all <= (scene.fixture.compute == SS_BF16 ? 1e-3 : 1e-8));
  free(weights[ON_CPU]);
  free(weights[ON_CUDA]);
  scene_close(&scene);
}

// In one go, again, recomputed, and each batch staged while the one before runs.
static void test_same_bits(void **state) {
  ss_error error = {0};
  scene scene;
  scene_open(&scene, *state);
  gpt *model = scene.model[ON_CUDA];
  gpt_loss expected[N_BATCH], loss;
  float *sum = NULL;
  // A matrix product that applies GELU itself does so before it rounds; recomputation starts from what was kept.
  bool fused = ((variant *)*state)->architecture == FIXTURE_GPT2 && scene.fixture.compute == SS_BF16;
  enum { RECOMPUTED = 2, STAGED_AHEAD, PASSES };
  for (int pass = 0; pass < PASSES; ++pass) {
    gpt_set_recompute(model, pass == RECOMPUTED);
    assert_ok(gpt_zero_gradients(model, &error));
    for (int k = 0; k < N_BATCH; ++k) {
      if (pass != STAGED_AHEAD) {
        assert_ok(gpt_train_step(model, &scene.batches[k], true, 0.5, &loss, &error));
      } else {
        if (k == 0)
          assert_ok(gpt_stage(model, &scene.batches[0], true, &error));
        assert_ok(gpt_run(model, 0.5, &error));
        if (k + 1 < N_BATCH)
          assert_ok(gpt_stage(model, &scene.batches[k + 1], true, &error));
        assert_ok(gpt_collect(model, &loss, &error));
      }
      if (pass == 0)
        expected[k] = loss;
      if (loss.loss_sum != expected[k].loss_sum)
        fail_msg("pass %d: loss %.17g, expected %.17g", pass, loss.loss_sum, expected[k].loss_sum);
      assert_int_equal(loss.n_correct, expected[k].n_correct);
    }
    float *got = gradients(&scene, ON_CUDA);
    int64_t n = gpt_n_parameter(model);
    if (pass == 0)
      sum = got;
    else if (pass == RECOMPUTED && fused)
      check_parameters(&scene, "recomputed gradient", got, sum, 1e-4);
    else if (memcmp(got, sum, (size_t)n * sizeof *got) != 0)
      fail_msg("pass %d: other gradients", pass);
    if (pass > 0)
      free(got);
  }
  free(sum);
  scene_close(&scene);
}

// The prompt at once, then a token a call.
static void test_decoding(void **state) {
  ss_error error = {0};
  scene scene;
  scene_open(&scene, *state);
  const fixture_text *text = &texts[1];
  gpt_batch whole = fixture_batch(text, 1, &scene.policy);
  int64_t V = FIXTURE_VOCABULARY, n = whole.n_row;
  float *want = calloc((size_t)(n * V), sizeof *want), *got = calloc((size_t)(n * V), sizeof *got);
  assert_ok(gpt_forward_logits(scene.model[ON_CPU], &whole, want, &error));
  assert_ok(gpt_forward_logits(scene.model[ON_CUDA], &whole, got, &error));
  double nmse = cuda_nmse(got, want, n * V);
  if (!(nmse <= bound_of(&scene)))
    fail_msg("logits: NMSE %.3g", nmse);
  gpt_cache *cache = NULL;
  assert_ok(gpt_cache_create(&cache, scene.model[ON_CUDA], 1, FIXTURE_ROWS, &error));
  assert_ok(gpt_cache_fill(cache, 0, FIXTURE_ROWS, NAN, &error));
  for (int32_t first = 0, end = text->prompt_end; first < n; first = end, ++end) {
    ss_attention_view views[80];
    span_range ranges[4096];
    gpt_inference_batch batch = {.n_row = end - first, .views = views, .ranges = ranges, .n_logit_row = 1};
    fixture_views(text, &scene.policy, first, end, 0, 0, views, &batch.n_view, ranges, &batch.n_range);
    int32_t rows[FIXTURE_ROWS], last = end - first - 1;
    for (int32_t row = 0; row < end - first; ++row)
      rows[row] = first + row;
    batch.tokens = text->tokens + first;
    batch.positions = batch.cache_rows = rows;
    batch.logit_rows = &last;
    assert_ok(gpt_infer(scene.model[ON_CUDA], cache, &batch, got, &error));
    nmse = cuda_nmse(got, want + (end - 1) * V, V);
    if (!(nmse <= 4 * bound_of(&scene)))
      fail_msg("logits of row %d: NMSE %.3g", end - 1, nmse);
  }
  gpt_cache_free(cache);
  fixture_batch_free(&whole);
  free(want);
  free(got);
  scene_close(&scene);
}

int main(void) {
  static variant variants[] = {{FIXTURE_GPT2, SS_PRECISION_FP32},
                               {FIXTURE_GPT2, SS_PRECISION_BF16},
                               {FIXTURE_LLAMA, SS_PRECISION_FP32},
                               {FIXTURE_LLAMA, SS_PRECISION_BF16}};
#define ALL(test)                                                 \
  {#test " (gpt2, fp32)", test, NULL, NULL, &variants[0]},        \
      {#test " (gpt2, bf16)", test, NULL, NULL, &variants[1]},    \
      {#test " (llama, fp32)", test, NULL, NULL, &variants[2]}, { \
#test " (llama, bf16)", test, NULL, NULL, &variants[3]        \
  }
  const struct CMUnitTest tests[] = {ALL(test_gradients), ALL(test_updates), ALL(test_same_bits),
                                     ALL(test_decoding)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
