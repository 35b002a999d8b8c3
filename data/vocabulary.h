// A vocabulary: the text tokens (one character or byte each, or a tokenizer's) followed by the special tokens of the span
// grammar: <bos> <eos> <[> <:> <=>, one marker named after the task, and the anchors.
#ifndef SELFSPAN_DATA_VOCABULARY_H
#define SELFSPAN_DATA_VOCABULARY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/tokenizer.h"
#include "span/span_core.h"

typedef struct vocabulary vocabulary;

// Characters of `alphabet` (ASCII, distinct) as text tokens 0..n-1, then the special tokens for `task` and n_anchor anchors.
ss_status vocabulary_create_characters(vocabulary **out, const char *alphabet, const char *task,
                                       int32_t n_anchor, ss_error *error);
// Bytes 0..255 as text tokens: any text, used by the jsonl task.
ss_status vocabulary_create_bytes(vocabulary **out, const char *task, int32_t n_anchor, ss_error *error);
// The tokenizer's tokens under their own ids, then a token for each byte that has none, so that any text can be written.
// `source` is copied and may be freed. Where it ends with the special tokens of exactly this task and number of anchors (an
// exported vocabulary comes back), these serve; any other token of their texts is an error.
ss_status vocabulary_create_tokenizer(vocabulary **out, const tokenizer *source, const char *task,
                                      int32_t n_anchor, ss_error *error);
void vocabulary_free(vocabulary *vocabulary);

// A self-contained description; equal vocabularies give equal JSON text (the hash input). Caller owns it, NULL when memory
// is out. Over a tokenizer it is about 1 MB.
json_t *vocabulary_json(const vocabulary *vocabulary);
// The same to be read by people: in place of a tokenizer, its size and its hash.
json_t *vocabulary_summary_json(const vocabulary *vocabulary);
ss_status vocabulary_from_json(vocabulary **out, const json_t *json, const char *where, ss_error *error);
uint64_t vocabulary_hash(const vocabulary *vocabulary);

int32_t vocabulary_size(const vocabulary *vocabulary);
int32_t vocabulary_n_text(const vocabulary *vocabulary);
const span_tokens *vocabulary_span_tokens(const vocabulary *vocabulary);
int32_t vocabulary_bos(const vocabulary *vocabulary);
int32_t vocabulary_task(const vocabulary *vocabulary);  // the task marker's id
const char *vocabulary_task_name(const vocabulary *vocabulary);

// The tokenizer, its special tokens and the span grammar's included; NULL for characters and bytes. The vocabulary's own.
const tokenizer *vocabulary_tokenizer(const vocabulary *vocabulary);

// Appends the ids of `text` (n bytes) to a growing array; text never becomes a special token. Text the vocabulary cannot
// write is an error that names the character and its place; `where` names the origin. Threads may share the vocabulary.
ss_status vocabulary_encode(const vocabulary *vocabulary, const char *text, int64_t n, int32_t **ids,
                            int64_t *n_id, int64_t *capacity, const char *where, ss_error *error);

#define VOCABULARY_TOKEN_ROOM 48

// *bytes = what vocabulary_decode makes text of for one token (a zero byte as it is), *n of them, not zero-terminated; in `room`
// or the vocabulary's own. They may be a part of a UTF-8 sequence, which the next tokens complete.
void vocabulary_token_text(const vocabulary *vocabulary, int32_t id, bool text_only,
                           char room[VOCABULARY_TOKEN_ROOM], const char **bytes, int64_t *n);

// Readable text of ids, special tokens as <[> <:> <=> <#k> <bos> <eos> <task>; malloc'ed. With text_only the
// special tokens (a tokenizer's own as well) are left out. It is UTF-8 if the tokens make it so: bytes are what they are, but
// a zero byte, which would end the text, is U+FFFD.
ss_status vocabulary_decode(const vocabulary *vocabulary, const int32_t *ids, int64_t n, bool text_only,
                            char **out, ss_error *error);

#endif
