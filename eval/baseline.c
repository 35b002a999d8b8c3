#include "eval/baseline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/compare.h"
#include "eval/items.h"

#define BLOCK_EXAMPLES 64

const eval_baseline *eval_baseline_find(const eval_task *task, const char *name, ss_error *error) {
  char known[256] = "";
  size_t used = 0;
  for (int64_t k = 0; k < task->n_baseline; k++) {
    if (strcmp(task->baselines[k].name, name) == 0)
      return &task->baselines[k];
    if (used < sizeof known)
      used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", k > 0 ? ", " : "",
                               task->baselines[k].name);
  }
  if (task->n_baseline == 0)
    ss_fail(error, SS_ERROR_USAGE, "--baselines: task %s has none", task->name);
  else
    ss_fail(error, SS_ERROR_USAGE, "--baselines: \"%s\", expected of task %s: %s", name, task->name, known);
  return NULL;
}

static ss_status write_segment(const example *gold, int32_t s, eval_written *written, ss_error *error) {
  const example_segment *segment = &gold->segments[s];
  char *text = NULL;
  SS_TRY(ss_format(&text, error, "%.*s", (int)(segment->text_end - segment->text_first),
                   gold->text + segment->text_first));
  ss_status status = eval_written_step(written, text, error);
  free(text);
  SS_TRY(status);
  SS_TRY(eval_written_header(written, error));
  return eval_written_reference(written, s, error);
}

ss_status eval_baseline_write(const eval_baseline *baseline, const example *gold, eval_written *written,
                              ss_error *error) {
  int32_t *segments = NULL;
  int64_t n = 0;
  eval_written_reset(written);
  written->has_headers = true;
  SS_TRY(ss_allocate(&segments, gold->n_segment, sizeof *segments, "extract", error));
  ss_status status = baseline->select(gold, segments, &n, error);
  for (int64_t k = 0; k < n && status == SS_OK; k++)
    status = write_segment(gold, segments[k], written, error);
  free(segments);
  return status;
}

typedef struct {
  const eval_request *request;
  const eval_baseline *baseline;
  eval_result *result;
  eval_written written;
} extraction;

static ss_status take_example(extraction *run, const example *gold, int64_t index, ss_error *error) {
  const eval_request *request = run->request;
  int32_t group = eval_group(request->task, gold);
  if (group < request->group_low || group > request->group_high)
    return SS_OK;
  eval_item item = {0};
  item.index = index;
  item.stop = DECODE_STOP_EOS;
  SS_TRY(eval_baseline_write(run->baseline, gold, &run->written, error));
  SS_TRY(eval_compare(gold, &run->written, request->task, &item, error));
  // Its sentences are no steps of a derivation: that the k-th is not the k-th of gold says nothing.
  item.headers = item.headers_exact = 0;
  item.references_gold = item.references_written = item.references_right = 0;
  eval_result_add(run->result, &item);
  SS_TRY(eval_result_keep(run->result, &item, error));
  if (request->items != NULL) {
    char *line = NULL;
    SS_TRY(eval_item_line(&line, &item, request->task, gold, NULL, &run->written, NULL, error));
    bool wrote = fprintf(request->items, "%s\n", line) >= 0;
    free(line);
    if (!wrote)
      return ss_fail_errno(error, SS_ERROR_IO, "items: cannot write");
  }
  if (run->result->all.items <= request->n_sample)
    return eval_result_sample(run->result, index, &run->written, error);
  return SS_OK;
}

static ss_status take_store(extraction *run, store *data, example *examples, rendering *renderings,
                            ss_error *error) {
  int64_t total = store_n_example(data), most = run->request->max_items;
  for (int64_t first = 0; first < total; first += BLOCK_EXAMPLES) {
    int64_t count = total - first < BLOCK_EXAMPLES ? total - first : BLOCK_EXAMPLES;
    SS_TRY(store_read(data, first, count, examples, renderings, error));
    for (int64_t k = 0; k < count; k++) {
      if (run->request->stop != NULL && *run->request->stop != 0)
        return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted");
      if (most > 0 && run->result->all.items == most)
        return SS_OK;
      SS_TRY(take_example(run, &examples[k], first + k, error));
    }
  }
  return SS_OK;
}

ss_status evaluate_baseline(const eval_request *request, const eval_baseline *baseline, store *data,
                            eval_result *result, ss_error *error) {
  memset(result, 0, sizeof *result);
  snprintf(result->label, sizeof result->label, "%s", request->label);
  result->task = request->task;
  result->group_name = request->task->group_name;
  result->score_name = request->task->score_name;
  extraction run = {.request = request, .baseline = baseline, .result = result};
  example *examples = NULL;
  rendering *renderings = NULL;
  ss_status status = ss_allocate(&examples, BLOCK_EXAMPLES, sizeof *examples, "examples", error);
  if (status == SS_OK)
    status = ss_allocate(&renderings, BLOCK_EXAMPLES, sizeof *renderings, "renderings", error);
  if (status == SS_OK)
    status = take_store(&run, data, examples, renderings, error);
  for (int64_t k = 0; k < BLOCK_EXAMPLES; k++) {
    if (examples != NULL)
      example_free(&examples[k]);
    if (renderings != NULL)
      rendering_free(&renderings[k]);
  }
  free(examples);
  free(renderings);
  eval_written_free(&run.written);
  if (status == SS_OK)
    eval_result_settle(result);
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s", request->label);
}
