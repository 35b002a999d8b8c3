// A gpt as a Hugging Face model: config.json and model.safetensors that transformers loads as GPT2LMHeadModel or
// LlamaForCausalLM, with the conventions of model/import.h the other way round.
#ifndef SELFSPAN_MODEL_EXPORT_H
#define SELFSPAN_MODEL_EXPORT_H

#include <stdint.h>

#include "common/error.h"
#include "model/gpt.h"
#include "model/safetensors.h"

// "GPT2LMHeadModel": layer norm, learned positions, GELU, biases, as many KV heads as heads. "LlamaForCausalLM": RMS norm,
// rotary, SwiGLU, no biases. Any other model is refused, naming what neither of them has.
ss_status export_architecture(const gpt_config *config, const char **out, ss_error *error);

typedef struct {
  safetensors_dtype dtype;
  int64_t bos, eos;                                           // ids for config.json, -1: null
  void (*progress)(void *user, int64_t done, int64_t total);  // tensors; may be NULL
  void *user;
} export_options;

// Writes FOLDER/config.json and FOLDER/model.safetensors, each whole or not at all. The folder must exist.
ss_status export_huggingface(gpt *model, const char *folder, const export_options *options, ss_error *error);

#endif
