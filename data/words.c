#include "data/words.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"

#define FIRST_SLOTS 2048

typedef struct {
  uint64_t hash;
  int64_t offset;  // of the letters
  int32_t length, id;
  uint32_t stamp;  // the slot is free unless this is the table's
} slot;

struct words {
  slot *slots;  // open addressing
  int64_t n_slot, n;
  uint32_t stamp;
  char *letters;
  int64_t n_letter, letter_capacity;
};

ss_status words_create(words **out, ss_error *error) {
  words *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "words", error));
  made->stamp = 1;
  made->n_slot = FIRST_SLOTS;
  ss_status status = ss_allocate(&made->slots, FIRST_SLOTS, sizeof *made->slots, "words", error);
  if (status != SS_OK)
    free(made);
  else
    *out = made;
  return status;
}

void words_free(words *words) {
  if (words == NULL)
    return;
  free(words->slots);
  free(words->letters);
  free(words);
}

void words_forget(words *words) {
  words->n = 0;
  words->n_letter = 0;
  if (++words->stamp == 0) {
    memset(words->slots, 0, (size_t)words->n_slot * sizeof *words->slots);
    words->stamp = 1;
  }
}

int64_t words_count(const words *words) {
  return words->n;
}

static ss_status widen(words *words, ss_error *error) {
  slot *wide = NULL;
  int64_t n_wide = 2 * words->n_slot;
  SS_TRY(ss_allocate(&wide, n_wide, sizeof *wide, "words", error));
  for (int64_t k = 0; k < words->n_slot; k++) {
    if (words->slots[k].stamp != words->stamp)
      continue;
    int64_t to = (int64_t)(words->slots[k].hash & (uint64_t)(n_wide - 1));
    while (wide[to].stamp == words->stamp)
      to = (to + 1) & (n_wide - 1);
    wide[to] = words->slots[k];
  }
  free(words->slots);
  words->slots = wide;
  words->n_slot = n_wide;
  return SS_OK;
}

// The id of the word whose letters stand at the end of words->letters; they stay there when it is new.
static ss_status number(words *words, int64_t length, int32_t *id, ss_error *error) {
  const char *letters = words->letters + words->n_letter;
  uint64_t hash = XXH3_64bits(letters, (size_t)length);
  if (2 * (words->n + 1) > words->n_slot)
    SS_TRY(widen(words, error));
  int64_t k = (int64_t)(hash & (uint64_t)(words->n_slot - 1));
  for (; words->slots[k].stamp == words->stamp; k = (k + 1) & (words->n_slot - 1)) {
    const slot *known = &words->slots[k];
    if (known->hash == hash && known->length == length &&
        memcmp(words->letters + known->offset, letters, (size_t)length) == 0) {
      *id = known->id;
      return SS_OK;
    }
  }
  if (words->n >= INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "more than %d distinct words", INT32_MAX);
  *id = (int32_t)words->n++;
  words->slots[k] = (slot){hash, words->n_letter, (int32_t)length, *id, words->stamp};
  words->n_letter += length;
  return SS_OK;
}

// The letter or digit that the next character becomes in lower case, or 0; *size receives its bytes, *separates whether
// a word ends behind it.
static char lower(const char *bytes, int64_t left, int *size, bool *separates) {
  unsigned char byte = (unsigned char)*bytes;
  *size = 1;
  *separates = false;
  if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9'))
    return (char)byte;
  if (byte >= 'A' && byte <= 'Z')
    return (char)(byte + ('a' - 'A'));
  if (left >= 3 && memcmp(bytes, "\xE2\x84\xAA", 3) == 0) {
    *size = 3;
    return 'k';
  }
  if (left >= 2 && memcmp(bytes, "\xC4\xB0", 2) == 0) {
    *size = 2;
    *separates = true;
    return 'i';
  }
  return 0;
}

ss_status words_read(words *words, const char *text, int64_t n, word_list *list, ss_error *error) {
  if (n > WORDS_MAX_BYTES)
    return ss_fail(error, SS_ERROR_LIMIT, "a text of %lld bytes, expected at most %lld", (long long)n,
                   (long long)WORDS_MAX_BYTES);
  // A word has no more letters than bytes, and there is a word for every two bytes at most.
  if (words->n_letter + n > words->letter_capacity)
    SS_TRY(ss_grow(&words->letters, &words->letter_capacity, words->n_letter + n, 1, "words", error));
  if (list->n + n / 2 + 1 > list->capacity)
    SS_TRY(ss_grow(&list->ids, &list->capacity, list->n + n / 2 + 1, sizeof *list->ids, "words", error));
  int64_t length = 0;
  for (int64_t k = 0; k <= n;) {
    int size = 1;
    bool separates = true;
    char letter = k < n ? lower(text + k, n - k, &size, &separates) : 0;
    if (letter != 0)
      words->letters[words->n_letter + length++] = letter;
    if (length > 0 && (letter == 0 || separates)) {
      SS_TRY(number(words, length, &list->ids[list->n], error));
      list->n++;
      length = 0;
    }
    k += size;
  }
  return SS_OK;
}
