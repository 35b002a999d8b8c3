// Checkpoints: a model, and for training also its optimizer's moments and the trainer's state, in one HDF5 file
// with a hash sidecar (common/hdf5.h). Exported models are the same format without moments and state. Layout:
//
//   parameters/NAME             float32, one array a parameter: matrices [out, in], vectors [n]
//   optimizer/first/NAME        float32, the moments, when there are any
//   optimizer/second/NAME
//   state                       uint8, the trainer's state as the trainer wrote it, when there is any
//   attributes                  format, schema_version, model, vocabulary, policy, config (JSON texts), step,
//                               examples_seen, best_step, best_validation_loss
//
// The same content gives the same bytes. Vocabulary, policy, config and state are opaque here.
#ifndef SELFSPAN_MODEL_CHECKPOINT_H
#define SELFSPAN_MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "model/gpt.h"

#define CHECKPOINT_FORMAT "selfspan-checkpoint"
#define CHECKPOINT_SCHEMA_VERSION 1

// What a checkpoint says beside its weights. When written, texts may be NULL (stored as empty) and stay the
// caller's; when read, they are malloc'ed: free with checkpoint_meta_free.
typedef struct {
  gpt_config model;  // when written: taken from the model
  char *vocabulary;  // JSON; equal texts are equal vocabularies
  char *policy;      // JSON: arm and span policy
  char *config;      // JSON: the full resolved configuration
  int64_t step;      // optimizer steps done
  int64_t examples_seen;
  int64_t best_step;            // of the best validation so far, -1 when there was none
  double best_validation_loss;  // infinity when there was none
  void *state;                  // bytes: whatever the trainer needs to go on
  int64_t n_state;
  bool has_moments;  // when written: follows from the arguments
} checkpoint_meta;

// Empty texts, no validation yet.
checkpoint_meta checkpoint_meta_initial(void);
void checkpoint_meta_free(checkpoint_meta *meta);

// Writes `path` whole or not at all. Moments are device addresses of flat buffers like gpt_parameters, both NULL
// for an inference-only file.
ss_status checkpoint_write(const char *path, const gpt *model, const float *first_moment,
                           const float *second_moment, const checkpoint_meta *meta, ss_error *error);

// Reads what `path` says about itself. Every reading function verifies the file's hash first and refuses
// truncated, damaged, foreign and newer files.
ss_status checkpoint_read_meta(const char *path, checkpoint_meta *meta, ss_error *error);

// Creates the model that `path` holds. `vocabulary` (NULL: any) must equal the stored one. `meta` may be NULL.
ss_status checkpoint_load_model(const char *path, ss_device *device, bool trainable, const char *vocabulary,
                                gpt **out, checkpoint_meta *meta, ss_error *error);

// Reads weights into an existing model, whose configuration must be the stored one.
ss_status checkpoint_load_parameters(const char *path, gpt *model, ss_error *error);

// Reads the moments into flat device buffers of gpt_n_parameter(model) elements. A file without moments is an error.
ss_status checkpoint_load_moments(const char *path, const gpt *model, float *first_moment,
                                  float *second_moment, ss_error *error);

#endif
