// Words as ROUGE counts them, numbered: runs of a-z and 0-9 in the lower-cased text, not stemmed. Every other character
// separates, as do bytes that are no UTF-8. Of the characters outside ASCII two have a lower case with a letter of ASCII
// in it, as in Python: U+212A KELVIN SIGN is k, U+0130 is i and a combining dot, which separates.
#ifndef SELFSPAN_DATA_WORDS_H
#define SELFSPAN_DATA_WORDS_H

#include <stdint.h>

#include "common/error.h"

#define WORDS_MAX_BYTES (INT64_C(1) << 30)  // of one text

// The distinct words read since the last words_forget, with ids from 0 in the order of their first appearance.
typedef struct words words;
ss_status words_create(words **out, ss_error *error);
// NULL is allowed.
void words_free(words *words);
// Forgets all words; keeps the storage.
void words_forget(words *words);
int64_t words_count(const words *words);

// A growing list of ids. A zeroed struct is empty; free(list.ids).
typedef struct {
  int32_t *ids;
  int64_t n, capacity;
} word_list;

// Appends the ids of the words of a text of n bytes to `list`. Above WORDS_MAX_BYTES: SS_ERROR_LIMIT.
ss_status words_read(words *words, const char *text, int64_t n, word_list *list, ss_error *error);

#endif
