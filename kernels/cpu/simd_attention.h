// Attention of a tile of queries, forward and backward (part of simd_body.h).
//
// Queries lie across the lanes: with the query heads of one kv head folded in, lane f of a view is query
// f / group, head f % group. Scores are held transposed, [key, lane], so that softmax needs no horizontal step and
// K and V enter as broadcast scalars, in their own layout: a tile of up to CPU_KEYS keys is a list of row pointers.
// Rows outside the view are never read. In the causal part the first lane that may read a key grows with its row;
// the lanes before it are left alone by selection, not by a product with zero, so that they cannot catch a NaN.

// One tile of lanes over a view, and the walk along its visible rows.
typedef struct {
  const cpu_attention_call *call;
  const ss_attention_view *view;
  int64_t lane_first;                   // of the view's n_query * group lanes
  int32_t n_lane;                       // lanes in use
  int32_t kv_head, group, dim, padded;  // padded: dim rounded up to 16
  bool gather;            // dim is not a whole number of register blocks: pad the keys' rows with zeros first
  int32_t range, row;     // next row to list; range == n_range is the causal part
  int32_t self_end;       // one past the last row that the tile's last query reads
  int32_t n_key, n_full;  // of the listed tile; the first n_full keys are read by every lane
  int32_t rows[CPU_KEYS];
  int32_t first_lane[CPU_KEYS];
  int64_t query[CPU_LANES];   // row of q
  int64_t column[CPU_LANES];  // first column of the query head
} lane_tile;

typedef struct {
  float *q_rows, *dout_rows;               // [lanes, padded]; q scaled
  float *q, *dout, *out;                   // [padded, lanes]; out serves dq in the backward pass
  float *keys, *values;                    // [CPU_KEYS, padded]: gathered rows
  float *scores, *dscores;                 // [CPU_KEYS, lanes]
  float *target;                           // [CPU_KEYS, padded]
  float *maximum, *sum;                    // [lanes]; log-sum-exp and delta in the backward pass
  float *zeros;                            // [padded]: the row of keys that fill a block
  const float *k[CPU_KEYS], *v[CPU_KEYS];  // the tile's rows
} lane_scratch;

static void carve_scratch(lane_scratch *s, float *scratch, int64_t padded) {
  float **lanes[] = {&s->q_rows, &s->dout_rows, &s->q, &s->dout, &s->out};
  float **keys[] = {&s->keys, &s->values, &s->target};
  for (int i = 0; i < 5; ++i, scratch += padded * CPU_LANES)
    *lanes[i] = scratch;
  for (int i = 0; i < 3; ++i, scratch += padded * CPU_KEYS)
    *keys[i] = scratch;
  s->scores = scratch, scratch += CPU_KEYS * CPU_LANES;
  s->dscores = scratch, scratch += CPU_KEYS * CPU_LANES;
  s->maximum = scratch, scratch += CPU_LANES;
  s->sum = scratch, scratch += CPU_LANES;
  s->zeros = scratch;
  for (int64_t d = 0; d < padded; d += VEC_WIDTH)
    VEC_STORE(s->zeros + d, VEC_ZERO());
}

static void start_tile(lane_tile *tile, const cpu_attention_call *call, const cpu_attention_item *item,
                       int32_t kv_head, int64_t lane_first, int64_t n_lane) {
  const ss_attention_view *view = &item->view;
  tile->call = call;
  tile->view = view;
  tile->group = call->shape.n_head / call->shape.n_kv_head;
  tile->dim = call->shape.head_dim;
  tile->padded = (tile->dim + 15) / 16 * 16;
  tile->kv_head = kv_head;
  tile->gather = tile->dim % SIMD_BLOCK != 0;
  tile->lane_first = lane_first;
  tile->n_lane = (int32_t)n_lane;
  tile->range = 0;
  tile->row = view->n_range > 0 ? call->ranges[view->range_first].first : view->self_first;
  int64_t query = lane_first / tile->group, member = lane_first % tile->group;
  for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
    tile->query[lane] = view->q_first + query;
    tile->column[lane] = (kv_head * (int64_t)tile->group + member) * tile->dim;
    tile->self_end = view->self_last + (int32_t)query + 1;
    if (++member == tile->group)
      member = 0, ++query;
  }
}

// Lists the next tile of visible rows; false when there is none.
static bool next_keys(lane_tile *tile) {
  const ss_attention_view *view = tile->view;
  const span_range *ranges = tile->call->ranges + view->range_first;
  int32_t n = 0;
  while (tile->range < view->n_range && n < CPU_KEYS) {
    int32_t end = ranges[tile->range].end;
    while (tile->row < end && n < CPU_KEYS)
      tile->rows[n++] = tile->row++;
    if (tile->row == end) {
      ++tile->range;
      tile->row = tile->range < view->n_range ? ranges[tile->range].first : view->self_first;
    }
  }
  tile->n_full = n;
  if (tile->range == view->n_range)
    for (; tile->row < tile->self_end && n < CPU_KEYS; ++tile->row, ++n) {
      int64_t first = ((int64_t)tile->row - view->self_last) * tile->group - tile->lane_first;
      tile->first_lane[n] = first > 0 ? (int32_t)first : 0;
      tile->n_full += first <= 0;
      tile->rows[n] = tile->row;
    }
  tile->n_key = n;
  return n > 0;
}

// Keys of the tile rounded up to whole register blocks.
SIMD_INLINE int32_t block_keys(const lane_tile *tile) {
  return (tile->n_key + SIMD_BLOCK - 1) / SIMD_BLOCK * SIMD_BLOCK;
}

// Points at the listed rows of k or v for this kv head, and at zeros behind them.
static void point_rows(const lane_tile *tile, const float **pointers, float *gathered, const float *zeros,
                       const float *in, int64_t stride) {
  const int32_t dim = tile->dim, padded = tile->padded;
  const float *first = in + (int64_t)tile->kv_head * dim;
  int32_t key = 0;
  for (; key < tile->n_key; ++key) {
    const float *row = first + tile->rows[key] * stride;
    pointers[key] = row;
    if (tile->gather) {
      float *copy = gathered + key * padded;
      for (int32_t d = 0; d < padded; d += VEC_WIDTH)
        VEC_STORE(copy + d, VEC_LOAD_PART(row + d, lanes_left(dim, d)));
      pointers[key] = copy;
    }
  }
  for (; key < block_keys(tile); ++key)
    pointers[key] = zeros;
}

// The lanes' rows of q or dout, times `scale`: transposed, and (rows not NULL) row by row. Unused lanes are zero.
SIMD_INLINE void gather_lanes(const lane_tile *tile, float *rows, float *transposed, const float *in,
                              int64_t stride, float scale, const float *zeros, const int lanes) {
  const int32_t dim = tile->dim, padded = tile->padded;
  const float *source[CPU_LANES];
  for (int lane = 0; lane < lanes; ++lane)
    source[lane] = lane < tile->n_lane ? in + tile->query[lane] * stride + tile->column[lane] : zeros;
  for (int first = 0; first < lanes; first += VEC_WIDTH)
    for (int32_t d = 0; d < padded; d += VEC_WIDTH) {
      vec block[VEC_WIDTH];
      if (d + VEC_WIDTH <= dim)
        for (int l = 0; l < VEC_WIDTH; ++l)
          block[l] = VEC_LOAD(source[first + l] + d);
      else
        for (int l = 0; l < VEC_WIDTH; ++l)
          block[l] = VEC_LOAD_PART(source[first + l] + d, lanes_left(dim, d));
      for (int l = 0; l < VEC_WIDTH; ++l) {
        block[l] = VEC_MUL(block[l], VEC_SET(scale));
        if (rows)
          VEC_STORE(rows + (first + l) * padded + d, block[l]);
      }
      vec_transpose(block);
      for (int l = 0; l < VEC_WIDTH; ++l)
        VEC_STORE(transposed + (d + l) * lanes + first, block[l]);
    }
}

// out[query, head columns] = transposed[:, lane] * factor[lane]
SIMD_INLINE void scatter_lanes(const lane_tile *tile, float *out, int64_t stride, const float *transposed,
                               const float *factor, const int lanes) {
  const int32_t dim = tile->dim;
  for (int first = 0; first < tile->n_lane; first += VEC_WIDTH)
    for (int32_t d = 0; d < dim; d += VEC_WIDTH) {
      vec block[VEC_WIDTH], factors = VEC_LOAD(factor + first);
      for (int l = 0; l < VEC_WIDTH; ++l)
        block[l] = VEC_MUL(VEC_LOAD(transposed + (d + l) * lanes + first), factors);
      vec_transpose(block);
      for (int l = 0; l < VEC_WIDTH && first + l < tile->n_lane; ++l)
        VEC_STORE_PART(out + tile->query[first + l] * stride + tile->column[first + l] + d, block[l],
                       lanes_left(dim, d));
    }
}

// scores[key, lane] = row of key . q[:, lane]
SIMD_INLINE void product_keys(float *scores, const float *const *rows, const float *q, int32_t n_key,
                              int32_t dim, const int lanes) {
  const int width = lanes / VEC_WIDTH < 2 ? 1 : 2;
  for (int32_t key = 0; key < n_key; key += SIMD_BLOCK)
    for (int first = 0; first < lanes; first += width * VEC_WIDTH) {
      vec sums[SIMD_BLOCK][2];
      for (int b = 0; b < SIMD_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          sums[b][w] = VEC_ZERO();
      const float *row[SIMD_BLOCK];
      for (int b = 0; b < SIMD_BLOCK; ++b)
        row[b] = rows[key + b];
      for (int32_t d = 0; d < dim; ++d) {
        vec x[2];
        for (int w = 0; w < width; ++w)
          x[w] = VEC_LOAD(q + d * lanes + first + w * VEC_WIDTH);
        for (int b = 0; b < SIMD_BLOCK; ++b) {
          vec broadcast = VEC_SET(row[b][d]);
          for (int w = 0; w < width; ++w)
            sums[b][w] = VEC_FMA(broadcast, x[w], sums[b][w]);
        }
      }
      for (int b = 0; b < SIMD_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          VEC_STORE(scores + (key + b) * lanes + first + w * VEC_WIDTH, sums[b][w]);
    }
}

// out[d, lane] += sum over keys of keys[key, d] weights[key, lane], for the lanes that may read the key. The
// first tile of keys starts from zero.
SIMD_INLINE void accumulate_lanes(const lane_tile *tile, float *out, const float *const *rows,
                                  const float *weights, bool first_keys, const int lanes) {
  const int width = lanes / VEC_WIDTH < 2 ? 1 : 2;
  const int32_t n_key = tile->n_key, n_full = tile->n_full;
  for (int32_t d = 0; d < tile->dim; d += SIMD_BLOCK)
    for (int first = 0; first < lanes; first += width * VEC_WIDTH) {
      vec sums[SIMD_BLOCK][2];
      for (int b = 0; b < SIMD_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          sums[b][w] = first_keys ? VEC_ZERO() : VEC_LOAD(out + (d + b) * lanes + first + w * VEC_WIDTH);
      for (int32_t key = 0; key < n_full; ++key) {
        const float *row = rows[key] + d;
        SIMD_ONE_POINTER(row);
        vec x[2];
        for (int w = 0; w < width; ++w)
          x[w] = VEC_LOAD(weights + key * lanes + first + w * VEC_WIDTH);
        for (int b = 0; b < SIMD_BLOCK; ++b) {
          vec broadcast = VEC_SET(row[b]);
          for (int w = 0; w < width; ++w)
            sums[b][w] = VEC_FMA(broadcast, x[w], sums[b][w]);
        }
      }
      for (int32_t key = n_full; key < n_key; ++key) {
        const float *row = rows[key] + d;
        SIMD_ONE_POINTER(row);
        for (int w = 0; w < width; ++w) {
          vec x = VEC_LOAD(weights + key * lanes + first + w * VEC_WIDTH);
          vec_mask reads = VEC_LANES_FROM(tile->first_lane[key] - first - w * VEC_WIDTH);
          for (int b = 0; b < SIMD_BLOCK; ++b)
            sums[b][w] = VEC_FMA_WHERE(reads, VEC_SET(row[b]), x, sums[b][w]);
        }
      }
      for (int b = 0; b < SIMD_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          VEC_STORE(out + (d + b) * lanes + first + w * VEC_WIDTH, sums[b][w]);
    }
}

// target[row of key, d] += sum over lanes of weights[key, lane] rows[lane, d]
SIMD_INLINE void accumulate_keys(const lane_tile *tile, float *target, int64_t stride, const float *weights,
                                 const float *rows, const int lanes) {
  const int32_t dim = tile->dim, padded = tile->padded;
  target += (int64_t)tile->kv_head * dim;
  for (int32_t key = 0; key < tile->n_key; key += SIMD_BLOCK) {
    const int32_t n = tile->n_key - key < SIMD_BLOCK ? tile->n_key - key : SIMD_BLOCK;
    for (int32_t d = 0; d < dim; d += 2 * VEC_WIDTH) {
      const int width = d + VEC_WIDTH < dim ? 2 : 1;
      vec sums[SIMD_BLOCK][2];
      for (int b = 0; b < SIMD_BLOCK; ++b)
        sums[b][0] = sums[b][1] = VEC_ZERO();
      if (width == 2)
        for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
          vec x0 = VEC_LOAD(rows + lane * padded + d), x1 = VEC_LOAD(rows + lane * padded + d + VEC_WIDTH);
          for (int b = 0; b < SIMD_BLOCK; ++b) {
            vec weight = VEC_SET(weights[(key + b) * lanes + lane]);
            sums[b][0] = VEC_FMA(weight, x0, sums[b][0]);
            sums[b][1] = VEC_FMA(weight, x1, sums[b][1]);
          }
        }
      else
        for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
          vec x = VEC_LOAD(rows + lane * padded + d);
          for (int b = 0; b < SIMD_BLOCK; ++b)
            sums[b][0] = VEC_FMA(VEC_SET(weights[(key + b) * lanes + lane]), x, sums[b][0]);
        }
      for (int b = 0; b < SIMD_BLOCK; ++b)
        for (int w = 0; w < width && b < n; ++w) {
          int64_t left = lanes_left(dim, d + w * VEC_WIDTH);
          float *row = target + tile->rows[key + b] * stride + d + w * VEC_WIDTH;
          VEC_STORE_PART(row, VEC_ADD(VEC_LOAD_PART(row, left), sums[b][w]), left);
        }
    }
  }
}

// Online softmax over one tile of keys: scores become e^(score - maximum); out and sum are rescaled.
SIMD_INLINE void softmax_tile(const lane_tile *tile, const lane_scratch *s, bool first_keys,
                              const int lanes) {
  for (int l = 0; l < lanes; l += VEC_WIDTH) {
    vec before = VEC_LOAD(s->maximum + l), maximum = before;
    for (int32_t key = 0; key < tile->n_full; ++key)
      maximum = VEC_MAX(maximum, VEC_LOAD(s->scores + key * lanes + l));
    for (int32_t key = tile->n_full; key < tile->n_key; ++key) {
      float *score = s->scores + key * lanes + l;
      vec visible = VEC_SELECT(VEC_LANES_FROM(tile->first_lane[key] - l), VEC_LOAD(score),
                               VEC_SET(-INFINITY));
      VEC_STORE(score, visible);
      maximum = VEC_MAX(maximum, visible);
    }
    // A lane that has read nothing yet keeps -infinity; subtracting it would give NaN.
    vec shift = VEC_SELECT(VEC_LESS(maximum, VEC_SET(-3.0e38f)), VEC_ZERO(), maximum);
    vec factor = vec_exp(VEC_SUB(before, shift)), sum = VEC_MUL(VEC_LOAD(s->sum + l), factor);
    for (int32_t key = 0; key < tile->n_key; ++key) {
      float *score = s->scores + key * lanes + l;
      vec e = vec_exp(VEC_SUB(VEC_LOAD(score), shift));
      VEC_STORE(score, e);
      sum = VEC_ADD(sum, e);
    }
    VEC_STORE(s->maximum + l, maximum);
    VEC_STORE(s->sum + l, sum);
    if (!first_keys)
      for (int32_t d = 0; d < tile->dim; ++d)
        VEC_STORE(s->out + d * lanes + l, VEC_MUL(VEC_LOAD(s->out + d * lanes + l), factor));
  }
}

SIMD_INLINE void forward_lanes(lane_tile *tile, lane_scratch *s, const int lanes) {
  const cpu_attention_call *call = tile->call;
  gather_lanes(tile, NULL, s->q, call->q, call->q_stride, call->shape.scale, s->zeros, lanes);
  for (int l = 0; l < lanes; l += VEC_WIDTH) {
    VEC_STORE(s->maximum + l, VEC_SET(-INFINITY));
    VEC_STORE(s->sum + l, VEC_ZERO());
  }
  bool first_keys = true;
  for (; next_keys(tile); first_keys = false) {
    point_rows(tile, s->k, s->keys, s->zeros, call->k, call->k_stride);
    point_rows(tile, s->v, s->values, s->zeros, call->v, call->v_stride);
    product_keys(s->scores, s->k, s->q, block_keys(tile), tile->dim, lanes);
    softmax_tile(tile, s, first_keys, lanes);
    accumulate_lanes(tile, s->out, s->v, s->scores, first_keys, lanes);
  }
  if (first_keys)  // nothing to read
    memset(s->out, 0, (size_t)(tile->padded * lanes) * sizeof(float));
  if (call->log_sum_exp)
    for (int32_t lane = 0; lane < tile->n_lane; ++lane)
      call->log_sum_exp[tile->query[lane] * call->log_sum_exp_stride + tile->column[lane] / tile->dim] =
          s->sum[lane] == 0.0f ? -INFINITY : s->maximum[lane] + logf(s->sum[lane]);
  for (int32_t lane = 0; lane < lanes; ++lane)
    s->sum[lane] = s->sum[lane] == 0.0f ? 0.0f : 1.0f / s->sum[lane];
  scatter_lanes(tile, call->out, call->out_stride, s->out, s->sum, lanes);
}

// delta of each lane: dout . out; log_sum_exp of lanes that read nothing becomes +infinity, so that their
// probabilities are zero.
static void start_backward(const lane_tile *tile, const lane_scratch *s) {
  const cpu_attention_call *call = tile->call;
  for (int32_t lane = 0; lane < CPU_LANES; ++lane) {
    s->sum[lane] = 0.0f;
    s->maximum[lane] = INFINITY;
    if (lane >= tile->n_lane)
      continue;
    int64_t query = tile->query[lane], column = tile->column[lane];
    float log_sum_exp = call->log_sum_exp[query * call->log_sum_exp_stride + column / tile->dim];
    s->sum[lane] = dot(call->out + query * call->out_stride + column,
                       call->dout + query * call->dout_stride + column, tile->dim);
    if (!(log_sum_exp == -INFINITY))
      s->maximum[lane] = log_sum_exp;
  }
}

// scores become probabilities, dscores the gradient of the scores; zero for keys that fill a block.
SIMD_INLINE void probabilities_tile(const lane_tile *tile, const lane_scratch *s, const int lanes) {
  for (int l = 0; l < lanes; l += VEC_WIDTH) {
    vec log_sum_exp = VEC_LOAD(s->maximum + l), delta = VEC_LOAD(s->sum + l);
    for (int32_t key = 0; key < tile->n_key; ++key) {
      float *score = s->scores + key * lanes + l, *dscore = s->dscores + key * lanes + l;
      vec p = vec_exp(VEC_SUB(VEC_LOAD(score), log_sum_exp));
      vec dp = VEC_MUL(p, VEC_SUB(VEC_LOAD(dscore), delta));
      if (key >= tile->n_full) {
        vec_mask reads = VEC_LANES_FROM(tile->first_lane[key] - l);
        p = VEC_SELECT(reads, p, VEC_ZERO());
        dp = VEC_SELECT(reads, dp, VEC_ZERO());
      }
      VEC_STORE(score, p);
      VEC_STORE(dscore, dp);
    }
  }
}

SIMD_INLINE void backward_lanes(lane_tile *tile, lane_scratch *s, const int lanes) {
  const cpu_attention_call *call = tile->call;
  gather_lanes(tile, s->q_rows, s->q, call->q, call->q_stride, call->shape.scale, s->zeros, lanes);
  gather_lanes(tile, s->dout_rows, s->dout, call->dout, call->dout_stride, 1.0f, s->zeros, lanes);
  start_backward(tile, s);
  bool first_keys = true;
  for (; next_keys(tile); first_keys = false) {
    point_rows(tile, s->k, s->keys, s->zeros, call->k, call->k_stride);
    point_rows(tile, s->v, s->values, s->zeros, call->v, call->v_stride);
    product_keys(s->scores, s->k, s->q, block_keys(tile), tile->dim, lanes);
    product_keys(s->dscores, s->v, s->dout, block_keys(tile), tile->dim, lanes);
    probabilities_tile(tile, s, lanes);
    accumulate_lanes(tile, s->out, s->k, s->dscores, first_keys, lanes);
    accumulate_keys(tile, call->dk, call->dk_stride, s->dscores, s->q_rows, lanes);
    accumulate_keys(tile, call->dv, call->dv_stride, s->scores, s->dout_rows, lanes);
  }
  if (first_keys)
    memset(s->out, 0, (size_t)(tile->padded * lanes) * sizeof(float));
  for (int l = 0; l < lanes; l += VEC_WIDTH)
    VEC_STORE(s->sum + l, VEC_SET(call->shape.scale));
  scatter_lanes(tile, call->dq, call->dq_stride, s->out, s->sum, lanes);
}

// The item's lanes, tile by tile; a last tile of at most half the lanes runs at half the width.
SIMD_INLINE void item_lanes(const cpu_attention_call *call, const cpu_attention_item *item, int32_t kv_head,
                            float *scratch, void (*whole)(lane_tile *, lane_scratch *),
                            void (*half)(lane_tile *, lane_scratch *)) {
  lane_tile tile;
  lane_scratch s;
  carve_scratch(&s, scratch, (call->shape.head_dim + 15) / 16 * 16);
  int64_t group = call->shape.n_head / call->shape.n_kv_head;
  int64_t first = item->query_first * group, end = first + item->n_query * group;
  for (int64_t lane = first; lane < end; lane += CPU_LANES) {
    int64_t n_lane = end - lane < CPU_LANES ? end - lane : CPU_LANES;
    start_tile(&tile, call, item, kv_head, lane, n_lane);
    if (n_lane > CPU_LANES / 2)
      whole(&tile, &s);
    else
      half(&tile, &s);
  }
}

static void forward_whole(lane_tile *tile, lane_scratch *s) {
  forward_lanes(tile, s, CPU_LANES);
}
static void forward_half(lane_tile *tile, lane_scratch *s) {
  forward_lanes(tile, s, CPU_LANES / 2);
}
static void backward_whole(lane_tile *tile, lane_scratch *s) {
  backward_lanes(tile, s, CPU_LANES);
}
static void backward_half(lane_tile *tile, lane_scratch *s) {
  backward_lanes(tile, s, CPU_LANES / 2);
}

static void attention_tile(const cpu_attention_call *call, const cpu_attention_item *item, int32_t kv_head,
                           float *scratch) {
  item_lanes(call, item, kv_head, scratch, forward_whole, forward_half);
}

static void attention_tile_backward(const cpu_attention_call *call, const cpu_attention_item *item,
                                    int32_t kv_head, float *scratch) {
  item_lanes(call, item, kv_head, scratch, backward_whole, backward_half);
}
