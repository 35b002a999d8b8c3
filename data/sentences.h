// Sentences of English prose: where they end, in bytes.
//
// Boundaries are those of Unicode's UAX #29 (sentence boundaries) as ICU finds them, without those that stand behind an
// abbreviation. UAX #29 knows no words, and ICU's own lists of exceptions lack most of what newspapers abbreviate; the
// tables of data/sentences_words.c say what is joined again:
//
//   titles      "Gen. Lee", "Sen. John McCain", "vs. Spain": never an end
//   numbers     "No. 1", "Jan. 5": not before a digit
//   others      "U.S.", "a.m.", "Inc.", "Calif.", initials ("J. K. Rowling"): an end only before a quotation mark or a
//               word that often begins sentences ("The", "He", "But", ...), the orthographic test of Punkt (Kiss and
//               Strunk 2006, "Unsupervised multilingual sentence boundary detection")
//   lower case  "Yahoo! said", "'What?' he asked": never an end, whatever the stop
//
// Ends are added before numbers ("He left. 12 people stayed"), which UAX #29 looks through. The end of a line always ends
// a sentence. Closing quotation marks and brackets belong to the sentence before the blank. Without a blank behind the
// stop there is no boundary ("left.It", as in "example.com").
#ifndef SELFSPAN_DATA_SENTENCES_H
#define SELFSPAN_DATA_SENTENCES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define SENTENCES_MAX_BYTES (INT64_C(1) << 30)

// Buffers and ICU's iterator; one thread at a time may use a splitter.
typedef struct sentence_splitter sentence_splitter;
ss_status sentence_splitter_create(sentence_splitter **out, ss_error *error);
// NULL is allowed.
void sentence_splitter_free(sentence_splitter *splitter);

// Splits n bytes of UTF-8 (others count as U+FFFD) into *n_sentence ranges: sentence k is the bytes from (*ends)[k - 1], or 0, up to
// (*ends)[k]. White space between two sentences belongs to the later one, white space at the end of the text to the
// last; so the ranges cover the text, and only an empty text has none. *ends is the splitter's until its next use.
// More than SENTENCES_MAX_BYTES is SS_ERROR_LIMIT.
ss_status sentence_split(sentence_splitter *splitter, const char *text, int64_t n, const int64_t **ends,
                         int64_t *n_sentence, ss_error *error);

// What a word before a stop says about the stop.
typedef enum {
  SENTENCE_WORD_PLAIN,   // ends a sentence
  SENTENCE_WORD_TITLE,   // does not
  SENTENCE_WORD_NUMBER,  // does not before a digit
  SENTENCE_WORD_EITHER   // may
} sentence_word;

// The kind of a word of n bytes, without the stop itself: "Gen", "No", "U.S", "J".
sentence_word sentence_word_kind(const char *word, int64_t n);
// Whether a word often begins a sentence: "The".
bool sentence_word_starts(const char *word, int64_t n);

#endif
