// The span policy as configuration keys, shared by every command.
#ifndef SELFSPAN_DATA_SPAN_KEYS_H
#define SELFSPAN_DATA_SPAN_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "span/span_core.h"

typedef struct {
  int choose;  // span_choose
  int pin;     // 0 none, 1 all
  int context; // span_context_rule
  bool body_sees_header;
  int64_t max_header;
} span_keys;

extern const ss_key span_policy_keys[];  // "span.*" over a span_keys

// The policy the keys describe, with the span mask on.
span_policy span_keys_policy(const span_keys *keys);

#endif
