// A CPU device that behaves as one working on its own: what download_async copies arrives at the next synchronize, and
// until then the host sees garbage. One at a time.
#ifndef SELFSPAN_TESTS_LATE_DEVICE_H
#define SELFSPAN_TESTS_LATE_DEVICE_H

#include "kernels/kernels.h"

// Changes an open device; its ops from before go on working below.
void late_device_begin(ss_device *device);
// Gives the device its own ops back. Nothing may be on its way.
void late_device_end(ss_device *device);
// The free memory that the device reports from now on.
void late_device_set_free(size_t bytes);
// Bytes of the newest allocation on the device.
size_t late_device_last_allocation(void);

#endif
