#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"

typedef struct {
  double weight;
  float logit;
  int32_t token;
} candidate;

struct sampler {
  int32_t vocab_size;
  double sharpness;  // 1 / temperature; 0: greedy
  double top_p;
  int64_t top_k;
  candidate *candidates;  // [vocab_size]
};

ss_status sampler_create(sampler **out, int32_t vocab_size, double temperature, int64_t top_k, double top_p,
                         ss_error *error) {
  sampler *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "sampler", error));
  made->vocab_size = vocab_size;
  made->sharpness = temperature > 0 ? 1 / temperature : 0;
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

// Higher logits first; equal ones by id, so that the order never depends on the sort.
static int compare_logits(const void *left, const void *right) {
  const candidate *a = left, *b = right;
  if (a->logit != b->logit)
    return a->logit > b->logit ? -1 : 1;
  return (a->token > b->token) - (a->token < b->token);
}

static int compare_tokens(const void *left, const void *right) {
  const candidate *a = left, *b = right;
  return (a->token > b->token) - (a->token < b->token);
}

// How many of n candidates are kept, which then come first, by id.
static int32_t keep_best(const sampler *sampler, int32_t n, double total) {
  qsort(sampler->candidates, (size_t)n, sizeof *sampler->candidates, compare_logits);
  double kept = 0, wanted = sampler->top_p < 1 ? sampler->top_p * total : INFINITY;
  int32_t end = 0;
  while (end < n && (end == 0 || ((sampler->top_k <= 0 || end < sampler->top_k) && kept < wanted)))
    kept += sampler->candidates[end++].weight;
  qsort(sampler->candidates, (size_t)end, sizeof *sampler->candidates, compare_tokens);
  return end;
}

static double total_weight(const sampler *sampler, int32_t n) {
  double total = 0;
  for (int32_t k = 0; k < n; ++k)
    total += sampler->candidates[k].weight;
  return total;
}

static int32_t draw(sampler *sampler, const float *logits, const uint8_t *allowed, float best,
                    ss_random *random) {
  int32_t n = 0;
  for (int32_t token = 0; token < sampler->vocab_size; ++token) {
    if ((allowed != NULL && !allowed[token]) || isnan(logits[token]))
      continue;
    double below = (double)logits[token] - best;
    double weight = below < 0 ? exp(below * sampler->sharpness) : 1;
    sampler->candidates[n++] = (candidate){weight, logits[token], token};
  }
  double total = total_weight(sampler, n);
  if (sampler->top_k > 0 || sampler->top_p < 1) {
    n = keep_best(sampler, n, total);
    total = total_weight(sampler, n);
  }
  double place = ss_random_uniform(random) * total;
  int32_t last = -1;  // for a place that rounding leads beyond all
  for (int32_t k = 0; k < n; ++k) {
    if (sampler->candidates[k].weight > 0)
      last = sampler->candidates[k].token;
    place -= sampler->candidates[k].weight;
    if (place < 0)
      break;
  }
  return last;
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
  if (sampler->sharpness > 0 && isfinite(best))
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
