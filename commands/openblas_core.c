#include "commands/openblas_core.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"

#define CHOICE "OPENBLAS_CORETYPE"
#define RESTARTED "SELFSPAN_OPENBLAS_RESTARTED"  // against a loop: OpenBLAS may not have what was asked for

const char *openblas_better_core(const char *core, bool avx2, bool avx512) {
  // Without AVX2 kernels. Names that are not here may be newer than this list.
  static const char *const old[] = {"Prescott",  "Core2",  "Penryn",      "Dunnington", "Nehalem",
                                    "Atom",      "Nano",   "Sandybridge", "Athlon",     "Opteron",
                                    "Barcelona", "Bobcat", "Bulldozer",   "Piledriver", "Steamroller",
                                    "Katmai",    "Banias", "Opteron_SSE3"};
  for (size_t i = 0; i < sizeof old / sizeof *old; i++)
    if (avx2 && strcmp(core, old[i]) == 0)
      return avx512 ? "SkylakeX" : "Haswell";
  return NULL;
}

static const char *better_core(const char *core) {
  const cpu_simd *list[CPU_SIMDS];
  bool avx2 = cpu_list_simd(list) > 1, avx512 = false;
#ifdef CPU_SIMD_X86
  // Our own loops do without CD, OpenBLAS's may use it.
  avx512 = list[0] == &cpu_simd_avx512 && __builtin_cpu_supports("avx512cd");
#endif
  return openblas_better_core(core, avx2, avx512);
}

void openblas_core_correct(char **argv) {
  const char *core = openblas_get_corename(), *better = better_core(core);
  if (getenv(RESTARTED) != NULL) {
    if (better != NULL)
      fprintf(stderr,
              "selfspan: warning: OpenBLAS has no kernels but %s's for this CPU: matrix products are slow\n",
              core);
    // OpenBLAS has read it; programs that we start shall find what the user had set.
    unsetenv(CHOICE);
    unsetenv(RESTARTED);
    return;
  }
  // A library for one processor has nothing to choose from.
  if (better == NULL || getenv(CHOICE) != NULL || strstr(openblas_get_config(), "DYNAMIC_ARCH") == NULL)
    return;
  fflush(NULL);
  if (setenv(CHOICE, better, 1) == 0 && setenv(RESTARTED, "1", 1) == 0) {
    fprintf(stderr, "selfspan: OpenBLAS took %s's kernels for this CPU; starting again with %s's\n", core,
            better);
    execv("/proc/self/exe", argv);
  }
  unsetenv(CHOICE);
  unsetenv(RESTARTED);
  fprintf(stderr,
          "selfspan: warning: cannot start again; matrix products are slow (" CHOICE "=%s in the environment "
          "helps)\n",
          better);
}
