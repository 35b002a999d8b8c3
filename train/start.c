// Opening a run: inputs first, so that a wrong one leaves no trace, then the folder, the model and the reader.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "train/run.h"

void train_run_notice(const train_run *run, const char *format, ...) {
  if (run->request->notice == NULL)
    return;
  char message[1200];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  run->request->notice(run->request->notice_user, message);
}

static ss_status open_store(store **out, const char *folder, const char *name, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/%s", folder, name));
  ss_status status = SS_OK;
  if (!ss_file_exists(path))
    status = ss_fail(error, SS_ERROR_IO, "%s: no such file; train.data must name a dataset's folder", path);
  else
    status = store_open(out, path, true, error);
  free(path);
  return status;
}

static ss_status open_data(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  SS_TRY(open_store(&run->train_data, config->data, "train.h5", error));
  run->vocabulary = store_vocabulary(run->train_data);
  if (store_n_example(run->train_data) == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s/train.h5: holds no examples", config->data);
  run->state.train_hash = store_content_hash(run->train_data);
  if (config->validate_examples == 0 && config->generate_examples == 0)
    return SS_OK;
  SS_TRY(open_store(&run->validation_data, config->data, "validation.h5", error));
  run->state.validation_hash = store_content_hash(run->validation_data);
  if (vocabulary_hash(store_vocabulary(run->validation_data)) != vocabulary_hash(run->vocabulary))
    return ss_fail(error, SS_ERROR_INPUT, "%s: train.h5 and validation.h5 have different vocabularies",
                   config->data);
  return SS_OK;
}

static reader_options training_options(const train_run *run) {
  const train_config *config = run->config;
  reader_options options;
  memset(&options, 0, sizeof options);
  options.arm = (arm)config->arm;
  options.policy = *run->request->policy;
  options.n_row = (int32_t)config->batch_rows;
  options.row_tokens = (int32_t)config->row_tokens;
  options.examples_a_batch = (int32_t)config->batch_examples;
  options.seed = (uint64_t)config->seed;
  options.shuffle = true;
  options.random_anchor_offset = config->random_anchor_offset;
  return options;
}

static ss_status write_config(const train_run *run, ss_error *error) {
  char *text = json_dumps(run->resolved, JSON_INDENT(2));
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the configuration");
  size_t size = strlen(text);
  text[size] = '\n';  // in the place of the terminator
  const char *path = train_folder_config(run->folder);
  ss_status status = ss_write_file(path, text, size + 1, error);
  free(text);
  return status;
}

// AdamW moves every row of the embedding by about the learning rate, however small its gradient.
ss_status train_optimizer_start(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  SS_TRY(optimizer_create(&run->optimizer, run->model, config->weight_decay, config->beta1, config->beta2,
                          config->epsilon, error));
  const gpt_parameter *wte = &gpt_parameter_table(run->model)[gpt_find_parameter(run->model, "wte")];
  int64_t text_end = wte->offset + vocabulary_n_text(run->vocabulary) * wte->cols;
  int64_t wte_end = wte->offset + wte->rows * wte->cols;
  if (config->learn != TRAIN_LEARN_ALL)
    SS_TRY(optimizer_set_rate(run->optimizer, wte->offset, text_end, 0, error));
  if (config->learn == TRAIN_LEARN_SPAN_TOKENS) {
    SS_TRY(optimizer_set_rate(run->optimizer, 0, wte->offset, 0, error));
    SS_TRY(optimizer_set_rate(run->optimizer, wte_end, gpt_n_parameter(run->model), 0, error));
  }
  SS_TRY(optimizer_set_rate(run->optimizer, text_end, wte_end, config->span_tokens_rate, error));
  return SS_OK;
}

static ss_status open_model(train_run *run, ss_error *error) {
  bool found = false;
  if (run->request->resume)
    SS_TRY(train_checkpoint_resume(run, &found, error));
  if (found)
    return SS_OK;
  SS_TRY(train_model_start(run, error));
  // Only now is it certain that a new run can begin, so only now may an old one go.
  SS_TRY(train_folder_clear(run->folder, error));
  return train_optimizer_start(run, error);
}

// Overwriting a run folder empties it: a base inside would be gone before it is read.
static ss_status refuse_own_base(const train_config *config, ss_error *error) {
  char *base = config->base[0] == '\0' ? NULL : realpath(config->base, NULL);
  char *out = realpath(config->out, NULL);
  size_t n = out == NULL ? 0 : strlen(out);
  bool inside = base != NULL && out != NULL && strncmp(base, out, n) == 0 && base[n] == '/';
  free(base);
  free(out);
  return inside ? ss_fail(error, SS_ERROR_USAGE,
                          "train.base %s lies in the run folder %s, which --force empties; copy it "
                          "elsewhere first",
                          config->base, config->out)
                : SS_OK;
}

// Says what the run will take, and on a device of its own memory takes it, so that too large a batch fails now.
static ss_status plan_memory(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  ss_device *device = run->request->device;
  gpt_set_recompute(run->model, config->recompute);
  int64_t n_row = config->batch_rows * config->row_tokens;
  if (config->batch_examples > 0)
    n_row = config->batch_examples * store_longest(run->train_data);
  size_t available = 0, total = 0;
  SS_OP(device, error, memory_free, &available, &total);
  size_t fixed = gpt_parameter_bytes(run->model) + optimizer_bytes(run->optimizer);
  size_t activations = gpt_activation_bytes(gpt_get_config(run->model), device->compute, config->recompute,
                                            true, n_row);
  run->described = strlen(device->description);
  if (!run->request->quiet)
    train_run_notice(run,
                     "%s: parameters and optimizer %.3f GB, activations of at most %lld tokens %.3f GB, "
                     "%.3f GB free",
                     device->description, 1e-9 * (double)fixed, (long long)n_row, 1e-9 * (double)activations,
                     1e-9 * (double)available);
  if (device->synchronous || config->batch_examples > 0)
    return SS_OK;
  return gpt_reserve(run->model, n_row, true, error);
}

ss_status train_run_open(train_run *run, const train_request *request, ss_error *error) {
  memset(run, 0, sizeof *run);
  run->request = request;
  run->config = request->config;
  run->state = train_state_initial();
  run->saved_step = -1;
  SS_TRY(train_config_check(run->config, error));
  run->resolved = json_deep_copy(request->resolved);
  if (run->resolved == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the configuration");
  SS_TRY(open_data(run, error));
  reader_options options = training_options(run);
  SS_TRY(reader_open(&run->reader, run->train_data, &options, error));
  if (run->config->validate_examples > 0)
    SS_TRY(validator_create(&run->validator, run->validation_data, &options, run->config->validate_examples,
                            error));
  if (request->overwrite)
    SS_TRY(refuse_own_base(run->config, error));
  train_folder_use use = request->resume      ? TRAIN_FOLDER_RESUME
                         : request->overwrite ? TRAIN_FOLDER_OVERWRITE
                                              : TRAIN_FOLDER_NEW;
  SS_TRY(train_folder_open(&run->folder, run->config->out, use, error));
  SS_TRY(open_model(run, error));
  SS_TRY(plan_memory(run, error));
  if (run->state.reader_position > 0)
    SS_TRY(reader_seek(run->reader, run->state.reader_position, error));
  SS_TRY(write_config(run, error));
  int64_t last_row = run->state.step > 0 ? run->state.reported_step : -1;
  return metrics_open(&run->metrics, train_folder_metrics(run->folder), last_row, error);
}

void train_run_close(train_run *run) {
  metrics_close(run->metrics);
  validator_free(run->validator);
  if (run->reader != NULL)
    reader_close(run->reader);
  train_feed_free(&run->feed);
  optimizer_free(run->optimizer);
  if (run->model != NULL)
    gpt_free(run->model);
  train_folder_close(run->folder);
  if (run->validation_data != NULL)
    store_close(run->validation_data);
  if (run->train_data != NULL)
    store_close(run->train_data);
  json_decref(run->resolved);
}
