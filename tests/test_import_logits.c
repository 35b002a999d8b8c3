// For tests/peers/hf_logits.py: SELFSPAN_LOGITS="MODEL.h5 TOKENS OUT" writes the model's logits [n, V] (fp32) of the
// int32 tokens in the file TOKENS, under a causal mask; skipped without.
#include "kernels/kernels.h"
#include "model/checkpoint.h"
#include "tests/helpers.h"

static void logits(void **state) {
  (void)state;
  const char *request = getenv("SELFSPAN_LOGITS");
  char model_path[512], tokens_path[512], out_path[512];
  if (request == NULL)
    skip();
  assert_int_equal(sscanf(request, "%511s %511s %511s", model_path, tokens_path, out_path), 3);
  ss_error error = {0};
  const ss_device_options plain = {0};
  ss_device *device = NULL;
  gpt *model = NULL;
  char *bytes = NULL;
  size_t size = 0;
  assert_ok(ss_device_open(&device, "cpu", &plain, &error));
  assert_ok(checkpoint_load_model(model_path, device, false, NULL, &model, NULL, &error));
  assert_ok(ss_read_file(tokens_path, &bytes, &size, &error));
  int64_t n = (int64_t)(size / sizeof(int32_t)), vocabulary = gpt_get_config(model)->vocab_size;
  int32_t *tokens = malloc(size), *positions = malloc(size);
  float *out = malloc((size_t)(n * vocabulary) * sizeof *out);
  memcpy(tokens, bytes, size);
  for (int64_t i = 0; i < n; ++i)
    positions[i] = (int32_t)i;
  const ss_attention_view causal = {.q_first = 0, .n_query = (int32_t)n};
  const gpt_batch batch = {.n_row = n,
                           .tokens = tokens,
                           .positions = positions,
                           .views = &causal,
                           .n_view = 1};
  assert_ok(gpt_forward_logits(model, &batch, out, &error));
  assert_ok(ss_write_file(out_path, out, (size_t)(n * vocabulary) * sizeof *out, &error));
  free(out);
  free(tokens);
  free(positions);
  free(bytes);
  gpt_free(model);
  ss_device_close(device);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(logits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
