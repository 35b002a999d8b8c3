#include "tests/late_device.h"

#include "tests/helpers.h"

#define UNDER_WAY 16

typedef struct {
  void *host, *copy;
  size_t bytes;
} late_copy;

// The ops table has no room for a user pointer.
static const ss_ops *true_ops;
static ss_ops ops;
static late_copy copies[UNDER_WAY];
static int n_copy;
static size_t free_bytes, last_allocation;

static ss_status download_async(ss_device *device, void *host, const void *data, size_t bytes) {
  (void)device;
  assert_true(n_copy < UNDER_WAY);
  late_copy *copy = &copies[n_copy++];
  *copy = (late_copy){host, malloc(bytes + 1), bytes};
  assert_non_null(copy->copy);
  memcpy(copy->copy, data, bytes);
  memset(host, 0xff, bytes);  // NaN
  return SS_OK;
}

static ss_status synchronize(ss_device *device) {
  for (int k = 0; k < n_copy; k++) {
    memcpy(copies[k].host, copies[k].copy, copies[k].bytes);
    free(copies[k].copy);
  }
  n_copy = 0;
  return true_ops->synchronize(device);
}

static ss_status memory_free(ss_device *device, size_t *free_out, size_t *total) {
  (void)device;
  *free_out = *total = free_bytes;
  return SS_OK;
}

static ss_status allocate(ss_device *device, void **data, size_t bytes, const char *what) {
  last_allocation = bytes;
  return true_ops->allocate(device, data, bytes, what);
}

void late_device_begin(ss_device *device) {
  true_ops = device->ops;
  ops = *true_ops;
  ops.download_async = download_async;
  ops.synchronize = synchronize;
  ops.memory_free = memory_free;
  ops.allocate = allocate;
  device->ops = &ops;
  device->synchronous = false;
  n_copy = 0;
  free_bytes = (size_t)8 << 30;
}

void late_device_end(ss_device *device) {
  assert_int_equal(n_copy, 0);
  device->ops = true_ops;
  device->synchronous = true;
}

void late_device_set_free(size_t bytes) {
  free_bytes = bytes;
}

size_t late_device_last_allocation(void) {
  return last_allocation;
}
