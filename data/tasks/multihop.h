// The multihop task: a question and sentences as contexts, one step a hop, each referencing the sentences that support
// it (and the earlier step that it builds on), then the answer. Two sources write the same kind of example:
//
// - multihop.path names a file of rows as the jsonl task's (data/tasks/jsonl.h). The first context is the question, the
//   others are sentences; there is one answer or more, and one step or more.
// - Without a path, two-hop questions are invented: who has what, who is where.
//
//     Where is the lamp?  Eva has the coin.  Mia is in the old mill.  Mia has the lamp.  Eva is in the red barn.
//     step    references sentence 3             " Mia has the lamp."
//     step    references sentence 2 and step 1  " Mia is in the old mill."
//     answer  references step 2                 " the old mill"
//
//   An object, who has it and where it is, asked about together, belong to one split by their hash alone: a question
//   of the test was never answered in training, whatever the seed. Its pairs may have been.
//
// The vocabulary is bytes, or a tokenizer's.
#ifndef SELFSPAN_DATA_TASKS_MULTIHOP_H
#define SELFSPAN_DATA_TASKS_MULTIHOP_H

#include "common/config.h"
#include "data/task.h"
#include "data/tasks/jsonl.h"

#define MULTIHOP_MOST_PEOPLE 16

typedef struct {
  jsonl_config rows;                 // path: "" invents questions
  char tokenizer[SS_CONFIG_STRING];  // "": bytes
  int64_t people_low, people_high;   // people of an invented example; each brings two sentences
  int64_t names;                     // how many different ones there are
} multihop_config;

extern const ss_key multihop_keys[];  // "multihop.*" over a multihop_config
extern const data_task multihop_task;

#endif
