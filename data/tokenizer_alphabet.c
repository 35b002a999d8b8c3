// GPT-2's printable alphabet of bytes, in which its vocabularies are written.
#include "data/tokenizer_private.h"

// The byte that a character stands for, -1 when it is none of the alphabet: printable bytes of Latin-1 are themselves,
// the others are U+0100 onwards in order. (`bytes_to_unicode` of GPT-2's encoder.)
static int byte_of(unsigned point) {
  if ((point >= 33 && point <= 126) || (point >= 161 && point <= 172) || (point >= 174 && point <= 255))
    return (int)point;
  if (point < 256 || point >= 256 + 68)
    return -1;
  unsigned k = point - 256;
  return (int)(k < 33 ? k : k < 67 ? k - 33 + 127 : 173);
}

static unsigned point_of(unsigned char byte) {
  if (byte < 33)
    return 256u + byte;
  if (byte >= 127 && byte < 161)
    return 256u + 33 + (byte - 127u);
  return byte == 173 ? 256u + 67 : byte;
}

int64_t tokenizer_from_printable(const char *text, size_t n, char *out) {
  int64_t length = 0;
  for (size_t k = 0; k < n;) {
    unsigned char first = (unsigned char)text[k++];
    unsigned point = first;
    if (first >= 0x80) {
      if (first < 0xC2 || first > 0xDF || k == n || ((unsigned char)text[k] & 0xC0) != 0x80)
        return -1;
      point = (first & 0x1Fu) << 6 | ((unsigned char)text[k++] & 0x3Fu);
    }
    int byte = byte_of(point);
    if (byte < 0)
      return -1;
    out[length++] = (char)(unsigned char)byte;
  }
  return length;
}

int64_t tokenizer_to_printable(const char *bytes, int64_t n, char *out) {
  int64_t length = 0;
  for (int64_t k = 0; k < n; k++) {
    unsigned point = point_of((unsigned char)bytes[k]);
    if (point >= 0x80)
      out[length++] = (char)(unsigned char)(0xC0 | point >> 6);
    out[length++] = (char)(unsigned char)(point >= 0x80 ? 0x80 | (point & 0x3F) : point);
  }
  return length;
}
