#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/utf8.h"
#include "data/rows_private.h"

int64_t rows_sound_length(const char *text, int64_t n) {
  const char *zero = n > 0 ? memchr(text, '\0', (size_t)n) : NULL;
  return ss_utf8_length(text, zero == NULL ? n : zero - text);
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
  for (int64_t at = 0; (at += ss_utf8_length(message + at, n - at)) < n;)
    message[at] = '?';
  for (int64_t at = 0; at < n; at++)
    if ((unsigned char)message[at] < ' ' || message[at] == 0x7f)
      message[at] = '?';
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
