// The task registry's reading side: a task generates or reads examples. Kernels, model, training and
// decoding never name a task; eval/task.h is the scoring side.
#ifndef SELFSPAN_DATA_TASK_H
#define SELFSPAN_DATA_TASK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "data/example.h"
#include "data/vocabulary.h"

typedef enum { DATA_TRAIN, DATA_VALIDATION, DATA_TEST, DATA_N_SPLIT } data_split;
const char *data_split_name(data_split split);  // "train", "validation", "test"

// What long reading does beside it.
typedef struct {
  bool quiet;                         // do not show how far it is
  const volatile sig_atomic_t *stop;  // not zero: stop with SS_ERROR_INTERRUPTED; may be NULL
} data_opening;

typedef struct data_task {
  const char *name;
  const char *summary;
  // The task's own keys ("arithmetic.*") over a config struct of config_size bytes.
  const ss_key *keys;
  size_t config_size;

  // Opens a source: `config` is the filled struct; *state is freed by close. A reader of files takes its
  // paths from the config. `exclude` (may be NULL) is a file of contents to keep out (one a line).
  ss_status (*open)(void **state, const void *config, uint64_t seed, const char *exclude,
                    const data_opening *how, ss_error *error);
  void (*close)(void *state);
  // The vocabulary this source writes; the caller owns *out. Asked for once, before the first scratch; it outlives the
  // examples, because a task may cut them to a number of tokens.
  ss_status (*vocabulary)(void *state, int32_t n_anchor, vocabulary **out, ss_error *error);
  // Examples of a split: the wanted number for a generator is the caller's; a reader says its own. -1: unlimited.
  int64_t (*count)(void *state, data_split split);
  // Example `index` of a split: a pure function of (config, seed, split, index), safe to call from many threads
  // with distinct `scratch` (made by scratch_create; may be NULL for tasks that need none). *skip is set when the
  // index yields nothing (a generator's example of another split, or excluded, or a broken input row); then the
  // reason, if any, is in *reason (a static string), and a reader's *out has the id.
  ss_status (*scratch_create)(void *state, void **scratch, ss_error *error);
  void (*scratch_free)(void *scratch);
  ss_status (*example)(void *state, void *scratch, data_split split, int64_t index, example *out, bool *skip,
                       const char **reason, ss_error *error);
  // What the reader should know about the source (broken rows, ...), malloc'ed, or NULL. The member may be NULL.
  ss_status (*notes)(void *state, char **out, ss_error *error);
  // What the card says of a split beyond data/statistics.h, added up over the examples that were kept; by one thread at a
  // time, in their order. tally_json gives an object of numbers whose names are for readers ("article: sentences"),
  // NULL when memory is out. All four members or none.
  ss_status (*tally_create)(void **tally, ss_error *error);
  ss_status (*tally_add)(void *tally, const example *example, ss_error *error);
  json_t *(*tally_json)(const void *tally);
  void (*tally_free)(void *tally);
} data_task;

// All tasks; NULL-terminated. Adding a task is one row in data/tasks/registry.c.
extern const data_task *const data_tasks[];
// The task of that name, or NULL with an error that names the known ones.
const data_task *data_task_find(const char *name, ss_error *error);

#endif
