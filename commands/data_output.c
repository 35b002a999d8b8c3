#include "commands/data_output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

// Everything a dataset consists of. Sidecars precede their files, so that a file never stands without its hash; the
// card comes last: where it stands, the dataset is complete.
static const char *const names[] = {"train.h5.xxh128", "train.h5",       "validation.h5.xxh128",
                                    "validation.h5",   "test.h5.xxh128", "test.h5",
                                    "card.md",         "card.json",      NULL};

static ss_status join(char **out, const char *folder, const char *name, ss_error *error) {
  return ss_format(out, error, "%s/%s", folder, name);
}

static ss_status refuse_existing(const char *folder, ss_error *error) {
  for (const char *const *name = names; *name != NULL; name++) {
    char *path = NULL;
    SS_TRY(join(&path, folder, *name, error));
    bool there = ss_file_exists(path);
    free(path);
    if (there)
      return ss_fail(error, SS_ERROR_USAGE, "%s: %s exists; --force replaces the dataset", folder, *name);
  }
  return SS_OK;
}

static void release(data_output *output) {
  free(output->folder);
  free(output->partial);
  memset(output, 0, sizeof *output);
}

ss_status data_output_open(data_output *output, const char *folder, bool force, ss_error *error) {
  memset(output, 0, sizeof *output);
  if (!force)
    SS_TRY(refuse_existing(folder, error));
  ss_status status = ss_format(&output->folder, error, "%s", folder);
  if (status == SS_OK)
    status = ss_format(&output->partial, error, "%s/.partial-%ld", folder, (long)getpid());
  output->made = !ss_file_exists(folder);
  if (status == SS_OK)
    status = ss_make_directories(output->partial, error);
  if (status != SS_OK)
    release(output);
  return status;
}

static ss_status move(const data_output *output, const char *name, ss_error *error) {
  char *from = NULL, *to = NULL;
  ss_status status = join(&from, output->partial, name, error);
  if (status == SS_OK)
    status = join(&to, output->folder, name, error);
  if (status == SS_OK && ss_file_exists(from)) {
    if (rename(from, to) != 0)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be moved to %s", from, to);
  } else if (status == SS_OK && unlink(to) != 0 && errno != ENOENT) {
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be removed", to);
  }
  free(from);
  free(to);
  return status;
}

ss_status data_output_commit(data_output *output, ss_error *error) {
  // While an earlier dataset is being replaced it has no card.
  char *card = NULL;
  SS_TRY(join(&card, output->folder, "card.json", error));
  if (unlink(card) != 0 && errno != ENOENT) {
    ss_status status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be removed", card);
    free(card);
    return status;
  }
  free(card);
  for (const char *const *name = names; *name != NULL; name++)
    SS_TRY(move(output, *name, error));
  if (rmdir(output->partial) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be removed", output->partial);
  release(output);
  return SS_OK;
}

void data_output_abandon(data_output *output) {
  if (output->partial == NULL)
    return;
  ss_error ignored = {0};
  for (const char *const *name = names; *name != NULL; name++) {
    char *path = NULL;
    if (join(&path, output->partial, *name, &ignored) == SS_OK)
      unlink(path);
    free(path);
  }
  rmdir(output->partial);
  if (output->made)
    rmdir(output->folder);  // fails when something else is in it: then it stays
  release(output);
}
