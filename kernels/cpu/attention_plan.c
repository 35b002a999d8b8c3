// The attention plan: views -> work items. Everything here depends on the views alone, never on the threads.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "kernels/cpu/attention.h"

#define TILE_QUERIES 64   // queries of a forward item
#define SMALL_PAIRS 4096  // query-key pairs of a small tile, and of a batch of such

typedef struct {
  int64_t first, end;  // key rows, hull
  int64_t view;
} view_hull;

static int64_t count_rows(const ss_attention_view *view, const span_range *ranges) {
  int64_t rows = 0;
  for (int32_t r = 0; r < view->n_range; ++r)
    rows += ranges[view->range_first + r].end - ranges[view->range_first + r].first;
  return rows;
}

// Key rows that the view's last query reads.
static int64_t visible_rows(const ss_attention_view *view, const span_range *ranges) {
  int64_t self = (int64_t)view->self_last + view->n_query - view->self_first;
  return count_rows(view, ranges) + cpu_maximum(0, self);
}

static ss_status check_view(ss_device *device, const ss_attention_view *view, int64_t index,
                            const span_range *ranges, int64_t n_range, int64_t n_key_row) {
  CPU_REQUIRE(device, ss_attention_view_fits(view, ranges, n_range, n_key_row),
              "attention_plan: view %lld (queries %d + %d, self %d to %d) does not fit %lld key rows",
              (long long)index, view->q_first, view->n_query, view->self_first, view->self_last,
              (long long)n_key_row);
  return SS_OK;
}

static ss_status add_item(ss_device *device, cpu_attention_item **items, int64_t *n, int64_t *capacity,
                          cpu_attention_item item) {
  SS_TRY(ss_grow(items, capacity, *n + 1, sizeof item, "attention items", &device->error));
  (*items)[(*n)++] = item;
  return SS_OK;
}

static ss_status plan_forward(ss_device *device, ss_attention_plan *plan, const ss_attention_view *views,
                              int64_t n_view) {
  plan->n_tile = plan->n_row = plan->n_merge = plan->n_split = 0;
  for (int long_ones = 1; long_ones >= 0; --long_ones)
    for (int64_t i = 0; i < n_view; ++i) {
      cpu_attention_item item = {views[i], 0, views[i].n_query, 0, visible_rows(&views[i], plan->ranges)};
      int64_t rows = item.row_end;
      if (views[i].n_query > 1 || (rows > CPU_ROW_CHUNK) != long_ones)
        continue;
      if (long_ones) {
        SS_TRY(ss_grow(&plan->merges, &plan->merge_capacity, plan->n_merge + 1, sizeof *plan->merges,
                       "attention merges", &device->error));
        plan->merges[plan->n_merge++] = (cpu_attention_merge){plan->n_row,
                                                              cpu_ceil_divide(rows, CPU_ROW_CHUNK)};
      }
      for (int64_t first = 0; first < rows || first == 0; first += CPU_ROW_CHUNK) {
        item.row_first = first;
        item.row_end = cpu_minimum(rows, first + CPU_ROW_CHUNK);
        SS_TRY(add_item(device, &plan->rows, &plan->n_row, &plan->row_capacity, item));
      }
      if (long_ones)
        plan->n_split = plan->n_row;
    }
  for (int small = 0; small <= 1; ++small) {
    for (int64_t i = 0; i < n_view; ++i) {
      bool is_small = views[i].n_query * visible_rows(&views[i], plan->ranges) <= SMALL_PAIRS;
      if (views[i].n_query == 1 || is_small != small)
        continue;
      for (int32_t first = 0; first < views[i].n_query; first += TILE_QUERIES) {
        int32_t n_query = (int32_t)cpu_minimum(TILE_QUERIES, views[i].n_query - first);
        cpu_attention_item item = {views[i], first, n_query, 0, 0};
        SS_TRY(add_item(device, &plan->tiles, &plan->n_tile, &plan->tile_capacity, item));
      }
    }
    if (!small)
      plan->n_large = plan->n_tile;
  }
  int64_t pairs = SMALL_PAIRS;
  plan->n_batch = 0;
  for (int64_t t = plan->n_large; t < plan->n_tile; ++t) {
    if (pairs >= SMALL_PAIRS) {
      SS_TRY(ss_grow(&plan->batches, &plan->batch_capacity, plan->n_batch + 1, sizeof *plan->batches,
                     "attention batches", &device->error));
      plan->batches[plan->n_batch++].first = t;
      pairs = 0;
    }
    plan->batches[plan->n_batch - 1].end = t + 1;
    pairs += plan->tiles[t].n_query * visible_rows(&plan->tiles[t].view, plan->ranges);
  }
  return SS_OK;
}

static int compare_hulls(const void *a, const void *b) {
  const view_hull *x = a, *y = b;
  if (x->first != y->first)
    return x->first < y->first ? -1 : 1;
  return x->view < y->view ? -1 : x->view > y->view;
}

static int compare_groups(const void *a, const void *b) {
  const cpu_attention_group *x = a, *y = b;
  if (x->pairs != y->pairs)
    return x->pairs > y->pairs ? -1 : 1;
  return x->item_first < y->item_first ? -1 : x->item_first > y->item_first;
}

static ss_status plan_backward(ss_device *device, ss_attention_plan *plan, const ss_attention_view *views,
                               int64_t n_view) {
  view_hull *hulls;
  SS_TRY(ss_allocate(&hulls, n_view, sizeof *hulls, "attention hulls", &device->error));
  for (int64_t i = 0; i < n_view; ++i) {
    const ss_attention_view *view = &views[i];
    hulls[i].view = i;
    hulls[i].first = view->n_range > 0 ? plan->ranges[view->range_first].first : view->self_first;
    hulls[i].end = cpu_maximum((int64_t)view->self_last + view->n_query, hulls[i].first);
    if (view->n_range > 0)
      hulls[i].end = cpu_maximum(hulls[i].end, plan->ranges[view->range_first + view->n_range - 1].end);
  }
  qsort(hulls, (size_t)n_view, sizeof *hulls, compare_hulls);
  plan->n_group = 0;
  int64_t n_item = 0, reach = -1;
  ss_status status = SS_OK;
  for (int64_t i = 0; i < n_view && status == SS_OK; ++i) {
    const ss_attention_view *view = &views[hulls[i].view];
    if (hulls[i].first >= reach) {
      status = ss_grow(&plan->groups, &plan->group_capacity, plan->n_group + 1, sizeof *plan->groups,
                       "attention groups", &device->error);
      if (status != SS_OK)
        break;
      plan->groups[plan->n_group++] = (cpu_attention_group){n_item, n_item, 0};
    }
    reach = cpu_maximum(reach, hulls[i].end);
    cpu_attention_item item = {*view, 0, view->n_query, 0, 0};
    status = add_item(device, &plan->backward_items, &n_item, &plan->backward_capacity, item);
    plan->groups[plan->n_group - 1].item_end = n_item;
    plan->groups[plan->n_group - 1].pairs += visible_rows(view, plan->ranges) * view->n_query;
  }
  free(hulls);
  if (status == SS_OK && plan->n_group > 1)
    qsort(plan->groups, (size_t)plan->n_group, sizeof *plan->groups, compare_groups);
  return status;
}

ss_status cpu_attention_plan(ss_device *device, ss_attention_plan **plan_address,
                             const ss_attention_view *views, int64_t n_view, const span_range *ranges,
                             int64_t n_range, int64_t n_key_row, bool backward) {
  for (int64_t i = 0; i < n_view; ++i)
    SS_TRY(check_view(device, &views[i], i, ranges, n_range, n_key_row));
  if (!*plan_address)
    SS_TRY(ss_allocate(plan_address, 1, sizeof **plan_address, "an attention plan", &device->error));
  ss_attention_plan *plan = *plan_address;
  plan->n_key_row = n_key_row;
  plan->backward = backward;
  plan->n_query_end = 0;
  for (int64_t i = 0; i < n_view; ++i)
    plan->n_query_end = cpu_maximum(plan->n_query_end, (int64_t)views[i].q_first + views[i].n_query);
  SS_TRY(ss_grow(&plan->ranges, &plan->range_capacity, n_range + 1, sizeof *ranges, "attention ranges",
                 &device->error));
  if (n_range > 0)
    memcpy(plan->ranges, ranges, (size_t)n_range * sizeof *ranges);
  SS_TRY(plan_forward(device, plan, views, n_view));
  return backward ? plan_backward(device, plan, views, n_view) : SS_OK;
}

void cpu_attention_plan_free(ss_device *device, ss_attention_plan *plan) {
  (void)device;
  if (!plan)
    return;
  free(plan->ranges);
  free(plan->tiles);
  free(plan->rows);
  free(plan->merges);
  free(plan->batches);
  free(plan->backward_items);
  free(plan->groups);
  free(plan);
}
