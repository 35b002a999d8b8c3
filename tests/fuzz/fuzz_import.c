// Importing models: "GGUF..." as such a file; otherwise config.json up to the first zero, then safetensors. What opens is
// read into a model, unless positions alone make it large.
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "model/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static ss_status open_input(model_import **out, const uint8_t *data, size_t n, ss_error *error) {
  if (n >= 4 && memcmp(data, "GGUF", 4) == 0)
    return import_open_memory(out, "input.gguf", NULL, data, n, error);
  const uint8_t *zero = n > 0 ? memchr(data, 0, n) : NULL;
  size_t n_config = zero == NULL ? n : (size_t)(zero - data);
  char *config = malloc(n_config + 1);
  memcpy(config, data, n_config);
  config[n_config] = '\0';
  size_t first = zero == NULL ? n : n_config + 1;
  ss_status status = import_open_memory(out, "input", config, data + first, n - first, error);
  free(config);
  return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static const ss_device_options plain = {.n_thread = 1};
  static const int64_t like[] = {0, -1, -1};
  ss_error error = {0};
  model_import *import = NULL;
  ss_device *device = NULL;
  gpt *model = NULL;
  if (n == 0 || open_input(&import, data, n, &error) != SS_OK)
    return 0;
  const gpt_config *config = &import_get_about(import)->model;
  const import_options options = {.vocab_size = config->vocab_size + 3,
                                  .like = like,
                                  .deviation = IMPORT_DEFAULT_DEVIATION,
                                  .seed = 1};
  if (ss_device_open(&device, "cpu", &plain, &error) == SS_OK) {
    if (import_model(import, device, &options, &model, &error) == SS_OK)
      gpt_free(model);
    ss_device_close(device);
  }
  import_close(import);
  return 0;
}
