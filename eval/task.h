// The task registry's scoring side: decoded text against gold -> metrics.
#ifndef SELFSPAN_EVAL_TASK_H
#define SELFSPAN_EVAL_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/example.h"

// One header's references as written: unknown and duplicate ones included.
typedef struct {
  int64_t first, end;  // into the list of references
} eval_header;

// A generated sequence as texts and references, task-free: what the decoder's layout cut.
typedef struct {
  const char *const *steps;  // [n_step] body texts, special tokens left out
  int64_t n_step;
  const char *answer;  // NULL when none was written
  bool has_headers;    // false: the output carries none (the dense arm), so nothing can be said of them
  const eval_header *headers;  // [n_header], one a step, then the answer's
  int64_t n_header;
  const int32_t *references;  // indices of segments, as the headers name them
} eval_output;

typedef struct {
  bool correct;  // the answer counts as right
  int64_t steps_gold, steps_correct;
  double score;  // the task's own number (arithmetic: 1 when right after rounding, else 0)
} eval_score;

typedef struct eval_task {
  const char *name;
  ss_status (*score)(const example *gold, const eval_output *output, eval_score *score, ss_error *error);
  // The group an item is tabulated under (arithmetic: number of operators), 0..64; and its heading.
  int32_t (*group)(const example *gold);
  const char *group_name;  // "operators"
  const char *score_name;  // what `score` says, for headings ("rounded")
} eval_task;

// All scorers; NULL-terminated. Adding a task is one row in eval/tasks/registry.c.
extern const eval_task *const eval_tasks[];
const eval_task *eval_task_find(const char *name, ss_error *error);  // an error names the known ones

extern const eval_task eval_task_arithmetic, eval_task_jsonl;

#endif
