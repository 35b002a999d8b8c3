// The CPU's side of kernels/cuda/gpu.cuh: what kernels and the backend's host code use of CUDA. See README.md.
#ifndef SELFSPAN_TESTS_EMULATOR_EMULATOR_H
#define SELFSPAN_TESTS_EMULATOR_EMULATOR_H

#include "tests/emulator/runtime.h"

#ifdef __cplusplus
#include "tests/emulator/primitives.h"
#endif

#endif
