// The host's sampler: greedy choice, temperature, truncation and log-probabilities.
#include "tests/helpers.h"

#include <math.h>

#include "infer/sampler.h"

#define SEED 4
#define N_DRAW 40000

static sampler *make(int32_t vocab_size, double temperature, int64_t top_k, double top_p) {
  ss_error error = {0};
  sampler *made = NULL;
  assert_ok(sampler_create(&made, vocab_size, temperature, top_k, top_p, &error));
  return made;
}

static void greedy_takes_the_first_of_the_best(void **state) {
  (void)state;
  const float minus = -INFINITY, nan = NAN;
  const struct {
    float logits[5];
    uint8_t allowed[5];
    int32_t token;
    bool finite;  // has a log-probability
  } cases[] = {
      {{0, 2, 1, -1, nan}, {1, 1, 1, 1, 1}, 1, true},
      {{0, 2, 1, -1, nan}, {1, 0, 1, 1, 1}, 2, true},
      {{1, 2, 2, 2, 0}, {1, 1, 1, 1, 1}, 1, true},
      {{-0.0f, 0.0f, minus, -1, nan}, {1, 1, 1, 1, 1}, 0, true},
      {{nan, nan, nan, -3, -3}, {1, 1, 1, 1, 1}, 3, true},
      {{nan, nan, minus, minus, nan}, {1, 1, 1, 1, 1}, 2, false},
      {{nan, nan, nan, nan, nan}, {0, 0, 1, 1, 1}, 2, false},
      {{0, INFINITY, 1, INFINITY, nan}, {1, 1, 1, 1, 1}, 1, false},
  };
  sampler *greedy = make(5, 0, 0, 1), *warm = make(5, 1, 0, 1);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    double log_probability, total = 0, best = -INFINITY;
    int32_t token = sampler_choose(greedy, cases[k].logits, cases[k].allowed, NULL, &log_probability);
    if (token != cases[k].token)
      fail_msg("case %zu: token %d, expected %d", k, token, cases[k].token);
    for (int i = 0; i < 5; ++i)
      if (cases[k].allowed[i] && !isnan(cases[k].logits[i]))
        total += exp(cases[k].logits[i]), best = fmax(best, cases[k].logits[i]);
    if (cases[k].finite)
      assert_near(log_probability, best - log(total), 1e-9);
    else
      assert_true(isnan(log_probability));
    // Without a finite best there is nothing to draw, and no random number is used.
    if (!cases[k].finite)
      assert_int_equal(sampler_choose(warm, cases[k].logits, cases[k].allowed, NULL, NULL), cases[k].token);
  }
  sampler_free(greedy);
  sampler_free(warm);
  sampler_free(NULL);
}

// Draws follow the weights of what is kept, and nothing else is ever drawn.
static void draws_follow_the_distribution(void **state) {
  (void)state;
  enum { V = 7 };
  const float logits[V] = {0, 2, 1, -1, (float)NAN, 1, -INFINITY};
  const uint8_t some[V] = {1, 0, 1, 1, 1, 1, 1};
  const struct {
    double temperature, top_p;
    int64_t top_k;
    const uint8_t *allowed;
    uint8_t kept[V];
  } cases[] = {
      {1, 1, 0, NULL, {1, 1, 1, 1, 0, 1, 0}},    {0.5, 1, 0, NULL, {1, 1, 1, 1, 0, 1, 0}},
      {1, 1, 2, NULL, {0, 1, 1, 0, 0, 0, 0}},  // of equal logits the lower id
      {1, 1, 3, NULL, {0, 1, 1, 0, 0, 1, 0}},    {1, 1, 100, NULL, {1, 1, 1, 1, 0, 1, 0}},
      {1, 0.5, 0, NULL, {0, 1, 0, 0, 0, 0, 0}},  // e^2 of 14.2
      {1, 0.6, 0, NULL, {0, 1, 1, 0, 0, 0, 0}},  // and e
      {1, 0.8, 0, NULL, {0, 1, 1, 0, 0, 1, 0}},  // and e again
      {1, 0.8, 2, NULL, {0, 1, 1, 0, 0, 0, 0}},  // whichever comes first
      {1, 0.95, 0, NULL, {1, 1, 1, 0, 0, 1, 0}}, {1, 1e-9, 0, NULL, {0, 1, 0, 0, 0, 0, 0}},  // never nothing
      {1, 0.7, 0, some, {0, 0, 1, 0, 0, 1, 0}},  // of what is allowed
      {2, 0.95, 4, some, {1, 0, 1, 1, 0, 1, 0}},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    sampler *made = make(V, cases[k].temperature, cases[k].top_k, cases[k].top_p);
    ss_random random = ss_random_seed(SEED, k);
    int counts[V] = {0};
    double total = 0, all = 0;
    for (int draw = 0; draw < N_DRAW; ++draw) {
      double log_probability;
      int32_t token = sampler_choose(made, logits, cases[k].allowed, &random, &log_probability);
      ++counts[token];
      all = logits[token] - log_probability;  // of the distribution before temperature and truncation
    }
    double expected_all = 0;
    for (int i = 0; i < V; ++i) {
      total += cases[k].kept[i] ? exp(logits[i] / cases[k].temperature) : 0;
      if (!isnan(logits[i]) && (cases[k].allowed == NULL || cases[k].allowed[i]))
        expected_all += exp(logits[i]);
    }
    assert_near(all, log(expected_all), 1e-9);
    for (int i = 0; i < V; ++i) {
      double expected = cases[k].kept[i] ? exp(logits[i] / cases[k].temperature) / total : 0;
      double tolerance = expected > 0 ? 0.012 : 0;
      if (!(fabs(counts[i] / (double)N_DRAW - expected) <= tolerance))
        fail_msg("case %zu (seed %d): token %d was drawn with frequency %.4f, expected %.4f", k, SEED, i,
                 counts[i] / (double)N_DRAW, expected);
    }
    sampler_free(made);
  }
}

// The draw is in id order, whatever was truncated: a larger uniform never gives a smaller id.
static void draws_in_id_order(void **state) {
  (void)state;
  enum { V = 50 };
  float logits[V];
  ss_random values = ss_random_seed(SEED, 1);
  for (int i = 0; i < V; ++i)
    logits[i] = (float)ss_random_normal(&values);
  sampler *made = make(V, 1, 20, 0.9);
  int32_t token_of[1000];
  double uniform_of[1000];
  for (int draw = 0; draw < 1000; ++draw) {
    ss_random random = ss_random_seed(SEED, 100 + (uint64_t)draw), same = random;
    uniform_of[draw] = ss_random_uniform(&same);
    token_of[draw] = sampler_choose(made, logits, NULL, &random, NULL);
    assert_int_equal(random.counter, same.counter);
    for (int earlier = 0; earlier < draw; ++earlier)
      if ((uniform_of[earlier] < uniform_of[draw] && token_of[earlier] > token_of[draw]) ||
          (uniform_of[earlier] > uniform_of[draw] && token_of[earlier] < token_of[draw]))
        fail_msg("uniforms %g and %g gave tokens %d and %d", uniform_of[earlier], uniform_of[draw],
                 token_of[earlier], token_of[draw]);
  }
  sampler_free(made);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(greedy_takes_the_first_of_the_best),
      cmocka_unit_test(draws_follow_the_distribution),
      cmocka_unit_test(draws_in_id_order),
  };
  return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
