// The vectorised inner loops, built once per instruction set from simd_body.h and chosen when the device
// opens. They hold no threads and no allocation: an op's task calls them on its own rows.
#ifndef SELFSPAN_KERNELS_CPU_SIMD_H
#define SELFSPAN_KERNELS_CPU_SIMD_H

#include "kernels/kernels.h"

// A tile of queries is CPU_LANES columns wide, a tile of keys CPU_KEYS rows high.
#define CPU_LANES 32
#define CPU_KEYS 64
#define CPU_HEAD_DIM_MAX 512
#define CPU_ROW_CHUNK 512  // key rows of one piece of a single query

// One attention call as the inner loops see it. Strides in elements.
typedef struct {
  ss_attention_shape shape;
  const span_range *ranges;  // of the plan
  const float *q, *k, *v;    // q [nq, n_head*head_dim]; k, v [nk, n_kv_head*head_dim]
  int64_t q_stride, k_stride, v_stride;
  float *out, *log_sum_exp;  // [nq, n_head*head_dim], [nq, n_head] (may be NULL)
  int64_t out_stride, log_sum_exp_stride;
  const float *dout;  // backward only, as what follows
  float *dq, *dk, *dv;
  int64_t dout_stride, dq_stride, dk_stride, dv_stride;
} cpu_attention_call;

// Part of a view: queries [query_first, query_first + n_query) of it; for a single query also the piece
// [row_first, row_end) of its visible rows, counted along the ranges and then the causal part.
typedef struct {
  ss_attention_view view;
  int32_t query_first, n_query;
  int64_t row_first, row_end;
} cpu_attention_item;

// Floats of scratch that one task of an attention call needs.
static inline int64_t cpu_attention_scratch(ss_attention_shape shape) {
  int64_t padded = (shape.head_dim + 15) / 16 * 16;
  return padded * (6 * CPU_LANES + 3 * CPU_KEYS) + 3 * CPU_KEYS * CPU_LANES + 16 * CPU_LANES + 4 * CPU_KEYS +
         (int64_t)shape.n_head * (2 * padded + CPU_ROW_CHUNK + 2);
}

typedef struct {
  float decay, step_size, beta1, beta2, epsilon, gradient_scale, reciprocal_root_correction2;
} cpu_adamw_constants;

typedef struct {
  const char *name;

  void (*add)(float *out, const float *x, int64_t n);  // out += x
  void (*gelu_forward)(float *out, const float *in, int64_t n);
  void (*gelu_backward)(float *din, const float *dout, const float *in, int64_t n);
  void (*swiglu_forward)(float *out, const float *gate, const float *up, int64_t n);
  void (*swiglu_backward)(float *dgate, float *dup, const float *dout, const float *gate, const float *up,
                          int64_t n);
  // x[0..half) and x[half..2*half) turned by the angles; sign -1 turns back
  void (*rotate)(float *x, const float *cosine, const float *sine, int64_t half, float sign);

  // One row of n; bias and branch may be NULL. statistics[2].
  void (*norm_forward)(ss_norm_kind kind, float *out, float *sum, float *statistics, const float *x,
                       const float *branch, const float *weight, const float *bias, int64_t n, float epsilon);
  // dsum += the gradient through the norm; dweight and dbias (may be NULL) are accumulated.
  void (*norm_backward)(ss_norm_kind kind, float *dsum, float *dweight, float *dbias, const float *dout,
                        const float *sum, const float *statistics, const float *weight, int64_t n);

  // out[r, o] = in[r] . weight[o] + bias[o] for rows r < n_row, outputs o < n_out; all columns in one pass.
  void (*linear_rows)(float *out, int64_t out_stride, const float *in, int64_t in_stride, const float *weight,
                      int64_t weight_stride, const float *bias, int64_t n_row, int64_t n_out, int64_t n_in);

  // Returns the cross-entropy of one row of logits; *correct says whether the arg-max (the first of equals) is the target.
  // gradient: logits becomes scale * (softmax - onehot).
  float (*cross_entropy)(float *logits, int64_t n, int32_t target, bool gradient, float scale,
                         int32_t *correct);

  void (*adamw)(float *weight, const float *gradient, float *first, float *second, int64_t n,
                const cpu_adamw_constants *constants);
  double (*sum_squares)(const float *x, int64_t n);

  // Writes out and log_sum_exp of an item's queries for one kv head's query heads.
  void (*attention_tile)(const cpu_attention_call *call, const cpu_attention_item *item, int32_t kv_head,
                         float *scratch);
  // Adds into dk and dv and writes dq of an item's queries for one kv head's query heads.
  void (*attention_tile_backward)(const cpu_attention_call *call, const cpu_attention_item *item,
                                  int32_t kv_head, float *scratch);
  // A single query, all heads, over the item's piece of rows. partial NULL: writes out and log_sum_exp. Else writes,
  // for each head, the unnormalised output [head_dim], the maximum and the sum: partial[n_head, head_dim + 2].
  void (*attention_row)(const cpu_attention_call *call, const cpu_attention_item *item, float *partial,
                        float *scratch);
  // Merges n_part consecutive partials of one query, in order, into out and log_sum_exp.
  void (*attention_row_merge)(const cpu_attention_call *call, const cpu_attention_item *item,
                              const float *partials, int64_t n_part);
} cpu_simd;

#if defined(__x86_64__) && defined(__GNUC__)
#define CPU_SIMD_X86 1
extern const cpu_simd cpu_simd_avx512, cpu_simd_avx2;
#endif
extern const cpu_simd cpu_simd_generic;

#endif
