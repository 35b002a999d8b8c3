// A tokenizer with a made-up vocabulary: its files, an open tokenizer with a scratch, and a growing array of ids.
#ifndef SELFSPAN_TESTS_TOKENIZER_FIXTURE_H
#define SELFSPAN_TESTS_TOKENIZER_FIXTURE_H

#include "tests/helpers.h"

#include "data/tokenizer.h"

// Ids: 0..255 the bytes in order, then what merges make, then <|end|>.
enum { AA = 256, AB, AAB, AAA, SPACE_A, SPACES, HE, LL, LO, LLO, HELLO, S };
enum { END = S + 1 };

typedef struct {
  char bpe[TEST_PATH], encoder[TEST_PATH], json[TEST_PATH];
  char bpe_text[4096], encoder_text[16384], json_text[32768];
  tokenizer *tokenizer;
  tokenizer_scratch *scratch;
  int32_t *ids;
  int64_t n, capacity;
} scene;

// cmocka's setup and teardown: *state is a scene with GPT-2's kind of files open.
int tokenizer_setup(void **state);
int tokenizer_teardown(void **state);

// Opens the scene's files anew; as a tokenizer.json, where digits stand apart, or as GPT-2's pair.
void tokenizer_open_as(scene *s, bool json);

// The scene's ids = those of `text`.
void tokenizer_fixture_encode(scene *s, const char *text, int64_t n, int flags);

// Encodes, decodes and compares.
void tokenizer_check_round_trip(scene *s, const char *text, int64_t n, int flags);

#endif
