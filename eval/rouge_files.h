// Predictions and references for ROUGE from files: one text a line, or JSONL.
#ifndef SELFSPAN_EVAL_ROUGE_FILES_H
#define SELFSPAN_EVAL_ROUGE_FILES_H

#include <stdint.h>

#include "common/error.h"
#include "eval/rouge.h"

typedef struct {
  const char *prediction_field, *reference_field;  // of JSONL's objects
  const char *line_break;  // what stands for a newline within a line of plain text ("<n>"); NULL: nothing
} rouge_file_options;

typedef struct rouge_rows rouge_rows;  // one file's texts

typedef struct {
  rouge_item *items;  // [count], views into the rest
  int64_t count;
  rouge_text *references;  // of all items, one item's beside each other
  rouge_rows *files;       // [n_file] the predictions, then the references
  int n_file;
} rouge_corpus;

// Reads one file of predictions and n_reference >= 1 files of references; line k of each belongs to item k. A file
// called *.jsonl has a JSON value a line: a string, or an object with the field; for references also an array of
// strings, in the field or by itself. Where the objects of a line both have a string "id", the ids must be equal.
// Other files have a text a line, an empty one too; a last line without newline counts. Every fault (no UTF-8, no
// JSON, another number of lines) names file and line. Free *corpus with rouge_corpus_free, after a failure too.
ss_status rouge_corpus_read(rouge_corpus *corpus, const char *predictions, const char *const *references,
                            int n_reference, const rouge_file_options *options, ss_error *error);
void rouge_corpus_free(rouge_corpus *corpus);

#endif
