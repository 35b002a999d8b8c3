// A trained model as its file describes it: weights, vocabulary, arm, span policy, and what the training cost.
// Written by the trainer (model.h5, best.h5, checkpoints), read by whoever decodes or evaluates.
#ifndef SELFSPAN_TRAIN_MODEL_FILE_H
#define SELFSPAN_TRAIN_MODEL_FILE_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"
#include "data/render.h"
#include "data/vocabulary.h"
#include "model/gpt.h"
#include "span/span_core.h"

typedef struct {
  gpt *model;
  vocabulary *vocabulary;
  arm arm;
  span_policy policy;  // the span arm's: arm_policy gives the one that `arm` runs under
  json_t *config;      // resolved configuration of the run
  double train_seconds;
  int64_t steps, examples, tokens;
} model_file;

// Opens PATH for inference. On failure nothing is left to close.
ss_status model_file_open(model_file *out, const char *path, ss_device *device, ss_error *error);
// Frees everything in it; a zeroed struct is allowed.
void model_file_close(model_file *file);

// Writes a model that no training of ours produced, as `arm` with `policy`, whole or not at all. `config` says where it is from.
ss_status model_file_write(const char *path, const gpt *model, const vocabulary *vocabulary, arm arm,
                           const span_policy *policy, const json_t *config, ss_error *error);

// The malloc'ed JSON text by which the file keeps its vocabulary.
ss_status model_file_vocabulary_text(const vocabulary *vocabulary, char **text, ss_error *error);
// The vocabulary that such a text describes. `where` names the origin.
ss_status model_file_vocabulary(const char *text, const char *where, vocabulary **out, ss_error *error);

#endif
