#include "infer/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/progress.h"
#include "infer/sampler.h"
#include "infer/slot.h"
#include "span/control.h"

// Prompt tokens of one prefill call: enough for full matrix products, small enough for the workspace.
#define PREFILL_TOKENS 4096

struct decoder {
  gpt *model;
  gpt_cache *cache;
  const vocabulary *vocabulary;
  sampler *sampler;
  arm arm;
  span_policy policy;
  decode_options options;
  int64_t slot_rows;
  int32_t vocab_size;
  decode_slot *slots;  // [max_batch]
  decode_watch watch;
  void *watch_user;

  // The batch under construction; all grown on demand.
  int32_t *tokens, *positions, *cache_rows;  // [row_capacity]
  int64_t n_row, row_capacity, position_capacity, cache_row_capacity;
  ss_attention_view *views;
  int64_t n_view, view_capacity;
  span_range *ranges;
  int64_t n_range, range_capacity;
  int32_t *logit_rows;   // [max_batch]
  int32_t *logit_slots;  // [max_batch]: slot of each logits row
  int64_t n_logit_row;
  float *logits;        // [max_batch, vocab_size]
  uint8_t *allowed;     // [vocab_size]
  span_range *scratch;  // one query's ranges before a control replaces them
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

static ss_status allocate_decoder(decoder *made, ss_error *error) {
  int64_t n_slot = made->options.max_batch;
  int32_t n_anchor = vocabulary_span_tokens(made->vocabulary)->n_anchor;
  SS_TRY(ss_allocate(&made->slots, n_slot, sizeof *made->slots, "decoder slots", error));
  for (int64_t s = 0; s < n_slot; ++s)
    SS_TRY(decode_slot_create(&made->slots[s], made->slot_rows, n_anchor, error));
  SS_TRY(ss_allocate(&made->logit_rows, n_slot, sizeof *made->logit_rows, "decoder logit rows", error));
  SS_TRY(ss_allocate(&made->logit_slots, n_slot, sizeof *made->logit_slots, "decoder logit slots", error));
  SS_TRY(ss_allocate(&made->logits, n_slot * made->vocab_size, sizeof *made->logits, "logits", error));
  SS_TRY(ss_allocate(&made->allowed, made->vocab_size, sizeof *made->allowed, "token mask", error));
  SS_TRY(ss_allocate(&made->scratch, 2 * ((int64_t)n_anchor + 4), sizeof *made->scratch, "ranges", error));
  SS_TRY(sampler_create(&made->sampler, made->vocab_size, made->options.temperature, made->options.top_k,
                        made->options.top_p, error));
  return gpt_cache_create(&made->cache, made->model, n_slot, made->slot_rows, error);
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
  made->vocab_size = vocabulary_size(vocabulary);
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
}

void decoder_free(decoder *decoder) {
  if (decoder == NULL)
    return;
  if (decoder->slots != NULL)
    for (int64_t s = 0; s < decoder->options.max_batch; ++s)
      decode_slot_free(&decoder->slots[s]);
  gpt_cache_free(decoder->cache);
  sampler_free(decoder->sampler);
  free(decoder->slots);
  free(decoder->tokens);
  free(decoder->positions);
  free(decoder->cache_rows);
  free(decoder->views);
  free(decoder->ranges);
  free(decoder->logit_rows);
  free(decoder->logit_slots);
  free(decoder->logits);
  free(decoder->allowed);
  free(decoder->scratch);
  free(decoder);
}

// --- building a batch ---

static void clear_batch(decoder *decoder) {
  decoder->n_row = decoder->n_view = decoder->n_range = decoder->n_logit_row = 0;
}

static ss_status reserve_batch(decoder *decoder, int64_t rows, int64_t views, int64_t ranges,
                               ss_error *error) {
  int64_t n = decoder->n_row + rows;
  SS_TRY(ss_grow(&decoder->tokens, &decoder->row_capacity, n, sizeof(int32_t), "batch tokens", error));
  SS_TRY(ss_grow(&decoder->positions, &decoder->position_capacity, n, sizeof(int32_t), "positions", error));
  SS_TRY(
      ss_grow(&decoder->cache_rows, &decoder->cache_row_capacity, n, sizeof(int32_t), "cache rows", error));
  SS_TRY(ss_grow(&decoder->views, &decoder->view_capacity, decoder->n_view + views, sizeof *decoder->views,
                 "attention views", error));
  return ss_grow(&decoder->ranges, &decoder->range_capacity, decoder->n_range + ranges,
                 sizeof *decoder->ranges, "attention ranges", error);
}

// Adds a view over rows of slot `s`; the ranges already lie at the batch's end, in the slot's rows.
static void add_view(decoder *decoder, int64_t s, const span_view *view, int64_t q_first) {
  int32_t base = (int32_t)(s * decoder->slot_rows);
  for (int32_t k = 0; k < view->n_range; ++k) {
    span_range *range = &decoder->ranges[decoder->n_range + k];
    range->first += base;
    range->end += base;
  }
  ss_attention_view *made = &decoder->views[decoder->n_view++];
  made->q_first = (int32_t)q_first;
  made->n_query = view->query_end - view->query_first;
  made->self_first = base + view->self_first;
  made->self_last = base + view->query_first;
  made->range_first = (int32_t)decoder->n_range;
  made->n_range = view->n_range;
  decoder->n_range += view->n_range;
}

static void add_row(decoder *decoder, int64_t s, int32_t row) {
  int64_t n = decoder->n_row++;
  decoder->tokens[n] = decoder->slots[s].tokens[row];
  decoder->positions[n] = row;
  decoder->cache_rows[n] = (int32_t)(s * decoder->slot_rows) + row;
}

static void ask_logits(decoder *decoder, int64_t s) {
  decoder->logit_rows[decoder->n_logit_row] = (int32_t)(decoder->n_row - 1);
  decoder->logit_slots[decoder->n_logit_row++] = (int32_t)s;
}

static int32_t rows_of_views(const span_view *view, const span_range *ranges, int32_t row) {
  span_view own = *view;
  own.range_first = 0;
  return span_view_rows(&own, ranges, row);
}

// The whole prompt of slot `s`: the preamble's view and each context segment's.
static ss_status add_prompt(decoder *decoder, int64_t s, ss_error *error) {
  decode_slot *slot = &decoder->slots[s];
  const span_layout *layout = &slot->tracker.layout;
  int32_t capacity = 2 * span_range_capacity(layout);
  int64_t q_base = decoder->n_row;
  for (int32_t segment = -1; segment < layout->n_segment; ++segment) {
    span_view views[2];
    int32_t n_range = 0;
    SS_TRY(reserve_batch(decoder, slot->request.n_prompt, 2, capacity, error));
    int64_t first_range = decoder->n_range;
    span_range *ranges = decoder->ranges + first_range;
    int32_t n_view = span_views_of(&slot->tracker.policy, layout, segment, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; ++v) {
      const span_range *own = ranges + views[v].range_first;
      for (int32_t row = views[v].query_first; row < views[v].query_end; ++row) {
        slot->next_rows = rows_of_views(&views[v], own, row);
        slot->prefill_rows += slot->next_rows;
      }
      add_view(decoder, s, &views[v], q_base + views[v].query_first);
    }
  }
  slot->prefill_rows -= slot->next_rows;  // the last query produces the first generated token
  for (int32_t row = 0; row < slot->request.n_prompt; ++row)
    add_row(decoder, s, row);
  ask_logits(decoder, s);
  return SS_OK;
}

// The last token of slot `s`, reading what the tracker (or a control in its place) says.
static ss_status add_token(decoder *decoder, int64_t s, ss_error *error) {
  decode_slot *slot = &decoder->slots[s];
  const span_tracker *tracker = &slot->tracker;
  int32_t row = tracker->n_row - 1;
  int32_t capacity = span_range_capacity(&tracker->layout);
  int control = decoder->options.control;
  bool replaced = control == DECODE_RECENCY || control == DECODE_RANDOM || control == DECODE_WINDOW;
  if (replaced)
    capacity += span_control_capacity(row);
  SS_TRY(reserve_batch(decoder, 1, 1, capacity, error));
  span_range *ranges = decoder->ranges + decoder->n_range;
  span_view view = span_tracker_visible(tracker, replaced ? decoder->scratch : ranges);
  if (replaced) {
    span_control kind = control == DECODE_RECENCY  ? SPAN_CONTROL_RECENCY
                        : control == DECODE_RANDOM ? SPAN_CONTROL_RANDOM
                                                   : SPAN_CONTROL_WINDOW;
    uint64_t seed = ss_hash64((uint64_t)decoder->options.seed, (uint64_t)slot->request.index, 1);
    view = span_control_visible(kind, &view, decoder->scratch,
                                tracker->layout.segments[tracker->layout.n_segment - 1].first,
                                (int32_t)decoder->options.n_sink, seed, ranges);
  }
  slot->next_rows = span_view_rows(&view, ranges, row);
  add_view(decoder, s, &view, decoder->n_row);
  add_row(decoder, s, row);
  ask_logits(decoder, s);
  return SS_OK;
}

static ss_status run_batch(decoder *decoder, ss_error *error) {
  gpt_inference_batch batch = {decoder->n_row,      decoder->tokens,  decoder->positions,
                               decoder->cache_rows, decoder->views,   decoder->n_view,
                               decoder->ranges,     decoder->n_range, decoder->logit_rows,
                               decoder->n_logit_row};
  return gpt_infer(decoder->model, decoder->cache, &batch, decoder->logits, error);
}

// --- choosing tokens ---

static int32_t choose_token(decoder *decoder, decode_slot *slot, const float *logits,
                            double *log_probability) {
  int32_t forced = decode_slot_forced(slot, decoder->options.control);
  *log_probability = 0;
  if (forced >= 0)
    return forced;
  const uint8_t *allowed = NULL;
  if (decoder->options.constrain) {
    int any = 0;
    for (int32_t token = 0; token < decoder->vocab_size; ++token)
      any |= decoder->allowed[token] = (uint8_t)span_token_allowed(&slot->tracker, token);
    if (any)
      allowed = decoder->allowed;
  }
  int32_t token = sampler_choose(decoder->sampler, logits, allowed, &slot->random, log_probability);
  return decoder->options.constrain ? span_corrected(&slot->tracker, token) : token;
}

static ss_status deliver(const decode_slot *slot, decode_stop stop, bool trace, decode_sink sink, void *user,
                         ss_error *error) {
  decode_result result = {0};
  result.index = slot->request.index;
  result.tokens = slot->tokens;
  result.n_prompt = slot->request.n_prompt;
  result.n_token = slot->tracker.n_row;
  result.rows = trace ? slot->rows : NULL;
  result.stop = stop;
  result.malformed = slot->tracker.malformed;
  result.layout = slot->tracker.layout;
  result.attended_rows = slot->attended_rows;
  result.prefill_rows = slot->prefill_rows;
  result.log_probability = slot->log_probability;
  return sink(user, &result, error);
}

// One token for every sequence of the batch that just ran; finished ones are handed out and leave their slot.
static ss_status advance(decoder *decoder, decode_sink sink, void *user, decode_statistics *statistics,
                         double *sink_seconds, ss_error *error) {
  for (int64_t k = 0; k < decoder->n_logit_row; ++k) {
    decode_slot *slot = &decoder->slots[decoder->logit_slots[k]];
    double log_probability;
    int32_t token = choose_token(decoder, slot, decoder->logits + k * decoder->vocab_size, &log_probability);
    bool finished;
    decode_stop stop = DECODE_STOP_EOS;
    decode_slot_push(slot, token, log_probability, &finished, &stop);
    if (decoder->watch != NULL && !(finished && stop == DECODE_STOP_ANCHORS))
      decoder->watch(decoder->watch_user, slot->request.index, token, slot->next_rows);
    if (!finished)
      continue;
    slot->active = false;
    statistics->generated_tokens += slot->tracker.n_row - slot->request.n_prompt;
    statistics->decode_attended_rows += slot->attended_rows;
    statistics->prefill_attended_rows += slot->prefill_rows;
    ++statistics->n_sequence;
    double start = ss_seconds();
    SS_TRY(deliver(slot, stop, decoder->options.trace_rows, sink, user, error));
    *sink_seconds += ss_seconds() - start;
  }
  return SS_OK;
}

// Fills free slots from the source and prefills them, in calls of at most PREFILL_TOKENS (or one prompt).
static ss_status refill(decoder *decoder, decode_source source, void *user, bool *exhausted,
                        decode_statistics *statistics, double *source_seconds, ss_error *error) {
  clear_batch(decoder);
  for (int64_t s = 0; s < decoder->options.max_batch && !*exhausted; ++s) {
    if (decoder->slots[s].active)
      continue;
    decode_request request = {0};
    double start = ss_seconds();
    SS_TRY(source(user, &request, exhausted, error));
    *source_seconds += ss_seconds() - start;
    if (*exhausted)
      break;
    SS_TRY(decode_slot_start(&decoder->slots[s], &request, vocabulary_span_tokens(decoder->vocabulary),
                             &decoder->policy, decoder->arm, &decoder->options, decoder->slot_rows, error));
    SS_TRY(add_prompt(decoder, s, error));
    statistics->prefill_tokens += request.n_prompt;
    if (decoder->n_row >= PREFILL_TOKENS)
      break;
  }
  return SS_OK;
}

ss_status decoder_run(decoder *decoder, decode_source source, decode_sink sink, void *user,
                      decode_statistics *statistics, ss_error *error) {
  bool exhausted = false;
  for (int64_t s = 0; s < decoder->options.max_batch; ++s)
    decoder->slots[s].active = false;
  int64_t attended_before = statistics->decode_attended_rows;
  for (;;) {
    // New sequences first: they join the others' decoding at once.
    double start = ss_seconds(), outside = 0;
    SS_TRY(refill(decoder, source, user, &exhausted, statistics, &outside, error));
    bool prefill = decoder->n_logit_row > 0;
    if (!prefill) {
      clear_batch(decoder);
      for (int64_t s = 0; s < decoder->options.max_batch; ++s)
        if (decoder->slots[s].active)
          SS_TRY(add_token(decoder, s, error));
      if (decoder->n_logit_row == 0)
        break;
      ++statistics->steps;
    }
    double planned = ss_seconds();
    SS_TRY(run_batch(decoder, error));
    double ran = ss_seconds(), sink_seconds = 0;
    SS_TRY(advance(decoder, sink, user, statistics, &sink_seconds, error));
    double end = ss_seconds();
    // The caller's time (reading prompts, scoring results) is not the decoder's.
    double host = planned - start - outside + end - ran - sink_seconds;
    statistics->host_seconds += host;
    *(prefill ? &statistics->prefill_seconds : &statistics->decode_seconds) += host + ran - planned;
  }
  statistics->kv_bytes_read += (statistics->decode_attended_rows - attended_before) *
                               gpt_cache_bytes_per_row(decoder->cache);
  return SS_OK;
}
