// An evaluation's report: tables and sentences on stdout, summary.json and results.h5 in a folder.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "common/file.h"
#include "common/memory.h"
#include "eval/metrics.h"
#include "eval/results.h"

ss_status eval_report_folder(const char *out, bool force, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/summary.json", out));
  bool there = ss_file_exists(path);
  free(path);
  if (there && !force)
    return ss_fail(error, SS_ERROR_USAGE, "%s: has an evaluation already; --force replaces it", out);
  return ss_make_directories(out, error);
}

ss_status eval_report_add(eval_report *report, eval_result **result, json_t **extra, ss_error *error) {
  SS_TRY(ss_grow(&report->results, &report->capacity, report->count + 1, sizeof *report->results, "results",
                 error));
  SS_TRY(ss_grow(&report->extras, &report->extra_capacity, report->count + 1, sizeof *report->extras,
                 "results", error));
  memset(&report->results[report->count], 0, sizeof *report->results);
  *extra = json_object();
  report->extras[report->count] = *extra;
  *result = &report->results[report->count++];
  return SS_OK;
}

void eval_report_free(eval_report *report) {
  for (int64_t k = 0; k < report->count; k++) {
    eval_result_free(&report->results[k]);
    json_decref(report->extras[k]);
  }
  free(report->results);
  free(report->extras);
  json_decref(report->notes);
  memset(report, 0, sizeof *report);
}

static json_t *make_summary(const eval_report *report, const json_t *head) {
  json_t *summary = json_object();
  json_object_update(summary, (json_t *)head);
  json_t *arms = eval_arms_json(report->results, (int)report->count);
  for (int64_t k = 0; k < report->count; k++)
    json_object_update(json_array_get(arms, (size_t)k), report->extras[k]);
  json_object_set_new(summary, "arms", arms);
  json_object_set(summary, "notes", report->notes);
  return summary;
}

static ss_status write_files(const eval_report *report, const json_t *summary, const char *out,
                             ss_error *error) {
  char *path = NULL, *text = json_dumps(summary, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the summary");
  ss_status status = ss_format(&path, error, "%s/results.h5", out);
  if (status == SS_OK)
    status = eval_write_hdf5(path, report->results, (int)report->count, summary, error);
  free(path);
  path = NULL;
  // summary.json last: where it stands, the evaluation is complete.
  if (status == SS_OK)
    status = ss_format(&path, error, "%s/summary.json", out);
  if (status == SS_OK) {
    size_t n = strlen(text);
    text[n] = '\n';  // in the terminator's place
    status = ss_write_file(path, text, n + 1, error);
  }
  free(path);
  free(text);
  return status;
}

static ss_status print_text(const eval_report *report, ss_error *error) {
  SS_TRY(eval_print_metrics(report->results, (int)report->count, stdout, error));
  if (report->results[0].task != NULL && report->results[0].task->n_metric > 0)
    printf("\n");
  SS_TRY(eval_print_arms(report->results, (int)report->count, stdout, error));
  SS_TRY(eval_print_groups(report->results, (int)report->count, stdout, error));
  size_t k;
  const json_t *note;
  if (json_array_size(report->notes) > 0)
    printf("\n");
  json_array_foreach(report->notes, k, note) printf("%s\n", json_string_value(note));
  return SS_OK;
}

ss_status eval_report_finish(eval_report *report, const json_t *head, const char *out, bool as_json,
                             ss_error *error) {
  if (report->notes == NULL)
    report->notes = json_array();
  SS_TRY(eval_measure(report->results, (int)report->count, report->against, error));
  json_t *sentences = eval_explain(report->results, (int)report->count);
  json_array_extend(report->notes, sentences);
  json_decref(sentences);
  json_t *summary = make_summary(report, head);
  ss_status status = SS_OK;
  if (out != NULL)
    status = write_files(report, summary, out, error);
  if (status == SS_OK && as_json) {
    json_dumpf(summary, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    printf("\n");
  } else if (status == SS_OK) {
    status = print_text(report, error);
  }
  json_decref(summary);
  return status;
}
