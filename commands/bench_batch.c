#include "commands/bench_batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/random.h"
#include "data/reader.h"

ss_status bench_batch_options_check(const bench_batch_options *options, ss_error *error) {
  if (options->rows < 1 || options->row_tokens < 1 || options->segment < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--rows and --row-tokens must be positive, --segment not negative");
  if (options->data != NULL && options->segment > 0)
    return ss_fail(error, SS_ERROR_USAGE, "--segment makes a synthetic mask; with --data leave it out");
  if (strcmp(options->mask, "arm") != 0 && strcmp(options->mask, "document") != 0)
    return ss_fail(error, SS_ERROR_USAGE, "--mask %s: expected arm or document", options->mask);
  return SS_OK;
}

void bench_tokens(int32_t *out, int64_t n, int64_t vocab_size, uint64_t seed, uint64_t row) {
  ss_random random = ss_random_seed(seed, row);
  int64_t token = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (ss_random_uniform(&random) < 0.5)
      token = (int64_t)(ss_mix64((uint64_t)token) % (uint64_t)vocab_size);
    else
      token = (int64_t)((double)vocab_size * pow(ss_random_uniform(&random), 4));
    out[i] = (int32_t)token;
  }
}

// Segments of `length` tokens, each reading itself, the row's first segment and two random earlier ones; one segment
// a row is the causal mask.
static void synthetic_row(bench_batch *out, int64_t *n_view, int32_t *n_range, int32_t base, int64_t n_token,
                          int64_t length, ss_random *random) {
  for (int64_t s = 0; s * length < n_token; ++s) {
    ss_attention_view *view = &out->views[(*n_view)++];
    view->q_first = view->self_first = view->self_last = base + (int32_t)(s * length);
    view->n_query = (int32_t)((s + 1) * length > n_token ? n_token - s * length : length);
    view->range_first = *n_range;
    view->n_range = 0;
    int64_t read[3] = {0, 0, 0};
    for (int k = 1; k < 3 && s > 0; ++k)
      read[k] = ss_random_range(random, 0, s - 1);
    if (read[1] > read[2]) {
      int64_t other = read[1];
      read[1] = read[2];
      read[2] = other;
    }
    for (int k = 0; k < 3 && s > 0; ++k)
      span_append_range(out->ranges + view->range_first, &view->n_range, base + (int32_t)(read[k] * length),
                        base + (int32_t)((read[k] + 1) * length));
    *n_range += view->n_range;
  }
}

static void count_attended(bench_batch *out) {
  out->attended = 0;
  for (int64_t i = 0; i < out->batch.n_view; ++i) {
    const ss_attention_view *view = &out->views[i];
    int64_t rows = view->self_last - view->self_first;
    for (int32_t k = 0; k < view->n_range; ++k)
      rows += out->ranges[view->range_first + k].end - out->ranges[view->range_first + k].first;
    out->attended += rows * view->n_query + (int64_t)view->n_query * (view->n_query + 1) / 2;
  }
}

static ss_status allocate(bench_batch *out, int64_t n_row, int64_t n_view, int64_t n_range, ss_error *error) {
  SS_TRY(ss_allocate(&out->tokens, n_row, sizeof(int32_t), "tokens", error));
  SS_TRY(ss_allocate(&out->targets, n_row, sizeof(int32_t), "targets", error));
  SS_TRY(ss_allocate(&out->positions, n_row, sizeof(int32_t), "positions", error));
  SS_TRY(ss_allocate(&out->views, n_view, sizeof *out->views, "views", error));
  return ss_allocate(&out->ranges, n_range + 1, sizeof *out->ranges, "ranges", error);
}

static ss_status make_synthetic(bench_batch *out, const bench_batch_options *options, ss_error *error) {
  int64_t T = options->row_tokens, n = options->rows * T;
  int64_t length = options->segment > 0 ? options->segment : T;
  int64_t n_segment = options->rows * ((T + length - 1) / length);
  int32_t *row = NULL;
  SS_TRY(allocate(out, n, n_segment, 3 * n_segment, error));
  SS_TRY(ss_allocate(&row, T + 1, sizeof *row, "tokens", error));
  ss_random random = ss_random_seed(1, 0);
  int64_t n_view = 0;
  int32_t n_range = 0;
  for (int64_t b = 0; b < options->rows; ++b) {
    bench_tokens(row, T + 1, options->vocab_size, 1, (uint64_t)b);
    memcpy(out->tokens + b * T, row, (size_t)T * sizeof *row);
    memcpy(out->targets + b * T, row + 1, (size_t)T * sizeof *row);
    for (int64_t i = 0; i < T; ++i)
      out->positions[b * T + i] = (int32_t)i;
    synthetic_row(out, &n_view, &n_range, (int32_t)(b * T), T, length, &random);
  }
  free(row);
  out->batch.n_row = n;
  out->batch.n_view = n_view;
  out->batch.n_range = n_range;
  if (options->segment > 0)
    snprintf(out->description, sizeof out->description, "span mask of %lld-token segments",
             (long long)options->segment);
  else
    snprintf(out->description, sizeof out->description, "causal");
  return SS_OK;
}

// One causal view for each example: where positions restart.
static void document_views(bench_batch *out) {
  int64_t n_view = 0;
  for (int64_t i = 0; i < out->batch.n_row; ++i)
    if (i == 0 || out->positions[i] != out->positions[i - 1] + 1)
      out->views[n_view++] = (ss_attention_view){(int32_t)i, 1, (int32_t)i, (int32_t)i, 0, 0};
    else
      ++out->views[n_view - 1].n_query;
  out->batch.n_view = n_view;
  out->batch.n_range = 0;
}

static ss_status copy_batch(bench_batch *out, const reader_batch *from, const bench_batch_options *options,
                            ss_error *error) {
  // No more documents than rows, however positions run on.
  bool documents = strcmp(options->mask, "document") == 0;
  SS_TRY(allocate(out, from->n_row, documents ? from->n_row : from->n_view, from->n_range, error));
  size_t bytes = (size_t)from->n_row * sizeof(int32_t);
  memcpy(out->tokens, from->tokens, bytes);
  memcpy(out->targets, from->targets, bytes);
  memcpy(out->positions, from->positions, bytes);
  if (from->n_range > 0)
    memcpy(out->ranges, from->ranges, (size_t)from->n_range * sizeof *out->ranges);
  for (int64_t i = 0; i < from->n_view; ++i) {
    const span_view *view = &from->views[i];
    out->views[i] = (ss_attention_view){view->query_first, view->query_end - view->query_first,
                                        view->self_first,  view->query_first,
                                        view->range_first, view->n_range};
  }
  out->batch.n_row = from->n_row;
  out->batch.n_view = from->n_view;
  out->batch.n_range = from->n_range;
  for (int64_t i = 0; i < from->n_row; ++i)
    if (from->tokens[i] >= options->vocab_size || from->targets[i] >= options->vocab_size)
      return ss_fail(error, SS_ERROR_USAGE, "%s: token ids reach beyond model.vocab_size %lld", options->data,
                     (long long)options->vocab_size);
  if (documents)
    document_views(out);
  snprintf(out->description, sizeof out->description, "%.60s, arm %s, mask %s, %lld examples", options->data,
           options->arm, options->mask, (long long)from->n_example);
  return SS_OK;
}

static ss_status make_from_data(bench_batch *out, const bench_batch_options *options, ss_error *error) {
  char path[4096];
  store *store = NULL;
  reader *reader = NULL;
  const reader_batch *batch = NULL;
  arm arm;
  SS_TRY(arm_from_name(options->arm, &arm, error));
  snprintf(path, sizeof path, "%s/train.h5", options->data);
  SS_TRY(store_open(&store, path, false, error));
  span_policy policy = span_policy_default();
  reader_options reading = {.arm = arm,
                            .policy = arm_policy(arm, &policy),
                            .n_row = (int32_t)options->rows,
                            .row_tokens = (int32_t)options->row_tokens,
                            .seed = 1,
                            .shuffle = true,
                            .random_anchor_offset = true};
  ss_status status = reader_open(&reader, store, &reading, error);
  if (status == SS_OK)
    status = reader_next(reader, &batch, error);
  if (status == SS_OK)
    status = copy_batch(out, batch, options, error);
  reader_close(reader);
  store_close(store);
  return status;
}

ss_status bench_batch_make(bench_batch *out, const bench_batch_options *options, ss_error *error) {
  memset(out, 0, sizeof *out);
  ss_status status = options->data == NULL ? make_synthetic(out, options, error)
                                           : make_from_data(out, options, error);
  if (status != SS_OK) {
    bench_batch_free(out);
    return status;
  }
  out->batch.tokens = out->tokens;
  out->batch.targets = out->targets;
  out->batch.positions = out->positions;
  out->batch.views = out->views;
  out->batch.ranges = out->ranges;
  count_attended(out);
  return SS_OK;
}

void bench_batch_free(bench_batch *batch) {
  free(batch->tokens);
  free(batch->targets);
  free(batch->positions);
  free(batch->views);
  free(batch->ranges);
  memset(batch, 0, sizeof *batch);
}

ss_status bench_batch_write_mask(const bench_batch *batch, const char *path, ss_error *error) {
  json_t *views = json_array(), *ranges = json_array();
  for (int64_t i = 0; i < batch->batch.n_view; ++i) {
    const ss_attention_view *view = &batch->views[i];
    const int32_t fields[5] = {view->q_first, view->n_query, view->self_first, view->range_first,
                               view->n_range};
    for (int k = 0; k < 5; ++k)
      json_array_append_new(views, json_integer(fields[k]));
  }
  for (int64_t i = 0; i < batch->batch.n_range; ++i) {
    json_array_append_new(ranges, json_integer(batch->ranges[i].first));
    json_array_append_new(ranges, json_integer(batch->ranges[i].end));
  }
  json_t *all = json_pack("{s:I, s:o, s:o}", "n_row", (json_int_t)batch->batch.n_row, "views", views,
                          "ranges", ranges);
  char *text = all == NULL ? NULL : json_dumps(all, JSON_COMPACT);
  json_decref(all);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the mask");
  ss_status status = ss_write_file(path, text, strlen(text), error);
  free(text);
  return status;
}
