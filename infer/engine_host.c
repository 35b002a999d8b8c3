// The host's engine: trackers, sampling and planning on the CPU. On a device beside the host it is the oracle of the
// device's engine: the same steps over the same rows, with logits copied out for every token.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/progress.h"
#include "infer/engine.h"
#include "infer/repeats.h"
#include "infer/sampler.h"

typedef struct {
  decode_engine base;
  bool beside;  // the device is not the host
  sampler *sampler;
  decode_batch batch;
  int32_t vocab_size;
  float *logits;                            // [n_slot, V]
  uint8_t *allowed;                         // [V]
  ss_sequence_status *status[SS_N_STATUS];  // [n_slot]
  // Beside the host: a step over all slots.
  gpt_decode *decode;
  ss_attention_plan *plan;
  void *inputs;  // i32 [3, n_slot] on the device: tokens, positions, cache rows
} host_engine;

static ss_device *device_of(const decode_engine *engine) {
  return gpt_device(engine->setup.model);
}

static ss_status start(decode_engine *engine, int64_t slot, ss_error *error) {
  (void)engine, (void)slot, (void)error;
  return SS_OK;
}

// The tokens that may come next, in host->allowed; NULL: all of them.
static const uint8_t *allowed_tokens(host_engine *host, const span_sequence *sequence) {
  int64_t ngram = host->base.setup.options->no_repeat_ngram;
  int any = 0;
  if (sequence->constrain)
    for (int32_t k = 0; k < host->vocab_size; ++k)
      any |= host->allowed[k] = (uint8_t)span_token_allowed(&sequence->tracker, k);
  if (ngram > 0) {
    if (!any)
      memset(host->allowed, 1, (size_t)host->vocab_size);
    any = 1;
    decode_forbid_repeats(sequence->tokens + sequence->n_prompt, sequence->tracker.n_row - sequence->n_prompt,
                          vocabulary_n_text(host->base.setup.vocabulary), (int32_t)ngram, host->allowed);
  }
  return any ? host->allowed : NULL;
}

// A token for a slot from its logits, pushed.
static void choose_token(host_engine *host, decode_slot *slot, const float *logits) {
  span_sequence *sequence = &slot->sequence;
  const decode_setup *setup = &host->base.setup;
  double log_probability = 0;
  int32_t token = span_sequence_forced(sequence);
  if (token < 0) {
    const uint8_t *allowed = allowed_tokens(host, sequence);
    token = sampler_choose(host->sampler, logits, allowed, &slot->random, &log_probability);
    if (sequence->constrain)
      token = span_corrected(&sequence->tracker, token);
  }
  int32_t rows = sequence->next_rows;
  span_sequence_push(sequence, token, log_probability);
  if (*setup->watch && (sequence->active || sequence->stop != SPAN_STOP_ANCHORS))
    (*setup->watch)(*setup->watch_user, slot->request.index, token, rows);
}

// host->logits [n, V]: row i for slot slots[i], or slot i.
static void choose_all(host_engine *host, const int32_t *slots, int64_t n) {
  double begin = ss_seconds();
  for (int64_t i = 0; i < n; ++i) {
    decode_slot *slot = &host->base.setup.slots[slots ? slots[i] : i];
    if (slot->busy && slot->sequence.active)
      choose_token(host, slot, host->logits + i * host->vocab_size);
  }
  host->base.host_seconds += ss_seconds() - begin;
}

static ss_status download_logits(host_engine *host, ss_tensor logits, ss_error *error) {
  SS_OP(device_of(&host->base), error, download, host->logits, logits.data,
        (size_t)(logits.rows * logits.cols) * sizeof(float));
  return SS_OK;
}

static ss_status choose(decode_engine *engine, ss_tensor logits, const int32_t *slots, int64_t n,
                        ss_error *error) {
  host_engine *host = (host_engine *)engine;
  SS_TRY(download_logits(host, logits, error));
  choose_all(host, slots, n);
  return SS_OK;
}

// The host's own memory: only the active slots' rows are computed.
static ss_status step_here(host_engine *host, ss_error *error) {
  const decode_setup *setup = &host->base.setup;
  decode_batch *batch = &host->batch;
  double begin = ss_seconds();
  decode_batch_clear(batch);
  for (int64_t s = 0; s < setup->n_slot; ++s)
    if (setup->slots[s].busy && setup->slots[s].sequence.active)
      SS_TRY(decode_batch_add_token(batch, &setup->slots[s], s, setup->slot_rows, setup->options, error));
  host->base.host_seconds += ss_seconds() - begin;
  if (batch->n_row == 0)
    return SS_OK;
  gpt_inference_batch inference = decode_batch_inference(batch);
  SS_TRY(gpt_infer(setup->model, setup->cache, &inference, host->logits, error));
  choose_all(host, batch->logit_slots, batch->n_logit_row);
  return SS_OK;
}

// A step as the device's engine runs it: a row for every slot.
static ss_status step_beside(host_engine *host, ss_error *error) {
  const decode_setup *setup = &host->base.setup;
  decode_batch *batch = &host->batch;
  ss_device *device = device_of(&host->base);
  double begin = ss_seconds();
  decode_batch_clear(batch);
  for (int64_t s = 0; s < setup->n_slot; ++s) {
    decode_slot *slot = &setup->slots[s];
    if (slot->busy && slot->sequence.active)
      SS_TRY(decode_batch_add_token(batch, slot, s, setup->slot_rows, setup->options, error));
    else
      SS_TRY(decode_batch_add_idle(batch, error));
  }
  size_t bytes = (size_t)setup->n_slot * sizeof(int32_t);
  int32_t *tokens = host->inputs, *positions = tokens + setup->n_slot, *rows = positions + setup->n_slot;
  SS_OP(device, error, upload, tokens, batch->tokens, bytes);
  SS_OP(device, error, upload, positions, batch->positions, bytes);
  SS_OP(device, error, upload, rows, batch->cache_rows, bytes);
  SS_OP(device, error, attention_plan, &host->plan, batch->views, batch->n_view, batch->ranges,
        batch->n_range, setup->n_slot * setup->slot_rows, false);
  host->base.host_seconds += ss_seconds() - begin;
  SS_TRY(gpt_decode_step(host->decode, setup->n_slot, ss_integers(tokens, setup->n_slot),
                         ss_integers(positions, setup->n_slot), ss_integers(rows, setup->n_slot), host->plan,
                         error));
  SS_TRY(download_logits(host, gpt_decode_logits(host->decode), error));
  choose_all(host, NULL, setup->n_slot);
  return SS_OK;
}

static ss_status run(decode_engine *engine, int64_t n_step, ss_error *error) {
  host_engine *host = (host_engine *)engine;
  for (int64_t k = 0; k < n_step; ++k)
    SS_TRY(host->beside ? step_beside(host, error) : step_here(host, error));
  return SS_OK;
}

static ss_status take_status(decode_engine *engine, int32_t index, ss_error *error) {
  host_engine *host = (host_engine *)engine;
  (void)error;
  for (int64_t s = 0; s < engine->setup.n_slot; ++s) {
    const span_sequence *sequence = &engine->setup.slots[s].sequence;
    host->status[index][s] = (ss_sequence_status){sequence->active, sequence->stop, sequence->tracker.n_row,
                                                  0};
  }
  return SS_OK;
}

static ss_status wait_status(decode_engine *engine, int32_t index, const ss_sequence_status **status,
                             ss_error *error) {
  (void)error;
  *status = ((host_engine *)engine)->status[index];
  return SS_OK;
}

static ss_status result(decode_engine *engine, int64_t slot, ss_error *error) {
  (void)engine, (void)slot, (void)error;
  return SS_OK;
}

static void free_engine(decode_engine *engine) {
  host_engine *host = (host_engine *)engine;
  ss_device *device = device_of(engine);
  sampler_free(host->sampler);
  decode_batch_free(&host->batch);
  free(host->logits);
  free(host->allowed);
  for (int k = 0; k < SS_N_STATUS; ++k)
    free(host->status[k]);
  gpt_decode_free(host->decode);
  if (host->plan)
    device->ops->attention_plan_free(device, host->plan);
  if (host->inputs)
    device->ops->release(device, host->inputs);
  free(host);
}

static const decode_engine_ops here_ops = {.name = "host",
                                           .burst = 1,
                                           .start = start,
                                           .choose = choose,
                                           .run = run,
                                           .take_status = take_status,
                                           .wait_status = wait_status,
                                           .result = result,
                                           .free = free_engine};
static const decode_engine_ops beside_ops = {.name = "host",
                                             .burst = DECODE_BURST,
                                             .lag = 1,
                                             .start = start,
                                             .choose = choose,
                                             .run = run,
                                             .take_status = take_status,
                                             .wait_status = wait_status,
                                             .result = result,
                                             .free = free_engine};

static ss_status allocate(host_engine *host, ss_error *error) {
  const decode_setup *setup = &host->base.setup;
  const decode_options *options = setup->options;
  SS_TRY(ss_allocate(&host->logits, setup->n_slot * host->vocab_size, sizeof *host->logits, "logits", error));
  SS_TRY(ss_allocate(&host->allowed, host->vocab_size, sizeof *host->allowed, "token mask", error));
  for (int k = 0; k < SS_N_STATUS; ++k)
    SS_TRY(ss_allocate(&host->status[k], setup->n_slot, sizeof *host->status[k], "statuses", error));
  SS_TRY(sampler_create(&host->sampler, host->vocab_size, options->temperature, options->top_k,
                        options->top_p, error));
  if (!host->beside)
    return SS_OK;
  SS_TRY(gpt_decode_create(&host->decode, setup->model, setup->cache, setup->n_slot, error));
  SS_OP(device_of(&host->base), error, allocate, &host->inputs, 3 * (size_t)setup->n_slot * sizeof(int32_t),
        "decoding inputs");
  return SS_OK;
}

ss_status decode_engine_host(decode_engine **out, const decode_setup *setup, ss_error *error) {
  host_engine *host = NULL;
  SS_TRY(ss_allocate(&host, 1, sizeof *host, "the host's engine", error));
  host->base.setup = *setup;
  host->beside = !gpt_device(setup->model)->synchronous;
  host->base.ops = host->beside ? &beside_ops : &here_ops;
  host->vocab_size = vocabulary_size(setup->vocabulary);
  ss_status status = allocate(host, error);
  if (status != SS_OK) {
    free_engine(&host->base);
    return status;
  }
  *out = &host->base;
  return SS_OK;
}
