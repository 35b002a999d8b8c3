// Bootstrap confidence intervals of means (Efron 1979, percentile method).
#ifndef SELFSPAN_EVAL_BOOTSTRAP_H
#define SELFSPAN_EVAL_BOOTSTRAP_H

#include <stdint.h>

#include "common/error.h"

typedef struct {
  double mean, low, high;
} bootstrap_interval;

// Means of the columns of values [n, n_column] with the `confidence` (0.95) interval between the percentiles of
// n_sample means of n rows drawn with replacement, percentiles interpolated linearly. All columns share the drawn rows;
// for a paired difference pass the differences. Sample k draws from stream k of `seed`: the result is
// a function of the arguments, for any number of threads. Without samples (n_sample == 0) the bounds are the mean; with
// n == 0 all is 0. out: [n_column].
ss_status bootstrap_means(const double *values, int64_t n, int64_t n_column, int64_t n_sample,
                          double confidence, uint64_t seed, bootstrap_interval *out, ss_error *error);

#endif
