#include "eval/expressions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "eval/decimal.h"

// Quotients carry twice the decimals that are kept of the value, so that its last kept decimal is right: an
// expression of 64 operators loses far fewer than 100.
#define WORKING_DECIMALS 200
#define EXACT_DECIMALS 100

struct expression_list {
  const char *path;
  const arithmetic_config *config;
  const vocabulary *vocabulary;
  arm arm;
  int32_t max_header;
  int64_t n_positions;
  char *text;
  const char *next;
  int64_t line;
  arithmetic_expression *expression;
  rendering scratch;
  json_t *skipped;
};

ss_status expression_list_open(expression_list **out, const char *path, const arithmetic_config *config,
                               const vocabulary *vocabulary, arm arm, int32_t max_header, int64_t n_positions,
                               ss_error *error) {
  expression_list *list = NULL;
  SS_TRY(ss_allocate(&list, 1, sizeof *list, "list of expressions", error));
  list->path = path;
  list->config = config;
  list->vocabulary = vocabulary;
  list->arm = arm;
  list->max_header = max_header;
  list->n_positions = n_positions;
  list->skipped = json_array();
  ss_status status = ss_read_text(path, &list->text, error);
  if (status == SS_OK)
    status = arithmetic_expression_create(&list->expression, error);
  if (status != SS_OK) {
    expression_list_close(list);
    return status;
  }
  list->next = list->text;
  *out = list;
  return SS_OK;
}

void expression_list_close(expression_list *list) {
  if (list == NULL)
    return;
  if (list->expression != NULL)
    arithmetic_expression_free(list->expression);
  rendering_free(&list->scratch);
  json_decref(list->skipped);
  free(list->text);
  free(list);
}

json_t *expression_list_skipped(const expression_list *list) {
  return json_incref(list->skipped);
}

static void skip_line(expression_list *list, const char *text, int64_t n, const char *kind,
                      const ss_error *reason) {
  json_t *entry = json_object();
  json_object_set_new(entry, "line", json_integer(list->line));
  json_object_set_new(entry, "expression", json_stringn(text, (size_t)n));
  json_object_set_new(entry, "kind", json_string(kind));
  json_object_set_new(entry, "reason", json_string(reason->message));
  json_array_append_new(list->skipped, entry);
}

// Adds the exact value to the example's metadata.
static ss_status add_exact(example *example, const char *exact, ss_error *error) {
  json_t *meta = json_loads(example->meta, 0, NULL);
  if (meta == NULL || json_object_set_new(meta, "exact", json_string(exact)) != 0) {
    json_decref(meta);
    return ss_fail(error, SS_ERROR_INTERNAL, "%s: metadata is no JSON object", example->id);
  }
  char *text = json_dumps(meta, JSON_COMPACT);
  json_decref(meta);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for metadata");
  ss_status status = example_meta_set(example, text, error);
  free(text);
  return status;
}

static ss_status exact_value(arithmetic_expression *expression, const char *where, char **out,
                             ss_error *error) {
  const char *text;
  int64_t n;
  char *copy = NULL;
  SS_TRY(arithmetic_evaluate(expression, WORKING_DECIMALS, where, error));
  SS_TRY(arithmetic_result(expression, &text, &n, error));
  SS_TRY(ss_format(&copy, error, "%.*s", (int)n, text));
  ss_status status = decimal_round(copy, EXACT_DECIMALS, out, error);
  free(copy);
  return status;
}

static ss_status build(expression_list *list, const char *where, const char *exact, example *example,
                       ss_error *error) {
  char id[64];
  snprintf(id, sizeof id, "line-%lld", (long long)list->line);
  SS_TRY(arithmetic_evaluate(list->expression, (int32_t)list->config->division_decimals, where, error));
  SS_TRY(arithmetic_build(list->expression, (int32_t)list->config->piece_tokens, id, example, error));
  return add_exact(example, exact, error);
}

static ss_status render(expression_list *list, const char *where, const example *example,
                        rendering *annotated, ss_error *error) {
  SS_TRY(render_annotated(annotated, example, list->vocabulary, list->max_header, error));
  SS_TRY(render_arm(&list->scratch, annotated, list->arm, list->vocabulary, 0, error));
  if (list->scratch.n_token > list->n_positions)
    return ss_fail(error, SS_ERROR_LIMIT, "%s: %lld tokens with its derivation, the model has %lld positions",
                   where, (long long)list->scratch.n_token, (long long)list->n_positions);
  return SS_OK;
}

// The next line that is not blank; false at the end.
static bool next_line(expression_list *list, const char **text, int64_t *n) {
  while (*list->next != '\0') {
    const char *line = list->next;
    size_t length = strcspn(line, "\n");
    list->next = line + length + (line[length] == '\n');
    list->line++;
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL)
      length--;
    if (length == 0)
      continue;
    *text = line;
    *n = (int64_t)length;
    return true;
  }
  return false;
}

// True for what the line is to blame for; memory and defects end the evaluation.
static bool is_lines_fault(ss_status status) {
  return status == SS_ERROR_INPUT || status == SS_ERROR_LIMIT;
}

ss_status expression_list_next(void *user, example *example, rendering *annotated, int64_t *index, bool *done,
                               ss_error *error) {
  expression_list *list = user;
  const char *text;
  int64_t n;
  char where[512];
  while (next_line(list, &text, &n)) {
    ss_error reason = {0};
    const char *kind = "no value";
    char *exact = NULL;
    snprintf(where, sizeof where, "%s:%lld", list->path, (long long)list->line);
    ss_status status = arithmetic_parse(list->expression, text, n, where, &reason);
    if (status == SS_OK)
      status = arithmetic_fits(list->expression, vocabulary_span_tokens(list->vocabulary)->n_anchor, where,
                               &reason);
    if (status == SS_OK)
      status = exact_value(list->expression, where, &exact, &reason);
    if (status == SS_OK)
      status = build(list, where, exact == NULL ? "" : exact, example, &reason);
    if (status == SS_OK) {
      kind = "cannot ask";
      status = render(list, where, example, annotated, &reason);
    }
    free(exact);
    if (status == SS_OK) {
      *index = list->line;
      *done = false;
      return SS_OK;
    }
    if (status == SS_ERROR_LIMIT)
      kind = "cannot ask";
    if (!is_lines_fault(status))
      return ss_fail(error, status, "%s", reason.message);
    skip_line(list, text, n, kind, &reason);
  }
  *done = true;
  return SS_OK;
}
