// Sequences on the device: after every step, trackers, inputs, ranges and items equal what the host makes of the same
// tokens, and attention over the resident plan gives the bits of a plan made on the host.
#include "tests/cuda_fixture.h"
#include "tests/span_fixture.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/sequences.h"
#include "span/control.h"

enum { TEXT = 4, OPEN = TEXT, COLON, ANSWER, EOS, ANCHOR };  // ids; anchors from the last on

typedef struct {
  int32_t n_slot, slot_rows, n_segment, n_anchor;
  int32_t prompt;  // context rows at most
  int control;
  ss_attention_shape shape;
  ss_precision precision;
  int steps;
} problem;

// A slot on the host: the oracle.
typedef struct {
  span_sequence sequence;
  uint64_t control_seed;
  bool constrained, ever;  // well-formed; started
} host_slot;

typedef struct {
  cuda_fixture *f;
  const problem *p;
  ss_device *gpu;
  const ss_sequence_ops *ops;
  ss_sequences *sequences;
  host_slot *slots;
  int32_t *chosen;
  double *log_probabilities;
  // The host's views of a step.
  ss_attention_view *views;
  span_range *ranges;
  int64_t n_range;
  attention_decode plan;
  ss_graph *graph;  // of advancing every slot
  int step, n_stop[3], most_ranges;
} run;

#define SEQUENCES(r, op, ...)                                                           \
  do {                                                                                  \
    if ((r)->ops->op((r)->gpu, __VA_ARGS__) != SS_OK)                                   \
      fail_msg("%s: %s (%s, seed %llu)", #op, (r)->gpu->error.message, (r)->f->context, \
               (unsigned long long)(r)->f->seed);                                       \
  } while (0)
#define REFUSED(r, op, part, ...) expect_refusal((r), (r)->ops->op((r)->gpu, __VA_ARGS__), #op, (part))
// A condition about slot s.
#define EXPECT(r, s, condition)                                                                          \
  do {                                                                                                   \
    if (!(condition))                                                                                    \
      fail_msg("slot %d, step %d: %s (%s, seed %llu)", (int)(s), (r)->step, #condition, (r)->f->context, \
               (unsigned long long)(r)->f->seed);                                                        \
  } while (0)

static void expect_refusal(run *r, ss_status status, const char *op, const char *part) {
  if (status == SS_OK || !strstr(r->gpu->error.message, part))
    fail_msg("%s: status %d, \"%s\" (expected \"%s\" in it)", op, status, r->gpu->error.message, part);
  ss_error_clear(&r->gpu->error);
}

static int32_t below(run *r, int64_t n) {
  return (int32_t)ss_random_below(&r->f->random, (uint64_t)n);
}
static void *allocate(int64_t count, size_t size) {
  void *out = calloc((size_t)count + 1, size);
  assert_non_null(out);
  return out;
}
static void download(run *r, void *host, const void *device, size_t bytes) {
  CUDA_RUN(r->f, ON_CUDA, download, host, device, bytes);
}

static void open_run(run *r, cuda_fixture *f, const problem *p) {
  *r = (run){.f = f, .p = p, .gpu = f->device[ON_CUDA]};
  r->ops = &cuda_sequence_ops;
  ss_sequences_options options = {.n_slot = p->n_slot,
                                  .slot_rows = p->slot_rows,
                                  .n_segment = p->n_segment,
                                  .vocab_size = ANCHOR + p->n_anchor,
                                  .shape = p->shape,
                                  .top_p = 1,
                                  .control = p->control,
                                  .n_sink = 3};
  cuda_context(f, "%d slots of %d rows, %d segments, control %d, %d heads of %d", p->n_slot, p->slot_rows,
               p->n_segment, p->control, p->shape.n_head, p->shape.head_dim);
  SEQUENCES(r, create, &r->sequences, &options);
  r->slots = allocate(p->n_slot, sizeof *r->slots);
  r->chosen = allocate(p->n_slot, sizeof *r->chosen);
  r->log_probabilities = allocate(p->n_slot, sizeof *r->log_probabilities);
  r->views = allocate(p->n_slot, sizeof *r->views);
  r->ranges = allocate((int64_t)p->n_slot * (p->slot_rows + 2 * p->n_segment + 8), sizeof *r->ranges);
  for (int32_t s = 0; s < p->n_slot; ++s) {
    span_sequence *sequence = &r->slots[s].sequence;
    sequence->tokens = allocate(p->slot_rows, sizeof(int32_t));
    sequence->rows = allocate(p->slot_rows, sizeof(int32_t));
    sequence->gold = allocate(p->slot_rows, sizeof(int32_t));
    sequence->tracker.layout.segments = allocate(p->n_segment, sizeof(span_segment));
    sequence->tracker.layout.references = allocate(p->slot_rows, sizeof(int32_t));
  }
}

static void close_run(run *r) {
  r->gpu->ops->graph_free(r->gpu, r->graph);
  r->ops->release(r->gpu, r->sequences);
  for (int32_t s = 0; s < r->p->n_slot; ++s) {
    span_sequence *sequence = &r->slots[s].sequence;
    free(sequence->tokens), free(sequence->rows), free((void *)sequence->gold);
    free(sequence->tracker.layout.segments), free(sequence->tracker.layout.references);
  }
  free(r->slots), free(r->chosen), free(r->log_probabilities), free(r->views), free(r->ranges);
  attention_decode_free_host(&r->plan);
  cuda_release_all(r->f);
}

// What the last row of a slot reads.
static span_view visible(run *r, int32_t s, span_range *ranges) {
  const span_tracker *tracker = &r->slots[s].sequence.tracker;
  if (r->p->control < 0)
    return span_tracker_visible(tracker, ranges);
  span_range *selected = allocate(span_range_capacity(&tracker->layout), sizeof *selected);
  span_view view = span_tracker_visible(tracker, selected);
  int32_t last = tracker->layout.n_segment - 1;
  view = span_control_visible((span_control)r->p->control, &view, selected,
                              last >= 0 ? tracker->layout.segments[last].first : 0, 3,
                              r->slots[s].control_seed, ranges);
  free(selected);
  return view;
}

static void check_bytes(run *r, int32_t s, const char *what, const void *on_device, const void *want,
                        size_t bytes) {
  void *got = allocate((int64_t)bytes, 1);
  download(r, got, on_device, bytes);
  if (memcmp(got, want, bytes) != 0)
    fail_msg("slot %d, step %d: %s differ (%s)", s, r->step, what, r->f->context);
  free(got);
}

static void start_slot(run *r, int32_t s) {
  const problem *p = r->p;
  host_slot *slot = &r->slots[s];
  span_sequence *sequence = &slot->sequence, kept = *sequence;
  memset(sequence, 0, sizeof *sequence);
  sequence->tokens = kept.tokens, sequence->rows = kept.rows, sequence->gold = kept.gold;
  span_policy policy = span_fixture_random_policy(&r->f->random);
  policy.max_header = 4 + below(r, 8);
  span_tokens tokens = {OPEN, COLON, ANSWER, EOS, ANCHOR, p->n_anchor};
  int32_t preamble = below(r, 4), most = p->prompt < p->slot_rows - 6 ? p->prompt : p->slot_rows - 6;
  int32_t prompt = 1 +
                   (p->n_segment > 100 || below(r, 2) ? most - below(r, most / 4 + 1) - 1 : below(r, most));
  slot->constrained = below(r, 2);
  slot->control_seed = ss_random_next(&r->f->random);
  int32_t segments = below(r, 5) ? p->n_segment : 1 + below(r, p->n_segment);
  span_tracker_start(&sequence->tracker, &tokens, &policy, below(r, 4) > 0, below(r, p->n_anchor / 4 + 1),
                     preamble, prompt, kept.tracker.layout.segments, segments, kept.tracker.layout.references,
                     below(r, 3) ? p->slot_rows : below(r, 12));
  sequence->n_gold = below(r, p->slot_rows);
  for (int32_t i = 0; i < sequence->n_gold; ++i)
    ((int32_t *)sequence->gold)[i] = below(r, ANCHOR);
  span_tracker *tracker = &sequence->tracker;
  int32_t every = 1 + below(r, p->n_segment > 100 ? 2 : 12);
  for (int32_t row = 0; row < prompt; ++row) {
    int32_t last = tracker->layout.n_segment - 1;
    bool close = tracker->state == SPAN_STATE_BODY && row % every == 0;
    int32_t token = close ? span_own_anchor(tracker, last) : below(r, TEXT);
    if (span_tracker_push(tracker, token) != SPAN_PUSH_OK)
      break;
    sequence->tokens[row] = token;
  }
  sequence->n_prompt = tracker->n_row;
  sequence->limit = tracker->n_row + 1 + below(r, p->slot_rows - tracker->n_row);
  if (below(r, 2))
    sequence->limit = p->slot_rows;
  sequence->active = 1;
  sequence->stop = 7;
  span_view view = span_tracker_visible(tracker, r->ranges);
  sequence->next_rows = span_view_rows(&view, r->ranges, tracker->n_row - 1);
  ss_random random = {r->f->seed, (uint64_t)s};
  SEQUENCES(r, start, r->sequences, s, sequence, random, slot->control_seed);
  check_bytes(r, s, "random", r->sequences->randoms + s, &random, sizeof random);
  slot->ever = true;
}

// --- comparing ---

static void check_sequence(run *r, int32_t s) {
  const span_sequence *want = &r->slots[s].sequence;
  span_sequence got;
  download(r, &got, r->sequences->sequences + s, sizeof got);
  const span_tracker *a = &got.tracker, *b = &want->tracker;
  EXPECT(r, s,
         got.n_gold == want->n_gold && got.gold_next == want->gold_next && got.force == want->force &&
             got.n_prompt == want->n_prompt && got.limit == want->limit);
  EXPECT(r, s, got.active == want->active && got.stop == want->stop && got.next_rows == want->next_rows);
  EXPECT(r, s, got.attended_rows == want->attended_rows && got.log_probability == want->log_probability);
  EXPECT(r, s, a->n_row == b->n_row && a->state == b->state && a->prompt_end == b->prompt_end);
  EXPECT(r, s, memcmp(&a->malformed, &b->malformed, sizeof a->malformed) == 0);
  EXPECT(r, s, memcmp(&a->policy, &b->policy, sizeof a->policy) == 0);
  EXPECT(r, s, a->layout.n_segment == b->layout.n_segment && a->layout.n_reference == b->layout.n_reference);
  size_t size = sizeof(int32_t), n_row = (size_t)b->n_row;
  check_bytes(r, s, "tokens", got.tokens, want->tokens, n_row * size);
  check_bytes(r, s, "rows", got.rows, want->rows, (n_row - (size_t)want->n_prompt) * size);
  check_bytes(r, s, "gold", got.gold, want->gold, (size_t)want->n_gold * size);
  check_bytes(r, s, "references", a->layout.references, b->layout.references,
              (size_t)b->layout.n_reference * size);
  check_bytes(r, s, "segments", a->layout.segments, b->layout.segments,
              (size_t)b->layout.n_segment * sizeof *b->layout.segments);
}

// The host's views of all slots, and its plan.
static void list_views(run *r) {
  const problem *p = r->p;
  ss_error error = {0};
  r->n_range = 0;
  for (int32_t s = 0; s < p->n_slot; ++s) {
    const span_tracker *tracker = &r->slots[s].sequence.tracker;
    int32_t base = s * p->slot_rows;
    ss_attention_view view = {s, 1, 1, 0, (int32_t)r->n_range, 0};  // reads nothing
    if (r->slots[s].sequence.active) {
      span_range *ranges = r->ranges + r->n_range;
      span_view own = visible(r, s, ranges);
      for (int32_t k = 0; k < own.n_range; ++k)
        ranges[k].first += base, ranges[k].end += base;
      view.self_first = base + own.self_first;
      view.self_last = base + tracker->n_row - 1;
      view.n_range = own.n_range;
      r->n_range += own.n_range;
    }
    r->views[s] = view;
  }
  bool serves = false;
  assert_ok(attention_decode_list(&r->plan, r->views, p->n_slot, r->ranges, r->n_range,
                                  (int64_t)p->n_slot * p->slot_rows, &serves, &error));
  assert_true(serves);
  assert_ok(attention_decode_cut(&r->plan, r->sequences->plan->decode.heads,
                                 cuda_of(r->gpu)->n_multiprocessor, 0, &error));
}

static void check_plan(run *r) {
  const attention_decode *want = &r->plan, *got = &r->sequences->plan->decode;
  const attention_decode_range *want_ranges = attention_decode_ranges(want);
  const attention_decode_item *want_items = attention_decode_items(want);
  unsigned char *block = allocate(got->device_bytes, 1);
  uint32_t n_unit;
  download(r, block, got->device_block, (size_t)got->device_bytes);
  download(r, &n_unit, got->device_n_unit, sizeof n_unit);
  const attention_decode_range *ranges = (const attention_decode_range *)(void *)block;
  const attention_decode_item *items = (const attention_decode_item *)(void *)(block + got->item_offset);
  for (int32_t s = 0; s < r->p->n_slot; ++s) {
    const attention_decode_range *own = ranges + s * got->view_ranges;
    int32_t first = want->view_range[s], n_range = want->view_range[s + 1] - first;
    EXPECT(r, s, n_range + DECODE_RANGES_AFTER <= got->view_ranges);
    r->most_ranges = n_range > r->most_ranges ? n_range : r->most_ranges;
    for (int32_t k = 0; k < n_range; ++k) {
      EXPECT(r, s, own[k].first == want_ranges[first + k].first);
      EXPECT(r, s, own[k].start == want_ranges[first + k].start - want->view_row[s]);
    }
    for (int32_t k = 0; k < DECODE_RANGES_AFTER; ++k)
      EXPECT(r, s, own[n_range + k].first == 0 && own[n_range + k].start == INT32_MAX);
  }
  EXPECT(r, -1, want->n_item <= got->n_item && n_unit == want->n_item * got->heads);
  for (int64_t i = 0; i < want->n_item; ++i) {
    const attention_decode_item *a = &items[i], *b = &want_items[i];
    EXPECT(r, b->view, a->n_row == b->n_row && a->query == b->query && a->view == b->view);
    EXPECT(r, b->view, a->item_first == b->item_first && a->n_item == b->n_item);
    EXPECT(r, b->view, a->start == b->start - want->view_row[b->view]);
    if (b->n_row > 0)
      EXPECT(r, b->view, a->range == b->range - want->view_range[b->view] + b->view * got->view_ranges);
  }
  free(block);
}

static void check_inputs(run *r) {
  int32_t n = r->p->n_slot, *got = allocate(3 * n, sizeof *got);
  ss_sequences_inputs inputs = r->ops->inputs(r->gpu, r->sequences);
  const ss_tensor tensors[] = {inputs.tokens, inputs.positions, inputs.cache_rows};
  for (int k = 0; k < 3; ++k) {
    assert_true(cuda_is_integers(tensors[k], n));
    download(r, got + k * n, tensors[k].data, (size_t)n * sizeof *got);
  }
  for (int32_t s = 0; s < n; ++s) {
    const span_sequence *sequence = &r->slots[s].sequence;
    int32_t row = sequence->tracker.n_row - 1;
    EXPECT(r, s, got[s] == (sequence->active ? sequence->tokens[row] : 0));
    EXPECT(r, s, got[n + s] == (sequence->active ? row : 0));
    EXPECT(r, s, got[2 * n + s] == (sequence->active ? s * r->p->slot_rows + row : -1));
  }
  free(got);
}

static void check_status(run *r, int32_t index) {
  const ss_sequence_status *status = NULL;
  SEQUENCES(r, take_status, r->sequences, index);
  SEQUENCES(r, wait_status, r->sequences, index, &status);
  for (int32_t s = 0; s < r->p->n_slot; ++s) {
    const span_sequence *sequence = &r->slots[s].sequence;
    EXPECT(r, s, status[s].active == sequence->active && status[s].n_row == sequence->tracker.n_row);
    EXPECT(r, s, status[s].stop == sequence->stop);
  }
}

static void check_result(run *r, int32_t s) {
  const span_sequence *want = &r->slots[s].sequence;
  span_sequence got = {0};
  bool texts = below(r, 2);
  int32_t *tokens = allocate(want->limit, sizeof *tokens), *rows = allocate(want->limit, sizeof *rows);
  if (texts)
    got.tokens = tokens, got.rows = rows;
  SEQUENCES(r, result, r->sequences, s, &got);
  int32_t n_row = want->tracker.n_row;
  EXPECT(r, s, !got.active && got.stop == want->stop && got.tracker.n_row == n_row);
  EXPECT(r, s, got.attended_rows == want->attended_rows && got.log_probability == want->log_probability);
  if (texts) {
    EXPECT(r, s, memcmp(tokens, want->tokens, (size_t)n_row * sizeof *tokens) == 0);
    EXPECT(r, s, memcmp(rows, want->rows, (size_t)(n_row - want->n_prompt) * sizeof *rows) == 0);
  }
  free(tokens), free(rows);
  ++r->n_stop[want->stop];
}

// Attention over the resident plan gives the bits of the host's, whatever lies in rows that nobody reads.
static void check_attention(run *r) {
  const problem *p = r->p;
  cuda_fixture *f = r->f;
  ss_dtype dtype = f->compute;
  int64_t n_key = (int64_t)p->n_slot * p->slot_rows, q_cols = p->shape.n_head * p->shape.head_dim;
  int64_t k_cols = p->shape.n_kv_head * p->shape.head_dim;
  cuda_pair q = cuda_random(f, "q", p->n_slot, q_cols, dtype, 2);
  cuda_pair kv[2] = {cuda_random(f, "k", n_key, k_cols, dtype, 1),
                     cuda_random(f, "v", n_key, k_cols, dtype, 1)};
  cuda_pair out[3], sums[3];
  ss_tensor none = {0};
  ss_attention_plan *plan = NULL;
  for (int k = 0; k < 3; ++k) {
    out[k] = cuda_output(f, "out", p->n_slot, q_cols, dtype);
    sums[k] = cuda_output(f, "log_sum_exp", p->n_slot, p->shape.n_head, SS_F32);
  }
  CUDA_RUN(f, ON_CUDA, attention_plan, &plan, r->views, p->n_slot, r->ranges, r->n_range, n_key, false);
  CUDA_RUN(f, ON_CUDA, attention_forward, plan, p->shape, out[0].on[1], sums[0].on[1], q.on[1], kv[0].on[1],
           kv[1].on[1]);
  const ss_attention_plan *resident = r->ops->inputs(r->gpu, r->sequences).plan;
  CUDA_RUN(f, ON_CUDA, attention_forward, resident, p->shape, out[1].on[1], sums[1].on[1], q.on[1],
           kv[0].on[1], kv[1].on[1]);
  bool *seen = allocate(n_key, sizeof *seen);
  for (int32_t s = 0; s < p->n_slot; ++s) {
    ss_attention_view view = r->views[s];
    for (int32_t k = 0; k <= view.n_range; ++k) {
      span_range range = {view.self_first, view.self_last + 1};
      if (k < view.n_range)
        range = r->ranges[view.range_first + k];
      for (int32_t row = range.first; row < range.end; ++row)
        seen[row] = true;
    }
  }
  for (int k = 0; k < 2; ++k) {
    float *values = cuda_download_floats(f, ON_CUDA, kv[k].on[1]);
    for (int64_t i = 0; i < n_key * k_cols; ++i)
      if (!seen[i / k_cols])
        values[i] = NAN;
    cuda_upload_floats(f, ON_CUDA, kv[k].on[1], values);
    free(values);
  }
  CUDA_RUN(f, ON_CUDA, attention_forward, resident, p->shape, out[2].on[1], none, q.on[1], kv[0].on[1],
           kv[1].on[1]);
  cuda_check_same(f, "out", out[0].on[1], out[1].on[1]);
  cuda_check_same(f, "out", out[0].on[1], out[2].on[1]);
  cuda_check_same(f, "log_sum_exp", sums[0].on[1], sums[1].on[1]);
  r->gpu->ops->attention_plan_free(r->gpu, plan);
  free(seen);
  cuda_release_all(f);
}

// --- a run ---

// One token for those that are listed: every slot, or some, in any order.
static void step(run *r) {
  const problem *p = r->p;
  int32_t *listed = allocate(2 * p->n_slot, sizeof *listed), n_listed = 0;
  bool every = below(r, 2);
  for (int32_t s = p->n_slot - 1; s >= 0 && !every; --s)
    for (int twice = below(r, 8) == 0; twice >= 0 && below(r, 3); --twice)
      listed[n_listed++] = s;
  for (int32_t s = 0; s < p->n_slot; ++s) {
    bool is_listed = every;
    for (int32_t k = 0; k < n_listed; ++k)
      is_listed |= listed[k] == s;
    r->chosen[s] = r->slots[s].ever ? span_fixture_random_token(&r->slots[s].sequence.tracker,
                                                                r->slots[s].constrained, &r->f->random)
                                    : 1;
    r->log_probabilities[s] = -ss_random_uniform(&r->f->random);
    span_sequence *sequence = &r->slots[s].sequence;
    if (!is_listed || !sequence->active)
      continue;
    span_sequence_push(sequence, r->chosen[s], r->log_probabilities[s]);
    if (!sequence->active)
      continue;
    span_view view = visible(r, s, r->ranges);
    sequence->next_rows = span_view_rows(&view, r->ranges, sequence->tracker.n_row - 1);
  }
  CUDA_RUN(r->f, ON_CUDA, upload, r->sequences->chosen, r->chosen, (size_t)p->n_slot * sizeof *r->chosen);
  CUDA_RUN(r->f, ON_CUDA, upload, r->sequences->chosen_log_probability, r->log_probabilities,
           (size_t)p->n_slot * sizeof *r->log_probabilities);
  ss_tensor slots = {.dtype = SS_I32};
  if (every && below(r, 2)) {
    if (!r->gpu->ops->graph_valid(r->gpu, r->graph)) {  // tensors of the test have been freed
      r->gpu->ops->graph_free(r->gpu, r->graph);
      assert_int_equal(r->gpu->ops->graph_begin(r->gpu), SS_OK);
      SEQUENCES(r, advance, r->sequences, slots);
      CUDA_RUN(r->f, ON_CUDA, graph_end, &r->graph);
    }
    CUDA_RUN(r->f, ON_CUDA, graph_launch, r->graph);
  } else {
    if (!every)
      slots = ss_integers(cuda_integers(r->f, "slots", listed, n_listed).on[ON_CUDA].data, n_listed);
    SEQUENCES(r, advance, r->sequences, slots);
  }
  free(listed);
}

static void check_all(run *r, bool attention) {
  for (int32_t s = 0; s < r->p->n_slot; ++s)
    if (r->slots[s].ever)
      check_sequence(r, s);
  list_views(r);
  check_plan(r);
  check_inputs(r);
  check_status(r, r->step % SS_N_STATUS);
  if (attention)
    check_attention(r);
}

// n_stop[span_stop]: finished sequences, added up.
static void run_problem(cuda_fixture *f, const problem *p, int n_stop[3]) {
  run r;
  open_run(&r, f, p);
  check_all(&r, true);  // all empty
  for (r.step = 1; r.step <= p->steps; ++r.step) {
    for (int32_t s = 0; s < p->n_slot; ++s)
      if (!r.slots[s].sequence.active && below(&r, 3)) {
        if (r.slots[s].ever)
          check_result(&r, s);
        start_slot(&r, s);
      }
    check_status(&r, 0);
    step(&r);
    check_all(&r, r.step % 8 == 1);
    cuda_release_all(f);
  }
  for (int k = 0; k < 3; ++k)
    n_stop[k] += r.n_stop[k];
  assert_true(p->n_segment < 700 || r.most_ranges > 300);  // more than a block has threads
  close_run(&r);
}

static void steps_equal_the_hosts(void **state) {
  (void)state;
  static const problem problems[] = {
      {1, 120, 24, 24, 20, -1, {2, 2, 64, 0.125f}, SS_PRECISION_BF16, 300},
      {3, 200, 30, 30, 60, -1, {3, 1, 16, 0.25f}, SS_PRECISION_BF16, 200},
      {3, 131, 200, 64, 50, -1, {2, 1, 32, 0.2f}, SS_PRECISION_FP32, 60},
      {40, 90, 24, 24, 50, -1, {2, 2, 16, 0.25f}, SS_PRECISION_BF16, 60},
  };
  int n_stop[3] = {0};
  for (size_t i = 0; i < sizeof problems / sizeof *problems; ++i) {
    cuda_fixture f;
    problem p = problems[i];
    if (cuda_small() && !cuda_is_emulated())
      p.steps /= 10;
    cuda_open(&f, p.precision, true);
    run_problem(&f, &p, n_stop);
    cuda_close(&f);
  }
  if (cuda_is_emulated() || !cuda_small())
    assert_true(n_stop[SPAN_STOP_EOS] > 9 && n_stop[SPAN_STOP_LENGTH] > 9 && n_stop[SPAN_STOP_ANCHORS] > 9);
}

static void controls(void **state) {
  (void)state;
  cuda_fixture f;
  int n_stop[3] = {0};
  cuda_open(&f, SS_PRECISION_BF16, true);
  for (int control = SPAN_CONTROL_RECENCY; control <= SPAN_CONTROL_WINDOW; ++control) {
    problem p = {3, 150, 24, 24, 60, control, {2, 2, 16, 0.25f}, SS_PRECISION_BF16, 40};
    run_problem(&f, &p, n_stop);
  }
  cuda_close(&f);
}

// Items of all sizes; more pieces and more slots than a block has threads.
static void many_of_everything(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  static const problem problems[] = {{4, 1400, 700, 1000, 1390, -1, {1, 1, 16, 0.25f}, SS_PRECISION_BF16, 30},
                                     {3, 2500, 40, 40, 2490, -1, {8, 8, 16, 0.25f}, SS_PRECISION_BF16, 4},
                                     {20, 1300, 40, 40, 1290, -1, {8, 8, 16, 0.25f}, SS_PRECISION_BF16, 3},
                                     {300, 40, 12, 12, 20, -1, {1, 1, 16, 0.25f}, SS_PRECISION_BF16, 3}};
  int n_stop[3] = {0}, n = (int)(sizeof problems / sizeof *problems);
  for (int i = 0; i < (cuda_small() && !cuda_is_emulated() ? 2 : n); ++i)
    run_problem(&f, &problems[i], n_stop);
  cuda_close(&f);
}

// The host takes a snapshot, goes on, and reads it later.
static void snapshots_overlap(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  problem p = {2, 60, 12, 12, 10, -1, {1, 1, 16, 0.25f}, SS_PRECISION_BF16, 0};
  run r;
  open_run(&r, &f, &p);
  start_slot(&r, 0);
  SEQUENCES(&r, take_status, r.sequences, 0);
  start_slot(&r, 1);
  SEQUENCES(&r, take_status, r.sequences, 1);
  const ss_sequence_status *first = NULL, *second = NULL;
  SEQUENCES(&r, wait_status, r.sequences, 0, &first);
  SEQUENCES(&r, wait_status, r.sequences, 1, &second);
  assert_true(first != second && first[0].active && !first[1].active &&
              first[0].n_row == r.slots[0].sequence.tracker.n_row);
  assert_true(second[0].active && second[1].active);
  close_run(&r);
  cuda_close(&f);
}

static void refused(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  problem p = {2, 60, 12, 12, 10, -1, {2, 2, 16, 0.25f}, SS_PRECISION_BF16, 0};
  run r;
  open_run(&r, &f, &p);
  ss_sequences *other = NULL;
  ss_sequences_options bad, good = r.sequences->options;
  bad = good, bad.shape.head_dim = 24;
  REFUSED(&r, create, "16, 32, 64 or 128", &other, &bad);
  assert_null(other);
  bad = good, bad.n_slot = 0;
  REFUSED(&r, create, "0 slots", &other, &bad);
  bad = good, bad.n_slot = 1 << 20, bad.slot_rows = 1 << 12;
  REFUSED(&r, create, "slots", &other, &bad);
  bad = good, bad.slot_rows = 200000, bad.n_segment = 100000;
  REFUSED(&r, create, "shared memory", &other, &bad);
  cuda_of(r.gpu)->attention = SS_ATTENTION_PLAIN;
  REFUSED(&r, create, "auto", &other, &good);
  cuda_of(r.gpu)->attention = SS_ATTENTION_AUTO;
  const ss_sequence_status *status = NULL;
  REFUSED(&r, wait_status, "no snapshot", r.sequences, 1, &status);
  REFUSED(&r, take_status, "snapshot", r.sequences, SS_N_STATUS);
  start_slot(&r, 0);
  span_sequence sequence = r.slots[0].sequence, result = {0};
  ss_random random = {1, 2};
  REFUSED(&r, result, "not finished", r.sequences, 0, &result);
  REFUSED(&r, result, "slot", r.sequences, 2, &result);
  REFUSED(&r, start, "slot", r.sequences, -1, &sequence, random, 0);
  sequence.limit = 61;
  REFUSED(&r, start, "limit", r.sequences, 0, &sequence, random, 0);
  sequence.limit = sequence.tracker.n_row;
  REFUSED(&r, start, "limit", r.sequences, 0, &sequence, random, 0);
  sequence = r.slots[0].sequence, sequence.tracker.layout.segment_capacity = 13;
  REFUSED(&r, start, "segments", r.sequences, 0, &sequence, random, 0);
  // The plan serves the shape that it was made for.
  ss_attention_shape wider = {1, 1, 32, 0.25f};
  cuda_pair q = cuda_random(&f, "q", 2, 32, SS_BF16, 1), k = cuda_random(&f, "k", 120, 32, SS_BF16, 1);
  ss_attention_plan *plan = (ss_attention_plan *)r.ops->inputs(r.gpu, r.sequences).plan;
  ss_tensor none = {0};
  CUDA_REFUSED(&f, attention_forward, plan, wider, q.on[1], none, q.on[1], k.on[1], k.on[1]);
  CUDA_REFUSED(&f, attention_plan, &plan, NULL, 0, NULL, 0, 120, false);
  close_run(&r);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_equal_the_hosts),
      cmocka_unit_test(controls),
      cmocka_unit_test(many_of_everything),
      cmocka_unit_test(snapshots_overlap),
      cmocka_unit_test(refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
