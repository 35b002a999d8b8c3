// Assembling a batch: rendered examples one after the other, without padding, with the views that keep them apart.
#ifndef SELFSPAN_DATA_READER_BATCH_H
#define SELFSPAN_DATA_READER_BATCH_H

#include "data/reader.h"

// Empties a batch (zero-initialised once) and keeps its memory.
void reader_batch_clear(reader_batch *batch);

// Appends example number `index` of a store: inputs are its tokens but the last, targets the tokens after them
// where there is loss, positions count from its start, and its views cover its rows. `policy` must be the arm's
// (arm_policy).
ss_status reader_batch_add(reader_batch *batch, int64_t index, const rendering *rendering,
                           const span_policy *policy, ss_error *error);

void reader_batch_free(reader_batch *batch);

#endif
