#!/usr/bin/env bash
# span_core.h and control.h compile as CUDA device code, without warnings.
set -u
name=span_core_cuda
nvcc=${NVCC:-$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null)}
if [ -z "$nvcc" ] || ! "$nvcc" --version >/dev/null 2>&1; then
  echo "skip $name"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/device.cu" <<'CUDA'
#include "span/control.h"
#include "span/span_core.h"

// A tracker in shared memory that takes a sequence and writes what its last query reads: every function is used.
__global__ void track(const int32_t *tokens, int32_t n_token, span_tokens special, span_policy policy,
                      span_segment *segments, int32_t n_segment, int32_t *references, int32_t n_reference,
                      span_range *ranges, span_range *control_ranges, span_view *views, int32_t *out) {
  __shared__ span_tracker tracker;
  if (threadIdx.x != 0)
    return;
  span_tracker_start(&tracker, &special, &policy, 1, 0, 2, 8, segments, n_segment, references, n_reference);
  for (int32_t k = 0; k < n_token; k++) {
    int32_t token = span_corrected(&tracker, tokens[k]);
    out[0] += span_token_allowed(&tracker, token);
    if (span_tracker_push(&tracker, token) != SPAN_PUSH_OK)
      break;
  }
  views[0] = span_tracker_visible(&tracker, ranges);
  views[1] = span_control_visible(SPAN_CONTROL_RANDOM, &views[0], ranges, 4, 2, 1, control_ranges);
  int32_t n_range = 0;
  span_views_of(&policy, &tracker.layout, 0, views + 2, ranges, &n_range);
  out[1] = span_view_rows(&views[0], ranges, tracker.n_row - 1) + span_malformed_total(&tracker.malformed);
}
CUDA
if "$nvcc" -std=c++17 -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror -I. -c "$work/device.cu" -o "$work/device.o" &&
  "$nvcc" -std=c++17 -Werror all-warnings -I. -ptx "$work/device.cu" -o "$work/device.ptx" &&
  grep -q '.entry' "$work/device.ptx"; then
  echo "ok $name"
else
  echo "not ok $name"
  exit 1
fi
