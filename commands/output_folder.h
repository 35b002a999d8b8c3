// A folder that takes a set of files which belong together: they are made in a hidden folder inside it and moved to
// their names when all of them are complete. One process at a time.
#ifndef SELFSPAN_COMMANDS_OUTPUT_FOLDER_H
#define SELFSPAN_COMMANDS_OUTPUT_FOLDER_H

#include "common/error.h"
#include "common/folder.h"

// Zeroed: not open.
typedef struct {
  char *folder;   // DIR
  char *partial;  // DIR/.partial-PID
  char *resume;   // DIR/.resume: made and filled by who can go on after an interruption; gone with a commit
  ss_folder_lock lock;
} output_folder;

// Creates and locks DIR, removes what killed processes left there, makes the hidden folder.
ss_status output_folder_open(output_folder *output, const char *folder, ss_error *error);

// Replaces the files of an earlier set by the new ones. `names` is the order (NULL-terminated): sidecars before their
// files, and last the one that says by standing there that the set is complete. The old set goes before the new one
// comes, so that a kill leaves a part of one of them, without that last file, and never a mixture. Names that the new
// set lacks are removed only. Closes.
ss_status output_folder_commit(output_folder *output, const char *const *names, ss_error *error);

// Removes the hidden folder, and .resume where nothing is in it, unlocks, and removes DIR if it was made and is empty.
// Harmless after a commit.
void output_folder_abandon(output_folder *output);

#endif
