// Learnt rows: reads any bytes as such a file; the policy of what opens is parsed.
#include "data/span_keys.h"
#include "model/new_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  ss_error error = {0};
  new_rows rows;
  arm arm;
  span_policy policy;
  if (new_rows_read_memory(&rows, data, n, "input", &error) != SS_OK)
    return 0;
  span_policy_parse(rows.policy, "input", &arm, &policy, &error);
  new_rows_free(&rows);
  return 0;
}
