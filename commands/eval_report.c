// An evaluation's report: tables and sentences on stdout, summary.json and results.h5 in a folder.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "common/file.h"
#include "common/memory.h"
#include "eval/metrics.h"
#include "eval/results.h"

// --- the folder ---

static ss_status find_existing(const char *out, bool force, bool *there, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/summary.json", out));
  *there = ss_file_exists(path);
  free(path);
  if (*there && !force)
    return ss_fail(error, SS_ERROR_USAGE, "%s: has an evaluation already; --force replaces it", out);
  return SS_OK;
}

ss_status eval_report_folder(eval_report *report, const char *out, bool force, ss_error *error) {
  // Before anything is written, and again when nobody else can write any more.
  SS_TRY(find_existing(out, force, &report->replaces, error));
  SS_TRY(output_folder_open(&report->output, out, error));
  return find_existing(out, force, &report->replaces, error);
}

// The files of an evaluation, a growing list of malloc'ed names that ends in NULL.
typedef struct {
  char **names;
  int64_t count, capacity;
} file_list;

static void list_free(file_list *list) {
  for (int64_t k = 0; k < list->count; k++)
    free(list->names[k]);
  free(list->names);
}

static ss_status list_add(file_list *list, const char *before, const char *name, const char *after,
                          ss_error *error) {
  SS_TRY(ss_grow(&list->names, &list->capacity, list->count + 2, sizeof *list->names, "file names", error));
  SS_TRY(ss_format(&list->names[list->count], error, "%s%s%s", before, name, after));
  list->names[++list->count] = NULL;
  return SS_OK;
}

static ss_status list_items(file_list *list, const char *label, ss_error *error) {
  char name[64];
  eval_file_label(label, name, sizeof name);
  return list_add(list, "items-", name, ".jsonl", error);
}

// Items of the evaluation that is replaced, by the labels that its summary names: none where it cannot be read.
static ss_status list_old(file_list *list, const char *folder, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/summary.json", folder));
  json_t *summary = json_load_file(path, 0, NULL);
  free(path);
  ss_status status = list_add(list, "", "samples.txt", "", error);
  size_t k;
  const json_t *arm;
  json_array_foreach(json_object_get(summary, "arms"), k, arm) {
    const char *label = json_string_value(json_object_get(arm, "arm"));
    if (status == SS_OK && label != NULL)
      status = list_items(list, label, error);
  }
  json_decref(summary);
  return status;
}

static ss_status list_all(file_list *list, const eval_report *report, ss_error *error) {
  if (report->replaces)
    SS_TRY(list_old(list, report->output.folder, error));
  else if (report->count > 0 && report->results[0].n_sample > 0)
    SS_TRY(list_add(list, "", "samples.txt", "", error));
  for (int64_t k = 0; k < report->count; k++)
    SS_TRY(list_items(list, report->results[k].label, error));
  SS_TRY(list_add(list, "", "results.h5.xxh128", "", error));
  SS_TRY(list_add(list, "", "results.h5", "", error));
  // Last: where it stands, the evaluation is complete.
  return list_add(list, "", "summary.json", "", error);
}

static ss_status move_files(eval_report *report, ss_error *error) {
  file_list list = {0};
  ss_status status = list_all(&list, report, error);
  if (status == SS_OK)
    status = output_folder_commit(&report->output, (const char *const *)list.names, error);
  list_free(&list);
  return status;
}

// --- the results ---

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
  output_folder_abandon(&report->output);
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

// --- the end ---

ss_status eval_report_end(const eval_report *report, ss_status status, ss_error *error) {
  char finished[256] = "";
  size_t used = 0;
  if (status != SS_ERROR_INTERRUPTED)
    return status;
  for (int64_t k = 0; k < report->n_complete && used < sizeof finished; k++)
    used += (size_t)snprintf(finished + used, sizeof finished - used, "%s%s", k == 0 ? "" : ", ",
                             report->results[k].label);
  const eval_result *current = report->count > report->n_complete ? &report->results[report->count - 1]
                                                                  : NULL;
  char begun[96] = "";
  if (current != NULL && current->label[0] != '\0')
    snprintf(begun, sizeof begun, ", %lld examples of %s", (long long)current->all.items, current->label);
  const char *folder = report->output.folder;
  ss_error_clear(error);
  return ss_fail(error, SS_ERROR_INTERRUPTED, "%s%sinterrupted; finished: %s%s; %s%s",
                 folder == NULL ? "" : folder, folder == NULL ? "" : ": ",
                 finished[0] == '\0' ? "no arm" : finished, begun,
                 folder == NULL ? "nothing is kept without --out" : "the same command goes on",
                 report->replaces ? "; the evaluation that was there is as it was" : "");
}

ss_status eval_report_finish(eval_report *report, const json_t *head, bool as_json, ss_error *error) {
  if (report->notes == NULL)
    report->notes = json_array();
  SS_TRY(eval_measure(report->results, (int)report->count, report->against, error));
  json_t *sentences = eval_explain(report->results, (int)report->count);
  json_array_extend(report->notes, sentences);
  json_decref(sentences);
  json_t *summary = make_summary(report, head);
  ss_status status = SS_OK;
  if (report->output.partial != NULL)
    status = write_files(report, summary, report->output.partial, error);
  if (status == SS_OK && *report->stop)
    status = SS_ERROR_INTERRUPTED;
  if (status == SS_OK && report->output.partial != NULL)
    status = move_files(report, error);
  if (status == SS_OK && as_json) {
    json_dumpf(summary, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    printf("\n");
  } else if (status == SS_OK) {
    status = print_text(report, error);
  }
  json_decref(summary);
  return status;
}
