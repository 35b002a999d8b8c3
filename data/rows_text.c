#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/rows_private.h"

// Bytes of the well-formed character at text[0..n) (Unicode's table 3-7), 0 where there is none.
static int64_t character_length(const unsigned char *text, int64_t n) {
  unsigned char a = text[0], low = 0x80, high = 0xbf;
  int64_t length = a < 0x80                 ? 1
                   : a >= 0xc2 && a <= 0xdf ? 2
                   : (a & 0xf0) == 0xe0     ? 3
                   : a >= 0xf0 && a <= 0xf4 ? 4
                                            : 0;
  if (a == 0 || length == 0 || length > n)
    return 0;
  if (a == 0xe0)
    low = 0xa0;
  if (a == 0xed)
    high = 0x9f;
  if (a == 0xf0)
    low = 0x90;
  if (a == 0xf4)
    high = 0x8f;
  for (int64_t k = 1; k < length; k++, low = 0x80, high = 0xbf)
    if (text[k] < low || text[k] > high)
      return 0;
  return length;
}

int64_t rows_sound_length(const char *text, int64_t n) {
  const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
  int64_t at = 0;
  while (at < n) {
    uint64_t word;
    for (; at + 8 <= n; at += 8) {
      memcpy(&word, text + at, 8);
      if ((word & tops) != 0 || ((word - ones) & tops) != 0)  // no ASCII, or a zero
        break;
    }
    // Until the next word's boundary would do; a few characters are as good.
    for (int k = 0; k < 8 && at < n; k++) {
      int64_t length = character_length((const unsigned char *)text + at, n - at);
      if (length == 0)
        return at;
      at += length;
    }
  }
  return n;
}

ss_status rows_check_text(const char *text, int64_t n, ss_error *problem) {
  int64_t sound = rows_sound_length(text, n);
  if (sound == n)
    return SS_OK;
  return ss_fail(problem, SS_ERROR_INPUT, "byte %lld of the row is %s, expected text", (long long)sound + 1,
                 text[sound] == '\0' ? "zero" : "no UTF-8");
}

void rows_tame(char *message) {
  int64_t n = (int64_t)strlen(message);
  for (int64_t at = 0; at < n;) {
    int64_t length = character_length((const unsigned char *)message + at, n - at);
    if (length == 0 || (unsigned char)message[at] < ' ' || message[at] == 0x7f)
      message[at] = '?';
    at += length == 0 ? 1 : length;
  }
}

bool rows_is_blank(const char *text, int64_t n) {
  for (int64_t k = 0; k < n; k++)
    if (text[k] != ' ' && (text[k] < '\t' || text[k] > '\r'))
      return false;
  return true;
}

ss_status rows_buffer_add(rows_buffer *buffer, const char *text, int64_t n, ss_error *error) {
  SS_TRY(ss_grow(&buffer->data, &buffer->capacity, buffer->n + n + 1, 1, "row", error));
  if (n > 0)
    memcpy(buffer->data + buffer->n, text, (size_t)n);
  buffer->n += n;
  buffer->data[buffer->n] = '\0';
  return SS_OK;
}

ss_status rows_buffer_set(rows_buffer *buffer, const char *text, int64_t n, ss_error *error) {
  buffer->n = 0;
  return rows_buffer_add(buffer, text, n, error);
}
