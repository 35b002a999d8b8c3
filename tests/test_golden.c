// The model against PyTorch: tests/golden/*.h5 (written by tests/golden/make_golden.py in float64) hold loss, logits,
// every gradient and ten AdamW steps for both architectures, dense and under a span mask; and V(i) by definition.
#include "tests/helpers.h"

#include <jansson.h>

#include "common/hdf5.h"
#include "model/gpt.h"

#define STEPS 10

typedef struct {
  ss_hdf5 *file;
  ss_device *device;
  gpt *model;
  gpt_batch batch;
  int64_t n_target;
  int32_t *tokens, *targets, *positions, *view_columns, *range_columns;
  ss_attention_view *views;
  span_range *ranges;
} golden;

static void *read_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank, int64_t *dims) {
  ss_error error = {0};
  void *data = NULL;
  assert_ok(ss_hdf5_read_array(file, name, type, rank, dims, &data, &error));
  return data;
}

static void *read_vector(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t n) {
  return read_array(file, name, type, 1, &n);
}

static double attribute(ss_hdf5 *file, const char *name) {
  ss_error error = {0};
  double value = 0;
  assert_ok(ss_hdf5_get_real(file, name, &value, &error));
  return value;
}

static void read_config(ss_hdf5 *file, gpt_config *config) {
  ss_error error = {0};
  char *text = NULL;
  memset(config, 0, sizeof *config);
  const ss_key_group groups[] = {{gpt_config_keys, config}, {NULL, NULL}};
  assert_ok(ss_config_defaults(groups, &error));
  assert_ok(ss_hdf5_get_string(file, "model", &text, &error));
  json_t *object = json_loads(text, 0, NULL);
  assert_non_null(object);
  assert_ok(ss_config_from_json(groups, object, ss_hdf5_path(file), &error));
  json_decref(object);
  free(text);
}

// A flat host buffer filled from one array a parameter.
static float *read_parameters(const golden *g, const char *group) {
  ss_error error = {0};
  float *flat = calloc((size_t)gpt_n_parameter(g->model), sizeof *flat);
  assert_non_null(flat);
  for (int32_t index = 0; index < gpt_n_parameter_tensor(g->model); ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(g->model)[index];
    char name[128];
    snprintf(name, sizeof name, "%s/%s", group, parameter->name);
    int64_t dims[2] = {parameter->rows, parameter->cols};
    bool vector = parameter->rows == 1;
    assert_ok(ss_hdf5_read_into(g->file, name, SS_HDF5_F32, vector ? 1 : 2, vector ? dims + 1 : dims,
                                flat + parameter->offset, &error));
  }
  return flat;
}

static void upload_initial(golden *g) {
  float *initial = read_parameters(g, "parameters");
  assert_int_equal(g->device->ops->upload(g->device, gpt_parameters(g->model), initial,
                                          (size_t)gpt_n_parameter(g->model) * sizeof(float)),
                   SS_OK);
  free(initial);
}

static void golden_open(golden *g, const char *name) {
  ss_error error = {0};
  char path[TEST_PATH];
  gpt_config config;
  memset(g, 0, sizeof *g);
  snprintf(path, sizeof path, "tests/golden/%s.h5", name);
  assert_ok(ss_hdf5_open(&g->file, path, "selfspan-golden", 1, false, &error));
  read_config(g->file, &config);
  assert_ok(ss_device_open(&g->device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  assert_ok(gpt_create(&g->model, g->device, &config, true, &error));
  upload_initial(g);
  int64_t n = -1, view_dims[2] = {-1, 6}, range_dims[2] = {-1, 2};
  g->tokens = read_array(g->file, "tokens", SS_HDF5_I32, 1, &n);
  g->targets = read_vector(g->file, "targets", SS_HDF5_I32, n);
  g->positions = read_vector(g->file, "positions", SS_HDF5_I32, n);
  g->view_columns = read_array(g->file, "views", SS_HDF5_I32, 2, view_dims);
  g->range_columns = read_array(g->file, "ranges", SS_HDF5_I32, 2, range_dims);
  g->views = calloc((size_t)view_dims[0], sizeof *g->views);
  g->ranges = calloc((size_t)range_dims[0] + 1, sizeof *g->ranges);
  for (int64_t k = 0; k < view_dims[0]; ++k) {
    const int32_t *c = g->view_columns + 6 * k;
    g->views[k] = (ss_attention_view){c[0], c[1], c[2], c[3], c[4], c[5]};
  }
  for (int64_t k = 0; k < range_dims[0]; ++k)
    g->ranges[k] = (span_range){g->range_columns[2 * k], g->range_columns[2 * k + 1]};
  g->batch = (gpt_batch){n,        g->tokens,    g->targets, g->positions,
                         g->views, view_dims[0], g->ranges,  range_dims[0]};
  for (int64_t row = 0; row < n; ++row)
    g->n_target += g->targets[row] >= 0;
}

static void golden_close(golden *g) {
  gpt_free(g->model);
  ss_device_close(g->device);
  ss_hdf5_close(g->file);
  free(g->tokens);
  free(g->targets);
  free(g->positions);
  free(g->view_columns);
  free(g->range_columns);
  free(g->views);
  free(g->ranges);
}

static float *download(const golden *g, const float *address) {
  int64_t n = gpt_n_parameter(g->model);
  float *host = malloc((size_t)n * sizeof *host);
  assert_non_null(host);
  assert_int_equal(g->device->ops->download(g->device, host, address, (size_t)n * sizeof *host), SS_OK);
  return host;
}

// Root mean square of the difference over that of the expected values; NaN anywhere makes it NaN.
static double relative_error(const float *values, const float *expected, int64_t n) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    double d = (double)values[i] - expected[i];
    difference += d * d;
    norm += (double)expected[i] * expected[i];
  }
  return sqrt(difference / norm);
}

static void compare_parameters(const golden *g, const float *values, const char *group, double tolerance) {
  float *expected = read_parameters(g, group);
  double worst = 0;
  for (int32_t index = 0; index < gpt_n_parameter_tensor(g->model); ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(g->model)[index];
    double err = relative_error(values + parameter->offset, expected + parameter->offset,
                                parameter->rows * parameter->cols);
    if (!(err <= tolerance))
      fail_msg("%s/%s: relative error %g, expected at most %g", group, parameter->name, err, tolerance);
    worst = err > worst ? err : worst;
  }
  print_message("%s: worst relative error %.2g\n", group, worst);
  free(expected);
}

static void test_loss_and_logits(void **state) {
  golden g;
  ss_error error = {0};
  golden_open(&g, *state);
  double *expected_loss = read_vector(g.file, "loss", SS_HDF5_F64, 1);
  gpt_loss loss;
  assert_ok(gpt_train_step(g.model, &g.batch, false, 1.0, &loss, &error));
  assert_int_equal(loss.n_target, g.n_target);
  assert_near(loss.loss_sum / (double)loss.n_target, *expected_loss, 1e-5 * *expected_loss);

  int64_t dims[2] = {g.batch.n_row, gpt_get_config(g.model)->vocab_size};
  float *expected = read_array(g.file, "logits", SS_HDF5_F32, 2, dims);
  float *logits = calloc((size_t)(dims[0] * dims[1]), sizeof *logits);
  assert_ok(gpt_forward_logits(g.model, &g.batch, logits, &error));
  double err = relative_error(logits, expected, dims[0] * dims[1]);
  print_message("logits: relative error %.2g\n", err);
  assert_true(err <= 2e-6);
  int64_t correct = 0;
  for (int64_t row = 0; row < dims[0]; ++row) {
    const float *values = expected + row * dims[1];
    int64_t best = 0;
    for (int64_t token = 1; token < dims[1]; ++token)
      best = values[token] > values[best] ? token : best;
    correct += g.targets[row] == best;
  }
  assert_int_equal(loss.n_correct, correct);
  free(logits);
  free(expected);
  free(expected_loss);
  golden_close(&g);
}

static void test_gradients(void **state) {
  golden g;
  ss_error error = {0};
  golden_open(&g, *state);
  gpt_loss loss;
  assert_ok(gpt_zero_gradients(g.model, &error));
  // Twice, with half the scale: gradients accumulate.
  for (int half = 0; half < 2; ++half)
    assert_ok(gpt_train_step(g.model, &g.batch, true, 0.5 / (double)g.n_target, &loss, &error));
  float *gradients = download(&g, gpt_gradients(g.model));
  compare_parameters(&g, gradients, "gradients", 1e-5);
  free(gradients);
  golden_close(&g);
}

// The optimizer's tensors over freshly allocated moments.
static ss_adamw_tensor *adamw_tensors(const golden *g, float *first, float *second, double decay) {
  int32_t n = gpt_n_parameter_tensor(g->model);
  ss_adamw_tensor *tensors = calloc((size_t)n, sizeof *tensors);
  assert_non_null(tensors);
  for (int32_t index = 0; index < n; ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(g->model)[index];
    int64_t at = parameter->offset;
    tensors[index] = (ss_adamw_tensor){gpt_parameters(g->model) + at,
                                       gpt_gradients(g->model) + at,
                                       first + at,
                                       second + at,
                                       parameter->rows * parameter->cols,
                                       parameter->decay ? (float)decay : 0.0f,
                                       NULL,
                                       1};
  }
  return tensors;
}

static void test_ten_steps(void **state) {
  golden g;
  ss_error error = {0};
  golden_open(&g, *state);
  double *losses = read_vector(g.file, "step_losses", SS_HDF5_F64, STEPS);
  double *norms = read_vector(g.file, "step_norms", SS_HDF5_F64, STEPS);
  double clip = attribute(g.file, "clip");
  size_t bytes = (size_t)gpt_n_parameter(g.model) * sizeof(float);
  void *first = NULL, *second = NULL;
  assert_int_equal(g.device->ops->allocate(g.device, &first, bytes, "first moments"), SS_OK);
  assert_int_equal(g.device->ops->allocate(g.device, &second, bytes, "second moments"), SS_OK);
  ss_adamw_tensor *tensors = adamw_tensors(&g, first, second, attribute(g.file, "weight_decay"));
  ss_adamw adamw = {(float)attribute(g.file, "learning_rate"),
                    (float)attribute(g.file, "beta1"),
                    (float)attribute(g.file, "beta2"),
                    (float)attribute(g.file, "epsilon"),
                    1.0,
                    clip,
                    NULL,
                    0};
  for (int step = 0; step < STEPS; ++step) {
    gpt_loss loss;
    double norm = 0;
    assert_ok(gpt_zero_gradients(g.model, &error));
    assert_ok(gpt_train_step(g.model, &g.batch, true, 1.0 / (double)g.n_target, &loss, &error));
    assert_near(loss.loss_sum / (double)g.n_target, losses[step], 1e-5 * losses[step]);
    int32_t n = gpt_n_parameter_tensor(g.model);
    assert_int_equal(g.device->ops->gradient_norm(g.device, tensors, n, &norm), SS_OK);
    assert_near(norm, norms[step], 1e-5 * norms[step]);
    adamw.norm = &norm;
    adamw.step = step + 1;
    assert_int_equal(g.device->ops->adamw(g.device, tensors, n, adamw), SS_OK);
  }
  float *final = download(&g, gpt_parameters(g.model));
  compare_parameters(&g, final, "final", 2e-5);
  free(final);
  free(tensors);
  g.device->ops->release(g.device, first);
  g.device->ops->release(g.device, second);
  free(losses);
  free(norms);
  golden_close(&g);
}

// --- V(i): the tracker against the definition, as written out in Python ------------------------------------

static int32_t choice(ss_hdf5 *file, const char *name, const char *const *words, int32_t n) {
  ss_error error = {0};
  char *text = NULL;
  assert_ok(ss_hdf5_get_string(file, name, &text, &error));
  int32_t index = 0;
  while (index < n && strcmp(words[index], text) != 0)
    ++index;
  assert_true(index < n);
  free(text);
  return index;
}

static span_policy read_policy(ss_hdf5 *file) {
  ss_error error = {0};
  static const char *const masks[] = {"none", "span"}, *const chooses[] = {"all", "index", "anchors", "open"},
                           *const contexts[] = {"causal", "local"};
  int64_t pin = 0;
  span_policy policy = span_policy_default();
  policy.mask = choice(file, "policy.mask", masks, 2);
  policy.choose = choice(file, "policy.choose", chooses, 4);
  policy.context = choice(file, "policy.context", contexts, 2);
  assert_ok(ss_hdf5_get_int(file, "policy.pin", &pin, &error));
  policy.pin = (int32_t)pin;
  return policy;
}

// Compares one query's view with the row of the definition; both in rows of the batch.
static void compare_row(const uint8_t *visible, int64_t n, int32_t start, const span_view *view,
                        const span_range *ranges, int32_t row) {
  for (int32_t other = 0; other < n; ++other) {
    bool read = other >= start + view->self_first && other <= start + row;
    for (int32_t k = 0; k < view->n_range; ++k) {
      const span_range *range = &ranges[view->range_first + k];
      read = read || (other >= start + range->first && other < start + range->end);
    }
    if (read != (visible[(start + row) * n + other] != 0))
      fail_msg("batch row %d reads row %d: %d, expected %d", start + row, other, read, !read);
  }
}

static void test_visible_rows(void **state) {
  golden g;
  golden_open(&g, *state);
  const span_tokens tokens = {22, 23, 24, 21, 26, 14};  // the vocabulary of make_golden.py
  span_policy policy = read_policy(g.file);
  int64_t n = g.batch.n_row, dims[2] = {n, n};
  uint8_t *visible = read_array(g.file, "visible", SS_HDF5_U8, 2, dims);
  int32_t *first = read_vector(g.file, "example_first", SS_HDF5_I32, 3);
  int32_t *prompt_end = read_vector(g.file, "prompt_end", SS_HDF5_I32, 2);
  int32_t *offset = read_vector(g.file, "anchor_offset", SS_HDF5_I32, 2);
  for (int example = 0; example < 2; ++example) {
    span_segment segments[16];
    int32_t references[32], n_range = 0;
    span_range ranges[256];
    span_view views[2];
    span_tracker tracker;
    span_tracker_start(&tracker, &tokens, &policy, 1, offset[example], 2, prompt_end[example], segments, 16,
                       references, 32);
    for (int32_t row = 0; row < first[example + 1] - first[example]; ++row) {
      assert_int_equal(span_tracker_push(&tracker, g.tokens[first[example] + row]), SPAN_PUSH_OK);
      span_view view = span_tracker_visible(&tracker, ranges);
      compare_row(visible, n, first[example], &view, ranges, row);
    }
    assert_int_equal(span_malformed_total(&tracker.malformed), 0);
    // The same from the finished layout, segment by segment.
    int32_t n_query = 0;
    for (int32_t s = -1; s < tracker.layout.n_segment; ++s, n_range = 0) {
      int32_t n_view = span_views_of(&policy, &tracker.layout, s, views, ranges, &n_range);
      for (int32_t k = 0; k < n_view; ++k)
        for (int32_t row = views[k].query_first; row < views[k].query_end; ++row, ++n_query)
          compare_row(visible, n, first[example], &views[k], ranges, row);
    }
    assert_int_equal(n_query, first[example + 1] - first[example]);
  }
  // And the views that the model was given.
  for (int64_t k = 0; k < g.batch.n_view; ++k)
    for (int32_t j = 0; j < g.views[k].n_query; ++j) {
      span_view view = {0, 0, g.views[k].self_first, g.views[k].range_first, g.views[k].n_range};
      compare_row(visible, n, 0, &view, g.ranges, g.views[k].q_first + j);
    }
  free(visible);
  free(first);
  free(prompt_end);
  free(offset);
  golden_close(&g);
}

#define GOLDEN_TESTS(name)                                                    \
  {name ": loss and logits", test_loss_and_logits, NULL, NULL, (void *)name}, \
      {name ": gradients", test_gradients, NULL, NULL, (void *)name},         \
      {name ": ten steps", test_ten_steps, NULL, NULL, (void *)name}, {       \
    name ": visible rows", test_visible_rows, NULL, NULL, (void *)name        \
  }

int main(void) {
  const struct CMUnitTest tests[] = {GOLDEN_TESTS("gpt2_dense"), GOLDEN_TESTS("gpt2_span"),
                                     GOLDEN_TESTS("llama_dense"), GOLDEN_TESTS("llama_span")};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
