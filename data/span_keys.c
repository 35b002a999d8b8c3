#include "data/span_keys.h"

const ss_key span_policy_keys[] = {
    SS_CONFIG_CHOICE(span_keys, choose, "span.choose", "index", "all|index|anchors|open",
                     "what a header reads of earlier segments, besides the last step"),
    SS_CONFIG_CHOICE(span_keys, pin, "span.pin", "none", "none|all", "context segments wholly visible to headers"),
    SS_CONFIG_CHOICE(span_keys, context, "span.context", "causal", "causal|local",
                     "what a context segment reads: all earlier context, or itself"),
    SS_CONFIG_BOOL(span_keys, body_sees_header, "span.body_sees_header", "yes", "a body reads its own header"),
    SS_CONFIG_INT(span_keys, max_header, "span.max_header", "16", 3, 65536,
                  "a longer header, in tokens, is closed by force"),
    {0}};

span_policy span_keys_policy(const span_keys *keys) {
  span_policy policy = span_policy_default();
  policy.choose = keys->choose;
  policy.pin = keys->pin;
  policy.context = keys->context;
  policy.body_sees_header = keys->body_sees_header;
  policy.max_header = (int32_t)keys->max_header;
  return policy;
}
