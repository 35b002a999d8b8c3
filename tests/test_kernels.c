// Every op but attention against a plain fp64 reference, gradients included, and the same bits for every number of
// threads. Attention: test_attention.c.
#include "tests/kernel_fixture.h"

static ss_tensor none(void) {
  return (ss_tensor){0};
}

static int32_t *random_ids(ss_random *random, int64_t count, int32_t limit) {
  int32_t *out = malloc((size_t)count * sizeof *out);
  assert_non_null(out);
  for (int64_t i = 0; i < count; ++i)
    out[i] = (int32_t)ss_random_below(random, (uint64_t)limit);
  return out;
}

static void embedding(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 1);
  static const int64_t sizes[][4] = {{1, 5, 3, 4}, {300, 40, 96, 64}, {77, 200, 33, 90}};  // n, V, C, P
  for (size_t s = 0; s < 3; ++s) {
    int64_t n = sizes[s][0], V = sizes[s][1], C = sizes[s][2], P = sizes[s][3];
    float *wte = random_floats(&random, V * C, 1), *wpe = random_floats(&random, P * C, 1);
    float *dout = random_floats(&random, n * C, 1), *dwte0 = random_floats(&random, V * C, 1);
    float *dwpe0 = random_floats(&random, P * C, 1);
    int32_t *tokens = random_ids(&random, n, (int32_t)V), *positions = random_ids(&random, n, (int32_t)P);
    double *out = zero_doubles(n * C), *dwte = zero_doubles(V * C), *dwpe = zero_doubles(P * C);
    for (int64_t i = 0; i < V * C; ++i)
      dwte[i] = (double)dwte0[i];
    for (int64_t i = 0; i < P * C; ++i)
      dwpe[i] = (double)dwpe0[i];
    for (int64_t i = 0; i < n * C; ++i) {
      int64_t row = i / C, c = i % C;
      out[i] = (double)wte[tokens[row] * C + c] + (double)wpe[positions[row] * C + c];
      dwte[tokens[row] * C + c] += (double)dout[i];
      dwpe[positions[row] * C + c] += (double)dout[i];
    }
    float *kept[3] = {0};
    for (int d = 0; d < DEVICES; ++d) {
      float *got = random_floats(&random, n * C, 1), *got_dwte = copy_floats(dwte0, V * C);
      float *got_dwpe = copy_floats(dwpe0, P * C);
      RUN(devices.device[d], embedding_forward, ss_matrix(got, n, C), ss_integers(tokens, n),
          ss_integers(positions, n), ss_matrix(wte, V, C), ss_matrix(wpe, P, C));
      RUN(devices.device[d], embedding_backward, ss_matrix(got_dwte, V, C), ss_matrix(got_dwpe, P, C),
          ss_matrix(dout, n, C), ss_integers(tokens, n), ss_integers(positions, n));
      check_close("embedding", got, out, n * C, 1e-6);
      check_close("dwte", got_dwte, dwte, V * C, 1e-5);
      check_close("dwpe", got_dwpe, dwpe, P * C, 1e-5);
      if (d == 0) {
        kept[0] = got, kept[1] = got_dwte, kept[2] = got_dwpe;
        continue;
      }
      check_same_bits("dwte", got_dwte, kept[1], V * C);
      check_same_bits("dwpe", got_dwpe, kept[2], P * C);
      free(got), free(got_dwte), free(got_dwpe);
    }
    tokens[n / 2] = (int32_t)V;
    assert_int_not_equal(devices.device[0]->ops->embedding_forward(devices.device[0],
                                                                   ss_matrix(kept[0], n, C),
                                                                   ss_integers(tokens, n), none(),
                                                                   ss_matrix(wte, V, C), none()),
                         SS_OK);
    ss_error error = {0};
    assert_int_equal(ss_device_error(devices.device[0], &error), SS_ERROR_INTERNAL);
    assert_int_equal(devices.device[0]->error.status, SS_OK);
    void *owned[] = {wte, wpe,  dout, dwte0,   dwpe0,   tokens, positions,
                     out, dwte, dwpe, kept[0], kept[1], kept[2]};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
      free(owned[i]);
  }
  close_devices(&devices);
}

// out = normal * weight + bias in fp64, and the loss sum(dout * out), whose differences give dsum.
static double norm_loss(ss_norm_kind kind, const double *sum, const float *weight, const float *bias,
                        const float *dout, int64_t C, double *out, double epsilon) {
  double mean = 0, square = 0, loss = 0;
  for (int64_t c = 0; c < C && kind == SS_NORM_LAYER; ++c)
    mean += sum[c] / (double)C;
  for (int64_t c = 0; c < C; ++c)
    square += (sum[c] - mean) * (sum[c] - mean) / (double)C;
  for (int64_t c = 0; c < C; ++c) {
    double value = (sum[c] - mean) / sqrt(square + epsilon) * (double)weight[c] +
                   (bias ? (double)bias[c] : 0);
    if (out)
      out[c] = value;
    loss += value * (double)dout[c];
  }
  return loss;
}

static void norm(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 2);
  static const int64_t sizes[][2] = {{1, 4}, {130, 96}, {67, 37}, {200, 128}};
  for (int s = 0; s < 8; ++s) {
    ss_norm_kind kind = s % 2 ? SS_NORM_RMS : SS_NORM_LAYER;
    int64_t n = sizes[s / 2][0], C = sizes[s / 2][1];
    float *x = random_floats(&random, n * C, 1), *branch = random_floats(&random, n * C, 2);
    float *weight = random_floats(&random, C, 1), *bias = random_floats(&random, C, 1);
    float *dout = random_floats(&random, n * C, 1), *dsum0 = random_floats(&random, n * C, 1);
    if (kind == SS_NORM_RMS)
      free(bias), bias = NULL;
    double *out = zero_doubles(n * C), *dsum = zero_doubles(n * C), *dweight = zero_doubles(C),
           *dbias = zero_doubles(C);
    for (int64_t i = 0; i < n; ++i) {
      double sum[256];
      for (int64_t c = 0; c < C; ++c)
        sum[c] = (double)(x[i * C + c] + branch[i * C + c]);
      norm_loss(kind, sum, weight, bias, dout + i * C, C, out + i * C, 1e-5);
      for (int64_t c = 0; c < C; ++c) {
        double kept = sum[c], step = 1e-5;
        dweight[c] += (double)dout[i * C + c] * (out[i * C + c] - (bias ? (double)bias[c] : 0)) /
                      (double)weight[c];
        dbias[c] += (double)dout[i * C + c];
        sum[c] = kept + step;
        double above = norm_loss(kind, sum, weight, bias, dout + i * C, C, NULL, 1e-5);
        sum[c] = kept - step;
        double below = norm_loss(kind, sum, weight, bias, dout + i * C, C, NULL, 1e-5);
        sum[c] = kept;
        dsum[i * C + c] = (double)dsum0[i * C + c] + (above - below) / (2 * step);
      }
    }
    float *first = NULL;
    for (int d = 0; d < DEVICES; ++d) {
      // out, sum, dsum [n, C]; statistics [n, 2]; dweight, dbias [C]
      float *all = calloc((size_t)(3 * n * C + 2 * n + 2 * C), sizeof *all);
      float *got_sum = all + n * C, *got_dsum = all + 2 * n * C, *statistics = all + 3 * n * C;
      float *got_dweight = statistics + 2 * n, *got_dbias = got_dweight + C;
      memcpy(got_dsum, dsum0, (size_t)(n * C) * sizeof(float));
      ss_tensor bias_tensor = bias ? ss_matrix(bias, 1, C) : none();
      RUN(devices.device[d], norm_forward, kind, ss_matrix(all, n, C), ss_matrix(got_sum, n, C),
          ss_matrix(statistics, n, 2), ss_matrix(x, n, C), ss_matrix(branch, n, C), ss_matrix(weight, 1, C),
          bias_tensor, 1e-5f);
      RUN(devices.device[d], norm_backward, kind, ss_matrix(got_dsum, n, C), ss_matrix(got_dweight, 1, C),
          bias ? ss_matrix(got_dbias, 1, C) : none(), ss_matrix(dout, n, C), ss_matrix(got_sum, n, C),
          ss_matrix(statistics, n, 2), ss_matrix(weight, 1, C));
      check_close("norm out", all, out, n * C, 1e-5);
      check_close("norm dsum", got_dsum, dsum, n * C, 1e-4);
      check_close("norm dweight", got_dweight, dweight, C, 1e-4);
      if (bias)
        check_close("norm dbias", got_dbias, dbias, C, 1e-4);
      // Without a branch, in place.
      float *again = copy_floats(got_sum, n * C), *out_again = calloc((size_t)(n * C), sizeof *out_again);
      RUN(devices.device[d], norm_forward, kind, ss_matrix(out_again, n, C), ss_matrix(again, n, C),
          ss_matrix(statistics, n, 2), ss_matrix(again, n, C), none(), ss_matrix(weight, 1, C), bias_tensor,
          1e-5f);
      check_same_bits("norm in place", out_again, all, n * C);
      free(again), free(out_again);
      if (d == 0) {
        first = all;
        continue;
      }
      check_same_bits("norm", all, first, 3 * n * C + 2 * n + 2 * C);
      free(all);
    }
    void *owned[] = {x, branch, weight, bias, dout, dsum0, out, dsum, dweight, dbias, first};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
      free(owned[i]);
  }
  close_devices(&devices);
}

// Widths of a few lanes and parts of a vector, and a mean far above the deviation: what stands behind a row must not
// reach its statistics.
static void norm_narrow(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 12);
  static const int64_t widths[] = {1, 3, 7, 17, 24, 100};
  for (int w = 0; w < 6; ++w) {
    enum { n = 5, MOST = 100 };
    int64_t C = widths[w];
    float x[n * MOST], out[n * MOST], weight[MOST], statistics[n * 2];
    for (int64_t i = 0; i < n * C; ++i)
      x[i] = 10 + 0.03f * (float)ss_random_normal(&random);
    for (int64_t c = 0; c < C; ++c)
      weight[c] = 1;
    RUN(devices.device[0], norm_forward, SS_NORM_LAYER, ss_matrix(out, n, C), ss_matrix(x, n, C),
        ss_matrix(statistics, n, 2), ss_matrix(x, n, C), none(), ss_matrix(weight, 1, C), none(), 1e-5f);
    for (int64_t i = 0; i < n; ++i) {
      double mean = 0, square = 0;
      for (int64_t c = 0; c < C; ++c)
        mean += (double)x[i * C + c] / (double)C;
      for (int64_t c = 0; c < C; ++c)
        square += ((double)x[i * C + c] - mean) * ((double)x[i * C + c] - mean) / (double)C;
      double want = 1 / sqrt(square + 1e-5), got = (double)statistics[2 * i + 1];
      if (!(fabs(got - want) <= 1e-5 * want))
        fail_msg("width %lld: reciprocal deviation %g, expected %g (seed %d)", (long long)C, got, want, SEED);
    }
  }
  close_devices(&devices);
}

static void linear(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 3);
  static const int64_t sizes[][3] = {{1, 7, 5},      {1, 384, 96},   {5, 64, 130},
                                     {8, 100, 200},  {16, 48, 33},   {19, 65, 70},
                                     {64, 128, 128}, {300, 96, 520}, {1100, 48, 32}};  // n, I, O
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; ++s) {
    int64_t n = sizes[s][0], In = sizes[s][1], Out = sizes[s][2], stride = Out + 3;
    float *in = random_floats(&random, n * In, 1), *weight = random_floats(&random, Out * In, 1);
    float *bias = random_floats(&random, Out, 1), *dout = random_floats(&random, n * stride, 1);
    float *dweight0 = random_floats(&random, Out * In, 1);
    double *out = zero_doubles(n * Out), *din = zero_doubles(n * In), *dweight = zero_doubles(Out * In);
    double *dbias = zero_doubles(Out);
    for (int64_t i = 0; i < Out * In; ++i)
      dweight[i] = (double)dweight0[i];
    for (int64_t r = 0; r < n; ++r)
      for (int64_t o = 0; o < Out; ++o) {
        double d = (double)dout[r * stride + o], sum = (double)bias[o];
        dbias[o] += d;
        for (int64_t i = 0; i < In; ++i) {
          sum += (double)in[r * In + i] * (double)weight[o * In + i];
          din[r * In + i] += d * (double)weight[o * In + i];
          dweight[o * In + i] += d * (double)in[r * In + i];
        }
        out[r * Out + o] = sum;
      }
    float *first = NULL;
    int64_t total = n * Out + n * In + Out * In + Out;
    for (int d = 0; d < DEVICES; ++d) {
      float *all = calloc((size_t)total, sizeof *all), *got_din = all + n * Out,
            *got_dweight = got_din + n * In;
      float *got_dbias = got_dweight + Out * In;
      memcpy(got_dweight, dweight0, (size_t)(Out * In) * sizeof(float));
      ss_tensor strided = {dout, n, Out, stride, SS_F32};
      RUN(devices.device[d], linear_forward, ss_matrix(all, n, Out), ss_matrix(in, n, In),
          ss_matrix(weight, Out, In), ss_matrix(bias, 1, Out));
      RUN(devices.device[d], linear_backward, ss_matrix(got_din, n, In), ss_matrix(got_dweight, Out, In),
          ss_matrix(got_dbias, 1, Out), strided, ss_matrix(in, n, In), ss_matrix(weight, Out, In));
      check_close("linear out", all, out, n * Out, 1e-5);
      check_close("linear din", got_din, din, n * In, 1e-5);
      check_close("linear dweight", got_dweight, dweight, Out * In, 2e-5);
      check_close("linear dbias", got_dbias, dbias, Out, 2e-5);
      if (d == 0)
        first = all;
      else
        check_same_bits("linear", all, first, total), free(all);
    }
    void *owned[] = {in, weight, bias, dout, dweight0, out, din, dweight, dbias, first};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
      free(owned[i]);
  }
  close_devices(&devices);
}

static void rotary(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 4);
  static const int32_t head_dims[] = {2, 16, 10, 64};
  for (size_t s = 0; s < 4; ++s) {
    int64_t n = 70, dim = head_dims[s], half = dim / 2, cols = 3 * dim;
    float *x = random_floats(&random, n * cols, 1);
    int32_t *positions = random_ids(&random, n, s == 3 ? 1500 : 40);
    double *want = zero_doubles(n * cols), *back = zero_doubles(n * cols);
    for (int64_t i = 0; i < n * cols; ++i) {
      int64_t c = i % cols, d = c % dim % half, row = i / cols;
      // The angle is the float product that defines the convention; libm does the rest.
      double angle = (double)((float)positions[row] * (float)(1.0 / pow(10000.0, (double)d / (double)half)));
      bool low = c % dim < half;
      double self = (double)x[i], other = (double)x[low ? i + half : i - half];
      want[i] = self * cos(angle) + (low ? -other : other) * sin(angle);
      back[i] = self;
    }
    for (int d = 0; d < DEVICES; ++d) {
      float *got = copy_floats(x, n * cols);
      RUN(devices.device[d], rotary, ss_matrix(got, n, cols), ss_integers(positions, n), (int32_t)dim,
          10000.0f, 1);
      check_close("rotary", got, want, n * cols, 1e-6);
      RUN(devices.device[d], rotary, ss_matrix(got, n, cols), ss_integers(positions, n), (int32_t)dim,
          10000.0f, -1);
      check_close("rotary back", got, back, n * cols, 1e-6);
      free(got);
    }
    free(x), free(positions), free(want), free(back);
  }
  close_devices(&devices);
}

static double activation_value(ss_activation_kind kind, double x, double up) {
  if (kind == SS_ACTIVATION_SWIGLU)
    return x / (1 + exp(-x)) * up;
  return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static void activation(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 5);
  for (int s = 0; s < 4; ++s) {
    ss_activation_kind kind = s % 2 ? SS_ACTIVATION_SWIGLU : SS_ACTIVATION_GELU;
    int64_t n = 90, F = s < 2 ? 128 : 37, in_cols = kind == SS_ACTIVATION_SWIGLU ? 2 * F : F;
    float *in = random_floats(&random, n * in_cols, 3), *dout = random_floats(&random, n * F, 1);
    in[0] = 200.0f, in[1] = -200.0f, in[2] = 0.0f, in[3] = -15.0f;
    double *out = zero_doubles(n * F), *din = zero_doubles(n * in_cols);
    for (int64_t i = 0; i < n * F; ++i) {
      int64_t at = i / F * in_cols + i % F;
      double x = (double)in[at], up = kind == SS_ACTIVATION_SWIGLU ? (double)in[at + F] : 0, step = 1e-5;
      out[i] = activation_value(kind, x, up);
      din[at] = (double)dout[i] *
                (activation_value(kind, x + step, up) - activation_value(kind, x - step, up)) / (2 * step);
      if (kind == SS_ACTIVATION_SWIGLU)
        din[at + F] = (double)dout[i] * activation_value(kind, x, 1);
    }
    float *first = NULL;
    for (int d = 0; d < DEVICES; ++d) {
      float *all = calloc((size_t)(n * F + n * in_cols), sizeof *all);
      RUN(devices.device[d], activation_forward, kind, ss_matrix(all, n, F), ss_matrix(in, n, in_cols));
      RUN(devices.device[d], activation_backward, kind, ss_matrix(all + n * F, n, in_cols),
          ss_matrix(dout, n, F), ss_matrix(in, n, in_cols));
      for (int64_t i = 0; i < n * F;
           ++i)  // element by element: the exponential is judged by its relative error
        if (!(fabs((double)all[i] - out[i]) <= 2e-6 * fabs(out[i]) + 1e-7))
          fail_msg("activation %lld is %g, expected %g (seed %d)", (long long)i, (double)all[i], out[i],
                   SEED);
      check_close("activation din", all + n * F, din, n * in_cols, 3e-6);
      if (d == 0)
        first = all;
      else
        check_same_bits("activation", all, first, n * F + n * in_cols), free(all);
    }
    free(in), free(dout), free(out), free(din), free(first);
  }
  close_devices(&devices);
}

static void classifier(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 6);
  static const int64_t sizes[][3] = {{1, 8, 5},
                                     {70, 32, 100},
                                     {700, 24, 40000}};  // n, C, V; the last in two chunks
  for (size_t s = 0; s < 3; ++s) {
    int64_t n = sizes[s][0], C = sizes[s][1], V = sizes[s][2];
    float *h = random_floats(&random, n * C, 1), *wte = random_floats(&random, V * C, 0.5f);
    int32_t *targets = random_ids(&random, n, (int32_t)V);
    for (int64_t i = 2; i < n; i += 3)
      targets[i] = -1;
    const double scale = 0.37;
    double *losses = zero_doubles(n), *dh = zero_doubles(n * C), *dwte = zero_doubles(V * C),
           *logits = zero_doubles(V);
    int32_t *correct = calloc((size_t)n, sizeof *correct), *rows = calloc((size_t)n, sizeof *rows);
    int64_t n_target = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (targets[i] < 0)
        continue;
      rows[n_target++] = (int32_t)i;
      double highest = -INFINITY, sum = 0;
      int64_t best = 0;
      for (int64_t t = 0; t < V; ++t) {
        logits[t] = 0;
        for (int64_t c = 0; c < C; ++c)
          logits[t] += (double)h[i * C + c] * (double)wte[t * C + c];
        if (logits[t] > highest)
          highest = logits[t], best = t;
      }
      if (i % 4 == 0)
        targets[i] = (int32_t)best;  // so that some are correct
      correct[i] = best == targets[i];
      for (int64_t t = 0; t < V; ++t)
        sum += exp(logits[t] - highest);
      losses[i] = log(sum) + highest - logits[targets[i]];
      for (int64_t t = 0; t < V; ++t) {
        double d = scale * (exp(logits[t] - highest) / sum - (t == targets[i]));
        for (int64_t c = 0; c < C; ++c) {
          dh[i * C + c] += d * (double)wte[t * C + c];
          dwte[t * C + c] += d * (double)h[i * C + c];
        }
      }
    }
    float *first = NULL;
    for (int d = 0; d < DEVICES; ++d) {
      float *all = calloc((size_t)(2 * n + n * C + V * C), sizeof *all), *got_dh = all + 2 * n,
            *got_dwte = got_dh + n * C;
      memset(got_dh, 0x7f, (size_t)(n * C) * sizeof(float));
      RUN(devices.device[d], classifier_loss, ss_matrix(all, 1, n), ss_integers(all + n, n),
          ss_matrix(got_dh, n, C), ss_matrix(got_dwte, V, C), ss_matrix(h, n, C), ss_matrix(wte, V, C),
          ss_integers(targets, n), ss_integers(rows, n_target), (float)scale);
      check_close("losses", all, losses, n, 1e-5);
      check_same_bits("correct", all + n, correct, n);
      check_close("dh", got_dh, dh, n * C, 2e-5);
      check_close("dwte", got_dwte, dwte, V * C, 2e-5);
      float *losses_alone = calloc((size_t)n, sizeof *losses_alone);
      RUN(devices.device[d], classifier_loss, ss_matrix(losses_alone, 1, n), none(), none(), none(),
          ss_matrix(h, n, C), ss_matrix(wte, V, C), ss_integers(targets, n), ss_integers(rows, n_target),
          1.0f);
      check_same_bits("losses without gradient", losses_alone, all, n);
      free(losses_alone);
      if (d == 0)
        first = all;
      else
        check_same_bits("classifier", all, first, 2 * n + n * C + V * C), free(all);
    }
    void *owned[] = {h, wte, targets, rows, losses, dh, dwte, logits, correct, first};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i)
      free(owned[i]);
  }
  close_devices(&devices);
}

// Three tensors, ten steps, against AdamW in fp64; the norm against a plain sum.
static void optimizer(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_random random = ss_random_seed(SEED, 7);
  static const int64_t counts[3] = {40000, 1, 16391};
  static const float decays[3] = {0.1f, 0.0f, 0.01f}, rates[3] = {1, 3, 0.5f};
  const int64_t total = 40000 + 1 + 16391;
  float *start = random_floats(&random, total, 1);
  double *weight = zero_doubles(total), *m = zero_doubles(total), *v = zero_doubles(total);
  for (int64_t i = 0; i < total; ++i)
    weight[i] = (double)start[i];
  float *all[DEVICES];
  for (int d = 0; d < DEVICES; ++d) {
    all[d] = calloc((size_t)(3 * total), sizeof **all);  // weights, first moments, second moments
    memcpy(all[d], start, (size_t)total * sizeof(float));
  }
  for (int64_t step = 1; step <= 10; ++step) {
    float *gradient = random_floats(&random, total, 0.3f);
    ss_adamw adamw = {1e-2f, 0.9f, 0.99f, 1e-8f, 0.5, 0, NULL, step};
    double squares = 0;
    for (int64_t i = 0; i < total; ++i) {
      int t = i < counts[0] ? 0 : i < counts[0] + counts[1] ? 1 : 2;
      double g = 0.5 * (double)gradient[i], b1 = (double)adamw.beta1, b2 = (double)adamw.beta2;
      double rate = (double)adamw.learning_rate * (double)rates[t];
      squares += (double)gradient[i] * (double)gradient[i];
      weight[i] -= rate * (double)decays[t] * weight[i];
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      weight[i] -= rate * (m[i] / (1 - pow(b1, (double)step))) /
                   (sqrt(v[i] / (1 - pow(b2, (double)step))) + (double)adamw.epsilon);
    }
    for (int d = 0; d < DEVICES; ++d) {
      ss_adamw_tensor tensors[3];
      for (int64_t t = 0, at = 0; t < 3; at += counts[t++])
        tensors[t] = (ss_adamw_tensor){all[d] + at,
                                       gradient + at,
                                       all[d] + total + at,
                                       all[d] + 2 * total + at,
                                       counts[t],
                                       decays[t],
                                       NULL,
                                       rates[t]};
      double norm_value;
      RUN(devices.device[d], gradient_norm, tensors, 3, &norm_value);
      if (!(fabs(norm_value - sqrt(squares)) <= 1e-12 * norm_value))
        fail_msg("norm %.17g, expected %.17g", norm_value, sqrt(squares));
      RUN(devices.device[d], adamw, tensors, 3, adamw);
      check_close("adamw", all[d], weight, total, 2e-6);
      check_same_bits("adamw", all[d], all[0], 3 * total);
      float kept = gradient[counts[0]];
      gradient[counts[0]] = NAN;
      RUN(devices.device[d], gradient_norm, tensors, 3, &norm_value);
      assert_true(isnan(norm_value));
      gradient[counts[0]] = kept;
    }
    free(gradient);
  }
  for (int d = 0; d < DEVICES; ++d)
    free(all[d]);
  free(start), free(weight), free(m), free(v);
  close_devices(&devices);
}

static void cache_and_memory(void **state) {
  (void)state;
  kernel_devices devices = open_devices();
  ss_device *device = devices.device[1];
  void *memory;
  RUN(device, allocate, &memory, 3 << 20, "a test buffer");
  for (int64_t i = 0; i < 3 << 20; ++i)
    assert_int_equal(((char *)memory)[i], 0);
  memset(memory, 1, 3 << 20);
  RUN(device, zero, memory, (3 << 20) - 5);
  assert_int_equal(((char *)memory)[(3 << 20) - 6], 0);
  assert_int_equal(((char *)memory)[(3 << 20) - 5], 1);
  device->ops->release(device, memory);
  float k[6] = {1, 2, 3, 4, 5, 6}, v[6] = {7, 8, 9, 10, 11, 12}, k_cache[10] = {0}, v_cache[10] = {0};
  int32_t slots[3] = {4, 0, 2};
  RUN(device, cache_append, ss_matrix(k_cache, 5, 2), ss_matrix(v_cache, 5, 2), ss_matrix(k, 3, 2),
      ss_matrix(v, 3, 2), ss_integers(slots, 3));
  const float want_k[10] = {3, 4, 0, 0, 5, 6, 0, 0, 1, 2}, want_v[10] = {9, 10, 0, 0, 11, 12, 0, 0, 7, 8};
  check_same_bits("k cache", k_cache, want_k, 10);
  check_same_bits("v cache", v_cache, want_v, 10);
  slots[1] = 5;
  assert_int_not_equal(device->ops->cache_append(device, ss_matrix(k_cache, 5, 2), ss_matrix(v_cache, 5, 2),
                                                 ss_matrix(k, 3, 2), ss_matrix(v, 3, 2),
                                                 ss_integers(slots, 3)),
                       SS_OK);
  ss_error error = {0};
  ss_device_error(device, &error);
  ss_device *absent;
  ss_error_clear(&error);
  assert_int_equal(ss_device_open(&absent, "abacus", &(ss_device_options){.n_thread = 0}, &error),
                   SS_ERROR_USAGE);
  close_devices(&devices);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(embedding),  cmocka_unit_test(norm),      cmocka_unit_test(norm_narrow),
      cmocka_unit_test(linear),     cmocka_unit_test(rotary),    cmocka_unit_test(activation),
      cmocka_unit_test(classifier), cmocka_unit_test(optimizer), cmocka_unit_test(cache_and_memory),
  };
  RUN_WITH_EVERY_SIMD(tests);
}
