#include "train/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

static const char header[] =
    "step,examples,tokens,targets,train_loss,train_token_accuracy,learning_rate,gradient_norm,skipped,"
    "seconds,"
    "tokens_per_second,attended_rows_per_token,validation_loss,validation_accuracy,validation_score\n";

struct metrics {
  FILE *file;
  char *path;
};

// The length of the file's part up to and with the row of `last_step`.
static ss_status kept_length(const char *path, const char *text, size_t size, int64_t last_step, size_t *kept,
                             ss_error *error) {
  size_t head = strlen(header);
  if (size < head || memcmp(text, header, head) != 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: line 1 is not the header of this version's metrics", path);
  *kept = head;
  while (*kept < size) {
    const char *line = text + *kept, *end = memchr(line, '\n', size - *kept);
    if (end == NULL)
      break;
    char *comma = NULL;
    long long step = strtoll(line, &comma, 10);
    if (comma == line || *comma != ',')
      return ss_fail(error, SS_ERROR_INPUT, "%s: byte %zu: not a row of metrics", path, *kept);
    if (step > last_step)
      break;
    *kept = (size_t)(end - text) + 1;
  }
  return SS_OK;
}

static ss_status prepare(const char *path, int64_t last_step, ss_error *error) {
  if (last_step < 0 || !ss_file_exists(path))
    return ss_write_file(path, header, strlen(header), error);
  char *text = NULL;
  size_t size = 0, kept = 0;
  SS_TRY(ss_read_file(path, &text, &size, error));
  ss_status status = kept_length(path, text, size, last_step, &kept, error);
  if (status == SS_OK && kept < size)
    status = ss_write_file(path, text, kept, error);
  free(text);
  return status;
}

ss_status metrics_open(metrics **out, const char *path, int64_t last_step, ss_error *error) {
  *out = NULL;
  SS_TRY(prepare(path, last_step, error));
  metrics *made = NULL;
  SS_TRY(ss_allocate(&made, 1, sizeof *made, "metrics", error));
  ss_status status = ss_format(&made->path, error, "%s", path);
  if (status == SS_OK) {
    made->file = fopen(path, "ab");
    if (made->file == NULL)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  }
  if (status != SS_OK) {
    metrics_close(made);
    return status;
  }
  *out = made;
  return SS_OK;
}

// ",%.*g", or an empty cell.
static void cell(char *line, size_t size, int digits, double value) {
  size_t used = strlen(line);
  if (isnan(value))
    snprintf(line + used, size - used, ",");
  else
    snprintf(line + used, size - used, ",%.*g", digits, value);
}

ss_status metrics_append(metrics *metrics, const metrics_row *row, ss_error *error) {
  char line[1024];
  snprintf(line, sizeof line, "%lld,%lld,%lld,%lld", (long long)row->step, (long long)row->examples,
           (long long)row->tokens, (long long)row->targets);
  cell(line, sizeof line, 9, row->train_loss);
  cell(line, sizeof line, 9, row->train_token_accuracy);
  cell(line, sizeof line, 9, row->learning_rate);
  cell(line, sizeof line, 9, row->gradient_norm);
  size_t used = strlen(line);
  snprintf(line + used, sizeof line - used, ",%lld", (long long)row->skipped);
  cell(line, sizeof line, 9, row->seconds);
  cell(line, sizeof line, 6, row->tokens_per_second);
  cell(line, sizeof line, 9, row->attended_rows_per_token);
  cell(line, sizeof line, 9, row->validation_loss);
  cell(line, sizeof line, 9, row->validation_accuracy);
  cell(line, sizeof line, 9, row->validation_score);
  if (fprintf(metrics->file, "%s\n", line) < 0 || fflush(metrics->file) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", metrics->path);
  return SS_OK;
}

ss_status metrics_sync(metrics *metrics, ss_error *error) {
  if (fsync(fileno(metrics->file)) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot flush to disk", metrics->path);
  return SS_OK;
}

void metrics_close(metrics *metrics) {
  if (metrics == NULL)
    return;
  if (metrics->file != NULL)
    fclose(metrics->file);
  free(metrics->path);
  free(metrics);
}
