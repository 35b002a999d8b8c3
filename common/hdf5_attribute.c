// Attributes of a file's root: strings and scalars.
#include <stdlib.h>
#include <string.h>

#include "common/hdf5_private.h"
#include "common/memory.h"

static ss_status write_attribute(ss_hdf5 *file, const char *name, hid_t file_type, hid_t memory_type,
                                 const void *value, ss_error *error) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(file->file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
  ss_status status = SS_OK;
  if (attribute < 0 || H5Awrite(attribute, memory_type, value) < 0)
    status = hdf5_fail(error, file, "write the attribute", name);
  if (attribute >= 0 && H5Aclose(attribute) < 0 && status == SS_OK)
    status = hdf5_fail(error, file, "write the attribute", name);
  H5Sclose(space);
  return status;
}

ss_status hdf5_write_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, const void *value,
                            ss_error *error) {
  return write_attribute(file, name, hdf5_file_type(type), hdf5_memory_type(type), value, error);
}

// A string type of `length` bytes. HDF5 has no string of 0 bytes: the empty one is a single zero.
static hid_t string_type(size_t length) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, length > 0 ? length : 1);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

ss_status hdf5_write_string(ss_hdf5 *file, const char *name, const char *value, ss_error *error) {
  hid_t type = string_type(strlen(value));
  ss_status status = write_attribute(file, name, type, type, value, error);
  H5Tclose(type);
  return status;
}

static ss_status open_attribute(ss_hdf5 *file, const char *name, hid_t *attribute, ss_error *error) {
  if (H5Aexists(file->file, name) <= 0) {
    H5Eclear2(H5E_DEFAULT);
    return ss_fail(error, SS_ERROR_INPUT, "%s: attribute \"%s\" is missing", file->path, name);
  }
  *attribute = H5Aopen(file->file, name, H5P_DEFAULT);
  return *attribute < 0 ? hdf5_fail(error, file, "read the attribute", name) : SS_OK;
}

// Whether an attribute holds one element.
static bool is_scalar(hid_t attribute) {
  hid_t space = H5Aget_space(attribute);
  bool scalar = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
  if (space >= 0)
    H5Sclose(space);
  return scalar;
}

static ss_status read_string(ss_hdf5 *file, const char *name, hid_t attribute, hid_t type, char **value,
                             ss_error *error) {
  size_t size = H5Tget_size(type);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0 || !is_scalar(attribute) ||
      size == 0 || size > (size_t)file->bytes)
    return ss_fail(error, SS_ERROR_INPUT, "%s: attribute \"%s\" is not a fixed-length string", file->path,
                   name);
  char *text = NULL;
  SS_TRY(ss_allocate(&text, (int64_t)size + 1, 1, name, error));
  ss_status status = SS_OK;
  // In its own type: the library refuses to convert ASCII strings, which other writers prefer, to UTF-8.
  if (H5Aread(attribute, type, text) < 0)
    status = hdf5_fail(error, file, "read the attribute", name);
  if (status == SS_OK)
    *value = text;
  else
    free(text);
  return status;
}

ss_status hdf5_read_string(ss_hdf5 *file, const char *name, char **value, ss_error *error) {
  *value = NULL;
  hid_t attribute = H5I_INVALID_HID;
  SS_TRY(open_attribute(file, name, &attribute, error));
  hid_t type = H5Aget_type(attribute);
  ss_status status = type < 0 ? hdf5_fail(error, file, "read the attribute", name)
                              : read_string(file, name, attribute, type, value, error);
  if (type >= 0)
    H5Tclose(type);
  H5Aclose(attribute);
  return status;
}

ss_status hdf5_read_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, void *value, ss_error *error) {
  hid_t attribute = H5I_INVALID_HID;
  SS_TRY(open_attribute(file, name, &attribute, error));
  hid_t stored = H5Aget_type(attribute);
  ss_status status = SS_OK;
  if (stored < 0 || !hdf5_type_is(stored, type) || !is_scalar(attribute))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: attribute \"%s\" is not one %s", file->path, name,
                     hdf5_type_name(type));
  else if (H5Aread(attribute, hdf5_memory_type(type), value) < 0)
    status = hdf5_fail(error, file, "read the attribute", name);
  if (stored >= 0)
    H5Tclose(stored);
  H5Aclose(attribute);
  return status;
}

static ss_status set_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, const void *value,
                            ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  return hdf5_leave(&guard, hdf5_write_scalar(file, name, type, value, error));
}

static ss_status get_scalar(ss_hdf5 *file, const char *name, ss_hdf5_type type, void *value,
                            ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  return hdf5_leave(&guard, hdf5_read_scalar(file, name, type, value, error));
}

ss_status ss_hdf5_set_string(ss_hdf5 *file, const char *name, const char *value, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  return hdf5_leave(&guard, hdf5_write_string(file, name, value, error));
}
ss_status ss_hdf5_set_int(ss_hdf5 *file, const char *name, int64_t value, ss_error *error) {
  return set_scalar(file, name, SS_HDF5_I64, &value, error);
}
ss_status ss_hdf5_set_unsigned(ss_hdf5 *file, const char *name, uint64_t value, ss_error *error) {
  return set_scalar(file, name, SS_HDF5_U64, &value, error);
}
ss_status ss_hdf5_set_real(ss_hdf5 *file, const char *name, double value, ss_error *error) {
  return set_scalar(file, name, SS_HDF5_F64, &value, error);
}

bool ss_hdf5_has_attribute(ss_hdf5 *file, const char *name) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  bool present = H5Aexists(file->file, name) > 0;
  H5Eclear2(H5E_DEFAULT);
  hdf5_leave(&guard, SS_OK);
  return present;
}

ss_status ss_hdf5_get_string(ss_hdf5 *file, const char *name, char **value, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  return hdf5_leave(&guard, hdf5_read_string(file, name, value, error));
}
ss_status ss_hdf5_get_int(ss_hdf5 *file, const char *name, int64_t *value, ss_error *error) {
  return get_scalar(file, name, SS_HDF5_I64, value, error);
}
ss_status ss_hdf5_get_unsigned(ss_hdf5 *file, const char *name, uint64_t *value, ss_error *error) {
  return get_scalar(file, name, SS_HDF5_U64, value, error);
}
ss_status ss_hdf5_get_real(ss_hdf5 *file, const char *name, double *value, ss_error *error) {
  return get_scalar(file, name, SS_HDF5_F64, value, error);
}
