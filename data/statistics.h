// What a dataset card says about a split: counts over all examples, and the rows that decoding would read under
// each arm and policy, over the first STATISTICS_SAMPLE examples.
#ifndef SELFSPAN_DATA_STATISTICS_H
#define SELFSPAN_DATA_STATISTICS_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"
#include "data/render.h"

#define STATISTICS_MOST_STEPS 64  // histogram entries 0 .. 64, and one for more
#define STATISTICS_SAMPLE 1000
#define STATISTICS_N_POLICY 9  // no mask with and without headers, then choose x pin, without all/all

typedef struct {
  int64_t examples;
  int64_t segments[SPAN_END + 1];  // by kind
  int64_t references;
  int64_t annotated_tokens, dense_tokens;        // whole examples
  int64_t annotated_generated, dense_generated;  // tokens after the prompt
  int64_t longest_annotated, longest_dense, most_segments, longest_header;
  int64_t by_steps[STATISTICS_MOST_STEPS + 2];
  int64_t sampled;
  int64_t rows[STATISTICS_N_POLICY];  // of the queries that write the generated tokens
} dataset_statistics;

// Counts one example, given as its annotated rendering.
ss_status statistics_add(dataset_statistics *statistics, const rendering *annotated,
                         const vocabulary *vocabulary, ss_error *error);

// The name of policy k: "dense", "annotated", "span choose=index pin=none", ...
const char *statistics_policy_name(int32_t k);

// The statistics as a JSON object; the caller owns it. NULL when memory is out.
json_t *statistics_json(const dataset_statistics *statistics);

// Sum of |V(i)| over the queries that write the generated tokens: from the prompt's last one to the one before <eos>.
ss_status statistics_decoded_rows(const rendering *rendering, const span_policy *policy, int64_t *rows,
                                  ss_error *error);

#endif
