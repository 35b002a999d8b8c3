// An evaluator of plain expressions that shares nothing with data/tasks: values directly from the text, in rationals,
// each quotient rounded to `decimals` decimals, half away from zero.
#ifndef SELFSPAN_TESTS_ARITHMETIC_REFERENCE_H
#define SELFSPAN_TESTS_ARITHMETIC_REFERENCE_H

#include <gmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *at;
  int decimals;
  bool by_zero;
} reference_reader;

static void reference_sum(reference_reader *reader, mpq_t out);

// Digits, point and percent sign as a sum of digits times powers of ten.
static void reference_number(reference_reader *reader, mpq_t out) {
  mpq_t digit, scale, ten;
  mpq_inits(digit, scale, ten, NULL);
  mpq_set_ui(ten, 10, 1);
  mpq_set_ui(scale, 1, 1);
  mpq_set_ui(out, 0, 1);
  bool point = false;
  for (; (*reader->at >= '0' && *reader->at <= '9') || *reader->at == '.'; reader->at++) {
    if (*reader->at == '.') {
      point = true;
      continue;
    }
    mpq_set_ui(digit, (unsigned long)(*reader->at - '0'), 1);
    if (point) {
      mpq_div(scale, scale, ten);
      mpq_mul(digit, digit, scale);
    } else {
      mpq_mul(out, out, ten);
    }
    mpq_add(out, out, digit);
  }
  if (*reader->at == '%') {
    mpq_set_ui(scale, 100, 1);
    mpq_div(out, out, scale);
    reader->at++;
  }
  mpq_clears(digit, scale, ten, NULL);
}

static void reference_factor(reference_reader *reader, mpq_t out) {
  if (*reader->at == '-') {
    reader->at++;
    reference_factor(reader, out);
    mpq_neg(out, out);
  } else if (*reader->at == '(' || *reader->at == '[') {
    reader->at++;
    reference_sum(reader, out);
    reader->at++;
  } else {
    reference_number(reader, out);
  }
}

// The multiple of 10^-decimals nearest to `value`: by comparing the remainder with one half.
static void reference_round(mpq_t value, int decimals) {
  mpz_t power, whole, remainder;
  mpz_inits(power, whole, remainder, NULL);
  mpz_ui_pow_ui(power, 10, (unsigned long)decimals);
  bool negative = mpq_sgn(value) < 0;
  mpq_abs(value, value);
  mpz_mul(whole, mpq_numref(value), power);
  mpz_tdiv_qr(whole, remainder, whole, mpq_denref(value));
  mpz_mul_ui(remainder, remainder, 2);
  if (mpz_cmp(remainder, mpq_denref(value)) >= 0)
    mpz_add_ui(whole, whole, 1);
  mpq_set_num(value, whole);
  mpq_set_den(value, power);
  mpq_canonicalize(value);
  if (negative)
    mpq_neg(value, value);
  mpz_clears(power, whole, remainder, NULL);
}

static void reference_product(reference_reader *reader, mpq_t out) {
  mpq_t right;
  mpq_init(right);
  reference_factor(reader, out);
  while (*reader->at == '*' || *reader->at == '/') {
    char operation = *reader->at++;
    reference_factor(reader, right);
    if (operation == '*') {
      mpq_mul(out, out, right);
    } else if (mpq_sgn(right) == 0) {
      reader->by_zero = true;
    } else {
      mpq_div(out, out, right);
      reference_round(out, reader->decimals);
    }
  }
  mpq_clear(right);
}

static void reference_sum(reference_reader *reader, mpq_t out) {
  mpq_t right;
  mpq_init(right);
  reference_product(reader, out);
  while (*reader->at == '+' || *reader->at == '-') {
    char operation = *reader->at++;
    reference_product(reader, right);
    if (operation == '+')
      mpq_add(out, out, right);
    else
      mpq_sub(out, out, right);
  }
  mpq_clear(right);
}

// The value of an expression without blanks; a trailing `=` is ignored. False: division by zero.
static inline bool reference_evaluate(const char *text, int decimals, mpq_t out) {
  reference_reader reader = {text, decimals, false};
  reference_sum(&reader, out);
  return !reader.by_zero && (*reader.at == '\0' || *reader.at == '=');
}

#endif
