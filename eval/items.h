// items.jsonl: one line an item, in the order of the data. Its "id", "steps", "references" and "answer" are what
// `selfspan eval score` reads, so an items file can be scored again.
#ifndef SELFSPAN_EVAL_ITEMS_H
#define SELFSPAN_EVAL_ITEMS_H

#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "data/example.h"
#include "data/vocabulary.h"
#include "eval/compare.h"
#include "eval/evaluate.h"
#include "infer/decoder.h"

// *line = the item as one JSON object without a newline; malloc'ed. `result` is NULL for an item that no model wrote,
// whose line has no prompt and output; `vocabulary` is then not used.
ss_status eval_item_line(char **line, const eval_item *item, const eval_task *task, const example *gold,
                         const decode_result *result, const eval_written *written,
                         const vocabulary *vocabulary, ss_error *error);

// Sequences finish in any order; their lines are written in the order of their requests.
typedef struct {
  FILE *file;
  char **waiting;  // [capacity]: lines from `next` on that cannot be written yet
  int64_t next, n_waiting, capacity;
} eval_item_queue;

void eval_item_queue_start(eval_item_queue *queue, FILE *file);
// Takes `line` (and frees it, on failure too) as number `order`, counted from 0 without gaps; writes what is due.
ss_status eval_item_queue_put(eval_item_queue *queue, int64_t order, char *line, ss_error *error);
void eval_item_queue_free(eval_item_queue *queue);

// A text file that appears under its name only when complete.
typedef struct {
  FILE *file;
  char *temporary, *path;
} eval_items_file;

ss_status eval_items_open(eval_items_file *items, const char *path, ss_error *error);
// Flushes, fsyncs and renames. On failure nothing is left.
ss_status eval_items_commit(eval_items_file *items, ss_error *error);
// Removes what was written; does nothing after a commit or when never opened (zeroed).
void eval_items_abandon(eval_items_file *items);

#endif
