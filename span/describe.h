// What queries may read, as text: for inspection, reports and the golden file.
#ifndef SELFSPAN_SPAN_DESCRIBE_H
#define SELFSPAN_SPAN_DESCRIBE_H

#include <stdio.h>

#include "span/span_core.h"

// Writes the rows that the query at `row` reads under `view`, itself included: "0-1 15 22-24".
void span_write_rows(FILE *file, const span_view *view, const span_range *ranges, int32_t row);

// Names as the configuration writes them.
const char *span_kind_name(int32_t kind);        // context, step, answer, end
const char *span_choose_name(int32_t choose);    // all, index, anchors, open
const char *span_context_name(int32_t context);  // causal, local

// "choose=index pin=none context=causal body_sees_header=yes", or "no mask".
void span_write_policy(FILE *file, const span_policy *policy);

#endif
