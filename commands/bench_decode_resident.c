// Decoding steps that the device takes alone: forward, choosing a token for every sequence, tracker, lists of visible
// rows and the attention's plan are one graph, launched again and again without waiting.
//
// The rows that an arm reads come from a layout: the prompt is cut into context segments, by turns passed over and
// read, and one open step refers to those that are read. Its body goes on for as long as steps are taken: the span
// tokens lie outside of the vocabulary, so nothing that is generated closes it.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench_decode.h"
#include "common/memory.h"
#include "common/progress.h"

#define WARM_SECONDS 1.0
enum { RUNS = 7, REPEATS = 20, WARMUP = 3, PAIRS_MOST = 8, CHECKED_STEPS = 2 };

typedef struct {
  decode_work *work;
  const ss_sequence_ops *ops;
  gpt_decode *decode;
  ss_sequences *sequences;
  ss_sequences_inputs inputs;
  ss_graph *graph;  // NULL: not recorded yet
  // Storage of one sequence: segments and references [capacity], tokens and rows [slot_rows].
  int32_t capacity;
  span_segment *segments;
  int32_t *references, *tokens, *rows;
} decode_resident;

// SS_OP for the operations on sequences, which lie in a table of their own.
#define SEQUENCES_OP(r, error, op, ...)                                        \
  do {                                                                         \
    if ((r)->ops->op((r)->work->device, (r)->sequences, __VA_ARGS__) != SS_OK) \
      return ss_device_error((r)->work->device, (error));                      \
  } while (0)

// --- sequences ---
static void add_segment(span_layout *layout, int32_t first, int32_t end, bool read) {
  int32_t s = layout->n_segment++;
  layout->segments[s] = (span_segment){.first = first,
                                       .header_end = first,
                                       .body_first = first,
                                       .end = end,
                                       .anchor = end - 1,
                                       .referenced_by = SPAN_ROW_OPEN,
                                       .kind = SPAN_CONTEXT};
  if (read)
    layout->references[layout->n_reference++] = s;
}

// The layout whose open step reads what the view of sequence `b` reads.
static void lay_out(const decode_resident *r, int64_t b, span_layout *layout) {
  const decode_work *work = r->work;
  const ss_attention_view *view = &work->views[b];
  int32_t base = (int32_t)(b * work->slot_rows), context = (int32_t)work->options->context, row = 0;
  for (int32_t k = 0; k < view->n_range; ++k) {
    span_range range = work->ranges[view->range_first + k];
    if (range.first - base > row)
      add_segment(layout, row, range.first - base, false);
    add_segment(layout, range.first - base, range.end - base, true);
    row = range.end - base;
  }
  if (context > row)
    add_segment(layout, row, context, false);
  int32_t s = layout->n_segment;
  add_segment(layout, context, context, false);
  span_segment *step = &layout->segments[s];
  step->kind = SPAN_STEP;
  step->anchor = -1;
  step->n_reference = layout->n_reference;
  for (int32_t k = 0; k < layout->n_reference; ++k)
    layout->segments[layout->references[k]].referenced_by = s;
}

// A sequence that is to choose its first token, which is forced to be 0 as in the host path.
static span_sequence make_sequence(const decode_resident *r, int64_t b, int32_t limit) {
  static const int32_t gold[1] = {0};
  const decode_bench_options *o = r->work->options;
  int32_t beyond = (int32_t)o->model.vocab_size, context = (int32_t)o->context;
  span_tokens tokens = {beyond + 1, beyond + 2, beyond + 3, beyond + 4, beyond + 5, r->capacity};
  span_policy policy = span_policy_default();
  if (r->work->views[b].self_first == (int32_t)(b * r->work->slot_rows))
    policy.mask = SPAN_MASK_NONE;
  span_sequence sequence = {.tokens = r->tokens,
                            .rows = r->rows,
                            .gold = gold,
                            .n_gold = 1,
                            .force = SPAN_FORCE_ALL,
                            .n_prompt = context,
                            .limit = limit,
                            .active = 1};
  span_tracker *tracker = &sequence.tracker;
  span_tracker_start(tracker, &tokens, &policy, 1, 0, 0, context, r->segments, r->capacity, r->references,
                     r->capacity);
  tracker->n_row = context;
  tracker->state = SPAN_STATE_BODY;
  lay_out(r, b, &tracker->layout);
  return sequence;
}

// All slots anew: after this the first step's inputs are there.
static ss_status start(decode_resident *r, int32_t limit, ss_error *error) {
  int64_t batch = r->work->options->batch;
  for (int64_t b = 0; b < batch; ++b) {
    span_sequence sequence = make_sequence(r, b, limit);
    SEQUENCES_OP(r, error, start, (int32_t)b, &sequence, ss_random_seed(6, (uint64_t)b), 0);
  }
  SEQUENCES_OP(r, error, choose, gpt_decode_logits(r->decode), (ss_tensor){0});
  SEQUENCES_OP(r, error, advance, (ss_tensor){0});
  return SS_OK;
}

// --- the step ---
static ss_status enqueue_step(decode_resident *r, ss_error *error) {
  SS_TRY(gpt_decode_step(r->decode, r->work->options->batch, r->inputs.tokens, r->inputs.positions,
                         r->inputs.cache_rows, r->inputs.plan, error));
  SEQUENCES_OP(r, error, choose, gpt_decode_logits(r->decode), (ss_tensor){0});
  SEQUENCES_OP(r, error, advance, (ss_tensor){0});
  return SS_OK;
}

// Once run, once recorded: what is allocated or timed on the way is done in the first.
static ss_status record(decode_resident *r, ss_error *error) {
  ss_device *device = r->work->device;
  if (r->graph != NULL)
    device->ops->graph_free(device, r->graph);
  r->graph = NULL;
  SS_TRY(start(r, (int32_t)r->work->slot_rows, error));
  SS_TRY(enqueue_step(r, error));
  if (device->ops->graph_begin(device) != SS_OK)
    return ss_device_error(device, error);
  ss_status status = enqueue_step(r, error), ended = device->ops->graph_end(device, &r->graph);
  if (status == SS_OK && ended != SS_OK)
    return ss_device_error(device, error);
  return status;
}

static ss_status launch(decode_resident *r, int64_t times, ss_error *error) {
  for (int64_t k = 0; k < times; ++k)
    SS_OP(r->work->device, error, graph_launch, r->graph);
  return SS_OK;
}

static ss_status ready(decode_resident *r, ss_error *error) {
  ss_device *device = r->work->device;
  return r->graph != NULL && device->ops->graph_valid(device, r->graph) ? SS_OK : record(r, error);
}

// Every sequence must have taken part in every step.
static ss_status check_rows(decode_resident *r, int64_t expected, bool active, ss_error *error) {
  const ss_sequence_status *status = NULL;
  SEQUENCES_OP(r, error, take_status, 0);
  SEQUENCES_OP(r, error, wait_status, 0, &status);
  for (int64_t b = 0; b < r->work->options->batch; ++b)
    if (status[b].n_row != expected || (status[b].active != 0) != active)
      return ss_fail(error, SS_ERROR_INTERNAL, "sequence %lld is %s at %d rows, expected %s at %lld",
                     (long long)b, status[b].active ? "active" : "stopped", status[b].n_row,
                     active ? "active" : "stopped", (long long)expected);
  return SS_OK;
}

// seconds[0..2]: of one of the timed steps by the wall clock, by the device's stamps, and of its launch.
static ss_status time_run(decode_resident *r, double seconds[3], ss_error *error) {
  decode_work *work = r->work;
  const decode_bench_options *o = work->options;
  ss_device *device = work->device;
  SS_TRY(ready(r, error));
  SS_TRY(start(r, (int32_t)work->slot_rows, error));
  SS_TRY(launch(r, o->warmup, error));
  SS_TRY(decode_wait(work, error));
  double begin = ss_seconds();
  SS_OP(device, error, stamp, 0);
  SS_TRY(launch(r, o->steps, error));
  SS_OP(device, error, stamp, 1);
  double launched = ss_seconds();
  SS_TRY(decode_wait(work, error));
  double end = ss_seconds();
  SS_OP(device, error, stamp_seconds, 0, 1, &seconds[1]);
  seconds[0] = (end - begin) / (double)o->steps;
  seconds[1] /= (double)o->steps;
  seconds[2] = (launched - begin) / (double)o->steps;
  return check_rows(r, o->context + 1 + o->warmup + o->steps, true, error);
}

static ss_status time_steps(decode_resident *r, decode_resident_timings *timings, ss_error *error) {
  double all[3][RUNS], seconds[3];
  // The first steps are slower: new memory, clocks that rise.
  double warm = ss_seconds() + WARM_SECONDS;
  do {
    SS_TRY(time_run(r, seconds, error));
  } while (ss_seconds() < warm);
  for (int k = 0; k < RUNS; ++k) {
    SS_TRY(time_run(r, seconds, error));
    for (int i = 0; i < 3; ++i)
      all[i][k] = seconds[i];
  }
  bench_summarize(all[0], RUNS, &timings->step);
  bench_summarize(all[1], RUNS, &timings->device);
  bench_summarize(all[2], RUNS, &timings->enqueue);
  return SS_OK;
}

// --- parts ---
// Several calls in a row behind work that hides their launches. Choosing the same tokens again changes nothing; what
// advancing takes is the difference that it makes.
static ss_status time_parts(decode_resident *r, decode_resident_timings *timings, ss_error *error) {
  decode_work *work = r->work;
  const decode_bench_options *o = work->options;
  ss_device *device = work->device;
  ss_tensor logits = gpt_decode_logits(r->decode), all = {0};
  int64_t room = o->warmup + o->steps, pairs = room < PAIRS_MOST ? room : PAIRS_MOST;
  double choose[REPEATS], advance[REPEATS];
  SS_TRY(ready(r, error));
  for (int k = -WARMUP; k < REPEATS; ++k) {
    double one = 0, both = 0;
    SS_TRY(start(r, (int32_t)work->slot_rows, error));
    SS_TRY(decode_flush(work, 4, error));
    SEQUENCES_OP(r, error, choose, logits, all);
    SS_OP(device, error, stamp, 0);
    for (int64_t i = 0; i < pairs; ++i)
      SEQUENCES_OP(r, error, choose, logits, all);
    SS_OP(device, error, stamp, 1);
    for (int64_t i = 0; i < pairs; ++i) {
      SEQUENCES_OP(r, error, choose, logits, all);
      SEQUENCES_OP(r, error, advance, all);
    }
    SS_OP(device, error, stamp, 2);
    SS_OP(device, error, stamp_seconds, 0, 1, &one);
    SS_OP(device, error, stamp_seconds, 1, 2, &both);
    if (k >= 0) {
      choose[k] = one / (double)pairs;
      advance[k] = both > one ? (both - one) / (double)pairs : 0;
    }
  }
  bench_summarize(choose, REPEATS, &timings->choose);
  bench_summarize(advance, REPEATS, &timings->advance);
  int64_t taken = o->warmup + o->steps / 2;
  SS_TRY(start(r, (int32_t)work->slot_rows, error));
  SS_TRY(launch(r, taken, error));
  timings->attention_rows = (double)(work->listed_rows + o->batch * (taken + 1));
  return decode_time_attention(work, r->inputs.plan, &timings->attention, error);
}

// --- the check ---
// A few steps to the sequences' end: rows read must add up to what the views say. Leaves the first step's logits.
static ss_status take_checked(decode_resident *r, float *logits, ss_error *error) {
  decode_work *work = r->work;
  const decode_bench_options *o = work->options;
  int64_t room = o->warmup + o->steps, steps = room < CHECKED_STEPS ? room : CHECKED_STEPS;
  ss_tensor from = gpt_decode_logits(r->decode);
  SS_TRY(ready(r, error));
  SS_TRY(start(r, (int32_t)(o->context + 1 + steps), error));
  SS_TRY(launch(r, 1, error));
  SS_OP(work->device, error, download, logits, from.data,
        (size_t)(o->batch * o->model.vocab_size) * sizeof *logits);
  SS_TRY(launch(r, steps - 1, error));
  SS_TRY(check_rows(r, o->context + 1 + steps, false, error));
  int64_t read = 0;
  for (int64_t b = 0; b < o->batch; ++b) {
    span_sequence sequence = make_sequence(r, b, (int32_t)(o->context + 1 + steps));
    SEQUENCES_OP(r, error, result, (int32_t)b, &sequence);
    read += sequence.attended_rows;
  }
  int64_t expected = steps * work->listed_rows + o->batch * steps * (steps + 1) / 2;
  if (read != expected)
    return ss_fail(error, SS_ERROR_INTERNAL, "decoding steps on the device read %lld rows, expected %lld",
                   (long long)read, (long long)expected);
  return SS_OK;
}

// NMSE of the first step's logits to the host path's.
static ss_status compare_paths(decode_resident *r, const float *logits, double *nmse, ss_error *error) {
  decode_work *work = r->work;
  int64_t n = work->options->batch * work->options->model.vocab_size;
  SS_TRY(decode_first_step(work, error));
  double difference = 0, size = 0;
  for (int64_t i = 0; i < n; ++i) {
    double d = (double)logits[i] - (double)work->logits[i];
    difference += d * d;
    size += (double)work->logits[i] * (double)work->logits[i];
  }
  *nmse = difference / size;
  if (!(*nmse <= 1e-3))
    return ss_fail(error, SS_ERROR_NUMERIC,
                   "a decoding step on the device and one of the host differ: NMSE %.3g", *nmse);
  return SS_OK;
}

static ss_status check(decode_resident *r, decode_resident_timings *timings, ss_error *error) {
  decode_work *work = r->work;
  int64_t n = work->options->batch * work->options->model.vocab_size;
  float *both = NULL;  // clean, then poisoned
  SS_TRY(ss_allocate(&both, 2 * n, sizeof *both, "logits", error));
  ss_status status = take_checked(r, both, error);
  if (status == SS_OK)
    status = compare_paths(r, both, &timings->nmse, error);
  if (status == SS_OK)
    status = decode_poison(work, error);
  if (status == SS_OK)
    status = take_checked(r, both + n, error);
  if (status == SS_OK)
    status = decode_compare(work, both, both + n, error);
  free(both);
  return status;
}

// --- all of it ---
static ss_sequences_options sequence_options(const decode_work *work, int32_t n_segment) {
  return (ss_sequences_options){.n_slot = (int32_t)work->options->batch,
                                .slot_rows = (int32_t)work->slot_rows,
                                .n_segment = n_segment,
                                .vocab_size = (int32_t)work->options->model.vocab_size,
                                .shape = gpt_attention_shape(work->model),
                                .top_p = 1,
                                .control = -1,
                                .expected_rows = (int32_t)(decode_mean_rows(work) /
                                                           (double)work->options->batch)};
}

bool decode_resident_serves(decode_work *work) {
  ss_device *device = work->device;
  if (device->ops->sequences == NULL)
    return false;
  ss_sequences_options options = sequence_options(work, 4);
  ss_sequences *sequences = NULL;
  ss_error refused = {0};
  if (device->ops->sequences->create(device, &sequences, &options) != SS_OK) {
    ss_device_error(device, &refused);
    return false;
  }
  device->ops->sequences->release(device, sequences);
  return true;
}

static ss_status create(decode_resident *r, ss_error *error) {
  decode_work *work = r->work;
  const decode_bench_options *o = work->options;
  int32_t most = 0;
  for (int64_t b = 0; b < o->batch; ++b)
    most = work->views[b].n_range > most ? work->views[b].n_range : most;
  r->capacity = 2 * most + 4;
  SS_TRY(ss_allocate(&r->segments, r->capacity, sizeof *r->segments, "segments", error));
  SS_TRY(ss_allocate(&r->references, r->capacity, sizeof *r->references, "references", error));
  SS_TRY(ss_allocate(&r->tokens, work->slot_rows, sizeof *r->tokens, "tokens", error));
  SS_TRY(ss_allocate(&r->rows, work->slot_rows, sizeof *r->rows, "rows", error));
  SS_TRY(gpt_decode_create(&r->decode, work->model, work->cache, o->batch, error));
  ss_sequences_options options = sequence_options(work, r->capacity);
  if (r->ops->create(work->device, &r->sequences, &options) != SS_OK)
    return ss_device_error(work->device, error);
  r->inputs = r->ops->inputs(work->device, r->sequences);
  return SS_OK;
}

ss_status decode_measure_resident(decode_work *work, decode_resident_timings *timings, ss_error *error) {
  ss_device *device = work->device;
  decode_resident r = {.work = work, .ops = device->ops->sequences};
  ss_status status = create(&r, error);
  if (status == SS_OK)
    status = time_steps(&r, timings, error);
  if (status == SS_OK)
    status = time_parts(&r, timings, error);
  if (status == SS_OK)
    status = check(&r, timings, error);
  if (r.graph != NULL)
    device->ops->graph_free(device, r.graph);
  if (r.sequences != NULL)
    r.ops->release(device, r.sequences);
  gpt_decode_free(r.decode);
  free(r.segments);
  free(r.references);
  free(r.tokens);
  free(r.rows);
  return status;
}
