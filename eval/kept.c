#include "eval/kept.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

#define SCHEMA_VERSION 1

// --- reading ---

// Where a line stands, for errors.
typedef struct {
  const char *path;
  int64_t line;
} place;

static ss_status damaged(const place *at, const char *expected, ss_error *error) {
  return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: expected %s; remove the file to start again", at->path,
                 (long long)at->line, expected);
}

static ss_status read_count(const json_t *object, const char *key, int64_t *out, const place *at,
                            ss_error *error) {
  const json_t *value = json_object_get(object, key);
  *out = json_integer_value(value);
  return json_is_integer(value) && *out >= 0 ? SS_OK : damaged(at, key, error);
}

static ss_status read_seconds(const json_t *object, const char *key, double *sum, const place *at,
                              ss_error *error) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_number(value))
    return damaged(at, key, error);
  *sum += json_number_value(value);
  return SS_OK;
}

// The fields of a run's statistics that are counts, and those that are seconds.
// clang-format off
#define COUNTS(X) \
  X(prefill_tokens) X(generated_tokens) X(steps) X(n_sequence) \
  X(prefill_attended_rows) X(decode_attended_rows) X(kv_bytes_read)
// clang-format on
#define SECONDS(X) X(prefill_seconds) X(decode_seconds) X(host_seconds)

static ss_status read_speed(eval_kept *kept, const json_t *object, const place *at, ss_error *error) {
  int64_t count;
#define READ_COUNT(field)                                \
  SS_TRY(read_count(object, #field, &count, at, error)); \
  kept->speed.field += count;
#define READ_SECONDS(field) SS_TRY(read_seconds(object, #field, &kept->speed.field, at, error));
  COUNTS(READ_COUNT)
  SECONDS(READ_SECONDS)
#undef READ_COUNT
#undef READ_SECONDS
  return SS_OK;
}

static ss_status read_sequence(eval_kept *kept, const json_t *object, const place *at, ss_error *error) {
  const json_t *tokens = json_object_get(object, "tokens"), *token;
  int64_t stop;
  size_t k;
  SS_TRY(ss_grow(&kept->sequences, &kept->capacity, kept->n_sequence + 1, sizeof *kept->sequences,
                 "kept sequences", error));
  eval_kept_sequence *sequence = &kept->sequences[kept->n_sequence];
  memset(sequence, 0, sizeof *sequence);
  SS_TRY(read_count(object, "index", &sequence->index, at, error));
  SS_TRY(read_count(object, "stop", &stop, at, error));
  SS_TRY(read_count(object, "rows", &sequence->kept.attended_rows, at, error));
  SS_TRY(read_count(object, "prefill_rows", &sequence->kept.prefill_rows, at, error));
  if (stop != DECODE_STOP_EOS && stop != DECODE_STOP_LENGTH && stop != DECODE_STOP_ANCHORS)
    return damaged(at, "stop, a reason to stop", error);
  if (!json_is_array(tokens))  // none where the first one found no room
    return damaged(at, "tokens, a list", error);
  sequence->kept.stop = (decode_stop)stop;
  sequence->kept.n_token = (int64_t)json_array_size(tokens);
  SS_TRY(
      ss_allocate(&sequence->tokens, sequence->kept.n_token, sizeof *sequence->tokens, "kept tokens", error));
  kept->n_sequence++;
  sequence->kept.tokens = sequence->tokens;
  json_array_foreach(tokens, k, token) {
    json_int_t value = json_integer_value(token);
    if (!json_is_integer(token) || value < 0 || value > INT32_MAX)
      return damaged(at, "tokens, numbers", error);
    sequence->tokens[k] = (int32_t)value;
  }
  return SS_OK;
}

// The first key whose value differs or that only one side has; NULL: none.
static const char *first_difference(const json_t *a, const json_t *b) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)a, key, value) {
    if (!json_equal(value, json_object_get(b, key)))
      return key;
  }
  json_object_foreach((json_t *)b, key, value) {
    if (json_object_get(a, key) == NULL)
      return key;
  }
  return NULL;
}

static ss_status read_head(const json_t *object, const json_t *work, char **other, const place *at,
                           ss_error *error) {
  int64_t version;
  SS_TRY(read_count(object, "schema_version", &version, at, error));
  const json_t *before = json_object_get(object, "work");
  const char *key = version != SCHEMA_VERSION ? "schema_version" : first_difference(before, work);
  return key == NULL ? SS_OK : ss_format(other, error, "%s", key);
}

static ss_status read_line(eval_kept *kept, const char *text, size_t n, const json_t *work, char **other,
                           const place *at, ss_error *error) {
  json_t *object = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
  ss_status status;
  if (!json_is_object(object))
    status = damaged(at, "a JSON object", error);
  else if (at->line == 1)
    status = read_head(object, work, other, at, error);
  else if (json_object_get(object, "speed") != NULL)
    status = read_speed(kept, json_object_get(object, "speed"), at, error);
  else
    status = read_sequence(kept, object, at, error);
  json_decref(object);
  return status;
}

static int by_index(const void *a, const void *b) {
  int64_t x = ((const eval_kept_sequence *)a)->index, y = ((const eval_kept_sequence *)b)->index;
  return (x > y) - (x < y);
}

// *whole: the length of the lines that are complete.
static ss_status read_lines(eval_kept *kept, const char *text, const json_t *work, char **other,
                            int64_t *whole, ss_error *error) {
  place at = {kept->path, 1};
  const char *line = text, *end;
  for (; *other == NULL && (end = strchr(line, '\n')) != NULL; line = end + 1, at.line++)
    SS_TRY(read_line(kept, line, (size_t)(end - line), work, other, &at, error));
  *whole = line - text;
  if (kept->n_sequence > 1)
    qsort(kept->sequences, (size_t)kept->n_sequence, sizeof *kept->sequences, by_index);
  for (int64_t k = 1; k < kept->n_sequence; k++)
    if (kept->sequences[k].index == kept->sequences[k - 1].index)
      return ss_fail(error, SS_ERROR_INPUT, "%s: has example %lld twice; remove the file to start again",
                     kept->path, (long long)kept->sequences[k].index);
  return SS_OK;
}

const eval_kept_sequence *eval_kept_find(const eval_kept *kept, int64_t index) {
  eval_kept_sequence wanted = {.index = index};
  return kept->n_sequence == 0
             ? NULL
             : bsearch(&wanted, kept->sequences, (size_t)kept->n_sequence, sizeof *kept->sequences, by_index);
}

// --- writing ---

static ss_status written(const eval_kept *kept, bool good, ss_error *error) {
  return good ? SS_OK : ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", kept->path);
}

static ss_status write_head(eval_kept *kept, const json_t *work, ss_error *error) {
  json_t *head = json_pack("{s:i, s:O}", "schema_version", SCHEMA_VERSION, "work", work);
  bool good = head != NULL && json_dumpf(head, kept->file, JSON_COMPACT) == 0;
  json_decref(head);
  return written(kept, good && fputc('\n', kept->file) >= 0 && fflush(kept->file) == 0, error);
}

ss_status eval_kept_add(eval_kept *kept, const decode_result *result, ss_error *error) {
  FILE *file = kept->file;
  fprintf(file, "{\"index\":%lld,\"stop\":%d,\"rows\":%lld,\"prefill_rows\":%lld,\"tokens\":[",
          (long long)result->index, (int)result->stop, (long long)result->attended_rows,
          (long long)result->prefill_rows);
  for (int32_t k = result->n_prompt; k < result->n_token; k++)
    fprintf(file, "%s%d", k == result->n_prompt ? "" : ",", result->tokens[k]);
  fputs("]}\n", file);
  kept->added = true;
  return written(kept, fflush(file) == 0 && !ferror(file), error);
}

ss_status eval_kept_add_speed(eval_kept *kept, decode_statistics *speed, ss_error *error) {
  const decode_statistics *before = &kept->speed;
  if (kept->added) {
    const char *comma = "";
    fputs("{\"speed\":{", kept->file);
#define WRITE_COUNT(field) \
  fprintf(kept->file, "%s\"" #field "\":%lld", comma, (long long)speed->field), comma = ",";
#define WRITE_SECONDS(field) fprintf(kept->file, "%s\"" #field "\":%.9f", comma, speed->field), comma = ",";
    COUNTS(WRITE_COUNT)
    SECONDS(WRITE_SECONDS)
#undef WRITE_COUNT
#undef WRITE_SECONDS
    fputs("}}\n", kept->file);
    SS_TRY(written(kept, fflush(kept->file) == 0 && !ferror(kept->file), error));
  }
#define ADD(field) speed->field += before->field;
  COUNTS(ADD)
  SECONDS(ADD)
#undef ADD
  return SS_OK;
}

// --- the file ---

static void forget_sequences(eval_kept *kept) {
  for (int64_t k = 0; k < kept->n_sequence; k++)
    free(kept->sequences[k].tokens);
  free(kept->sequences);
  kept->sequences = NULL;
  kept->n_sequence = kept->capacity = 0;
  memset(&kept->speed, 0, sizeof kept->speed);
}

// Opens for writing behind the first `whole` bytes.
static ss_status open_behind(eval_kept *kept, int64_t whole, ss_error *error) {
  kept->file = fopen(kept->path, whole > 0 ? "r+" : "w");
  if (kept->file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", kept->path);
  return written(kept, ftruncate(fileno(kept->file), whole) == 0 && fseek(kept->file, 0, SEEK_END) == 0,
                 error);
}

static ss_status open_kept(eval_kept *kept, const json_t *work, bool discard, char **other, ss_error *error) {
  char *text = NULL;
  int64_t whole = 0;
  if (ss_file_exists(kept->path)) {
    SS_TRY(ss_read_text(kept->path, &text, error));
    ss_status status = read_lines(kept, text, work, other, &whole, error);
    free(text);
    SS_TRY(status);
  }
  if (*other != NULL) {
    if (!discard)
      return SS_OK;
    whole = 0;
  }
  SS_TRY(open_behind(kept, whole, error));
  return whole > 0 ? SS_OK : write_head(kept, work, error);
}

ss_status eval_kept_open(eval_kept *kept, const char *path, const json_t *work, bool discard, char **other,
                         ss_error *error) {
  memset(kept, 0, sizeof *kept);
  *other = NULL;
  SS_TRY(ss_format(&kept->path, error, "%s", path));
  ss_status status = open_kept(kept, work, discard, other, error);
  if (status != SS_OK || kept->file == NULL)
    eval_kept_close(kept);
  return status;
}

void eval_kept_close(eval_kept *kept) {
  bool empty = kept->file != NULL && !kept->added && kept->n_sequence == 0;
  if (kept->file != NULL)
    fclose(kept->file);
  if (empty)
    unlink(kept->path);
  forget_sequences(kept);
  free(kept->path);
  memset(kept, 0, sizeof *kept);
}
