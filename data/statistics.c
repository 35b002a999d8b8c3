#include "data/statistics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

typedef struct {
  const char *name;
  arm arm;
  int32_t choose, pin;
} policy_row;

static const policy_row policy_rows[STATISTICS_N_POLICY] = {
    {"dense", ARM_DENSE, 0, 0},
    {"annotated", ARM_ANNOTATED, 0, 0},
    {"span choose=all", ARM_SPAN, SPAN_CHOOSE_ALL, 0},
    {"span choose=index pin=none", ARM_SPAN, SPAN_CHOOSE_INDEX, 0},
    {"span choose=index pin=all", ARM_SPAN, SPAN_CHOOSE_INDEX, 1},
    {"span choose=anchors pin=none", ARM_SPAN, SPAN_CHOOSE_ANCHORS, 0},
    {"span choose=anchors pin=all", ARM_SPAN, SPAN_CHOOSE_ANCHORS, 1},
    {"span choose=open pin=none", ARM_SPAN, SPAN_CHOOSE_OPEN, 0},
    {"span choose=open pin=all", ARM_SPAN, SPAN_CHOOSE_OPEN, 1},
};

const char *statistics_policy_name(int32_t k) {
  return k >= 0 && k < STATISTICS_N_POLICY ? policy_rows[k].name : "unknown";
}

ss_status statistics_decoded_rows(const rendering *rendering, const span_policy *policy, int64_t *rows,
                                  ss_error *error) {
  const span_layout *layout = &rendering->layout;
  span_range *ranges = NULL;
  SS_TRY(ss_allocate(&ranges, 2 * (int64_t)span_range_capacity(layout), sizeof *ranges, "row ranges", error));
  int32_t last = (int32_t)rendering->n_token - 1;  // the query of <eos> is never run
  *rows = 0;
  for (int32_t s = -1; s < layout->n_segment; s++) {
    span_view views[2];
    int32_t n_range = 0;
    int32_t n_view = span_views_of(policy, layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; v++)
      for (int32_t row = views[v].query_first; row < views[v].query_end; row++)
        if (row >= rendering->prompt_end - 1 && row < last)
          *rows += span_view_rows(&views[v], ranges, row);
  }
  free(ranges);
  return SS_OK;
}

static ss_status add_rows(dataset_statistics *statistics, const rendering *annotated,
                          const vocabulary *vocabulary, ss_error *error) {
  rendering dense = {0};
  ss_status status = render_arm(&dense, annotated, ARM_DENSE, vocabulary, 0, error);
  for (int32_t k = 0; status == SS_OK && k < STATISTICS_N_POLICY; k++) {
    span_policy policy = span_policy_default();
    policy.choose = policy_rows[k].choose;
    policy.pin = policy_rows[k].pin;
    policy = arm_policy(policy_rows[k].arm, &policy);
    int64_t rows = 0;
    status = statistics_decoded_rows(policy_rows[k].arm == ARM_DENSE ? &dense : annotated, &policy, &rows,
                                     error);
    statistics->rows[k] += rows;
  }
  rendering_free(&dense);
  statistics->sampled++;
  return status;
}

static void raise_to(int64_t *most, int64_t value) {
  if (value > *most)
    *most = value;
}

ss_status statistics_add(dataset_statistics *statistics, const rendering *annotated,
                         const vocabulary *vocabulary, ss_error *error) {
  const span_layout *layout = &annotated->layout;
  int64_t headers = 0, steps = 0;
  for (int32_t s = 0; s < layout->n_segment; s++) {
    const span_segment *segment = &layout->segments[s];
    statistics->segments[segment->kind]++;
    steps += segment->kind == SPAN_STEP;
    if (segment->kind == SPAN_END)
      headers++;  // only `<[>` goes: dense keeps the <eos>
    else
      headers += segment->header_end - segment->first;
    if (segment->kind != SPAN_END)
      raise_to(&statistics->longest_header, segment->header_end - segment->first);
  }
  int64_t dense = annotated->n_token - headers;
  statistics->examples++;
  statistics->references += layout->n_reference;
  statistics->annotated_tokens += annotated->n_token;
  statistics->dense_tokens += dense;
  statistics->annotated_generated += annotated->n_token - annotated->prompt_end;
  statistics->dense_generated += dense - annotated->prompt_end;
  raise_to(&statistics->longest_annotated, annotated->n_token);
  raise_to(&statistics->longest_dense, dense);
  raise_to(&statistics->most_segments, layout->n_segment);
  statistics->by_steps[steps > STATISTICS_MOST_STEPS ? STATISTICS_MOST_STEPS + 1 : steps]++;
  if (statistics->sampled < STATISTICS_SAMPLE)
    return add_rows(statistics, annotated, vocabulary, error);
  return SS_OK;
}

static int set_mean(json_t *object, const char *name, int64_t sum, int64_t n) {
  return json_object_set_new(object, name, json_real(n > 0 ? (double)sum / (double)n : 0.0));
}

json_t *statistics_json(const dataset_statistics *s) {
  json_t *object = json_pack("{s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, "
                             "s:I, s:I, s:{}, s:{}, s:I}",
                             "examples", (json_int_t)s->examples, "segments", "context",
                             (json_int_t)s->segments[SPAN_CONTEXT], "step",
                             (json_int_t)s->segments[SPAN_STEP], "answer",
                             (json_int_t)s->segments[SPAN_ANSWER], "end", (json_int_t)s->segments[SPAN_END],
                             "references", (json_int_t)s->references, "tokens", "annotated",
                             (json_int_t)s->annotated_tokens, "dense", (json_int_t)s->dense_tokens,
                             "generated_tokens", "annotated", (json_int_t)s->annotated_generated, "dense",
                             (json_int_t)s->dense_generated, "longest_example", "annotated",
                             (json_int_t)s->longest_annotated, "dense", (json_int_t)s->longest_dense,
                             "most_segments", (json_int_t)s->most_segments, "longest_header",
                             (json_int_t)s->longest_header, "examples_by_steps", "attended_rows_per_example",
                             "attended_rows_sample", (json_int_t)s->sampled);
  if (object == NULL)
    return NULL;
  int failed = 0;
  json_t *histogram = json_object_get(object, "examples_by_steps");
  for (int k = 0; k <= STATISTICS_MOST_STEPS + 1; k++) {
    char name[16];
    if (k > STATISTICS_MOST_STEPS)
      memcpy(name, "more", sizeof "more");
    else
      snprintf(name, sizeof name, "%d", k);
    if (s->by_steps[k] > 0)
      failed |= json_object_set_new(histogram, name, json_integer(s->by_steps[k]));
  }
  json_t *rows = json_object_get(object, "attended_rows_per_example");
  for (int32_t k = 0; k < STATISTICS_N_POLICY; k++)
    failed |= set_mean(rows, statistics_policy_name(k), s->rows[k], s->sampled);
  if (failed != 0) {
    json_decref(object);
    return NULL;
  }
  return object;
}
