// Small models and annotated texts for the tests of the model: random segments with headers, their layout from the
// tracker, and batches packed from several texts.
#ifndef SELFSPAN_TESTS_GPT_FIXTURE_H
#define SELFSPAN_TESTS_GPT_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/gpt.h"
#include "span/span_core.h"

#define FIXTURE_ROWS 512       // rows of a text
#define FIXTURE_VOCABULARY 64  // 0..23 text, special tokens, anchors
#define FIXTURE_PREAMBLE 2

typedef struct {
  int32_t n_row, prompt_end;
  int32_t tokens[FIXTURE_ROWS];
  span_segment segments[32];
  int32_t references[256];
  span_tracker tracker;  // has taken every token; its layout lies in the arrays above
} fixture_text;

typedef enum { FIXTURE_GPT2, FIXTURE_LLAMA } fixture_architecture;

// n_layer 2; Llama: grouped-query attention, rotary, SwiGLU.
gpt_config fixture_config(fixture_architecture architecture);
// A model with random parameters, larger than initial ones and with non-trivial norms and biases.
gpt *fixture_model(ss_device *device, fixture_architecture architecture, bool trainable);

// A random example: n_context pieces, n_step steps, an answer. `reference_all`: steps reference every earlier segment.
void fixture_text_make(fixture_text *text, uint64_t seed, int32_t n_context, int32_t n_step,
                       bool reference_all, const span_policy *policy);

// Appends the views of rows [first, end) of a text: query row r becomes batch row query_offset + r - first, key row r
// becomes key_offset + r. Under mask NONE or by policy. Returns through the counts.
void fixture_views(const fixture_text *text, const span_policy *policy, int32_t first, int32_t end,
                   int32_t query_offset, int32_t key_offset, ss_attention_view *views, int64_t *n_view,
                   span_range *ranges, int64_t *n_range);

// A training batch over whole texts, packed one after the other. Free with fixture_batch_free.
gpt_batch fixture_batch(const fixture_text *texts, int32_t n_text, const span_policy *policy);
void fixture_batch_free(gpt_batch *batch);

// Host copies of `count` floats at a device address (malloc'ed), and the way back.
float *fixture_download(ss_device *device, const float *address, int64_t count);
void fixture_upload(ss_device *device, float *address, const float *host, int64_t count);

#endif
