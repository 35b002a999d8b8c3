// Inside the tokenizer: its tables, and the steps that its files share. Others include data/tokenizer.h.
#ifndef SELFSPAN_DATA_TOKENIZER_PRIVATE_H
#define SELFSPAN_DATA_TOKENIZER_PRIVATE_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include <stddef.h>

#include "data/tokenizer.h"

#define TOKENIZER_NO_PAIR UINT64_MAX
#define TOKENIZER_LONGEST_TOKEN (1 << 20)  // bytes
#define TOKENIZER_MOST_TOKENS (1 << 24)

typedef struct {
  int64_t start;  // in tokenizer.bytes
  int32_t length;
  bool present, special;
} tokenizer_token;

// A hash table text -> id with linear probing; id < 0 marks a free slot.
typedef struct {
  uint32_t hash;
  int32_t id;
} tokenizer_slot;

typedef struct {
  tokenizer_slot *slots;  // [mask + 1]
  int64_t mask, count;
} tokenizer_table;

// A hash table (left, right) -> (rank, id) with linear probing; pair == TOKENIZER_NO_PAIR marks a free slot.
typedef struct {
  uint64_t pair;  // left << 32 | right
  int32_t rank, id;
} tokenizer_merge;

struct tokenizer {
  tokenizer_token *tokens;  // [n_token]
  int64_t n_token, token_capacity;
  char *bytes;
  int64_t n_byte, byte_capacity;
  tokenizer_table
      ordinary;  // while loading: every ordinary token; then those that a whole piece may become at once
  tokenizer_table special;
  tokenizer_merge *merges;  // [merge_mask + 1]
  int64_t merge_mask, n_merge;
  int32_t byte_id[256];  // -1: no token
  int32_t unknown;       // what TOKENIZER_UNKNOWN writes, -1: nothing
  bool digits_apart;     // every number character is a piece of its own
  float *scores;         // llama2.c's kind: of the first n_score tokens; NULL: byte-level BPE
  int64_t n_score;
  int32_t space;       // llama2.c's kind: the token of " "
  bool ignore_merges;  // a piece that is a token is that token, even if no merges make it
  bool special_first[256];
  int special_only_first;    // the one first byte of all special tokens, -1 when they have several
  int32_t *special_lengths;  // [n_special_length], descending, distinct
  int64_t n_special_length, special_length_capacity;
  pcre2_code *pattern;
  uint64_t loaded_hash;  // of what does not change after loading
};

// --- tables (tokenizer_table.c) ---
ss_status tokenizer_table_create(tokenizer_table *table, int64_t count, ss_error *error);
// The id of a text, -1 when it is not there.
int32_t tokenizer_table_find(const tokenizer_table *table, const tokenizer *tokenizer, const char *text,
                             int64_t n);
int32_t tokenizer_table_find_hashed(const tokenizer_table *table, const tokenizer *tokenizer,
                                    const char *text, int64_t n,
                                    uint32_t hash);  // the low word of the text's XXH3-64
// Adds a token whose text is not there yet.
ss_status tokenizer_table_add(tokenizer_table *table, const tokenizer *tokenizer, int32_t id,
                              ss_error *error);
// An empty merge table for `count` merges.
ss_status tokenizer_merges_create(tokenizer *tokenizer, int64_t count, ss_error *error);
// False when the pair is there already.
bool tokenizer_merges_add(tokenizer *tokenizer, int32_t left, int32_t right, int32_t id, int32_t rank);

static inline const tokenizer_merge *tokenizer_merge_find(const tokenizer *tokenizer, int32_t left,
                                                          int32_t right) {
  uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  int64_t at = (int64_t)((pair * 0x9E3779B97F4A7C15ull) >> 32) & tokenizer->merge_mask;
  for (;; at = (at + 1) & tokenizer->merge_mask) {
    const tokenizer_merge *merge = &tokenizer->merges[at];
    if (merge->pair == pair)
      return merge;
    if (merge->pair == TOKENIZER_NO_PAIR)
      return NULL;
  }
}

// --- GPT-2's printable alphabet (tokenizer_alphabet.c) ---
// Bytes of `text` written to `out` (n bytes are enough), -1 when a character is none of the alphabet.
int64_t tokenizer_from_printable(const char *text, size_t n, char *out);
// The other way; `out` has room for 2 n bytes.
int64_t tokenizer_to_printable(const char *bytes, int64_t n, char *out);

// --- building (tokenizer_vocabulary.c) ---
// An empty tokenizer, to be freed with tokenizer_free.
ss_status tokenizer_start(tokenizer **out, ss_error *error);
// Room for the ids 0..count-1, none of which is there yet.
ss_status tokenizer_reserve(tokenizer *tokenizer, int64_t count, const char *path, ss_error *error);
// Enters a token under a free id: an ordinary one in the printable alphabet, a special one as it is.
ss_status tokenizer_load_ordinary(tokenizer *tokenizer, const char *text, size_t n, int32_t id,
                                  const char *path, ss_error *error);
ss_status tokenizer_load_special(tokenizer *tokenizer, const char *text, size_t n, int32_t id,
                                 const char *path, ss_error *error);
// Places from a JSON object token -> id, and an array of added tokens or NULL; ids must be 0..n-1 together.
ss_status tokenizer_load_vocabulary(tokenizer *tokenizer, const json_t *object, const json_t *added,
                                    const char *path, ss_error *error);
// The next merge, of two tokens in the printable alphabet; `where` ("line 7", "merge 3") names it in messages.
ss_status tokenizer_load_merge(tokenizer *tokenizer, const char *left, size_t n_left, const char *right,
                               size_t n_right, const char *path, const char *where, ss_error *error);
// The next merge, of two ordinary tokens by their ids.
ss_status tokenizer_load_merge_ids(tokenizer *tokenizer, int32_t left, int32_t right, const char *path,
                                   size_t index, ss_error *error);
// Enters a token whose text is stored among the special ones.
ss_status tokenizer_note_special(tokenizer *tokenizer, int32_t id, ss_error *error);
// Enters a token of these bytes under a free id, among the special ones or not, in no table.
ss_status tokenizer_store_token(tokenizer *tokenizer, const char *bytes, int64_t n, int32_t id, bool special,
                                ss_error *error);
// After the merges: compiles the pattern, finds which tokens a whole piece may become, hashes.
ss_status tokenizer_finish(tokenizer *tokenizer, ss_error *error);
// *out[n_merge], malloc'ed.
ss_status tokenizer_merges_by_rank(const tokenizer *tokenizer, tokenizer_merge **out, ss_error *error);
// A JSON file's root; an error names file, line and column. Duplicate keys are refused.
ss_status tokenizer_load_json_file(json_t **out, const char *path, ss_error *error);

// --- llama2.c's kind (tokenizer_load_scores.c) ---
// The tokens of `tokenizer->scores`, which the tokenizer owns: texts[k] of lengths[k] bytes, of which the first three are special
// and the next 256 the bytes in order. Ends with tokenizer_finish. `where` names the source in messages.
ss_status tokenizer_build_scored(tokenizer *tokenizer, const char *const *texts, const int32_t *lengths,
                                 const char *where, ss_error *error);
#define TOKENIZER_FIRST_BYTE 3      // llama2.c: <unk>, <s>, </s>, then the 256 bytes
#define TOKENIZER_FIRST_SCORED 259  // and then the others

// --- splitting (tokenizer_split.c) ---
ss_status tokenizer_pattern_compile(pcre2_code **out, bool digits_apart, ss_error *error);
// *end = where the piece that starts at `at` ends; text[0..n) is well-formed UTF-8 and ends where the pattern sees an end.
ss_status tokenizer_split(const tokenizer *tokenizer, pcre2_match_data *match, const char *text, int64_t n,
                          int64_t at, int64_t *end, ss_error *error);

// --- merging (tokenizer_bpe.c) ---
// Appends the ids of one piece.
ss_status tokenizer_merge_piece(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *piece,
                                int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                                ss_error *error);

#endif
