// Tokenizers: text <-> token ids. Byte-level BPE, equal to the id with GPT-2's and with Hugging Face's for files whose
// pre-tokenizer is GPT-2's, with or without digits one by one (SmolLM2); and llama2.c's kind (tokenizer_open_scores).
//
// Text is cut into pieces by GPT-2's pattern (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// and each piece, from single bytes on, is merged pair by pair: lowest rank first, leftmost among equals (Sennrich et
// al. 2016, "Neural Machine Translation of Rare Words with Subword Units").
// Classes are those of Unicode 16: PCRE2's own, \s as White_Space, and the letters and numbers of Unicode 15 to 16 that
// PCRE2 before 10.45 does not know. (A PCRE2 of a later Unicode also knows that one's; where digits stand apart, the numbers
// of Unicode 17 do too, as in Hugging Face's.)
//
// Any bytes can be encoded: each byte that does not belong to well-formed UTF-8 (Unicode's table 3-7) is a piece of
// its own, and the text before it ends there as far as the pattern is concerned. Decoding gives the same bytes back.
// A vocabulary may lack tokens for some single bytes (SmolLM2's lacks 21): see tokenizer_add_bytes.
//
// A tokenizer is read-only once its special tokens are added, and threads share it; each thread has a scratch.
#ifndef SELFSPAN_DATA_TOKENIZER_H
#define SELFSPAN_DATA_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/gguf.h"

typedef struct tokenizer tokenizer;
typedef struct tokenizer_scratch tokenizer_scratch;

typedef enum {
  // Encode: special tokens are text like any other. Decode: they are left out.
  TOKENIZER_PLAIN = 1,
  // Encode: a byte without a token becomes the file's unk_token, or is left out where it names none (as Hugging Face does),
  // instead of being an error.
  TOKENIZER_UNKNOWN = 2,
  // llama2.c's kind. Encode: the text is no text's beginning, no space is put before it. Decode: none is taken away.
  TOKENIZER_CONTINUES = 4
} tokenizer_flag;

// Opens GPT-2's pair of files: merges, one "left right" a line, best first, below an optional "#version" line; and a
// JSON object token -> id, in GPT-2's printable alphabet of bytes. A token "<...>" that no merge makes is special
// (<|endoftext|>). An error names the file and its line or token.
ss_status tokenizer_open_gpt2(tokenizer **out, const char *path_bpe, const char *path_encoder_json,
                              ss_error *error);

// Opens a tokenizer.json with model BPE and pre-tokenizer ByteLevel, alone or after Digits(individual_digits); others are
// refused by name. Every added token is special; templates of the post-processor are not applied.
ss_status tokenizer_open_json(tokenizer **out, const char *path, ss_error *error);

// Opens a GGUF file's tokenizer of model "gpt2" with pre-tokenizer "gpt-2", "default" or "smollm" (or none named); others are
// refused by name. Control and user-defined tokens are special. Ids are those that Hugging Face's transformers gives for the same
// file: it splits text by GPT-2's pattern in all three cases. (SmolLM2's own tokenizer.json also takes digits apart, which changes
// ids only where two or more blanks precede a number, or numbers outside ASCII follow one another: the merges hold no digits.)
ss_status tokenizer_open_gguf(tokenizer **out, const char *path, ss_error *error);
// The same of a file that is open; the tokenizer keeps nothing of it.
ss_status tokenizer_from_gguf(tokenizer **out, const gguf *file, ss_error *error);

// Opens llama2.c's tokenizer.bin: int32 longest; then for each token float score, int32 n, n bytes, little-endian. Ids 0..2 are
// <unk>, <s> and </s>, which no text becomes, 3..258 the bytes. Ids are those of llama2.c's run.c (without <s> and </s>): a space
// is put before the text, characters without a token become bytes, and the pair whose token scores best is merged, the leftmost
// among equals. Decoding takes that space away.
ss_status tokenizer_open_scores(tokenizer **out, const char *path, ss_error *error);

// Opens whatever `path` names: a tokenizer.json, a .gguf, llama2.c's tokenizer.bin, vocab.bpe or merges.txt with its encoder.json
// or vocab.json beside it, or a folder with tokenizer.json, one of these pairs, or one .gguf or tokenizer.bin, looked for in this order.
ss_status tokenizer_open(tokenizer **out, const char *path, ss_error *error);

// The first n_token tokens with all merges (which must make no later token) as one JSON object, complete in itself: the same
// tokenizers give the same JSON text. The caller owns it; NULL when memory is out. About 1 MB for GPT-2's vocabulary.
json_t *tokenizer_json(const tokenizer *tokenizer, int32_t n_token);
// Opens what tokenizer_json made; `where` names its origin in errors.
ss_status tokenizer_from_json(tokenizer **out, const json_t *json, const char *where, ss_error *error);

// Frees the tokenizer; NULL is allowed. Its scratches are freed on their own, before or after.
void tokenizer_free(tokenizer *tokenizer);

// Finds or adds a special token: *id is that of a special token of this text, else the next after the vocabulary. `text`
// is well-formed UTF-8 of 1 byte or more. Not while other threads use the tokenizer.
ss_status tokenizer_special_add(tokenizer *tokenizer, const char *text, int64_t n, int32_t *id,
                                ss_error *error);
// The id of the special token of this text, -1 when there is none.
int32_t tokenizer_special_find(const tokenizer *tokenizer, const char *text, int64_t n);
bool tokenizer_is_special(const tokenizer *tokenizer, int32_t id);

// Gives the *n_added bytes that have no token one each, after the vocabulary, so that any bytes can be encoded. Their order is
// that of the bytes. Not while other threads use the tokenizer.
ss_status tokenizer_add_bytes(tokenizer *tokenizer, int32_t *n_added, ss_error *error);

// Tokens, special ones included; ids are 0..size-1.
int32_t tokenizer_size(const tokenizer *tokenizer);

// *bytes = the token's own, *n of them, not zero-terminated, until a token is added or the tokenizer freed; false (and NULL, 0)
// for an id outside the vocabulary. A special token's bytes are its text.
bool tokenizer_token_bytes(const tokenizer *tokenizer, int32_t id, const char **bytes, int64_t *n);

// XXH3-64 of everything that ids depend on: tokens, merges, special tokens, pre-tokenizer.
uint64_t tokenizer_hash(const tokenizer *tokenizer);

// A thread's working memory for one tokenizer, which must outlive its use; free with tokenizer_scratch_free (NULL is allowed).
ss_status tokenizer_scratch_create(tokenizer_scratch **out, const tokenizer *tokenizer, ss_error *error);
void tokenizer_scratch_free(tokenizer_scratch *scratch);

// Appends the ids of `text` (n bytes, at most 2^31 - 1) to a growing array. Special tokens are matched first, the leftmost and there
// the longest. On failure *n_id is as before.
ss_status tokenizer_encode(const tokenizer *tokenizer, tokenizer_scratch *scratch, const char *text,
                           int64_t n, int flags, int32_t **ids, int64_t *n_id, int64_t *capacity,
                           ss_error *error);

// *out = the tokens' bytes one after the other, malloc'ed, *size of them and a zero. An id outside the vocabulary is an error.
ss_status tokenizer_decode(const tokenizer *tokenizer, const int32_t *ids, int64_t n, int flags, char **out,
                           int64_t *size, ss_error *error);

#endif
