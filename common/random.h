// Random numbers as a pure function of (seed, stream, counter), so that results do not depend on
// which thread draws them, and a generator's whole state fits in a checkpoint.
// Mixing function: splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
#ifndef SELFSPAN_COMMON_RANDOM_H
#define SELFSPAN_COMMON_RANDOM_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define SS_RANDOM_FUNCTION static inline __host__ __device__
#else
#define SS_RANDOM_FUNCTION static inline
#endif

SS_RANDOM_FUNCTION uint64_t ss_mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// A 64-bit hash of up to three words: the seed of an independent stream.
static inline uint64_t ss_hash64(uint64_t a, uint64_t b, uint64_t c) {
  return ss_mix64(ss_mix64(ss_mix64(a) ^ b) ^ c);
}

// A sequential generator. State is the struct: copy it to save it.
typedef struct {
  uint64_t key;
  uint64_t counter;
} ss_random;

static inline ss_random ss_random_seed(uint64_t seed, uint64_t stream) {
  ss_random random = {ss_hash64(seed, stream, 0x73656C667370616Eull), 0};
  return random;
}

SS_RANDOM_FUNCTION uint64_t ss_random_next(ss_random *random) {
  return ss_mix64(random->key + 0x9E3779B97F4A7C15ull * ++random->counter);
}

// Uniform in [0, 1) with 53 bits.
SS_RANDOM_FUNCTION double ss_random_uniform(ss_random *random) {
  return (double)(ss_random_next(random) >> 11) * 0x1.0p-53;
}

__extension__ typedef unsigned __int128 ss_uint128;  // the keyword keeps -Wpedantic silent

// Uniform in [0, n), n > 0, without modulo bias (Lemire 2019, rejection on the low word).
static inline uint64_t ss_random_below(ss_random *random, uint64_t n) {
  uint64_t threshold = (0 - n) % n;
  for (;;) {
    ss_uint128 product = (ss_uint128)ss_random_next(random) * n;
    if ((uint64_t)product >= threshold)
      return (uint64_t)(product >> 64);
  }
}

// Uniform integer in [low, high], both included.
static inline int64_t ss_random_range(ss_random *random, int64_t low, int64_t high) {
  return low + (int64_t)ss_random_below(random, (uint64_t)(high - low) + 1);
}

// Standard normal (Box-Muller, one of the pair).
static inline double ss_random_normal(ss_random *random) {
  double u = 1.0 - ss_random_uniform(random), v = ss_random_uniform(random);
  return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
