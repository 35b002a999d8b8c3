// The seam to the backends: one table of ops, implemented twice (kernels/cpu, kernels/cuda) with the same
// names and argument order. Nothing above it knows which backend runs.
//
// Conventions
//  - A tensor is a row-major matrix [rows, cols] with a row stride (elements). Its data is an address on
//    the device: only ops and copies touch it. Shapes stand beside every tensor below: n = rows of the
//    batch (tokens), C = n_embd, V = vocabulary.
//  - T below is the device's compute dtype (ss_device.compute): F32, or BF16 on CUDA. Activations and the weights of
//    matrix products are T; master weights, norm weights, parameter gradients, statistics and losses are F32.
//  - Gradients of parameters are accumulated (+=); gradients of activations are written (=) unless said.
//  - Ops run in order and may return before the device has done them: only synchronize and download wait. A
//    host array passed to an op may be reused as soon as the op returns, except in download_async.
//  - Every op is deterministic and independent of the number of threads (CPU), or in deterministic mode (CUDA).
//  - Every op returns ss_status; its message is in the device's error (ss_device_error).
//  - Attention knows row ranges only: no segments, references or tasks. What turns generated tokens into ranges on the
//    device is span/, run by ss_sequence_ops.
#ifndef SELFSPAN_KERNELS_KERNELS_H
#define SELFSPAN_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/random.h"
#include "span/sequence.h"

typedef enum { SS_F32, SS_BF16, SS_I32 } ss_dtype;

typedef struct {
  void *data;  // device address
  int64_t rows, cols;
  int64_t stride;  // elements between rows, >= cols
  ss_dtype dtype;
} ss_tensor;

static inline ss_tensor ss_matrix_of(void *data, int64_t rows, int64_t cols, ss_dtype dtype) {
  ss_tensor tensor = {data, rows, cols, cols, dtype};
  return tensor;
}
static inline ss_tensor ss_matrix(void *data, int64_t rows, int64_t cols) {
  return ss_matrix_of(data, rows, cols, SS_F32);
}
static inline ss_tensor ss_integers(void *data, int64_t count) {
  ss_tensor tensor = {data, 1, count, count, SS_I32};
  return tensor;
}
static inline size_t ss_dtype_size(ss_dtype dtype) {
  return dtype == SS_BF16 ? 2 : 4;
}
// Columns [first, first + cols) of a tensor, as a view.
static inline ss_tensor ss_columns(ss_tensor tensor, int64_t first, int64_t cols) {
  tensor.data = (char *)tensor.data + (size_t)first * ss_dtype_size(tensor.dtype);
  tensor.cols = cols;
  return tensor;
}
// Rows [first, first + rows) of a tensor, as a view.
static inline ss_tensor ss_rows(ss_tensor tensor, int64_t first, int64_t rows) {
  tensor.data = (char *)tensor.data + (size_t)(first * tensor.stride) * ss_dtype_size(tensor.dtype);
  tensor.rows = rows;
  return tensor;
}

typedef enum { SS_NORM_LAYER, SS_NORM_RMS } ss_norm_kind;
typedef enum { SS_ACTIVATION_GELU, SS_ACTIVATION_SWIGLU } ss_activation_kind;  // GELU: tanh form (GPT-2)

// One attention view: queries q_first .. q_first + n_query share the ranges; query j reads them and the
// key rows [self_first, self_last + j]. All key rows index the k and v tensors of the call. Training:
// q_first == self_last. Decoding: n_query == 1 and key rows lie in a cache slab.
typedef struct {
  int32_t q_first, n_query;
  int32_t self_first, self_last;  // first key row of the causal part; key row of the first query itself
  int32_t range_first, n_range;   // into the ranges passed with the views
} ss_attention_view;

// Whether a view's rows and ranges lie where the contract of attention_plan wants them.
static inline bool ss_attention_view_fits(const ss_attention_view *view, const span_range *ranges,
                                          int64_t n_range, int64_t n_key_row) {
  if (view->q_first < 0 || view->n_query < 1 || (int64_t)view->q_first + view->n_query > INT32_MAX ||
      view->self_first < 0 || view->self_last < 0 || (int64_t)view->self_last + view->n_query > n_key_row ||
      view->n_range < 0 || view->range_first < 0 || (int64_t)view->range_first + view->n_range > n_range)
    return false;
  int32_t last = 0;
  for (int32_t r = 0; r < view->n_range; ++r) {
    span_range range = ranges[view->range_first + r];
    if (range.first < last || range.first >= range.end || range.end > view->self_first ||
        range.end > n_key_row)
      return false;
    last = range.end;
  }
  return true;
}

typedef struct ss_attention_plan ss_attention_plan;  // owned by the caller, made by a device's op

// One attention call's geometry. n_head must be a multiple of n_kv_head (grouped-query attention).
typedef struct {
  int32_t n_head, n_kv_head, head_dim;
  float scale;  // multiplies q.k; 1/sqrt(head_dim) for GPT-2 and Llama
} ss_attention_shape;

// One parameter tensor of the AdamW update (Loshchilov, Hutter 2017, arXiv 1711.05101).
typedef struct {
  float *weight, *gradient, *first_moment, *second_moment;  // device addresses, `count` elements
  int64_t count;
  float weight_decay;
  void *compute_copy;  // the weight in BF16, rewritten with every update; NULL when T is F32
  float rate;          // multiplies the learning rate; mostly 1
} ss_adamw_tensor;

// Gradients are first multiplied by s = gradient_scale * min(1, clip / (norm * gradient_scale)). `norm` is what
// gradient_norm left on the device; when it is not finite, nothing is updated.
typedef struct {
  float learning_rate, beta1, beta2, epsilon;
  double gradient_scale;  // averaging
  double clip;            // largest norm after scaling; 0: none
  const double *norm;     // device address; NULL: neither clipping nor the check
  int64_t step;           // 1 for the first update (bias correction)
} ss_adamw;

typedef struct ss_device ss_device;

// A norm in front of a product; weight.data == NULL: there is none.
typedef struct {
  ss_norm_kind kind;
  ss_tensor weight, bias;  // F32 [1,I]; bias.data may be NULL
  float epsilon;
} ss_norm;

typedef enum { SS_STEP_PLAIN, SS_STEP_GELU, SS_STEP_SWIGLU } ss_step_activation;

// --- sequences: decoding without the host ---
// A set of slots on the device, each with one sequence (span/sequence.h), its tokens and a slab of the KV cache: row r of
// slot s is cache row s * slot_rows + r.
typedef struct ss_sequences ss_sequences;

typedef struct {
  int32_t n_slot, slot_rows;
  int32_t n_segment;  // a sequence has room for (anchors)
  int32_t vocab_size;
  ss_attention_shape shape;  // of the attention that reads the plan
  double temperature;        // 0: greedy, the lowest id wins a tie
  int64_t top_k;             // 0: all
  double top_p;              // 1: all
  int32_t control;           // span_control that replaces the visible sets, -1 for none
  int32_t n_sink;
  int32_t expected_rows;  // that a query reads, about; 0: all of its sequence's. Speed alone depends on it
} ss_sequences_options;

// What a decoding step over all slots reads; device addresses that stay. A slot that is not active has token 0,
// position 0, cache row -1 and reads nothing.
typedef struct {
  ss_tensor tokens, positions, cache_rows;  // i32 [n_slot]
  const ss_attention_plan *plan;            // query s is slot s
} ss_sequences_inputs;

typedef struct {
  int32_t active, stop;  // as in span_sequence
  int32_t n_row;         // rows that have a token
  int32_t unused;
} ss_sequence_status;

#define SS_N_STATUS 2  // snapshots under way

typedef struct {
  // All slots are empty.
  ss_status (*create)(ss_device *, ss_sequences **out, const ss_sequences_options *);
  void (*release)(ss_device *, ss_sequences *);
  // Puts a sequence into a slot: its prompt pushed, next_rows set, active 1; arrays on the host, which may be reused
  // afterwards. limit <= slot_rows, n_gold <= slot_rows.
  ss_status (*start)(ss_device *, ss_sequences *, int32_t slot, const span_sequence *sequence,
                     ss_random random, uint64_t control_seed);
  // Chooses a token for every active slot among those that `slots` (i32[n]) lists, from row i of logits [n,V] (F32) for
  // slots[i]; slots.data == NULL: row s for slot s. Where gold forces one, logits are not read.
  ss_status (*choose)(ss_device *, ss_sequences *, ss_tensor logits, ss_tensor slots);
  // Pushes what was chosen in those slots, then lists what every active slot's last row reads: inputs and plan.
  ss_status (*advance)(ss_device *, ss_sequences *, ss_tensor slots);
  ss_sequences_inputs (*inputs)(ss_device *, ss_sequences *);
  // Takes a snapshot of all slots' statuses after the ops so far, into buffer `index` < SS_N_STATUS; waits for it, not for
  // later ops. *status [n_slot] stays until the next snapshot of that index.
  ss_status (*take_status)(ss_device *, ss_sequences *, int32_t index);
  ss_status (*wait_status)(ss_device *, ss_sequences *, int32_t index, const ss_sequence_status **status);
  // Reads a slot that a status showed inactive, without waiting for ops after it: its sums, stop and n_row (in
  // tracker.n_row; nothing else of the tracker), and its tokens and rows (may be NULL) into the host arrays that
  // `sequence` has.
  ss_status (*result)(ss_device *, ss_sequences *, int32_t slot, span_sequence *sequence);
} ss_sequence_ops;

typedef struct ss_graph ss_graph;

#define SS_N_STAMP 64

typedef struct {
  const char *name;  // "cpu", "cuda"

  // --- memory ---
  ss_status (*allocate)(ss_device *, void **data, size_t bytes, const char *what);  // zeroed
  void (*release)(ss_device *, void *data);
  // Host memory that download_async can write to (page-locked on CUDA), zeroed.
  ss_status (*allocate_host)(ss_device *, void **data, size_t bytes, const char *what);
  void (*release_host)(ss_device *, void *data);
  // Bytes that allocate could still hand out, and the device's memory in all.
  ss_status (*memory_free)(ss_device *, size_t *free_bytes, size_t *total_bytes);
  ss_status (*upload)(ss_device *, void *device_data, const void *host, size_t bytes);
  ss_status (*download)(ss_device *, void *host, const void *device_data, size_t bytes);
  // Like download, but `host` (from allocate_host) holds the bytes only after the next synchronize.
  ss_status (*download_async)(ss_device *, void *host, const void *device_data, size_t bytes);
  ss_status (*zero)(ss_device *, void *data, size_t bytes);
  ss_status (*convert)(ss_device *, ss_tensor out, ss_tensor in);  // F32 <-> BF16, same shape
  ss_status (*synchronize)(ss_device *);
  // Time stamps in the stream of ops, index 0..SS_N_STAMP-1; stamp_seconds waits for both.
  ss_status (*stamp)(ss_device *, int32_t index);
  ss_status (*stamp_seconds)(ss_device *, int32_t from, int32_t to, double *seconds);
  // A named range in a profiler's timeline (NVTX); no-ops on the CPU.
  void (*range_push)(ss_device *, const char *name);
  void (*range_pop)(ss_device *);

  // --- embedding --- out[n,C] (T) = wte[token] (+ wpe[position] when wpe.data != NULL); wte and wpe F32, or wte
  // T alone (a gather of rows)
  ss_status (*embedding_forward)(ss_device *, ss_tensor out, ss_tensor tokens /*i32[n]*/,
                                 ss_tensor positions /*i32[n]*/, ss_tensor wte /*[V,C]*/,
                                 ss_tensor wpe /*[P,C]*/);
  ss_status (*embedding_backward)(ss_device *, ss_tensor dwte /*+=*/, ss_tensor dwpe /*+=*/,
                                  ss_tensor dout /*[n,C]*/, ss_tensor tokens, ss_tensor positions);

  // --- residual + norm --- sum = x + branch (branch.data == NULL: sum = x, and sum may alias x); out = norm(sum).
  // statistics [n,2]: mean and reciprocal standard deviation (RMS: column 0 is 0). bias.data may be NULL.
  // x, branch, sum, out: T; statistics, weight, bias: F32. With neither branch nor another sum it only recomputes out.
  ss_status (*norm_forward)(ss_device *, ss_norm_kind, ss_tensor out /*[n,C]*/, ss_tensor sum /*[n,C]*/,
                            ss_tensor statistics, ss_tensor x, ss_tensor branch, ss_tensor weight /*[1,C]*/,
                            ss_tensor bias, float epsilon);
  // dsum[n,C] += gradient through the norm (the residual stream's gradient is already in dsum).
  ss_status (*norm_backward)(ss_device *, ss_norm_kind, ss_tensor dsum /*+=*/, ss_tensor dweight /*+=*/,
                             ss_tensor dbias /*+=, may be NULL*/, ss_tensor dout /*[n,C]*/, ss_tensor sum,
                             ss_tensor statistics, ss_tensor weight);

  // --- linear --- out[n,O] = in[n,I] weight[O,I]^T + bias[1,O] (bias.data may be NULL); in, weight, bias: T; out: T
  // or F32 (logits)
  ss_status (*linear_forward)(ss_device *, ss_tensor out, ss_tensor in, ss_tensor weight, ss_tensor bias);
  // din (=, skipped when din.data == NULL), dweight (+=), dbias (+=, may be NULL)
  ss_status (*linear_backward)(ss_device *, ss_tensor din, ss_tensor dweight, ss_tensor dbias, ss_tensor dout,
                               ss_tensor in, ss_tensor weight);

  // pre = linear_forward(in), out = activation_forward(pre): fused where that pays. pre [n,F or 2F], out [n,F]
  ss_status (*linear_activation_forward)(ss_device *, ss_activation_kind, ss_tensor out, ss_tensor pre,
                                         ss_tensor in, ss_tensor weight, ss_tensor bias);
  // The way back from the linear that reads an activation (in = activation(pre)): dweight and dbias as in
  // linear_backward, dpre [n,F or 2F] (=) the gradient before the activation. scratch [n,F] may be overwritten; with GELU
  // it may be dpre itself.
  ss_status (*linear_activation_backward)(ss_device *, ss_activation_kind, ss_tensor dpre, ss_tensor dweight,
                                          ss_tensor dbias, ss_tensor dout, ss_tensor in, ss_tensor weight,
                                          ss_tensor pre, ss_tensor scratch);

  // --- rotary positions, in place --- x[n, heads*head_dim], pairs (d, d + head_dim/2) as in Llama (Su et al.
  // 2021, arXiv 2104.09864); direction +1 forward, -1 for the gradient.
  ss_status (*rotary)(ss_device *, ss_tensor x, ss_tensor positions /*i32[n]*/, int32_t head_dim, float theta,
                      int32_t direction);

  // --- attention over row ranges ---
  // Makes or refills *plan (NULL at first) from host arrays: views -> work items. Ranges are sorted, merged,
  // and end at or before the view's self_first. The plan copies what it needs. `backward` also prepares the gradient.
  ss_status (*attention_plan)(ss_device *, ss_attention_plan **plan, const ss_attention_view *views,
                              int64_t n_view, const span_range *ranges, int64_t n_range, int64_t n_key_row,
                              bool backward);
  void (*attention_plan_free)(ss_device *, ss_attention_plan *plan);
  // out[n_query_row, n_head*head_dim]; log_sum_exp[n_query_row, n_head] (may be NULL data when no backward
  // follows). Rows of q covered by no view are left untouched; a view query that reads nothing gives zeros.
  ss_status (*attention_forward)(ss_device *, const ss_attention_plan *plan, ss_attention_shape,
                                 ss_tensor out, ss_tensor log_sum_exp, ss_tensor q /*[nq, n_head*head_dim]*/,
                                 ss_tensor k /*[nk, n_kv_head*head_dim]*/, ss_tensor v);
  // dq, dk, dv are written (=), rows that no view covers or reads as zeros.
  ss_status (*attention_backward)(ss_device *, const ss_attention_plan *plan, ss_attention_shape,
                                  ss_tensor dq, ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                  ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v);
  // Copies k and v rows [n, n_kv_head*head_dim] to rows `slots` (i32[n]) of the caches.
  ss_status (*cache_append)(ss_device *, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                            ss_tensor slots);

  // --- MLP activation --- GELU: in[n,F]; SWIGLU: in[n,2F] = gate | up, out = silu(gate) * up
  ss_status (*activation_forward)(ss_device *, ss_activation_kind, ss_tensor out /*[n,F]*/, ss_tensor in);
  ss_status (*activation_backward)(ss_device *, ss_activation_kind, ss_tensor din, ss_tensor dout,
                                   ss_tensor in);

  // --- classifier + loss, fused in chunks of rows: full logits never exist ---
  // losses[n] = cross-entropy of softmax(h wte^T) against targets (i32[n]; < 0 is ignored: loss 0, no gradient).
  // When dh.data != NULL: dh[n,C] (=) and dwte[V,C] (+=) receive the gradient of scale * sum(losses).
  // correct[n] (i32, may be NULL data): 1 where the arg-max is the target. target_rows (i32[m]): the rows whose
  // target is not negative, ascending; only they are multiplied.
  ss_status (*classifier_loss)(ss_device *, ss_tensor losses, ss_tensor correct, ss_tensor dh, ss_tensor dwte,
                               ss_tensor h /*[n,C]*/, ss_tensor wte /*[V,C]*/, ss_tensor targets,
                               ss_tensor target_rows, float scale);

  // --- optimizer ---
  // *norm (device address) = sqrt(sum of squares over all gradients), fp64 accumulation in a fixed order. NaN/Inf
  // propagate. The table of tensors may be kept by the device between calls while its address and content stay.
  ss_status (*gradient_norm)(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, double *norm);
  ss_status (*adamw)(ss_device *, const ss_adamw_tensor *tensors, int32_t n_tensor, ss_adamw);

  // --- a decoding step: fused ops over n rows, one a sequence, bound by reading the weights ---
  // Where they round to T in between is the backend's; the result for a row does not depend on other rows.
  // out[n,O] (T or F32) = activation(norm(x)[n,I] weight^T + bias[1,O or 2O] (may be NULL)); weight [O,I], SwiGLU: [2O,I],
  // gate | up. x: T.
  ss_status (*step_linear)(ss_device *, ss_tensor out, ss_tensor x, ss_norm norm, ss_tensor weight,
                           ss_tensor bias, ss_step_activation activation);
  // x[n,C] += in[n,I] weight[C,I]^T + bias[1,C] (may be NULL)
  ss_status (*step_residual)(ss_device *, ss_tensor x, ss_tensor in, ss_tensor weight, ss_tensor bias);
  // q | k | v = norm(x)[n,C] weight[Q+2K,C]^T + bias (may be NULL); q and k rotated as by `rotary` when theta > 0. q is
  // written, k and v go to rows `slots` (i32[n]) of the caches; those of a slot < 0 nowhere.
  ss_status (*step_qkv)(ss_device *, ss_tensor q /*[n,Q]*/, ss_tensor k_cache /*[rows,K]*/, ss_tensor v_cache,
                        ss_tensor x /*[n,C]*/, ss_norm norm, ss_tensor weight, ss_tensor bias,
                        ss_tensor positions /*i32[n]*/, ss_tensor slots, int32_t head_dim, float theta);

  // --- many steps without the host: NULL where the device is the host ---
  const ss_sequence_ops *sequences;
  // Ops from begin to end are recorded instead of run; launch runs them, with the addresses and sizes that they had. Ops
  // that wait, allocate or time something fail in between: run the same once before. After a failure in between, end
  // clears the recording (and fails).
  ss_status (*graph_begin)(ss_device *);
  ss_status (*graph_end)(ss_device *, ss_graph **graph);
  ss_status (*graph_launch)(ss_device *, ss_graph *graph);
  // Whether the memory behind it is still where it was (scratch may have grown since): if not, record again.
  bool (*graph_valid)(ss_device *, const ss_graph *graph);
  void (*graph_free)(ss_device *, ss_graph *graph);

  void (*destroy)(ss_device *);
} ss_ops;

// Every backend's device struct starts with this.
struct ss_device {
  const ss_ops *ops;
  ss_error error;
  ss_dtype compute;  // T
  bool synchronous;  // ops are done when they return, and device memory is the host's: the CPU
  // What runs: "cpu, fp32, 2 threads, OpenBLAS SkylakeX, AVX-512". Grows when an op first chooses its kernels.
  char description[512];
};

typedef enum { SS_PRECISION_FP32, SS_PRECISION_TF32, SS_PRECISION_BF16 } ss_precision;

// CUDA: which kernels serve attention. AUTO: the decode kernel for views of one query without a backward, cuDNN for plain
// causal rows where it can, our tiles for everything else in bf16, the plain kernel for the rest. A choice that cannot serve a call is an error, not a fallback.
typedef enum {
  SS_ATTENTION_AUTO,
  SS_ATTENTION_TILED,
  SS_ATTENTION_PLAIN,
  SS_ATTENTION_CUDNN
} ss_attention_kernel;

typedef struct {
  int n_thread;            // CPU: threads, 0 for OpenMP's default
  ss_precision precision;  // CUDA; the CPU computes in fp32 whatever is asked
  bool deterministic;      // CUDA: no tuning by time, no atomics: the same bits in every run
  ss_attention_kernel attention;
} ss_device_options;

// Opens "cpu" or "cuda". An absent backend is an error.
ss_status ss_device_open(ss_device **out, const char *name, const ss_device_options *options,
                         ss_error *error);
void ss_device_close(ss_device *device);

// What the description has gained since it was `said` characters long; "" for nothing.
const char *ss_device_gained(const ss_device *device, size_t said);

// Moves a failed op's message into `error` (clearing the device's) and returns its status.
ss_status ss_device_error(ss_device *device, ss_error *error);

// Calls an op: SS_OP(device, error, linear_forward, out, in, weight, bias) returns from the caller on failure.
#define SS_OP(device, error, op, ...)                      \
  do {                                                     \
    if ((device)->ops->op((device), __VA_ARGS__) != SS_OK) \
      return ss_device_error((device), (error));           \
  } while (0)

#endif
