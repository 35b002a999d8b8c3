#include "eval/decimal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

static int64_t count_digits(const char *text) {
  int64_t n = 0;
  while (isdigit((unsigned char)text[n]))
    n++;
  return n;
}

// Adds one to the last of n decimal digits. The first is a spare zero, so the carry stays inside.
static void increment(char *digits, int64_t n) {
  while (n > 0) {
    if (digits[n - 1] != '9') {
      digits[n - 1]++;
      return;
    }
    digits[--n] = '0';
  }
}

ss_status decimal_round(const char *text, int32_t decimals, char **out, ss_error *error) {
  *out = NULL;
  bool negative = *text == '-';
  const char *whole = text + negative;
  int64_t n_whole = count_digits(whole), n_fraction = 0;
  const char *rest = whole + n_whole, *fraction = NULL;
  if (*rest == '.') {
    fraction = rest + 1;
    n_fraction = count_digits(fraction);
    rest = fraction + n_fraction;
    if (n_fraction == 0)
      return SS_OK;
  }
  if (*rest != '\0' || n_whole + n_fraction == 0)
    return SS_OK;

  // digits: a zero for the carry, the whole part, the kept decimals.
  int64_t kept = n_fraction < decimals ? n_fraction : decimals, n = 1 + n_whole + kept;
  char *digits = NULL, *made = NULL;
  SS_TRY(ss_allocate(&digits, n + 1, 1, "decimal", error));
  digits[0] = '0';
  memcpy(digits + 1, whole, (size_t)n_whole);
  if (kept > 0)
    memcpy(digits + 1 + n_whole, fraction, (size_t)kept);
  if (n_fraction > decimals && fraction[decimals] >= '5')
    increment(digits, n);
  while (kept > 0 && digits[n - 1] == '0')
    n--, kept--;
  int64_t first = 0;
  while (first < n - kept - 1 && digits[first] == '0')
    first++;
  bool zero = kept == 0 && n - first == 1 && digits[first] == '0';
  ss_status status = ss_format(&made, error, "%s%.*s%s%.*s", negative && !zero ? "-" : "",
                               (int)(n - kept - first), digits + first, kept > 0 ? "." : "", (int)kept,
                               digits + (n - kept));
  free(digits);
  *out = made;
  return status;
}

ss_status decimal_agree(const char *a, const char *b, int32_t decimals, bool *agree, ss_error *error) {
  *agree = false;
  char *rounded_a = NULL, *rounded_b = NULL;
  ss_status status = decimal_round(a, decimals, &rounded_a, error);
  if (status == SS_OK)
    status = decimal_round(b, decimals, &rounded_b, error);
  *agree = status == SS_OK && rounded_a != NULL && rounded_b != NULL && strcmp(rounded_a, rounded_b) == 0;
  free(rounded_a);
  free(rounded_b);
  return status;
}
