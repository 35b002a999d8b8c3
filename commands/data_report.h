// What `selfspan data` says of a split beyond its counts: the task's own statistics, and rows that were left out.
#ifndef SELFSPAN_COMMANDS_DATA_REPORT_H
#define SELFSPAN_COMMANDS_DATA_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "common/error.h"
#include "data/generate.h"

// Adds to a split of the card: "content" (the task's tally; `tally` may be NULL), and where a reader skipped rows
// "skipped_reasons" {reason: rows} and "skipped_first" ["id: reason", ...].
ss_status data_report_add(json_t *split, const data_task *task, const void *tally,
                          const generate_outcome *outcome, ss_error *error);

// Prints them for all splits of a card; nothing where there is nothing.
ss_status data_report_print(const json_t *splits, FILE *file, ss_error *error);

#endif
