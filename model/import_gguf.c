// Settings of a GGUF file. Keys of the architecture that are not known here are refused: each may change results.
#include <math.h>
#include <string.h>

#include "model/import_private.h"

typedef enum { KEY_COUNT, KEY_REAL, KEY_CHECKED } key_kind;

typedef struct {
  const char *name;  // after "llama." or "gpt2."
  key_kind kind;
  bool needed;
  size_t offset;  // into gpt_config
} key_row;

static const key_row keys[] = {{"block_count", KEY_COUNT, true, offsetof(gpt_config, n_layer)},
                               {"embedding_length", KEY_COUNT, true, offsetof(gpt_config, n_embd)},
                               {"feed_forward_length", KEY_COUNT, true, offsetof(gpt_config, n_ff)},
                               {"attention.head_count", KEY_COUNT, true, offsetof(gpt_config, n_head)},
                               {"attention.head_count_kv", KEY_COUNT, false, offsetof(gpt_config, n_kv_head)},
                               {"context_length", KEY_COUNT, true, offsetof(gpt_config, n_positions)},
                               {"rope.freq_base", KEY_REAL, false, offsetof(gpt_config, rotary_theta)},
                               {"vocab_size", KEY_CHECKED, false, 0},
                               {"rope.dimension_count", KEY_CHECKED, false, 0},
                               {"attention.key_length", KEY_CHECKED, false, 0},
                               {"attention.value_length", KEY_CHECKED, false, 0},
                               {"rope.scaling.type", KEY_CHECKED, false, 0},
                               {"use_parallel_residual", KEY_CHECKED, false, 0}};
enum { N_KEY = sizeof keys / sizeof *keys };

// Each architecture has its own.
static const key_row rms_epsilon = {"attention.layer_norm_rms_epsilon", KEY_REAL, true,
                                    offsetof(gpt_config, norm_epsilon)};
static const key_row layer_epsilon = {"attention.layer_norm_epsilon", KEY_REAL, true,
                                      offsetof(gpt_config, norm_epsilon)};

typedef struct {
  const gguf *file;
  const char *prefix;  // "llama."
  const key_row *epsilon;
  gpt_config *config;
} reading;

static const char *full_name(const reading *reading, const char *name, char out[128]) {
  snprintf(out, 128, "%s%s", reading->prefix, name);
  return out;
}

static ss_status read_key(const reading *reading, const key_row *row, ss_error *error) {
  char name[128];
  full_name(reading, row->name, name);
  if (!row->needed && !gguf_has(reading->file, name))
    return SS_OK;
  void *out = (char *)reading->config + row->offset;
  if (row->kind == KEY_REAL) {
    SS_TRY(gguf_real(reading->file, name, out, error));
    double real = *(double *)out;
    if (!(real > 0) || !isfinite(real))
      return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is %g, expected a positive number",
                     gguf_where(reading->file), name, real);
    return SS_OK;
  }
  SS_TRY(gguf_integer(reading->file, name, out, error));
  int64_t count = *(int64_t *)out;
  if (count < 1 || count > 1 << 30)
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is %lld, expected 1 or more",
                   gguf_where(reading->file), name, (long long)count);
  return SS_OK;
}

static ss_status check_count(const reading *reading, const char *key, int64_t expected, ss_error *error) {
  char name[128];
  int64_t found = 0;
  if (!gguf_has(reading->file, full_name(reading, key, name)))
    return SS_OK;
  SS_TRY(gguf_integer(reading->file, name, &found, error));
  if (found != expected)
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is %lld, expected %lld",
                   gguf_where(reading->file), name, (long long)found, (long long)expected);
  return SS_OK;
}

static ss_status refuse_unknown(const reading *reading, ss_error *error) {
  size_t n = strlen(reading->prefix);
  for (int64_t i = 0; i < gguf_n_key(reading->file); ++i) {
    const char *key = gguf_key(reading->file, i);
    bool known = strncmp(key, reading->prefix, n) != 0 || strcmp(key + n, reading->epsilon->name) == 0;
    for (int k = 0; k < N_KEY && !known; ++k)
      known = strcmp(key + n, keys[k].name) == 0;
    if (!known)
      return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s is a setting that is not supported",
                     gguf_where(reading->file), key);
  }
  return SS_OK;
}

static ss_status check_rest(const reading *reading, ss_error *error) {
  const gpt_config *config = reading->config;
  char name[128];
  int64_t head = config->n_embd / config->n_head;
  SS_TRY(check_count(reading, "vocab_size", config->vocab_size, error));
  if (config->position == GPT_POSITION_ROTARY)
    SS_TRY(check_count(reading, "rope.dimension_count", head, error));
  SS_TRY(check_count(reading, "attention.key_length", head, error));
  SS_TRY(check_count(reading, "attention.value_length", head, error));
  if (gguf_has(reading->file, full_name(reading, "rope.scaling.type", name)) &&
      !gguf_string_is(reading->file, name, "none"))
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: metadata key %s scales the rotary angles, which is not supported",
                   gguf_where(reading->file), name);
  bool parallel = false;
  if (gguf_has(reading->file, full_name(reading, "use_parallel_residual", name)))
    SS_TRY(gguf_boolean(reading->file, name, &parallel, error));
  if (parallel)
    return ss_fail(error, SS_ERROR_INPUT, "%s: metadata key %s, expected false", gguf_where(reading->file),
                   name);
  return refuse_unknown(reading, error);
}

ss_status import_read_gguf(model_import *import, const gguf *file, ss_error *error) {
  gpt_config *config = &import->about.model;
  bool llama = gguf_string_is(file, "general.architecture", "llama");
  if (!llama && !gguf_string_is(file, "general.architecture", "gpt2")) {
    gguf_text found = {"is missing", 10};
    gguf_string(file, "general.architecture", &found, NULL);
    int n = 0;
    while (n < found.n && n < 40 && found.bytes[n] >= ' ' && found.bytes[n] <= '~')
      ++n;
    return ss_fail(error, SS_ERROR_INPUT, "%s: general.architecture %.*s, expected llama or gpt2",
                   gguf_where(file), n, found.bytes);
  }
  int64_t n_split = 1;
  if (gguf_has(file, "split.count"))
    SS_TRY(gguf_integer(file, "split.count", &n_split, error));
  if (n_split > 1)
    return ss_fail(error, SS_ERROR_INPUT, "%s: is one of %lld files (split.count), expected a whole model",
                   gguf_where(file), (long long)n_split);
  import->scheme = llama ? &import_llama_gguf : &import_gpt2_gguf;
  *config = (gpt_config){.norm = llama ? SS_NORM_RMS : SS_NORM_LAYER,
                         .position = llama ? GPT_POSITION_ROTARY : GPT_POSITION_LEARNED,
                         .activation = llama ? SS_ACTIVATION_SWIGLU : SS_ACTIVATION_GELU,
                         .bias = !llama,
                         .rotary_theta = 10000,
                         .init_std = 0.02};
  reading reading = {file, llama ? "llama." : "gpt2.", llama ? &rms_epsilon : &layer_epsilon, config};
  for (int k = 0; k < N_KEY; ++k)
    if (keys[k].kind == KEY_COUNT || keys[k].kind == KEY_REAL)
      SS_TRY(read_key(&reading, &keys[k], error));
  SS_TRY(read_key(&reading, reading.epsilon, error));
  const gguf_tensor *embedding = gguf_find_tensor(file, "token_embd.weight");
  if (embedding == NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: tensor token_embd.weight is missing", gguf_where(file));
  config->vocab_size = embedding->rows;
  import->tied = gguf_find_tensor(file, "output.weight") == NULL;
  if (gguf_has(file, "tokenizer.ggml.bos_token_id"))
    SS_TRY(gguf_integer(file, "tokenizer.ggml.bos_token_id", &import->about.bos, error));
  if (gguf_has(file, "tokenizer.ggml.eos_token_id"))
    SS_TRY(gguf_integer(file, "tokenizer.ggml.eos_token_id", &import->about.eos, error));
  if (gguf_has(file, "tokenizer.ggml.add_bos_token"))
    SS_TRY(gguf_boolean(file, "tokenizer.ggml.add_bos_token", &import->about.add_bos, error));
  return check_rest(&reading, error);
}
