#include "data/greedy_oracle.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/random.h"

// An n-gram of the target: how often it stands there, and in the sentences that count as picked.
typedef struct {
  int32_t wanted, used;
} gram;

typedef struct {
  uint64_t key;  // two words; the place is free while its gram is -1
  int32_t gram;
} pair_place;

// Grams of the target in the order of a source's sentences: sentence k has those from ends[k - 1], or 0, to ends[k].
typedef struct {
  int32_t *grams;
  int64_t *ends;
  int64_t n, capacity, end_capacity;
} match_list;

// ROUGE-1 F + ROUGE-2 F = 2 (overlap[0] / sizes[0] + overlap[1] / sizes[1]); sizes are sums of both texts' n-grams.
typedef struct {
  int64_t overlap[2], sizes[2];
} score;

struct greedy_oracle {
  words *words;
  word_list source, target;
  int64_t *ends;  // [n_sentence] in source.ids
  int64_t n_sentence, end_capacity;
  gram *grams[2];  // the target's distinct words and pairs
  int64_t n_gram[2], gram_capacity[2];
  int32_t *gram_of_word;  // [word id], -1: not in the target
  int64_t n_word;         // entries that are set
  int64_t word_capacity;
  pair_place *pairs;  // open addressing
  int64_t n_pair_place, pair_capacity;
  match_list matches[2];
  int32_t *picked;
  int64_t picked_capacity;
  int32_t n_picked;
  int64_t picked_words;
  int64_t overlap[2];  // of the picked sentences, each by itself
};

ss_status greedy_oracle_create(greedy_oracle **out, ss_error *error) {
  greedy_oracle *oracle = NULL;
  SS_TRY(ss_allocate(&oracle, 1, sizeof *oracle, "oracle", error));
  ss_status status = words_create(&oracle->words, error);
  if (status != SS_OK)
    free(oracle);
  else
    *out = oracle;
  return status;
}

void greedy_oracle_free(greedy_oracle *oracle) {
  if (oracle == NULL)
    return;
  words_free(oracle->words);
  free(oracle->source.ids);
  free(oracle->target.ids);
  free(oracle->ends);
  for (int n = 0; n < 2; n++) {
    free(oracle->grams[n]);
    free(oracle->matches[n].grams);
    free(oracle->matches[n].ends);
  }
  free(oracle->gram_of_word);
  free(oracle->pairs);
  free(oracle->picked);
  free(oracle);
}

ss_status greedy_oracle_source(greedy_oracle *oracle, const char *text, const int64_t *ends,
                               int64_t n_sentence, ss_error *error) {
  oracle->n_sentence = 0;
  oracle->source.n = 0;
  words_forget(oracle->words);
  if (n_sentence > 0 && ends[n_sentence - 1] > WORDS_MAX_BYTES)
    return ss_fail(error, SS_ERROR_LIMIT, "a source of %lld bytes, expected at most %lld",
                   (long long)ends[n_sentence - 1], (long long)WORDS_MAX_BYTES);
  if (n_sentence > INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "%lld sentences, expected at most %d", (long long)n_sentence,
                   INT32_MAX);
  SS_TRY(ss_grow(&oracle->ends, &oracle->end_capacity, n_sentence, sizeof *oracle->ends, "sentences", error));
  for (int64_t k = 0, first = 0; k < n_sentence; first = ends[k++]) {
    SS_TRY(words_read(oracle->words, text + first, ends[k] - first, &oracle->source, error));
    oracle->ends[k] = oracle->source.n;
  }
  oracle->n_sentence = n_sentence;
  return SS_OK;
}

const word_list *greedy_oracle_words(const greedy_oracle *oracle, words **numbering) {
  *numbering = oracle->words;
  return &oracle->source;
}

int64_t greedy_oracle_sentence_words(const greedy_oracle *oracle, int64_t k) {
  return oracle->ends[k] - (k > 0 ? oracle->ends[k - 1] : 0);
}

// --- the target ---

static ss_status add_gram(greedy_oracle *oracle, int n, int32_t *gram_id, ss_error *error) {
  SS_TRY(ss_grow(&oracle->grams[n], &oracle->gram_capacity[n], oracle->n_gram[n] + 1, sizeof(gram), "n-grams",
                 error));
  *gram_id = (int32_t)oracle->n_gram[n]++;
  oracle->grams[n][*gram_id] = (gram){0, 0};
  return SS_OK;
}

static inline uint64_t pair_key(int32_t first, int32_t second) {
  return (uint64_t)(uint32_t)first << 32 | (uint32_t)second;
}

static inline pair_place *find_pair(const greedy_oracle *oracle, uint64_t key) {
  uint64_t k = ss_hash64(key, 0, 0);
  for (;; k++) {
    pair_place *place = &oracle->pairs[k & (uint64_t)(oracle->n_pair_place - 1)];
    if (place->gram < 0 || place->key == key)
      return place;
  }
}

// The gram of a pair of words, -1: not in the target.
static inline int32_t pair_gram(const greedy_oracle *oracle, int32_t first, int32_t second) {
  return oracle->gram_of_word[first] < 0 || oracle->gram_of_word[second] < 0
             ? -1
             : find_pair(oracle, pair_key(first, second))->gram;
}

static ss_status reserve_pairs(greedy_oracle *oracle, ss_error *error) {
  int64_t wanted = 64;
  while (wanted < 4 * oracle->target.n)
    wanted *= 2;
  if (wanted > oracle->pair_capacity) {
    free(oracle->pairs);
    oracle->pairs = NULL;
    oracle->pair_capacity = 0;
    SS_TRY(ss_allocate(&oracle->pairs, wanted, sizeof *oracle->pairs, "pairs of words", error));
    oracle->pair_capacity = wanted;
  }
  // Of a large table of an earlier target only the beginning is used, and emptied.
  oracle->n_pair_place = wanted;
  memset(oracle->pairs, 0xFF, (size_t)wanted * sizeof *oracle->pairs);
  return SS_OK;
}

static ss_status take_target(greedy_oracle *oracle, const char *text, int64_t n, ss_error *error) {
  oracle->target.n = 0;
  oracle->n_gram[0] = oracle->n_gram[1] = 0;
  SS_TRY(words_read(oracle->words, text, n, &oracle->target, error));
  int64_t n_word = words_count(oracle->words);
  // One more, so that there is an array where there is no word.
  SS_TRY(ss_grow(&oracle->gram_of_word, &oracle->word_capacity, n_word + 1, sizeof(int32_t), "words", error));
  memset(oracle->gram_of_word, 0xFF, (size_t)n_word * sizeof(int32_t));
  SS_TRY(reserve_pairs(oracle, error));
  const int32_t *ids = oracle->target.ids;
  for (int64_t k = 0; k < oracle->target.n; k++) {
    int32_t *word = &oracle->gram_of_word[ids[k]];
    if (*word < 0)
      SS_TRY(add_gram(oracle, 0, word, error));
    oracle->grams[0][*word].wanted++;
    if (k == 0)
      continue;
    uint64_t key = pair_key(ids[k - 1], ids[k]);
    pair_place *place = find_pair(oracle, key);
    if (place->gram < 0) {
      place->key = key;
      SS_TRY(add_gram(oracle, 1, &place->gram, error));
    }
    oracle->grams[1][place->gram].wanted++;
  }
  return SS_OK;
}

// --- the source's n-grams that the target has, too ---

static ss_status match(greedy_oracle *oracle, int64_t n_sentence, ss_error *error) {
  int64_t n_word = n_sentence > 0 ? oracle->ends[n_sentence - 1] : 0;
  for (int n = 0; n < 2; n++) {
    match_list *list = &oracle->matches[n];
    list->n = 0;
    SS_TRY(ss_grow(&list->grams, &list->capacity, n_word, sizeof *list->grams, "n-grams", error));
    SS_TRY(ss_grow(&list->ends, &list->end_capacity, n_sentence, sizeof *list->ends, "sentences", error));
  }
  match_list *singles = &oracle->matches[0], *pairs = &oracle->matches[1];
  const int32_t *ids = oracle->source.ids;
  for (int64_t s = 0, k = 0; s < n_sentence; s++) {
    for (int64_t first = k; k < oracle->ends[s]; k++) {
      int32_t gram = oracle->gram_of_word[ids[k]];
      if (gram < 0)
        continue;
      singles->grams[singles->n++] = gram;
      int32_t pair = k > first ? pair_gram(oracle, ids[k - 1], ids[k]) : -1;
      if (pair >= 0)
        pairs->grams[pairs->n++] = pair;
    }
    singles->ends[s] = singles->n;
    pairs->ends[s] = pairs->n;
  }
  return SS_OK;
}

// --- picking ---

static inline int64_t first_match(const match_list *list, int32_t sentence) {
  return sentence > 0 ? list->ends[sentence - 1] : 0;
}

// Counts the n-grams of one sentence as used; returns by how much the overlap grows.
static int64_t use(greedy_oracle *oracle, int n, int32_t sentence) {
  const match_list *list = &oracle->matches[n];
  int64_t more = 0;
  for (int64_t k = first_match(list, sentence); k < list->ends[sentence]; k++) {
    gram *gram = &oracle->grams[n][list->grams[k]];
    more += gram->used++ < gram->wanted;
  }
  return more;
}

static void take_back(greedy_oracle *oracle, int n, int32_t sentence) {
  const match_list *list = &oracle->matches[n];
  for (int64_t k = first_match(list, sentence); k < list->ends[sentence]; k++)
    oracle->grams[n][list->grams[k]].used--;
}

// Walks the picked sentences, with `candidate` where it belongs, and counts the pairs across their joints `by` times (1:
// used, returning the growth of the overlap; -1: no longer).
static int64_t walk_joints(greedy_oracle *oracle, int32_t candidate, int32_t by) {
  int64_t more = 0;
  int32_t before = -1;  // the last word so far
  bool passed = false;
  for (int32_t k = 0; k <= oracle->n_picked; k++) {
    bool here = !passed && (k == oracle->n_picked || candidate < oracle->picked[k]);
    int32_t sentence = here ? candidate : oracle->picked[k - passed];
    passed |= here;
    int64_t n_word = greedy_oracle_sentence_words(oracle, sentence);
    if (n_word == 0)
      continue;
    int32_t gram = before < 0
                       ? -1
                       : pair_gram(oracle, before, oracle->source.ids[oracle->ends[sentence] - n_word]);
    if (gram >= 0) {
      more += by > 0 && oracle->grams[1][gram].used < oracle->grams[1][gram].wanted;
      oracle->grams[1][gram].used += by;
    }
    before = oracle->source.ids[oracle->ends[sentence] - 1];
  }
  return more;
}

static score score_of(const greedy_oracle *oracle, int64_t n_word, int64_t single, int64_t pair) {
  int64_t wanted = oracle->target.n;
  score made = {{single, pair}, {n_word + wanted, 0}};
  made.sizes[1] = (n_word > 0 ? n_word - 1 : 0) + (wanted > 0 ? wanted - 1 : 0);
  return made;
}

// a > b, exactly: a text has at most 2^29 words, so that numerators and denominators are below 2^62.
static bool exceeds(const score *a, const score *b) {
  const score *both[2] = {a, b};
  ss_uint128 numerators[2], denominators[2];
  for (int k = 0; k < 2; k++) {
    uint64_t sizes[2] = {(uint64_t)both[k]->sizes[0], (uint64_t)both[k]->sizes[1]};
    sizes[0] += sizes[0] == 0;  // nothing over nothing is 0
    sizes[1] += sizes[1] == 0;
    numerators[k] = (uint64_t)both[k]->overlap[0] * sizes[1] + (uint64_t)both[k]->overlap[1] * sizes[0];
    denominators[k] = sizes[0] * sizes[1];
  }
  return numerators[0] * denominators[1] > numerators[1] * denominators[0];
}

// What `candidate` can reach at most, counting all that it has in common with the target and both its joints.
static score bound_of(const greedy_oracle *oracle, int32_t candidate, int64_t joints) {
  int64_t common[2];
  for (int n = 0; n < 2; n++)
    common[n] = oracle->matches[n].ends[candidate] - first_match(&oracle->matches[n], candidate);
  return score_of(oracle, oracle->picked_words + greedy_oracle_sentence_words(oracle, candidate),
                  oracle->overlap[0] + common[0], oracle->overlap[1] + common[1] + joints);
}

static score try_sentence(greedy_oracle *oracle, int32_t candidate) {
  int64_t single = oracle->overlap[0] + use(oracle, 0, candidate);
  int64_t pair = oracle->overlap[1] + use(oracle, 1, candidate) + walk_joints(oracle, candidate, 1);
  walk_joints(oracle, candidate, -1);
  take_back(oracle, 1, candidate);
  take_back(oracle, 0, candidate);
  return score_of(oracle, oracle->picked_words + greedy_oracle_sentence_words(oracle, candidate), single,
                  pair);
}

// One round: picks the sentence that raises `best` most; false when none does.
static bool pick_one(greedy_oracle *oracle, int64_t n_sentence, score *best) {
  int32_t chosen = -1;
  for (int32_t s = 0, k = 0; s < n_sentence; s++) {
    if (k < oracle->n_picked && oracle->picked[k] == s) {
      k++;
      continue;
    }
    // A sentence that shares no word with the target cannot help: its joints share none either.
    if (oracle->matches[0].ends[s] == first_match(&oracle->matches[0], s))
      continue;
    score bound = bound_of(oracle, s, oracle->n_picked + 1);
    if (!exceeds(&bound, best))
      continue;
    score reached = try_sentence(oracle, s);
    if (exceeds(&reached, best)) {
      *best = reached;
      chosen = s;
    }
  }
  if (chosen < 0)
    return false;
  oracle->overlap[0] += use(oracle, 0, chosen);
  oracle->overlap[1] += use(oracle, 1, chosen);
  oracle->picked_words += greedy_oracle_sentence_words(oracle, chosen);
  int32_t k = oracle->n_picked++;
  for (; k > 0 && oracle->picked[k - 1] > chosen; k--)
    oracle->picked[k] = oracle->picked[k - 1];
  oracle->picked[k] = chosen;
  return true;
}

static double share(int64_t overlap, int64_t size) {
  return size > 0 ? 2.0 * (double)overlap / (double)size : 0.0;
}

ss_status greedy_oracle_pick(greedy_oracle *oracle, const char *target, int64_t n, int64_t n_sentence,
                             int32_t least, int32_t cap, const int32_t **picked, int32_t *n_picked,
                             double *score_out, ss_error *error) {
  *picked = oracle->picked;
  *n_picked = oracle->n_picked = 0;
  if (n_sentence > oracle->n_sentence)
    n_sentence = oracle->n_sentence;
  SS_TRY(take_target(oracle, target, n, error));
  SS_TRY(match(oracle, n_sentence, error));
  oracle->picked_words = oracle->overlap[0] = oracle->overlap[1] = 0;
  score best = score_of(oracle, 0, 0, 0);
  while (oracle->n_picked < cap) {
    SS_TRY(ss_grow(&oracle->picked, &oracle->picked_capacity, oracle->n_picked + 1, sizeof *oracle->picked,
                   "picked sentences", error));
    if (pick_one(oracle, n_sentence, &best))
      continue;
    score nothing = score_of(oracle, 0, 0, 0);
    if (oracle->n_picked >= least || !pick_one(oracle, n_sentence, &nothing))
      break;
    best = nothing;
  }
  *picked = oracle->picked;
  *n_picked = oracle->n_picked;
  if (score_out != NULL)
    *score_out = share(best.overlap[0], best.sizes[0]) + share(best.overlap[1], best.sizes[1]);
  return SS_OK;
}
