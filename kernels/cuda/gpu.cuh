// What the kernels use of the GPU, under names of our own: launches, warp and tensor-core primitives, asynchronous
// copies, bf16. Compiled by nvcc; with SS_EMULATE by a C++ compiler against tests/emulator, which runs every kernel
// on the CPU (threads as fibers), so that they are tested where there is no GPU. Kernels use these names only:
// no inline PTX and no <<<>>> elsewhere.
#ifndef SELFSPAN_KERNELS_CUDA_GPU_CUH
#define SELFSPAN_KERNELS_CUDA_GPU_CUH

#include <stdint.h>

#ifdef SS_EMULATE
#include "tests/emulator/emulator.h"
#else
#include <cuda_runtime.h>
#ifdef __CUDACC__
#include "kernels/cuda/gpu_primitives.cuh"
#endif
#endif

#endif
