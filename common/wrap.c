#include "common/wrap.h"

#include <stdbool.h>
#include <string.h>

static bool is_blank(char c) {
  return (unsigned char)c <= ' ' || c == 0x7F;
}

// Bytes that begin a character: all but UTF-8's continuations.
static int characters(const char *text, int64_t n) {
  int count = 0;
  for (int64_t k = 0; k < n; k++)
    count += ((unsigned char)text[k] & 0xC0) != 0x80;
  return count;
}

void ss_print_wrapped(FILE *file, const char *head, const char *text, int64_t n, int width) {
  ss_print_wrapped_beside(file, head, NULL, text, n, width);
}

void ss_print_wrapped_beside(FILE *file, const char *head, const char *rest, const char *text, int64_t n,
                             int width) {
  int indent = characters(head, (int64_t)strlen(head)), column = indent;
  fputs(head, file);
  for (int64_t k = 0; k < n;) {
    int64_t first = k;
    while (k < n && !is_blank(text[k]))
      k++;
    int length = characters(text + first, k - first);
    if (length > 0 && column > indent && column + 1 + length > width) {
      fprintf(file, "\n%*s", rest == NULL ? indent : 0, "");
      fputs(rest == NULL ? "" : rest, file);
      column = indent;
    } else if (length > 0 && column > indent) {
      fputc(' ', file);
      column++;
    }
    fwrite(text + first, 1, (size_t)(k - first), file);
    column += length;
    while (k < n && is_blank(text[k]))
      k++;
  }
  fputc('\n', file);
}
