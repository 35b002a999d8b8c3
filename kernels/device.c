// Opening a backend by name. The CPU backend is always built; CUDA registers through ss_cuda_device_open
// when the build defines SS_WITH_CUDA.
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/kernels.h"

#ifdef SS_WITH_CUDA
ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error);
#else
static ss_status ss_cuda_device_open(ss_device **out, const ss_device_options *options, ss_error *error) {
  (void)out, (void)options;
  return ss_fail(error, SS_ERROR_DEVICE,
                 "device cuda: this selfspan was built without CUDA (expected device cpu)");
}
#endif

ss_status ss_device_open(ss_device **out, const char *name, const ss_device_options *options,
                         ss_error *error) {
  *out = NULL;
  if (strcmp(name, "cpu") == 0)
    return ss_cpu_device_open(out, options->n_thread, error);
  if (strcmp(name, "cuda") == 0)
    return ss_cuda_device_open(out, options, error);
  return ss_fail(error, SS_ERROR_USAGE, "device %s: unknown (expected cpu or cuda)", name);
}

void ss_device_close(ss_device *device) {
  if (device)
    device->ops->destroy(device);
}

const char *ss_device_gained(const ss_device *device, size_t said) {
  const char *gained = device->description + said;
  return strncmp(gained, ", ", 2) == 0 ? gained + 2 : gained;
}

ss_status ss_device_error(ss_device *device, ss_error *error) {
  ss_status status = device->error.status;
  if (status == SS_OK)
    status = ss_fail(error, SS_ERROR_INTERNAL, "device %s: an op failed without a message",
                     device->ops->name);
  else
    status = ss_fail(error, status, "%s", device->error.message);
  ss_error_clear(&device->error);
  return status;
}
