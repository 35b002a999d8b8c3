// Importing: one small Llama written as safetensors, GGUF and llama2.c gives the same parameters; GPT-2's conventions;
// new rows; everything that must be refused.
#include "model/import.h"

#include <jansson.h>

#include "kernels/kernels.h"
#include "model/export.h"
#include "model/safetensors.h"
#include "tests/bytes_fixture.h"
#include "tests/helpers.h"

// 2 layers, width 8, 2 heads of 4, 1 KV head, MLP 6, 7 tokens, 5 positions.
enum { LAYERS = 2, WIDTH = 8, HEADS = 2, HEAD = 4, KV = 4, FF = 6, VOCABULARY = 7, POSITIONS = 5 };

static const char llama_config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
    "\"num_key_value_heads\":1,\"intermediate_size\":6,\"max_position_embeddings\":5,\"vocab_size\":7,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"bos_token_id\":1,"
    "\"eos_token_id\":[2,3]%s}";
static const char gpt2_config[] =
    "{\"model_type\":\"gpt2\",\"n_embd\":8,\"n_layer\":2,\"n_head\":2,\"n_inner\":6,\"n_positions\":5,"
    "\"vocab_size\":7%s}";

typedef struct {
  const char *safetensors, *gguf, *llama2c;  // names
  int64_t rows, cols;                        // rows 0: a vector
  bool rotary;
} tensor;

// In llama2.c's order.
static const tensor llama_tensors[] =
    {{"model.embed_tokens.weight", "token_embd.weight", "wte", VOCABULARY, WIDTH, false},
     {"model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", "", 0, WIDTH, false},
     {"model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", "", WIDTH, WIDTH, true},
     {"model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", "", KV, WIDTH, true},
     {"model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight", "", KV, WIDTH, false},
     {"model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", "", WIDTH, WIDTH, false},
     {"model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", "", 0, WIDTH, false},
     {"model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", "", FF, WIDTH, false},
     {"model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", "", WIDTH, FF, false},
     {"model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight", "", FF, WIDTH, false},
     {"model.norm.weight", "output_norm.weight", "", 0, WIDTH, false}};
enum { N_TENSOR = sizeof llama_tensors / sizeof *llama_tensors };

static float value(int64_t which, int64_t layer, int64_t row, int64_t col) {
  return (float)(which * 1000 + layer * 500 + row * 20 + col) / 256;
}

static bool layered(const tensor *tensor) {
  return strstr(tensor->gguf, "%d") != NULL;
}

// The row of a half-split head that stands at `row` where pairs are neighbours.
static int64_t neighbour(int64_t row) {
  int64_t d = row % HEAD;
  return row - d + d / 2 + (d % 2) * (HEAD / 2);
}

static void put_values(bytes *out, int64_t which, int64_t layer, bool neighbours) {
  const tensor *tensor = &llama_tensors[which];
  for (int64_t row = 0; row < (tensor->rows > 0 ? tensor->rows : 1); ++row)
    for (int64_t col = 0; col < tensor->cols; ++col)
      bytes_f32(out, value(which, layer, neighbours && tensor->rotary ? neighbour(row) : row, col));
}

// --- the three files ---

typedef struct {
  char names[64][80];
  int64_t which[64], layer[64];
  safetensors_entry entries[64];
  int64_t n;
} listing;

static void list(listing *out, bool gguf_names) {
  memset(out, 0, sizeof *out);
  for (int64_t which = 0; which < N_TENSOR; ++which)
    for (int layer = 0; layer < (layered(&llama_tensors[which]) ? LAYERS : 1); ++layer) {
      const tensor *tensor = &llama_tensors[which];
      const char *format = gguf_names ? tensor->gguf : tensor->safetensors, *hole = strstr(format, "%d");
      char *name = out->names[out->n];
      if (hole == NULL)
        snprintf(name, 80, "%s", format);
      else
        snprintf(name, 80, "%.*s%d%s", (int)(hole - format), format, layer, hole + 2);
      out->entries[out->n] = (safetensors_entry){name, tensor->rows, tensor->cols};
      out->which[out->n] = which;
      out->layer[out->n++] = layer;
    }
}

static ss_status fill(void *user, int64_t index, float *out, ss_error *error) {
  (void)error;
  const listing *listing = user;
  const tensor *tensor = &llama_tensors[listing->which[index]];
  for (int64_t row = 0; row < (tensor->rows > 0 ? tensor->rows : 1); ++row)
    for (int64_t col = 0; col < tensor->cols; ++col)
      *out++ = value(listing->which[index], listing->layer[index], row, col);
  return SS_OK;
}

static bytes read_back(const char *path) {
  ss_error error = {0};
  bytes out = {0};
  char *text = NULL;
  size_t size = 0;
  assert_ok(ss_read_file(path, &text, &size, &error));
  bytes_add(&out, text, (int64_t)size);
  free(text);
  return out;
}

// `extra`, when there is one, is a vector of eight more.
static bytes llama_safetensors(const char *extra) {
  ss_error error = {0};
  char path[TEST_PATH];
  listing listing;
  list(&listing, false);
  if (extra != NULL) {
    listing.entries[listing.n] = (safetensors_entry){extra, 0, WIDTH};
    listing.which[listing.n++] = 1;
  }
  test_path(path, "import.safetensors");
  assert_ok(
      safetensors_write(path, listing.entries, listing.n, SAFETENSORS_F32, NULL, fill, &listing, &error));
  return read_back(path);
}

// With one more key and one more tensor (a vector of two) when they are not NULL.
static bytes llama_gguf(const char *key, const char *extra) {
  bytes out = {0}, data = {0};
  listing listing;
  list(&listing, true);
  gguf_put_header(&out, 3, (uint64_t)listing.n + (extra != NULL), 9 + (key != NULL));
  gguf_put_string(&out, "general.architecture", "llama");
  gguf_put_integer(&out, "llama.block_count", LAYERS);
  gguf_put_integer(&out, "llama.embedding_length", WIDTH);
  gguf_put_integer(&out, "llama.feed_forward_length", FF);
  gguf_put_integer(&out, "llama.attention.head_count", HEADS);
  gguf_put_integer(&out, "llama.attention.head_count_kv", KV / HEAD);
  gguf_put_integer(&out, "llama.context_length", POSITIONS);
  gguf_put_real(&out, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf_put_integer(&out, "tokenizer.ggml.eos_token_id", 2);
  if (key != NULL)
    gguf_put_integer(&out, key, 3);
  for (int64_t i = 0; i < listing.n; ++i) {
    const safetensors_entry *entry = &listing.entries[i];
    bytes_pad(&data, 32);
    gguf_put_info(&out, entry->name, (uint64_t)entry->cols, (uint64_t)entry->rows, 0, (uint64_t)data.n);
    put_values(&data, listing.which[i], listing.layer[i], true);
  }
  if (extra != NULL) {
    bytes_pad(&data, 32);
    gguf_put_info(&out, extra, 2, 0, 0, (uint64_t)data.n);
    bytes_u64(&data, 0);
  }
  bytes_pad(&out, 32);
  bytes_add(&out, data.data, data.n);
  bytes_free(&data);
  return out;
}

static bytes llama_llama2c(bool shared, bool equal) {
  bytes out = {0};
  const int32_t header[] = {WIDTH,    FF, LAYERS, HEADS, KV / HEAD, shared ? VOCABULARY : -VOCABULARY,
                            POSITIONS};
  for (int i = 0; i < 7; ++i)
    bytes_u32(&out, (uint32_t)header[i]);
  for (int64_t which = 0; which < N_TENSOR; ++which)
    for (int layer = 0; layer < (layered(&llama_tensors[which]) ? LAYERS : 1); ++layer)
      put_values(&out, which, layer, true);
  for (int i = 0; i < 2 * POSITIONS * HEAD / 2; ++i)
    bytes_f32(&out, 0);
  if (!shared)
    put_values(&out, 0, equal ? 0 : 1, false);
  return out;
}

// --- models ---

static ss_device *open_device(void) {
  const ss_device_options plain = {.n_thread = 1};
  ss_device *device = NULL;
  ss_error error = {0};
  assert_ok(ss_device_open(&device, "cpu", &plain, &error));
  return device;
}

static model_import *open_memory(const char *where, const char *format, const bytes *file) {
  char config[2048];
  ss_error error = {0};
  model_import *import = NULL;
  if (format != NULL)
    snprintf(config, sizeof config, format, "");
  assert_ok(import_open_memory(&import, where, format == NULL ? NULL : config, file->data, (size_t)file->n,
                               &error));
  return import;
}

static gpt *load(const model_import *import, ss_device *device, const import_options *options) {
  ss_error error = {0};
  gpt *model = NULL;
  assert_ok(import_model(import, device, options, &model, &error));
  return model;
}

static const float *parameter(gpt *model, const char *name) {
  int32_t index = gpt_find_parameter(model, name);
  assert_true(index >= 0);
  return gpt_parameters(model) + gpt_parameter_table(model)[index].offset;  // a CPU's memory is the host's
}

static void llama_from_three_formats(void **state) {
  (void)state;
  const import_options plain = {0};
  ss_device *device = open_device();
  bytes files[] = {llama_safetensors(NULL), llama_gguf(NULL, NULL), llama_llama2c(true, true),
                   llama_llama2c(false, true)};
  static const char *const names[] = {"memory", "x.gguf", "x.bin", "x.bin"};
  gpt *first = NULL;
  for (int k = 0; k < 4; ++k) {
    model_import *import = open_memory(names[k], k == 0 ? llama_config : NULL, &files[k]);
    const import_about *about = import_get_about(import);
    assert_string_equal(about->architecture, "LlamaForCausalLM");
    assert_int_equal(about->n_tensor, k == 3 ? 23 : k == 2 ? 22 : 20);
    assert_string_equal(about->types, k == 3 ? "F32 23" : k == 2 ? "F32 22" : "F32 20");
    assert_int_equal(about->n_note, k == 3 ? 3 : k == 2 ? 2 : 0);
    assert_int_equal(about->bos, k == 1 ? -1 : 1);
    assert_int_equal(about->eos, 2);
    assert_true(about->model.position == GPT_POSITION_ROTARY && about->model.n_kv_head == 1 &&
                !about->model.bias);
    gpt *model = load(import, device, &plain);
    assert_int_equal(gpt_n_parameter(model), about->n_parameter);
    if (first == NULL)
      first = model;
    else {
      assert_memory_equal(gpt_parameters(model), gpt_parameters(first),
                          gpt_n_parameter(model) * sizeof(float));
      gpt_free(model);
    }
    import_close(import);
    bytes_free(&files[k]);
  }
  // Where the rows went: q, k, v and gate, up are stacked.
  const float *qkv = parameter(first, "block.1.attention.qkv.weight"),
              *up = parameter(first, "block.0.mlp.up.weight");
  assert_near(qkv[3 * WIDTH + 2], value(2, 1, 3, 2), 0);
  assert_near(qkv[(WIDTH + 1) * WIDTH], value(3, 1, 1, 0), 0);
  assert_near(qkv[(WIDTH + KV + 2) * WIDTH], value(4, 1, 2, 0), 0);
  assert_near(up[1], value(7, 0, 0, 1), 0);
  assert_near(up[FF * WIDTH], value(9, 0, 0, 0), 0);
  gpt_free(first);
  ss_device_close(device);
}

static ss_status fill_gpt2(void *user, int64_t index, float *out, ss_error *error) {
  (void)error;
  const safetensors_entry *entry = (const safetensors_entry *)user + index;
  for (int64_t row = 0; row < (entry->rows > 0 ? entry->rows : 1); ++row)
    for (int64_t col = 0; col < entry->cols; ++col)
      *out++ = value(index, 0, row, col);
  return SS_OK;
}

static void gpt2_turned_round(void **state) {
  (void)state;
  static const safetensors_entry block[] = {{"ln_1.weight", 0, WIDTH},
                                            {"ln_1.bias", 0, WIDTH},
                                            {"attn.c_attn.weight", WIDTH, 3 * WIDTH},
                                            {"attn.c_attn.bias", 0, 24},
                                            {"attn.c_proj.weight", 8, 8},
                                            {"attn.c_proj.bias", 0, 8},
                                            {"ln_2.weight", 0, 8},
                                            {"ln_2.bias", 0, 8},
                                            {"mlp.c_fc.weight", 8, FF},
                                            {"mlp.c_fc.bias", 0, FF},
                                            {"mlp.c_proj.weight", FF, 8},
                                            {"mlp.c_proj.bias", 0, 8},
                                            {"attn.bias", POSITIONS, POSITIONS}};
  enum { N_BLOCK = sizeof block / sizeof *block };
  for (int prefixed = 0; prefixed < 2; ++prefixed) {
    safetensors_entry entries[2 * N_BLOCK + 4];
    char names[2 * N_BLOCK + 4][64], path[TEST_PATH], out[TEST_PATH];
    const char *prefix = prefixed ? "transformer." : "";
    int n = 0;
    for (int layer = 0; layer < LAYERS; ++layer)
      for (int k = 0; k < N_BLOCK; ++k, ++n) {
        entries[n] = block[k];
        snprintf(names[n], 64, "%sh.%d.%s", prefix, layer, block[k].name);
      }
    static const safetensors_entry rest[] = {{"wte.weight", VOCABULARY, 8},
                                             {"wpe.weight", POSITIONS, 8},
                                             {"ln_f.weight", 0, 8},
                                             {"ln_f.bias", 0, 8}};
    for (int k = 0; k < 4; ++k, ++n) {
      entries[n] = rest[k];
      snprintf(names[n], 64, "%s%s", prefix, rest[k].name);
    }
    for (int k = 0; k < n; ++k)
      entries[k].name = names[k];
    ss_error error = {0};
    ss_device *device = open_device();
    assert_ok(safetensors_write(test_path(path, "gpt2.safetensors"), entries, n, SAFETENSORS_F32, NULL,
                                fill_gpt2, entries, &error));
    bytes file = read_back(path);
    model_import *import = open_memory("memory", gpt2_config, &file);
    assert_string_equal(import_get_about(import)->architecture, "GPT2LMHeadModel");
    assert_int_equal(import_get_about(import)->n_note, LAYERS);  // the causal masks
    assert_string_equal(import_get_about(import)->notes[0].reason, "the causal mask");
    const import_options fewer = {.n_positions = 3};
    gpt *model = load(import, device, &fewer);
    assert_int_equal(gpt_get_config(model)->n_positions, 3);
    assert_near(parameter(model, "block.0.attention.qkv.weight")[20 * WIDTH + 3], value(2, 0, 3, 20), 0);
    assert_near(parameter(model, "block.1.mlp.down.weight")[7 * FF + 5], value(N_BLOCK + 10, 0, 5, 7), 0);
    assert_near(parameter(model, "block.1.mlp.up.bias")[4], value(N_BLOCK + 9, 0, 0, 4), 0);
    assert_near(parameter(model, "wpe")[2 * WIDTH + 1], value(2 * N_BLOCK + 1, 0, 2, 1), 0);
    // Exported, it is the same again.
    const export_options how = {.dtype = SAFETENSORS_F32, .bos = -1, .eos = 3};
    assert_ok(ss_make_directories(test_path(out, "gpt2-exported"), &error));
    assert_ok(export_huggingface(model, out, &how, &error));
    model_import *again = NULL;
    assert_ok(import_open(&again, out, &error));
    assert_int_equal(import_get_about(again)->eos, 3);
    assert_int_equal(import_get_about(again)->n_note, 0);
    const import_options plain = {0};
    gpt *copy = load(again, device, &plain);
    assert_memory_equal(gpt_parameters(copy), gpt_parameters(model), gpt_n_parameter(model) * sizeof(float));
    gpt_free(copy);
    gpt_free(model);
    import_close(again);
    import_close(import);
    bytes_free(&file);
    ss_device_close(device);
  }
}

static void new_rows(void **state) {
  (void)state;
  enum { KEPT = 6, NEW = 4000 };
  int64_t like[NEW];
  for (int i = 0; i < NEW; ++i)
    like[i] = -1;
  like[1] = 2;
  ss_device *device = open_device();
  bytes file = llama_safetensors(NULL);
  model_import *import = open_memory("memory", llama_config, &file);
  import_options options = {.vocab_size = KEPT + NEW,
                            .n_keep = KEPT,
                            .like = like,
                            .deviation = 0.5,
                            .seed = 3};
  gpt *model = load(import, device, &options), *same = load(import, device, &options);
  assert_int_equal(gpt_get_config(model)->vocab_size, KEPT + NEW);
  assert_memory_equal(gpt_parameters(model), gpt_parameters(same), gpt_n_parameter(model) * sizeof(float));
  const float *wte = parameter(model, "wte");
  for (int col = 0; col < WIDTH; ++col) {
    assert_near(wte[5 * WIDTH + col], value(0, 0, 5, col), 0);
    assert_near(wte[(KEPT + 1) * WIDTH + col], value(0, 0, 2, col), 0);
    // Kept rows are 20 / 256 apart: their mean is row 2.5, their deviation 20 / 256 * sqrt(35 / 12).
    double sum = 0, squares = 0, mean = (50.0 + col) / 256, deviation = 20.0 / 256 * sqrt(35.0 / 12);
    for (int row = KEPT; row < KEPT + NEW; ++row) {
      double difference = wte[row * WIDTH + col] - mean;
      sum += row == KEPT + 1 ? 0 : difference;
      squares += row == KEPT + 1 ? 0 : difference * difference;
    }
    assert_near(sum / NEW, 0, 0.05 * deviation);
    assert_near(sqrt(squares / NEW), 0.5 * deviation, 0.05 * deviation);
  }
  gpt_free(same);
  options.seed = 4;
  same = load(import, device, &options);
  assert_true(parameter(same, "wte")[KEPT * WIDTH] != wte[KEPT * WIDTH]);
  gpt_free(same);
  options.deviation = 0;
  same = load(import, device, &options);
  assert_near(parameter(same, "wte")[KEPT * WIDTH + 1], 51.0 / 256, 1e-7);
  gpt_free(same);
  ss_error error = {0};
  options.n_keep = 8;
  assert_refused(import_model(import, device, &options, &same, &error), SS_ERROR_USAGE, "8 of its 7 tokens");
  options.n_keep = KEPT;
  like[0] = KEPT;
  assert_refused(import_model(import, device, &options, &same, &error), SS_ERROR_USAGE,
                 "like token 6, expected one below 6");
  options = (import_options){.n_positions = 6};
  assert_refused(import_model(import, device, &options, &same, &error), SS_ERROR_USAGE,
                 "6 positions, the model has 5");
  gpt_free(model);
  import_close(import);
  bytes_free(&file);
  ss_device_close(device);
}

// --- refusals ---

static void refuse_config(const char *format, const char *addition, const char *part) {
  ss_error error = {0};
  char config[2048];
  model_import *import = NULL;
  bytes file = llama_safetensors(NULL);
  snprintf(config, sizeof config, format, addition);
  assert_refused(import_open_memory(&import, "memory", config, file.data, (size_t)file.n, &error),
                 SS_ERROR_INPUT, part);
  assert_null(import);
  bytes_free(&file);
}

static void settings_refused(void **state) {
  (void)state;
  static const char *const cases[][2] =
      {{",\"hidden_act\":\"relu\"", "memory: hidden_act, expected silu"},
       {",\"attention_bias\":true", "attention_bias, expected false"},
       {",\"mlp_bias\":1", "mlp_bias, expected false"},
       {",\"sliding_window\":4096", "sliding_window, expected null"},
       {",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}", "rope_scaling scales the rotary angles"},
       {",\"rope_scaling\":3", "rope_scaling, expected null or an object"},
       {",\"rope_parameters\":{\"rope_type\":\"llama3\"}", "rope_parameters scales the rotary angles"},
       {",\"rope_parameters\":{\"rope_theta\":-1}", "rope_theta, expected a positive number"},
       {",\"partial_rotary_factor\":0.5", "partial_rotary_factor, expected 1"},
       {",\"head_dim\":8", "head_dim, expected hidden_size / num_attention_heads"},
       {",\"head_dim\":-9223372036854775804", "head_dim, expected"},  // twice that is 8 in 64 bits
       {",\"quantization_config\":{\"bits\":4}", "quantization_config, expected null"}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k)
    refuse_config(llama_config, cases[k][0], cases[k][1]);
  refuse_config("{\"model_type\":\"qwen2\"%s}", "", "model_type qwen2, expected llama or gpt2");
  refuse_config("{\"a\":1%s}", "", "model_type is missing");
  refuse_config("{\"model_type\":\"llama\"%s}", ",\"hidden_size\":8", "num_hidden_layers is missing");
  refuse_config("{\"model_type\":\"llama\"%s}", ",\"hidden_size\":8.5", "hidden_size, expected an integer");
  refuse_config("{\"model_type\":\"llama\"%s}", ",\"hidden_size\":0", "hidden_size, expected an integer");
  refuse_config("{\"model_type\":\"gpt2\"%s", "", "memory:1: expected a JSON object");
  refuse_config("[1%s]", "", "memory:1: expected a JSON object");
  refuse_config(gpt2_config, ",\"activation_function\":\"relu\"", "activation_function, expected gelu_new");
  refuse_config(gpt2_config, ",\"scale_attn_weights\":false", "scale_attn_weights, expected true");
  refuse_config(gpt2_config, ",\"scale_attn_by_inverse_layer_idx\":true", "expected false");
  refuse_config(gpt2_config, "", "tensor wte.weight is missing, expected [7, 8]");
}

static void gguf_refused(void **state) {
  (void)state;
  static const char *const cases[][3] =
      {{"llama.rope.scaling.factor", NULL, "llama.rope.scaling.factor is a setting that is not supported"},
       {"llama.expert_count", NULL, "llama.expert_count is a setting that is not supported"},
       {"llama.rope.dimension_count", NULL, "llama.rope.dimension_count is 3, expected 4"},
       {"llama.vocab_size", NULL, "llama.vocab_size is 3, expected 7"},
       {"split.count", NULL, "is one of 3 files"},
       {NULL, "rope_freqs.weight", "tensor rope_freqs.weight has no place in a LlamaForCausalLM of 2 layers"},
       {NULL, "blk.2.attn_q.weight", "tensor blk.2.attn_q.weight has no place"},
       {NULL, "output.weight", "tensor output.weight differs from token_embd.weight"}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    ss_error error = {0};
    model_import *import = NULL;
    bytes file = llama_gguf(cases[k][0], cases[k][1]);
    assert_refused(import_open_memory(&import, "x.gguf", NULL, file.data, (size_t)file.n, &error),
                   SS_ERROR_INPUT, cases[k][2]);
    bytes_free(&file);
  }
}

// Four bytes behind a name are others. A type that nobody can read has a size that nobody can check.
static void gguf_lies_refused(void **state) {
  (void)state;
  static const char epsilon[] = "llama.attention.layer_norm_rms_epsilon";
  const struct {
    const char *name;
    int64_t behind;
    uint32_t value;
    const char *part;
  } cases[] = {{epsilon, 4, 0, "epsilon is 0, expected a positive number"},
               {epsilon, 4, 0x7fc00000, "epsilon is nan"},
               {epsilon, 4, 0x7f800000, "epsilon is inf"},
               {epsilon, 4, 0xbf800000, "epsilon is -1"},
               {epsilon, -4, 0x78787878, "layer_norm_rms_epsilon is missing"},
               {"blk.1.attn_k.weight", 20, 12, "attn_k.weight has type Q4_K, expected one of F32, F16"}};
  ss_error error = {0};
  model_import *import = NULL;
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    bytes file = llama_gguf(NULL, NULL);
    int64_t at = 0, n = (int64_t)strlen(cases[k].name);
    while (memcmp(file.data + at, cases[k].name, (size_t)n) != 0)
      ++at;
    memcpy(file.data + at + n + cases[k].behind, &cases[k].value, 4);
    assert_refused(import_open_memory(&import, "x.gguf", NULL, file.data, (size_t)file.n, &error),
                   SS_ERROR_INPUT, cases[k].part);
    bytes_free(&file);
  }
}

static void tensors_refused(void **state) {
  (void)state;
  ss_error error = {0};
  char config[2048];
  model_import *import = NULL;
  bytes file = llama_safetensors(NULL);
  static const char *const others[][2] =
      {{"\"num_hidden_layers\":3", "tensor model.layers.2.input_layernorm.weight is missing, expected [8]"},
       {"\"num_hidden_layers\":1", "tensor model.layers.1.input_layernorm.weight has no place"},
       {"\"intermediate_size\":7", "gate_proj.weight has shape [6, 8], expected [7, 8]"},
       {"\"vocab_size\":70", "model.embed_tokens.weight has shape [7, 8], expected [70, 8]"},
       {"\"num_attention_heads\":3", "model.n_embd is 8, expected a multiple"},
       {"\"tie_word_embeddings\":false", "tensor lm_head.weight is missing"}};
  for (size_t k = 0; k < sizeof others / sizeof *others; ++k) {
    json_error_t reason;
    char addition[64], text[2048];
    snprintf(addition, sizeof addition, ",%s", others[k][0]);
    snprintf(text, sizeof text, llama_config, addition);
    json_t *json = json_loads(text, 0, &reason);  // the later of two equal keys counts
    char *changed = json_dumps(json, 0);
    assert_refused(import_open_memory(&import, "memory", changed, file.data, (size_t)file.n, &error),
                   SS_ERROR_INPUT, others[k][1]);
    free(changed);
    json_decref(json);
  }
  bytes_free(&file);
  snprintf(config, sizeof config, llama_config, "");
  file = llama_safetensors("model.layers.0.self_attn.q_proj.bias");
  assert_refused(import_open_memory(&import, "memory", config, file.data, (size_t)file.n, &error),
                 SS_ERROR_INPUT, "tensor model.layers.0.self_attn.q_proj.bias has no place");
  bytes_free(&file);
  file = llama_safetensors("lm_head.weight");
  snprintf(config, sizeof config, llama_config, ",\"is_llama_config\":true,\"something_new\":3");
  assert_ok(import_open_memory(&import, "memory", config, file.data, (size_t)file.n, &error));
  assert_int_equal(import_get_about(import)->n_note, 2);
  assert_string_equal(import_get_about(import)->notes[0].name, "something_new");
  assert_string_equal(import_get_about(import)->notes[1].name, "lm_head.weight");
  import_close(import);
  bytes_free(&file);
}

static void llama2c_refused(void **state) {
  (void)state;
  static const struct {
    int at;
    uint32_t value;
    const char *part;
  } cases[] = {{0, 0x616b3432, "llama2.c version 6, expected version 0"},
               {0, 0, "byte 0: dim is 0"},
               {2, 1u << 20, "byte 8: n_layers is 1048576"},
               {3, 3, "expected each to divide the one before"},
               {5, (uint32_t)INT32_MIN, "byte 20: vocab_size is 2147483648"},
               {6, 6, "its sizes make"}};
  ss_error error = {0};
  model_import *import = NULL;
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    bytes file = llama_llama2c(true, true);
    for (int i = 0; i < 4; ++i)
      file.data[4 * cases[k].at + i] = (unsigned char)(cases[k].value >> 8 * i);
    assert_refused(import_open_memory(&import, "x.bin", NULL, file.data, (size_t)file.n, &error),
                   SS_ERROR_INPUT, cases[k].part);
    bytes_free(&file);
  }
  bytes file = llama_llama2c(false, false);
  assert_refused(import_open_memory(&import, "x.bin", NULL, file.data, (size_t)file.n, &error),
                 SS_ERROR_INPUT, "tensor wcls differs from token_embedding_table");
  for (int64_t n = 0; n < file.n; ++n)
    assert_refused(import_open_memory(&import, "x.bin", NULL, file.data, (size_t)n, &error), SS_ERROR_INPUT,
                   "x.bin: ");
  bytes_free(&file);
}

static void values_and_paths_refused(void **state) {
  (void)state;
  ss_error error = {0};
  ss_device *device = open_device();
  const import_options plain = {0};
  bytes file = llama_llama2c(true, true);
  memcpy(file.data + 28 + 4 * (3 * WIDTH + 2), "\0\0\300\177", 4);
  model_import *import = open_memory("x.bin", NULL, &file);
  gpt *model = NULL;
  assert_refused(import_model(import, device, &plain, &model, &error), SS_ERROR_NUMERIC,
                 "x.bin: tensor token_embedding_table, row 3: a value is not finite");
  assert_null(model);
  import_close(import);
  bytes_free(&file);
  ss_device_close(device);
  char path[TEST_PATH], folder[TEST_PATH];
  assert_refused(import_open(&import, "/nonexistent", &error), SS_ERROR_IO, "/nonexistent: cannot open");
  assert_refused(import_open(&import, test_write(path, "weights.txt", "x"), &error), SS_ERROR_USAGE,
                 "expected a folder with config.json");
  assert_ok(ss_make_directories(test_path(folder, "no-model"), &error));
  remove(test_path(path, "no-model/config.json"));  // of a run before
  assert_refused(import_open(&import, folder, &error), SS_ERROR_IO, "no-model/config.json");
  char config[2048];
  snprintf(config, sizeof config, llama_config, "");
  test_write(path, "no-model/config.json", config);
  assert_refused(import_open(&import, folder, &error), SS_ERROR_IO, "neither model.safetensors nor");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(llama_from_three_formats),
                                     cmocka_unit_test(gpt2_turned_round),
                                     cmocka_unit_test(new_rows),
                                     cmocka_unit_test(settings_refused),
                                     cmocka_unit_test(gguf_refused),
                                     cmocka_unit_test(gguf_lies_refused),
                                     cmocka_unit_test(tensors_refused),
                                     cmocka_unit_test(llama2c_refused),
                                     cmocka_unit_test(values_and_paths_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
