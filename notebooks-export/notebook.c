#include "notebooks-export/notebook.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"

// nbformat keeps a cell's source as a list of lines, each with its newline.
static json_t *source_lines(const char *text, size_t n) {
  while (n > 0 && text[n - 1] == '\n')
    --n;
  json_t *lines = json_array();
  for (size_t first = 0; first < n;) {
    const char *newline = memchr(text + first, '\n', n - first);
    size_t end = newline == NULL ? n : (size_t)(newline - text) + 1;
    json_array_append_new(lines, json_stringn(text + first, end - first));
    first = end;
  }
  return lines;
}

// Markdown cells stand in the template as comments: "# text" becomes "text".
static ss_status uncomment(const char *text, size_t n, char **out, size_t *n_out, ss_error *error) {
  SS_TRY(ss_allocate(out, (int64_t)n + 1, 1, "markdown cell", error));
  *n_out = 0;
  for (size_t first = 0; first < n;) {
    const char *newline = memchr(text + first, '\n', n - first);
    size_t end = newline == NULL ? n : (size_t)(newline - text) + 1, begin = first;
    if (text[begin] == '#')
      begin += begin + 1 < end && text[begin + 1] == ' ' ? 2 : 1;
    memcpy(*out + *n_out, text + begin, end - begin);
    *n_out += end - begin;
    first = end;
  }
  return SS_OK;
}

static ss_status append_cell(json_t *cells, bool markdown, const char *text, size_t n, ss_error *error) {
  char id[32];
  snprintf(id, sizeof id, "cell-%zu", json_array_size(cells));
  char *plain = NULL;
  if (markdown)
    SS_TRY(uncomment(text, n, &plain, &n, error));
  json_t *cell = markdown
                     ? json_pack("{s:s, s:s, s:{}, s:o}", "cell_type", "markdown", "id", id, "metadata",
                                 "source", source_lines(plain, n))
                     : json_pack("{s:s, s:n, s:s, s:{}, s:[], s:o}", "cell_type", "code", "execution_count",
                                 "id", id, "metadata", "outputs", "source", source_lines(text, n));
  free(plain);
  if (cell == NULL || json_array_append_new(cells, cell) != 0)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for a notebook cell");
  return SS_OK;
}

static ss_status append_template(json_t *cells, const char *text, const char *path, ss_error *error) {
  static const char marker[] = "# %%", markdown_marker[] = "# %% [markdown]";
  const char *cell = strncmp(text, marker, strlen(marker)) == 0 ? text : strstr(text, "\n# %%");
  if (cell == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: no cells: expected lines that start with '# %%%%'", path);
  while (cell != NULL) {
    cell += *cell == '\n';
    bool markdown = strncmp(cell, markdown_marker, strlen(markdown_marker)) == 0;
    const char *body = strchr(cell, '\n');
    body = body == NULL ? cell + strlen(cell) : body + 1;
    const char *next = strstr(body > cell ? body - 1 : body, "\n# %%");
    size_t n = next == NULL ? strlen(body) : next + 1 > body ? (size_t)(next + 1 - body) : 0;
    SS_TRY(append_cell(cells, markdown, body, n, error));
    cell = next;
  }
  return SS_OK;
}

ss_status notebook_write(const char *template_path, const char *run, const char *out, ss_error *error) {
  char *text = NULL, *parameter = NULL, *encoded = NULL;
  size_t n;
  SS_TRY(ss_read_file(template_path, &text, &n, error));
  json_t *cells = json_array();
  json_t *quoted = json_string(run);
  encoded = quoted == NULL ? NULL : json_dumps(quoted, JSON_ENCODE_ANY);
  ss_status status = encoded == NULL ? ss_fail(error, SS_ERROR_INPUT, "%s: the run's name is not UTF-8", run)
                                     : ss_format(&parameter, error, "RUN = %s", encoded);
  if (status == SS_OK)
    status = append_cell(cells, false, parameter, strlen(parameter), error);
  if (status == SS_OK)
    status = append_template(cells, text, template_path, error);
  json_t *notebook = json_pack("{s:O, s:{s:{s:s, s:s, s:s}, s:{s:s}}, s:i, s:i}", "cells", cells, "metadata",
                               "kernelspec", "display_name", "Python 3", "language", "python", "name",
                               "python3", "language_info", "name", "python", "nbformat", 4, "nbformat_minor",
                               5);
  char *written = notebook == NULL ? NULL : json_dumps(notebook, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
  if (status == SS_OK && written == NULL)
    status = ss_fail(error, SS_ERROR_MEMORY, "out of memory for the notebook");
  if (status == SS_OK)
    status = ss_write_file(out, written, strlen(written), error);
  json_decref(cells);
  json_decref(quoted);
  json_decref(notebook);
  free(written);
  free(encoded);
  free(parameter);
  free(text);
  return status;
}
