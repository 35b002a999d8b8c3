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

#define EVAL_MAX_METRIC 20

// A number that a task measures of every item beside `correct` and `score`. Its mean over the items is reported with a
// bootstrap interval, and with its paired difference to another arm (eval/metrics.h).
typedef struct {
  const char *name;     // key in files: "rouge2"
  const char *heading;  // of its column in the table; NULL: only in files
  double scale;         // the table shows scale x value with `decimals` decimals
  int decimals;
  bool compared;  // the table shows the interval, and the difference to the arm it is compared with
} eval_metric;

// An extract to compare generated texts with: context segments as steps, each with itself as its only reference.
typedef struct {
  const char *name;  // its label in the table: "lead3"
  // segments [gold->n_segment] takes the numbers of *n context segments, in the order in which they are read.
  ss_status (*select)(const example *gold, int32_t *segments, int64_t *n, ss_error *error);
} eval_baseline;

typedef struct {
  bool correct;  // the answer counts as right
  int64_t steps_gold, steps_correct;
  double score;                     // the task's own number (arithmetic: 1 when right after rounding, else 0)
  double metrics[EVAL_MAX_METRIC];  // by the task's list; NaN, how they come, where an item has none
} eval_score;

typedef struct eval_task {
  const char *name;
  ss_status (*score)(const example *gold, const eval_output *output, eval_score *score, ss_error *error);
  // The group an item is tabulated under (arithmetic: number of operators), 0..64; and its heading.
  int32_t (*group)(const example *gold);
  const char *group_name;      // "operators"
  const char *score_name;      // what `score` says, for headings ("rounded")
  const eval_metric *metrics;  // [n_metric]
  int64_t n_metric;            // 0..EVAL_MAX_METRIC
  // No output is right or wrong: `correct` and steps say nothing, and tables and sentences leave them out.
  bool open_ended;
  const eval_baseline *baselines;  // [n_baseline], what --baselines takes
  int64_t n_baseline;
} eval_task;

// All scorers; NULL-terminated. Adding a task is one row in eval/tasks/registry.c.
extern const eval_task *const eval_tasks[];
const eval_task *eval_task_find(const char *name, ss_error *error);  // an error names the known ones

#endif
