// The batches that the benchmarks run on: random tokens under a synthetic mask, or packed rows of a dataset.
#ifndef SELFSPAN_COMMANDS_BENCH_BATCH_H
#define SELFSPAN_COMMANDS_BENCH_BATCH_H

#include <jansson.h>

#include "common/cli.h"
#include "common/error.h"
#include "model/gpt.h"

typedef struct {
  int64_t rows, row_tokens;
  int64_t segment;     // synthetic span mask of segments of so many tokens; 0: dense causal
  const char *data;    // a dataset folder (train.h5) instead of random tokens; NULL: random
  const char *arm;     // of the dataset: its text and mask
  const char *mask;    // "arm" (the arm's own) or "document" (each example causal, whatever the arm)
  int64_t vocab_size;  // of random tokens, and the bound of the dataset's
} bench_batch_options;

// The command-line options over a bench_batch_options, to be placed in an option table.
#define BENCH_BATCH_OPTIONS(o)                                                                              \
  {"rows", SS_OPTION_INT, &(o).rows, "B", "packed rows"},                                                   \
      {"row-tokens", SS_OPTION_INT, &(o).row_tokens, "T", "tokens a row"},                                  \
      {"segment", SS_OPTION_INT, &(o).segment, "N",                                                         \
       "span mask of N-token segments (each reads itself, the first and two random ones); 0: causal"},      \
      {"data", SS_OPTION_STRING, &(o).data, "DIR", "packed rows of DIR/train.h5 instead of random tokens"}, \
      {"arm", SS_OPTION_STRING, &(o).arm, "NAME", "with --data: dense, annotated or span (span)"}, {        \
    "mask", SS_OPTION_STRING, &(o).mask, "NAME",                                                            \
        "with --data: arm, or document (every example causal) (arm)"                                        \
  }

typedef struct {
  gpt_batch batch;
  int32_t *tokens, *targets, *positions;
  ss_attention_view *views;
  span_range *ranges;
  int64_t attended;       // sum of |V(i)|
  char description[160];  // "causal", "span mask, 32-token segments", "data DIR, arm span, 47 examples"
} bench_batch;

ss_status bench_batch_options_check(const bench_batch_options *options, ss_error *error);

// Fills *out, which the caller frees. The same options give the same batch.
ss_status bench_batch_make(bench_batch *out, const bench_batch_options *options, ss_error *error);
void bench_batch_free(bench_batch *batch);

// Random tokens that a model can learn from: half of them follow from the token before, which is drawn from a
// Zipf-like distribution. `row` and `seed` choose the sequence; n tokens below vocab_size.
void bench_tokens(int32_t *out, int64_t n, int64_t vocab_size, uint64_t seed, uint64_t row);

// The mask as a peer reads it: {"n_row", "views": [q_first, n_query, self_first, range_first, n_range, ...],
// "ranges": [first, end, ...]}, written to `path`.
ss_status bench_batch_write_mask(const bench_batch *batch, const char *path, ss_error *error);

#endif
