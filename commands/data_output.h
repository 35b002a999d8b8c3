// The folder that a dataset is written to.
#ifndef SELFSPAN_COMMANDS_DATA_OUTPUT_H
#define SELFSPAN_COMMANDS_DATA_OUTPUT_H

#include <stdbool.h>

#include "commands/output_folder.h"

// Opens the folder. A dataset that stands there already is refused unless `force`; *replaces: there is one.
ss_status data_output_open(output_folder *output, const char *folder, bool force, bool *replaces,
                           ss_error *error);

// Moves everything to its name; files of an earlier dataset that the new one lacks are removed. Closes.
ss_status data_output_commit(output_folder *output, ss_error *error);

#endif
