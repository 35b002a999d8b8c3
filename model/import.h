// Pre-trained models of other programs as a gpt: Hugging Face folders (config.json and safetensors; GPT-2 and Llama),
// GGUF files (architectures llama and gpt2) and llama2.c's .bin.
//
// Every tensor of the file is either used or named as not used, with the reason; one that is missing or has another
// shape is named with what was expected. A setting that would change results and that gpt has no counterpart for
// (another activation, biases, scaled rotary angles, sliding windows, a classifier of its own...) is refused by name.
//
// Conventions that are translated: GPT-2's linear layers stand [in, out] in safetensors; rotary pairs are halves of a head
// (d, d + head/2) here and in Hugging Face's Llama, neighbours (2d, 2d + 1) in GGUF's llama and in llama2.c, where the
// rows of q and k are permuted; q, k, v are one matrix here, and so are gate and up.
//
// Growing the vocabulary. The rows of the embedding (which is the classifier too) beyond those kept are new. A row can start
// as a copy of a kept one: <bos> and <eos> are the model's own begin and end of text. Every other starts at the mean of the
// kept rows, plus normal noise with their standard deviation in each dimension times `deviation`: at the mean a
// token's logit is the mean logit, so new tokens take little probability from the old ones (Hewitt 2021, "Initializing New
// Word Embeddings for Pretrained Language Models"), and the noise lets the model tell them apart from the first step. Row r's
// noise is a pure function of (seed, r). Measured on SmolLM2-135M and news: 262 new rows add 0.00001 nats to the loss of a text
// token at deviation 0.25 (cosine between two new rows 0.93), 0.0001 at 0.5 (0.76), 0.15 at 1 (0.45): 0.5 is the default.
#ifndef SELFSPAN_MODEL_IMPORT_H
#define SELFSPAN_MODEL_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "model/gpt.h"

typedef struct model_import model_import;

// A tensor or setting of the file that the model does not use.
typedef struct {
  char *name;
  const char *reason;
} import_note;

typedef struct {
  const char *format;        // "safetensors", "GGUF", "llama2.c"
  const char *architecture;  // as transformers calls it: "LlamaForCausalLM", "GPT2LMHeadModel"
  gpt_config model;          // vocab_size: rows of the file's embedding
  int64_t n_tensor;          // in the file
  char *types;               // "Q4_1 210, F32 61, Q8_0 1": tensors of each type
  int64_t n_parameter;       // values that are read
  int64_t bos, eos;          // ids of the model's own begin and end of text, -1: not said
  bool add_bos;              // texts begin with bos
  import_note *notes;
  int64_t n_note;
} import_about;

// Opens PATH: a folder with config.json and model.safetensors or model.safetensors.index.json; a .gguf file; a .bin
// file. Reads settings and checks every tensor's name and shape; weights are not read yet.
ss_status import_open(model_import **out, const char *path, ss_error *error);
// The same from memory, which must outlive it: a GGUF or llama2.c file's `n` bytes, or, with `config` (the text of a
// config.json), a safetensors file's. `where` names all of them in messages; ".gguf" or ".bin" at its end says which it is.
ss_status import_open_memory(model_import **out, const char *where, const char *config, const void *bytes,
                             size_t n, ss_error *error);
void import_close(model_import *import);  // NULL is allowed
const import_about *import_get_about(const model_import *import);

typedef struct {
  int64_t n_positions;  // 0: the file's; otherwise at most that
  int64_t vocab_size;   // 0: the file's
  int64_t n_keep;       // rows of the file's embedding that stay, 0: all of them
  const int64_t
      *like;  // [vocab_size - n_keep] the kept row that a new one copies, -1: mean and noise; NULL: all -1
  double deviation;  // of the noise; IMPORT_DEFAULT_DEVIATION
  uint64_t seed;
  void (*progress)(void *user, int64_t done, int64_t total);  // tensors; may be NULL
  void *user;
} import_options;

#define IMPORT_DEFAULT_DEVIATION 0.5

// Reads the weights into a new model for inference, to be freed with gpt_free. Values that are not finite are an error that
// names tensor and row.
ss_status import_model(const model_import *import, ss_device *device, const import_options *options,
                       gpt **out, ss_error *error);

#endif
