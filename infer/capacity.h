// How many sequences a decoder holds. Private to the decoder.
#ifndef SELFSPAN_INFER_CAPACITY_H
#define SELFSPAN_INFER_CAPACITY_H

#include "model/gpt.h"

// *n_slot = `asked`, or when that is 0 as many sequences of slot_rows rows as are worth having and fit the memory that is
// free now. What does not fit is an error that names how many would.
ss_status decode_capacity(int64_t *n_slot, gpt *model, int64_t asked, int64_t slot_rows, ss_error *error);

#endif
