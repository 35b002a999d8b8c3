// Shared by model/import*.c and model/export.c only.
#ifndef SELFSPAN_MODEL_IMPORT_PRIVATE_H
#define SELFSPAN_MODEL_IMPORT_PRIVATE_H

#include <jansson.h>

#include "model/import.h"
#include "model/weights.h"

// How a tensor of the file becomes rows of a parameter [rows, cols].
typedef enum {
  PART_ROWS,        // as it stands
  PART_TRANSPOSED,  // the file has [cols, rows]
  PART_NEIGHBOURS   // rotary pairs of each head stand next to each other
} part_kind;

// Sizes of parts, filled in from the configuration.
typedef enum { SIZE_ONE, SIZE_VOCABULARY, SIZE_POSITIONS, SIZE_WIDTH, SIZE_KV, SIZE_QKV, SIZE_FF } part_size;

// Parts of one parameter follow each other and are stacked by rows. Names have one %lld, the layer, or none.
typedef struct {
  const char *parameter, *name;
  part_kind kind;
  part_size rows, cols;  // of the parameter's part
} import_part;

// A tensor that is not used, and why.
typedef struct {
  const char *name, *reason;
} import_unused;

typedef struct {
  const char *architecture;
  const import_part *parts;
  int n_part;
  const import_unused *unused;
  int n_unused;
  const char *classifier;  // used when the embedding is not the classifier, else equal to it
} import_scheme;

extern const import_scheme import_llama_safetensors, import_llama_gguf, import_llama_llama2c,
    import_gpt2_safetensors, import_gpt2_gguf;

struct model_import {
  char *path;
  safetensors *safetensors;
  gguf *gguf;
  llama2c *llama2c;
  weights weights;
  const import_scheme *scheme;
  const char *prefix;  // before every tensor's name, "" or "transformer."
  bool tied;           // the settings say that the classifier is the embedding
  import_about about;
  int64_t note_capacity;
};

ss_status import_note_add(model_import *import, const char *name, const char *reason, ss_error *error);

// A file that holds a JSON object. The caller frees it.
ss_status import_read_json(json_t **out, const char *path, ss_error *error);
// What a folder's tokenizer puts before a text: about.add_bos, about.bos.
ss_status import_read_begin(model_import *import, ss_error *error);
// config.json's settings: about.model, scheme, tied, notes of fields that are not known.
ss_status import_read_config(model_import *import, const json_t *config, const char *where, ss_error *error);
// The same from GGUF's metadata.
ss_status import_read_gguf(model_import *import, const gguf *file, ss_error *error);
// And from llama2.c's header.
void import_read_llama2c(model_import *import, const llama2c_config *config);

// --- import_tensors.c ---
// A part's name in the file, malloc'ed.
ss_status import_part_name(const model_import *import, const char *format, int64_t layer, char **out,
                           ss_error *error);
int64_t import_size(const gpt_config *config, part_size size);
// Checks every part against the file, notes the tensors left over, and counts. about.model must be resolved.
ss_status import_check(model_import *import, ss_error *error);

#endif
