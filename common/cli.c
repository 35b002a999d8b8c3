#include "common/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

#define WORD_LIMIT 64  // longer words get no suggestion

void ss_string_list_free(ss_string_list *list) {
  free(list->items);
  list->items = NULL;
  list->count = 0;
}

static ss_status append(ss_string_list *list, const char *item, ss_error *error) {
  const char **items = realloc(list->items, ((size_t)list->count + 1) * sizeof *items);
  if (items == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for %d arguments", list->count + 1);
  items[list->count++] = item;
  list->items = items;
  return SS_OK;
}

// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours,
// which are the commonest slip of the fingers.
static int edit_distance(const char *a, int n_a, const char *b, int n_b) {
  int rows[3][WORD_LIMIT + 1];  // [i % 3][j] distance of a[0, i) and b[0, j)
  for (int i = 0; i <= n_a; i++) {
    int *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
    for (int j = 0; j <= n_b; j++) {
      if (i == 0 || j == 0) {
        row[j] = i + j;
        continue;
      }
      int from = tolower((unsigned char)a[i - 1]), to = tolower((unsigned char)b[j - 1]);
      int best = above[j - 1] + (from != to);
      if (above[j] + 1 < best)
        best = above[j] + 1;
      if (row[j - 1] + 1 < best)
        best = row[j - 1] + 1;
      if (i > 1 && j > 1 && from == tolower((unsigned char)b[j - 2]) &&
          tolower((unsigned char)a[i - 2]) == to && above2[j - 2] + 1 < best)
        best = above2[j - 2] + 1;
      row[j] = best;
    }
  }
  return rows[n_a % 3][n_b];
}

const char *ss_nearest(const char *word, const char *const *candidates, int count) {
  size_t length = strlen(word);
  if (length == 0 || length > WORD_LIMIT)
    return NULL;
  const char *nearest = NULL;
  int best = ((int)length + 2) / 3 + 1;  // a third, rounded up, so that short words get a suggestion too
  for (int i = 0; i < count; i++) {
    size_t width = strlen(candidates[i]);
    if (width > WORD_LIMIT)
      continue;
    int distance = edit_distance(word, (int)length, candidates[i], (int)width);
    if (distance < best) {
      best = distance;
      nearest = candidates[i];
    }
  }
  return nearest;
}

ss_status ss_parse_int(const char *text, int64_t low, int64_t high, int64_t *out, const char *what,
                       ss_error *error) {
  char *end = NULL;
  errno = 0;
  // strtoll skips leading blanks; a number with blanks is a mistake worth naming.
  bool starts = isdigit((unsigned char)text[0]) || text[0] == '-' || text[0] == '+';
  long long value = starts ? strtoll(text, &end, 10) : 0;
  if (!starts || end == text || *end != '\0')
    return ss_fail(error, SS_ERROR_USAGE, "%s: '%.120s' is not an integer", what, text);
  if (errno == ERANGE || value < low || value > high)
    return ss_fail(error, SS_ERROR_USAGE, "%s: %.120s is out of range [%lld, %lld]", what, text,
                   (long long)low, (long long)high);
  *out = value;
  return SS_OK;
}

ss_status ss_parse_real(const char *text, double low, double high, double *out, const char *what,
                        ss_error *error) {
  char *end = NULL;
  // strtod would also take hexadecimal, "nan", "inf" and leading blanks.
  bool plain = text[0] != '\0' && strspn(text, "0123456789+-.eE") == strlen(text);
  double value = plain ? strtod(text, &end) : 0;
  if (!plain || end == text || *end != '\0')
    return ss_fail(error, SS_ERROR_USAGE, "%s: '%.120s' is not a number", what, text);
  if (!isfinite(value) || !(value >= low && value <= high))
    return ss_fail(error, SS_ERROR_USAGE, "%s: %.120s is out of range [%g, %g]", what, text, low, high);
  *out = value;
  return SS_OK;
}

static void print_help(const ss_command_line *line) {
  printf("%s\n\nusage: %s\n\noptions:\n", line->summary, line->usage);
  int width = 4;
  for (const ss_option *option = line->options; option->name != NULL; option++) {
    int wide = (int)strlen(option->name);
    wide += option->type == SS_OPTION_FLAG || option->argument == NULL ? 0
                                                                       : 1 + (int)strlen(option->argument);
    width = wide > width ? wide : width;
  }
  for (const ss_option *option = line->options; option->name != NULL; option++) {
    bool argument = option->type != SS_OPTION_FLAG && option->argument != NULL;
    int used = printf("  --%s%s%s", option->name, argument ? " " : "", argument ? option->argument : "") - 4;
    printf("%*s  %s\n", width - used, "", option->help);
  }
  printf("  --%-*s  %s\n", width, "help", "show this text");
  if (line->groups != NULL) {
    printf("\nconfig keys (key, type and range, default):\n");
    ss_config_help(line->groups, stdout);
  }
  if (line->examples != NULL) {
    size_t length = strlen(line->examples);
    printf("\nexamples:\n%s%s", line->examples, length > 0 && line->examples[length - 1] == '\n' ? "" : "\n");
  }
}

static ss_status unknown_option(const ss_command_line *line, const char *name, int length, ss_error *error) {
  const char *names[WORD_LIMIT];
  char word[WORD_LIMIT + 1];
  int count = 0;
  for (const ss_option *option = line->options; option->name != NULL && count < WORD_LIMIT - 1; option++)
    names[count++] = option->name;
  names[count++] = "help";
  snprintf(word, sizeof word, "%.*s", length, name);
  const char *nearest = ss_nearest(word, names, count);
  if (nearest == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "unknown option '--%.*s'; see selfspan %s --help", length, name,
                   line->command);
  return ss_fail(error, SS_ERROR_USAGE, "unknown option '--%.*s'; did you mean '--%s'?", length, name,
                 nearest);
}

static ss_status store(const ss_option *option, const char *value, ss_error *error) {
  char what[WORD_LIMIT + 3];
  snprintf(what, sizeof what, "--%s", option->name);
  switch (option->type) {
  case SS_OPTION_FLAG:
    *(bool *)option->value = true;
    return SS_OK;
  case SS_OPTION_INT:
    return ss_parse_int(value, INT64_MIN, INT64_MAX, option->value, what, error);
  case SS_OPTION_REAL:
    return ss_parse_real(value, -INFINITY, INFINITY, option->value, what, error);
  case SS_OPTION_STRING:
    *(const char **)option->value = value;
    return SS_OK;
  case SS_OPTION_LIST:
    return append(option->value, value, error);
  }
  return ss_fail(error, SS_ERROR_INTERNAL, "%s: unknown option type", what);
}

// Takes the option at argv[*next] (and its value), advancing *next past it.
static ss_status take_option(const ss_command_line *line, int argc, char **argv, int *next, bool *seen,
                             ss_error *error) {
  const char *name = argv[*next] + 2;
  const char *equals = strchr(name, '=');
  size_t length = equals == NULL ? strlen(name) : (size_t)(equals - name);
  const ss_option *option = line->options;
  while (option->name != NULL && (strlen(option->name) != length || strncmp(option->name, name, length) != 0))
    option++;
  if (option->name == NULL)
    return unknown_option(line, name, (int)length, error);
  ++*next;
  bool *repeated = &seen[option - line->options];
  if (*repeated && option->type != SS_OPTION_LIST && option->type != SS_OPTION_FLAG)
    return ss_fail(error, SS_ERROR_USAGE, "--%s: given twice", option->name);
  *repeated = true;
  const char *value = equals == NULL ? NULL : equals + 1;
  if (option->type == SS_OPTION_FLAG) {
    if (value != NULL)
      return ss_fail(error, SS_ERROR_USAGE, "--%s: takes no value", option->name);
    return store(option, NULL, error);
  }
  if (value == NULL) {
    // A value that looks like an option is far likelier a forgotten value; --name=--value still works.
    if (*next >= argc || strncmp(argv[*next], "--", 2) == 0)
      return ss_fail(error, SS_ERROR_USAGE, "--%s: needs a value (%s)", option->name,
                     option->argument == NULL ? "VALUE" : option->argument);
    value = argv[(*next)++];
  }
  return store(option, value, error);
}

static ss_status parse(const ss_command_line *line, int argc, char **argv, ss_string_list *positionals,
                       bool *help, bool *seen, ss_error *error) {
  bool options = true;
  for (int next = 1; next < argc;) {
    const char *word = argv[next];
    bool dashed = options && word[0] == '-' && word[1] != '\0';
    if (dashed && strcmp(word, "--") == 0) {
      options = false;
      next++;
    } else if (dashed && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
      print_help(line);
      *help = true;
      return SS_OK;
    } else if (dashed && word[1] == '-') {
      SS_TRY(take_option(line, argc, argv, &next, seen, error));
    } else if (dashed && !isdigit((unsigned char)word[1]) && word[1] != '.') {
      return ss_fail(error, SS_ERROR_USAGE,
                     "unknown option '%s'; options have two dashes, see selfspan %s --help", word,
                     line->command);
    } else if (positionals == NULL) {
      return ss_fail(error, SS_ERROR_USAGE, "unexpected argument '%s'; usage: %s", word, line->usage);
    } else {
      SS_TRY(append(positionals, word, error));
      next++;
    }
  }
  return SS_OK;
}

ss_status ss_cli_parse(const ss_command_line *line, int argc, char **argv, ss_string_list *positionals,
                       bool *help, ss_error *error) {
  int n_option = 0;
  while (line->options[n_option].name != NULL)
    n_option++;
  bool *seen = NULL;
  SS_TRY(ss_allocate(&seen, n_option, sizeof *seen, "options", error));
  *help = false;
  ss_status status = parse(line, argc, argv, positionals, help, seen, error);
  free(seen);
  return status;
}

ss_status ss_cli_config(const ss_key_group *groups, const char *path, const ss_string_list *assignments,
                        ss_error *error) {
  SS_TRY(ss_config_defaults(groups, error));
  if (path != NULL)
    SS_TRY(ss_config_load(groups, path, error));
  for (int i = 0; assignments != NULL && i < assignments->count; i++)
    SS_TRY(ss_config_set(groups, assignments->items[i], "--set", error));
  return SS_OK;
}
