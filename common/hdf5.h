// HDF5 files that are either complete or absent, with reproducible bytes: written once under a temporary name,
// fsynced, hashed (PATH.xxh128, common/file.h) and renamed. Arrays and attributes are checked for type, rank and
// size when read, sizes are bounded by the file's own, and the library's errors become one-line messages.
//
// The HDF5 library is process-wide state: every function here takes one process-wide lock, so threads may use
// different files at the same time, but one handle belongs to one thread at a time.
#ifndef SELFSPAN_COMMON_HDF5_H
#define SELFSPAN_COMMON_HDF5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SS_HDF5_MAX_RANK 4

typedef enum { SS_HDF5_U8, SS_HDF5_I32, SS_HDF5_I64, SS_HDF5_U64, SS_HDF5_F32, SS_HDF5_F64 } ss_hdf5_type;

size_t ss_hdf5_type_size(ss_hdf5_type type);

typedef struct ss_hdf5 ss_hdf5;  // an open file

// --- writing ---
// Starts a file that will be called `path`; until ss_hdf5_commit it has a temporary name in the same folder.
// The attributes "format" and "schema_version" are written at once.
ss_status ss_hdf5_create(ss_hdf5 **out, const char *path, const char *format, int64_t schema_version,
                         ss_error *error);
// Closes, fsyncs, writes the hash sidecar, renames, and frees the handle, which is gone also on failure (then
// nothing is left under `path`). A file that appears under a new name always has its sidecar; replacing an
// existing file is atomic for the file, not for the pair.
ss_status ss_hdf5_commit(ss_hdf5 *file, ss_error *error);

// Writes a whole array of rank 1..SS_HDF5_MAX_RANK ("group/name": groups are made as needed). Dimensions may be 0.
ss_status ss_hdf5_write_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                              const int64_t *dims, const void *data, ss_error *error);
// An appendable array, empty at first: [rows] when columns == 0, else [rows, columns]; chunk_rows rows a chunk.
ss_status ss_hdf5_create_stream(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t columns,
                                int64_t chunk_rows, ss_error *error);
// Appends `rows` rows. Append in blocks: each call opens the array.
ss_status ss_hdf5_append(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t rows, const void *data,
                         ss_error *error);

// Attributes of the file's root. Strings are UTF-8, of any length, without a terminator in the file.
ss_status ss_hdf5_set_string(ss_hdf5 *file, const char *name, const char *value, ss_error *error);
ss_status ss_hdf5_set_int(ss_hdf5 *file, const char *name, int64_t value, ss_error *error);
ss_status ss_hdf5_set_unsigned(ss_hdf5 *file, const char *name, uint64_t value, ss_error *error);
ss_status ss_hdf5_set_real(ss_hdf5 *file, const char *name, double value, ss_error *error);

// --- reading ---
// Opens `path` and checks that it is an HDF5 file, complete, equal to its hash sidecar (verify_hash), of this
// format, and of a schema version in 1..schema_version.
ss_status ss_hdf5_open(ss_hdf5 **out, const char *path, const char *format, int64_t schema_version,
                       bool verify_hash, ss_error *error);

// The stored format attribute, malloc'ed, of any selfspan HDF5 file: which kind of file is this?
ss_status ss_hdf5_format(const char *path, char **format, ss_error *error);

const char *ss_hdf5_path(const ss_hdf5 *file);
bool ss_hdf5_has(ss_hdf5 *file, const char *name);  // an array or group, "group/name"
// Names in a group ("/" for the root), sorted, as zero-terminated strings one after the other (malloc'ed).
ss_status ss_hdf5_list(ss_hdf5 *file, const char *group, char **names, int64_t *count, ss_error *error);

// dims[rank] of an array that must have this type and rank.
ss_status ss_hdf5_shape(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank, int64_t *dims,
                        ss_error *error);
// Reads a whole array into *data (malloc'ed, or NULL for an error). dims[k] >= 0 must be met; dims[k] < 0 is any,
// and receives the size.
ss_status ss_hdf5_read_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank, int64_t *dims,
                             void *data, ss_error *error);
// Reads a whole array of exactly these dimensions into the caller's storage.
ss_status ss_hdf5_read_into(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                            const int64_t *dims, void *data, ss_error *error);
// Rows [first, first + count) of an array of rank 1 (columns == 0) or [rows, columns], into the caller's storage.
ss_status ss_hdf5_read_rows(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t columns,
                            int64_t first, int64_t count, void *data, ss_error *error);

bool ss_hdf5_has_attribute(ss_hdf5 *file, const char *name);
ss_status ss_hdf5_get_string(ss_hdf5 *file, const char *name, char **value, ss_error *error);  // malloc'ed
ss_status ss_hdf5_get_int(ss_hdf5 *file, const char *name, int64_t *value, ss_error *error);
ss_status ss_hdf5_get_unsigned(ss_hdf5 *file, const char *name, uint64_t *value, ss_error *error);
ss_status ss_hdf5_get_real(ss_hdf5 *file, const char *name, double *value, ss_error *error);

// Closes a file opened for reading, or abandons one being written (nothing is left behind). NULL is allowed.
void ss_hdf5_close(ss_hdf5 *file);

#endif
