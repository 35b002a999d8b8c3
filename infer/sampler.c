#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"

typedef struct {
  double weight;
  int32_t token;
} candidate;

struct sampler {
  int32_t vocab_size;
  double temperature, top_p;
  int64_t top_k;
  candidate *candidates;  // [vocab_size]
};

ss_status sampler_create(sampler **out, int32_t vocab_size, double temperature, int64_t top_k, double top_p,
                         ss_error *error) {
  sampler *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "sampler", error));
  made->vocab_size = vocab_size;
  made->temperature = temperature;
  made->top_k = top_k;
  made->top_p = top_p;
  ss_status status = ss_allocate(&made->candidates, vocab_size, sizeof *made->candidates,
                                 "sampler candidates", error);
  if (status != SS_OK) {
    free(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

void sampler_free(sampler *sampler) {
  if (sampler == NULL)
    return;
  free(sampler->candidates);
  free(sampler);
}

// Heavier first; equal weights by id, so that the order never depends on the sort.
static int compare_candidates(const void *left, const void *right) {
  const candidate *a = left, *b = right;
  if (a->weight != b->weight)
    return a->weight > b->weight ? -1 : 1;
  return (a->token > b->token) - (a->token < b->token);
}

static int32_t draw(sampler *sampler, const float *logits, const uint8_t *allowed, float best,
                    ss_random *random) {
  int32_t n = 0;
  double total = 0;
  for (int32_t token = 0; token < sampler->vocab_size; ++token) {
    if ((allowed != NULL && !allowed[token]) || isnan(logits[token]))
      continue;
    candidate entry = {exp(((double)logits[token] - best) / sampler->temperature), token};
    total += entry.weight;
    sampler->candidates[n++] = entry;
  }
  if (sampler->top_k > 0 || sampler->top_p < 1) {
    qsort(sampler->candidates, (size_t)n, sizeof *sampler->candidates, compare_candidates);
    if (sampler->top_k > 0 && sampler->top_k < n)
      n = (int32_t)sampler->top_k;
    double kept = 0, wanted = sampler->top_p * total;
    int32_t end = 0;
    while (end < n && (end == 0 || kept < wanted))
      kept += sampler->candidates[end++].weight;
    n = end;
    total = kept;
  }
  double place = ss_random_uniform(random) * total;
  for (int32_t k = 0; k < n; ++k) {
    place -= sampler->candidates[k].weight;
    if (place < 0)
      return sampler->candidates[k].token;
  }
  return sampler->candidates[n - 1].token;
}

int32_t sampler_choose(sampler *sampler, const float *logits, const uint8_t *allowed, ss_random *random,
                       double *log_probability) {
  int32_t token = -1;
  float best = -INFINITY;
  for (int32_t k = 0; k < sampler->vocab_size; ++k) {
    if (allowed != NULL && !allowed[k])
      continue;
    if (token < 0 || logits[k] > best || (isnan(best) && !isnan(logits[k]))) {
      token = k;
      best = logits[k];
    }
  }
  if (sampler->temperature > 0 && isfinite(best))
    token = draw(sampler, logits, allowed, best, random);
  if (log_probability != NULL) {
    double total = 0;
    for (int32_t k = 0; k < sampler->vocab_size; ++k)
      if ((allowed == NULL || allowed[k]) && !isnan(logits[k]))
        total += exp((double)logits[k] - best);
    *log_probability = (double)logits[token] - best - log(total);
  }
  return token;
}
