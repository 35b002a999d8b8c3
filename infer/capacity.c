// How many sequences a decoder holds: what is asked for, or what the device's memory has room for.
#include "infer/capacity.h"

#define HOST_SLOTS 32     // where nothing else is asked
#define DEVICE_SLOTS 256  // no more than this by itself: a larger batch gains little
// For what ops take beside caches and buffers: of a number that was asked for, and where there is a choice.
#define KEPT_BYTES ((size_t)512 << 20)
#define KEPT_BYTES_BY_CHOICE ((size_t)1536 << 20)

// Device bytes of one slot: its cache, its tracker and texts, and its rows of what a step and a prefill compute.
static size_t slot_bytes(const gpt *model, int64_t slot_rows) {
  const gpt_config *config = gpt_get_config(model);
  size_t row = (size_t)gpt_cache_row_bytes(model) + 16 * sizeof(int32_t);
  size_t logits = 2 * (size_t)config->vocab_size * sizeof(float);
  size_t step = (size_t)(3 * config->n_embd + config->n_ff) * sizeof(float);
  return (size_t)slot_rows * row + logits + step;
}

// Slots in what is free but for `kept`, or half of it: little memory still serves a few. Rows are numbered by int32.
static int64_t slots_in(size_t free_bytes, size_t kept, size_t slot, int64_t slot_rows) {
  size_t taken = kept < free_bytes / 2 ? kept : free_bytes / 2;
  int64_t fit = (int64_t)((free_bytes - taken) / slot), numbered = INT32_MAX / slot_rows;
  return fit < numbered ? fit : numbered;
}

ss_status decode_room(int64_t *n_slot, gpt *model, int64_t slot_rows, ss_error *error) {
  ss_device *device = gpt_device(model);
  const gpt_config *config = gpt_get_config(model);
  size_t free_bytes = 0, total_bytes = 0;
  SS_OP(device, error, memory_free, &free_bytes, &total_bytes);
  size_t prefill = gpt_activation_bytes(config, device->compute, false, false,
                                        DECODE_PREFILL_TOKENS + slot_rows);
  *n_slot = slots_in(free_bytes, KEPT_BYTES_BY_CHOICE + prefill, slot_bytes(model, slot_rows), slot_rows);
  return SS_OK;
}

ss_status decode_capacity(int64_t *n_slot, gpt *model, int64_t asked, int64_t slot_rows, ss_error *error) {
  ss_device *device = gpt_device(model);
  int64_t numbered = INT32_MAX / slot_rows, most = device->synchronous ? HOST_SLOTS : DEVICE_SLOTS;
  if (device->synchronous) {
    *n_slot = asked > 0 ? asked : most < numbered ? most : numbered;
    return SS_OK;
  }
  size_t free_bytes = 0, total_bytes = 0, bytes = slot_bytes(model, slot_rows);
  SS_OP(device, error, memory_free, &free_bytes, &total_bytes);
  int64_t fit = slots_in(free_bytes, KEPT_BYTES, bytes, slot_rows), room = 0;
  SS_TRY(decode_room(&room, model, slot_rows, error));
  if (fit < 1 || asked > fit)
    return ss_fail(error, SS_ERROR_MEMORY,
                   "decoding %lld sequences of %lld rows takes %.2f GB of cache and buffers, but %.2f of the "
                   "device's %.2f GB are free: room for %lld (decode.max_batch)",
                   (long long)(asked > 0 ? asked : 1), (long long)slot_rows,
                   (double)bytes * (double)(asked > 0 ? asked : 1) * 1e-9, (double)free_bytes * 1e-9,
                   (double)total_bytes * 1e-9, (long long)fit);
  room = room > 1 ? room : 1;
  *n_slot = asked > 0 ? asked : room < most ? room : most;
  return SS_OK;
}
