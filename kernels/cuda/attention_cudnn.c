// Dense causal attention through cuDNN's backend API: rows of one length, every query reads its row up to itself.
//
// cuDNN's engines recognise a graph of elementary nodes; its single attention node knows no causal bound on Hopper
// before 9.21. The graph of a shape is built once (some hundred milliseconds) and kept with its execution plan:
//
//   forward:  S = scale Q K^T, masked;  P = softmax(S) spelled out;  out = P V;  statistics = max + log(sum)
//   backward: P = exp(masked(scale Q K^T - statistics));  dV = P^T dO;
//             dS = scale P (dO V^T - delta), delta = rowsum(dO out);  dK = dS^T Q;  dQ = dS K
//
// Tensors are [B, H, T, D] with strides, so that q, k, v and their gradients stay columns of [B*T, 3C]. Only what is
// named by a bound uid exists in memory; all other tensors live inside the engine.
#include "kernels/cuda/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SS_WITH_CUDNN

#include <cudnn.h>
#include <math.h>

enum { DENSE_GRAPHS = 32, DENSE_DESCRIPTORS = 192, DENSE_NODES = 32, DENSE_CONFIGS = 32 };
enum { DENSE_ALIGNMENT = 16, DENSE_SECTION = 256 };  // bytes

enum {
  UID_Q = 1,
  UID_K,
  UID_V,
  UID_OUT,
  UID_STATISTICS,
  UID_DOUT,
  UID_DQ,
  UID_DK,
  UID_DV,
  UID_SCALE,   // scalars, passed by value
  UID_HIDDEN,  // what a masked score becomes
  UID_ONE,
  UID_DELTA,  // in the workspace
  UID_DQ_SUM,
  UID_FIRST_VIRTUAL = 64
};

// What a graph depends on. All fields are 64 bits wide, so that keys compare as bytes.
typedef struct {
  int64_t rows, length;  // B, T
  int64_t n_head, n_kv_head, head_dim;
  int64_t q_stride, k_stride, v_stride, out_stride;      // elements between rows
  int64_t dout_stride, dq_stride, dk_stride, dv_stride;  // 0 in a forward
  int64_t backward, statistics, deterministic;
} dense_key;

// Choices that a probe varies.
typedef struct {
  bool statistics_by_row;  // statistics as [B*T, H] instead of [B, H, T]
  bool finite_mask;        // the lowest float instead of minus infinity
  int heuristic;           // -1: modes A, B and fallback in turn
} dense_options;

static const dense_options dense_standard = {.statistics_by_row = false,
                                             .finite_mask = false,
                                             .heuristic = -1};

typedef struct {
  dense_key key;
  cudnnBackendDescriptor_t owned[DENSE_DESCRIPTORS];
  int n_owned;
  cudnnBackendDescriptor_t plan;  // NULL: cuDNN does not serve this shape, see `reason`
  int64_t engine;
  bool deterministic;
  size_t engine_bytes, delta_bytes, dq_sum_bytes;  // sections of the workspace, in this order
  float hidden;
  uint64_t last_used;
  char reason[400];
} dense_graph;

struct cuda_dense_state {
  cudnnHandle_t handle;
  dense_graph graphs[DENSE_GRAPHS];
  int n_graph;
  uint64_t clock;
  void *workspace;
  size_t workspace_bytes;
  char version[32];
  char text[512];
};

// Where a graph is to run: on the handle's device, or on one described by properties (building without a device).
typedef struct {
  cudnnHandle_t handle;
  cudnnBackendDescriptor_t properties;
} dense_target;

// --- building: after the first failure every step does nothing ---

typedef struct {
  dense_target target;
  dense_graph *graph;
  dense_options options;
  cudnnBackendDescriptor_t operations[DENSE_NODES];
  int n_operation;
  int64_t next_uid;
  const char *node;  // for messages
  ss_error *error;
} dense_builder;

typedef struct {
  cudnnBackendDescriptor_t descriptor;
  int64_t size[4], stride[4];
} dense_tensor;

static bool dense_accepts(dense_builder *b, cudnnStatus_t status, const char *step) {
  if (status == CUDNN_STATUS_SUCCESS)
    return true;
  char detail[256] = "";
  cudnnGetLastErrorString(detail, sizeof(detail));
  for (char *c = detail; *c; c++)
    if (*c == '\n')
      *c = ' ';
  ss_fail(b->error, SS_ERROR_LIMIT, "cuDNN: %s, %s: %s: %s", b->node, step, cudnnGetErrorString(status),
          detail);
  return false;
}

static bool dense_failed(const dense_builder *b) {
  return b->error->status != SS_OK;
}

static cudnnBackendDescriptor_t dense_create(dense_builder *b, cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t descriptor = NULL;
  if (dense_failed(b))
    return NULL;
  if (b->graph->n_owned == DENSE_DESCRIPTORS) {
    ss_fail(b->error, SS_ERROR_INTERNAL, "cuDNN: %s: more than %d descriptors", b->node, DENSE_DESCRIPTORS);
    return NULL;
  }
  if (!dense_accepts(b, cudnnBackendCreateDescriptor(type, &descriptor), "create"))
    return NULL;
  b->graph->owned[b->graph->n_owned++] = descriptor;
  return descriptor;
}

static void dense_set(dense_builder *b, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                      cudnnBackendAttributeType_t type, int64_t count, const void *value) {
  char step[32];
  if (dense_failed(b))
    return;
  snprintf(step, sizeof(step), "attribute %d", (int)name);
  dense_accepts(b, cudnnBackendSetAttribute(descriptor, name, type, count, value), step);
}

static void dense_attach(dense_builder *b, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value) {
  dense_set(b, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void dense_finalize(dense_builder *b, cudnnBackendDescriptor_t descriptor) {
  if (!dense_failed(b))
    dense_accepts(b, cudnnBackendFinalize(descriptor), "finalize");
}

// --- tensors ---

typedef enum { TENSOR_BOUND, TENSOR_SCALAR, TENSOR_VIRTUAL } dense_tensor_kind;

static dense_tensor dense_tensor_of(dense_builder *b, dense_tensor_kind kind, int64_t uid,
                                    cudnnDataType_t type, const int64_t size[4], const int64_t stride[4]) {
  dense_tensor tensor = {dense_create(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR), {0}, {0}};
  const int64_t alignment = DENSE_ALIGNMENT;
  const bool yes = true;
  memcpy(tensor.size, size, sizeof(tensor.size));
  memcpy(tensor.stride, stride, sizeof(tensor.stride));
  dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
  dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
  dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
  dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
  if (kind == TENSOR_VIRTUAL)
    dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
  if (kind == TENSOR_SCALAR)
    dense_set(b, tensor.descriptor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
  dense_finalize(b, tensor.descriptor);
  return tensor;
}

// Columns of a matrix [B*T, heads*D]: [B, heads, T, D].
static dense_tensor dense_heads(dense_builder *b, int64_t uid, int64_t heads, int64_t stride) {
  const dense_key *key = &b->graph->key;
  const int64_t size[4] = {key->rows, heads, key->length, key->head_dim};
  const int64_t strides[4] = {key->length * stride, key->head_dim, stride, 1};
  return dense_tensor_of(b, TENSOR_BOUND, uid, CUDNN_DATA_BFLOAT16, size, strides);
}

// The same memory read as [B, heads, D, T].
static dense_tensor dense_heads_transposed(dense_builder *b, int64_t uid, int64_t heads, int64_t stride) {
  const dense_key *key = &b->graph->key;
  const int64_t size[4] = {key->rows, heads, key->head_dim, key->length};
  const int64_t strides[4] = {key->length * stride, key->head_dim, 1, stride};
  return dense_tensor_of(b, TENSOR_BOUND, uid, CUDNN_DATA_BFLOAT16, size, strides);
}

// One float a query: [B, H, T, 1].
static dense_tensor dense_per_query(dense_builder *b, dense_tensor_kind kind, int64_t uid, bool by_row) {
  const dense_key *key = &b->graph->key;
  const int64_t size[4] = {key->rows, key->n_head, key->length, 1};
  const int64_t by_head[4] = {key->n_head * key->length, key->length, 1, 1};
  const int64_t interleaved[4] = {key->n_head * key->length, 1, key->n_head, 1};
  return dense_tensor_of(b, kind, uid, CUDNN_DATA_FLOAT, size, by_row ? interleaved : by_head);
}

static dense_tensor dense_virtual(dense_builder *b, cudnnDataType_t type, const int64_t size[4]) {
  const int64_t strides[4] = {size[1] * size[2] * size[3], size[2] * size[3], size[3], 1};
  return dense_tensor_of(b, TENSOR_VIRTUAL, b->next_uid++, type, size, strides);
}

static dense_tensor dense_virtual_per_query(dense_builder *b) {
  return dense_per_query(b, TENSOR_VIRTUAL, b->next_uid++, false);
}

static dense_tensor dense_scalar(dense_builder *b, int64_t uid) {
  const int64_t ones[4] = {1, 1, 1, 1};
  return dense_tensor_of(b, TENSOR_SCALAR, uid, CUDNN_DATA_FLOAT, ones, ones);
}

// --- nodes ---

static void dense_append(dense_builder *b, cudnnBackendDescriptor_t operation) {
  dense_finalize(b, operation);
  if (!dense_failed(b) && b->n_operation == DENSE_NODES)
    ss_fail(b->error, SS_ERROR_INTERNAL, "cuDNN: %s: more than %d nodes", b->node, DENSE_NODES);
  if (!dense_failed(b))
    b->operations[b->n_operation++] = operation;
}

// out = mode(x, y, z); y and z may be NULL, axis is -1 unless the mode has one.
static void dense_pointwise_into(dense_builder *b, const char *name, cudnnPointwiseMode_t mode,
                                 cudnnDataType_t compute, int64_t axis, dense_tensor out, dense_tensor x,
                                 const dense_tensor *y, const dense_tensor *z) {
  b->node = name;
  cudnnBackendDescriptor_t kind = dense_create(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  dense_set(b, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  dense_set(b, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
  if (axis >= 0)
    dense_set(b, kind, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
  dense_finalize(b, kind);
  cudnnBackendDescriptor_t operation = dense_create(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor);
  if (y)
    dense_attach(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y->descriptor);
  if (z)
    dense_attach(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, z->descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out.descriptor);
  dense_append(b, operation);
}

// The float result of a node on x, inside the engine.
static dense_tensor dense_pointwise(dense_builder *b, const char *name, cudnnPointwiseMode_t mode,
                                    dense_tensor x, const dense_tensor *y) {
  b->node = name;
  dense_tensor out = dense_virtual(b, CUDNN_DATA_FLOAT, x.size);
  dense_pointwise_into(b, name, mode, CUDNN_DATA_FLOAT, -1, out, x, y, NULL);
  return out;
}

static void dense_reduce_into(dense_builder *b, const char *name, cudnnReduceTensorOp_t operator,
                              dense_tensor out, dense_tensor x) {
  const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  b->node = name;
  cudnnBackendDescriptor_t kind = dense_create(b, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  dense_set(b, kind, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
  dense_set(b, kind, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator);
  dense_finalize(b, kind);
  cudnnBackendDescriptor_t operation = dense_create(b, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, kind);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, out.descriptor);
  dense_append(b, operation);
}

static void dense_matmul_into(dense_builder *b, const char *name, dense_tensor out, dense_tensor left,
                              dense_tensor right) {
  const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
  b->node = name;
  cudnnBackendDescriptor_t kind = dense_create(b, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  dense_set(b, kind, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
  dense_finalize(b, kind);
  cudnnBackendDescriptor_t operation = dense_create(b, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, left.descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, right.descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, out.descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, kind);
  dense_append(b, operation);
}

// Scores [B, H, T, T] of q and a transposed k.
static dense_tensor dense_scores(dense_builder *b, const char *name, dense_tensor q, dense_tensor k) {
  const int64_t size[4] = {q.size[0], q.size[1], q.size[2], k.size[3]};
  b->node = name;
  dense_tensor out = dense_virtual(b, CUDNN_DATA_FLOAT, size);
  dense_matmul_into(b, name, out, q, k);
  return out;
}

// The last two axes exchanged: a node that changes no memory.
static dense_tensor dense_transpose(dense_builder *b, const char *name, cudnnDataType_t type,
                                    dense_tensor x) {
  const int64_t size[4] = {x.size[0], x.size[1], x.size[3], x.size[2]};
  const int64_t stride[4] = {x.stride[0], x.stride[1], x.stride[3], x.stride[2]};
  b->node = name;
  dense_tensor out = dense_tensor_of(b, TENSOR_VIRTUAL, b->next_uid++, type, size, stride);
  cudnnBackendDescriptor_t operation = dense_create(b, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor);
  dense_attach(b, operation, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, out.descriptor);
  dense_append(b, operation);
  return out;
}

// Keeps a score where its query stands at or after its key.
static dense_tensor dense_causal(dense_builder *b, dense_tensor scores) {
  b->node = "causal mask";
  dense_tensor query = dense_virtual(b, CUDNN_DATA_INT32, scores.size);
  dense_tensor column = dense_virtual(b, CUDNN_DATA_INT32, scores.size);
  dense_tensor seen = dense_virtual(b, CUDNN_DATA_BOOLEAN, scores.size);
  dense_tensor hidden = dense_scalar(b, UID_HIDDEN);
  dense_tensor out = dense_virtual(b, CUDNN_DATA_FLOAT, scores.size);
  dense_pointwise_into(b, "query index", CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 2, query, scores, NULL,
                       NULL);
  dense_pointwise_into(b, "key index", CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, 3, column, scores, NULL,
                       NULL);
  dense_pointwise_into(b, "query >= key", CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, -1, seen, query,
                       &column, NULL);
  dense_pointwise_into(b, "causal mask", CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, -1, out, scores,
                       &hidden, &seen);
  return out;
}

static void dense_forward_nodes(dense_builder *b) {
  const dense_key *key = &b->graph->key;
  dense_tensor q = dense_heads(b, UID_Q, key->n_head, key->q_stride);
  dense_tensor k = dense_heads_transposed(b, UID_K, key->n_kv_head, key->k_stride);
  dense_tensor v = dense_heads(b, UID_V, key->n_kv_head, key->v_stride);
  dense_tensor out = dense_heads(b, UID_OUT, key->n_head, key->out_stride);
  dense_tensor scale = dense_scalar(b, UID_SCALE);

  dense_tensor scores = dense_scores(b, "q k^T", q, k);
  scores = dense_pointwise(b, "scale", CUDNN_POINTWISE_MUL, scores, &scale);
  scores = dense_causal(b, scores);

  dense_tensor largest = dense_virtual_per_query(b), sum = dense_virtual_per_query(b);
  dense_reduce_into(b, "row maximum", CUDNN_REDUCE_TENSOR_MAX, largest, scores);
  dense_tensor shifted = dense_pointwise(b, "minus maximum", CUDNN_POINTWISE_SUB, scores, &largest);
  dense_tensor weights = dense_pointwise(b, "exp", CUDNN_POINTWISE_EXP, shifted, NULL);
  dense_reduce_into(b, "row sum", CUDNN_REDUCE_TENSOR_ADD, sum, weights);
  if (key->statistics) {
    dense_tensor statistics = dense_per_query(b, TENSOR_BOUND, UID_STATISTICS, b->options.statistics_by_row);
    dense_tensor logarithm = dense_pointwise(b, "log", CUDNN_POINTWISE_LOG, sum, NULL);
    dense_pointwise_into(b, "statistics", CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, -1, statistics, largest,
                         &logarithm, NULL);
  }
  // The engines ask that the second product reads the type of its other operand.
  dense_tensor probabilities = dense_virtual(b, CUDNN_DATA_BFLOAT16, weights.size);
  dense_pointwise_into(b, "divide by sum", CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT, -1, probabilities, weights,
                       &sum, NULL);
  dense_matmul_into(b, "p v", out, probabilities, v);
}

// dk or dv: the product of a transposed [T, T] and a [T, D]; with grouped queries, summed over each group's heads.
static void dense_key_gradient(dense_builder *b, const char *name, dense_tensor gradient, dense_tensor left,
                               dense_tensor right) {
  if (gradient.size[1] == right.size[1]) {
    dense_matmul_into(b, name, gradient, left, right);
    return;
  }
  b->node = name;
  dense_tensor of_every_head = dense_virtual(b, CUDNN_DATA_BFLOAT16, right.size);
  dense_matmul_into(b, name, of_every_head, left, right);
  dense_reduce_into(b, name, CUDNN_REDUCE_TENSOR_ADD, gradient, of_every_head);
}

static void dense_backward_nodes(dense_builder *b) {
  const dense_key *key = &b->graph->key;
  dense_tensor q = dense_heads(b, UID_Q, key->n_head, key->q_stride);
  dense_tensor k = dense_heads_transposed(b, UID_K, key->n_kv_head, key->k_stride);
  dense_tensor v = dense_heads_transposed(b, UID_V, key->n_kv_head, key->v_stride);
  dense_tensor out = dense_heads(b, UID_OUT, key->n_head, key->out_stride);
  dense_tensor dout = dense_heads(b, UID_DOUT, key->n_head, key->dout_stride);
  dense_tensor dq = dense_heads(b, UID_DQ, key->n_head, key->dq_stride);
  dense_tensor dk = dense_heads(b, UID_DK, key->n_kv_head, key->dk_stride);
  dense_tensor dv = dense_heads(b, UID_DV, key->n_kv_head, key->dv_stride);
  dense_tensor statistics = dense_per_query(b, TENSOR_BOUND, UID_STATISTICS, b->options.statistics_by_row);
  dense_tensor scale = dense_scalar(b, UID_SCALE), one = dense_scalar(b, UID_ONE);

  dense_tensor product = dense_pointwise(b, "dout out", CUDNN_POINTWISE_MUL, dout, &out);
  dense_tensor row_sum = dense_virtual_per_query(b);
  dense_reduce_into(b, "delta sum", CUDNN_REDUCE_TENSOR_ADD, row_sum, product);
  dense_tensor delta = dense_per_query(b, TENSOR_BOUND, UID_DELTA, false);
  // The engines know this chain with a dropout factor in it.
  dense_pointwise_into(b, "delta", CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, -1, delta, row_sum, &one, NULL);

  dense_tensor scores = dense_scores(b, "q k^T", q, k);
  scores = dense_pointwise(b, "scale", CUDNN_POINTWISE_MUL, scores, &scale);
  scores = dense_pointwise(b, "minus statistics", CUDNN_POINTWISE_SUB, scores, &statistics);
  scores = dense_causal(b, scores);
  dense_tensor probabilities = dense_pointwise(b, "exp", CUDNN_POINTWISE_EXP, scores, NULL);
  dense_tensor transposed = dense_transpose(b, "p^T", CUDNN_DATA_BFLOAT16, probabilities);
  dense_key_gradient(b, "p^T dout", dv, transposed, dout);

  dense_tensor gradient = dense_scores(b, "dout v^T", dout, v);
  gradient = dense_pointwise(b, "minus delta", CUDNN_POINTWISE_SUB, gradient, &delta);
  gradient = dense_pointwise(b, "times p", CUDNN_POINTWISE_MUL, gradient, &probabilities);
  gradient = dense_pointwise(b, "scale ds", CUDNN_POINTWISE_MUL, gradient, &scale);
  transposed = dense_transpose(b, "ds^T", CUDNN_DATA_BFLOAT16, gradient);
  dense_key_gradient(b, "ds^T q", dk, transposed, q);

  dense_tensor keys = dense_transpose(b, "k", CUDNN_DATA_BFLOAT16, k);
  if (key->deterministic) {
    // Without a float accumulator dq cannot be summed by atomics: the engine keeps ds instead.
    dense_matmul_into(b, "ds k", dq, gradient, keys);
    return;
  }
  const int64_t packed[4] = {key->n_head * key->length * key->head_dim, key->length * key->head_dim,
                             key->head_dim, 1};
  dense_tensor dq_sum = dense_tensor_of(b, TENSOR_BOUND, UID_DQ_SUM, CUDNN_DATA_FLOAT, q.size, packed);
  dense_matmul_into(b, "ds k", dq_sum, gradient, keys);
  dense_pointwise_into(b, "dq", CUDNN_POINTWISE_IDENTITY, CUDNN_DATA_FLOAT, -1, dq, dq_sum, NULL, NULL);
}

// --- plans ---

// Makes the plan of one engine configuration. False with the reason in the builder's error.
static bool dense_plan(dense_builder *b, cudnnBackendDescriptor_t config) {
  dense_graph *graph = b->graph;
  cudnnBackendDescriptor_t engine = dense_create(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  int64_t count = 0, index = -1, bytes = 0;
  if (dense_failed(b) ||
      !dense_accepts(b,
                     cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine),
                     "engine") ||
      !dense_accepts(b,
                     cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                              &count, &index),
                     "engine index") ||
      !dense_accepts(b,
                     cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                              CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                              &count, notes),
                     "numerical notes"))
    return false;
  graph->engine = index;
  graph->deterministic = true;
  for (int64_t i = 0; i < count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
    if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
      graph->deterministic = false;
  if (graph->key.deterministic && !graph->deterministic) {
    ss_fail(b->error, SS_ERROR_LIMIT, "cuDNN: engine %lld is not deterministic", (long long)index);
    return false;
  }
  cudnnBackendDescriptor_t plan = dense_create(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (b->target.properties)
    dense_attach(b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->target.properties);
  else
    dense_set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->target.handle);
  dense_attach(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  dense_finalize(b, plan);
  if (dense_failed(b) ||
      !dense_accepts(b,
                     cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                              CUDNN_TYPE_INT64, 1, &count, &bytes),
                     "workspace size"))
    return false;
  graph->engine_bytes = (size_t)bytes;
  graph->plan = plan;
  return true;
}

// Asks one heuristic for engine configurations and takes the first that yields a plan.
static void dense_choose(dense_builder *b, cudnnBackendDescriptor_t operations, cudnnBackendHeurMode_t mode) {
  cudnnBackendDescriptor_t configs[DENSE_CONFIGS];
  int64_t count = 0;
  b->node = "heuristics";
  cudnnBackendDescriptor_t heuristic = dense_create(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  dense_attach(b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations);
  dense_set(b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (b->target.properties)
    dense_attach(b, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, b->target.properties);
  dense_finalize(b, heuristic);
  for (int i = 0; i < DENSE_CONFIGS; i++)
    configs[i] = dense_create(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  if (dense_failed(b) ||
      !dense_accepts(b,
                     cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, DENSE_CONFIGS, &count, configs),
                     "results"))
    return;
  if (count == 0)
    ss_fail(b->error, SS_ERROR_LIMIT, "cuDNN: heuristic %d knows no engine for this graph", (int)mode);
  ss_error first = *b->error;
  b->node = "execution plan";
  for (int64_t i = 0; i < count && i < DENSE_CONFIGS; i++) {
    ss_error_clear(b->error);
    int n_owned = b->graph->n_owned;
    if (dense_plan(b, configs[i]))
      return;
    while (b->graph->n_owned > n_owned)
      cudnnBackendDestroyDescriptor(b->graph->owned[--b->graph->n_owned]);
    if (first.status == SS_OK)
      first = *b->error;
  }
  *b->error = first;
}

static void dense_graph_free(dense_graph *graph) {
  while (graph->n_owned > 0)
    cudnnBackendDestroyDescriptor(graph->owned[--graph->n_owned]);
  graph->plan = NULL;
}

// Builds graph->key's graph and plan; on failure the reason stands in `error` and nothing is kept.
static ss_status dense_build(dense_graph *graph, dense_target target, dense_options options,
                             ss_error *error) {
  static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                 CUDNN_HEUR_MODE_FALLBACK};
  const dense_key *key = &graph->key;
  dense_builder b = {.target = target,
                     .graph = graph,
                     .options = options,
                     .next_uid = UID_FIRST_VIRTUAL,
                     .node = "tensors",
                     .error = error};
  size_t n_query = (size_t)(key->rows * key->length * key->n_head);
  graph->hidden = options.finite_mask ? -3.402823466e+38f : -INFINITY;
  graph->delta_bytes = key->backward ? n_query * sizeof(float) : 0;
  graph->dq_sum_bytes = key->backward && !key->deterministic ? n_query * (size_t)key->head_dim * sizeof(float)
                                                             : 0;
  if (key->backward)
    dense_backward_nodes(&b);
  else
    dense_forward_nodes(&b);
  b.node = "graph";
  cudnnBackendDescriptor_t operations = dense_create(&b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  dense_set(&b, operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, b.n_operation,
            b.operations);
  if (!target.properties)
    dense_set(&b, operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  dense_finalize(&b, operations);
  if (dense_failed(&b)) {
    dense_graph_free(graph);
    return error->status;
  }
  for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]) && !graph->plan; i++) {
    if (options.heuristic >= 0 && (int)modes[i] != options.heuristic)
      continue;
    ss_error attempt = {0};
    int n_owned = graph->n_owned;
    b.error = &attempt;
    dense_choose(&b, operations, modes[i]);
    if (graph->plan)
      break;
    while (graph->n_owned > n_owned)
      cudnnBackendDestroyDescriptor(graph->owned[--graph->n_owned]);
    if (error->status == SS_OK)
      *error = attempt;
  }
  if (!graph->plan) {
    dense_graph_free(graph);
    return error->status;
  }
  ss_error_clear(error);
  return SS_OK;
}

// --- state ---

// Tensors and scalars of an execution, by uid.
typedef struct {
  int64_t uids[16];
  void *data[16];
  int count;
} dense_pack;

static void dense_bind(dense_pack *pack, int64_t uid, const void *data) {
  pack->uids[pack->count] = uid;
  pack->data[pack->count++] = (void *)(uintptr_t)data;
}

static size_t dense_section(size_t bytes) {
  return (bytes + DENSE_SECTION - 1) / DENSE_SECTION * DENSE_SECTION;
}

static size_t dense_workspace_bytes(const dense_graph *graph) {
  return dense_section(graph->engine_bytes) + dense_section(graph->delta_bytes) +
         dense_section(graph->dq_sum_bytes);
}

static dense_key dense_key_of(const ss_device *device, int64_t rows, int64_t length,
                              const attention_call *call, bool backward) {
  const cuda_device *cuda = (const cuda_device *)device;
  dense_key key = {.rows = rows,
                   .length = length,
                   .n_head = call->shape.n_head,
                   .n_kv_head = call->shape.n_kv_head,
                   .head_dim = call->shape.head_dim,
                   .q_stride = call->q.stride,
                   .k_stride = call->k.stride,
                   .v_stride = call->v.stride,
                   .out_stride = call->out.stride,
                   .backward = backward,
                   .statistics = backward || call->log_sum_exp.data,
                   .deterministic = cuda->deterministic};
  if (backward) {
    // Asked before the gradients exist: they are laid out like what they are the gradient of.
    key.dout_stride = call->dout.data ? call->dout.stride : call->out.stride;
    key.dq_stride = call->dq.data ? call->dq.stride : call->q.stride;
    key.dk_stride = call->dk.data ? call->dk.stride : call->k.stride;
    key.dv_stride = call->dv.data ? call->dv.stride : call->v.stride;
  }
  return key;
}

static bool dense_is_operand(ss_tensor t, const dense_key *key, int64_t heads, bool optional) {
  return (optional && !t.data) ||
         (cuda_is_matrix(t, key->rows * key->length, heads * key->head_dim, SS_BF16) && cuda_is_aligned(t));
}

// What can be said without asking cuDNN. NULL: nothing against it.
static const char *dense_objection(const cuda_device *cuda, const dense_key *key,
                                   const attention_call *call) {
  const int64_t n = key->rows * key->length;
  const bool later = key->backward;  // gradients may be absent when a forward asks ahead
  if (cudnnGetVersion() < 91002)
    return "cuDNN older than 9.10.2";
  if (cuda->compute_capability < 80)
    return "compute capability below 8.0";
  if (key->rows < 1 || key->length < 2)
    return "rows shorter than two queries";
  if (key->head_dim % 8 != 0 || key->head_dim > 128)
    return "head_dim is not a multiple of 8 up to 128";
  if (key->n_kv_head < 1 || key->n_head % key->n_kv_head != 0)
    return "n_head is not a multiple of n_kv_head";
  // Reads past the end of the last row (fixed in 9.15.1).
  if (key->backward && key->length % 128 != 0 && cudnnGetVersion() < 91501)
    return "backward of a length that is not a multiple of 128, before cuDNN 9.15.1";
  if (!dense_is_operand(call->q, key, key->n_head, false) ||
      !dense_is_operand(call->k, key, key->n_kv_head, false) ||
      !dense_is_operand(call->v, key, key->n_kv_head, false) ||
      !dense_is_operand(call->out, key, key->n_head, false))
    return "q, k, v, out are not bf16 matrices in pieces of 16 bytes";
  if (later && (!dense_is_operand(call->dout, key, key->n_head, true) ||
                !dense_is_operand(call->dq, key, key->n_head, true) ||
                !dense_is_operand(call->dk, key, key->n_kv_head, true) ||
                !dense_is_operand(call->dv, key, key->n_kv_head, true)))
    return "dout, dq, dk, dv are not bf16 matrices in pieces of 16 bytes";
  if (key->statistics &&
      (!cuda_is_matrix(call->log_sum_exp, n, key->n_head, SS_F32) || call->log_sum_exp.stride != key->n_head))
    return "log_sum_exp is not a packed matrix [n, n_head]";
  return NULL;
}

// The device's cuDNN state, made on first use. A handle that cannot be opened is remembered as NULL, with the reason.
static cuda_dense_state *dense_state(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  if (cuda->dense)
    return cuda->dense;
  cuda_dense_state *state = (cuda_dense_state *)calloc(1, sizeof(*state));
  if (!state)
    return NULL;
  size_t version = cudnnGetVersion();
  snprintf(state->version, sizeof(state->version), "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100,
           version % 100);
  cudnnStatus_t status = cudnnCreate(&state->handle);
  if (status == CUDNN_STATUS_SUCCESS)
    status = cudnnSetStream(state->handle, cuda->stream);
  else
    state->handle = NULL;
  if (status != CUDNN_STATUS_SUCCESS) {
    if (state->handle)
      cudnnDestroy(state->handle);
    state->handle = NULL;
    snprintf(state->text, sizeof(state->text), "%s cannot be opened: %s", state->version,
             cudnnGetErrorString(status));
  }
  cuda->dense = state;
  return state;
}

// Grows the workspace. Growing waits for the device, so it is done when a graph is built, not when it runs.
static ss_status dense_reserve(cuda_dense_state *state, size_t bytes, ss_error *error) {
  if (bytes <= state->workspace_bytes)
    return SS_OK;
  cudaFree(state->workspace);
  state->workspace = NULL;
  state->workspace_bytes = 0;
  cudaError_t code = cudaMalloc(&state->workspace, bytes);
  if (code != cudaSuccess) {
    cudaGetLastError();  // a refused allocation leaves nothing behind for the next launch check
    return ss_fail(error, SS_ERROR_LIMIT, "cuDNN: no memory for a workspace of %zu MiB: %s", bytes >> 20,
                   cudaGetErrorString(code));
  }
  state->workspace_bytes = bytes;
  return SS_OK;
}

// The graph of a key, built if it is new; graph->plan is NULL when cuDNN does not serve it.
static dense_graph *dense_find(cuda_dense_state *state, const dense_key *key) {
  dense_graph *graph = NULL;
  for (int i = 0; i < state->n_graph; i++)
    if (memcmp(&state->graphs[i].key, key, sizeof(*key)) == 0) {
      state->graphs[i].last_used = ++state->clock;
      return &state->graphs[i];
    }
  if (state->n_graph < DENSE_GRAPHS) {
    graph = &state->graphs[state->n_graph++];
  } else {
    graph = &state->graphs[0];
    for (int i = 1; i < DENSE_GRAPHS; i++)
      if (state->graphs[i].last_used < graph->last_used)
        graph = &state->graphs[i];
    cudaDeviceSynchronize();  // its last execution may still be under way
    dense_graph_free(graph);
  }
  ss_error error = {0};
  memset(graph, 0, sizeof(*graph));
  graph->key = *key;
  graph->last_used = ++state->clock;
  if (dense_build(graph, (dense_target){.handle = state->handle}, dense_standard, &error) == SS_OK &&
      dense_reserve(state, dense_workspace_bytes(graph), &error) != SS_OK)
    dense_graph_free(graph);
  snprintf(graph->reason, sizeof(graph->reason), "%.*s", (int)sizeof(graph->reason) - 1, error.message);
  return graph;
}

static ss_status dense_execute(ss_device *device, cuda_dense_state *state, const dense_graph *graph,
                               const attention_call *call) {
  const float scale = call->shape.scale, hidden = graph->hidden, one = 1;
  char *delta = (char *)state->workspace + dense_section(graph->engine_bytes);
  dense_pack pack = {.count = 0};
  dense_bind(&pack, UID_Q, call->q.data);
  dense_bind(&pack, UID_K, call->k.data);
  dense_bind(&pack, UID_V, call->v.data);
  dense_bind(&pack, UID_OUT, call->out.data);
  dense_bind(&pack, UID_SCALE, &scale);
  dense_bind(&pack, UID_HIDDEN, &hidden);
  if (graph->key.statistics)
    dense_bind(&pack, UID_STATISTICS, call->log_sum_exp.data);
  if (graph->key.backward) {
    dense_bind(&pack, UID_DOUT, call->dout.data);
    dense_bind(&pack, UID_DQ, call->dq.data);
    dense_bind(&pack, UID_DK, call->dk.data);
    dense_bind(&pack, UID_DV, call->dv.data);
    dense_bind(&pack, UID_ONE, &one);
    dense_bind(&pack, UID_DELTA, delta);
    if (graph->dq_sum_bytes > 0)
      dense_bind(&pack, UID_DQ_SUM, delta + dense_section(graph->delta_bytes));
  }
  cudnnBackendDescriptor_t variant = NULL;
  const char *step = "variant pack";
  cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &variant);
  if (status == CUDNN_STATUS_SUCCESS)
    status = cudnnBackendSetAttribute(variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64,
                                      pack.count, pack.uids);
  if (status == CUDNN_STATUS_SUCCESS)
    status = cudnnBackendSetAttribute(variant, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
                                      pack.count, pack.data);
  if (status == CUDNN_STATUS_SUCCESS)
    status = cudnnBackendSetAttribute(variant, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                      &state->workspace);
  if (status == CUDNN_STATUS_SUCCESS)
    status = cudnnBackendFinalize(variant);
  if (status == CUDNN_STATUS_SUCCESS) {
    step = "execute";
    status = cudnnBackendExecute(state->handle, graph->plan, variant);
  }
  char detail[256] = "";
  if (status != CUDNN_STATUS_SUCCESS)
    cudnnGetLastErrorString(detail, sizeof(detail));
  if (variant)
    cudnnBackendDestroyDescriptor(variant);
  if (status != CUDNN_STATUS_SUCCESS)
    return ss_fail(&device->error, SS_ERROR_DEVICE, "%s: attention %s, engine %lld, %s: %s: %s",
                   state->version, graph->key.backward ? "backward" : "forward", (long long)graph->engine,
                   step, cudnnGetErrorString(status), detail);
  return SS_OK;
}

// The graph that serves a call; NULL with the reason in state->text.
static const dense_graph *dense_serving(ss_device *device, cuda_dense_state *state, int64_t rows,
                                        int64_t length, const attention_call *call, bool backward) {
  if (!state->handle)
    return NULL;
  dense_key key = dense_key_of(device, rows, length, call, backward);
  const char *objection = dense_objection(cuda_of(device), &key, call);
  dense_graph *graph = objection ? NULL : dense_find(state, &key);
  if (graph && graph->plan)
    return graph;
  snprintf(state->text, sizeof(state->text), "%s does not serve the attention %s: %s", state->version,
           backward ? "backward" : "forward", objection ? objection : graph->reason);
  return NULL;
}

static ss_status dense_run(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                           bool backward) {
  cuda_dense_state *state = dense_state(device);
  if (!state)
    return ss_fail(&device->error, SS_ERROR_MEMORY, "attention: no memory for cuDNN's state");
  if (backward && !(call->dout.data && call->dq.data && call->dk.data && call->dv.data))
    return ss_fail(&device->error, SS_ERROR_INTERNAL, "attention backward: a gradient is missing");
  const dense_graph *graph = dense_serving(device, state, rows, length, call, backward);
  if (!graph)
    return ss_fail(&device->error, SS_ERROR_LIMIT, "%s", state->text);
  return dense_execute(device, state, graph, call);
}

ss_status attention_cudnn_forward(ss_device *device, int64_t rows, int64_t length,
                                  const attention_call *call) {
  return dense_run(device, rows, length, call, false);
}

ss_status attention_cudnn_backward(ss_device *device, int64_t rows, int64_t length,
                                   const attention_call *call) {
  return dense_run(device, rows, length, call, true);
}

bool attention_cudnn_serves(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                            bool backward, const char **engine) {
  cuda_dense_state *state = dense_state(device);
  *engine = state ? state->text : "no memory for cuDNN's state";
  if (!state)
    return false;
  const dense_graph *forward = dense_serving(device, state, rows, length, call, false);
  if (!forward)
    return false;
  long long forward_engine = forward->engine;  // the next graph may take this one's place
  if (!backward) {
    snprintf(state->text, sizeof(state->text), "%s, engine %lld", state->version, forward_engine);
    return true;
  }
  const dense_graph *gradient = dense_serving(device, state, rows, length, call, true);
  if (!gradient)
    return false;
  snprintf(state->text, sizeof(state->text), "%s, engine %lld (fwd) / %lld (bwd)", state->version,
           forward_engine, (long long)gradient->engine);
  return true;
}

void attention_cudnn_free(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  cuda_dense_state *state = cuda->dense;
  if (!state)
    return;
  for (int i = 0; i < state->n_graph; i++)
    dense_graph_free(&state->graphs[i]);
  cudaFree(state->workspace);
  if (state->handle)
    cudnnDestroy(state->handle);
  free(state);
  cuda->dense = NULL;
}

#else

static ss_status dense_absent(ss_device *device) {
  return ss_fail(&device->error, SS_ERROR_LIMIT, "attention: built without cuDNN");
}

ss_status attention_cudnn_forward(ss_device *device, int64_t rows, int64_t length,
                                  const attention_call *call) {
  (void)rows, (void)length, (void)call;
  return dense_absent(device);
}

ss_status attention_cudnn_backward(ss_device *device, int64_t rows, int64_t length,
                                   const attention_call *call) {
  (void)rows, (void)length, (void)call;
  return dense_absent(device);
}

bool attention_cudnn_serves(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                            bool backward, const char **engine) {
  (void)device, (void)rows, (void)length, (void)call, (void)backward;
  *engine = "built without cuDNN";
  return false;
}

void attention_cudnn_free(ss_device *device) {
  (void)device;
}

#endif
