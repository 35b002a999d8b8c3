// selfspan generate: derivations for given prompts, step by step, with the spans that the model selected.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/commands.h"
#include "commands/generate.h"
#include "common/file.h"
#include "common/memory.h"
#include "data/tasks/arithmetic.h"
#include "data/tasks/jsonl.h"
#include "infer/decoder.h"
#include "train/model_file.h"

// --- prompts ---

static ss_status add_expression(generate_run *run, const char *text, ss_error *error) {
  generate_prompt *prompt;
  SS_TRY(generate_prompt_add(run, &prompt, error));
  SS_TRY(arithmetic_expression_create(&prompt->expression, error));
  return arithmetic_parse(prompt->expression, text, (int64_t)strlen(text), "--expression", error);
}

// Expressions become prompts with their steps. The model is open: a value costs much more than finding that it has too few
// anchors for the steps.
static ss_status work_out(const generate_run *run, ss_error *error) {
  const arithmetic_config *config = &run->options->arithmetic;
  int32_t n_anchor = vocabulary_span_tokens(run->file->vocabulary)->n_anchor;
  for (int64_t k = 0; k < run->n_prompt; k++) {
    generate_prompt *prompt = &run->prompts[k];
    char id[32];
    if (prompt->expression == NULL)
      continue;
    snprintf(id, sizeof id, "expression-%lld", (long long)k + 1);
    SS_TRY(arithmetic_fits(prompt->expression, n_anchor, id, error));
    SS_TRY(arithmetic_evaluate(prompt->expression, (int32_t)config->division_decimals, id, error));
    SS_TRY(arithmetic_build(prompt->expression, (int32_t)config->piece_tokens, id, &prompt->content, error));
    prompt->has_gold = true;
  }
  return SS_OK;
}

// Every line that is not empty becomes a context segment of one prompt.
static ss_status add_prompt_file(generate_run *run, const char *path, ss_error *error) {
  char *text = NULL;
  generate_prompt *prompt;
  SS_TRY(generate_prompt_add(run, &prompt, error));
  SS_TRY(ss_read_text(path, &text, error));
  example_reset(&prompt->content, path);
  ss_status status = SS_OK;
  for (const char *line = text; *line != '\0' && status == SS_OK;) {
    size_t length = strcspn(line, "\n");
    if (strspn(line, " \t\r") < length)
      status = example_segment_add(&prompt->content, SPAN_CONTEXT, line, (int64_t)length, error);
    line += length + (line[length] == '\n');
  }
  if (status == SS_OK && prompt->content.n_segment == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no text", path);
  free(text);
  return status;
}

// One prompt a line: the context segments of the jsonl task's rows; steps and answers, when there, are gold.
static ss_status add_jsonl(generate_run *run, const char *path, ss_error *error) {
  char *text = NULL, where[512];
  SS_TRY(ss_read_text(path, &text, error));
  ss_status status = SS_OK;
  int64_t number = 0;
  for (const char *line = text; *line != '\0' && status == SS_OK;) {
    size_t length = strcspn(line, "\n");
    number++;
    if (strspn(line, " \t\r") < length) {
      generate_prompt *prompt;
      data_split split;
      snprintf(where, sizeof where, "%s:%lld", path, (long long)number);
      status = generate_prompt_add(run, &prompt, error);
      if (status == SS_OK)
        status = jsonl_parse_row(line, (int64_t)length, where, &prompt->content, &split, error);
    }
    line += length + (line[length] == '\n');
  }
  if (status == SS_OK && run->n_prompt == 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: no prompts", path);
  free(text);
  return status;
}

static ss_status read_prompts(generate_run *run, ss_error *error) {
  const generate_options *options = run->options;
  for (int k = 0; k < options->expressions.count; k++)
    SS_TRY(add_expression(run, options->expressions.items[k], error));
  if (options->prompt_file != NULL)
    SS_TRY(add_prompt_file(run, options->prompt_file, error));
  if (options->jsonl != NULL)
    SS_TRY(add_jsonl(run, options->jsonl, error));
  return SS_OK;
}

// --- decoding ---

static ss_status next_request(void *user, decode_request *out, bool *done, ss_error *error) {
  generate_run *run = user;
  *done = run->n_asked == run->n_prompt;
  if (*done)
    return SS_OK;
  generate_prompt *prompt = &run->prompts[run->n_asked];
  const model_file *file = run->file;
  rendering annotated = {0};
  ss_status status = render_annotated(&annotated, &prompt->content, file->vocabulary, file->policy.max_header,
                                      error);
  if (status == SS_OK)
    status = render_arm(&prompt->rendered, &annotated, file->arm, file->vocabulary, 0, error);
  rendering_free(&annotated);
  SS_TRY(status);
  memset(out, 0, sizeof *out);
  out->index = run->n_asked++;
  out->prompt = prompt->rendered.tokens;
  out->n_prompt = prompt->rendered.prompt_end;
  out->preamble_end = prompt->rendered.layout.preamble_end;
  return SS_OK;
}

static ss_status take_result(void *user, const decode_result *result, ss_error *error) {
  generate_run *run = user;
  const generate_prompt *prompt = &run->prompts[result->index];
  return prompt->article != NULL && run->list == NULL ? generate_show_news(run, prompt, result, error)
                                                      : generate_show(run, prompt, result, error);
}

static ss_status run_model(generate_run *run, ss_device *device, ss_error *error) {
  model_file file;
  decoder *decoder = NULL;
  SS_TRY(model_file_open(&file, run->options->model, device, error));
  run->file = &file;
  decode_options decode = run->options->decode;
  decode.trace_rows = true;
  decode.max_batch = 1;  // in the order of the prompts
  span_keys keys = span_keys_of(&file.policy);
  const ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  ss_status status = SS_OK;
  for (int k = 0; k < run->options->assignments.count && status == SS_OK; k++)
    if (strncmp(run->options->assignments.items[k], "span.", 5) == 0)
      status = ss_config_set(groups, run->options->assignments.items[k], "--set", error);
  span_policy policy = span_keys_policy(&keys);
  file.policy = arm_policy(file.arm, &policy);
  if (status == SS_OK)
    status = work_out(run, error);
  if (status == SS_OK)
    status = generate_add_texts(run, error);
  if (status == SS_OK)
    status = decoder_create(&decoder, file.model, file.vocabulary, file.arm, &file.policy, &decode,
                            gpt_get_config(file.model)->n_positions, error);
  if (status == SS_OK && run->options->stream)
    decoder_set_watch(decoder, generate_stream, run);
  decode_statistics statistics = {0};
  if (status == SS_OK)
    status = decoder_run(decoder, next_request, take_result, run, &statistics, error);
  if (status == SS_OK)
    generate_show_speed(run, &statistics);
  decoder_free(decoder);
  model_file_close(&file);
  return status;
}

static ss_status run_all(const generate_options *options, ss_error *error) {
  generate_run run = {.options = options};
  ss_device *device = NULL;
  ss_status status = read_prompts(&run, error);
  if (status == SS_OK && options->json)
    run.list = json_array();
  if (status == SS_OK)
    status = device_options_open(&device, &options->device, error);
  size_t said = status == SS_OK && !options->json ? device_say(device) : 0;
  if (status == SS_OK)
    status = run_model(&run, device, error);
  if (said > 0)
    device_say_more(device, said);
  if (status == SS_OK && options->json) {
    json_dumpf(run.list, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    printf("\n");
  }
  json_decref(run.list);
  for (int64_t k = 0; k < run.n_prompt; k++) {
    arithmetic_expression_free(run.prompts[k].expression);
    example_free(&run.prompts[k].content);
    rendering_free(&run.prompts[k].rendered);
  }
  free(run.prompts);
  if (device != NULL)
    ss_device_close(device);
  return status;
}

// --- the command line ---

static const char examples[] =
    "  selfspan generate --model runs/span/model.h5 --expression '((1+2)*3)' --show-spans\n"
    "  selfspan generate --model runs/span/model.h5 --expression '(8-(2*3))' --temperature 0.7 --set "
    "decode.seed=1\n"
    "  selfspan generate --model runs/news/model.h5 --text article.txt --show-spans\n"
    "  selfspan generate --model models/smollm2.h5 --prompt 'The capital of France is' --set "
    "decode.max_tokens=40\n"
    "  selfspan generate --model runs/notes/model.h5 --prompt-file notes.txt\n"
    "  selfspan generate --model runs/notes/model.h5 --jsonl prompts.jsonl --json\n";

static ss_status parse_and_run(generate_options *options, int argc, char **argv, ss_error *error) {
  const ss_key_group groups[] = {{decode_keys, &options->decode},
                                 {span_policy_keys, &options->span},
                                 {arithmetic_keys, &options->arithmetic},
                                 {cnndm_keys, &options->cnndm},
                                 {NULL, NULL}};
  double temperature = -1;
  const ss_option table[] = {
      {"model", SS_OPTION_STRING, &options->model, "FILE", "a trained model, e.g. RUN/model.h5"},
      {"expression", SS_OPTION_LIST, &options->expressions, "TEXT", "an arithmetic prompt (repeatable)"},
      {"text", SS_OPTION_LIST, &options->texts, "FILE",
       "an article to summarise, cleaned and cut into sentences as the model's data were (repeatable)"},
      {"prompt", SS_OPTION_STRING, &options->prompt, "TEXT",
       "a text to continue as a plain language model does, without spans; \"\": from nothing"},
      {"prompt-file", SS_OPTION_STRING, &options->prompt_file, "FILE", "a text, one context segment a line"},
      {"jsonl", SS_OPTION_STRING, &options->jsonl, "FILE", "prompts as rows of the jsonl task"},
      {"show-spans", SS_OPTION_FLAG, &options->show_spans, NULL, "what each step references and reads"},
      {"stream", SS_OPTION_FLAG, &options->stream, NULL, "print tokens as they come, before the table"},
      {"temperature", SS_OPTION_REAL, &temperature, "T",
       "sampling temperature (decode.temperature); 0: greedy"},
      {"constrain", SS_OPTION_FLAG, &options->constrain, NULL, "forbid malformed headers (decode.constrain)"},
      {"set", SS_OPTION_LIST, &options->assignments, "KEY=VALUE", "override one key (repeatable)"},
      DEVICE_OPTIONS(options->device),
      {"json", SS_OPTION_FLAG, &options->json, NULL, "print a JSON list"},
      {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"generate",
                                "Continues prompts, selecting spans on the way.",
                                "selfspan generate --model FILE --expression TEXT [options]",
                                table,
                                groups,
                                examples};
  bool help = false;
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  SS_TRY(ss_cli_config(groups, NULL, &options->assignments, error));
  if (temperature >= 0)
    options->decode.temperature = temperature;
  options->decode.constrain = options->decode.constrain || options->constrain;
  if (options->model == NULL)
    return ss_fail(error, SS_ERROR_USAGE,
                   "--model is missing: the file of a trained model, e.g. RUN/model.h5");
  if (options->stream && options->json)
    return ss_fail(error, SS_ERROR_USAGE, "--stream and --json exclude each other");
  bool spans = options->expressions.count > 0 || options->texts.count > 0 || options->prompt_file != NULL ||
               options->jsonl != NULL;
  if (!spans && options->prompt == NULL)
    return ss_fail(error, SS_ERROR_USAGE,
                   "no prompt: give --expression, --text, --prompt-file, --jsonl or --prompt");
  if (options->prompt != NULL && (spans || options->show_spans || options->decode.constrain))
    return ss_fail(error, SS_ERROR_USAGE,
                   "--prompt knows no spans: no other prompt, --show-spans or --constrain");
  SS_TRY(device_options_check(&options->device, error));
  if (options->decode.control == DECODE_ORACLE || options->decode.control == DECODE_REPLAY)
    return ss_fail(error, SS_ERROR_USAGE,
                   "decode.control: oracle and replay need gold; use selfspan eval --controls");
  if (options->prompt != NULL)
    return generate_plain(options, error);
  return run_all(options, error);
}

ss_status ss_command_generate(int argc, char **argv, ss_error *error) {
  generate_options *options = NULL;
  SS_TRY(ss_allocate(&options, 1, sizeof *options, "options", error));
  options->device = (device_options)DEVICE_DEFAULTS;
  ss_status status = parse_and_run(options, argc, argv, error);
  ss_string_list_free(&options->expressions);
  ss_string_list_free(&options->texts);
  ss_string_list_free(&options->assignments);
  free(options);
  return status;
}
