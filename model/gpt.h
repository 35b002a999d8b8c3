// A GPT as one block with switches (norm, positions, MLP, biases, KV heads), so that GPT-2 and Llama-style
// models are configurations of the same code. Tied embeddings. Parameters are fp32; a device that computes in bf16
// reads a copy of them in bf16.
//
// Block: h = h + proj(attention(norm1(h))); h = h + mlp(norm2(h)).
// GPT-2: layer norm, learned positions, GELU, biases. Llama: RMS norm, rotary, SwiGLU, no biases.
#ifndef SELFSPAN_MODEL_GPT_H
#define SELFSPAN_MODEL_GPT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "kernels/kernels.h"

typedef enum { GPT_POSITION_LEARNED, GPT_POSITION_ROTARY, GPT_POSITION_NONE } gpt_position;

typedef struct {
  int64_t n_layer, n_head, n_kv_head, n_embd;
  int64_t n_ff;         // 0 in a config file: 4 * n_embd (GELU), 8/3 * n_embd rounded up to 32 (SwiGLU)
  int64_t n_positions;  // longest sequence
  int64_t vocab_size;   // 0 in a config file: taken from the dataset
  int norm;             // ss_norm_kind
  int position;         // gpt_position
  int activation;       // ss_activation_kind
  bool bias;
  double norm_epsilon;
  double rotary_theta;
  double init_std;  // of every matrix; residual projections use init_std / sqrt(2 n_layer)
} gpt_config;

// Keys "model.*" over a gpt_config. n_kv_head 0 means n_head.
extern const ss_key gpt_config_keys[];

// Fills zeros (n_kv_head, n_ff) and checks divisibility and ranges.
ss_status gpt_config_resolve(gpt_config *config, ss_error *error);

typedef enum { GPT_INIT_NORMAL, GPT_INIT_RESIDUAL, GPT_INIT_ONES, GPT_INIT_ZEROS } gpt_init;

// One row of the parameter table. Names follow "wte", "wpe", "block.3.attention.qkv.weight", ...
typedef struct {
  char name[64];
  int64_t rows, cols;  // weight [out, in]; vectors are [1, n]
  int64_t offset;      // elements from the start of the flat parameter buffer
  gpt_init init;
  bool decay;  // matrices yes; norms, biases and embeddings of positions no
} gpt_parameter;

typedef struct gpt gpt;

// Builds the table and allocates parameters and (when `trainable`) gradients as flat device buffers. No init.
ss_status gpt_create(gpt **out, ss_device *device, const gpt_config *config, bool trainable, ss_error *error);
void gpt_free(gpt *model);

// Random initialisation, a pure function of (config, seed).
ss_status gpt_initialize(gpt *model, uint64_t seed, ss_error *error);

const gpt_config *gpt_get_config(const gpt *model);
ss_device *gpt_device(const gpt *model);
int32_t gpt_n_parameter_tensor(const gpt *model);
const gpt_parameter *gpt_parameter_table(const gpt *model);
int64_t gpt_n_parameter(const gpt *model);  // elements in all
// Device address of the flat buffer. Whoever asks may write: the model's compute copy counts as outdated from then
// until its next use, and writes after that need another call.
float *gpt_parameters(gpt *model);
float *gpt_gradients(const gpt *model);  // NULL unless trainable
// The parameters as matrix products read them: bf16 at the same offsets, NULL when the device computes in fp32. Who
// keeps it equal to the parameters himself (the optimizer) need not call gpt_parameters again.
void *gpt_compute_copy(gpt *model);
// Index of a parameter by name, -1 when there is none.
int32_t gpt_find_parameter(const gpt *model, const char *name);

// FLOPs of one forward + backward per token: 6 * (matrix parameters + tied classifier) + 12 * layers * C * mean attended rows.
double gpt_train_flops_per_token(const gpt *model, double attended_rows);

// A batch of n rows (tokens), packed without gaps. Host arrays, owned by the caller.
typedef struct {
  int64_t n_row;
  const int32_t *tokens;           // [n]
  const int32_t *targets;          // [n], -1 = no loss
  const int32_t *positions;        // [n]
  const ss_attention_view *views;  // covering every row once; key rows are the batch's rows
  int64_t n_view;
  const span_range *ranges;
  int64_t n_range;
} gpt_batch;

typedef struct {
  double loss_sum;    // summed cross-entropy in nats
  int64_t n_target;   // rows with a target
  int64_t n_correct;  // arg-max equals target
} gpt_loss;

// Forward, and when `backward` also gradients of loss_scale * loss_sum, accumulated into gpt_gradients.
// Activations are kept in the model's own workspace, grown on demand.
ss_status gpt_train_step(gpt *model, const gpt_batch *batch, bool backward, double loss_scale, gpt_loss *loss,
                         ss_error *error);

// The same in three parts, so that the host prepares the next batch while the device computes this one:
//   stage    checks a batch and enqueues its upload; it may come between run and collect of the batch before. The
//            batch's arrays may be reused afterwards. A batch staged before and not run is forgotten.
//   run      enqueues forward, loss, backward and the download of the losses
//   collect  waits, and sums the losses of the batch that ran
// Everything else that computes with the model (another step, inference) forgets the staged batch: gpt_is_staged.
ss_status gpt_stage(gpt *model, const gpt_batch *batch, bool backward, ss_error *error);
bool gpt_is_staged(const gpt *model);
int64_t gpt_staged_targets(const gpt *model);  // rows with a target of the staged batch
ss_status gpt_run(gpt *model, double loss_scale, ss_error *error);
ss_status gpt_collect(gpt *model, gpt_loss *loss, ss_error *error);

// Recomputation: norms' and activations' outputs are computed again in the backward pass instead of being kept.
// Less memory for the same results, bit for bit unless the device applies GELU before it rounds; off at first.
void gpt_set_recompute(gpt *model, bool recompute);
// Bytes of activations for `n_row` rows (tokens) on a device that computes in `compute`.
size_t gpt_activation_bytes(const gpt_config *config, ss_dtype compute, bool recompute, bool backward,
                            int64_t n_row);
// Bytes of parameters, gradients (trainable) and the compute copy.
size_t gpt_parameter_bytes(const gpt *model);
// Allocates the activations of batches up to n_row rows at once. Too many for the device's memory is an error that
// names how many fit.
ss_status gpt_reserve(gpt *model, int64_t n_row, bool backward, ss_error *error);
ss_status gpt_zero_gradients(gpt *model, ss_error *error);

// Logits [n, V] of the same forward, for tests and import checks; host array of n_row * V floats.
ss_status gpt_forward_logits(gpt *model, const gpt_batch *batch, float *logits, ss_error *error);

// --- inference: KV cache ---

// One contiguous slab of `slot_rows` rows for each of `n_slot` sequences and each layer;
// row r of slot s is cache row s * slot_rows + r.
typedef struct gpt_cache gpt_cache;
ss_status gpt_cache_create(gpt_cache **out, gpt *model, int64_t n_slot, int64_t slot_rows, ss_error *error);
void gpt_cache_free(gpt_cache *cache);
int64_t gpt_cache_bytes_per_row(const gpt_cache *cache);  // K and V, all layers
int64_t gpt_cache_row_bytes(const gpt *model);            // the same before there is a cache
// Overwrites cache rows with a value (NaN poisoning in tests).
ss_status gpt_cache_fill(gpt_cache *cache, int64_t first_row, int64_t n_row, float value, ss_error *error);

// Runs n_row tokens (prefill: many a sequence; decode: one a sequence; both may mix): writes K and V to cache
// rows cache_rows[i], attends through `views` (q rows are batch rows, key rows are cache rows), and returns
// logits [n_logit_row, V] of the batch rows listed in logit_rows.
typedef struct {
  int64_t n_row;
  const int32_t *tokens, *positions, *cache_rows;  // [n]
  const ss_attention_view *views;
  int64_t n_view;
  const span_range *ranges;
  int64_t n_range;
  const int32_t *logit_rows;  // [n_logit_row], ascending
  int64_t n_logit_row;
} gpt_inference_batch;
ss_status gpt_infer(gpt *model, gpt_cache *cache, const gpt_inference_batch *batch, float *logits,
                    ss_error *error);
// The same without waiting: *logits [n_logit_row, V] (F32) lie on the device until the model computes anything else but
// decoding steps.
ss_status gpt_infer_logits(gpt *model, gpt_cache *cache, const gpt_inference_batch *batch, ss_tensor *logits,
                           ss_error *error);

// --- decoding steps: one row a sequence, through fused ops ---
// Buffers of its own, at addresses that stay, so that a step can be recorded as a graph.
typedef struct gpt_decode gpt_decode;
ss_status gpt_decode_create(gpt_decode **out, gpt *model, gpt_cache *cache, int64_t n_row, ss_error *error);
void gpt_decode_free(gpt_decode *decode);
// Enqueues one step over n_row <= the created rows; it waits for nothing. tokens, positions, cache_rows: device
// addresses, i32 [n_row], checked by nobody; a row whose cache row is < 0 leaves nothing in the cache. plan: query i is
// row i, key rows are cache rows, the row's own among them.
ss_status gpt_decode_step(gpt_decode *decode, int64_t n_row, ss_tensor tokens, ss_tensor positions,
                          ss_tensor cache_rows, const ss_attention_plan *plan, ss_error *error);
// [n_row, V] (F32) of the last step, on the device.
ss_tensor gpt_decode_logits(const gpt_decode *decode);
// Geometry of the model's attention calls.
ss_attention_shape gpt_attention_shape(const gpt *model);

#endif
