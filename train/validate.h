// Validation loss: the mean loss of the first examples of validation.h5, always the same ones, anchors from 0.
#ifndef SELFSPAN_TRAIN_VALIDATE_H
#define SELFSPAN_TRAIN_VALIDATE_H

#include <signal.h>

#include "common/error.h"
#include "data/reader.h"
#include "model/gpt.h"

typedef struct validator validator;

// `options` are the training reader's: its arm, policy and row sizes hold here too. At most `max_examples` are
// read, rounded down to whole batches. `data` must outlive the validator.
ss_status validator_create(validator **out, store *data, const reader_options *options, int64_t max_examples,
                           ss_error *error);
// *loss = mean cross-entropy over the targets, in nats. *stop != 0 (may be NULL) ends it with
// SS_ERROR_INTERRUPTED.
ss_status validator_loss(validator *validator, gpt *model, const volatile sig_atomic_t *stop, double *loss,
                         ss_error *error);
// Frees the validator, not the store; NULL is allowed.
void validator_free(validator *validator);

#endif
