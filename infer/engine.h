// What advances a decoder's sequences: choosing tokens, pushing them through the span trackers, listing what is read and
// running the steps, on the host (engine_host.c) or on the device (engine_device.c). Both give the same tokens. Private
// to the decoder.
#ifndef SELFSPAN_INFER_ENGINE_H
#define SELFSPAN_INFER_ENGINE_H

#include "infer/batch.h"

// What an engine works with; all of it outlives the engine.
typedef struct {
  gpt *model;
  gpt_cache *cache;
  decode_slot *slots;  // [n_slot]
  int64_t n_slot, slot_rows;
  const vocabulary *vocabulary;
  const decode_options *options;
  bool selects;  // sequences read a part of their rows
  const decode_watch *watch;
  void *const *watch_user;
} decode_setup;

#define DECODE_BURST 4  // steps that a device beside the host runs on its own

typedef struct decode_engine decode_engine;

typedef struct {
  const char *name;
  // Steps between two looks at the slots, and how many looks late what they show is taken: while the device runs,
  // the host looks at what the round before left.
  int64_t burst;
  int lag;
  bool asynchronous;  // what it is asked for is enqueued: time is the device's
  // A slot's prompt has been pushed; its sequence decodes from now on.
  ss_status (*start)(decode_engine *, int64_t slot, ss_error *error);
  // First tokens after a prefill: logits [n, V] on the device, row i for slot slots[i].
  ss_status (*choose)(decode_engine *, ss_tensor logits, const int32_t *slots, int64_t n, ss_error *error);
  // Enqueues or does n_step steps of all active slots.
  ss_status (*run)(decode_engine *, int64_t n_step, ss_error *error);
  // Snapshots of all slots' statuses; index < SS_N_STATUS. As in ss_sequence_ops.
  ss_status (*take_status)(decode_engine *, int32_t index, ss_error *error);
  ss_status (*wait_status)(decode_engine *, int32_t index, const ss_sequence_status **status,
                           ss_error *error);
  // Completes the host's side of a slot whose sequence is finished: tokens, rows, sums, and the tracker as after its last
  // token.
  ss_status (*result)(decode_engine *, int64_t slot, ss_error *error);
  void (*free)(decode_engine *);
} decode_engine_ops;

struct decode_engine {
  const decode_engine_ops *ops;
  decode_setup setup;
  double host_seconds;  // choosing, tracking and planning on the host
};

ss_status decode_engine_host(decode_engine **out, const decode_setup *setup, ss_error *error);
// The device has sequences (ss_ops).
ss_status decode_engine_device(decode_engine **out, const decode_setup *setup, ss_error *error);

#endif
