// Attention backward over tiles: checks, then dq and delta, then dk and dv (which read delta).
#include "kernels/cuda/attention_backward.cuh"

static bool is_rows(ss_tensor t, int64_t rows, int64_t cols) {
  return cuda_is_matrix(t, rows, cols, SS_BF16) && cuda_is_aligned(t);
}

// The kernels copy columns' values, bits and indices in pieces of 16 bytes.
static bool is_tile_list(const attention_device_tiles *tiles) {
  return tiles->tile_rows > 0 && tiles->tile_rows % BACKWARD_ROWS == 0 &&
         ((uintptr_t)tiles->columns | (uintptr_t)tiles->column_value | (uintptr_t)tiles->column_bits) % 16 ==
             0;
}

ss_status attention_tiled_backward(ss_device *device, const attention_device_tiles *queries,
                                   const attention_device_tiles *keys, const attention_call *call) {
  ss_attention_shape shape = call->shape;
  CUDA_REQUIRE(device,
               shape.n_kv_head > 0 && shape.n_head > 0 && shape.n_head % shape.n_kv_head == 0 &&
                   (shape.head_dim == 16 || shape.head_dim == 32 || shape.head_dim == 64 ||
                    shape.head_dim == 128),
               "attention_backward: %d heads of %d columns over %d kv heads", shape.n_head, shape.head_dim,
               shape.n_kv_head);
  int64_t nq = call->q.rows, nk = call->k.rows;
  int64_t q_cols = (int64_t)shape.n_head * shape.head_dim, k_cols = (int64_t)shape.n_kv_head * shape.head_dim;
  CUDA_REQUIRE(device,
               is_rows(call->q, nq, q_cols) && is_rows(call->out, nq, q_cols) &&
                   is_rows(call->dout, nq, q_cols) && is_rows(call->dq, nq, q_cols) &&
                   is_rows(call->k, nk, k_cols) && is_rows(call->v, nk, k_cols) &&
                   is_rows(call->dk, nk, k_cols) && is_rows(call->dv, nk, k_cols) &&
                   cuda_is_matrix(call->log_sum_exp, nq, shape.n_head, SS_F32) && call->delta,
               "attention_backward: shapes do not fit together, or rows are not 16-byte aligned BF16");
  attention_backward_arguments arguments = {};
  arguments.q = (const gpu_bf16 *)call->q.data, arguments.q_stride = call->q.stride;
  arguments.k = (const gpu_bf16 *)call->k.data, arguments.k_stride = call->k.stride;
  arguments.v = (const gpu_bf16 *)call->v.data, arguments.v_stride = call->v.stride;
  arguments.out = (const gpu_bf16 *)call->out.data, arguments.out_stride = call->out.stride;
  arguments.dout = (const gpu_bf16 *)call->dout.data, arguments.dout_stride = call->dout.stride;
  arguments.dq = (gpu_bf16 *)call->dq.data, arguments.dq_stride = call->dq.stride;
  arguments.dk = (gpu_bf16 *)call->dk.data, arguments.dk_stride = call->dk.stride;
  arguments.dv = (gpu_bf16 *)call->dv.data, arguments.dv_stride = call->dv.stride;
  arguments.log_sum_exp = (const float *)call->log_sum_exp.data;
  arguments.log_sum_exp_stride = call->log_sum_exp.stride;
  arguments.delta = call->delta;
  arguments.n_head = shape.n_head, arguments.n_kv_head = shape.n_kv_head;
  arguments.scale = shape.scale;
  if (queries->n_tile > 0) {
    CUDA_REQUIRE(device, is_tile_list(queries), "attention_backward: query tiles of %d rows",
                 queries->tile_rows);
    arguments.tiles = *queries;
    SS_TRY(attention_backward_q(device, shape.head_dim, &arguments));
  }
  if (keys->n_tile > 0) {
    CUDA_REQUIRE(device, is_tile_list(keys), "attention_backward: key tiles of %d rows", keys->tile_rows);
    arguments.tiles = *keys;
    SS_TRY(attention_backward_kv(device, shape.head_dim, &arguments));
  }
  return SS_OK;
}
