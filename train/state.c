#include "train/state.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { COUNT, REAL, HASH } field_type;

typedef struct {
  const char *name;
  field_type type;
  size_t offset;
  bool optional;  // younger than the format: files without it keep the initial value
} field;

#define FIELD(type, name) \
  { #name, type, offsetof(train_state, name), false }
#define OPTIONAL_FIELD(type, name) \
  { #name, type, offsetof(train_state, name), true }

static const field fields[] = {
    FIELD(COUNT, step),
    FIELD(COUNT, reported_step),
    FIELD(COUNT, skipped),
    FIELD(COUNT, skipped_in_row),
    FIELD(COUNT, reader_position),
    FIELD(COUNT, examples),
    FIELD(COUNT, tokens),
    FIELD(COUNT, targets),
    FIELD(REAL, train_seconds),
    FIELD(REAL, train_loss),
    FIELD(REAL, train_accuracy),
    FIELD(REAL, validation_loss),
    FIELD(REAL, validation_accuracy),
    OPTIONAL_FIELD(REAL, validation_score),
    FIELD(REAL, gradient_norm),
    FIELD(REAL, learning_rate),
    FIELD(REAL, best_validation_loss),
    OPTIONAL_FIELD(REAL, best_validation_score),
    FIELD(COUNT, best_step),
    FIELD(COUNT, without_improvement),
    FIELD(REAL, interval_loss),
    FIELD(REAL, interval_seconds),
    FIELD(COUNT, interval_targets),
    FIELD(COUNT, interval_correct),
    FIELD(COUNT, interval_tokens),
    FIELD(COUNT, interval_attended_rows),
    FIELD(HASH, train_hash),
    FIELD(HASH, validation_hash),
};
#define N_FIELD (sizeof fields / sizeof *fields)

train_state train_state_initial(void) {
  train_state state;
  memset(&state, 0, sizeof state);
  state.train_loss = state.train_accuracy = NAN;
  state.validation_loss = state.validation_accuracy = state.validation_score = NAN;
  state.gradient_norm = state.learning_rate = NAN;
  state.best_validation_loss = INFINITY;
  state.best_validation_score = -INFINITY;
  state.best_step = -1;
  return state;
}

json_t *train_state_json(const train_state *state) {
  json_t *object = json_object();
  for (size_t i = 0; i < N_FIELD && object != NULL; i++) {
    const char *at = (const char *)state + fields[i].offset;
    char text[40];
    json_t *value = NULL;
    switch (fields[i].type) {
    case COUNT:
      value = json_integer((json_int_t) * (const int64_t *)at);
      break;
    case REAL:
      // As hexadecimal text: exact, and JSON has no word for NaN or infinity.
      snprintf(text, sizeof text, "%a", *(const double *)at);
      value = json_string(text);
      break;
    case HASH:
      snprintf(text, sizeof text, "%016" PRIx64, *(const uint64_t *)at);
      value = json_string(text);
      break;
    }
    if (json_object_set_new(object, fields[i].name, value) != 0) {
      json_decref(object);
      object = NULL;
    }
  }
  return object;
}

static bool parse(const field *field, const json_t *value, char *at) {
  const char *text = json_string_value(value);
  char *end = NULL;
  if (field->type == COUNT) {
    if (!json_is_integer(value))
      return false;
    *(int64_t *)at = (int64_t)json_integer_value(value);
    return true;
  }
  if (text == NULL || text[0] == '\0')
    return false;
  if (field->type == REAL)
    *(double *)at = strtod(text, &end);
  else
    *(uint64_t *)at = strtoull(text, &end, 16);
  return *end == '\0';
}

ss_status train_state_from_json(train_state *state, const json_t *json, const char *where, ss_error *error) {
  *state = train_state_initial();
  for (size_t i = 0; i < N_FIELD; i++) {
    const json_t *value = json_object_get(json, fields[i].name);
    if (value == NULL && fields[i].optional)
      continue;
    if (value == NULL || !parse(&fields[i], value, (char *)state + fields[i].offset))
      return ss_fail(error, SS_ERROR_INPUT, "%s: training state: field '%s' is %s", where, fields[i].name,
                     value == NULL ? "missing" : "malformed");
  }
  if (state->step < 0 || state->reported_step > state->step || state->reader_position < 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: training state: step %lld, reported %lld, reader %lld do not fit", where,
                   (long long)state->step, (long long)state->reported_step,
                   (long long)state->reader_position);
  return SS_OK;
}
