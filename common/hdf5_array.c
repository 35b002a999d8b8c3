// Arrays: whole, appended to row by row, and read back with every size checked against the file's own.
#include <stdlib.h>
#include <string.h>

#include "common/hdf5_private.h"
#include "common/memory.h"

size_t ss_hdf5_type_size(ss_hdf5_type type) {
  switch (type) {
  case SS_HDF5_U8:
    return 1;
  case SS_HDF5_I32:
  case SS_HDF5_F32:
    return 4;
  default:
    return 8;
  }
}

hid_t hdf5_memory_type(ss_hdf5_type type) {
  switch (type) {
  case SS_HDF5_U8:
    return H5T_NATIVE_UINT8;
  case SS_HDF5_I32:
    return H5T_NATIVE_INT32;
  case SS_HDF5_I64:
    return H5T_NATIVE_INT64;
  case SS_HDF5_U64:
    return H5T_NATIVE_UINT64;
  case SS_HDF5_F32:
    return H5T_NATIVE_FLOAT;
  default:
    return H5T_NATIVE_DOUBLE;
  }
}

hid_t hdf5_file_type(ss_hdf5_type type) {
  switch (type) {
  case SS_HDF5_U8:
    return H5T_STD_U8LE;
  case SS_HDF5_I32:
    return H5T_STD_I32LE;
  case SS_HDF5_I64:
    return H5T_STD_I64LE;
  case SS_HDF5_U64:
    return H5T_STD_U64LE;
  case SS_HDF5_F32:
    return H5T_IEEE_F32LE;
  default:
    return H5T_IEEE_F64LE;
  }
}

const char *hdf5_type_name(ss_hdf5_type type) {
  switch (type) {
  case SS_HDF5_U8:
    return "uint8";
  case SS_HDF5_I32:
    return "int32";
  case SS_HDF5_I64:
    return "int64";
  case SS_HDF5_U64:
    return "uint64";
  case SS_HDF5_F32:
    return "float32";
  default:
    return "float64";
  }
}

bool hdf5_type_is(hid_t stored, ss_hdf5_type type) {
  return H5Tequal(stored, hdf5_file_type(type)) > 0;
}

// --- writing ---

// Creates a dataset without time stamps. Missing groups are made by hand: those the library makes by itself
// carry time stamps, whatever the properties say.
static ss_status make_groups(ss_hdf5 *file, const char *name, ss_error *error) {
  char *prefix = NULL;
  SS_TRY(ss_format(&prefix, error, "%s", name));
  ss_status status = SS_OK;
  for (char *slash = strchr(prefix, '/'); slash && status == SS_OK; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (H5Lexists(file->file, prefix, H5P_DEFAULT) == 0) {
      hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
      H5Pset_obj_track_times(creation, false);
      hid_t group = H5Gcreate2(file->file, prefix, H5P_DEFAULT, creation, H5P_DEFAULT);
      if (group < 0 || H5Gclose(group) < 0)
        status = hdf5_fail(error, file, "create the group", prefix);
      H5Pclose(creation);
    }
    *slash = '/';
  }
  free(prefix);
  return status;
}

static ss_status create_dataset(ss_hdf5 *file, const char *name, ss_hdf5_type type, hid_t space,
                                const hsize_t *chunk, hid_t *dataset, ss_error *error) {
  SS_TRY(make_groups(file, name, error));
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_obj_track_times(creation, false);
  if (chunk)
    H5Pset_chunk(creation, H5Sget_simple_extent_ndims(space), chunk);
  *dataset = H5Dcreate2(file->file, name, hdf5_file_type(type), space, H5P_DEFAULT, creation, H5P_DEFAULT);
  ss_status status = *dataset < 0 ? hdf5_fail(error, file, "create the array", name) : SS_OK;
  H5Pclose(creation);
  return status;
}

static ss_status write_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                             const int64_t *dims, const void *data, ss_error *error) {
  hsize_t extent[SS_HDF5_MAX_RANK];
  if (rank < 1 || rank > SS_HDF5_MAX_RANK)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: array \"%s\" of rank %d, expected 1..%d", file->path, name,
                   rank, SS_HDF5_MAX_RANK);
  bool empty = false;
  for (int32_t k = 0; k < rank; ++k) {
    if (dims[k] < 0)
      return ss_fail(error, SS_ERROR_INTERNAL, "%s: array \"%s\" has a negative size", file->path, name);
    extent[k] = (hsize_t)dims[k];
    empty = empty || dims[k] == 0;
  }
  hid_t space = H5Screate_simple(rank, extent, NULL), dataset = H5I_INVALID_HID;
  ss_status status = create_dataset(file, name, type, space, NULL, &dataset, error);
  if (status == SS_OK && !empty &&
      H5Dwrite(dataset, hdf5_memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    status = hdf5_fail(error, file, "write the array", name);
  if (dataset >= 0 && H5Dclose(dataset) < 0 && status == SS_OK)
    status = hdf5_fail(error, file, "write the array", name);
  H5Sclose(space);
  return status;
}

ss_status ss_hdf5_write_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                              const int64_t *dims, const void *data, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  return hdf5_leave(&guard, write_array(file, name, type, rank, dims, data, error));
}

ss_status ss_hdf5_create_stream(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t columns,
                                int64_t chunk_rows, ss_error *error) {
  int rank = columns > 0 ? 2 : 1;
  hsize_t extent[2] = {0, (hsize_t)columns}, most[2] = {H5S_UNLIMITED, (hsize_t)columns};
  hsize_t chunk[2] = {(hsize_t)chunk_rows, (hsize_t)columns};
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t space = H5Screate_simple(rank, extent, most), dataset = H5I_INVALID_HID;
  ss_status status = create_dataset(file, name, type, space, chunk, &dataset, error);
  if (dataset >= 0)
    H5Dclose(dataset);
  H5Sclose(space);
  return hdf5_leave(&guard, status);
}

// --- reading ---

// Type, rank and extent of an open dataset.
static ss_status dataset_shape(ss_hdf5 *file, const char *name, hid_t dataset, ss_hdf5_type type,
                               int32_t rank, hsize_t *extent, ss_error *error) {
  hid_t stored = H5Dget_type(dataset), space = H5Dget_space(dataset);
  ss_status status = SS_OK;
  if (stored < 0 || space < 0)
    status = hdf5_fail(error, file, "read the array", name);
  else if (!hdf5_type_is(stored, type))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has another type, expected %s", file->path,
                     name, hdf5_type_name(type));
  else if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || H5Sget_simple_extent_ndims(space) != rank)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has another rank, expected %d", file->path,
                     name, rank);
  else if (H5Sget_simple_extent_dims(space, extent, NULL) < 0)
    status = hdf5_fail(error, file, "read the array", name);
  if (stored >= 0)
    H5Tclose(stored);
  if (space >= 0)
    H5Sclose(space);
  if (status != SS_OK)
    return status;
  // Arrays are stored plainly, so none can be larger than the file: a corrupted extent is caught here. While a
  // file is written its size is not known yet.
  if (file->temporary)
    return SS_OK;
  int64_t elements = file->bytes / (int64_t)ss_hdf5_type_size(type);
  for (int32_t k = 0; k < rank; ++k) {
    if (extent[k] == 0)
      return SS_OK;
    if (extent[k] > (hsize_t)elements)
      return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" claims more elements than the file has bytes",
                     file->path, name);
    elements /= (int64_t)extent[k];
  }
  return SS_OK;
}

static ss_status open_dataset(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                              hid_t *dataset, hsize_t *extent, ss_error *error) {
  *dataset = H5I_INVALID_HID;
  if (rank < 1 || rank > SS_HDF5_MAX_RANK)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: array \"%s\" of rank %d, expected 1..%d", file->path, name,
                   rank, SS_HDF5_MAX_RANK);
  hid_t object = H5Oopen(file->file, name, H5P_DEFAULT);
  if (object < 0 || H5Iget_type(object) != H5I_DATASET) {
    H5Eclear2(H5E_DEFAULT);
    if (object >= 0)
      H5Oclose(object);
    return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" is missing", file->path, name);
  }
  *dataset = object;
  ss_status status = dataset_shape(file, name, object, type, rank, extent, error);
  if (status != SS_OK)
    H5Dclose(object);
  return status;
}

ss_status ss_hdf5_append(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t rows, const void *data,
                         ss_error *error) {
  if (rows == 0)
    return SS_OK;
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t dataset = H5Dopen2(file->file, name, H5P_DEFAULT), space = H5I_INVALID_HID, memory = H5I_INVALID_HID;
  hsize_t extent[2] = {0, 0}, first[2] = {0, 0}, count[2] = {(hsize_t)rows, 0};
  bool done = dataset >= 0;
  if (done) {
    space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    done = rank >= 1 && rank <= 2 && H5Sget_simple_extent_dims(space, extent, NULL) == rank;
    H5Sclose(space);
    first[0] = extent[0];
    count[1] = extent[1];
    extent[0] += (hsize_t)rows;
    done = done && H5Dset_extent(dataset, extent) >= 0;
    space = H5Dget_space(dataset);
    memory = H5Screate_simple(rank, count, NULL);
    done = done && H5Sselect_hyperslab(space, H5S_SELECT_SET, first, NULL, count, NULL) >= 0 &&
           H5Dwrite(dataset, hdf5_memory_type(type), memory, space, H5P_DEFAULT, data) >= 0;
  }
  ss_status status = done ? SS_OK : hdf5_fail(error, file, "append to the array", name);
  if (memory >= 0)
    H5Sclose(memory);
  if (space >= 0)
    H5Sclose(space);
  if (dataset >= 0 && H5Dclose(dataset) < 0 && status == SS_OK)
    status = hdf5_fail(error, file, "append to the array", name);
  return hdf5_leave(&guard, status);
}

ss_status ss_hdf5_shape(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank, int64_t *dims,
                        ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t dataset;
  hsize_t extent[SS_HDF5_MAX_RANK] = {0};
  ss_status status = open_dataset(file, name, type, rank, &dataset, extent, error);
  if (status == SS_OK) {
    for (int32_t k = 0; k < rank; ++k)
      dims[k] = (int64_t)extent[k];
    H5Dclose(dataset);
  }
  return hdf5_leave(&guard, status);
}

static ss_status read_open(ss_hdf5 *file, const char *name, hid_t dataset, ss_hdf5_type type, void *data,
                           ss_error *error) {
  if (H5Dread(dataset, hdf5_memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    return hdf5_fail(error, file, "read the array", name);
  return SS_OK;
}

// Compares wanted sizes (negative: any) with the stored ones; *count receives the elements.
static ss_status match_extent(const ss_hdf5 *file, const char *name, int32_t rank, const int64_t *dims,
                              const hsize_t *extent, int64_t *count, ss_error *error) {
  *count = 1;
  for (int32_t k = 0; k < rank; ++k) {
    if (dims[k] >= 0 && (hsize_t)dims[k] != extent[k])
      return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has size %lld in dimension %d, expected %lld",
                     file->path, name, (long long)extent[k], k, (long long)dims[k]);
    *count *= (int64_t)extent[k];
  }
  return SS_OK;
}

ss_status ss_hdf5_read_into(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank,
                            const int64_t *dims, void *data, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t dataset;
  hsize_t extent[SS_HDF5_MAX_RANK] = {0};
  ss_status status = open_dataset(file, name, type, rank, &dataset, extent, error);
  if (status == SS_OK) {
    int64_t count = 0;
    status = match_extent(file, name, rank, dims, extent, &count, error);
    if (status == SS_OK && count > 0)
      status = read_open(file, name, dataset, type, data, error);
    H5Dclose(dataset);
  }
  return hdf5_leave(&guard, status);
}

ss_status ss_hdf5_read_array(ss_hdf5 *file, const char *name, ss_hdf5_type type, int32_t rank, int64_t *dims,
                             void *data, ss_error *error) {
  void *values = NULL;
  memcpy(data, &values, sizeof values);
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t dataset;
  hsize_t extent[SS_HDF5_MAX_RANK] = {0};
  ss_status status = open_dataset(file, name, type, rank, &dataset, extent, error);
  if (status != SS_OK)
    return hdf5_leave(&guard, status);
  int64_t count = 0;
  status = match_extent(file, name, rank, dims, extent, &count, error);
  if (status == SS_OK)
    status = ss_allocate(&values, count, ss_hdf5_type_size(type), name, error);
  if (status == SS_OK && count > 0)
    status = read_open(file, name, dataset, type, values, error);
  H5Dclose(dataset);
  if (status != SS_OK) {
    free(values);
    return hdf5_leave(&guard, status);
  }
  for (int32_t k = 0; k < rank; ++k)
    dims[k] = (int64_t)extent[k];
  memcpy(data, &values, sizeof values);
  return hdf5_leave(&guard, SS_OK);
}

static ss_status read_rows(ss_hdf5 *file, const char *name, hid_t dataset, ss_hdf5_type type, int64_t columns,
                           const hsize_t *extent, int64_t first, int64_t count, void *data, ss_error *error) {
  int rank = columns > 0 ? 2 : 1;
  if (columns > 0 && extent[1] != (hsize_t)columns)
    return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has %lld columns, expected %lld", file->path,
                   name, (long long)extent[1], (long long)columns);
  if (first < 0 || count < 0 || (hsize_t)first > extent[0] || (hsize_t)count > extent[0] - (hsize_t)first)
    return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has %lld rows, expected %lld + %lld", file->path,
                   name, (long long)extent[0], (long long)first, (long long)count);
  if (count == 0)
    return SS_OK;
  hsize_t origin[2] = {(hsize_t)first, 0}, size[2] = {(hsize_t)count, (hsize_t)columns};
  hid_t space = H5Dget_space(dataset), memory = H5Screate_simple(rank, size, NULL);
  ss_status status = SS_OK;
  if (H5Sselect_hyperslab(space, H5S_SELECT_SET, origin, NULL, size, NULL) < 0 ||
      H5Dread(dataset, hdf5_memory_type(type), memory, space, H5P_DEFAULT, data) < 0)
    status = hdf5_fail(error, file, "read the array", name);
  H5Sclose(memory);
  H5Sclose(space);
  return status;
}

ss_status ss_hdf5_read_rows(ss_hdf5 *file, const char *name, ss_hdf5_type type, int64_t columns,
                            int64_t first, int64_t count, void *data, ss_error *error) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  hid_t dataset;
  hsize_t extent[SS_HDF5_MAX_RANK] = {0};
  ss_status status = open_dataset(file, name, type, columns > 0 ? 2 : 1, &dataset, extent, error);
  if (status == SS_OK) {
    status = read_rows(file, name, dataset, type, columns, extent, first, count, data, error);
    H5Dclose(dataset);
  }
  return hdf5_leave(&guard, status);
}

bool ss_hdf5_has(ss_hdf5 *file, const char *name) {
  hdf5_guard guard;
  hdf5_enter(&guard);
  // Asked link by link: the library fails on a path whose group is missing.
  char prefix[256];
  bool present = strlen(name) < sizeof prefix;
  for (size_t length = 0; present && length <= strlen(name); ++length)
    if (length > 0 && (name[length] == '/' || name[length] == '\0')) {
      snprintf(prefix, sizeof prefix, "%.*s", (int)length, name);
      present = H5Lexists(file->file, prefix, H5P_DEFAULT) > 0;
    }
  H5Eclear2(H5E_DEFAULT);
  hdf5_leave(&guard, SS_OK);
  return present;
}

// --- listing ---

static ss_status list_names(ss_hdf5 *file, const char *group, char **names, int64_t *count, ss_error *error) {
  H5G_info_t information;
  if (H5Gget_info_by_name(file->file, group, &information, H5P_DEFAULT) < 0)
    return hdf5_fail(error, file, "list the group", group);
  int64_t used = 0, capacity = 0;
  SS_TRY(ss_grow(names, &capacity, 1, 1, "a list of names", error));
  for (hsize_t k = 0; k < information.nlinks; ++k) {
    ssize_t length = H5Lget_name_by_idx(file->file, group, H5_INDEX_NAME, H5_ITER_INC, k, NULL, 0,
                                        H5P_DEFAULT);
    if (length < 0)
      return hdf5_fail(error, file, "list the group", group);
    SS_TRY(ss_grow(names, &capacity, used + length + 1, 1, "a list of names", error));
    if (H5Lget_name_by_idx(file->file, group, H5_INDEX_NAME, H5_ITER_INC, k, *names + used,
                           (size_t)length + 1, H5P_DEFAULT) < 0)
      return hdf5_fail(error, file, "list the group", group);
    used += length + 1;
  }
  *count = (int64_t)information.nlinks;
  return SS_OK;
}

ss_status ss_hdf5_list(ss_hdf5 *file, const char *group, char **names, int64_t *count, ss_error *error) {
  *names = NULL;
  *count = 0;
  hdf5_guard guard;
  hdf5_enter(&guard);
  ss_status status = list_names(file, group, names, count, error);
  if (status != SS_OK) {
    free(*names);
    *names = NULL;
  }
  return hdf5_leave(&guard, status);
}
