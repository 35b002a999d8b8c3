// Schedules at pinned values, and AdamW against a plain fp64 reference: decay by kind of parameter, clipping, and
// gradients that are not finite.
#include "helpers.h"

#include "common/random.h"
#include "train/optimizer.h"

static void schedule_pinned(void **state) {
  (void)state;
  // Warm-up over 4 steps, then 8 steps of decay.
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 0), 0.5, 1e-15);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 3), 2.0, 1e-15);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 4), 2.0, 1e-15);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 6), 0.2 + 1.8 * 0.85355339059327376, 1e-14);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 8), 1.1, 1e-14);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 12), 0.2, 1e-14);
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 4, 12, 99), 0.2, 1e-14);
  assert_near(schedule_rate(SCHEDULE_LINEAR, 2.0, 0.1, 4, 12, 6), 1.55, 1e-14);
  assert_near(schedule_rate(SCHEDULE_LINEAR, 2.0, 0.0, 0, 10, 9), 0.2, 1e-14);
  assert_near(schedule_rate(SCHEDULE_CONSTANT, 2.0, 0.1, 4, 12, 1), 1.0, 1e-15);
  assert_near(schedule_rate(SCHEDULE_CONSTANT, 2.0, 0.1, 4, 12, 11), 2.0, 1e-15);
  // A warm-up as long as the run never decays.
  assert_near(schedule_rate(SCHEDULE_COSINE, 2.0, 0.1, 12, 12, 11), 2.0, 1e-15);
}

typedef struct {
  ss_device *device;
  gpt *model;
  int64_t n;
} fixture;

// A GPT-2 style model has every kind of parameter: matrices, norms, biases, positions.
static fixture make_model(void) {
  ss_error error = {0};
  fixture made = {0};
  gpt_config config;
  ss_key_group groups[] = {{gpt_config_keys, &config}, {NULL, NULL}};
  assert_ok(ss_config_defaults(groups, &error));
  config.n_layer = 1;
  config.n_head = 2;
  config.n_embd = 8;
  config.n_positions = 8;
  config.vocab_size = 11;
  assert_ok(gpt_config_resolve(&config, &error));
  assert_ok(ss_device_open(&made.device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  assert_ok(gpt_create(&made.model, made.device, &config, true, &error));
  assert_ok(gpt_initialize(made.model, 3, &error));
  made.n = gpt_n_parameter(made.model);
  return made;
}

static void free_model(fixture *made) {
  gpt_free(made->model);
  ss_device_close(made->device);
}

static float *download(const fixture *made, const float *from) {
  float *host = calloc((size_t)made->n, sizeof *host);
  assert_int_equal(made->device->ops->download(made->device, host, from, (size_t)made->n * sizeof *host),
                   SS_OK);
  return host;
}

// Gradients of step `step`: random, the same for reference and optimizer.
static void set_gradients(const fixture *made, float *host, int64_t step) {
  ss_random random = ss_random_seed(9, (uint64_t)step);
  for (int64_t i = 0; i < made->n; i++)
    host[i] = (float)ss_random_normal(&random);
  assert_int_equal(made->device->ops->upload(made->device, gpt_gradients(made->model), host,
                                             (size_t)made->n * sizeof *host),
                   SS_OK);
}

typedef struct {
  double *weight, *first, *second;
  bool *decay;
} reference;

static reference make_reference(const fixture *made) {
  reference made_reference = {calloc((size_t)made->n, sizeof(double)),
                              calloc((size_t)made->n, sizeof(double)),
                              calloc((size_t)made->n, sizeof(double)), calloc((size_t)made->n, sizeof(bool))};
  float *start = download(made, gpt_parameters(made->model));
  for (int64_t i = 0; i < made->n; i++)
    made_reference.weight[i] = start[i];
  free(start);
  // By name, not by the table's flag: matrices and token embeddings decay, nothing else does.
  int decayed = 0, spared = 0;
  for (int32_t k = 0; k < gpt_n_parameter_tensor(made->model); k++) {
    const gpt_parameter *row = &gpt_parameter_table(made->model)[k];
    bool decay = strstr(row->name, "bias") == NULL && strstr(row->name, "norm") == NULL &&
                 strcmp(row->name, "wpe") != 0;
    *(decay ? &decayed : &spared) += 1;
    for (int64_t i = 0; i < row->rows * row->cols; i++)
      made_reference.decay[row->offset + i] = decay;
  }
  assert_true(decayed >= 5 && spared >= 8);
  return made_reference;
}

static void free_reference(reference *made) {
  free(made->weight);
  free(made->first);
  free(made->second);
  free(made->decay);
}

#define RATE 1e-2
#define DECAY 0.3
#define BETA1 0.9
#define BETA2 0.95
#define EPSILON 1e-8

// Loshchilov and Hutter's algorithm 2, as PyTorch's AdamW orders it: decay first. rates: multipliers, NULL: 1.
static void reference_step(const fixture *made, reference *r, const float *gradients, int64_t step,
                           double scale, const double *rates) {
  for (int64_t i = 0; i < made->n; i++) {
    double g = scale * gradients[i], rate = RATE * (rates == NULL ? 1 : rates[i]);
    r->weight[i] *= 1 - rate * (r->decay[i] ? DECAY : 0);
    r->first[i] = BETA1 * r->first[i] + (1 - BETA1) * g;
    r->second[i] = BETA2 * r->second[i] + (1 - BETA2) * g * g;
    double first = r->first[i] / (1 - pow(BETA1, (double)step));
    double second = r->second[i] / (1 - pow(BETA2, (double)step));
    r->weight[i] -= rate * first / (sqrt(second) + EPSILON);
  }
}

static void adamw_against_reference(void **state) {
  (void)state;
  ss_error error = {0};
  fixture made = make_model();
  reference r = make_reference(&made);
  optimizer *adamw = NULL;
  assert_ok(optimizer_create(&adamw, made.model, DECAY, BETA1, BETA2, EPSILON, &error));
  float *gradients = calloc((size_t)made.n, sizeof *gradients);
  for (int64_t step = 1; step <= 10; step++) {
    set_gradients(&made, gradients, step);
    double squares = 0, scale = 0.25, norm = 0;
    for (int64_t i = 0; i < made.n; i++)
      squares += (double)gradients[i] * gradients[i];
    // Odd steps are clipped to half their norm, even ones have a limit that they do not reach.
    double true_norm = scale * sqrt(squares), clip = step % 2 == 1 ? 0.5 * true_norm : 2 * true_norm;
    bool skipped = true;
    assert_ok(optimizer_step(adamw, RATE, step, scale, clip, &norm, &skipped, &error));
    assert_false(skipped);
    assert_near(norm, true_norm, 1e-6 * true_norm);
    reference_step(&made, &r, gradients, step, step % 2 == 1 ? 0.5 * scale : scale, NULL);
  }
  float *weights = download(&made, gpt_parameters(made.model));
  float *first = download(&made, optimizer_first_moment(adamw));
  float *second = download(&made, optimizer_second_moment(adamw));
  for (int64_t i = 0; i < made.n; i++) {
    assert_near(weights[i], r.weight[i], 2e-6);
    assert_near(first[i], r.first[i], 1e-6);
    assert_near(second[i], r.second[i], 1e-6);
  }
  free(weights);
  free(first);
  free(second);
  free(gradients);
  optimizer_free(adamw);
  free_reference(&r);
  free_model(&made);
}

// Rates begin and end within tensors, lie over several, and multiply; 0 takes elements out of the norm as well.
static void rates_multiply(void **state) {
  (void)state;
  ss_error error = {0};
  fixture made = make_model();
  reference r = make_reference(&made);
  optimizer *adamw = NULL;
  assert_ok(optimizer_create(&adamw, made.model, DECAY, BETA1, BETA2, EPSILON, &error));
  const gpt_parameter *last = &gpt_parameter_table(made.model)[gpt_n_parameter_tensor(made.model) - 1];
  const struct {
    int64_t first, end;
    double rate;
  } parts[] = {{3, made.n / 2, 3},
               {made.n / 4, made.n / 4 + 5, 0},
               {made.n / 3, made.n, 0.5},
               {last->offset, last->offset + 1, 0},
               {7, 7, 0}};
  double *rates = calloc((size_t)made.n, sizeof *rates);
  float *gradients = calloc((size_t)made.n, sizeof *gradients);
  for (int64_t i = 0; i < made.n; i++)
    rates[i] = 1;
  for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
    assert_ok(optimizer_set_rate(adamw, parts[k].first, parts[k].end, parts[k].rate, &error));
    for (int64_t i = parts[k].first; i < parts[k].end; i++)
      rates[i] *= parts[k].rate;
  }
  for (int64_t step = 1; step <= 3; step++) {
    double norm = 0, squares = 0;
    bool skipped = true;
    set_gradients(&made, gradients, step);
    for (int64_t i = 0; i < made.n; i++)
      squares += rates[i] > 0 ? (double)gradients[i] * (double)gradients[i] : 0;
    assert_ok(optimizer_step(adamw, RATE, step, 1, 0, &norm, &skipped, &error));
    assert_false(skipped);
    assert_near(norm, sqrt(squares), 1e-9 * norm);
    reference_step(&made, &r, gradients, step, 1, rates);
  }
  float *weights = download(&made, gpt_parameters(made.model));
  for (int64_t i = 0; i < made.n; i++)
    assert_near(weights[i], r.weight[i], 1e-6);
  free(weights);
  free(gradients);
  free(rates);
  optimizer_free(adamw);
  free_reference(&r);
  free_model(&made);
}

// One NaN or Inf in any gradient changes no weight and no moment.
static void adamw_skips_what_is_not_finite(void **state) {
  (void)state;
  ss_error error = {0};
  fixture made = make_model();
  optimizer *adamw = NULL;
  assert_ok(optimizer_create(&adamw, made.model, DECAY, BETA1, BETA2, EPSILON, &error));
  float *gradients = calloc((size_t)made.n, sizeof *gradients);
  double norm = 0;
  bool skipped = true;
  set_gradients(&made, gradients, 1);
  assert_ok(optimizer_step(adamw, RATE, 1, 1, 0, &norm, &skipped, &error));
  assert_false(skipped);
  const float *places[3] = {gpt_parameters(made.model), optimizer_first_moment(adamw),
                            optimizer_second_moment(adamw)};
  float *before[3];
  for (int k = 0; k < 3; k++)
    before[k] = download(&made, places[k]);
  static const float poisons[3] = {NAN, INFINITY, -INFINITY};
  for (int64_t k = 0; k < 3; k++) {
    set_gradients(&made, gradients, 2);
    gradients[k * (made.n - 1) / 2] = poisons[k];
    assert_int_equal(made.device->ops->upload(made.device, gpt_gradients(made.model), gradients,
                                              (size_t)made.n * sizeof *gradients),
                     SS_OK);
    assert_ok(optimizer_step(adamw, RATE, 2, 1, 1.0, &norm, &skipped, &error));
    assert_true(skipped);
    assert_false(isfinite(norm));
    for (int p = 0; p < 3; p++) {
      float *after = download(&made, places[p]);
      assert_memory_equal(after, before[p], (size_t)made.n * sizeof *after);
      free(after);
    }
  }
  for (int k = 0; k < 3; k++)
    free(before[k]);
  free(gradients);
  optimizer_free(adamw);
  free_model(&made);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(schedule_pinned),
      cmocka_unit_test(adamw_against_reference),
      cmocka_unit_test(rates_multiply),
      cmocka_unit_test(adamw_skips_what_is_not_finite),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
