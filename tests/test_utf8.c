// Well-formed UTF-8 by Unicode's table 3-7, every sequence of one to four bytes that can begin one.
#include "tests/helpers.h"

#include "common/utf8.h"

// Written from the definition: decode, then refuse what is overlong, a surrogate or beyond U+10FFFF.
static bool well_formed(const unsigned char *text, int n) {
  static const unsigned lowest[] = {0, 0, 0x80, 0x800, 0x10000};
  int length = text[0] < 0x80   ? 1
               : text[0] < 0xC0 ? 0
               : text[0] < 0xE0 ? 2
               : text[0] < 0xF0 ? 3
               : text[0] < 0xF8 ? 4
                                : 0;
  if (length != n)
    return false;
  unsigned point = length == 1 ? text[0] : text[0] & (0x7Fu >> length);
  for (int k = 1; k < n; k++) {
    if ((text[k] & 0xC0) != 0x80)
      return false;
    point = point << 6 | (text[k] & 0x3Fu);
  }
  return point >= lowest[length] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
}

static void every_sequence(void **state) {
  (void)state;
  static const unsigned char others[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
  enum { N = sizeof others };
  for (int first = 0; first < 256; first++)
    for (int rest = 0; rest < N * N * N; rest++) {
      unsigned char text[4] = {(unsigned char)first, others[rest % N], others[rest / N % N],
                               others[rest / N / N]};
      for (int n = 1; n <= 4; n++) {
        // Whole sequences one after the other, as far as they go.
        int64_t expected = 0;
        for (int length = 1; expected < n && length <= n - (int)expected;)
          if (well_formed(text + expected, length)) {
            expected += length;
            length = 1;
          } else {
            length++;
          }
        if (ss_utf8_length((const char *)text, n) != expected)
          fail_msg("%02x %02x %02x %02x (%d bytes): %lld, expected %lld", text[0], text[1], text[2], text[3],
                   n, (long long)ss_utf8_length((const char *)text, n), (long long)expected);
      }
    }
  assert_int_equal(ss_utf8_length("", 0), 0);
  assert_int_equal(ss_utf8_length("0123456789abcdef\xFFg", 18), 16);
}

static void texts_become_json(void **state) {
  (void)state;
  static const char *const texts[][2] = {
      {"", ""},
      {"na\xC3\xAFve", "na\xC3\xAFve"},
      {"\xFF", "\xEF\xBF\xBD"},
      {"a\xE2\x82", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\x80z\xED\xA0\x80", "\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
  };
  for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
    json_t *json = ss_utf8_json(texts[k][0]);
    assert_string_equal(json_string_value(json), texts[k][1]);
    json_decref(json);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_sequence),
      cmocka_unit_test(texts_become_json),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
