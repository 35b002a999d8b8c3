// Graphs: recorded ops follow their inputs, what cannot be recorded is refused, and the device works on afterwards.
#include "tests/cuda_fixture.h"

#include "kernels/cuda/cuda.h"

enum { ROWS = 5, IN = 24, OUT = 40 };

typedef struct {
  cuda_pair x, weight, out, act, copy;
} chain;

static chain make_chain(cuda_fixture *f) {
  chain c;
  c.x = cuda_random(f, "x", ROWS, IN, f->compute, 1);
  c.weight = cuda_random(f, "weight", OUT, IN, f->compute, 0.3);
  c.out = cuda_output(f, "out", ROWS, OUT, f->compute);
  c.act = cuda_output(f, "activation", ROWS, OUT, f->compute);
  c.copy = cuda_output(f, "copy", ROWS, OUT, SS_F32);
  return c;
}

// A product of the library, kernels with strides and pointers of their own, a memset and a copy.
static void run_chain(cuda_fixture *f, int d, const chain *c) {
  CUDA_RUN(f, d, linear_forward, c->out.on[d], c->x.on[d], c->weight.on[d], cuda_none().on[d]);
  CUDA_RUN(f, d, activation_forward, SS_ACTIVATION_GELU, c->act.on[d], c->out.on[d]);
  CUDA_RUN(f, d, convert, c->copy.on[d], c->act.on[d]);
  CUDA_RUN(f, d, zero, c->out.on[d].data, (size_t)(ROWS * OUT) * ss_dtype_size(c->out.on[d].dtype));
}

static void begin(cuda_fixture *f) {
  ss_device *device = f->device[ON_CUDA];
  if (device->ops->graph_begin(device) != SS_OK)
    fail_msg("graph_begin: %s (%s)", device->error.message, f->context);
}

static void new_input(cuda_fixture *f, const chain *c) {
  float values[ROWS * IN];
  for (int i = 0; i < ROWS * IN; ++i)
    values[i] = cuda_round_bf16((float)ss_random_normal(&f->random));
  for (int d = 0; d < 2; ++d)
    cuda_upload_floats(f, d, c->x.on[d], values);
}

static void follows_its_inputs(void **state) {
  (void)state;
  for (int precision = SS_PRECISION_FP32; precision <= SS_PRECISION_BF16; ++precision) {
    cuda_fixture f;
    cuda_open(&f, (ss_precision)precision, true);
    ss_device *device = f.device[ON_CUDA];
    chain c = make_chain(&f);
    run_chain(&f, ON_CUDA, &c);  // once before: the library chooses its algorithms
    cuda_poison(&f, c.copy);
    ss_graph *graph = NULL;
    begin(&f);
    run_chain(&f, ON_CUDA, &c);
    CUDA_RUN(&f, ON_CUDA, graph_end, &graph);
    assert_true(device->ops->graph_valid(device, graph));
    // Recorded, not run.
    float *before = cuda_download_floats(&f, ON_CUDA, c.copy.on[ON_CUDA]);
    for (int i = 0; i < ROWS * OUT; ++i)
      assert_true(before[i] != before[i]);
    free(before);
    for (int run = 0; run < 3; ++run) {
      cuda_context(&f, "precision %d, launch %d", precision, run);
      new_input(&f, &c);
      run_chain(&f, ON_CPU, &c);
      CUDA_RUN(&f, ON_CUDA, graph_launch, graph);
      cuda_check(&f, c.copy,
                 precision == SS_PRECISION_BF16   ? 1e-3
                 : precision == SS_PRECISION_TF32 ? 1e-5
                                                  : 1e-6);
      cuda_check(&f, c.out, 0);
    }
    device->ops->graph_free(device, graph);
    device->ops->graph_free(device, NULL);
    cuda_close(&f);
  }
}

// An op that waits, allocates or times something between begin and end: refused by name, and so is the end.
static void refuses(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *device = f.device[ON_CUDA];
  chain c = make_chain(&f);
  run_chain(&f, ON_CUDA, &c);
  void *data = NULL;
  ss_graph *graph = NULL;
  float values[4] = {0};
  double seconds = 0;
  CUDA_RUN(&f, ON_CUDA, stamp, 0);
  CUDA_RUN(&f, ON_CUDA, stamp, 1);
  CUDA_REFUSED(&f, graph_end, &graph);
  enum { N_REFUSED = 10 };
  for (int what = 0; what < N_REFUSED; ++what) {
    cuda_context(&f, "refusal %d", what);
    begin(&f);
    run_chain(&f, ON_CUDA, &c);
    ss_status status = SS_OK;
    switch (what) {
    case 0:
      status = device->ops->upload(device, c.copy.on[ON_CUDA].data, values, sizeof values);
      break;
    case 1:
      status = device->ops->download(device, values, c.copy.on[ON_CUDA].data, sizeof values);
      break;
    case 2:
      status = device->ops->synchronize(device);
      break;
    case 3:
      status = device->ops->allocate(device, &data, 64, "what cannot be");
      break;
    case 4:
      status = device->ops->allocate_host(device, &data, 64, "what cannot be");
      break;
    case 5:
      status = device->ops->stamp(device, 0);
      break;
    case 6:
      status = device->ops->stamp_seconds(device, 0, 1, &seconds);
      break;
    case 7:
      status = device->ops->graph_begin(device);
      break;
    case 8:
      status = device->ops->graph_launch(device, NULL);
      break;
    default:
      status = cuda_scratch(device, CUDA_SCRATCH_INNER, &data, (size_t)64 << 20);
    }
    if (status == SS_OK || !strstr(device->error.message, "cannot be recorded"))
      fail_msg("refusal %d: status %d, \"%s\"", what, status, device->error.message);
    ss_error_clear(&device->error);
    run_chain(&f, ON_CUDA, &c);
    CUDA_REFUSED(&f, graph_end, &graph);
    assert_null(graph);
    new_input(&f, &c);
    for (int d = 0; d < 2; ++d)
      run_chain(&f, d, &c);
    cuda_check(&f, c.copy, 1e-3);
  }
  CUDA_REFUSED(&f, graph_launch, NULL);
  // A recording that was refused leaves nothing behind: the next one is whole.
  begin(&f);
  run_chain(&f, ON_CUDA, &c);
  CUDA_RUN(&f, ON_CUDA, graph_end, &graph);
  device->ops->graph_free(device, graph);
  cuda_close(&f);
  // A device may go in the middle of one.
  cuda_open(&f, SS_PRECISION_BF16, true);
  begin(&f);
  cuda_close(&f);
}

static void knows_when_memory_moved(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  ss_device *device = f.device[ON_CUDA];
  chain c = make_chain(&f);
  void *scratch = NULL;
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch, 1000), SS_OK);
  run_chain(&f, ON_CUDA, &c);
  ss_graph *graph = NULL;
  begin(&f);
  run_chain(&f, ON_CUDA, &c);
  // Enough is there already: nothing moves.
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch, 1000), SS_OK);
  CUDA_RUN(&f, ON_CUDA, graph_end, &graph);
  assert_true(device->ops->graph_valid(device, graph));
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch, 2000), SS_OK);
  assert_true(device->ops->graph_valid(device, graph));
  assert_int_equal(cuda_scratch(device, CUDA_SCRATCH_OUTER, &scratch, (size_t)32 << 20), SS_OK);
  assert_false(device->ops->graph_valid(device, graph));
  CUDA_REFUSED(&f, graph_launch, graph);
  device->ops->graph_free(device, graph);
  assert_false(device->ops->graph_valid(device, NULL));
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(follows_its_inputs),
      cmocka_unit_test(refuses),
      cmocka_unit_test(knows_when_memory_moved),
  };
  return cmocka_run_group_tests_name("cuda graph", tests, NULL, NULL);
}
