// Launchers of cuda_kernels.cu. All addresses are the device's.
#ifndef SELFSPAN_TESTS_CUDA_KERNELS_H
#define SELFSPAN_TESTS_CUDA_KERNELS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *cuda_stream;

typedef enum {
  DEFECT_NO_BARRIER,  // wrong numbers; the others stop the program
  DEFECT_DIVERGED_BARRIER,
  DEFECT_RETURNED_LANE,
  DEFECT_OTHER_OPERATION,
  DEFECT_WRITE_BEYOND,
  DEFECT_READ_BEYOND,
  DEFECT_MISALIGNED_COPY,
  DEFECT_COPY_FROM_NOWHERE,
  DEFECT_COPY_TO_GLOBAL
} test_defect_kind;

void test_mma(cuda_stream stream, float *d, const void *a, const void *b);
void test_tiles(cuda_stream stream, float *d, const void *a, const void *b, int n_block, bool transposed);
void test_warps(cuda_stream stream, float *out, const float *in, int n);
void test_blocks(cuda_stream stream, float *out, const float *in, int n_block);
void test_copies(cuda_stream stream, void *out, const void *in, bool look_early);
void test_defect(cuda_stream stream, float *out, test_defect_kind kind);
bool test_indices(cuda_stream stream, float *out, bool allow);

#ifdef __cplusplus
}
#endif

#endif
