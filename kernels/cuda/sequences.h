// Sequences on the device (ss_sequence_ops of kernels.h): shared by sequences.cu, which starts, advances and plans them,
// and sample.cu, which chooses their tokens.
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
};

// --- sample.cu ---
ss_status cuda_sequences_choose(ss_device *device, ss_sequences *sequences, ss_tensor logits,
                                ss_tensor slots);
// --- sequences.cu ---
extern const ss_sequence_ops cuda_sequence_ops;

#ifdef __cplusplus
}
#endif

#endif
