// A tokenizer as the files that Hugging Face's libraries load.
#ifndef SELFSPAN_DATA_TOKENIZER_WRITE_H
#define SELFSPAN_DATA_TOKENIZER_WRITE_H

#include "data/tokenizer.h"

// Writes FOLDER/tokenizer.json, tokenizer_config.json and special_tokens_map.json, each whole or not at all; the folder exists.
// transformers' AutoTokenizer then gives the ids of tokenizer_encode, special tokens included; for llama2.c's kind those with
// TOKENIZER_CONTINUES, as vocabularies have them. `bos` and `eos` are ids of special tokens, or -1: named as such, added to no text.
// Refused: tokens that the format cannot tell apart (a special one with an ordinary one's text) or hold (no UTF-8).
ss_status tokenizer_write_json(const tokenizer *tokenizer, const char *folder, int32_t bos, int32_t eos,
                               ss_error *error);

#endif
