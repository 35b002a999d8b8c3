// Controls: visible sets of equal size that the model did not select. A span-trained model decodes with them to
// show what its choices are worth. A leaf like span_core.h: static inline, caller's storage, no libc.
#ifndef SELFSPAN_SPAN_CONTROL_H
#define SELFSPAN_SPAN_CONTROL_H

#include "span/span_core.h"

typedef enum {
  SPAN_CONTROL_RECENCY,  // the most recent rows
  SPAN_CONTROL_RANDOM,   // the own segment, and random earlier rows (the same ones throughout a view)
  SPAN_CONTROL_WINDOW  // the first n_sink rows and the most recent ones (Xiao et al. 2023, arXiv 2309.17453)
} span_control;

SPAN_FUNCTION uint64_t span_control_mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Ranges that span_control_visible can write for a query at `row`.
SPAN_FUNCTION int32_t span_control_capacity(int32_t row) {
  return row / 2 + 2;
}

// Replaces the visible set of the one-query view `selected` (with its ranges) by a control's of equal rows. own_first is
// the first row of the query's segment. Writes `ranges`, in another array than the view's; returns the new view.
SPAN_FUNCTION span_view span_control_visible(span_control control, const span_view *selected,
                                             const span_range *selected_ranges, int32_t own_first,
                                             int32_t n_sink, uint64_t seed, span_range *ranges) {
  span_view view = *selected;
  int32_t row = selected->query_first;
  int32_t rows = span_view_rows(selected, selected_ranges + 0, row);
  view.range_first = 0;
  view.n_range = 0;
  if (control == SPAN_CONTROL_RANDOM) {
    int32_t own = row + 1 - own_first;
    int32_t needed = rows > own ? rows - own : 0;
    view.self_first = rows > own ? own_first : row + 1 - rows;
    // Selection sampling (Knuth, TAOCP 2, algorithm 3.4.2 S): sorted, without repetition.
    uint64_t state = span_control_mix(seed ^
                                      span_control_mix((uint64_t)own_first * 2 + (uint64_t)(needed & 1)));
    for (int32_t candidate = 0; candidate < own_first && needed > 0; ++candidate) {
      state += 0x9E3779B97F4A7C15ull;
      uint64_t left = (uint64_t)(own_first - candidate);
      if ((span_control_mix(state) >> 32) * left >> 32 < (uint64_t)needed) {
        span_append_range(ranges, &view.n_range, candidate, candidate + 1);
        --needed;
      }
    }
  } else {
    int32_t sink = control == SPAN_CONTROL_WINDOW ? n_sink : 0;
    if (sink > rows - 1)
      sink = rows - 1;
    view.self_first = row + 1 - (rows - sink);
    span_append_range(ranges, &view.n_range, 0, sink);
  }
  if (view.n_range > 0 && ranges[view.n_range - 1].end >= view.self_first) {
    view.self_first = ranges[view.n_range - 1].first;
    --view.n_range;
  }
  return view;
}

#endif
