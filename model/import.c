// Opening a pre-trained model: which format, which settings, are all tensors there.
#include "model/import.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/memory.h"
#include "model/import_private.h"

ss_status import_note_add(model_import *import, const char *name, const char *reason, ss_error *error) {
  import_about *about = &import->about;
  SS_TRY(ss_grow(&about->notes, &import->note_capacity, about->n_note + 1, sizeof *about->notes, "notes",
                 error));
  import_note *note = &about->notes[about->n_note];
  note->reason = reason;
  SS_TRY(ss_format(&note->name, error, "%s", name));
  about->n_note++;
  return SS_OK;
}

// --- folders -----------------------------------------------------------------------------------------------

static ss_status parse_object(json_t **out, const char *text, size_t n, const char *where, ss_error *error) {
  json_error_t reason;
  *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &reason);
  if (json_is_object(*out))
    return SS_OK;
  int line = *out == NULL ? reason.line : 1;
  json_decref(*out);
  *out = NULL;
  return ss_fail(error, SS_ERROR_INPUT, "%s:%d: expected a JSON object", where, line);
}

ss_status import_read_json(json_t **out, const char *path, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  *out = NULL;
  SS_TRY(ss_read_file(path, &text, &size, error));
  ss_status status = parse_object(out, text, size, path, error);
  free(text);
  return status;
}

static ss_status read_config_file(model_import *import, const char *path, ss_error *error) {
  json_t *config = NULL;
  SS_TRY(import_read_json(&config, path, error));
  ss_status status = import_read_config(import, config, path, error);
  json_decref(config);
  return status;
}

// GPT2Model saved alone has no prefix, GPT2LMHeadModel has one.
static void take_safetensors(model_import *import) {
  import->weights = weights_of_safetensors(import->safetensors);
  if (import->scheme == &import_gpt2_safetensors &&
      safetensors_find(import->safetensors, "transformer.wte.weight") != NULL)
    import->prefix = "transformer.";
}

// The first of the names that exists; NULL names the first in the error.
static ss_status open_weights(model_import *import, ss_error *error) {
  static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
  for (size_t k = 0; k < sizeof names / sizeof *names; ++k) {
    char *path = NULL;
    SS_TRY(ss_format(&path, error, "%s/%s", import->path, names[k]));
    bool found = ss_file_exists(path);
    ss_status status = found ? safetensors_open(&import->safetensors, path, error) : SS_OK;
    free(path);
    if (found || status != SS_OK)
      return status;
  }
  return ss_fail(error, SS_ERROR_IO, "%s: neither model.safetensors nor model.safetensors.index.json in it",
                 import->path);
}

static ss_status open_folder(model_import *import, ss_error *error) {
  char *config = NULL;
  SS_TRY(ss_format(&config, error, "%s/config.json", import->path));
  ss_status status = read_config_file(import, config, error);
  free(config);
  SS_TRY(status);
  SS_TRY(import_read_begin(import, error));
  SS_TRY(open_weights(import, error));
  take_safetensors(import);
  return SS_OK;
}

// --- opening -----------------------------------------------------------------------------------------------

// A GGUF or llama2.c file, in memory unless `bytes` is NULL.
static ss_status open_file(model_import *import, const void *bytes, size_t n, ss_error *error) {
  const char *path = import->path;
  if (ss_ends_in(path, ".gguf")) {
    SS_TRY(bytes == NULL ? gguf_open(&import->gguf, path, error)
                         : gguf_open_memory(&import->gguf, bytes, n, path, error));
    import->weights = weights_of_gguf(import->gguf);
    return import_read_gguf(import, import->gguf, error);
  }
  if (ss_ends_in(path, ".bin")) {
    SS_TRY(bytes == NULL ? llama2c_open(&import->llama2c, path, error)
                         : llama2c_open_memory(&import->llama2c, bytes, n, path, error));
    import->weights = weights_of_llama2c(import->llama2c);
    import_read_llama2c(import, llama2c_get_config(import->llama2c));
    return SS_OK;
  }
  return ss_fail(
      error, SS_ERROR_USAGE,
      "%s: expected a folder with config.json and safetensors, a .gguf file or a .bin file of llama2.c",
      path);
}

void import_read_llama2c(model_import *import, const llama2c_config *config) {
  import->scheme = &import_llama_llama2c;
  import->tied = config->shared;
  import->about.bos = 1;
  import->about.eos = 2;
  import->about.add_bos = true;
  import->about.model = (gpt_config){.n_layer = config->n_layers,
                                     .n_head = config->n_heads,
                                     .n_kv_head = config->n_kv_heads,
                                     .n_embd = config->dim,
                                     .n_ff = config->hidden_dim,
                                     .n_positions = config->seq_len,
                                     .vocab_size = config->vocab_size,
                                     .norm = SS_NORM_RMS,
                                     .position = GPT_POSITION_ROTARY,
                                     .activation = SS_ACTIVATION_SWIGLU,
                                     .norm_epsilon = 1e-5,
                                     .rotary_theta = 10000,
                                     .init_std = 0.02};
}

static ss_status create(model_import **out, const char *path, ss_error *error) {
  model_import *import = NULL;
  *out = NULL;
  SS_TRY(ss_allocate(&import, 1, sizeof *import, "an import", error));
  import->prefix = "";
  import->about.bos = import->about.eos = -1;
  ss_status status = ss_format(&import->path, error, "%s", path);
  if (status == SS_OK)
    *out = import;
  else
    import_close(import);
  return status;
}

// `status` is that of opening: settings are known, tensors are not yet looked at.
static ss_status finish(model_import **out, ss_status status, ss_error *error) {
  model_import *import = *out;
  import_about *about = &import->about;
  if (status == SS_OK && gpt_config_resolve(&about->model, error) != SS_OK) {
    status = SS_ERROR_INPUT;  // the file is at fault, not the command line
    if (error != NULL) {
      error->status = status;
      ss_error_context(error, "%s", import->path);
    }
  }
  if (about->bos < -1 || about->bos >= about->model.vocab_size)
    about->bos = -1;
  if (about->eos < -1 || about->eos >= about->model.vocab_size)
    about->eos = -1;
  if (status == SS_OK)
    status = import_check(import, error);
  if (status != SS_OK) {
    import_close(import);
    *out = NULL;
  }
  return status;
}

ss_status import_open(model_import **out, const char *path, ss_error *error) {
  struct stat about;
  *out = NULL;
  if (stat(path, &about) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  SS_TRY(create(out, path, error));
  return finish(out, S_ISDIR(about.st_mode) ? open_folder(*out, error) : open_file(*out, NULL, 0, error),
                error);
}

ss_status import_open_memory(model_import **out, const char *where, const char *config, const void *bytes,
                             size_t n, ss_error *error) {
  SS_TRY(create(out, where, error));
  model_import *import = *out;
  if (config == NULL)
    return finish(out, open_file(import, bytes == NULL ? "" : bytes, n, error), error);
  json_t *json = NULL;
  ss_status status = parse_object(&json, config, strlen(config), where, error);
  if (status == SS_OK)
    status = import_read_config(import, json, where, error);
  json_decref(json);
  if (status == SS_OK)
    status = safetensors_open_memory(&import->safetensors, bytes, n, where, error);
  if (status == SS_OK)
    take_safetensors(import);
  return finish(out, status, error);
}

void import_close(model_import *import) {
  if (import == NULL)
    return;
  safetensors_close(import->safetensors);
  gguf_close(import->gguf);
  llama2c_close(import->llama2c);
  for (int64_t i = 0; i < import->about.n_note; ++i)
    free(import->about.notes[i].name);
  free(import->about.notes);
  free(import->about.types);
  free(import->path);
  free(import);
}

const import_about *import_get_about(const model_import *import) {
  return &import->about;
}
