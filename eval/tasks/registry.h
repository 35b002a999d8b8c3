// The scorers, one a file of this folder.
#ifndef SELFSPAN_EVAL_TASKS_REGISTRY_H
#define SELFSPAN_EVAL_TASKS_REGISTRY_H

#include "eval/task.h"

extern const eval_task eval_task_arithmetic, eval_task_cnndm, eval_task_jsonl, eval_task_multihop;

#endif
