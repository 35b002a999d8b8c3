// Which numbers are bf16 when the device computes in bf16: a device of ops that compute nothing and check what they
// are given, by the contracts of kernels.h; and when the compute copy of the weights is brought up to date.
#include "tests/gpt_fixture.h"
#include "tests/helpers.h"

#include "train/optimizer.h"

// The ops table has no room for a user pointer.
static struct { int calls, converted, updated, logits; } seen;

#define EXPECT(device, condition)                                                              \
  do {                                                                                         \
    if (!(condition))                                                                          \
      return ss_fail(&(device)->error, SS_ERROR_INTERNAL, "%s: not %s", __func__, #condition); \
    seen.calls++;                                                                              \
  } while (0)

static bool is(ss_tensor t, ss_dtype dtype) {
  return t.data != NULL && t.dtype == dtype && (uintptr_t)t.data % ss_dtype_size(dtype) == 0;
}
static bool absent_or(ss_tensor t, ss_dtype dtype) {
  return t.data == NULL || is(t, dtype);
}

static ss_status embedding_forward(ss_device *d, ss_tensor out, ss_tensor tokens, ss_tensor positions,
                                   ss_tensor wte, ss_tensor wpe) {
  (void)positions;
  EXPECT(d, is(out, SS_BF16) && is(tokens, SS_I32));
  EXPECT(d, (is(wte, SS_F32) && absent_or(wpe, SS_F32)) || (is(wte, SS_BF16) && wpe.data == NULL));
  return SS_OK;
}

static ss_status embedding_backward(ss_device *d, ss_tensor dwte, ss_tensor dwpe, ss_tensor dout,
                                    ss_tensor tokens, ss_tensor positions) {
  EXPECT(d, is(dwte, SS_F32) && absent_or(dwpe, SS_F32) && is(dout, SS_BF16));
  EXPECT(d, is(tokens, SS_I32) && is(positions, SS_I32));
  return SS_OK;
}

static ss_status norm_forward(ss_device *d, ss_norm_kind kind, ss_tensor out, ss_tensor sum,
                              ss_tensor statistics, ss_tensor x, ss_tensor branch, ss_tensor weight,
                              ss_tensor bias, float epsilon) {
  (void)kind, (void)epsilon;
  EXPECT(d, is(out, SS_BF16) && is(sum, SS_BF16) && is(x, SS_BF16) && absent_or(branch, SS_BF16));
  EXPECT(d, is(statistics, SS_F32) && is(weight, SS_F32) && absent_or(bias, SS_F32));
  return SS_OK;
}

static ss_status norm_backward(ss_device *d, ss_norm_kind kind, ss_tensor dsum, ss_tensor dweight,
                               ss_tensor dbias, ss_tensor dout, ss_tensor sum, ss_tensor statistics,
                               ss_tensor weight) {
  (void)kind;
  EXPECT(d, is(dsum, SS_BF16) && is(dout, SS_BF16) && is(sum, SS_BF16));
  EXPECT(d, is(dweight, SS_F32) && absent_or(dbias, SS_F32) && is(statistics, SS_F32) && is(weight, SS_F32));
  return SS_OK;
}

static ss_status linear_forward(ss_device *d, ss_tensor out, ss_tensor in, ss_tensor weight, ss_tensor bias) {
  EXPECT(d, is(in, SS_BF16) && is(weight, SS_BF16) && absent_or(bias, SS_BF16));
  EXPECT(d, is(out, SS_BF16) || (is(out, SS_F32) && out.cols == FIXTURE_VOCABULARY));
  seen.logits += out.dtype == SS_F32;
  return SS_OK;
}

static ss_status linear_backward(ss_device *d, ss_tensor din, ss_tensor dweight, ss_tensor dbias,
                                 ss_tensor dout, ss_tensor in, ss_tensor weight) {
  EXPECT(d, absent_or(din, SS_BF16) && is(dout, SS_BF16) && is(in, SS_BF16) && is(weight, SS_BF16));
  EXPECT(d, is(dweight, SS_F32) && absent_or(dbias, SS_F32));
  return SS_OK;
}

static ss_status linear_activation_forward(ss_device *d, ss_activation_kind kind, ss_tensor out,
                                           ss_tensor pre, ss_tensor in, ss_tensor weight, ss_tensor bias) {
  (void)kind;
  EXPECT(d, is(out, SS_BF16) && is(pre, SS_BF16) && is(in, SS_BF16));
  EXPECT(d, is(weight, SS_BF16) && absent_or(bias, SS_BF16));
  return SS_OK;
}

static ss_status linear_activation_backward(ss_device *d, ss_activation_kind kind, ss_tensor dpre,
                                            ss_tensor dweight, ss_tensor dbias, ss_tensor dout, ss_tensor in,
                                            ss_tensor weight, ss_tensor pre, ss_tensor scratch) {
  EXPECT(d, is(dpre, SS_BF16) && is(dout, SS_BF16) && is(in, SS_BF16) && is(pre, SS_BF16));
  EXPECT(d, is(dweight, SS_F32) && absent_or(dbias, SS_F32) && is(weight, SS_BF16) && is(scratch, SS_BF16));
  EXPECT(d, kind == SS_ACTIVATION_GELU || scratch.data != dpre.data);
  return SS_OK;
}

static ss_status rotary(ss_device *d, ss_tensor x, ss_tensor positions, int32_t head_dim, float theta,
                        int32_t direction) {
  (void)head_dim, (void)theta, (void)direction;
  EXPECT(d, is(x, SS_BF16) && is(positions, SS_I32));
  return SS_OK;
}

static ss_status attention_forward(ss_device *d, const ss_attention_plan *plan, ss_attention_shape shape,
                                   ss_tensor out, ss_tensor log_sum_exp, ss_tensor q, ss_tensor k,
                                   ss_tensor v) {
  (void)plan, (void)shape;
  EXPECT(d, is(out, SS_BF16) && is(q, SS_BF16) && is(k, SS_BF16) && is(v, SS_BF16));
  EXPECT(d, absent_or(log_sum_exp, SS_F32));
  return SS_OK;
}

static ss_status attention_backward(ss_device *d, const ss_attention_plan *plan, ss_attention_shape shape,
                                    ss_tensor dq, ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                    ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v) {
  (void)plan, (void)shape;
  EXPECT(d, is(dq, SS_BF16) && is(dk, SS_BF16) && is(dv, SS_BF16) && is(dout, SS_BF16) && is(out, SS_BF16));
  EXPECT(d, is(log_sum_exp, SS_F32) && is(q, SS_BF16) && is(k, SS_BF16) && is(v, SS_BF16));
  // dqkv and dattention share the memory of dup, but not with each other.
  char *dq_end = (char *)dq.data + (size_t)(dq.rows * dq.stride) * 2, *dout_at = dout.data;
  EXPECT(d, dout_at >= dq_end || dout_at + (size_t)(dout.rows * dout.stride) * 2 <= (char *)dq.data);
  return SS_OK;
}

static ss_status cache_append(ss_device *d, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                              ss_tensor slots) {
  EXPECT(d, is(k_cache, SS_BF16) && is(v_cache, SS_BF16) && is(k, SS_BF16) && is(v, SS_BF16));
  EXPECT(d, is(slots, SS_I32));
  return SS_OK;
}

static ss_status activation_forward(ss_device *d, ss_activation_kind kind, ss_tensor out, ss_tensor in) {
  (void)kind;
  EXPECT(d, is(out, SS_BF16) && is(in, SS_BF16));
  return SS_OK;
}

static ss_status classifier_loss(ss_device *d, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                                 ss_tensor dwte, ss_tensor h, ss_tensor wte, ss_tensor targets,
                                 ss_tensor target_rows, float scale) {
  (void)scale;
  EXPECT(d, is(losses, SS_F32) && is(correct, SS_I32) && absent_or(dh, SS_BF16) && absent_or(dwte, SS_F32));
  EXPECT(d, is(h, SS_BF16) && is(wte, SS_BF16) && is(targets, SS_I32) && is(target_rows, SS_I32));
  return SS_OK;
}

static ss_status convert(ss_device *d, ss_tensor out, ss_tensor in) {
  EXPECT(d, is(out, SS_BF16) && is(in, SS_F32) && out.rows == in.rows && out.cols == in.cols);
  for (int64_t i = 0; i < in.rows * in.cols; ++i) {
    uint32_t bits;
    memcpy(&bits, (float *)in.data + i, sizeof bits);
    ((uint16_t *)out.data)[i] = (uint16_t)(bits >> 16);
  }
  seen.converted++;
  return SS_OK;
}

static ss_status gradient_norm(ss_device *d, const ss_adamw_tensor *tensors, int32_t n, double *norm) {
  EXPECT(d, n > 0 && tensors[0].gradient != NULL);
  *norm = 1;
  return SS_OK;
}

static ss_status adamw(ss_device *d, const ss_adamw_tensor *tensors, int32_t n, ss_adamw update) {
  EXPECT(d, update.norm != NULL && update.step > 0);
  for (int32_t t = 0; t < n; ++t)
    EXPECT(d, (char *)tensors[t].compute_copy - (char *)tensors[0].compute_copy ==
                  2 * (tensors[t].weight - tensors[0].weight));
  seen.updated++;
  return SS_OK;
}

typedef struct {
  ss_device *device;
  const ss_ops *true_ops;
  gpt *model;
  gpt_batch batch;
} scene;

static fixture_text text;

static void scene_open(scene *scene, fixture_architecture architecture) {
  static ss_ops ops;
  ss_error error = {0};
  assert_ok(ss_device_open(&scene->device, "cpu", &(ss_device_options){.n_thread = 1}, &error));
  scene->true_ops = scene->device->ops;
  ops = *scene->true_ops;
  ops.embedding_forward = embedding_forward;
  ops.embedding_backward = embedding_backward;
  ops.norm_forward = norm_forward;
  ops.norm_backward = norm_backward;
  ops.linear_forward = linear_forward;
  ops.linear_backward = linear_backward;
  ops.linear_activation_forward = linear_activation_forward;
  ops.linear_activation_backward = linear_activation_backward;
  ops.rotary = rotary;
  ops.attention_forward = attention_forward;
  ops.attention_backward = attention_backward;
  ops.cache_append = cache_append;
  ops.activation_forward = activation_forward;
  ops.activation_backward = NULL;
  ops.classifier_loss = classifier_loss;
  ops.convert = convert;
  ops.gradient_norm = gradient_norm;
  ops.adamw = adamw;
  scene->device->ops = &ops;
  scene->device->compute = SS_BF16;
  span_policy policy = span_policy_default();
  policy.max_header = 64;
  fixture_text_make(&text, 21, 3, 3, false, &policy);
  scene->batch = fixture_batch(&text, 1, &policy);
  scene->model = fixture_model(scene->device, architecture, true);
  memset(&seen, 0, sizeof seen);
}

static void scene_close(scene *scene) {
  fixture_batch_free(&scene->batch);
  gpt_free(scene->model);
  scene->device->ops = scene->true_ops;
  ss_device_close(scene->device);
}

static void test_dtypes(void **state) {
  ss_error error = {0};
  gpt_loss loss;
  scene scene;
  scene_open(&scene, *(fixture_architecture *)*state);
  for (int recompute = 0; recompute < 2; ++recompute) {
    gpt_set_recompute(scene.model, recompute);
    assert_ok(gpt_train_step(scene.model, &scene.batch, true, 1.0, &loss, &error));
    assert_ok(gpt_train_step(scene.model, &scene.batch, false, 1.0, &loss, &error));
  }
  float *logits = calloc((size_t)scene.batch.n_row * FIXTURE_VOCABULARY, sizeof *logits);
  assert_ok(gpt_forward_logits(scene.model, &scene.batch, logits, &error));
  // Inference: every row's logits, then the last row's alone.
  gpt_cache *cache = NULL;
  assert_ok(gpt_cache_create(&cache, scene.model, 1, FIXTURE_ROWS, &error));
  const gpt_config *config = gpt_get_config(scene.model);
  assert_int_equal(gpt_cache_bytes_per_row(cache),
                   2 * 2 * config->n_layer * config->n_kv_head * (config->n_embd / config->n_head));
  assert_ok(gpt_cache_fill(cache, 0, FIXTURE_ROWS, NAN, &error));
  int32_t rows[FIXTURE_ROWS];
  for (int32_t k = 0; k < scene.batch.n_row; ++k)
    rows[k] = k;
  gpt_inference_batch batch =
      {scene.batch.n_row,  scene.batch.tokens, scene.batch.positions, rows, scene.batch.views,
       scene.batch.n_view, scene.batch.ranges, scene.batch.n_range,   rows, scene.batch.n_row};
  assert_ok(gpt_infer(scene.model, cache, &batch, logits, &error));
  batch.logit_rows += scene.batch.n_row - 1;
  batch.n_logit_row = 1;
  assert_ok(gpt_infer(scene.model, cache, &batch, logits, &error));
  assert_true(seen.calls > 100);
  assert_int_equal(seen.logits, 3);
  free(logits);
  gpt_cache_free(cache);
  scene_close(&scene);
}

static void test_copy_follows_the_weights(void **state) {
  ss_error error = {0};
  gpt_loss loss;
  scene scene;
  scene_open(&scene, *(fixture_architecture *)*state);
  int n = gpt_n_parameter_tensor(scene.model);
  assert_ok(gpt_train_step(scene.model, &scene.batch, true, 1.0, &loss, &error));
  assert_int_equal(seen.converted, n);
  assert_ok(gpt_train_step(scene.model, &scene.batch, true, 1.0, &loss, &error));
  assert_int_equal(seen.converted, n);
  // The optimizer keeps the copy itself.
  optimizer *optimizer = NULL;
  assert_ok(optimizer_create(&optimizer, scene.model, 0.1, 0.9, 0.95, 1e-8, &error));
  assert_ok(gpt_train_step(scene.model, &scene.batch, true, 1.0, &loss, &error));
  assert_int_equal(seen.converted, 2 * n);  // it asked for the parameters when it was made
  for (int step = 1; step <= 3; ++step) {
    double norm;
    bool skipped;
    assert_ok(gpt_train_step(scene.model, &scene.batch, true, 1.0, &loss, &error));
    assert_ok(optimizer_step(optimizer, 1e-3, step, 1.0, 1.0, &norm, &skipped, &error));
    assert_false(skipped);
  }
  assert_int_equal(seen.updated, 3);
  assert_int_equal(seen.converted, 2 * n);
  // Whoever asks for the parameters may have written them; a new initialisation has.
  float *weights = gpt_parameters(scene.model);
  weights[gpt_parameter_table(scene.model)[1].offset] = 1.5f;
  assert_ok(gpt_train_step(scene.model, &scene.batch, false, 1.0, &loss, &error));
  assert_int_equal(seen.converted, 3 * n);
  uint16_t *copy = gpt_compute_copy(scene.model);
  assert_int_equal(copy[gpt_parameter_table(scene.model)[1].offset], 0x3fc0);
  assert_ok(gpt_initialize(scene.model, 3, &error));
  assert_ok(gpt_train_step(scene.model, &scene.batch, false, 1.0, &loss, &error));
  assert_int_equal(seen.converted, 4 * n);
  assert_int_equal(gpt_parameter_bytes(scene.model), 10 * gpt_n_parameter(scene.model));
  optimizer_free(optimizer);
  scene_close(&scene);
}

int main(void) {
  static fixture_architecture gpt2 = FIXTURE_GPT2, llama = FIXTURE_LLAMA;
#define BOTH(test)                              \
  {#test " (gpt2)", test, NULL, NULL, &gpt2}, { \
#test " (llama)", test, NULL, NULL, &llama  \
  }
  const struct CMUnitTest tests[] = {BOTH(test_dtypes), BOTH(test_copy_follows_the_weights)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
