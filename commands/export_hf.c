#include "commands/export_hf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/progress.h"
#include "data/tokenizer_write.h"
#include "model/export.h"
#include "train/model_file.h"

static ss_status check_target(const char *out, bool force, ss_error *error) {
  static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
  for (size_t k = 0; k < sizeof names / sizeof *names && !force; ++k) {
    char *path = NULL;
    SS_TRY(ss_format(&path, error, "%s/%s", out, names[k]));
    bool found = ss_file_exists(path);
    free(path);
    if (found)
      return ss_fail(error, SS_ERROR_USAGE, "--out %s: has a %s; --force replaces it", out, names[k]);
  }
  return SS_OK;
}

// --force may have found another model's tokenizer, which must not pass for this one's.
static ss_status leave_tokenizer(const char *out, const char *reason, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s/tokenizer.json", out));
  ss_status status = SS_OK;
  if (ss_file_exists(path))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: is not this model's, which has no tokenizer files: %s", path,
                     reason);
  else
    fprintf(stderr, "selfspan export: no tokenizer files: %s\n", reason);
  free(path);
  return status;
}

// A vocabulary of characters or bytes has no tokenizer that others could load; some tokenizers have no such file.
static ss_status write_tokenizer(const vocabulary *vocabulary, const char *out, ss_error *error) {
  const tokenizer *tokenizer = vocabulary_tokenizer(vocabulary);
  ss_error refusal = {0};
  if (tokenizer == NULL)
    return leave_tokenizer(out, "the vocabulary is one of characters or bytes", error);
  ss_status status = tokenizer_write_json(tokenizer, out, vocabulary_bos(vocabulary),
                                          vocabulary_span_tokens(vocabulary)->eos, &refusal);
  if (status == SS_ERROR_INPUT)
    return leave_tokenizer(out, refusal.message, error);
  return status == SS_OK ? SS_OK : ss_fail(error, status, "%s", refusal.message);
}

static ss_status export_model(const char *path, const char *out, safetensors_dtype dtype, bool quiet,
                              ss_error *error) {
  const ss_device_options plain = {0};
  ss_device *device = NULL;
  model_file file;
  ss_progress progress;
  const char *architecture = NULL;
  SS_TRY(ss_device_open(&device, "cpu", &plain, error));
  ss_status status = model_file_open(&file, path, device, error);
  if (status == SS_OK && export_architecture(gpt_get_config(file.model), &architecture, error) != SS_OK)
    status = ss_error_context(error, "%s", path);
  if (status == SS_OK)
    status = ss_make_directories(out, error);
  if (status == SS_OK) {
    const export_options options = {dtype, vocabulary_bos(file.vocabulary),
                                    vocabulary_span_tokens(file.vocabulary)->eos, ss_progress_show,
                                    &progress};
    ss_progress_start(&progress, "export", "tensors", 0, 0, quiet);
    status = export_huggingface(file.model, out, &options, error);
    if (status == SS_OK)
      ss_progress_finish(&progress, progress.total, NULL);
  }
  if (status == SS_OK)
    status = write_tokenizer(file.vocabulary, out, error);
  if (status == SS_OK)
    printf("%s: %s, %" PRId64 " parameters, %s\n", out, architecture, gpt_n_parameter(file.model),
           dtype == SAFETENSORS_F32 ? "F32" : "BF16");
  model_file_close(&file);
  ss_device_close(device);
  return status;
}

ss_status export_hf_command(int argc, char **argv, ss_error *error) {
  const char *model = NULL, *out = NULL, *dtype = "f32";
  bool help = false, quiet = false, force = false;
  const ss_option options[] = {{"model", SS_OPTION_STRING, &model, "FILE",
                                "a model file: RUN/model.h5, or from `selfspan import`"},
                               {"out", SS_OPTION_STRING, &out, "DIR", "the folder to write into"},
                               {"dtype", SS_OPTION_STRING, &dtype, "NAME", "f32 or bf16 (f32)"},
                               {"force", SS_OPTION_FLAG, &force, NULL, "replace existing files"},
                               {"quiet", SS_OPTION_FLAG, &quiet, NULL, "no progress"},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"export hf",
       "Writes a model as Hugging Face's transformers load it: config.json, the tokenizer and\n"
       "model.safetensors, GPT2LMHeadModel or LlamaForCausalLM.",
       "selfspan export hf --model FILE --out DIR [options]",
       options,
       NULL,
       "  selfspan export hf --model runs/cnndm/span/model.h5 --out span-hf --dtype bf16\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  if (model == NULL || out == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--model and --out are needed");
  bool f32 = strcmp(dtype, "f32") == 0;
  if (!f32 && strcmp(dtype, "bf16") != 0)
    return ss_fail(error, SS_ERROR_USAGE, "--dtype %s, expected f32 or bf16", dtype);
  SS_TRY(check_target(out, force, error));
  return export_model(model, out, f32 ? SAFETENSORS_F32 : SAFETENSORS_BF16, quiet, error);
}
