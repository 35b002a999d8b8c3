// The device's engine: steps are recorded once as a graph and launched without waiting; the host starts sequences, looks
// at statuses and reads results.
#include <stdlib.h>

#include "common/memory.h"
#include "infer/engine.h"

#define EXPECTED_ROWS 128  // that a query reads where it selects: a guess

typedef struct {
  decode_engine base;
  const ss_sequence_ops *sequence_ops;
  ss_sequences *sequences;
  gpt_decode *decode;
  ss_graph *graph;
  void *slots;  // i32 [n_slot] on the device: the slots of a prefill's logits
} device_engine;

static ss_device *device_of(const decode_engine *engine) {
  return gpt_device(engine->setup.model);
}

// Calls an op of the sequences: returns from the caller on failure.
#define SEQUENCE_OP(engine, error, op, ...)                                             \
  do {                                                                                  \
    ss_device *device_ = device_of(&(engine)->base);                                    \
    if ((engine)->sequence_ops->op(device_, (engine)->sequences, __VA_ARGS__) != SS_OK) \
      return ss_device_error(device_, (error));                                         \
  } while (0)

static ss_status start(decode_engine *base, int64_t slot, ss_error *error) {
  device_engine *engine = (device_engine *)base;
  const decode_slot *started = &base->setup.slots[slot];
  SEQUENCE_OP(engine, error, start, (int32_t)slot, &started->sequence, started->random,
              started->control_seed);
  return SS_OK;
}

static ss_status choose(decode_engine *base, ss_tensor logits, const int32_t *slots, int64_t n,
                        ss_error *error) {
  device_engine *engine = (device_engine *)base;
  SS_OP(device_of(base), error, upload, engine->slots, slots, (size_t)n * sizeof(int32_t));
  SEQUENCE_OP(engine, error, choose, logits, ss_integers(engine->slots, n));
  SEQUENCE_OP(engine, error, advance, ss_integers(engine->slots, n));
  return SS_OK;
}

static ss_status step(device_engine *engine, ss_error *error) {
  ss_tensor all = {0};
  ss_sequences_inputs inputs = engine->sequence_ops->inputs(device_of(&engine->base), engine->sequences);
  SS_TRY(gpt_decode_step(engine->decode, engine->base.setup.n_slot, inputs.tokens, inputs.positions,
                         inputs.cache_rows, inputs.plan, error));
  SEQUENCE_OP(engine, error, choose, gpt_decode_logits(engine->decode), all);
  SEQUENCE_OP(engine, error, advance, all);
  return SS_OK;
}

static ss_status record(device_engine *engine, ss_error *error) {
  ss_device *device = device_of(&engine->base);
  if (engine->graph)
    device->ops->graph_free(device, engine->graph);
  engine->graph = NULL;
  if (device->ops->graph_begin(device) != SS_OK)
    return ss_device_error(device, error);
  ss_status status = step(engine, error);
  ss_error ignored = {0};
  if (device->ops->graph_end(device, &engine->graph) != SS_OK)
    return status != SS_OK ? (ss_device_error(device, &ignored), status) : ss_device_error(device, error);
  // Half a step is no step: the next run records anew.
  if (status != SS_OK) {
    device->ops->graph_free(device, engine->graph);
    engine->graph = NULL;
  }
  return status;
}

static ss_status run(decode_engine *base, int64_t n_step, ss_error *error) {
  device_engine *engine = (device_engine *)base;
  ss_device *device = device_of(base);
  for (int64_t k = 0; k < n_step; ++k) {
    if (engine->graph && device->ops->graph_valid(device, engine->graph)) {
      SS_OP(device, error, graph_launch, engine->graph);
      continue;
    }
    // What allocates or is chosen by time does so now.
    SS_TRY(step(engine, error));
    SS_TRY(record(engine, error));
  }
  return SS_OK;
}

static ss_status take_status(decode_engine *base, int32_t index, ss_error *error) {
  device_engine *engine = (device_engine *)base;
  SEQUENCE_OP(engine, error, take_status, index);
  return SS_OK;
}

static ss_status wait_status(decode_engine *base, int32_t index, const ss_sequence_status **status,
                             ss_error *error) {
  device_engine *engine = (device_engine *)base;
  SEQUENCE_OP(engine, error, wait_status, index, status);
  return SS_OK;
}

// The tracker is not read back: pushing the tokens again gives its layout.
static ss_status result(decode_engine *base, int64_t slot, ss_error *error) {
  device_engine *engine = (device_engine *)base;
  decode_slot *finished = &base->setup.slots[slot];
  span_sequence *sequence = &finished->sequence;
  span_tracker tracker = sequence->tracker;
  SEQUENCE_OP(engine, error, result, (int32_t)slot, sequence);
  int32_t n_row = sequence->tracker.n_row;
  sequence->tracker = tracker;
  return decode_slot_push(finished, n_row, error);
}

static void free_engine(decode_engine *base) {
  device_engine *engine = (device_engine *)base;
  ss_device *device = device_of(base);
  if (engine->graph)
    device->ops->graph_free(device, engine->graph);
  if (engine->sequences)
    engine->sequence_ops->release(device, engine->sequences);
  if (engine->slots)
    device->ops->release(device, engine->slots);
  gpt_decode_free(engine->decode);
  free(engine);
}

static const decode_engine_ops device_ops = {.name = "device",
                                             .burst = DECODE_BURST,
                                             .lag = 1,
                                             .asynchronous = true,
                                             .start = start,
                                             .choose = choose,
                                             .run = run,
                                             .take_status = take_status,
                                             .wait_status = wait_status,
                                             .result = result,
                                             .free = free_engine};

static ss_status allocate(device_engine *engine, ss_error *error) {
  const decode_setup *setup = &engine->base.setup;
  const decode_options *options = setup->options;
  ss_device *device = device_of(&engine->base);
  int32_t control = decode_replacement(options->control);
  ss_sequences_options wanted = {.n_slot = (int32_t)setup->n_slot,
                                 .slot_rows = (int32_t)setup->slot_rows,
                                 .n_segment = vocabulary_span_tokens(setup->vocabulary)->n_anchor,
                                 .vocab_size = vocabulary_size(setup->vocabulary),
                                 .shape = gpt_attention_shape(setup->model),
                                 .temperature = options->temperature,
                                 .top_k = options->top_k,
                                 .top_p = options->top_p,
                                 .control = control,
                                 .n_sink = (int32_t)options->n_sink,
                                 .expected_rows = setup->selects ? EXPECTED_ROWS : 0};
  if (engine->sequence_ops->create(device, &engine->sequences, &wanted) != SS_OK)
    return ss_device_error(device, error);
  SS_OP(device, error, allocate, &engine->slots, (size_t)setup->n_slot * sizeof(int32_t), "slot numbers");
  return gpt_decode_create(&engine->decode, setup->model, setup->cache, setup->n_slot, error);
}

ss_status decode_engine_device(decode_engine **out, const decode_setup *setup, ss_error *error) {
  device_engine *engine = NULL;
  SS_TRY(ss_allocate(&engine, 1, sizeof *engine, "the device's engine", error));
  engine->base.setup = *setup;
  engine->base.ops = &device_ops;
  engine->sequence_ops = device_of(&engine->base)->ops->sequences;
  ss_status status = allocate(engine, error);
  if (status != SS_OK) {
    free_engine(&engine->base);
    return status;
  }
  *out = &engine->base;
  return SS_OK;
}
