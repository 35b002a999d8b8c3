// Confidence intervals of measured rates.
#ifndef SELFSPAN_EVAL_INTERVALS_H
#define SELFSPAN_EVAL_INTERVALS_H

#include <stdint.h>

// Wilson score interval at 95% of k of n (Wilson 1927, JASA 22, 209-212), without continuity correction; n == 0 gives 0..1.
void wilson_interval(int64_t k, int64_t n, double *low, double *high);

#endif
