// Attention of a tile of queries, forward and backward (part of simd_body.h).
//
// Queries lie across the lanes: with the query heads of one kv head folded in, lane f of a view is query f / group,
// head f % group. Scores are held transposed, [key, lane], so that softmax needs no horizontal step and K and V enter
// as broadcast scalars, in their own layout. Key rows are gathered in tiles of CPU_KEYS; rows outside the view are
// never read. In the causal part the first lane that may read a key grows with its row; other lanes are left
// alone by selection, not by a product with zero, so that they cannot catch a NaN.

#define KEY_BLOCK 8  // keys of a register block; tiles are padded to it with zero rows
#define DIM_BLOCK 8  // output columns of a register block

// One tile of lanes over a view, and the walk along its visible rows.
typedef struct {
  const cpu_attention_call *call;
  const ss_attention_view *view;
  int64_t lane_first;                   // of the view's n_query * group lanes
  int32_t n_lane;                       // lanes in use
  int32_t vectors;                      // lanes held: vectors * VEC_WIDTH
  int32_t kv_head, group, dim, padded;  // padded: dim rounded up to 16
  int32_t range, row;                   // next row to gather; range == n_range is the causal part
  int32_t self_end;                     // one past the last row that the tile's last query reads
  int32_t n_key, n_full;                // of the gathered tile; the first n_full keys are read by every lane
  int32_t rows[CPU_KEYS];
  int32_t first_lane[CPU_KEYS];
} lane_tile;

typedef struct {
  float *q_rows;  // [lanes, padded], scaled
  float *q;       // [padded, lanes]
  float *k, *v;   // [CPU_KEYS, padded]
  float *scores;  // [CPU_KEYS, lanes]
  float *out;     // [padded, lanes]
  float *dout_rows, *dout, *dscores, *dq, *dkeys;
  float *maximum, *sum;  // [lanes]
} lane_scratch;

SIMD_INLINE lane_scratch carve_scratch(float *scratch, int64_t padded) {
  lane_scratch s;
  s.q_rows = scratch, scratch += padded * CPU_LANES;
  s.q = scratch, scratch += padded * CPU_LANES;
  s.out = scratch, s.dq = scratch, scratch += padded * CPU_LANES;
  s.dout_rows = scratch, scratch += padded * CPU_LANES;
  s.dout = scratch, scratch += padded * CPU_LANES;
  s.k = scratch, scratch += padded * CPU_KEYS;
  s.v = scratch, scratch += padded * CPU_KEYS;
  s.dkeys = scratch, scratch += padded * CPU_KEYS;
  s.scores = scratch, scratch += CPU_KEYS * CPU_LANES;
  s.dscores = scratch, scratch += CPU_KEYS * CPU_LANES;
  s.maximum = scratch, scratch += CPU_LANES;
  s.sum = scratch;
  return s;
}

static void start_tile(lane_tile *tile, const cpu_attention_call *call, const cpu_attention_item *item,
                       int32_t kv_head, int64_t lane_first, int64_t n_lane) {
  tile->call = call;
  tile->view = &item->view;
  tile->group = call->shape.n_head / call->shape.n_kv_head;
  tile->dim = call->shape.head_dim;
  tile->padded = (tile->dim + 15) / 16 * 16;
  tile->kv_head = kv_head;
  tile->lane_first = lane_first;
  tile->n_lane = (int32_t)n_lane;
  tile->vectors = (n_lane <= CPU_LANES / 2 ? CPU_LANES / 2 : CPU_LANES) / VEC_WIDTH;
  tile->range = 0;
  tile->row = tile->view->n_range > 0 ? call->ranges[tile->view->range_first].first : tile->view->self_first;
  tile->self_end = tile->view->self_last + (int32_t)((lane_first + n_lane - 1) / tile->group) + 1;
}

SIMD_INLINE int64_t lane_query(const lane_tile *tile, int32_t lane) {
  return tile->view->q_first + (tile->lane_first + lane) / tile->group;
}
SIMD_INLINE int64_t lane_head(const lane_tile *tile, int32_t lane) {
  return (int64_t)tile->kv_head * tile->group + (tile->lane_first + lane) % tile->group;
}

// Lists the next tile of visible rows; false when there is none.
static bool next_keys(lane_tile *tile) {
  const span_range *ranges = tile->call->ranges + tile->view->range_first;
  int32_t n = 0;
  while (tile->range < tile->view->n_range && n < CPU_KEYS) {
    int32_t end = ranges[tile->range].end;
    while (tile->row < end && n < CPU_KEYS) {
      tile->first_lane[n] = 0;
      tile->rows[n++] = tile->row++;
    }
    if (tile->row == end) {
      ++tile->range;
      tile->row = tile->range < tile->view->n_range ? ranges[tile->range].first : tile->view->self_first;
    }
  }
  tile->n_full = n;
  if (tile->range == tile->view->n_range)
    for (; tile->row < tile->self_end && n < CPU_KEYS; ++tile->row, ++n) {
      int64_t first = ((int64_t)tile->row - tile->view->self_last) * tile->group - tile->lane_first;
      tile->first_lane[n] = first > 0 ? (int32_t)first : 0;
      tile->n_full += first <= 0;
      tile->rows[n] = tile->row;
    }
  tile->n_key = n;
  return n > 0;
}

SIMD_INLINE int32_t padded_keys(const lane_tile *tile) {
  return (tile->n_key + KEY_BLOCK - 1) / KEY_BLOCK * KEY_BLOCK;
}

// The listed rows of k or v for this kv head, zeros behind them.
static void gather_rows(const lane_tile *tile, float *out, const float *in, int64_t stride) {
  int32_t dim = tile->dim, padded = tile->padded, n = padded_keys(tile);
  const float *first = in + (int64_t)tile->kv_head * dim;
  for (int32_t key = 0; key < tile->n_key; ++key) {
    const float *row = first + tile->rows[key] * stride;
    int32_t d = 0;
    for (; d + VEC_WIDTH <= dim; d += VEC_WIDTH)
      VEC_STORE(out + key * padded + d, VEC_LOAD(row + d));
    for (; d < dim; ++d)
      out[key * padded + d] = row[d];
    for (; d < padded; ++d)
      out[key * padded + d] = 0.0f;
  }
  memset(out + tile->n_key * padded, 0, (size_t)((n - tile->n_key) * padded) * sizeof(float));
}

// The lanes' rows of q, out or dout, times `scale`: row by row and transposed; unused lanes are zero.
static void gather_lanes(const lane_tile *tile, float *rows, float *transposed, const float *in,
                         int64_t stride, float scale) {
  int32_t dim = tile->dim, padded = tile->padded, lanes = tile->vectors * VEC_WIDTH;
  for (int32_t lane = 0; lane < lanes; ++lane) {
    float *row = rows + lane * padded;
    if (lane >= tile->n_lane) {
      memset(row, 0, (size_t)padded * sizeof(float));
      continue;
    }
    const float *source = in + lane_query(tile, lane) * stride + lane_head(tile, lane) * dim;
    for (int32_t d = 0; d < dim; ++d)
      row[d] = source[d] * scale;
    for (int32_t d = dim; d < padded; ++d)
      row[d] = 0.0f;
  }
  for (int32_t d = 0; d < padded; ++d)
    for (int32_t lane = 0; lane < lanes; ++lane)
      transposed[d * lanes + lane] = rows[lane * padded + d];
}

// scores[key, lane] = keys[key] . q[:, lane]
SIMD_INLINE void product_keys(float *scores, const float *keys, const float *q, int32_t n_key,
                              const int32_t padded, const int vectors) {
  const int lanes = vectors * VEC_WIDTH;
  for (int32_t key = 0; key < n_key; key += KEY_BLOCK)
    for (int first = 0; first < vectors; first += 2) {
      const int width = vectors < 2 ? vectors : 2;
      vec sums[KEY_BLOCK][2];
      for (int b = 0; b < KEY_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          sums[b][w] = VEC_ZERO();
      const float *block = keys + key * padded;
      for (int32_t d = 0; d < padded; ++d) {
        vec x[2];
        for (int w = 0; w < width; ++w)
          x[w] = VEC_LOAD(q + d * lanes + (first + w) * VEC_WIDTH);
        for (int b = 0; b < KEY_BLOCK; ++b) {
          vec broadcast = VEC_SET(block[b * padded + d]);
          for (int w = 0; w < width; ++w)
            sums[b][w] = VEC_FMA(broadcast, x[w], sums[b][w]);
        }
      }
      for (int b = 0; b < KEY_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          VEC_STORE(scores + (key + b) * lanes + (first + w) * VEC_WIDTH, sums[b][w]);
    }
}

static void product_keys_any(float *scores, const float *keys, const float *q, int32_t n_key, int32_t padded,
                             int vectors) {
  const int half = CPU_LANES / 2 / VEC_WIDTH, whole = CPU_LANES / VEC_WIDTH;
#define PRODUCT(size)                                 \
  if (vectors == half)                                \
    product_keys(scores, keys, q, n_key, size, half); \
  else                                                \
    product_keys(scores, keys, q, n_key, size, whole);
  switch (padded) {
  case 16:
    PRODUCT(16) break;
  case 32:
    PRODUCT(32) break;
  case 64:
    PRODUCT(64) break;
  default:
    PRODUCT(padded) break;
  }
#undef PRODUCT
}

// out[d, lane] += sum over keys of keys[key, d] weights[key, lane], for the lanes that may read the key
SIMD_INLINE void accumulate_lanes(const lane_tile *tile, float *out, const float *keys, const float *weights,
                                  const int vectors) {
  const int lanes = vectors * VEC_WIDTH;
  const int32_t padded = tile->padded, n_key = tile->n_key, n_full = tile->n_full;
  for (int32_t d = 0; d < padded; d += DIM_BLOCK)
    for (int first = 0; first < vectors; first += 2) {
      const int width = vectors < 2 ? vectors : 2;
      vec sums[DIM_BLOCK][2];
      for (int b = 0; b < DIM_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          sums[b][w] = VEC_LOAD(out + (d + b) * lanes + (first + w) * VEC_WIDTH);
      for (int32_t key = 0; key < n_full; ++key) {
        vec x[2];
        for (int w = 0; w < width; ++w)
          x[w] = VEC_LOAD(weights + key * lanes + (first + w) * VEC_WIDTH);
        for (int b = 0; b < DIM_BLOCK; ++b) {
          vec broadcast = VEC_SET(keys[key * padded + d + b]);
          for (int w = 0; w < width; ++w)
            sums[b][w] = VEC_FMA(broadcast, x[w], sums[b][w]);
        }
      }
      for (int32_t key = n_full; key < n_key; ++key)
        for (int w = 0; w < width; ++w) {
          vec x = VEC_LOAD(weights + key * lanes + (first + w) * VEC_WIDTH);
          vec_mask reads = VEC_LANES_FROM(tile->first_lane[key] - (first + w) * VEC_WIDTH);
          for (int b = 0; b < DIM_BLOCK; ++b) {
            vec broadcast = VEC_SET(keys[key * padded + d + b]);
            sums[b][w] = VEC_SELECT(reads, VEC_FMA(broadcast, x, sums[b][w]), sums[b][w]);
          }
        }
      for (int b = 0; b < DIM_BLOCK; ++b)
        for (int w = 0; w < width; ++w)
          VEC_STORE(out + (d + b) * lanes + (first + w) * VEC_WIDTH, sums[b][w]);
    }
}

static void accumulate_lanes_any(const lane_tile *tile, float *out, const float *keys, const float *weights) {
  if (tile->vectors == CPU_LANES / 2 / VEC_WIDTH)
    accumulate_lanes(tile, out, keys, weights, CPU_LANES / 2 / VEC_WIDTH);
  else
    accumulate_lanes(tile, out, keys, weights, CPU_LANES / VEC_WIDTH);
}

// target[row of key, d] += sum over lanes of weights[key, lane] rows[lane, d]
static void accumulate_keys(const lane_tile *tile, float *target, int64_t stride, const float *weights,
                            const float *rows, float *keys) {
  const int32_t lanes = tile->vectors * VEC_WIDTH, padded = tile->padded, n = padded_keys(tile);
  for (int32_t key = 0; key < n; key += KEY_BLOCK)
    for (int32_t d = 0; d < padded; d += VEC_WIDTH) {
      vec sums[KEY_BLOCK];
      for (int b = 0; b < KEY_BLOCK; ++b)
        sums[b] = VEC_ZERO();
      for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
        vec x = VEC_LOAD(rows + lane * padded + d);
        for (int b = 0; b < KEY_BLOCK; ++b)
          sums[b] = VEC_FMA(VEC_SET(weights[(key + b) * lanes + lane]), x, sums[b]);
      }
      for (int b = 0; b < KEY_BLOCK; ++b)
        VEC_STORE(keys + (key + b) * padded + d, sums[b]);
    }
  for (int32_t key = 0; key < tile->n_key; ++key)
    add(target + tile->rows[key] * stride + (int64_t)tile->kv_head * tile->dim, keys + key * padded,
        tile->dim);
}

// Online softmax over one tile of keys: scores become e^(score - maximum); out and sum are rescaled.
static void softmax_tile(const lane_tile *tile, const lane_scratch *s) {
  const int32_t lanes = tile->vectors * VEC_WIDTH;
  for (int32_t l = 0; l < lanes; l += VEC_WIDTH) {
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
    vec factor = vec_exp(VEC_SUB(before, shift));
    vec sum = VEC_MUL(VEC_LOAD(s->sum + l), factor);
    for (int32_t key = 0; key < tile->n_key; ++key) {
      float *score = s->scores + key * lanes + l;
      vec e = vec_exp(VEC_SUB(VEC_LOAD(score), shift));
      VEC_STORE(score, e);
      sum = VEC_ADD(sum, e);
    }
    VEC_STORE(s->maximum + l, maximum);
    VEC_STORE(s->sum + l, sum);
    for (int32_t d = 0; d < tile->padded; ++d)
      VEC_STORE(s->out + d * lanes + l, VEC_MUL(VEC_LOAD(s->out + d * lanes + l), factor));
  }
}

static void forward_lanes(lane_tile *tile, const lane_scratch *s) {
  const cpu_attention_call *call = tile->call;
  const int32_t lanes = tile->vectors * VEC_WIDTH, dim = tile->dim;
  gather_lanes(tile, s->q_rows, s->q, call->q, call->q_stride, call->shape.scale);
  memset(s->out, 0, (size_t)(tile->padded * lanes) * sizeof(float));
  for (int32_t l = 0; l < lanes; ++l)
    s->maximum[l] = -INFINITY, s->sum[l] = 0.0f;
  while (next_keys(tile)) {
    gather_rows(tile, s->k, call->k, call->k_stride);
    gather_rows(tile, s->v, call->v, call->v_stride);
    product_keys_any(s->scores, s->k, s->q, padded_keys(tile), tile->padded, tile->vectors);
    softmax_tile(tile, s);
    accumulate_lanes_any(tile, s->out, s->v, s->scores);
  }
  for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
    int64_t query = lane_query(tile, lane), head = lane_head(tile, lane);
    float sum = s->sum[lane], factor = sum == 0.0f ? 0.0f : 1.0f / sum;
    float *out = call->out + query * call->out_stride + head * dim;
    for (int32_t d = 0; d < dim; ++d)
      out[d] = s->out[d * lanes + lane] * factor;
    if (call->log_sum_exp)
      call->log_sum_exp[query * call->log_sum_exp_stride + head] = sum == 0.0f ? -INFINITY
                                                                               : s->maximum[lane] + logf(sum);
  }
}

static void attention_tile(const cpu_attention_call *call, const cpu_attention_item *item, int32_t kv_head,
                           float *scratch) {
  lane_tile tile;
  int64_t group = call->shape.n_head / call->shape.n_kv_head;
  int64_t end = (item->query_first + item->n_query) * group;
  lane_scratch s = carve_scratch(scratch, (call->shape.head_dim + 15) / 16 * 16);
  for (int64_t lane = item->query_first * group; lane < end; lane += CPU_LANES) {
    start_tile(&tile, call, item, kv_head, lane, end - lane < CPU_LANES ? end - lane : CPU_LANES);
    forward_lanes(&tile, &s);
  }
}

// delta of each lane: dout . out; log_sum_exp of lanes that read nothing becomes +infinity, so that their
// probabilities are zero.
static void start_backward(const lane_tile *tile, const lane_scratch *s) {
  const cpu_attention_call *call = tile->call;
  for (int32_t lane = 0; lane < tile->vectors * VEC_WIDTH; ++lane) {
    s->sum[lane] = 0.0f;
    s->maximum[lane] = INFINITY;
    if (lane >= tile->n_lane)
      continue;
    int64_t query = lane_query(tile, lane), head = lane_head(tile, lane);
    const float *out = call->out + query * call->out_stride + head * tile->dim;
    const float *dout = s->dout_rows + lane * tile->padded;
    float delta = 0.0f;
    for (int32_t d = 0; d < tile->dim; ++d)
      delta += out[d] * dout[d];
    float log_sum_exp = call->log_sum_exp[query * call->log_sum_exp_stride + head];
    s->sum[lane] = delta;
    if (!(log_sum_exp == -INFINITY))
      s->maximum[lane] = log_sum_exp;
  }
}

// scores become probabilities, dscores the gradient of the scores.
static void probabilities_tile(const lane_tile *tile, const lane_scratch *s) {
  const int32_t lanes = tile->vectors * VEC_WIDTH;
  for (int32_t l = 0; l < lanes; l += VEC_WIDTH) {
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
  int32_t pad = (padded_keys(tile) - tile->n_key) * lanes;
  memset(s->scores + tile->n_key * lanes, 0, (size_t)pad * sizeof(float));
  memset(s->dscores + tile->n_key * lanes, 0, (size_t)pad * sizeof(float));
}

static void backward_lanes(lane_tile *tile, const lane_scratch *s) {
  const cpu_attention_call *call = tile->call;
  const int32_t lanes = tile->vectors * VEC_WIDTH, dim = tile->dim;
  gather_lanes(tile, s->q_rows, s->q, call->q, call->q_stride, call->shape.scale);
  gather_lanes(tile, s->dout_rows, s->dout, call->dout, call->dout_stride, 1.0f);
  start_backward(tile, s);
  memset(s->dq, 0, (size_t)(tile->padded * lanes) * sizeof(float));
  while (next_keys(tile)) {
    gather_rows(tile, s->k, call->k, call->k_stride);
    gather_rows(tile, s->v, call->v, call->v_stride);
    product_keys_any(s->scores, s->k, s->q, padded_keys(tile), tile->padded, tile->vectors);
    product_keys_any(s->dscores, s->v, s->dout, padded_keys(tile), tile->padded, tile->vectors);
    probabilities_tile(tile, s);
    accumulate_lanes_any(tile, s->dq, s->k, s->dscores);
    accumulate_keys(tile, call->dk, call->dk_stride, s->dscores, s->q_rows, s->dkeys);
    accumulate_keys(tile, call->dv, call->dv_stride, s->scores, s->dout_rows, s->dkeys);
  }
  for (int32_t lane = 0; lane < tile->n_lane; ++lane) {
    float *dq = call->dq + lane_query(tile, lane) * call->dq_stride + lane_head(tile, lane) * dim;
    for (int32_t d = 0; d < dim; ++d)
      dq[d] = s->dq[d * lanes + lane] * call->shape.scale;
  }
}

static void attention_tile_backward(const cpu_attention_call *call, const cpu_attention_item *item,
                                    int32_t kv_head, float *scratch) {
  lane_tile tile;
  int64_t group = call->shape.n_head / call->shape.n_kv_head;
  int64_t end = (item->query_first + item->n_query) * group;
  lane_scratch s = carve_scratch(scratch, (call->shape.head_dim + 15) / 16 * 16);
  for (int64_t lane = item->query_first * group; lane < end; lane += CPU_LANES) {
    start_tile(&tile, call, item, kv_head, lane, end - lane < CPU_LANES ? end - lane : CPU_LANES);
    backward_lanes(&tile, &s);
  }
}
