// The YAML side of the configuration, on libyaml's event stream. A config is a tree of scalars:
// lists, aliases, tags and several documents have no meaning here and are refused by name.
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/config.h"
#include "common/config_key.h"
#include "common/memory.h"

#define DEPTH_LIMIT 8
#define NAME_LIMIT 256
#define WHERE_LIMIT 512

typedef struct {
  const ss_key_group *groups;
  const char *path;
  yaml_parser_t parser;
  int *lines;                  // [number of keys] where each was set; 0 = not yet
  char name[NAME_LIMIT];       // dotted path of the innermost open mapping, then of the current key
  size_t prefix[DEPTH_LIMIT];  // [depth] length of `name` outside the mapping at that depth
  int depth;                   // open mappings
  bool value_next;             // `name` holds a complete key whose value follows
  char where[WHERE_LIMIT];     // "file:line"
} reader;

static ss_status fail_parse(reader *state, ss_error *error) {
  const yaml_parser_t *parser = &state->parser;
  const char *problem = parser->problem == NULL ? "unreadable" : parser->problem;
  if (parser->error == YAML_MEMORY_ERROR)
    return ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory while reading", state->path);
  if (parser->error == YAML_READER_ERROR)
    return ss_fail(error, SS_ERROR_INPUT, "%s: not a text file in UTF-8: %s at byte %zu", state->path,
                   problem, parser->problem_offset);
  return ss_fail(error, SS_ERROR_INPUT, "%s:%zu: not valid YAML: %s (column %zu)%s%s", state->path,
                 parser->problem_mark.line + 1, problem, parser->problem_mark.column + 1,
                 parser->context == NULL ? "" : ", ", parser->context == NULL ? "" : parser->context);
}

static ss_status open_mapping(reader *state, ss_error *error) {
  if (state->depth == DEPTH_LIMIT)
    return ss_fail(error, SS_ERROR_INPUT, "%s: nested deeper than %d levels", state->where, DEPTH_LIMIT);
  if (state->depth > 0) {
    void *field = NULL;
    int index = 0;
    if (!state->value_next)
      return ss_fail(error, SS_ERROR_INPUT, "%s: a mapping stands where a key is expected", state->where);
    const ss_key *key = ss_config_find(state->groups, state->name, &field, &index);
    if (key != NULL) {
      char expected[256];
      ss_config_expectation(key, expected, sizeof expected);
      return ss_fail(error, SS_ERROR_USAGE, "%s: %s: a mapping is not %s", state->where, state->name,
                     expected);
    }
  }
  state->depth++;
  state->value_next = false;
  return SS_OK;
}

static void close_mapping(reader *state) {
  state->depth--;
  // The mapping was the value of a key of the one around it: drop that key's component.
  if (state->depth > 0)
    state->name[state->prefix[state->depth - 1]] = '\0';
  state->value_next = false;
}

static ss_status take_key(reader *state, const char *text, size_t length, ss_error *error) {
  size_t outside = strlen(state->name);
  state->prefix[state->depth - 1] = outside;
  if (length == 0 || strlen(text) != length)
    return ss_fail(error, SS_ERROR_INPUT, "%s: an empty or unprintable key", state->where);
  if (outside + length + 2 > sizeof state->name)
    return ss_fail(error, SS_ERROR_INPUT, "%s: key longer than %d bytes", state->where, NAME_LIMIT - 2);
  snprintf(state->name + outside, sizeof state->name - outside, "%s%s", outside > 0 ? "." : "", text);
  state->value_next = true;
  return SS_OK;
}

static ss_status take_value(reader *state, const char *text, size_t length, bool quoted, int line,
                            ss_error *error) {
  void *field = NULL;
  int index = 0;
  const ss_key *key = ss_config_find(state->groups, state->name, &field, &index);
  if (key == NULL && ss_config_is_section(state->groups, state->name)) {
    // "section:" with every key commented out is an empty section.
    if (length > 0)
      return ss_fail(error, SS_ERROR_USAGE, "%s: %s is a section, expected indented keys below it",
                     state->where, state->name);
  } else if (key == NULL) {
    return ss_config_unknown(state->groups, state->name, state->where, error);
  } else {
    if (strlen(text) != length)
      return ss_fail(error, SS_ERROR_INPUT, "%s: %s: a zero byte in the value", state->where, state->name);
    if (state->lines[index] != 0)
      return ss_fail(error, SS_ERROR_USAGE, "%s: duplicate key '%s', already set at line %d", state->where,
                     state->name, state->lines[index]);
    state->lines[index] = line;
    SS_TRY(ss_config_assign(key, field, text, quoted, state->where, error));
  }
  state->name[state->prefix[state->depth - 1]] = '\0';
  state->value_next = false;
  return SS_OK;
}

static ss_status take_scalar(reader *state, const yaml_event_t *event, ss_error *error) {
  const char *text = (const char *)event->data.scalar.value;
  size_t length = event->data.scalar.length;
  bool quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
  if (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: anchors (&) and tags (!) are not supported", state->where);
  if (state->depth == 0 && length > 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: a single value, expected \"key: value\" lines", state->where);
  if (state->depth == 0)
    return SS_OK;
  if (!state->value_next)
    return take_key(state, text, length, error);
  return take_value(state, text, length, quoted, (int)event->start_mark.line + 1, error);
}

static ss_status take_event(reader *state, const yaml_event_t *event, int *documents, ss_error *error) {
  snprintf(state->where, sizeof state->where, "%s:%zu", state->path, event->start_mark.line + 1);
  switch (event->type) {
  case YAML_DOCUMENT_START_EVENT:
    if (++*documents > 1)
      return ss_fail(error, SS_ERROR_INPUT, "%s: a second YAML document, expected one", state->where);
    return SS_OK;
  case YAML_MAPPING_START_EVENT:
    if (event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: anchors (&) and tags (!) are not supported", state->where);
    return open_mapping(state, error);
  case YAML_MAPPING_END_EVENT:
    close_mapping(state);
    return SS_OK;
  case YAML_SCALAR_EVENT:
    return take_scalar(state, event, error);
  case YAML_SEQUENCE_START_EVENT:
    return ss_fail(error, SS_ERROR_USAGE, "%s: %s%sa list is not a value here, expected a single value",
                   state->where, state->name, state->name[0] == '\0' ? "" : ": ");
  case YAML_ALIAS_EVENT:
    return ss_fail(error, SS_ERROR_INPUT, "%s: aliases (*) are not supported", state->where);
  default:
    return SS_OK;
  }
}

static ss_status read_events(reader *state, ss_error *error) {
  int documents = 0;
  for (bool done = false; !done;) {
    yaml_event_t event;
    if (!yaml_parser_parse(&state->parser, &event))
      return fail_parse(state, error);
    done = event.type == YAML_STREAM_END_EVENT;
    ss_status status = take_event(state, &event, &documents, error);
    yaml_event_delete(&event);
    SS_TRY(status);
  }
  return SS_OK;
}

ss_status ss_config_load(const ss_key_group *groups, const char *path, ss_error *error) {
  int n_key = 0;
  for (const ss_key_group *group = groups; group->keys != NULL; group++)
    for (const ss_key *key = group->keys; key->name != NULL; key++)
      n_key++;
  reader state = {.groups = groups, .path = path};
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open the config", path);
  ss_status status = ss_allocate(&state.lines, n_key, sizeof *state.lines, "config lines", error);
  if (status == SS_OK && !yaml_parser_initialize(&state.parser))
    status = ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory while reading", path);
  if (status == SS_OK) {
    yaml_parser_set_input_file(&state.parser, file);
    status = read_events(&state, error);
    yaml_parser_delete(&state.parser);
  }
  free(state.lines);
  fclose(file);
  return status;
}
