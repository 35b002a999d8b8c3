#include "commands/decode_floor.h"

#include <string.h>

decode_costs decode_count_costs(const gpt *model, int64_t batch) {
  const gpt_config *config = gpt_get_config(model);
  const gpt_parameter *table = gpt_parameter_table(model);
  double element = (double)ss_dtype_size(gpt_device(model)->compute), rows = (double)batch;
  double head_dim = (double)(config->n_embd / config->n_head);
  decode_costs costs = {.logit_bytes = rows * (double)config->vocab_size * sizeof(float),
                        .kv_row_bytes = 2 * (double)(config->n_layer * config->n_kv_head) * head_dim *
                                        element,
                        .attention_flops = 4.0 * (double)config->n_layer * (double)config->n_embd};
  for (int32_t k = 0; k < gpt_n_parameter_tensor(model); ++k) {
    double count = (double)table[k].rows * (double)table[k].cols;
    if (strcmp(table[k].name, "wpe") == 0)
      continue;
    costs.weight_bytes += count * element;
    costs.weight_flops += table[k].rows > 1 ? 2 * rows * count : 0;
  }
  return costs;
}

static double larger(double a, double b) {
  return a > b ? a : b;
}

decode_floor decode_floor_of(const gpt *model, int64_t batch, const decode_statistics *statistics,
                             const bench_ceiling *rates) {
  const gpt_config *config = gpt_get_config(model);
  decode_costs costs = decode_count_costs(model, batch);
  double n = (double)statistics->n_sequence, tokens = (double)statistics->generated_tokens - n;
  double steps = tokens / (double)batch, rows = (double)statistics->decode_attended_rows;
  double classifier = 2 * (double)config->vocab_size * (double)config->n_embd;
  double prompt_flops = (double)statistics->prefill_tokens *
                            (costs.weight_flops / (double)batch - classifier) +
                        n * classifier + (double)statistics->prefill_attended_rows * costs.attention_flops;
  decode_floor floor = {.bytes = steps * (costs.weight_bytes + costs.logit_bytes) + rows * costs.kv_row_bytes,
                        .flops = steps * costs.weight_flops + rows * costs.attention_flops,
                        .prefill_seconds = prompt_flops / rates->gemm_flops};
  double by_copies = floor.bytes / rates->copy_bytes;
  floor.decode_seconds = larger(by_copies, floor.flops / rates->gemm_flops);
  floor.by_copies = by_copies >= floor.decode_seconds;
  floor.examples_per_second = n / (floor.decode_seconds + floor.prefill_seconds);
  return floor;
}
