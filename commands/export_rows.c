#include "commands/export_rows.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cli.h"
#include "common/memory.h"
#include "data/span_keys.h"
#include "model/new_rows.h"
#include "train/model_file.h"

static ss_status check_target(const char *out, bool force, ss_error *error) {
  struct stat about;
  if (stat(out, &about) != 0)
    return SS_OK;
  if (S_ISDIR(about.st_mode))
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: is a folder, expected the name of a file", out);
  return force ? SS_OK : ss_fail(error, SS_ERROR_USAGE, "--out %s: exists; --force replaces it", out);
}

// The first row that is not the base's, as the notes of the import have it.
static ss_status find_first(const model_file *file, const char *path, int64_t *out, ss_error *error) {
  const json_t *tokens = json_object_get(json_object_get(file->config, "import"), "tokens");
  const char *learn = json_string_value(json_object_get(file->config, "train.learn"));
  if (!json_is_integer(tokens))
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: does not say which rows an import added, expected a model of `selfspan import` or "
                   "trained from one",
                   path);
  if (learn != NULL && strcmp(learn, "span_tokens") != 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: was trained with train.learn=%s, which changes more than its rows; expected "
                   "train.learn=span_tokens",
                   path, learn);
  int64_t kept = (int64_t)json_integer_value(tokens), n_text = vocabulary_n_text(file->vocabulary);
  *out = kept < n_text ? kept : n_text;
  if (kept < 1)
    return ss_fail(error, SS_ERROR_INPUT, "%s: import.tokens is %" PRId64 ", expected 1 or more", path, kept);
  return SS_OK;
}

static ss_status describe(new_rows *rows, const model_file *file, ss_error *error) {
  rows->n_anchor = vocabulary_span_tokens(file->vocabulary)->n_anchor;
  SS_TRY(ss_format(&rows->task, error, "%s", vocabulary_task_name(file->vocabulary)));
  return span_policy_text(file->arm, &file->policy, &rows->policy, error);
}

static ss_status export_rows(const char *path, const char *out, safetensors_dtype dtype, ss_error *error) {
  const ss_device_options plain = {0};
  ss_device *device = NULL;
  model_file file;
  new_rows rows = {0};
  int64_t first = 0;
  SS_TRY(ss_device_open(&device, "cpu", &plain, error));
  ss_status status = model_file_open(&file, path, device, error);
  if (status == SS_OK)
    status = find_first(&file, path, &first, error);
  if (status == SS_OK)
    status = new_rows_take(&rows, file.model, first, path, error);
  if (status == SS_OK)
    status = describe(&rows, &file, error);
  if (status == SS_OK)
    status = new_rows_write(&rows, out, dtype, error);
  if (status == SS_OK)
    printf("%s: rows %" PRId64 " to %" PRId64 " of %" PRId64 ", %s, arm %s, learnt on base %s\n", out,
           rows.first, rows.first + rows.n_row - 1, rows.n_embd, dtype == SAFETENSORS_F32 ? "F32" : "BF16",
           arm_name(file.arm), rows.base_hash);
  new_rows_free(&rows);
  model_file_close(&file);
  ss_device_close(device);
  return status;
}

ss_status export_rows_command(int argc, char **argv, ss_error *error) {
  const char *model = NULL, *out = NULL, *dtype = "f32";
  bool help = false, force = false;
  const ss_option options[] = {{"model", SS_OPTION_STRING, &model, "FILE",
                                "a model trained from an imported base: RUN/model.h5"},
                               {"out", SS_OPTION_STRING, &out, "FILE", "the safetensors file to write"},
                               {"dtype", SS_OPTION_STRING, &dtype, "NAME",
                                "f32, bit for bit, or bf16, rounded (f32)"},
                               {"force", SS_OPTION_FLAG, &force, NULL, "replace an existing file"},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"export rows",
       "Writes what training with train.learn=span_tokens learnt, the embedding's rows of the tokens that\n"
       "`selfspan import` added, with arm, span policy and a fingerprint of the base: whoever has that base\n"
       "makes the model of it again with `selfspan import --rows`.",
       "selfspan export rows --model FILE --out FILE [options]",
       options,
       NULL,
       "  selfspan export rows --model runs/cnndm/span/model.h5 --out summarize.safetensors\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  if (model == NULL || out == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--model and --out are needed");
  bool f32 = strcmp(dtype, "f32") == 0;
  if (!f32 && strcmp(dtype, "bf16") != 0)
    return ss_fail(error, SS_ERROR_USAGE, "--dtype %s, expected f32 or bf16", dtype);
  SS_TRY(check_target(out, force, error));
  return export_rows(model, out, f32 ? SAFETENSORS_F32 : SAFETENSORS_BF16, error);
}
