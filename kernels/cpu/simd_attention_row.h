// Attention of a single query over many rows, all heads at once (part of simd_body.h): decoding. The work is to
// stream K and V once, so rows are taken in order, each with all its heads, and the heads of a group share the row.

#define STREAM_ROWS 16  // rows between head changes: their K or V stays in the first-level cache

// Lists rows [first, end) of the view's visible rows (ranges, then the causal part).
static void list_rows(const cpu_attention_call *call, const cpu_attention_item *item, int32_t *rows) {
  int64_t skip = item->row_first, left = item->row_end - item->row_first, n = 0;
  const ss_attention_view *view = &item->view;
  for (int32_t r = 0; r <= view->n_range && left > 0; ++r) {
    bool self = r == view->n_range;
    int32_t first = self ? view->self_first : call->ranges[view->range_first + r].first;
    int64_t size = self ? INT64_MAX : call->ranges[view->range_first + r].end - first;
    if (skip >= size) {
      skip -= size;
      continue;
    }
    int64_t take = size - skip < left ? size - skip : left;
    for (int64_t i = 0; i < take; ++i)
      rows[n++] = first + (int32_t)(skip + i);
    skip = 0;
    left -= take;
  }
}

// scores[head, i] = q[head] . k[rows[i]]
static void row_scores(const cpu_attention_call *call, float *scores, const float *q, const int32_t *rows,
                       int32_t n) {
  const int32_t dim = call->shape.head_dim, group = call->shape.n_head / call->shape.n_kv_head;
  for (int32_t start = 0; start < n; start += STREAM_ROWS) {
    int32_t end = start + STREAM_ROWS < n ? start + STREAM_ROWS : n;
    for (int32_t kv = 0; kv < call->shape.n_kv_head; ++kv)
      for (int32_t i = start; i < end; ++i) {
        const float *key = call->k + rows[i] * call->k_stride + (int64_t)kv * dim;
        for (int32_t g = 0; g < group; ++g)
          scores[(kv * group + g) * CPU_ROW_CHUNK + i] = dot(q + (kv * group + g) * dim, key, dim);
      }
  }
}

// out[head] += sum over i of scores[head, i] v[rows[i]]
static void row_values(const cpu_attention_call *call, float *out, const float *scores, const int32_t *rows,
                       int32_t n) {
  const int32_t dim = call->shape.head_dim, group = call->shape.n_head / call->shape.n_kv_head;
  for (int32_t start = 0; start < n; start += STREAM_ROWS) {
    int32_t end = start + STREAM_ROWS < n ? start + STREAM_ROWS : n;
    for (int32_t head = 0; head < call->shape.n_head; ++head) {
      const float *values = call->v + (int64_t)(head / group) * dim, *weight = scores + head * CPU_ROW_CHUNK;
      float *sums = out + head * dim;
      int32_t d = 0;
      for (; d + 4 * VEC_WIDTH <= dim; d += 4 * VEC_WIDTH) {
        vec sum[4];
        for (int w = 0; w < 4; ++w)
          sum[w] = VEC_LOAD(sums + d + w * VEC_WIDTH);
        for (int32_t i = start; i < end; ++i) {
          vec p = VEC_SET(weight[i]);
          for (int w = 0; w < 4; ++w)
            sum[w] = VEC_FMA(p, VEC_LOAD(values + rows[i] * call->v_stride + d + w * VEC_WIDTH), sum[w]);
        }
        for (int w = 0; w < 4; ++w)
          VEC_STORE(sums + d + w * VEC_WIDTH, sum[w]);
      }
      for (; d + VEC_WIDTH <= dim; d += VEC_WIDTH) {
        vec sum = VEC_LOAD(sums + d);
        for (int32_t i = start; i < end; ++i)
          sum = VEC_FMA(VEC_SET(weight[i]), VEC_LOAD(values + rows[i] * call->v_stride + d), sum);
        VEC_STORE(sums + d, sum);
      }
      for (; d < dim; ++d)
        for (int32_t i = start; i < end; ++i)
          sums[d] += weight[i] * values[rows[i] * call->v_stride + d];
    }
  }
}

static void write_row(const cpu_attention_call *call, const ss_attention_view *view, int32_t head,
                      const float *values, float maximum, float sum) {
  const int32_t dim = call->shape.head_dim;
  float *out = call->out + view->q_first * call->out_stride + (int64_t)head * dim;
  float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
  for (int32_t d = 0; d < dim; ++d)
    out[d] = values[d] * factor;
  if (call->log_sum_exp)
    call->log_sum_exp[view->q_first * call->log_sum_exp_stride + head] = sum == 0.0f ? -INFINITY
                                                                                     : maximum + logf(sum);
}

static void attention_row(const cpu_attention_call *call, const cpu_attention_item *item, float *partial,
                          float *scratch) {
  const int32_t dim = call->shape.head_dim, n_head = call->shape.n_head;
  int32_t n = (int32_t)(item->row_end - item->row_first);
  int32_t rows[CPU_ROW_CHUNK];
  float *scores = scratch, *q = scores + (int64_t)n_head * CPU_ROW_CHUNK, *out = q + (int64_t)n_head * dim;
  list_rows(call, item, rows);
  const float *query = call->q + item->view.q_first * call->q_stride;
  for (int32_t d = 0; d < n_head * dim; ++d)
    q[d] = query[d] * call->shape.scale;
  memset(out, 0, (size_t)(n_head * dim) * sizeof(float));
  row_scores(call, scores, q, rows, n);
  for (int32_t head = 0; head < n_head; ++head) {
    float *score = scores + head * CPU_ROW_CHUNK, maximum = -INFINITY, sum = 0.0f;
    for (int32_t i = 0; i < n; ++i)
      maximum = score[i] > maximum ? score[i] : maximum;
    vec shift = VEC_SET(maximum), total = VEC_ZERO();
    int32_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH) {
      vec e = vec_exp(VEC_SUB(VEC_LOAD(score + i), shift));
      VEC_STORE(score + i, e);
      total = VEC_ADD(total, e);
    }
    if (i < n) {
      VEC_STORE_PART(score + i, vec_exp(VEC_SUB(VEC_LOAD_PART(score + i, n - i), shift)), n - i);
      for (; i < n; ++i)
        sum += score[i];
    }
    out[n_head * dim + head * 2] = maximum;
    out[n_head * dim + head * 2 + 1] = sum + VEC_SUM(total);
  }
  row_values(call, out, scores, rows, n);
  const float *statistics = out + n_head * dim;
  for (int32_t head = 0; head < n_head; ++head) {
    if (!partial) {
      write_row(call, &item->view, head, out + head * dim, statistics[head * 2], statistics[head * 2 + 1]);
      continue;
    }
    float *target = partial + head * (dim + 2);
    memcpy(target, out + head * dim, (size_t)dim * sizeof(float));
    target[dim] = statistics[head * 2];
    target[dim + 1] = statistics[head * 2 + 1];
  }
}

static void attention_row_merge(const cpu_attention_call *call, const cpu_attention_item *item,
                                const float *partials, int64_t n_part) {
  const int32_t dim = call->shape.head_dim, n_head = call->shape.n_head;
  for (int32_t head = 0; head < n_head; ++head) {
    float maximum = -INFINITY, sum = 0.0f, values[CPU_HEAD_DIM_MAX];
    for (int64_t p = 0; p < n_part; ++p) {
      float piece = partials[(p * n_head + head) * (dim + 2) + dim];
      maximum = piece > maximum ? piece : maximum;
    }
    memset(values, 0, (size_t)dim * sizeof(float));
    for (int64_t p = 0; p < n_part; ++p) {
      const float *piece = partials + (p * n_head + head) * (dim + 2);
      float factor = expf(piece[dim] - maximum);
      sum += piece[dim + 1] * factor;
      for (int32_t d = 0; d < dim; ++d)
        values[d] += piece[d] * factor;
    }
    write_row(call, &item->view, head, values, maximum, sum);
  }
}
