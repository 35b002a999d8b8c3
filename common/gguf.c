// GGUF: header, metadata, tensor infos, data. Everything is checked once, at opening.
#include "common/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "common/gguf_private.h"
#include "common/half.h"
#include "common/map_file.h"
#include "common/memory.h"

enum { MAX_NAME = 1024, DEFAULT_ALIGNMENT = 32 };

const char *const gguf_value_names[N_VALUE_TYPE] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                    "bool", "string", "array", "u64", "i64", "f64"};
const int gguf_value_sizes[N_VALUE_TYPE] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// --- cursor ------------------------------------------------------------------------------------------------

// *out = the next n bytes, which are `what`.
static ss_status take(gguf *file, uint64_t n, const char *what, const unsigned char **out, ss_error *error) {
  size_t left = file->n - file->position;
  if (n > left)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: %s takes %llu bytes, the file has %zu more",
                   file->where, file->position, what, (unsigned long long)n, left);
  *out = file->bytes + file->position;
  file->position += (size_t)n;
  return SS_OK;
}

static ss_status take32(gguf *file, const char *what, uint32_t *out, ss_error *error) {
  const unsigned char *bytes = NULL;
  SS_TRY(take(file, 4, what, &bytes, error));
  *out = ss_load32(bytes);
  return SS_OK;
}

static ss_status take64(gguf *file, const char *what, uint64_t *out, ss_error *error) {
  const unsigned char *bytes = NULL;
  SS_TRY(take(file, 8, what, &bytes, error));
  *out = ss_load64(bytes);
  return SS_OK;
}

// A key or a tensor's name, malloc'ed. They stand in messages, so they are printable ASCII.
static ss_status take_name(gguf *file, const char *what, char **out, ss_error *error) {
  size_t start = file->position;
  uint64_t n = 0;
  const unsigned char *bytes = NULL;
  SS_TRY(take64(file, what, &n, error));
  if (n == 0 || n > MAX_NAME)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: %s of %llu bytes, expected 1 to %d", file->where,
                   start, what, (unsigned long long)n, MAX_NAME);
  SS_TRY(take(file, n, what, &bytes, error));
  for (uint64_t i = 0; i < n; ++i)
    if (bytes[i] < ' ' || bytes[i] > '~')
      return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: %s with byte 0x%02x, expected printable ASCII",
                     file->where, start + 8 + (size_t)i, what, bytes[i]);
  return ss_format(out, error, "%.*s", (int)n, (const char *)bytes);
}

// --- metadata ----------------------------------------------------------------------------------------------

static ss_status skip_values(gguf *file, value_type type, uint64_t count, const char *key, ss_error *error) {
  const unsigned char *bytes = NULL;
  uint64_t n = 0;
  if (type != VALUE_STRING) {
    size_t left = file->n - file->position, start = file->position;
    if (count > left / (size_t)gguf_value_sizes[type])
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: byte %zu: %s: %llu values of %s, the file has %zu more bytes", file->where, start,
                     key, (unsigned long long)count, gguf_value_names[type], left);
    return take(file, count * (uint64_t)gguf_value_sizes[type], key, &bytes, error);
  }
  for (uint64_t i = 0; i < count; ++i) {
    SS_TRY(take64(file, key, &n, error));
    SS_TRY(take(file, n, key, &bytes, error));
  }
  return SS_OK;
}

static ss_status take_type(gguf *file, const char *key, bool element, value_type *out, ss_error *error) {
  size_t start = file->position;
  uint32_t type = 0;
  SS_TRY(take32(file, key, &type, error));
  if (type >= N_VALUE_TYPE)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: %s: value type %u, expected 0 to %d", file->where,
                   start, key, type, N_VALUE_TYPE - 1);
  if (element && type == VALUE_ARRAY)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: %s: an array of arrays, which is not supported",
                   file->where, start, key);
  *out = (value_type)type;
  return SS_OK;
}

static ss_status read_value(gguf *file, gguf_value *value, ss_error *error) {
  uint64_t count = 1;
  SS_TRY(take_type(file, value->key, false, &value->type, error));
  value->count = -1;
  if (value->type == VALUE_ARRAY) {
    SS_TRY(take_type(file, value->key, true, &value->type, error));
    SS_TRY(take64(file, value->key, &count, error));
    // Every element takes a byte or more, so a larger count is refused below before it is used.
    value->count = count > INT64_MAX ? INT64_MAX : (int64_t)count;
  }
  value->payload = file->bytes + file->position;
  return skip_values(file, value->type, count, value->key, error);
}

static int compare_keys(const void *a, const void *b, void *user) {
  const gguf_value *values = user;
  return strcmp(values[*(const int32_t *)a].key, values[*(const int32_t *)b].key);
}

static int compare_names(const void *a, const void *b, void *user) {
  const gguf_tensor *tensors = user;
  return strcmp(tensors[*(const int32_t *)a].name, tensors[*(const int32_t *)b].name);
}

// Merge sort: qsort has no argument for what the indices point into.
static void sort(int32_t *items, int32_t *scratch, int64_t n,
                 int (*compare)(const void *, const void *, void *), void *user) {
  for (int64_t width = 1; width < n; width *= 2) {
    for (int64_t first = 0; first < n; first += 2 * width) {
      int64_t middle = first + width < n ? first + width : n,
              end = first + 2 * width < n ? first + 2 * width : n;
      int64_t left = first, right = middle;
      for (int64_t k = first; k < end; ++k)
        scratch[k] = right >= end || (left < middle && compare(&items[left], &items[right], user) <= 0)
                         ? items[left++]
                         : items[right++];
    }
    memcpy(items, scratch, (size_t)n * sizeof *items);
  }
}

// *out = 0..n-1 in the order of `compare`.
static ss_status sorted(int32_t **out, int64_t n, int (*compare)(const void *, const void *, void *),
                        void *user, ss_error *error) {
  int32_t *scratch = NULL;
  SS_TRY(ss_allocate(out, n, sizeof **out, "a table of names", error));
  SS_TRY(ss_allocate(&scratch, n, sizeof *scratch, "a table of names", error));
  for (int64_t i = 0; i < n; ++i)
    (*out)[i] = (int32_t)i;
  sort(*out, scratch, n, compare, user);
  free(scratch);
  return SS_OK;
}

static ss_status read_metadata(gguf *file, uint64_t n, ss_error *error) {
  for (uint64_t i = 0; i < n; ++i) {
    SS_TRY(ss_grow(&file->values, &file->value_capacity, file->n_value + 1, sizeof *file->values, "metadata",
                   error));
    gguf_value *value = &file->values[file->n_value];
    memset(value, 0, sizeof *value);
    SS_TRY(take_name(file, "a metadata key", &value->key, error));
    file->n_value++;
    SS_TRY(read_value(file, value, error));
  }
  SS_TRY(sorted(&file->by_key, file->n_value, compare_keys, file->values, error));
  for (int64_t i = 1; i < file->n_value; ++i)
    if (compare_keys(&file->by_key[i - 1], &file->by_key[i], file->values) == 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s stands twice", file->where,
                     file->values[file->by_key[i]].key);
  return SS_OK;
}

// --- tensors -----------------------------------------------------------------------------------------------

static ss_status read_shape(gguf *file, gguf_tensor *tensor, ss_error *error) {
  size_t start = file->position;
  uint32_t n_dimension = 0;
  SS_TRY(take32(file, tensor->name, &n_dimension, error));
  if (n_dimension < 1 || n_dimension > GGUF_MAX_DIMENSIONS)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: tensor %s has %u dimensions, expected 1 to %d",
                   file->where, start, tensor->name, n_dimension, GGUF_MAX_DIMENSIONS);
  tensor->n_dimension = (int32_t)n_dimension;
  tensor->rows = 1;
  int64_t product = 1;
  for (int d = 0; d < GGUF_MAX_DIMENSIONS; ++d) {
    uint64_t size = 1;
    if (d < tensor->n_dimension)
      SS_TRY(take64(file, tensor->name, &size, error));
    if (size < 1 || size > (uint64_t)(INT64_MAX / product))
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: byte %zu: tensor %s: dimension %d is %llu, expected at least 1 "
                     "and a product below 2^63",
                     file->where, start, tensor->name, d, (unsigned long long)size);
    tensor->dimensions[d] = (int64_t)size;
    product *= (int64_t)size;
    if (d > 0)
      tensor->rows *= (int64_t)size;
  }
  tensor->cols = tensor->dimensions[0];
  return SS_OK;
}

static ss_status read_info(gguf *file, gguf_tensor *tensor, ss_error *error) {
  uint32_t type = 0;
  SS_TRY(read_shape(file, tensor, error));
  SS_TRY(take32(file, tensor->name, &type, error));
  SS_TRY(take64(file, tensor->name, &tensor->offset, error));
  tensor->type = type > INT32_MAX ? -1 : (int32_t)type;
  const gguf_type_row *row = gguf_type_find(tensor->type);
  if (row->read == NULL)
    return SS_OK;
  if (tensor->cols % row->values != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tensor %s: rows of %lld values, expected a multiple of %lld (%s)", file->where,
                   tensor->name, (long long)tensor->cols, (long long)row->values, row->name);
  uint64_t blocks = (uint64_t)(tensor->cols / row->values) * (uint64_t)tensor->rows;
  if (blocks > UINT64_MAX / 2 / (uint64_t)row->bytes)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: %llu blocks of %s, more than any file holds",
                   file->where, tensor->name, (unsigned long long)blocks, row->name);
  tensor->size = blocks * (uint64_t)row->bytes;
  return SS_OK;
}

static ss_status read_infos(gguf *file, uint64_t n, ss_error *error) {
  for (uint64_t i = 0; i < n; ++i) {
    SS_TRY(ss_grow(&file->tensors, &file->tensor_capacity, file->n_tensor + 1, sizeof *file->tensors,
                   "tensor infos", error));
    gguf_tensor *tensor = &file->tensors[file->n_tensor];
    memset(tensor, 0, sizeof *tensor);
    SS_TRY(take_name(file, "a tensor's name", (char **)&tensor->name, error));
    file->n_tensor++;
    SS_TRY(read_info(file, tensor, error));
  }
  SS_TRY(sorted(&file->by_name, file->n_tensor, compare_names, file->tensors, error));
  for (int64_t i = 1; i < file->n_tensor; ++i)
    if (compare_names(&file->by_name[i - 1], &file->by_name[i], file->tensors) == 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s stands twice", file->where,
                     file->tensors[file->by_name[i]].name);
  return SS_OK;
}

static int compare_offsets(const void *a, const void *b, void *user) {
  const gguf_tensor *tensors = user;
  uint64_t left = tensors[*(const int32_t *)a].offset, right = tensors[*(const int32_t *)b].offset;
  return (left > right) - (left < right);
}

// Offsets count from the first aligned byte after the infos; afterwards from the file's start.
static ss_status place_tensors(gguf *file, ss_error *error) {
  int64_t alignment = DEFAULT_ALIGNMENT;
  if (gguf_has(file, "general.alignment"))
    SS_TRY(gguf_integer(file, "general.alignment", &alignment, error));
  if (alignment < 8 || alignment > 1 << 30 || (alignment & (alignment - 1)) != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: general.alignment is %lld, expected a power of two from 8 on",
                   file->where, (long long)alignment);
  uint64_t step = (uint64_t)alignment, start = ((uint64_t)file->position + step - 1) / step * step;
  for (int64_t i = 0; i < file->n_tensor; ++i) {
    gguf_tensor *tensor = &file->tensors[i];
    if (tensor->offset % step != 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: offset %llu, expected a multiple of %lld",
                     file->where, tensor->name, (unsigned long long)tensor->offset, (long long)alignment);
    // The start may lie beyond a file that ends with its infos.
    uint64_t room = file->n > start ? file->n - start : 0;
    if (tensor->offset > room || tensor->size > room - tensor->offset)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: tensor %s: %llu bytes at offset %llu of the data, which has %llu bytes",
                     file->where, tensor->name, (unsigned long long)tensor->size,
                     (unsigned long long)tensor->offset, (unsigned long long)room);
    tensor->offset += start;
  }
  int32_t *order = NULL;
  ss_status status = sorted(&order, file->n_tensor, compare_offsets, file->tensors, error);
  for (int64_t i = 1; i < file->n_tensor && status == SS_OK; ++i) {
    const gguf_tensor *before = &file->tensors[order[i - 1]], *after = &file->tensors[order[i]];
    if (before->offset + before->size > after->offset)
      status = ss_fail(error, SS_ERROR_INPUT, "%s: tensors %s and %s overlap", file->where, before->name,
                       after->name);
  }
  free(order);
  return status;
}

// --- opening -----------------------------------------------------------------------------------------------

static ss_status read_header(gguf *file, uint64_t *n_tensor, uint64_t *n_value, ss_error *error) {
  if (file->n < 4 || memcmp(file->bytes, "GGUF", 4) != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: is not a GGUF file: it does not begin with \"GGUF\"",
                   file->where);
  file->position = 4;
  uint32_t version = 0;
  SS_TRY(take32(file, "the version", &version, error));
  if ((version & 0xffff) == 0 && version != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: is big-endian, expected a little-endian file", file->where);
  if (version < 2 || version > 3)
    return ss_fail(error, SS_ERROR_INPUT, "%s: GGUF version %u, expected 2 or 3", file->where, version);
  SS_TRY(take64(file, "the number of tensors", n_tensor, error));
  SS_TRY(take64(file, "the number of metadata keys", n_value, error));
  // The shortest key takes 14 bytes, the shortest info 33; indices are 32 bits.
  uint64_t most = file->n / 14 < INT32_MAX ? file->n / 14 : INT32_MAX;
  if (*n_tensor > most || *n_value > most)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: byte 8: %llu tensors and %llu metadata keys in a file of %zu bytes", file->where,
                   (unsigned long long)*n_tensor, (unsigned long long)*n_value, file->n);
  return SS_OK;
}

static ss_status read_all(gguf *file, ss_error *error) {
  uint64_t n_tensor = 0, n_value = 0;
  SS_TRY(read_header(file, &n_tensor, &n_value, error));
  SS_TRY(read_metadata(file, n_value, error));
  SS_TRY(read_infos(file, n_tensor, error));
  return place_tensors(file, error);
}

ss_status gguf_open_memory(gguf **out, const void *bytes, size_t n, const char *where, ss_error *error) {
  gguf *file = NULL;
  *out = NULL;
  SS_TRY(ss_allocate(&file, 1, sizeof *file, "a GGUF file", error));
  file->bytes = bytes;
  file->n = n;
  ss_status status = ss_format(&file->where, error, "%s", where);
  if (status == SS_OK)
    status = read_all(file, error);
  if (status != SS_OK) {
    gguf_close(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

ss_status gguf_open(gguf **out, const char *path, ss_error *error) {
  ss_mapping mapping;
  *out = NULL;
  SS_TRY(ss_map_file(path, &mapping, error));
  ss_status status = gguf_open_memory(out, mapping.bytes, mapping.n, path, error);
  if (status == SS_OK)
    (*out)->mapping = mapping;
  else
    ss_unmap(&mapping);
  return status;
}

void gguf_close(gguf *file) {
  if (file == NULL)
    return;
  for (int64_t i = 0; i < file->n_value; ++i)
    free(file->values[i].key);
  for (int64_t i = 0; i < file->n_tensor; ++i)
    free((char *)file->tensors[i].name);
  free(file->values);
  free(file->tensors);
  free(file->by_key);
  free(file->by_name);
  free(file->where);
  ss_unmap(&file->mapping);
  free(file);
}

const char *gguf_where(const gguf *file) {
  return file->where;
}
