#include "commands/device_options.h"

#include <stdio.h>
#include <string.h>

static ss_status choose(const char *option, const char *value, const char *const *names, int n, int *out,
                        ss_error *error) {
  for (*out = 0; *out < n; ++*out)
    if (strcmp(value, names[*out]) == 0)
      return SS_OK;
  const char *nearest = ss_nearest(value, names, n);
  return ss_fail(error, SS_ERROR_USAGE, "--%s %s: unknown%s%s%s", option, value,
                 nearest ? " (did you mean " : "", nearest ? nearest : "", nearest ? "?)" : "");
}

static ss_status resolve(const device_options *options, ss_device_options *out, ss_error *error) {
  static const char *const precisions[] = {"fp32", "tf32", "bf16"};  // as in ss_precision
  static const char *const kernels[] = {"auto", "tiled", "plain", "cudnn"};
  int precision = 0, attention = 0;
  SS_TRY(choose("precision", options->precision, precisions, 3, &precision, error));
  SS_TRY(choose("attention", options->attention, kernels, 4, &attention, error));
  if (options->threads < 0 || options->threads > 1024)
    return ss_fail(error, SS_ERROR_USAGE, "--threads: %lld is out of range [0, 1024]",
                   (long long)options->threads);
  *out = (ss_device_options){(int)options->threads, (ss_precision)precision, options->deterministic,
                             (ss_attention_kernel)attention};
  return SS_OK;
}

ss_status device_options_check(const device_options *options, ss_error *error) {
  ss_device_options resolved;
  return resolve(options, &resolved, error);
}

ss_status device_options_open(ss_device **out, const device_options *options, ss_error *error) {
  ss_device_options resolved;
  *out = NULL;
  SS_TRY(resolve(options, &resolved, error));
  return ss_device_open(out, options->name, &resolved, error);
}

size_t device_say(const ss_device *device) {
  fprintf(stderr, "selfspan: on %s\n", device->description);
  return strlen(device->description);
}

void device_say_more(const ss_device *device, size_t said) {
  const char *gained = ss_device_gained(device, said);
  if (*gained != '\0')
    fprintf(stderr, "selfspan: %s\n", gained);
}
