// Inside `selfspan generate`: prompts, the run, and how a derivation is shown.
#ifndef SELFSPAN_COMMANDS_GENERATE_H
#define SELFSPAN_COMMANDS_GENERATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "commands/device_options.h"
#include "common/cli.h"
#include "data/render.h"
#include "data/span_keys.h"
#include "data/tasks/arithmetic.h"
#include "data/tasks/cnndm.h"
#include "infer/decoder.h"
#include "train/model_file.h"

typedef struct {
  const char *model, *prompt, *prompt_file, *jsonl;
  device_options device;
  ss_string_list expressions, texts, assignments;
  bool show_spans, stream, constrain, json;
  decode_options decode;
  span_keys span;  // only to check --set
  arithmetic_config arithmetic;
  cnndm_config cnndm;
} generate_options;

typedef struct {
  arithmetic_expression *expression;  // of --expression, parsed; else NULL
  example content;
  bool has_gold;        // content has the right answer too
  const char *article;  // the file of an article; NULL: another prompt
  rendering rendered;
} generate_prompt;

typedef struct {
  const generate_options *options;
  const model_file *file;
  generate_prompt *prompts;
  int64_t n_prompt, prompt_capacity, n_asked;
  json_t *list;    // one object a prompt with --json, else NULL
  bool in_header;  // --stream: between <[> and <:>
} generate_run;

// An empty prompt at the end; valid until the next call.
ss_status generate_prompt_add(generate_run *run, generate_prompt **out, ss_error *error);

// Prints one finished sequence, or appends it to run->list.
ss_status generate_show(generate_run *run, const generate_prompt *prompt, const decode_result *result,
                        ss_error *error);

// --- generate_news.c ---
// Makes a prompt of every article of --text, as the cnndm task does. The model is open.
ss_status generate_add_texts(generate_run *run, ss_error *error);
// Prints a summary; with --show-spans each sentence with the article sentences that it read.
ss_status generate_show_news(const generate_run *run, const generate_prompt *prompt,
                             const decode_result *result, ss_error *error);
// Prints how fast articles were summarised; nothing without --text, or with --json.
void generate_show_speed(const generate_run *run, const decode_statistics *statistics);

// --- generate_plain.c ---
// Continues options->prompt without the span grammar, up to decode.max_tokens, a token that ends a text, or the last position.
ss_status generate_plain(const generate_options *options, ss_error *error);

// Prints one generated token as it comes (a decode_watch; user: the generate_run). Segments end their line.
void generate_stream(void *user, int64_t index, int32_t token, int32_t rows);

#endif
