// Files that are either complete or absent: written under a temporary name in the same folder,
// fsynced, renamed. Plus whole-file reading and the xxHash sidecar.
#ifndef SELFSPAN_COMMON_FILE_H
#define SELFSPAN_COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

// The temporary name of `path` ("DIR/.NAME.tmp-PID"), malloc'ed into *out. Removes what processes that were killed have
// left under such names of the same file.
ss_status ss_temporary_path(const char *path, char **out, ss_error *error);

// fsyncs `temporary`, renames it to `path`, fsyncs the folder. On failure the temporary is removed.
ss_status ss_commit_file(const char *temporary, const char *path, ss_error *error);

// Atomically replaces `path` by `size` bytes.
ss_status ss_write_file(const char *path, const void *data, size_t size, ss_error *error);

// *out = the file's bytes plus a terminating zero (malloc'ed); *size excludes the zero.
ss_status ss_read_file(const char *path, char **out, size_t *size, ss_error *error);
// The same for who reads up to the terminating zero: a zero byte in the file is SS_ERROR_INPUT with its line.
ss_status ss_read_text(const char *path, char **out, ss_error *error);

// Creates a folder and its parents.
ss_status ss_make_directories(const char *path, ss_error *error);

// True when something has that name, a folder included.
bool ss_file_exists(const char *path);

// True for a name that ends in `ending`: ".json".
bool ss_ends_in(const char *name, const char *ending);

// XXH3-128 of the whole file, as 32 lower-case hex digits and a zero.
ss_status ss_hash_file(const char *path, char out[33], ss_error *error);

// Writes / checks PATH.xxh128: one line "HASH  NAME", as `xxhsum -c` reads it (run in its folder).
// Checking fails when the sidecar is absent, malformed or different.
ss_status ss_write_hash(const char *path, ss_error *error);
ss_status ss_check_hash(const char *path, ss_error *error);

// ss_commit_file with a sidecar: the sidecar is in place before `path` appears, so a new file never
// stands without its hash, whenever the process is killed.
ss_status ss_commit_file_hashed(const char *temporary, const char *path, ss_error *error);

#endif
