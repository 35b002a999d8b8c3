// config.json of a Hugging Face model: settings that a gpt has, settings that must have one value, and settings that
// say nothing about results. Names and defaults: transformers' LlamaConfig and GPT2Config.
#include <math.h>
#include <string.h>

#include "model/import_private.h"

typedef enum {
  FIELD_COUNT,     // an integer from 1 on, needed
  FIELD_OPTIONAL,  // the same, or null, or absent
  FIELD_REAL,      // a positive number
  FIELD_TRUE,      // must be true, null or absent
  FIELD_FALSE,     // must be false, null or absent
  FIELD_NULL,      // must be null or absent
  FIELD_ONE,       // must be 1, null or absent
  FIELD_ROPE,      // null, or an object whose rope_type is default; may hold rope_theta
  FIELD_IGNORED
} field_kind;

typedef struct {
  const char *name;
  field_kind kind;
  size_t offset;  // into gpt_config, of the first three kinds
} field;

static const field llama_fields[] = {{"hidden_size", FIELD_COUNT, offsetof(gpt_config, n_embd)},
                                     {"num_hidden_layers", FIELD_COUNT, offsetof(gpt_config, n_layer)},
                                     {"num_attention_heads", FIELD_COUNT, offsetof(gpt_config, n_head)},
                                     {"num_key_value_heads", FIELD_OPTIONAL, offsetof(gpt_config, n_kv_head)},
                                     {"intermediate_size", FIELD_COUNT, offsetof(gpt_config, n_ff)},
                                     {"max_position_embeddings", FIELD_COUNT,
                                      offsetof(gpt_config, n_positions)},
                                     {"vocab_size", FIELD_COUNT, offsetof(gpt_config, vocab_size)},
                                     {"rms_norm_eps", FIELD_REAL, offsetof(gpt_config, norm_epsilon)},
                                     {"rope_theta", FIELD_REAL, offsetof(gpt_config, rotary_theta)},
                                     {"rope_scaling", FIELD_ROPE, 0},
                                     {"rope_parameters", FIELD_ROPE, 0},
                                     {"attention_bias", FIELD_FALSE, 0},
                                     {"mlp_bias", FIELD_FALSE, 0},
                                     {"rope_interleaved", FIELD_FALSE, 0},
                                     {"sliding_window", FIELD_NULL, 0},
                                     {"partial_rotary_factor", FIELD_ONE, 0},
                                     {"head_dim", FIELD_IGNORED,
                                      0},  // checked below, with what it depends on
                                     {"hidden_act", FIELD_IGNORED, 0},  // likewise
                                     {"is_llama_config", FIELD_IGNORED, 0},
                                     {"pretraining_tp", FIELD_IGNORED, 0},
                                     {"attention_dropout", FIELD_IGNORED, 0}};

static const field gpt2_fields[] = {{"n_embd", FIELD_COUNT, offsetof(gpt_config, n_embd)},
                                    {"n_layer", FIELD_COUNT, offsetof(gpt_config, n_layer)},
                                    {"n_head", FIELD_COUNT, offsetof(gpt_config, n_head)},
                                    {"n_inner", FIELD_OPTIONAL, offsetof(gpt_config, n_ff)},
                                    {"n_positions", FIELD_COUNT, offsetof(gpt_config, n_positions)},
                                    {"vocab_size", FIELD_COUNT, offsetof(gpt_config, vocab_size)},
                                    {"layer_norm_epsilon", FIELD_REAL, offsetof(gpt_config, norm_epsilon)},
                                    {"scale_attn_weights", FIELD_TRUE, 0},
                                    {"scale_attn_by_inverse_layer_idx", FIELD_FALSE, 0},
                                    {"add_cross_attention", FIELD_FALSE, 0},
                                    {"activation_function", FIELD_IGNORED, 0},  // checked below
                                    {"n_ctx", FIELD_IGNORED, 0},
                                    {"reorder_and_upcast_attn", FIELD_IGNORED, 0},
                                    {"attn_pdrop", FIELD_IGNORED, 0},
                                    {"embd_pdrop", FIELD_IGNORED, 0},
                                    {"resid_pdrop", FIELD_IGNORED, 0},
                                    {"summary_activation", FIELD_IGNORED, 0},
                                    {"summary_first_dropout", FIELD_IGNORED, 0},
                                    {"summary_proj_to_labels", FIELD_IGNORED, 0},
                                    {"summary_type", FIELD_IGNORED, 0},
                                    {"summary_use_proj", FIELD_IGNORED, 0}};

static const field common_fields[] = {{"quantization_config", FIELD_NULL, 0},
                                      {"tie_word_embeddings", FIELD_IGNORED, 0},  // read below
                                      {"model_type", FIELD_IGNORED, 0},           // likewise
                                      {"architectures", FIELD_IGNORED, 0},
                                      {"_name_or_path", FIELD_IGNORED, 0},
                                      {"_attn_implementation_autoset", FIELD_IGNORED, 0},
                                      {"bos_token_id", FIELD_IGNORED, 0},
                                      {"eos_token_id", FIELD_IGNORED, 0},
                                      {"pad_token_id", FIELD_IGNORED, 0},
                                      {"dtype", FIELD_IGNORED, 0},
                                      {"torch_dtype", FIELD_IGNORED, 0},
                                      {"initializer_range", FIELD_IGNORED, 0},
                                      {"task_specific_params", FIELD_IGNORED, 0},
                                      {"transformers_version", FIELD_IGNORED, 0},
                                      {"transformers.js_config", FIELD_IGNORED, 0},
                                      {"use_cache", FIELD_IGNORED, 0}};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const field *find_field(const char *name, const field *fields, size_t n) {
  for (size_t k = 0; k < n; ++k)
    if (strcmp(name, fields[k].name) == 0)
      return &fields[k];
  return NULL;
}

static ss_status read_real(const json_t *value, const char *name, const char *where, double *out,
                           ss_error *error) {
  double real = json_number_value(value);
  if (!json_is_number(value) || !(real > 0) || !isfinite(real))
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s, expected a positive number", where, name);
  *out = real;
  return SS_OK;
}

static ss_status read_rope(const json_t *value, const char *name, const char *where, double *theta,
                           ss_error *error) {
  const char *key;
  json_t *item;
  if (!json_is_object(value))
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s, expected null or an object", where, name);
  json_object_foreach((json_t *)value, key, item) {
    if (strcmp(key, "rope_theta") == 0)
      SS_TRY(read_real(item, "rope_theta", where, theta, error));
    else if ((strcmp(key, "rope_type") != 0 && strcmp(key, "type") != 0) || !json_is_string(item) ||
             strcmp(json_string_value(item), "default") != 0)
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: %s scales the rotary angles (rope_type is not default), which is not "
                     "supported",
                     where, name);
  }
  return SS_OK;
}

static ss_status only(const char *where, const char *name, const char *expected, ss_error *error) {
  return ss_fail(error, SS_ERROR_INPUT, "%s: %s, expected %s: other models are not supported", where, name,
                 expected);
}

static ss_status read_field(const field *field, const json_t *value, const char *where, gpt_config *config,
                            ss_error *error) {
  bool none = value == NULL || json_is_null(value);
  int64_t *count = (int64_t *)((char *)config + field->offset);
  switch (field->kind) {
  case FIELD_COUNT:
  case FIELD_OPTIONAL:
    if (none && field->kind == FIELD_OPTIONAL)
      return SS_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > 1 << 30)
      return ss_fail(error, SS_ERROR_INPUT, "%s: %s%s, expected an integer from 1 on", where, field->name,
                     none ? " is missing" : "");
    *count = (int64_t)json_integer_value(value);
    return SS_OK;
  case FIELD_REAL:
    return none ? SS_OK
                : read_real(value, field->name, where, (double *)((char *)config + field->offset), error);
  case FIELD_TRUE:
    return none || json_is_true(value) ? SS_OK : only(where, field->name, "true", error);
  case FIELD_FALSE:
    return none || json_is_false(value) ? SS_OK : only(where, field->name, "false", error);
  case FIELD_NULL:
    return none ? SS_OK : only(where, field->name, "null", error);
  case FIELD_ONE:
    return none || (json_is_number(value) && json_number_value(value) == 1)
               ? SS_OK
               : only(where, field->name, "1", error);
  case FIELD_ROPE:
    return none ? SS_OK : read_rope(value, field->name, where, &config->rotary_theta, error);
  default:
    return SS_OK;
  }
}

static ss_status read_fields(model_import *import, const json_t *json, const field *fields, size_t n,
                             const char *where, ss_error *error) {
  for (size_t k = 0; k < n; ++k)
    SS_TRY(read_field(&fields[k], json_object_get(json, fields[k].name), where, &import->about.model, error));
  return SS_OK;
}

static bool printable(const char *text) {
  for (; *text != '\0'; ++text)
    if (*text < ' ' || *text > '~')
      return false;
  return true;
}

// Settings that nobody here knows may be harmless: they are named, not refused.
static ss_status note_unknown(model_import *import, const json_t *json, const field *fields, size_t n,
                              ss_error *error) {
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)json, name, value) {
    if (find_field(name, fields, n) == NULL && find_field(name, common_fields, COUNT(common_fields)) == NULL)
      SS_TRY(import_note_add(import, printable(name) ? name : "a setting that is not printable",
                             "a setting of config.json that is not known", error));
  }
  return SS_OK;
}

static ss_status read_activation(const json_t *json, const char *name, const char *const *known,
                                 const char *where, ss_error *error) {
  const json_t *value = json_object_get(json, name);
  const char *text = json_string_value(value);
  if (value == NULL || (text != NULL && (strcmp(text, known[0]) == 0 || strcmp(text, known[1]) == 0)))
    return SS_OK;
  return only(where, name, known[0], error);
}

static ss_status read_llama(model_import *import, const json_t *json, const char *where, ss_error *error) {
  static const char *const activations[] = {"silu", "swish"};
  gpt_config *config = &import->about.model;
  import->scheme = &import_llama_safetensors;
  *config = (gpt_config){.norm = SS_NORM_RMS,
                         .position = GPT_POSITION_ROTARY,
                         .activation = SS_ACTIVATION_SWIGLU,
                         .norm_epsilon = 1e-6,
                         .rotary_theta = 10000,
                         .init_std = 0.02};
  SS_TRY(read_fields(import, json, llama_fields, COUNT(llama_fields), where, error));
  SS_TRY(read_activation(json, "hidden_act", activations, where, error));
  const json_t *head = json_object_get(json, "head_dim");
  if (head != NULL && !json_is_null(head) && json_integer_value(head) != config->n_embd / config->n_head)
    return ss_fail(error, SS_ERROR_INPUT, "%s: head_dim, expected hidden_size / num_attention_heads", where);
  return note_unknown(import, json, llama_fields, COUNT(llama_fields), error);
}

static ss_status read_gpt2(model_import *import, const json_t *json, const char *where, ss_error *error) {
  static const char *const activations[] = {"gelu_new", "gelu_pytorch_tanh"};
  import->scheme = &import_gpt2_safetensors;
  import->about.model = (gpt_config){.norm = SS_NORM_LAYER,
                                     .position = GPT_POSITION_LEARNED,
                                     .activation = SS_ACTIVATION_GELU,
                                     .bias = true,
                                     .norm_epsilon = 1e-5,
                                     .rotary_theta = 10000,
                                     .init_std = 0.02};
  SS_TRY(read_fields(import, json, gpt2_fields, COUNT(gpt2_fields), where, error));
  SS_TRY(read_activation(json, "activation_function", activations, where, error));
  return note_unknown(import, json, gpt2_fields, COUNT(gpt2_fields), error);
}

// An id, the first of a list of ids, or -1.
static int64_t read_id(const json_t *value) {
  if (json_is_array(value))
    value = json_array_get(value, 0);
  return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

ss_status import_read_config(model_import *import, const json_t *json, const char *where, ss_error *error) {
  const char *type = json_string_value(json_object_get(json, "model_type"));
  bool llama = type != NULL && strcmp(type, "llama") == 0, gpt2 = type != NULL && strcmp(type, "gpt2") == 0;
  if (!llama && !gpt2)
    return ss_fail(error, SS_ERROR_INPUT, "%s: model_type %.40s, expected llama or gpt2", where,
                   type == NULL      ? "is missing"
                   : printable(type) ? type
                                     : "is not printable");
  SS_TRY(llama ? read_llama(import, json, where, error) : read_gpt2(import, json, where, error));
  SS_TRY(read_fields(import, json, common_fields, COUNT(common_fields), where, error));
  const json_t *tied = json_object_get(json, "tie_word_embeddings");
  if (tied != NULL && !json_is_boolean(tied))
    return ss_fail(error, SS_ERROR_INPUT, "%s: tie_word_embeddings, expected true or false", where);
  import->about.bos = read_id(json_object_get(json, "bos_token_id"));
  import->about.eos = read_id(json_object_get(json, "eos_token_id"));
  import->tied = tied == NULL ? gpt2 : json_is_true(tied);
  return SS_OK;
}
