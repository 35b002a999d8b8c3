// Prose on a terminal or in a text file: words, broken into lines.
#ifndef SELFSPAN_COMMON_WRAP_H
#define SELFSPAN_COMMON_WRAP_H

#include <stdint.h>
#include <stdio.h>

#define SS_WRAP_WIDTH 100

// Prints the n bytes of `text` after `head`, its words separated by one blank and broken into lines of at most `width`
// characters (UTF-8 code points; a longer word has its own line); lines after the first begin with as many blanks as
// `head` has characters. Control characters count as blanks. Ends with a newline, for an empty text too.
void ss_print_wrapped(FILE *file, const char *head, const char *text, int64_t n, int width);

// The same with lines after the first that begin with `rest`, which has as many characters as `head`.
void ss_print_wrapped_beside(FILE *file, const char *head, const char *rest, const char *text, int64_t n,
                             int width);

#endif
