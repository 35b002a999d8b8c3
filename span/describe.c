#include "span/describe.h"

static void write_range(FILE *file, int32_t first, int32_t end, const char *before) {
  if (end - first == 1)
    fprintf(file, "%s%d", before, first);
  else
    fprintf(file, "%s%d-%d", before, first, end - 1);
}

void span_write_rows(FILE *file, const span_view *view, const span_range *ranges, int32_t row) {
  for (int32_t k = 0; k < view->n_range; k++) {
    const span_range *range = &ranges[view->range_first + k];
    write_range(file, range->first, range->end, k > 0 ? " " : "");
  }
  if (view->self_first <= row)
    write_range(file, view->self_first, row + 1, view->n_range > 0 ? " " : "");
}

static const char *name_of(const char *const *names, int32_t n, int32_t k) {
  return k >= 0 && k < n ? names[k] : "unknown";
}

const char *span_kind_name(int32_t kind) {
  static const char *const names[] = {"context", "step", "answer", "end"};
  return name_of(names, 4, kind);
}

const char *span_choose_name(int32_t choose) {
  static const char *const names[] = {"all", "index", "anchors", "open"};
  return name_of(names, 4, choose);
}

const char *span_context_name(int32_t context) {
  static const char *const names[] = {"causal", "local"};
  return name_of(names, 2, context);
}

void span_write_policy(FILE *file, const span_policy *policy) {
  if (policy->mask == SPAN_MASK_NONE) {
    fprintf(file, "no mask");
    return;
  }
  fprintf(file, "choose=%s pin=%s context=%s body_sees_header=%s", span_choose_name(policy->choose),
          policy->pin ? "all" : "none", span_context_name(policy->context),
          policy->body_sees_header ? "yes" : "no");
  if (policy->lead > 0)
    fprintf(file, " lead=%d", policy->lead);
  if (policy->recent > 0)
    fprintf(file, " recent=%d", policy->recent);
}
