// Well-formed UTF-8 (Unicode's table 3-7).
#ifndef SELFSPAN_COMMON_UTF8_H
#define SELFSPAN_COMMON_UTF8_H

#include <jansson.h>
#include <stdint.h>

// Bytes at the start of `text` that are well-formed UTF-8, zeros included.
int64_t ss_utf8_length(const char *text, int64_t n);

// A zero-terminated text as a JSON string; each byte that belongs to no well-formed sequence (a model may write any) becomes
// U+FFFD. The caller owns it; NULL when memory is out.
json_t *ss_utf8_json(const char *text);

#endif
