// The decoder on CUDA: the device's engine (trackers, sampling and plans on the GPU, steps as graphs) gives the tokens,
// rows and malformed counts of the host's engine, in every arm, policy, control and way of sampling; and a step of fused
// ops gives the logits of the forward pass.
#include "tests/cuda_fixture.h"

#include "common/memory.h"
#include "infer/decoder.h"

#define N_TEXT 12
#define N_ANCHOR 24
#define N_ROWS 80
#define MOST_PROMPTS 24
#define MOST_PROMPT 12

typedef struct {
  cuda_fixture devices;
  gpt *model[2];
  vocabulary *vocabulary;
} scene;

static void scene_open(scene *scene, ss_precision precision, bool llama) {
  ss_error error = {0};
  cuda_open(&scene->devices, precision, true);
  assert_ok(vocabulary_create_characters(&scene->vocabulary, "0123456789+*", "test", N_ANCHOR, &error));
  gpt_config config = {.n_layer = 2,
                       .n_head = 4,
                       .n_kv_head = llama ? 2 : 4,
                       .n_embd = 64,
                       .n_ff = 96,
                       .n_positions = N_ROWS,
                       .vocab_size = vocabulary_size(scene->vocabulary),
                       .norm = llama ? SS_NORM_RMS : SS_NORM_LAYER,
                       .position = llama ? GPT_POSITION_ROTARY : GPT_POSITION_LEARNED,
                       .activation = llama ? SS_ACTIVATION_SWIGLU : SS_ACTIVATION_GELU,
                       .bias = !llama,
                       .norm_epsilon = 1e-5,
                       .rotary_theta = 10000,
                       .init_std = 0.4};
  assert_ok(gpt_config_resolve(&config, &error));
  for (int d = 0; d < 2; ++d) {
    assert_ok(gpt_create(&scene->model[d], scene->devices.device[d], &config, false, &error));
    assert_ok(gpt_initialize(scene->model[d], 7, &error));
  }
}

static void scene_close(scene *scene) {
  for (int d = 0; d < 2; ++d)
    gpt_free(scene->model[d]);
  vocabulary_free(scene->vocabulary);
  cuda_close(&scene->devices);
}

static void scene_close_after(decoder *decoder, scene *scene) {
  decoder_free(decoder);
  scene_close(scene);
}

// --- prompts in, results kept ---

typedef struct {
  int32_t tokens[N_ROWS], rows[N_ROWS];
  int32_t n_token, n_segment;
  decode_stop stop;
  span_malformed malformed;
  int64_t attended_rows, prefill_rows;
  double log_probability;
} kept;

typedef struct {
  const scene *scene;
  int64_t n, next, done;
  int32_t prompts[MOST_PROMPTS][MOST_PROMPT], lengths[MOST_PROMPTS];
  int32_t gold[2 * N_ROWS], n_gold;
  int64_t refuse_after;  // results, when above 0
  kept results[MOST_PROMPTS];
} exchange;

// <bos> <task> text <#0> [text <#1>]
static void make_prompts(exchange *x, const scene *scene, int64_t n, uint64_t seed) {
  const vocabulary *v = scene->vocabulary;
  const span_tokens *special = vocabulary_span_tokens(v);
  ss_random random = ss_random_seed(seed, 0);
  memset(x, 0, sizeof *x);
  x->scene = scene;
  x->n = n;
  for (int64_t k = 0; k < n; ++k) {
    int32_t *p = x->prompts[k], used = 0;
    p[used++] = vocabulary_bos(v);
    p[used++] = vocabulary_task(v);
    for (int32_t segment = 0; segment < 1 + (int32_t)ss_random_below(&random, 2); ++segment) {
      for (int64_t c = 1 + (int64_t)ss_random_below(&random, 3); c > 0; --c)
        p[used++] = (int32_t)ss_random_below(&random, N_TEXT);
      p[used++] = special->anchor_first + segment;
    }
    x->lengths[k] = used;
  }
  // One step and an answer, whose headers are forced or which is replayed.
  const int32_t gold[] = {special->open,
                          special->anchor_first,
                          special->colon,
                          3,
                          4,
                          special->anchor_first + 2,
                          special->open,
                          special->answer,
                          special->anchor_first + 1,
                          special->colon,
                          5,
                          special->eos};
  x->n_gold = (int32_t)(sizeof gold / sizeof *gold);
  memcpy(x->gold, gold, sizeof gold);
}

static ss_status next_prompt(void *user, decode_request *request, bool *done, ss_error *error) {
  exchange *x = user;
  (void)error;
  *done = x->next == x->n;
  if (*done)
    return SS_OK;
  *request = (decode_request){.index = x->next,
                              .prompt = x->prompts[x->next],
                              .n_prompt = x->lengths[x->next],
                              .preamble_end = 2,
                              .gold = x->gold,
                              .n_gold = x->n_gold};
  ++x->next;
  return SS_OK;
}

static ss_status keep_result(void *user, const decode_result *result, ss_error *error) {
  exchange *x = user;
  assert_in_range(result->index, 0, x->n - 1);
  if (x->refuse_after > 0 && x->done == x->refuse_after)
    return ss_fail(error, SS_ERROR_IO, "no room for result %lld", (long long)result->index);
  kept *k = &x->results[result->index];
  assert_int_equal(k->n_token, 0);
  memcpy(k->tokens, result->tokens, (size_t)result->n_token * sizeof(int32_t));
  memcpy(k->rows, result->rows, (size_t)(result->n_token - result->n_prompt) * sizeof(int32_t));
  k->n_token = result->n_token;
  k->n_segment = result->layout.n_segment;
  k->stop = result->stop;
  k->malformed = result->malformed;
  k->attended_rows = result->attended_rows;
  k->prefill_rows = result->prefill_rows;
  k->log_probability = result->log_probability;
  ++x->done;
  return SS_OK;
}

static decode_statistics decode(exchange *x, arm arm, const span_policy *policy, decode_options options,
                                int engine) {
  ss_error error = {0};
  decoder *decoder = NULL;
  decode_statistics statistics = {0};
  options.engine = engine;
  x->next = x->done = 0;
  memset(x->results, 0, sizeof x->results);
  assert_ok(decoder_create(&decoder, x->scene->model[ON_CUDA], x->scene->vocabulary, arm, policy, &options,
                           N_ROWS, &error));
  assert_ok(decoder_run(decoder, next_prompt, keep_result, x, &statistics, &error));
  assert_non_null(
      strstr(decoder_description(decoder), engine == DECODE_ENGINE_DEVICE ? "device engine" : "host engine"));
  decoder_free(decoder);
  assert_int_equal(x->done, x->n);
  assert_int_equal(statistics.n_sequence, x->n);
  return statistics;
}

static void assert_same(const exchange *host, const exchange *device, const char *what) {
  for (int64_t k = 0; k < host->n; ++k) {
    const kept *a = &host->results[k], *b = &device->results[k];
    size_t generated = (size_t)(a->n_token - host->lengths[k]);
    bool same = a->n_token == b->n_token && a->stop == b->stop && a->n_segment == b->n_segment &&
                a->attended_rows == b->attended_rows && a->prefill_rows == b->prefill_rows &&
                memcmp(a->tokens, b->tokens, (size_t)a->n_token * sizeof(int32_t)) == 0 &&
                memcmp(a->rows, b->rows, generated * sizeof(int32_t)) == 0 &&
                memcmp(&a->malformed, &b->malformed, sizeof a->malformed) == 0;
    double apart = fabs(a->log_probability - b->log_probability);
    if (!same || !(apart <= 1e-5 * (1 + fabs(a->log_probability))))
      fail_msg("%s, prompt %lld: host %d tokens, %lld rows, stop %d, log p %.9g; device %d, %lld, %d, %.9g",
               what, (long long)k, a->n_token, (long long)a->attended_rows, a->stop, a->log_probability,
               b->n_token, (long long)b->attended_rows, b->stop, b->log_probability);
  }
}

static exchange host, device;

static void compare(const scene *scene, arm arm, const span_policy *policy, const decode_options *options,
                    int64_t n, uint64_t seed, const char *what) {
  make_prompts(&host, scene, n, seed);
  make_prompts(&device, scene, n, seed);
  decode_statistics by_host = decode(&host, arm, policy, *options, DECODE_ENGINE_HOST);
  decode_statistics by_device = decode(&device, arm, policy, *options, DECODE_ENGINE_DEVICE);
  assert_same(&host, &device, what);
  assert_int_equal(by_host.generated_tokens, by_device.generated_tokens);
  assert_int_equal(by_host.decode_attended_rows, by_device.decode_attended_rows);
  assert_int_equal(by_host.kv_bytes_read, by_device.kv_bytes_read);
  assert_int_equal(by_host.steps, by_device.steps);
}

static decode_options plain_options(int64_t batch) {
  decode_options options = {.max_batch = batch, .top_p = 1, .n_sink = 2, .trace_rows = true};
  return options;
}

// --- tests ---

typedef struct {
  bool llama;
  arm arm;
} model_and_arm;

static void engines_agree(void **state) {
  const model_and_arm *of = *state;
  scene scene;
  scene_open(&scene, SS_PRECISION_BF16, of->llama);
  const int64_t n = cuda_small() ? 7 : MOST_PROMPTS;
  const bool brief = cuda_small() && !cuda_is_emulated();  // under a sanitizer, where a step takes a second
  for (int way = 0; way < (cuda_small() ? 3 : 6); ++way) {
    span_policy policy = span_policy_default();
    policy.choose = (int32_t)(((int)of->arm + way) % 4);
    policy.pin = way % 2;
    policy.max_header = 6;
    decode_options options = plain_options(3);
    options.constrain = way % 2 == 1;
    options.temperature = way % 3 == 2 ? 1.1 : way % 3 == 1 ? 0.7 : 0;
    options.top_k = way == 4 ? 5 : 0;
    options.top_p = way == 5 ? 0.8 : 1;
    options.max_tokens = way == 0 ? 17 : brief ? 30 : 0;
    options.seed = 40 + way;
    char what[64];
    snprintf(what, sizeof what, "%s, way %d", arm_name(of->arm), way);
    compare(&scene, of->arm, &policy, &options, n, 3 + (uint64_t)way, what);
  }
  scene_close(&scene);
}

static void controls_agree(void **state) {
  (void)state;
  scene scene;
  scene_open(&scene, SS_PRECISION_BF16, false);
  const int controls[] = {DECODE_ORACLE, DECODE_REPLAY, DECODE_RECENCY, DECODE_RANDOM, DECODE_WINDOW};
  span_policy policy = span_policy_default();
  for (int c = 0; c < 5; ++c) {
    decode_options options = plain_options(4);
    options.control = controls[c];
    options.temperature = 1;
    options.max_tokens = cuda_small() ? 20 : 0;
    char what[64];
    snprintf(what, sizeof what, "control %d", controls[c]);
    compare(&scene, ARM_SPAN, &policy, &options, cuda_small() ? 5 : 12, 17, what);
  }
  scene_close(&scene);
}

static void fp32_agrees(void **state) {
  (void)state;
  scene scene;
  scene_open(&scene, SS_PRECISION_FP32, true);
  span_policy policy = span_policy_default();
  decode_options options = plain_options(5);
  options.temperature = 0.9;
  options.constrain = true;
  compare(&scene, ARM_SPAN, &policy, &options, 6, 5, "fp32");
  scene_close(&scene);
}

// A gold text of more tokens than a slot has rows: it is replayed until the slot is full.
static void long_gold_is_cut(void **state) {
  (void)state;
  scene scene;
  scene_open(&scene, SS_PRECISION_BF16, false);
  span_policy policy = span_policy_default();
  decode_options options = plain_options(2);
  options.control = DECODE_REPLAY;
  for (int e = 0; e < 2; ++e) {
    exchange *x = e == 0 ? &host : &device;
    make_prompts(x, &scene, 3, 31);
    x->n_gold = 2 * N_ROWS;
    for (int32_t i = 0; i < x->n_gold; ++i)
      x->gold[i] = i % N_TEXT;
    decode(x, ARM_SPAN, &policy, options, e == 0 ? DECODE_ENGINE_HOST : DECODE_ENGINE_DEVICE);
    for (int64_t k = 0; k < x->n; ++k) {
      assert_int_equal(x->results[k].stop, DECODE_STOP_LENGTH);
      assert_int_equal(x->results[k].n_token, N_ROWS);
    }
  }
  assert_same(&host, &device, "long gold");
  scene_close(&scene);
}

static void watch_nothing(void *user, int64_t index, int32_t token, int32_t rows) {
  (void)index, (void)token, (void)rows;
  ++*(int64_t *)user;
}

// A run that its sink ends while the device is ahead, one without a prompt, and then one like a new decoder's.
static void runs_start_afresh(void **state) {
  const int engine = *(const int *)*state;
  scene scene;
  ss_error error = {0};
  decoder *decoder = NULL;
  decode_statistics ignored = {0}, statistics = {0};
  scene_open(&scene, SS_PRECISION_BF16, false);
  span_policy policy = span_policy_default();
  decode_options options = plain_options(3);
  options.temperature = 0.8;
  options.max_tokens = 30;
  options.engine = engine;
  make_prompts(&host, &scene, 7, 41);
  decode_statistics wanted = decode(&host, ARM_SPAN, &policy, options, engine);
  assert_ok(decoder_create(&decoder, scene.model[ON_CUDA], scene.vocabulary, ARM_SPAN, &policy, &options,
                           N_ROWS, &error));
  make_prompts(&device, &scene, 7, 43);
  device.refuse_after = 2;
  assert_refused(decoder_run(decoder, next_prompt, keep_result, &device, &ignored, &error), SS_ERROR_IO,
                 "no room for result");
  make_prompts(&device, &scene, 0, 43);
  assert_ok(decoder_run(decoder, next_prompt, keep_result, &device, &statistics, &error));
  assert_int_equal(statistics.n_sequence, 0);
  assert_int_equal(statistics.steps, 0);
  make_prompts(&device, &scene, 7, 41);
  assert_ok(decoder_run(decoder, next_prompt, keep_result, &device, &statistics, &error));
  assert_same(&host, &device, "after a run that failed");
  assert_int_equal(statistics.steps, wanted.steps);
  assert_int_equal(statistics.generated_tokens, wanted.generated_tokens);
  assert_int_equal(statistics.kv_bytes_read, wanted.kv_bytes_read);
  scene_close_after(decoder, &scene);
}

// Watching from the second run on: only the host's engine calls for every token.
static void watch_is_seen(void **state) {
  (void)state;
  scene scene;
  ss_error error = {0};
  decoder *decoder = NULL;
  decode_statistics statistics = {0};
  int64_t watched = 0;
  scene_open(&scene, SS_PRECISION_BF16, false);
  span_policy policy = span_policy_default();
  decode_options options = plain_options(2);
  options.max_tokens = 9;
  assert_ok(decoder_create(&decoder, scene.model[ON_CUDA], scene.vocabulary, ARM_SPAN, &policy, &options,
                           N_ROWS, &error));
  for (int watching = 0; watching < 2; ++watching) {
    make_prompts(&device, &scene, 3, 47);
    if (watching)
      decoder_set_watch(decoder, watch_nothing, &watched);
    statistics = (decode_statistics){0};
    assert_ok(decoder_run(decoder, next_prompt, keep_result, &device, &statistics, &error));
    assert_non_null(strstr(decoder_description(decoder), watching ? "host engine" : "device engine"));
  }
  assert_int_equal(watched, statistics.generated_tokens);
  // So does blocking repeated n-grams, which the device's engine refuses by name.
  decoder_free(decoder);
  options.no_repeat_ngram = 2;
  for (int forced = 0; forced < 2; ++forced) {
    make_prompts(&device, &scene, 3, 47);
    options.engine = forced ? DECODE_ENGINE_DEVICE : DECODE_ENGINE_AUTO;
    assert_ok(decoder_create(&decoder, scene.model[ON_CUDA], scene.vocabulary, ARM_SPAN, &policy, &options,
                             N_ROWS, &error));
    ss_status status = decoder_run(decoder, next_prompt, keep_result, &device, &statistics, &error);
    if (forced) {
      assert_refused(status, SS_ERROR_USAGE, "decode.no_repeat_ngram");
    } else {
      assert_ok(status);
      assert_non_null(strstr(decoder_description(decoder), "host engine"));
      decoder_free(decoder);
    }
  }
  scene_close_after(decoder, &scene);
}

static ss_status little_memory(ss_device *on, size_t *free_bytes, size_t *total_bytes) {
  (void)on;
  *free_bytes = (size_t)4 << 20, *total_bytes = (size_t)80 << 30;
  return SS_OK;
}

// Little memory is shared: as many slots as half of it holds.
static void little_memory_serves(void **state) {
  (void)state;
  scene scene;
  ss_error error = {0};
  decoder *decoder = NULL;
  decode_statistics statistics = {0};
  scene_open(&scene, SS_PRECISION_BF16, false);
  ss_device *on = scene.devices.device[ON_CUDA];
  span_policy policy = span_policy_default();
  decode_options options = plain_options(0);
  options.max_tokens = 9;
  const ss_ops *own = on->ops;
  ss_ops fewer = *own;
  fewer.memory_free = little_memory;
  on->ops = &fewer;
  make_prompts(&device, &scene, 3, 53);
  assert_ok(decoder_create(&decoder, scene.model[ON_CUDA], scene.vocabulary, ARM_SPAN, &policy, &options,
                           N_ROWS, &error));
  assert_in_range(decoder_slots(decoder), 2, 100);
  on->ops = own;
  assert_ok(decoder_run(decoder, next_prompt, keep_result, &device, &statistics, &error));
  assert_int_equal(statistics.n_sequence, 3);
  scene_close_after(decoder, &scene);
}

// One slot, and more slots than prompts.
static void batches_agree(void **state) {
  (void)state;
  scene scene;
  scene_open(&scene, SS_PRECISION_BF16, false);
  span_policy policy = span_policy_default();
  for (int64_t batch = 1; batch <= 8; batch += 7) {
    decode_options options = plain_options(batch);
    options.max_tokens = 12;
    compare(&scene, ARM_SPAN, &policy, &options, 3, 23, batch == 1 ? "one slot" : "eight slots");
  }
  scene_close(&scene);
}

static void limits_are_named(void **state) {
  (void)state;
  scene scene;
  ss_error error = {0};
  decoder *decoder = NULL;
  scene_open(&scene, SS_PRECISION_BF16, false);
  span_policy policy = span_policy_default();
  decode_options options = plain_options(65536);
  options.max_batch = 20000000;  // more than any GPU's memory
  assert_refused(decoder_create(&decoder, scene.model[ON_CUDA], scene.vocabulary, ARM_SPAN, &policy, &options,
                                N_ROWS, &error),
                 SS_ERROR_MEMORY, "room for");
  options.max_batch = 2;
  options.engine = DECODE_ENGINE_DEVICE;
  decode_statistics statistics = {0};
  make_prompts(&host, &scene, 1, 1);
  assert_ok(decoder_create(&decoder, scene.model[ON_CPU], scene.vocabulary, ARM_SPAN, &policy, &options,
                           N_ROWS, &error));
  assert_refused(decoder_run(decoder, next_prompt, keep_result, &host, &statistics, &error), SS_ERROR_USAGE,
                 "expected cuda");
  decoder_free(decoder);
  scene_close(&scene);
}

// Steps of fused ops on both devices against the CPU's forward pass over the same rows.
static void steps_follow_the_forward(void **state) {
  const bool llama = *(const bool *)*state;
  enum { N = 10, SLOTS = 3 };
  scene scene;
  ss_error error = {0};
  scene_open(&scene, SS_PRECISION_BF16, llama);
  int64_t V = gpt_get_config(scene.model[0])->vocab_size;
  float *wanted, *made;
  assert_ok(ss_allocate(&wanted, N * V, sizeof(float), "logits", &error));
  assert_ok(ss_allocate(&made, SLOTS * V, sizeof(float), "logits", &error));
  int32_t tokens[N], positions[N];
  for (int32_t i = 0; i < N; ++i) {
    tokens[i] = (i * 7 + 3) % (int32_t)V;
    positions[i] = i;
  }
  ss_attention_view all = {0, N, 0, 0, 0, 0};
  gpt_batch batch =
      {.n_row = N, .tokens = tokens, .targets = tokens, .positions = positions, .views = &all, .n_view = 1};
  assert_ok(gpt_forward_logits(scene.model[ON_CPU], &batch, wanted, &error));
  for (int d = 0; d < 2; ++d) {
    ss_device *on = scene.devices.device[d];
    gpt_cache *cache = NULL;
    gpt_decode *steps = NULL;
    ss_attention_plan *plan = NULL;
    void *inputs = NULL;
    assert_ok(gpt_cache_create(&cache, scene.model[d], SLOTS, N, &error));
    assert_ok(gpt_cache_fill(cache, 0, SLOTS * N, NAN, &error));
    assert_ok(gpt_decode_create(&steps, scene.model[d], cache, SLOTS, &error));
    assert_ok(on->ops->allocate(on, &inputs, 3 * SLOTS * sizeof(int32_t), "inputs"));
    for (int32_t i = 0; i < N; ++i) {
      // Slots 0 and 2 hold the sequence; slot 1 is idle.
      int32_t rows[3 * SLOTS] = {tokens[i], 0, tokens[i], i, 0, i, i, -1, 2 * N + i};
      ss_attention_view views[SLOTS] = {{0, 1, 0, i, 0, 0},
                                        {1, 1, 1, 0, 0, 0},
                                        {2, 1, 2 * N, 2 * N + i, 0, 0}};
      assert_ok(on->ops->upload(on, inputs, rows, sizeof rows));
      assert_ok(on->ops->attention_plan(on, &plan, views, SLOTS, NULL, 0, SLOTS * N, false));
      int32_t *p = inputs;
      assert_ok(gpt_decode_step(steps, SLOTS, ss_integers(p, SLOTS), ss_integers(p + SLOTS, SLOTS),
                                ss_integers(p + 2 * SLOTS, SLOTS), plan, &error));
      ss_tensor logits = gpt_decode_logits(steps);
      assert_ok(on->ops->download(on, made, logits.data, (size_t)(SLOTS * V) * sizeof(float)));
      for (int slot = 0; slot < SLOTS; slot += 2) {
        double apart = 0, size = 0;
        for (int64_t v = 0; v < V; ++v) {
          double difference = (double)made[slot * V + v] - wanted[i * V + v];
          apart += difference * difference;
          size += (double)wanted[i * V + v] * wanted[i * V + v];
        }
        double bound = d == ON_CPU ? 1e-9 : 1e-2;  // bf16 weights against fp32
        if (!(apart <= bound * size))
          fail_msg("device %d, row %d, slot %d: NMSE %g", d, i, slot, apart / size);
      }
      for (int64_t v = 0; v < V; ++v)
        assert_true(isfinite(made[V + v]));
    }
    on->ops->attention_plan_free(on, plan);
    on->ops->release(on, inputs);
    gpt_decode_free(steps);
    gpt_cache_free(cache);
  }
  free(wanted);
  free(made);
  scene_close(&scene);
}

int main(void) {
  static const bool gpt2 = false, llama = true;
  static const model_and_arm of[6] = {{false, ARM_DENSE}, {false, ARM_ANNOTATED}, {false, ARM_SPAN},
                                      {true, ARM_DENSE},  {true, ARM_ANNOTATED},  {true, ARM_SPAN}};
  static const int by_host = DECODE_ENGINE_HOST, by_device = DECODE_ENGINE_DEVICE;
  const struct CMUnitTest tests[] = {
      {"steps_follow_the_forward (gpt2)", steps_follow_the_forward, NULL, NULL, (void *)&gpt2},
      {"steps_follow_the_forward (llama)", steps_follow_the_forward, NULL, NULL, (void *)&llama},
      {"engines_agree (gpt2, dense)", engines_agree, NULL, NULL, (void *)&of[0]},
      {"engines_agree (gpt2, annotated)", engines_agree, NULL, NULL, (void *)&of[1]},
      {"engines_agree (gpt2, span)", engines_agree, NULL, NULL, (void *)&of[2]},
      {"engines_agree (llama, dense)", engines_agree, NULL, NULL, (void *)&of[3]},
      {"engines_agree (llama, annotated)", engines_agree, NULL, NULL, (void *)&of[4]},
      {"engines_agree (llama, span)", engines_agree, NULL, NULL, (void *)&of[5]},
      cmocka_unit_test(controls_agree),
      cmocka_unit_test(fp32_agrees),
      cmocka_unit_test(batches_agree),
      cmocka_unit_test(long_gold_is_cut),
      {"runs_start_afresh (host)", runs_start_afresh, NULL, NULL, (void *)&by_host},
      {"runs_start_afresh (device)", runs_start_afresh, NULL, NULL, (void *)&by_device},
      cmocka_unit_test(watch_is_seen),
      cmocka_unit_test(little_memory_serves),
      cmocka_unit_test(limits_are_named),
  };
  return cmocka_run_group_tests_name("cuda_resident", tests, NULL, NULL);
}
