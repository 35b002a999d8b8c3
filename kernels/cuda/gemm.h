// One matrix product on the GPU: what linear.cu and classifier.cu ask of cuBLASLt (gemm.cu; tests/emulator/gemm.cpp
// without a GPU).
#ifndef SELFSPAN_KERNELS_CUDA_GEMM_H
#define SELFSPAN_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  CUDA_GEMM_PLAIN,
  CUDA_GEMM_BIAS,  // + bias[1,N]
  CUDA_GEMM_GELU,  // aux[M,N] = the product (+ bias[1,N] when bias.data != NULL), out = gelu(aux), tanh form; aux.data NULL:
                   // aux is not kept
  CUDA_GEMM_GELU_SLOPE,    // out = the product * gelu'(aux[M,N])
  CUDA_GEMM_BIAS_GRADIENT  // also bias[1,M] (=): op(a) summed over K
} cuda_gemm_epilogue;

// out[M,N] = epilogue(alpha op(a)[M,K] op(b)[K,N] + beta out), op(x) = x or its transpose; all row-major. a and b share
// a dtype; fp32 accumulation. bias and aux have out's dtype.
typedef struct {
  ss_tensor out, a, b;
  bool transpose_a, transpose_b;
  float alpha, beta;
  cuda_gemm_epilogue epilogue;
  ss_tensor bias, aux;
} cuda_product;

static inline cuda_product cuda_product_of(ss_tensor out, ss_tensor a, bool transpose_a, ss_tensor b,
                                           bool transpose_b) {
  ss_tensor none = ss_matrix(NULL, 0, 0);
  cuda_product p = {out, a, b, transpose_a, transpose_b, 1.0f, 0.0f, CUDA_GEMM_PLAIN, none, none};
  return p;
}

// The same product as BLAS sees it, column-major: a row-major [rows, cols] with a stride is a column-major
// [cols, rows] with that leading dimension, so d[m,n] = op(a) op(b) is out's transpose and the operands change places.
typedef struct {
  const void *a, *b;
  void *d;
  bool transpose_a, transpose_b;
  int64_t m, n, k;  // d [m,n]; bias of CUDA_GEMM_BIAS and _GELU: m values; of _BIAS_GRADIENT: n
  int64_t a_rows, a_cols, a_leading, b_rows, b_cols, b_leading, d_leading;  // as stored
} cuda_column_major;

static inline cuda_column_major cuda_column_major_of(const cuda_product *p) {
  cuda_column_major c;
  c.a = p->b.data;
  c.b = p->a.data;
  c.d = p->out.data;
  c.transpose_a = p->transpose_b;
  c.transpose_b = p->transpose_a;
  c.m = p->out.cols;
  c.n = p->out.rows;
  c.k = p->transpose_a ? p->a.rows : p->a.cols;
  c.a_rows = p->b.cols;
  c.a_cols = p->b.rows;
  c.a_leading = p->b.stride;
  c.b_rows = p->a.cols;
  c.b_cols = p->a.rows;
  c.b_leading = p->a.stride;
  c.d_leading = p->out.stride;
  return c;
}

// Whether the tensors of a product fit together.
static inline bool cuda_product_fits(const cuda_product *p) {
  int64_t M = p->out.rows, N = p->out.cols, K = p->transpose_a ? p->a.rows : p->a.cols;
  bool epilogue = true;
  if (p->epilogue == CUDA_GEMM_BIAS || (p->epilogue == CUDA_GEMM_GELU && p->bias.data))
    epilogue = cuda_is_matrix(p->bias, 1, N, p->out.dtype);
  if (p->epilogue == CUDA_GEMM_BIAS_GRADIENT)
    epilogue = cuda_is_matrix(p->bias, 1, M, p->out.dtype);
  if (p->epilogue == CUDA_GEMM_GELU_SLOPE || (p->epilogue == CUDA_GEMM_GELU && p->aux.data))
    epilogue = epilogue && cuda_is_matrix(p->aux, M, N, p->out.dtype) && p->aux.data != p->out.data;
  return cuda_is_matrix(p->out, M, N, p->out.dtype) &&
         cuda_is_matrix(p->a, p->transpose_a ? K : M, p->transpose_a ? M : K, p->b.dtype) &&
         cuda_is_matrix(p->b, p->transpose_b ? N : K, p->transpose_b ? K : N, p->b.dtype) &&
         (p->out.dtype == SS_F32 || p->out.dtype == p->a.dtype) &&
         (p->a.dtype == SS_F32 || p->a.dtype == SS_BF16) && epilogue;
}

// What linear.cu leaves to an epilogue where one is offered, instead of to a kernel of its own.
typedef struct {
  bool gelu_forward, gelu_backward, bias_gradient;
  bool never_library;  // every product by cuda_gemm_fallback: for tests
} cuda_gemm_choices;

cuda_gemm_choices *cuda_gemm_choices_of(ss_device *device);

// Whether this product can have its epilogue; if not, cuda_gemm refuses it. The plain epilogue always can.
bool cuda_gemm_offers(ss_device *device, const cuda_product *product);

ss_status cuda_gemm(ss_device *device, const cuda_product *product);

// linear.cu: a plain product where cuBLASLt has no algorithm; slow, for any shape and alignment.
ss_status cuda_gemm_fallback(ss_device *device, const cuda_product *product);

// classifier.cu: classifier_loss with at most `logits_bytes` of logits at a time (one row at least).
ss_status cuda_classifier_loss_within(ss_device *device, ss_tensor losses, ss_tensor correct, ss_tensor dh,
                                      ss_tensor dwte, ss_tensor h, ss_tensor wte, ss_tensor targets,
                                      ss_tensor target_rows, float scale, size_t logits_bytes);

#ifdef __cplusplus
}
#endif

#endif
