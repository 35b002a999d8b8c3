// Sequences on the device (ss_sequence_ops of kernels.h): shared by sequences.cu, which starts them and reads them,
// sequences_advance.cu, which advances and plans them, and sample.cu, which chooses their tokens.
#ifndef SELFSPAN_KERNELS_CUDA_SEQUENCES_H
#define SELFSPAN_KERNELS_CUDA_SEQUENCES_H

#include "kernels/cuda/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ss_sequences {
  ss_sequences_options options;
  // On the device, one of each a slot.
  span_sequence *sequences;  // pointers inside are device addresses
  ss_random *randoms;
  uint64_t *control_seeds;
  int32_t *chosen;                 // the token that choose left for advance
  double *chosen_log_probability;  // 0 where gold forced it

  // sequences.cu: what the sequences' pointers point to, on the device.
  int32_t *texts;             // [n_slot, 2, slot_rows] tokens; attended rows by generated token
  int32_t *gold;              // [n_slot, slot_rows]
  unsigned char *segments;    // [n_slot, segment_bytes], pieces of 16 bytes
  unsigned char *references;  // [n_slot, reference_bytes]
  int64_t segment_bytes, reference_bytes;
  // A step's inputs, and what its plan is made from.
  int32_t *step;                 // [3, n_slot] token, position, cache row
  int32_t *visible_rows;         // [n_slot]
  int32_t *range_at;             // [n_slot, range_at_stride] the range of visible row DECODE_ITEM_ROUND * j
  int32_t *arrived;              // slots that are done
  ss_sequence_status *statuses;  // [n_slot]
  int32_t range_at_stride;
  ss_attention_plan *plan;
  // Shared memory of a block that advances a slot: offsets in bytes.
  int32_t shared_references, shared_starts, shared_control, shared_bytes;
  // Packing for start, on both sides, and what comes back, page-locked.
  unsigned char *packed, *device_packed;
  ss_sequence_status *taken[SS_N_STATUS];  // [n_slot]
  cudaEvent_t taken_at[SS_N_STATUS];
  bool was_taken[SS_N_STATUS];
  unsigned char *fetched;  // a sequence, then its texts
  cudaStream_t fetching;
};

// --- sample.cu ---
// Keeps no state and allocates nothing. Of a slot's sequence it writes gold_next and in_gold_header; a random number is
// drawn only where the host would.
ss_status cuda_sequences_choose(ss_device *device, ss_sequences *sequences, ss_tensor logits,
                                ss_tensor slots);
// --- sequences_advance.cu ---
ss_status cuda_sequences_advance(ss_device *device, ss_sequences *sequences, ss_tensor slots);
// Where things lie in a block's shared memory, and that there is so much.
ss_status cuda_sequences_share_memory(ss_device *device, ss_sequences *sequences, int64_t most_ranges);
static inline int64_t cuda_round_to_pieces(int64_t bytes) {
  return (bytes + 15) / 16 * 16;
}
// --- sequences.cu ---
extern const ss_sequence_ops cuda_sequence_ops;

#ifdef __cplusplus
}
#endif

#endif
