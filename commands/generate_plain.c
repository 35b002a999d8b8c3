// selfspan generate --prompt: a text continued token by token by a plain language model, without the span grammar.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/generate.h"
#include "common/memory.h"
#include "common/progress.h"
#include "common/random.h"
#include "common/utf8.h"
#include "data/tokenizer.h"
#include "infer/sampler.h"

typedef struct {
  const generate_options *options;
  model_file *file;
  int32_t *tokens;  // [n_token] the prompt, then what came
  int64_t n_token, capacity, n_prompt;
  int64_t n_begin;   // 1 where the first token begins the text and is none of it
  int64_t bos, eos;  // the imported model's own, -1: none
  uint8_t *allowed;  // [V] text tokens, and those that end a text
  gpt_cache *cache;
  sampler *sampler;
  float *logits;
  int64_t n_shown;  // bytes printed
  double seconds;
} plain_run;

// What `selfspan import` noted. A model that was not imported has no such ids.
static int64_t noted_id(const model_file *file, const char *name) {
  const json_t *value = json_object_get(json_object_get(file->config, "import"), name);
  int64_t id = json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
  return id < vocabulary_n_text(file->vocabulary) ? id : -1;
}

// Tokens at which a text is over.
static bool is_end(const plain_run *run, int32_t token) {
  const tokenizer *tokenizer = vocabulary_tokenizer(run->file->vocabulary);
  return token >= vocabulary_n_text(run->file->vocabulary) || token == run->bos || token == run->eos ||
         (tokenizer != NULL && tokenizer_is_special(tokenizer, token));
}

// The beginning of a text, as its tokenizer takes it: some put a blank before it.
static ss_status encode(plain_run *run, const char *text, ss_error *error) {
  const vocabulary *vocabulary = run->file->vocabulary;
  const tokenizer *tokenizer = vocabulary_tokenizer(vocabulary);
  int64_t n = (int64_t)strlen(text);
  tokenizer_scratch *scratch = NULL;
  if (tokenizer == NULL)
    return vocabulary_encode(vocabulary, text, n, &run->tokens, &run->n_token, &run->capacity, "--prompt",
                             error);
  SS_TRY(tokenizer_scratch_create(&scratch, tokenizer, error));
  ss_status status = tokenizer_encode(tokenizer, scratch, text, n, TOKENIZER_PLAIN, &run->tokens,
                                      &run->n_token, &run->capacity, error);
  tokenizer_scratch_free(scratch);
  return status;
}

// Everything so far as text, malloc'ed, *n bytes of it.
static ss_status decode(const plain_run *run, char **out, int64_t *n, ss_error *error) {
  const tokenizer *tokenizer = vocabulary_tokenizer(run->file->vocabulary);
  const int32_t *tokens = run->tokens + run->n_begin;
  int64_t n_token = run->n_token - run->n_begin;
  if (tokenizer != NULL)
    return tokenizer_decode(tokenizer, tokens, n_token, TOKENIZER_PLAIN, out, n, error);
  SS_TRY(vocabulary_decode(run->file->vocabulary, tokens, n_token, true, out, error));
  *n = (int64_t)strlen(*out);
  return SS_OK;
}

static ss_status read_prompt(plain_run *run, ss_error *error) {
  const char *text = run->options->prompt;
  bool add_bos = json_is_true(json_object_get(json_object_get(run->file->config, "import"), "add_bos"));
  run->bos = noted_id(run->file, "bos");
  run->eos = noted_id(run->file, "eos");
  // Without a first token there is nothing to continue: the begin of text stands in for an empty prompt.
  if (run->bos >= 0 && (add_bos || text[0] == '\0')) {
    SS_TRY(ss_grow(&run->tokens, &run->capacity, 1, sizeof *run->tokens, "tokens", error));
    run->tokens[run->n_token++] = (int32_t)run->bos;
    run->n_begin = 1;
  }
  if (text[0] != '\0')
    SS_TRY(encode(run, text, error));
  run->n_prompt = run->n_token;
  int64_t most = gpt_get_config(run->file->model)->n_positions;
  if (run->n_token == 0)
    return ss_fail(error, SS_ERROR_USAGE, "--prompt is empty, and the model has no token that begins a text");
  if (run->n_token > most)
    return ss_fail(error, SS_ERROR_LIMIT, "--prompt has %lld tokens, the model has %lld positions",
                   (long long)run->n_token, (long long)most);
  return SS_OK;
}

static ss_status prepare(plain_run *run, ss_error *error) {
  const decode_options *decode = &run->options->decode;
  gpt *model = run->file->model;
  int32_t size = vocabulary_size(run->file->vocabulary);
  int64_t rows = gpt_get_config(model)->n_positions;
  if (decode->max_tokens > 0 && run->n_prompt + decode->max_tokens < rows)
    rows = run->n_prompt + decode->max_tokens;
  SS_TRY(ss_grow(&run->tokens, &run->capacity, rows, sizeof *run->tokens, "tokens", error));
  SS_TRY(ss_allocate(&run->allowed, size, 1, "a table of tokens", error));
  SS_TRY(ss_allocate(&run->logits, size, sizeof *run->logits, "logits", error));
  memset(run->allowed, 1, (size_t)vocabulary_n_text(run->file->vocabulary));
  run->allowed[vocabulary_span_tokens(run->file->vocabulary)->eos] = 1;
  run->capacity = rows;
  SS_TRY(sampler_create(&run->sampler, size, decode->temperature, decode->top_k, decode->top_p, error));
  return gpt_cache_create(&run->cache, model, 1, rows, error);
}

// run->logits = those after the tokens from row `first` on.
static ss_status compute(plain_run *run, int64_t first, int32_t *rows, ss_error *error) {
  int32_t n = (int32_t)(run->n_token - first), last = n - 1;
  for (int32_t i = 0; i < n; ++i)
    rows[i] = (int32_t)first + i;
  const ss_attention_view causal = {.n_query = n, .self_last = (int32_t)first};
  const gpt_inference_batch batch = {.n_row = n,
                                     .tokens = run->tokens + first,
                                     .positions = rows,
                                     .cache_rows = rows,
                                     .views = &causal,
                                     .n_view = 1,
                                     .logit_rows = &last,
                                     .n_logit_row = 1};
  return gpt_infer(run->file->model, run->cache, &batch, run->logits, error);
}

// Prints what the last token added: what it is depends on the tokens before it.
static ss_status show(plain_run *run, ss_error *error) {
  char *text = NULL;
  int64_t n = 0;
  SS_TRY(decode(run, &text, &n, error));
  fwrite(text + run->n_shown, 1, (size_t)(n - run->n_shown), stdout);
  fflush(stdout);
  run->n_shown = n;
  free(text);
  return SS_OK;
}

static ss_status continue_text(plain_run *run, ss_error *error) {
  int32_t *rows = NULL;
  ss_random random = ss_random_seed((uint64_t)run->options->decode.seed, 0);
  SS_TRY(ss_allocate(&rows, run->n_prompt, sizeof *rows, "rows", error));
  double start = ss_seconds();
  ss_status status = run->options->json ? SS_OK : show(run, error);
  for (int64_t first = 0; run->n_token < run->capacity && status == SS_OK;) {
    int64_t before = run->n_token;
    status = compute(run, first, rows, error);
    if (status != SS_OK)
      break;
    int32_t token = sampler_choose(run->sampler, run->logits, run->allowed, &random, NULL);
    if (is_end(run, token))
      break;
    first = before;
    run->tokens[run->n_token++] = token;
    if (!run->options->json)
      status = show(run, error);
  }
  run->seconds = ss_seconds() - start;
  free(rows);
  return status;
}

static ss_status report(const plain_run *run, ss_error *error) {
  int64_t n = run->n_token - run->n_prompt;
  if (!run->options->json) {
    printf("\n");
    fprintf(stderr, "%lld tokens, %.1f a second\n", (long long)n,
            run->seconds > 0 ? (double)n / run->seconds : 0);
    return SS_OK;
  }
  char *text = NULL;
  int64_t n_text = 0;
  SS_TRY(decode(run, &text, &n_text, error));
  json_t *object = json_pack("{s:o, s:I, s:I, s:f}", "text", ss_utf8_json(text), "prompt_tokens",
                             (json_int_t)run->n_prompt, "tokens", (json_int_t)n, "seconds", run->seconds);
  json_t *ids = json_array();
  for (int64_t i = 0; i < run->n_token; ++i)
    json_array_append_new(ids, json_integer(run->tokens[i]));
  free(text);
  if (json_object_set_new(object, "ids", ids) != 0) {
    json_decref(object);
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the report");
  }
  json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
  printf("\n");
  json_decref(object);
  return SS_OK;
}

ss_status generate_plain(const generate_options *options, ss_error *error) {
  ss_device *device = NULL;
  model_file file = {0};
  plain_run run = {.options = options, .file = &file};
  if (options->decode.no_repeat_ngram > 0)
    return ss_fail(error, SS_ERROR_USAGE, "decode.no_repeat_ngram does not serve --prompt");
  SS_TRY(device_options_open(&device, &options->device, error));
  ss_status status = model_file_open(&file, options->model, device, error);
  if (status == SS_OK)
    status = read_prompt(&run, error);
  if (status == SS_OK)
    status = prepare(&run, error);
  if (status == SS_OK)
    status = continue_text(&run, error);
  if (status == SS_OK)
    status = report(&run, error);
  if (run.cache != NULL)
    gpt_cache_free(run.cache);
  sampler_free(run.sampler);
  free(run.tokens);
  free(run.allowed);
  free(run.logits);
  model_file_close(&file);
  ss_device_close(device);
  return status;
}
