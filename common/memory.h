// Checked allocation: sizes are multiplied with overflow detection and failures name what was asked.
#ifndef SELFSPAN_COMMON_MEMORY_H
#define SELFSPAN_COMMON_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#ifdef __cplusplus
extern "C" {
#endif

// *out = zeroed array of `count` elements of `size` bytes, 64-byte aligned; free with free().
// `count == 0` gives a non-NULL pointer. `what` names the array in the message.
ss_status ss_allocate(void *out, int64_t count, size_t size, const char *what, ss_error *error);

// Grows *array (a pointer to a malloc'ed or NULL pointer) so that at least `needed` elements fit;
// doubles *capacity. New elements are not initialised. On failure the array is unchanged.
ss_status ss_grow(void *array, int64_t *capacity, int64_t needed, size_t size, const char *what,
                  ss_error *error);

// *out = a malloc'ed formatted string.
ss_status ss_format(char **out, ss_error *error, const char *format, ...) SS_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif

#endif
