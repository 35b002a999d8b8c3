// A vocabulary: the text tokens (one character each for arithmetic; a tokenizer's pieces later) followed by
// the special tokens of the span grammar: <bos> <eos> <[> <:> <=>, one marker named after the task, and the anchors.
#ifndef SELFSPAN_DATA_VOCABULARY_H
#define SELFSPAN_DATA_VOCABULARY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "span/span_core.h"

typedef struct vocabulary vocabulary;

// Characters of `alphabet` (ASCII, distinct) as text tokens 0..n-1, then the special tokens for `task` and n_anchor anchors.
ss_status vocabulary_create_characters(vocabulary **out, const char *alphabet, const char *task,
                                       int32_t n_anchor, ss_error *error);
// Bytes 0..255 as text tokens: any text, used by the jsonl task.
ss_status vocabulary_create_bytes(vocabulary **out, const char *task, int32_t n_anchor, ss_error *error);
void vocabulary_free(vocabulary *vocabulary);

// A self-contained description; equal vocabularies give equal JSON text (the hash input). Caller owns it.
json_t *vocabulary_json(const vocabulary *vocabulary);
ss_status vocabulary_from_json(vocabulary **out, const json_t *json, const char *where, ss_error *error);
uint64_t vocabulary_hash(const vocabulary *vocabulary);

int32_t vocabulary_size(const vocabulary *vocabulary);
int32_t vocabulary_n_text(const vocabulary *vocabulary);
const span_tokens *vocabulary_span_tokens(const vocabulary *vocabulary);
int32_t vocabulary_bos(const vocabulary *vocabulary);
int32_t vocabulary_task(const vocabulary *vocabulary);  // the task marker's id
const char *vocabulary_task_name(const vocabulary *vocabulary);

// Appends the ids of `text` (n bytes) to a growing array. Text the vocabulary cannot write is an error that
// names the character and its place; `where` names the origin.
ss_status vocabulary_encode(const vocabulary *vocabulary, const char *text, int64_t n, int32_t **ids,
                            int64_t *n_id, int64_t *capacity, const char *where, ss_error *error);

// Readable text of ids, special tokens as <[> <:> <=> <#k> <bos> <eos> <task>; malloc'ed. With text_only the
// special tokens are left out.
ss_status vocabulary_decode(const vocabulary *vocabulary, const int32_t *ids, int64_t n, bool text_only,
                            char **out, ss_error *error);

#endif
