// Attention over row ranges: running a plan, forward and backward, and appending to the cache. The inner loops
// are in simd_attention.h and simd_attention_row.h.
#include "kernels/cpu/attention.h"

#include <omp.h>
#include <string.h>

#define MANY_GROUPS 24  // with so many groups a backward task takes all heads of one

static ss_status check_shape(ss_device *device, const char *op, const ss_attention_plan *plan,
                             ss_attention_shape shape, ss_tensor q, ss_tensor k, ss_tensor v) {
  CPU_REQUIRE(device,
              shape.n_kv_head > 0 && shape.n_head > 0 && shape.n_head % shape.n_kv_head == 0 &&
                  shape.head_dim > 0 && shape.head_dim <= CPU_HEAD_DIM_MAX,
              "%s: %d heads of %d columns over %d kv heads", op, shape.n_head, shape.head_dim,
              shape.n_kv_head);
  int64_t q_cols = (int64_t)shape.n_head * shape.head_dim, k_cols = (int64_t)shape.n_kv_head * shape.head_dim;
  CPU_REQUIRE(device,
              plan && cpu_is_matrix(q, q.rows, q_cols) && q.rows >= plan->n_query_end &&
                  cpu_is_matrix(k, k.rows, k_cols) && cpu_is_matrix(v, v.rows, k_cols) &&
                  k.rows >= plan->n_key_row && v.rows >= plan->n_key_row,
              "%s: shapes do not fit together or the plan", op);
  return SS_OK;
}

static cpu_attention_call make_call(const ss_attention_plan *plan, ss_attention_shape shape, ss_tensor out,
                                    ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v) {
  return (cpu_attention_call){.shape = shape,
                              .ranges = plan->ranges,
                              .q = cpu_floats(q),
                              .k = cpu_floats(k),
                              .v = cpu_floats(v),
                              .q_stride = q.stride,
                              .k_stride = k.stride,
                              .v_stride = v.stride,
                              .out = cpu_floats(out),
                              .log_sum_exp = cpu_floats(log_sum_exp),
                              .out_stride = out.stride,
                              .log_sum_exp_stride = log_sum_exp.stride};
}

ss_status cpu_attention_forward(ss_device *device, const ss_attention_plan *plan, ss_attention_shape shape,
                                ss_tensor out, ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v) {
  cpu_device *cpu = cpu_of(device);
  SS_TRY(check_shape(device, "attention_forward", plan, shape, q, k, v));
  CPU_REQUIRE(device,
              cpu_is_matrix(out, q.rows, q.cols) &&
                  (!log_sum_exp.data || cpu_is_matrix(log_sum_exp, q.rows, shape.n_head)),
              "attention_forward: out or log_sum_exp do not fit q");
  cpu_attention_call call = make_call(plan, shape, out, log_sum_exp, q, k, v);
  int64_t per_thread = cpu_round_up(cpu_attention_scratch(shape), 16);
  int64_t per_partial = (int64_t)shape.n_head * (shape.head_dim + 2);
  float *scratch;  // per thread, then partials [n_split, n_head, head_dim + 2]
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &scratch,
                     cpu->n_thread * per_thread + plan->n_split * per_partial));
  float *partials = scratch + cpu->n_thread * per_thread;
  // Tasks: pieces of single queries, batches of small tiles, a head of a large tile; those first that come last in
  // their view and have the most rows.
  int64_t n_large_task = plan->n_large * shape.n_kv_head, n_task = n_large_task + plan->n_batch + plan->n_row;
#pragma omp parallel num_threads(cpu->n_thread) if (n_task > 1)
  {
    float *own = scratch + omp_get_thread_num() * per_thread;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = n_task - 1; task >= 0; --task) {
      if (task < n_large_task) {
        cpu->simd->attention_tile(&call, &plan->tiles[task / shape.n_kv_head],
                                  (int32_t)(task % shape.n_kv_head), own);
      } else if (task < n_large_task + plan->n_batch) {
        const cpu_attention_batch *batch = &plan->batches[task - n_large_task];
        for (int64_t t = batch->first; t < batch->end; ++t)
          for (int32_t kv_head = 0; kv_head < shape.n_kv_head; ++kv_head)
            cpu->simd->attention_tile(&call, &plan->tiles[t], kv_head, own);
      } else {
        int64_t row = task - n_large_task - plan->n_batch;
        cpu->simd->attention_row(&call, &plan->rows[row],
                                 row < plan->n_split ? partials + row * per_partial : NULL, own);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t m = 0; m < plan->n_merge; ++m)
      cpu->simd->attention_row_merge(&call, &plan->rows[plan->merges[m].item_first],
                                     partials + plan->merges[m].item_first * per_partial,
                                     plan->merges[m].n_item);
  }
  return SS_OK;
}

static void clear_rows(cpu_device *cpu, ss_tensor t) {
#pragma omp parallel for num_threads(cpu->n_thread) schedule(static) if (t.rows * t.cols > 65536)
  for (int64_t i = 0; i < t.rows; ++i)
    memset(cpu_floats(t) + i * t.stride, 0, (size_t)t.cols * sizeof(float));
}

ss_status cpu_attention_backward(ss_device *device, const ss_attention_plan *plan, ss_attention_shape shape,
                                 ss_tensor dq, ss_tensor dk, ss_tensor dv, ss_tensor dout, ss_tensor out,
                                 ss_tensor log_sum_exp, ss_tensor q, ss_tensor k, ss_tensor v) {
  cpu_device *cpu = cpu_of(device);
  SS_TRY(check_shape(device, "attention_backward", plan, shape, q, k, v));
  CPU_REQUIRE(device, plan->backward, "attention_backward: the plan was made without backward");
  CPU_REQUIRE(device,
              cpu_is_matrix(out, q.rows, q.cols) && cpu_is_matrix(dout, q.rows, q.cols) &&
                  cpu_is_matrix(dq, q.rows, q.cols) && cpu_is_matrix(dk, k.rows, k.cols) &&
                  cpu_is_matrix(dv, v.rows, v.cols) && cpu_is_matrix(log_sum_exp, q.rows, shape.n_head),
              "attention_backward: shapes do not fit together");
  clear_rows(cpu, dq);
  clear_rows(cpu, dk);
  clear_rows(cpu, dv);
  cpu_attention_call call = make_call(plan, shape, out, log_sum_exp, q, k, v);
  call.dout = cpu_floats(dout), call.dout_stride = dout.stride;
  call.dq = cpu_floats(dq), call.dq_stride = dq.stride;
  call.dk = cpu_floats(dk), call.dk_stride = dk.stride;
  call.dv = cpu_floats(dv), call.dv_stride = dv.stride;
  // A task owns its rows of dk and dv: a group, or with few groups one kv head of it. The sums are the same.
  int64_t heads = plan->n_group >= MANY_GROUPS ? shape.n_kv_head : 1;
  int64_t per_thread = cpu_round_up(cpu_attention_scratch(shape), 16);
  int64_t tasks_a_group = shape.n_kv_head / heads, n_task = plan->n_group * tasks_a_group;
  float *scratch;
  SS_TRY(cpu_scratch(device, CPU_SCRATCH_INNER, &scratch, cpu->n_thread * per_thread));
#pragma omp parallel for num_threads(cpu->n_thread) schedule(dynamic, 1) if (n_task > 1)
  for (int64_t task = 0; task < n_task; ++task) {
    const cpu_attention_group *group = &plan->groups[task / tasks_a_group];
    int64_t first_head = task % tasks_a_group * heads;
    for (int64_t i = group->item_first; i < group->item_end; ++i)
      for (int64_t kv_head = first_head; kv_head < first_head + heads; ++kv_head)
        cpu->simd->attention_tile_backward(&call, &plan->backward_items[i], (int32_t)kv_head,
                                           scratch + omp_get_thread_num() * per_thread);
  }
  return SS_OK;
}

ss_status cpu_cache_append(ss_device *device, ss_tensor k_cache, ss_tensor v_cache, ss_tensor k, ss_tensor v,
                           ss_tensor slots) {
  int64_t n = k.rows, cols = k.cols;
  CPU_REQUIRE(device,
              cpu_is_matrix(k, n, cols) && cpu_is_matrix(v, n, cols) && cpu_is_integers(slots, n) &&
                  cpu_is_matrix(k_cache, k_cache.rows, cols) && cpu_is_matrix(v_cache, v_cache.rows, cols),
              "cache_append: shapes do not fit together");
  for (int64_t i = 0; i < n; ++i) {
    int64_t slot = cpu_integers(slots)[i];
    CPU_REQUIRE(device, slot >= 0 && slot < k_cache.rows && slot < v_cache.rows,
                "cache_append: row %lld is outside the cache of %lld rows", (long long)slot,
                (long long)k_cache.rows);
    memcpy(cpu_floats(k_cache) + slot * k_cache.stride, cpu_floats(k) + i * k.stride,
           (size_t)cols * sizeof(float));
    memcpy(cpu_floats(v_cache) + slot * v_cache.stride, cpu_floats(v) + i * v.stride,
           (size_t)cols * sizeof(float));
  }
  return SS_OK;
}
