// Configuration: one key table per command. The table binds each key to a field of a plain struct
// and serves the YAML file, `--set key=value`, `--help`, the docs and the resolved copy that is
// stored in every output. Keys are dotted paths ("model.n_layer"); in YAML the dots are nesting.
#ifndef SELFSPAN_COMMON_CONFIG_H
#define SELFSPAN_COMMON_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

#define SS_CONFIG_STRING 512  // bytes of a string field, terminator included

typedef enum {
  SS_KEY_INT,     // int64_t
  SS_KEY_REAL,    // double
  SS_KEY_BOOL,    // bool
  SS_KEY_CHOICE,  // int: the index into choices
  SS_KEY_STRING   // char[SS_CONFIG_STRING]
} ss_key_type;

typedef struct {
  const char *name;  // "train.learning_rate"
  ss_key_type type;
  size_t offset;        // of the bound field in the config struct
  const char *initial;  // default, in the syntax of the file
  double low, high;     // inclusive range of INT and REAL (ignored when low > high)
  const char *choices;  // CHOICE: "adamw|sgd"
  const char *help;     // one line
} ss_key;

#define SS_CONFIG_INT(type, field, name, initial, low, high, help) \
  { name, SS_KEY_INT, offsetof(type, field), initial, low, high, NULL, help }
#define SS_CONFIG_REAL(type, field, name, initial, low, high, help) \
  { name, SS_KEY_REAL, offsetof(type, field), initial, low, high, NULL, help }
#define SS_CONFIG_BOOL(type, field, name, initial, help) \
  { name, SS_KEY_BOOL, offsetof(type, field), initial, 1, 0, NULL, help }
#define SS_CONFIG_CHOICE(type, field, name, initial, choices, help) \
  { name, SS_KEY_CHOICE, offsetof(type, field), initial, 1, 0, choices, help }
#define SS_CONFIG_TEXT(type, field, name, initial, help) \
  { name, SS_KEY_STRING, offsetof(type, field), initial, 1, 0, NULL, help }

// One group of keys over one struct. A command's table is a NULL-keys-terminated array of groups,
// so that rooms keep their own tables ("model", "train", ...) and commands compose them.
typedef struct {
  const ss_key *keys;  // terminated by name == NULL
  void *target;        // the struct that the offsets are relative to
} ss_key_group;

// Sets every bound field to its default.
ss_status ss_config_defaults(const ss_key_group *groups, ss_error *error);

// Reads a YAML file into the bound fields. Unknown keys (answered with the nearest known one), duplicate
// keys, wrong types and out-of-range values are refused, each with file and line.
ss_status ss_config_load(const ss_key_group *groups, const char *path, ss_error *error);

// Applies one "key=value" (from --set). `where` names the origin in messages.
ss_status ss_config_set(const ss_key_group *groups, const char *assignment, const char *where,
                        ss_error *error);

// The resolved configuration as a JSON object of dotted keys, in table order. Caller owns it.
json_t *ss_config_json(const ss_key_group *groups);

// Reads back what ss_config_json wrote (keys that the table lacks are refused, absent keys keep
// their value); `where` names the origin.
ss_status ss_config_from_json(const ss_key_group *groups, const json_t *object, const char *where,
                              ss_error *error);

// Prints the table: key, type and range, default, help; aligned.
void ss_config_help(const ss_key_group *groups, FILE *file);

#endif
