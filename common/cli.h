// Command lines: long options with typed values, `--help` with examples, and a suggestion for what
// is misspelt. A command declares a table; parsing fills the bound variables.
#ifndef SELFSPAN_COMMON_CLI_H
#define SELFSPAN_COMMON_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/config.h"
#include "common/error.h"

typedef enum {
  SS_OPTION_FLAG,    // bool *
  SS_OPTION_INT,     // int64_t *
  SS_OPTION_REAL,    // double *
  SS_OPTION_STRING,  // const char ** (points into argv)
  SS_OPTION_LIST     // ss_string_list *: may be given several times
} ss_option_type;

typedef struct {
  const char **items;  // malloc'ed array of pointers into argv; free with ss_string_list_free
  int count;
} ss_string_list;

// Frees the array, not the strings, and empties the list. A zeroed list is empty.
void ss_string_list_free(ss_string_list *list);

typedef struct {
  const char *name;  // without dashes: "config"
  ss_option_type type;
  void *value;
  const char *argument;  // shown in help: "FILE"; NULL for flags
  const char *help;
} ss_option;

typedef struct {
  const char *command;         // "train"
  const char *summary;         // one line
  const char *usage;           // "selfspan train --config FILE [options]"
  const ss_option *options;    // terminated by name == NULL; --help is implied
  const ss_key_group *groups;  // config keys shown by --help, or NULL
  const char *examples;        // indented lines
} ss_command_line;

// Parses argv[1..argc-1]. Accepts --name value, --name=value and "--". Positional arguments are
// collected in `positionals` (may be NULL: then they are an error). *help is set when --help was
// given and printed to stdout. Unknown options fail with the nearest known name.
ss_status ss_cli_parse(const ss_command_line *line, int argc, char **argv, ss_string_list *positionals,
                       bool *help, ss_error *error);

// The usual way to a configuration: defaults, then the YAML file (NULL: none), then every
// "key=value" of --set (NULL: none).
ss_status ss_cli_config(const ss_key_group *groups, const char *path, const ss_string_list *assignments,
                        ss_error *error);

// The candidate nearest to `word` by edit distance (at most a third of the word's length, rounded up), or NULL.
const char *ss_nearest(const char *word, const char *const *candidates, int count);

// Strict number parsing: the whole string, finite, in range.
ss_status ss_parse_int(const char *text, int64_t low, int64_t high, int64_t *out, const char *what,
                       ss_error *error);
ss_status ss_parse_real(const char *text, double low, double high, double *out, const char *what,
                        ss_error *error);

#endif
