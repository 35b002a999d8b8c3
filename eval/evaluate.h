// Evaluation of one arm on a store: decode, score by the task's scorer, aggregate with intervals, keep every item.
#ifndef SELFSPAN_EVAL_EVALUATE_H
#define SELFSPAN_EVAL_EVALUATE_H

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "data/render.h"
#include "data/store.h"
#include "eval/bootstrap.h"
#include "eval/kept.h"
#include "eval/task.h"
#include "eval/written.h"
#include "infer/decoder.h"

#define EVAL_N_GROUP 65  // groups 0..64

// One scored item. eval/compare.h fills it, eval/items.h writes it.
typedef struct {
  int64_t index;  // of the example in the store (or in the list of expressions)
  char id[64];
  int32_t group;                    // the task's group, 0..64
  bool correct;                     // answer exact match
  double score;                     // the task's own number
  double metrics[EVAL_MAX_METRIC];  // NaN: the item has no such number
  int64_t steps_gold, steps_written, steps_correct;
  int64_t references_gold, references_written, references_right;
  int64_t headers, headers_exact;  // 0 headers: the output carries none
  int32_t stop;                    // decode_stop
  span_malformed malformed;
  int64_t generated_tokens, attended_rows, prefill_rows;
} eval_item;

// Counts of one group of items (all, or one number of operators).
typedef struct {
  int64_t items, correct;             // answer exact match
  double score_sum;                   // sum of the task's own numbers
  int64_t steps_gold, steps_correct;  // step exact match: generated step k equals gold step k
  int64_t steps_written;
  int64_t derivations_exact;  // every step and the answer exact, and no step more
  int64_t references_gold, references_written, references_right;  // for precision and recall
  int64_t headers, headers_exact;  // gold headers; those matched by a header that names the same set
  int64_t all_exact_items, all_exact_correct;  // items whose headers are all exact; those answered right
  int64_t malformed_items;                     // with any malformed token, or not ended by <eos>
  int64_t unfinished_items;                    // not ended by <eos>
  int64_t generated_tokens, attended_rows, prefill_rows;
  span_malformed malformed;
} eval_counts;

// A metric over the items that have it; no items: NaN.
typedef struct {
  bootstrap_interval interval;
  int64_t items;
} eval_metric_mean;

// A written text that was kept, to be read beside others.
typedef struct {
  int64_t index;  // of the example
  eval_written written;
} eval_sample;

typedef struct {
  char label[32];  // "base", "dense", "annotated", "span", "span/oracle", ...
  arm arm;
  int control;  // decode_control
  eval_counts all;
  eval_counts groups[EVAL_N_GROUP];  // by the task's group (arithmetic: number of operators)
  const eval_task *task;             // NULL: a task without metrics
  const char *group_name;            // heading of the groups ("operators")
  const char *score_name;            // what the task's own number says ("rounded")
  bool decoded;             // speed and rows were measured (false: another system's output was scored)
  decode_statistics speed;  // n_sequence may be less than the items: those of a killed run have no time
  int64_t slots;            // sequences decoded at the same time
  char decoder[256];        // decoder_description
  double ceiling_examples_per_second;  // what the device could reach on the same work; 0 when not measured
  double train_seconds;                // of the checkpoint; 0 when unknown
  eval_item *items;                    // every item, by index; NULL unless keep_items or the task has metrics
  int64_t n_item, item_capacity;
  eval_sample *samples;  // what was written for the first items, by index
  int64_t n_sample, sample_capacity;
  // What eval_measure (eval/metrics.h) finds.
  eval_metric_mean metrics[EVAL_MAX_METRIC];
  char against[32];                               // the arm that this one is compared with; empty: none
  eval_metric_mean differences[EVAL_MAX_METRIC];  // this arm's less that arm's, item by item
  double rows_ratio;  // attended rows, as a share of that arm's; NaN: not measured
} eval_result;

// Adds one item to the totals and to its group.
void eval_result_add(eval_result *result, const eval_item *item);

// Keeps a copy of the item.
ss_status eval_result_keep(eval_result *result, const eval_item *item, ss_error *error);

// Moves `written` into the result's samples, leaving an empty one.
ss_status eval_result_sample(eval_result *result, int64_t index, eval_written *written, ss_error *error);

// Brings items and samples into the order of the data, and adds up what is real in that order, so that the order in
// which sequences end does not show.
void eval_result_settle(eval_result *result);

// Frees the items. A zeroed result is empty.
void eval_result_free(eval_result *result);

typedef struct {
  gpt *model;
  const vocabulary *vocabulary;
  arm arm;
  const char *label;
  span_policy policy;
  decode_options decode;
  const eval_task *task;
  int64_t max_items;              // 0: all
  int64_t group_low, group_high;  // items outside are passed over (0, 64: all)
  bool random_anchor_offset;
  FILE *items;       // items.jsonl (eval/items.h), in the order of the data; may be NULL
  bool keep_items;   // fill result->items
  int64_t n_sample;  // keep what is written for so many of the first examples
  eval_kept *kept;   // open: what stands in it is not decoded again, what is decoded is added; may be NULL
  bool quiet;
  const volatile sig_atomic_t *stop;  // not zero: stop with SS_ERROR_INTERRUPTED; may be NULL
} eval_request;

// Decodes and scores the store's examples. Prompts are the arm's renderings before prompt_end. Temperature and
// anchor offsets draw from decode.seed and the example's index, so a subset gets what the whole set would. *result
// is overwritten; free it with eval_result_free, after a failure too.
ss_status evaluate_store(const eval_request *request, store *data, eval_result *result, ss_error *error);

// Where evaluate_examples takes examples from: the next one's content is put into *example and *annotated (storage
// is the evaluation's, reused), its number into *index; *done when there are none.
typedef ss_status (*eval_source)(void *user, example *example, rendering *annotated, int64_t *index,
                                 bool *done, ss_error *error);

// The same for examples from anywhere. `total` is for the progress bar (0: unknown).
ss_status evaluate_examples(const eval_request *request, eval_source source, void *user, int64_t total,
                            eval_result *result, ss_error *error);

#endif
