#include "train/model_file.h"

#include <stdlib.h>
#include <string.h>

#include "data/span_keys.h"
#include "model/checkpoint.h"
#include "train/state.h"

ss_status model_file_vocabulary_text(const vocabulary *vocabulary, char **text, ss_error *error) {
  json_t *object = vocabulary_json(vocabulary);
  *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
  json_decref(object);
  return *text != NULL ? SS_OK : ss_fail(error, SS_ERROR_MEMORY, "out of memory for the vocabulary");
}

ss_status model_file_vocabulary(const char *text, const char *where, vocabulary **out, ss_error *error) {
  json_error_t reason;
  json_t *json = json_loads(text, 0, &reason);
  if (json == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: its vocabulary is not JSON: %s", where, reason.text);
  ss_status status = vocabulary_from_json(out, json, where, error);
  json_decref(json);
  return status;
}

// Fills everything but the weights from what the file says about itself.
static ss_status describe(model_file *file, const checkpoint_meta *meta, const char *path, ss_error *error) {
  json_error_t reason;
  SS_TRY(model_file_vocabulary(meta->vocabulary, path, &file->vocabulary, error));
  if (vocabulary_size(file->vocabulary) != meta->model.vocab_size)
    return ss_fail(error, SS_ERROR_INPUT, "%s: the model has %lld tokens, its vocabulary %d", path,
                   (long long)meta->model.vocab_size, vocabulary_size(file->vocabulary));
  SS_TRY(span_policy_parse(meta->policy, path, &file->arm, &file->policy, error));
  file->config = json_loads(meta->config, 0, &reason);
  if (file->config == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: its configuration is not JSON: %s", path, reason.text);
  json_t *json = json_loadb(meta->state, (size_t)meta->n_state, 0, &reason);
  train_state state;
  ss_status status = train_state_from_json(&state, json, path, error);
  json_decref(json);
  SS_TRY(status);
  file->train_seconds = state.train_seconds;
  file->steps = state.step;
  file->examples = state.examples;
  file->tokens = state.tokens;
  return SS_OK;
}

ss_status model_file_open(model_file *out, const char *path, ss_device *device, ss_error *error) {
  memset(out, 0, sizeof *out);
  checkpoint_meta meta = checkpoint_meta_initial();
  ss_status status = checkpoint_load_model(path, device, false, NULL, &out->model, &meta, error);
  if (status == SS_OK)
    status = describe(out, &meta, path, error);
  checkpoint_meta_free(&meta);
  if (status != SS_OK)
    model_file_close(out);
  return status;
}

void model_file_close(model_file *file) {
  if (file->model != NULL)
    gpt_free(file->model);
  if (file->vocabulary != NULL)
    vocabulary_free(file->vocabulary);
  json_decref(file->config);
  memset(file, 0, sizeof *file);
}

static ss_status fill_meta(checkpoint_meta *meta, const vocabulary *vocabulary, arm arm,
                           const span_policy *policy, const json_t *config, ss_error *error) {
  const train_state state = train_state_initial();
  SS_TRY(model_file_vocabulary_text(vocabulary, &meta->vocabulary, error));
  SS_TRY(span_policy_text(arm, policy, &meta->policy, error));
  json_t *json = train_state_json(&state);
  char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
  json_decref(json);
  meta->state = text;
  meta->n_state = text == NULL ? 0 : (int64_t)strlen(text);
  meta->config = json_dumps(config, JSON_COMPACT);
  return text != NULL && meta->config != NULL
             ? SS_OK
             : ss_fail(error, SS_ERROR_MEMORY, "out of memory for a model's description");
}

ss_status model_file_write(const char *path, const gpt *model, const vocabulary *vocabulary, arm arm,
                           const span_policy *policy, const json_t *config, ss_error *error) {
  checkpoint_meta meta = checkpoint_meta_initial();
  ss_status status = fill_meta(&meta, vocabulary, arm, policy, config, error);
  if (status == SS_OK)
    status = checkpoint_write(path, model, NULL, NULL, &meta, error);
  checkpoint_meta_free(&meta);
  return status;
}
