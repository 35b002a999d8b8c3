#include "commands/output_folder.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

ss_status output_folder_open(output_folder *output, const char *folder, ss_error *error) {
  memset(output, 0, sizeof *output);
  SS_TRY(ss_folder_lock_take(&output->lock, folder, error));
  ss_status status = ss_remove_leftovers(folder, false, error);
  if (status == SS_OK)
    status = ss_format(&output->folder, error, "%s", folder);
  if (status == SS_OK)
    status = ss_format(&output->partial, error, "%s/.partial-%ld", folder, (long)getpid());
  if (status == SS_OK)
    status = ss_format(&output->resume, error, "%s/.resume", folder);
  if (status == SS_OK)
    status = ss_make_directories(output->partial, error);
  if (status != SS_OK)
    output_folder_abandon(output);
  return status;
}

static ss_status remove_old(const output_folder *output, const char *name, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/%s", output->folder, name));
  ss_status status = SS_OK;
  if (unlink(path) != 0 && errno != ENOENT)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be removed", path);
  free(path);
  return status;
}

static ss_status move_new(const output_folder *output, const char *name, ss_error *error) {
  char *from = NULL, *to = NULL;
  ss_status status = ss_format(&from, error, "%s/%s", output->partial, name);
  if (status == SS_OK)
    status = ss_format(&to, error, "%s/%s", output->folder, name);
  if (status == SS_OK && ss_file_exists(from) && rename(from, to) != 0)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be moved to %s", from, to);
  free(from);
  free(to);
  return status;
}

ss_status output_folder_commit(output_folder *output, const char *const *names, ss_error *error) {
  int64_t n = 0;
  while (names[n] != NULL)
    n++;
  for (int64_t k = n; k > 0; k--)
    SS_TRY(remove_old(output, names[k - 1], error));
  for (int64_t k = 0; k < n; k++)
    SS_TRY(move_new(output, names[k], error));
  ss_remove_flat_folder(output->resume);
  if (rmdir(output->partial) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be removed", output->partial);
  output_folder_abandon(output);
  return SS_OK;
}

void output_folder_abandon(output_folder *output) {
  if (output->partial != NULL)
    ss_remove_flat_folder(output->partial);
  if (output->resume != NULL)
    rmdir(output->resume);
  ss_folder_lock_release(&output->lock);
  free(output->folder);
  free(output->partial);
  free(output->resume);
  memset(output, 0, sizeof *output);
}
