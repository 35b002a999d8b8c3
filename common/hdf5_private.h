// Shared by common/hdf5_*.c only.
#ifndef SELFSPAN_COMMON_HDF5_PRIVATE_H
#define SELFSPAN_COMMON_HDF5_PRIVATE_H

#include <hdf5.h>

#include "common/hdf5.h"

struct ss_hdf5 {
  hid_t file;
  char *path;
  char *temporary;  // NULL when opened for reading
  int64_t bytes;    // size of a file opened for reading: the bound of everything in it
};

// The lock, and the library's own error printing switched off while it is held.
typedef struct {
  H5E_auto2_t print;
  void *print_data;
} hdf5_guard;
void hdf5_enter(hdf5_guard *guard);
// Returns `status`, so that a public function ends with `return hdf5_leave(&guard, status);`.
ss_status hdf5_leave(hdf5_guard *guard, ss_status status);

// SS_ERROR_IO (writing) or SS_ERROR_INPUT (reading) with 'PATH: cannot WHAT "NAME": the library's innermost reason'.
// To be called at once: any further call of the library forgets the reason.
ss_status hdf5_fail(ss_error *error, const ss_hdf5 *file, const char *what, const char *name);

hid_t hdf5_memory_type(ss_hdf5_type type);
hid_t hdf5_file_type(ss_hdf5_type type);  // little endian whatever the machine
const char *hdf5_type_name(ss_hdf5_type type);
// Whether a stored type is this one.
bool hdf5_type_is(hid_t stored, ss_hdf5_type type);

// An attribute of the root (the unlocked form of ss_hdf5_get_*).
ss_status hdf5_read_string(ss_hdf5 *file, const char *name, char **value, ss_error *error);
ss_status hdf5_read_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, void *value, ss_error *error);
ss_status hdf5_write_string(ss_hdf5 *file, const char *name, const char *value, ss_error *error);
ss_status hdf5_write_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, const void *value,
                            ss_error *error);

#endif
