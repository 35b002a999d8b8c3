#include "common/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

// A lock file that goes away between opening and locking is tried again so many times.
#define MOST_ATTEMPTS 100

// --- the lock ---

// The name still leads to the file that was locked: its last holder may have removed it in between.
static bool is_current(int file, const char *path) {
  struct stat own, named;
  return fstat(file, &own) == 0 && stat(path, &named) == 0 && own.st_dev == named.st_dev &&
         own.st_ino == named.st_ino;
}

// *again: a failure that comes of another process just leaving the folder, and removing it.
static ss_status try_lock(ss_folder_lock *lock, const char *folder, bool *again, ss_error *error) {
  struct flock whole;
  memset(&whole, 0, sizeof whole);
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  lock->made = !ss_file_exists(folder) || lock->made;
  *again = true;
  SS_TRY(ss_make_directories(folder, error));
  lock->file = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  *again = lock->file < 0 && errno == ENOENT;
  if (lock->file < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", lock->path);
  ss_status status = SS_OK;
  // A file system without locks is no reason not to write.
  if (fcntl(lock->file, F_SETLK, &whole) != 0 && (errno == EACCES || errno == EAGAIN)) {
    status = ss_fail(error, SS_ERROR_IO, "%s: another process is writing in this folder", folder);
  } else if (!is_current(lock->file, lock->path)) {
    *again = true;
    status = ss_fail(error, SS_ERROR_IO, "%s: cannot lock: it is removed again and again", lock->path);
  }
  if (status != SS_OK)
    close(lock->file);
  return status;
}

ss_status ss_folder_lock_take(ss_folder_lock *lock, const char *folder, ss_error *error) {
  ss_error failure;
  bool again = true;
  ss_status status = SS_OK;
  memset(lock, 0, sizeof *lock);
  SS_TRY(ss_format(&lock->path, error, "%s/.lock", folder));
  for (int k = 0; k < MOST_ATTEMPTS && again; k++) {
    memset(&failure, 0, sizeof failure);
    status = try_lock(lock, folder, &again, &failure);
    again = again && status != SS_OK;
  }
  if (status == SS_OK)
    return SS_OK;
  free(lock->path);
  memset(lock, 0, sizeof *lock);
  return ss_fail(error, status, "%s", failure.message);
}

void ss_folder_lock_release(ss_folder_lock *lock) {
  if (lock->path == NULL)
    return;
  unlink(lock->path);
  *strrchr(lock->path, '/') = '\0';
  if (lock->made)
    rmdir(lock->path);  // fails when something is in it: then it stays
  close(lock->file);
  free(lock->path);
  memset(lock, 0, sizeof *lock);
}

// --- what killed processes left ---

void ss_remove_flat_folder(const char *path) {
  int file = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *directory = file < 0 ? NULL : fdopendir(file);
  if (directory == NULL) {
    if (file >= 0)
      close(file);
    return;
  }
  struct dirent *entry;
  while ((entry = readdir(directory)) != NULL)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      unlinkat(dirfd(directory), entry->d_name, 0);
  closedir(directory);
  rmdir(path);
}

// The digits behind the last `mark` of a name as a process's number; 0: not such a name.
static long process_behind(const char *name, const char *mark) {
  const char *found = NULL;
  for (const char *next = name; (next = strstr(next, mark)) != NULL; next++)
    found = next + strlen(mark);
  if (found == NULL || *found < '1' || *found > '9' || found[strspn(found, "0123456789")] != '\0')
    return 0;
  long number = strtol(found, NULL, 10);
  return number <= INT_MAX ? number : 0;
}

// An own number on something that was there before is an earlier process's: numbers come again.
static bool is_living(long process) {
  return process != (long)getpid() && (kill((pid_t)process, 0) == 0 || errno != ESRCH);
}

static ss_status remove_leftover(const char *folder, const char *name, bool living, ss_error *error) {
  bool partial = strncmp(name, ".partial-", 9) == 0;
  long process = process_behind(name, partial ? ".partial-" : ".tmp-");
  if (name[0] != '.' || process == 0 || (!living && is_living(process)))
    return SS_OK;
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/%s", folder, name));
  ss_status status = SS_OK;
  if (partial)
    ss_remove_flat_folder(path);
  else if (unlink(path) != 0 && errno != ENOENT)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot remove", path);
  free(path);
  return status;
}

ss_status ss_remove_leftovers(const char *folder, bool living, ss_error *error) {
  DIR *directory = opendir(folder);
  if (directory == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read the folder", folder);
  ss_status status = SS_OK;
  struct dirent *entry;
  while (status == SS_OK && (entry = readdir(directory)) != NULL)
    status = remove_leftover(folder, entry->d_name, living, error);
  closedir(directory);
  return status;
}

void ss_remove_dead_temporaries(const char *folder, const char *name) {
  DIR *directory = opendir(folder);
  if (directory == NULL)
    return;
  size_t length = strlen(name);
  struct dirent *entry;
  while ((entry = readdir(directory)) != NULL) {
    const char *found = entry->d_name;
    if (found[0] != '.' || strncmp(found + 1, name, length) != 0 ||
        strncmp(found + 1 + length, ".tmp-", 5) != 0)
      continue;
    long process = process_behind(found + 1 + length, ".tmp-");
    if (process != 0 && process != (long)getpid() && !is_living(process))
      unlinkat(dirfd(directory), found, 0);
  }
  closedir(directory);
}
