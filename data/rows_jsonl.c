#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/rows_private.h"

// A string, or an array of strings joined by newlines, into the buffer of the field.
static ss_status take_value(rows_scratch *scratch, rows_row *out, int32_t field, const char *name,
                            const json_t *value, ss_error *problem) {
  if (json_is_string(value))
    return rows_take(scratch, out, field, json_string_value(value), (int64_t)json_string_length(value),
                     problem);
  bool strings = json_is_array(value);
  for (size_t k = 0; strings && k < json_array_size(value); k++)
    strings = json_is_string(json_array_get(value, k));
  if (!strings)
    return ss_fail(problem, SS_ERROR_INPUT, "field \"%s\", expected a string or an array of strings", name);
  rows_buffer *buffer = &scratch->values[field];
  SS_TRY(rows_buffer_set(buffer, "", 0, problem));
  for (size_t k = 0; k < json_array_size(value); k++) {
    const json_t *item = json_array_get(value, k);
    if (k > 0)
      SS_TRY(rows_buffer_add(buffer, "\n", 1, problem));
    SS_TRY(rows_buffer_add(buffer, json_string_value(item), (int64_t)json_string_length(item), problem));
  }
  out->values[field] = buffer->data;
  out->lengths[field] = buffer->n;
  return SS_OK;
}

static ss_status take_id(rows_scratch *scratch, const char *name, const json_t *value, ss_error *problem) {
  char digits[32];
  scratch->id.n = 0;
  if (json_is_null(value) || value == NULL)
    return SS_OK;
  if (json_is_string(value))
    return rows_buffer_set(&scratch->id, json_string_value(value), (int64_t)json_string_length(value),
                           problem);
  if (!json_is_integer(value))
    return ss_fail(problem, SS_ERROR_INPUT, "field \"%s\", expected a string or an integer", name);
  snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(value));
  return rows_buffer_set(&scratch->id, digits, (int64_t)strlen(digits), problem);
}

ss_status rows_jsonl_parse(const rows *source, rows_scratch *scratch, const char *text, int64_t n,
                           rows_row *out, ss_error *problem) {
  json_error_t detail;
  json_decref(scratch->json);
  scratch->json = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &detail);
  if (scratch->json == NULL && json_error_code(&detail) == json_error_out_of_memory)
    return ss_fail(problem, SS_ERROR_MEMORY, "no memory for a row of %lld bytes", (long long)n);
  if (scratch->json == NULL) {
    rows_tame(detail.text);
    return ss_fail(problem, SS_ERROR_INPUT, "no JSON: %s (byte %d), expected one object a line", detail.text,
                   detail.position);
  }
  if (!json_is_object(scratch->json))
    return ss_fail(problem, SS_ERROR_INPUT, "expected a JSON object");
  for (int32_t f = 0; f < source->options.n_field; f++) {
    const json_t *value = json_object_get(scratch->json, source->fields[f].name);
    out->lengths[f] = -1;
    if (value != NULL && !json_is_null(value))
      SS_TRY(take_value(scratch, out, f, source->fields[f].name, value, problem));
  }
  scratch->id.n = 0;
  if (source->options.id != NULL)
    SS_TRY(take_id(scratch, source->options.id, json_object_get(scratch->json, source->options.id), problem));
  out->json = scratch->json;
  return SS_OK;
}
