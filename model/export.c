#include "model/export.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "model/import_private.h"

typedef struct {
  gpt *model;
  const export_options *options;
  const import_scheme *scheme;
  safetensors_entry *entries;
  char **names;            // of the entries, malloc'ed
  const import_part **of;  // the part of each entry
  int64_t *layers;         // its layer
  int64_t *first;          // its first row in the parameter
  int64_t n;
  float *scratch;  // the largest part
} writing;

ss_status export_architecture(const gpt_config *config, const char **out, ss_error *error) {
  bool learned = config->position == GPT_POSITION_LEARNED, layer = config->norm == SS_NORM_LAYER,
       gelu = config->activation == SS_ACTIVATION_GELU;
  if (learned && layer && gelu && config->bias && config->n_kv_head == config->n_head)
    *out = import_gpt2_safetensors.architecture;
  else if (config->position == GPT_POSITION_ROTARY && !layer && !gelu && !config->bias)
    *out = import_llama_safetensors.architecture;
  else
    return ss_fail(error, SS_ERROR_INPUT,
                   "the model has %s norm, %s positions, %s, %s biases and %lld KV heads of %lld: neither "
                   "GPT-2's (layer, "
                   "learned, GELU, with, all) nor Llama's (RMS, rotary, SwiGLU, without)",
                   layer ? "layer" : "RMS",
                   learned                                 ? "learned"
                   : config->position == GPT_POSITION_NONE ? "no"
                                                           : "rotary",
                   gelu ? "GELU" : "SwiGLU", config->bias ? "with" : "without", (long long)config->n_kv_head,
                   (long long)config->n_head);
  return SS_OK;
}

// --- config.json -------------------------------------------------------------------------------------------

static json_t *id_json(int64_t id) {
  return id < 0 ? json_null() : json_integer((json_int_t)id);
}

static json_t *llama_json(const gpt_config *config) {
  return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:{s:s, s:f}, s:b, s:b}",
                   "model_type", "llama", "hidden_act", "silu", "hidden_size", (json_int_t)config->n_embd,
                   "intermediate_size", (json_int_t)config->n_ff, "num_hidden_layers",
                   (json_int_t)config->n_layer, "num_attention_heads", (json_int_t)config->n_head,
                   "num_key_value_heads", (json_int_t)config->n_kv_head, "head_dim",
                   (json_int_t)(config->n_embd / config->n_head), "max_position_embeddings",
                   (json_int_t)config->n_positions, "rms_norm_eps", config->norm_epsilon, "rope_theta",
                   config->rotary_theta, "rope_parameters", "rope_type", "default", "rope_theta",
                   config->rotary_theta, "attention_bias", 0, "mlp_bias", 0);
}

static json_t *gpt2_json(const gpt_config *config) {
  return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "model_type", "gpt2", "activation_function",
                   "gelu_new", "n_embd", (json_int_t)config->n_embd, "n_inner", (json_int_t)config->n_ff,
                   "n_layer", (json_int_t)config->n_layer, "n_head", (json_int_t)config->n_head,
                   "n_positions", (json_int_t)config->n_positions, "layer_norm_epsilon",
                   config->norm_epsilon);
}

static ss_status write_config(const writing *write, const char *path, ss_error *error) {
  const gpt_config *config = gpt_get_config(write->model);
  json_t *json = config->position == GPT_POSITION_ROTARY ? llama_json(config) : gpt2_json(config);
  const char *dtype = write->options->dtype == SAFETENSORS_F32 ? "float32" : "bfloat16";
  json_t *common = json_pack("{s:[s], s:I, s:o, s:o, s:b, s:f, s:s, s:s}", "architectures",
                             write->scheme->architecture, "vocab_size", (json_int_t)config->vocab_size,
                             "bos_token_id", id_json(write->options->bos), "eos_token_id",
                             id_json(write->options->eos), "tie_word_embeddings", 1, "initializer_range",
                             config->init_std, "dtype", dtype, "torch_dtype", dtype);
  char *text = NULL;
  if (json != NULL && common != NULL && json_object_update(json, common) == 0)
    text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
  json_decref(json);
  json_decref(common);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for config.json");
  size_t n = strlen(text);
  text[n] = '\n';  // in the place of the terminator
  ss_status status = ss_write_file(path, text, n + 1, error);
  free(text);
  return status;
}

// --- model.safetensors -------------------------------------------------------------------------------------

static ss_status add_entry(writing *write, const import_part *part, int64_t layer, int64_t first,
                           ss_error *error) {
  const gpt_config *config = gpt_get_config(write->model);
  int64_t rows = import_size(config, part->rows), cols = import_size(config, part->cols);
  bool transposed = part->kind == PART_TRANSPOSED;
  // A prefix that GPT2LMHeadModel has and LlamaForCausalLM's names hold already.
  const model_import names = {.prefix = write->scheme == &import_gpt2_safetensors ? "transformer." : ""};
  SS_TRY(import_part_name(&names, part->name, layer, &write->names[write->n], error));
  write->entries[write->n] = (safetensors_entry){write->names[write->n], transposed ? cols : rows,
                                                 transposed ? rows : cols};
  if (part->rows == SIZE_ONE)
    write->entries[write->n].rows = 0;
  write->of[write->n] = part;
  write->layers[write->n] = layer;
  write->first[write->n] = first;
  write->n++;
  return SS_OK;
}

static ss_status list_entries(writing *write, ss_error *error) {
  const gpt_config *config = gpt_get_config(write->model);
  const import_scheme *scheme = write->scheme;
  int64_t most = config->n_layer * scheme->n_part, largest = 1, first = 0;
  SS_TRY(ss_allocate(&write->entries, most, sizeof *write->entries, "tensors", error));
  SS_TRY(ss_allocate(&write->names, most, sizeof *write->names, "tensors", error));
  SS_TRY(ss_allocate(&write->of, most, sizeof *write->of, "tensors", error));
  SS_TRY(ss_allocate(&write->layers, most, sizeof *write->layers, "tensors", error));
  SS_TRY(ss_allocate(&write->first, most, sizeof *write->first, "tensors", error));
  for (int k = 0; k < scheme->n_part; ++k) {
    const import_part *part = &scheme->parts[k];
    int64_t size = import_size(config, part->rows) * import_size(config, part->cols);
    largest = size > largest ? size : largest;
    bool stacked = k > 0 && strcmp(part->parameter, scheme->parts[k - 1].parameter) == 0;
    first = stacked ? first + import_size(config, scheme->parts[k - 1].rows) : 0;
    for (int64_t layer = 0; layer < (strstr(part->name, "%lld") != NULL ? config->n_layer : 1); ++layer)
      SS_TRY(add_entry(write, part, layer, first, error));
  }
  return ss_allocate(&write->scratch, largest, sizeof *write->scratch, "a tensor", error);
}

static ss_status fill_entry(void *user, int64_t index, float *out, ss_error *error) {
  writing *write = user;
  const import_part *part = write->of[index];
  const gpt_config *config = gpt_get_config(write->model);
  ss_device *device = gpt_device(write->model);
  char name[64];
  snprintf(name, sizeof name, part->parameter, (long long)write->layers[index]);
  const gpt_parameter *parameter = &gpt_parameter_table(write->model)[gpt_find_parameter(write->model, name)];
  int64_t rows = import_size(config, part->rows), cols = import_size(config, part->cols);
  bool transposed = part->kind == PART_TRANSPOSED;
  SS_OP(device, error, download, transposed ? write->scratch : out,
        gpt_parameters(write->model) + parameter->offset + write->first[index] * cols,
        (size_t)(rows * cols) * sizeof(float));
  for (int64_t row = 0; row < rows && transposed; ++row)
    for (int64_t col = 0; col < cols; ++col)
      out[col * rows + row] = write->scratch[row * cols + col];
  if (write->options->progress != NULL)
    write->options->progress(write->options->user, index + 1, write->n);
  return SS_OK;
}

ss_status export_huggingface(gpt *model, const char *folder, const export_options *options, ss_error *error) {
  const char *architecture = NULL;
  char *config = NULL, *weights = NULL;
  SS_TRY(export_architecture(gpt_get_config(model), &architecture, error));
  writing write = {.model = model,
                   .options = options,
                   .scheme = architecture == import_gpt2_safetensors.architecture
                                 ? &import_gpt2_safetensors
                                 : &import_llama_safetensors};
  ss_status status = ss_format(&config, error, "%s/config.json", folder);
  if (status == SS_OK)
    status = ss_format(&weights, error, "%s/model.safetensors", folder);
  if (status == SS_OK)
    status = list_entries(&write, error);
  if (status == SS_OK)
    status = safetensors_write(weights, write.entries, write.n, options->dtype, NULL, fill_entry, &write,
                               error);
  if (status == SS_OK)
    status = write_config(&write, config, error);
  for (int64_t i = 0; i < write.n; ++i)
    free(write.names[i]);
  free(write.names);
  free(write.entries);
  free(write.of);
  free(write.layers);
  free(write.first);
  free(write.scratch);
  free(config);
  free(weights);
  return status;
}
