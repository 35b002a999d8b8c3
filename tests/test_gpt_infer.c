// Inference over the KV cache: prefill + token-by-token decoding is the full forward under the same mask
// (invariant 2), and unselected cache rows are never read (invariant 4).
#include "tests/gpt_fixture.h"
#include "tests/helpers.h"

#define N_TEXT 4
#define SLOT_ROWS 256
#define TOLERANCE 1e-5  // logits are of order 1: other shapes of matrix products, so not the same bits

typedef struct {
  fixture_architecture architecture;
  int32_t choose;  // -1: no mask
} variant;

static span_policy policy_of(const variant *v) {
  span_policy policy = span_policy_default();
  if (v->choose < 0)
    policy.mask = SPAN_MASK_NONE;
  else
    policy.choose = v->choose;
  return policy;
}

// The rows of one gpt_infer call, built sequence by sequence.
typedef struct {
  int32_t tokens[N_TEXT * FIXTURE_ROWS], positions[N_TEXT * FIXTURE_ROWS], cache_rows[N_TEXT * FIXTURE_ROWS];
  int32_t logit_rows[N_TEXT * FIXTURE_ROWS];
  ss_attention_view views[N_TEXT * 80];
  span_range ranges[N_TEXT * 4096];
  gpt_inference_batch batch;
} inference_rows;

static void rows_start(inference_rows *rows) {
  rows->batch = (gpt_inference_batch){
      0, rows->tokens, rows->positions, rows->cache_rows, rows->views, 0, rows->ranges, 0, rows->logit_rows,
      0};
}

// Rows [first, end) of a text in a slot; logits of rows >= logits_from.
static void rows_add(inference_rows *rows, const fixture_text *text, const span_policy *policy, int32_t slot,
                     int32_t first, int32_t end, int32_t logits_from) {
  gpt_inference_batch *batch = &rows->batch;
  int32_t offset = (int32_t)batch->n_row;
  for (int32_t row = first; row < end; ++row) {
    rows->tokens[batch->n_row] = text->tokens[row];
    rows->positions[batch->n_row] = row;
    rows->cache_rows[batch->n_row] = slot * SLOT_ROWS + row;
    if (row >= logits_from)
      rows->logit_rows[batch->n_logit_row++] = (int32_t)batch->n_row;
    ++batch->n_row;
  }
  fixture_views(text, policy, first, end, offset, slot * SLOT_ROWS, rows->views, &batch->n_view, rows->ranges,
                &batch->n_range);
}

static void assert_logits(const float *logits, const float *expected, int32_t row) {
  for (int token = 0; token < FIXTURE_VOCABULARY; ++token)
    if (!(fabs((double)logits[token] - expected[token]) <= TOLERANCE))
      fail_msg("row %d, token %d: logit %.9g, expected %.9g", row, token, logits[token], expected[token]);
}

typedef struct {
  ss_device *device;
  gpt *model;
  gpt_cache *cache;
  span_policy policy;
  float *expected[N_TEXT];  // logits of every row by the full forward
} scene;

static fixture_text texts[N_TEXT];
static inference_rows rows;
static float logits[N_TEXT * FIXTURE_ROWS * FIXTURE_VOCABULARY];

static void scene_open(scene *scene, const variant *v) {
  ss_error error = {0};
  assert_ok(ss_device_open(&scene->device, "cpu", &(ss_device_options){.n_thread = 2}, &error));
  scene->model = fixture_model(scene->device, v->architecture, false);
  scene->policy = policy_of(v);
  assert_ok(gpt_cache_create(&scene->cache, scene->model, N_TEXT, SLOT_ROWS, &error));
  for (int k = 0; k < N_TEXT; ++k) {
    fixture_text_make(&texts[k], 70 + (uint64_t)k, 1 + k, 6 - k, false, &scene->policy);
    gpt_batch batch = fixture_batch(&texts[k], 1, &scene->policy);
    scene->expected[k] = calloc((size_t)batch.n_row * FIXTURE_VOCABULARY, sizeof(float));
    assert_non_null(scene->expected[k]);
    assert_ok(gpt_forward_logits(scene->model, &batch, scene->expected[k], &error));
    fixture_batch_free(&batch);
  }
}

static void scene_close(scene *scene) {
  for (int k = 0; k < N_TEXT; ++k)
    free(scene->expected[k]);
  gpt_cache_free(scene->cache);
  gpt_free(scene->model);
  ss_device_close(scene->device);
}

// Text k lives in another slot than its number says.
static int32_t slot_of(int32_t text) {
  return (text + 2) % N_TEXT;
}

// All prompts in one call (only the last row of each gives logits), then one token a sequence and call: sequences
// end at different times, and the last one's prompt is taken in while the others decode.
static void test_decode_is_forward(void **state) {
  scene scene;
  ss_error error = {0};
  scene_open(&scene, *state);
  assert_ok(gpt_cache_fill(scene.cache, 0, N_TEXT * SLOT_ROWS, NAN, &error));
  const int32_t late = N_TEXT - 1, late_start = 3;
  int32_t at[N_TEXT];
  rows_start(&rows);
  for (int32_t k = 0; k < N_TEXT; ++k) {
    at[k] = k == late ? 0 : texts[k].prompt_end;
    if (k != late)
      rows_add(&rows, &texts[k], &scene.policy, slot_of(k), 0, at[k], at[k] - 1);
  }
  assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
  for (int32_t k = 0; k < late; ++k)
    assert_logits(logits + k * FIXTURE_VOCABULARY, scene.expected[k] + (at[k] - 1) * FIXTURE_VOCABULARY,
                  at[k] - 1);
  int32_t call = 0, checked = 0;
  for (bool more = true; more; ++call) {
    int32_t done[N_TEXT], n_done = 0;
    more = false;
    rows_start(&rows);
    for (int32_t k = 0; k < N_TEXT; ++k) {
      if ((k == late && call < late_start) || at[k] == texts[k].n_row) {
        more = more || at[k] < texts[k].n_row;
        continue;
      }
      int32_t end = at[k] == 0 ? texts[k].prompt_end : at[k] + 1;
      rows_add(&rows, &texts[k], &scene.policy, slot_of(k), at[k], end, end - 1);
      at[k] = end;
      done[n_done++] = k;
      more = true;
    }
    if (n_done == 0)
      continue;
    assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
    for (int32_t j = 0; j < n_done; ++j, ++checked) {
      int32_t row = at[done[j]] - 1;
      assert_logits(logits + j * FIXTURE_VOCABULARY, scene.expected[done[j]] + row * FIXTURE_VOCABULARY, row);
    }
  }
  assert_true(checked > 60 && call > 20);
  scene_close(&scene);
}

// A prompt cut into chunks, with the logits of every row, of some, and of none.
static void test_chunked_prefill(void **state) {
  scene scene;
  ss_error error = {0};
  scene_open(&scene, *state);
  const fixture_text *text = &texts[0];
  static const int32_t cuts[] = {0, 1, 9, 10, 17, 30};
  const int32_t n_cut = 6;
  for (int32_t keep = 0; keep <= 2; ++keep) {  // rows of a chunk without logits: none, half, all
    assert_ok(gpt_cache_fill(scene.cache, 0, N_TEXT * SLOT_ROWS, NAN, &error));
    for (int32_t c = 0; c < n_cut; ++c) {
      int32_t first = cuts[c], end = c + 1 < n_cut ? cuts[c + 1] : text->n_row;
      int32_t from = c + 1 < n_cut ? first + (end - first) * keep / 2 : first;
      rows_start(&rows);
      rows_add(&rows, text, &scene.policy, 1, first, end, from);
      assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
      for (int32_t row = from; row < end; ++row)
        assert_logits(logits + (row - from) * FIXTURE_VOCABULARY,
                      scene.expected[0] + row * FIXTURE_VOCABULARY, row);
    }
  }
  scene_close(&scene);
}

// For each generated row: the cache as it stood before, every row that V(i) does not name filled with NaN, other
// slots too; the same bits must come out.
static void test_unselected_rows_are_not_read(void **state) {
  scene scene;
  ss_error error = {0};
  scene_open(&scene, *state);
  const fixture_text *text = &texts[1];
  float clean[FIXTURE_VOCABULARY];
  const int32_t slot = 2;
  int64_t poisoned = 0;
  for (int32_t row = text->prompt_end; row < text->n_row; ++row) {
    for (int pass = 0; pass < 2; ++pass) {
      assert_ok(gpt_cache_fill(scene.cache, 0, N_TEXT * SLOT_ROWS, pass ? NAN : 0.25f, &error));
      rows_start(&rows);
      rows_add(&rows, text, &scene.policy, slot, 0, row, row);
      assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
      rows_start(&rows);
      rows_add(&rows, text, &scene.policy, slot, row, row + 1, row);
      if (pass) {
        bool read[N_TEXT * SLOT_ROWS] = {false};
        assert_int_equal(rows.batch.n_view, 1);
        const ss_attention_view *view = &rows.views[0];
        for (int32_t r = view->self_first; r <= view->self_last; ++r)
          read[r] = true;
        for (int32_t k = 0; k < view->n_range; ++k)
          for (int32_t r = rows.ranges[view->range_first + k].first;
               r < rows.ranges[view->range_first + k].end; ++r)
            read[r] = true;
        for (int32_t r = 0; r < N_TEXT * SLOT_ROWS; ++r)
          if (!read[r]) {
            assert_ok(gpt_cache_fill(scene.cache, r, 1, NAN, &error));
            poisoned += r >= slot * SLOT_ROWS && r < slot * SLOT_ROWS + row;
          }
      }
      assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
      if (pass == 0)
        memcpy(clean, logits, sizeof clean);
      assert_memory_equal(logits, clean, sizeof clean);
      assert_logits(logits, scene.expected[1] + row * FIXTURE_VOCABULARY, row);
    }
  }
  print_message("%lld rows of the sequence itself were poisoned\n", (long long)poisoned);
  assert_true(poisoned > 0);
  scene_close(&scene);
}

// A row that is read and is NaN does show: the test above can fail.
static void test_selected_rows_are_read(void **state) {
  scene scene;
  ss_error error = {0};
  scene_open(&scene, *state);
  const fixture_text *text = &texts[1];
  int32_t row = text->n_row - 1;
  rows_start(&rows);
  rows_add(&rows, text, &scene.policy, 0, 0, row, row);
  assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
  assert_ok(gpt_cache_fill(scene.cache, 0, 1, NAN, &error));  // the preamble is always visible
  rows_start(&rows);
  rows_add(&rows, text, &scene.policy, 0, row, row + 1, row);
  assert_ok(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error));
  assert_true(isnan(logits[0]));
  scene_close(&scene);
}

static void test_decode_threads_do_not_matter(void **state) {
  const variant *v = *state;
  ss_error error = {0};
  static float one[N_TEXT * FIXTURE_VOCABULARY];
  for (int n_thread = 1; n_thread <= 3; ++n_thread) {
    ss_device *device = NULL;
    gpt_cache *cache = NULL;
    assert_ok(ss_device_open(&device, "cpu", &(ss_device_options){.n_thread = n_thread}, &error));
    gpt *model = fixture_model(device, v->architecture, false);
    span_policy policy = policy_of(v);
    assert_ok(gpt_cache_create(&cache, model, N_TEXT, SLOT_ROWS, &error));
    for (int half = 0; half < 2; ++half) {
      rows_start(&rows);
      for (int32_t k = 0; k < N_TEXT; ++k) {
        fixture_text_make(&texts[k], 80 + (uint64_t)k, 2, 4, false, &policy);
        int32_t last = texts[k].n_row - 1;
        rows_add(&rows, &texts[k], &policy, k, half ? last : 0, half ? last + 1 : last,
                 half ? last : last - 1);
      }
      assert_ok(gpt_infer(model, cache, &rows.batch, logits, &error));
      assert_int_equal(rows.batch.n_logit_row, N_TEXT);
    }
    if (n_thread == 1)
      memcpy(one, logits, sizeof one);
    assert_memory_equal(logits, one, sizeof one);
    gpt_cache_free(cache);
    gpt_free(model);
    ss_device_close(device);
  }
}

static void test_bad_input(void **state) {
  scene scene;
  ss_error error = {0};
  scene_open(&scene, *state);
  gpt_cache *cache = NULL;
  assert_refused(gpt_cache_create(&cache, scene.model, 1 << 20, 1 << 20, &error), SS_ERROR_LIMIT, "slots");
  assert_refused(gpt_cache_create(&cache, scene.model, 0, 8, &error), SS_ERROR_LIMIT, "0 slots");
  assert_null(cache);
  assert_refused(gpt_cache_fill(scene.cache, N_TEXT * SLOT_ROWS, 1, 0, &error), SS_ERROR_LIMIT, "cache rows");
  const gpt_config *config = gpt_get_config(scene.model);
  assert_int_equal(gpt_cache_bytes_per_row(scene.cache),
                   2 * config->n_layer * config->n_kv_head * (config->n_embd / config->n_head) * 4);
  rows_start(&rows);
  rows_add(&rows, &texts[0], &scene.policy, 0, 0, 4, 2);
  rows.cache_rows[3] = N_TEXT * SLOT_ROWS;
  assert_refused(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error), SS_ERROR_INTERNAL,
                 "row 3: cache");
  rows.cache_rows[3] = 3;
  rows.logit_rows[1] = 2;
  assert_refused(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error), SS_ERROR_INTERNAL,
                 "ascending");
  rows.logit_rows[1] = 4;
  assert_refused(gpt_infer(scene.model, scene.cache, &rows.batch, logits, &error), SS_ERROR_INTERNAL,
                 "logit row 4");
  scene_close(&scene);
}

int main(void) {
  static variant gpt2 = {FIXTURE_GPT2, SPAN_CHOOSE_INDEX}, llama = {FIXTURE_LLAMA, SPAN_CHOOSE_OPEN},
                 gpt2_anchors = {FIXTURE_GPT2, SPAN_CHOOSE_ANCHORS}, llama_dense = {FIXTURE_LLAMA, -1};
#define SPANS(test)                                    \
  {#test " (gpt2, index)", test, NULL, NULL, &gpt2}, { \
#test " (llama, open)", test, NULL, NULL, &llama   \
  }
  const struct CMUnitTest tests[] = {
      SPANS(test_decode_is_forward),
      {"test_decode_is_forward (gpt2, anchors)", test_decode_is_forward, NULL, NULL, &gpt2_anchors},
      {"test_decode_is_forward (llama, no mask)", test_decode_is_forward, NULL, NULL, &llama_dense},
      SPANS(test_chunked_prefill),
      SPANS(test_unselected_rows_are_not_read),
      {"test_unselected_rows_are_not_read (gpt2, anchors)", test_unselected_rows_are_not_read, NULL, NULL,
       &gpt2_anchors},
      SPANS(test_selected_rows_are_read),
      SPANS(test_decode_threads_do_not_matter),
      {"test_bad_input", test_bad_input, NULL, NULL, &gpt2},
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
