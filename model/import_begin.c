// What transformers puts before a text when it reads a folder's tokenizer. With tokenizer.json that is what the template in it
// says, and nothing else counts; without it (merges.txt, vocab.json) tokenizer_config.json's add_bos_token. Measured with
// transformers 4.57 and 5.23, which differ for LlamaTokenizer over byte-level BPE alone: 4 heeds add_bos_token there.
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "model/import_private.h"

// The folder's file of that name as an object, NULL where there is none.
static ss_status read_beside(const model_import *import, const char *name, json_t **out, ss_error *error) {
  char *path = NULL;
  *out = NULL;
  SS_TRY(ss_format(&path, error, "%s/%s", import->path, name));
  ss_status status = ss_file_exists(path) ? import_read_json(out, path, error) : SS_OK;
  free(path);
  return status;
}

static bool has_type(const json_t *object, const char *type) {
  const char *given = json_string_value(json_object_get(object, "type"));
  return given != NULL && strcmp(given, type) == 0;
}

// {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}], "special_tokens": {"<s>": {"ids": [1]}}}
static void take_template(model_import *import, const json_t *processor) {
  const json_t *first = json_object_get(json_array_get(json_object_get(processor, "single"), 0),
                                        "SpecialToken");
  const char *text = json_string_value(json_object_get(first, "id"));
  const json_t *tokens = json_object_get(processor, "special_tokens");
  const json_t *id = text == NULL ? NULL
                                  : json_array_get(json_object_get(json_object_get(tokens, text), "ids"), 0);
  if (!has_type(processor, "TemplateProcessing") || !json_is_integer(id))
    return;
  import->about.add_bos = true;
  import->about.bos = json_integer_value(id);
}

ss_status import_read_begin(model_import *import, ss_error *error) {
  json_t *object = NULL, *processor;
  size_t k;
  SS_TRY(read_beside(import, "tokenizer.json", &object, error));
  if (object == NULL) {
    SS_TRY(read_beside(import, "tokenizer_config.json", &object, error));
    import->about.add_bos = json_is_true(json_object_get(object, "add_bos_token"));
  } else {
    const json_t *post = json_object_get(object, "post_processor");
    take_template(import, post);
    json_array_foreach(json_object_get(post, "processors"), k, processor) take_template(import, processor);
  }
  json_decref(object);
  return SS_OK;
}
