// The decoder on a random tiny model: spans tracked from what it generates, slots refilled, constraints, controls,
// sampling. Tracking against the annotation path, and the cache against a full forward, with no trained weights needed.
#include "tests/helpers.h"

#include "common/memory.h"
#include "common/random.h"
#include "infer/decoder.h"
#include "span/control.h"

#define N_TEXT 12
#define N_ANCHOR 24
#define N_ROWS 96
#define N_PROMPT 9

typedef struct {
  ss_device *device;
  gpt *model;
  vocabulary *vocabulary;
} fixture;

static void open_fixture(fixture *f, int threads) {
  ss_error error = {0};
  assert_ok(ss_device_open(&f->device, "cpu", &(ss_device_options){.n_thread = threads}, &error));
  assert_ok(vocabulary_create_characters(&f->vocabulary, "0123456789+*", "test", N_ANCHOR, &error));
  gpt_config config = {.n_layer = 2,
                       .n_head = 2,
                       .n_kv_head = 2,
                       .n_embd = 16,
                       .n_ff = 32,
                       .n_positions = N_ROWS,
                       .vocab_size = vocabulary_size(f->vocabulary),
                       .norm = SS_NORM_RMS,
                       .position = GPT_POSITION_ROTARY,
                       .activation = SS_ACTIVATION_SWIGLU,
                       .norm_epsilon = 1e-5,
                       .rotary_theta = 10000,
                       .init_std = 0.6};
  assert_ok(gpt_config_resolve(&config, &error));
  assert_ok(gpt_create(&f->model, f->device, &config, false, &error));
  assert_ok(gpt_initialize(f->model, 7, &error));
}

static void close_fixture(fixture *f) {
  gpt_free(f->model);
  vocabulary_free(f->vocabulary);
  ss_device_close(f->device);
}

// --- a source of n random prompts and a sink that keeps what came back ---

typedef struct {
  const fixture *fixture;
  int64_t n, next, done;
  int32_t prompts[64][N_PROMPT];
  int32_t lengths[64];
  const int32_t *gold;
  int32_t n_gold;
  int32_t tokens[64][N_ROWS];
  int32_t n_token[64];
  decode_stop stop[64];
  span_malformed malformed[64];
  int64_t attended_rows[64], prefill_rows[64];
  span_policy policy;
  bool check_layout;
} exchange;

// <bos> <task> text <#0> [text <#1>]
static void make_prompts(exchange *x, int64_t n, uint64_t seed) {
  const vocabulary *v = x->fixture->vocabulary;
  int32_t anchor = vocabulary_span_tokens(v)->anchor_first;
  ss_random random = ss_random_seed(seed, 0);
  x->n = n;
  for (int64_t k = 0; k < n; ++k) {
    int32_t *p = x->prompts[k], used = 0;
    p[used++] = vocabulary_bos(v);
    p[used++] = vocabulary_task(v);
    for (int32_t segment = 0; segment < 1 + (int32_t)ss_random_below(&random, 2); ++segment) {
      for (int64_t c = 1 + (int64_t)ss_random_below(&random, 2); c > 0; --c)
        p[used++] = (int32_t)ss_random_below(&random, N_TEXT);
      p[used++] = anchor + segment;
    }
    x->lengths[k] = used;
  }
}

static ss_status next_prompt(void *user, decode_request *request, bool *done, ss_error *error) {
  exchange *x = user;
  (void)error;
  *done = x->next == x->n;
  if (*done)
    return SS_OK;
  request->index = x->next;
  request->prompt = x->prompts[x->next];
  request->n_prompt = x->lengths[x->next];
  request->preamble_end = 2;
  request->gold = x->gold;
  request->n_gold = x->n_gold;
  ++x->next;
  return SS_OK;
}

// |V(row)| by the views of the finished layout: another path than the decoder's, token by token.
static int32_t rows_by_layout(const exchange *x, const span_layout *layout, int32_t row) {
  span_range ranges[4 * N_ANCHOR + 16];
  for (int32_t s = -1; s < layout->n_segment; ++s) {
    span_view views[2];
    int32_t n_range = 0;
    int32_t n_view = span_views_of(&x->policy, layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; ++v)
      if (row >= views[v].query_first && row < views[v].query_end)
        return span_view_rows(&views[v], ranges, row);
  }
  return -1;
}

static ss_status keep_result(void *user, const decode_result *result, ss_error *error) {
  exchange *x = user;
  int64_t k = result->index;
  (void)error;
  assert_in_range(k, 0, x->n - 1);
  assert_int_equal(x->n_token[k], 0);
  memcpy(x->tokens[k], result->tokens, (size_t)result->n_token * sizeof(int32_t));
  x->n_token[k] = result->n_token;
  x->stop[k] = result->stop;
  x->malformed[k] = result->malformed;
  x->attended_rows[k] = result->attended_rows;
  x->prefill_rows[k] = result->prefill_rows;
  if (x->check_layout) {
    int64_t total = 0, prompt = 0;
    for (int32_t t = 0; t < result->n_token - 1; ++t)
      *(t >= result->n_prompt - 1 ? &total : &prompt) += rows_by_layout(x, &result->layout, t);
    assert_int_equal(total, result->attended_rows);
    assert_int_equal(prompt, result->prefill_rows);
    for (int32_t t = result->n_prompt; t < result->n_token; ++t)
      assert_int_equal(result->rows[t - result->n_prompt], rows_by_layout(x, &result->layout, t - 1));
  }
  ++x->done;
  return SS_OK;
}

static decode_options plain_options(int64_t batch) {
  decode_options options = {.max_batch = batch, .top_p = 1, .n_sink = 2, .trace_rows = true};
  return options;
}

static decode_statistics run(const fixture *f, exchange *x, arm arm, const decode_options *options) {
  ss_error error = {0};
  decoder *decoder = NULL;
  decode_statistics statistics = {0};
  assert_ok(decoder_create(&decoder, f->model, f->vocabulary, arm, &x->policy, options, N_ROWS, &error));
  assert_ok(decoder_run(decoder, next_prompt, keep_result, x, &statistics, &error));
  decoder_free(decoder);
  assert_int_equal(x->done, x->n);
  assert_int_equal(statistics.n_sequence, x->n);
  return statistics;
}

// The same tokens whatever the number of slots and threads: sequences do not disturb each other.
static void slots_do_not_matter(void **state) {
  (void)state;
  static exchange first, other;
  const int64_t batches[] = {1, 3, 40};
  for (int b = 0; b < 3; ++b)
    for (int threads = 1; threads <= 2; ++threads) {
      fixture f;
      open_fixture(&f, threads);
      exchange *x = b == 0 && threads == 1 ? &first : &other;
      memset(x, 0, sizeof *x);
      x->fixture = &f;
      x->policy = span_policy_default();
      x->check_layout = true;
      make_prompts(x, 17, 3);
      decode_options options = plain_options(batches[b]);
      options.temperature = 0.9;
      options.constrain = true;
      run(&f, x, ARM_SPAN, &options);
      for (int k = 0; k < 17; ++k) {
        assert_int_equal(x->n_token[k], first.n_token[k]);
        assert_memory_equal(x->tokens[k], first.tokens[k], (size_t)x->n_token[k] * sizeof(int32_t));
      }
      close_fixture(&f);
    }
}

// Free sampling writes malformed text; --constrain never does.
static void constrained_text_is_well_formed(void **state) {
  (void)state;
  static exchange x;
  int64_t malformed = 0;
  for (int constrain = 0; constrain < 2; ++constrain) {
    fixture f;
    open_fixture(&f, 1);
    memset(&x, 0, sizeof x);
    x.fixture = &f;
    x.policy = span_policy_default();
    x.check_layout = true;
    make_prompts(&x, 40, 11);
    decode_options options = plain_options(8);
    options.temperature = 1.5;
    options.constrain = constrain;
    run(&f, &x, ARM_SPAN, &options);
    for (int k = 0; k < 40; ++k) {
      if (constrain)
        assert_int_equal(span_malformed_total(&x.malformed[k]), 0);
      else
        malformed += span_malformed_total(&x.malformed[k]);
    }
    close_fixture(&f);
  }
  assert_true(malformed > 0);
}

// Controls read exactly as many rows as the selection; replayed tokens are the gold ones.
static void controls_read_equal_rows(void **state) {
  (void)state;
  static exchange x, replay;
  fixture f;
  open_fixture(&f, 1);
  memset(&x, 0, sizeof x);
  x.fixture = &f;
  x.policy = span_policy_default();
  make_prompts(&x, 1, 5);
  decode_options options = plain_options(4);
  options.temperature = 1;
  options.constrain = true;
  options.max_tokens = 60;
  run(&f, &x, ARM_SPAN, &options);
  const int32_t *gold = x.tokens[0] + x.lengths[0];
  int32_t n_gold = x.n_token[0] - x.lengths[0];
  assert_true(n_gold > 2);
  memset(&replay, 0, sizeof replay);
  replay.fixture = &f;
  replay.policy = x.policy;
  replay.gold = gold;
  replay.n_gold = n_gold;
  make_prompts(&replay, 1, 5);
  options.control = DECODE_REPLAY;
  run(&f, &replay, ARM_SPAN, &options);
  assert_int_equal(replay.n_token[0], x.n_token[0]);
  assert_memory_equal(replay.tokens[0], x.tokens[0], (size_t)x.n_token[0] * sizeof(int32_t));
  assert_int_equal(replay.attended_rows[0], x.attended_rows[0]);
  close_fixture(&f);
}

static void control_sets_have_equal_size(void **state) {
  (void)state;
  ss_random random = ss_random_seed(9, 0);
  for (int trial = 0; trial < 2000; ++trial) {
    int32_t row = 1 + (int32_t)ss_random_below(&random, 200);
    int32_t own = (int32_t)ss_random_below(&random, (uint64_t)row + 1);
    span_range ranges[128], replaced[128];
    span_view view = {row, row + 1, own, 0, 0};
    for (int32_t r = 0; r < own; r += 1 + (int32_t)ss_random_below(&random, 9))
      span_append_range(ranges, &view.n_range, r, r + 1);
    if (view.n_range > 0 && ranges[view.n_range - 1].end >= own)
      view.self_first = ranges[--view.n_range].first;
    int32_t rows = span_view_rows(&view, ranges, row);
    for (int control = SPAN_CONTROL_RECENCY; control <= SPAN_CONTROL_WINDOW; ++control) {
      span_view made = span_control_visible((span_control)control, &view, ranges, own, 4, 77, replaced);
      assert_in_range(made.n_range, 0, span_control_capacity(row));
      assert_int_equal(span_view_rows(&made, replaced, row), rows);
      for (int32_t k = 0; k < made.n_range; ++k) {
        assert_true(replaced[k].first >= (k ? replaced[k - 1].end + 1 : 0));
        assert_true(replaced[k].first < replaced[k].end && replaced[k].end < made.self_first);
      }
    }
  }
}

// N-grams of text that a finished sequence generated twice; special tokens end them.
static int repeated_ngrams(const exchange *x, int k, int32_t n) {
  const int32_t *tokens = x->tokens[k] + x->lengths[k];
  int32_t count = x->n_token[k] - x->lengths[k], repeated = 0;
  for (int32_t a = 0; a + n <= count; ++a) {
    bool text = true, again = false;
    for (int32_t i = 0; i < n; ++i)
      text = text && tokens[a + i] < N_TEXT;
    for (int32_t b = 0; b < a; ++b)
      again = again || memcmp(tokens + a, tokens + b, (size_t)n * sizeof *tokens) == 0;
    repeated += text && again;
  }
  return repeated;
}

static void blocked_ngrams_do_not_repeat(void **state) {
  (void)state;
  static exchange x;
  int repeated = 0, written = 0;
  for (int n = 0; n <= 3; ++n) {
    fixture f;
    open_fixture(&f, 1);
    memset(&x, 0, sizeof x);
    x.fixture = &f;
    x.policy = span_policy_default();
    make_prompts(&x, 24, 13);
    decode_options options = plain_options(8);
    options.temperature = 1.2;
    options.constrain = n % 2 == 0;
    options.no_repeat_ngram = n;
    run(&f, &x, ARM_SPAN, &options);
    for (int k = 0; k < 24; ++k) {
      if (n > 0)
        assert_int_equal(repeated_ngrams(&x, k, n), 0);
      else
        repeated += repeated_ngrams(&x, k, 2);
      written += n == 2 ? x.n_token[k] - x.lengths[k] : 0;
    }
    close_fixture(&f);
  }
  assert_true(repeated > 0);
  assert_true(written > 24 * 10);
}

static void limits_are_named(void **state) {
  (void)state;
  static exchange x;
  fixture f;
  ss_error error = {0};
  open_fixture(&f, 1);
  memset(&x, 0, sizeof x);
  x.fixture = &f;
  x.policy = span_policy_default();
  make_prompts(&x, 1, 1);
  decode_options options = plain_options(2);
  decoder *decoder = NULL;
  decode_statistics statistics = {0};
  assert_refused(decoder_create(&decoder, f.model, f.vocabulary, ARM_SPAN, &x.policy, &options, N_ROWS + 1,
                                &error),
                 SS_ERROR_LIMIT, "positions");
  options.control = DECODE_ORACLE;
  assert_refused(decoder_create(&decoder, f.model, f.vocabulary, ARM_DENSE, &x.policy, &options, N_ROWS,
                                &error),
                 SS_ERROR_USAGE, "dense");
  options.control = DECODE_SELF;
  assert_ok(decoder_create(&decoder, f.model, f.vocabulary, ARM_SPAN, &x.policy, &options, 3, &error));
  assert_refused(decoder_run(decoder, next_prompt, keep_result, &x, &statistics, &error), SS_ERROR_LIMIT,
                 "example 0: the prompt has");
  decoder_free(decoder);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slots_do_not_matter),      cmocka_unit_test(constrained_text_is_well_formed),
      cmocka_unit_test(controls_read_equal_rows), cmocka_unit_test(control_sets_have_equal_size),
      cmocka_unit_test(limits_are_named),         cmocka_unit_test(blocked_ngrams_do_not_repeat),
  };
  return cmocka_run_group_tests_name("decoder", tests, NULL, NULL);
}
