#include "model/checkpoint.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/hdf5.h"
#include "common/memory.h"
#include "model/gpt_private.h"

#define GROUP_PARAMETERS "parameters"
#define GROUP_FIRST "optimizer/first"
#define GROUP_SECOND "optimizer/second"
#define NAME_CAPACITY 128

checkpoint_meta checkpoint_meta_initial(void) {
  checkpoint_meta meta = {0};
  meta.best_step = -1;
  meta.best_validation_loss = INFINITY;
  return meta;
}

void checkpoint_meta_free(checkpoint_meta *meta) {
  free(meta->vocabulary);
  free(meta->policy);
  free(meta->config);
  free(meta->state);
  *meta = checkpoint_meta_initial();
}

// Vectors are arrays of rank 1, so that readers elsewhere see the usual shapes.
static int32_t parameter_shape(const gpt_parameter *parameter, int64_t dims[2]) {
  bool vector = parameter->rows == 1 && !parameter->decay;
  dims[0] = vector ? parameter->cols : parameter->rows;
  dims[1] = parameter->cols;
  return vector ? 1 : 2;
}

static const char *array_name(char name[NAME_CAPACITY], const char *group, const gpt_parameter *parameter) {
  snprintf(name, NAME_CAPACITY, "%s/%s", group, parameter->name);
  return name;
}

// A host buffer that holds any one parameter.
static ss_status allocate_largest(const gpt *model, float **buffer, ss_error *error) {
  int64_t most = 1;
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index) {
    int64_t count = model->table[index].rows * model->table[index].cols;
    most = count > most ? count : most;
  }
  return ss_allocate(buffer, most, sizeof **buffer, "a parameter's copy", error);
}

// --- writing ---

static ss_status write_group(ss_hdf5 *file, const char *group, const gpt *model, const float *flat,
                             float *buffer, ss_error *error) {
  char name[NAME_CAPACITY];
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index) {
    const gpt_parameter *parameter = &model->table[index];
    int64_t dims[2];
    int32_t rank = parameter_shape(parameter, dims);
    SS_OP(model->device, error, download, buffer, flat + parameter->offset,
          (size_t)(parameter->rows * parameter->cols) * sizeof(float));
    SS_TRY(ss_hdf5_write_array(file, array_name(name, group, parameter), SS_HDF5_F32, rank, dims, buffer,
                               error));
  }
  return SS_OK;
}

static json_t *model_config_json(const gpt_config *config) {
  gpt_config copy = *config;
  const ss_key_group groups[] = {{gpt_config_keys, &copy}, {NULL, NULL}};
  return ss_config_json(groups);
}

static ss_status write_model_config(ss_hdf5 *file, const gpt_config *config, ss_error *error) {
  json_t *object = model_config_json(config);
  char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
  ss_status status = text ? ss_hdf5_set_string(file, "model", text, error)
                          : ss_fail(error, SS_ERROR_MEMORY, "the model's configuration: out of memory");
  free(text);
  json_decref(object);
  return status;
}

static ss_status write_content(ss_hdf5 *file, const gpt *model, const float *first_moment,
                               const float *second_moment, const checkpoint_meta *meta, float *buffer,
                               ss_error *error) {
  SS_TRY(write_model_config(file, &model->config, error));
  SS_TRY(ss_hdf5_set_string(file, "vocabulary", meta->vocabulary ? meta->vocabulary : "", error));
  SS_TRY(ss_hdf5_set_string(file, "policy", meta->policy ? meta->policy : "", error));
  SS_TRY(ss_hdf5_set_string(file, "config", meta->config ? meta->config : "", error));
  SS_TRY(ss_hdf5_set_int(file, "step", meta->step, error));
  SS_TRY(ss_hdf5_set_int(file, "examples_seen", meta->examples_seen, error));
  SS_TRY(ss_hdf5_set_int(file, "best_step", meta->best_step, error));
  SS_TRY(ss_hdf5_set_real(file, "best_validation_loss", meta->best_validation_loss, error));
  SS_TRY(write_group(file, GROUP_PARAMETERS, model, model->parameters, buffer, error));
  if (first_moment && second_moment) {
    SS_TRY(write_group(file, GROUP_FIRST, model, first_moment, buffer, error));
    SS_TRY(write_group(file, GROUP_SECOND, model, second_moment, buffer, error));
  }
  if (meta->state)
    SS_TRY(ss_hdf5_write_array(file, "state", SS_HDF5_U8, 1, &meta->n_state, meta->state, error));
  return SS_OK;
}

ss_status checkpoint_write(const char *path, const gpt *model, const float *first_moment,
                           const float *second_moment, const checkpoint_meta *meta, ss_error *error) {
  ss_hdf5 *file = NULL;
  float *buffer = NULL;
  SS_TRY(ss_hdf5_create(&file, path, CHECKPOINT_FORMAT, CHECKPOINT_SCHEMA_VERSION, error));
  ss_status status = allocate_largest(model, &buffer, error);
  if (status == SS_OK)
    status = write_content(file, model, first_moment, second_moment, meta, buffer, error);
  free(buffer);
  if (status != SS_OK) {
    ss_hdf5_close(file);
    return status;
  }
  return ss_hdf5_commit(file, error);
}

// --- reading ---

static ss_status open_checkpoint(ss_hdf5 **file, const char *path, ss_error *error) {
  return ss_hdf5_open(file, path, CHECKPOINT_FORMAT, CHECKPOINT_SCHEMA_VERSION, true, error);
}

static ss_status read_model_config(ss_hdf5 *file, gpt_config *config, ss_error *error) {
  memset(config, 0, sizeof *config);
  const ss_key_group groups[] = {{gpt_config_keys, config}, {NULL, NULL}};
  char *text = NULL;
  SS_TRY(ss_config_defaults(groups, error));
  SS_TRY(ss_hdf5_get_string(file, "model", &text, error));
  json_error_t problem;
  json_t *object = json_loads(text, 0, &problem);
  free(text);
  if (!object)
    return ss_fail(error, SS_ERROR_INPUT, "%s: attribute \"model\" is not JSON: %s", ss_hdf5_path(file),
                   problem.text);
  ss_status status = ss_config_from_json(groups, object, ss_hdf5_path(file), error);
  json_decref(object);
  if (status == SS_OK) {
    status = gpt_config_resolve(config, error);
    if (status != SS_OK && error)
      ss_error_context(error, "%s", ss_hdf5_path(file));
  }
  if (status == SS_ERROR_USAGE) {  // the file is at fault, not the command line
    status = SS_ERROR_INPUT;
    if (error)
      error->status = status;
  }
  return status;
}

static ss_status read_meta(ss_hdf5 *file, checkpoint_meta *meta, ss_error *error) {
  SS_TRY(read_model_config(file, &meta->model, error));
  SS_TRY(ss_hdf5_get_string(file, "vocabulary", &meta->vocabulary, error));
  SS_TRY(ss_hdf5_get_string(file, "policy", &meta->policy, error));
  SS_TRY(ss_hdf5_get_string(file, "config", &meta->config, error));
  SS_TRY(ss_hdf5_get_int(file, "step", &meta->step, error));
  SS_TRY(ss_hdf5_get_int(file, "examples_seen", &meta->examples_seen, error));
  SS_TRY(ss_hdf5_get_int(file, "best_step", &meta->best_step, error));
  SS_TRY(ss_hdf5_get_real(file, "best_validation_loss", &meta->best_validation_loss, error));
  meta->has_moments = ss_hdf5_has(file, GROUP_FIRST) && ss_hdf5_has(file, GROUP_SECOND);
  if (ss_hdf5_has(file, "state")) {
    meta->n_state = -1;
    SS_TRY(ss_hdf5_read_array(file, "state", SS_HDF5_U8, 1, &meta->n_state, &meta->state, error));
  }
  return SS_OK;
}

ss_status checkpoint_read_meta(const char *path, checkpoint_meta *meta, ss_error *error) {
  ss_hdf5 *file = NULL;
  *meta = checkpoint_meta_initial();
  SS_TRY(open_checkpoint(&file, path, error));
  ss_status status = read_meta(file, meta, error);
  ss_hdf5_close(file);
  if (status != SS_OK)
    checkpoint_meta_free(meta);
  return status;
}

// Compares names and shapes of a group with the table, before anything as large as the model is allocated.
static ss_status check_group(ss_hdf5 *file, const char *group, const gpt *model, ss_error *error) {
  char name[NAME_CAPACITY], *names = NULL;
  int64_t count = 0;
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index) {
    const gpt_parameter *parameter = &model->table[index];
    int64_t expected[2], stored[2] = {0, 0};
    int32_t rank = parameter_shape(parameter, expected);
    array_name(name, group, parameter);
    SS_TRY(ss_hdf5_shape(file, name, SS_HDF5_F32, rank, stored, error));
    for (int32_t k = 0; k < rank; ++k)
      if (stored[k] != expected[k])
        return ss_fail(error, SS_ERROR_INPUT, "%s: array \"%s\" has size %lld in dimension %d, expected %lld",
                       ss_hdf5_path(file), name, (long long)stored[k], k, (long long)expected[k]);
  }
  SS_TRY(ss_hdf5_list(file, group, &names, &count, error));
  const char *next = names;
  for (int64_t k = 0; k < count && gpt_find_parameter(model, next) >= 0; ++k)
    next += strlen(next) + 1;
  ss_status status = SS_OK;
  if (count != model->n_parameter_tensor)
    status = ss_fail(error, SS_ERROR_INPUT,
                     "%s: group \"%s\" has %lld arrays (\"%.80s\" is unknown), expected %d",
                     ss_hdf5_path(file), group, (long long)count, next, model->n_parameter_tensor);
  free(names);
  return status;
}

static ss_status read_group(ss_hdf5 *file, const char *group, const gpt *model, float *flat, float *buffer,
                            ss_error *error) {
  char name[NAME_CAPACITY];
  for (int32_t index = 0; index < model->n_parameter_tensor; ++index) {
    const gpt_parameter *parameter = &model->table[index];
    int64_t dims[2];
    int32_t rank = parameter_shape(parameter, dims);
    SS_TRY(
        ss_hdf5_read_into(file, array_name(name, group, parameter), SS_HDF5_F32, rank, dims, buffer, error));
    SS_OP(model->device, error, upload, flat + parameter->offset, buffer,
          (size_t)(parameter->rows * parameter->cols) * sizeof(float));
  }
  return SS_OK;
}

static ss_status load_group(ss_hdf5 *file, const char *group, const gpt *model, float *flat,
                            ss_error *error) {
  float *buffer = NULL;
  SS_TRY(allocate_largest(model, &buffer, error));
  ss_status status = read_group(file, group, model, flat, buffer, error);
  free(buffer);
  return status;
}

// Checks the stored arrays against the stored configuration, with a table that owns no parameters.
static ss_status check_parameters(ss_hdf5 *file, const gpt_config *config, ss_error *error) {
  gpt table_only = {0};
  table_only.config = *config;
  if (config->vocab_size == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: model.vocab_size is 0", ss_hdf5_path(file));
  ss_status status = gpt_build_table(&table_only, error);
  if (status == SS_OK)
    status = check_group(file, GROUP_PARAMETERS, &table_only, error);
  free(table_only.table);
  free(table_only.blocks);
  return status;
}

static ss_status load_model(ss_hdf5 *file, ss_device *device, bool trainable, const char *vocabulary,
                            gpt **out, checkpoint_meta *meta, ss_error *error) {
  SS_TRY(read_meta(file, meta, error));
  if (vocabulary && strcmp(vocabulary, meta->vocabulary) != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: attribute \"vocabulary\" is another one than the data's, expected "
                   "the vocabulary that the model was trained with",
                   ss_hdf5_path(file));
  SS_TRY(check_parameters(file, &meta->model, error));
  gpt *model = NULL;
  SS_TRY(gpt_create(&model, device, &meta->model, trainable, error));
  ss_status status = load_group(file, GROUP_PARAMETERS, model, gpt_parameters(model), error);
  if (status != SS_OK)
    gpt_free(model);
  else
    *out = model;
  return status;
}

ss_status checkpoint_load_model(const char *path, ss_device *device, bool trainable, const char *vocabulary,
                                gpt **out, checkpoint_meta *meta, ss_error *error) {
  checkpoint_meta stored = checkpoint_meta_initial();
  ss_hdf5 *file = NULL;
  *out = NULL;
  SS_TRY(open_checkpoint(&file, path, error));
  ss_status status = load_model(file, device, trainable, vocabulary, out, &stored, error);
  ss_hdf5_close(file);
  if (status == SS_OK && meta)
    *meta = stored;
  else
    checkpoint_meta_free(&stored);
  return status;
}

// Refuses a stored configuration that differs from the model's in anything but its initialisation.
static ss_status check_config(ss_hdf5 *file, const gpt *model, ss_error *error) {
  gpt_config stored;
  SS_TRY(read_model_config(file, &stored, error));
  json_t *have = model_config_json(&stored), *want = model_config_json(&model->config), *value;
  ss_status status = have && want
                         ? SS_OK
                         : ss_fail(error, SS_ERROR_MEMORY, "the model's configuration: out of memory");
  const char *key;
  json_object_foreach(want, key, value) {
    const json_t *other = json_object_get(have, key);
    if (status != SS_OK || strcmp(key, "model.init_std") == 0 || json_equal(value, other))
      continue;
    char *have_text = json_dumps(other, JSON_ENCODE_ANY), *want_text = json_dumps(value, JSON_ENCODE_ANY);
    status = ss_fail(error, SS_ERROR_INPUT, "%s: %s is %s, expected %s", ss_hdf5_path(file), key,
                     have_text ? have_text : "absent", want_text ? want_text : "another value");
    free(have_text);
    free(want_text);
  }
  json_decref(have);
  json_decref(want);
  return status;
}

ss_status checkpoint_load_parameters(const char *path, gpt *model, ss_error *error) {
  ss_hdf5 *file = NULL;
  SS_TRY(open_checkpoint(&file, path, error));
  ss_status status = check_config(file, model, error);
  if (status == SS_OK)
    status = check_group(file, GROUP_PARAMETERS, model, error);
  if (status == SS_OK)
    status = load_group(file, GROUP_PARAMETERS, model, gpt_parameters(model), error);
  ss_hdf5_close(file);
  return status;
}

ss_status checkpoint_load_moments(const char *path, const gpt *model, float *first_moment,
                                  float *second_moment, ss_error *error) {
  ss_hdf5 *file = NULL;
  SS_TRY(open_checkpoint(&file, path, error));
  ss_status status = SS_OK;
  if (!ss_hdf5_has(file, GROUP_FIRST) || !ss_hdf5_has(file, GROUP_SECOND))
    status = ss_fail(error, SS_ERROR_INPUT,
                     "%s: group \"optimizer\" is missing: an exported model cannot go on "
                     "training where it stopped",
                     path);
  if (status == SS_OK)
    status = check_group(file, GROUP_FIRST, model, error);
  if (status == SS_OK)
    status = check_group(file, GROUP_SECOND, model, error);
  if (status == SS_OK)
    status = load_group(file, GROUP_FIRST, model, first_moment, error);
  if (status == SS_OK)
    status = load_group(file, GROUP_SECOND, model, second_moment, error);
  ss_hdf5_close(file);
  return status;
}
