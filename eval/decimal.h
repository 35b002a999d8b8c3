// Decimal numbers as text, of any length, rounded exactly.
#ifndef SELFSPAN_EVAL_DECIMAL_H
#define SELFSPAN_EVAL_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

// *out = `text` (-?digits[.digits] or -?.digits) rounded half away from zero to `decimals` decimals, in normal form:
// no superfluous zeros, no "-0"; malloc'ed. *out is NULL when `text` is no such number.
ss_status decimal_round(const char *text, int32_t decimals, char **out, ss_error *error);

// *agree: both are decimals, and equal after rounding to `decimals` decimals.
ss_status decimal_agree(const char *a, const char *b, int32_t decimals, bool *agree, ss_error *error);

#endif
