#include "eval/items.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/utf8.h"

// --- a line ---

static const char *stop_name(int32_t stop) {
  return stop == DECODE_STOP_EOS ? "eos" : stop == DECODE_STOP_LENGTH ? "length" : "anchors";
}

static ss_status set_readable(json_t *object, const char *key, const vocabulary *vocabulary,
                              const int32_t *tokens, int64_t n, ss_error *error) {
  char *text = NULL;
  SS_TRY(vocabulary_decode(vocabulary, tokens, n, false, &text, error));
  int failed = json_object_set_new(object, key, ss_utf8_json(text));
  free(text);
  return failed ? ss_fail(error, SS_ERROR_MEMORY, "out of memory for an item's %s", key) : SS_OK;
}

static json_t *written_references(const eval_written *written) {
  json_t *lists = json_array();
  for (int64_t k = 0; k < written->n_header; k++) {
    json_t *list = json_array();
    for (int64_t r = written->headers[k].first; r < written->headers[k].end; r++)
      json_array_append_new(list, json_integer(written->references[r]));
    json_array_append_new(lists, list);
  }
  return lists;
}

static json_t *gold_references(const example *gold) {
  json_t *lists = json_array();
  for (int64_t s = 0; s < gold->n_segment; s++) {
    const example_segment *segment = &gold->segments[s];
    if (segment->kind == SPAN_CONTEXT)
      continue;
    json_t *list = json_array();
    for (int32_t r = 0; r < segment->n_reference; r++)
      json_array_append_new(list, json_integer(gold->references[segment->reference_first + r]));
    json_array_append_new(lists, list);
  }
  return lists;
}

static json_t *written_steps(const eval_written *written) {
  json_t *list = json_array();
  for (int64_t k = 0; k < written->n_step; k++)
    json_array_append_new(list, ss_utf8_json(written->steps[k]));
  return list;
}

static json_t *gold_answers(const example *gold) {
  json_t *list = json_array();
  const char *answer = gold->answers;
  for (int32_t k = 0; k < gold->n_answer; k++, answer += strlen(answer) + 1)
    json_array_append_new(list, ss_utf8_json(answer));
  return list;
}

static json_t *item_malformed(const eval_item *item) {
  const span_malformed *m = &item->malformed;
  return json_pack("{si si si si si si si}", "unknown_reference", m->unknown_reference, "duplicate_reference",
                   m->duplicate_reference, "unordered_reference", m->unordered_reference, "wrong_anchor",
                   m->wrong_anchor, "unclosed_segment", m->unclosed_segment, "long_header", m->long_header,
                   "stray_token", m->stray_token);
}

static void set_counts(json_t *object, const eval_item *item) {
  json_object_set_new(object, "score", json_real(item->score));
  json_object_set_new(object, "correct", json_boolean(item->correct));
  json_object_set_new(object, "steps_gold", json_integer(item->steps_gold));
  json_object_set_new(object, "steps_correct", json_integer(item->steps_correct));
  json_object_set_new(object, "headers", json_integer(item->headers));
  json_object_set_new(object, "headers_exact", json_integer(item->headers_exact));
  json_object_set_new(object, "rows", json_integer(item->attended_rows));
  json_object_set_new(object, "prefill_rows", json_integer(item->prefill_rows));
  json_object_set_new(object, "tokens", json_integer(item->generated_tokens));
  json_object_set_new(object, "malformed", json_integer(span_malformed_total(&item->malformed)));
  if (span_malformed_total(&item->malformed) > 0)
    json_object_set_new(object, "malformed_kinds", item_malformed(item));
  json_object_set_new(object, "stop", json_string(stop_name(item->stop)));
}

static json_t *item_metrics(const eval_item *item, const eval_task *task) {
  json_t *object = json_object();
  for (int64_t k = 0; k < task->n_metric; k++)
    json_object_set_new(object, task->metrics[k].name,
                        isfinite(item->metrics[k]) ? json_real(item->metrics[k]) : json_null());
  return object;
}

ss_status eval_item_line(char **line, const eval_item *item, const eval_task *task, const example *gold,
                         const decode_result *result, const eval_written *written,
                         const vocabulary *vocabulary, ss_error *error) {
  json_t *object = json_object();
  json_object_set_new(object, "id", ss_utf8_json(item->id));
  json_object_set_new(object, "index", json_integer(item->index));
  json_object_set_new(object, "group", json_integer(item->group));
  if (result != NULL) {
    int64_t n = result->n_prompt;
    ss_status status = set_readable(object, "prompt", vocabulary, result->tokens, n, error);
    if (status == SS_OK)
      status = set_readable(object, "output", vocabulary, result->tokens + n, result->n_token - n, error);
    if (status != SS_OK) {
      json_decref(object);
      return status;
    }
  }
  json_object_set_new(object, "steps", written_steps(written));
  json_object_set_new(object, "answer",
                      written->answer == NULL ? json_null() : ss_utf8_json(written->answer));
  json_object_set_new(object, "gold_answers", gold_answers(gold));
  if (written->has_headers) {
    json_object_set_new(object, "references", written_references(written));
    json_object_set_new(object, "gold_references", gold_references(gold));
  }
  set_counts(object, item);
  if (task->n_metric > 0)
    json_object_set_new(object, "metrics", item_metrics(item, task));
  char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(10));
  json_decref(object);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the line of item %s", item->id);
  *line = text;
  return SS_OK;
}

// --- the order of lines ---

void eval_item_queue_start(eval_item_queue *queue, FILE *file) {
  memset(queue, 0, sizeof *queue);
  queue->file = file;
}

ss_status eval_item_queue_put(eval_item_queue *queue, int64_t order, char *line, ss_error *error) {
  int64_t place = order - queue->next;
  if (place >= queue->n_waiting) {
    ss_status status = ss_grow(&queue->waiting, &queue->capacity, place + 1, sizeof *queue->waiting,
                               "waiting lines", error);
    if (status != SS_OK) {
      free(line);
      return status;
    }
    for (int64_t k = queue->n_waiting; k <= place; k++)
      queue->waiting[k] = NULL;
    queue->n_waiting = place + 1;
  }
  queue->waiting[place] = line;
  int64_t due = 0;
  bool written = true;
  while (due < queue->n_waiting && queue->waiting[due] != NULL) {
    written = written && fprintf(queue->file, "%s\n", queue->waiting[due]) >= 0;
    free(queue->waiting[due++]);
  }
  queue->n_waiting -= due;
  queue->next += due;
  if (queue->n_waiting > 0)
    memmove(queue->waiting, queue->waiting + due, (size_t)queue->n_waiting * sizeof *queue->waiting);
  return written ? SS_OK : ss_fail_errno(error, SS_ERROR_IO, "items: cannot write");
}

void eval_item_queue_free(eval_item_queue *queue) {
  for (int64_t k = 0; k < queue->n_waiting; k++)
    free(queue->waiting[k]);
  free(queue->waiting);
  memset(queue, 0, sizeof *queue);
}

// --- the file ---

ss_status eval_items_open(eval_items_file *items, const char *path, ss_error *error) {
  memset(items, 0, sizeof *items);
  SS_TRY(ss_format(&items->path, error, "%s", path));
  ss_status status = ss_temporary_path(path, &items->temporary, error);
  if (status == SS_OK) {
    items->file = fopen(items->temporary, "w");
    if (items->file == NULL)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot create", items->temporary);
  }
  if (status != SS_OK)
    eval_items_abandon(items);
  return status;
}

ss_status eval_items_commit(eval_items_file *items, ss_error *error) {
  FILE *file = items->file;
  items->file = NULL;
  bool failed = ferror(file) != 0;
  failed = fclose(file) != 0 || failed;
  ss_status status = failed ? ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", items->path)
                            : ss_commit_file(items->temporary, items->path, error);
  eval_items_abandon(items);
  return status;
}

void eval_items_abandon(eval_items_file *items) {
  if (items->file != NULL)
    fclose(items->file);
  // After a commit the temporary name is gone already, and unlink finds nothing.
  if (items->temporary != NULL)
    unlink(items->temporary);
  free(items->temporary);
  free(items->path);
  memset(items, 0, sizeof *items);
}
