#include "data/card.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"

static long long integer(const json_t *object, const char *name) {
  return (long long)json_integer_value(json_object_get(object, name));
}

static long long nested(const json_t *object, const char *group, const char *name) {
  return integer(json_object_get(object, group), name);
}

static const char *string(const json_t *object, const char *name) {
  const char *text = json_string_value(json_object_get(object, name));
  return text == NULL ? "" : text;
}

static void write_counts(FILE *file, const json_t *splits) {
  const char *name;
  json_t *split;
  fprintf(file, "| split | examples | contexts | steps | references | tokens, annotated | tokens, dense | "
                "generated, annotated | generated, dense | longest |\n"
                "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  json_object_foreach((json_t *)splits, name, split)
      fprintf(file, "| %s | %lld | %lld | %lld | %lld | %lld | %lld | %lld | %lld | %lld |\n", name,
              integer(split, "examples"), nested(split, "segments", "context"),
              nested(split, "segments", "step"), integer(split, "references"),
              nested(split, "tokens", "annotated"), nested(split, "tokens", "dense"),
              nested(split, "generated_tokens", "annotated"), nested(split, "generated_tokens", "dense"),
              nested(split, "longest_example", "annotated"));
}

// One row a key of an object that all splits have, one column a split.
static void write_by_split(FILE *file, const json_t *splits, const char *heading, const char *field,
                           int digits) {
  const char *name, *key;
  json_t *split, *value;
  fprintf(file, "| %s |", heading);
  json_object_foreach((json_t *)splits, name, split) fprintf(file, " %s |", name);
  fprintf(file, "\n|---|");
  json_object_foreach((json_t *)splits, name, split) fprintf(file, "--:|");
  fprintf(file, "\n");
  // Keys of all splits, each once, in the order of their first appearance.
  json_t *keys = json_object();
  json_object_foreach((json_t *)splits, name, split)
      json_object_foreach(json_object_get(split, field), key, value) json_object_set(keys, key, json_true());
  json_object_foreach(keys, key, value) {
    fprintf(file, "| %s |", key);
    json_t *other;
    json_object_foreach((json_t *)splits, name, split) {
      other = json_object_get(json_object_get(split, field), key);
      if (json_is_real(other))
        fprintf(file, " %.*f |", digits, json_real_value(other));
      else
        fprintf(file, " %lld |", (long long)json_integer_value(other));
    }
    fprintf(file, "\n");
  }
  json_decref(keys);
}

// What the task counted, and rows that were left out.
static void write_content(FILE *file, const json_t *splits) {
  const char *name, *reason;
  json_t *split, *value;
  bool content = false, left_out = false;
  json_object_foreach((json_t *)splits, name, split) {
    content = content || json_object_get(split, "content") != NULL;
    left_out = left_out || json_object_get(split, "skipped_reasons") != NULL;
  }
  if (content) {
    fprintf(file, "\n## Content\n\nMeans over the examples, unless it says \"in all\".\n\n");
    write_by_split(file, splits, "content", "content", 2);
  }
  if (!left_out)
    return;
  fprintf(file, "\n## Left out\n\n");
  json_object_foreach((json_t *)splits, name, split) {
    size_t k;
    json_object_foreach(json_object_get(split, "skipped_reasons"), reason, value)
        fprintf(file, "- %s, %lld rows: %s\n", name, (long long)json_integer_value(value), reason);
    json_array_foreach(json_object_get(split, "skipped_first"), k, value)
        fprintf(file, "  - %s\n", json_string_value(value));
  }
}

static void write_markdown(FILE *file, const json_t *card) {
  const json_t *splits = json_object_get(card, "splits"), *config = json_object_get(card, "config");
  const json_t *excluded = json_object_get(card, "excluded");
  const char *name;
  json_t *value;
  fprintf(file, "# Dataset: %s\n\n%s. Span-annotated, written by `selfspan data %s`; seed %lld.\n\n",
          string(card, "task"), string(card, "summary"), string(card, "task"), integer(card, "seed"));
  write_counts(file, splits);
  fprintf(file,
          "\nValidation and test hold no context twice where `data.distinct` says so; train may repeat.\n");
  fprintf(file, "\n## Steps\n\n");
  write_by_split(file, splits, "steps", "examples_by_steps", 1);
  fprintf(file,
          "\n## Attended rows\n\nRows that the generated tokens' queries read, themselves included: mean per "
          "example "
          "over each split's first examples (%lld at most).\n\n",
          integer(card, "attended_rows_sample"));
  write_by_split(file, splits, "arm and policy", "attended_rows_per_example", 1);
  write_content(file, splits);
  fprintf(file, "\n## Files\n\n| file | XXH128 |\n|---|---|\n");
  json_object_foreach((json_t *)splits, name, value)
      fprintf(file, "| %s | `%s` |\n", string(value, "file"), string(value, "xxh128"));
  if (json_is_object(excluded))
    fprintf(file, "\nThe contents of %s (XXH128 `%s`) are kept out.\n", string(excluded, "file"),
            string(excluded, "xxh128"));
  if (json_is_string(json_object_get(card, "notes")))
    fprintf(file, "\n## Notes\n\n```\n%s\n```\n", string(card, "notes"));
  fprintf(file, "\n## Configuration\n\n| key | value |\n|---|---|\n");
  json_object_foreach((json_t *)config, name, value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    fprintf(file, "| %s | `%s` |\n", name, text == NULL ? "?" : text);
    free(text);
  }
}

static ss_status write_in(const char *folder, const char *name, const char *text, size_t n, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/%s", folder, name));
  ss_status status = ss_write_file(path, text, n, error);
  free(path);
  return status;
}

ss_status card_write(const char *folder, const json_t *card, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_MEMORY, "card.md");
  write_markdown(file, card);
  if (fclose(file) != 0) {
    free(text);
    return ss_fail_errno(error, SS_ERROR_MEMORY, "card.md");
  }
  ss_status status = write_in(folder, "card.md", text, size, error);
  free(text);
  SS_TRY(status);
  char *json = json_dumps(card, JSON_INDENT(2)), *line = NULL;
  if (json == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "card.json: out of memory");
  status = ss_format(&line, error, "%s\n", json);
  free(json);
  if (status == SS_OK)
    status = write_in(folder, "card.json", line, strlen(line), error);
  free(line);
  return status;
}
