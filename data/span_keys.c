#include "data/span_keys.h"

#include <stdlib.h>
#include <string.h>

const ss_key span_policy_keys[] =
    {SS_CONFIG_CHOICE(span_keys, choose, "span.choose", "index", "all|index|anchors|open",
                      "what a header reads of earlier segments, besides the last step"),
     SS_CONFIG_CHOICE(span_keys, pin, "span.pin", "none", "none|all",
                      "context segments wholly visible to headers"),
     SS_CONFIG_CHOICE(span_keys, context, "span.context", "causal", "causal|local",
                      "what a context segment reads: all earlier context, or itself"),
     SS_CONFIG_BOOL(span_keys, body_sees_header, "span.body_sees_header", "yes",
                    "a body reads its own header"),
     SS_CONFIG_INT(span_keys, max_header, "span.max_header", "16", 4, 65536,
                   "a longer header, in tokens, is closed by force"),
     SS_CONFIG_INT(span_keys, lead, "span.lead", "0", 0, 65536,
                   "context segments, the first ones, that every header and body reads whole"),
     SS_CONFIG_INT(span_keys, recent, "span.recent", "0", 0, 65536,
                   "steps, the last ones, that every header and body reads whole"),
     {0}};

span_policy span_keys_policy(const span_keys *keys) {
  span_policy policy = span_policy_default();
  policy.choose = keys->choose;
  policy.pin = keys->pin;
  policy.context = keys->context;
  policy.body_sees_header = keys->body_sees_header;
  policy.max_header = (int32_t)keys->max_header;
  policy.lead = (int32_t)keys->lead;
  policy.recent = (int32_t)keys->recent;
  return policy;
}

span_keys span_keys_of(const span_policy *policy) {
  span_keys keys = {policy->choose,     policy->pin != 0 ? 1 : 0,
                    policy->context,    policy->body_sees_header != 0,
                    policy->max_header, policy->lead,
                    policy->recent};
  return keys;
}

ss_status span_policy_text(arm arm, const span_policy *policy, char **out, ss_error *error) {
  span_keys keys = span_keys_of(policy);
  const ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  json_t *object = ss_config_json(groups);
  if (object == NULL || json_object_set_new(object, "arm", json_string(arm_name(arm))) != 0) {
    json_decref(object);
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the span policy");
  }
  *out = json_dumps(object, JSON_PRESERVE_ORDER);
  json_decref(object);
  return *out != NULL ? SS_OK : ss_fail(error, SS_ERROR_MEMORY, "out of memory for the span policy");
}

static ss_status parse_arm(json_t *object, const char *where, arm *out, ss_error *error) {
  const char *name = json_string_value(json_object_get(object, "arm"));
  for (int k = 0; k < N_ARM && name != NULL; ++k)
    if (strcmp(name, arm_name((arm)k)) == 0) {
      *out = (arm)k;
      json_object_del(object, "arm");
      return SS_OK;
    }
  return ss_fail(error, SS_ERROR_INPUT, "%s: arm: expected dense, annotated or span", where);
}

ss_status span_policy_parse(const char *text, const char *where, arm *arm, span_policy *policy,
                            ss_error *error) {
  span_keys keys;
  const ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  json_t *object = json_loads(text, 0, NULL);
  if (!json_is_object(object)) {
    json_decref(object);
    return ss_fail(error, SS_ERROR_INPUT, "%s: the arm and span policy are not a JSON object", where);
  }
  ss_status status = ss_config_defaults(groups, error);
  if (status == SS_OK)
    status = parse_arm(object, where, arm, error);
  if (status == SS_OK)
    status = ss_config_from_json(groups, object, where, error);
  if (status == SS_OK)
    *policy = span_keys_policy(&keys);
  json_decref(object);
  return status;
}
