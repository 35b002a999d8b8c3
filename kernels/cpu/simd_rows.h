// Loops over one row or one block of elements (part of simd_body.h).

// The vectors of n elements at i; the last may be a part, and all loads and stores say how many lanes they mean.
#define FOR_VECTORS(n) for (int64_t i = 0, lanes; (lanes = lanes_left(n, i)) > 0; i += VEC_WIDTH)
#define LOAD(p) (lanes == VEC_WIDTH ? VEC_LOAD((p) + i) : VEC_LOAD_PART((p) + i, lanes))

SIMD_INLINE void store_lanes(float *p, vec x, int64_t lanes) {
  if (lanes == VEC_WIDTH)
    VEC_STORE(p, x);
  else
    VEC_STORE_PART(p, x, lanes);
}
#define STORE(p, x) store_lanes((p) + i, x, lanes)

// What a part computes in the lanes behind it becomes 0, so that a sum over lanes may follow.
SIMD_INLINE vec clear_rest(vec x, int64_t lanes) {
  return lanes == VEC_WIDTH ? x : VEC_SELECT(VEC_LANES_FROM((int32_t)lanes), VEC_ZERO(), x);
}

static void add(float *out, const float *x, int64_t n) {
  FOR_VECTORS(n) {
    STORE(out, VEC_ADD(LOAD(out), LOAD(x)));
  }
}

// GELU, tanh form: x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
#define GELU_TWICE_ROOT 1.5957691216057308f  // 2 sqrt(2/pi)
#define GELU_CUBIC 0.044715f

static void gelu_forward(float *out, const float *in, int64_t n) {
  FOR_VECTORS(n) {
    vec x = LOAD(in), inner = VEC_FMA(VEC_MUL(x, x), VEC_SET(GELU_CUBIC), VEC_SET(1.0f));
    STORE(out, VEC_MUL(x, vec_sigmoid(VEC_MUL(VEC_MUL(x, VEC_SET(GELU_TWICE_ROOT)), inner))));
  }
}

static void gelu_backward(float *din, const float *dout, const float *in, int64_t n) {
  const vec one = VEC_SET(1.0f);
  FOR_VECTORS(n) {
    vec x = LOAD(in), square = VEC_MUL(x, x), inner = VEC_FMA(square, VEC_SET(GELU_CUBIC), one);
    vec sigmoid = vec_sigmoid(VEC_MUL(VEC_MUL(x, VEC_SET(GELU_TWICE_ROOT)), inner));
    vec slope = VEC_MUL(VEC_SET(GELU_TWICE_ROOT), VEC_FMA(square, VEC_SET(3 * GELU_CUBIC), one));
    vec grown = VEC_MUL(VEC_MUL(x, slope), VEC_SUB(one, sigmoid));
    STORE(din, VEC_MUL(LOAD(dout), VEC_FMA(sigmoid, grown, sigmoid)));
  }
}

static void swiglu_forward(float *out, const float *gate, const float *up, int64_t n) {
  FOR_VECTORS(n) {
    vec x = LOAD(gate);
    STORE(out, VEC_MUL(VEC_MUL(x, vec_sigmoid(x)), LOAD(up)));
  }
}

static void swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up,
                            int64_t n) {
  const vec one = VEC_SET(1.0f);
  FOR_VECTORS(n) {
    vec x = LOAD(gate), d = LOAD(dout), u = LOAD(up), sigmoid = vec_sigmoid(x);
    vec slope = VEC_MUL(sigmoid, VEC_FMA(x, VEC_SUB(one, sigmoid), one));
    STORE(dup, VEC_MUL(d, VEC_MUL(x, sigmoid)));
    STORE(dgate, VEC_MUL(VEC_MUL(d, u), slope));
  }
}

static void rotate(float *x, const float *cosine, const float *sine, int64_t half, float sign) {
  float *y = x + half;
  FOR_VECTORS(half) {
    vec a = LOAD(x), b = LOAD(y), c = LOAD(cosine), s = VEC_MUL(LOAD(sine), VEC_SET(sign));
    STORE(x, VEC_FNMA(b, s, VEC_MUL(a, c)));
    STORE(y, VEC_FMA(a, s, VEC_MUL(b, c)));
  }
}

static void norm_forward(ss_norm_kind kind, float *out, float *sum, float *statistics, const float *x,
                         const float *branch, const float *weight, const float *bias, int64_t n,
                         float epsilon) {
  vec total = VEC_ZERO(), squares = VEC_ZERO();
  FOR_VECTORS(n) {
    vec value = LOAD(x);
    if (branch)
      value = VEC_ADD(value, LOAD(branch));
    STORE(sum, value);
    total = VEC_ADD(total, value);
  }
  float mean = kind == SS_NORM_LAYER ? VEC_SUM(total) / (float)n : 0.0f;
  const vec means = VEC_SET(mean);
  FOR_VECTORS(n) {
    vec centred = clear_rest(VEC_SUB(LOAD(sum), means), lanes);
    squares = VEC_FMA(centred, centred, squares);
  }
  float reciprocal = 1.0f / sqrtf(VEC_SUM(squares) / (float)n + epsilon);
  const vec scale = VEC_SET(reciprocal);
  FOR_VECTORS(n) {
    vec value = VEC_MUL(VEC_MUL(VEC_SUB(LOAD(sum), means), scale), LOAD(weight));
    if (bias)
      value = VEC_ADD(value, LOAD(bias));
    STORE(out, value);
  }
  statistics[0] = mean;
  statistics[1] = reciprocal;
}

static void norm_backward(ss_norm_kind kind, float *dsum, float *dweight, float *dbias, const float *dout,
                          const float *sum, const float *statistics, const float *weight, int64_t n) {
  const vec means = VEC_SET(statistics[0]), scale = VEC_SET(statistics[1]);
  vec total = VEC_ZERO(),
      total_normal = VEC_ZERO();  // of weight * dout, and of that times the normalised input
  FOR_VECTORS(n) {
    vec d = LOAD(dout), normal = VEC_MUL(VEC_SUB(LOAD(sum), means), scale),
        weighted = VEC_MUL(d, LOAD(weight));
    total = VEC_ADD(total, weighted);
    total_normal = VEC_FMA(weighted, normal, total_normal);
    STORE(dweight, VEC_FMA(d, normal, LOAD(dweight)));
    if (dbias)
      STORE(dbias, VEC_ADD(d, LOAD(dbias)));
  }
  const vec mean_weighted = VEC_SET(kind == SS_NORM_LAYER ? VEC_SUM(total) / (float)n : 0.0f);
  const vec mean_normal = VEC_SET(VEC_SUM(total_normal) / (float)n);
  FOR_VECTORS(n) {
    vec normal = VEC_MUL(VEC_SUB(LOAD(sum), means), scale);
    vec inner = VEC_SUB(VEC_MUL(LOAD(dout), LOAD(weight)), mean_weighted);
    STORE(dsum, VEC_FMA(VEC_FNMA(normal, mean_normal, inner), scale, LOAD(dsum)));
  }
}

// A block of rows x outs dot products over n_in columns.
SIMD_INLINE void linear_block(float *out, int64_t out_stride, const float *in, int64_t in_stride,
                              const float *weight, int64_t weight_stride, const float *bias, int64_t n_in,
                              const int rows, const int outs) {
  vec sums[4][4];
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < outs; ++o)
      sums[r][o] = VEC_ZERO();
  int64_t whole = n_in / VEC_WIDTH * VEC_WIDTH;
  for (int64_t i = 0; i < whole; i += VEC_WIDTH) {
    vec w[4];
    for (int o = 0; o < outs; ++o)
      w[o] = VEC_LOAD(weight + o * weight_stride + i);
    for (int r = 0; r < rows; ++r) {
      vec x = VEC_LOAD(in + r * in_stride + i);
      for (int o = 0; o < outs; ++o)
        sums[r][o] = VEC_FMA(x, w[o], sums[r][o]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int o = 0; o < outs; ++o) {
      if (whole < n_in)
        sums[r][o] = VEC_FMA(VEC_LOAD_PART(in + r * in_stride + whole, n_in - whole),
                             VEC_LOAD_PART(weight + o * weight_stride + whole, n_in - whole), sums[r][o]);
      out[r * out_stride + o] = VEC_SUM(sums[r][o]) + (bias ? bias[o] : 0.0f);
    }
}

static void linear_rows(float *out, int64_t out_stride, const float *in, int64_t in_stride,
                        const float *weight, int64_t weight_stride, const float *bias, int64_t n_row,
                        int64_t n_out, int64_t n_in) {
#define BLOCK(rows, outs)                                                                                \
  linear_block(out + r * out_stride + o, out_stride, in + r * in_stride, in_stride, w, weight_stride, b, \
               n_in, rows, outs)
  for (int64_t o = 0, outs; o < n_out; o += outs) {
    outs = n_out - o >= 4 ? 4 : 1;
    const float *w = weight + o * weight_stride, *b = bias ? bias + o : NULL;
    int64_t r = 0;
    for (; r + 4 <= n_row; r += 4)
      if (outs == 4)
        BLOCK(4, 4);
      else
        BLOCK(4, 1);
    for (; r < n_row; ++r)
      if (outs == 4)
        BLOCK(1, 4);
      else
        BLOCK(1, 1);
  }
#undef BLOCK
}

static float cross_entropy(float *logits, int64_t n, int32_t target, bool gradient, float scale,
                           int32_t *correct) {
  vec highs = VEC_SET(-INFINITY);
  int64_t whole = n / VEC_WIDTH * VEC_WIDTH, best = 0;
  for (int64_t i = 0; i < whole; i += VEC_WIDTH)
    highs = VEC_MAX(highs, VEC_LOAD(logits + i));
  float highest = logits[0], lane_highs[VEC_WIDTH];
  VEC_STORE(lane_highs, highs);
  for (int64_t l = 0; l < VEC_WIDTH; ++l)
    highest = lane_highs[l] > highest ? lane_highs[l] : highest;
  for (int64_t i = whole; i < n; ++i)
    highest = logits[i] > highest ? logits[i] : highest;
  while (best < n - 1 && !(logits[best] == highest))
    ++best;
  *correct = best == target;
  float target_logit = logits[target];
  const vec shift = VEC_SET(highest);
  vec sums = VEC_ZERO();
  FOR_VECTORS(n) {
    vec e = vec_exp(VEC_SUB(LOAD(logits), shift));
    if (gradient)
      STORE(logits, e);
    sums = VEC_ADD(sums, clear_rest(e, lanes));
  }
  float sum = VEC_SUM(sums);
  if (gradient) {
    const vec factor = VEC_SET(scale / sum);
    FOR_VECTORS(n) {
      STORE(logits, VEC_MUL(LOAD(logits), factor));
    }
    logits[target] -= scale;
  }
  return logf(sum) + highest - target_logit;
}

// p -= lr wd p; m, v: moving averages; p -= lr/(1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon), in the order of
// torch.optim.AdamW.
static void adamw(float *weight, const float *gradient, float *first, float *second, int64_t n,
                  const cpu_adamw_constants *constants) {
  const vec decay = VEC_SET(constants->decay), step_size = VEC_SET(constants->step_size);
  const vec rest1 = VEC_SET(1.0f - constants->beta1), beta2 = VEC_SET(constants->beta2);
  const vec rest2 = VEC_SET(1.0f - constants->beta2), epsilon = VEC_SET(constants->epsilon);
  const vec scale = VEC_SET(constants->gradient_scale);
  const vec correction = VEC_SET(constants->reciprocal_root_correction2);
  FOR_VECTORS(n) {
    vec g = VEC_MUL(LOAD(gradient), scale), m = LOAD(first);
    m = VEC_FMA(VEC_SUB(g, m), rest1, m);
    vec v = VEC_FMA(VEC_MUL(g, g), rest2, VEC_MUL(LOAD(second), beta2));
    STORE(first, m);
    STORE(second, v);
    vec denominator = VEC_FMA(VEC_SQRT(v), correction, epsilon);
    STORE(weight, VEC_FNMA(step_size, VEC_DIV(m, denominator), VEC_MUL(LOAD(weight), decay)));
  }
}

static double sum_squares(const float *x, int64_t n) {
  double sums[16] = {0};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int64_t l = 0; l < 16; ++l)
      sums[l] += (double)x[i + l] * (double)x[i + l];
  for (; i < n; ++i)
    sums[i % 16] += (double)x[i] * (double)x[i];
  double sum = 0;
  for (int64_t l = 0; l < 16; ++l)
    sum += sums[l];
  return sum;
}
