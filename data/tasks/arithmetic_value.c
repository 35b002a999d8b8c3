#include "data/tasks/arithmetic_value.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define MOST_DIGITS 100000  // of one value: far beyond what a sequence can hold, and a bound on the work

static void make_rational(arithmetic_value *value) {
  if (!value->has_rational) {
    mpq_init(value->rational);
    value->has_rational = true;
  }
}

// Rationals that are integers of 64 bits return to the fast form.
static void shrink(arithmetic_value *value) {
  value->small = false;
  if (mpz_cmp_ui(mpq_denref(value->rational), 1) == 0 && mpz_fits_slong_p(mpq_numref(value->rational))) {
    value->small = true;
    value->integer = mpz_get_si(mpq_numref(value->rational));
  }
}

void arithmetic_value_set(arithmetic_value *value, int64_t mantissa, int32_t decimals) {
  if (decimals == 0) {
    value->small = true;
    value->integer = mantissa;
    return;
  }
  make_rational(value);
  mpz_set_si(mpq_numref(value->rational), mantissa);
  mpz_ui_pow_ui(mpq_denref(value->rational), 10, (unsigned long)decimals);
  mpq_canonicalize(value->rational);
  shrink(value);
}

ss_status arithmetic_value_parse(arithmetic_value *value, const char *text, int64_t n, ss_error *error) {
  if (n > MOST_DIGITS)
    return ss_fail(error, SS_ERROR_LIMIT, "a number of %lld digits, expected at most %d", (long long)n,
                   MOST_DIGITS);
  char *digits = NULL;
  SS_TRY(ss_allocate(&digits, n + 1, 1, "number", error));
  int64_t n_digit = 0;
  unsigned long scale = 0;
  bool point = false;
  for (int64_t k = 0; k < n; k++) {
    if (text[k] == '.') {
      point = true;
    } else if (text[k] == '%') {
      scale += 2;
    } else {
      digits[n_digit++] = text[k];
      scale += point;
    }
  }
  make_rational(value);
  int bad = mpz_set_str(mpq_numref(value->rational), digits, 10);
  free(digits);
  if (bad != 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "number \"%.*s\" passed the parser", (int)n, text);
  mpz_ui_pow_ui(mpq_denref(value->rational), 10, scale);
  mpq_canonicalize(value->rational);
  shrink(value);
  return SS_OK;
}

static bool apply_small(arithmetic_value *out, char operation, int64_t left, int64_t right) {
  int64_t result = 0;
  bool fits = false;
  if (operation == '+')
    fits = !__builtin_add_overflow(left, right, &result);
  else if (operation == '-')
    fits = !__builtin_sub_overflow(left, right, &result);
  else if (operation == '*')
    fits = !__builtin_mul_overflow(left, right, &result);
  else if (!(left == INT64_MIN && right == -1) && left % right == 0) {
    result = left / right;
    fits = true;
  }
  if (fits) {
    out->small = true;
    out->integer = result;
  }
  return fits;
}

// rational = its value rounded to `decimals` decimals, half away from zero.
static void round_rational(mpq_t rational, int32_t decimals) {
  mpz_t power, doubled;
  mpz_init(power);
  mpz_init(doubled);
  mpz_ui_pow_ui(power, 10, (unsigned long)decimals);
  int sign = mpz_sgn(mpq_numref(rational));
  mpz_ptr numerator = mpq_numref(rational), denominator = mpq_denref(rational);
  mpz_abs(numerator, numerator);
  mpz_mul(numerator, numerator, power);
  mpz_mul_2exp(numerator, numerator, 1);
  mpz_add(numerator, numerator, denominator);
  mpz_mul_2exp(doubled, denominator, 1);
  mpz_fdiv_q(numerator, numerator, doubled);
  if (sign < 0)
    mpz_neg(numerator, numerator);
  mpz_set(denominator, power);
  mpq_canonicalize(rational);
  mpz_clear(power);
  mpz_clear(doubled);
}

// The value as a rational: its own, or `storage`, initialised here and cleared by the caller.
static mpq_srcptr as_rational(const arithmetic_value *value, mpq_t storage) {
  mpq_init(storage);
  if (!value->small)
    return value->rational;
  mpq_set_si(storage, value->integer, 1);
  return storage;
}

bool arithmetic_value_apply(arithmetic_value *out, char operation, const arithmetic_value *left,
                            const arithmetic_value *right, int32_t decimals) {
  if (operation == '/' && (right->small ? right->integer == 0 : mpq_sgn(right->rational) == 0))
    return false;
  if (left->small && right->small && apply_small(out, operation, left->integer, right->integer))
    return true;
  mpq_t left_storage, right_storage;
  mpq_srcptr a = as_rational(left, left_storage), b = as_rational(right, right_storage);
  make_rational(out);
  if (operation == '+')
    mpq_add(out->rational, a, b);
  else if (operation == '-')
    mpq_sub(out->rational, a, b);
  else if (operation == '*')
    mpq_mul(out->rational, a, b);
  else {
    mpq_div(out->rational, a, b);
    round_rational(out->rational, decimals);
  }
  mpq_clear(left_storage);
  mpq_clear(right_storage);
  shrink(out);
  return true;
}

bool arithmetic_value_below(const arithmetic_value *value, int64_t limit) {
  if (value->small)
    return value->integer > -limit && value->integer < limit;
  mpq_t bound;
  mpq_init(bound);
  mpq_set_si(bound, limit, 1);
  bool below = mpq_cmp(value->rational, bound) < 0;
  mpq_neg(bound, bound);
  below = below && mpq_cmp(value->rational, bound) > 0;
  mpq_clear(bound);
  return below;
}

int32_t arithmetic_write_integer(char *out, int64_t integer) {
  char reversed[20];
  int32_t n = 0, length = 0;
  uint64_t magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
  do {
    reversed[n++] = (char)('0' + magnitude % 10);
    magnitude /= 10;
  } while (magnitude > 0);
  if (integer < 0)
    out[length++] = '-';
  while (n > 0)
    out[length++] = reversed[--n];
  return length;
}

// Writes mantissa / 10^decimals.
static void write_decimal(char *out, int64_t *n, const char *digits, int64_t n_digit, int64_t decimals) {
  int64_t length = 0;
  if (n_digit <= decimals) {
    out[length++] = '0';
    out[length++] = '.';
    for (int64_t k = n_digit; k < decimals; k++)
      out[length++] = '0';
    memcpy(out + length, digits, (size_t)n_digit);
    *n = length + n_digit;
    return;
  }
  memcpy(out, digits, (size_t)(n_digit - decimals));
  length = n_digit - decimals;
  out[length++] = '.';
  memcpy(out + length, digits + n_digit - decimals, (size_t)decimals);
  *n = length + decimals;
}

static ss_status write_rational(const arithmetic_value *value, char **text, int64_t *n, int64_t *capacity,
                                mpz_t mantissa, mpz_t factor, ss_error *error) {
  mpz_set_ui(factor, 2);
  unsigned long twos = mpz_remove(mantissa, mpq_denref(value->rational), factor);
  mpz_set_ui(factor, 5);
  unsigned long fives = mpz_remove(mantissa, mantissa, factor);
  if (mpz_cmp_ui(mantissa, 1) != 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "a value that is no finite decimal");
  unsigned long decimals = twos > fives ? twos : fives;
  mpz_ui_pow_ui(factor, 10, decimals);
  mpz_mul(mantissa, mpq_numref(value->rational), factor);
  mpz_divexact(mantissa, mantissa, mpq_denref(value->rational));
  int64_t room = (int64_t)mpz_sizeinbase(mantissa, 10) + (int64_t)decimals + 4;
  if (room > MOST_DIGITS)
    return ss_fail(error, SS_ERROR_LIMIT, "a value of %lld digits, expected at most %d", (long long)room,
                   MOST_DIGITS);
  char *digits = NULL;
  SS_TRY(ss_allocate(&digits, room, 1, "digits", error));
  ss_status status = ss_grow(text, capacity, *n + room, 1, "value text", error);
  if (status == SS_OK) {
    mpz_abs(factor, mantissa);
    mpz_get_str(digits, 10, factor);
    if (mpz_sgn(mantissa) < 0)
      (*text)[(*n)++] = '-';
    int64_t written = (int64_t)strlen(digits);
    if (decimals == 0)
      memcpy(*text + *n, digits, (size_t)written);
    else
      write_decimal(*text + *n, &written, digits, written, (int64_t)decimals);
    *n += written;
  }
  free(digits);
  return status;
}

ss_status arithmetic_value_write(const arithmetic_value *value, char **text, int64_t *n, int64_t *capacity,
                                 ss_error *error) {
  if (value->small) {
    if (*n + 20 > *capacity)
      SS_TRY(ss_grow(text, capacity, *n + 20, 1, "value text", error));
    *n += arithmetic_write_integer(*text + *n, value->integer);
    return SS_OK;
  }
  mpz_t mantissa, factor;
  mpz_init(mantissa);
  mpz_init(factor);
  ss_status status = write_rational(value, text, n, capacity, mantissa, factor, error);
  mpz_clear(mantissa);
  mpz_clear(factor);
  return status;
}

void arithmetic_value_clear(arithmetic_value *value) {
  if (value->has_rational)
    mpq_clear(value->rational);
  memset(value, 0, sizeof *value);
}
