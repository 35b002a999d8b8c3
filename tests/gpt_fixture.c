#include "tests/gpt_fixture.h"

#include "common/random.h"
#include "tests/helpers.h"

// text tokens below N_TEXT, then <bos> <task> <[> <:> <=> <eos>, then anchors
enum { N_TEXT = 24, BOS = N_TEXT, TASK, OPEN, COLON, ANSWER, EOS, ANCHOR };

static const span_tokens special = {OPEN, COLON, ANSWER, EOS, ANCHOR, FIXTURE_VOCABULARY - ANCHOR};

gpt_config fixture_config(fixture_architecture architecture) {
  gpt_config gpt2 = {.n_layer = 2,
                     .n_head = 3,
                     .n_kv_head = 3,
                     .n_embd = 24,
                     .n_ff = 40,
                     .n_positions = FIXTURE_ROWS,
                     .vocab_size = FIXTURE_VOCABULARY,
                     .norm = SS_NORM_LAYER,
                     .position = GPT_POSITION_LEARNED,
                     .activation = SS_ACTIVATION_GELU,
                     .bias = true,
                     .norm_epsilon = 1e-5,
                     .rotary_theta = 10000,
                     .init_std = 0.02};
  gpt_config llama = gpt2;
  llama.n_head = 4;
  llama.n_kv_head = 2;
  llama.n_embd = 32;
  llama.norm = SS_NORM_RMS;
  llama.position = GPT_POSITION_ROTARY;
  llama.activation = SS_ACTIVATION_SWIGLU;
  llama.bias = false;
  return architecture == FIXTURE_GPT2 ? gpt2 : llama;
}

float *fixture_download(ss_device *device, const float *address, int64_t count) {
  float *host = malloc((size_t)count * sizeof *host);
  assert_non_null(host);
  assert_int_equal(device->ops->download(device, host, address, (size_t)count * sizeof *host), SS_OK);
  return host;
}

void fixture_upload(ss_device *device, float *address, const float *host, int64_t count) {
  assert_int_equal(device->ops->upload(device, address, host, (size_t)count * sizeof *host), SS_OK);
}

gpt *fixture_model(ss_device *device, fixture_architecture architecture, bool trainable) {
  ss_error error = {0};
  gpt_config config = fixture_config(architecture);
  gpt *model = NULL;
  assert_ok(gpt_create(&model, device, &config, trainable, &error));
  float *host = fixture_download(device, gpt_parameters(model), gpt_n_parameter(model));
  ss_random random = ss_random_seed(7, (uint64_t)architecture);
  for (int32_t index = 0; index < gpt_n_parameter_tensor(model); ++index) {
    const gpt_parameter *parameter = &gpt_parameter_table(model)[index];
    double mean = parameter->init == GPT_INIT_ONES ? 1.0 : 0.0;
    for (int64_t i = 0; i < parameter->rows * parameter->cols; ++i)
      host[parameter->offset + i] = (float)(mean + 0.15 * ss_random_normal(&random));
  }
  fixture_upload(device, gpt_parameters(model), host, gpt_n_parameter(model));
  free(host);
  return model;
}

static void push(fixture_text *text, int32_t token) {
  assert_true(text->n_row < FIXTURE_ROWS);
  text->tokens[text->n_row++] = token;
}

static void push_text(fixture_text *text, ss_random *random) {
  int64_t length = ss_random_range(random, 1, 6);
  for (int64_t k = 0; k < length; ++k)
    push(text, (int32_t)ss_random_below(random, N_TEXT));
}

void fixture_text_make(fixture_text *text, uint64_t seed, int32_t n_context, int32_t n_step,
                       bool reference_all, const span_policy *policy) {
  ss_random random = ss_random_seed(seed, 1);
  text->n_row = 0;
  push(text, BOS);
  push(text, TASK);
  for (int32_t k = 0; k < n_context; ++k) {
    push_text(text, &random);
    push(text, ANCHOR + k);
  }
  text->prompt_end = text->n_row;
  for (int32_t k = n_context; k <= n_context + n_step; ++k) {
    bool answer = k == n_context + n_step;
    push(text, OPEN);
    if (answer)
      push(text, ANSWER);
    for (int32_t earlier = 0; earlier < k; ++earlier)
      if (reference_all || earlier == k - 1 || ss_random_below(&random, 4) == 0)
        push(text, ANCHOR + earlier);
    push(text, COLON);
    push_text(text, &random);
    push(text, answer ? EOS : ANCHOR + k);
  }
  span_tracker_start(&text->tracker, &special, policy, 1, 0, FIXTURE_PREAMBLE, text->prompt_end,
                     text->segments, 32, text->references, 256);
  for (int32_t row = 0; row < text->n_row; ++row)
    assert_int_equal(span_tracker_push(&text->tracker, text->tokens[row]), SPAN_PUSH_OK);
  assert_int_equal(span_malformed_total(&text->tracker.malformed), 0);
}

void fixture_views(const fixture_text *text, const span_policy *policy, int32_t first, int32_t end,
                   int32_t query_offset, int32_t key_offset, ss_attention_view *views, int64_t *n_view,
                   span_range *ranges, int64_t *n_range) {
  for (int32_t s = -1; s < text->tracker.layout.n_segment; ++s) {
    span_view own[2];
    int32_t n_own_range = 0;
    int32_t n_own = span_views_of(policy, &text->tracker.layout, s, own, ranges + *n_range, &n_own_range);
    for (int32_t k = 0; k < n_own; ++k) {
      int32_t from = own[k].query_first > first ? own[k].query_first : first;
      int32_t to = own[k].query_end < end ? own[k].query_end : end;
      if (from < to)
        views[(*n_view)++] = (ss_attention_view){query_offset + from - first,
                                                 to - from,
                                                 key_offset + own[k].self_first,
                                                 key_offset + from,
                                                 (int32_t)*n_range + own[k].range_first,
                                                 own[k].n_range};
    }
    for (int32_t k = 0; k < n_own_range; ++k) {
      ranges[*n_range + k].first += key_offset;
      ranges[*n_range + k].end += key_offset;
    }
    *n_range += n_own_range;
  }
}

gpt_batch fixture_batch(const fixture_text *texts, int32_t n_text, const span_policy *policy) {
  int64_t n_row = 0, n_view = 0, n_range = 0;
  for (int32_t k = 0; k < n_text; ++k)
    n_row += texts[k].n_row;
  int32_t *tokens = calloc((size_t)n_row, sizeof *tokens), *targets = calloc((size_t)n_row, sizeof *targets);
  int32_t *positions = calloc((size_t)n_row, sizeof *positions);
  ss_attention_view *views = calloc((size_t)n_text * 80, sizeof *views);
  span_range *ranges = calloc((size_t)n_text * 4096, sizeof *ranges);
  int32_t offset = 0;
  for (int32_t k = 0; k < n_text; ++k) {
    for (int32_t row = 0; row < texts[k].n_row; ++row) {
      bool generated = row + 1 >= texts[k].prompt_end && row + 1 < texts[k].n_row;
      tokens[offset + row] = texts[k].tokens[row];
      targets[offset + row] = generated ? texts[k].tokens[row + 1] : -1;
      positions[offset + row] = row;
    }
    fixture_views(&texts[k], policy, 0, texts[k].n_row, offset, offset, views, &n_view, ranges, &n_range);
    offset += texts[k].n_row;
  }
  return (gpt_batch){n_row, tokens, targets, positions, views, n_view, ranges, n_range};
}

void fixture_batch_free(gpt_batch *batch) {
  free((void *)batch->tokens);
  free((void *)batch->targets);
  free((void *)batch->positions);
  free((void *)batch->views);
  free((void *)batch->ranges);
  memset(batch, 0, sizeof *batch);
}
