// One JSON row -> one example.
#include <stdlib.h>
#include <string.h>

#include "data/tasks/jsonl.h"

#define N_KIND 3

const char *jsonl_kind_name(int32_t kind) {
  static const char *const names[N_KIND] = {"context", "step", "answer"};
  return kind >= 0 && kind < N_KIND ? names[kind] : "unknown";
}

static ss_status check_fields(const json_t *object, const char *const *known, ss_error *error) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) {
    bool found = false;
    for (const char *const *name = known; *name != NULL; name++)
      found = found || strcmp(*name, key) == 0;
    if (!found)
      return ss_fail(error, SS_ERROR_INPUT, "unknown field \"%.64s\"", key);
  }
  return SS_OK;
}

static ss_status string_field(const json_t *object, const char *name, const char **out, size_t *n,
                              ss_error *error) {
  const json_t *value = json_object_get(object, name);
  if (value == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "field \"%s\" is missing", name);
  if (!json_is_string(value))
    return ss_fail(error, SS_ERROR_INPUT, "field \"%s\", expected a string", name);
  *out = json_string_value(value);
  *n = json_string_length(value);
  return SS_OK;
}

// An array field, or NULL when it may be absent and is.
static ss_status array_field(const json_t *object, const char *name, bool required, json_t **out,
                             ss_error *error) {
  *out = json_object_get(object, name);
  if (*out == NULL && required)
    return ss_fail(error, SS_ERROR_INPUT, "field \"%s\" is missing", name);
  if (*out != NULL && !json_is_array(*out))
    return ss_fail(error, SS_ERROR_INPUT, "field \"%s\", expected an array", name);
  return SS_OK;
}

static ss_status take_segment(const json_t *segment, size_t index, example *out, ss_error *error) {
  static const char *const known[] = {"kind", "text", "references", NULL};
  const char *kind_name = NULL, *text = NULL;
  size_t n_kind = 0, n_text = 0;
  json_t *references = NULL, *reference;
  if (!json_is_object(segment))
    return ss_fail(error, SS_ERROR_INPUT, "segment %zu, expected an object", index);
  SS_TRY(check_fields(segment, known, error));
  SS_TRY(string_field(segment, "kind", &kind_name, &n_kind, error));
  SS_TRY(string_field(segment, "text", &text, &n_text, error));
  SS_TRY(array_field(segment, "references", false, &references, error));
  int32_t kind = 0;
  while (kind < N_KIND && strcmp(kind_name, jsonl_kind_name(kind)) != 0)
    kind++;
  if (kind == N_KIND)
    return ss_fail(error, SS_ERROR_INPUT, "segment %zu: kind \"%.64s\", expected context, step or answer",
                   index, kind_name);
  SS_TRY(example_segment_add(out, kind, text, (int64_t)n_text, error));
  size_t k;
  json_array_foreach(references, k, reference) {
    json_int_t value = json_integer_value(reference);
    if (!json_is_integer(reference) || value < 0 || value > INT32_MAX)
      return ss_fail(error, SS_ERROR_INPUT, "segment %zu: reference %zu, expected the index of a segment",
                     index, k);
    SS_TRY(example_reference_add(out, (int32_t)value, error));
  }
  return SS_OK;
}

static ss_status take_extras(const json_t *row, example *out, ss_error *error) {
  json_t *answers = NULL, *answer;
  size_t k;
  SS_TRY(array_field(row, "answers", false, &answers, error));
  json_array_foreach(answers, k, answer) {
    if (!json_is_string(answer))
      return ss_fail(error, SS_ERROR_INPUT, "answer %zu, expected a string", k);
    SS_TRY(example_answer_add(out, json_string_value(answer), error));
  }
  const json_t *meta = json_object_get(row, "meta");
  if (meta == NULL)
    return example_meta_set(out, "{}", error);
  if (!json_is_object(meta))
    return ss_fail(error, SS_ERROR_INPUT, "field \"meta\", expected an object");
  char *text = json_dumps(meta, JSON_COMPACT);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory");
  ss_status status = example_meta_set(out, text, error);
  free(text);
  return status;
}

ss_status jsonl_take_row(const json_t *row, example *out, data_split *split, ss_error *error) {
  static const char *const known[] = {"id", "split", "segments", "answers", "meta", NULL};
  const char *id = NULL, *split_name = NULL;
  size_t n_id = 0, n_split = 0, k;
  json_t *segments = NULL, *segment;
  if (!json_is_object(row))
    return ss_fail(error, SS_ERROR_INPUT, "expected a JSON object");
  SS_TRY(check_fields(row, known, error));
  SS_TRY(string_field(row, "id", &id, &n_id, error));
  SS_TRY(string_field(row, "split", &split_name, &n_split, error));
  SS_TRY(array_field(row, "segments", true, &segments, error));
  if (n_id == 0 || n_id >= sizeof out->id)
    return ss_fail(error, SS_ERROR_INPUT, "an id of %zu bytes, expected 1 to %zu", n_id, sizeof out->id - 1);
  int found = 0;
  while (found < DATA_N_SPLIT && strcmp(split_name, data_split_name((data_split)found)) != 0)
    found++;
  if (found == DATA_N_SPLIT)
    return ss_fail(error, SS_ERROR_INPUT, "split \"%.64s\", expected train, validation or test", split_name);
  *split = (data_split)found;
  example_reset(out, id);
  json_array_foreach(segments, k, segment) SS_TRY(take_segment(segment, k, out, error));
  SS_TRY(take_extras(row, out, error));
  return example_finish(out, error);
}

ss_status jsonl_parse_row(const char *text, int64_t n, const char *where, example *out, data_split *split,
                          ss_error *error) {
  json_error_t problem;
  json_t *row = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &problem);
  if (row == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: no JSON at byte %d: %s", where, problem.position,
                   problem.text);
  ss_status status = jsonl_take_row(row, out, split, error);
  json_decref(row);
  return status == SS_OK ? SS_OK : ss_error_context(error, "%s", where);
}
