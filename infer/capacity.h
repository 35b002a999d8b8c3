// How many sequences a decoder holds.
#ifndef SELFSPAN_INFER_CAPACITY_H
#define SELFSPAN_INFER_CAPACITY_H

#include "model/gpt.h"

// Prompt tokens of one prefill on a device beside the host; the last prompt may lead beyond.
#define DECODE_PREFILL_TOKENS 8192

// The most sequences of slot_rows rows that the memory which is free now holds beside a prefill's activations, on a
// device beside the host. At least half of it is theirs; 0: none fits.
ss_status decode_room(int64_t *n_slot, gpt *model, int64_t slot_rows, ss_error *error);
// *n_slot = `asked`, or when that is 0 as many sequences as are worth having and fit. What does not fit is an error that
// names how many would.
ss_status decode_capacity(int64_t *n_slot, gpt *model, int64_t asked, int64_t slot_rows, ss_error *error);

#endif
