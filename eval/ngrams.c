#include "eval/ngrams.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/novel_ngrams.h"

// Buffers of one comparison.
typedef struct {
  words *words;
  ngram_counter *counter;
  word_list summary, source;
  int64_t *ends;  // [n_line] in `summary`
  int64_t n_line, line_capacity;
} ngram_reader;

_Static_assert(NGRAM_LONGEST == NOVEL_NGRAMS_LONGEST, "as many are counted");

static double share(int64_t part, int64_t whole) {
  return whole > 0 ? (double)part / (double)whole : NAN;
}

static ss_status read_lines(ngram_reader *reader, rouge_text text, ss_error *error) {
  for (int64_t first = 0; first < text.size;) {
    const char *line = text.bytes + first, *newline = memchr(line, '\n', (size_t)(text.size - first));
    int64_t n = newline == NULL ? text.size - first : newline - line;
    SS_TRY(words_read(reader->words, line, n, &reader->summary, error));
    SS_TRY(ss_grow(&reader->ends, &reader->line_capacity, reader->n_line + 1, sizeof *reader->ends, "lines",
                   error));
    reader->ends[reader->n_line++] = reader->summary.n;
    first += n + 1;
  }
  return SS_OK;
}

static ss_status measure(ngram_reader *reader, rouge_text summary, rouge_text source, ngram_shares *out,
                         ss_error *error) {
  novel_ngrams counts;
  int64_t total = 0;
  SS_TRY(words_create(&reader->words, error));
  SS_TRY(ngram_counter_create(&reader->counter, error));
  SS_TRY(read_lines(reader, summary, error));
  SS_TRY(words_read(reader->words, source.bytes, source.size, &reader->source, error));
  SS_TRY(ngram_counter_count(reader->counter, &reader->source, &reader->summary, reader->ends, reader->n_line,
                             &counts, error));
  for (int n = 0; n < NGRAM_LONGEST; n++)
    out->novel[n] = share(counts.novel[n], counts.distinct[n]);
  for (int64_t k = 0; k < reader->n_line; k++) {
    int64_t n = reader->ends[k] - (k > 0 ? reader->ends[k - 1] : 0) - (NGRAM_REPEATED - 1);
    total += n > 0 ? n : 0;
  }
  out->repeated = share(total - counts.distinct[NGRAM_REPEATED - 1], total);
  return SS_OK;
}

ss_status ngram_shares_of(rouge_text summary, rouge_text source, ngram_shares *out, ss_error *error) {
  ngram_reader reader = {0};
  ss_status status = measure(&reader, summary, source, out, error);
  words_free(reader.words);
  ngram_counter_free(reader.counter);
  free(reader.summary.ids);
  free(reader.source.ids);
  free(reader.ends);
  return status;
}
