#include <stdio.h>
#include <string.h>

#include "eval/tasks/registry.h"

const eval_task *const eval_tasks[] = {&eval_task_arithmetic, &eval_task_cnndm, &eval_task_jsonl,
                                       &eval_task_multihop, NULL};

const eval_task *eval_task_find(const char *name, ss_error *error) {
  char known[256] = "";
  size_t used = 0;
  for (int k = 0; eval_tasks[k] != NULL; k++) {
    if (strcmp(eval_tasks[k]->name, name) == 0)
      return eval_tasks[k];
    if (used < sizeof known)
      used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", k > 0 ? ", " : "",
                               eval_tasks[k]->name);
  }
  ss_fail(error, SS_ERROR_USAGE, "no scorer for task \"%s\"; known: %s", name, known);
  return NULL;
}
