// Views -> visible rows -> items of decode attention. Plain C, and cheap: a few additions a range and an item.
#include "kernels/cuda/attention_decode.h"

#include <stdlib.h>

#include "common/memory.h"

#define VISIBLE_MOST (INT32_MAX - 65536)  // kernels add small numbers to a visible row

static int64_t ceil_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Adds key rows [first, end); what follows on the range before, of the same view, continues it.
static void add_range(attention_decode *plan, int64_t view_first, int32_t first, int32_t end,
                      int64_t *row_end) {
  attention_decode_range *ranges = attention_decode_ranges(plan);
  if (plan->n_range == view_first || *row_end != first)
    ranges[plan->n_range++] = (attention_decode_range){first, (int32_t)plan->n_row};
  plan->n_row += end - first;
  *row_end = end;
}

static ss_status reserve(attention_decode *plan, int64_t n_view, int64_t range_bytes, ss_error *error) {
  SS_TRY(
      ss_grow(&plan->queries, &plan->view_capacity[0], n_view, sizeof *plan->queries, "decode views", error));
  SS_TRY(ss_grow(&plan->view_row, &plan->view_capacity[1], n_view + 1, sizeof *plan->view_row, "decode views",
                 error));
  SS_TRY(ss_grow(&plan->view_range, &plan->view_capacity[2], n_view + 1, sizeof *plan->view_range,
                 "decode views", error));
  return ss_grow(&plan->block, &plan->block_capacity, range_bytes, 1, "decode ranges", error);
}

ss_status attention_decode_list(attention_decode *plan, const ss_attention_view *views, int64_t n_view,
                                const span_range *ranges, int64_t n_range, int64_t n_key_row, bool *serves,
                                ss_error *error) {
  *serves = n_view > 0;
  plan->n_view = plan->n_range = plan->n_row = plan->n_item = 0;
  plan->item_rows = 0;
  plan->merges = false;
  int64_t most = n_view;  // ranges: the views' own, and one more each
  for (int64_t i = 0; i < n_view && *serves; ++i) {
    *serves = views[i].n_query == 1 && (i == 0 || views[i - 1].q_first < views[i].q_first);
    most += views[i].n_range;
  }
  if (!*serves)
    return SS_OK;
  for (int64_t i = 0; i < n_view; ++i)
    if (n_key_row > INT32_MAX || !ss_attention_view_fits(&views[i], ranges, n_range, n_key_row))
      return ss_fail(error, SS_ERROR_INTERNAL,
                     "attention_plan: view %lld (query %d, self %d to %d) does not fit %lld key rows",
                     (long long)i, views[i].q_first, views[i].self_first, views[i].self_last,
                     (long long)n_key_row);
  SS_TRY(reserve(plan, n_view, most * (int64_t)sizeof(attention_decode_range), error));
  for (int64_t i = 0; i < n_view; ++i) {
    const ss_attention_view *view = &views[i];
    int64_t first = plan->n_range, row_end = -1;
    plan->queries[i] = view->q_first;
    plan->view_row[i] = (int32_t)plan->n_row;
    plan->view_range[i] = (int32_t)first;
    for (int32_t r = 0; r < view->n_range; ++r)
      add_range(plan, first, ranges[view->range_first + r].first, ranges[view->range_first + r].end,
                &row_end);
    if (view->self_first <= view->self_last)
      add_range(plan, first, view->self_first, view->self_last + 1, &row_end);
    if (plan->n_row > VISIBLE_MOST) {
      *serves = false;
      return SS_OK;
    }
  }
  plan->n_view = n_view;
  plan->view_row[n_view] = (int32_t)plan->n_row;
  plan->view_range[n_view] = (int32_t)plan->n_range;
  // A multiple of an item's size, so that items are aligned as pieces of 16 bytes want it.
  plan->item_offset = ceil_divide(plan->n_range * (int64_t)sizeof(attention_decode_range),
                                  sizeof(attention_decode_item)) *
                      (int64_t)sizeof(attention_decode_item);
  return SS_OK;
}

static int64_t count_items(const attention_decode *plan, int32_t item_rows) {
  int64_t count = 0;
  for (int64_t i = 0; i < plan->n_view; ++i)
    count += attention_decode_count(plan->view_row[i + 1] - plan->view_row[i], item_rows);
  return count;
}

static int32_t choose_rows(const attention_decode *plan, int64_t heads, int32_t n_multiprocessor) {
  int32_t rows = DECODE_ROWS_MOST;
  while (rows > DECODE_ROWS_LEAST &&
         !attention_decode_enough(count_items(plan, rows), heads, n_multiprocessor))
    rows /= 2;
  return rows;
}

ss_status attention_decode_cut(attention_decode *plan, int64_t heads, int32_t n_multiprocessor,
                               int32_t item_rows, ss_error *error) {
  if (item_rows <= 0)
    item_rows = choose_rows(plan, heads, n_multiprocessor);
  if (item_rows > DECODE_ROWS_MOST)
    return ss_fail(error, SS_ERROR_LIMIT, "attention_plan: items of %d rows (expected at most %d)", item_rows,
                   DECODE_ROWS_MOST);
  int64_t n_item = count_items(plan, item_rows);
  plan->block_bytes = plan->item_offset + n_item * (int64_t)sizeof(attention_decode_item);
  SS_TRY(ss_grow(&plan->block, &plan->block_capacity, plan->block_bytes, 1, "decode items", error));
  const attention_decode_range *ranges = attention_decode_ranges(plan);
  attention_decode_item *item = attention_decode_items(plan);
  plan->merges = false;
  for (int64_t i = 0; i < plan->n_view; ++i) {
    int32_t row = plan->view_row[i], end = plan->view_row[i + 1], range = plan->view_range[i];
    attention_decode_split split = attention_decode_split_of(end - row, item_rows);
    int32_t first = (int32_t)(item - attention_decode_items(plan)), each = split.each, count = split.count;
    plan->merges |= count > 1;
    for (int32_t n = 0; n < count; ++n, ++item, row += each) {
      while (range + 1 < plan->view_range[i + 1] && ranges[range + 1].start <= row)
        ++range;
      *item = (attention_decode_item){row,        end - row < each ? end - row : each,
                                      range,      plan->queries[i],
                                      (int32_t)i, first,
                                      count,      0};
    }
  }
  plan->n_item = item - attention_decode_items(plan);
  plan->block_bytes = plan->item_offset + plan->n_item * (int64_t)sizeof(attention_decode_item);
  plan->item_rows = item_rows;
  plan->heads = heads;
  return SS_OK;
}

void attention_decode_views(const attention_decode *plan, ss_attention_view *views, span_range *ranges) {
  const attention_decode_range *own = attention_decode_ranges(plan);
  for (int64_t i = 0; i < plan->n_view; ++i) {
    int32_t first = plan->view_range[i], end = plan->view_range[i + 1];
    for (int32_t r = first; r < end; ++r) {
      int32_t stop = r + 1 < end ? own[r + 1].start : plan->view_row[i + 1];
      ranges[r] = (span_range){own[r].first, own[r].first + stop - own[r].start};
    }
    views[i] = (ss_attention_view){plan->queries[i], 1, 1, 0, first, 0};  // reads nothing
    if (end > first) {
      views[i].self_first = ranges[end - 1].first;
      views[i].self_last = ranges[end - 1].end - 1;
      views[i].n_range = end - first - 1;
    }
  }
}

void attention_decode_free_host(attention_decode *plan) {
  free(plan->queries);
  free(plan->view_row);
  free(plan->view_range);
  free(plan->block);
}
