#include "eval/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/random.h"

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// means: [n_column, n_sample]; sums: [n_column] of the calling thread.
static void draw(const double *values, int64_t n, int64_t n_column, int64_t n_sample, uint64_t seed,
                 int64_t sample, double *sums, double *means) {
  ss_random random = ss_random_seed(seed, (uint64_t)sample);
  memset(sums, 0, (size_t)n_column * sizeof *sums);
  for (int64_t i = 0; i < n; i++) {
    const double *row = values + n_column * (int64_t)ss_random_below(&random, (uint64_t)n);
    for (int64_t c = 0; c < n_column; c++)
      sums[c] += row[c];
  }
  for (int64_t c = 0; c < n_column; c++)
    means[c * n_sample + sample] = sums[c] / (double)n;
}

static double percentile(const double *sorted, int64_t n, double share) {
  double place = share * (double)(n - 1), below = floor(place);
  int64_t k = (int64_t)below;
  return k + 1 < n ? sorted[k] + (place - below) * (sorted[k + 1] - sorted[k]) : sorted[n - 1];
}

ss_status bootstrap_means(const double *values, int64_t n, int64_t n_column, int64_t n_sample,
                          double confidence, uint64_t seed, bootstrap_interval *out, ss_error *error) {
  if (!(confidence >= 0 && confidence <= 1) || n < 0 || n_sample < 0)
    return ss_fail(error, SS_ERROR_USAGE,
                   "bootstrap: confidence %g, %lld rows, %lld samples; expected 0..1, and no negative number",
                   confidence, (long long)n, (long long)n_sample);
  for (int64_t c = 0; c < n_column; c++) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
      sum += values[i * n_column + c];
    out[c].mean = out[c].low = out[c].high = n > 0 ? sum / (double)n : 0;
  }
  if (n == 0 || n_sample == 0)
    return SS_OK;
  if (n_sample > INT64_MAX / n_column)
    return ss_fail(error, SS_ERROR_LIMIT, "bootstrap: %lld samples are too many", (long long)n_sample);
  double *means = NULL;
  SS_TRY(ss_allocate(&means, n_sample * n_column, sizeof *means, "bootstrap samples", error));
  ss_status status = SS_OK;
#pragma omp parallel
  {
    double *sums = NULL;
    ss_error own = {0};
    ss_status allocated = ss_allocate(&sums, n_column, sizeof *sums, "bootstrap sums", &own);
#pragma omp for schedule(static)
    for (int64_t k = 0; k < n_sample; k++)
      if (allocated == SS_OK)
        draw(values, n, n_column, n_sample, seed, k, sums, means);
    if (allocated != SS_OK) {
#pragma omp critical(bootstrap_error)
      status = ss_fail(error, allocated, "%s", own.message);
    }
    free(sums);
  }
  for (int64_t c = 0; c < n_column && status == SS_OK; c++) {
    double *sorted = means + c * n_sample, tail = (1 - confidence) / 2;
    qsort(sorted, (size_t)n_sample, sizeof *sorted, compare);
    out[c].low = percentile(sorted, n_sample, tail);
    out[c].high = percentile(sorted, n_sample, 1 - tail);
  }
  free(means);
  return status;
}
