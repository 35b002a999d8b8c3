// The span policy as configuration keys "span.*", shared by every command, and as JSON in checkpoints.
#ifndef SELFSPAN_DATA_SPAN_KEYS_H
#define SELFSPAN_DATA_SPAN_KEYS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "data/render.h"
#include "span/span_core.h"

typedef struct {
  int choose;   // span_choose
  int pin;      // 0 none, 1 all
  int context;  // span_context_rule
  bool body_sees_header;
  int64_t max_header, lead, recent;
} span_keys;

extern const ss_key span_policy_keys[];  // "span.*" over a span_keys

// The policy of the keys, mask SPAN. arm_policy turns it into an arm's.
span_policy span_keys_policy(const span_keys *keys);
span_keys span_keys_of(const span_policy *policy);

// {"arm": "span", "span.choose": "index", ...}: what a checkpoint keeps of how it was trained.
ss_status span_policy_text(arm arm, const span_policy *policy, char **out, ss_error *error);
ss_status span_policy_parse(const char *text, const char *where, arm *arm, span_policy *policy,
                            ss_error *error);

#endif
