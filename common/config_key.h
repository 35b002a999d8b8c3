// Inside the configuration: finding a key and assigning a value to it. Shared by the YAML reader,
// --set and the JSON reader; others include common/config.h.
#ifndef SELFSPAN_COMMON_CONFIG_KEY_H
#define SELFSPAN_COMMON_CONFIG_KEY_H

#include "common/config.h"

// The key called `name` and its field, or NULL. *index counts keys over all groups.
const ss_key *ss_config_find(const ss_key_group *groups, const char *name, void **field, int *index);

// True when some key starts with "prefix.".
bool ss_config_is_section(const ss_key_group *groups, const char *prefix);

// Fails because `name` is no key, naming the nearest one.
ss_status ss_config_unknown(const ss_key_group *groups, const char *name, const char *where, ss_error *error);

// Parses `text` as the key's type, checks its range and stores it. `quoted`: the text stood in
// quotes, which makes it a string and nothing else.
ss_status ss_config_assign(const ss_key *key, void *field, const char *text, bool quoted, const char *where,
                           ss_error *error);

// What a value of the key looks like, for messages and help: "an integer in [1, 64]".
void ss_config_expectation(const ss_key *key, char *out, size_t size);

#endif
