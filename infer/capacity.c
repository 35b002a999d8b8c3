// How many sequences a decoder holds: what is asked for, or what the device's memory has room for.
#include "infer/capacity.h"

#define HOST_SLOTS 32                   // where nothing else is asked
#define DEVICE_SLOTS 256                // no more than this by itself: a larger batch gains little
#define KEPT_BYTES ((size_t)512 << 20)  // for what ops take beside the cache

// Device bytes of one slot: its cache, and its rows of what a step and a prefill compute.
static size_t slot_bytes(const gpt *model, int64_t slot_rows, int64_t row_bytes) {
  const gpt_config *config = gpt_get_config(model);
  size_t logits = 2 * (size_t)config->vocab_size * sizeof(float);
  size_t step = (size_t)(3 * config->n_embd + config->n_ff) * sizeof(float);
  size_t tracker = (size_t)slot_rows * 8 * sizeof(int32_t);
  return (size_t)slot_rows * (size_t)row_bytes + logits + step + tracker;
}

ss_status decode_capacity(int64_t *n_slot, gpt *model, int64_t asked, int64_t slot_rows, ss_error *error) {
  ss_device *device = gpt_device(model);
  if (device->synchronous) {
    *n_slot = asked > 0 ? asked : HOST_SLOTS;
    return SS_OK;
  }
  size_t free_bytes = 0, total_bytes = 0;
  SS_OP(device, error, memory_free, &free_bytes, &total_bytes);
  size_t bytes = slot_bytes(model, slot_rows, gpt_cache_row_bytes(model));
  int64_t fit = free_bytes > KEPT_BYTES ? (int64_t)((free_bytes - KEPT_BYTES) / bytes) : 0;
  if (fit < 1 || asked > fit)
    return ss_fail(error, SS_ERROR_MEMORY,
                   "decoding %lld sequences of %lld rows takes %.2f GB of cache and buffers, but %.2f of the "
                   "device's %.2f GB are free: room for %lld (decode.max_batch)",
                   (long long)(asked > 0 ? asked : 1), (long long)slot_rows,
                   (double)bytes * (double)(asked > 0 ? asked : 1) * 1e-9, (double)free_bytes * 1e-9,
                   (double)total_bytes * 1e-9, (long long)fit);
  *n_slot = asked > 0 ? asked : fit < DEVICE_SLOTS ? fit : DEVICE_SLOTS;
  return SS_OK;
}
