#include "data/reader_batch.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

void reader_batch_clear(reader_batch *batch) {
  batch->n_row = batch->n_view = batch->n_range = 0;
  batch->n_example = batch->n_target = batch->attended_rows = 0;
}

void reader_batch_free(reader_batch *batch) {
  free(batch->tokens);
  free(batch->targets);
  free(batch->positions);
  free(batch->views);
  free(batch->ranges);
  free(batch->examples);
  memset(batch, 0, sizeof *batch);
}

static ss_status add_rows(reader_batch *batch, const rendering *rendering, ss_error *error) {
  int64_t first = batch->n_row, count = rendering->n_token - 1;
  SS_TRY(
      ss_grow(&batch->tokens, &batch->capacity_row, first + count, sizeof *batch->tokens, "tokens", error));
  SS_TRY(ss_grow(&batch->targets, &batch->capacity_targets, first + count, sizeof *batch->targets, "targets",
                 error));
  SS_TRY(ss_grow(&batch->positions, &batch->capacity_positions, first + count, sizeof *batch->positions,
                 "positions", error));
  memcpy(batch->tokens + first, rendering->tokens, (size_t)count * sizeof *batch->tokens);
  for (int64_t i = 0; i < count; ++i) {
    bool loss = rendering->loss[i + 1] != 0;
    batch->targets[first + i] = loss ? rendering->tokens[i + 1] : -1;
    batch->positions[first + i] = (int32_t)i;
    batch->n_target += loss;
  }
  batch->n_row += count;
  return SS_OK;
}

// Moves the ranges [first, end) of the batch from the example's rows to the batch's, and returns their rows.
static int64_t shift_ranges(reader_batch *batch, int64_t first, int64_t end, int32_t base) {
  int64_t rows = 0;
  for (int64_t k = first; k < end; ++k) {
    rows += batch->ranges[k].end - batch->ranges[k].first;
    batch->ranges[k].first += base;
    batch->ranges[k].end += base;
  }
  return rows;
}

// Views without ranges that begin at the same row are one: without a mask an example needs a single view.
static bool joins(const reader_batch *batch, int64_t first_view, const span_view *view) {
  if (batch->n_view == first_view || view->n_range > 0)
    return false;
  const span_view *last = &batch->views[batch->n_view - 1];
  return last->n_range == 0 && last->self_first == view->self_first && last->query_end == view->query_first;
}

static ss_status add_views(reader_batch *batch, const rendering *rendering, const span_policy *policy,
                           int32_t base, ss_error *error) {
  const span_layout *layout = &rendering->layout;
  int32_t last_query = (int32_t)rendering->n_token - 1;  // the last token asks nothing
  int64_t first_view = batch->n_view, most = 2 * (int64_t)span_range_capacity(layout);
  for (int32_t s = -1; s < layout->n_segment; ++s) {
    span_view views[2];
    int32_t n_range = 0;
    SS_TRY(ss_grow(&batch->ranges, &batch->capacity_range, batch->n_range + most, sizeof *batch->ranges,
                   "ranges", error));
    SS_TRY(ss_grow(&batch->views, &batch->capacity_view, batch->n_view + 2, sizeof *batch->views, "views",
                   error));
    int32_t n_view = span_views_of(policy, layout, s, views, batch->ranges + batch->n_range, &n_range);
    for (int32_t v = 0; v < n_view; ++v) {
      span_view view = views[v];
      view.query_end = view.query_end < last_query ? view.query_end : last_query;
      int64_t queries = view.query_end - view.query_first;
      if (queries <= 0)
        continue;
      int64_t range_first = batch->n_range + view.range_first;
      int64_t shared = shift_ranges(batch, range_first, range_first + view.n_range, base);
      // Query q reads the shared rows and q + 1 - self_first of its own part.
      batch->attended_rows += queries * shared + queries * (view.query_first + 1 - view.self_first) +
                              queries * (queries - 1) / 2;
      view.query_first += base;
      view.query_end += base;
      view.self_first += base;
      view.range_first = (int32_t)range_first;
      if (joins(batch, first_view, &view))
        batch->views[batch->n_view - 1].query_end = view.query_end;
      else
        batch->views[batch->n_view++] = view;
    }
    batch->n_range += n_range;
    if (batch->n_range > INT32_MAX - most)
      return ss_fail(error, SS_ERROR_LIMIT,
                     "a batch of more than %lld ranges: fewer rows or examples a batch",
                     (long long)batch->n_range);
  }
  return SS_OK;
}

ss_status reader_batch_add(reader_batch *batch, int64_t index, const rendering *rendering,
                           const span_policy *policy, ss_error *error) {
  if (rendering->n_token < 2)
    return ss_fail(error, SS_ERROR_INTERNAL, "an example of %lld tokens has no target",
                   (long long)rendering->n_token);
  if (rendering->n_token > INT32_MAX - batch->n_row)
    return ss_fail(error, SS_ERROR_LIMIT, "a batch of more than %d rows", INT32_MAX);
  int32_t base = (int32_t)batch->n_row;
  SS_TRY(add_rows(batch, rendering, error));
  SS_TRY(add_views(batch, rendering, policy, base, error));
  SS_TRY(ss_grow(&batch->examples, &batch->capacity_example, batch->n_example + 1, sizeof *batch->examples,
                 "examples", error));
  batch->examples[batch->n_example++] = index;
  return SS_OK;
}
