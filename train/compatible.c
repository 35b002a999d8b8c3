// Whether configurations fit together: a resumed run's with its checkpoint's, and model.* with the base's shape.
#include <stdlib.h>
#include <string.h>

#include "data/span_keys.h"
#include "train/run.h"

static bool has_prefix(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

// A value as the message shows it.
static void show(const json_t *value, char out[80]) {
  char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
  snprintf(out, 80, "%s", text == NULL ? "absent" : text);
  free(text);
}

static ss_status refuse(const char *path, const char *key, const json_t *now, const json_t *then,
                        ss_error *error) {
  char here[80], there[80];
  show(now, here);
  show(then, there);
  return ss_fail(error, SS_ERROR_USAGE, "%s: cannot resume: %s is %s now, the run was started with %s", path,
                 key, here, there);
}

static ss_status compare_configs(const train_run *run, const json_t *stored, const json_t *defaults,
                                 const char *path, ss_error *error) {
  bool spans = run->config->arm == ARM_SPAN;
  const char *key;
  json_t *value;
  json_object_foreach(run->resolved, key, value) {
    bool matters = has_prefix(key, "train.")  ? !train_key_may_change(run->config, key)
                   : has_prefix(key, "span.") ? spans
                                              : false;
    const json_t *then = json_object_get(stored, key);
    // A run from before the key was there did what the default does.
    then = then != NULL ? then : json_object_get(defaults, key);
    if (matters && !json_equal(value, then))
      return refuse(path, key, value, then, error);
  }
  return SS_OK;
}

ss_status train_config_continues(const train_run *run, const json_t *stored, const char *path,
                                 ss_error *error) {
  train_config train;
  span_keys span;
  ss_key_group groups[] = {{train_config_keys, &train}, {span_policy_keys, &span}, {NULL, NULL}};
  SS_TRY(ss_config_defaults(groups, error));
  json_t *defaults = ss_config_json(groups);
  if (defaults == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the configuration");
  ss_status status = compare_configs(run, stored, defaults, path, error);
  json_decref(defaults);
  return status;
}

static json_t *shape_json(gpt_config *config) {
  ss_key_group groups[] = {{gpt_config_keys, config}, {NULL, NULL}};
  return ss_config_json(groups);
}

static ss_status compare_shapes(json_t *asked, json_t *initial, json_t *actual, const char *path,
                                ss_error *error) {
  const char *key;
  json_t *value;
  if (asked == NULL || initial == NULL || actual == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the model's configuration");
  json_object_foreach(asked, key, value) {
    const json_t *has = json_object_get(actual, key);
    if (json_equal(value, has) || json_equal(value, json_object_get(initial, key)))
      continue;
    char want[80], got[80];
    show(value, want);
    show(has, got);
    return ss_fail(error, SS_ERROR_USAGE, "%s: has %s = %s, the configuration asks for %s", path, key, got,
                   want);
  }
  return SS_OK;
}

ss_status train_shape_fits(const train_run *run, const gpt_config *actual, const char *path,
                           ss_error *error) {
  gpt_config asked = *run->request->model, initial, has = *actual;
  ss_key_group groups[] = {{gpt_config_keys, &initial}, {NULL, NULL}};
  memset(&initial, 0, sizeof initial);
  SS_TRY(ss_config_defaults(groups, error));
  if (run->config->base[0] == '\0') {
    // Without a base the shape is asked for in full, defaults included.
    asked.vocab_size = asked.vocab_size == 0 ? has.vocab_size : asked.vocab_size;
    SS_TRY(gpt_config_resolve(&asked, error));
    initial = has;
  }
  json_t *asked_json = shape_json(&asked), *initial_json = shape_json(&initial), *has_json = shape_json(&has);
  ss_status status = compare_shapes(asked_json, initial_json, has_json, path, error);
  json_decref(asked_json);
  json_decref(initial_json);
  json_decref(has_json);
  return status;
}

ss_status train_shape_record(train_run *run, const gpt_config *actual, ss_error *error) {
  gpt_config shape = *actual;
  json_t *json = shape_json(&shape);
  int failed = json == NULL || json_object_update(run->resolved, json) != 0;
  json_decref(json);
  return failed ? ss_fail(error, SS_ERROR_MEMORY, "out of memory for the model's configuration") : SS_OK;
}
