// A training step in its three parts, with the next batch staged while one runs; recomputation; the memory of
// activations.
#include "tests/gpt_fixture.h"
#include "tests/helpers.h"
#include "tests/late_device.h"

#define N_BATCH 4

typedef struct {
  ss_device *device;
  gpt *model;
  span_policy policy;
  gpt_batch batches[N_BATCH];  // of one to four texts: each needs a larger arena than the one before
} scene;

static fixture_text texts[N_BATCH];

static void scene_open(scene *scene, fixture_architecture architecture, bool late) {
  ss_error error = {0};
  assert_ok(ss_device_open(&scene->device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  if (late)
    late_device_begin(scene->device);
  scene->model = fixture_model(scene->device, architecture, true);
  scene->policy = span_policy_default();
  scene->policy.max_header = 64;
  for (int k = 0; k < N_BATCH; ++k)
    fixture_text_make(&texts[k], 40 + (uint64_t)k, 2 + k, 3, false, &scene->policy);
  for (int k = 0; k < N_BATCH; ++k)
    scene->batches[k] = fixture_batch(texts, k + 1, &scene->policy);
}

static void scene_close(scene *scene, bool late) {
  for (int k = 0; k < N_BATCH; ++k)
    fixture_batch_free(&scene->batches[k]);
  gpt_free(scene->model);
  if (late)
    late_device_end(scene->device);
  ss_device_close(scene->device);
}

static float *gradients(const scene *scene) {
  return fixture_download(scene->device, gpt_gradients(scene->model), gpt_n_parameter(scene->model));
}

static void assert_same_gradients(const scene *scene, const float *expected) {
  float *got = gradients(scene);
  assert_memory_equal(got, expected, (size_t)gpt_n_parameter(scene->model) * sizeof *got);
  free(got);
}

static void assert_same_loss(gpt_loss got, gpt_loss expected) {
  assert_true(got.loss_sum == expected.loss_sum && got.loss_sum > 0);
  assert_int_equal(got.n_target, expected.n_target);
  assert_int_equal(got.n_correct, expected.n_correct);
}

// One after the other, and each staged while the one before runs: the same bits.
static void test_staged_ahead(void **state) {
  ss_error error = {0};
  gpt_loss expected[N_BATCH], loss;
  scene scene;
  scene_open(&scene, *(fixture_architecture *)*state, false);
  for (int k = 0; k < N_BATCH; ++k)
    assert_ok(gpt_train_step(scene.model, &scene.batches[k], true, 0.5, &expected[k], &error));
  float *sum = gradients(&scene);
  scene_close(&scene, false);

  scene_open(&scene, *(fixture_architecture *)*state, true);
  // Arrays that are gone once staged, as a reader's are.
  for (int k = 0; k <= N_BATCH; ++k) {
    if (k < N_BATCH) {
      gpt_batch batch = fixture_batch(texts, k + 1, &scene.policy);
      assert_ok(gpt_stage(scene.model, &batch, true, &error));
      assert_int_equal(gpt_staged_targets(scene.model), expected[k].n_target);
      memset((void *)batch.targets, 0xff, (size_t)batch.n_row * sizeof *batch.targets);
      fixture_batch_free(&batch);
    }
    if (k > 0) {
      assert_ok(gpt_collect(scene.model, &loss, &error));
      assert_same_loss(loss, expected[k - 1]);
    }
    if (k < N_BATCH)
      assert_ok(gpt_run(scene.model, 0.5, &error));
  }
  assert_same_gradients(&scene, sum);
  scene_close(&scene, true);
  free(sum);
}

static void test_order_of_parts(void **state) {
  ss_error error = {0};
  gpt_loss loss, again;
  scene scene;
  scene_open(&scene, *(fixture_architecture *)*state, true);
  assert_refused(gpt_run(scene.model, 1.0, &error), SS_ERROR_INTERNAL, "no batch is staged");
  assert_refused(gpt_collect(scene.model, &loss, &error), SS_ERROR_INTERNAL, "no batch runs");
  assert_ok(gpt_stage(scene.model, &scene.batches[0], true, &error));
  assert_ok(gpt_run(scene.model, 1.0, &error));
  assert_false(gpt_is_staged(scene.model));
  assert_ok(gpt_stage(scene.model, &scene.batches[1], true, &error));
  assert_refused(gpt_run(scene.model, 1.0, &error), SS_ERROR_INTERNAL, "not collected");
  assert_ok(gpt_collect(scene.model, &loss, &error));
  // Another step forgets what was staged.
  assert_true(gpt_is_staged(scene.model));
  assert_ok(gpt_train_step(scene.model, &scene.batches[0], false, 1.0, &again, &error));
  assert_same_loss(again, loss);
  assert_false(gpt_is_staged(scene.model));
  // So does a batch that cannot be staged.
  assert_ok(gpt_stage(scene.model, &scene.batches[1], true, &error));
  gpt_batch bad = scene.batches[0];
  bad.n_row = 0;
  assert_refused(gpt_stage(scene.model, &bad, true, &error), SS_ERROR_LIMIT, "0 rows");
  assert_false(gpt_is_staged(scene.model));
  scene_close(&scene, true);
}

static void test_recomputation(void **state) {
  ss_error error = {0};
  gpt_loss kept, recomputed;
  scene scene;
  scene_open(&scene, *(fixture_architecture *)*state, false);
  assert_ok(gpt_train_step(scene.model, &scene.batches[2], true, 0.25, &kept, &error));
  float *expected = gradients(&scene);
  gpt_set_recompute(scene.model, true);
  assert_ok(gpt_zero_gradients(scene.model, &error));
  assert_ok(gpt_train_step(scene.model, &scene.batches[2], true, 0.25, &recomputed, &error));
  assert_same_loss(recomputed, kept);
  assert_same_gradients(&scene, expected);
  free(expected);
  scene_close(&scene, false);
}

// --- memory ---

static gpt_config gpt2_124m(void) {
  gpt_config config = fixture_config(FIXTURE_GPT2);
  config.n_layer = config.n_head = config.n_kv_head = 12;
  config.n_embd = 768;
  config.n_ff = 3072;
  config.n_positions = 1024;
  config.vocab_size = 50257;
  return config;
}

static void test_bytes_of_gpt2(void **state) {
  (void)state;
  gpt_config config = gpt2_124m();
  const int64_t n = 64 * 1024;
  size_t kept = gpt_activation_bytes(&config, SS_BF16, false, true, n);
  // A layer keeps 12288 numbers of 2 bytes a token, 4 + 12 of 4 bytes.
  size_t layers = 12 * (size_t)n * (12288 * 2 + 16 * 4);
  assert_true(kept > layers && kept < layers + (size_t)n * 9600);
  // Weights, gradients, two moments and the copy; a chunk of logits.
  double total = 124439808.0 * (4 + 4 + 4 + 4 + 2) + (double)kept + 0.5e9;
  assert_true(total <= 23.0e9);
  // norm1, norm2 and the activation of all layers but one, and one of the two norms of that one
  size_t recomputed = gpt_activation_bytes(&config, SS_BF16, true, true, n);
  assert_int_equal(kept - recomputed, (size_t)n * (11 * (768 + 768 + 3072) + 768) * 2);
  assert_true(gpt_activation_bytes(&config, SS_F32, false, true, n) > 2 * kept - (size_t)n * 12 * 200);
  assert_true(gpt_activation_bytes(&config, SS_BF16, false, false, n) < kept / 8);
}

static void test_arena_is_what_was_announced(void **state) {
  ss_error error = {0};
  fixture_architecture architecture = *(fixture_architecture *)*state;
  gpt_config config = fixture_config(architecture);
  scene scene;
  scene_open(&scene, architecture, true);
  for (int recompute = 0; recompute < 2; ++recompute) {
    int64_t n_row = 1000 + 2000 * recompute;
    gpt_set_recompute(scene.model, recompute);
    assert_ok(gpt_reserve(scene.model, n_row, true, &error));
    assert_int_equal(late_device_last_allocation(),
                     gpt_activation_bytes(&config, SS_F32, recompute, true, n_row));
  }
  assert_int_equal(gpt_parameter_bytes(scene.model), 8 * gpt_n_parameter(scene.model));
  scene_close(&scene, true);
}

static void test_too_many_rows(void **state) {
  ss_error error = {0};
  fixture_architecture architecture = *(fixture_architecture *)*state;
  scene scene;
  scene_open(&scene, architecture, true);
  late_device_set_free(((size_t)640 << 20) + 12345678);
  assert_refused(gpt_reserve(scene.model, 1000000, true, &error), SS_ERROR_MEMORY,
                 "12345678 of 683434318 are free on cpu; at most ");
  gpt_reserve(scene.model, 1000000, true, &error);
  long long fitting = 0;
  assert_int_equal(sscanf(strstr(error.message, "at most"), "at most %lld tokens fit", &fitting), 1);
  ss_error_clear(&error);
  assert_true(fitting > 100);
  assert_ok(gpt_reserve(scene.model, fitting, true, &error));
  assert_refused(gpt_reserve(scene.model, fitting + 1, true, &error), SS_ERROR_MEMORY, "at most");
  // The model still works.
  gpt_loss loss;
  assert_ok(gpt_train_step(scene.model, &scene.batches[0], true, 1.0, &loss, &error));
  scene_close(&scene, true);
}

int main(void) {
  static fixture_architecture gpt2 = FIXTURE_GPT2, llama = FIXTURE_LLAMA;
#define BOTH(test)                              \
  {#test " (gpt2)", test, NULL, NULL, &gpt2}, { \
#test " (llama)", test, NULL, NULL, &llama  \
  }
  const struct CMUnitTest tests[] = {
      BOTH(test_staged_ahead),
      BOTH(test_order_of_parts),
      BOTH(test_recomputation),
      cmocka_unit_test(test_bytes_of_gpt2),
      BOTH(test_arena_is_what_was_announced),
      BOTH(test_too_many_rows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
