// Choosing tokens on the device: the same as the host's sampler and constraint, for every kind of logits and tracker.
#include "tests/cuda_fixture.h"

#include <math.h>

#include "infer/sampler.h"
#include "kernels/cuda/sequences.h"

enum { N_SLOT = 12, N_SEGMENT = 16, N_ROW = 64, N_GOLD = 48, UNTOUCHED = -77 };

// A set of slots on both sides. Host pointers in `sequences`, device pointers in what was uploaded.
typedef struct {
  ss_sequences on_device;
  span_sequence sequences[N_SLOT];
  ss_random randoms[N_SLOT];
  span_segment segments[N_SLOT][N_SEGMENT];
  int32_t references[N_SLOT][N_ROW];
  int32_t gold[N_SLOT][N_GOLD];
  void *device_segments, *device_references, *device_gold;
} slots;

// What has been met: the tests say nothing about what never came.
typedef struct {
  int states[2][4];  // constrained: [headers][span_state]
  int forced, inactive, nothing_allowed, drawn, infinite;
} met;

static void *upload_of(cuda_fixture *f, const void *host, size_t bytes) {
  void *data = cuda_bytes(f, ON_CUDA, bytes);
  CUDA_RUN(f, ON_CUDA, upload, data, host, bytes);
  return data;
}

// Special ids at the end of the vocabulary, at its start with <eos> apart, partly beyond it, or in two places.
static span_tokens tokens_for(int32_t vocab_size, int where) {
  int32_t n_anchor = vocab_size > 40 ? 24 : 3;
  int32_t first = where == 0 ? vocab_size - 4 - n_anchor : where == 1 ? 1 : vocab_size - 6;
  first = first > 0 ? first : 0;
  span_tokens tokens = {first, first + 1, first + 2, first + 3, first + 4, n_anchor};
  if (where == 1)
    tokens.eos = vocab_size / 2;
  if (where == 3)
    tokens.anchor_first = vocab_size / 4;
  return tokens;
}

static int32_t any_token(ss_random *random, const span_tracker *tracker, int32_t vocab_size) {
  const span_tokens *tokens = &tracker->tokens;
  double draw = ss_random_uniform(random);
  if (draw < 0.35)
    return (int32_t)ss_random_below(random, (uint64_t)vocab_size);
  if (draw < 0.55)
    return tokens->open;
  if (draw < 0.70)
    return tokens->colon;
  if (draw < 0.77)
    return tokens->answer;
  if (draw < 0.80)
    return tokens->eos;
  if (draw < 0.90 && tracker->layout.n_segment > 0)
    return span_own_anchor(tracker, tracker->layout.n_segment - 1);
  return tokens->anchor_first + (int32_t)ss_random_below(random, (uint64_t)tokens->n_anchor);
}

static void make_slot(cuda_fixture *f, slots *s, int slot, int32_t vocab_size) {
  ss_random *random = &f->random;
  span_sequence *sequence = &s->sequences[slot];
  memset(sequence, 0, sizeof *sequence);
  span_tokens tokens = tokens_for(vocab_size, (int)ss_random_below(random, 4));
  span_policy policy = span_policy_default();
  policy.max_header = (int32_t)ss_random_range(random, 4, 10);
  int32_t preamble = (int32_t)ss_random_below(random, 3),
          prompt = preamble + (int32_t)ss_random_below(random, 4);
  span_tracker_start(&sequence->tracker, &tokens, &policy, ss_random_below(random, 4) != 0,
                     (int32_t)ss_random_below(random, 2), preamble, prompt, s->segments[slot], N_SEGMENT,
                     s->references[slot], N_ROW);
  int32_t rows = (int32_t)ss_random_below(random, N_ROW);
  for (int32_t row = 0; row < rows && sequence->tracker.state != SPAN_STATE_DONE; ++row)
    span_tracker_push(&sequence->tracker, any_token(random, &sequence->tracker, vocab_size));
  sequence->n_gold = (int32_t)ss_random_range(random, 0, N_GOLD);
  for (int32_t k = 0; k < sequence->n_gold; ++k)
    s->gold[slot][k] = any_token(random, &sequence->tracker, vocab_size);
  sequence->gold = s->gold[slot];
  sequence->gold_next = (int32_t)ss_random_range(random, 0, sequence->n_gold);
  sequence->force = ss_random_below(random, 3) ? SPAN_FORCE_NONE : 1 + (int32_t)ss_random_below(random, 2);
  sequence->constrain = (int32_t)ss_random_below(random, 2);
  sequence->active = ss_random_below(random, 6) != 0;
  s->randoms[slot] = ss_random_seed(f->seed, ss_random_next(random));
}

// Uploads what was made, as ss_sequence_ops.start would.
static void upload_slots(cuda_fixture *f, slots *s, const ss_sequences_options *options) {
  span_sequence copies[N_SLOT];
  int32_t chosen[N_SLOT];
  double log_probability[N_SLOT];
  s->device_segments = upload_of(f, s->segments, sizeof s->segments);
  s->device_references = upload_of(f, s->references, sizeof s->references);
  s->device_gold = upload_of(f, s->gold, sizeof s->gold);
  for (int slot = 0; slot < N_SLOT; ++slot) {
    copies[slot] = s->sequences[slot];
    copies[slot].tracker.layout.segments = (span_segment *)s->device_segments + slot * N_SEGMENT;
    copies[slot].tracker.layout.references = (int32_t *)s->device_references + slot * N_ROW;
    copies[slot].gold = (int32_t *)s->device_gold + slot * N_GOLD;
    chosen[slot] = UNTOUCHED;
    log_probability[slot] = UNTOUCHED;
  }
  memset(&s->on_device, 0, sizeof s->on_device);
  s->on_device.options = *options;
  s->on_device.sequences = upload_of(f, copies, sizeof copies);
  s->on_device.randoms = upload_of(f, s->randoms, sizeof s->randoms);
  s->on_device.chosen = upload_of(f, chosen, sizeof chosen);
  s->on_device.chosen_log_probability = upload_of(f, log_probability, sizeof log_probability);
}

// --- the host's side ---

static int32_t host_choice(span_sequence *sequence, ss_random *random, sampler *sampler, const float *logits,
                           uint8_t *allowed, int32_t vocab_size, double *log_probability, met *met) {
  int32_t forced = span_sequence_forced(sequence);
  *log_probability = 0;
  met->forced += forced >= 0;
  if (forced >= 0)
    return forced;
  int any = 0;
  for (int32_t token = 0; sequence->constrain && token < vocab_size; ++token)
    any |= allowed[token] = (uint8_t)span_token_allowed(&sequence->tracker, token);
  if (sequence->constrain)
    ++met->states[sequence->tracker.headers][sequence->tracker.state];
  met->nothing_allowed += sequence->constrain && !any;
  uint64_t counter = random->counter;
  int32_t token = sampler_choose(sampler, logits, any ? allowed : NULL, random, log_probability);
  met->drawn += random->counter != counter;
  met->infinite += isnan(*log_probability);
  return sequence->constrain ? span_corrected(&sequence->tracker, token) : token;
}

// --- logits ---

enum { NORMAL, TIED, HOLES, INFINITIES, ALL_NAN, ALL_MINUS, EQUAL, NAN_OR_MINUS, WIDE, STEEP, N_KIND };

static float logit_of(ss_random *random, int kind, int32_t token) {
  float value = (float)ss_random_normal(random);
  uint64_t die = ss_random_below(random, 20);
  switch (kind) {
  case TIED:
    return die == 0 ? -0.0f : rintf(2 * value) / 2;
  case HOLES:
    return die < 6 ? NAN : die < 10 ? -INFINITY : 3 * value;
  case INFINITIES:
    return die == 0 ? INFINITY : die == 1 ? -INFINITY : die == 2 ? NAN : value;
  case ALL_NAN:
    return NAN;
  case ALL_MINUS:
    return -INFINITY;
  case EQUAL:
    return -12.25f;
  case NAN_OR_MINUS:
    return die < 14 ? NAN : -INFINITY;
  case WIDE:
    return 60 * value - 100;
  case STEEP:
    return -0.37f * (float)token;
  default:
    return 3 * value;
  }
}

// --- a comparison ---

typedef struct {
  double temperature, top_p;
  int64_t top_k;
} mode;

static void check_slot(cuda_fixture *f, const slots *s, const span_sequence *device_sequence, int slot,
                       bool asked, int32_t token, double log_probability, int32_t want, double want_log) {
  const span_sequence *sequence = &s->sequences[slot];
  if (!asked) {
    if (token != UNTOUCHED || log_probability != UNTOUCHED)
      fail_msg("slot %d was not asked for and got token %d (%s, seed %llu)", slot, token, f->context,
               (unsigned long long)f->seed);
  } else {
    bool close = isnan(want_log) ? isnan(log_probability)
                                 : fabs(log_probability - want_log) <= 1e-6 * (1 + fabs(want_log));
    if (token != want || !close)
      fail_msg("slot %d: token %d with %.9g, expected %d with %.9g (%s, constrain %d, state %d, seed %llu)",
               slot, token, log_probability, want, want_log, f->context, sequence->constrain,
               sequence->tracker.state, (unsigned long long)f->seed);
  }
  if (device_sequence->gold_next != sequence->gold_next ||
      device_sequence->in_gold_header != sequence->in_gold_header ||
      device_sequence->tracker.n_row != sequence->tracker.n_row ||
      device_sequence->active != sequence->active)
    fail_msg("slot %d: gold token %d (header %d), expected %d (%d) (%s, seed %llu)", slot,
             device_sequence->gold_next, device_sequence->in_gold_header, sequence->gold_next,
             sequence->in_gold_header, f->context, (unsigned long long)f->seed);
}

// One call for n of the slots in some order (listed), or for the first n; three times in a row, so that random and gold
// states are carried along.
static void compare(cuda_fixture *f, slots *s, int32_t vocab_size, int64_t stride, mode how, int32_t n,
                    bool listed, int kind_base, met *met) {
  ss_sequences_options options = {0};
  options.n_slot = N_SLOT, options.slot_rows = N_ROW, options.n_segment = N_SEGMENT;
  options.vocab_size = vocab_size;
  options.temperature = how.temperature, options.top_k = how.top_k, options.top_p = how.top_p;
  ss_error error = {0};
  sampler *sampler = NULL;
  assert_ok(sampler_create(&sampler, vocab_size, how.temperature, how.top_k, how.top_p, &error));
  for (int slot = 0; slot < N_SLOT; ++slot)
    make_slot(f, s, slot, vocab_size);
  upload_slots(f, s, &options);
  float *values = malloc((size_t)n * (size_t)vocab_size * sizeof *values);
  uint8_t *allowed = malloc((size_t)vocab_size);
  assert_non_null(values);
  assert_non_null(allowed);
  int32_t order[N_SLOT];
  for (int i = 0; i < N_SLOT; ++i)
    order[i] = i;
  for (int i = N_SLOT - 1; listed && i > 0; --i) {
    int j = (int)ss_random_below(&f->random, (uint64_t)i + 1), swap = order[i];
    order[i] = order[j], order[j] = swap;
  }
  cuda_pair logits = cuda_output_strided(f, "logits", n, vocab_size, stride, SS_F32);
  cuda_pair list = cuda_integers(f, "slots", order, n);
  for (int step = 0; step < 3; ++step) {
    cuda_context(f, "V %d, stride %lld, T %g, k %lld, p %g, %d rows%s, kinds from %d, step %d", vocab_size,
                 (long long)stride, how.temperature, (long long)how.top_k, how.top_p, n,
                 listed ? " listed" : "", kind_base, step);
    for (int32_t row = 0; row < n; ++row)
      for (int32_t token = 0; token < vocab_size; ++token)
        values[(int64_t)row * vocab_size + token] = logit_of(&f->random, (kind_base + row + step) % N_KIND,
                                                             token);
    cuda_upload_floats(f, ON_CUDA, logits.on[ON_CUDA], values);
    ss_device *device = f->device[ON_CUDA];
    if (cuda_sequences_choose(device, &s->on_device, logits.on[ON_CUDA],
                              listed ? list.on[ON_CUDA] : cuda_none().on[ON_CUDA]) != SS_OK)
      fail_msg("choose: %s (%s)", device->error.message, f->context);
    span_sequence copies[N_SLOT];
    ss_random randoms[N_SLOT];
    int32_t chosen[N_SLOT], want[N_SLOT];
    double log_probability[N_SLOT], want_log[N_SLOT];
    bool asked[N_SLOT] = {false};
    CUDA_RUN(f, ON_CUDA, download, copies, s->on_device.sequences, sizeof copies);
    CUDA_RUN(f, ON_CUDA, download, randoms, s->on_device.randoms, sizeof randoms);
    CUDA_RUN(f, ON_CUDA, download, chosen, s->on_device.chosen, sizeof chosen);
    CUDA_RUN(f, ON_CUDA, download, log_probability, s->on_device.chosen_log_probability,
             sizeof log_probability);
    for (int32_t row = 0; row < n; ++row) {
      int slot = order[row];
      asked[slot] = s->sequences[slot].active;
      met->inactive += !asked[slot];
      if (asked[slot])
        want[slot] = host_choice(&s->sequences[slot], &s->randoms[slot], sampler,
                                 values + (int64_t)row * vocab_size, allowed, vocab_size, &want_log[slot],
                                 met);
    }
    for (int slot = 0; slot < N_SLOT; ++slot) {
      check_slot(f, s, &copies[slot], slot, asked[slot], chosen[slot], log_probability[slot],
                 asked[slot] ? want[slot] : 0, asked[slot] ? want_log[slot] : 0);
      if (memcmp(&randoms[slot], &s->randoms[slot], sizeof randoms[slot]) != 0)
        fail_msg("slot %d: %llu random numbers were drawn, expected %llu (%s, seed %llu)", slot,
                 (unsigned long long)randoms[slot].counter, (unsigned long long)s->randoms[slot].counter,
                 f->context, (unsigned long long)f->seed);
    }
  }
  free(values);
  free(allowed);
  sampler_free(sampler);
  cuda_release_all(f);
}

static const mode modes[] = {
    {0, 1, 0},   {1, 1, 0},     {0.7, 1, 0},  {3, 1, 1},    {1.3, 1, 7},  {0.8, 1, 100000},
    {1, 0.9, 0}, {0.6, 0.3, 0}, {2, 0.99, 5}, {1, 0.5, 40}, {1, 1e-9, 0}, {0.01, 0.9, 3},
};
enum { N_MODE = sizeof modes / sizeof *modes };

static void equals_the_host(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  slots *s = calloc(1, sizeof *s);
  assert_non_null(s);
  met met = {0};
  static const int32_t sizes[] = {1, 5, 33, 64, 1000, 2052};
  int repeats = cuda_small() ? 1 : 4;
  for (int size = 0; size < 6; ++size)
    for (int m = 0; m < N_MODE; ++m)
      for (int repeat = 0; repeat < repeats; ++repeat) {
        int64_t gap = (m + repeat) % 3;  // none, one that keeps rows aligned, one that does not
        bool listed = (m + size + repeat) % 2;
        compare(&f, s, sizes[size],
                sizes[size] + (gap == 1   ? 4
                               : gap == 2 ? 3
                                          : 0),
                modes[m], listed ? 7 : N_SLOT, listed, m + repeat + size, &met);
      }
  free(s);
  for (int headers = 0; headers < 2; ++headers)
    for (int tracker_state = 0; tracker_state < 4; ++tracker_state)
      if (met.states[headers][tracker_state] < 5 && !(headers == 0 && tracker_state == SPAN_STATE_HEADER))
        fail_msg("headers %d, state %d came %d times only", headers, tracker_state,
                 met.states[headers][tracker_state]);
  assert_true(met.forced > 50 && met.inactive > 50 && met.nothing_allowed > 20 && met.drawn > 100 &&
              met.infinite > 50);
  cuda_close(&f);
}

// As many tokens as GPT-2's, and a number that no load of 16 bytes divides.
static void large_vocabularies(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  slots *s = calloc(1, sizeof *s);
  assert_non_null(s);
  met met = {0};
  static const int chosen[] = {0, 1, 4, 6, 9};
  for (int m = 0; m < 5; ++m)
    for (int odd = 0; odd < 2; ++odd) {
      if (cuda_small() && odd && m != 0 && m != 3)
        continue;
      compare(&f, s, odd ? 50257 : 50304, odd ? 50257 : 50304, modes[chosen[m]], cuda_small() ? 3 : N_SLOT,
              m % 2, odd + (m % 2 ? 0 : TIED), &met);
    }
  free(s);
  cuda_close(&f);
}

static void refusals(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *device = f.device[ON_CUDA];
  ss_sequences sequences = {0};
  sequences.options.n_slot = 4;
  sequences.options.vocab_size = 8;
  cuda_pair logits = cuda_random(&f, "logits", 5, 8, SS_F32, 1),
            half = cuda_random(&f, "half", 4, 8, SS_BF16, 1);
  cuda_pair list = cuda_random_integers(&f, "slots", 3, 0, 3);
  ss_tensor none = {0};
  const ss_tensor refused[][2] = {
      {logits.on[ON_CUDA], none},                                   // more rows than slots
      {ss_columns(ss_rows(logits.on[ON_CUDA], 0, 4), 0, 7), none},  // another vocabulary
      {half.on[ON_CUDA], none},                                     // another dtype
      {ss_rows(logits.on[ON_CUDA], 0, 4), list.on[ON_CUDA]},        // slots for other rows
  };
  for (int k = 0; k < 4; ++k) {
    assert_int_not_equal(cuda_sequences_choose(device, &sequences, refused[k][0], refused[k][1]), SS_OK);
    assert_non_null(strstr(device->error.message, "choose:"));
    ss_error_clear(&device->error);
  }
  assert_int_equal(cuda_sequences_choose(device, &sequences, ss_rows(logits.on[ON_CUDA], 0, 0), none), SS_OK);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equals_the_host),
      cmocka_unit_test(large_vocabularies),
      cmocka_unit_test(refusals),
  };
  return cmocka_run_group_tests_name("cuda sample", tests, NULL, NULL);
}
