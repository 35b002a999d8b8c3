// The least time that decoding can take on a device: an arm's ceiling, from what it read and the device's measured rates.
#ifndef SELFSPAN_COMMANDS_DECODE_FLOOR_H
#define SELFSPAN_COMMANDS_DECODE_FLOOR_H

#include "commands/bench.h"
#include "infer/decoder.h"
#include "model/gpt.h"

// What every arm's step over `batch` sequences has in common.
typedef struct {
  double weight_bytes, weight_flops;  // read once; of all sequences' products
  double logit_bytes;                 // written
  double kv_row_bytes;                // K and V of a row, all layers
  double attention_flops;             // of a key row, all layers
} decode_costs;

// Matrix products read every parameter but the table of positions once; the tied embedding is the classifier's matrix.
decode_costs decode_count_costs(const gpt *model, int64_t batch);

typedef struct {
  double bytes, flops;  // of the decoding steps
  double decode_seconds, prefill_seconds;
  double examples_per_second;
  bool by_copies;  // reading takes longer than computing
} decode_floor;

// Every decoding step with full slots reads the weights and its rows and writes its logits, at the rate of copies, or
// takes its FLOPs at that of products; prompts take their FLOPs. Steps are tokens over slots: what idle slots at the
// end cost is not in it. The last rows of prompts count as decoding, as in the statistics.
decode_floor decode_floor_of(const gpt *model, int64_t batch, const decode_statistics *statistics,
                             const bench_ceiling *rates);

#endif
