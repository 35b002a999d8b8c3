#include "eval/compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool contains(const int32_t *values, int64_t count, int32_t value) {
  for (int64_t k = 0; k < count; k++)
    if (values[k] == value)
      return true;
  return false;
}

// `right` counts gold references that were written, so that a duplicate counts once.
static void compare_headers(const example *gold, const eval_written *written, eval_item *item) {
  int64_t k = 0;
  for (int64_t s = 0; s < gold->n_segment; s++) {
    const example_segment *segment = &gold->segments[s];
    if (segment->kind != SPAN_STEP && segment->kind != SPAN_ANSWER)
      continue;
    eval_header none = {0, 0};
    const eval_header *header = k < written->n_header ? &written->headers[k] : &none;
    int64_t n_written = header->end - header->first, right = 0;
    for (int32_t r = 0; r < segment->n_reference; r++)
      right += n_written > 0 && contains(written->references + header->first, n_written,
                                         gold->references[segment->reference_first + r]);
    item->headers++;
    item->headers_exact += k < written->n_header && n_written == segment->n_reference && right == n_written;
    item->references_gold += segment->n_reference;
    item->references_right += right;
    k++;
  }
  item->references_written = written->n_reference;
}

int32_t eval_group(const eval_task *task, const example *gold) {
  int32_t group = task->group(gold);
  return group < 0 ? 0 : group >= EVAL_N_GROUP ? EVAL_N_GROUP - 1 : group;
}

ss_status eval_compare(const example *gold, const eval_written *written, const eval_task *task,
                       eval_item *item, ss_error *error) {
  eval_output output = {.steps = (const char *const *)written->steps,
                        .n_step = written->n_step,
                        .answer = written->answer,
                        .has_headers = written->has_headers,
                        .headers = written->headers,
                        .n_header = written->n_header,
                        .references = written->references};
  eval_score score = {0};
  for (int64_t k = 0; k < EVAL_MAX_METRIC; k++)
    score.metrics[k] = NAN;
  SS_TRY(task->score(gold, &output, &score, error));
  snprintf(item->id, sizeof item->id, "%s", gold->id);
  item->group = eval_group(task, gold);
  item->correct = score.correct;
  item->score = score.score;
  memcpy(item->metrics, score.metrics, sizeof item->metrics);
  item->steps_gold = score.steps_gold;
  item->steps_correct = score.steps_correct;
  item->steps_written = written->n_step;
  item->references_gold = item->references_written = item->references_right = 0;
  item->headers = item->headers_exact = 0;
  if (written->has_headers)
    compare_headers(gold, written, item);
  return SS_OK;
}
