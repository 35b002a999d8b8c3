// A folder that one process at a time writes: its lock, and what killed processes left in it.
#ifndef SELFSPAN_COMMON_FOLDER_H
#define SELFSPAN_COMMON_FOLDER_H

#include <stdbool.h>

#include "common/error.h"

// Zeroed: not held.
typedef struct {
  char *path;  // of DIR/.lock
  int file;
  bool made;  // DIR did not exist before
} ss_folder_lock;

// Creates the folder where needed and locks it until the release or the process's end, however it ends. A folder that
// another process holds is SS_ERROR_IO, at once. On a file system without locks nothing is kept out.
ss_status ss_folder_lock_take(ss_folder_lock *lock, const char *folder, ss_error *error);

// Unlocks and removes DIR/.lock, and DIR where taking the lock has made it and nothing is in it. Harmless when not held.
void ss_folder_lock_release(ss_folder_lock *lock);

// Removes what writers left in a folder: files ".NAME.tmp-PID" (common/file.h) and folders ".partial-PID". With
// `living` those of living processes too, where the caller knows that only holders of its lock write there.
ss_status ss_remove_leftovers(const char *folder, bool living, ss_error *error);

// Removes the temporaries ".NAME.tmp-PID" of one name whose processes are gone. What cannot be removed stays.
void ss_remove_dead_temporaries(const char *folder, const char *name);

// Removes a folder and the files in it, not following links. What cannot be removed stays.
void ss_remove_flat_folder(const char *path);

#endif
