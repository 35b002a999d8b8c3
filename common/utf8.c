#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

// Bytes of the well-formed sequence at the start of `text`, 0 when there is none. (Unicode's table 3-7.)
static int sequence_length(const unsigned char *text, int64_t n) {
  unsigned char first = text[0], low = 0x80, high = 0xBF;
  int length = first < 0x80   ? 1
               : first < 0xC2 ? 0
               : first < 0xE0 ? 2
               : first < 0xF0 ? 3
               : first < 0xF5 ? 4
                              : 0;
  if (length < 2)
    return length;
  if (first == 0xE0)
    low = 0xA0;
  else if (first == 0xED)
    high = 0x9F;
  else if (first == 0xF0)
    low = 0x90;
  else if (first == 0xF4)
    high = 0x8F;
  if (n < length || text[1] < low || text[1] > high)
    return 0;
  for (int k = 2; k < length; k++)
    if ((text[k] & 0xC0) != 0x80)
      return 0;
  return length;
}

int64_t ss_utf8_length(const char *text, int64_t n) {
  int64_t at = 0;
  while (at < n) {
    uint64_t word;
    if (n - at >= (int64_t)sizeof word) {
      memcpy(&word, text + at, sizeof word);
      if ((word & 0x8080808080808080ull) == 0) {
        at += (int64_t)sizeof word;
        continue;
      }
    }
    int length = sequence_length((const unsigned char *)text + at, n - at);
    if (length == 0)
      break;
    at += length;
  }
  return at;
}

json_t *ss_utf8_json(const char *text) {
  int64_t n = (int64_t)strlen(text), valid = ss_utf8_length(text, n), length = 0;
  if (valid == n)
    return json_stringn(text, (size_t)n);
  char *replaced = malloc(3 * (size_t)n);
  if (replaced == NULL)
    return NULL;
  for (int64_t at = 0; at < n; at += valid + 1) {
    valid = ss_utf8_length(text + at, n - at);
    memcpy(replaced + length, text + at, (size_t)valid);
    length += valid;
    if (at + valid < n) {
      memcpy(replaced + length, "\xEF\xBF\xBD", 3);
      length += 3;
    }
  }
  json_t *string = json_stringn(replaced, (size_t)length);
  free(replaced);
  return string;
}
