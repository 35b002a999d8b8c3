// Attention over row ranges: the plan (tiles on the device) and the choice of the kernels that serve a call.
#include "kernels/cuda/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

// --- the plan ---
// Whether the views are causal rows of one length that begin at row 0 and lie one after the other.
static bool is_causal(const ss_attention_view *views, int64_t n_view, int64_t n_key_row) {
  for (int64_t i = 0; i < n_view; ++i) {
    const ss_attention_view *view = &views[i];
    if (view->n_query != views[0].n_query || view->n_range != 0 || view->q_first != i * views[0].n_query ||
        view->self_first != view->q_first || view->self_last != view->q_first)
      return false;
  }
  return n_view > 0 && views[0].n_query > 0 && n_view * views[0].n_query <= n_key_row;
}

static const void *on_device(const ss_attention_plan *plan, const void *host) {
  return (const unsigned char *)plan->device_data + ((const unsigned char *)host - plan->host.block);
}

static attention_device_tiles list_on_device(const ss_attention_plan *plan, const attention_tile_list *list) {
  attention_device_tiles tiles = {};
  tiles.tile_rows = list->tile_rows;
  tiles.n_tile = (int32_t)list->n_tile;
  if (list->n_tile == 0)
    return tiles;
  tiles.tiles = (const attention_tile *)on_device(plan, list->tiles);
  tiles.rows = (const int32_t *)on_device(plan, list->rows);
  tiles.row_value = (const int32_t *)on_device(plan, list->row_value);
  tiles.row_slot = (const int32_t *)on_device(plan, list->row_slot);
  tiles.columns = (const int32_t *)on_device(plan, list->columns);
  tiles.column_value = (const int32_t *)on_device(plan, list->column_value);
  tiles.column_bits = (const uint32_t *)on_device(plan, list->column_bits);
  return tiles;
}

static ss_status make_tiles(ss_device *device, ss_attention_plan *plan, const ss_attention_view *views,
                            int64_t n_view, const span_range *ranges, int64_t n_range) {
  SS_TRY(attention_tiles_build(&plan->host, views, n_view, ranges, n_range, plan->n_key_row, plan->backward,
                               &device->error));
  size_t bytes = plan->host.block_bytes;
  if (bytes > plan->device_bytes) {
    // Kernels may still read the old arrays: releasing waits for them. The slack makes that rare.
    cuda_release(device, plan->device_data);
    plan->device_data = NULL;
    plan->device_bytes = 0;
    SS_TRY(cuda_allocate(device, &plan->device_data, bytes + bytes / 2, "attention tiles"));
    plan->device_bytes = bytes + bytes / 2;
  }
  SS_TRY(cuda_upload(device, plan->device_data, plan->host.block, bytes));
  plan->queries = list_on_device(plan, &plan->host.queries);
  plan->keys = list_on_device(plan, &plan->host.keys);
  plan->n_query_used = plan->host.queries.n_row;
  plan->n_key_used = plan->host.keys.n_row;
  plan->has_tiles = true;
  return SS_OK;
}

// Tiles of a causal or a decoding plan, which are made when they turn out to be needed.
static ss_status make_late_tiles(ss_device *device, ss_attention_plan *plan) {
  ss_attention_view *views;
  if (plan->has_decode) {
    const attention_decode *decode = &plan->decode;
    span_range *ranges = NULL;
    SS_TRY(ss_allocate(&views, decode->n_view, sizeof *views, "attention views", &device->error));
    ss_status made = ss_allocate(&ranges, decode->n_range, sizeof *ranges, "attention ranges",
                                 &device->error);
    if (made == SS_OK) {
      attention_decode_views(decode, views, ranges);
      made = make_tiles(device, plan, views, decode->n_view, ranges, decode->n_range);
    }
    free(views);
    free(ranges);
    return made;
  }
  SS_TRY(ss_allocate(&views, plan->causal_rows, sizeof *views, "attention views", &device->error));
  for (int64_t i = 0; i < plan->causal_rows; ++i) {
    int32_t first = (int32_t)(i * plan->causal_length);
    views[i].q_first = views[i].self_first = views[i].self_last = first;
    views[i].n_query = (int32_t)plan->causal_length;
  }
  ss_status status = make_tiles(device, plan, views, plan->causal_rows, NULL, 0);
  free(views);
  return status;
}

ss_status cuda_attention_plan(ss_device *device, ss_attention_plan **plan_address,
                              const ss_attention_view *views, int64_t n_view, const span_range *ranges,
                              int64_t n_range, int64_t n_key_row, bool backward) {
  if (!*plan_address)
    SS_TRY(ss_allocate(plan_address, 1, sizeof **plan_address, "an attention plan", &device->error));
  ss_attention_plan *plan = *plan_address;
  CUDA_REQUIRE(device, !plan->decode.resident, "attention_plan: the plan belongs to sequences");
  plan->n_key_row = n_key_row;
  plan->backward = backward;
  plan->has_tiles = plan->has_decode = false;
  plan->causal_rows = plan->causal_length = plan->n_query_row = 0;
  for (int64_t i = 0; i < n_view; ++i)
    if ((int64_t)views[i].q_first + views[i].n_query > plan->n_query_row)
      plan->n_query_row = (int64_t)views[i].q_first + views[i].n_query;
  if (!backward && cuda_of(device)->attention == SS_ATTENTION_AUTO) {
    SS_TRY(attention_decode_plan(device, &plan->decode, views, n_view, ranges, n_range, n_key_row,
                                 &plan->has_decode));
    if (plan->has_decode)
      return SS_OK;
  }
  if (!is_causal(views, n_view, n_key_row))
    return make_tiles(device, plan, views, n_view, ranges, n_range);
  plan->causal_rows = n_view;
  plan->causal_length = views[0].n_query;
  plan->n_query_used = plan->n_key_used = plan->n_query_row;
  // Where tiles served causal rows before, they are made now, while the device is at work on something else.
  return plan->tiles_expected ? make_tiles(device, plan, views, n_view, ranges, n_range) : SS_OK;
}

void cuda_attention_plan_free(ss_device *device, ss_attention_plan *plan) {
  if (!plan)
    return;
  cuda_release(device, plan->device_data);
  attention_tiles_free(&plan->host);
  attention_decode_free(device, &plan->decode);
  free(plan);
}

// --- the choice ---
static bool tiles_serve(const attention_call *call) {
  int32_t dim = call->shape.head_dim;
  const ss_tensor *tensors[] = {&call->q,    &call->k,  &call->v,  &call->out,
                                &call->dout, &call->dq, &call->dk, &call->dv};
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; ++i)
    if (tensors[i]->data && !cuda_is_aligned(*tensors[i]))
      return false;
  return call->q.dtype == SS_BF16 && (dim == 16 || dim == 32 || dim == 64 || dim == 128) &&
         call->shape.scale > 0;
}

// The first time that a path serves, or that cuDNN does not, the device's description says so.
static void describe_path(ss_device *device, attention_path path, const char *text) {
  cuda_device *cuda = cuda_of(device);
  if (cuda->attention_served >> path & 1)
    return;
  cuda->attention_served |= 1u << path;
  size_t length = strlen(device->description);
  snprintf(device->description + length, sizeof device->description - length, ", attention %s", text);
}

// Whether a call is what cuDNN's graphs compute: the plan's causal rows, and no others in its tensors.
static bool is_dense(const ss_attention_plan *plan, const attention_call *call) {
  int64_t n = plan->causal_rows * plan->causal_length;
  return n > 0 && call->q.rows == n && call->k.rows == n && call->v.rows == n;
}

static ss_status choose_path(ss_device *device, ss_attention_plan *plan, const attention_call *call,
                             bool backward, attention_path *path) {
  ss_attention_kernel asked = cuda_of(device)->attention;
  const char *engine = "the call is not causal rows of one length and nothing else";
  bool dense = is_dense(plan, call);
  const ss_tensor tensors[] = {call->q, call->k, call->v, call->out};
  if (plan->has_decode && asked == SS_ATTENTION_AUTO && attention_decode_serves(tensors, 4, call->shape)) {
    *path = ATTENTION_DECODE;
    describe_path(device, *path, "of single queries by ranges");
    return SS_OK;
  }
  CUDA_REQUIRE(device, !plan->decode.resident, "attention: rows not aligned to 16 bytes");
  if ((asked == SS_ATTENTION_AUTO && call->q.dtype == SS_BF16) || asked == SS_ATTENTION_CUDNN) {
    if (dense &&
        attention_cudnn_serves(device, plan->causal_rows, plan->causal_length, call, backward, &engine)) {
      *path = ATTENTION_CUDNN;
      describe_path(device, *path, engine);
      plan->tiles_expected = false;
      return SS_OK;
    }
    if (asked == SS_ATTENTION_CUDNN)
      return ss_fail(&device->error, SS_ERROR_LIMIT, "attention: cuDNN was asked for: %s", engine);
    if (dense) {
      char refusal[200];
      snprintf(refusal, sizeof refusal, "without cuDNN (%.160s)", engine);
      describe_path(device, ATTENTION_NOT_CUDNN, refusal);
    }
  }
  plan->tiles_expected = true;
  bool tiled = tiles_serve(call);
  if (asked == SS_ATTENTION_TILED && !tiled)
    return ss_fail(
        &device->error, SS_ERROR_LIMIT,
        "attention: tiles were asked for and serve bf16, head_dim 16, 32, 64 or 128, and rows aligned "
        "to 16 bytes only (head_dim is %d)",
        call->shape.head_dim);
  *path = tiled && asked != SS_ATTENTION_PLAIN ? ATTENTION_TILED : ATTENTION_PLAIN;
  describe_path(device, *path, *path == ATTENTION_TILED ? "by tiles" : "without tensor cores");
  return plan->has_tiles ? SS_OK : make_late_tiles(device, plan);
}

static ss_status check_call(ss_device *device, const char *op, const ss_attention_plan *plan,
                            const attention_call *call) {
  ss_attention_shape shape = call->shape;
  CUDA_REQUIRE(device,
               shape.n_kv_head > 0 && shape.n_head > 0 && shape.n_head % shape.n_kv_head == 0 &&
                   shape.head_dim > 0,
               "%s: %d heads of %d columns over %d kv heads", op, shape.n_head, shape.head_dim,
               shape.n_kv_head);
  int64_t q_cols = (int64_t)shape.n_head * shape.head_dim, k_cols = (int64_t)shape.n_kv_head * shape.head_dim;
  ss_dtype dtype = call->q.dtype;
  CUDA_REQUIRE(device,
               plan && (plan->has_tiles || plan->has_decode || plan->causal_rows > 0) &&
                   (dtype == SS_F32 || dtype == SS_BF16) &&
                   cuda_is_matrix(call->q, call->q.rows, q_cols, dtype) &&
                   call->q.rows >= plan->n_query_row &&
                   cuda_is_matrix(call->k, call->k.rows, k_cols, dtype) &&
                   cuda_is_matrix(call->v, call->v.rows, k_cols, dtype) && call->k.rows >= plan->n_key_row &&
                   call->v.rows >= plan->n_key_row && cuda_is_matrix(call->out, call->q.rows, q_cols, dtype),
               "%s: shapes do not fit together or the plan", op);
  return SS_OK;
}

ss_status cuda_attention_forward(ss_device *device, const ss_attention_plan *plan, ss_attention_shape shape,
                                 ss_tensor out, ss_tensor log_sum_exp, ss_tensor q, ss_tensor k,
                                 ss_tensor v) {
  attention_call call = {};
  call.shape = shape;
  call.q = q, call.k = k, call.v = v, call.out = out, call.log_sum_exp = log_sum_exp;
  SS_TRY(check_call(device, "attention_forward", plan, &call));
  CUDA_REQUIRE(device, !log_sum_exp.data || cuda_is_matrix(log_sum_exp, q.rows, shape.n_head, SS_F32),
               "attention_forward: log_sum_exp does not fit q");
  attention_path path;
  // Making the tiles of a causal plan late changes nothing that a caller sees.
  SS_TRY(choose_path(device, (ss_attention_plan *)plan, &call, false, &path));
  if (path == ATTENTION_CUDNN)
    return attention_cudnn_forward(device, plan->causal_rows, plan->causal_length, &call);
  if (path == ATTENTION_DECODE)
    return attention_decode_forward(device, &((ss_attention_plan *)plan)->decode, shape, out, log_sum_exp, q,
                                    k, v);
  return path == ATTENTION_TILED ? attention_tiled_forward(device, &plan->queries, &call)
                                 : attention_plain_forward(device, &plan->queries, &call);
}

static ss_status clear(ss_device *device, ss_tensor t) {
  size_t size = ss_dtype_size(t.dtype);
  if (t.rows > 0)
    CUDA_TRY(device, cudaMemset2DAsync(t.data, (size_t)t.stride * size, 0, (size_t)t.cols * size,
                                       (size_t)t.rows, cuda_of(device)->stream));
  return SS_OK;
}

ss_status cuda_attention_backward(ss_device *device, const ss_attention_plan *plan, ss_attention_shape shape,
                                  ss_tensor dq, ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                  ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v) {
  attention_call call = {};
  call.shape = shape;
  call.q = q, call.k = k, call.v = v, call.out = out, call.log_sum_exp = log_sum_exp;
  call.dout = dout, call.dq = dq, call.dk = dk, call.dv = dv;
  SS_TRY(check_call(device, "attention_backward", plan, &call));
  CUDA_REQUIRE(device, plan->backward, "attention_backward: the plan was made without backward");
  CUDA_REQUIRE(device,
               cuda_is_matrix(dout, q.rows, q.cols, q.dtype) && cuda_is_matrix(dq, q.rows, q.cols, q.dtype) &&
                   cuda_is_matrix(dk, k.rows, k.cols, q.dtype) &&
                   cuda_is_matrix(dv, v.rows, v.cols, q.dtype) &&
                   cuda_is_matrix(log_sum_exp, q.rows, shape.n_head, SS_F32),
               "attention_backward: shapes do not fit together");
  attention_path path;
  SS_TRY(choose_path(device, (ss_attention_plan *)plan, &call, true, &path));
  // The kernels write the rows of the tiles; those of no tile are zeros.
  if (plan->n_query_used < dq.rows)
    SS_TRY(clear(device, dq));
  if (plan->n_key_used < dk.rows)
    SS_TRY(clear(device, dk));
  if (plan->n_key_used < dv.rows)
    SS_TRY(clear(device, dv));
  if (path == ATTENTION_CUDNN)
    return attention_cudnn_backward(device, plan->causal_rows, plan->causal_length, &call);
  void *delta = NULL;
  SS_TRY(cuda_scratch(device, CUDA_SCRATCH_INNER, &delta, (size_t)(q.rows * shape.n_head) * sizeof(float)));
  call.delta = (float *)delta;
  return path == ATTENTION_TILED ? attention_tiled_backward(device, &plan->queries, &plan->keys, &call)
                                 : attention_plain_backward(device, &plan->queries, &plan->keys, &call);
}
