#include "eval/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"
#include "eval/compare.h"
#include "eval/items.h"

#define BLOCK_EXAMPLES 64        // read from the store at once
#define ANCHOR_STREAM 0x616E63u  // the anchor offsets' random stream

// --- counting ---

static void add_malformed(span_malformed *sum, const span_malformed *more) {
  sum->unknown_reference += more->unknown_reference;
  sum->duplicate_reference += more->duplicate_reference;
  sum->unordered_reference += more->unordered_reference;
  sum->wrong_anchor += more->wrong_anchor;
  sum->unclosed_segment += more->unclosed_segment;
  sum->long_header += more->long_header;
  sum->stray_token += more->stray_token;
}

static void add_item(eval_counts *counts, const eval_item *item) {
  bool all_exact = item->headers > 0 && item->headers_exact == item->headers;
  counts->items++;
  counts->correct += item->correct;
  counts->score_sum += item->score;
  counts->steps_gold += item->steps_gold;
  counts->steps_correct += item->steps_correct;
  counts->steps_written += item->steps_written;
  counts->derivations_exact += item->correct && item->steps_correct == item->steps_gold &&
                               item->steps_written == item->steps_gold;
  counts->references_gold += item->references_gold;
  counts->references_written += item->references_written;
  counts->references_right += item->references_right;
  counts->headers += item->headers;
  counts->headers_exact += item->headers_exact;
  counts->all_exact_items += all_exact;
  counts->all_exact_correct += all_exact && item->correct;
  counts->malformed_items += span_malformed_total(&item->malformed) > 0 || item->stop != DECODE_STOP_EOS;
  counts->unfinished_items += item->stop != DECODE_STOP_EOS;
  counts->generated_tokens += item->generated_tokens;
  counts->attended_rows += item->attended_rows;
  counts->prefill_rows += item->prefill_rows;
  add_malformed(&counts->malformed, &item->malformed);
}

void eval_result_add(eval_result *result, const eval_item *item) {
  add_item(&result->all, item);
  add_item(&result->groups[item->group], item);
}

ss_status eval_result_keep(eval_result *result, const eval_item *item, ss_error *error) {
  SS_TRY(ss_grow(&result->items, &result->item_capacity, result->n_item + 1, sizeof *item, "items", error));
  result->items[result->n_item++] = *item;
  return SS_OK;
}

ss_status eval_result_sample(eval_result *result, int64_t index, eval_written *written, ss_error *error) {
  SS_TRY(ss_grow(&result->samples, &result->sample_capacity, result->n_sample + 1, sizeof *result->samples,
                 "samples", error));
  result->samples[result->n_sample++] = (eval_sample){index, *written};
  memset(written, 0, sizeof *written);
  return SS_OK;
}

static int by_index(const void *a, const void *b) {
  int64_t x = ((const eval_item *)a)->index, y = ((const eval_item *)b)->index;
  return (x > y) - (x < y);
}

static int by_sample_index(const void *a, const void *b) {
  int64_t x = ((const eval_sample *)a)->index, y = ((const eval_sample *)b)->index;
  return (x > y) - (x < y);
}

void eval_result_settle(eval_result *result) {
  if (result->n_sample > 1)
    qsort(result->samples, (size_t)result->n_sample, sizeof *result->samples, by_sample_index);
  if (result->n_item == 0 || result->n_item != result->all.items)
    return;
  qsort(result->items, (size_t)result->n_item, sizeof *result->items, by_index);
  result->all.score_sum = 0;
  for (int g = 0; g < EVAL_N_GROUP; g++)
    result->groups[g].score_sum = 0;
  for (int64_t i = 0; i < result->n_item; i++) {
    result->all.score_sum += result->items[i].score;
    result->groups[result->items[i].group].score_sum += result->items[i].score;
  }
}

void eval_result_free(eval_result *result) {
  free(result->items);
  result->items = NULL;
  result->n_item = result->item_capacity = 0;
  for (int64_t k = 0; k < result->n_sample; k++)
    eval_written_free(&result->samples[k].written);
  free(result->samples);
  result->samples = NULL;
  result->n_sample = result->sample_capacity = 0;
}

// --- the sequences under way ---

// One example between its request and its result: the decoder reads the prompt, the scorer the gold.
typedef struct {
  bool busy;
  int64_t order;  // of the request
  int64_t index;
  int32_t anchor_offset;
  example gold;
  rendering annotated, rendered;
} pending;

typedef struct {
  const eval_request *request;
  eval_source source;
  void *source_user;
  eval_result *result;
  pending **pool;  // grown to the decoder's batch
  int64_t n_pool, pool_capacity;
  int64_t n_requested, n_finished;
  decoder *decoder;
  bool recalling;  // the result is of an earlier run
  eval_written written;
  eval_item_queue queue;
  ss_progress progress;
} evaluation;

static ss_status free_pending(evaluation *run, pending **out, ss_error *error) {
  for (int64_t k = 0; k < run->n_pool; k++)
    if (!run->pool[k]->busy) {
      *out = run->pool[k];
      return SS_OK;
    }
  SS_TRY(
      ss_grow(&run->pool, &run->pool_capacity, run->n_pool + 1, sizeof(pending *), "evaluation pool", error));
  SS_TRY(ss_allocate(&run->pool[run->n_pool], 1, sizeof(pending), "evaluation slot", error));
  *out = run->pool[run->n_pool++];
  return SS_OK;
}

static int32_t draw_anchor_offset(const eval_request *request, int64_t index, int32_t n_segment) {
  int32_t room = vocabulary_span_tokens(request->vocabulary)->n_anchor - n_segment;
  if (!request->random_anchor_offset || room <= 0)
    return 0;
  ss_random random = ss_random_seed(ss_hash64((uint64_t)request->decode.seed, ANCHOR_STREAM, 0),
                                    (uint64_t)index);
  return (int32_t)ss_random_below(&random, (uint64_t)room + 1);
}

// The next example that is asked for, not yet busy.
static ss_status next_example(evaluation *run, pending **out, bool *done, ss_error *error) {
  const eval_request *request = run->request;
  pending *slot;
  *done = request->max_items > 0 && run->n_requested == request->max_items;
  if (*done)
    return SS_OK;
  SS_TRY(free_pending(run, &slot, error));
  *out = slot;
  for (;;) {
    SS_TRY(run->source(run->source_user, &slot->gold, &slot->annotated, &slot->index, done, error));
    if (*done)
      return SS_OK;
    int32_t group = eval_group(request->task, &slot->gold);
    if (group >= request->group_low && group <= request->group_high)
      return SS_OK;
  }
}

static ss_status make_request(evaluation *run, pending *slot, decode_request *out, ss_error *error) {
  const eval_request *request = run->request;
  slot->anchor_offset = draw_anchor_offset(request, slot->index, slot->annotated.layout.n_segment);
  SS_TRY(render_arm(&slot->rendered, &slot->annotated, request->arm, request->vocabulary, slot->anchor_offset,
                    error));
  slot->busy = true;
  slot->order = run->n_requested++;
  const rendering *rendered = &slot->rendered;
  memset(out, 0, sizeof *out);
  out->index = slot->index;
  out->prompt = rendered->tokens;
  out->n_prompt = rendered->prompt_end;
  out->preamble_end = rendered->layout.preamble_end;
  out->anchor_offset = slot->anchor_offset;
  if (request->decode.control == DECODE_ORACLE || request->decode.control == DECODE_REPLAY) {
    out->gold = rendered->tokens + rendered->prompt_end;
    out->n_gold = (int32_t)(rendered->n_token - rendered->prompt_end);
  }
  return SS_OK;
}

static ss_status take_result(void *user, const decode_result *result, ss_error *error);

static ss_status recall(evaluation *run, const decode_request *request, const eval_kept_sequence *sequence,
                        ss_error *error) {
  run->recalling = true;
  ss_status status = decoder_recall(run->decoder, request, &sequence->kept, take_result, run, error);
  run->recalling = false;
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s", run->request->kept->path);
}

// What was kept of an earlier run is scored on the way.
static ss_status next_request(void *user, decode_request *out, bool *done, ss_error *error) {
  evaluation *run = user;
  const eval_kept *kept = run->request->kept;
  pending *slot;
  for (;;) {
    SS_TRY(next_example(run, &slot, done, error));
    if (*done)
      return SS_OK;
    SS_TRY(make_request(run, slot, out, error));
    const eval_kept_sequence *sequence = kept == NULL ? NULL : eval_kept_find(kept, slot->index);
    if (sequence == NULL)
      return SS_OK;
    SS_TRY(recall(run, out, sequence, error));
  }
}

static pending *find_pending(evaluation *run, int64_t index) {
  for (int64_t k = 0; k < run->n_pool; k++)
    if (run->pool[k]->busy && run->pool[k]->index == index)
      return run->pool[k];
  return NULL;
}

static void measure(eval_item *item, const decode_result *result, int64_t index) {
  item->index = index;
  item->stop = result->stop;
  item->malformed = result->malformed;
  item->generated_tokens = result->n_token - result->n_prompt;
  item->attended_rows = result->attended_rows;
  item->prefill_rows = result->prefill_rows;
}

static ss_status take_result(void *user, const decode_result *result, ss_error *error) {
  evaluation *run = user;
  const eval_request *request = run->request;
  pending *slot = find_pending(run, result->index);
  if (slot == NULL)
    return ss_fail(error, SS_ERROR_INTERNAL,
                   "evaluation: the decoder returned item %lld, which is not under way",
                   (long long)result->index);
  if (request->kept != NULL && !run->recalling)
    SS_TRY(eval_kept_add(request->kept, result, error));
  eval_item item = {0};
  measure(&item, result, slot->index);
  SS_TRY(eval_written_cut(&run->written, result, request->vocabulary, slot->anchor_offset,
                          arm_has_headers(request->arm), error));
  SS_TRY(eval_compare(&slot->gold, &run->written, request->task, &item, error));
  eval_result *total = run->result;
  eval_result_add(total, &item);
  if (request->keep_items || request->task->n_metric > 0)
    SS_TRY(eval_result_keep(total, &item, error));
  if (request->items != NULL) {
    char *line = NULL;
    SS_TRY(eval_item_line(&line, &item, request->task, &slot->gold, result, &run->written,
                          request->vocabulary, error));
    SS_TRY(eval_item_queue_put(&run->queue, slot->order, line, error));
  }
  if (slot->order < request->n_sample)
    SS_TRY(eval_result_sample(total, slot->index, &run->written, error));
  slot->busy = false;
  run->n_finished++;
  char note[48];
  double items = (double)total->all.items;
  if (request->task->open_ended)
    snprintf(note, sizeof note, "%s %.4f", request->task->score_name, total->all.score_sum / items);
  else
    snprintf(note, sizeof note, "accuracy %.1f%%", 100.0 * (double)total->all.correct / items);
  ss_progress_update(&run->progress, run->n_finished, note);
  return SS_OK;
}

// --- running ---

static ss_status run_decoder(evaluation *run, ss_error *error) {
  const eval_request *request = run->request;
  decoder *decoder = NULL;
  SS_TRY(decoder_create(&decoder, request->model, request->vocabulary, request->arm, &request->policy,
                        &request->decode, gpt_get_config(request->model)->n_positions, error));
  decoder_set_stop(decoder, request->stop);
  run->decoder = decoder;
  ss_status status = decoder_run(decoder, next_request, take_result, run, &run->result->speed, error);
  run->result->slots = decoder_slots(decoder);
  snprintf(run->result->decoder, sizeof run->result->decoder, "%s", decoder_description(decoder));
  decoder_free(decoder);
  return status;
}

ss_status evaluate_examples(const eval_request *request, eval_source source, void *user, int64_t total,
                            eval_result *result, ss_error *error) {
  memset(result, 0, sizeof *result);
  snprintf(result->label, sizeof result->label, "%s", request->label);
  result->arm = request->arm;
  result->control = request->decode.control;
  result->task = request->task;
  result->group_name = request->task->group_name;
  result->score_name = request->task->score_name;
  result->decoded = true;
  evaluation run = {.request = request, .source = source, .source_user = user, .result = result};
  eval_item_queue_start(&run.queue, request->items);
  ss_progress_start(&run.progress, result->label, "examples", 0, total, request->quiet);
  ss_status status = run_decoder(&run, error);
  ss_error ignored = {0};
  if (request->kept != NULL) {
    ss_status added = eval_kept_add_speed(request->kept, &result->speed, status == SS_OK ? error : &ignored);
    status = status == SS_OK ? added : status;
  }
  if (status == SS_OK)
    ss_progress_finish(&run.progress, run.n_finished, NULL);
  if (status == SS_OK)
    eval_result_settle(result);
  for (int64_t k = 0; k < run.n_pool; k++) {
    example_free(&run.pool[k]->gold);
    rendering_free(&run.pool[k]->annotated);
    rendering_free(&run.pool[k]->rendered);
    free(run.pool[k]);
  }
  free(run.pool);
  eval_written_free(&run.written);
  eval_item_queue_free(&run.queue);
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s", result->label);
}

// --- a store as the source ---

typedef struct {
  store *data;
  int64_t next, block_first, block_count;
  example examples[BLOCK_EXAMPLES];
  rendering renderings[BLOCK_EXAMPLES];
} store_source;

static ss_status next_of_store(void *user, example *gold, rendering *annotated, int64_t *index, bool *done,
                               ss_error *error) {
  store_source *source = user;
  int64_t total = store_n_example(source->data);
  *done = source->next >= total;
  if (*done)
    return SS_OK;
  if (source->next >= source->block_first + source->block_count) {
    source->block_first = source->next;
    source->block_count = total - source->next < BLOCK_EXAMPLES ? total - source->next : BLOCK_EXAMPLES;
    SS_TRY(store_read(source->data, source->block_first, source->block_count, source->examples,
                      source->renderings, error));
  }
  // Content is exchanged, not copied: the block reuses the storage that it gets back.
  int64_t k = source->next - source->block_first;
  example taken = source->examples[k];
  source->examples[k] = *gold;
  *gold = taken;
  rendering rendered = source->renderings[k];
  source->renderings[k] = *annotated;
  *annotated = rendered;
  *index = source->next++;
  return SS_OK;
}

static ss_status check_vocabularies(const eval_request *request, const store *data, ss_error *error) {
  const vocabulary *own = request->vocabulary, *other = store_vocabulary(data);
  if (vocabulary_hash(own) == vocabulary_hash(other))
    return SS_OK;
  return ss_fail(
      error, SS_ERROR_INPUT,
      "%s: the model's vocabulary (%d tokens, %d anchors) is not the dataset's (%d tokens, %d anchors, task "
      "%s); evaluate on data made with the model's vocabulary",
      request->label, vocabulary_size(own), vocabulary_span_tokens(own)->n_anchor, vocabulary_size(other),
      vocabulary_span_tokens(other)->n_anchor, store_task(data));
}

ss_status evaluate_store(const eval_request *request, store *data, eval_result *result, ss_error *error) {
  memset(result, 0, sizeof *result);
  SS_TRY(check_vocabularies(request, data, error));
  store_source *source = NULL;
  SS_TRY(ss_allocate(&source, 1, sizeof *source, "examples", error));
  source->data = data;
  bool whole = request->group_low <= 0 && request->group_high >= EVAL_N_GROUP - 1;
  int64_t total = whole ? store_n_example(data) : 0;
  if (request->max_items > 0 && (total == 0 || total > request->max_items))
    total = request->max_items;
  ss_status status = evaluate_examples(request, next_of_store, source, total, result, error);
  for (int64_t k = 0; k < BLOCK_EXAMPLES; k++) {
    example_free(&source->examples[k]);
    rendering_free(&source->renderings[k]);
  }
  free(source);
  if (status == SS_OK && result->all.items == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: none of the %lld examples has %lld to %lld %s", request->label,
                   (long long)store_n_example(data), (long long)request->group_low,
                   (long long)request->group_high, request->task->group_name);
  return status;
}
