#include "common/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64  // a cache line, and the widest vector

static ss_status byte_count(int64_t count, size_t size, const char *what, size_t *out, ss_error *error) {
  if (count < 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: negative element count %lld", what, (long long)count);
  // PTRDIFF_MAX rather than SIZE_MAX: larger objects cannot be indexed.
  if (size != 0 && (uint64_t)count > (uint64_t)(PTRDIFF_MAX - ALIGNMENT) / size)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: %lld elements of %zu bytes exceed the address space", what,
                   (long long)count, size);
  *out = (size_t)count * size;
  return SS_OK;
}

ss_status ss_allocate(void *out, int64_t count, size_t size, const char *what, ss_error *error) {
  size_t bytes = 0;
  SS_TRY(byte_count(count, size, what, &bytes, error));
  // aligned_alloc wants a multiple of the alignment.
  size_t rounded = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  void *memory = aligned_alloc(ALIGNMENT, rounded);
  if (memory == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory, asked for %zu bytes (%lld x %zu)", what, bytes,
                   (long long)count, size);
  memset(memory, 0, rounded);
  memcpy(out, &memory, sizeof memory);  // `out` may point to any pointer type
  return SS_OK;
}

ss_status ss_grow(void *array, int64_t *capacity, int64_t needed, size_t size, const char *what,
                  ss_error *error) {
  if (needed <= *capacity)
    return SS_OK;
  int64_t grown = *capacity > INT64_MAX / 2 ? needed : *capacity * 2;
  if (grown < needed)
    grown = needed;
  if (grown < 16)
    grown = 16;
  size_t bytes = 0;
  SS_TRY(byte_count(grown, size, what, &bytes, error));
  void *old = NULL;
  memcpy(&old, array, sizeof old);
  void *memory = realloc(old, bytes);
  if (memory == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory, asked for %zu bytes (%lld x %zu)", what, bytes,
                   (long long)grown, size);
  memcpy(array, &memory, sizeof memory);
  *capacity = grown;
  return SS_OK;
}

ss_status ss_format(char **out, ss_error *error, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  char *text = length < 0 ? NULL : malloc((size_t)length + 1);
  if (text != NULL)
    vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  if (length < 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "text cannot be formatted");
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory, asked for %d bytes of text", length + 1);
  *out = text;
  return SS_OK;
}
