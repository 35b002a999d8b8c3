#include "commands/data_output.h"

#include <stdlib.h>

#include "common/file.h"
#include "common/memory.h"

// Everything a dataset consists of. Sidecars precede their files, so that a file never stands without its hash; the
// card comes last: where it stands, the dataset is complete.
static const char *const names[] = {"train.h5.xxh128", "train.h5",       "validation.h5.xxh128",
                                    "validation.h5",   "test.h5.xxh128", "test.h5",
                                    "card.md",         "card.json",      NULL};

static ss_status find_existing(const char *folder, bool force, bool *there, ss_error *error) {
  *there = false;
  for (const char *const *name = names; *name != NULL && !*there; name++) {
    char *path = NULL;
    SS_TRY(ss_format(&path, error, "%s/%s", folder, *name));
    *there = ss_file_exists(path);
    free(path);
    if (*there && !force)
      return ss_fail(error, SS_ERROR_USAGE, "%s: %s exists; --force replaces the dataset", folder, *name);
  }
  return SS_OK;
}

ss_status data_output_open(output_folder *output, const char *folder, bool force, bool *replaces,
                           ss_error *error) {
  // Before anything is written, and again when nobody else can write any more.
  SS_TRY(find_existing(folder, force, replaces, error));
  SS_TRY(output_folder_open(output, folder, error));
  ss_status status = find_existing(folder, force, replaces, error);
  if (status != SS_OK)
    output_folder_abandon(output);
  return status;
}

ss_status data_output_commit(output_folder *output, ss_error *error) {
  return output_folder_commit(output, names, error);
}
