#include "data/novel_ngrams.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/random.h"

enum { IN_SOURCE = 1, IN_SUMMARY = 2 };

typedef struct {
  uint64_t key;
  uint32_t stamp;  // the place is free unless this is the counter's
  uint32_t marks;
} place;

struct ngram_counter {
  place *places;  // open addressing
  int64_t n_place, capacity;
  uint32_t stamp;
};

ss_status ngram_counter_create(ngram_counter **out, ss_error *error) {
  return ss_allocate(out, 1, sizeof **out, "n-gram counter", error);
}

void ngram_counter_free(ngram_counter *counter) {
  if (counter != NULL)
    free(counter->places);
  free(counter);
}

static ss_status reset(ngram_counter *counter, int64_t n, ss_error *error) {
  int64_t wanted = 1024;
  while (wanted < 2 * n)
    wanted *= 2;
  if (wanted > counter->capacity) {
    free(counter->places);
    counter->places = NULL;
    counter->capacity = 0;
    SS_TRY(ss_allocate(&counter->places, wanted, sizeof *counter->places, "n-grams", error));
    counter->capacity = wanted;
    counter->stamp = 0;
  }
  counter->n_place = wanted;
  if (++counter->stamp == 0) {
    memset(counter->places, 0, (size_t)counter->capacity * sizeof *counter->places);
    counter->stamp = 1;
  }
  return SS_OK;
}

static uint32_t *marks_of(ngram_counter *counter, const int32_t *ids, int n) {
  uint64_t words[NOVEL_NGRAMS_LONGEST] = {0};
  for (int k = 0; k < n; k++)
    words[k] = (uint64_t)ids[k] + 1;
  uint64_t key = ss_hash64(words[0] << 32 | words[1], words[2] << 32 | words[3], 0);
  for (uint64_t k = key;; k++) {
    place *at = &counter->places[k & (uint64_t)(counter->n_place - 1)];
    if (at->stamp != counter->stamp)
      *at = (place){key, counter->stamp, 0};
    if (at->key == key)
      return &at->marks;
  }
}

ss_status ngram_counter_count(ngram_counter *counter, const word_list *source, const word_list *summary,
                              const int64_t *ends, int64_t n_sentence, novel_ngrams *out, ss_error *error) {
  memset(out, 0, sizeof *out);
  for (int n = 1; n <= NOVEL_NGRAMS_LONGEST; n++) {
    SS_TRY(reset(counter, source->n + summary->n, error));
    for (int64_t k = 0; k + n <= source->n; k++)
      *marks_of(counter, source->ids + k, n) = IN_SOURCE;
    for (int64_t s = 0, k = 0; s < n_sentence; k = ends[s++])
      for (; k + n <= ends[s]; k++) {
        uint32_t *marks = marks_of(counter, summary->ids + k, n);
        out->distinct[n - 1] += (*marks & IN_SUMMARY) == 0;
        out->novel[n - 1] += *marks == 0;
        *marks |= IN_SUMMARY;
      }
  }
  return SS_OK;
}
