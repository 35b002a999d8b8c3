// cuDNN's attention as graphs of elementary nodes, and their execution plans.
//
// cuDNN's engines recognise a whole attention in a graph of elementary nodes; its single attention node knows no
// causal bound on Hopper before 9.21. Tensors are [B, H, T, D] with strides, so that q, k, v and their gradients stay
// columns of [B*T, 3C]. Virtual tensors exist inside the engine only.
#ifdef SS_WITH_CUDNN

#include "kernels/cuda/attention_cudnn.h"

#include <math.h>

enum { DENSE_NODES = 32, DENSE_CONFIGS = 32, DENSE_ALIGNMENT = 16 /* bytes */ };

const dense_options dense_standard = {.statistics_by_row = true, .finite_mask = false, .heuristic = -1};

// --- the graphs, as tables ---

typedef enum {
  PER_QUERY,         // [B, H, T, 1]
  SCALAR,            // [1, 1, 1, 1]
  QUERY,             // [B, H, T, D]
  KEY,               // [B, Hkv, T, D]
  KEY_TRANSPOSED,    // [B, Hkv, D, T]: the same memory read by columns
  SCORE,             // [B, H, T, T]
  SCORE_TRANSPOSED,  // [B, H, T, T] read by columns
} dense_form;

typedef struct {
  dense_form form;
  cudnnDataType_t type;
} dense_tensor_kind;

#define BF16 CUDNN_DATA_BFLOAT16
#define F32 CUDNN_DATA_FLOAT

static const dense_tensor_kind dense_tensors[N_TENSOR] = {
    [Q] = {QUERY, BF16},
    [K] = {KEY_TRANSPOSED, BF16},
    [V] = {KEY, BF16},  // transposed in the backward
    [OUT] = {QUERY, BF16},
    [DOUT] = {QUERY, BF16},
    [DQ] = {QUERY, BF16},
    [DK] = {KEY, BF16},
    [DV] = {KEY, BF16},
    [STATISTICS] = {PER_QUERY, F32},
    [DELTA] = {PER_QUERY, F32},
    [DQ_SUM] = {QUERY, F32},
    [SCALE] = {SCALAR, F32},
    [HIDDEN] = {SCALAR, F32},
    [ONE] = {SCALAR, F32},
    [SCORES] = {SCORE, F32},
    [SCALED] = {SCORE, F32},
    [SHIFTED] = {SCORE, F32},
    [QUERY_INDEX] = {SCORE, CUDNN_DATA_INT32},
    [KEY_INDEX] = {SCORE, CUDNN_DATA_INT32},
    [SEEN] = {SCORE, CUDNN_DATA_BOOLEAN},
    [MASKED] = {SCORE, F32},
    [MAXIMUM] = {PER_QUERY, F32},
    [WEIGHTS] = {SCORE, F32},
    [SUM] = {PER_QUERY, F32},
    [LOGARITHM] = {PER_QUERY, F32},
    [P] = {SCORE, BF16},  // a product reads both operands in one type
    [P_TRANSPOSED] = {SCORE_TRANSPOSED, BF16},
    [DOUT_OUT] = {QUERY, F32},
    [DOUT_OUT_SUM] = {PER_QUERY, F32},
    [DP] = {SCORE, F32},
    [DP_SHIFTED] = {SCORE, F32},
    [DS_UNSCALED] = {SCORE, F32},
    [DS] = {SCORE, F32},
    [DS_TRANSPOSED] = {SCORE_TRANSPOSED, BF16},
    [K_ROWS] = {KEY, BF16},
    [DK_HEADS] = {QUERY, BF16},
    [DV_HEADS] = {QUERY, BF16},
};

typedef enum { PRODUCT, REDUCTION, POINTWISE, TRANSPOSITION } dense_node_kind;
typedef enum { ALWAYS, ONE_TO_ONE, GROUPED, DETERMINISTIC, FAST } dense_condition;

typedef struct {
  dense_node_kind kind;
  int mode;  // cudnnPointwiseMode_t or cudnnReduceTensorOp_t
  dense_tensor out, x, y, z;
  dense_condition condition;
} dense_node;

#define ELEMENTWISE(mode) POINTWISE, CUDNN_POINTWISE_##mode
#define ROWS(mode) REDUCTION, CUDNN_REDUCE_TENSOR_##mode

// out = softmax(masked(scale q k^T)) v, statistics = log of the sum of exp.
static const dense_node dense_forward[] = {
    {PRODUCT, 0, SCORES, Q, K, NONE, ALWAYS},
    {ELEMENTWISE(MUL), SCALED, SCORES, SCALE, NONE, ALWAYS},
    {ELEMENTWISE(GEN_INDEX), QUERY_INDEX, SCALED, NONE, NONE, ALWAYS},
    {ELEMENTWISE(GEN_INDEX), KEY_INDEX, SCALED, NONE, NONE, ALWAYS},
    {ELEMENTWISE(CMP_GE), SEEN, QUERY_INDEX, KEY_INDEX, NONE, ALWAYS},
    {ELEMENTWISE(BINARY_SELECT), MASKED, SCALED, HIDDEN, SEEN, ALWAYS},
    {ROWS(MAX), MAXIMUM, MASKED, NONE, NONE, ALWAYS},
    {ELEMENTWISE(SUB), SHIFTED, MASKED, MAXIMUM, NONE, ALWAYS},
    {ELEMENTWISE(EXP), WEIGHTS, SHIFTED, NONE, NONE, ALWAYS},
    {ROWS(ADD), SUM, WEIGHTS, NONE, NONE, ALWAYS},
    {ELEMENTWISE(LOG), LOGARITHM, SUM, NONE, NONE, ALWAYS},
    {ELEMENTWISE(ADD), STATISTICS, MAXIMUM, LOGARITHM, NONE, ALWAYS},
    {ELEMENTWISE(DIV), P, WEIGHTS, SUM, NONE, ALWAYS},
    {PRODUCT, 0, OUT, P, V, NONE, ALWAYS},
};

// p = exp(masked(scale q k^T - statistics)), dv = p^T dout, ds = scale p (dout v^T - delta), dk = ds^T q, dq = ds k.
static const dense_node dense_backward[] = {
    {ELEMENTWISE(MUL), DOUT_OUT, DOUT, OUT, NONE, ALWAYS},
    {ROWS(ADD), DOUT_OUT_SUM, DOUT_OUT, NONE, NONE, ALWAYS},
    {ELEMENTWISE(MUL), DELTA, DOUT_OUT_SUM, ONE, NONE,
     ALWAYS},  // engines know this chain with a dropout factor
    {PRODUCT, 0, SCORES, Q, K, NONE, ALWAYS},
    {ELEMENTWISE(MUL), SCALED, SCORES, SCALE, NONE, ALWAYS},
    {ELEMENTWISE(SUB), SHIFTED, SCALED, STATISTICS, NONE, ALWAYS},
    {ELEMENTWISE(GEN_INDEX), QUERY_INDEX, SHIFTED, NONE, NONE, ALWAYS},
    {ELEMENTWISE(GEN_INDEX), KEY_INDEX, SHIFTED, NONE, NONE, ALWAYS},
    {ELEMENTWISE(CMP_GE), SEEN, QUERY_INDEX, KEY_INDEX, NONE, ALWAYS},
    {ELEMENTWISE(BINARY_SELECT), MASKED, SHIFTED, HIDDEN, SEEN, ALWAYS},
    {ELEMENTWISE(EXP), WEIGHTS, MASKED, NONE, NONE, ALWAYS},
    {TRANSPOSITION, 0, P_TRANSPOSED, WEIGHTS, NONE, NONE, ALWAYS},
    {PRODUCT, 0, DV, P_TRANSPOSED, DOUT, NONE, ONE_TO_ONE},
    {PRODUCT, 0, DV_HEADS, P_TRANSPOSED, DOUT, NONE, GROUPED},
    {ROWS(ADD), DV, DV_HEADS, NONE, NONE, GROUPED},
    {PRODUCT, 0, DP, DOUT, V, NONE, ALWAYS},
    {ELEMENTWISE(SUB), DP_SHIFTED, DP, DELTA, NONE, ALWAYS},
    {ELEMENTWISE(MUL), DS_UNSCALED, DP_SHIFTED, WEIGHTS, NONE, ALWAYS},
    {ELEMENTWISE(MUL), DS, DS_UNSCALED, SCALE, NONE, ALWAYS},
    {TRANSPOSITION, 0, DS_TRANSPOSED, DS, NONE, NONE, ALWAYS},
    {PRODUCT, 0, DK, DS_TRANSPOSED, Q, NONE, ONE_TO_ONE},
    {PRODUCT, 0, DK_HEADS, DS_TRANSPOSED, Q, NONE, GROUPED},
    {ROWS(ADD), DK, DK_HEADS, NONE, NONE, GROUPED},
    {TRANSPOSITION, 0, K_ROWS, K, NONE, NONE, ALWAYS},
    // With a float sum in memory the engine adds to dq by atomics; without, it keeps ds and multiplies it afterwards.
    {PRODUCT, 0, DQ_SUM, DS, K_ROWS, NONE, FAST},
    {ELEMENTWISE(IDENTITY), DQ, DQ_SUM, NONE, NONE, FAST},
    {PRODUCT, 0, DQ, DS, K_ROWS, NONE, DETERMINISTIC},
};

// --- building ---

// After the first failure every step does nothing.
typedef struct {
  dense_target target;
  dense_options options;
  dense_graph *graph;
  cudnnBackendDescriptor_t tensors[N_TENSOR], operations[DENSE_NODES];
  int n_operation;
  const char *place;  // for messages
  int node;
  ss_error *error;
} dense_builder;

static bool dense_failed(const dense_builder *b) {
  return b->error->status != SS_OK;
}

static void dense_expect(dense_builder *b, cudnnStatus_t status, const char *step, int number) {
  char detail[256] = "";
  if (status == CUDNN_STATUS_SUCCESS)
    return;
  cudnnGetLastErrorString(detail, sizeof(detail));
  for (char *c = detail; *c; c++)
    if (*c == '\n')
      *c = ' ';
  ss_fail(b->error, SS_ERROR_LIMIT, "%s %d, %s %d: %s: %s", b->place, b->node, step, number,
          cudnnGetErrorString(status), detail);
}

static cudnnBackendDescriptor_t dense_create(dense_builder *b, cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t descriptor = NULL;
  if (!dense_failed(b) && b->graph->n_owned == DENSE_DESCRIPTORS)
    ss_fail(b->error, SS_ERROR_INTERNAL, "more than %d descriptors", DENSE_DESCRIPTORS);
  if (dense_failed(b))
    return NULL;
  dense_expect(b, cudnnBackendCreateDescriptor(type, &descriptor), "descriptor", (int)type);
  if (descriptor)
    b->graph->owned[b->graph->n_owned++] = descriptor;
  return descriptor;
}

static void dense_set(dense_builder *b, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                      cudnnBackendAttributeType_t type, int64_t count, const void *value) {
  if (!dense_failed(b))
    dense_expect(b, cudnnBackendSetAttribute(descriptor, name, type, count, value), "attribute", (int)name);
}

static void dense_attach(dense_builder *b, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value) {
  dense_set(b, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

// Returns how many elements were read.
static int64_t dense_get(dense_builder *b, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t capacity,
                         void *value) {
  int64_t count = 0;
  if (!dense_failed(b))
    dense_expect(b, cudnnBackendGetAttribute(descriptor, name, type, capacity, &count, value), "attribute",
                 (int)name);
  return dense_failed(b) ? 0 : count < capacity ? count : capacity;
}

static void dense_finalize(dense_builder *b, cudnnBackendDescriptor_t descriptor) {
  if (!dense_failed(b))
    dense_expect(b, cudnnBackendFinalize(descriptor), "finalize", 0);
}

static void dense_exchange(int64_t pair[2]) {
  int64_t first = pair[0];
  pair[0] = pair[1];
  pair[1] = first;
}

// The descriptor of a tensor, made when a node first names it.
static cudnnBackendDescriptor_t dense_tensor_of(dense_builder *b, dense_tensor id) {
  const dense_key *key = &b->graph->key;
  const int64_t B = key->rows, T = key->length, D = key->head_dim, uid = id, alignment = DENSE_ALIGNMENT;
  const bool yes = true;
  dense_form form = dense_tensors[id].form;
  if (b->tensors[id] || dense_failed(b))
    return b->tensors[id];
  if (id == V && key->backward)
    form = KEY_TRANSPOSED;
  bool by_columns = form == KEY_TRANSPOSED || form == SCORE_TRANSPOSED,
       of_key = form == KEY || form == KEY_TRANSPOSED;
  int64_t width = form == PER_QUERY ? 1
                  : form >= SCORE   ? T
                                    : D,
          heads = of_key ? key->n_kv_head : key->n_head;
  int64_t size[4] = {B, heads, T, width}, stride[4] = {heads * T * width, T * width, width, 1};
  if (id < N_OPERAND || id == K_ROWS) {
    stride[2] = key->stride[id == K_ROWS ? K : id];
    stride[1] = D;
    stride[0] = T * stride[2];
  } else if (id == STATISTICS && b->options.statistics_by_row) {
    stride[1] = 1;
    stride[2] = heads;
  } else if (form == SCALAR) {
    for (int i = 0; i < 4; i++)
      size[i] = stride[i] = 1;
  }
  if (by_columns) {
    dense_exchange(size + 2);
    dense_exchange(stride + 2);
  }
  cudnnBackendDescriptor_t tensor = dense_create(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  dense_set(b, tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
  dense_set(b, tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &dense_tensors[id].type);
  dense_set(b, tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
  dense_set(b, tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
  dense_set(b, tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
  if (id >= SCORES ||
      (id == STATISTICS && !key->statistics))  // engines want the node even when nobody reads it
    dense_set(b, tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes);
  if (form == SCALAR)
    dense_set(b, tensor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes);
  dense_finalize(b, tensor);
  return b->tensors[id] = tensor;
}

static bool dense_applies(const dense_key *key, dense_condition condition) {
  switch (condition) {
  case ONE_TO_ONE:
    return key->n_head == key->n_kv_head;
  case GROUPED:
    return key->n_head != key->n_kv_head;
  case DETERMINISTIC:
    return key->deterministic;
  case FAST:
    return !key->deterministic;
  default:
    return true;
  }
}

static void dense_add(dense_builder *b, const dense_node *node) {
  // Attributes of each kind of node: operation, its description, and out, x, y, z.
  static const struct {
    cudnnBackendDescriptorType_t operation, description;
    cudnnBackendAttributeName_t described, compute, mode, out, x, y, z;
    cudnnBackendAttributeType_t mode_type;
  } kinds[] = {
      [PRODUCT] = {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_BACKEND_MATMUL_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_ATTR_MATMUL_COMP_TYPE, 0,
                   CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_ATTR_OPERATION_MATMUL_ADESC,
                   CUDNN_ATTR_OPERATION_MATMUL_BDESC, 0, 0},
      [REDUCTION] = {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_ATTR_REDUCTION_COMP_TYPE,
                     CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
                     CUDNN_ATTR_OPERATION_REDUCTION_XDESC, 0, 0, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE},
      [POINTWISE] = {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC,
                     CUDNN_ATTR_POINTWISE_MODE, CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
                     CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                     CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_TYPE_POINTWISE_MODE},
      [TRANSPOSITION] = {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, 0, 0, 0, 0,
                         CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, 0, 0, 0},
  };
  const cudnnDataType_t compute = node->out == SEEN ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT;
  const int64_t axis = node->out == QUERY_INDEX ? 2 : 3;
  cudnnBackendDescriptor_t description = NULL;
  if (node->kind != TRANSPOSITION) {
    description = dense_create(b, kinds[node->kind].description);
    dense_set(b, description, kinds[node->kind].compute, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    if (node->kind != PRODUCT)
      dense_set(b, description, kinds[node->kind].mode, kinds[node->kind].mode_type, 1, &node->mode);
    if (node->out == QUERY_INDEX || node->out == KEY_INDEX)
      dense_set(b, description, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    dense_finalize(b, description);
  }
  cudnnBackendDescriptor_t operation = NULL, out = dense_tensor_of(b, node->out),
                           x = dense_tensor_of(b, node->x);
  cudnnBackendDescriptor_t y = node->y ? dense_tensor_of(b, node->y) : NULL;
  cudnnBackendDescriptor_t z = node->z ? dense_tensor_of(b, node->z) : NULL;
  operation = dense_create(b, kinds[node->kind].operation);
  dense_attach(b, operation, kinds[node->kind].x, x);
  if (y)
    dense_attach(b, operation, kinds[node->kind].y, y);
  if (z)
    dense_attach(b, operation, kinds[node->kind].z, z);
  dense_attach(b, operation, kinds[node->kind].out, out);
  if (description)
    dense_attach(b, operation, kinds[node->kind].described, description);
  dense_finalize(b, operation);
  if (b->n_operation < DENSE_NODES)
    b->operations[b->n_operation++] = operation;
}

static void dense_release(dense_graph *graph, int keep) {
  while (graph->n_owned > keep)
    cudnnBackendDestroyDescriptor(graph->owned[--graph->n_owned]);
}

void dense_graph_free(dense_graph *graph) {
  dense_release(graph, 0);
  graph->plan = NULL;
}

// Makes the plan of one engine configuration.
static void dense_plan(dense_builder *b, cudnnBackendDescriptor_t config) {
  dense_graph *graph = b->graph;
  cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
  int64_t bytes = 0;
  cudnnBackendDescriptor_t engine = dense_create(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  dense_get(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
  dense_get(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &graph->engine);
  int64_t n_note = dense_get(b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                             CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes);
  graph->noted = false;
  for (int64_t i = 0; i < n_note; i++)
    graph->noted = graph->noted || notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
  if (graph->key.deterministic && graph->noted)
    ss_fail(b->error, SS_ERROR_LIMIT, "engine %lld is not deterministic", (long long)graph->engine);
  cudnnBackendDescriptor_t plan = dense_create(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (b->target.properties)
    dense_attach(b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, b->target.properties);
  else
    dense_set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->target.handle);
  dense_attach(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  dense_finalize(b, plan);
  dense_get(b, plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  graph->engine_bytes = (size_t)bytes;
  if (!dense_failed(b))
    graph->plan = plan;
}

// Asks one heuristic for engine configurations and takes the first that yields a plan.
static void dense_choose(dense_builder *b, cudnnBackendDescriptor_t operations, cudnnBackendHeurMode_t mode) {
  cudnnBackendDescriptor_t configs[DENSE_CONFIGS];
  b->place = "heuristic";
  b->node = (int)mode;
  cudnnBackendDescriptor_t heuristic = dense_create(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  dense_attach(b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations);
  dense_set(b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
  if (b->target.properties)
    dense_attach(b, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, b->target.properties);
  dense_finalize(b, heuristic);
  for (int i = 0; i < DENSE_CONFIGS; i++)
    configs[i] = dense_create(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  int64_t count = dense_get(b, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                            DENSE_CONFIGS, configs);
  if (count == 0)
    ss_fail(b->error, SS_ERROR_LIMIT, "heuristic %d knows no engine for this graph", (int)mode);
  ss_error first = *b->error;
  b->place = "plan";
  for (int64_t i = 0; i < count && !b->graph->plan; i++) {
    const int n_owned = b->graph->n_owned;
    b->node = (int)i;
    ss_error_clear(b->error);
    dense_plan(b, configs[i]);
    if (dense_failed(b)) {
      dense_release(b->graph, n_owned);
      if (first.status == SS_OK)
        first = *b->error;
    }
  }
  if (!b->graph->plan)
    *b->error = first;
}

ss_status dense_build(dense_graph *graph, dense_target target, dense_options options, ss_error *error) {
  static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                 CUDNN_HEUR_MODE_FALLBACK};
  const dense_key *key = &graph->key;
  const dense_node *nodes = key->backward ? dense_backward : dense_forward;
  const size_t n_node = key->backward ? sizeof(dense_backward) / sizeof(*nodes)
                                      : sizeof(dense_forward) / sizeof(*nodes);
  const size_t n_query = (size_t)(key->rows * key->length * key->n_head);
  dense_builder b = {.target = target, .options = options, .graph = graph, .place = "node", .error = error};
  graph->hidden = options.finite_mask ? -3.402823466e+38f : -INFINITY;
  graph->delta_bytes = key->backward ? n_query * sizeof(float) : 0;
  graph->dq_sum_bytes = key->backward && !key->deterministic ? n_query * (size_t)key->head_dim * sizeof(float)
                                                             : 0;
  for (size_t i = 0; i < n_node; i++) {
    b.node = (int)i;
    if (dense_applies(key, nodes[i].condition))
      dense_add(&b, &nodes[i]);
  }
  b.place = "graph";
  cudnnBackendDescriptor_t operations = dense_create(&b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  dense_set(&b, operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, b.n_operation,
            b.operations);
  if (!target.properties)
    dense_set(&b, operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  dense_finalize(&b, operations);
  const bool described = !dense_failed(&b);
  const int n_owned = graph->n_owned;
  for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]) && described && !graph->plan; i++) {
    ss_error attempt = {0};
    b.error = &attempt;
    if (options.heuristic >= 0 && (int)modes[i] != options.heuristic)
      continue;
    dense_choose(&b, operations, modes[i]);
    if (graph->plan)
      ss_error_clear(error);
    else
      dense_release(graph, n_owned);
    if (attempt.status != SS_OK && error->status == SS_OK)
      *error = attempt;
  }
  if (!graph->plan)
    dense_graph_free(graph);
  return graph->plan ? SS_OK : error->status;
}

ss_status dense_launch(const dense_graph *graph, cudnnHandle_t handle, int64_t count, const int64_t *uids,
                       void *const *data, void *workspace, ss_error *error) {
  dense_graph pack;  // owns the variant pack
  pack.n_owned = 0;
  dense_builder b = {.graph = &pack, .place = "engine", .node = (int)graph->engine, .error = error};
  cudnnBackendDescriptor_t variant = dense_create(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  dense_set(&b, variant, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
  dense_set(&b, variant, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
  dense_set(&b, variant, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  dense_finalize(&b, variant);
  if (!dense_failed(&b))
    dense_expect(&b, cudnnBackendExecute(handle, graph->plan, variant), "execute", 0);
  dense_release(&pack, 0);
  return error->status;
}

#endif
