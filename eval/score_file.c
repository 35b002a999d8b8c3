#include "eval/score_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/compare.h"

#define BLOCK_EXAMPLES 64

// --- the predictions, by id ---

static ss_status read_line(json_t *by_id, const char *path, int64_t line, const char *text, size_t n,
                           ss_error *error) {
  json_error_t problem;
  json_t *prediction = json_loadb(text, n, 0, &problem);
  if (prediction == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: not JSON: %s", path, (long long)line, problem.text);
  ss_status status = SS_OK;
  const json_t *id = json_object_get(prediction, "id"), *answer = json_object_get(prediction, "answer");
  const json_t *steps = json_object_get(prediction, "steps");
  const json_t *references = json_object_get(prediction, "references");
  if (!json_is_string(id))
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: expected an object with a string \"id\"", path,
                     (long long)line);
  else if (json_object_get(by_id, json_string_value(id)) != NULL)
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: id \"%s\" comes twice", path, (long long)line,
                     json_string_value(id));
  else if (answer != NULL && !json_is_string(answer) && !json_is_null(answer))
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: \"answer\" must be a string or null", path,
                     (long long)line);
  else if (steps != NULL && !json_is_array(steps))
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: \"steps\" must be a list of strings", path,
                     (long long)line);
  else if (references != NULL && !json_is_array(references))
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%lld: \"references\" must be lists of segment indices", path,
                     (long long)line);
  if (status == SS_OK) {
    json_object_set_new(prediction, "line", json_integer(line));
    json_object_set(by_id, json_string_value(id), prediction);
  }
  json_decref(prediction);
  return status;
}

static ss_status read_predictions(const char *path, json_t *by_id, int64_t *count, ss_error *error) {
  FILE *file = fopen(path, "r");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  char *text = NULL;
  size_t capacity = 0;
  ssize_t n;
  ss_status status = SS_OK;
  for (int64_t line = 1; status == SS_OK && (n = getline(&text, &capacity, file)) >= 0; line++) {
    if (strspn(text, " \t\r\n") == (size_t)n)
      continue;
    status = read_line(by_id, path, line, text, (size_t)n, error);
    ++*count;
  }
  if (status == SS_OK && ferror(file))
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read", path);
  free(text);
  fclose(file);
  return status;
}

// --- one prediction ---

static ss_status take_references(eval_written *written, const json_t *lists, const char *where,
                                 ss_error *error) {
  size_t k, r;
  const json_t *list, *reference;
  json_array_foreach(lists, k, list) {
    if (!json_is_array(list))
      return ss_fail(error, SS_ERROR_INPUT, "%s: \"references\" must be lists of segment indices", where);
    SS_TRY(eval_written_header(written, error));
    json_array_foreach(list, r, reference) {
      json_int_t segment = json_integer_value(reference);
      if (!json_is_integer(reference) || segment > INT32_MAX || segment < INT32_MIN)
        return ss_fail(error, SS_ERROR_INPUT, "%s: \"references\" must be lists of segment indices", where);
      SS_TRY(eval_written_reference(written, (int32_t)segment, error));
    }
  }
  return SS_OK;
}

static ss_status take_prediction(eval_written *written, const json_t *prediction, const char *path,
                                 ss_error *error) {
  eval_written_reset(written);
  if (prediction == NULL)
    return SS_OK;
  char where[512];
  snprintf(where, sizeof where, "%s:%lld", path,
           (long long)json_integer_value(json_object_get(prediction, "line")));
  size_t k;
  const json_t *step, *steps = json_object_get(prediction, "steps");
  json_array_foreach(steps, k, step) {
    if (!json_is_string(step))
      return ss_fail(error, SS_ERROR_INPUT, "%s: \"steps\" must be a list of strings", where);
    SS_TRY(eval_written_step(written, json_string_value(step), error));
  }
  const json_t *answer = json_object_get(prediction, "answer");
  if (json_is_string(answer))
    SS_TRY(eval_written_answer(written, json_string_value(answer), error));
  const json_t *references = json_object_get(prediction, "references");
  return json_is_array(references) ? take_references(written, references, where, error) : SS_OK;
}

// --- all of them ---

typedef struct {
  const char *path;
  const eval_task *task;
  int64_t group_low, group_high;
  json_t *by_id;
  bool any_references;
  eval_written written;
  eval_result *result;
  eval_score_file_counts *counts;
} scoring;

static ss_status score_example(scoring *run, const example *gold, int64_t index, ss_error *error) {
  int32_t group = eval_group(run->task, gold);
  json_t *prediction = json_object_get(run->by_id, gold->id);
  if (prediction != NULL)
    json_object_set_new(prediction, "known", json_true());
  if (group < run->group_low || group > run->group_high)
    return SS_OK;
  SS_TRY(take_prediction(&run->written, prediction, run->path, error));
  // Where others name references, an item without them names none.
  run->written.has_headers = run->any_references;
  run->counts->missing += prediction == NULL;
  eval_item item = {0};
  item.index = index;
  item.stop = DECODE_STOP_EOS;
  SS_TRY(eval_compare(gold, &run->written, run->task, &item, error));
  eval_result_add(run->result, &item);
  return run->task->n_metric > 0 ? eval_result_keep(run->result, &item, error) : SS_OK;
}

static ss_status score_store(scoring *run, store *data, ss_error *error) {
  example *examples = NULL;
  rendering *renderings = NULL;
  SS_TRY(ss_allocate(&examples, BLOCK_EXAMPLES, sizeof *examples, "examples", error));
  ss_status status = ss_allocate(&renderings, BLOCK_EXAMPLES, sizeof *renderings, "renderings", error);
  int64_t total = store_n_example(data);
  for (int64_t first = 0; first < total && status == SS_OK; first += BLOCK_EXAMPLES) {
    int64_t count = total - first < BLOCK_EXAMPLES ? total - first : BLOCK_EXAMPLES;
    status = store_read(data, first, count, examples, renderings, error);
    for (int64_t k = 0; k < count && status == SS_OK; k++)
      status = score_example(run, &examples[k], first + k, error);
  }
  for (int64_t k = 0; k < BLOCK_EXAMPLES; k++) {
    example_free(&examples[k]);
    if (renderings != NULL)
      rendering_free(&renderings[k]);
  }
  free(examples);
  free(renderings);
  return status;
}

static ss_status check_ids(const scoring *run, ss_error *error) {
  const char *id;
  json_t *prediction;
  json_object_foreach(run->by_id, id, prediction) {
    if (json_object_get(prediction, "known") == NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: id \"%s\" is not in the data", run->path,
                     (long long)json_integer_value(json_object_get(prediction, "line")), id);
  }
  return SS_OK;
}

ss_status eval_score_file(const char *path, store *data, const eval_task *task, int64_t group_low,
                          int64_t group_high, eval_result *result, eval_score_file_counts *counts,
                          ss_error *error) {
  memset(result, 0, sizeof *result);
  memset(counts, 0, sizeof *counts);
  snprintf(result->label, sizeof result->label, "predictions");
  result->task = task;
  result->group_name = task->group_name;
  result->score_name = task->score_name;
  scoring run = {.path = path,
                 .task = task,
                 .group_low = group_low,
                 .group_high = group_high,
                 .result = result,
                 .counts = counts};
  run.by_id = json_object();
  ss_status status = read_predictions(path, run.by_id, &counts->predictions, error);
  const char *id;
  json_t *prediction;
  json_object_foreach(run.by_id, id, prediction) {
    run.any_references = run.any_references || json_is_array(json_object_get(prediction, "references"));
  }
  if (status == SS_OK)
    status = score_store(&run, data, error);
  if (status == SS_OK)
    status = check_ids(&run, error);
  if (status == SS_OK)
    eval_result_settle(result);
  if (status == SS_OK && result->all.items == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "none of the data's examples has %lld to %lld %s",
                     (long long)group_low, (long long)group_high, task->group_name);
  eval_written_free(&run.written);
  json_decref(run.by_id);
  return status;
}
