// The folder a dataset is written to: files are made in a hidden folder inside it and moved to their names when all of
// them are complete.
#ifndef SELFSPAN_COMMANDS_DATA_OUTPUT_H
#define SELFSPAN_COMMANDS_DATA_OUTPUT_H

#include <stdbool.h>

#include "common/error.h"

typedef struct {
  char *folder;   // DIR
  char *partial;  // DIR/.partial-PID
  bool made;      // DIR did not exist before
} data_output;

// Makes the hidden folder. A dataset that stands in `folder` already is refused unless `force`.
ss_status data_output_open(data_output *output, const char *folder, bool force, ss_error *error);

// Moves everything to its name; files of an earlier dataset that the new one lacks are removed. Frees the struct.
ss_status data_output_commit(data_output *output, ss_error *error);

// Removes the hidden folder and, if it was made and is empty, DIR. Frees the struct. Harmless after a commit.
void data_output_abandon(data_output *output);

#endif
