// The model as a whole: gradients by finite differences, span = dense where everything is visible (invariant 1),
// the same bits for any number of threads (invariant 9), bad input.
#include "tests/gpt_fixture.h"
#include "tests/helpers.h"

#include "common/random.h"

static span_policy dense_policy(void) {
  span_policy policy = span_policy_default();
  policy.mask = SPAN_MASK_NONE;
  policy.max_header = 64;
  return policy;
}

static span_policy span_policy_of(int32_t choose) {
  span_policy policy = span_policy_default();
  policy.choose = choose;
  policy.max_header = 64;
  return policy;
}

static double loss_of(gpt *model, const gpt_batch *batch) {
  ss_error error = {0};
  gpt_loss loss;
  assert_ok(gpt_train_step(model, batch, false, 1.0, &loss, &error));
  return loss.loss_sum / (double)loss.n_target;
}

// gradients of the mean loss, downloaded
static float *gradients_of(gpt *model, const gpt_batch *batch) {
  ss_error error = {0};
  gpt_loss loss;
  int64_t n_target = 0;
  for (int64_t row = 0; row < batch->n_row; ++row)
    n_target += batch->targets[row] >= 0;
  assert_ok(gpt_zero_gradients(model, &error));
  assert_ok(gpt_train_step(model, batch, true, 1.0 / (double)n_target, &loss, &error));
  return fixture_download(gpt_device(model), gpt_gradients(model), gpt_n_parameter(model));
}

// --- finite differences ---

typedef struct {
  fixture_architecture architecture;
  bool span;
} variant;

// The mean loss at parameters + step * direction, where the direction is that of one parameter tensor.
static double loss_along(gpt *model, const gpt_batch *batch, const float *initial,
                         const gpt_parameter *parameter, const double *direction, double step) {
  int64_t count = parameter->rows * parameter->cols;
  float *moved = malloc((size_t)count * sizeof *moved);
  assert_non_null(moved);
  for (int64_t i = 0; i < count; ++i)
    moved[i] = (float)(initial[parameter->offset + i] + step * direction[i]);
  fixture_upload(gpt_device(model), gpt_parameters(model) + parameter->offset, moved, count);
  double loss = loss_of(model, batch);
  fixture_upload(gpt_device(model), gpt_parameters(model) + parameter->offset, initial + parameter->offset,
                 count);
  free(moved);
  return loss;
}

// Half along the gradient, where the signal is, half at random, where errors across it show.
static double choose_direction(const float *gradient, int64_t count, ss_random *random, double *direction) {
  double gradient_norm = 0, random_norm = 0, norm = 0, slope = 0;
  for (int64_t i = 0; i < count; ++i) {
    direction[i] = ss_random_normal(random);
    random_norm += direction[i] * direction[i];
    gradient_norm += (double)gradient[i] * gradient[i];
  }
  for (int64_t i = 0; i < count; ++i) {
    direction[i] = direction[i] / sqrt(random_norm) + gradient[i] / sqrt(gradient_norm);
    norm += direction[i] * direction[i];
  }
  for (int64_t i = 0; i < count; ++i) {
    direction[i] /= sqrt(norm);
    slope += direction[i] * gradient[i];
  }
  return slope;
}

static void test_finite_differences(void **state) {
  const variant *v = *state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  gpt *model = fixture_model(device, v->architecture, true);
  span_policy policy = v->span ? span_policy_of(SPAN_CHOOSE_INDEX) : dense_policy();
  static fixture_text texts[2];
  fixture_text_make(&texts[0], 11, 3, 4, false, &policy);
  fixture_text_make(&texts[1], 12, 1, 2, false, &policy);
  gpt_batch batch = fixture_batch(texts, 2, &policy);
  float *gradients = gradients_of(model, &batch);
  float *initial = fixture_download(device, gpt_parameters(model), gpt_n_parameter(model));
  ss_random random = ss_random_seed(3, 3);
  double worst = 0;
  for (int32_t index = 0; index < gpt_n_parameter_tensor(model); ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(model)[index];
    const float *gradient = gradients + parameter->offset;
    int64_t count = parameter->rows * parameter->cols;
    double *direction = malloc((size_t)count * sizeof *direction);
    assert_non_null(direction);
    double slope = choose_direction(gradient, count, &random, direction);
    // Four points: the truncation error falls with the fourth power, so a step that drowns rounding is allowed.
    const double h = 0.03;
    double near = loss_along(model, &batch, initial, parameter, direction, h) -
                  loss_along(model, &batch, initial, parameter, direction, -h);
    double far = loss_along(model, &batch, initial, parameter, direction, 2 * h) -
                 loss_along(model, &batch, initial, parameter, direction, -2 * h);
    double difference = (8 * near - far) / (12 * h);
    double err = fabs(difference - slope) / fabs(slope);
    if (!(err <= 1e-3))
      fail_msg("%s: slope %g, finite difference %g, relative error %g, expected at most 1e-3",
               parameter->name, slope, difference, err);
    worst = err > worst ? err : worst;
    free(direction);
  }
  print_message("worst relative error %.2g\n", worst);
  free(initial);
  free(gradients);
  fixture_batch_free(&batch);
  gpt_free(model);
  ss_device_close(device);
}

// --- invariant 1 ---

static void test_all_visible_is_dense(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  gpt *model = fixture_model(device, architecture, true);
  span_policy all = span_policy_of(SPAN_CHOOSE_ALL), none = dense_policy();
  static fixture_text texts[3];
  for (int k = 0; k < 3; ++k)
    fixture_text_make(&texts[k], 20 + (uint64_t)k, 2 + k, 5, true, &all);
  gpt_batch span = fixture_batch(texts, 3, &all), dense = fixture_batch(texts, 3, &none);
  assert_true(span.n_view > 3 * 5);
  size_t count = (size_t)(span.n_row * FIXTURE_VOCABULARY);
  float *span_logits = calloc(count, sizeof(float)), *dense_logits = calloc(count, sizeof(float));
  assert_ok(gpt_forward_logits(model, &span, span_logits, &error));
  assert_ok(gpt_forward_logits(model, &dense, dense_logits, &error));
  assert_memory_equal(span_logits, dense_logits, count * sizeof(float));
  assert_true(loss_of(model, &span) == loss_of(model, &dense));
  // The gradient's sums run over the same rows, in the order of the views.
  float *span_gradients = gradients_of(model, &span), *dense_gradients = gradients_of(model, &dense);
  double norm = 0, difference = 0;
  for (int64_t i = 0; i < gpt_n_parameter(model); ++i) {
    norm += (double)dense_gradients[i] * dense_gradients[i];
    difference += pow((double)span_gradients[i] - dense_gradients[i], 2);
  }
  print_message("gradients: relative difference %.2g\n", sqrt(difference / norm));
  assert_true(sqrt(difference / norm) <= 1e-6);
  // And the mask matters: with the index alone the result is another one.
  span_policy index = span_policy_of(SPAN_CHOOSE_INDEX);
  gpt_batch masked = fixture_batch(texts, 3, &index);
  assert_false(loss_of(model, &masked) == loss_of(model, &dense));
  free(span_gradients);
  free(dense_gradients);
  free(span_logits);
  free(dense_logits);
  fixture_batch_free(&span);
  fixture_batch_free(&dense);
  fixture_batch_free(&masked);
  gpt_free(model);
  ss_device_close(device);
}

// --- threads, workspaces, packing ---

static void test_threads_do_not_matter(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  span_policy policy = span_policy_of(SPAN_CHOOSE_OPEN);
  static fixture_text texts[6];
  for (int k = 0; k < 6; ++k)
    fixture_text_make(&texts[k], 40 + (uint64_t)k, 1 + k, 7, false, &policy);
  gpt_batch batch = fixture_batch(texts, 6, &policy);
  float *one = NULL;
  double one_loss = 0;
  for (int n_thread = 1; n_thread <= 3; ++n_thread) {
    ss_device *device = NULL;
    assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = n_thread}, &error));
    gpt *model = fixture_model(device, architecture, true);
    float *gradients = gradients_of(model, &batch);
    double loss = loss_of(model, &batch);
    if (!one) {
      one = gradients;
      one_loss = loss;
    } else {
      assert_true(loss == one_loss);
      assert_memory_equal(gradients, one, (size_t)gpt_n_parameter(model) * sizeof(float));
      free(gradients);
    }
    gpt_free(model);
    ss_device_close(device);
  }
  free(one);
  fixture_batch_free(&batch);
}

// What an earlier, larger call left in the workspace changes nothing; nor do the neighbours in a batch.
static void test_batches_are_independent(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  gpt *model = fixture_model(device, architecture, true);
  span_policy policy = span_policy_of(SPAN_CHOOSE_INDEX);
  static fixture_text texts[4];
  for (int k = 0; k < 4; ++k)
    fixture_text_make(&texts[k], 50 + (uint64_t)k, 3, 4, false, &policy);
  gpt_batch alone = fixture_batch(texts, 1, &policy), packed = fixture_batch(texts, 4, &policy);
  float *before = gradients_of(model, &alone);
  free(gradients_of(model, &packed));
  float *after = gradients_of(model, &alone);
  assert_memory_equal(before, after, (size_t)gpt_n_parameter(model) * sizeof(float));
  float *few = calloc((size_t)alone.n_row * FIXTURE_VOCABULARY, sizeof(float));
  float *many = calloc((size_t)packed.n_row * FIXTURE_VOCABULARY, sizeof(float));
  assert_ok(gpt_forward_logits(model, &alone, few, &error));
  assert_ok(gpt_forward_logits(model, &packed, many, &error));
  for (int64_t i = 0; i < alone.n_row * FIXTURE_VOCABULARY; ++i)
    assert_near(many[i], few[i], 1e-5);
  free(few);
  free(many);
  free(before);
  free(after);
  fixture_batch_free(&alone);
  fixture_batch_free(&packed);
  gpt_free(model);
  ss_device_close(device);
}

static void test_no_targets(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  gpt *model = fixture_model(device, architecture, true);
  span_policy policy = span_policy_of(SPAN_CHOOSE_INDEX);
  static fixture_text text;
  fixture_text_make(&text, 60, 2, 2, false, &policy);
  gpt_batch batch = fixture_batch(&text, 1, &policy);
  for (int64_t row = 0; row < batch.n_row; ++row)
    ((int32_t *)batch.targets)[row] = -1;
  gpt_loss loss;
  assert_ok(gpt_zero_gradients(model, &error));
  assert_ok(gpt_train_step(model, &batch, true, 1.0, &loss, &error));
  assert_true(loss.loss_sum == 0 && loss.n_target == 0 && loss.n_correct == 0);
  float *gradients = fixture_download(device, gpt_gradients(model), gpt_n_parameter(model));
  for (int64_t i = 0; i < gpt_n_parameter(model); ++i)
    assert_true(gradients[i] == 0);
  free(gradients);
  fixture_batch_free(&batch);
  gpt_free(model);
  ss_device_close(device);
}

// Invariant 5 through the whole model: queries that read nothing, not even themselves.
static void test_nothing_visible(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  gpt *model = fixture_model(device, architecture, true);
  const int32_t tokens[] = {1, 2, 3, 4}, targets[] = {2, 3, 4, 5}, positions[] = {0, 1, 2, 3};
  // self_first lies behind every query: as one view, and as one view a query, which takes another way in a kernel.
  const ss_attention_view together[] = {{0, 4, 4, 0, 0, 0}};
  const ss_attention_view apart[] = {{0, 1, 4, 0, 0, 0},
                                     {1, 1, 4, 1, 0, 0},
                                     {2, 1, 4, 2, 0, 0},
                                     {3, 1, 4, 3, 0, 0}};
  double losses[2];
  for (int k = 0; k < 2; ++k) {
    gpt_batch batch = {4, tokens, targets, positions, k ? apart : together, k ? 4 : 1, NULL, 0};
    gpt_loss loss;
    assert_ok(gpt_zero_gradients(model, &error));
    assert_ok(gpt_train_step(model, &batch, true, 1.0, &loss, &error));
    assert_true(isfinite(loss.loss_sum) && loss.loss_sum > 0);
    losses[k] = loss.loss_sum;
    float *gradients = fixture_download(device, gpt_gradients(model), gpt_n_parameter(model));
    double qkv = 0;
    int32_t index = gpt_find_parameter(model, "block.0.attention.qkv.weight");
    assert_true(index >= 0);
    const gpt_parameter *parameter = &gpt_parameter_table(model)[index];
    for (int64_t i = 0; i < gpt_n_parameter(model); ++i)
      assert_true(isfinite(gradients[i]));
    for (int64_t i = 0; i < parameter->rows * parameter->cols; ++i)
      qkv += fabs((double)gradients[parameter->offset + i]);
    assert_true(qkv == 0);  // attention gave zeros, whatever q, k and v were
    free(gradients);
  }
  assert_true(losses[0] == losses[1]);
  gpt_free(model);
  ss_device_close(device);
}

// --- parameters and configuration ---

static void test_initialisation(void **state) {
  fixture_architecture architecture = *(fixture_architecture *)*state;
  ss_error error = {0};
  float *first = NULL;
  for (int n_thread = 1; n_thread <= 2; ++n_thread)
    for (uint64_t seed = 5; seed <= 6; ++seed) {
      ss_device *device = NULL;
      assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = n_thread}, &error));
      gpt_config config = fixture_config(architecture);
      gpt *model = NULL;
      assert_ok(gpt_create(&model, device, &config, false, &error));
      assert_ok(gpt_initialize(model, seed, &error));
      float *values = fixture_download(device, gpt_parameters(model), gpt_n_parameter(model));
      for (int32_t index = 0; index < gpt_n_parameter_tensor(model); ++index) {
        const gpt_parameter *parameter = &gpt_parameter_table(model)[index];
        int64_t count = parameter->rows * parameter->cols;
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < count; ++i) {
          sum += values[parameter->offset + i];
          squares += pow(values[parameter->offset + i], 2);
        }
        double deviation = config.init_std;
        if (parameter->init == GPT_INIT_RESIDUAL)
          deviation /= sqrt(2.0 * (double)config.n_layer);
        if (parameter->init == GPT_INIT_ONES || parameter->init == GPT_INIT_ZEROS) {
          assert_true(sum == (parameter->init == GPT_INIT_ONES ? (double)count : 0.0));
          assert_false(parameter->decay);
        } else {
          assert_near(sum / (double)count, 0, 5 * deviation / sqrt((double)count));
          assert_near(sqrt(squares / (double)count), deviation, 5 * deviation / sqrt(2.0 * (double)count));
        }
        assert_int_equal(gpt_find_parameter(model, parameter->name), index);
      }
      int32_t wpe = gpt_find_parameter(model, "wpe");
      assert_true((wpe >= 0) == (config.position == GPT_POSITION_LEARNED));
      assert_true(wpe < 0 || !gpt_parameter_table(model)[wpe].decay);
      assert_true(gpt_parameter_table(model)[gpt_find_parameter(model, "wte")].decay);
      size_t bytes = (size_t)gpt_n_parameter(model) * sizeof(float);
      if (!first)
        first = values;
      else {
        assert_int_equal(memcmp(first, values, bytes) == 0, seed == 5);
        free(values);
      }
      gpt_free(model);
      ss_device_close(device);
    }
  free(first);
}

static void test_bad_configurations(void **state) {
  (void)state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  gpt_config config = fixture_config(FIXTURE_LLAMA);
  config.n_ff = config.n_kv_head = 0;
  assert_ok(gpt_config_resolve(&config, &error));
  assert_int_equal(config.n_kv_head, 4);
  assert_int_equal(config.n_ff, 96);  // 8/3 * 32 = 85.3, rounded up to 32
  config.n_head = 5;
  assert_refused(gpt_config_resolve(&config, &error), SS_ERROR_USAGE, "multiple of model.n_head 5");
  config = fixture_config(FIXTURE_LLAMA);
  config.n_kv_head = 3;
  assert_refused(gpt_config_resolve(&config, &error), SS_ERROR_USAGE, "multiple of model.n_kv_head 3");
  config = fixture_config(FIXTURE_LLAMA);
  config.n_embd = 12;
  assert_refused(gpt_config_resolve(&config, &error), SS_ERROR_USAGE, "even number");
  config = fixture_config(FIXTURE_GPT2);
  config.norm_epsilon = NAN;
  assert_refused(gpt_config_resolve(&config, &error), SS_ERROR_USAGE, "norm_epsilon");
  config = fixture_config(FIXTURE_GPT2);
  config.vocab_size = 0;
  gpt *model = NULL;
  assert_refused(gpt_create(&model, device, &config, true, &error), SS_ERROR_USAGE, "vocab_size");
  assert_null(model);
  ss_device_close(device);
}

static void test_bad_batches(void **state) {
  (void)state;
  ss_error error = {0};
  ss_device *device = NULL;
  assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  gpt *model = fixture_model(device, FIXTURE_GPT2, true);
  int32_t tokens[] = {1, 2, 3}, targets[] = {2, 3, -1}, positions[] = {0, 1, 2};
  ss_attention_view views[] = {{0, 3, 0, 0, 0, 0}};
  gpt_batch batch = {3, tokens, targets, positions, views, 1, NULL, 0};
  gpt_loss loss;
  assert_ok(gpt_train_step(model, &batch, true, 1.0, &loss, &error));
  tokens[1] = FIXTURE_VOCABULARY;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_INPUT, "row 1: token 64");
  tokens[1] = -1;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_INPUT, "row 1: token -1");
  tokens[1] = 2;
  targets[0] = FIXTURE_VOCABULARY;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_INPUT, "row 0: target 64");
  targets[0] = 2;
  positions[2] = FIXTURE_ROWS;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_LIMIT, "position 512");
  positions[2] = 2;
  views[0].n_query = 2;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_INTERNAL, "cover 2 rows");
  views[0].n_query = 4;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_INTERNAL,
                 "covers rows 0 + 4");
  batch.n_row = 0;
  assert_refused(gpt_train_step(model, &batch, true, 1.0, &loss, &error), SS_ERROR_LIMIT, "0 rows");
  gpt_free(model);
  ss_device_close(device);
}

int main(void) {
  static fixture_architecture gpt2 = FIXTURE_GPT2, llama = FIXTURE_LLAMA;
  static variant variants[] = {{FIXTURE_GPT2, false},
                               {FIXTURE_GPT2, true},
                               {FIXTURE_LLAMA, false},
                               {FIXTURE_LLAMA, true}};
#define BOTH(test)                              \
  {#test " (gpt2)", test, NULL, NULL, &gpt2}, { \
#test " (llama)", test, NULL, NULL, &llama  \
  }
  const struct CMUnitTest tests[] = {
      {"finite differences (gpt2, dense)", test_finite_differences, NULL, NULL, &variants[0]},
      {"finite differences (gpt2, span)", test_finite_differences, NULL, NULL, &variants[1]},
      {"finite differences (llama, dense)", test_finite_differences, NULL, NULL, &variants[2]},
      {"finite differences (llama, span)", test_finite_differences, NULL, NULL, &variants[3]},
      BOTH(test_all_visible_is_dense),
      BOTH(test_threads_do_not_matter),
      BOTH(test_batches_are_independent),
      BOTH(test_no_targets),
      BOTH(test_nothing_visible),
      BOTH(test_initialisation),
      cmocka_unit_test(test_bad_configurations),
      cmocka_unit_test(test_bad_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
