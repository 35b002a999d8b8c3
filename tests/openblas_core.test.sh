#!/usr/bin/env bash
# Where OpenBLAS takes kernels older than the CPU, selfspan starts again and asks for better ones. A preloaded library
# plays such an OpenBLAS.
. "$(dirname "$0")/shell_checks.sh"

cat >wrong.c <<'C'
#include <stdlib.h>
#include <string.h>
static char core[32] = "Prescott";
__attribute__((constructor)) static void read_choice(void) {
  const char *choice = getenv("OPENBLAS_CORETYPE");
  if (choice != NULL && getenv("NEVER_BETTER") == NULL)
    strncpy(core, choice, sizeof core - 1);
}
char *openblas_get_corename(void) { return core; }
C
small=(bench train --set model.n_layer=1 --set model.n_embd=32 --set model.n_head=2 --set model.vocab_size=64 --rows 1
  --row-tokens 8 --repeats 2 --warmup 1)
unset OPENBLAS_CORETYPE

# said NAME PATTERN COUNT: so many lines of the last run's stderr match.
said() {
  local count
  count=$(grep -c -- "$2" err)
  if [ "$count" -eq "$3" ]; then ok "$1"; else not_ok "$1: $count lines with '$2', expected $3"; fi
}

check as-it-is "$selfspan" "${small[@]}"
if [ -n "${SELFSPAN_TEST_SANITIZED:-}" ]; then
  echo "skip preload: the sanitizer's library must come first"
elif ! grep -q avx2 /proc/cpuinfo 2>/dev/null; then
  echo "skip preload: no AVX2"
elif ! ${CC:-cc} -shared -fPIC -o wrong.so wrong.c 2>err ||
  ! env LD_PRELOAD="$work/wrong.so" "$selfspan" version 2>err | grep -q 'openblas_core *Prescott'; then
  echo "skip preload: does not work here"
else
  check restarts env LD_PRELOAD="$work/wrong.so" "$selfspan" "${small[@]}"
  said restarts-once "Prescott's kernels for this CPU; starting again" 1
  if grep -q 'OpenBLAS \(SkylakeX\|Haswell\)' out; then ok better-core; else not_ok better-core; fi
  check no-loop env LD_PRELOAD="$work/wrong.so" NEVER_BETTER=1 "$selfspan" "${small[@]}"
  said no-loop-says-once "starting again" 1
  said no-loop-warns "warning: OpenBLAS has no kernels but" 1
  check choice-of-the-user env LD_PRELOAD="$work/wrong.so" NEVER_BETTER=1 OPENBLAS_CORETYPE=Nehalem "$selfspan" \
    "${small[@]}"
  said choice-is-kept "selfspan:" 0
  check not-for-help env LD_PRELOAD="$work/wrong.so" "$selfspan" help
  said help-is-quiet "selfspan:" 0
fi
