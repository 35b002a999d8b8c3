// A reader's batch as the model takes it: span views become attention views over the batch's own rows.
#ifndef SELFSPAN_TRAIN_FEED_H
#define SELFSPAN_TRAIN_FEED_H

#include "common/error.h"
#include "data/reader.h"
#include "model/gpt.h"

// Reused storage; zero-initialise, free with train_feed_free.
typedef struct {
  ss_attention_view *views;
  int64_t capacity;
} train_feed;

// *out borrows the batch's arrays and the feed's views: valid until either changes. A position that the model
// lacks, or a target or token outside its vocabulary, is an error.
ss_status train_feed_batch(train_feed *feed, const gpt *model, const reader_batch *batch, gpt_batch *out,
                           ss_error *error);
// Frees the views and empties the feed.
void train_feed_free(train_feed *feed);

#endif
