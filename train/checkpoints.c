// A run's files of weights: writing checkpoints, best.h5 and model.h5, and continuing from them.
#include "model/checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/file.h"
#include "common/memory.h"
#include "train/model_file.h"
#include "train/run.h"

// --- writing -----------------------------------------------------------------------------------------------

static ss_status dump(const json_t *json, const char *what, char **text, ss_error *error) {
  *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
  return *text != NULL ? SS_OK : ss_fail(error, SS_ERROR_MEMORY, "out of memory for the %s", what);
}

static ss_status fill_meta(const train_run *run, checkpoint_meta *meta, ss_error *error) {
  const train_state *state = &run->state;
  char *text = NULL;
  meta->step = state->step;
  meta->examples_seen = state->examples;
  meta->best_step = state->best_step;
  meta->best_validation_loss = state->best_validation_loss;
  SS_TRY(model_file_vocabulary_text(run->vocabulary, &meta->vocabulary, error));
  SS_TRY(span_policy_text((arm)run->config->arm, run->request->policy, &meta->policy, error));
  SS_TRY(dump(run->resolved, "configuration", &meta->config, error));
  json_t *json = train_state_json(state);
  ss_status status = dump(json, "training state", &text, error);
  json_decref(json);
  SS_TRY(status);
  meta->state = text;
  meta->n_state = (int64_t)strlen(text);
  return SS_OK;
}

// Weights that are not finite must not replace a good checkpoint. Their norm is finite when all of them are.
static ss_status check_finite(const train_run *run, ss_error *error) {
  double norm = 0;
  SS_TRY(optimizer_weight_norm(run->optimizer, &norm, error));
  if (isfinite(norm))
    return SS_OK;
  return ss_fail(error, SS_ERROR_NUMERIC, "%s: the weights are not finite after step %lld; not saved",
                 run->config->out, (long long)run->state.step);
}

static ss_status write_file(const train_run *run, const char *path, bool whole, ss_error *error) {
  SS_TRY(check_finite(run, error));
  checkpoint_meta meta = checkpoint_meta_initial();
  ss_status status = fill_meta(run, &meta, error);
  if (status == SS_OK)
    status = checkpoint_write(path, run->model, whole ? optimizer_first_moment(run->optimizer) : NULL,
                              whole ? optimizer_second_moment(run->optimizer) : NULL, &meta, error);
  checkpoint_meta_free(&meta);
  return status;
}

ss_status train_checkpoint_save(train_run *run, ss_error *error) {
  if (run->saved_step != run->state.step) {
    char *path = NULL;
    SS_TRY(train_folder_checkpoint(run->folder, run->state.step, &path, error));
    ss_status status = write_file(run, path, true, error);
    free(path);
    SS_TRY(status);
    run->saved_step = run->state.step;
  }
  // Also when the step was saved before: the process may have been killed between saving and removing.
  return train_folder_rotate(run->folder, run->config->keep, error);
}

ss_status train_weights_save(train_run *run, const char *path, ss_error *error) {
  return write_file(run, path, false, error);
}

ss_status train_best_restore(train_run *run, ss_error *error) {
  return checkpoint_load_parameters(train_folder_best(run->folder), run->model, error);
}

ss_status train_weights_hash(const gpt *model, char out[33], ss_error *error) {
  ss_device *device = gpt_device(model);
  int64_t count = gpt_n_parameter(model);
  float *host = NULL;
  SS_TRY(ss_allocate(&host, count, sizeof *host, "weights", error));
  if (device->ops->download(device, host, gpt_parameters((gpt *)model), (size_t)count * sizeof *host) !=
      SS_OK) {
    free(host);
    return ss_device_error(device, error);
  }
  XXH128_hash_t hash = XXH3_128bits(host, (size_t)count * sizeof *host);
  free(host);
  snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
  return SS_OK;
}

// --- starting ----------------------------------------------------------------------------------------------

static ss_status check_positions(const train_run *run, ss_error *error) {
  // The last token of an example is only a target. Dense text is shorter than the stored, annotated one.
  int64_t need = store_longest(run->train_data) - 1, have = gpt_get_config(run->model)->n_positions;
  if (arm_has_headers((arm)run->config->arm) && need > have)
    return ss_fail(
        error, SS_ERROR_LIMIT,
        "%s/train.h5: its longest example needs %lld positions, the model has %lld (model.n_positions)",
        run->config->data, (long long)need, (long long)have);
  return SS_OK;
}

static ss_status check_vocabulary(const train_run *run, const checkpoint_meta *meta, const char *path,
                                  ss_error *error) {
  vocabulary *stored = NULL;
  SS_TRY(model_file_vocabulary(meta->vocabulary, path, &stored, error));
  bool same = vocabulary_hash(stored) == vocabulary_hash(run->vocabulary);
  int32_t size = vocabulary_size(stored), text = vocabulary_n_text(stored);
  vocabulary_free(stored);
  if (same)
    return SS_OK;
  return ss_fail(
      error, SS_ERROR_INPUT,
      "%s: its vocabulary (%d tokens, %d of text) is not that of %s/train.h5 (%d tokens, %d of text)", path,
      size, text, run->config->data, vocabulary_size(run->vocabulary), vocabulary_n_text(run->vocabulary));
}

// What `selfspan import` noted of a base stays with every model that comes of it.
static ss_status keep_import_notes(train_run *run, const checkpoint_meta *meta, ss_error *error) {
  json_t *config = json_loads(meta->config, 0, NULL);
  json_t *notes = json_object_get(config, "import");
  int failed = notes != NULL && json_object_set(run->resolved, "import", notes) != 0;
  json_decref(config);
  return failed ? ss_fail(error, SS_ERROR_MEMORY, "out of memory for the configuration") : SS_OK;
}

static ss_status start_at_base(train_run *run, ss_error *error) {
  const char *path = run->config->base;
  if (!ss_file_exists(path))
    return ss_fail(error, SS_ERROR_IO, "%s: no such file; train.base must name a checkpoint", path);
  checkpoint_meta meta = checkpoint_meta_initial();
  ss_status status = checkpoint_read_meta(path, &meta, error);
  if (status == SS_OK)
    status = check_vocabulary(run, &meta, path, error);
  if (status == SS_OK)
    status = train_shape_fits(run, &meta.model, path, error);
  if (status == SS_OK)
    status = keep_import_notes(run, &meta, error);
  if (status == SS_OK)
    status = checkpoint_load_model(path, run->request->device, true, NULL, &run->model, NULL, error);
  checkpoint_meta_free(&meta);
  return status;
}

static ss_status start_at_random(train_run *run, ss_error *error) {
  gpt_config shape = *run->request->model;
  int32_t size = vocabulary_size(run->vocabulary);
  if (shape.vocab_size != 0 && shape.vocab_size != size)
    return ss_fail(error, SS_ERROR_USAGE, "model.vocab_size is %lld, the vocabulary of %s/train.h5 has %d",
                   (long long)shape.vocab_size, run->config->data, size);
  shape.vocab_size = size;
  SS_TRY(gpt_config_resolve(&shape, error));
  SS_TRY(gpt_create(&run->model, run->request->device, &shape, true, error));
  return gpt_initialize(run->model, (uint64_t)run->config->seed, error);
}

ss_status train_model_start(train_run *run, ss_error *error) {
  SS_TRY(run->config->base[0] != '\0' ? start_at_base(run, error) : start_at_random(run, error));
  SS_TRY(train_shape_record(run, gpt_get_config(run->model), error));
  return check_positions(run, error);
}

// --- resuming ----------------------------------------------------------------------------------------------

// Takes over the stored state after checking that it is of this data.
static ss_status take_state(train_run *run, const checkpoint_meta *meta, const char *path, ss_error *error) {
  json_error_t reason;
  train_state state;
  json_t *json = json_loadb(meta->state, (size_t)meta->n_state, 0, &reason);
  ss_status status = train_state_from_json(&state, json, path, error);
  json_decref(json);
  SS_TRY(status);
  if (state.train_hash != run->state.train_hash || state.validation_hash != run->state.validation_hash)
    return ss_fail(error, SS_ERROR_USAGE,
                   "%s: cannot resume: %s.h5 in train.data (%s) has another content than the "
                   "run was started with",
                   path, state.train_hash != run->state.train_hash ? "train" : "validation",
                   run->config->data);
  run->state = state;
  return SS_OK;
}

static ss_status check_config(const train_run *run, const checkpoint_meta *meta, const char *path,
                              ss_error *error) {
  json_error_t reason;
  json_t *stored = json_loads(meta->config, 0, &reason);
  if (stored == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: its configuration is not JSON: %s", path, reason.text);
  ss_status status = train_config_continues(run, stored, path, error);
  json_decref(stored);
  return status;
}

static ss_status continue_from(train_run *run, const checkpoint_meta *meta, const char *path,
                               ss_error *error) {
  SS_TRY(check_config(run, meta, path, error));
  SS_TRY(train_shape_fits(run, &meta->model, path, error));
  SS_TRY(keep_import_notes(run, meta, error));
  SS_TRY(take_state(run, meta, path, error));
  SS_TRY(check_vocabulary(run, meta, path, error));
  SS_TRY(checkpoint_load_model(path, run->request->device, true, NULL, &run->model, NULL, error));
  SS_TRY(train_shape_record(run, gpt_get_config(run->model), error));
  SS_TRY(train_optimizer_start(run, error));
  return checkpoint_load_moments(path, run->model, optimizer_first_moment(run->optimizer),
                                 optimizer_second_moment(run->optimizer), error);
}

// Removes checkpoints newer than the one resumed: damaged, they would count among the last K.
static ss_status remove_newer(train_run *run, const int64_t *steps, int64_t from, int64_t count,
                              ss_error *error) {
  for (int64_t i = from; i < count; i++) {
    char *path = NULL;
    SS_TRY(train_folder_checkpoint(run->folder, steps[i], &path, error));
    bool removed = unlink(path) == 0;
    if (!removed)
      ss_fail_errno(error, SS_ERROR_IO, "%s: cannot remove", path);
    free(path);
    if (!removed)
      return SS_ERROR_IO;
  }
  return SS_OK;
}

static ss_status resume_newest(train_run *run, const int64_t *steps, int64_t count, ss_error *error) {
  for (int64_t i = count - 1; i >= 0; i--) {
    char *path = NULL;
    checkpoint_meta meta = checkpoint_meta_initial();
    SS_TRY(train_folder_checkpoint(run->folder, steps[i], &path, error));
    ss_error damage;
    memset(&damage, 0, sizeof damage);
    ss_status status = checkpoint_read_meta(path, &meta, &damage);
    bool whole = status == SS_OK;
    if (whole) {
      status = continue_from(run, &meta, path, error);
      if (status == SS_OK)
        status = remove_newer(run, steps, i + 1, count, error);
      run->saved_step = steps[i];
    } else if (status == SS_ERROR_MEMORY) {
      ss_fail(error, status, "%s", damage.message);
      whole = true;  // says nothing about the file
    } else {
      train_run_notice(run, "passed over: %s", damage.message);
    }
    checkpoint_meta_free(&meta);
    free(path);
    if (whole)
      return status;
  }
  return ss_fail(error, SS_ERROR_INPUT, "%s: none of the %lld checkpoints is whole; --force starts anew",
                 train_folder_checkpoints(run->folder), (long long)count);
}

ss_status train_checkpoint_resume(train_run *run, bool *found, ss_error *error) {
  int64_t *steps = NULL, count = 0;
  *found = false;
  SS_TRY(train_folder_steps(run->folder, &steps, &count, error));
  if (count == 0)
    return SS_OK;
  *found = true;
  ss_status status = resume_newest(run, steps, count, error);
  free(steps);
  return status;
}
