// The pre-tokenizer: GPT-2's pattern, by hand for ASCII and for white space, by PCRE2 for other runs.
#include "data/tokenizer_private.h"

#include <stdio.h>
#include <string.h>

// Letters and numbers that Unicode 15, 15.1 and 16 added: a PCRE2 of Unicode 14 takes them for unassigned.
#define NEWER_LETTERS                                                                                        \
  "\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}"      \
  "\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}" \
  "\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}"  \
  "\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}"           \
  "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}"            \
  "\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NEWER_NUMBERS                                                                    \
  "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}" \
  "\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}" \
  "\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"
// Numbers of Unicode 17, for a Digits step alone: it follows the Unicode of Rust's library, which is ahead of the pattern's.
#define NUMBERS_APART "\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}"
// White_Space: PCRE2's \s has U+180E too.
#define SPACES \
  "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

#define LETTERS "\\p{L}" NEWER_LETTERS
#define NUMBERS "\\p{N}" NEWER_NUMBERS
#define WORDS "'(?:[stmd]|re|ve|ll)| ?[" LETTERS "]++"
#define OTHERS(numbers) "| ?[^" LETTERS numbers SPACES "]++"

typedef enum { OTHER, LETTER, DIGIT, SPACE, BEYOND_ASCII } byte_class;

static inline byte_class class_of(unsigned char byte) {
  if (byte >= 0x80)
    return BEYOND_ASCII;
  if ((unsigned)(byte | 0x20) - 'a' < 26)
    return LETTER;
  if ((unsigned)byte - '0' < 10)
    return DIGIT;
  return byte == ' ' || (unsigned)byte - '\t' < 5 ? SPACE : OTHER;
}

ss_status tokenizer_pattern_compile(pcre2_code **out, bool digits_apart, ss_error *error) {
  // White space is not in it: tokenizer_split knows what follows without a look-ahead. Where digits stand apart, the group
  // tells a number from the rest.
  const char *pattern = digits_apart ? WORDS "|([" NUMBERS NUMBERS_APART "])" OTHERS(NUMBERS NUMBERS_APART)
                                     : WORDS "| ?([" NUMBERS "]++)" OTHERS(NUMBERS);
  int code;
  PCRE2_SIZE offset;
  *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                       PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, &code, &offset, NULL);
  if (*out == NULL) {
    PCRE2_UCHAR message[128] = "";
    pcre2_get_error_message(code, message, sizeof message);
    return ss_fail(error, SS_ERROR_INTERNAL, "tokenizer: PCRE2 cannot compile the pattern: %s at %zu",
                   message, (size_t)offset);
  }
  pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);  // where it fails, PCRE2 interprets
  return SS_OK;
}

// Bytes of the white-space character at the start of `text`, 0 when it is none.
static int space_length(const unsigned char *text, int64_t n) {
  byte_class class = class_of(text[0]);
  if (class != BEYOND_ASCII)
    return class == SPACE;
  if (text[0] == 0xC2)
    return n >= 2 && (text[1] == 0x85 || text[1] == 0xA0) ? 2 : 0;
  if (text[0] < 0xE1 || text[0] > 0xE3 || n < 3)
    return 0;
  unsigned point = (text[0] & 0x0Fu) << 12 | (text[1] & 0x3Fu) << 6 | (text[2] & 0x3Fu);
  return point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 ||
                 point == 0x202F || point == 0x205F || point == 0x3000
             ? 3
             : 0;
}

// *end by PCRE2, `at` itself when nothing matches there. *number: the match is one of numbers.
static ss_status match_at(const tokenizer *tokenizer, pcre2_match_data *match, const char *text, int64_t n,
                          int64_t at, int64_t *end, bool *number, ss_error *error) {
  int found = pcre2_match(tokenizer->pattern, (PCRE2_SPTR)text, (PCRE2_SIZE)n, (PCRE2_SIZE)at,
                          PCRE2_NO_UTF_CHECK, match, NULL);
  if (found < 0 && found != PCRE2_ERROR_NOMATCH)
    return ss_fail(error, SS_ERROR_INTERNAL, "tokenizer: PCRE2 fails with %d at byte %lld", found,
                   (long long)at);
  *end = found < 0 ? at : (int64_t)pcre2_get_ovector_pointer(match)[1];
  *number = found == 2;
  return SS_OK;
}

// \s+(?!\S)|\s+ : the whole run at the text's end (and, where digits stand apart, before a number, whose chunk of text
// ends there), else all but its last character.
static ss_status split_spaces(const tokenizer *tokenizer, pcre2_match_data *match, const char *text,
                              int64_t n, int64_t at, int64_t *end, ss_error *error) {
  int64_t next = at, last = at;
  while (next < n) {
    int length = space_length((const unsigned char *)text + next, n - next);
    if (length == 0)
      break;
    last = next;
    next += length;
  }
  bool whole = next == n || last == at;
  if (!whole && tokenizer->digits_apart) {
    byte_class class = class_of((unsigned char)text[next]);
    whole = class == DIGIT;
    int64_t ignored;
    if (class == BEYOND_ASCII)
      SS_TRY(match_at(tokenizer, match, text, n, next, &ignored, &whole, error));
  }
  *end = whole ? next : last;
  return SS_OK;
}

// Bytes of 's 't 're 've 'm 'll 'd at an apostrophe, 0 when there is none.
static int contraction_length(const char *text, int64_t n) {
  if (n >= 2 && (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd'))
    return 2;
  if (n >= 3 && ((text[1] == 'r' && text[2] == 'e') || (text[1] == 'v' && text[2] == 'e') ||
                 (text[1] == 'l' && text[2] == 'l')))
    return 3;
  return 0;
}

ss_status tokenizer_split(const tokenizer *tokenizer, pcre2_match_data *match, const char *text, int64_t n,
                          int64_t at, int64_t *end, ss_error *error) {
  int contraction = text[at] == '\'' ? contraction_length(text + at, n - at) : 0;
  if (contraction > 0) {
    *end = at + contraction;
    return SS_OK;
  }
  // A single space belongs to the run after it.
  int64_t run = at + (text[at] == ' ' && at + 1 < n);
  byte_class class = class_of((unsigned char)text[run]);
  if (class == SPACE)
    return split_spaces(tokenizer, match, text, n, at, end, error);
  if (class == DIGIT && tokenizer->digits_apart) {
    *end = at + 1;  // the digit, or the space before it
    return SS_OK;
  }
  if (class != BEYOND_ASCII) {
    int64_t next = run;
    while (next < n && class_of((unsigned char)text[next]) == class)
      next++;
    *end = next;
    if (next == n || (unsigned char)text[next] < 0x80)
      return SS_OK;
  }
  // Only PCRE2 knows whether the character there continues the run.
  bool number;
  SS_TRY(match_at(tokenizer, match, text, n, at, end, &number, error));
  return *end > at ? SS_OK : split_spaces(tokenizer, match, text, n, at, end, error);
}
