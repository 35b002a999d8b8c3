// Shared by common/gguf*.c only.
#ifndef SELFSPAN_COMMON_GGUF_PRIVATE_H
#define SELFSPAN_COMMON_GGUF_PRIVATE_H

#include "common/gguf.h"
#include "common/map_file.h"

typedef enum {
  VALUE_U8,
  VALUE_I8,
  VALUE_U16,
  VALUE_I16,
  VALUE_U32,
  VALUE_I32,
  VALUE_F32,
  VALUE_BOOL,
  VALUE_STRING,
  VALUE_ARRAY,
  VALUE_U64,
  VALUE_I64,
  VALUE_F64,
  N_VALUE_TYPE
} value_type;

extern const char *const gguf_value_names[N_VALUE_TYPE];
extern const int gguf_value_sizes[N_VALUE_TYPE];  // bytes; 0 for strings and arrays

typedef struct {
  char *key;
  value_type type;  // an array's: its elements'
  int64_t count;    // elements of an array, else -1
  const unsigned char *payload;
} gguf_value;

struct gguf {
  char *where;
  ss_mapping mapping;  // of gguf_open
  const unsigned char *bytes;
  size_t n, position;
  gguf_value *values;
  int64_t n_value, value_capacity;
  int32_t *by_key;  // [n_value] sorted
  gguf_tensor *tensors;
  int64_t n_tensor, tensor_capacity;
  int32_t *by_name;  // [n_tensor] sorted
};

typedef struct {
  const char *name;
  int64_t values, bytes;                              // of a block; 0 where it cannot be read
  void (*read)(const unsigned char *in, float *out);  // one block
} gguf_type_row;

// A row named "unknown" for numbers that have none.
const gguf_type_row *gguf_type_find(int32_t type);

#endif
