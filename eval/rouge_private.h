// Shared by eval/rouge*.c only.
#ifndef SELFSPAN_EVAL_ROUGE_PRIVATE_H
#define SELFSPAN_EVAL_ROUGE_PRIVATE_H

#include "eval/rouge.h"

// What one item knows of a distinct token.
typedef struct {
  int64_t offset;  // of its letters in rouge_scorer.letters
  int32_t length;
  int32_t in_prediction, in_reference;  // occurrences
  int32_t united;                       // of the reference's occurrences, those in the union of Lsum
  int64_t sentence;                     // prediction's sentence that had it last, from 1
} rouge_word;

// A text as indices of words.
typedef struct {
  int32_t *ids;  // [count]
  int64_t count, capacity;
  int64_t *sentences;  // [n_sentence + 1] first token of each line that has tokens, then count
  int64_t n_sentence, sentence_capacity;
} rouge_tokens;

// A slot of an open-addressing table; it is in use when its stamp is the table's.
typedef struct {
  uint64_t key;
  int32_t value;
  uint32_t stamp;
} rouge_slot;

typedef struct {
  rouge_slot *slots;  // [capacity], a power of two
  int64_t capacity, used;
  uint32_t stamp;
} rouge_table;

struct rouge_scorer {
  bool stem;
  char *letters;
  int64_t n_letter, letter_capacity;
  rouge_word *words;
  uint64_t *masks;  // [word_capacity] where each word stands in a block of 64 tokens; all zero between uses
  int64_t n_word, word_capacity, mask_capacity;
  rouge_table word_table, pair_table;
  rouge_tokens prediction, reference;
  // scratch of the subsequences
  int32_t *left, *right;
  int64_t left_capacity, right_capacity;
  int64_t *positions;
  int64_t position_capacity;
  uint8_t *carries, *united;
  int64_t carry_capacity, united_capacity;
  uint64_t *rows, *checkpoints;
  int64_t row_capacity, checkpoint_capacity;
};

// Empties a table; the next `n` keys will fit.
ss_status rouge_table_reset(rouge_table *table, int64_t n, ss_error *error);
// The key's slot, in use or free: the first for which slot->stamp differs from the table's is where it would go.
rouge_slot *rouge_table_find(const rouge_table *table, uint64_t key);

// Forgets all words, for a new item.
ss_status rouge_words_reset(rouge_scorer *scorer, ss_error *error);
// Cuts a text into tokens, adding words that are new.
ss_status rouge_tokenize(rouge_scorer *scorer, rouge_text text, rouge_tokens *tokens, ss_error *error);

// Length of the longest common subsequence of the prediction and the reference.
ss_status rouge_lcs_length(rouge_scorer *scorer, int64_t *length, ss_error *error);
// Lsum's number of hits: for each line of the reference, the union over the prediction's lines of one longest common
// subsequence each (the one that rouge-score reads back from its table), every word counted at most as often as the
// prediction has it.
ss_status rouge_union_hits(rouge_scorer *scorer, int64_t *hits, ss_error *error);

#endif
