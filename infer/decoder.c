#include "infer/decoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/progress.h"
#include "infer/capacity.h"
#include "infer/engine.h"

// Prompt tokens of one prefill call: enough for full matrix products, small enough for the workspace.
#define PREFILL_TOKENS_HOST 4096
#define PREFILL_TOKENS_DEVICE DECODE_PREFILL_TOKENS
// While the device runs on its own, free slots wait for each other until they are this part of all, or enough for a full
// prefill: one of few prompts takes as long as one of many.
#define REFILL_PART 16

enum { STAMP_PREFILL, STAMP_DECODE, STAMP_END, STAMPS };

struct decoder {
  gpt *model;
  gpt_cache *cache;
  const vocabulary *vocabulary;
  arm arm;
  span_policy policy;
  decode_options options;
  int64_t n_slot, slot_rows;
  decode_slot *slots;    // [n_slot]
  decode_slot recalled;  // of decoder_recall; no storage before the first
  decode_batch prompts;
  decode_engine *engine;  // made by the first run
  decode_watch watch;
  void *watch_user;
  const volatile sig_atomic_t *stop;
  char description[256];
};

static ss_status check_options(const decode_options *options, const gpt_config *config, int64_t slot_rows,
                               ss_error *error) {
  if (slot_rows < 2 || slot_rows > config->n_positions)
    return ss_fail(error, SS_ERROR_LIMIT,
                   "decoder: a sequence of %lld rows, but the model has %lld positions", (long long)slot_rows,
                   (long long)config->n_positions);
  if (options->max_batch * slot_rows > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "decoder: %lld slots of %lld rows exceed %d cache rows",
                   (long long)options->max_batch, (long long)slot_rows, INT32_MAX);
  return SS_OK;
}

static void describe(decoder *decoder) {
  double bytes = (double)gpt_cache_bytes_per_row(decoder->cache) * (double)decoder->n_slot *
                 (double)decoder->slot_rows;
  snprintf(decoder->description, sizeof decoder->description, "%s%s%lld slots of %lld rows, KV cache %.2f GB",
           decoder->engine ? decoder->engine->ops->name : "", decoder->engine ? " engine, " : "",
           (long long)decoder->n_slot, (long long)decoder->slot_rows, bytes * 1e-9);
}

static ss_status allocate_decoder(decoder *made, ss_error *error) {
  int32_t n_anchor = vocabulary_span_tokens(made->vocabulary)->n_anchor;
  SS_TRY(decode_capacity(&made->n_slot, made->model, made->options.max_batch, made->slot_rows, error));
  SS_TRY(ss_allocate(&made->slots, made->n_slot, sizeof *made->slots, "decoder slots", error));
  for (int64_t s = 0; s < made->n_slot; ++s)
    SS_TRY(decode_slot_create(&made->slots[s], made->slot_rows, n_anchor, error));
  SS_TRY(gpt_cache_create(&made->cache, made->model, made->n_slot, made->slot_rows, error));
  describe(made);
  return SS_OK;
}

ss_status decoder_create(decoder **out, gpt *model, const vocabulary *vocabulary, arm arm,
                         const span_policy *policy, const decode_options *options, int64_t slot_rows,
                         ss_error *error) {
  const gpt_config *config = gpt_get_config(model);
  SS_TRY(check_options(options, config, slot_rows, error));
  if (vocabulary_size(vocabulary) != config->vocab_size)
    return ss_fail(error, SS_ERROR_INPUT, "decoder: the vocabulary has %d tokens, the model %lld",
                   vocabulary_size(vocabulary), (long long)config->vocab_size);
  if (options->control != DECODE_SELF && options->control != DECODE_REPLAY && arm != ARM_SPAN)
    return ss_fail(error, SS_ERROR_USAGE, "decode.control needs the span arm; this model's arm is %s",
                   arm_name(arm));
  decoder *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "decoder", error));
  made->model = model;
  made->vocabulary = vocabulary;
  made->arm = arm;
  made->policy = *policy;
  made->options = *options;
  made->slot_rows = slot_rows;
  ss_status status = allocate_decoder(made, error);
  if (status != SS_OK) {
    decoder_free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

void decoder_set_watch(decoder *decoder, decode_watch watch, void *user) {
  decoder->watch = watch;
  decoder->watch_user = user;
  // Which engine serves depends on it: the next run chooses again.
  if (decoder->engine)
    decoder->engine->ops->free(decoder->engine);
  decoder->engine = NULL;
  describe(decoder);
}

void decoder_set_stop(decoder *decoder, const volatile sig_atomic_t *stop) {
  decoder->stop = stop;
}

void decoder_free(decoder *decoder) {
  if (decoder == NULL)
    return;
  if (decoder->engine)
    decoder->engine->ops->free(decoder->engine);
  if (decoder->slots != NULL)
    for (int64_t s = 0; s < decoder->n_slot; ++s)
      decode_slot_free(&decoder->slots[s]);
  gpt_cache_free(decoder->cache);
  decode_batch_free(&decoder->prompts);
  decode_slot_free(&decoder->recalled);
  free(decoder->slots);
  free(decoder);
}

const char *decoder_description(const decoder *decoder) {
  return decoder->description;
}

int64_t decoder_slots(const decoder *decoder) {
  return decoder->n_slot;
}

// Why the device cannot decode by itself; NULL: it can.
static const char *device_refusal(const decoder *decoder) {
  if (gpt_device(decoder->model)->ops->sequences == NULL)
    return "this device has no decoding of its own (expected cuda)";
  if (decoder->watch != NULL)
    return "tokens are watched as they come, which only the host's engine does";
  if (decoder->options.no_repeat_ngram > 0)
    return "decode.no_repeat_ngram is served by the host's engine alone";
  return NULL;
}

// The device decodes by itself where it can.
static ss_status make_engine(decoder *decoder, ss_error *error) {
  if (decoder->engine)
    return SS_OK;
  span_policy policy = arm_policy(decoder->arm, &decoder->policy);
  const decode_setup setup = {.model = decoder->model,
                              .cache = decoder->cache,
                              .slots = decoder->slots,
                              .n_slot = decoder->n_slot,
                              .slot_rows = decoder->slot_rows,
                              .vocabulary = decoder->vocabulary,
                              .options = &decoder->options,
                              .selects = policy.mask != SPAN_MASK_NONE,
                              .watch = &decoder->watch,
                              .watch_user = &decoder->watch_user};
  int choice = decoder->options.engine;
  const char *refusal = device_refusal(decoder);
  if (choice == DECODE_ENGINE_DEVICE && refusal != NULL)
    return ss_fail(error, SS_ERROR_USAGE, "decode.engine device: %s", refusal);
  if (choice != DECODE_ENGINE_HOST && refusal == NULL) {
    ss_status status = decode_engine_device(&decoder->engine, &setup, error);
    // A shape that the device's kernels do not serve is the host's, and the description says which engine runs.
    if (status != SS_ERROR_LIMIT || choice == DECODE_ENGINE_DEVICE) {
      describe(decoder);
      return status;
    }
    memset(error, 0, sizeof *error);
  }
  SS_TRY(decode_engine_host(&decoder->engine, &setup, error));
  describe(decoder);
  return SS_OK;
}

// --- one run ---

typedef struct {
  decoder *decoder;
  decode_engine *engine;
  decode_source source;
  decode_sink sink;
  void *user;
  decode_statistics *statistics;
  ss_error *error;
  int64_t round, n_busy;
  int64_t n_prompt, prompt_tokens;  // taken so far
  bool exhausted;
  double outside_seconds;  // the caller's, of this round: reading prompts, scoring results
} decode_run;

static decode_result result_of(const decode_slot *slot, bool trace_rows) {
  const span_sequence *sequence = &slot->sequence;
  return (decode_result){.index = slot->request.index,
                         .tokens = slot->tokens,
                         .n_prompt = sequence->n_prompt,
                         .n_token = sequence->tracker.n_row,
                         .rows = trace_rows ? slot->rows : NULL,
                         .stop = (decode_stop)sequence->stop,
                         .malformed = sequence->tracker.malformed,
                         .layout = sequence->tracker.layout,
                         .attended_rows = sequence->attended_rows,
                         .prefill_rows = slot->prefill_rows,
                         .log_probability = sequence->log_probability};
}

static ss_status deliver(decode_run *run, decode_slot *slot) {
  decode_result result = result_of(slot, run->decoder->options.trace_rows);
  decode_statistics *statistics = run->statistics;
  statistics->generated_tokens += result.n_token - result.n_prompt;
  statistics->decode_attended_rows += result.attended_rows;
  statistics->prefill_attended_rows += result.prefill_rows;
  ++statistics->n_sequence;
  slot->busy = false;
  --run->n_busy;
  double start = ss_seconds();
  ss_status status = run->sink(run->user, &result, run->error);
  run->outside_seconds += ss_seconds() - start;
  return status;
}

// Takes requests into free slots, up to a prefill's tokens, as one batch of prompts.
static ss_status take_prompts(decode_run *run, int64_t most_tokens) {
  decoder *decoder = run->decoder;
  decode_batch *prompts = &decoder->prompts;
  decode_batch_clear(prompts);
  for (int64_t s = 0; s < decoder->n_slot && prompts->n_row < most_tokens; ++s) {
    decode_slot *slot = &decoder->slots[s];
    if (slot->busy)
      continue;
    decode_request request = {0};
    double start = ss_seconds();
    SS_TRY(run->source(run->user, &request, &run->exhausted, run->error));
    run->outside_seconds += ss_seconds() - start;
    if (run->exhausted)
      break;
    SS_TRY(decode_slot_start(slot, &request, vocabulary_span_tokens(decoder->vocabulary), &decoder->policy,
                             decoder->arm, &decoder->options, decoder->slot_rows, run->error));
    slot->started = run->round;
    ++run->n_busy;
    SS_TRY(decode_batch_add_prompt(prompts, slot, s, decoder->slot_rows, run->error));
    SS_TRY(run->engine->ops->start(run->engine, s, run->error));
    run->statistics->prefill_tokens += request.n_prompt;
    run->prompt_tokens += request.n_prompt;
    ++run->n_prompt;
  }
  return SS_OK;
}

static ss_status check_stop(const decode_run *run) {
  const volatile sig_atomic_t *stop = run->decoder->stop;
  return stop != NULL && *stop != 0 ? ss_fail(run->error, SS_ERROR_INTERRUPTED, "interrupted") : SS_OK;
}

// Whether the free slots, with prompts as long as those so far, fill a prefill.
static bool fills_prefill(const decode_run *run, int64_t most_tokens) {
  int64_t n_free = run->decoder->n_slot - run->n_busy;
  return run->n_prompt > 0 && n_free * run->prompt_tokens >= most_tokens * run->n_prompt;
}

// New sequences first: they join the others' decoding at once.
static ss_status refill(decode_run *run) {
  decoder *decoder = run->decoder;
  int64_t n_free = decoder->n_slot - run->n_busy;
  int64_t most = gpt_device(decoder->model)->synchronous ? PREFILL_TOKENS_HOST : PREFILL_TOKENS_DEVICE;
  bool all = run->engine->ops->lag == 0 || run->n_busy == 0 || n_free * REFILL_PART >= decoder->n_slot;
  while (!run->exhausted && run->n_busy < decoder->n_slot && (all || fills_prefill(run, most))) {
    SS_TRY(check_stop(run));
    SS_TRY(take_prompts(run, most));
    decode_batch *prompts = &decoder->prompts;
    if (prompts->n_row == 0)
      break;
    gpt_inference_batch batch = decode_batch_inference(prompts);
    ss_tensor logits;
    SS_TRY(gpt_infer_logits(decoder->model, decoder->cache, &batch, &logits, run->error));
    SS_TRY(run->engine->ops->choose(run->engine, logits, prompts->logit_slots, prompts->n_logit_row,
                                    run->error));
  }
  return SS_OK;
}

// Hands out what had finished at the end of `round`.
static ss_status collect(decode_run *run, int64_t round) {
  decoder *decoder = run->decoder;
  const ss_sequence_status *status = NULL;
  SS_TRY(run->engine->ops->wait_status(run->engine, (int32_t)(round % SS_N_STATUS), &status, run->error));
  for (int64_t s = 0; s < decoder->n_slot; ++s) {
    decode_slot *slot = &decoder->slots[s];
    if (!slot->busy || slot->started > round || status[s].active)
      continue;
    SS_TRY(run->engine->ops->result(run->engine, s, run->error));
    SS_TRY(deliver(run, slot));
  }
  return SS_OK;
}

static int32_t stamp_of(int64_t round, int which) {
  return (int32_t)(round % SS_N_STATUS) * STAMPS + which;
}

static ss_status stamp(decode_run *run, int which) {
  SS_OP(gpt_device(run->decoder->model), run->error, stamp, stamp_of(run->round, which));
  return SS_OK;
}

// What the device spent on a round that is over.
static ss_status add_device_seconds(decode_run *run, int64_t round, double *prefill, double *decode) {
  ss_device *device = gpt_device(run->decoder->model);
  double seconds = 0;
  SS_OP(device, run->error, stamp_seconds, stamp_of(round, STAMP_PREFILL), stamp_of(round, STAMP_DECODE),
        &seconds);
  *prefill += seconds;
  SS_OP(device, run->error, stamp_seconds, stamp_of(round, STAMP_DECODE), stamp_of(round, STAMP_END),
        &seconds);
  *decode += seconds;
  return SS_OK;
}

// The host does its part between the device's: wall time, without the caller's.
static ss_status run_in_turns(decode_run *run) {
  decode_statistics *statistics = run->statistics;
  const decode_engine_ops *ops = run->engine->ops;
  for (;; ++run->round) {
    double start = ss_seconds();
    run->outside_seconds = 0;
    SS_TRY(check_stop(run));
    SS_TRY(refill(run));
    double filled = ss_seconds();
    statistics->prefill_seconds += filled - start - run->outside_seconds;
    if (run->n_busy == 0)
      return SS_OK;
    run->outside_seconds = 0;
    SS_TRY(ops->run(run->engine, ops->burst, run->error));
    statistics->steps += ops->burst;
    SS_TRY(ops->take_status(run->engine, (int32_t)(run->round % SS_N_STATUS), run->error));
    if (run->round >= ops->lag)
      SS_TRY(collect(run, run->round - ops->lag));
    statistics->decode_seconds += ss_seconds() - filled - run->outside_seconds;
  }
}

// The device is given the next round before the host looks at the last one's end: it never waits. *prefill, *decode: what
// the device has spent on each.
static ss_status run_rounds(decode_run *run, double *prefill, double *decode) {
  const decode_engine_ops *ops = run->engine->ops;
  for (;; ++run->round) {
    SS_TRY(check_stop(run));
    SS_TRY(stamp(run, STAMP_PREFILL));
    SS_TRY(refill(run));
    if (run->n_busy == 0)
      return SS_OK;
    SS_TRY(stamp(run, STAMP_DECODE));
    SS_TRY(ops->run(run->engine, ops->burst, run->error));
    SS_TRY(stamp(run, STAMP_END));
    run->statistics->steps += ops->burst;
    SS_TRY(ops->take_status(run->engine, (int32_t)(run->round % SS_N_STATUS), run->error));
    if (run->round < ops->lag)
      continue;
    SS_TRY(collect(run, run->round - ops->lag));
    SS_TRY(add_device_seconds(run, run->round - ops->lag, prefill, decode));
  }
}

static ss_status run_ahead(decode_run *run) {
  decode_statistics *statistics = run->statistics;
  double start = ss_seconds(), prefill = 0, decode = 0;
  ss_status status = run_rounds(run, &prefill, &decode);
  double wall = ss_seconds() - start;
  statistics->prefill_seconds += prefill;
  statistics->decode_seconds += wall - prefill;
  statistics->host_seconds += wall - prefill - decode;
  return status;
}

ss_status decoder_run(decoder *decoder, decode_source source, decode_sink sink, void *user,
                      decode_statistics *statistics, ss_error *error) {
  SS_TRY(make_engine(decoder, error));
  for (int64_t s = 0; s < decoder->n_slot; ++s)
    decoder->slots[s].busy = false;
  decode_engine *engine = decoder->engine;
  int64_t attended_before = statistics->decode_attended_rows;
  engine->host_seconds = 0;
  decode_run run = {.decoder = decoder,
                    .engine = engine,
                    .source = source,
                    .sink = sink,
                    .user = user,
                    .statistics = statistics,
                    .error = error};
  ss_status status = engine->ops->asynchronous ? run_ahead(&run) : run_in_turns(&run);
  statistics->host_seconds += engine->host_seconds;
  statistics->kv_bytes_read += (statistics->decode_attended_rows - attended_before) *
                               gpt_cache_bytes_per_row(decoder->cache);
  return status;
}

// --- what was decoded before ---

static ss_status take_kept(decoder *decoder, const decode_request *request, const decode_kept *kept,
                           ss_error *error) {
  decode_slot *slot = &decoder->recalled;
  const span_tokens *tokens = vocabulary_span_tokens(decoder->vocabulary);
  if (slot->tokens == NULL)
    SS_TRY(decode_slot_create(slot, decoder->slot_rows, tokens->n_anchor, error));
  SS_TRY(decode_slot_start(slot, request, tokens, &decoder->policy, decoder->arm, &decoder->options,
                           decoder->slot_rows, error));
  if (kept->n_token > decoder->slot_rows - request->n_prompt)
    return ss_fail(error, SS_ERROR_INPUT, "example %lld: %lld tokens were kept of it, a sequence has %lld",
                   (long long)request->index, (long long)kept->n_token,
                   (long long)decoder->slot_rows - request->n_prompt);
  for (int64_t k = 0; k < kept->n_token; ++k) {
    if (kept->tokens[k] < 0 || kept->tokens[k] >= vocabulary_size(decoder->vocabulary))
      return ss_fail(error, SS_ERROR_INPUT, "example %lld: token %d was kept of it, expected 0 to %d",
                     (long long)request->index, kept->tokens[k], vocabulary_size(decoder->vocabulary) - 1);
    slot->tokens[request->n_prompt + k] = kept->tokens[k];
  }
  slot->sequence.stop = (int32_t)kept->stop;
  slot->sequence.attended_rows = kept->attended_rows;
  slot->sequence.log_probability = NAN;
  slot->prefill_rows = kept->prefill_rows;
  return decode_slot_push(slot, request->n_prompt + (int32_t)kept->n_token, error);
}

ss_status decoder_recall(decoder *decoder, const decode_request *request, const decode_kept *kept,
                         decode_sink sink, void *user, ss_error *error) {
  SS_TRY(take_kept(decoder, request, kept, error));
  decode_result result = result_of(&decoder->recalled, false);
  return sink(user, &result, error);
}
