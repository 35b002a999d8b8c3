// Batched, continuous decoding with self-selected spans: a slot a sequence, a KV slab a slot, a span tracker a
// sequence; a finished sequence makes room for the next. Which rows are read is the tracker's ranges and nothing else.
#ifndef SELFSPAN_INFER_DECODER_H
#define SELFSPAN_INFER_DECODER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "data/render.h"
#include "data/vocabulary.h"
#include "model/gpt.h"
#include "span/sequence.h"

// What is read at each generated token. The span-trained model's controls keep the emitted tokens and change the set.
typedef enum {
  DECODE_SELF,     // the policy's V(i) of the emitted text (dense and annotated: everything)
  DECODE_ORACLE,   // gold header tokens are forced; bodies are generated
  DECODE_RECENCY,  // the most recent rows, as many as |V(i)|
  DECODE_RANDOM,   // the own segment and random earlier rows, as many as |V(i)| in all
  DECODE_WINDOW,   // sink rows and a sliding window, as many as |V(i)| in all
  DECODE_REPLAY    // every gold token is forced: equal work for measuring
} decode_control;

typedef enum { DECODE_ENGINE_AUTO, DECODE_ENGINE_HOST, DECODE_ENGINE_DEVICE } decode_engine_choice;

typedef struct {
  int64_t max_batch;   // slots; 0: 32 on the CPU, on a GPU up to 256, as many as fit
  int64_t max_tokens;  // generated tokens an example; 0: up to n_positions
  double temperature;  // 0: greedy
  int64_t top_k;       // 0: all
  double top_p;        // 1: all
  int64_t seed;
  bool constrain;
  int control;              // decode_control
  int engine;               // decode_engine_choice: who tracks, samples and plans
  int64_t n_sink;           // DECODE_WINDOW
  int64_t no_repeat_ngram;  // no n-gram of text tokens is generated twice; 0: off. The host's engine alone
  bool trace_rows;          // keep attended rows of every generated token
} decode_options;
extern const ss_key decode_keys[];  // "decode.*" over a decode_options

// One sequence to decode. Arrays belong to the caller until the result is taken.
typedef struct {
  int64_t index;          // the caller's name for it; also its sampling stream
  const int32_t *prompt;  // [n_prompt] <bos> task context+
  int32_t n_prompt;
  int32_t preamble_end;
  int32_t anchor_offset;
  const int32_t *gold;  // DECODE_ORACLE, DECODE_REPLAY: the gold tokens after the prompt; else NULL
  int32_t n_gold;
} decode_request;

typedef enum {
  DECODE_STOP_EOS = SPAN_STOP_EOS,
  DECODE_STOP_LENGTH = SPAN_STOP_LENGTH,
  DECODE_STOP_ANCHORS = SPAN_STOP_ANCHORS
} decode_stop;

typedef struct {
  int64_t index;
  int32_t *tokens;  // [n_token]: prompt, then generated
  int32_t n_prompt, n_token;
  int32_t *
      rows;  // [n_token - n_prompt] attended rows of the query that produced each token (trace_rows), else NULL
  decode_stop stop;
  span_malformed malformed;
  span_layout layout;      // of the whole text; storage lives as long as the result
  int64_t attended_rows;   // sum of |V(i)| over the queries that produced the generated tokens; the
                           // prompt's last query is the first of them
  int64_t prefill_rows;    // sum over the prompt's other queries
  double log_probability;  // sum over generated tokens (of the sampled distribution before truncation)
} decode_result;

// Totals of a run: what was measured, with tracking and planning inside. With the device's engine, which never waits for
// the host, decode_seconds is all of the run's time but the prefills'. Zero-initialise; runs add up.
typedef struct {
  double prefill_seconds, decode_seconds;
  double
      host_seconds;  // a part of the others. The host's engine: tracking, ranges, sampling; the device's: the device idle
  int64_t prefill_tokens, generated_tokens, steps;
  int64_t prefill_attended_rows, decode_attended_rows;
  int64_t kv_bytes_read;  // decode: attended rows x bytes a row
  int64_t n_sequence;
} decode_statistics;

typedef struct decoder decoder;

// `arm` decides headers and mask; `policy` the span arm's ranges. slot_rows <= n_positions. The KV cache is allocated;
// what does not fit is an error that names how many sequences would.
ss_status decoder_create(decoder **out, gpt *model, const vocabulary *vocabulary, arm arm,
                         const span_policy *policy, const decode_options *options, int64_t slot_rows,
                         ss_error *error);
void decoder_free(decoder *decoder);

// Which engine serves, slots and cache: "device engine, 256 slots of 1024 rows, KV cache 9.66 GB"; the engine is known
// once decoder_run has begun. Valid as long as the decoder.
const char *decoder_description(const decoder *decoder);
int64_t decoder_slots(const decoder *decoder);

// Next request into *request; *done when there are none. The prompt must stay valid until its result came back.
typedef ss_status (*decode_source)(void *user, decode_request *request, bool *done, ss_error *error);
// Takes a finished sequence; the result's arrays are freed after it returns. Order: by completion.
typedef ss_status (*decode_sink)(void *user, const decode_result *result, ss_error *error);

// What is kept of a sequence to hand it out again.
typedef struct {
  const int32_t *tokens;  // [n_token] generated
  int64_t n_token;
  decode_stop stop;
  int64_t attended_rows, prefill_rows;
} decode_kept;

// Hands `kept`, which this request has given before, to `sink` as decoder_run did then, but for rows (NULL) and
// log_probability (NaN). May be called by a decode_source. Tokens that cannot be the request's are SS_ERROR_INPUT.
ss_status decoder_recall(decoder *decoder, const decode_request *request, const decode_kept *kept,
                         decode_sink sink, void *user, ss_error *error);

// Called with every generated token as it is appended, and the rows that its query read. Set before decoder_run; NULL: off.
typedef void (*decode_watch)(void *user, int64_t index, int32_t token, int32_t rows);
void decoder_set_watch(decoder *decoder, decode_watch watch, void *user);

// Looked at before every prefill and every round of steps: not zero: decoder_run ends with SS_ERROR_INTERRUPTED, the
// sequences under way are dropped. Must outlive the decoder; NULL: never.
void decoder_set_stop(decoder *decoder, const volatile sig_atomic_t *stop);

// Decodes everything that `source` yields. A prompt that cannot fit is an error naming both lengths. After a failure or an
// interruption the statistics tell what was done until then.
ss_status decoder_run(decoder *decoder, decode_source source, decode_sink sink, void *user,
                      decode_statistics *statistics, ss_error *error);

#endif
