// Exporting to Hugging Face: which models neither GPT-2 nor Llama is. (What is written is read back in test_import.c.)
#include "model/export.h"
#include "tests/helpers.h"

static void export_refused(void **state) {
  (void)state;
  ss_error error = {0};
  const char *architecture = NULL;
  gpt_config config = {.n_head = 4,
                       .n_kv_head = 2,
                       .norm = SS_NORM_LAYER,
                       .position = GPT_POSITION_LEARNED,
                       .activation = SS_ACTIVATION_GELU,
                       .bias = true};
  assert_refused(export_architecture(&config, &architecture, &error), SS_ERROR_INPUT,
                 "2 KV heads of 4: neither");
  config.n_kv_head = 4;
  assert_ok(export_architecture(&config, &architecture, &error));
  config.position = GPT_POSITION_ROTARY;
  assert_refused(export_architecture(&config, &architecture, &error), SS_ERROR_INPUT,
                 "rotary positions, GELU");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(export_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
