#include "eval/intervals.h"

#include <math.h>

#define Z_95 1.959963984540054  // two-sided 95% quantile of the standard normal

void wilson_interval(int64_t k, int64_t n, double *low, double *high) {
  *low = 0;
  *high = 1;
  if (n <= 0)
    return;
  double count = (double)n, rate = (double)k / count, square = Z_95 * Z_95;
  double centre = (rate + square / (2 * count)) / (1 + square / count);
  double half = Z_95 / (1 + square / count) * sqrt(rate * (1 - rate) / count + square / (4 * count * count));
  // At the ends the bound is exact; rounding would leave -1e-17 or 1 - 1e-16.
  *low = k <= 0 || centre < half ? 0 : centre - half;
  *high = k >= n || centre + half > 1 ? 1 : centre + half;
}
