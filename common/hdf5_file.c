// Opening, closing and failing: the lock around the HDF5 library, its error stack turned into one line, and files
// that are created under a temporary name.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/hdf5_private.h"
#include "common/memory.h"

// The library keeps process-wide state and is not built thread-safe everywhere; this lock is that state's own.
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

void hdf5_enter(hdf5_guard *guard) {
  pthread_mutex_lock(&library_lock);
  // Must precede every other call (later ones do nothing): the library's cleaning up at exit crashes on a file
  // that a full disk left unclosed, and everything of ours is closed by then.
  H5dont_atexit();
  H5Eget_auto2(H5E_DEFAULT, &guard->print, &guard->print_data);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

ss_status hdf5_leave(hdf5_guard *guard, ss_status status) {
  H5Eset_auto2(H5E_DEFAULT, guard->print, guard->print_data);
  pthread_mutex_unlock(&library_lock);
  return status;
}

// Keeps the innermost description, where the cause is told.
static herr_t keep_first(unsigned depth, const H5E_error2_t *entry, void *reason) {
  char *text = reason;
  if (depth == 0 && entry->desc)
    snprintf(text, 256, "%s", entry->desc);
  return 0;
}

ss_status hdf5_fail(ss_error *error, const ss_hdf5 *file, const char *what, const char *name) {
  char reason[256] = "unknown reason";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
  H5Eclear2(H5E_DEFAULT);
  // The library's system errors carry time stamps and addresses; the quoted message is what matters.
  const char *shown = reason;
  char *quoted = strstr(reason, "error message = '");
  if (quoted) {
    shown = quoted + strlen("error message = '");
    char *end = strchr(shown, '\'');
    if (end)
      *end = '\0';
  }
  for (char *c = reason; *c; ++c)
    if (*c == '\n')
      *c = ' ';
  ss_status status = file->temporary ? SS_ERROR_IO : SS_ERROR_INPUT;
  if (name)
    return ss_fail(error, status, "%s: cannot %s \"%s\": %s", file->path, what, name, shown);
  return ss_fail(error, status, "%s: cannot %s: %s", file->path, what, shown);
}

static void free_handle(ss_hdf5 *file) {
  free(file->path);
  free(file->temporary);
  free(file);
}

// A handle without an open file.
static ss_status new_handle(ss_hdf5 **out, const char *path, bool writing, ss_error *error) {
  ss_hdf5 *file = NULL;
  SS_TRY(ss_allocate(&file, 1, sizeof *file, "an HDF5 handle", error));
  file->file = H5I_INVALID_HID;
  ss_status status = ss_format(&file->path, error, "%s", path);
  if (status == SS_OK && writing)
    status = ss_temporary_path(path, &file->temporary, error);
  if (status != SS_OK) {
    free_handle(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

// Properties of every file: a fixed format, no time stamps, and no locks (files are written once under a name that
// nobody else knows, and some network file systems have none).
static hid_t access_properties(void) {
  hid_t properties = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_fclose_degree(properties, H5F_CLOSE_STRONG);
  H5Pset_libver_bounds(properties, H5F_LIBVER_V110, H5F_LIBVER_V110);
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(properties, false, true);
#endif
  return properties;
}

static ss_status create_file(ss_hdf5 *file, const char *format, int64_t schema_version, ss_error *error) {
  // Opened first by hand: errno tells a missing folder from a forbidden one, which the library does not.
  FILE *probe = fopen(file->temporary, "wb");
  if (!probe)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", file->path);
  fclose(probe);
  hid_t creation = H5Pcreate(H5P_FILE_CREATE), access = access_properties();
  H5Pset_obj_track_times(creation, false);
  file->file = H5Fcreate(file->temporary, H5F_ACC_TRUNC, creation, access);
  ss_status status = file->file < 0 ? hdf5_fail(error, file, "create the file", NULL) : SS_OK;
  H5Pclose(creation);
  H5Pclose(access);
  SS_TRY(status);
  SS_TRY(hdf5_write_string(file, "format", format, error));
  return hdf5_write_scalar(file, "schema_version", SS_HDF5_I64, &schema_version, error);
}

ss_status ss_hdf5_create(ss_hdf5 **out, const char *path, const char *format, int64_t schema_version,
                         ss_error *error) {
  *out = NULL;
  ss_hdf5 *file = NULL;
  SS_TRY(new_handle(&file, path, true, error));
  hdf5_guard guard;
  hdf5_enter(&guard);
  ss_status status = hdf5_leave(&guard, create_file(file, format, schema_version, error));
  if (status != SS_OK) {
    ss_hdf5_close(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

// Closes a file being written. One that cannot be flushed (a full disk) must not be closed: the library would be
// left with half a file and crash later. Its handle is given up, which costs some memory, a descriptor and an inode
// until the process ends, and its space on disk is returned.
static ss_status close_written(ss_hdf5 *file, ss_error *error) {
  hid_t handle = file->file;
  file->file = H5I_INVALID_HID;
  if (H5Fflush(handle, H5F_SCOPE_LOCAL) < 0) {
    ss_status status = hdf5_fail(error, file, "write the file", NULL);
    return truncate(file->temporary, 0) == 0 ? status : SS_ERROR_IO;
  }
  return H5Fclose(handle) < 0 ? hdf5_fail(error, file, "write the file", NULL) : SS_OK;
}

ss_status ss_hdf5_commit(ss_hdf5 *file, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  ss_status status = hdf5_leave(&guard, close_written(file, error));
  if (status == SS_OK)
    status = ss_commit_file_hashed(file->temporary, file->path, error);
  else
    unlink(file->temporary);
  free_handle(file);
  return status;
}

void ss_hdf5_close(ss_hdf5 *file) {
  if (!file)
    return;
  hdf5_guard guard;
  hdf5_enter(&guard);
  if (file->file >= 0 && file->temporary)
    close_written(file, NULL);
  else if (file->file >= 0)
    H5Fclose(file->file);
  H5Eclear2(H5E_DEFAULT);
  hdf5_leave(&guard, SS_OK);
  if (file->temporary)
    unlink(file->temporary);
  free_handle(file);
}

static ss_status open_file(ss_hdf5 *file, ss_error *error) {
  struct stat information;
  if (stat(file->path, &information) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", file->path);
  if (!S_ISREG(information.st_mode))
    return ss_fail(error, SS_ERROR_INPUT, "%s: not a regular file, expected an HDF5 file", file->path);
  file->bytes = information.st_size;
  FILE *probe = fopen(file->path, "rb");
  if (!probe)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", file->path);
  fclose(probe);
  if (H5Fis_hdf5(file->path) <= 0) {
    H5Eclear2(H5E_DEFAULT);
    return ss_fail(error, SS_ERROR_INPUT, "%s: not an HDF5 file", file->path);
  }
  hid_t access = access_properties();
  file->file = H5Fopen(file->path, H5F_ACC_RDONLY, access);
  ss_status status = file->file < 0 ? hdf5_fail(error, file, "open a damaged or truncated file", NULL)
                                    : SS_OK;
  H5Pclose(access);
  return status;
}

static ss_status check_format(ss_hdf5 *file, const char *format, int64_t schema_version, ss_error *error) {
  char *stored = NULL;
  int64_t version = 0;
  if (H5Aexists(file->file, "format") <= 0 || H5Aexists(file->file, "schema_version") <= 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: no attributes \"format\" and \"schema_version\", expected %s",
                   file->path, format);
  SS_TRY(hdf5_read_string(file, "format", &stored, error));
  bool same = strcmp(stored, format) == 0;
  if (!same)
    ss_fail(error, SS_ERROR_INPUT, "%s: format is \"%.80s\", expected \"%s\"", file->path, stored, format);
  free(stored);
  if (!same)
    return SS_ERROR_INPUT;
  SS_TRY(hdf5_read_scalar(file, "schema_version", SS_HDF5_I64, &version, error));
  if (version > schema_version)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: schema_version is %lld, expected at most %lld: written by a newer "
                   "selfspan",
                   file->path, (long long)version, (long long)schema_version);
  if (version < 1)
    return ss_fail(error, SS_ERROR_INPUT, "%s: schema_version is %lld, expected 1..%lld", file->path,
                   (long long)version, (long long)schema_version);
  return SS_OK;
}

ss_status ss_hdf5_open(ss_hdf5 **out, const char *path, const char *format, int64_t schema_version,
                       bool verify_hash, ss_error *error) {
  *out = NULL;
  ss_hdf5 *file = NULL;
  SS_TRY(new_handle(&file, path, false, error));
  hdf5_guard guard;
  hdf5_enter(&guard);
  // Before the hash, so that a foreign file is called foreign; after it nothing can surprise the library.
  ss_status status = hdf5_leave(&guard, open_file(file, error));
  if (status == SS_OK && verify_hash)
    status = ss_check_hash(path, error);
  if (status == SS_OK) {
    hdf5_enter(&guard);
    status = hdf5_leave(&guard, check_format(file, format, schema_version, error));
  }
  if (status != SS_OK) {
    ss_hdf5_close(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

ss_status ss_hdf5_format(const char *path, char **format, ss_error *error) {
  ss_hdf5 *file = NULL;
  SS_TRY(new_handle(&file, path, false, error));
  hdf5_guard guard;
  hdf5_enter(&guard);
  ss_status status = open_file(file, error);
  if (status == SS_OK && H5Aexists(file->file, "format") <= 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no attribute \"format\", expected a file of selfspan", path);
  if (status == SS_OK)
    status = hdf5_read_string(file, "format", format, error);
  hdf5_leave(&guard, status);
  ss_hdf5_close(file);
  return status;
}

const char *ss_hdf5_path(const ss_hdf5 *file) {
  return file->path;
}
