#include <string.h>

#include "data/task.h"
#include "data/tasks/arithmetic.h"
#include "data/tasks/cnndm.h"
#include "data/tasks/jsonl.h"
#include "data/tasks/multihop.h"

const data_task *const data_tasks[] = {&arithmetic_task, &cnndm_task, &jsonl_task, &multihop_task, NULL};

const char *data_split_name(data_split split) {
  static const char *const names[DATA_N_SPLIT] = {"train", "validation", "test"};
  return (unsigned)split < DATA_N_SPLIT ? names[split] : "unknown";
}

const data_task *data_task_find(const char *name, ss_error *error) {
  char known[256] = "";
  size_t length = 0;
  for (const data_task *const *task = data_tasks; *task != NULL; task++) {
    if (strcmp((*task)->name, name) == 0)
      return *task;
    size_t n = strlen((*task)->name);
    if (length + n + 3 < sizeof known) {
      memcpy(known + length, length == 0 ? "" : ", ", length == 0 ? 0 : 2);
      length += length == 0 ? 0 : 2;
      memcpy(known + length, (*task)->name, n + 1);
      length += n;
    }
  }
  ss_fail(error, SS_ERROR_USAGE, "no task \"%s\"; known: %s", name, known);
  return NULL;
}
