// results.h5: "summary/KEY" has one number an arm, "items/ARM/KEY" one an item.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/hdf5.h"
#include "common/memory.h"
#include "eval/results.h"

#define RESULTS_FORMAT "selfspan-results"
#define RESULTS_SCHEMA_VERSION 1
#define ID_BYTES 64
#define NAME_BYTES 128

// A quantity of an item and where it lies.
typedef struct {
  const char *name;
  size_t offset;
} item_field;

#define FIELD(name) \
  { #name, offsetof(eval_item, name) }
static const item_field item_counts[] =
    {FIELD(index),           FIELD(steps_gold),         FIELD(steps_written),    FIELD(steps_correct),
     FIELD(references_gold), FIELD(references_written), FIELD(references_right), FIELD(headers),
     FIELD(headers_exact),   FIELD(generated_tokens),   FIELD(attended_rows),    FIELD(prefill_rows)};

static ss_status write_summary(ss_hdf5 *file, const json_t *arms, int count, ss_error *error) {
  double *values = NULL;
  SS_TRY(ss_allocate(&values, count, sizeof *values, "summary values", error));
  ss_status status = SS_OK;
  const char *key;
  json_t *first = json_array_get(arms, 0), *value;
  int64_t dims[1] = {count};
  json_object_foreach(first, key, value) {
    // Lists, objects and names stay in the attribute "arms".
    if (status != SS_OK || !(json_is_number(value) || json_is_null(value)))
      continue;
    for (int k = 0; k < count; k++) {
      const json_t *own = json_object_get(json_array_get(arms, (size_t)k), key);
      values[k] = json_is_number(own) ? json_number_value(own) : NAN;
    }
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "summary/%s", key);
    status = ss_hdf5_write_array(file, name, SS_HDF5_F64, 1, dims, values, error);
  }
  free(values);
  return status;
}

// "summary/metrics/NAME" and "summary/differences/NAME": [arms, 3], mean, low and high.
static ss_status write_means(ss_hdf5 *file, const eval_result *results, int count, ss_error *error) {
  const eval_task *task = results[0].task;
  int64_t dims[2] = {count, 3};
  double *values = NULL;
  if (task == NULL || task->n_metric == 0)
    return SS_OK;
  SS_TRY(ss_allocate(&values, 3 * (int64_t)count, sizeof *values, "summary values", error));
  ss_status status = SS_OK;
  for (int64_t m = 0; m < 2 * task->n_metric && status == SS_OK; m++) {
    bool differences = m >= task->n_metric;
    const eval_metric *metric = &task->metrics[m % task->n_metric];
    for (int k = 0; k < count; k++) {
      const eval_result *result = &results[k];
      const eval_metric_mean *mean = differences ? &result->differences[m % task->n_metric]
                                                 : &result->metrics[m];
      bool there = !differences || result->against[0] != '\0';
      values[3 * k] = there ? mean->interval.mean : NAN;
      values[3 * k + 1] = there ? mean->interval.low : NAN;
      values[3 * k + 2] = there ? mean->interval.high : NAN;
    }
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "summary/%s/%s", differences ? "differences" : "metrics", metric->name);
    status = ss_hdf5_write_array(file, name, SS_HDF5_F64, 2, dims, values, error);
  }
  free(values);
  return status;
}

static ss_status write_text_and_flags(ss_hdf5 *file, const eval_result *result, const char *prefix,
                                      ss_error *error) {
  int64_t n = result->n_item, dims[2] = {n, ID_BYTES};
  char name[NAME_BYTES + 32];
  uint8_t *bytes = NULL;
  SS_TRY(ss_allocate(&bytes, n * ID_BYTES, 1, "item ids", error));
  for (int64_t i = 0; i < n; i++)
    memcpy(bytes + i * ID_BYTES, result->items[i].id, strlen(result->items[i].id));
  snprintf(name, sizeof name, "%s/id", prefix);
  ss_status status = ss_hdf5_write_array(file, name, SS_HDF5_U8, 2, dims, bytes, error);
  for (int64_t i = 0; i < n; i++)
    bytes[i] = result->items[i].correct;
  snprintf(name, sizeof name, "%s/correct", prefix);
  if (status == SS_OK)
    status = ss_hdf5_write_array(file, name, SS_HDF5_U8, 1, dims, bytes, error);
  for (int64_t i = 0; i < n; i++)
    bytes[i] = (uint8_t)result->items[i].stop;
  snprintf(name, sizeof name, "%s/stop", prefix);
  if (status == SS_OK)
    status = ss_hdf5_write_array(file, name, SS_HDF5_U8, 1, dims, bytes, error);
  free(bytes);
  return status;
}

static ss_status write_counts(ss_hdf5 *file, const eval_result *result, const char *prefix, int64_t *values,
                              ss_error *error) {
  int64_t n = result->n_item, dims[1] = {n};
  char name[NAME_BYTES + 32];
  for (size_t f = 0; f < sizeof item_counts / sizeof *item_counts; f++) {
    for (int64_t i = 0; i < n; i++)
      memcpy(&values[i], (const char *)&result->items[i] + item_counts[f].offset, sizeof *values);
    snprintf(name, sizeof name, "%s/%s", prefix, item_counts[f].name);
    SS_TRY(ss_hdf5_write_array(file, name, SS_HDF5_I64, 1, dims, values, error));
  }
  for (int64_t i = 0; i < n; i++)
    values[i] = result->items[i].group;
  snprintf(name, sizeof name, "%s/group", prefix);
  SS_TRY(ss_hdf5_write_array(file, name, SS_HDF5_I64, 1, dims, values, error));
  for (int64_t i = 0; i < n; i++)
    values[i] = span_malformed_total(&result->items[i].malformed);
  snprintf(name, sizeof name, "%s/malformed", prefix);
  return ss_hdf5_write_array(file, name, SS_HDF5_I64, 1, dims, values, error);
}

static ss_status write_items(ss_hdf5 *file, const eval_result *result, ss_error *error) {
  char label[64], prefix[NAME_BYTES], name[NAME_BYTES + 32];
  eval_file_label(result->label, label, sizeof label);
  snprintf(prefix, sizeof prefix, "items/%s", label);
  SS_TRY(write_text_and_flags(file, result, prefix, error));
  int64_t *values = NULL, dims[1] = {result->n_item};
  SS_TRY(ss_allocate(&values, result->n_item, sizeof *values, "item values", error));
  ss_status status = write_counts(file, result, prefix, values, error);
  if (status == SS_OK) {
    double *scores = (double *)values;
    _Static_assert(sizeof *scores == sizeof *values, "scores share the array of counts");
    for (int64_t i = 0; i < result->n_item; i++)
      memcpy(&scores[i], &result->items[i].score, sizeof *scores);
    snprintf(name, sizeof name, "%s/score", prefix);
    status = ss_hdf5_write_array(file, name, SS_HDF5_F64, 1, dims, scores, error);
    for (int64_t m = 0; result->task != NULL && m < result->task->n_metric && status == SS_OK; m++) {
      for (int64_t i = 0; i < result->n_item; i++)
        memcpy(&scores[i], &result->items[i].metrics[m], sizeof *scores);
      snprintf(name, sizeof name, "%s/metrics/%s", prefix, result->task->metrics[m].name);
      status = ss_hdf5_write_array(file, name, SS_HDF5_F64, 1, dims, scores, error);
    }
  }
  free(values);
  return status;
}

static ss_status write_all(ss_hdf5 *file, const eval_result *results, int count, const json_t *summary,
                           ss_error *error) {
  json_t *arms = eval_arms_json(results, count), *names = json_array();
  for (int k = 0; k < count; k++)
    json_array_append_new(names, json_string(results[k].label));
  char *text = json_dumps(summary, JSON_INDENT(1)), *labels = json_dumps(names, JSON_COMPACT);
  ss_status status = text == NULL || labels == NULL
                         ? ss_fail(error, SS_ERROR_MEMORY, "out of memory for the summary")
                         : ss_hdf5_set_string(file, "summary", text, error);
  if (status == SS_OK)
    status = ss_hdf5_set_string(file, "arms", labels, error);
  if (status == SS_OK)
    status = write_summary(file, arms, count, error);
  if (status == SS_OK)
    status = write_means(file, results, count, error);
  for (int k = 0; k < count && status == SS_OK; k++)
    status = write_items(file, &results[k], error);
  free(text);
  free(labels);
  json_decref(arms);
  json_decref(names);
  return status;
}

ss_status eval_write_hdf5(const char *path, const eval_result *results, int count, const json_t *summary,
                          ss_error *error) {
  ss_hdf5 *file = NULL;
  SS_TRY(ss_hdf5_create(&file, path, RESULTS_FORMAT, RESULTS_SCHEMA_VERSION, error));
  ss_status status = write_all(file, results, count, summary, error);
  if (status != SS_OK) {
    ss_hdf5_close(file);
    return status;
  }
  return ss_hdf5_commit(file, error);
}
