// Dense causal attention through cuDNN's backend API: rows of one length, every query reads its row up to itself.
//
// The graph of a shape is built once (half a second) and kept. log_sum_exp is what the other paths write, [B*T, H]: the
// graphs' statistics stand by row.
#include "kernels/cuda/attention.h"

#ifdef SS_WITH_CUDNN

#include "kernels/cuda/attention_cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DENSE_GRAPHS = 32, DENSE_SECTION = 256 /* bytes */ };

struct cuda_dense_state {
  cudnnHandle_t handle;  // NULL: could not be opened, see `text`
  dense_graph graphs[DENSE_GRAPHS];
  int n_graph;
  uint64_t clock;
  void *workspace;
  size_t workspace_bytes;
  char version[32], text[512];
};

static size_t dense_section(size_t bytes) {
  return (bytes + DENSE_SECTION - 1) / DENSE_SECTION * DENSE_SECTION;
}

static size_t dense_workspace_bytes(const dense_graph *graph) {
  return dense_section(graph->engine_bytes) + dense_section(graph->delta_bytes) +
         dense_section(graph->dq_sum_bytes);
}

// The call's tensors by id. A forward that asks ahead has no gradients yet: they are laid out like what they are the
// gradient of.
static void dense_operands(const attention_call *call, bool backward, ss_tensor operands[N_OPERAND]) {
  const ss_tensor given[N_OPERAND] =
      {[Q] = call->q,       [K] = call->k,   [V] = call->v,   [OUT] = call->out,
       [DOUT] = call->dout, [DQ] = call->dq, [DK] = call->dk, [DV] = call->dv};
  static const dense_tensor like[N_OPERAND] = {[DOUT] = OUT, [DQ] = Q, [DK] = K, [DV] = V};
  memset(operands, 0, sizeof(given));
  for (int id = Q; id < (backward ? N_OPERAND : DOUT); id++)
    operands[id] = !given[id].data && like[id] ? given[like[id]] : given[id];
}

// What can be said without asking cuDNN. NULL: nothing against it.
static const char *dense_objection(const cuda_device *cuda, const dense_key *key, const attention_call *call,
                                   const ss_tensor operands[N_OPERAND]) {
  const int64_t n = key->rows * key->length;
  const size_t version = cudnnGetVersion();
  if (version < 91002)
    return "older than 9.10.2";
  if (cuda->compute_capability < 80)
    return "compute capability below 8.0";
  if (key->rows < 1 || key->length < 2)
    return "rows shorter than two queries";
  if (key->head_dim < 8 || key->head_dim % 8 != 0 || key->head_dim > 128)
    return "head_dim is not a multiple of 8 up to 128";
  if (key->n_kv_head < 1 || key->n_head % key->n_kv_head != 0)
    return "n_head is not a multiple of n_kv_head";
  // Such a backward read past its last row until 9.15.1.
  if (key->backward && key->length % 128 != 0 && version < 91501)
    return "a length that is not a multiple of 128, before 9.15.1";
  for (int id = Q; id < (key->backward ? N_OPERAND : DOUT); id++) {
    int64_t heads = id == K || id == V || id == DK || id == DV ? key->n_kv_head : key->n_head;
    if (!cuda_is_matrix(operands[id], n, heads * key->head_dim, SS_BF16) || !cuda_is_aligned(operands[id]))
      return "an operand that is no bf16 matrix in pieces of 16 bytes";
  }
  const ss_tensor statistics = call->log_sum_exp;
  if (statistics.data &&
      (!cuda_is_matrix(statistics, n, key->n_head, SS_F32) || statistics.stride != key->n_head))
    return "log_sum_exp is no packed matrix [n, n_head]";
  return NULL;
}

// The device's cuDNN state, made on first use.
static cuda_dense_state *dense_state(ss_device *device) {
  cuda_device *cuda = cuda_of(device);
  if (cuda->dense)
    return cuda->dense;
  cuda_dense_state *state = (cuda_dense_state *)calloc(1, sizeof(*state));
  if (!state)
    return NULL;
  const size_t version = cudnnGetVersion();
  snprintf(state->version, sizeof(state->version), "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100,
           version % 100);
  cudnnStatus_t status = cudnnCreate(&state->handle);
  if (status != CUDNN_STATUS_SUCCESS)
    state->handle = NULL;
  else if ((status = cudnnSetStream(state->handle, cuda->stream)) != CUDNN_STATUS_SUCCESS)
    cudnnDestroy(state->handle), state->handle = NULL;
  if (status != CUDNN_STATUS_SUCCESS)
    snprintf(state->text, sizeof(state->text), "%s cannot be opened: %s", state->version,
             cudnnGetErrorString(status));
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
    cudaGetLastError();  // the next launch must not find this refusal
    state->workspace = NULL;
    return ss_fail(error, SS_ERROR_LIMIT, "no memory for a workspace of %zu MiB: %s", bytes >> 20,
                   cudaGetErrorString(code));
  }
  state->workspace_bytes = bytes;
  return SS_OK;
}

// The graph of a key, built if it is new; its plan is NULL when cuDNN does not serve it.
static dense_graph *dense_find(cuda_dense_state *state, const dense_key *key) {
  dense_graph *graph = NULL;
  ss_error error = {0};
  for (int i = 0; i < state->n_graph && !graph; i++)
    if (memcmp(&state->graphs[i].key, key, sizeof(*key)) == 0)
      graph = &state->graphs[i];
  if (!graph) {
    graph = &state->graphs[state->n_graph < DENSE_GRAPHS ? state->n_graph++ : 0];
    for (int i = 0; i < state->n_graph; i++)
      if (state->graphs[i].last_used < graph->last_used)
        graph = &state->graphs[i];
    if (graph->plan)
      cudaDeviceSynchronize();  // the least recently used makes room; it may still be running
    dense_graph_free(graph);
    memset(graph, 0, sizeof(*graph));
    graph->key = *key;
    if (dense_build(graph, (dense_target){.handle = state->handle}, dense_standard, &error) != SS_OK ||
        dense_reserve(state, dense_workspace_bytes(graph), &error) != SS_OK)
      dense_graph_free(graph);
    snprintf(graph->reason, sizeof(graph->reason), "%.*s", (int)sizeof(graph->reason) - 1, error.message);
  }
  graph->last_used = ++state->clock;
  return graph;
}

// The graph that serves a call; NULL with the reason in state->text.
static const dense_graph *dense_serving(ss_device *device, cuda_dense_state *state, int64_t rows,
                                        int64_t length, const attention_call *call, bool backward,
                                        bool statistics) {
  const cuda_device *cuda = cuda_of(device);
  const ss_attention_shape shape = call->shape;
  ss_tensor operands[N_OPERAND];
  if (!state->handle)
    return NULL;
  dense_operands(call, backward, operands);
  dense_key key = {rows, length,   shape.n_head, shape.n_kv_head,    shape.head_dim,
                   {0},  backward, statistics,   cuda->deterministic};
  for (int id = Q; id < N_OPERAND; id++)
    key.stride[id] = operands[id].stride;
  const char *objection = dense_objection(cuda, &key, call, operands);
  const dense_graph *graph = objection ? NULL : dense_find(state, &key);
  ss_error error = {0};
  // A larger graph that found no memory may have cost this one its workspace.
  if (graph && graph->plan && dense_reserve(state, dense_workspace_bytes(graph), &error) == SS_OK)
    return graph;
  if (!objection)
    objection = error.status == SS_OK ? graph->reason : error.message;
  snprintf(state->text, sizeof(state->text), "%s does not serve the attention %s: %.400s", state->version,
           backward ? "backward" : "forward", objection);
  return NULL;
}

static ss_status dense_execute(ss_device *device, cuda_dense_state *state, const dense_graph *graph,
                               const attention_call *call) {
  const float scale = call->shape.scale, hidden = graph->hidden, one = 1;
  const bool backward = graph->key.backward;
  char *delta = (char *)state->workspace + dense_section(graph->engine_bytes);
  const void *all[SCORES] = {[SCALE] = &scale, [HIDDEN] = &hidden};
  ss_tensor operands[N_OPERAND];
  int64_t uids[SCORES], count = 0;
  void *data[SCORES];
  dense_operands(call, backward, operands);
  for (int id = Q; id < N_OPERAND; id++)
    all[id] = operands[id].data;
  if (graph->key.statistics)
    all[STATISTICS] = call->log_sum_exp.data;
  if (backward) {
    all[ONE] = &one;
    all[DELTA] = delta;
    all[DQ_SUM] = graph->dq_sum_bytes > 0 ? delta + dense_section(graph->delta_bytes) : NULL;
  }
  for (int id = Q; id < SCORES; id++)
    if (all[id]) {
      uids[count] = id;
      data[count++] = (void *)(uintptr_t)all[id];
    }
  ss_error error = {0};
  if (dense_launch(graph, state->handle, count, uids, data, state->workspace, &error) != SS_OK)
    return ss_fail(&device->error, SS_ERROR_DEVICE, "%s, attention %s: %.400s", state->version,
                   backward ? "backward" : "forward", error.message);
  return SS_OK;
}

static ss_status dense_run(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                           bool backward) {
  cuda_dense_state *state = dense_state(device);
  CUDA_REQUIRE(device, state, "attention: no memory for cuDNN's state");
  CUDA_REQUIRE(device,
               !backward || (call->dout.data && call->dq.data && call->dk.data && call->dv.data &&
                             call->log_sum_exp.data),
               "attention backward: a tensor is missing");
  const dense_graph *graph = dense_serving(device, state, rows, length, call, backward,
                                           backward || call->log_sum_exp.data);
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

// A forward that keeps its statistics is followed by a backward: both directions are served, or neither. When the answer
// is no, `engine` is the reason.
bool attention_cudnn_serves(ss_device *device, int64_t rows, int64_t length, const attention_call *call,
                            bool backward, const char **engine) {
  cuda_dense_state *state = dense_state(device);
  const bool training = backward || call->log_sum_exp.data;
  const dense_graph *graph = NULL;
  char gradient[32] = "";
  *engine = state ? state->text : "no memory for cuDNN's state";
  if (!state)
    return false;
  if (training) {
    graph = dense_serving(device, state, rows, length, call, true, true);
    if (!graph)
      return false;
    snprintf(gradient, sizeof(gradient), " (fwd) / %lld (bwd)", (long long)graph->engine);
  }
  graph = dense_serving(device, state, rows, length, call, false, training);
  if (graph)
    snprintf(state->text, sizeof(state->text), "%s, engine %lld%s", state->version, (long long)graph->engine,
             gradient);
  return graph != NULL;
}

void attention_cudnn_free(ss_device *device) {
  cuda_dense_state *state = cuda_of(device)->dense;
  if (!state)
    return;
  for (int i = 0; i < state->n_graph; i++)
    dense_graph_free(&state->graphs[i]);
  cudaFree(state->workspace);
  if (state->handle)
    cudnnDestroy(state->handle);
  free(state);
  cuda_of(device)->dense = NULL;
}

#else

ss_status attention_cudnn_forward(ss_device *device, int64_t rows, int64_t length,
                                  const attention_call *call) {
  (void)rows, (void)length, (void)call;
  return ss_fail(&device->error, SS_ERROR_LIMIT, "attention: built without cuDNN");
}

ss_status attention_cudnn_backward(ss_device *device, int64_t rows, int64_t length,
                                   const attention_call *call) {
  return attention_cudnn_forward(device, rows, length, call);
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
