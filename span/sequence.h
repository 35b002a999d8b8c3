// One sequence being decoded: its tracker, tokens that gold text forces, the stop test and the sums. A leaf like
// span_core.h: the host's decoder and the GPU's run the same functions.
#ifndef SELFSPAN_SPAN_SEQUENCE_H
#define SELFSPAN_SPAN_SEQUENCE_H

#include "span/span_core.h"

// Which gold tokens take the place of the model's.
typedef enum {
  SPAN_FORCE_NONE,
  SPAN_FORCE_HEADERS,  // from `<[>` through `<:>` or `<eos>` of the next gold header, at every segment start
  SPAN_FORCE_ALL       // every one: a replay
} span_force;

typedef enum {
  SPAN_STOP_EOS,
  SPAN_STOP_LENGTH,  // `limit` rows
  SPAN_STOP_ANCHORS  // no anchor or no room for another segment; the token that asked for it is not kept
} span_stop;

typedef struct {
  span_tracker tracker;
  int32_t *tokens;      // [limit] of every row; the caller's storage
  int32_t *rows;        // [limit - n_prompt] attended rows of the query that produced each generated token
  const int32_t *gold;  // [n_gold] the gold tokens after the prompt
  int32_t n_gold;
  int32_t gold_next;  // the next one to force
  int32_t in_gold_header;
  int32_t force;      // span_force
  int32_t constrain;  // 1: forbid what cannot continue a well-formed header, and correct closing anchors
  int32_t n_prompt;
  int32_t limit;           // rows at which the sequence stops
  int32_t next_rows;       // |V| of the query whose logits come next
  int32_t active;          // 1: another token is wanted
  int32_t stop;            // span_stop, once it is not
  int64_t attended_rows;   // sum of |V| over the queries that produced the generated tokens
  double log_probability;  // sum over generated tokens
} span_sequence;

SPAN_FUNCTION int32_t span_forced_header_token(span_sequence *sequence) {
  const span_tokens *tokens = &sequence->tracker.tokens;
  if (!sequence->in_gold_header) {
    if (sequence->tracker.state != SPAN_STATE_BETWEEN)
      return -1;
    while (sequence->gold_next < sequence->n_gold && sequence->gold[sequence->gold_next] != tokens->open)
      ++sequence->gold_next;
    sequence->in_gold_header = sequence->gold_next < sequence->n_gold;
  }
  if (!sequence->in_gold_header)
    return -1;
  int32_t token = sequence->gold[sequence->gold_next++];
  if (token == tokens->colon || token == tokens->eos || sequence->gold_next >= sequence->n_gold)
    sequence->in_gold_header = 0;
  return token;
}

// The token that gold forces next (it counts as taken), or -1 when the model is free to choose.
SPAN_FUNCTION int32_t span_sequence_forced(span_sequence *sequence) {
  if (sequence->force == SPAN_FORCE_HEADERS)
    return span_forced_header_token(sequence);
  if (sequence->force == SPAN_FORCE_ALL && sequence->gold_next < sequence->n_gold)
    return sequence->gold[sequence->gold_next++];
  return -1;
}

// Whether the model may choose `token` next. `constrained` is 0 where nothing would be allowed: then everything is.
SPAN_FUNCTION int32_t span_sequence_allows(const span_sequence *sequence, int32_t constrained,
                                           int32_t token) {
  return !constrained || span_token_allowed(&sequence->tracker, token);
}

// Appends a token that the model chose (corrected under constrain) or gold forced; its row is tracker.n_row - 1
// afterwards. Sets active and stop.
SPAN_FUNCTION void span_sequence_push(span_sequence *sequence, int32_t token, double log_probability) {
  span_tracker *tracker = &sequence->tracker;
  int32_t row = tracker->n_row;
  sequence->active = 0;
  if (span_tracker_push(tracker, token) != SPAN_PUSH_OK) {
    sequence->stop = SPAN_STOP_ANCHORS;
    return;
  }
  sequence->tokens[row] = token;
  sequence->rows[row - sequence->n_prompt] = sequence->next_rows;
  sequence->attended_rows += sequence->next_rows;
  sequence->log_probability += log_probability;
  if (token == tracker->tokens.eos)
    sequence->stop = SPAN_STOP_EOS;
  else if (tracker->n_row >= sequence->limit)
    sequence->stop = SPAN_STOP_LENGTH;
  else
    sequence->active = 1;
}

#endif
