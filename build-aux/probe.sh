#!/usr/bin/env bash
# Finds what the build needs by compiling and linking a call into each library, and writes make variables.
#   probe.sh CONFIG_MK       writes the file, prints a summary
#   probe.sh --missing       prints the names of what is missing, nothing else
# Reads CC, NVCC (path or empty), PROBE_KEY.
set -u
output=$1
CC=${CC:-cc}
NVCC=${NVCC:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missing= missing_test= includes= libs= test_libs= summary=

note() { summary+=$(printf '  %s %-10s %s' "$1" "$2" "$3")$'\n'; }

# try HEADER CALL FLAGS...: does a program that includes HEADER and evaluates CALL link?
try() {
  local header=$1 call=$2
  shift 2
  printf '#include <stddef.h>\n#include <stdint.h>\n#include <stdarg.h>\n#include <setjmp.h>\n#include <stdio.h>\n%s\nint main(void) { %s; return 0; }\n' \
    "${header:+#include <$header>}" "$call" >"$work/try.c"
  # pcre2.h wants the width, other headers ignore it.
  # shellcheck disable=SC2086
  $CC -std=c11 -D_DEFAULT_SOURCE -DPCRE2_CODE_UNIT_WIDTH=8 $(printf '%s\n' "$@" | grep -v '^-l\|^-L\|^-Wl\|\.so$\|\.a$' | xargs) "$work/try.c" -o "$work/try" \
    $(printf '%s\n' "$@" | grep '^-l\|^-L\|^-Wl\|\.so$\|\.a$' | xargs) >"$work/log" 2>&1
}

package_flags() { command -v pkg-config >/dev/null && pkg-config --silence-errors --cflags --libs "$1"; }
package_version() { command -v pkg-config >/dev/null && pkg-config --silence-errors --modversion "$1"; }

# accept NAME VERSION KIND FLAGS...: records what a successful try used.
accept() {
  local name=$1 version=$2 kind=$3 flag
  shift 3
  for flag in "$@"; do
    case $flag in
    -I* | -D*) includes+=" $flag" ;;
    *) if [ "$kind" = test ]; then test_libs+=" $flag"; else libs+=" $flag"; fi ;;
    esac
  done
  note ✓ "$name" "$version"
}

# library NAME KIND HEADER CALL FALLBACK_FLAGS PKG_CONFIG_NAMES...
library() {
  local name=$1 kind=$2 header=$3 call=$4 fallback=$5 package flags
  shift 5
  for package in "$@"; do
    if flags=$(package_flags "$package") && [ -n "$flags" ] && try "$header" "$call" $flags; then
      accept "$name" "$(package_version "$package")" "$kind" $flags
      return
    fi
  done
  if [ "$name" = HDF5 ] && command -v h5cc >/dev/null; then
    # The wrapper prints a whole compiler command; keep the parts that say where HDF5 is.
    flags=$(h5cc -show 2>/dev/null | tr ' ' '\n' | grep '^-I\|^-L\|^-l\|\.so$\|\.a$' | xargs)
    if [ -n "$flags" ] && try "$header" "$call" $flags; then
      accept "$name" "(h5cc)" "$kind" $flags
      return
    fi
  fi
  if try "$header" "$call" $fallback; then
    accept "$name" "" "$kind" $fallback
    return
  fi
  note ✗ "$name" "not found"
  if [ "$kind" = test ]; then missing_test+=" $name"; else missing+=" $name"; fi
}

if command -v "${CC%% *}" >/dev/null && try "" "" ; then
  note ✓ compiler "$($CC --version 2>/dev/null | head -n 1)"
  if try omp.h "return omp_get_max_threads() == 0" -fopenmp; then
    note ✓ OpenMP ""
  else
    note ✗ OpenMP "not found"
    missing+=" OpenMP"
  fi
  library OpenBLAS build cblas.h "openblas_set_num_threads(1)" "-I/usr/include/openblas -lopenblas" openblas
  library HDF5 build hdf5.h "H5open()" "-lhdf5" hdf5 hdf5-serial
  library libyaml build yaml.h "yaml_get_version_string()" "-lyaml" yaml-0.1
  library GMP build gmp.h "mpq_t q; mpq_init(q)" "-lgmp" gmp
  library xxHash build xxhash.h "XXH3_128bits_digest(XXH3_createState())" "-lxxhash" libxxhash
  library jansson build jansson.h 'json_stringn("", 0)' "-ljansson" jansson
  library zlib build zlib.h "zlibVersion()" "-lz" zlib
  library PCRE2 build pcre2.h "pcre2_match_data_create(1, NULL)" "-lpcre2-8" libpcre2-8
  library ICU build unicode/ubrk.h 'UErrorCode e = U_ZERO_ERROR; ubrk_open(UBRK_SENTENCE, "en", NULL, 0, &e)' "-licuuc -licudata" icu-uc
  library cmocka test cmocka.h "cmocka_set_message_output(CM_OUTPUT_STDOUT)" "-lcmocka" cmocka
else
  note ✗ compiler "$CC does not work"
  missing=" compiler OpenMP OpenBLAS HDF5 libyaml GMP xxHash jansson zlib PCRE2 ICU"
  missing_test=" cmocka"
fi

if [ "$output" = --missing ]; then
  echo $missing $missing_test
  exit 0
fi

gencode= cudnn= cxx=
echo 'template <typename type> int main_of(type x) { if constexpr (sizeof(type) == 4) return x; return 1; } int main() { return main_of(0); }' >"$work/try.cpp"
for candidate in ${CXX:-} g++ c++; do
  if $candidate -std=c++17 "$work/try.cpp" -o "$work/try" -lstdc++ >"$work/log" 2>&1 && "$work/try"; then
    cxx=$candidate
    break
  fi
done
if [ -n "$cxx" ]; then
  note ✓ C++ "$($cxx --version 2>/dev/null | head -n 1): tests of the CUDA kernels on an emulator"
else
  note - C++ "not found: no tests of the CUDA kernels on an emulator"
fi
if [ -n "$NVCC" ]; then
  known=$("$NVCC" --list-gpu-code 2>/dev/null)
  for arch in 80 89 90a; do
    # sm_90a is not always in the list, though every compiler that knows sm_90 since 12.0 takes it.
    grep -qx "sm_${arch%a}" <<<"$known" && gencode+=" -gencode arch=compute_$arch,code=sm_$arch"
  done
  # Newer GPUs translate this when they first load it.
  [ -n "$gencode" ] && gencode+=" -gencode arch=compute_80,code=compute_80"
  home=${NVCC%/bin/nvcc}
  if try cudnn.h "return (int)cudnnGetVersion() == 0" -I"$home/include" -L"$home/lib64" -Wl,-rpath,"$home/lib64" -lcudnn; then
    cudnn=-lcudnn
  fi
  note ✓ CUDA "$("$NVCC" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'), $NVCC${cudnn:+, cuDNN}"
else
  note - CUDA "no nvcc: CPU only"
fi

{
  echo "# Written by build-aux/probe.sh; delete to look again."
  echo "SS_PROBE_KEY := ${PROBE_KEY:-}"
  echo "SS_MISSING := ${missing# }"
  echo "SS_MISSING_TEST := ${missing_test# }"
  echo "SS_INCLUDES :=$(printf '%s\n' $includes | awk '!seen[$0]++ { printf " %s", $0 }')"
  echo "SS_LIBS :=$libs"
  echo "SS_TEST_LIBS :=$test_libs"
  echo "SS_NVCC := $NVCC"
  echo "SS_CUDA_HOME := ${NVCC%/bin/nvcc}"
  echo "SS_GENCODE :=$gencode"
  echo "SS_CUDNN := $cudnn"
  echo "SS_CXX := $cxx"
} >"$work/config.mk"
# In one step: another make may be reading it.
cp "$work/config.mk" "$output.$$" && mv "$output.$$" "$output" || exit 1
printf '%s' "$summary"
