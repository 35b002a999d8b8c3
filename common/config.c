#include "common/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/config_key.h"
#include "common/memory.h"

#define WIDEST_INTEGER 9007199254740992.0  // 2^53: doubles hold the bounds exactly up to here

const ss_key *ss_config_find(const ss_key_group *groups, const char *name, void **field, int *index) {
  int position = 0;
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++, position++)
      if (strcmp(key->name, name) == 0) {
        *field = (char *)group->target + key->offset;
        *index = position;
        return key;
      }
  return NULL;
}

bool ss_config_is_section(const ss_key_group *groups, const char *prefix) {
  size_t length = strlen(prefix);
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++)
      if (strncmp(key->name, prefix, length) == 0 && key->name[length] == '.')
        return true;
  return false;
}

static int key_count(const ss_key_group *groups) {
  int count = 0;
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++)
      count++;
  return count;
}

// The key that was probably meant: the same last component elsewhere, else the nearest spelling.
static const char *likely_key(const ss_key_group *groups, const char *name, const char **names) {
  int count = 0;
  const char *dot = strrchr(name, '.');
  const char *leaf = dot == NULL ? name : dot + 1, *same_leaf = NULL;
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++) {
      names[count++] = key->name;
      const char *key_dot = strrchr(key->name, '.');
      if (key_dot != NULL && strcmp(key_dot + 1, leaf) == 0)
        same_leaf = key->name;
    }
  const char *nearest = ss_nearest(name, names, count);
  return nearest != NULL ? nearest : same_leaf;
}

ss_status ss_config_unknown(const ss_key_group *groups, const char *name, const char *where,
                            ss_error *error) {
  const char **names = NULL;
  SS_TRY(ss_allocate(&names, key_count(groups), sizeof *names, "key names", error));
  const char *likely = likely_key(groups, name, names);
  if (likely != NULL)
    ss_fail(error, SS_ERROR_USAGE, "%s: unknown key '%s'; did you mean '%s'?", where, name, likely);
  else
    ss_fail(error, SS_ERROR_USAGE, "%s: unknown key '%s'; --help lists the keys", where, name);
  free(names);
  return SS_ERROR_USAGE;
}

static void format_bound(char *out, size_t size, double bound) {
  if (fabs(bound) < WIDEST_INTEGER && bound == floor(bound) && fabs(bound) < 1e15)
    snprintf(out, size, "%lld", (long long)bound);
  else
    snprintf(out, size, "%g", bound);
}

static void format_range(const ss_key *key, char *out, size_t size) {
  out[0] = '\0';
  if (key->low > key->high)
    return;
  char low[32], high[32];
  format_bound(low, sizeof low, key->low);
  format_bound(high, sizeof high, key->high);
  snprintf(out, size, "[%s, %s]", low, high);
}

void ss_config_expectation(const ss_key *key, char *out, size_t size) {
  char range[80];
  format_range(key, range, sizeof range);
  const char *in = range[0] == '\0' ? "" : " in ";
  switch (key->type) {
  case SS_KEY_INT:
    snprintf(out, size, "an integer%s%s", in, range);
    return;
  case SS_KEY_REAL:
    snprintf(out, size, "a number%s%s", in, range);
    return;
  case SS_KEY_BOOL:
    snprintf(out, size, "true or false");
    return;
  case SS_KEY_CHOICE:
    snprintf(out, size, "one of %s", key->choices);
    return;
  case SS_KEY_STRING:
    snprintf(out, size, "text of at most %d bytes", SS_CONFIG_STRING - 1);
    return;
  }
}

// Field widths keep hostile values from pushing the expectation out of the message.
static ss_status refuse(const ss_key *key, const char *text, bool quoted, const char *where,
                        ss_error *error) {
  char expected[256];
  ss_config_expectation(key, expected, sizeof expected);
  if (text[0] == '\0' && !quoted)
    return ss_fail(error, SS_ERROR_USAGE, "%s: %s: no value, expected %s", where, key->name, expected);
  const char *mark = quoted ? "\"" : "'";
  return ss_fail(error, SS_ERROR_USAGE, "%s: %s: %s%.120s%s is not %s", where, key->name, mark, text, mark,
                 expected);
}

static int choice_index(const char *choices, const char *text) {
  size_t length = strlen(text);
  int index = 0;
  for (const char *start = choices;; index++) {
    size_t width = strcspn(start, "|");
    if (width == length && strncmp(start, text, length) == 0)
      return index;
    if (start[width] == '\0')
      return -1;
    start += width + 1;
  }
}

static const char *choice_text(const char *choices, int index, int *width) {
  const char *start = choices;
  for (; index > 0; index--) {
    start += strcspn(start, "|");
    if (*start == '|')
      start++;
  }
  *width = (int)strcspn(start, "|");
  return start;
}

static bool parse_bool(const char *text, bool *out) {
  static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
  for (int i = 0; i < 3; i++) {
    if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
      *out = strcmp(text, yes[i]) == 0;
      return true;
    }
  }
  return false;
}

static bool is_utf8(const char *text) {
  json_t *string = json_string(text);
  json_decref(string);
  return string != NULL;
}

ss_status ss_config_assign(const ss_key *key, void *field, const char *text, bool quoted, const char *where,
                           ss_error *error) {
  bool bounded = key->low <= key->high, valid = false;
  switch (key->type) {
  case SS_KEY_INT: {
    int64_t value = 0;
    valid = !quoted && ss_parse_int(text, INT64_MIN, INT64_MAX, &value, key->name, NULL) == SS_OK &&
            (!bounded || ((double)value >= key->low && (double)value <= key->high));
    if (valid)
      *(int64_t *)field = value;
    break;
  }
  case SS_KEY_REAL: {
    double value = 0;
    valid = !quoted && ss_parse_real(text, -INFINITY, INFINITY, &value, key->name, NULL) == SS_OK &&
            (!bounded || (value >= key->low && value <= key->high));
    if (valid)
      *(double *)field = value;
    break;
  }
  case SS_KEY_BOOL:
    valid = !quoted && parse_bool(text, (bool *)field);
    break;
  case SS_KEY_CHOICE: {
    int index = choice_index(key->choices, text);
    valid = index >= 0;
    if (valid)
      *(int *)field = index;
    break;
  }
  case SS_KEY_STRING:
    valid = strlen(text) < SS_CONFIG_STRING && is_utf8(text);
    if (valid) {
      memset(field, 0, SS_CONFIG_STRING);  // so that equal configs are equal bytes
      memcpy(field, text, strlen(text));
    }
    break;
  }
  return valid ? SS_OK : refuse(key, text, quoted, where, error);
}

ss_status ss_config_defaults(const ss_key_group *groups, ss_error *error) {
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++)
      SS_TRY(
          ss_config_assign(key, (char *)group->target + key->offset, key->initial, false, "defaults", error));
  return SS_OK;
}

ss_status ss_config_set(const ss_key_group *groups, const char *assignment, const char *where,
                        ss_error *error) {
  const char *equals = strchr(assignment, '=');
  if (equals == NULL || equals == assignment)
    return ss_fail(error, SS_ERROR_USAGE, "%s: '%.120s' is not KEY=VALUE", where, assignment);
  char *name = NULL;
  SS_TRY(ss_format(&name, error, "%.*s", (int)(equals - assignment), assignment));
  void *field = NULL;
  int index = 0;
  const ss_key *key = ss_config_find(groups, name, &field, &index);
  ss_status status = key == NULL ? ss_config_unknown(groups, name, where, error)
                                 : ss_config_assign(key, field, equals + 1, false, where, error);
  free(name);
  return status;
}

static json_t *value_json(const ss_key *key, const void *field) {
  int width = 0;
  switch (key->type) {
  case SS_KEY_INT:
    return json_integer(*(const int64_t *)field);
  case SS_KEY_REAL:
    return json_real(*(const double *)field);
  case SS_KEY_BOOL:
    return json_boolean(*(const bool *)field);
  case SS_KEY_CHOICE: {
    const char *text = choice_text(key->choices, *(const int *)field, &width);
    return json_stringn(text, (size_t)width);
  }
  case SS_KEY_STRING:
    return json_string(field);
  }
  return NULL;
}

json_t *ss_config_json(const ss_key_group *groups) {
  json_t *object = json_object();
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++) {
      json_t *value = value_json(key, (const char *)group->target + key->offset);
      if (object == NULL || json_object_set_new(object, key->name, value) != 0) {
        json_decref(object);
        return NULL;
      }
    }
  return object;
}

static ss_status assign_json(const ss_key *key, void *field, const json_t *value, const char *where,
                             ss_error *error) {
  char number[64];
  switch (json_typeof(value)) {
  case JSON_STRING: {
    bool text_key = key->type == SS_KEY_STRING || key->type == SS_KEY_CHOICE;
    return ss_config_assign(key, field, json_string_value(value), !text_key, where, error);
  }
  case JSON_INTEGER:
    snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    return ss_config_assign(key, field, number, false, where, error);
  case JSON_REAL:
    snprintf(number, sizeof number, "%.17g", json_real_value(value));
    return ss_config_assign(key, field, number, false, where, error);
  case JSON_TRUE:
    return ss_config_assign(key, field, "true", false, where, error);
  case JSON_FALSE:
    return ss_config_assign(key, field, "false", false, where, error);
  default:
    return refuse(key, json_is_null(value) ? "null" : "a nested value", false, where, error);
  }
}

ss_status ss_config_from_json(const ss_key_group *groups, const json_t *object, const char *where,
                              ss_error *error) {
  if (!json_is_object(object))
    return ss_fail(error, SS_ERROR_INPUT, "%s: the configuration is not a JSON object", where);
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)object, name, value) {
    void *field = NULL;
    int index = 0;
    const ss_key *key = ss_config_find(groups, name, &field, &index);
    if (key == NULL)
      return ss_config_unknown(groups, name, where, error);
    SS_TRY(assign_json(key, field, value, where, error));
  }
  return SS_OK;
}

// "integer [1, 64]", "real", "adamw|sgd": the type column of the help.
static void format_type(const ss_key *key, char *out, size_t size) {
  static const char *const names[] = {"integer", "real", "bool", NULL, "text"};
  char range[80];
  format_range(key, range, sizeof range);
  if (key->type == SS_KEY_CHOICE)
    snprintf(out, size, "%s", key->choices);
  else
    snprintf(out, size, "%s%s%s", names[key->type], range[0] == '\0' ? "" : " ", range);
}

void ss_config_help(const ss_key_group *groups, FILE *file) {
  char type[256];
  int name_width = 0, type_width = 0, default_width = 0;
  for (int pass = 0; pass < 2; pass++)
    for (const ss_key_group *group = groups; group->keys != NULL; group++)
      for (const ss_key *key = group->keys; key->name != NULL; key++) {
        const char *initial = key->initial[0] == '\0' ? "\"\"" : key->initial;
        format_type(key, type, sizeof type);
        if (pass == 1) {
          fprintf(file, "  %-*s  %-*s  %-*s  %s\n", name_width, key->name, type_width, type, default_width,
                  initial, key->help);
          continue;
        }
        name_width = (int)strlen(key->name) > name_width ? (int)strlen(key->name) : name_width;
        type_width = (int)strlen(type) > type_width ? (int)strlen(type) : type_width;
        default_width = (int)strlen(initial) > default_width ? (int)strlen(initial) : default_width;
      }
}
