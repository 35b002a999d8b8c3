#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"
#include "eval/rouge_private.h"

#define FIRST_SLOTS 1024
#define STEM_ABOVE 3  // rouge-score stems tokens of more characters

// --- tables ---

ss_status rouge_table_reset(rouge_table *table, int64_t n, ss_error *error) {
  int64_t wanted = FIRST_SLOTS;
  while (wanted < 2 * n)
    wanted *= 2;
  if (wanted > table->capacity) {
    rouge_slot *slots = NULL;
    SS_TRY(ss_allocate(&slots, wanted, sizeof *slots, "table of words", error));
    free(table->slots);
    *table = (rouge_table){slots, wanted, 0, 0};
  }
  table->used = 0;
  if (++table->stamp == 0) {
    memset(table->slots, 0, (size_t)table->capacity * sizeof *table->slots);
    table->stamp = 1;
  }
  return SS_OK;
}

static int64_t first_slot(const rouge_table *table, uint64_t key) {
  // Multiplied, because the low bits of a pair of words are one of them.
  return (int64_t)((key * 0x9E3779B97F4A7C15ull) >> 32) & (table->capacity - 1);
}

rouge_slot *rouge_table_find(const rouge_table *table, uint64_t key) {
  int64_t k = first_slot(table, key);
  while (table->slots[k].stamp == table->stamp && table->slots[k].key != key)
    k = (k + 1) & (table->capacity - 1);
  return &table->slots[k];
}

// Twice the slots, for a table whose keys may be equal (hashes of words).
static ss_status widen(rouge_table *table, ss_error *error) {
  rouge_table wide = {NULL, 2 * table->capacity, table->used, 1};
  SS_TRY(ss_allocate(&wide.slots, wide.capacity, sizeof *wide.slots, "table of words", error));
  for (int64_t k = 0; k < table->capacity; k++) {
    if (table->slots[k].stamp != table->stamp)
      continue;
    int64_t to = first_slot(&wide, table->slots[k].key);
    while (wide.slots[to].stamp == wide.stamp)
      to = (to + 1) & (wide.capacity - 1);
    wide.slots[to] = (rouge_slot){table->slots[k].key, table->slots[k].value, wide.stamp};
  }
  free(table->slots);
  *table = wide;
  return SS_OK;
}

// --- words ---

ss_status rouge_words_reset(rouge_scorer *scorer, ss_error *error) {
  scorer->n_letter = 0;
  scorer->n_word = 0;
  return rouge_table_reset(&scorer->word_table, 0, error);
}

static ss_status add_word(rouge_scorer *scorer, int64_t length, ss_error *error) {
  if (scorer->n_word >= INT32_MAX)
    return ss_fail(error, SS_ERROR_LIMIT, "more than %d distinct words in one prediction and its references",
                   INT32_MAX);
  int64_t before = scorer->mask_capacity;
  SS_TRY(ss_grow(&scorer->words, &scorer->word_capacity, scorer->n_word + 1, sizeof *scorer->words, "words",
                 error));
  SS_TRY(ss_grow(&scorer->masks, &scorer->mask_capacity, scorer->n_word + 1, sizeof *scorer->masks, "words",
                 error));
  if (scorer->mask_capacity > before)
    memset(scorer->masks + before, 0, (size_t)(scorer->mask_capacity - before) * sizeof *scorer->masks);
  scorer->words[scorer->n_word++] = (rouge_word){.offset = scorer->n_letter, .length = (int32_t)length};
  scorer->n_letter += length;
  return SS_OK;
}

// The id of the word whose letters stand at the end of scorer->letters; they stay there when it is new.
static ss_status intern(rouge_scorer *scorer, int64_t length, int32_t *id, ss_error *error) {
  rouge_table *table = &scorer->word_table;
  const char *letters = scorer->letters + scorer->n_letter;
  uint64_t key = XXH3_64bits(letters, (size_t)length);
  if (2 * (table->used + 1) > table->capacity)
    SS_TRY(widen(table, error));
  int64_t k = first_slot(table, key);
  for (; table->slots[k].stamp == table->stamp; k = (k + 1) & (table->capacity - 1)) {
    const rouge_word *known = &scorer->words[table->slots[k].value];
    if (table->slots[k].key == key && known->length == length &&
        memcmp(scorer->letters + known->offset, letters, (size_t)length) == 0) {
      *id = table->slots[k].value;
      return SS_OK;
    }
  }
  *id = (int32_t)scorer->n_word;
  SS_TRY(add_word(scorer, length, error));
  table->slots[k] = (rouge_slot){key, *id, table->stamp};
  table->used++;
  return SS_OK;
}

// --- texts ---

// The letter that a text's next character is in lower case, or 0 for a separator; *size receives the character's bytes
// (one of several of a separator is enough). Of the characters outside ASCII two have a lower case with a letter
// of ASCII in it: the Kelvin sign is k, the capital i with a dot is i and a combining dot, which separates.
static char lower(const char *bytes, int64_t left, int *size, bool *separates) {
  unsigned char byte = (unsigned char)*bytes;
  *size = 1;
  *separates = false;
  if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9'))
    return (char)byte;
  if (byte >= 'A' && byte <= 'Z')
    return (char)(byte + 32);
  if (byte == 0xE2 && left >= 3 && memcmp(bytes, "\xE2\x84\xAA", 3) == 0) {
    *size = 3;
    return 'k';
  }
  if (byte == 0xC4 && left >= 2 && memcmp(bytes, "\xC4\xB0", 2) == 0) {
    *size = 2;
    *separates = true;
    return 'i';
  }
  return 0;
}

static ss_status add_token(rouge_scorer *scorer, int64_t length, bool *line_is_new, rouge_tokens *tokens,
                           ss_error *error) {
  if (scorer->stem && length > STEM_ABOVE)
    length = rouge_stem(scorer->letters + scorer->n_letter, length);
  if (length == 0)
    return SS_OK;
  int32_t id;
  SS_TRY(intern(scorer, length, &id, error));
  SS_TRY(ss_grow(&tokens->ids, &tokens->capacity, tokens->count + 1, sizeof *tokens->ids, "tokens", error));
  // One more, for the end.
  SS_TRY(ss_grow(&tokens->sentences, &tokens->sentence_capacity, tokens->n_sentence + 2,
                 sizeof *tokens->sentences, "lines", error));
  if (*line_is_new)
    tokens->sentences[tokens->n_sentence++] = tokens->count;
  *line_is_new = false;
  tokens->ids[tokens->count++] = id;
  tokens->sentences[tokens->n_sentence] = tokens->count;
  return SS_OK;
}

ss_status rouge_tokenize(rouge_scorer *scorer, rouge_text text, rouge_tokens *tokens, ss_error *error) {
  tokens->count = 0;
  tokens->n_sentence = 0;
  if (text.size > ROUGE_MAX_BYTES)
    return ss_fail(error, SS_ERROR_LIMIT, "a text has %lld bytes, at most %lld are possible",
                   (long long)text.size, (long long)ROUGE_MAX_BYTES);
  SS_TRY(ss_grow(&scorer->letters, &scorer->letter_capacity, scorer->n_letter + text.size + 1, 1, "letters",
                 error));
  int64_t length = 0;
  bool line_is_new = true;
  for (int64_t i = 0; i < text.size;) {
    int size;
    bool separates;
    char letter = lower(text.bytes + i, text.size - i, &size, &separates);
    if (letter != 0)
      scorer->letters[scorer->n_letter + length++] = letter;
    if ((letter == 0 || separates) && length > 0) {
      SS_TRY(add_token(scorer, length, &line_is_new, tokens, error));
      length = 0;
    }
    if (text.bytes[i] == '\n')
      line_is_new = true;
    i += size;
  }
  return length > 0 ? add_token(scorer, length, &line_is_new, tokens, error) : SS_OK;
}
