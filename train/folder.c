#include "train/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/folder.h"
#include "common/memory.h"

enum { FILE_CONFIG, FILE_METRICS, FILE_BEST, FILE_MODEL, FILE_OUTCOME, N_FILE };
static const char *const file_names[N_FILE] = {"config.json", "metrics.csv", "best.h5", "model.h5",
                                               "train.json"};

struct train_folder {
  char *path, *checkpoints;
  char *files[N_FILE];
  ss_folder_lock lock;
};

const char *train_folder_config(const train_folder *folder) {
  return folder->files[FILE_CONFIG];
}
const char *train_folder_metrics(const train_folder *folder) {
  return folder->files[FILE_METRICS];
}
const char *train_folder_best(const train_folder *folder) {
  return folder->files[FILE_BEST];
}
const char *train_folder_model(const train_folder *folder) {
  return folder->files[FILE_MODEL];
}
const char *train_folder_outcome(const train_folder *folder) {
  return folder->files[FILE_OUTCOME];
}
const char *train_folder_checkpoints(const train_folder *folder) {
  return folder->checkpoints;
}

static ss_status remove_file(const char *path, ss_error *error) {
  if (unlink(path) != 0 && errno != ENOENT)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot remove", path);
  return SS_OK;
}

// Removes a file, then its hash sidecar: in this order a kill in between leaves no file that looks damaged.
static ss_status remove_hashed(const char *path, ss_error *error) {
  char *sidecar = NULL;
  SS_TRY(remove_file(path, error));
  SS_TRY(ss_format(&sidecar, error, "%s.xxh128", path));
  ss_status status = remove_file(sidecar, error);
  free(sidecar);
  return status;
}

// A folder that an earlier run has used holds at least one of these.
static ss_status refuse_earlier_run(const train_folder *folder, ss_error *error) {
  int64_t *steps = NULL, count = 0;
  for (int i = 0; i < N_FILE; i++)
    if (i != FILE_CONFIG && ss_file_exists(folder->files[i]))
      return ss_fail(error, SS_ERROR_USAGE,
                     "%s: exists: an earlier run; continue it with --resume, or --force", folder->files[i]);
  SS_TRY(train_folder_steps(folder, &steps, &count, error));
  free(steps);
  if (count > 0)
    return ss_fail(error, SS_ERROR_USAGE, "%s: holds an earlier run's checkpoints; use --resume or --force",
                   folder->checkpoints);
  return SS_OK;
}

static ss_status prepare(train_folder *folder, const char *path, train_folder_use use, ss_error *error) {
  SS_TRY(ss_format(&folder->path, error, "%s", path));
  SS_TRY(ss_format(&folder->checkpoints, error, "%s/checkpoints", path));
  for (int i = 0; i < N_FILE; i++)
    SS_TRY(ss_format(&folder->files[i], error, "%s/%s", path, file_names[i]));
  SS_TRY(ss_folder_lock_take(&folder->lock, path, error));
  SS_TRY(ss_make_directories(folder->checkpoints, error));
  if (use == TRAIN_FOLDER_NEW)
    SS_TRY(refuse_earlier_run(folder, error));
  SS_TRY(ss_remove_leftovers(folder->path, true, error));
  return ss_remove_leftovers(folder->checkpoints, true, error);
}

ss_status train_folder_open(train_folder **out, const char *path, train_folder_use use, ss_error *error) {
  *out = NULL;
  train_folder *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "run folder", error));
  ss_status status = prepare(made, path, use, error);
  if (status != SS_OK) {
    train_folder_close(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

ss_status train_folder_clear(train_folder *folder, ss_error *error) {
  for (int i = 0; i < N_FILE; i++)
    SS_TRY(remove_hashed(folder->files[i], error));
  return train_folder_rotate(folder, 0, error);
}

void train_folder_close(train_folder *folder) {
  if (folder == NULL)
    return;
  ss_folder_lock_release(&folder->lock);
  for (int i = 0; i < N_FILE; i++)
    free(folder->files[i]);
  free(folder->checkpoints);
  free(folder->path);
  free(folder);
}

ss_status train_folder_checkpoint(const train_folder *folder, int64_t step, char **path, ss_error *error) {
  return ss_format(path, error, "%s/step_%08lld.h5", folder->checkpoints, (long long)step);
}

static int ascending(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return left < right ? -1 : left > right;
}

// The step of a checkpoint's name, -1 for other names.
static int64_t step_of(const char *name) {
  char *end = NULL;
  if (strncmp(name, "step_", 5) != 0 || name[5] < '0' || name[5] > '9')
    return -1;
  long long step = strtoll(name + 5, &end, 10);
  return strcmp(end, ".h5") == 0 ? (int64_t)step : -1;
}

ss_status train_folder_steps(const train_folder *folder, int64_t **steps, int64_t *count, ss_error *error) {
  *steps = NULL;
  *count = 0;
  DIR *directory = opendir(folder->checkpoints);
  if (directory == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read the folder", folder->checkpoints);
  int64_t capacity = 0;
  ss_status status = SS_OK;
  struct dirent *entry;
  while (status == SS_OK && (entry = readdir(directory)) != NULL) {
    int64_t step = step_of(entry->d_name);
    if (step < 0)
      continue;
    status = ss_grow(steps, &capacity, *count + 1, sizeof **steps, "checkpoint names", error);
    if (status == SS_OK)
      (*steps)[(*count)++] = step;
  }
  closedir(directory);
  if (status != SS_OK) {
    free(*steps);
    *steps = NULL;
    return status;
  }
  if (*count > 0)
    qsort(*steps, (size_t)*count, sizeof **steps, ascending);
  return SS_OK;
}

ss_status train_folder_rotate(const train_folder *folder, int64_t keep, ss_error *error) {
  int64_t *steps = NULL, count = 0;
  SS_TRY(train_folder_steps(folder, &steps, &count, error));
  ss_status status = SS_OK;
  for (int64_t i = 0; i < count - keep && status == SS_OK; i++) {
    char *path = NULL;
    status = train_folder_checkpoint(folder, steps[i], &path, error);
    if (status == SS_OK)
      status = remove_hashed(path, error);
    free(path);
  }
  free(steps);
  return status;
}
