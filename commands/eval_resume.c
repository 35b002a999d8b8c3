// What an interrupted evaluation has decoded lies in OUT/.resume, a file an arm, until the evaluation is complete.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/eval.h"
#include "common/file.h"
#include "common/memory.h"
#include "eval/results.h"

// Everything that decides what is decoded for an example.
static json_t *describe_work(const eval_report *report, const eval_options *options,
                             const eval_request *request, const char *model) {
  arithmetic_config arithmetic = options->arithmetic;
  const ss_key_group groups[] = {{options->expressions != NULL ? arithmetic_keys : NULL, &arithmetic},
                                 {NULL, NULL}};
  const char *precision = gpt_device(request->model)->synchronous ? "fp32" : options->device.precision;
  json_t *work = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s}", "model", model, "data", report->source, "arm",
                           arm_name(request->arm), "random_anchors", (int)request->random_anchor_offset,
                           "device", options->device.name, "precision", precision);
  json_t *settings = eval_settings_json(request), *asked = ss_config_json(groups);
  json_object_update(work, settings);
  json_object_update(work, asked);
  json_decref(settings);
  json_decref(asked);
  return work;
}

static ss_status open_file(const eval_report *report, const eval_options *options,
                           const eval_request *request, const char *path, const json_t *work, eval_kept *kept,
                           ss_error *error) {
  char *other = NULL;
  SS_TRY(eval_kept_open(kept, path, work, options->force, &other, error));
  ss_status status = SS_OK;
  if (kept->file == NULL)
    status = ss_fail(error, SS_ERROR_USAGE,
                     "%s: an interrupted evaluation of %s has another \"%s\"; --force begins anew", path,
                     request->label, other);
  else if (other != NULL)
    fprintf(stderr, "selfspan: %s: begins anew, for the interrupted evaluation has another \"%s\"\n", path,
            other);
  else if (kept->n_sequence > 0 && !request->quiet)
    fprintf(stderr, "selfspan: %s: %s goes on after %lld examples\n", report->output.folder, request->label,
            (long long)kept->n_sequence);
  free(other);
  return status;
}

ss_status eval_resume_open(const eval_report *report, const eval_options *options,
                           const eval_request *request, const char *model_path, eval_kept *kept,
                           ss_error *error) {
  char model[33], name[64], *path = NULL;
  SS_TRY(ss_hash_file(model_path, model, error));
  SS_TRY(ss_make_directories(report->output.resume, error));
  eval_file_label(request->label, name, sizeof name);
  SS_TRY(ss_format(&path, error, "%s/%s.jsonl", report->output.resume, name));
  json_t *work = describe_work(report, options, request, model);
  ss_status status = open_file(report, options, request, path, work, kept, error);
  json_decref(work);
  free(path);
  return status;
}
