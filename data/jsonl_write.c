#include "data/jsonl_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/progress.h"
#include "data/tasks/jsonl.h"

#define BLOCK 256  // examples read at once

static json_t *segment_json(const example *example, const example_segment *segment) {
  json_t *object = json_pack("{s:s, s:s%}", "kind", jsonl_kind_name(segment->kind), "text",
                             example->text + segment->text_first,
                             (size_t)(segment->text_end - segment->text_first));
  if (object == NULL || segment->kind == SPAN_CONTEXT)
    return object;
  json_t *references = json_array();
  for (int32_t k = 0; k < segment->n_reference; k++)
    json_array_append_new(references, json_integer(example->references[segment->reference_first + k]));
  json_object_set_new(object, "references", references);
  return object;
}

ss_status jsonl_row_text(const example *example, const char *split, char **out, ss_error *error) {
  json_t *segments = json_array(), *answers = json_array();
  int failed = segments == NULL || answers == NULL;
  for (int64_t s = 0; s < example->n_segment; s++)
    failed |= json_array_append_new(segments, segment_json(example, &example->segments[s])) != 0;
  const char *answer = example->answers;
  for (int32_t k = 0; k < example->n_answer; k++, answer += strlen(answer) + 1)
    failed |= json_array_append_new(answers, json_string(answer)) != 0;
  json_t *meta = json_loadb(example->n_meta > 0 ? example->meta : "{}",
                            example->n_meta > 0 ? (size_t)example->n_meta : 2, 0, NULL);
  json_t *row = json_pack("{s:s, s:s, s:o, s:o, s:o}", "id", example->id, "split", split, "segments",
                          segments, "answers", answers, "meta", meta == NULL ? json_object() : meta);
  *out = row == NULL || failed ? NULL : json_dumps(row, JSON_COMPACT);
  json_decref(row);
  if (*out == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: has text that is no UTF-8, or memory is out", example->id);
  return SS_OK;
}

static ss_status write_rows(store *store, FILE *file, const char *path, bool quiet, example *examples,
                            rendering *renderings, ss_error *error) {
  int64_t total = store_n_example(store);
  ss_progress progress;
  ss_progress_start(&progress, "export", "examples", 0, total, quiet);
  for (int64_t first = 0; first < total; first += BLOCK) {
    int64_t count = total - first < BLOCK ? total - first : BLOCK;
    SS_TRY(store_read(store, first, count, examples, renderings, error));
    for (int64_t k = 0; k < count; k++) {
      char *text = NULL;
      SS_TRY(jsonl_row_text(&examples[k], store_split(store), &text, error));
      bool written = fputs(text, file) >= 0 && fputc('\n', file) != EOF;
      free(text);
      if (!written)
        return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
    }
    ss_progress_update(&progress, first + count, NULL);
  }
  ss_progress_finish(&progress, total, NULL);
  return SS_OK;
}

static ss_status write_to(store *store, const char *target, const char *path, bool quiet, ss_error *error) {
  example *examples = NULL;
  rendering *renderings = NULL;
  FILE *file = fopen(target, "wb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  ss_status status = ss_allocate(&examples, BLOCK, sizeof *examples, "examples", error);
  if (status == SS_OK)
    status = ss_allocate(&renderings, BLOCK, sizeof *renderings, "renderings", error);
  if (status == SS_OK)
    status = write_rows(store, file, path, quiet, examples, renderings, error);
  if (fclose(file) != 0 && status == SS_OK)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  for (int k = 0; k < BLOCK; k++) {
    if (examples != NULL)
      example_free(&examples[k]);
    if (renderings != NULL)
      rendering_free(&renderings[k]);
  }
  free(examples);
  free(renderings);
  return status;
}

ss_status jsonl_write(store *store, const char *path, bool quiet, int64_t *n, ss_error *error) {
  struct stat info;
  *n = store_n_example(store);
  // Devices and pipes (/dev/stdout) have no previous content to protect.
  if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
    return write_to(store, path, path, quiet, error);
  char *temporary = NULL;
  SS_TRY(ss_temporary_path(path, &temporary, error));
  ss_status status = write_to(store, temporary, path, quiet, error);
  if (status == SS_OK)
    status = ss_commit_file(temporary, path, error);
  else
    unlink(temporary);
  free(temporary);
  return status;
}
