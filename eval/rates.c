#include <math.h>

#include "eval/intervals.h"
#include "eval/results.h"

static double ratio(double a, double b) {
  return b > 0 ? a / b : NAN;
}

eval_rates eval_rates_of(const eval_result *result, const eval_counts *counts) {
  eval_rates rates;
  double items = (double)counts->items;
  // Under the oracle the references are ours, not the model's.
  bool chosen = counts->headers > 0 && result->control != DECODE_ORACLE && result->control != DECODE_REPLAY;
  // Where no output is right or wrong, nothing was judged.
  bool judged = result->task == NULL || !result->task->open_ended;
  rates.accuracy = rates.accuracy_low = rates.accuracy_high = NAN;
  if (judged) {
    rates.accuracy = ratio((double)counts->correct, items);
    wilson_interval(counts->correct, counts->items, &rates.accuracy_low, &rates.accuracy_high);
  }
  rates.score = ratio(counts->score_sum, items);
  rates.step_accuracy = judged ? ratio((double)counts->steps_correct, (double)counts->steps_gold) : NAN;
  rates.derivation_accuracy = judged ? ratio((double)counts->derivations_exact, items) : NAN;
  rates.reference_precision = chosen ? ratio((double)counts->references_right,
                                             (double)counts->references_written)
                                     : NAN;
  rates.reference_recall = chosen ? ratio((double)counts->references_right, (double)counts->references_gold)
                                  : NAN;
  rates.reference_f = chosen ? ratio(2.0 * (double)counts->references_right,
                                     (double)(counts->references_written + counts->references_gold))
                             : NAN;
  rates.reference_exact = chosen ? ratio((double)counts->headers_exact, (double)counts->headers) : NAN;
  rates.malformed = result->decoded ? ratio((double)counts->malformed_items, items) : NAN;
  rates.tokens_per_example = result->decoded ? ratio((double)counts->generated_tokens, items) : NAN;
  rates.rows_per_example = result->decoded ? ratio((double)counts->attended_rows, items) : NAN;
  rates.rows_per_token = result->decoded
                             ? ratio((double)counts->attended_rows, (double)counts->generated_tokens)
                             : NAN;
  rates.prefill_rows_per_example = result->decoded ? ratio((double)counts->prefill_rows, items) : NAN;
  return rates;
}

eval_speed eval_speed_of(const eval_result *result) {
  eval_speed speed = {NAN, NAN, NAN};
  if (!result->decoded)
    return speed;
  double items = (double)result->speed.n_sequence;
  speed.examples_per_second = ratio(items, result->speed.prefill_seconds + result->speed.decode_seconds);
  // A sequence's first token comes out of its prefill.
  speed.tokens_per_second = ratio((double)(result->speed.generated_tokens - result->speed.n_sequence),
                                  result->speed.decode_seconds);
  speed.megabytes_per_example = ratio((double)result->speed.kv_bytes_read / 1e6, items);
  return speed;
}
