// Which tensors of a file make which parameters, for every architecture and format.
#include "model/import_private.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))
#define SCHEME(architecture, name, classifier) \
  { architecture, name##_parts, COUNT(name##_parts), name##_unused, COUNT(name##_unused), classifier }

static const import_part llama_safetensors_parts[] =
    {{"wte", "model.embed_tokens.weight", PART_ROWS, SIZE_VOCABULARY, SIZE_WIDTH},
     {"block.%lld.norm1.weight", "model.layers.%lld.input_layernorm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "model.layers.%lld.self_attn.q_proj.weight", PART_ROWS, SIZE_WIDTH,
      SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "model.layers.%lld.self_attn.k_proj.weight", PART_ROWS, SIZE_KV,
      SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "model.layers.%lld.self_attn.v_proj.weight", PART_ROWS, SIZE_KV,
      SIZE_WIDTH},
     {"block.%lld.attention.proj.weight", "model.layers.%lld.self_attn.o_proj.weight", PART_ROWS, SIZE_WIDTH,
      SIZE_WIDTH},
     {"block.%lld.norm2.weight", "model.layers.%lld.post_attention_layernorm.weight", PART_ROWS, SIZE_ONE,
      SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "model.layers.%lld.mlp.gate_proj.weight", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "model.layers.%lld.mlp.up_proj.weight", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.down.weight", "model.layers.%lld.mlp.down_proj.weight", PART_ROWS, SIZE_WIDTH, SIZE_FF},
     {"norm.weight", "model.norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH}};
static const import_unused llama_safetensors_unused[] = {
    {"model.layers.%lld.self_attn.rotary_emb.inv_freq", "rotary frequencies, computed from rope_theta"}};
const import_scheme import_llama_safetensors = SCHEME("LlamaForCausalLM", llama_safetensors,
                                                      "lm_head.weight");

static const import_part llama_gguf_parts[] =
    {{"wte", "token_embd.weight", PART_ROWS, SIZE_VOCABULARY, SIZE_WIDTH},
     {"block.%lld.norm1.weight", "blk.%lld.attn_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "blk.%lld.attn_q.weight", PART_NEIGHBOURS, SIZE_WIDTH, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "blk.%lld.attn_k.weight", PART_NEIGHBOURS, SIZE_KV, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "blk.%lld.attn_v.weight", PART_ROWS, SIZE_KV, SIZE_WIDTH},
     {"block.%lld.attention.proj.weight", "blk.%lld.attn_output.weight", PART_ROWS, SIZE_WIDTH, SIZE_WIDTH},
     {"block.%lld.norm2.weight", "blk.%lld.ffn_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "blk.%lld.ffn_gate.weight", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "blk.%lld.ffn_up.weight", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.down.weight", "blk.%lld.ffn_down.weight", PART_ROWS, SIZE_WIDTH, SIZE_FF},
     {"norm.weight", "output_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH}};
// rope_freqs.weight, which Llama 3 scales its angles with, is not among them: it is refused as a tensor nobody knows.
static const import_unused llama_gguf_unused[] = {
    {"blk.%lld.attn_rot_embd", "rotary frequencies, computed from rope.freq_base"}};
const import_scheme import_llama_gguf = SCHEME("LlamaForCausalLM", llama_gguf, "output.weight");

static const import_part llama_llama2c_parts[] =
    {{"wte", "token_embedding_table", PART_ROWS, SIZE_VOCABULARY, SIZE_WIDTH},
     {"block.%lld.norm1.weight", "rms_att_weight.%lld", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "wq.%lld", PART_NEIGHBOURS, SIZE_WIDTH, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "wk.%lld", PART_NEIGHBOURS, SIZE_KV, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "wv.%lld", PART_ROWS, SIZE_KV, SIZE_WIDTH},
     {"block.%lld.attention.proj.weight", "wo.%lld", PART_ROWS, SIZE_WIDTH, SIZE_WIDTH},
     {"block.%lld.norm2.weight", "rms_ffn_weight.%lld", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "w1.%lld", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "w3.%lld", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.down.weight", "w2.%lld", PART_ROWS, SIZE_WIDTH, SIZE_FF},
     {"norm.weight", "rms_final_weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH}};
static const import_unused llama_llama2c_unused[] = {{"freq_cis_real", "rotary angles, computed"},
                                                     {"freq_cis_imag", "rotary angles, computed"}};
const import_scheme import_llama_llama2c = SCHEME("LlamaForCausalLM", llama_llama2c, "wcls");

static const import_part gpt2_safetensors_parts[] =
    {{"wte", "wte.weight", PART_ROWS, SIZE_VOCABULARY, SIZE_WIDTH},
     {"wpe", "wpe.weight", PART_ROWS, SIZE_POSITIONS, SIZE_WIDTH},
     {"block.%lld.norm1.weight", "h.%lld.ln_1.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm1.bias", "h.%lld.ln_1.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "h.%lld.attn.c_attn.weight", PART_TRANSPOSED, SIZE_QKV, SIZE_WIDTH},
     {"block.%lld.attention.qkv.bias", "h.%lld.attn.c_attn.bias", PART_ROWS, SIZE_ONE, SIZE_QKV},
     {"block.%lld.attention.proj.weight", "h.%lld.attn.c_proj.weight", PART_TRANSPOSED, SIZE_WIDTH,
      SIZE_WIDTH},
     {"block.%lld.attention.proj.bias", "h.%lld.attn.c_proj.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm2.weight", "h.%lld.ln_2.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm2.bias", "h.%lld.ln_2.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "h.%lld.mlp.c_fc.weight", PART_TRANSPOSED, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.up.bias", "h.%lld.mlp.c_fc.bias", PART_ROWS, SIZE_ONE, SIZE_FF},
     {"block.%lld.mlp.down.weight", "h.%lld.mlp.c_proj.weight", PART_TRANSPOSED, SIZE_WIDTH, SIZE_FF},
     {"block.%lld.mlp.down.bias", "h.%lld.mlp.c_proj.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"norm.weight", "ln_f.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"norm.bias", "ln_f.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH}};
static const import_unused gpt2_safetensors_unused[] = {{"h.%lld.attn.bias", "the causal mask"},
                                                        {"h.%lld.attn.masked_bias",
                                                         "a constant of the causal mask"}};
const import_scheme import_gpt2_safetensors = SCHEME("GPT2LMHeadModel", gpt2_safetensors, "lm_head.weight");

static const import_part gpt2_gguf_parts[] =
    {{"wte", "token_embd.weight", PART_ROWS, SIZE_VOCABULARY, SIZE_WIDTH},
     {"wpe", "position_embd.weight", PART_ROWS, SIZE_POSITIONS, SIZE_WIDTH},
     {"block.%lld.norm1.weight", "blk.%lld.attn_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm1.bias", "blk.%lld.attn_norm.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.attention.qkv.weight", "blk.%lld.attn_qkv.weight", PART_ROWS, SIZE_QKV, SIZE_WIDTH},
     {"block.%lld.attention.qkv.bias", "blk.%lld.attn_qkv.bias", PART_ROWS, SIZE_ONE, SIZE_QKV},
     {"block.%lld.attention.proj.weight", "blk.%lld.attn_output.weight", PART_ROWS, SIZE_WIDTH, SIZE_WIDTH},
     {"block.%lld.attention.proj.bias", "blk.%lld.attn_output.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm2.weight", "blk.%lld.ffn_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.norm2.bias", "blk.%lld.ffn_norm.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"block.%lld.mlp.up.weight", "blk.%lld.ffn_up.weight", PART_ROWS, SIZE_FF, SIZE_WIDTH},
     {"block.%lld.mlp.up.bias", "blk.%lld.ffn_up.bias", PART_ROWS, SIZE_ONE, SIZE_FF},
     {"block.%lld.mlp.down.weight", "blk.%lld.ffn_down.weight", PART_ROWS, SIZE_WIDTH, SIZE_FF},
     {"block.%lld.mlp.down.bias", "blk.%lld.ffn_down.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"norm.weight", "output_norm.weight", PART_ROWS, SIZE_ONE, SIZE_WIDTH},
     {"norm.bias", "output_norm.bias", PART_ROWS, SIZE_ONE, SIZE_WIDTH}};
static const import_unused gpt2_gguf_unused[] = {{"blk.%lld.attn_bias", "the causal mask"}};
const import_scheme import_gpt2_gguf = SCHEME("GPT2LMHeadModel", gpt2_gguf, "output.weight");
