// What an evaluation has decoded, kept until it is complete, so that one which was interrupted or killed goes on: a file
// of lines that grows with every sequence. docs/FORMATS.md has the format.
#ifndef SELFSPAN_EVAL_KEPT_H
#define SELFSPAN_EVAL_KEPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "infer/decoder.h"

typedef struct {
  int64_t index;  // of the example
  int32_t *tokens;
  decode_kept kept;  // its tokens are the above
} eval_kept_sequence;

// Zeroed: not open, nothing is kept.
typedef struct {
  char *path;
  FILE *file;
  eval_kept_sequence *sequences;  // of earlier runs, by index
  int64_t n_sequence, capacity;
  decode_statistics speed;  // of earlier runs, but for killed ones: those leave sequences alone
  bool added;               // something was, in this run
} eval_kept;

// Opens the file or makes it. `work` says what decides about the sequences' content, a flat object. Where the file is
// about other work, *other becomes the first key that differs (malloc'ed) and nothing is opened; with `discard` the file
// begins anew as well. A last line that was cut off is removed.
ss_status eval_kept_open(eval_kept *kept, const char *path, const json_t *work, bool discard, char **other,
                         ss_error *error);

// The sequence of an example; NULL: there is none. O(log n).
const eval_kept_sequence *eval_kept_find(const eval_kept *kept, int64_t index);

// Adds a sequence, which survives the process's end from then on.
ss_status eval_kept_add(eval_kept *kept, const decode_result *result, ss_error *error);

// Adds what a run has taken, and then to *speed what the earlier ones have.
ss_status eval_kept_add_speed(eval_kept *kept, decode_statistics *speed, ss_error *error);

// Removes a file that holds no sequence. Harmless when not open.
void eval_kept_close(eval_kept *kept);

#endif
