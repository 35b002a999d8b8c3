// The arms as JSON.
#include <math.h>

#include "eval/results.h"

static void set_real(json_t *object, const char *key, double value) {
  json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_int(json_t *object, const char *key, int64_t value) {
  json_object_set_new(object, key, json_integer(value));
}

static void set_rates(json_t *object, const eval_result *result, const eval_counts *counts) {
  eval_rates rates = eval_rates_of(result, counts);
  set_int(object, "items", counts->items);
  set_int(object, "correct", counts->correct);
  set_real(object, "accuracy", rates.accuracy);
  set_real(object, "accuracy_low", rates.accuracy_low);
  set_real(object, "accuracy_high", rates.accuracy_high);
  set_real(object, "score", rates.score);
  set_real(object, "step_accuracy", rates.step_accuracy);
  set_real(object, "derivation_accuracy", rates.derivation_accuracy);
  set_real(object, "reference_precision", rates.reference_precision);
  set_real(object, "reference_recall", rates.reference_recall);
  set_real(object, "reference_f", rates.reference_f);
  set_real(object, "reference_exact", rates.reference_exact);
  set_real(object, "malformed", rates.malformed);
  set_int(object, "generated_tokens", counts->generated_tokens);
  set_real(object, "generated_tokens_per_example", rates.tokens_per_example);
  set_real(object, "attended_rows_per_example", rates.rows_per_example);
  set_real(object, "attended_rows_per_token", rates.rows_per_token);
  set_real(object, "prefill_rows_per_example", rates.prefill_rows_per_example);
}

static json_t *malformed_json(const eval_counts *counts) {
  const span_malformed *m = &counts->malformed;
  return json_pack("{si si si si si si si sI}", "unknown_reference", m->unknown_reference,
                   "duplicate_reference", m->duplicate_reference, "unordered_reference",
                   m->unordered_reference, "wrong_anchor", m->wrong_anchor, "unclosed_segment",
                   m->unclosed_segment, "long_header", m->long_header, "stray_token", m->stray_token,
                   "unfinished", (json_int_t)counts->unfinished_items);
}

static void set_speed(json_t *object, const eval_result *result) {
  eval_speed speed = eval_speed_of(result);
  set_real(object, "kv_megabytes_per_example", speed.megabytes_per_example);
  set_real(object, "prefill_seconds", result->decoded ? result->speed.prefill_seconds : NAN);
  set_real(object, "decode_seconds", result->decoded ? result->speed.decode_seconds : NAN);
  set_real(object, "host_seconds", result->decoded ? result->speed.host_seconds : NAN);
  set_real(object, "examples_per_second", speed.examples_per_second);
  set_real(object, "tokens_per_second", speed.tokens_per_second);
  set_real(object, "ceiling_examples_per_second",
           result->ceiling_examples_per_second > 0 ? result->ceiling_examples_per_second : NAN);
  json_object_set_new(object, "decoder", result->decoded ? json_string(result->decoder) : json_null());
  set_real(object, "train_seconds", result->train_seconds);
}

static json_t *groups_json(const eval_result *result) {
  json_t *list = json_array();
  for (int g = 0; g < EVAL_N_GROUP; g++) {
    if (result->groups[g].items == 0)
      continue;
    json_t *object = json_object();
    set_int(object, "group", g);
    set_rates(object, result, &result->groups[g]);
    json_array_append_new(list, object);
  }
  return list;
}

static json_t *means_json(const eval_task *task, const eval_metric_mean *means) {
  json_t *object = json_object();
  for (int64_t m = 0; m < task->n_metric; m++) {
    json_t *mean = json_object();
    set_real(mean, "mean", means[m].interval.mean);
    set_real(mean, "low", means[m].interval.low);
    set_real(mean, "high", means[m].interval.high);
    set_int(mean, "items", means[m].items);
    json_object_set_new(object, task->metrics[m].name, mean);
  }
  return object;
}

// Tasks without metrics have none of these keys, and an arm that is compared with none lacks the last two: a null would
// stand for a number.
static void set_metrics(json_t *object, const eval_result *result) {
  if (result->task == NULL || result->task->n_metric == 0)
    return;
  bool compared = result->against[0] != '\0';
  json_object_set_new(object, "metrics", means_json(result->task, result->metrics));
  set_real(object, "attended_rows_ratio", compared ? result->rows_ratio : NAN);
  if (!compared)
    return;
  json_object_set_new(object, "against", json_string(result->against));
  json_object_set_new(object, "differences", means_json(result->task, result->differences));
}

json_t *eval_arms_json(const eval_result *results, int count) {
  json_t *list = json_array();
  for (int k = 0; k < count; k++) {
    const eval_result *result = &results[k];
    json_t *object = json_object();
    json_object_set_new(object, "arm", json_string(result->label));
    set_rates(object, result, &result->all);
    set_speed(object, result);
    set_metrics(object, result);
    json_object_set_new(object, "malformed_kinds", malformed_json(&result->all));
    json_object_set_new(object, "group_name", json_string(result->group_name));
    json_object_set_new(object, "groups", groups_json(result));
    json_array_append_new(list, object);
  }
  return list;
}
