#include "model/safetensors.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/half.h"
#include "common/map_file.h"
#include "common/memory.h"

#define HEADER_LIMIT 100000000  // bytes, the reference implementation's

struct safetensors {
  char *where;
  ss_mapping *mappings;
  int64_t n_mapping, mapping_capacity;
  json_t **headers;  // [n_mapping] names and dtypes point into them
  int64_t header_capacity, n_header;
  safetensors_tensor *tensors;  // sorted by name once all are read
  int64_t n_tensor, tensor_capacity;
};

typedef struct {
  const char *name;
  uint64_t bytes;
} dtype_row;

static const dtype_row dtypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8},     {"I64", 8},
                                   {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
                                   {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
enum { N_DTYPE = sizeof dtypes / sizeof *dtypes, N_READABLE = 3 };

static const dtype_row *find_dtype(const char *name) {
  for (int i = 0; i < N_DTYPE; ++i)
    if (strcmp(name, dtypes[i].name) == 0)
      return &dtypes[i];
  return NULL;
}

// --- the header --------------------------------------------------------------------------------------------

// Names stand in messages.
static bool is_printable(const char *text) {
  for (; *text != '\0'; ++text)
    if (*text < ' ' || *text > '~')
      return false;
  return true;
}

static ss_status read_shape(const char *where, const json_t *shape, safetensors_tensor *tensor,
                            ss_error *error) {
  size_t n = json_array_size(shape);
  if (!json_is_array(shape) || n > SAFETENSORS_MAX_DIMENSIONS)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tensor %s: its shape is %s, expected a list of at most %d sizes", where, tensor->name,
                   json_is_array(shape) ? "longer" : "none", SAFETENSORS_MAX_DIMENSIONS);
  tensor->n_dimension = (int32_t)n;
  tensor->rows = tensor->cols = 1;
  int64_t product = 1;  // of the sizes that are not 0: no size may overflow whatever the others are
  for (size_t d = 0; d < n; ++d) {
    const json_t *item = json_array_get(shape, d);
    int64_t size = json_is_integer(item) ? (int64_t)json_integer_value(item) : -1;
    if (size < 0 || size > INT64_MAX / 8 / product)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: tensor %s: dimension %zu, expected integers from 0 on whose product is below 2^60",
                     where, tensor->name, d);
    product *= size > 0 ? size : 1;
    tensor->shape[d] = size;
    if (d + 1 < n)
      tensor->rows *= size;
    else
      tensor->cols = size;
  }
  return SS_OK;
}

static ss_status read_entry(const char *where, const char *name, const json_t *entry,
                            const unsigned char *data, uint64_t n_data, safetensors_tensor *tensor,
                            ss_error *error) {
  memset(tensor, 0, sizeof *tensor);
  tensor->name = name;
  if (!is_printable(name) || name[0] == '\0')
    return ss_fail(error, SS_ERROR_INPUT, "%s: a tensor's name is empty or not printable ASCII", where);
  const json_t *dtype = json_object_get(entry, "dtype"), *offsets = json_object_get(entry, "data_offsets");
  if (!json_is_string(dtype))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: no dtype", where, name);
  tensor->dtype = json_string_value(dtype);
  const dtype_row *row = find_dtype(tensor->dtype);
  if (row == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: unknown dtype %.16s", where, name,
                   is_printable(tensor->dtype) ? tensor->dtype : "");
  SS_TRY(read_shape(where, json_object_get(entry, "shape"), tensor, error));
  const json_t *first = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(end))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: data_offsets, expected two integers", where, name);
  int64_t low = (int64_t)json_integer_value(first), high = (int64_t)json_integer_value(end);
  if (low < 0 || high < low || (uint64_t)high > n_data)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s: data_offsets %lld to %lld, the data has %llu bytes",
                   where, name, (long long)low, (long long)high, (unsigned long long)n_data);
  tensor->size = (uint64_t)(high - low);
  uint64_t expected = (uint64_t)tensor->rows * (uint64_t)tensor->cols * row->bytes;
  if (tensor->size != expected)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tensor %s: its offsets hold %llu bytes, its shape and %s take %llu", where, name,
                   (unsigned long long)tensor->size, row->name, (unsigned long long)expected);
  tensor->data = data + low;
  return SS_OK;
}

static int compare_data(const void *a, const void *b) {
  const safetensors_tensor *left = a, *right = b;
  if (left->data != right->data)
    return left->data < right->data ? -1 : 1;
  return (left->size > right->size) - (left->size < right->size);  // empty ones first
}

static int compare_names(const void *a, const void *b) {
  return strcmp(((const safetensors_tensor *)a)->name, ((const safetensors_tensor *)b)->name);
}

// Tensors must follow each other from the first byte to the last.
static ss_status check_cover(const char *where, safetensors_tensor *tensors, int64_t n,
                             const unsigned char *data, uint64_t n_data, ss_error *error) {
  if (n > 0)
    qsort(tensors, (size_t)n, sizeof *tensors, compare_data);
  uint64_t end = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint64_t first = (uint64_t)(tensors[i].data - data);
    if (first < end)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tensors %s and %s overlap", where, tensors[i - 1].name,
                     tensors[i].name);
    if (first > end)
      return ss_fail(error, SS_ERROR_INPUT, "%s: no tensor has the data's bytes %llu to %llu, before %s",
                     where, (unsigned long long)end, (unsigned long long)first, tensors[i].name);
    end = first + tensors[i].size;
  }
  if (end != n_data)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %llu bytes after the last tensor", where,
                   (unsigned long long)(n_data - end));
  return SS_OK;
}

static ss_status read_header(const unsigned char *bytes, size_t n, const char *where, json_t **out,
                             uint64_t *data_first, ss_error *error) {
  if (n < 8)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %zu bytes, expected 8 with the header's length", where, n);
  uint64_t length = ss_load64(bytes);
  if (length > HEADER_LIMIT || length > n - 8)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: a header of %llu bytes in a file of %zu (at most %d); not safetensors?", where,
                   (unsigned long long)length, n, HEADER_LIMIT);
  json_error_t reason;
  *out = json_loadb((const char *)bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &reason);
  if (*out == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %d of the header: %s", where, reason.position,
                   is_printable(reason.text) ? reason.text : "not JSON");
  *data_first = 8 + length;
  return json_is_object(*out) ? SS_OK
                              : ss_fail(error, SS_ERROR_INPUT, "%s: its header is not a JSON object", where);
}

// Appends the tensors of one file.
static ss_status add_file(safetensors *file, const unsigned char *bytes, size_t n, const char *where,
                          ss_error *error) {
  uint64_t first = 0;
  SS_TRY(ss_grow(&file->headers, &file->header_capacity, file->n_header + 1, sizeof *file->headers, "headers",
                 error));
  file->headers[file->n_header] = NULL;
  json_t **header = &file->headers[file->n_header++];
  SS_TRY(read_header(bytes, n, where, header, &first, error));
  const char *name;
  json_t *entry;
  int64_t before = file->n_tensor;
  json_object_foreach(*header, name, entry) {
    if (strcmp(name, "__metadata__") == 0)
      continue;
    SS_TRY(ss_grow(&file->tensors, &file->tensor_capacity, file->n_tensor + 1, sizeof *file->tensors,
                   "tensors", error));
    SS_TRY(read_entry(where, name, entry, bytes + first, n - first, &file->tensors[file->n_tensor], error));
    file->n_tensor++;
  }
  safetensors_tensor *added = file->n_tensor > before ? file->tensors + before : NULL;
  return check_cover(where, added, file->n_tensor - before, bytes + first, n - first, error);
}

// --- opening -----------------------------------------------------------------------------------------------

static ss_status map_and_add(safetensors *file, const char *path, ss_error *error) {
  SS_TRY(ss_grow(&file->mappings, &file->mapping_capacity, file->n_mapping + 1, sizeof *file->mappings,
                 "mappings", error));
  ss_mapping *mapping = &file->mappings[file->n_mapping];
  SS_TRY(ss_map_file(path, mapping, error));
  file->n_mapping++;
  return add_file(file, mapping->bytes, mapping->n, path, error);
}

// Opens the files of an index, each once.
static ss_status open_shards(safetensors *file, const char *path, const json_t *map, ss_error *error) {
  json_t *names = json_object();
  const char *key, *slash = strrchr(path, '/');
  json_t *value;
  void *next;
  ss_status status = names != NULL ? SS_OK : ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory", path);
  json_object_foreach((json_t *)map, key, value) {
    if (status != SS_OK)
      break;
    const char *name = json_string_value(value);
    if (name == NULL || !is_printable(name) || strchr(name, '/') != NULL ||
        !ss_ends_in(name, ".safetensors")) {
      status = ss_fail(error, SS_ERROR_INPUT,
                       "%s: weight_map, expected the names of .safetensors files beside it", path);
    } else if (json_object_set_new(names, name, json_true()) != 0) {
      status = ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory", path);
    }
  }
  json_object_foreach_safe(names, next, key, value) {
    char *shard = NULL;
    if (status == SS_OK)
      status = ss_format(&shard, error, "%.*s%s", slash == NULL ? 0 : (int)(slash + 1 - path), path, key);
    if (status == SS_OK)
      status = map_and_add(file, shard, error);
    free(shard);
  }
  json_decref(names);
  return status;
}

static ss_status open_index(safetensors *file, const char *path, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  json_error_t reason;
  SS_TRY(ss_read_file(path, &text, &size, error));
  json_t *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &reason);
  free(text);
  const json_t *map = json_object_get(index, "weight_map");
  ss_status status = SS_OK;
  if (index == NULL)
    status = ss_fail(error, SS_ERROR_INPUT, "%s:%d: %s", path, reason.line,
                     is_printable(reason.text) ? reason.text : "not JSON");
  else if (json_object_size(map) == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no weight_map, expected an index of safetensors files",
                     path);
  else
    status = open_shards(file, path, map, error);
  json_decref(index);
  return status;
}

static ss_status sort_names(safetensors *file, ss_error *error) {
  if (file->n_tensor > 0)
    qsort(file->tensors, (size_t)file->n_tensor, sizeof *file->tensors, compare_names);
  for (int64_t i = 1; i < file->n_tensor; ++i)
    if (strcmp(file->tensors[i - 1].name, file->tensors[i].name) == 0)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s stands in two files", file->where,
                     file->tensors[i].name);
  return SS_OK;
}

static ss_status open_any(safetensors **out, const char *where, const void *bytes, size_t n,
                          ss_error *error) {
  safetensors *file = NULL;
  *out = NULL;
  SS_TRY(ss_allocate(&file, 1, sizeof *file, "a safetensors file", error));
  ss_status status = ss_format(&file->where, error, "%s", where);
  if (status == SS_OK)
    status = bytes != NULL                ? add_file(file, bytes, n, where, error)
             : ss_ends_in(where, ".json") ? open_index(file, where, error)
                                          : map_and_add(file, where, error);
  if (status == SS_OK)
    status = sort_names(file, error);
  if (status != SS_OK) {
    safetensors_close(file);
    return status;
  }
  *out = file;
  return SS_OK;
}

ss_status safetensors_open(safetensors **out, const char *path, ss_error *error) {
  return open_any(out, path, NULL, 0, error);
}

ss_status safetensors_open_memory(safetensors **out, const void *bytes, size_t n, const char *where,
                                  ss_error *error) {
  return open_any(out, where, bytes != NULL ? bytes : "", n, error);
}

void safetensors_close(safetensors *file) {
  if (file == NULL)
    return;
  for (int64_t i = 0; i < file->n_mapping; ++i)
    ss_unmap(&file->mappings[i]);
  for (int64_t i = 0; i < file->n_header; ++i)
    json_decref(file->headers[i]);
  free(file->mappings);
  free(file->headers);
  free(file->tensors);
  free(file->where);
  free(file);
}

// --- asking ------------------------------------------------------------------------------------------------

const char *safetensors_where(const safetensors *file) {
  return file->where;
}
int64_t safetensors_n_tensor(const safetensors *file) {
  return file->n_tensor;
}
const safetensors_tensor *safetensors_tensor_at(const safetensors *file, int64_t index) {
  return &file->tensors[index];
}

const safetensors_tensor *safetensors_find(const safetensors *file, const char *name) {
  safetensors_tensor key = {.name = name};
  return file->n_tensor == 0
             ? NULL
             : bsearch(&key, file->tensors, (size_t)file->n_tensor, sizeof *file->tensors, compare_names);
}

const char *safetensors_find_text(const safetensors *file, const char *key) {
  const json_t *texts = file->n_header == 0 ? NULL : json_object_get(file->headers[0], "__metadata__");
  return json_string_value(json_object_get(texts, key));
}

bool safetensors_readable(const safetensors_tensor *tensor) {
  return find_dtype(tensor->dtype) - dtypes < N_READABLE;
}

ss_status safetensors_read_rows(const safetensors *file, const safetensors_tensor *tensor, int64_t first,
                                int64_t n_row, float *out, ss_error *error) {
  const dtype_row *dtype = find_dtype(tensor->dtype);
  if (!safetensors_readable(tensor))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s has dtype %s, expected F32, F16 or BF16",
                   file->where, tensor->name, tensor->dtype);
  if (first < 0 || n_row < 0 || first > tensor->rows || n_row > tensor->rows - first)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: tensor %s: rows %lld to %lld of %lld", file->where,
                   tensor->name, (long long)first, (long long)(first + n_row), (long long)tensor->rows);
  const unsigned char *in = tensor->data + (uint64_t)first * (uint64_t)tensor->cols * dtype->bytes;
  int64_t n = n_row * tensor->cols;
  if (strcmp(dtype->name, "F32") == 0)
    for (int64_t i = 0; i < n; ++i)
      out[i] = ss_float_of_bits(ss_load32(in + 4 * i));
  else if (strcmp(dtype->name, "F16") == 0)
    for (int64_t i = 0; i < n; ++i)
      out[i] = ss_f16_value(ss_load16(in + 2 * i));
  else
    for (int64_t i = 0; i < n; ++i)
      out[i] = ss_bf16_value(ss_load16(in + 2 * i));
  return SS_OK;
}
