// Exact decimal values: int64 while integers fit, GMP rationals beyond. Only a division rounds, to a stated number
// of decimals, half away from zero; every value is therefore a finite decimal and has an exact text.
#ifndef SELFSPAN_DATA_TASKS_ARITHMETIC_VALUE_H
#define SELFSPAN_DATA_TASKS_ARITHMETIC_VALUE_H

#include <gmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

// A zeroed struct is the integer 0 in its rational form's absence: set it before use.
typedef struct {
  bool small;         // the value is `integer`; else it is `rational`
  bool has_rational;  // `rational` is initialised (kept for reuse)
  int64_t integer;
  mpq_t rational;
} arithmetic_value;

// Sets `value` to an integer, or to mantissa / 10^decimals (decimals <= 18).
void arithmetic_value_set(arithmetic_value *value, int64_t mantissa, int32_t decimals);

// Sets `value` from n bytes of text: `-`? digits? (`.` digits)? `%`?, as the parser has checked. N% is N / 100.
ss_status arithmetic_value_parse(arithmetic_value *value, const char *text, int64_t n, ss_error *error);

// *out = left operation right (+ - * /). A quotient is rounded to `decimals` decimals. False: division by zero, *out
// unchanged.
bool arithmetic_value_apply(arithmetic_value *out, char operation, const arithmetic_value *left,
                            const arithmetic_value *right, int32_t decimals);

// |value| < limit.
bool arithmetic_value_below(const arithmetic_value *value, int64_t limit);

// Appends the exact decimal text, without trailing zeros or a plus sign, to a growing buffer.
ss_status arithmetic_value_write(const arithmetic_value *value, char **text, int64_t *n, int64_t *capacity,
                                 ss_error *error);

// Writes an integer's digits (20 bytes at most, no terminator) and returns their number.
int32_t arithmetic_write_integer(char *out, int64_t integer);

// Frees what the value holds.
void arithmetic_value_clear(arithmetic_value *value);

#endif
