// The CUDA device itself: opening, memory, copies, conversions; and the primitives of gpu.cuh, which the emulator must
// do as the hardware does.
#include "tests/cuda_fixture.h"

static void opens_and_closes(void **state) {
  (void)state;
  cuda_fixture f;
  cuda_open(&f, SS_PRECISION_BF16, true);
  print_message("%s\n", f.device[ON_CUDA]->description);
  assert_int_equal(f.compute, SS_BF16);
  cuda_close(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(opens_and_closes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
