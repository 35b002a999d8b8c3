// OpenBLAS chooses its kernels when it is loaded, by a list of processor models. A processor that the list lacks gets
// those of 2004 (Prescott, SSE3): a third of the speed of its AVX-512 ones, or less.
#ifndef SELFSPAN_COMMANDS_OPENBLAS_CORE_H
#define SELFSPAN_COMMANDS_OPENBLAS_CORE_H

#include <stdbool.h>

// The core whose kernels OpenBLAS should have taken instead of `core`'s on a CPU that has AVX2 and FMA, or AVX-512 too
// (F, CD, BW, DQ, VL); NULL when `core` is as good as what would be asked for.
const char *openblas_better_core(const char *core, bool avx2, bool avx512);

// Starts the program again with OPENBLAS_CORETYPE set when OpenBLAS took kernels that are older than the CPU; at most
// once, and not when the user has set that variable. Call it before anything is opened or started. Returns when there is
// nothing to do or nothing can be done; says on stderr what it does.
void openblas_core_correct(char **argv);

#endif
