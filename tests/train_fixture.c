#include "train_fixture.h"

#include <dirent.h>

#include "dataset_fixture.h"

// --- a device that misbehaves ------------------------------------------------------------------------------

// The ops table has no room for a user pointer, so the sabotage of the one open fixture is found here.
static train_sabotage *active;
static const ss_ops *true_ops;

static ss_status sabotaged_loss(ss_device *device, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                                ss_tensor dwte, ss_tensor h, ss_tensor wte, ss_tensor targets,
                                ss_tensor target_rows, float scale) {
  ss_status status = true_ops->classifier_loss(device, losses, correct, dh, dwte, h, wte, targets,
                                               target_rows, scale);
  if (dh.data == NULL)  // validation
    return status;
  train_sabotage *s = active;
  s->calls++;
  if (s->calls >= s->nan_first && s->calls <= s->nan_last && s->nan_first > 0) {
    if (s->nan_gradient) {
      ((float *)dh.data)[0] = INFINITY;
    } else {
      for (int64_t i = 0; i < losses.rows * losses.cols; i++)
        ((float *)losses.data)[i] = NAN;
    }
  }
  if (s->calls == s->stop_at)
    s->stop = 1;
  return status;
}

// --- a run -------------------------------------------------------------------------------------------------

void train_fixture_open(train_fixture *fixture, const char *name, int64_t steps, int threads) {
  ss_error error = {0};
  char path[2 * TEST_PATH];
  memset(fixture, 0, sizeof *fixture);
  test_path(fixture->data, "set");
  test_path(fixture->out, name);
  snprintf(path, sizeof path, "%s/train.h5", fixture->data);
  if (!ss_file_exists(path)) {
    assert_ok(ss_make_directories(fixture->data, &error));
    fixture_write(path, 1, 60);
    snprintf(path, sizeof path, "%s/validation.h5", fixture->data);
    fixture_write(path, 2, 12);
  }
  ss_key_group groups[] = {{train_config_keys, &fixture->config},
                           {gpt_config_keys, &fixture->model},
                           {span_policy_keys, &fixture->span},
                           {NULL, NULL}};
  assert_ok(ss_config_defaults(groups, &error));
  train_config *config = &fixture->config;
  assert_true(strlen(fixture->data) < sizeof config->data && strlen(fixture->out) < sizeof config->out);
  memcpy(config->data, fixture->data, strlen(fixture->data) + 1);
  memcpy(config->out, fixture->out, strlen(fixture->out) + 1);
  config->batch_rows = 2;
  config->row_tokens = 256;
  config->batch_examples = 3;
  config->accumulate = 2;
  config->steps = steps;
  config->warmup = 2;
  config->learning_rate = 1e-2;
  config->validate_every = 4;
  config->validate_examples = 8;
  config->generate_examples = 4;
  config->checkpoint_every = 3;
  config->log_every = 2;
  fixture->model.n_layer = 1;
  fixture->model.n_head = 2;
  fixture->model.n_embd = 16;
  fixture->model.n_positions = 256;
  assert_ok(ss_device_open(&fixture->device, "cpu", &(ss_device_options){.n_thread = threads}, &error));
  static ss_ops ops;
  true_ops = fixture->device->ops;
  ops = *true_ops;
  ops.classifier_loss = sabotaged_loss;
  fixture->device->ops = &ops;
}

void train_fixture_close(train_fixture *fixture) {
  fixture->device->ops = true_ops;
  ss_device_close(fixture->device);
  fixture->device = NULL;
}

// The accuracy, and the score unless given, is a function of the weights: a resumed run must find the same.
static ss_status score(void *user, gpt *model, train_generated *found, ss_error *error) {
  train_fixture *fixture = user;
  fixture->scored++;
  if (fixture->scored == fixture->stop_at_score)
    fixture->sabotage.stop = 1;
  if (fixture->scored == fixture->interrupt_at) {
    fixture->sabotage.stop = 1;
    return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted while scoring");
  }
  float first = 0;
  assert_int_equal(fixture->device->ops->download(fixture->device, &first, gpt_parameters(model),
                                                  sizeof first),
                   SS_OK);
  found->accuracy = fabs(first);
  found->score = fixture->scores != NULL ? fixture->scores[fixture->scored - 1] : -fabs(first);
  found->items = 4;
  return SS_OK;
}

static void note(void *user, const char *message) {
  train_fixture *fixture = user;
  size_t used = strlen(fixture->notices);
  snprintf(fixture->notices + used, sizeof fixture->notices - used, "%s\n", message);
}

ss_status train_fixture_run(train_fixture *fixture, train_outcome *outcome, ss_error *error) {
  ss_key_group groups[] = {{train_config_keys, &fixture->config},
                           {gpt_config_keys, &fixture->model},
                           {span_policy_keys, &fixture->span},
                           {NULL, NULL}};
  span_policy policy = span_keys_policy(&fixture->span);
  json_t *resolved = ss_config_json(groups);
  for (const char *const *key = fixture->unknown; key != NULL && *key != NULL; key++)
    assert_int_equal(json_object_del(resolved, *key), 0);
  train_request request = {.config = &fixture->config,
                           .model = &fixture->model,
                           .policy = &policy,
                           .resolved = resolved,
                           .device = fixture->device,
                           .resume = fixture->resume,
                           .overwrite = fixture->overwrite,
                           .quiet = true,
                           .stop = &fixture->sabotage.stop,
                           .generate_score = score,
                           .generate_user = fixture,
                           .notice = note,
                           .notice_user = fixture};
  active = &fixture->sabotage;
  fixture->sabotage.calls = 0;
  fixture->sabotage.stop = 0;
  fixture->scored = 0;
  fixture->notices[0] = '\0';
  ss_status status = trainer_run(&request, outcome, error);
  json_decref(resolved);
  return status;
}

void train_fixture_finish(train_fixture *fixture, train_outcome *outcome) {
  ss_error error = {0};
  assert_ok(train_fixture_run(fixture, outcome, &error));
  assert_int_equal(outcome->steps, fixture->config.steps);
  assert_int_equal(strlen(outcome->parameters_hash), 32);
}

const char *train_fixture_path(const train_fixture *fixture, const char *name, char path[2 * TEST_PATH]) {
  snprintf(path, 2 * TEST_PATH, "%s/%s", fixture->out, name);
  return path;
}

char *train_fixture_metrics(const train_fixture *fixture) {
  ss_error error = {0};
  char path[2 * TEST_PATH], *text = NULL;
  size_t size = 0;
  assert_ok(ss_read_file(train_fixture_path(fixture, "metrics.csv", path), &text, &size, &error));
  // Columns 9 and 10, counted from 0, are seconds and tokens_per_second.
  size_t kept = 0;
  int column = 0;
  for (size_t i = 0; i < size; i++) {
    if (column != 9 && column != 10)
      text[kept++] = text[i];
    column = text[i] == '\n' ? 0 : column + (text[i] == ',');
  }
  text[kept] = '\0';
  return text;
}

int train_fixture_checkpoints(const train_fixture *fixture) {
  char path[2 * TEST_PATH];
  DIR *folder = opendir(train_fixture_path(fixture, "checkpoints", path));
  assert_non_null(folder);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    size_t length = strlen(entry->d_name);
    count += length > 3 && strcmp(entry->d_name + length - 3, ".h5") == 0;
    assert_null(strstr(entry->d_name, ".tmp-"));
  }
  closedir(folder);
  return count;
}
